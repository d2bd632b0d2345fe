//! Objects under keys: what a repository is kept in.

use std::fmt;
use std::ops::Range;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::{Error, Result};

/// Longest key, in bytes: short enough for a prefix before it in S3, whose limit is 1,024.
pub const MAX_KEY: usize = 512;
/// Longest segment of a key: a file name of most file systems, with room for a temporary one.
pub const MAX_SEGMENT: usize = 200;

/// The name of an object: segments of ASCII letters, digits and `.`, `_`, `=`, `-`, `+`, `%`, `@`, joined by `/`.
/// No segment begins with a dot.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(String);

impl Key {
    pub fn new(text: impl Into<String>) -> Result<Key> {
        let text = text.into();
        let segments = || text.split('/');
        let is_plain = |c: u8| c.is_ascii_alphanumeric() || b"._=-+%@".contains(&c);
        let is_right = text.len() <= MAX_KEY
            && segments().all(|segment| {
                !segment.is_empty()
                    && !segment.starts_with('.')
                    && segment.len() <= MAX_SEGMENT
                    && segment.bytes().all(is_plain)
            });
        match is_right {
            true => Ok(Key(text)),
            false => Err(Error::new(format!("not a key of an object: {text:?}"))),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether an object was made, or its key was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Created {
    New,
    Exists,
}

/// An object in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    pub key: Key,
    /// Bytes.
    pub size: u64,
    /// By the store's clock.
    pub modified: SystemTime,
}

/// A part of a listing, in the order of keys.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    pub objects: Vec<Object>,
    /// Whether more follow the last of these.
    pub is_last: bool,
}

/// An upload that was begun and neither completed nor given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    pub key: Key,
    /// Which of the uploads to this key: the store's own name for it.
    pub upload: String,
    /// By the store's clock.
    pub begun: SystemTime,
}

/// What a store takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of each part but the last.
    pub part_size: usize,
    /// Parts of one object.
    pub parts: u32,
    /// Parts on their way at once.
    pub concurrency: usize,
}

/// A store of objects. Keys written once are never written again, but those of `put`.
///
/// Operations retry what may pass; an error is final. What the credential may not do fails with
/// [`crate::error::Kind::Denied`]. Messages name the object by the store's own name for it
/// (`s3://bucket/prefix/key`), and never a secret.
#[async_trait]
pub trait Storage: fmt::Debug + fmt::Display + Send + Sync {
    fn limits(&self) -> Limits;

    /// Creates an object whole and durably, unless its key is taken.
    async fn create(&self, key: &Key, bytes: Bytes) -> Result<Created>;

    /// Creates an object whole and durably, or replaces it.
    async fn put(&self, key: &Key, bytes: Bytes) -> Result<()>;

    /// All of a small object: more than `limit` bytes are refused. None: there is no such object.
    async fn get(&self, key: &Key, limit: u64) -> Result<Option<Bytes>>;

    /// Exactly these bytes, or an error.
    async fn read(&self, key: &Key, range: Range<u64>) -> Result<Bytes>;

    /// None: there is no such object.
    async fn head(&self, key: &Key) -> Result<Option<Object>>;

    /// Objects whose keys begin with `prefix` and come after `after`, in the order of their bytes.
    /// Unfinished uploads are not among them.
    async fn list(&self, prefix: &str, after: Option<&Key>) -> Result<Page>;

    /// Removes an object. That there is none is success.
    async fn delete(&self, key: &Key) -> Result<()>;

    /// Begins an object that comes in parts. Its key must not be taken.
    async fn begin(&self, key: &Key) -> Result<Box<dyn Upload>>;

    /// Uploads that nobody has ended, to keys that begin with `prefix`.
    async fn unfinished(&self, prefix: &str) -> Result<Vec<Unfinished>>;

    /// Takes away what an upload has left. That there is nothing is success.
    async fn discard(&self, unfinished: &Unfinished) -> Result<()>;
}

/// An object on its way. Dropped, or not completed for an error, it leaves at most what `unfinished` lists.
#[async_trait]
pub trait Upload: fmt::Debug + Send + Sync {
    /// Several may be on their way at once, in any order. Numbered from 0; each but the last has
    /// `Limits::part_size` bytes, and none is empty.
    async fn part(&self, number: u32, bytes: Bytes) -> Result<()>;

    /// The object stands under its key, whole and durable, or this is an error. `size` is of all parts,
    /// which are numbered without gaps.
    async fn complete(self: Box<Self>, size: u64) -> Result<()>;

    /// Leaves nothing behind.
    async fn abort(self: Box<Self>) -> Result<()>;
}

/// All objects whose keys begin with `prefix`.
pub async fn list_all(storage: &dyn Storage, prefix: &str) -> Result<Vec<Object>> {
    let mut objects: Vec<Object> = Vec::new();
    loop {
        let page = storage
            .list(prefix, objects.last().map(|last| &last.key))
            .await?;
        if !page.is_last && page.objects.is_empty() {
            return Err(Error::new(format!(
                "the listing of {storage} says that more is to come, and has nothing"
            )));
        }
        objects.extend(page.objects);
        if page.is_last {
            return Ok(objects);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Key, MAX_SEGMENT};

    #[test]
    fn keys_are_plain() {
        let long = "x".repeat(MAX_SEGMENT);
        for text in [
            "a",
            "a/b.c",
            "manifests/shop-2026-01-06T02:00:00Z"
                .replace(':', "")
                .as_str(),
            &long,
        ] {
            assert_eq!(Key::new(text).unwrap().as_str(), text);
        }
        let longer = "x".repeat(MAX_SEGMENT + 1);
        let deep = "x/".repeat(300) + "x";
        for text in [
            "", "/", "a/", "/a", "a//b", ".", "a/..", "a/.b", "a b", "ä", "a\n", &longer, &deep,
        ] {
            assert!(Key::new(text).is_err(), "{text:?}");
        }
    }
}
