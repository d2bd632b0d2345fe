//! A store that counts what it is given, and keeps nothing.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::{Error, Result};
use crate::storage::object::{Created, Key, Limits, Object, Page, Storage, Unfinished, Upload};

#[derive(Debug, Clone)]
pub struct Counting {
    limits: Limits,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Clone, Default)]
pub struct Seen {
    pub parts: u64,
    pub bytes: u64,
    pub completed: u64,
    /// Greatest number of a part.
    pub last_part: u32,
    at_once: usize,
    pub most_at_once: usize,
    /// Where the bytes of parts lay.
    pub buffers: BTreeSet<usize>,
    hangs: bool,
}

impl Counting {
    pub fn new(limits: Limits) -> Counting {
        Counting {
            limits,
            seen: Arc::default(),
        }
    }

    pub fn seen(&self) -> Seen {
        self.lock().clone()
    }

    /// No upload ends from now on.
    pub fn hang(&self) {
        self.lock().hangs = true;
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }
}

impl fmt::Display for Counting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("counting")
    }
}

fn not_here<T>() -> Result<T> {
    Err(Error::new("a counting store takes uploads alone"))
}

#[async_trait]
impl Storage for Counting {
    fn limits(&self) -> Limits {
        self.limits
    }
    async fn create(&self, _: &Key, _: Bytes) -> Result<Created> {
        not_here()
    }
    async fn put(&self, _: &Key, _: Bytes) -> Result<()> {
        not_here()
    }
    async fn get(&self, _: &Key, _: u64) -> Result<Option<Bytes>> {
        not_here()
    }
    async fn read(&self, _: &Key, _: Range<u64>) -> Result<Bytes> {
        not_here()
    }
    async fn head(&self, _: &Key) -> Result<Option<Object>> {
        not_here()
    }
    async fn list(&self, _: &str, _: Option<&Key>) -> Result<Page> {
        not_here()
    }
    async fn delete(&self, _: &Key) -> Result<()> {
        not_here()
    }
    async fn begin(&self, _: &Key) -> Result<Box<dyn Upload>> {
        Ok(Box::new(CountingUpload {
            counting: self.clone(),
            numbers: Mutex::default(),
        }))
    }
    async fn unfinished(&self, _: &str) -> Result<Vec<Unfinished>> {
        not_here()
    }
    async fn discard(&self, _: &Unfinished) -> Result<()> {
        not_here()
    }
}

#[derive(Debug)]
struct CountingUpload {
    counting: Counting,
    /// With the bytes of each.
    numbers: Mutex<Vec<(u32, u64)>>,
}

#[async_trait]
impl Upload for CountingUpload {
    async fn part(&self, number: u32, bytes: Bytes) -> Result<()> {
        let length = bytes.len() as u64;
        {
            let mut seen = self.counting.lock();
            seen.at_once += 1;
            seen.most_at_once = seen.most_at_once.max(seen.at_once);
            seen.buffers.insert(bytes.as_ptr() as usize);
        }
        // others have their turn, as during a transfer
        tokio::task::yield_now().await;
        self.numbers.lock().unwrap().push((number, length));
        let mut seen = self.counting.lock();
        seen.at_once -= 1;
        seen.parts += 1;
        seen.bytes += length;
        seen.last_part = seen.last_part.max(number);
        Ok(())
    }

    async fn complete(self: Box<Self>, size: u64) -> Result<()> {
        let mut parts = self.numbers.into_inner().unwrap();
        parts.sort_unstable();
        let (last, whole) = parts.split_last().unwrap();
        let part_size = self.counting.limits.part_size as u64;
        assert!((0..).zip(whole).all(|(at, part)| *part == (at, part_size)));
        assert_eq!(last.0 as usize, whole.len());
        assert!(last.0 < self.counting.limits.parts && last.1 > 0 && last.1 <= part_size);
        assert_eq!(parts.iter().map(|(_, length)| length).sum::<u64>(), size);
        self.counting.lock().completed += 1;
        Ok(())
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        let hangs = self.counting.lock().hangs;
        match hangs {
            true => std::future::pending().await,
            false => Ok(()),
        }
    }
}
