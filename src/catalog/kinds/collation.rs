//! Collations.

use bstr::{BString, ByteSlice};

use crate::archive::Section;
use crate::catalog::object::{CatalogObject, Defining, Definition, Identity, class};
use crate::catalog::reader::{Reader, USER_SCHEMAS};
use crate::error::{Error, Result};
use crate::postgres::Row;
use crate::sql;

#[derive(Debug)]
pub struct Collation {
    identity: Identity,
    /// `provider = icu`, and so on.
    options: Vec<BString>,
}

pub async fn read(reader: &mut Reader<'_>) -> Result<Vec<Collation>> {
    // ICU's locale was a column of its own in 15, and became every provider's in 17
    let locale = match reader.version.major() {
        ..15 => "NULL",
        15 | 16 => "c.colliculocale",
        _ => "c.colllocale",
    };
    let rules = if reader.version.at_least(16) {
        "c.collicurules"
    } else {
        "NULL"
    };
    // A collation for another encoding than the database's cannot be used in it, but may share
    // its name with one that can.
    let rows = reader
        .query(
            "collations",
            &format!(
                "SELECT c.oid, c.collname AS name, n.nspname AS schema,
                        pg_get_userbyid(c.collowner) AS owner, c.collprovider,
                        c.collisdeterministic, nullif(c.collcollate::text, '') AS collate,
                        nullif(c.collctype::text, '') AS ctype, {locale} AS locale,
                        {rules} AS rules
                 FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace
                 WHERE {USER_SCHEMAS}
                   AND c.collencoding IN (-1, (SELECT encoding FROM pg_database
                                               WHERE datname = current_database()))"
            ),
        )
        .await?;
    let mut collations = Vec::new();
    for row in &rows {
        let mut identity = Identity::in_schema(class::COLLATION, row)?;
        if reader.admit(&mut identity) {
            collations.push(Collation {
                options: options(row).map_err(|error| {
                    error.context(format!("reading collation {}", identity.sql()))
                })?,
                identity,
            });
        }
    }
    Ok(collations)
}

/// No version: what the target's library has is what its indexes will be built with.
fn options(row: &Row) -> Result<Vec<BString>> {
    let provider = match row.char("collprovider")? {
        b'b' => "builtin",
        b'c' => "libc",
        b'i' => "icu",
        other => {
            return Err(Error::new(format!(
                "unknown collation provider '{}'",
                char::from(other).escape_default()
            )));
        }
    };
    let mut options = vec![sql!("provider = {}", provider)];
    if !row.bool("collisdeterministic")? {
        options.push(sql!("deterministic = false"));
    }
    let (collate, ctype) = (row.optional("collate")?, row.optional("ctype")?);
    let mut option = |name: &str, value: &[u8]| {
        options.push(sql!("{} = {}", name, sql::literal(value)));
    };
    if let Some(locale) = row.optional("locale")? {
        option("locale", locale);
    } else if collate == ctype {
        option("locale", collate.unwrap_or(b"".as_bstr()));
    } else {
        option("lc_collate", collate.unwrap_or(b"".as_bstr()));
        option("lc_ctype", ctype.unwrap_or(b"".as_bstr()));
    }
    if let Some(rules) = row.optional("rules")? {
        option("rules", rules);
    }
    Ok(options)
}

impl CatalogObject for Collation {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn define(&self, _: &Defining<'_>) -> Result<Option<Definition>> {
        let name = self.identity.sql();
        let create = sql!(
            "CREATE COLLATION {} ({});\n",
            name,
            sql::join(&self.options, ", ")
        );
        let definition = Definition::new(
            "COLLATION",
            Section::PreData,
            self.identity.name.clone(),
            create,
        )
        .target(sql!("COLLATION {}", name));
        Ok(Some(definition))
    }
}
