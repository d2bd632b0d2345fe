//! The password file: `host:port:database:user:password` lines, first match wins.

use std::path::{Path, PathBuf};

use super::environment::Environment;
use super::secret::Secret;

/// The contents of a password file, already checked for its permissions.
#[derive(Default)]
pub struct PasswordFile {
    /// Where it was read from; none if there is no file to use.
    path: Option<PathBuf>,
    contents: Vec<u8>,
}

/// What a password is looked up by.
#[derive(Debug, Clone, Copy)]
pub struct Key<'a> {
    /// Host names to match, any of them: a default socket directory is also "localhost".
    pub hosts: &'a [String],
    pub port: u16,
    pub database: &'a [u8],
    pub user: &'a str,
}

impl PasswordFile {
    /// Reads the file; one that is missing counts as empty. One that others may read is ignored
    /// with a warning, as libpq does.
    pub fn load(path: &Path, environment: &Environment, warnings: &mut Vec<String>) -> Self {
        let Ok(file) = environment.files.read(path) else {
            return PasswordFile::default();
        };
        if !file.is_regular {
            warnings.push(format!(
                "password file \"{}\" is not a plain file, so it is ignored",
                path.display()
            ));
            return PasswordFile::default();
        }
        if file.mode & 0o077 != 0 {
            warnings.push(format!(
                "password file \"{}\" has group or world access, so it is ignored; permissions \
                 should be u=rw (0600) or less",
                path.display()
            ));
            return PasswordFile::default();
        }
        PasswordFile {
            path: Some(path.to_owned()),
            contents: file.contents,
        }
    }

    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    pub fn lookup(&self, key: Key<'_>) -> Option<Secret> {
        let port = key.port.to_string();
        self.contents
            .split(|&byte| byte == b'\n')
            .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
            .filter(|line| !line.is_empty() && !line.starts_with(b"#"))
            .find_map(|line| {
                let rest = key
                    .hosts
                    .iter()
                    .find_map(|host| strip_field(line, host.as_bytes()))?;
                let rest = strip_field(rest, port.as_bytes())?;
                let rest = strip_field(rest, key.database)?;
                let rest = strip_field(rest, key.user.as_bytes())?;
                Some(unescape(rest))
            })
    }
}

/// What follows the first field of `line`, if that field is `*` or equals `wanted`.
fn strip_field<'a>(line: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    if let Some(rest) = line.strip_prefix(b"*:") {
        return Some(rest);
    }
    let mut wanted = wanted.iter();
    let mut bytes = line.iter().enumerate();
    while let Some((position, &byte)) = bytes.next() {
        let literal = match byte {
            b':' => {
                return match wanted.next() {
                    None => line.get(position + 1..),
                    Some(_) => None,
                };
            }
            b'\\' => bytes.next().map(|(_, &escaped)| escaped)?,
            byte => byte,
        };
        if wanted.next() != Some(&literal) {
            return None;
        }
    }
    None
}

/// The password runs to the end of the line or to an unescaped colon.
fn unescape(field: &[u8]) -> Secret {
    let mut password = Vec::with_capacity(field.len());
    let mut bytes = field.iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            b':' => break,
            b'\\' => password.push(*bytes.next().unwrap_or(&b'\\')),
            byte => password.push(byte),
        }
    }
    Secret::new(password)
}
