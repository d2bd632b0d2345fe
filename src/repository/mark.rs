//! Marks: what was said of an archive after it was made. They stand in the keys of objects, so that a
//! listing tells them all; the newest of a kind holds.

use std::collections::BTreeMap;

use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;

use super::name::{ArchiveName, MARKS, decode, encode};
use crate::error::{Error, Result};
use crate::storage::{Created, Key, Storage};

/// Longest key or value of a tag, in bytes.
const MAX_TAG: usize = 60;
/// Marks of an archive: a bound on how often the next number is tried.
const MAX_NUMBER: u32 = 999_999;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mark {
    /// Every checksum held, or not.
    Verified {
        good: bool,
    },
    /// A restore was proved equal, or not.
    Tested {
        good: bool,
    },
    Pin,
    Unpin,
    Tag(String, String),
    Untag(String),
}

/// When a check was made, and what came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Checked {
    pub good: bool,
    /// By the checker's clock.
    pub time: Timestamp,
}

/// What holds of one archive.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Marks {
    pub verified: Option<Checked>,
    pub tested: Option<Checked>,
    pub pinned: bool,
    /// Changes to the tags of the manifest; None: taken away.
    #[serde(skip)]
    pub tags: BTreeMap<String, Option<String>>,
    /// Number of the newest.
    #[serde(skip)]
    pub newest: u32,
}

impl Marks {
    /// Marks are applied in the order of their numbers, which is that of a listing.
    pub fn apply(&mut self, number: u32, mark: Mark, time: Timestamp) {
        self.newest = self.newest.max(number);
        match mark {
            Mark::Verified { good } => self.verified = Some(Checked { good, time }),
            Mark::Tested { good } => self.tested = Some(Checked { good, time }),
            Mark::Pin => self.pinned = true,
            Mark::Unpin => self.pinned = false,
            Mark::Tag(key, value) => {
                self.tags.insert(key, Some(value));
            }
            Mark::Untag(key) => {
                self.tags.insert(key, None);
            }
        }
    }

    pub fn tags_over(&self, made_with: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut tags = made_with.clone();
        for (key, value) in &self.tags {
            match value {
                Some(value) => tags.insert(key.clone(), value.clone()),
                None => tags.remove(key),
            };
        }
        tags
    }
}

/// `key=value`, as flags have it.
pub fn parse_tag(text: &str) -> Result<(String, String)> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    let is_short = |part: &str| encode_tag(part).len() <= MAX_TAG;
    match !key.is_empty() && is_short(key) && is_short(value) {
        true => Ok((key.to_owned(), value.to_owned())),
        false => Err(Error::usage(format!("not a tag: \"{text}\"")).hint(format!(
            "for example release=1.2; key and value take up to {MAX_TAG} letters and digits each, other characters count for more"
        ))),
    }
}

fn encode_tag(text: &str) -> String {
    encode(text.as_bytes(), |_, byte| {
        byte.is_ascii_alphanumeric() || b"_-".contains(&byte)
    })
}

fn decode_tag(text: &str) -> Option<String> {
    String::from_utf8(decode(text)?).ok()
}

impl Mark {
    /// What stands behind number and time.
    fn words(&self) -> String {
        match self {
            Mark::Verified { good: true } => "verified-ok".to_owned(),
            Mark::Verified { good: false } => "verified-bad".to_owned(),
            Mark::Tested { good: true } => "tested-ok".to_owned(),
            Mark::Tested { good: false } => "tested-bad".to_owned(),
            Mark::Pin => "pin".to_owned(),
            Mark::Unpin => "unpin".to_owned(),
            Mark::Tag(key, value) => format!("tag.{}.{}", encode_tag(key), encode_tag(value)),
            Mark::Untag(key) => format!("untag.{}", encode_tag(key)),
        }
    }

    fn of_words(words: &str) -> Option<Mark> {
        let mut parts = words.split('.');
        let mark = match (parts.next()?, parts.next(), parts.next()) {
            ("verified-ok", None, None) => Mark::Verified { good: true },
            ("verified-bad", None, None) => Mark::Verified { good: false },
            ("tested-ok", None, None) => Mark::Tested { good: true },
            ("tested-bad", None, None) => Mark::Tested { good: false },
            ("pin", None, None) => Mark::Pin,
            ("unpin", None, None) => Mark::Unpin,
            ("tag", Some(key), Some(value)) => Mark::Tag(decode_tag(key)?, decode_tag(value)?),
            ("untag", Some(key), None) => Mark::Untag(decode_tag(key)?),
            _ => return None,
        };
        parts.next().is_none().then_some(mark)
    }

