//! Objects in memory: for tests, which set its clock, its pages, and what fails.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::{Bound, Range};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};

use super::object::{Created, Key, Limits, Object, Page, Storage, Unfinished, Upload};
use crate::error::{Error, Kind, Result};

/// What a store is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    Create,
    Put,
    Get,
    Read,
    Head,
    List,
    Delete,
    Begin,
    Part,
    Complete,
    Abort,
    Unfinished,
    Discard,
}

/// When an operation that is to fail does so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    Before,
    /// It has taken effect: the reply is lost.
    After,
}

/// Which operations fail: see [`Memory::fail_at`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    Once,
    /// As if the process had ended there.
    FromThenOn,
}

/// A store in memory, for tests. A clone is the same store.
#[derive(Debug, Clone)]
pub struct Memory(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    objects: BTreeMap<Key, (Bytes, SystemTime)>,
    uploads: BTreeMap<(Key, String), Parts>,
    begun: u64,
    limits: Limits,
    page: usize,
    /// None: the system's.
    clock: Option<SystemTime>,
    operations: Vec<(Operation, String)>,
    fault: Option<(usize, Moment, Span)>,
    denied: BTreeSet<Operation>,
}

#[derive(Debug)]
struct Parts {
    parts: BTreeMap<u32, Bytes>,
    begun: SystemTime,
}

impl Default for Memory {
    fn default() -> Memory {
        Memory(Arc::new(Mutex::new(State {
            objects: BTreeMap::new(),
            uploads: BTreeMap::new(),
            begun: 0,
            limits: Limits {
                part_size: 1 << 20,
                parts: 10_000,
                concurrency: 4,
            },
            page: 1_000,
            clock: None,
            operations: Vec::new(),
            fault: None,
            denied: BTreeSet::new(),
        })))
    }
}

impl Memory {
    pub fn new() -> Memory {
        Memory::default()
    }

    pub fn with_limits(self, limits: Limits) -> Memory {
        self.state().limits = limits;
        self
    }

    /// Objects in one page of a listing.
    pub fn with_page(self, objects: usize) -> Memory {
        self.state().page = objects.max(1);
        self
    }

    /// What is written from now on has this time; None: the system's.
    pub fn set_clock(&self, now: Option<SystemTime>) {
        self.state().clock = now;
    }

    /// All operations so far, in order, with the key or prefix that each was about.
    pub fn operations(&self) -> Vec<(Operation, String)> {
        self.state().operations.clone()
    }

    pub fn count(&self, operation: Operation) -> usize {
        let is_it = |(one, _): &&(Operation, String)| *one == operation;
        self.state().operations.iter().filter(is_it).count()
    }

    /// Forgets the operations so far and lets the n-th from now (the first is 0) fail.
    pub fn fail_at(&self, n: usize, moment: Moment, span: Span) {
        let mut state = self.state();
        state.operations.clear();
        state.fault = Some((n, moment, span));
    }

    pub fn no_faults(&self) {
        self.state().fault = None;
    }

    /// From now on the credential does not allow it.
    pub fn deny(&self, operation: Operation) {
        self.state().denied.insert(operation);
    }

    /// The objects, past all faults.
    pub fn contents(&self) -> BTreeMap<Key, Bytes> {
        let state = self.state();
        let plain = |(key, (bytes, _)): (&Key, &(Bytes, SystemTime))| (key.clone(), bytes.clone());
        state.objects.iter().map(plain).collect()
    }

    /// Exchanges an object's bytes, as damage would: its time stays. Whether there was one.
    pub fn damage(&self, key: &Key, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut state = self.state();
        let Some((bytes, _)) = state.objects.get_mut(key) else {
            return false;
        };
        let mut changed = bytes.to_vec();
        change(&mut changed);
        *bytes = changed.into();
        true
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an operation, and does it unless it is to fail.
    fn operate<T>(
        &self,
        operation: Operation,
        subject: &str,
        act: impl FnOnce(&mut State) -> Result<T>,
    ) -> Result<T> {
        let mut state = self.state();
        let number = state.operations.len();
        state.operations.push((operation, subject.to_owned()));
        if state.denied.contains(&operation) {
            let message = format!("{operation:?} of {self}/{subject}: not allowed");
            return Err(Error::new(message).with_kind(Kind::Denied));
        }
        let moment = state.fault.and_then(|(at, moment, span)| {
            let is_due = match span {
                Span::Once => number == at,
                Span::FromThenOn => number >= at,
            };
            is_due.then_some(match number == at {
                true => moment,
                // nothing takes effect after the end
                false => Moment::Before,
            })
        });
        let failure = || {
            Err(Error::new(format!(
                "{operation:?} of {self}/{subject}: failed, as the test wants it"
            )))
        };
        match moment {
            None => act(&mut state),
            Some(Moment::Before) => failure(),
            Some(Moment::After) => {
                act(&mut state)?;
                failure()
            }
        }
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("memory")
    }
}

impl State {
    fn now(&self) -> SystemTime {
        self.clock.unwrap_or_else(SystemTime::now)
    }

