//! What resolution may look at besides the command line, gathered so that tests can make it up.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Files such as a password file are small; anything larger is not what it claims to be.
const LARGEST_FILE: u64 = 16 << 20;

/// The environment of a process: variables, the operating system's user, and files.
#[derive(Clone)]
pub struct Environment {
    pub variables: BTreeMap<String, String>,
    /// Name of the operating system's user, the default database user.
    pub operating_system_user: Option<String>,
    pub home: Option<PathBuf>,
    pub files: Arc<dyn Files>,
}

/// Reads files for the resolution: service files and password files.
pub trait Files: Send + Sync {
    fn read(&self, path: &Path) -> io::Result<File>;
}

/// A file's contents, with what permission checks need.
#[derive(Clone)]
pub struct File {
    pub contents: Vec<u8>,
    pub is_regular: bool,
    /// Permission bits, as in `st_mode`.
    pub mode: u32,
}

impl Environment {
    /// The environment of this process. Variables that are not UTF-8 are left out.
    pub fn of_process() -> Environment {
        let variables: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let account = nix::unistd::User::from_uid(nix::unistd::geteuid())
            .ok()
            .flatten();
        let home = variables
            .get("HOME")
            .filter(|home| !home.is_empty())
            .map(PathBuf::from)
            .or_else(|| account.as_ref().map(|account| account.dir.clone()));
        Environment {
            variables,
            operating_system_user: account.map(|account| account.name),
            home,
            files: Arc::new(FileSystem),
        }
    }

    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }
}

/// Variables may hold passwords, so none is shown.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment")
            .field("operating_system_user", &self.operating_system_user)
            .field("home", &self.home)
            .finish_non_exhaustive()
    }
}

/// The real file system.
#[derive(Debug)]
pub struct FileSystem;

impl Files for FileSystem {
    fn read(&self, path: &Path) -> io::Result<File> {
        // Looked at first: opening a FIFO would wait for a writer.
        let metadata = std::fs::metadata(path)?;
        if metadata.len() > LARGEST_FILE {
            return Err(io::Error::other("file too large"));
        }
        Ok(File {
            contents: if metadata.is_file() {
                std::fs::read(path)?
            } else {
                Vec::new()
            },
            is_regular: metadata.is_file(),
            mode: metadata.mode(),
        })
    }
}
