//! Objects as files of a folder, on a disk or NFS.
//!
//! A key is a path under the root. A file gets its name only once it is whole and flushed; until
//! then it lies in the same folder as `.NAME.ID.partial`, which no key can name.

mod files;
mod upload;
mod walk;

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use nix::fcntl::OFlag;

use super::local::describe;
use super::object::{Created, Key, Limits, Object, Page, Storage, Unfinished, Upload};
use super::target::rename_without_replacing;
use crate::error::{Error, Kind, Outcome, Result};
use files::Partial;
use upload::FolderUpload;

/// Objects in one page of a listing, for each of which all names of a folder are read.
const PAGE: usize = 10_000;
const PART_SIZE: usize = 8 << 20;
/// Ends the name of a file that is not whole.
const PARTIAL: &str = ".partial";

/// A store of files under a folder, which must exist: an empty mount point is not filled.
///
/// Names that are no keys are passed over, as are those that begin with a dot, and `lost+found` in
/// the root. A symbolic link to a file is that file; one to a folder makes listings fail, since
/// what is behind it would be seen by some operations and not by others.
#[derive(Debug, Clone)]
pub struct Folder {
    root: PathBuf,
    limits: Limits,
    page: usize,
}

impl Folder {
    /// The root is not looked at before the first operation.
    pub fn new(root: impl Into<PathBuf>) -> Folder {
        Folder {
            root: root.into(),
            limits: Limits {
                part_size: PART_SIZE,
                parts: u32::MAX,
                concurrency: 4,
            },
            page: PAGE,
        }
    }

    /// Makes the root and the folders that it is in, durably. That it is there is success.
    pub fn create_root(&self) -> Result<()> {
        let absolute = std::path::absolute(&self.root)
            .map_err(|error| failed("create folder", &self.root, &error))?;
        self.make_folders(Path::new("/"), &absolute)?;
        self.check_root()
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn with_limits(self, limits: Limits) -> Folder {
        Folder { limits, ..self }
    }

    /// Objects in one page of a listing.
    pub fn with_page(self, objects: usize) -> Folder {
        Folder {
            page: objects.max(1),
            ..self
        }
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.root.join(key.as_str())
    }

    /// For messages: what is missing may be all of it.
    fn check_root(&self) -> Result<()> {
        match fs::metadata(&self.root) {
            Ok(metadata) if metadata.is_dir() => Ok(()),
            Ok(_) => Err(Error::new(format!(
                "\"{}\" is not a folder",
                self.root.display()
            ))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::new(format!(
                "folder \"{}\" does not exist",
                self.root.display()
            ))
            .hint("is the volume mounted?")
            .outcome(Outcome::NoRepository)),
            Err(error) => Err(failed("open folder", &self.root, &error)),
        }
    }

    fn open(&self, path: &Path) -> Result<Option<(File, fs::Metadata)>> {
        let mut how = OpenOptions::new();
        // somebody may have put a pipe there
        how.read(true).custom_flags(OFlag::O_NONBLOCK.bits());
        let opened = how.open(path).and_then(|file| {
            let metadata = file.metadata()?;
            Ok((file, metadata))
        });
        match opened {
            // a folder is what keys begin with
            Ok((_, metadata)) if !metadata.is_file() => Ok(None),
            Ok(opened) => Ok(Some(opened)),
            Err(error) if is_absent(&error) => {
                self.check_root()?;
                Ok(None)
            }
            Err(error) => Err(failed("open file", path, &error)),
        }
    }

    fn create_now(&self, key: &Key, bytes: &[u8]) -> Result<Created> {
        let path = self.path(key);
        if self.is_taken(&path)? {
            return Ok(Created::Exists);
        }
        let partial = Partial::create(self, key)?;
        partial.write_whole(bytes)?;
        match rename_without_replacing(partial.path(), &path) {
            Ok(()) => {
                partial.keep();
                self.flush_folders(&path)?;
                Ok(Created::New)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Created::Exists),
            Err(error) => Err(failed("create file", &path, &error)),
        }
    }

    fn is_taken(&self, path: &Path) -> Result<bool> {
        match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_dir() => Err(Error::new(format!(
                "could not create file \"{}\": it is a folder",
                path.display()
            ))),
            Ok(_) => Ok(true),
            Err(error) if is_absent(&error) => Ok(false),
            Err(error) => Err(failed("create file", path, &error)),
        }
    }

    fn put_now(&self, key: &Key, bytes: &[u8]) -> Result<()> {
        let path = self.path(key);
        let partial = Partial::create(self, key)?;
        partial.write_whole(bytes)?;
        fs::rename(partial.path(), &path).map_err(|error| failed("replace file", &path, &error))?;
        partial.keep();
        self.flush_folders(&path)
    }

    fn get_now(&self, key: &Key, limit: u64) -> Result<Option<Bytes>> {
        let path = self.path(key);
        let Some((file, metadata)) = self.open(&path)? else {
            return Ok(None);
        };
        let too_long = |size: u64| {
            Error::new(format!(
                "file \"{}\" has {size} bytes, more than the {limit} it may have",
                path.display()
            ))
        };
        if metadata.len() > limit {
            return Err(too_long(metadata.len()));
        }
        let mut bytes = Vec::new();
        // it may grow
        file.take(limit.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|error| failed("read file", &path, &error))?;
        match bytes.len() as u64 {
            size if size > limit => Err(too_long(size)),
            _ => Ok(Some(bytes.into())),
        }
    }

