//! Sessions on the database, all under one snapshot and in the form that the archive's rows have.

use std::time::Duration;

use bstr::BString;

use crate::archive::Header;
use crate::catalog::refuse_unsupported;
use crate::error::{Error, Result, ResultExt, SqlState};
use crate::postgres::settings::{
    KnownSettings, refuse_unknown, refuse_unknown_encoding, set_local,
};
use crate::postgres::{Connector, Session, TransactionState, open_workers};
use crate::sql;

/// The database, with the snapshot that its sessions share.
pub struct Target {
    pub connector: Connector,
    /// Statements that every transaction begins with, after BEGIN and the snapshot.
    settings: BString,
    /// As pg_export_snapshot names it.
    snapshot: String,
    /// The name of the database.
    pub database: BString,
    pub standby: bool,
    /// standard_conforming_strings, as set in all sessions.
    pub conforming: bool,
}

/// A server answers at once; a pooler whose connections are all taken lets us wait.
const TRANSACTION_WAIT: Duration = Duration::from_secs(5);

impl Target {
    /// Connects and takes the snapshot; the session returned must stay in its transaction.
    pub async fn open(
        connector: Connector,
        header: &Header,
        lock_wait: Duration,
    ) -> Result<(Session, Target)> {
        let (mut leader, connector) = connector.first().await?;
        refuse_unsupported(leader.version()?)?;
        match Target::begin(&mut leader, &connector, header, lock_wait).await {
            Ok(target) => Ok((leader, target)),
            Err(error) => Err(error.context("taking a snapshot of the database")),
        }
    }

    async fn begin(
        leader: &mut Session,
        connector: &Connector,
        header: &Header,
        lock_wait: Duration,
    ) -> Result<Target> {
        refuse_unknown_encoding(&header.encoding)?;
        let known = KnownSettings::read(leader).await?;
        let mut settings = known.for_reading(&header.encoding);
        refuse_unknown(&header.settings)?;
        for (name, value) in &header.settings {
            settings.extend_from_slice(&set_local(name, value));
        }
        // literals in definitions are printed by it
        let conforming = header.standard_conforming_strings;
        settings.extend_from_slice(&set_local(
            "standard_conforming_strings",
            if conforming { "on" } else { "off" },
        ));
        settings.extend_from_slice(&set_local(
            "lock_timeout",
            &format!("{}ms", lock_wait.as_millis()),
        ));
        let mut begin = BString::from("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;\n");
        begin.extend_from_slice(&settings);
        leader.execute_by_known_process(begin).await?;
        let rows = leader
            .query("SELECT pg_export_snapshot() AS id, current_database() AS database")
            .await?;
        let row = rows.only()?;
        Ok(Target {
            connector: connector.clone(),
            settings,
            snapshot: row.string("id")?,
            database: row.text("database")?,
            conforming,
            standby: leader.parameter("in_hot_standby") == Some("on"),
        })
    }

    /// Another session under the same snapshot, one that may write. It must never commit.
    pub async fn join_writing(&self) -> Result<Session> {
        let mut session = self.connector.open().await?;
        let beginning = self.begin_again(&mut session, "READ WRITE");
        match tokio::time::timeout(TRANSACTION_WAIT, beginning).await {
            Ok(outcome) => outcome.map(|()| session),
            Err(_) => Err(Error::new(format!(
                "another did not begin a transaction within {} s",
                TRANSACTION_WAIT.as_secs()
            ))
            .with_sqlstate(SqlState::TOO_MANY_CONNECTIONS)),
        }
    }

    pub async fn begin_again(&self, session: &mut Session, access: &str) -> Result<()> {
        let mut begin = sql!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ {};\nSET TRANSACTION SNAPSHOT {};\n",
            access,
            sql::literal(&self.snapshot)
        );
        begin.extend_from_slice(&self.settings);
        session.execute_by_known_process(begin).await.map_err(|error| {
            error
                .context("sharing the snapshot with another connection")
                .hint("all connections must reach the same server; behind a pooler that spreads them, connect to the server itself")
        })
    }

    /// Sessions for reading beside the leader: as many as wanted, or as the server has room for.
    pub async fn workers(
        &self,
        leader: &mut Session,
        jobs: usize,
        warnings: &mut Vec<String>,
    ) -> Result<Vec<Session>> {
        let begin = async |session: &mut Session| self.begin_again(session, "READ ONLY").await;
        open_workers(leader, &self.connector, jobs, warnings, begin).await
    }
}

/// A point that failed reads go back to, so that one unreadable table does not end the proof.
pub async fn set_savepoint(session: &mut Session) -> Result<()> {
    session
        .execute("SAVEPOINT rdump_proof")
        .await
        .context("preparing to read")
}

/// Goes back after a failed statement. What is not about this statement alone is returned: a lost
/// connection, a cancelled query, a server that shuts down.
pub async fn recover(session: &mut Session, error: Error) -> Result<Error> {
    let of_statement = error
        .sqlstate()
        .and_then(|state| state.code().get(..2))
        .is_some_and(|class| !matches!(class, "57" | "53" | "40" | "58" | "08"));
    if !of_statement || session.state() != TransactionState::Failed {
        return Err(error);
    }
    session.execute("ROLLBACK TO rdump_proof").await?;
    Ok(error)
}
