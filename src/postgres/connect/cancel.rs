//! Cancelling the query that a session runs.

use std::fmt;
use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::failure::{Failure, Failures};
use super::socket::{self, Described};
use super::{Endpoint, negotiate_tls};
use crate::error::Result;
use crate::postgres::tls;

/// How long a request may take where no connect_timeout is set: it is sent while shutting down.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks the server to cancel what a session is doing, over a connection of its own to the same
/// server, encrypted if the session is.
#[derive(Clone)]
pub struct CancelHandle {
    endpoint: Endpoint,
    patience: Duration,
    process_id: i32,
    secret_key: i32,
}

/// The key lets anyone cancel, so it is not shown.
impl fmt::Debug for CancelHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelHandle")
            .field("process_id", &self.process_id)
            .finish_non_exhaustive()
    }
}

impl CancelHandle {
    pub(super) fn new(
        endpoint: Endpoint,
        connect_timeout: Option<Duration>,
        process_id: i32,
        secret_key: i32,
    ) -> CancelHandle {
        CancelHandle {
            endpoint,
            patience: connect_timeout.unwrap_or(PATIENCE),
            process_id,
            secret_key,
        }
    }

    /// Sends the request and waits until the server has taken it. The server does not say whether
    /// there was anything to cancel; the session's query then fails with SQLSTATE 57014.
    pub async fn cancel(&self) -> Result<()> {
        let outcome = tokio::time::timeout(self.patience, self.send())
            .await
            .unwrap_or_else(|_| Err(Failure::new("timeout expired")));
        outcome.map_err(|failure| {
            let mut failures = Failures::default();
            failures.push(failure.at(&Described::new(&self.endpoint.host, &self.endpoint.address)));
            failures.into_error().context("cancelling a query")
        })
    }

    async fn send(&self) -> Result<(), Failure> {
        let endpoint = &self.endpoint;
        let mut transport = socket::open(
            &endpoint.address,
            endpoint.keepalives,
            endpoint.required_peer.as_deref(),
        )
        .await?;
        if endpoint.encrypted {
            if !negotiate_tls(&mut *transport, &endpoint.tls).await? {
                return Err(Failure::new(
                    "server does not support SSL, but the session uses it",
                ));
            }
            transport = tls::handshake(transport, &endpoint.tls, endpoint.host.address.name())
                .await
                .map_err(|failure| Failure::new(failure.message).maybe_hint(failure.hint))?
                .transport;
        }
        let mut request = BytesMut::new();
        frontend::cancel_request(self.process_id, self.secret_key, &mut request);
        let failed = |error: std::io::Error| Failure::new(socket::plain(&error));
        transport.write_all(&request).await.map_err(failed)?;
        transport.flush().await.map_err(failed)?;
        // The server closes the connection once it has signalled the session; how it closes does
        // not matter.
        let mut end = [0];
        let _ = transport.read(&mut end).await;
        Ok(())
    }
}
