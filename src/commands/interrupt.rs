//! SIGINT, SIGTERM, SIGQUIT and SIGHUP end a run in order: the server's queries are cancelled, and
//! what was not complete is removed.

use std::io;

use nix::libc::SIGXFSZ;
use tokio::signal::unix::{SignalKind, signal};

use crate::error::{Error, Outcome, Result};
use crate::postgres::Connector;

/// A file that grows over the limit of the process (`ulimit -f`) is then an error of the write, and
/// no end of the process. A handler does that: programs that are started would inherit an ignored
/// signal.
pub fn survive_file_limits() -> Result<()> {
    signal(SignalKind::from_raw(SIGXFSZ))
        .map(drop)
        .map_err(cannot_watch)
}

/// Runs to the end or to a signal.
pub async fn or_cancelled<T>(
    connector: &Connector,
    run: impl Future<Output = Result<T>>,
) -> Result<T> {
    or_cancelled_if(connector, || true, run).await
}

/// Runs to the end, or to a signal at which the run may still be given up, as `may_cancel` says.
/// After that it is awaited: what it then reports is what became of it.
pub async fn or_cancelled_if<T>(
    connector: &Connector,
    may_cancel: impl Fn() -> bool,
    run: impl Future<Output = Result<T>>,
) -> Result<T> {
    let signal = signalled()?;
    let mut run = Box::pin(run);
    let number = tokio::select! {
        outcome = &mut run => return outcome,
        number = signal => number,
    };
    if !may_cancel() {
        return run.await;
    }
    // a run that writes a file waits here until that is gone
    drop(run);
    connector.cancel_all().await;
    Err(cancelled(number))
}

/// Runs what asks no server of PostgreSQL to the end, or to a signal.
pub async fn or_signalled<T>(run: impl Future<Output = Result<T>>) -> Result<T> {
    let signal = signalled()?;
    tokio::select! {
        outcome = run => outcome,
        number = signal => Err(cancelled(number)),
    }
}

fn cancelled(number: u8) -> Error {
    Error::new("cancelled by a signal").outcome(Outcome::Signal(number))
}

/// Watches from now on; comes to its end with the number of the first signal that ends a run.
pub fn signalled() -> Result<impl Future<Output = u8>> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot_watch)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot_watch)?;
    let mut quit = signal(SignalKind::quit()).map_err(cannot_watch)?;
    // under nohup it is to go on
    let mut hangup = match is_ignored(1) {
        true => None,
        false => Some(signal(SignalKind::hangup()).map_err(cannot_watch)?),
    };
    Ok(async move {
        let hung_up = async {
            match &mut hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = interrupt.recv() => 2,
            _ = terminate.recv() => 15,
            _ = quit.recv() => 3,
            _ = hung_up => 1,
        }
    })
}

fn cannot_watch(error: io::Error) -> Error {
    Error::new(format!("could not watch signals: {error}"))
}

/// Whether whoever started us had a signal ignored, as the kernel knows it.
fn is_ignored(number: u32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (number - 1) & 1 == 1)
}
