//! Putting an archive into one or several repositories: name and heartbeat, volumes, manifest.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use super::Repository;
use super::manifest::{Content, Manifest, Record};
use super::name::{ArchiveName, Label, MANIFESTS, RunId, WRITERS};
use super::sweep::read_heartbeat;
use crate::error::{Error, Result, ResultExt};
use crate::storage::{
    Created, Limits, ReadAt, Storage, UploadWriter, Volume, Volumes, list_all, write_error,
};

/// Between two heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(60);

/// Parts of one object that every S3 takes.
const MAX_PARTS: u32 = 10_000;
const MAX_VOLUME: u64 = 64 << 30;

/// What a heartbeat says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Heartbeat {
    pub version: u32,
    pub run: RunId,
    /// What is written.
    pub name: String,
    pub started: Timestamp,
    /// Goes up while the run lives.
    pub count: u64,
}

impl Heartbeat {
    pub async fn write(&self, storage: &dyn Storage) -> Result<()> {
        let bytes = serde_json::to_vec(self)
            .map_err(|error| Error::new(format!("could not write a heartbeat: {error}")))?;
        storage
            .put(&self.run.heartbeat()?, Bytes::from(bytes))
            .await
    }
}

/// Of what was written, what the writer knows.
#[derive(Debug, Clone)]
pub struct Described {
    pub archive_id: String,
    pub content: Content,
    pub scope: String,
    pub snapshot: Timestamp,
    pub server_version: String,
    pub size: u64,
    pub raw_size: u64,
    pub rows: u64,
    pub tables: u64,
    pub entries: u64,
    pub root_hash: String,
    pub encrypted: bool,
    pub tags: BTreeMap<String, String>,
}

/// An archive on its way into one repository.
#[derive(Debug)]
pub struct Target {
    repository: Repository,
    name: ArchiveName,
    run: RunId,
    started: Timestamp,
    heartbeat: JoinHandle<()>,
}

impl Target {
    /// Takes a name, and says from now on that it lives.
    pub async fn begin(repository: Repository, label: &Label, run: RunId) -> Result<Target> {
        let started = Timestamp::now();
        let storage = Arc::clone(repository.storage());
        let order = next_order(&*storage, label).await?;
        let name = ArchiveName::new(label, order, started);
        let mut heartbeat = Heartbeat {
            version: super::manifest::VERSION,
            run: run.clone(),
            name: name.to_string(),
            started,
            count: 0,
        };
        heartbeat.write(&*storage).await?;
        let beating = tokio::spawn(async move {
            loop {
                tokio::time::sleep(HEARTBEAT).await;
                heartbeat.count += 1;
                // one that fails is followed by others; should a sweep come, the manifest tells
                let _ = heartbeat.write(&*storage).await;
            }
        });
        Ok(Target {
            repository,
            name,
            run,
            started,
            heartbeat: beating,
        })
    }

    pub fn name(&self) -> &ArchiveName {
        &self.name
    }

    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    fn open(&self) -> Result<UploadWriter> {
        let name = self.name.clone();
        let storage = Arc::clone(self.repository.storage());
        let size = volume_size(storage.limits());
        UploadWriter::new(storage, size, move |number| name.volume(number))
    }

    /// The archive exists once this has succeeded.
    async fn commit(&self, volumes: Vec<Volume>, described: &Described) -> Result<Manifest> {
        let size = volumes.iter().map(|volume| volume.size).sum();
        if size != described.size {
            return Err(Error::new(format!(
                "{} bytes were stored of {} that were written",
                size, described.size
            )));
        }
        let described = described.clone();
        let manifest = Manifest {
            name: self.name.clone(),
            archive_id: described.archive_id,
            run: self.run.clone(),
            content: described.content,
            scope: described.scope,
            started: self.started,
            finished: Timestamp::now(),
            snapshot: described.snapshot,
            server_version: described.server_version,
            rdump_version: env!("CARGO_PKG_VERSION").to_owned(),
            volumes,
            size,
            raw_size: described.raw_size,
            rows: described.rows,
            tables: described.tables,
            entries: described.entries,
            root_hash: described.root_hash,
            encrypted: described.encrypted,
            tags: described.tags,
        };
        let storage = self.repository.storage();
        let record = Record::Committed(Box::new(manifest.clone()));
        let bytes = Bytes::from(record.serialise(&self.name)?);
        let key = self.name.manifest()?;
        let is_conditional = self.repository.marker().conditional;
        let taken = storage.create(&key, bytes.clone()).await? == Created::Exists
            || (!is_conditional
                && storage.get(&key, super::manifest::MAX_MANIFEST).await? != Some(bytes));
        if taken {
            return Err(Error::new(format!(
                "{} was swept from {storage} while it was written",
                self.name
            ))
            .hint("the run had given no sign of life for over an hour: was this machine suspended, or the store out of reach?"));
        }
        Ok(manifest)
    }

    /// Stops the heartbeat, and takes it away: not before what was uploaded is committed or gone.
    async fn end(&self) -> Result<()> {
        self.heartbeat.abort();
        self.repository
            .storage()
            .delete(&self.run.heartbeat()?)
            .await
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.heartbeat.abort();
    }
}

/// As many parts as a store takes of one object, but no more than most do; and no larger than what
/// tools and file systems still handle well.
fn volume_size(limits: Limits) -> u64 {
    let part = limits.part_size as u64;
    let parts = u64::from(limits.parts.min(MAX_PARTS));
    (parts * part).min((MAX_VOLUME / part).max(1) * part)
}