    fn read_now(&self, key: &Key, range: &Range<u64>) -> Result<Bytes> {
        let path = self.path(key);
        let wrong = |problem: &str| {
            Error::new(format!(
                "could not read bytes {} to {} of file \"{}\": {problem}",
                range.start,
                range.end,
                path.display()
            ))
        };
        let Some((file, metadata)) = self.open(&path)? else {
            return Err(wrong("there is no such file"));
        };
        let length = range
            .end
            .checked_sub(range.start)
            .filter(|_| range.end <= metadata.len())
            .ok_or_else(|| wrong(&format!("it has {} bytes", metadata.len())))?;
        let length = usize::try_from(length).map_err(|_| wrong("that is too much"))?;
        let mut bytes = BytesMut::zeroed(length);
        file.read_exact_at(&mut bytes, range.start)
            .map_err(|error| wrong(&describe(&error)).with_kind(kind_of(&error)))?;
        Ok(bytes.freeze())
    }

    fn head_now(&self, key: &Key) -> Result<Option<Object>> {
        let path = self.path(key);
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => Ok(Some(Object {
                key: key.clone(),
                size: metadata.len(),
                modified: modified(&path, &metadata)?,
            })),
            Ok(_) => Ok(None),
            Err(error) if is_absent(&error) => {
                self.check_root()?;
                Ok(None)
            }
            Err(error) => Err(failed("look at file", &path, &error)),
        }
    }

    fn delete_now(&self, key: &Key) -> Result<()> {
        self.remove(&self.path(key))
    }
}

impl fmt::Display for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "folder \"{}\"", self.root.display())
    }
}

/// A file system's calls may take long.
async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(act).await {
        Ok(result) => result,
        Err(error) => Err(Error::new(format!("a task of storage ended: {error}"))),
    }
}

#[async_trait]
impl Storage for Folder {
    fn limits(&self) -> Limits {
        self.limits
    }

    async fn create(&self, key: &Key, bytes: Bytes) -> Result<Created> {
        let (this, key) = (self.clone(), key.clone());
        blocking(move || this.create_now(&key, &bytes)).await
    }

    async fn put(&self, key: &Key, bytes: Bytes) -> Result<()> {
        let (this, key) = (self.clone(), key.clone());
        blocking(move || this.put_now(&key, &bytes)).await
    }

    async fn get(&self, key: &Key, limit: u64) -> Result<Option<Bytes>> {
        let (this, key) = (self.clone(), key.clone());
        blocking(move || this.get_now(&key, limit)).await
    }

    async fn read(&self, key: &Key, range: Range<u64>) -> Result<Bytes> {
        let (this, key) = (self.clone(), key.clone());
        blocking(move || this.read_now(&key, &range)).await
    }

    async fn head(&self, key: &Key) -> Result<Option<Object>> {
        let (this, key) = (self.clone(), key.clone());
        blocking(move || this.head_now(&key)).await
    }

    async fn list(&self, prefix: &str, after: Option<&Key>) -> Result<Page> {
        let (this, prefix, after) = (self.clone(), prefix.to_owned(), after.cloned());
        blocking(move || this.list_now(&prefix, after.as_ref())).await
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        let (this, key) = (self.clone(), key.clone());
        blocking(move || this.delete_now(&key)).await
    }

    async fn begin(&self, key: &Key) -> Result<Box<dyn Upload>> {
        let (this, key) = (self.clone(), key.clone());
        let upload = blocking(move || FolderUpload::begin(this, &key)).await?;
        Ok(Box::new(upload))
    }

    async fn unfinished(&self, prefix: &str) -> Result<Vec<Unfinished>> {
        let (this, prefix) = (self.clone(), prefix.to_owned());
        blocking(move || this.unfinished_now(&prefix)).await
    }

    async fn discard(&self, unfinished: &Unfinished) -> Result<()> {
        let (this, unfinished) = (self.clone(), unfinished.clone());
        blocking(move || this.discard_now(&unfinished)).await
    }
}

/// Neither it nor, maybe, the folder it would be in.
fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn modified(path: &Path, metadata: &fs::Metadata) -> Result<SystemTime> {
    metadata
        .modified()
        .map_err(|error| failed("look at file", path, &error))
}

fn kind_of(error: &io::Error) -> Kind {
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Kind::Denied,
        _ => Kind::Other,
    }
}

fn failed(doing: &str, path: &Path, error: &io::Error) -> Error {
    let message = format!(
        "could not {doing} \"{}\": {}",
        path.display(),
        describe(error)
    );
    let message = Error::new(message).with_kind(kind_of(error));
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            message.hint("free some space or choose another place")
        }
        io::ErrorKind::PermissionDenied => {
            message.hint("which user does this run as, and whose are the file and its folders?")
        }
        io::ErrorKind::FileTooLarge => {
            message.hint("the file system or a limit of the process does not allow larger files")
        }
        _ => message,
    }
}

#[cfg(test)]
mod tests;
