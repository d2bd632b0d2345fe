//! Databases that a run has made and that must not stay, for whoever ends it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bstr::BString;

use crate::error::{Error, Result};
use crate::postgres::{Connector, Session};
use crate::restore::database::keep_bytes;
use crate::sql;

#[derive(Debug, Default)]
pub struct Made(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// To a database that stays.
    elsewhere: Option<Connector>,
    names: Vec<BString>,
}

/// The server ends what a run was doing soon after it was told to.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(50);

impl Made {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn server(&self, elsewhere: &Connector) {
        self.state().elsewhere = Some(elsewhere.clone());
    }

    /// To be called before it is made: the run may end while the server is at it.
    pub(super) fn push(&self, name: &BString) {
        self.state().names.push(name.clone());
    }

    /// What is there may stay, or is gone.
    pub(super) fn keep(&self) {
        self.state().names.clear();
    }

    /// Drops all. An error says what could not be.
    pub(super) async fn drop_all(&self) -> Result<(), String> {
        self.drop_after(&[]).await
    }

    /// After a run that a signal has ended, with the processes that its sessions had. What they were
    /// doing is waited for: a CREATE DATABASE may come to its end although it was cancelled.
    pub async fn after_signal(&self, error: Error, processes: &[i32]) -> Error {
        let became = match self.drop_after(processes).await {
            Ok(()) => "nothing else was left".to_owned(),
            Err(told) => told,
        };
        error.hint(format!("the live database is as it was; {became}"))
    }

    async fn drop_after(&self, processes: &[i32]) -> Result<(), String> {
        // they are forgotten only once they are gone: this may be given up as well
        let (elsewhere, names) = {
            let state = self.state();
            (state.elsewhere.clone(), state.names.clone())
        };
        let Some(elsewhere) = elsewhere.filter(|_| !names.is_empty()) else {
            return Ok(());
        };
        let dropping = drop_databases(&elsewhere, &names, processes);
        let outcome = tokio::time::timeout(PATIENCE * 2, dropping).await;
        let reason = match outcome {
            Ok(Ok(())) => {
                self.keep();
                return Ok(());
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the server does not answer".to_owned(),
        };
        let names: Vec<String> = names
            .iter()
            .map(|name| sql::identifier(name).to_string())
            .collect();
        Err(format!(
            "if still there, {} must be dropped, which failed: {reason}",
            names.join(" and ")
        ))
    }
}

async fn drop_databases(elsewhere: &Connector, names: &[BString], processes: &[i32]) -> Result<()> {
    let mut session = elsewhere.open().await?;
    keep_bytes(&mut session).await?;
    wait_for_end(&mut session, processes).await?;
    let mut failed = None;
    for name in names {
        let drop = sql!(
            "DROP DATABASE IF EXISTS {} WITH (FORCE)",
            sql::identifier(name)
        );
        if let Err(error) = session.execute(drop).await {
            failed.get_or_insert(error);
        }
    }
    session.close().await;
    failed.map_or(Ok(()), Err)
}

async fn wait_for_end(session: &mut Session, processes: &[i32]) -> Result<()> {
    if processes.is_empty() {
        return Ok(());
    }
    let list: Vec<BString> = processes
        .iter()
        .map(|process| process.to_string().into())
        .collect();
    let query = sql!(
        "SELECT pg_catalog.count(*) AS count FROM pg_catalog.pg_stat_activity WHERE pid IN ({}) AND pid <> pg_catalog.pg_backend_pid()",
        sql::join(list.iter(), ", ")
    );
    let waiting = async {
        while session
            .query(&query)
            .await?
            .only()?
            .number::<u64>("count")?
            > 0
        {
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    };
    // DROP ... FORCE then ends what is left
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .unwrap_or(Ok(()))
}
