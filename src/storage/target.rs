//! Archives in files: writing. A file appears under its name only once it is whole.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::local::{LocalFile, describe};
use crate::error::{Error, Result};

/// Whether an existing file of that name gives way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replace {
    Yes,
    No,
}

/// Temporary names tried before giving up.
const MAX_NAMES: u32 = 100;

/// A file being written. Dropped without `commit`, it leaves nothing.
///
/// Errors of `write` name the file; the `io::Error` they come in keeps the kind (`StorageFull`).
#[derive(Debug)]
pub struct LocalTarget {
    file: File,
    path: PathBuf,
    temporary: PathBuf,
    folder: PathBuf,
    written: u64,
    committed: bool,
}

impl LocalTarget {
    /// Creates the temporary file, in the folder that the final one will be in.
    pub fn create(path: impl AsRef<Path>) -> Result<LocalTarget> {
        let path = resolve(path.as_ref())?;
        refuse_folder_name(&path)?;
        let Some(name) = path.file_name().filter(|_| !path.is_dir()) else {
            return Err(Error::new(format!(
                "could not create file \"{}\": it is a directory",
                path.display()
            ))
            .hint("give the name of a file"));
        };
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let process = std::process::id();
        let mut longest = MAX_NAME;
        let mut attempt = 0;
        while attempt < MAX_NAMES {
            let temporary = folder.join(temporary_name(name, process, attempt, longest));
            let mut how = OpenOptions::new();
            how.write(true).create_new(true);
            if path.exists() {
                use std::os::unix::fs::OpenOptionsExt;
                // opened up to what the existing file allows by `commit`
                how.mode(0o600);
            }
            match how.open(&temporary) {
                Ok(file) => {
                    return Ok(LocalTarget {
                        file,
                        path,
                        temporary,
                        folder,
                        written: 0,
                        committed: false,
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => attempt += 1,
                // file systems that encrypt names take shorter ones, as the final one may be
                Err(error) if is_too_long(&error) && name.len() < longest => longest = name.len(),
                Err(error) => return Err(cannot_create(&path, &folder, &error)),
            }
        }
        Err(Error::new(format!(
            "could not create file \"{}\": too many leftovers of crashed runs",
            path.display()
        ))
        .hint(format!(
            "remove the .partial files in \"{}\"",
            folder.display()
        )))
    }

    /// The name it will have.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where it is until then.
    pub fn temporary_path(&self) -> &Path {
        &self.temporary
    }

    /// Makes the file durable (unless `sync` is false), lets `check` read it back, and only then
    /// gives it its name, with owner and permissions of the file that it replaces. An error leaves
    /// what was there before; but for a folder that cannot be flushed, which is found out last.
    pub fn commit(
        mut self,
        replace: Replace,
        sync: bool,
        check: impl FnOnce(&LocalFile) -> Result<()>,
    ) -> Result<()> {
        // before the permissions, which may forbid it
        let reread = LocalFile::open(&self.temporary)?;
        if let Ok(existing) = fs::metadata(&self.path) {
            take_over(&self.file, &existing);
        }
        if sync {
            self.file
                .sync_all()
                .map_err(|error| self.failed("fsync", &error))?;
        }
        check(&reread)
            .map_err(|error| error.context(format!("rereading \"{}\"", self.path.display())))?;
        match replace {
            Replace::Yes => fs::rename(&self.temporary, &self.path),
            Replace::No => rename_without_replacing(&self.temporary, &self.path),
        }
        .map_err(|error| self.failed("rename", &error))?;
        self.committed = true;
        if sync {
            // The name is only durable with its folder.
            File::open(&self.folder)
                .and_then(|folder| folder.sync_all())
                .map_err(|error| {
                    self.failed("fsync the folder of", &error).hint(
                        "the archive is complete under its name, but may not survive a power cut",
                    )
                })?;
        }
        Ok(())
    }

    /// Sends what is written from now on elsewhere.
    #[cfg(test)]
    pub(super) fn divert(&mut self, file: File) {
        self.file = file;
    }

    fn failed(&self, doing: &str, error: &io::Error) -> Error {
        let message = format!(
            "could not {doing} file \"{}\": {}",
            self.path.display(),
            describe(error)
        );
        match error.kind() {
            io::ErrorKind::AlreadyExists => {
                Error::new(format!("file \"{}\" exists already", self.path.display()))
            }
            _ => Error::new(message),
        }
    }
}

impl Write for LocalTarget {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.file.write(bytes) {
            Ok(length) => {
                self.written += length as u64;
                Ok(length)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => Err(io::Error::new(
                error.kind(),
                format!(
                    "could not write to file \"{}\" after {} bytes: {}",
                    self.path.display(),
                    self.written,
                    describe(&error)
                ),
            )),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for LocalTarget {
    fn drop(&mut self) {
        if !self.committed {
            // Nothing can be done about a failure here; the name says what the leftover is.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// Gives a file the owner and permissions of the one that it is to replace, as far as the system
/// lets us; where it does not, nobody may read the new file who could not read the old one.
fn take_over(file: &File, existing: &fs::Metadata) {
    use std::os::unix::fs::{PermissionsExt, fchown};
    let Ok(own) = file.metadata() else { return };
    let mut mode = existing.mode() & 0o777;
    if own.uid() != existing.uid() {
        // only root may
        let _ = fchown(file, Some(existing.uid()), None);
    }
    if own.gid() != existing.gid() && fchown(file, None, Some(existing.gid())).is_err() {
        // another group: it gets no more than everybody has
        mode &= !0o070 | (mode & 0o007) << 3;
    }
    // a file system without permissions is no reason to have no archive
    let _ = file.set_permissions(fs::Permissions::from_mode(mode));
}

/// `link` fails where the name exists.
pub(super) fn rename_without_replacing(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // NFS asks again where a reply is lost, and meets its own link
            if !is_same_file(from, to) {
                return Err(error);
            }
        }
        Err(_) => return rename_without_links(from, to),
    }
    // It has its name: a second one left over is no failure.
    let _ = fs::remove_file(from);
    Ok(())
}

/// For file systems that know no links (some network and FAT ones). Those that cannot refuse to replace
/// either get an exclusive creation of the name first, then a rename over it.
pub(super) fn rename_without_links(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
        match renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE) {
            Ok(()) => return Ok(()),
            Err(Errno::EEXIST) => return Err(io::ErrorKind::AlreadyExists.into()),
            Err(_) => {}
        }
    }
    create_and_rename(from, to)
}

/// A crash in between leaves an empty file.
pub(super) fn create_and_rename(from: &Path, to: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).open(to)?;
    fs::rename(from, to).inspect_err(|_| {
        let _ = fs::remove_file(to);
    })
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| {
        let metadata = fs::symlink_metadata(path).ok()?;
        Some((metadata.dev(), metadata.ino()))
    };
    identity(one).is_some_and(|this| identity(other) == Some(this))
}

/// Longest name of a file that common file systems take, in bytes.
const MAX_NAME: usize = 255;

fn is_too_long(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::ENAMETOOLONG as i32)
}

/// The name, as far as there is room for it in so many bytes beside what makes it another.
fn temporary_name(name: &OsStr, process: u32, attempt: u32, longest: usize) -> OsString {
    let end = format!(".{process}.{attempt}.partial");
    let bytes = name.as_bytes();
    let mut room = bytes.len().min(longest.saturating_sub(end.len() + 1));
    // not within a character
    while room < bytes.len() && bytes[room] & 0xc0 == 0x80 && room > 0 {
        room -= 1;
    }
    let mut temporary = OsString::from(".");
    temporary.push(OsStr::from_bytes(&bytes[..room]));
    temporary.push(end);
    temporary
}

/// Follows symbolic links, so that the file they lead to is replaced or made and not the link.
/// Refuses devices and pipes: they would be replaced by a file too.
fn resolve(path: &Path) -> Result<PathBuf> {
    let refused = |problem: &str| {
        Error::new(format!(
            "could not create file \"{}\": {problem}",
            path.display()
        ))
    };
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        // a loop of links would be ELOOP
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return match fs::read_link(path) {
                Ok(to) => resolve(&path.parent().unwrap_or(Path::new("")).join(to)),
                Err(_) => Ok(path.to_owned()),
            };
        }
        Err(error) => {
            if is_too_long(&error) {
                return Err(refused(&describe(&error)).hint(shorter_name()));
            }
            if error.raw_os_error() == Some(Errno::ELOOP as i32) {
                return Err(refused(&describe(&error)).hint("give the name of a file"));
            }
            // what else is wrong shows when the file is made
            return Ok(path.to_owned());
        }
    };
    if !metadata.is_file() && !metadata.is_dir() {
        return Err(refused("it is not a regular file")
            .hint("give \"-\" to write the archive to standard output"));
    }
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_symlink() => {
            fs::canonicalize(path).map_err(|error| refused(&describe(&error)))
        }
        _ => Ok(path.to_owned()),
    }
}