    fn insert(&mut self, key: &Key, bytes: Bytes) {
        let now = self.now();
        self.objects.insert(key.clone(), (bytes, now));
    }
}

#[async_trait]
impl Storage for Memory {
    fn limits(&self) -> Limits {
        self.state().limits
    }

    async fn create(&self, key: &Key, bytes: Bytes) -> Result<Created> {
        self.operate(Operation::Create, key.as_str(), |state| {
            if state.objects.contains_key(key) {
                return Ok(Created::Exists);
            }
            state.insert(key, bytes);
            Ok(Created::New)
        })
    }

    async fn put(&self, key: &Key, bytes: Bytes) -> Result<()> {
        self.operate(Operation::Put, key.as_str(), |state| {
            state.insert(key, bytes);
            Ok(())
        })
    }

    async fn get(&self, key: &Key, limit: u64) -> Result<Option<Bytes>> {
        self.operate(Operation::Get, key.as_str(), |state| {
            let Some((bytes, _)) = state.objects.get(key) else {
                return Ok(None);
            };
            if bytes.len() as u64 > limit {
                return Err(Error::new(format!(
                    "{self}/{key} has {} bytes, more than the {limit} it may have",
                    bytes.len()
                )));
            }
            Ok(Some(bytes.clone()))
        })
    }

    async fn read(&self, key: &Key, range: Range<u64>) -> Result<Bytes> {
        self.operate(Operation::Read, key.as_str(), |state| {
            let failed = |problem: &str| {
                Error::new(format!(
                    "could not read bytes {} to {} of {self}/{key}: {problem}",
                    range.start, range.end
                ))
            };
            let (bytes, _) = state
                .objects
                .get(key)
                .ok_or_else(|| failed("there is no such object"))?;
            let start = usize::try_from(range.start).map_err(|_| failed("out of range"))?;
            let end = usize::try_from(range.end).map_err(|_| failed("out of range"))?;
            match start <= end && end <= bytes.len() {
                true => Ok(bytes.slice(start..end)),
                false => Err(failed(&format!("it has {} bytes", bytes.len()))),
            }
        })
    }

    async fn head(&self, key: &Key) -> Result<Option<Object>> {
        self.operate(Operation::Head, key.as_str(), |state| {
            Ok(state.objects.get(key).map(|(bytes, modified)| Object {
                key: key.clone(),
                size: bytes.len() as u64,
                modified: *modified,
            }))
        })
    }

    async fn list(&self, prefix: &str, after: Option<&Key>) -> Result<Page> {
        self.operate(Operation::List, prefix, |state| {
            let from = after.map_or(Bound::Unbounded, Bound::Excluded);
            let mut found = state
                .objects
                .range::<Key, _>((from, Bound::Unbounded))
                .filter(|(key, _)| key.as_str().starts_with(prefix))
                .map(|(key, (bytes, modified))| Object {
                    key: key.clone(),
                    size: bytes.len() as u64,
                    modified: *modified,
                });
            let objects = found.by_ref().take(state.page).collect();
            let is_last = found.next().is_none();
            Ok(Page { objects, is_last })
        })
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.operate(Operation::Delete, key.as_str(), |state| {
            state.objects.remove(key);
            Ok(())
        })
    }

    async fn begin(&self, key: &Key) -> Result<Box<dyn Upload>> {
        self.operate(Operation::Begin, key.as_str(), |state| {
            if state.objects.contains_key(key) {
                return Err(Error::new(format!("{self}/{key} exists already")));
            }
            let id = format!("{:08}", state.begun);
            state.begun += 1;
            let parts = Parts {
                parts: BTreeMap::new(),
                begun: state.now(),
            };
            state.uploads.insert((key.clone(), id.clone()), parts);
            Ok(Box::new(MemoryUpload {
                memory: self.clone(),
                at: (key.clone(), id),
            }) as Box<dyn Upload>)
        })
    }

    async fn unfinished(&self, prefix: &str) -> Result<Vec<Unfinished>> {
        self.operate(Operation::Unfinished, prefix, |state| {
            let under = |((key, upload), parts): (&(Key, String), &Parts)| {
                key.as_str().starts_with(prefix).then(|| Unfinished {
                    key: key.clone(),
                    upload: upload.clone(),
                    begun: parts.begun,
                })
            };
            Ok(state.uploads.iter().filter_map(under).collect())
        })
    }

