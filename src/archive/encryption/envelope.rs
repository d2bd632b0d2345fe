//! The archive's key in age files, which the public `age` tool opens too.

use std::io::{Read, Write};

use age::secrecy::{ExposeSecret, SecretBox, SecretString};
use age::{DecryptError, Decryptor, Encryptor};

use super::super::limits::*;
use super::super::refusal::damaged;
use super::{ArchiveKey, Identity, Recipient};
use crate::error::{Error, Result};

/// For all recipients together: whoever has the identity of one of them opens it.
pub fn for_recipients(recipients: &[Recipient], key: &ArchiveKey) -> Result<Vec<u8>> {
    wrap(recipients.iter().map(|recipient| recipient as _), key)
}

/// age allows no recipient beside a passphrase; so it has an age file of its own.
pub fn for_passphrase(passphrase: SecretString, log_n: u8, key: &ArchiveKey) -> Result<Vec<u8>> {
    let mut recipient = age::scrypt::Recipient::new(passphrase);
    recipient.set_work_factor(log_n);
    wrap(std::iter::once(&recipient as _), key)
}

fn wrap<'a>(
    recipients: impl Iterator<Item = &'a dyn age::Recipient>,
    key: &ArchiveKey,
) -> Result<Vec<u8>> {
    let failed = |error: &dyn std::fmt::Display| {
        Error::new(format!("could not encrypt the key of the archive: {error}"))
    };
    let encryptor = Encryptor::with_recipients(recipients).map_err(|error| failed(&error))?;
    let mut envelope = Vec::new();
    encryptor
        .wrap_output(&mut envelope)
        .and_then(|mut writer| {
            writer.write_all(key.expose_secret())?;
            writer.finish()
        })
        .map_err(|error| failed(&error))?;
    if envelope.len() > MAX_ENVELOPE_LENGTH as usize {
        return Err(Error::usage("too many recipients for an archive"));
    }
    Ok(envelope)
}

/// None: none of them is that of a recipient.
pub fn open_with_identities(
    envelope: &[u8],
    identities: &[Identity],
) -> Result<Option<ArchiveKey>> {
    let identities = identities.iter().map(|identity| identity as _);
    unwrap(envelope, "recipients", identities)
}

/// None: it is another passphrase.
pub fn open_with_passphrase(
    envelope: &[u8],
    passphrase: SecretString,
) -> Result<Option<ArchiveKey>> {
    let mut identity = age::scrypt::Identity::new(passphrase);
    identity.set_max_work_factor(MAX_SCRYPT_WORK_FACTOR);
    unwrap(envelope, "a passphrase", std::iter::once(&identity as _))
}

fn unwrap<'a>(
    envelope: &[u8],
    of: &str,
    identities: impl Iterator<Item = &'a dyn age::Identity>,
) -> Result<Option<ArchiveKey>> {
    let bad = || {
        damaged(format_args!(
            "header: its envelope for {of} is not a whole age file"
        ))
    };
    let decryptor = Decryptor::new_buffered(envelope).map_err(|_| bad())?;
    let mut reader = match decryptor.decrypt(identities) {
        Ok(reader) => reader,
        Err(DecryptError::NoMatchingKeys | DecryptError::DecryptionFailed) => return Ok(None),
        Err(DecryptError::ExcessiveWork { required, .. }) => {
            return Err(Error::new(format!(
                "trying a passphrase on this archive would take work factor {required}, and more than {MAX_SCRYPT_WORK_FACTOR} is refused"
            ))
            .hint("rdump writes no such archive: somebody may have made it to use up memory and time"));
        }
        Err(_) => return Err(bad()),
    };
    let mut key = SecretBox::new(Box::new([0; ARCHIVE_KEY_LENGTH]));
    use age::secrecy::ExposeSecretMut;
    reader
        .read_exact(key.expose_secret_mut())
        .map_err(|_| bad())?;
    // the end is authenticated too
    match reader.read(&mut [0; 1]) {
        Ok(0) => Ok(Some(ArchiveKey::new(key))),
        _ => Err(bad()),
    }
}
