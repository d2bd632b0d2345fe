//! Why an archive is refused, in the words that users read.

use super::set::SET_HEADER_MAGIC;
use crate::error::{Error, Outcome};

const DAMAGED: &str = "archive is damaged: ";
const INCOMPLETE: &str = "archive is incomplete: ";

/// Whether the archive was found other than it was written (and not, say, too new or unreadable).
pub(crate) fn is_damage(error: &Error) -> bool {
    error.message().starts_with(DAMAGED) || error.message().starts_with(INCOMPLETE)
}

/// What is wrong, without saying again that the archive is damaged.
pub(crate) fn problem(error: &Error) -> String {
    let message = error.message();
    let bare = message
        .strip_prefix(DAMAGED)
        .or_else(|| message.strip_prefix(INCOMPLETE));
    match bare {
        Some(bare) => bare.to_owned(),
        None => error.to_string(),
    }
}

/// Says where damage is; any other error gets it as context.
pub(crate) fn within(error: Error, place: impl std::fmt::Display) -> Error {
    if error.message().starts_with(DAMAGED) {
        return damaged(format_args!("{place}: {}", problem(&error)));
    }
    error.context(place.to_string())
}

/// Whether a checksum or hash is the right one. A fuzzer would never get past the first, so for it
/// all are: it is to find what happens behind them.
pub(super) fn matches<T: PartialEq>(found: T, expected: T) -> bool {
    cfg!(fuzzing) || found == expected
}

/// The bytes are not those that a writer wrote.
pub(crate) fn damaged(what: impl std::fmt::Display) -> Error {
    Error::new(format!("{DAMAGED}{what}"))
        .hint("restore it from another copy, or take a new snapshot; \"rdump verify\" lists all that is damaged")
}

/// The file ends before its trailer: the snapshot did not finish, or the copy was cut.
pub(crate) fn truncated(what: impl std::fmt::Display) -> Error {
    Error::new(format!("{INCOMPLETE}{what}"))
        .hint("the snapshot did not finish, or the file was cut or added to afterwards")
}

/// Sound, but written by a version that knows more than this one.
pub(crate) fn needs_newer(what: impl std::fmt::Display, minimum: Option<&str>) -> Error {
    let version = match minimum {
        Some(version) if !version.is_empty() => format!("needs rdump {version} or newer"),
        _ => String::from("needs a newer rdump"),
    };
    Error::new(format!("archive {version}: {what}")).hint(format!(
        "this is rdump {}; use the version that wrote the archive, or a later one",
        env!("CARGO_PKG_VERSION")
    ))
}

/// The archive is sound as far as can be seen, but whoever reads it lacks the key.
pub(crate) fn wrong_key(what: impl Into<String>) -> Error {
    Error::new(what).outcome(Outcome::WrongKey)
}

/// The file does not begin as an archive does. `start` is its first bytes.
pub(crate) fn not_an_archive(start: &[u8]) -> Error {
    if start.is_empty() {
        return Error::new("not an rdump archive: the file is empty");
    }
    if start.starts_with(&SET_HEADER_MAGIC) {
        return Error::new("this is a set of archives, not one archive")
            .hint("choose a member of it with --member");
    }
    if start.starts_with(b"PGDMP") {
        return Error::new("not an rdump archive: this is a pg_dump archive")
            .hint("restore it with pg_restore");
    }
    if start.starts_with(b"--\n-- PostgreSQL database") {
        return Error::new("not an rdump archive: this is a plain SQL dump")
            .hint("restore it with psql");
    }
    if start.starts_with(&[0x1f, 0x8b]) {
        return Error::new("not an rdump archive: the file is compressed with gzip")
            .hint("decompress it first");
    }
    if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        return Error::new("not an rdump archive: the file is compressed with zstd")
            .hint("decompress it first");
    }
    Error::new("not an rdump archive")
}
