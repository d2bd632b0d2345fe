//! The parallel part of a restore: all connections, to the end of the rows, indexes and constraints.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::create::Shared;
use super::parallel::{Loads, Parallel};
use super::schedule::is_data;
use super::selection::label;
use super::source::{FileSource, cut};
use crate::archive::{ChunkRecord, EndRecord, Entry, EntryId};
use crate::error::{Error, Result};
use crate::postgres::{Connector, Session};

pub async fn from_file(
    leader: Session,
    workers: Vec<Session>,
    shared: &Arc<Shared>,
    connector: &Connector,
    source: Arc<FileSource>,
) -> Result<Session> {
    let stored = stored_rows(shared, &source).await?;
    let parallel = Arc::new(Parallel::new(shared, |id| {
        stored.get(&id).map_or(0, |rows| rows.end.raw_length)
    }));
    let stored = Arc::new(stored);
    let waiting = Arc::clone(shared);
    let begin = move |entry: &Entry| {
        let least_load = match waiting.whole.contains(&entry.id) {
            true => u64::MAX,
            false => waiting.options.least_load,
        };
        let rows = stored.get(&entry.id).ok_or_else(|| {
            Error::new(format!(
                "the archive does not say how many rows {} has",
                label(entry)
            ))
        })?;
        Ok(Loads {
            rows: cut(&source, entry, &rows.chunks, least_load),
            expected: rows.end.rows,
        })
    };
    run_parallel(leader, workers, shared, connector, &parallel, begin).await
}

/// What the index of a file says of an entry's rows.
struct StoredRows {
    chunks: Vec<ChunkRecord>,
    end: EndRecord,
}

async fn stored_rows(
    shared: &Arc<Shared>,
    source: &Arc<FileSource>,
) -> Result<HashMap<EntryId, StoredRows>> {
    let (shared, source) = (Arc::clone(shared), Arc::clone(source));
    tokio::task::spawn_blocking(move || {
        let reader = source.reader();
        let mut stored = HashMap::new();
        for entry in shared.entries.iter().filter(|entry| is_data(entry)) {
            let chunks = reader.chunks(entry.id)?;
            if let Some(end) = reader.end_record(entry.id)? {
                stored.insert(entry.id, StoredRows { chunks, end });
            }
        }
        Ok(stored)
    })
    .await
    .map_err(|error| Error::new(format!("reading the archive broke off: {error}")))?
}

/// Runs all connections to the end of the parallel part; hands the leader back.
pub async fn run_parallel(
    leader: Session,
    workers: Vec<Session>,
    shared: &Arc<Shared>,
    connector: &Connector,
    parallel: &Arc<Parallel>,
    begin: impl Fn(&Entry) -> Result<Loads> + Clone + Send + Sync + 'static,
) -> Result<Session> {
    let mut running = JoinSet::new();
    for (number, mut session) in std::iter::once(leader).chain(workers).enumerate() {
        let (shared, parallel) = (Arc::clone(shared), Arc::clone(parallel));
        let begin = begin.clone();
        running.spawn(async move {
            let outcome = parallel.run(&mut session, &shared, begin).await;
            if outcome.is_err() {
                shared.stop();
                parallel.wake();
            }
            (number, session, outcome)
        });
    }
    let mut leader = None;
    while let Some(ended) = running.join_next().await {
        let ended = match ended {
            Ok((number, session, outcome)) => outcome.map(|()| (number, session)),
            Err(error) => Err(Error::new(format!("a worker died: {error}"))),
        };
        let (number, session) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                shared.stop();
                // the others may be building an index for an hour, or wait for rows that never come
                connector.cancel_all().await;
                running.shutdown().await;
                return Err(error);
            }
        };
        if number == 0 {
            leader = Some(session);
        } else {
            session.close().await;
        }
    }
    leader.ok_or_else(|| Error::new("the first connection did not come back"))
}
