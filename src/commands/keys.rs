//! Keys that archives are encrypted for, and those that open them. A passphrase comes out of a file or
//! the environment, never from the command line, which others can see.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use crate::archive::{Encryption, ExposeSecret, Identity, Keys, Recipient, SecretString};
use crate::error::{Error, Result, ResultExt};

/// Files of keys are small; anything larger is not what it is taken for.
const MAX_FILE_LENGTH: u64 = 1 << 20;

const RECIPIENTS: &str = "RDUMP_RECIPIENTS";
const RECIPIENTS_FILE: &str = "RDUMP_RECIPIENTS_FILE";
const IDENTITY_FILE: &str = "RDUMP_IDENTITY_FILE";
const PASSPHRASE: &str = "RDUMP_PASSPHRASE";
const PASSPHRASE_FILE: &str = "RDUMP_PASSPHRASE_FILE";

/// Who may open the archive that is written.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Encryption")]
pub struct EncryptionArguments {
    /// Encrypt the archive for this age public key (may be repeated: each key opens it). RDUMP_RECIPIENTS
    /// has several, with commas or spaces between
    #[arg(long = "recipient", value_name = "age1...")]
    recipients: Vec<String>,
    /// Encrypt it for the age public keys in this file, one a line (may be repeated; RDUMP_RECIPIENTS_FILE)
    #[arg(long = "recipients-file", value_name = "FILE")]
    recipients_files: Vec<PathBuf>,
    /// Encrypt it with the passphrase that this file holds, also beside keys (RDUMP_PASSPHRASE_FILE, or the
    /// passphrase itself in RDUMP_PASSPHRASE)
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

/// What opens an archive.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Encryption")]
pub struct KeyArguments {
    /// Open an encrypted archive with an identity in this file, as age-keygen and rdump keygen make them
    /// (may be repeated; RDUMP_IDENTITY_FILE)
    #[arg(short = 'i', long = "identity", value_name = "FILE")]
    identities: Vec<PathBuf>,
    /// Open it with the passphrase that this file holds (RDUMP_PASSPHRASE_FILE, or the passphrase itself in
    /// RDUMP_PASSPHRASE)
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

impl EncryptionArguments {
    /// None: nobody asked for encryption.
    pub fn encryption(&self) -> Result<Option<Arc<Encryption>>> {
        let mut recipients = Vec::new();
        for text in &self.recipients {
            recipients.push(recipient(text).context("--recipient")?);
        }
        for file in &self.recipients_files {
            recipients.extend(recipients_of(file)?);
        }
        if recipients.is_empty() {
            if let Some(listed) = variable(RECIPIENTS)? {
                for text in separated(listed.expose_secret()) {
                    recipients.push(recipient(text).context(RECIPIENTS)?);
                }
                if recipients.is_empty() {
                    return Err(Error::usage(format!("{RECIPIENTS} names no recipient"))
                        .hint("unset it for an archive that is not encrypted"));
                }
            }
            for file in files(RECIPIENTS_FILE)? {
                recipients.extend(recipients_of(&file)?);
            }
        }
        let passphrase = passphrase(self.passphrase_file.as_deref())?;
        Ok(Encryption::new(recipients, passphrase).map(Arc::new))
    }
}

impl KeyArguments {
    pub fn keys(&self) -> Result<Arc<Keys>> {
        let mut keys = Keys::none();
        let listed = match self.identities.is_empty() {
            true => files(IDENTITY_FILE)?,
            false => self.identities.clone(),
        };
        for file in &listed {
            for identity in identities_of(file)? {
                keys = keys.with_identity(identity);
            }
        }
        if let Some(passphrase) = passphrase(self.passphrase_file.as_deref())? {
            keys = keys.with_passphrase(passphrase);
        }
        Ok(Arc::new(keys))
    }
}

fn separated(listed: &str) -> impl Iterator<Item = &str> {
    let parts = listed.split(|c: char| c == ',' || c.is_whitespace());
    parts.filter(|part| !part.is_empty())
}

/// Lines that say something, with their numbers.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = (1..).zip(text.lines().map(str::trim));
    lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

/// What was given is told only where it cannot be a secret.
fn recipient(text: &str) -> Result<Recipient> {
    text.parse().map_err(|_| {
        if text.to_ascii_uppercase().starts_with("AGE-SECRET-KEY-") {
            return Error::usage("this is a secret key, and a public key is needed")
                .hint("rdump keygen writes the public key into the file of the secret one; make a new pair if others may have seen this one");
        }
        let error = Error::usage("not an age public key");
        match text.starts_with("ssh-") {
            true => error.hint("keys of SSH are not taken: make one with rdump keygen"),
            false => error.hint("a key begins with age1; rdump keygen makes one"),
        }
    })
}

fn recipients_of(file: &Path) -> Result<Vec<Recipient>> {
    let text = read("recipients file", file)?;
    let mut recipients = Vec::new();
    for (number, line) in lines(text.expose_secret()) {
        let place = || format!("recipients file \"{}\", line {number}", file.display());
        recipients.push(recipient(line).with_context(place)?);
    }
    if recipients.is_empty() {
        return Err(Error::usage(format!(
            "recipients file \"{}\" names no recipient",
            file.display()
        )));
    }
    Ok(recipients)
}

fn identities_of(file: &Path) -> Result<Vec<Identity>> {
    let text = read("identity file", file)?;
    let named =
        |problem: &str| Error::usage(format!("identity file \"{}\" {problem}", file.display()));
    if text.expose_secret().starts_with("age-encryption.org/") {
        return Err(named("is itself encrypted")
            .hint("decrypt it first: age -d, into a file that only you can read"));
    }
    let mut identities = Vec::new();
    for (number, line) in lines(text.expose_secret()) {
        identities.push(line.parse().map_err(|_| {
            let error = named(&format!("has no age identity on line {number}"));
            match line.starts_with("age1") {
                true => error
                    .hint("this is a public key; the secret one that belongs to it opens archives"),
                false => error.hint("an identity begins with AGE-SECRET-KEY-1"),
            }
        })?);
    }
    if identities.is_empty() {
        return Err(named("holds no identity"));
    }
    Ok(identities)
}

fn passphrase(file: Option<&Path>) -> Result<Option<SecretString>> {
    let (from, text) = match file {
        Some(file) => ("the passphrase file", read("passphrase file", file)?),
        None => match (variable(PASSPHRASE)?, files(PASSPHRASE_FILE)?.pop()) {
            (Some(_), Some(_)) => {
                return Err(Error::usage(format!(
                    "{PASSPHRASE} and {PASSPHRASE_FILE} are both set"
                ))
                .hint("unset one of them"));
            }
            (Some(passphrase), None) => (PASSPHRASE, passphrase),
            (None, Some(file)) => (PASSPHRASE_FILE, read("passphrase file", &file)?),
            (None, None) => return Ok(None),
        },
    };
    // editors and echo end a file with a line break
    let text = text.expose_secret();
    let line = text.strip_suffix('\n').unwrap_or(text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() {
        return Err(Error::usage(format!("{from} holds no passphrase")));
    }
    if line.contains('\n') {
        return Err(Error::usage(format!("{from} holds more than one line"))
            .hint("a passphrase is one line"));
    }
    Ok(Some(SecretString::from(line)))
}

/// What may be a secret, so that nobody shows it.
fn variable(name: &str) -> Result<Option<SecretString>> {
    match std::env::var(name) {
        Ok(value) => Ok(Some(SecretString::from(value))),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => Err(Error::usage(format!("{name} is not UTF-8"))),
    }
}

/// A variable that names files, as PATH names folders.
fn files(name: &str) -> Result<Vec<PathBuf>> {
    let Some(value) = std::env::var_os(name) else {
        return Ok(Vec::new());
    };
    let files: Vec<PathBuf> = std::env::split_paths(&value)
        .filter(|path| !path.as_os_str().is_empty())
        .collect();
    match files.is_empty() {
        true => Err(Error::usage(format!("{name} names no file"))),
        false => Ok(files),
    }
}

fn read(what: &str, file: &Path) -> Result<SecretString> {
    let named = || format!("{what} \"{}\"", file.display());
    let mut bytes = Vec::new();
    File::open(file)
        .and_then(|file| file.take(MAX_FILE_LENGTH + 1).read_to_end(&mut bytes))
        .with_context(named)?;
    if bytes.len() as u64 > MAX_FILE_LENGTH {
        return Err(Error::usage(format!("{} is too long for one", named())));
    }
    String::from_utf8(bytes)
        .map(SecretString::from)
        .map_err(|_| Error::usage(format!("{} is not UTF-8", named())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("file");
        std::fs::write(&file, text).expect("written");
        (folder, file)
    }

    fn text_of(error: &Error) -> String {
        format!("{error} {}", error.hint_text().unwrap_or_default())
    }

    #[test]
    fn files_of_age_are_read_and_what_is_no_key_is_named_by_its_line() {
        let one = Identity::generate();
        let secret = one.to_string();
        let (_folder, file) = place(&format!(
            "# created: today\n\n  {}\r\n",
            secret.expose_secret()
        ));
        assert_eq!(identities_of(&file).expect("identities").len(), 1);
        let (_folder, file) = place(&format!("# {}\n{}\n", one.to_public(), one.to_public()));
        assert_eq!(recipients_of(&file).expect("recipients"), [one.to_public()]);
        let error = text_of(&identities_of(&file).map(drop).expect_err("public"));
        assert!(
            error.contains("line 2") && error.contains("public key"),
            "{error}"
        );
        for text in ["", "# nothing\n"] {
            let (_folder, file) = place(text);
            assert!(identities_of(&file).is_err() && recipients_of(&file).is_err());
        }
    }

    #[test]
    fn what_may_be_a_secret_is_not_shown() {
        let secret = Identity::generate().to_string();
        let secret = secret.expose_secret();
        let (_folder, file) = place(secret);
        let cut = &secret[..secret.len() - 1];
        let (_other, broken) = place(cut);
        for error in [
            recipient(secret).map(drop).expect_err("a secret"),
            recipient(cut).map(drop).expect_err("a secret"),
            recipients_of(&file).map(drop).expect_err("a secret"),
            identities_of(&broken).map(drop).expect_err("not whole"),
        ] {
            assert!(!text_of(&error).contains(&secret[15..40]), "{error}");
        }
    }

    #[test]
    fn a_passphrase_is_one_line_without_its_end() {
        for (text, expected) in [
            ("correct horse\n", Some("correct horse")),
            ("correct horse\r\n", Some("correct horse")),
            (" spaces count ", Some(" spaces count ")),
            ("", None),
            ("\n", None),
            ("two\nlines\n", None),
        ] {
            let (_folder, file) = place(text);
            let read = passphrase(Some(&file)).ok().flatten();
            let read = read.as_ref().map(|secret| secret.expose_secret());
            assert_eq!(read, expected, "{text:?}");
        }
    }

    #[test]
    fn recipients_of_the_environment_are_separated_by_commas_or_spaces() {
        let parts: Vec<&str> = separated(" a,b  c\n,").collect();
        assert_eq!(parts, ["a", "b", "c"]);
    }
}
