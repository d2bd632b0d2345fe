//! Says who holds up a run that waits for locks.

use std::collections::HashSet;
use std::convert::Infallible;
use std::time::Duration;

use super::Progress;
use crate::error::{Error, Result};
use crate::postgres::blockers::{self, Wait};
use crate::postgres::settings::KnownSettings;
use crate::postgres::{Connector, Overdue, Session};

/// Sessions that wait for a lock no longer than this do so in silence.
pub const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// Runs to the end. Whenever one of the run's sessions has waited for a lock for so long, warns of
/// who holds it up, of each once. It takes a connection of its own for that, while the server does
/// not answer.
pub async fn telling_lock_waits<T>(
    connector: &Connector,
    patience: Duration,
    progress: &Progress,
    run: impl Future<Output = T>,
) -> T {
    let mut looking = None;
    let mut run = Box::pin(run);
    let outcome = tokio::select! {
        biased;
        outcome = &mut run => outcome,
        never = watch(connector, patience, progress, &mut looking) => match never {},
    };
    end(&mut looking).await;
    outcome
}

/// A session that looks for blockers, while one is needed.
type Looking = Option<(Session, KnownSettings)>;

async fn end(looking: &mut Looking) {
    if let Some((session, _)) = looking.take() {
        session.close().await;
    }
}

async fn watch(
    connector: &Connector,
    patience: Duration,
    progress: &Progress,
    looking: &mut Looking,
) -> Infallible {
    let mut told = HashSet::new();
    let mut has_failed = false;
    loop {
        tokio::time::sleep(patience / 4).await;
        let Some(overdue) = connector.overdue(patience) else {
            end(looking).await;
            continue;
        };
        // a look must not wait for what it looks at
        let look = tokio::time::timeout(LOCK_PATIENCE, look(looking, &overdue, patience));
        let outcome = look
            .await
            .unwrap_or_else(|_| Err(Error::new("the server does not answer")));
        match outcome {
            Ok(waits) => tell(waits, &mut told, progress),
            Err(error) => {
                *looking = None;
                // it may be that no connection is left; the run itself goes on
                if !std::mem::replace(&mut has_failed, true) {
                    progress.log(|| format!("could not look for locks that others hold: {error}"));
                }
            }
        }
    }
}

async fn look(looking: &mut Looking, overdue: &Overdue, patience: Duration) -> Result<Vec<Wait>> {
    let (session, known) = match looking {
        Some(looking) => looking,
        None => {
            let mut session = overdue.connector.open().await?;
            let known = KnownSettings::read(&mut session).await?;
            looking.insert((session, known))
        }
    };
    blockers::of_processes(session, known, &overdue.processes, &overdue.own, patience).await
}

/// A blocker may change what it does meanwhile; it is told once all the same.
fn tell(waits: Vec<Wait>, told: &mut HashSet<(Option<i32>, String)>, progress: &Progress) {
    let mut new = Vec::new();
    let mut seconds = 0;
    for Wait {
        seconds: waited,
        blocker,
    } in waits
    {
        let name = match blocker.process {
            Some(_) => String::new(),
            None => blocker.description.clone(),
        };
        if told.insert((blocker.process, name)) {
            seconds = waited.max(seconds);
            progress.log_query(&blocker);
            new.push(blocker.description);
        }
    }
    if !new.is_empty() {
        progress.warn(&format!(
            "still waiting for a lock after {seconds} s: {}",
            new.join("; ")
        ));
    }
}
