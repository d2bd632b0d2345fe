//! Names of archives, runs and marks: what stands in keys.

use std::fmt;
use std::fmt::Write as _;

use jiff::Timestamp;

use crate::error::{Error, Result};
use crate::storage::Key;

pub(super) const ARCHIVES: &str = "archives/";
pub(super) const MANIFESTS: &str = "manifests/";
pub(super) const MARKS: &str = "marks/";
pub(super) const WRITERS: &str = "writers/";
pub(super) const RUNS: &str = "runs/";
/// What `rdump init` tries a store with.
pub(super) const PROBES: &str = "probe/";

/// Characters of a label as it stands in keys.
const MAX_LABEL: usize = 96;
const ID_DIGITS: usize = 8;
const TIME_LENGTH: usize = "20260106T020000Z".len();
const LEAST_ORDER_DIGITS: usize = 6;
/// Keeps orders well within a u64.
const MAX_ORDER_DIGITS: usize = 15;

/// Bytes as ASCII that keys may have: others as `=` and two hexadecimal digits.
pub(super) fn encode(bytes: &[u8], is_plain: impl Fn(usize, u8) -> bool) -> String {
    let mut text = String::with_capacity(bytes.len());
    for (at, &byte) in bytes.iter().enumerate() {
        if is_plain(at, byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "={byte:02X}");
        }
    }
    text
}

/// What `encode` made; None of anything else.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first == b'=' {
            let digits = after.get(..2)?;
            let is_upper = |d: &u8| d.is_ascii_digit() || (b'A'..=b'F').contains(d);
            let digits = std::str::from_utf8(digits)
                .ok()
                .filter(|d| d.bytes().all(|b| is_upper(&b)))?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    Some(bytes)
}

/// What archives are backups of, as keys have it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Label(String);

impl Label {
    /// Of a database's name, or of what a user gave.
    pub fn new(name: &[u8]) -> Result<Label> {
        let label = encode(name, |at, byte| {
            byte.is_ascii_alphanumeric() || b"_-".contains(&byte) || (byte == b'.' && at > 0)
        });
        match label.len() {
            0 => Err(Error::usage("a label must not be empty")),
            1..=MAX_LABEL => Ok(Label(label)),
            _ => Err(Error::usage(format!(
                "as a label \"{}\" is too long: {} characters in names of files",
                String::from_utf8_lossy(name),
                label.len()
            ))
            .hint(format!("give one of up to {MAX_LABEL} with --label"))),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// For people.
impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match decode(&self.0) {
            Some(bytes) => f.write_str(&String::from_utf8_lossy(&bytes)),
            None => f.write_str(&self.0),
        }
    }
}

/// `shop-000042-20260106T020000Z-1f0c9a3e`
#[derive(
    Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct ArchiveName(String);

impl TryFrom<String> for ArchiveName {
    type Error = Error;

    fn try_from(text: String) -> Result<ArchiveName> {
        ArchiveName::parse(&text)
    }
}

impl From<ArchiveName> for String {
    fn from(name: ArchiveName) -> String {
        name.0
    }
}

impl ArchiveName {
    pub fn new(label: &Label, order: u64, began: Timestamp) -> ArchiveName {
        let time = compact(began);
        let id: u32 = rand::random();
        let label = label.as_str();
        ArchiveName(format!("{label}-{order:06}-{time}-{id:08x}"))
    }

