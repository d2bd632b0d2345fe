//! The marker: what says that a place is a repository, so that no run writes into a mount point whose
//! volume is not there.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::archive::Encryption;
use crate::error::{Error, Outcome, Result};
use crate::storage::{Key, Storage};

pub(super) const MARKER: &str = "rdump-repository.json";
const VERSION: u32 = 0;
const MAX_MARKER: u64 = 1 << 20;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    version: u32,
    pub id: String,
    pub created: Timestamp,
    pub rdump_version: String,
    /// Whether the store creates an object only if its key is free.
    pub conditional: bool,
    pub encryption: EncryptionPolicy,
}

/// How archives of a repository are encrypted: chosen when it is made.
///
/// Whoever can write to the place can change this, so no run takes its keys from it: it is held
/// against those that the run was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum EncryptionPolicy {
    #[default]
    None,
    Keys {
        /// age public keys, sorted.
        recipients: Vec<String>,
        /// A passphrase opens archives too.
        passphrase: bool,
    },
}

impl EncryptionPolicy {
    pub fn of(encryption: Option<&Encryption>) -> EncryptionPolicy {
        let Some(encryption) = encryption else {
            return EncryptionPolicy::None;
        };
        let mut recipients: Vec<String> = encryption.recipients().collect();
        recipients.sort();
        EncryptionPolicy::Keys {
            recipients,
            passphrase: encryption.has_passphrase(),
        }
    }

    /// Whether a run that was given this encryption may write here.
    fn check(&self, given: Option<&Encryption>) -> Result<()> {
        let given = EncryptionPolicy::of(given);
        let hint = match (self, &given) {
            _ if *self == given => return Ok(()),
            (_, EncryptionPolicy::None) => {
                return Err(Error::new("its archives are encrypted, and no key was given to encrypt for")
                    .hint("give --recipient or --passphrase-file, or RDUMP_RECIPIENTS or RDUMP_PASSPHRASE_FILE, as for rdump init: a run does not take keys from the repository, which others may have changed"));
            }
            (EncryptionPolicy::None, _) => {
                "it was made with --no-encryption: leave the keys out, or use a repository that was made with them"
            }
            _ => "give all keys that it was made with, and no others; rdump list --json shows them",
        };
        Err(Error::new("it was made for other keys than those that were given").hint(hint))
    }
}

impl Marker {
    pub fn new(conditional: bool, encryption: EncryptionPolicy) -> Marker {
        let id: u128 = rand::random();
        Marker {
            version: VERSION,
            id: format!("{id:032x}"),
            created: Timestamp::now(),
            rdump_version: env!("CARGO_PKG_VERSION").to_owned(),
            conditional,
            encryption,
        }
    }

    /// Refuses a run whose archive would be encrypted otherwise than it was chosen for this place.
    pub fn check_encryption(&self, given: Option<&Encryption>) -> Result<()> {
        self.encryption.check(given)
    }

    pub fn key() -> Result<Key> {
        Key::new(MARKER)
    }

    pub fn serialise(&self) -> Result<Vec<u8>> {
        serde_json::to_vec_pretty(self)
            .map_err(|error| Error::new(format!("could not write the marker: {error}")))
    }

    pub async fn read(storage: &dyn Storage) -> Result<Marker> {
        let bytes = storage.get(&Marker::key()?, MAX_MARKER).await?;
        let bytes = bytes.ok_or_else(|| {
            Error::new(format!("there is no repository in {storage}"))
                .hint("is the volume mounted, and the address right? rdump init makes a repository")
                .outcome(Outcome::NoRepository)
        })?;
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let damaged = |error: serde_json::Error| {
            Error::new(format!("{MARKER} in {storage} is damaged: {error}"))
                .hint("the archives beside it are not: rdump restore takes a file that is put together of an archive's volumes")
        };
        let versioned: Versioned = serde_json::from_slice(&bytes).map_err(damaged)?;
        if versioned.version != VERSION {
            return Err(Error::new(format!(
                "the repository in {storage} has version {}: this rdump is too old for it",
                versioned.version
            )));
        }
        serde_json::from_slice(&bytes).map_err(damaged)
    }
}
