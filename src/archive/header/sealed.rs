//! The header of an encrypted archive: what stands in it in clear, and what only the key opens.

use std::sync::Arc;

use super::super::encryption::{Access, Encryption, Envelopes, Keys, Subkeys};
use super::super::limits::*;
use super::super::refusal::damaged;
use super::super::wire::{Cursor, Need, put_field};
use super::*;
use crate::error::Result;

pub(in super::super) const HEADER_TAG_ENVELOPE_RECIPIENTS: u64 = 30;
pub(in super::super) const HEADER_TAG_ENVELOPE_PASSPHRASE: u64 = 31;
/// Above all others, as what stands before it is bound to it.
pub(in super::super) const HEADER_TAG_SEALED: u64 = 127;

/// What anybody may know of an encrypted archive. All else is sealed.
fn is_in_clear(tag: u64) -> bool {
    matches!(
        tag,
        HEADER_TAG_MINIMUM_READER
            | HEADER_TAG_RDUMP_VERSION
            | HEADER_TAG_CODEC
            | HEADER_TAG_SNAPSHOT_TIME
            | HEADER_TAG_SET
            | HEADER_TAG_CONTENT
    )
}

fn is_secret(tag: u64) -> bool {
    matches!(
        tag,
        HEADER_TAG_DATABASE
            | HEADER_TAG_SERVER_VERSION_NUM
            | HEADER_TAG_SERVER_VERSION
            | HEADER_TAG_ENCODING
            | HEADER_TAG_STANDARD_CONFORMING_STRINGS
            | HEADER_TAG_SETTINGS
            | HEADER_TAG_FILTERS
    )
}

/// The fields of an encrypted archive's header that only the key opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedFields {
    envelopes: Envelopes,
    /// All of the header's bytes before them, which are bound to them.
    before: Vec<u8>,
    bytes: Vec<u8>,
}

impl SealedFields {
    pub fn envelopes(&self) -> &Envelopes {
        &self.envelopes
    }
}

impl Header {
    /// Of an encrypted archive: with a new key, its envelopes, and the fields that tell something
    /// sealed. Returns what is derived from the key.
    pub(in super::super) fn serialise_sealed(
        &self,
        encryption: &Encryption,
    ) -> Result<(Vec<u8>, Arc<Subkeys>)> {
        let (key, envelopes) = encryption.wrap_new_key()?;
        let keys = Arc::new(Subkeys::derive(self.id, &key)?);
        let (mut clear, secret): (Vec<_>, Vec<_>) = self
            .fields()
            .into_iter()
            .partition(|(tag, ..)| is_in_clear(*tag));
        for (tag, envelope) in [
            (HEADER_TAG_ENVELOPE_RECIPIENTS, envelopes.recipients),
            (HEADER_TAG_ENVELOPE_PASSPHRASE, envelopes.passphrase),
        ] {
            if let Some(envelope) = envelope {
                clear.push((tag, Need::Critical, envelope));
            }
        }
        let mut fields = Vec::new();
        for (tag, need, value) in secret {
            put_field(&mut fields, tag, need, &value);
        }
        let sealed_length = fields.len() + TAG_LENGTH;
        // the frame of the field and the header's length are bound too, so they come first
        clear.push((HEADER_TAG_SEALED, Need::Critical, vec![0; sealed_length]));
        let critical_flags = self.critical_flags | HEADER_FLAG_ENCRYPTED;
        let mut out = self.start(critical_flags, &clear);
        out.truncate(out.len() - sealed_length);
        put_length(&mut out, sealed_length)?;
        let sealed = keys.seal_header(&out, fields)?;
        out.extend_from_slice(&sealed);
        Ok((with_checksum(out)?, keys))
    }

    /// Reads the fields of an encrypted archive, of which `body` is the header up to its checksum.
    pub(super) fn take_sealed(
        &mut self,
        body: &[u8],
        cursor: Cursor<'_>,
        minimum: Option<&str>,
    ) -> Result<()> {
        let mut envelopes = Envelopes::default();
        let mut sealed = None;
        let unknown = cursor.fields(minimum, |tag, field| {
            match tag {
                HEADER_TAG_ENVELOPE_RECIPIENTS => envelopes.recipients = Some(envelope(field)?),
                HEADER_TAG_ENVELOPE_PASSPHRASE => envelopes.passphrase = Some(envelope(field)?),
                HEADER_TAG_SEALED => sealed = Some(field.take(field.remaining())?),
                _ if is_in_clear(tag) => return self.take_field(tag, field, minimum),
                _ if is_secret(tag) => {
                    return Err(field.damaged(format_args!("field {tag} must be sealed")));
                }
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        self.unknown = unknown;
        let not_sealed = || damaged("header: it is encrypted and nothing in it is sealed");
        let sealed = sealed.ok_or_else(not_sealed)?;
        let before = body
            .strip_suffix(sealed)
            .ok_or_else(|| damaged("header: its sealed field is not the last"))?;
        self.sealed = Some(Box::new(SealedFields {
            envelopes,
            before: before.to_vec(),
            bytes: sealed.to_vec(),
        }));
        Ok(())
    }

    /// Fills in what is sealed, where one of the keys opens it. With no key at all the archive stays
    /// locked.
    pub(crate) fn unlock(&mut self, keys: &Keys) -> Result<Access> {
        let Some(sealed) = &self.sealed else {
            return Ok(Access::Plain);
        };
        let Some(key) = keys.open(&sealed.envelopes)? else {
            return Ok(Access::Locked(sealed.envelopes.clone()));
        };
        let subkeys = Subkeys::derive(self.id, &key)?;
        let fields = subkeys.open_header(&sealed.before, &sealed.bytes)?;
        let minimum = self.minimum_reader.clone();
        let mut twice = None;
        let unknown =
            Cursor::new(&fields, "sealed header").fields(Some(&minimum), |tag, field| {
                if is_in_clear(tag) {
                    twice = Some(tag);
                }
                self.take_field(tag, field, Some(&minimum))
            })?;
        if let Some(tag) = twice {
            return Err(damaged(format_args!(
                "sealed header: field {tag} is in clear"
            )));
        }
        self.unknown.extend(unknown);
        Ok(Access::Open(Arc::new(subkeys)))
    }
}

fn envelope(field: &mut Cursor<'_>) -> Result<Vec<u8>> {
    if field.remaining() > MAX_ENVELOPE_LENGTH as usize {
        return Err(field.damaged("an envelope is too long"));
    }
    Ok(field.take(field.remaining())?.to_vec())
}
