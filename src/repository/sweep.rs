//! Taking away what crashed runs left, and nothing of those that live.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use jiff::Timestamp;

use super::Repository;
use super::manifest::{MAX_MANIFEST, MAX_SWEPT, Record};
use super::marker::MARKER;
use super::name::{ARCHIVES, ArchiveName, MANIFESTS, MARKS, PROBES, RUNS, RunId, WRITERS};
use super::writing::Heartbeat;
use crate::error::{Error, Result, ResultExt};
use crate::storage::{Created, Key, Object, Storage, Unfinished, list_all};

/// What is younger is left alone.
const LEAST_AGE: Duration = Duration::from_secs(60 * 60);
/// Between the two looks at a heartbeat that seems to have stopped.
const WATCH: Duration = Duration::from_secs(3 * 60);
/// How long the name of what was swept is kept from being used.
const KEEP_SWEPT: Duration = Duration::from_secs(30 * 24 * 60 * 60);
const MAX_HEARTBEAT: u64 = 1 << 16;

#[derive(Debug, Clone, Copy)]
pub struct SweepOptions {
    pub least_age: Duration,
    pub watch: Duration,
    /// Only say what would be swept.
    pub dry_run: bool,
}

impl Default for SweepOptions {
    fn default() -> SweepOptions {
        SweepOptions {
            least_age: LEAST_AGE,
            watch: WATCH,
            dry_run: false,
        }
    }
}

/// A heartbeat as it was at some moment.
type Beat = (ArchiveName, Key, Option<Heartbeat>);

/// What a run left under one name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Leftover {
    pub volumes: Vec<Object>,
    pub uploads: Vec<Unfinished>,
    /// Of archives that are gone.
    pub marks: Vec<Object>,
    heartbeats: Vec<Key>,
    /// The archive exists: only what lies beside it is swept.
    committed: bool,
    /// When it last changed, by the store's clock.
    newest: Option<SystemTime>,
}

impl Leftover {
    fn seen(&mut self, time: SystemTime) {
        self.newest = self.newest.max(Some(time));
    }

    fn is_empty(&self) -> bool {
        self.volumes.is_empty()
            && self.uploads.is_empty()
            && self.marks.is_empty()
            && self.heartbeats.is_empty()
    }

    pub fn size(&self) -> u64 {
        self.volumes.iter().map(|volume| volume.size).sum()
    }
}

/// What a sweep did, or would do.
#[derive(Debug, Default)]
pub struct Swept {
    pub leftovers: Vec<(ArchiveName, Leftover)>,
    /// Left alone: their runs may live.
    pub alive: Vec<ArchiveName>,
}

impl Repository {
    pub async fn sweep(&self, options: SweepOptions) -> Result<Swept> {
        // what is written now tells the store's time
        let own = RunId::random().heartbeat()?;
        let storage = &**self.storage();
        storage.put(&own, Bytes::from_static(b"{}")).await?;
        let swept = self.sweep_since(&own, options).await;
        let removed = storage.delete(&own).await;
        let swept = swept?;
        removed?;
        Ok(swept)
    }

    async fn sweep_since(&self, own: &Key, options: SweepOptions) -> Result<Swept> {
        let storage = &**self.storage();
        let now = storage
            .head(own)
            .await?
            .ok_or_else(|| Error::new(format!("what was just written to {storage} is not there")))?
            .modified;
        let mut found = self.leftovers(own).await?;
        let mut swept = Swept::default();
        let is_old = |leftover: &Leftover| {
            let age = leftover.newest.map(|newest| now.duration_since(newest));
            age.is_none_or(|age| age.is_ok_and(|age| age >= options.least_age))
        };
        found.retain(|name, leftover| {
            let is_old = is_old(leftover);
            if !is_old {
                swept.alive.push(name.clone());
            }
            is_old
        });
        let beats = self.heartbeats(&found).await?;
        if !beats.is_empty() {
            tokio::time::sleep(options.watch).await;
        }
        let alive = self.alive_since(beats).await?;
        for (name, leftover) in found {
            if alive.contains(&name) {
                swept.alive.push(name);
                continue;
            }
            if options.dry_run || leftover.committed || self.take(&name).await? {
                if !options.dry_run {
                    self.clear(&name, &leftover).await?;
                }
                swept.leftovers.push((name, leftover));
            }
        }
        if !options.dry_run {
            self.discard_small(now, options.least_age).await?;
            self.forget_swept(now).await?;
        }
        Ok(swept)
    }

