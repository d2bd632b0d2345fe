//! Poolers in transaction mode, which give a client another connection of the server for each
//! transaction. Whatever is set for a session there is left to whoever comes next.

use std::time::Duration;

use super::connector::Connector;
use super::session::Session;
use crate::error::{Error, Result};

/// A pool whose connections are all taken lets us wait.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often a session looks whether it still has the same connection of the server.
const LOOKS: usize = 3;

const PID: &str = "SELECT pg_catalog.pg_backend_pid() AS pid";

/// Fails where `what` must set something for its whole session, and the session, which must be
/// idle, is that of a pooler in transaction mode. A pooler in session mode is as good as a server.
pub async fn refuse_transaction_mode(
    session: &mut Session,
    connector: &Connector,
    what: &str,
) -> Result<()> {
    if !is_transaction_mode(session, connector).await? {
        return Ok(());
    }
    Err(Error::new(format!(
        "{what} needs a session of its own on the server, and this is a connection pooler in transaction mode"
    ))
    .hint("connect to the server itself, or to a pool in session mode"))
}

async fn is_transaction_mode(session: &mut Session, connector: &Connector) -> Result<bool> {
    let first = pid(session, PID).await?;
    // a server announces the process that will serve the session; a pooler, which does not know
    // it yet, a number of its own
    if first == session.backend_pid() {
        return Ok(false);
    }
    // a pool may hand its connections out in turn
    if has_moved(session, first).await? {
        return Ok(true);
    }
    // another session, in a transaction, has a connection of the server for itself: if it is the
    // one that ours had, then ours had it only for the moment. In session mode it never is.
    let neighbour = async {
        let mut neighbour = connector.open_plain().await?;
        let pid = pid(&mut neighbour, &format!("BEGIN; {PID}")).await?;
        Ok::<_, Error>((neighbour, pid))
    };
    let Ok(Ok((mut neighbour, second))) = tokio::time::timeout(PATIENCE, neighbour).await else {
        // no room for a second client, or no transactions at all: that says nothing about ours
        return Ok(false);
    };
    // somebody else may have taken ours before the neighbour came: then ours is given another
    let shared = second == first || has_moved(session, first).await?;
    neighbour.execute("ROLLBACK").await?;
    neighbour.close().await;
    Ok(shared)
}

/// Whether the idle session is served by another process than it was.
async fn has_moved(session: &mut Session, first: i32) -> Result<bool> {
    for _ in 0..LOOKS {
        match tokio::time::timeout(PATIENCE, pid(session, PID)).await {
            Ok(now) => {
                if now? != first {
                    return Ok(true);
                }
            }
            // a session that has a connection for itself would not wait for one
            Err(_) => return Ok(true),
        }
    }
    Ok(false)
}

async fn pid(session: &mut Session, sql: &str) -> Result<i32> {
    session.query(sql).await?.only()?.number("pid")
}
