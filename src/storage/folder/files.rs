//! Making files and folders that survive a power cut, and taking them away.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::{Folder, PARTIAL, failed, is_absent};
use crate::error::{Error, Result};
use crate::storage::object::Key;

/// Times that folders are made anew, where another process takes away empty ones meanwhile.
const ATTEMPTS: u32 = 10;

/// A file on its way to its name. Dropped without `keep`, it is removed.
#[derive(Debug)]
pub(super) struct Partial {
    file: File,
    path: PathBuf,
    is_kept: bool,
}

impl Partial {
    /// In the folder where the object will be, which is made.
    pub fn create(folder: &Folder, key: &Key) -> Result<Partial> {
        let path = partial_path(folder, key, &format!("{:032x}", rand::random::<u128>()))?;
        let parent = path.parent().unwrap_or(&folder.root).to_owned();
        let mut attempt = 0;
        loop {
            folder.check_root()?;
            folder.make_folders(&folder.root, &parent)?;
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => {
                    return Ok(Partial {
                        file,
                        path,
                        is_kept: false,
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound && attempt < ATTEMPTS => {
                    attempt += 1;
                }
                Err(error) => return Err(failed("create file", &path, &error)),
            }
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    pub fn write_whole(&self, bytes: &[u8]) -> Result<()> {
        (&self.file)
            .write_all(bytes)
            .map_err(|error| failed("write to file", &self.path, &error))?;
        self.flush()
    }

    pub fn flush(&self) -> Result<()> {
        self.file
            .sync_all()
            .map_err(|error| failed("fsync file", &self.path, &error))
    }

    /// It has its name, or is removed otherwise.
    pub fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.is_kept {
            // what is left over is listed as unfinished
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// `id` is part of a name, and comes from a listing.
pub(super) fn partial_path(folder: &Folder, key: &Key, id: &str) -> Result<PathBuf> {
    if !is_id(id) {
        return Err(Error::new(format!("not an upload of {folder}: {id:?}")));
    }
    let path = folder.path(key);
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{id}{PARTIAL}"));
    Ok(path.with_file_name(name))
}

pub(super) fn is_id(id: &str) -> bool {
    id.len() == 32 && id.bytes().all(|c| c.is_ascii_hexdigit())
}

impl Folder {
    /// Makes what is missing of a path below `base`, which exists.
    pub(super) fn make_folders(&self, base: &Path, path: &Path) -> Result<()> {
        let mut missing = Vec::new();
        let mut at = path;
        while at != base && !at.is_dir() {
            missing.push(at);
            match at.parent() {
                Some(parent) => at = parent,
                None => break,
            }
        }
        for path in missing.into_iter().rev() {
            match fs::create_dir(path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
                // taken away by another process: the caller sees to it
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(failed("create folder", path, &error)),
            }
            // whoever made it
            if let Some(parent) = path.parent() {
                flush_folder(parent)?;
            }
        }
        Ok(())
    }

    /// Makes a file's name durable, with the folders above it: another process may have made
    /// those, and not have flushed them yet.
    pub(super) fn flush_folders(&self, path: &Path) -> Result<()> {
        for folder in path.ancestors().skip(1) {
            flush_folder(folder).map_err(|error| {
                error.hint("the file is complete under its name, but may not survive a power cut")
            })?;
            if folder == self.root {
                break;
            }
        }
        Ok(())
    }

    /// Removes a file durably, and the folders that this leaves empty.
    pub(super) fn remove(&self, path: &Path) -> Result<()> {
        match fs::remove_file(path) {
            Ok(()) => {}
            Err(error) if is_absent(&error) => return self.check_root(),
            // a folder is what keys begin with; some systems say "not permitted"
            Err(_) if path.is_dir() => return Ok(()),
            Err(error) => return Err(failed("remove file", path, &error)),
        }
        for (distance, folder) in path.ancestors().skip(1).enumerate() {
            if distance == 0 {
                match flush_folder(folder) {
                    // taken away by another process: its name was gone before
                    Err(_) if !folder.exists() => {}
                    result => result?,
                }
            }
            // one that is not empty stays, which is no failure
            if folder == self.root || fs::remove_dir(folder).is_err() {
                break;
            }
        }
        Ok(())
    }
}

/// Some systems cannot do this, and say so in their own way.
fn flush_folder(folder: &Path) -> Result<()> {
    let flushed = File::open(folder).and_then(|open| open.sync_all());
    match flushed {
        Err(error)
            if [Errno::EINVAL, Errno::EBADF, Errno::ENOTSUP]
                .iter()
                .any(|known| error.raw_os_error() == Some(*known as i32)) =>
        {
            Ok(())
        }
        Err(error) => Err(failed("fsync folder", folder, &error)),
        Ok(()) => Ok(()),
    }
}
