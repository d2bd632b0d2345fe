//! SIGINT and SIGTERM end a run in order: the server's queries are cancelled, and what was not
//! complete is removed.

use tokio::signal::unix::{SignalKind, signal};

use crate::error::{Error, Outcome, Result};
use crate::postgres::Connector;

/// Runs to the end or to a signal.
pub async fn or_cancelled<T>(
    connector: &Connector,
    run: impl Future<Output = Result<T>>,
) -> Result<T> {
    let cannot_watch =
        |error: std::io::Error| Error::new(format!("could not watch signals: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot_watch)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot_watch)?;
    let number = tokio::select! {
        outcome = run => return outcome,
        _ = interrupt.recv() => 2,
        _ = terminate.recv() => 15,
    };
    // the run has been dropped: its files are gone; now the server
    connector.cancel_all().await;
    Err(Error::new("cancelled by a signal").outcome(Outcome::Signal(number)))
}
