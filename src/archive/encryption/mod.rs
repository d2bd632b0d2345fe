//! Encryption at rest (`format-spec/archive.md`, "Encryption"): who may open an archive, and what
//! opens it.
//!
//! Each archive has a random key, wrapped in age files that stand in its header; subkeys of it seal
//! the header's fields that tell something, the blocks one by one, and the index root.

mod envelope;
mod subkeys;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

pub use age::secrecy::{ExposeSecret, SecretString};
pub use age::x25519::{Identity, Recipient};

#[cfg(test)]
pub(super) use subkeys::CONTEXTS;
pub(super) use subkeys::{BlockSealer, SetKey, Subkeys};

use super::block::{BlockHeader, BlockKind};
use super::codec;
use super::index::{IndexRoot, PageKind, ParsedPage};
use super::limits::*;
use super::refusal::{damaged, within, wrong_key};
use crate::error::{Error, Result};

/// The key of one archive.
pub(super) type ArchiveKey = Arc<age::secrecy::SecretBox<[u8; ARCHIVE_KEY_LENGTH]>>;

/// Who can open an archive: whoever has the identity of one of the recipients, or the passphrase.
#[derive(Debug, Clone)]
pub struct Encryption {
    recipients: Vec<Recipient>,
    passphrase: Option<SecretString>,
    work_factor: u8,
}

impl Encryption {
    /// None where nobody is named: the archive is not encrypted.
    pub fn new(recipients: Vec<Recipient>, passphrase: Option<SecretString>) -> Option<Encryption> {
        if recipients.is_empty() && passphrase.is_none() {
            return None;
        }
        Some(Encryption {
            recipients,
            passphrase,
            work_factor: SCRYPT_WORK_FACTOR,
        })
    }

    /// Public keys, as age writes them.
    pub fn recipients(&self) -> impl Iterator<Item = String> {
        self.recipients.iter().map(ToString::to_string)
    }

    pub fn has_passphrase(&self) -> bool {
        self.passphrase.is_some()
    }

    /// Another cost of trying one passphrase: 2 to this power; held to what readers accept.
    pub fn with_work_factor(mut self, log_n: u8) -> Encryption {
        self.work_factor = log_n.clamp(1, MAX_SCRYPT_WORK_FACTOR);
        self
    }

    /// A new key, and the envelopes that it is in.
    pub(super) fn wrap_new_key(&self) -> Result<(ArchiveKey, Envelopes)> {
        let mut key = Box::new([0; ARCHIVE_KEY_LENGTH]);
        aws_lc_rs::rand::fill(key.as_mut_slice())
            .map_err(|_| Error::new("the system gave no random bytes for a key"))?;
        let key = Arc::new(age::secrecy::SecretBox::new(key));
        let envelopes = Envelopes {
            recipients: match self.recipients.is_empty() {
                true => None,
                false => Some(envelope::for_recipients(&self.recipients, &key)?),
            },
            passphrase: match &self.passphrase {
                Some(passphrase) => Some(envelope::for_passphrase(
                    passphrase.clone(),
                    self.work_factor,
                    &key,
                )?),
                None => None,
            },
        };
        Ok((key, envelopes))
    }
}

/// The age files in a header that hold the archive's key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Envelopes {
    pub recipients: Option<Vec<u8>>,
    pub passphrase: Option<Vec<u8>>,
}

impl Envelopes {
    fn digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        for envelope in [&self.recipients, &self.passphrase] {
            let bytes = envelope.as_deref().unwrap_or_default();
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        }
        *hasher.finalize().as_bytes()
    }

    /// What a user can do who has not given the key.
    fn hint(&self) -> &'static str {
        match (&self.recipients, &self.passphrase) {
            (Some(_), Some(_)) => {
                "give the file of an age identity with --identity, or that of the passphrase with --passphrase-file"
            }
            (None, Some(_)) => {
                "it opens with a passphrase: give the file that holds it with --passphrase-file, or set RDUMP_PASSPHRASE"
            }
            _ => {
                "it opens with an age identity of one of its recipients: give its file with --identity"
            }
        }
    }
}

/// What a reader can try: the keys that the user has given. An archive that is not encrypted is
/// read with any.
#[derive(Default)]
pub struct Keys {
    identities: Vec<Identity>,
    passphrases: Vec<SecretString>,
    /// Keys found, by the digest of their envelopes: a passphrase is costly to try.
    found: Mutex<HashMap<[u8; 32], ArchiveKey>>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({})", self.count())
    }
}

impl Keys {
    pub fn none() -> Keys {
        Keys::default()
    }

    pub fn with_identity(mut self, identity: Identity) -> Keys {
        self.identities.push(identity);
        self
    }

    pub fn with_passphrase(mut self, passphrase: SecretString) -> Keys {
        self.passphrases.push(passphrase);
        self
    }

