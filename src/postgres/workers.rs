//! Connections of a run beside its first one.

use std::time::Duration;

use super::connector::Connector;
use super::session::Session;
use crate::error::{Result, ResultExt, SqlState};

/// A server answers at once; a pooler whose connections are all taken lets us wait.
const PATIENCE: Duration = Duration::from_secs(5);

/// Connections that no run takes: others want to work too, and one of ours may have to cancel.
const KEPT_FREE: usize = 5;

/// Opens sessions beside the leader's, up to `jobs` with it, and prepares each. Where the server has
/// too few connections, fewer; said with the warnings.
pub async fn open_workers(
    leader: &mut Session,
    connector: &Connector,
    jobs: usize,
    warnings: &mut Vec<String>,
    prepare: impl AsyncFn(&mut Session) -> Result<()>,
) -> Result<Vec<Session>> {
    let wanted = jobs.saturating_sub(1);
    if wanted == 0 {
        return Ok(Vec::new());
    }
    let free = free_connections(leader).await?;
    let room = wanted.min(free.saturating_sub(KEPT_FREE));
    let mut workers = Vec::new();
    let why = loop {
        if workers.len() == wanted {
            return Ok(workers);
        }
        if workers.len() == room {
            break match free.min(KEPT_FREE) {
                0 => "none is free for others".to_owned(),
                1 => "1 is left for others".to_owned(),
                left => format!("{left} are left for others"),
            };
        }
        let opened = async {
            let mut session = connector.open().await?;
            match tokio::time::timeout(PATIENCE, prepare(&mut session)).await {
                Ok(outcome) => outcome.map(|()| Some(session)),
                Err(_) => Ok(None),
            }
        };
        match opened.await {
            Ok(Some(session)) => workers.push(session),
            Ok(None) => {
                break format!(
                    "another did not begin a transaction within {} s",
                    PATIENCE.as_secs()
                );
            }
            Err(error) if error.sqlstate() == Some(&SqlState::TOO_MANY_CONNECTIONS) => {
                break error.message().to_owned();
            }
            Err(error) => return Err(error.context("opening another connection")),
        }
    };
    warnings.push(format!(
        "the server has too few free connections: using {} instead of {jobs} ({why})",
        workers.len() + 1
    ));
    Ok(workers)
}

/// Connections that the server still has for everybody. Workers in the background count as taken:
/// who they are is not shown to all.
async fn free_connections(session: &mut Session) -> Result<usize> {
    let rows = session
        .query(
            "SELECT greatest(0, current_setting('max_connections')::int
                    - current_setting('superuser_reserved_connections')::int
                    -- since 16
                    - coalesce(current_setting('reserved_connections', true)::int, 0)
                    - (SELECT count(*) FROM pg_stat_activity
                       WHERE datid IS NOT NULL)) AS free",
        )
        .await
        .context("counting the free connections of the server")?;
    rows.only()?.number("free")
}
