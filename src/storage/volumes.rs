//! An archive that lies in several objects, read at any place.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::object::{Key, Storage};
use super::read_at::ReadAt;
use super::runtime;
use super::upload::Volume;
use crate::error::{Error, Result};

/// Bytes kept of the beginning and of the end: header and index root are read in several pieces.
const HEAD: u64 = 16 << 10;
const TAIL: u64 = 64 << 10;

/// Objects that make up one archive, in their order. Reads may come from any thread.
pub struct Volumes {
    storage: Arc<dyn Storage>,
    /// With where each begins.
    volumes: Vec<(u64, Volume)>,
    size: u64,
    head: Mutex<Option<Bytes>>,
    tail: Mutex<Option<Bytes>>,
}

impl Volumes {
    pub fn new(storage: Arc<dyn Storage>, volumes: Vec<Volume>) -> Result<Volumes> {
        let mut size = 0u64;
        let mut placed = Vec::with_capacity(volumes.len());
        for volume in volumes {
            let start = size;
            size = size
                .checked_add(volume.size)
                .ok_or_else(|| Error::new("the volumes of an archive are too large"))?;
            placed.push((start, volume));
        }
        Ok(Volumes {
            storage,
            volumes: placed,
            size,
            head: Mutex::default(),
            tail: Mutex::default(),
        })
    }

    /// The ranges of objects that a range of the archive is in.
    fn pieces(&self, range: Range<u64>) -> Vec<(Key, Range<u64>)> {
        let first = self
            .volumes
            .partition_point(|(start, volume)| start + volume.size <= range.start);
        self.volumes
            .iter()
            .skip(first)
            .take_while(|(start, _)| *start < range.end)
            .map(|(start, volume)| {
                let from = range.start.max(*start) - start;
                let to = range.end.min(start + volume.size) - start;
                (volume.key.clone(), from..to)
            })
            .filter(|(_, range)| !range.is_empty())
            .collect()
    }

    fn fetch(&self, range: Range<u64>) -> Result<Vec<Bytes>> {
        let (storage, pieces) = (self.storage.clone(), self.pieces(range));
        runtime::wait(async move {
            let mut fetched = Vec::with_capacity(pieces.len());
            for (key, range) in pieces {
                let bytes = storage.read(&key, range.clone()).await?;
                if bytes.len() as u64 != range.end - range.start {
                    return Err(Error::new(format!(
                        "{storage} gave {} bytes of {key} for {} to {}",
                        bytes.len(),
                        range.start,
                        range.end
                    )));
                }
                fetched.push(bytes);
            }
            Ok(fetched)
        })
    }

    /// Fills the buffer from what is kept, which is fetched at first.
    fn read_kept(
        &self,
        kept: &Mutex<Option<Bytes>>,
        range: Range<u64>,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<()> {
        let lock = || kept.lock().unwrap_or_else(PoisonError::into_inner);
        // not fetched under the lock: that would hold up other threads of a runtime
        let known = lock().clone();
        let bytes = match known {
            Some(bytes) => bytes,
            None => {
                let bytes = Bytes::from(self.fetch(range.clone())?.concat());
                *lock() = Some(bytes.clone());
                bytes
            }
        };
        let from = (offset - range.start) as usize;
        bytes.as_ref().read_exact_at(from as u64, buffer)
    }
}

impl ReadAt for Volumes {
    fn size(&self) -> Result<u64> {
        Ok(self.size)
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let end = offset
            .checked_add(buffer.len() as u64)
            .filter(|end| *end <= self.size)
            .ok_or_else(|| {
                Error::new(format!(
                    "could not read {} bytes at offset {offset} of an archive in {}: it has {} bytes",
                    buffer.len(),
                    self.storage,
                    self.size
                ))
            })?;
        if buffer.is_empty() {
            return Ok(());
        }
        let tail = self.size.saturating_sub(TAIL);
        if offset >= tail {
            return self.read_kept(&self.tail, tail..self.size, offset, buffer);
        }
        // here the archive is larger than its tail, which is larger than the head
        if end <= HEAD {
            return self.read_kept(&self.head, 0..HEAD, offset, buffer);
        }
        let mut rest = buffer;
        for bytes in self.fetch(offset..end)? {
            let Some((now, later)) = rest.split_at_mut_checked(bytes.len()) else {
                return Err(Error::new("the volumes of an archive overlap"));
            };
            now.copy_from_slice(&bytes);
            rest = later;
        }
        match rest.is_empty() {
            true => Ok(()),
            false => Err(Error::new("the volumes of an archive have a gap")),
        }
    }
}

impl fmt::Debug for Volumes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Volumes")
            .field("storage", &self.storage)
            .field("volumes", &self.volumes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