fn shorter_name() -> String {
    format!("give a shorter one: most file systems take names of up to {MAX_NAME} bytes")
}

/// A name that ends as only one of a folder may. The temporary file would be made beside that, and
/// only the rename at the very end would fail.
fn refuse_folder_name(path: &Path) -> Result<()> {
    let bytes = path.as_os_str().as_bytes();
    if path.is_dir() || !(bytes.ends_with(b"/") || bytes.ends_with(b"/.")) {
        return Ok(());
    }
    // without what it ends with
    let folder: PathBuf = path.components().collect();
    let (problem, hint) = match folder.exists() {
        true => (
            format!("\"{}\" is not a folder", folder.display()),
            "leave out the slash at its end",
        ),
        false => (
            format!("folder \"{}\" does not exist", folder.display()),
            "create it and give the name of a file in it, or leave out the slash at its end",
        ),
    };
    Err(Error::new(format!(
        "could not create file \"{}\": {problem}",
        path.display()
    ))
    .hint(hint))
}

fn cannot_create(path: &Path, folder: &Path, error: &io::Error) -> Error {
    if is_too_long(error) {
        let message = format!(
            "could not create file \"{}\": {}",
            path.display(),
            describe(error)
        );
        return Error::new(message).hint(shorter_name());
    }
    let (problem, hint) = match error.kind() {
        io::ErrorKind::NotFound => (
            format!("folder \"{}\" does not exist", folder.display()),
            "create it first",
        ),
        io::ErrorKind::NotADirectory => (
            format!("\"{}\" is not a folder", folder.display()),
            "give the name of a file in a folder",
        ),
        io::ErrorKind::PermissionDenied => (
            format!("no permission to write in folder \"{}\"", folder.display()),
            "the file is first written under another name in the same folder, so the folder must be writable",
        ),
        io::ErrorKind::ReadOnlyFilesystem => (
            format!(
                "folder \"{}\" is on a read-only file system",
                folder.display()
            ),
            "choose another folder",
        ),
        io::ErrorKind::StorageFull => (describe(error), FREE_SPACE),
        _ => {
            return Error::new(format!(
                "could not create file \"{}\": {}",
                path.display(),
                describe(error)
            ));
        }
    };
    Error::new(format!(
        "could not create file \"{}\": {problem}",
        path.display()
    ))
    .hint(hint)
}

