//! The option `target_session_attrs`: is it the kind of server that was asked for?

use std::collections::BTreeMap;

use bytes::BytesMut;
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;
use tokio::io::AsyncWriteExt;

use super::Transport;
use super::failure::{Failure, Next};
use super::startup::{parse, read_message};
use crate::postgres::conninfo::SessionAttributes;

/// Answers to the two questions below are short.
const LONGEST_MESSAGE: usize = 1 << 20;

/// Fails, to go on with the next host, unless the server is as wanted. A server that is not is
/// told goodbye.
pub async fn check(
    transport: &mut dyn Transport,
    parameters: &BTreeMap<String, String>,
    wanted: SessionAttributes,
) -> Result<(), Failure> {
    let complaint = match wanted {
        SessionAttributes::Any | SessionAttributes::PreferStandby => None,
        SessionAttributes::ReadWrite => is_read_only(transport, parameters)
            .await?
            .then_some("session is read-only"),
        SessionAttributes::ReadOnly => {
            (!is_read_only(transport, parameters).await?).then_some("session is not read-only")
        }
        SessionAttributes::Primary => is_standby(transport, parameters)
            .await?
            .then_some("server is in hot standby mode"),
        SessionAttributes::Standby => (!is_standby(transport, parameters).await?)
            .then_some("server is not in hot standby mode"),
    };
    let Some(complaint) = complaint else {
        return Ok(());
    };
    let mut goodbye = BytesMut::new();
    frontend::terminate(&mut goodbye);
    // A server that has gone already need not hear it.
    let _ = transport.write_all(&goodbye).await;
    let _ = transport.flush().await;
    Err(Failure::new(complaint)
        .next(Next::Host)
        .hint("target_session_attrs asks for another kind of server"))
}

/// Servers before 14 do not report these parameters, and are asked.
async fn is_read_only(
    transport: &mut dyn Transport,
    parameters: &BTreeMap<String, String>,
) -> Result<bool, Failure> {
    let reported = |name: &str| parameters.get(name).map(|value| value == "on");
    match (
        reported("default_transaction_read_only"),
        reported("in_hot_standby"),
    ) {
        (Some(read_only), Some(standby)) => Ok(read_only || standby),
        _ => Ok(ask(transport, "SHOW transaction_read_only").await? == b"on"),
    }
}

async fn is_standby(
    transport: &mut dyn Transport,
    parameters: &BTreeMap<String, String>,
) -> Result<bool, Failure> {
    match parameters.get("in_hot_standby") {
        Some(value) => Ok(value == "on"),
        None => Ok(ask(transport, "SELECT pg_catalog.pg_is_in_recovery()").await? == b"t"),
    }
}

/// Runs a query of one row and one column.
async fn ask(transport: &mut dyn Transport, query: &str) -> Result<Vec<u8>, Failure> {
    let failed = || Failure::new(format!("\"{query}\" failed")).next(Next::Host);
    let mut message = BytesMut::new();
    frontend::query(query, &mut message).map_err(|_| failed())?;
    transport.write_all(&message).await.map_err(|_| failed())?;
    transport.flush().await.map_err(|_| failed())?;
    let mut answer = None;
    loop {
        let (_, message) = read_message(transport, |_| Some(LONGEST_MESSAGE)).await?;
        match parse(message)? {
            Message::DataRow(row) => {
                use fallible_iterator::FallibleIterator;
                let range = row.ranges().next().map_err(|_| failed())?.flatten();
                answer = range.and_then(|range| row.buffer().get(range).map(<[u8]>::to_vec));
            }
            Message::ReadyForQuery(_) => return answer.ok_or_else(failed),
            _ => {}
        }
    }
}