    pub fn parse(text: &str) -> Result<ArchiveName> {
        match split(text) {
            Some(_) => Ok(ArchiveName(text.to_owned())),
            None => Err(Error::new(format!("not a name of an archive: {text:?}"))),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn label(&self) -> Label {
        let label = split(&self.0).map_or(self.0.as_str(), |parts| parts.label);
        Label(label.to_owned())
    }

    pub fn order(&self) -> u64 {
        split(&self.0).map_or(0, |parts| parts.order)
    }

    /// The digits at its end, by which people call it.
    pub fn id(&self) -> &str {
        split(&self.0).map_or("", |parts| parts.id)
    }

    pub fn volume(&self, number: u32) -> Result<Key> {
        Key::new(match number {
            0 => format!("{ARCHIVES}{self}.rdump"),
            _ => format!("{ARCHIVES}{self}.rdump.{number:04}"),
        })
    }

    /// Of the key of a volume, the name and the number.
    pub fn of_volume(key: &Key) -> Option<(ArchiveName, u32)> {
        let file = key.as_str().strip_prefix(ARCHIVES)?;
        let (name, end) = file
            .split_once(".rdump")
            .filter(|(name, _)| split(name).is_some())?;
        let number = match end.strip_prefix('.') {
            None if end.is_empty() => 0,
            Some(digits) if digits.len() >= 4 && digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().ok().filter(|number| *number > 0)?
            }
            _ => return None,
        };
        Some((ArchiveName(name.to_owned()), number))
    }

    pub fn manifest(&self) -> Result<Key> {
        Key::new(format!("{MANIFESTS}{self}.json"))
    }

    pub fn of_manifest(key: &Key) -> Option<ArchiveName> {
        let name = key
            .as_str()
            .strip_prefix(MANIFESTS)?
            .strip_suffix(".json")?;
        ArchiveName::parse(name).ok()
    }

    pub fn marks(&self) -> String {
        format!("{MARKS}{self}/")
    }
}

impl fmt::Display for ArchiveName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

struct Parts<'a> {
    label: &'a str,
    order: u64,
    id: &'a str,
}

fn split(name: &str) -> Option<Parts<'_>> {
    let is_label = |label: &str| {
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"_-.=".contains(&b);
        (1..=MAX_LABEL).contains(&label.len())
            && !label.starts_with('.')
            && label.bytes().all(is_plain)
            && decode(label).is_some()
    };
    let (rest, id) = name.rsplit_once('-')?;
    let (rest, time) = rest.rsplit_once('-')?;
    let (label, order) = rest.rsplit_once('-')?;
    let is_hexadecimal = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    let is_right = id.len() == ID_DIGITS
        && id.bytes().all(is_hexadecimal)
        && time.len() == TIME_LENGTH
        && time
            .bytes()
            .all(|b| b.is_ascii_digit() || b == b'T' || b == b'Z')
        && (LEAST_ORDER_DIGITS..=MAX_ORDER_DIGITS).contains(&order.len())
        && order.bytes().all(|b| b.is_ascii_digit())
        && is_label(label);
    let order = order.parse().ok().filter(|_| is_right)?;
    Some(Parts { label, order, id })
}

/// `20260106T020000Z`
pub(super) fn compact(time: Timestamp) -> String {
    time.strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// A run that writes: drawn at random.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct RunId(String);

impl RunId {
    pub fn random() -> RunId {
        let id: u64 = rand::random();
        RunId(format!("{id:016x}"))
    }

    pub fn heartbeat(&self) -> Result<Key> {
        Key::new(format!("{WRITERS}{self}.json"))
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{ArchiveName, Label, decode};

    #[test]
    fn labels_are_written_so_that_they_can_be_read_back() {
        for (name, label) in [
            (&b"shop"[..], "shop"),
            (b"my-shop.v2_x", "my-shop.v2_x"),
            (b".hidden", "=2Ehidden"),
            (b"a/b c", "a=2Fb=20c"),
            (b"a=b", "a=3Db"),
            ("bücher".as_bytes(), "b=C3=BCcher"),
            (b"\xff", "=FF"),
        ] {
            let written = Label::new(name).unwrap();
            assert_eq!(written.as_str(), label);
            assert_eq!(decode(label).unwrap(), name);
            assert_eq!(written.to_string(), String::from_utf8_lossy(name));
        }
        assert!(Label::new(b"").is_err());
        assert!(Label::new(&[b'x'; 97]).is_err());
        assert!(decode("a=").is_none() && decode("a=2f").is_none() && decode("=+1").is_none());
    }

    #[test]
    fn names_are_taken_apart_again() {
        let label = Label::new(b"a-b/000001").unwrap();
        let began = "2026-01-06T02:00:00Z".parse().unwrap();
        let name = ArchiveName::new(&label, 42, began);
        assert!(
            name.as_str()
                .starts_with("a-b=2F000001-000042-20260106T020000Z-")
        );
        assert_eq!(
            (name.label(), name.order(), name.id().len()),
            (label, 42, 8)
        );
        assert_eq!(ArchiveName::parse(name.as_str()).unwrap(), name);
        for number in [0, 1, 9999, 10_000] {
            let key = name.volume(number).unwrap();
            assert_eq!(ArchiveName::of_volume(&key), Some((name.clone(), number)));
        }
        assert_eq!(
            ArchiveName::of_manifest(&name.manifest().unwrap()),
            Some(name)
        );
    }

    #[test]
    fn nothing_else_is_a_name() {
        for text in [
            "",
            "shop",
            "shop-000042-20260106T020000Z",
            "-000042-20260106T020000Z-1f0c9a3e",
            "shop-00042-20260106T020000Z-1f0c9a3e",
            "shop-000042-20260106T020000Z-1F0C9A3E",
            "shop-000042-2026-1f0c9a3e",
            "../x-000042-20260106T020000Z-1f0c9a3e",
            "=2-000042-20260106T020000Z-1f0c9a3e",
            "shop-0000000000000042-20260106T020000Z-1f0c9a3e",
        ] {
            assert!(ArchiveName::parse(text).is_err(), "{text:?}");
        }
    }
}
