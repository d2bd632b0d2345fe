//! A file that comes in parts, each written to its place.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use super::files::Partial;
use super::{Folder, blocking, failed};
use crate::error::{Error, Result};
use crate::storage::object::{Key, Upload};
use crate::storage::target::rename_without_replacing;

#[derive(Debug)]
pub(super) struct FolderUpload {
    folder: Folder,
    path: PathBuf,
    partial: Arc<Partial>,
    /// Bytes of each part that is written.
    parts: Mutex<BTreeMap<u32, usize>>,
}

impl FolderUpload {
    pub fn begin(folder: Folder, key: &Key) -> Result<FolderUpload> {
        let path = folder.path(key);
        if folder.is_taken(&path)? {
            return Err(exists(&path));
        }
        Ok(FolderUpload {
            partial: Arc::new(Partial::create(&folder, key)?),
            folder,
            path,
            parts: Mutex::default(),
        })
    }

    /// Parts are dense, and all but the last as long as they must be: then there are no holes.
    fn check(&self, size: u64) -> Result<()> {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let last = parts.len().saturating_sub(1);
        let is_dense = parts.iter().enumerate().all(|(at, (number, length))| {
            at == *number as usize && (at == last || *length == self.folder.limits.part_size)
        });
        let written: u64 = parts.values().map(|length| *length as u64).sum();
        match is_dense && written == size {
            true => Ok(()),
            false => Err(Error::new(format!(
                "could not complete file \"{}\": {} parts with {written} bytes of {size} are there",
                self.path.display(),
                parts.len()
            ))),
        }
    }

    /// Its own, unless a part that nobody waits for any more is still being written.
    fn into_partial(self) -> Result<Partial> {
        Arc::try_unwrap(self.partial).map_err(|_| {
            Error::new(format!(
                "file \"{}\" is still being written to",
                self.path.display()
            ))
        })
    }
}

#[async_trait]
impl Upload for FolderUpload {
    async fn part(&self, number: u32, bytes: Bytes) -> Result<()> {
        let length = bytes.len();
        let part_size = self.folder.limits.part_size;
        let offset = u64::from(number).checked_mul(part_size as u64);
        let Some(offset) = offset.filter(|_| length > 0 && length <= part_size) else {
            return Err(Error::new(format!(
                "part {number} of file \"{}\" has {length} bytes",
                self.path.display()
            )));
        };
        let partial = self.partial.clone();
        blocking(move || {
            partial
                .file()
                .write_all_at(&bytes, offset)
                .map_err(|error| failed("write to file", partial.path(), &error))
        })
        .await?;
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.insert(number, length);
        Ok(())
    }

    async fn complete(self: Box<Self>, size: u64) -> Result<()> {
        blocking(move || {
            self.check(size)?;
            let (folder, path) = (self.folder.clone(), self.path.clone());
            let partial = self.into_partial()?;
            partial.flush()?;
            let length = partial.file().metadata().map(|metadata| metadata.len());
            match length {
                Ok(length) if length == size => {}
                Ok(length) => {
                    return Err(Error::new(format!(
                        "could not complete file \"{}\": it has {length} bytes of {size}",
                        path.display()
                    )));
                }
                Err(error) => return Err(failed("look at file", &path, &error)),
            }
            match rename_without_replacing(partial.path(), &path) {
                Ok(()) => {
                    partial.keep();
                    folder.flush_folders(&path)
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(exists(&path)),
                Err(error) => Err(failed("create file", &path, &error)),
            }
        })
        .await
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        blocking(move || {
            // with the folders that it is alone in; it may still be written to
            self.folder.remove(self.partial.path())
        })
        .await
    }
}

fn exists(path: &std::path::Path) -> Error {
    Error::new(format!("file \"{}\" exists already", path.display()))
}
