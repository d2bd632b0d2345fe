//! Manifests: what says that an archive exists, and what it is.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::name::{ArchiveName, RunId};
use crate::error::{Error, Result};
use crate::storage::Volume;

pub(super) const VERSION: u32 = 0;
/// Bytes of a manifest: room for the volumes of hundreds of terabytes.
pub(super) const MAX_MANIFEST: u64 = 4 << 20;

/// Bytes of one that says no more than that its name was swept: that of an archive is larger.
pub(super) const MAX_SWEPT: u64 = 384;

/// What an archive is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Content {
    Database,
    /// Roles and tablespaces alone.
    Globals,
    Set,
}

/// What is known of an archive without reading it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub name: ArchiveName,
    pub archive_id: String,
    pub run: RunId,
    pub content: Content,
    /// What was left out, as flags; empty: nothing. Archives of one scope can be compared.
    pub scope: String,
    pub started: Timestamp,
    pub finished: Timestamp,
    /// By the server's clock.
    pub snapshot: Timestamp,
    pub server_version: String,
    pub rdump_version: String,
    #[serde(with = "volumes")]
    pub volumes: Vec<Volume>,
    /// Bytes stored.
    pub size: u64,
    /// Bytes of rows before compression.
    pub raw_size: u64,
    pub rows: u64,
    pub tables: u64,
    pub entries: u64,
    /// Of the archive, in hexadecimal.
    pub root_hash: String,
    pub encrypted: bool,
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

/// What stands under a manifest's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    Committed(Box<Manifest>),
    /// A sweep took the name, at this time by its clock: there is no such archive, nor will there be.
    Swept(Timestamp),
}

/// As it is written. A manifest that lacks a field is refused, one that has more is not.
#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    #[serde(flatten)]
    state: State,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
enum State {
    Committed(Box<Manifest>),
    Swept { name: ArchiveName, time: Timestamp },
}

#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

impl Record {
    pub fn serialise(&self, name: &ArchiveName) -> Result<Vec<u8>> {
        let state = match self {
            Record::Committed(manifest) => State::Committed(manifest.clone()),
            Record::Swept(time) => State::Swept {
                name: name.clone(),
                time: *time,
            },
        };
        let stored = Stored {
            version: VERSION,
            state,
        };
        serde_json::to_vec_pretty(&stored)
            .map_err(|error| Error::new(format!("could not write a manifest: {error}")))
    }

    /// Reads what stands under the manifest's key of `name`. Its volumes are those of this name, in
    /// order, and sum up to its size: a forged one leads to no other object.
    pub fn parse(bytes: &[u8], name: &ArchiveName) -> Result<Record> {
        let refused = |why: &str| {
            Error::new(format!("the manifest of {name} is damaged: {why}"))
                .hint("the archive may be whole: its volumes, one after the other, are the archive")
        };
        let versioned: Versioned =
            serde_json::from_slice(bytes).map_err(|error| refused(&error.to_string()))?;
        if versioned.version != VERSION {
            return Err(Error::new(format!(
                "the manifest of {name} has version {}: this rdump is too old for it",
                versioned.version
            )));
        }
        let stored: Stored =
            serde_json::from_slice(bytes).map_err(|error| refused(&error.to_string()))?;
        let own = match &stored.state {
            State::Committed(manifest) => &manifest.name,
            State::Swept { name, .. } => name,
        };
        if own != name {
            return Err(refused("it is that of another archive"));
        }
        match stored.state {
            State::Swept { time, .. } => Ok(Record::Swept(time)),
            State::Committed(manifest) => {
                check_volumes(&manifest).map_err(|why| refused(&why.to_string()))?;
                Ok(Record::Committed(manifest))
            }
        }
    }
}

fn check_volumes(manifest: &Manifest) -> Result<()> {
    let mut sum: u64 = 0;
    for (number, volume) in (0..).zip(&manifest.volumes) {
        if volume.key != manifest.name.volume(number)? {
            return Err(Error::new("it names volumes that are not its own"));
        }
        sum = sum
            .checked_add(volume.size)
            .ok_or_else(|| Error::new("its sizes are absurd"))?;
    }
    match manifest.volumes.is_empty() || sum != manifest.size {
        true => Err(Error::new("its volumes do not sum up to its size")),
        false => Ok(()),
    }
}

/// Volumes as manifests have them.
mod volumes {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    use crate::storage::{Key, Volume};

    #[derive(Serialize, Deserialize)]
    struct Stored {
        key: String,
        size: u64,
    }

