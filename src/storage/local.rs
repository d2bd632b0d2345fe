//! Archives in files: reading.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::read_at::ReadAt;
use crate::error::{Error, Result};

/// A file open for reading.
#[derive(Debug)]
pub struct LocalFile {
    file: File,
    path: PathBuf,
    size: u64,
}

impl LocalFile {
    pub fn open(path: impl AsRef<Path>) -> Result<LocalFile> {
        let path = path.as_ref().to_owned();
        let failed = |error: io::Error| {
            Error::new(format!(
                "could not open file \"{}\": {}",
                path.display(),
                describe(&error)
            ))
        };
        let file = File::open(&path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.is_dir() {
            return Err(Error::new(format!(
                "could not open file \"{}\": it is a directory",
                path.display()
            )));
        }
        if !metadata.is_file() {
            return Err(Error::new(format!(
                "could not open file \"{}\": it is not a regular file",
                path.display()
            ))
            .hint("only restore and sql read a stream, which they call \"-\""));
        }
        Ok(LocalFile {
            file,
            size: metadata.len(),
            path,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl ReadAt for LocalFile {
    fn size(&self) -> Result<u64> {
        Ok(self.size)
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.file.read_exact_at(buffer, offset).map_err(|error| {
            let failed = |problem: &str| {
                Error::new(format!(
                    "could not read {} bytes at offset {offset} of file \"{}\": {problem}",
                    buffer.len(),
                    self.path.display(),
                ))
            };
            if error.kind() != io::ErrorKind::UnexpectedEof {
                return failed(&describe(&error));
            }
            match self.file.metadata() {
                Ok(now) if now.len() < self.size => failed(&format!(
                    "it has become shorter: {} bytes of {}",
                    now.len(),
                    self.size
                ))
                .hint("another program has cut it or writes to it: see which, or use another copy"),
                _ => failed("the file ends there"),
            }
        })
    }
}

/// The system's own words, without Rust's "(os error 13)".
pub(super) fn describe(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}
