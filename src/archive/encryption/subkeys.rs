//! What the archive's key is used for: a subkey for each, so that no two uses can meet.

use std::fmt;
use std::sync::Arc;

use age::secrecy::ExposeSecret;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{constant_time, hkdf, hmac};

use super::super::block::{BlockHeader, BlockKind};
use super::super::header::ArchiveId;
use super::super::limits::*;
use super::super::refusal::damaged;
use super::ArchiveKey;
use crate::error::{Error, Result};

const HEADER_CONTEXT: &str = "rdump archive format version 0: header";
const DATA_CONTEXT: &str = "rdump archive format version 0: data";
const INDEX_CONTEXT: &str = "rdump archive format version 0: index";
const AUTHENTICATION_CONTEXT: &str = "rdump archive format version 0: authentication";
const SET_CONTEXT: &str = "rdump archive format version 0: set";

/// What the specification must say.
#[cfg(test)]
pub const CONTEXTS: [&str; 5] = [
    HEADER_CONTEXT,
    DATA_CONTEXT,
    INDEX_CONTEXT,
    AUTHENTICATION_CONTEXT,
    SET_CONTEXT,
];

/// The block header as associated data.
const ASSOCIATED_LENGTH: usize = 40;

pub struct Subkeys {
    id: ArchiveId,
    header: LessSafeKey,
    data: LessSafeKey,
    index: LessSafeKey,
    authentication: hmac::Key,
    set: Arc<hmac::Key>,
}

impl fmt::Debug for Subkeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subkeys({})", self.id)
    }
}

fn failed<E>(_: E) -> Error {
    Error::new("the cryptographic library refused to work")
}

impl Subkeys {
    /// The archive id is the salt: even an archive with the same key would have other subkeys.
    pub fn derive(id: ArchiveId, key: &ArchiveKey) -> Result<Subkeys> {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, &id.0);
        let key = salt.extract(key.expose_secret());
        let sealing = |context: &str| {
            let context = [context.as_bytes()];
            let subkey = key.expand(&context, &AES_256_GCM).map_err(failed)?;
            Ok::<_, Error>(LessSafeKey::new(UnboundKey::from(subkey)))
        };
        let authenticating = |context: &str| {
            let context = [context.as_bytes()];
            let subkey = key.expand(&context, hmac::HMAC_SHA256).map_err(failed)?;
            Ok::<_, Error>(hmac::Key::from(subkey))
        };
        Ok(Subkeys {
            id,
            header: sealing(HEADER_CONTEXT)?,
            data: sealing(DATA_CONTEXT)?,
            index: sealing(INDEX_CONTEXT)?,
            authentication: authenticating(AUTHENTICATION_CONTEXT)?,
            set: Arc::new(authenticating(SET_CONTEXT)?),
        })
    }

    /// Seals the header's fields. The subkey seals nothing else, and this once: `before` is all that
    /// stands before them.
    pub fn seal_header(&self, before: &[u8], mut fields: Vec<u8>) -> Result<Vec<u8>> {
        self.header
            .seal_in_place_append_tag(nonce(0), Aad::from(before), &mut fields)
            .map_err(failed)?;
        Ok(fields)
    }

    pub fn open_header(&self, before: &[u8], sealed: &[u8]) -> Result<Vec<u8>> {
        let mut fields = sealed.to_vec();
        open(&self.header, nonce(0), before, &mut fields)
            .map_err(|()| damaged("header: it is not the one that was sealed"))?;
        Ok(fields)
    }

    fn of_block(&self, kind: BlockKind) -> &LessSafeKey {
        match kind {
            BlockKind::Entries | BlockKind::Data => &self.data,
            BlockKind::IndexPage | BlockKind::IndexRoot => &self.index,
        }
    }

    fn associated(&self, header: &BlockHeader) -> [u8; ASSOCIATED_LENGTH] {
        let mut out = [0; ASSOCIATED_LENGTH];
        out[0..16].copy_from_slice(&self.id.0);
        // 16..20: the volume, 0.
        out[20..28].copy_from_slice(&header.sequence.to_le_bytes());
        out[28] = header.kind as u8;
        out[29] = header.codec as u8;
        out[30..32].copy_from_slice(&header.flags.to_le_bytes());
        out[32..36].copy_from_slice(&header.raw_length.to_le_bytes());
        out[36..40].copy_from_slice(&header.stored_length.to_le_bytes());
        out
    }

    /// Leaves what was sealed in `stored`, or nothing.
    pub fn open_block(&self, header: &BlockHeader, stored: &mut Vec<u8>) -> Result<()> {
        let key = self.of_block(header.kind);
        let associated = self.associated(header);
        open(key, nonce(header.sequence), &associated, stored)
            .map_err(|()| damaged("it is not what was sealed here"))
    }

    fn code(&self, header: &[u8], root: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.authentication);
        context.update(header);
        context.update(root);
        context.sign()
    }

    /// The code over the header, which says its own length, and the root's fields.
    pub fn authenticate_root(&self, header: &[u8], root: &[u8]) -> [u8; CODE_LENGTH] {
        to_code(&self.code(header, root))
    }

    pub fn check_root(&self, header: &[u8], root: &[u8], code: &[u8]) -> Result<()> {
        constant_time::verify_slices_are_equal(self.code(header, root).as_ref(), code)
            .map_err(|_| damaged("authentication code does not match: header or index was changed"))
    }

    pub fn set_key(&self) -> SetKey {
        SetKey(Arc::clone(&self.set))
    }
}