const FREE_SPACE: &str = "free some space or choose another place; nothing was left behind";
const FREE_SPACE_BEHIND_STDOUT: &str =
    "free some space or choose another place; what was written until then is not complete";

/// What went wrong with standard output.
#[derive(Debug)]
struct StdoutFailure(String);

impl fmt::Display for StdoutFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StdoutFailure {}

/// What went wrong while an archive was written, with what to do about it.
pub fn write_error(error: io::Error) -> Error {
    // a store's own error, which has its hint
    let error = match error.downcast::<Error>() {
        Ok(error) => return error,
        Err(error) => error,
    };
    let kind = error.kind();
    let is_stdout = error
        .get_ref()
        .is_some_and(|inner| inner.is::<StdoutFailure>());
    let error = Error::from(error);
    match kind {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded if is_stdout => {
            error.hint(FREE_SPACE_BEHIND_STDOUT)
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => error.hint(FREE_SPACE),
        io::ErrorKind::FileTooLarge => {
            error.hint("the file system or a limit of the process does not allow larger files")
        }
        io::ErrorKind::BrokenPipe => error.hint("the program reading the output ended early"),
        _ => error,
    }
}

/// Standard output as a target. Nothing can be taken back from it: an archive that fails is one
/// without a trailer.
#[derive(Debug)]
pub struct StdoutTarget {
    /// A handle of its own: `io::stdout()` would search binary data for line breaks.
    file: File,
    written: u64,
}

impl StdoutTarget {
    pub fn new() -> Result<StdoutTarget> {
        // what a process has in place of a standard output that was closed
        let stdout = io::stdout();
        let readable = fcntl(&stdout, FcntlArg::F_GETFL).is_ok_and(|flags| {
            OFlag::from_bits_truncate(flags) & OFlag::O_ACCMODE == OFlag::O_RDWR
        });
        let device = |metadata: fs::Metadata| metadata.rdev();
        let null = fs::metadata("/dev/null").map(device).ok();
        let own = fs::metadata("/dev/stdout").map(device).ok();
        if readable && own.is_some() && own == null {
            return Err(Error::new("standard output is closed")
                .hint("redirect it to where the archive is to go"));
        }
        let file = stdout
            .as_fd()
            .try_clone_to_owned()
            .map_err(|error| Error::new(format!("could not open standard output: {error}")))?
            .into();
        Ok(StdoutTarget { file, written: 0 })
    }
}

impl Write for StdoutTarget {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.file.write(bytes) {
            Ok(length) => {
                self.written += length as u64;
                Ok(length)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => Err(io::Error::new(
                error.kind(),
                StdoutFailure(format!(
                    "could not write to standard output after {} bytes: {}",
                    self.written,
                    describe(&error)
                )),
            )),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
