//! Settings of our transactions. They are SET LOCAL, so that a pooler in transaction mode hands
//! nothing of them to its next client.

use std::collections::HashSet;

use super::session::Session;
use crate::error::{Error, Result, ResultExt};
use crate::sql;

/// What shapes the text of rows and definitions: recorded in the archive, and set again to compare a
/// database with it.
pub const ROW_SETTINGS: &[(&str, &str)] = &[
    ("DateStyle", "ISO"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("bytea_output", "hex"),
    ("lc_monetary", "C"),
    ("extra_float_digits", "3"),
    ("quote_all_identifiers", "off"),
];

/// For every transaction that reads: names come qualified, nothing ends it early, and no row is
/// hidden without an error.
///
/// Not here: `xmlbinary`, `xmloption` and the like, which stored values do not depend on, and
/// `idle_session_timeout`, which knows no transactions; outside of them we do not tarry.
const READING_SETTINGS: &[(&str, &str)] = &[
    ("search_path", ""),
    ("row_security", "off"),
    ("standard_conforming_strings", "on"),
    ("array_nulls", "on"),
    ("client_min_messages", "warning"),
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("transaction_timeout", "0"),
    ("synchronize_seqscans", "off"),
    ("enable_tidscan", "on"),
    ("jit", "off"),
    ("max_parallel_workers_per_gather", "0"),
    // an object's owner must not run code as us through an expanded view
    ("restrict_nonsystem_relation_kind", "view, foreign-table"),
];

/// How a transaction that only looks begins. What the role or the database prefers does not count:
/// a standby refuses SERIALIZABLE, and DEFERRABLE may wait for ever.
pub const BEGIN_LOOKING: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY;\n";

/// Settings that came with a minor release or are missing in some builds; the others exist
/// everywhere from 14 on.
const NOT_EVERYWHERE: &[&str] = &[
    "transaction_timeout",
    "restrict_nonsystem_relation_kind",
    "jit",
];

/// Those of the settings that not every server has, and this one does.
#[derive(Debug, Clone, Default)]
pub struct KnownSettings {
    names: HashSet<String>,
    /// Asked for in place of what is set otherwise.
    wanted: Vec<(&'static str, String)>,
}

impl KnownSettings {
    pub async fn read(session: &mut Session) -> Result<KnownSettings> {
        let names: Vec<_> = NOT_EVERYWHERE.iter().map(sql::literal).collect();
        let rows = session
            .query(sql!(
                "SELECT name FROM pg_catalog.pg_settings WHERE name OPERATOR(pg_catalog.=) ANY (ARRAY[{}])",
                sql::join(names, ", ")
            ))
            .await
            .context("reading which settings the server knows")?;
        rows.iter()
            .map(|row| row.string("name"))
            .collect::<Result<_>>()
            .map(|names| KnownSettings {
                names,
                wanted: Vec::new(),
            })
    }

    /// Sets these otherwise than usual from now on.
    pub fn with(mut self, wanted: Vec<(&'static str, String)>) -> KnownSettings {
        self.wanted = wanted;
        self
    }

    fn has(&self, name: &str) -> bool {
        !NOT_EVERYWHERE.contains(&name) || self.names.contains(name)
    }

    /// Statements for a transaction that reads definitions and rows, in this encoding.
    pub fn for_reading(&self, encoding: &str) -> bstr::BString {
        let mut text = set_local("client_encoding", encoding);
        for (name, value) in READING_SETTINGS.iter().chain(ROW_SETTINGS) {
            if self.has(name) {
                text.extend_from_slice(&set_local(name, value));
            }
        }
        for (name, value) in self.wanted.iter().filter(|(name, _)| self.has(name)) {
            text.extend_from_slice(&set_local(name, value));
        }
        text
    }
}

/// What an archive's header says of its rows. A file does not choose what is set on a server.
pub fn refuse_unknown(recorded: &[(String, String)]) -> Result<()> {
    let known = |name: &str| ROW_SETTINGS.iter().any(|(known, _)| *known == name);
    match recorded.iter().find(|(name, _)| !known(name)) {
        None => Ok(()),
        Some((name, _)) => Err(Error::new(format!(
            "the rows of the archive were written under a setting that this version does not know: {name:?}"
        ))
        .hint("use the version of rdump that wrote the archive, or a newer one")),
    }
}

/// Quoting, psql's lexer and what reads arrays here rely on encodings of which no byte within a
/// character is ASCII. Those that a database can have are; of those that a client alone can have,
/// some have a backslash there.
pub fn is_server_encoding(encoding: &str) -> bool {
    const OTHERS: [&str; 12] = [
        "SQL_ASCII",
        "EUC_JP",
        "EUC_CN",
        "EUC_KR",
        "EUC_TW",
        "EUC_JIS_2004",
        "UTF8",
        "MULE_INTERNAL",
        "KOI8R",
        "KOI8U",
        "WIN866",
        "WIN874",
    ];
    const NUMBERED: [(&str, std::ops::RangeInclusive<u32>); 3] = [
        ("LATIN", 1..=10),
        ("WIN", 1250..=1258),
        ("ISO_8859_", 5..=8),
    ];
    let is_numbered = NUMBERED.iter().any(|(name, numbers)| {
        let number = encoding
            .strip_prefix(name)
            .and_then(|text| text.parse().ok());
        number.is_some_and(|number| numbers.contains(&number))
    });
    is_numbered || OTHERS.contains(&encoding)
}

/// An archive's header may name any.
pub fn refuse_unknown_encoding(encoding: &str) -> Result<()> {
    match is_server_encoding(encoding) {
        true => Ok(()),
        false => Err(Error::new(format!(
            "the archive has an encoding that no database has: {encoding:?}"
        ))),
    }
}

/// `SET LOCAL name = 'value';`
pub fn set_local(name: &str, value: &str) -> bstr::BString {
    sql!("SET LOCAL {} = {};\n", name, sql::literal(value))
}

/// `SET name = 'value';`
pub fn set(name: &str, value: impl AsRef<[u8]>) -> bstr::BString {
    sql!("SET {} = {};\n", name, sql::literal(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_does_not_choose_what_is_set() {
        let recorded = |name: &str| [(name.to_owned(), "x".to_owned())];
        assert!(refuse_unknown(&recorded("DateStyle")).is_ok());
        for name in [
            "session_replication_role",
            "DateStyle = 'ISO'; DROP TABLE t; --",
        ] {
            assert!(refuse_unknown(&recorded(name)).is_err(), "{name}");
        }
    }
}