    fn key(&self, name: &ArchiveName, number: u32, time: Timestamp) -> Result<Key> {
        let seconds = time.as_second();
        Key::new(format!(
            "{}{number:06}.{seconds}.{}",
            name.marks(),
            self.words()
        ))
    }

    /// Of a key, the archive, number, mark and time. None: a later rdump's, or no mark.
    pub fn of_key(key: &Key) -> Option<(ArchiveName, u32, Mark, Timestamp)> {
        let (name, file) = key.as_str().strip_prefix(MARKS)?.split_once('/')?;
        let name = ArchiveName::parse(name).ok()?;
        let (number, rest) = file.split_once('.')?;
        let (seconds, words) = rest.split_once('.')?;
        let number = number.parse().ok().filter(|_| number.len() == 6)?;
        let time = Timestamp::from_second(seconds.parse().ok()?).ok()?;
        Some((name, number, Mark::of_words(words)?, time))
    }

    /// Puts the mark on an archive, behind those that it has.
    pub async fn put(
        &self,
        storage: &dyn Storage,
        name: &ArchiveName,
        after: u32,
        details: &impl Serialize,
    ) -> Result<u32> {
        let bytes = serde_json::to_vec_pretty(details)
            .map_err(|error| Error::new(format!("could not write a mark: {error}")))?;
        let bytes = Bytes::from(bytes);
        let now = Timestamp::now();
        let mut number = after;
        while number < MAX_NUMBER {
            number += 1;
            // others may have the number under another mark's key, which orders the two by key
            let key = self.key(name, number, now)?;
            if storage.create(&key, bytes.clone()).await? == Created::New {
                return Ok(number);
            }
        }
        Err(Error::new(format!("archive {name} has too many marks")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::name::Label;

    #[test]
    fn keys_say_what_was_marked() {
        let time: Timestamp = "2026-01-06T02:00:00Z".parse().unwrap();
        let name = ArchiveName::new(&Label::new(b"shop").unwrap(), 1, time);
        for mark in [
            Mark::Verified { good: true },
            Mark::Verified { good: false },
            Mark::Tested { good: true },
            Mark::Tested { good: false },
            Mark::Pin,
            Mark::Unpin,
            Mark::Tag("rele.ase".to_owned(), "1.2 = ü".to_owned()),
            Mark::Tag("empty".to_owned(), String::new()),
            Mark::Untag("a/b".to_owned()),
        ] {
            let key = mark.key(&name, 7, time).unwrap();
            assert_eq!(Mark::of_key(&key), Some((name.clone(), 7, mark, time)));
        }
    }

    #[test]
    fn the_newest_holds() {
        let time = |seconds| Timestamp::from_second(seconds).unwrap();
        let mut marks = Marks::default();
        // times go backwards, numbers do not
        for (number, mark, at) in [
            (1, Mark::Pin, 500),
            (2, Mark::Verified { good: true }, 400),
            (3, Mark::Tag("a".to_owned(), "1".to_owned()), 300),
            (4, Mark::Unpin, 200),
            (5, Mark::Verified { good: false }, 100),
            (6, Mark::Untag("b".to_owned()), 50),
        ] {
            marks.apply(number, mark, time(at));
        }
        assert!(!marks.pinned);
        assert_eq!(
            marks.verified,
            Some(Checked {
                good: false,
                time: time(100)
            })
        );
        assert_eq!(marks.newest, 6);
        let made_with = BTreeMap::from([("b".to_owned(), "2".to_owned())]);
        let tags = marks.tags_over(&made_with);
        assert_eq!(tags, BTreeMap::from([("a".to_owned(), "1".to_owned())]));
    }

    #[test]
    fn tags_are_short() {
        assert_eq!(
            parse_tag("a=b=c").unwrap(),
            ("a".to_owned(), "b=c".to_owned())
        );
        assert_eq!(parse_tag("a").unwrap(), ("a".to_owned(), String::new()));
        for text in ["", "=b", &"x".repeat(61), &format!("a={}", "ü".repeat(20))] {
            assert!(parse_tag(text).is_err(), "{text}");
        }
    }
}
