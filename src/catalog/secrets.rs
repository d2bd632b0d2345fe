//! What of a definition may be shown: connection strings and passwords may not.

use bstr::BString;

use super::globals;
use crate::archive::Entry;

/// Whether the definition holds a connection string, or options that may be passwords.
pub fn is_secret(entry: &Entry) -> bool {
    matches!(entry.kind.as_str(), "USER MAPPING" | "SUBSCRIPTION")
}

/// The definition as it may be shown.
pub fn shown_definition(entry: &Entry) -> BString {
    match is_secret(entry) {
        true => BString::from("-- not shown: it may hold a password\n"),
        false => globals::without_passwords(entry),
    }
}