    pub fn count(&self) -> usize {
        self.identities.len() + self.passphrases.len()
    }

    fn found(&self) -> std::sync::MutexGuard<'_, HashMap<[u8; 32], ArchiveKey>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The archive's key; None where no key was given at all.
    pub(super) fn open(&self, envelopes: &Envelopes) -> Result<Option<ArchiveKey>> {
        if self.count() == 0 {
            return Ok(None);
        }
        let digest = envelopes.digest();
        if let Some(key) = self.found().get(&digest) {
            return Ok(Some(Arc::clone(key)));
        }
        let Some(key) = self.try_all(envelopes)? else {
            let given = match self.count() {
                1 => "the key given does not open the archive".to_owned(),
                count => format!("none of the {count} keys given opens the archive"),
            };
            return Err(wrong_key(given).hint(envelopes.hint()));
        };
        self.found().insert(digest, Arc::clone(&key));
        Ok(Some(key))
    }

    fn try_all(&self, envelopes: &Envelopes) -> Result<Option<ArchiveKey>> {
        if let Some(bytes) = &envelopes.recipients
            && let Some(key) = envelope::open_with_identities(bytes, &self.identities)?
        {
            return Ok(Some(key));
        }
        for passphrase in &self.passphrases {
            if let Some(bytes) = &envelopes.passphrase
                && let Some(key) = envelope::open_with_passphrase(bytes, passphrase.clone())?
            {
                return Ok(Some(key));
            }
        }
        Ok(None)
    }
}

/// What a reader can read of an archive.
#[derive(Debug, Clone)]
pub(crate) enum Access {
    /// It is not encrypted.
    Plain,
    /// It is encrypted and the key was not given: what is stored can be checked, and not read.
    Locked(Envelopes),
    Open(Arc<Subkeys>),
}

impl Access {
    pub fn is_locked(&self) -> bool {
        matches!(self, Access::Locked(_))
    }

    /// Why contents cannot be read.
    pub fn require(&self) -> Result<()> {
        match self {
            Access::Locked(envelopes) => {
                Err(wrong_key("the archive is encrypted, and no key was given")
                    .hint(envelopes.hint()))
            }
            Access::Plain | Access::Open(_) => Ok(()),
        }
    }

    /// From stored bytes, whose checksum holds, to the payload. Nothing of a sealed block is let out
    /// before its tag was found right over the whole of it.
    pub fn payload(&self, header: &BlockHeader, mut stored: Vec<u8>) -> Result<Vec<u8>> {
        let must_be_sealed = match header.kind {
            BlockKind::Entries | BlockKind::Data => !matches!(self, Access::Plain),
            // depends on what the page holds, which `page` looks at
            BlockKind::IndexPage => header.is_sealed(),
            BlockKind::IndexRoot => false,
        };
        if header.is_sealed() != must_be_sealed {
            return Err(misplaced(header));
        }
        if header.is_sealed() {
            self.require()?;
            let Access::Open(keys) = self else {
                return Err(misplaced(header));
            };
            keys.open_block(header, &mut stored)?;
        }
        codec::decompress(header.codec, stored, header.raw_length as usize)
    }

    /// An index page; pages of blocks are in clear, so that all can be verified without the key.
    pub fn page(&self, header: &BlockHeader, stored: Vec<u8>) -> Result<ParsedPage> {
        let in_page = |error| within(error, "index page");
        let page = ParsedPage::parse(&self.payload(header, stored).map_err(in_page)?)?;
        if header.is_sealed() != self.seals_page(page.kind()) {
            return Err(in_page(misplaced(header)));
        }
        Ok(page)
    }

    pub fn seals_page(&self, kind: PageKind) -> bool {
        !matches!(self, Access::Plain) && kind != PageKind::Blocks
    }

    /// That header and index root are those that whoever had the key wrote. `payload` is the root's.
    pub(super) fn check_root(&self, header: &[u8], payload: &[u8], root: &IndexRoot) -> Result<()> {
        match (self, &root.code) {
            (Access::Plain, None) | (Access::Locked(_), Some(_)) => Ok(()),
            (Access::Open(keys), Some(code)) => {
                let before = payload
                    .strip_suffix(code)
                    .ok_or_else(|| damaged("index root: its authentication code is not last"))?;
                keys.check_root(header, before, code)
            }
            (Access::Plain, Some(_)) | (_, None) => Err(damaged(
                "index root: it has an authentication code if, and only if, the archive is encrypted",
            )),
        }
    }

    pub(super) fn set_key(&self) -> Option<SetKey> {
        match self {
            Access::Open(keys) => Some(keys.set_key()),
            _ => None,
        }
    }
}

fn misplaced(header: &BlockHeader) -> Error {
    damaged(match header.is_sealed() {
        true => "it is sealed where it must be in clear",
        false => "it is in clear where it must be sealed",
    })
}

#[cfg(test)]
mod tests;
