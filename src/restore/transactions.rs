//! How the work of a restore is put into transactions.

use super::Options;
use super::create::Shared;
use crate::error::Result;
use crate::postgres::{Session, TransactionState};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transactions {
    /// Each entry by itself.
    Each,
    /// -1: all or nothing.
    One,
    /// --transaction-size: one after the other, ended as they fill (`create::count`); over several
    /// connections rows are loaded as in `Each`, as pg_restore does it.
    Sized,
}

impl Transactions {
    pub fn of(options: &Options) -> Transactions {
        match (options.single_transaction, options.transaction_size) {
            (true, _) => Transactions::One,
            (false, Some(_)) => Transactions::Sized,
            (false, None) => Transactions::Each,
        }
    }

    pub fn is_one(self) -> bool {
        self == Transactions::One
    }

    pub async fn begin(self, session: &mut Session) -> Result<()> {
        match self {
            Transactions::Each => Ok(()),
            Transactions::One | Transactions::Sized => session.execute("BEGIN").await,
        }
    }

    /// What was made is there for other sessions from now on.
    pub async fn publish(self, session: &mut Session) -> Result<()> {
        match self {
            Transactions::Sized if session.state() == TransactionState::Open => {
                session.execute("COMMIT").await
            }
            _ => Ok(()),
        }
    }

    /// Goes on after the parallel part, which may have ended the transaction.
    pub async fn resume(self, session: &mut Session) -> Result<()> {
        match self {
            Transactions::Sized if session.state() == TransactionState::Idle => {
                session.execute("BEGIN").await
            }
            _ => Ok(()),
        }
    }

    /// Makes all that was committed without waiting durable. A commit waits for the disk, and for
    /// synchronous standbys, only if its transaction wrote to the log itself.
    pub async fn settle(self, session: &mut Session, shared: &Shared) -> Result<()> {
        if self.is_one() {
            shared.options.cancellation.commit()?;
            session
                .execute("SET LOCAL synchronous_commit = on; COMMIT")
                .await?;
            return Ok(());
        }
        session.execute("SET synchronous_commit = on").await?;
        session
            .query("SELECT pg_catalog.pg_logical_emit_message(true, 'rdump', 'restored')")
            .await
            .map(drop)
            .map_err(|error| error.context("making the restore durable"))
    }
}
