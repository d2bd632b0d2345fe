//! Manifests: what says that an archive exists, and what it is.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::name::{ArchiveName, RunId};
use crate::error::{Error, Result};
use crate::storage::{Key, Volume};

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
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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
    #[serde(skip)]
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
    pub tags: BTreeMap<String, String>,
}

/// What stands under a manifest's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    Committed(Box<Manifest>),
    /// A sweep took the name, at this time by its clock: there is no such archive, nor will there be.
    Swept(Timestamp),
}

#[derive(Serialize, Deserialize)]
struct StoredVolume {
    key: String,
    size: u64,
}

/// As it is written. A manifest that lacks a field of these is refused, one that has more is not.
#[derive(Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
enum Stored {
    Committed {
        version: u32,
        name: String,
        archive_id: String,
        run: RunId,
        content: Content,
        scope: String,
        started: Timestamp,
        finished: Timestamp,
        snapshot: Timestamp,
        server_version: String,
        rdump_version: String,
        volumes: Vec<StoredVolume>,
        size: u64,
        raw_size: u64,
        rows: u64,
        tables: u64,
        entries: u64,
        root_hash: String,
        encrypted: bool,
        #[serde(default)]
        tags: BTreeMap<String, String>,
    },
    Swept {
        version: u32,
        name: String,
        time: Timestamp,
    },
}

#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

impl Record {
    pub fn serialise(&self, name: &ArchiveName) -> Result<Vec<u8>> {
        let stored = match self {
            Record::Swept(time) => Stored::Swept {
                version: VERSION,
                name: name.to_string(),
                time: *time,
            },
            Record::Committed(manifest) => {
                let manifest = (**manifest).clone();
                let volume = |volume: &Volume| StoredVolume {
                    key: volume.key.to_string(),
                    size: volume.size,
                };
                Stored::Committed {
                    version: VERSION,
                    name: manifest.name.to_string(),
                    archive_id: manifest.archive_id,
                    run: manifest.run,
                    content: manifest.content,
                    scope: manifest.scope,
                    started: manifest.started,
                    finished: manifest.finished,
                    snapshot: manifest.snapshot,
                    server_version: manifest.server_version,
                    rdump_version: manifest.rdump_version,
                    volumes: manifest.volumes.iter().map(volume).collect(),
                    size: manifest.size,
                    raw_size: manifest.raw_size,
                    rows: manifest.rows,
                    tables: manifest.tables,
                    entries: manifest.entries,
                    root_hash: manifest.root_hash,
                    encrypted: manifest.encrypted,
                    tags: manifest.tags,
                }
            }
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
        let own_name = match &stored {
            Stored::Committed { name, .. } | Stored::Swept { name, .. } => name,
        };
        if own_name != name.as_str() {
            return Err(refused("it is that of another archive"));
        }
        match stored {
            Stored::Swept { time, .. } => Ok(Record::Swept(time)),
            Stored::Committed {
                archive_id,
                run,
                content,
                scope,
                started,
                finished,
                snapshot,
                server_version,
                rdump_version,
                volumes,
                size,
                raw_size,
                rows,
                tables,
                entries,
                root_hash,
                encrypted,
                tags,
                ..
            } => {
                let volumes =
                    check_volumes(volumes, size, name).map_err(|why| refused(&why.to_string()))?;
                Ok(Record::Committed(Box::new(Manifest {
                    name: name.clone(),
                    archive_id,
                    run,
                    content,
                    scope,
                    started,
                    finished,
                    snapshot,
                    server_version,
                    rdump_version,
                    volumes,
                    size,
                    raw_size,
                    rows,
                    tables,
                    entries,
                    root_hash,
                    encrypted,
                    tags,
                })))
            }
        }
    }
}

fn check_volumes(stored: Vec<StoredVolume>, size: u64, name: &ArchiveName) -> Result<Vec<Volume>> {
    let mut volumes = Vec::with_capacity(stored.len());
    let mut sum: u64 = 0;
    for (number, volume) in (0..).zip(stored) {
        let key: Key = name.volume(number)?;
        if key.as_str() != volume.key {
            return Err(Error::new("it names volumes that are not its own"));
        }
        sum = sum
            .checked_add(volume.size)
            .ok_or_else(|| Error::new("its sizes are absurd"))?;
        volumes.push(Volume {
            key,
            size: volume.size,
        });
    }
    if volumes.is_empty() || sum != size {
        return Err(Error::new("its volumes do not sum up to its size"));
    }
    Ok(volumes)
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