fn to_code(tag: &hmac::Tag) -> [u8; CODE_LENGTH] {
    let mut code = [0; CODE_LENGTH];
    code.copy_from_slice(tag.as_ref());
    code
}

/// Under one subkey a sequence number is used once, so that it can be the nonce.
fn nonce(sequence: u64) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    bytes[NONCE_LEN - 8..].copy_from_slice(&sequence.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

/// Opens in place; leaves nothing where the tag is not right.
fn open(key: &LessSafeKey, nonce: Nonce, associated: &[u8], bytes: &mut Vec<u8>) -> Result<(), ()> {
    let opened = key.open_in_place(nonce, Aad::from(associated), bytes);
    let length = opened.map(|plain| plain.len());
    bytes.truncate(length.as_ref().copied().unwrap_or(0));
    length.map(drop).map_err(drop)
}

/// Seals the blocks of the archive that is being written. It alone hands out nonces, and none twice:
/// numbers must ascend, also after an error.
#[derive(Debug)]
pub struct BlockSealer {
    keys: Arc<Subkeys>,
    next: u64,
}

impl BlockSealer {
    pub fn new(keys: Arc<Subkeys>) -> BlockSealer {
        BlockSealer { keys, next: 0 }
    }

    pub fn keys(&self) -> &Arc<Subkeys> {
        &self.keys
    }

    /// `header` must say what it will when the block is sealed.
    pub fn seal(&mut self, header: &BlockHeader, stored: &mut Vec<u8>) -> Result<()> {
        if header.sequence < self.next || header.sequence == u64::MAX {
            return Err(Error::new(format!(
                "block {} was sealed already",
                header.sequence
            )));
        }
        self.next = header.sequence + 1;
        let (key, associated) = (
            self.keys.of_block(header.kind),
            self.keys.associated(header),
        );
        key.seal_in_place_append_tag(nonce(header.sequence), Aad::from(&associated[..]), stored)
            .map_err(failed)
    }
}

/// Authenticates the list of a set's members; derived from the key of the first of them.
#[derive(Clone)]
pub struct SetKey(Arc<hmac::Key>);

impl fmt::Debug for SetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SetKey")
    }
}

impl SetKey {
    fn sign(&self, header: &[u8], index: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(header);
        context.update(index);
        context.sign()
    }

    /// Over the set's header, which says its own length, and its index up to the code.
    pub fn authenticate(&self, header: &[u8], index: &[u8]) -> [u8; CODE_LENGTH] {
        to_code(&self.sign(header, index))
    }

    pub fn check(&self, header: &[u8], index: &[u8], code: &[u8]) -> Result<()> {
        constant_time::verify_slices_are_equal(self.sign(header, index).as_ref(), code).map_err(
            |_| {
                damaged(
                    "set index: its authentication code does not match: the set was put together anew",
                )
            },
        )
    }
}