async fn next_order(storage: &dyn Storage, label: &Label) -> Result<u64> {
    let prefix = format!("{MANIFESTS}{}-", label.as_str());
    let objects = list_all(storage, &prefix).await?;
    let names = objects
        .iter()
        .filter_map(|object| ArchiveName::of_manifest(&object.key));
    let mut names: Vec<ArchiveName> = names.collect();
    // runs that began before, and are not done yet
    for object in list_all(storage, WRITERS).await? {
        let heartbeat = read_heartbeat(storage, &object.key).await?;
        names.extend(heartbeat.and_then(|beat| ArchiveName::parse(&beat.name).ok()));
    }
    let names = names.iter();
    let orders = names
        .filter(|name| name.label() == *label)
        .map(|name| name.order());
    Ok(orders.max().unwrap_or(0) + 1)
}

/// One run, and the repositories that it writes to.
#[derive(Debug)]
pub struct Targets {
    targets: Vec<Target>,
    /// Of each target, what came of the upload.
    outcomes: Mutex<Vec<Option<Result<Vec<Volume>>>>>,
}

/// What came of one target.
#[derive(Debug)]
pub struct Arrived {
    pub repository: String,
    pub name: ArchiveName,
    pub outcome: Result<Manifest>,
}

impl Targets {
    pub fn new(targets: Vec<Target>) -> Targets {
        let outcomes = targets.iter().map(|_| None).collect();
        Targets {
            targets,
            outcomes: Mutex::new(outcomes),
        }
    }

    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// What writes to all of them.
    pub fn open(self: &Arc<Targets>) -> Result<Fan> {
        let mut outputs = Vec::new();
        for (position, target) in self.targets.iter().enumerate() {
            outputs.push((position, target.open()?));
        }
        Ok(Fan {
            targets: Arc::clone(self),
            outputs,
        })
    }

    fn note(&self, position: usize, outcome: Result<Vec<Volume>>) {
        let mut outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = outcomes.get_mut(position) {
            *place = Some(outcome);
        }
    }

    /// Writes the manifests of what was uploaded. A target that failed fails alone.
    pub async fn commit(&self, described: &Described) -> Vec<Arrived> {
        let outcomes =
            std::mem::take(&mut *self.outcomes.lock().unwrap_or_else(PoisonError::into_inner));
        let mut arrived = Vec::new();
        for (target, outcome) in self.targets.iter().zip(outcomes) {
            let uploaded = outcome.unwrap_or_else(|| Err(Error::new("nothing was uploaded")));
            let outcome = match uploaded {
                Ok(volumes) => target.commit(volumes, described).await,
                Err(error) => Err(error),
            };
            // a heartbeat that stays is swept with the rest
            let _ = target.end().await;
            arrived.push(Arrived {
                repository: target.repository.to_string(),
                name: target.name.clone(),
                outcome: outcome.with_context(|| format!("repository {}", target.repository)),
            });
        }
        arrived
    }

    /// After a run that failed. Uploads that were not completed are gone already; those that were are taken
    /// back. What that leaves is swept with the rest.
    pub async fn give_up(&self) {
        let outcomes =
            std::mem::take(&mut *self.outcomes.lock().unwrap_or_else(PoisonError::into_inner));
        for (target, outcome) in self.targets.iter().zip(outcomes) {
            if let Some(Ok(volumes)) = outcome {
                for volume in &volumes {
                    let _ = target.repository.storage().delete(&volume.key).await;
                }
            }
            let _ = target.end().await;
        }
    }
}

/// Writes the same to all repositories of a run that still take it. Dropped before `finish`, it takes back what it
/// uploaded.
#[derive(Debug)]
pub struct Fan {
    targets: Arc<Targets>,
    outputs: Vec<(usize, UploadWriter)>,
}

impl Fan {
    /// Ends the uploads, and lets `check` reread each.
    pub fn finish(self, check: impl Fn(&dyn ReadAt) -> Result<()>) -> Result<()> {
        let mut failed = None;
        let mut arrived = 0;
        for (position, output) in self.outputs {
            let Some(target) = self.targets.targets.get(position) else {
                continue;
            };
            let storage = target.repository.storage();
            let outcome = output.finish().and_then(|volumes| {
                let stored = Volumes::new(Arc::clone(storage), volumes.clone())?;
                check(&stored)
                    .map_err(|error| error.context(format!("rereading {}", target.name)))?;
                Ok(volumes)
            });
            match outcome {
                Ok(volumes) => {
                    arrived += 1;
                    self.targets.note(position, Ok(volumes));
                }
                Err(error) => {
                    failed = Some(Error::new(error.to_string()));
                    self.targets.note(position, Err(error));
                }
            }
        }
        match failed {
            Some(error) if arrived == 0 => Err(error),
            _ => Ok(()),
        }
    }
}

impl Write for Fan {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut failed = None;
        let targets = &self.targets;
        self.outputs
            .retain_mut(|(position, output)| match output.write_all(bytes) {
                Ok(()) => true,
                Err(error) => {
                    failed = Some(io::Error::new(error.kind(), error.to_string()));
                    targets.note(*position, Err(write_error(error)));
                    false
                }
            });
        match failed {
            Some(error) if self.outputs.is_empty() => Err(error),
            _ => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
