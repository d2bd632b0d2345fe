//! The database itself, for `restore -C`.

use bstr::{BStr, BString, ByteSlice};

use super::input::Opened;
use super::{Finding, Options, Severity};
use crate::archive::{Entry, Header};
use crate::error::{Error, Result, SqlState};
use crate::postgres::settings::set;
use crate::postgres::{Connector, Session};
use crate::sql;

/// Creates the archive's database and connects to it.
pub async fn create(
    mut session: Session,
    connector: &Connector,
    opened: &Opened,
    options: &Options,
) -> Result<(Session, Connector)> {
    let header = &opened.header;
    let name = sql::identifier(&header.database);
    keep_bytes(&mut session).await?;
    if options.clean {
        drop_database(&mut session, &name, options.if_exists).await?;
    }
    let entry = entry(&opened.entries)
        .ok_or_else(|| Error::new(format!("the archive does not say how to create {name}")))?;
    let major = session.version()?.major();
    let create = create_statement(header, entry, major, options.no_tablespaces);
    session.execute(create).await.map_err(|error| {
        let error = match error.sqlstate() {
            Some(&SqlState::DUPLICATE_DATABASE) => error.hint(
                "restore into it by its name with -d and without -C, or replace it with -C -c",
            ),
            _ => error,
        };
        error.context(format!("creating database {name}"))
    })?;
    session.close().await;
    let connector = connector.with_database(header.database.clone());
    let session = connector.open().await?;
    Ok((session, connector))
}

async fn drop_database(session: &mut Session, name: &BString, if_exists: bool) -> Result<()> {
    let clause = if if_exists { "IF EXISTS " } else { "" };
    let outcome = session
        .execute(sql!("DROP DATABASE {}{}", clause, name))
        .await;
    outcome.map_err(|error| {
        let hint = match error.sqlstate() {
            Some(&SqlState::INVALID_CATALOG_NAME) => "leave out -c, or add --if-exists",
            Some(&SqlState::WRONG_OBJECT_TYPE) => {
                "if nobody needs the template any more, ALTER DATABASE ... IS_TEMPLATE false first"
            }
            // besides sessions of others, the one that we are in
            Some(&SqlState::OBJECT_IN_USE) => {
                "with -C -c, connect to another database first, such as -d postgres, and let nobody \
                 else be connected to this one"
            }
            _ => return error.context(format!("dropping database {name}")),
        };
        error.hint(hint).context(format!("dropping database {name}"))
    })
}

pub fn entry(entries: &[Entry]) -> Option<&Entry> {
    entries.iter().find(|entry| entry.kind == "DATABASE")
}

/// Lets names that are sent to the server be those of the archive, byte by byte, whatever the encoding
/// of the database that we are in: the server keeps names of databases as they came.
pub async fn keep_bytes(session: &mut Session) -> Result<()> {
    let encoding = session.parameter("server_encoding").unwrap_or("SQL_ASCII");
    let text = set("client_encoding", encoding);
    session.execute(text).await
}

/// A database that is there keeps its encoding and locale, whatever the archive says.
pub async fn check_locale(
    session: &mut Session,
    entries: &[Entry],
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let Some(entry) = entry(entries) else {
        return Ok(());
    };
    let rows = session
        .query(
            "SELECT pg_encoding_to_char(encoding) AS encoding, datcollate AS collate,
                    datctype AS ctype
             FROM pg_database WHERE datname = current_database()",
        )
        .await?;
    let row = rows.only()?;
    let option = |name: &str, value: &BStr| sql!(" {} = {}", name, sql::literal(value));
    let (encoding, collate, ctype) = (
        row.bytes("encoding")?,
        row.bytes("collate")?,
        row.bytes("ctype")?,
    );
    let has = |text: BString| entry.create.contains_str(&text);
    let same_locale = match collate == ctype {
        true => has(option("LOCALE", collate)),
        false => has(option("LC_COLLATE", collate)) && has(option("LC_CTYPE", ctype)),
    };
    if !same_locale || !has(option("ENCODING", encoding)) {
        findings.push(Finding {
            severity: Severity::Notice,
            message: format!(
                "database \"{}\" is there already, with another encoding or locale than the archive's: {encoding}, {collate}",
                entry.name
            ),
            hint: "drop it first to have it made as the archive says".to_owned(),
        });
    }
    Ok(())
}

/// The database is there: left to do are its owner, comment, settings and privileges.
pub fn keep_properties(entries: &mut [Entry]) {
    for entry in entries.iter_mut().filter(|entry| entry.kind == "DATABASE") {
        entry.create.clear();
        entry.tablespace = None;
    }
}