    pub fn serialize<S: Serializer>(volumes: &[Volume], out: S) -> Result<S::Ok, S::Error> {
        let stored = volumes.iter().map(|volume| Stored {
            key: volume.key.to_string(),
            size: volume.size,
        });
        out.collect_seq(stored)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<Volume>, D::Error> {
        let stored = Vec::<Stored>::deserialize(input)?;
        let volume = |stored: Stored| {
            let key = Key::new(stored.key).map_err(de::Error::custom)?;
            let size = stored.size;
            Ok(Volume { key, size })
        };
        stored.into_iter().map(volume).collect()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::repository::name::Label;

    pub fn manifest(label: &str, order: u64, time: &str) -> Manifest {
        let time: Timestamp = time.parse().unwrap();
        let name = ArchiveName::new(&Label::new(label.as_bytes()).unwrap(), order, time);
        Manifest {
            archive_id: "00".repeat(16),
            run: RunId::random(),
            content: Content::Database,
            scope: String::new(),
            started: time,
            finished: time,
            snapshot: time,
            server_version: "18.6".to_owned(),
            rdump_version: "0.1.0".to_owned(),
            volumes: vec![Volume {
                key: name.volume(0).unwrap(),
                size: 1000,
            }],
            size: 1000,
            raw_size: 4000,
            rows: 10,
            tables: 2,
            entries: 5,
            root_hash: "11".repeat(32),
            encrypted: false,
            tags: BTreeMap::new(),
            name,
        }
    }

    #[test]
    fn manifests_are_read_as_they_were_written() {
        let mut wanted = manifest("shop", 1, "2026-01-06T02:00:00Z");
        wanted.tags.insert("release".to_owned(), "1.2".to_owned());
        wanted.volumes.push(Volume {
            key: wanted.name.volume(1).unwrap(),
            size: 5,
        });
        wanted.size += 5;
        let name = wanted.name.clone();
        for record in [
            Record::Committed(Box::new(wanted.clone())),
            Record::Swept(wanted.started),
        ] {
            let bytes = record.serialise(&name).unwrap();
            assert_eq!(Record::parse(&bytes, &name).unwrap(), record);
        }
    }

    /// So that a sweep need not read all of them.
    #[test]
    fn sizes_tell_archives_from_what_was_swept() {
        let mut least = manifest("x", 1, "2026-01-06T02:00:00Z");
        least.archive_id.clear();
        least.server_version.clear();
        least.root_hash.clear();
        let record = Record::Committed(Box::new(least.clone()));
        assert!(record.serialise(&least.name).unwrap().len() as u64 > MAX_SWEPT);
        let label = "x".repeat(96);
        let name = manifest(&label, 999_999_999_999_999, "2026-01-06T02:00:00Z").name;
        let record = Record::Swept(Timestamp::now());
        assert!(record.serialise(&name).unwrap().len() as u64 <= MAX_SWEPT);
    }

    #[test]
    fn forged_ones_lead_nowhere() {
        let good = manifest("shop", 1, "2026-01-06T02:00:00Z");
        let name = good.name.clone();
        let text = |record: &Record| String::from_utf8(record.serialise(&name).unwrap()).unwrap();
        let written = text(&Record::Committed(Box::new(good.clone())));
        let other = manifest("other", 1, "2026-01-06T02:00:00Z").name;
        for (forged, problem) in [
            (written.replace(".rdump\"", ".rdump.0001\""), "not its own"),
            (written.replace("archives/", "manifests/"), "not its own"),
            (
                written.replace("\"size\": 1000", "\"size\": 999"),
                "is damaged",
            ),
            (
                written.replace("\"version\": 0", "\"version\": 1"),
                "too old",
            ),
            (
                written.replace(name.as_str(), other.as_str()),
                "another archive",
            ),
            (written.replace("\"rows\"", "\"lines\""), "missing field"),
            (written.replace("committed", "commited"), "unknown variant"),
            (written[..written.len() / 2].to_owned(), "is damaged"),
            (String::new(), "is damaged"),
        ] {
            let parsed = Record::parse(forged.as_bytes(), &name);
            match parsed {
                // both sizes were replaced alike
                Ok(Record::Committed(manifest)) => assert_eq!(manifest.size, 999),
                Ok(Record::Swept(_)) => panic!("{forged}"),
                Err(error) => assert!(error.to_string().contains(problem), "{problem}: {error}"),
            }
        }
    }
}