    async fn discard(&self, unfinished: &Unfinished) -> Result<()> {
        self.operate(Operation::Discard, unfinished.key.as_str(), |state| {
            let at = (unfinished.key.clone(), unfinished.upload.clone());
            state.uploads.remove(&at);
            Ok(())
        })
    }
}

/// Dropped, it stays among the unfinished ones, as in S3.
#[derive(Debug)]
struct MemoryUpload {
    memory: Memory,
    at: (Key, String),
}

impl MemoryUpload {
    fn gone(&self) -> Error {
        Error::new(format!(
            "the upload of {}/{} was discarded",
            self.memory, self.at.0
        ))
    }
}

#[async_trait]
impl Upload for MemoryUpload {
    async fn part(&self, number: u32, bytes: Bytes) -> Result<()> {
        self.memory
            .operate(Operation::Part, self.at.0.as_str(), |state| {
                let limits = state.limits;
                if bytes.is_empty() || bytes.len() > limits.part_size || number >= limits.parts {
                    return Err(Error::new(format!(
                        "part {number} of {}/{} has {} bytes, and none but the last may have others \
                         than {}, and no more than {} there may be",
                        self.memory,
                        self.at.0,
                        bytes.len(),
                        limits.part_size,
                        limits.parts
                    )));
                }
                let upload = state.uploads.get_mut(&self.at).ok_or_else(|| self.gone())?;
                upload.parts.insert(number, bytes);
                Ok(())
            })
    }

    async fn complete(self: Box<Self>, size: u64) -> Result<()> {
        let (key, memory) = (&self.at.0, &self.memory);
        memory.operate(Operation::Complete, key.as_str(), |state| {
            if state.objects.contains_key(key) {
                return Err(Error::new(format!("{memory}/{key} exists already")));
            }
            let part_size = state.limits.part_size;
            let upload = state.uploads.get(&self.at).ok_or_else(|| self.gone())?;
            let last = upload.parts.len().saturating_sub(1) as u32;
            let is_dense = (0..).zip(&upload.parts).all(|(number, (at, bytes))| {
                number == *at && (number == last || bytes.len() == part_size)
            });
            let mut whole = BytesMut::new();
            for bytes in upload.parts.values() {
                whole.extend_from_slice(bytes);
            }
            if !is_dense || whole.len() as u64 != size {
                return Err(Error::new(format!(
                    "could not complete {memory}/{key}: its parts have {} bytes of {size}",
                    whole.len()
                )));
            }
            state.insert(key, whole.freeze());
            state.uploads.remove(&self.at);
            Ok(())
        })
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        self.memory
            .operate(Operation::Abort, self.at.0.as_str(), |state| {
                state.uploads.remove(&self.at);
                Ok(())
            })
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::storage::conformance::{PAGE, Subject, conformance, key};
    use crate::storage::object::list_all;

    async fn subject() -> Option<Subject> {
        let limits = Limits {
            part_size: 64,
            parts: 100,
            concurrency: 3,
        };
        Some(Subject {
            storage: Arc::new(Memory::new().with_limits(limits).with_page(PAGE)),
            keep: Box::new(()),
        })
    }

    conformance!(subject());

    #[tokio::test]
    async fn operations_fail_when_they_are_to() {
        let (name, memory) = (key("a"), Memory::new());
        let create = || memory.create(&name, "x".into());
        memory.fail_at(1, Moment::Before, Span::Once);
        assert_eq!(memory.head(&name).await.unwrap(), None);
        assert!(create().await.is_err());
        assert!(memory.contents().is_empty());
        assert_eq!(create().await.unwrap(), Created::New);
        assert_eq!(memory.count(Operation::Create), 2);

        memory.delete(&name).await.unwrap();
        memory.fail_at(0, Moment::After, Span::FromThenOn);
        assert!(create().await.is_err());
        assert_eq!(memory.contents().len(), 1);
        assert!(memory.delete(&name).await.is_err());
        assert_eq!(memory.contents().len(), 1);
        memory.no_faults();
        memory.delete(&name).await.unwrap();

        memory.deny(Operation::Delete);
        let error = memory.delete(&name).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Denied);
    }

    #[tokio::test]
    async fn the_clock_is_the_tests() {
        let memory = Memory::new();
        let other = memory.clone();
        memory.set_clock(Some(SystemTime::UNIX_EPOCH));
        other.put(&key("a"), "x".into()).await.unwrap();
        let listed = list_all(&memory, "").await.unwrap();
        assert_eq!(listed[0].modified, SystemTime::UNIX_EPOCH);
    }
}