    /// All that is there without a manifest, by name.
    pub(super) async fn leftovers(&self, own: &Key) -> Result<BTreeMap<ArchiveName, Leftover>> {
        let storage = &**self.storage();
        let mut found: BTreeMap<ArchiveName, Leftover> = BTreeMap::new();
        // heartbeats before all else: a run writes its own first
        for object in list_all(storage, WRITERS).await? {
            if object.key == *own {
                continue;
            }
            if let Some(heartbeat) = read_heartbeat(storage, &object.key).await?
                && let Ok(name) = ArchiveName::parse(&heartbeat.name)
            {
                let leftover = found.entry(name).or_default();
                leftover.heartbeats.push(object.key);
                leftover.seen(object.modified);
            }
        }
        for object in list_all(storage, ARCHIVES).await? {
            if let Some((name, _)) = ArchiveName::of_volume(&object.key) {
                let leftover = found.entry(name).or_default();
                leftover.seen(object.modified);
                leftover.volumes.push(object);
            }
        }
        for upload in storage.unfinished(ARCHIVES).await? {
            if let Some((name, _)) = ArchiveName::of_volume(&upload.key) {
                let leftover = found.entry(name).or_default();
                leftover.seen(upload.begun);
                leftover.uploads.push(upload);
            }
        }
        for object in list_all(storage, MARKS).await? {
            let name = object.key.as_str().strip_prefix(MARKS);
            let name = name.and_then(|rest| rest.split_once('/'));
            if let Some(Ok(name)) = name.map(|(name, _)| ArchiveName::parse(name)) {
                let leftover = found.entry(name).or_default();
                leftover.seen(object.modified);
                leftover.marks.push(object);
            }
        }
        // manifests last: what was committed in the meantime is none
        for object in list_all(storage, MANIFESTS).await? {
            let Some(name) = ArchiveName::of_manifest(&object.key) else {
                continue;
            };
            if found.contains_key(&name) && !self.is_swept(&object, &name).await? {
                let leftover = found.entry(name).or_default();
                leftover.committed = true;
                leftover.volumes.clear();
                leftover.marks.clear();
            }
        }
        found.retain(|_, leftover| !leftover.is_empty());
        Ok(found)
    }

    /// The heartbeats of these names, as they are now.
    pub(super) async fn heartbeats(
        &self,
        found: &BTreeMap<ArchiveName, Leftover>,
    ) -> Result<Vec<Beat>> {
        let mut beats = Vec::new();
        for (name, leftover) in found {
            for key in &leftover.heartbeats {
                let heartbeat = read_heartbeat(&**self.storage(), key).await?;
                beats.push((name.clone(), key.clone(), heartbeat));
            }
        }
        Ok(beats)
    }

    /// The names whose heartbeats are others now. One that is gone: the run has just ended, and left
    /// what it wanted to.
    pub(super) async fn alive_since(&self, then: Vec<Beat>) -> Result<BTreeSet<ArchiveName>> {
        let mut alive = BTreeSet::new();
        for (name, key, heartbeat) in then {
            if read_heartbeat(&**self.storage(), &key).await? != heartbeat {
                alive.insert(name);
            }
        }
        Ok(alive)
    }

    /// Takes the name from its writer; or finds that the archive exists, and is left alone.
    async fn take(&self, name: &ArchiveName) -> Result<bool> {
        let storage = &**self.storage();
        let key = name.manifest()?;
        let record = Record::Swept(Timestamp::now());
        let bytes = Bytes::from(record.serialise(name)?);
        if self.marker().conditional && storage.create(&key, bytes.clone()).await? == Created::New {
            return Ok(true);
        }
        match storage.head(&key).await? {
            Some(object) => self.is_swept(&object, name).await,
            None => Ok(storage.create(&key, bytes).await? == Created::New),
        }
    }

    async fn is_swept(&self, manifest: &Object, name: &ArchiveName) -> Result<bool> {
        if manifest.size > MAX_SWEPT {
            return Ok(false);
        }
        let bytes = self.storage().get(&manifest.key, MAX_MANIFEST).await?;
        // one that cannot be read may be of an archive
        Ok(bytes.is_some_and(|bytes| matches!(Record::parse(&bytes, name), Ok(Record::Swept(_)))))
    }

    async fn clear(&self, name: &ArchiveName, leftover: &Leftover) -> Result<()> {
        let storage = &**self.storage();
        let clearing = async {
            for upload in &leftover.uploads {
                storage.discard(upload).await?;
            }
            for object in leftover.marks.iter().chain(leftover.volumes.iter().rev()) {
                storage.delete(&object.key).await?;
            }
            for heartbeat in &leftover.heartbeats {
                storage.delete(heartbeat).await?;
            }
            Ok::<_, Error>(())
        };
        clearing.await.with_context(|| format!("sweeping {name}"))
    }

    /// Beginnings of small objects: whoever wrote one for so long no longer does.
    async fn discard_small(&self, now: SystemTime, least_age: Duration) -> Result<()> {
        // what else is in the bucket or folder is not ours
        for own in [MANIFESTS, MARKS, WRITERS, RUNS, PROBES, MARKER] {
            for upload in self.storage().unfinished(own).await? {
                let age = now.duration_since(upload.begun);
                if age.is_ok_and(|age| age >= least_age) {
                    self.storage().discard(&upload).await?;
                }
            }
        }
        Ok(())
    }

    /// Names that were taken long ago, and under which nothing is any more.
    async fn forget_swept(&self, now: SystemTime) -> Result<()> {
        let storage = &**self.storage();
        for object in list_all(storage, MANIFESTS).await? {
            let age = now.duration_since(object.modified).unwrap_or_default();
            if age >= KEEP_SWEPT
                && let Some(name) = ArchiveName::of_manifest(&object.key)
                && self.is_swept(&object, &name).await?
            {
                storage.delete(&object.key).await?;
            }
        }
        Ok(())
    }
}

/// None: there is none, or it is none of ours.
pub(super) async fn read_heartbeat(storage: &dyn Storage, key: &Key) -> Result<Option<Heartbeat>> {
    let bytes = storage.get(key, MAX_HEARTBEAT).await?;
    Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}