const PROVIDER: &str = " LOCALE_PROVIDER = ";
const LIBC: &str = " LOCALE_PROVIDER = 'libc'";

/// CREATE DATABASE for a server of this major version, without `;`.
pub fn create_statement(
    header: &Header,
    entry: &Entry,
    major: u32,
    no_tablespaces: bool,
) -> BString {
    let mut create = statement(header, entry, major);
    if let Some(tablespace) = entry.tablespace.as_ref().filter(|_| !no_tablespaces) {
        create.extend_from_slice(&sql!(" TABLESPACE = {}", sql::identifier(tablespace)));
    }
    create
}

/// CREATE DATABASE as the target understands it. Servers before 15 know no provider of locales but
/// libc and do not name it; a newer one would give a database whose provider is not named that of
/// template0.
fn statement(header: &Header, entry: &Entry, major: u32) -> BString {
    let text = entry
        .create
        .trim_end_with(|c| c == ';' || c.is_ascii_whitespace());
    let options = options(header, text.as_bstr());
    let mut statement = BString::from(&text[..text.len() - options.len()]);
    match major {
        15.. => {
            statement.extend_from_slice(options);
            if !options.contains_str(PROVIDER) {
                statement.extend_from_slice(LIBC.as_bytes());
            }
        }
        _ => statement.extend_from_slice(&options.replacen(LIBC, "", 1)),
    }
    statement
}

/// What follows the name, which may hold anything.
fn options<'a>(header: &Header, statement: &'a BStr) -> &'a BStr {
    let head = sql!("CREATE DATABASE {} ", sql::identifier(&header.database));
    match statement.starts_with(&head) {
        true => statement[head.len() - 1..].as_bstr(),
        false => statement,
    }
}

/// The provider of the database's locale, and since which version servers have it.
pub fn provider(header: &Header, entry: &Entry) -> (&'static str, u32) {
    let options = options(header, entry.create.as_bstr());
    let has = |name: &str| options.contains_str(sql!("{}{}", PROVIDER, sql::literal(name)));
    if has("icu") {
        ("icu", 15)
    } else if has("builtin") {
        ("builtin", 17)
    } else {
        ("libc", 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::ArchiveId;
    use crate::restore::schedule::tests::entry;

    fn archived(name: &str, options: &str) -> (Header, Entry) {
        let mut header = Header::new(ArchiveId::random());
        header.database = name.into();
        let mut entry = entry(1, "DATABASE", name, &[]);
        let name = sql::identifier(&header.database);
        entry.create = sql!(
            "CREATE DATABASE {} WITH TEMPLATE = template0{};\n",
            name,
            options
        );
        (header, entry)
    }

    /// The options after the template.
    fn options_for(major: u32, name: &str, options: &str) -> String {
        let (header, entry) = archived(name, options);
        let statement = statement(&header, &entry, major).to_string();
        let (_, options) = statement.split_once("template0").expect("the template");
        options.to_owned()
    }

    #[test]
    fn the_provider_is_named_where_the_target_knows_providers() {
        let plain = " LOCALE = 'C'";
        let libc = " LOCALE = 'C' LOCALE_PROVIDER = 'libc'";
        let icu = " LOCALE = 'C' LOCALE_PROVIDER = 'icu' ICU_LOCALE = 'de'";
        for name in ["plain", "odd\" LOCALE_PROVIDER = 'libc'"] {
            assert_eq!(options_for(14, name, plain), plain);
            assert_eq!(options_for(14, name, libc), plain);
            for major in [15, 18] {
                assert_eq!(options_for(major, name, plain), libc);
                assert_eq!(options_for(major, name, libc), libc);
                assert_eq!(options_for(major, name, icu), icu);
            }
        }
    }

    #[test]
    fn providers_are_recognized() {
        let of = |name: &str, options: &str| {
            let (header, entry) = archived(name, options);
            provider(&header, &entry).0
        };
        let odd = "odd LOCALE_PROVIDER = 'icu'";
        assert_eq!(of(odd, " LOCALE = 'C'"), "libc");
        assert_eq!(of(odd, " LOCALE_PROVIDER = 'libc'"), "libc");
        assert_eq!(of("d", " LOCALE_PROVIDER = 'icu' ICU_LOCALE = 'x'"), "icu");
        assert_eq!(of(odd, " LOCALE_PROVIDER = 'builtin'"), "builtin");
    }
}
