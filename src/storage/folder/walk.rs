//! Listing files in the order of keys.

use std::fs;
use std::io;
use std::path::Path;

use super::files::{is_id, partial_path};
use super::{Folder, PARTIAL, failed, is_absent, modified};
use crate::error::{Error, Result};
use crate::storage::object::{Key, Object, Page, Unfinished};

/// Not a link to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Is {
    File,
    Folder,
}

/// A name of a folder. A folder's ends with a slash: so names are in the order of keys, where
/// "a-b" comes before "a/b".
type Name = (String, Is);

impl Folder {
    pub(super) fn list_now(&self, prefix: &str, after: Option<&Key>) -> Result<Page> {
        self.check_root()?;
        let mut page = Page {
            objects: Vec::new(),
            is_last: true,
        };
        let mut visit = |key: Key, path: &Path| {
            if after.is_some_and(|after| key <= *after) || !key.as_str().starts_with(prefix) {
                return Ok(true);
            }
            let metadata = match fs::metadata(path) {
                Ok(metadata) => metadata,
                // removed meanwhile, or a link to nothing
                Err(error) if is_absent(&error) => return Ok(true),
                Err(error) => return Err(failed("look at file", path, &error)),
            };
            if metadata.is_dir() {
                return Err(Error::new(format!(
                    "could not list folder \"{}\": \"{}\" is a symbolic link to a folder",
                    self.root.display(),
                    path.display()
                ))
                .hint("mount what it leads to there instead"));
            }
            if !metadata.is_file() {
                return Ok(true);
            }
            if page.objects.len() == self.page {
                page.is_last = false;
                return Ok(false);
            }
            page.objects.push(Object {
                key,
                size: metadata.len(),
                modified: modified(path, &metadata)?,
            });
            Ok(true)
        };
        let wanted = |folder: &str| {
            let may_match = folder.starts_with(prefix) || prefix.starts_with(folder);
            let is_past =
                |after: &Key| folder > after.as_str() || after.as_str().starts_with(folder);
            may_match && after.is_none_or(is_past)
        };
        self.walk("", &wanted, &mut |key, path| match Key::new(key) {
            Ok(key) => visit(key, path),
            Err(_) => Ok(true),
        })?;
        Ok(page)
    }

    pub(super) fn unfinished_now(&self, prefix: &str) -> Result<Vec<Unfinished>> {
        self.check_root()?;
        let mut found = Vec::new();
        let wanted = |folder: &str| folder.starts_with(prefix) || prefix.starts_with(folder);
        self.walk("", &wanted, &mut |name, path| {
            let Some((key, upload)) = parse_partial(&name) else {
                return Ok(true);
            };
            if !key.as_str().starts_with(prefix) {
                return Ok(true);
            }
            match fs::symlink_metadata(path) {
                Ok(metadata) => found.push(Unfinished {
                    key,
                    upload,
                    begun: modified(path, &metadata)?,
                }),
                Err(error) if is_absent(&error) => {}
                Err(error) => return Err(failed("look at file", path, &error)),
            }
            Ok(true)
        })?;
        Ok(found)
    }

    pub(super) fn discard_now(&self, unfinished: &Unfinished) -> Result<()> {
        self.remove(&partial_path(self, &unfinished.key, &unfinished.upload)?)
    }

    /// Visits what is no folder, in the order of keys, until `visit` says that it is enough.
    fn walk(
        &self,
        folder: &str,
        wanted: &dyn Fn(&str) -> bool,
        visit: &mut dyn FnMut(String, &Path) -> Result<bool>,
    ) -> Result<bool> {
        for (name, is) in self.names(folder)? {
            let name = format!("{folder}{name}");
            let goes_on = match is {
                Is::File => visit(name.clone(), &self.root.join(&name))?,
                Is::Folder if wanted(&name) => self.walk(&name, wanted, visit)?,
                Is::Folder => true,
            };
            if !goes_on {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn names(&self, folder: &str) -> Result<Vec<Name>> {
        let path = self.root.join(folder);
        let unreadable = |error: &io::Error| failed("list folder", &path, error);
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            // removed meanwhile, when it became empty; the root stays
            Err(error) if is_absent(&error) && !folder.is_empty() => return Ok(Vec::new()),
            Err(error) => return Err(unreadable(&error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| unreadable(&error))?;
            // others are no keys
            let Ok(mut name) = entry.file_name().into_string() else {
                continue;
            };
            let is_folder = match entry.file_type() {
                Ok(kind) => kind.is_dir(),
                Err(error) if is_absent(&error) => continue,
                Err(error) => return Err(unreadable(&error)),
            };
            match is_folder {
                true if name.starts_with('.') => {}
                // a file system's own, which only root may read
                true if folder.is_empty() && name == "lost+found" => {}
                true => {
                    name.push('/');
                    names.push((name, Is::Folder));
                }
                false => names.push((name, Is::File)),
            }
        }
        names.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        Ok(names)
    }
}

/// The key and the upload that `FOLDERS/.NAME.ID.partial` is of.
fn parse_partial(path: &str) -> Option<(Key, String)> {
    let (folders, name) = match path.rsplit_once('/') {
        Some((folders, name)) => (Some(folders), name),
        None => (None, path),
    };
    let (name, id) = name
        .strip_prefix('.')?
        .strip_suffix(PARTIAL)?
        .rsplit_once('.')?;
    let key = match folders {
        Some(folders) => Key::new(format!("{folders}/{name}")),
        None => Key::new(name),
    };
    key.ok()
        .filter(|_| is_id(id))
        .map(|key| (key, id.to_owned()))
}
