//! The swap of the names: one transaction of two renames, in another database.
//!
//! RENAME locks the database before it looks who is connected to it, and then waits some seconds for
//! them to go. With that lock held nobody new comes in, so that ending the sessions meanwhile is enough:
//! connections to the live database need not be forbidden, which a run that dies could not take back.

use std::time::Duration;

use bstr::BString;

use super::Plan;
use crate::error::{Error, Result, ResultExt, SqlState};
use crate::postgres::Session;
use crate::report::Cancellation;
use crate::restore::database::keep_bytes;
use crate::sql;

/// Sessions that end slowly, or somebody's lock on the database, may outlast a try.
const TRIES: usize = 5;
/// Between tries, in which newcomers that wait for our lock get in.
const REST: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(50);
/// Of a client that is gone (a power cut, a network that is down) the server would keep the transaction, and
/// with it the lock that nobody gets past, until TCP gives up: so it is given seconds.
const SETTINGS: &str = "SET lock_timeout = '3s'; SET statement_timeout = '30s'; \
                        SET idle_in_transaction_session_timeout = '10s'; SET synchronous_commit = on; \
                        SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 3";

/// Why the names may not be swapped.
pub enum Failure {
    /// They are not.
    Unchanged(Error),
    /// Nobody could be asked whether they are.
    Uncertain(Error),
}

impl Failure {
    pub fn into_error(self) -> Error {
        match self {
            Failure::Unchanged(error) | Failure::Uncertain(error) => {
                error.context("swapping the names")
            }
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Unchanged(error)
    }
}

/// Returns the old database's new name.
pub async fn swap(plan: &Plan, cancellation: &Cancellation) -> Result<BString, Failure> {
    let mut left = TRIES;
    loop {
        left -= 1;
        let error = match try_swap(plan, cancellation).await {
            Err(Failure::Unchanged(error)) => error,
            ended => return ended,
        };
        let in_use = matches!(
            error.sqlstate(),
            Some(&SqlState::OBJECT_IN_USE | &SqlState::LOCK_NOT_AVAILABLE)
        );
        if !in_use {
            return Err(error.into());
        }
        if left == 0 {
            return Err(error
                .hint("sessions of the database did not end, or a transaction was prepared in it, or another session holds a lock on it; run it again")
                .into());
        }
        tokio::time::sleep(REST).await;
    }
}

async fn try_swap(plan: &Plan, cancellation: &Cancellation) -> Result<BString, Failure> {
    // by the server's clock, which the snapshot's time is by as well
    let mut session = open(plan).await?;
    let now: String = session
        .query("SELECT pg_catalog.to_char(pg_catalog.now() AT TIME ZONE 'UTC', '_\"old\"_YYYYMMDD_HH24MISS') AS ending")
        .await?
        .only()?
        .string("ending")?;
    let old = sql::with_ending(&plan.name, &now);
    let mut ender = open(plan).await?;
    session.execute(SETTINGS).await?;
    if session.version()?.at_least(17) {
        session.execute("SET transaction_timeout = 0").await?;
    }
    session.execute("BEGIN").await?;
    let copy = oid(&mut session, &plan.copy).await?;
    let (live_name, old_name) = (sql::identifier(&plan.name), sql::identifier(&old));
    let renames = sql!(
        "ALTER DATABASE {} RENAME TO {}; ALTER DATABASE {} RENAME TO {}",
        live_name,
        old_name,
        sql::identifier(&plan.copy),
        live_name
    );
    let process = session.backend_pid();
    let ended = {
        let mut renaming = Box::pin(session.execute(renames));
        let ending = end_sessions(&mut ender, process, plan.oid, copy);
        tokio::select! {
            renamed = &mut renaming => renamed,
            // which says more than that sessions are left
            refused = ending => renaming.await.map_err(|_| refused),
        }
    };
    ended?;
    // somebody else may have made another database of that name meanwhile
    if oid(&mut session, &old).await? != plan.oid || oid(&mut session, &plan.name).await? != copy {
        return Err(Error::new(format!(
            "database {live_name} is not the one that it was when this began"
        ))
        .into());
    }
    ender.close().await;
    cancellation.commit()?;
    match session.execute("COMMIT").await {
        Ok(()) => {
            session.close().await;
            Ok(old)
        }
        Err(error) => settle(plan, copy, error).await.map(|()| old),
    }
}

async fn open(plan: &Plan) -> Result<Session> {
    let mut session = plan.elsewhere.open().await?;
    keep_bytes(&mut session).await?;
    Ok(session)
}

async fn oid(session: &mut Session, name: &BString) -> Result<u32> {
    let rows = session
        .query(sql!(
            "SELECT oid FROM pg_catalog.pg_database WHERE datname OPERATOR(pg_catalog.=) {}",
            sql::literal(name)
        ))
        .await?;
    match rows.iter().next() {
        Some(row) => row.number("oid"),
        None => Err(Error::new(format!(
            "database {} is gone",
            sql::identifier(name)
        ))),
    }
}

/// Ends the sessions of both databases, each once the renaming process has its lock, so that nobody is
/// thrown out in vain, nor comes back. Goes on until the renames are done; it ends by an error alone.
async fn end_sessions(ender: &mut Session, process: i32, live: u32, copy: u32) -> Error {
    let query = sql!(
        "SELECT pg_catalog.count(pg_catalog.pg_terminate_backend(s.pid)) AS count
         FROM pg_catalog.pg_stat_activity s
         JOIN pg_catalog.pg_locks l ON l.objid = s.datid
         WHERE l.pid = {} AND l.locktype = 'object' AND l.granted
           AND l.classid = 'pg_catalog.pg_database'::pg_catalog.regclass
           AND l.mode = 'AccessExclusiveLock'
           AND s.datid IN ({}, {}) AND s.pid <> {}
           -- autovacuum gives way to RENAME by itself, and may not be ended by everybody
           AND s.usesysid IS NOT NULL",
        process.to_string(),
        live.to_string(),
        copy.to_string(),
        process.to_string()
    );
    loop {
        if let Err(error) = ender.query(&query).await {
            return error.context("ending the sessions of the database");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The connection was lost at the commit: whether it was done, the names say.
async fn settle(plan: &Plan, copy: u32, error: Error) -> Result<(), Failure> {
    let name = sql::identifier(&plan.name);
    let found = async { oid(&mut open(plan).await?, &plan.name).await };
    match found.await.context("looking whether the names were swapped") {
        Ok(found) if found == copy => Ok(()),
        Ok(_) => Err(error.into()),
        Err(unknown) => Err(Failure::Uncertain(error.hint(format!(
            "whether database {name} is the old one or, with the old one under a dated name, the restored one could not be found out: {unknown}"
        )))),
    }
}
