//! The database itself: replayed only by `restore -C`.

use bstr::{BStr, BString, ByteSlice};

use crate::archive::Section;
use crate::catalog::object::{
    Address, CatalogObject, Defining, Definition, Drop, Identity, Part, class,
};
use crate::catalog::reader::Reader;
use crate::error::{Error, Result};
use crate::sql;

use super::routines::setting_value;

/// Either the database, or (as `Part::Data`) what ALTER DATABASE and ALTER ROLE ... IN DATABASE
/// set for it, which stands apart because CREATE DATABASE runs in no transaction.
#[derive(Debug)]
pub struct Database {
    identity: Identity,
    create: BString,
    tablespace: Option<BString>,
}

pub async fn read(reader: &mut Reader<'_>) -> Result<Vec<Database>> {
    // PostgreSQL 15 brought providers, 16 ICU rules, 17 one column for the locale of any provider
    let provider = match reader.version.major() {
        17.. => "d.datlocprovider AS provider, d.datlocale AS locale, d.daticurules AS rules",
        16 => "d.datlocprovider AS provider, d.daticulocale AS locale, d.daticurules AS rules",
        15 => "d.datlocprovider AS provider, d.daticulocale AS locale, NULL AS rules",
        _ => "NULL AS provider, NULL AS locale, NULL AS rules",
    };
    let rows = reader
        .query(
            "the database",
            &format!(
                "SELECT d.oid, d.datname AS name, pg_get_userbyid(d.datdba) AS owner,
                        d.datacl AS acl, acldefault('d', d.datdba) AS acldefault,
                        pg_encoding_to_char(d.encoding) AS encoding, d.datcollate AS collate,
                        d.datctype AS ctype, d.datconnlimit, d.datistemplate,
                        nullif(t.spcname, 'pg_default') AS tablespace, {provider}
                 FROM pg_database d JOIN pg_tablespace t ON t.oid = d.dattablespace
                 WHERE d.datname = current_database()"
            ),
        )
        .await?;
    let row = rows.only()?;
    let identity = Identity::from_row(class::DATABASE, row)?.owned(row)?.with_privileges(reader, row)?;
    let name = identity.sql();

    let mut create = sql!(
        "CREATE DATABASE {} WITH TEMPLATE = template0 ENCODING = {}",
        name,
        sql::literal(row.text("encoding")?)
    );
    let mut option = |name: &str, value: &BStr| {
        create.extend_from_slice(&sql!(" {} = {}", name, sql::literal(value)));
    };
    let (collate, ctype) = (row.bytes("collate")?, row.bytes("ctype")?);
    if collate == ctype {
        option("LOCALE", collate);
    } else {
        option("LC_COLLATE", collate);
        option("LC_CTYPE", ctype);
    }
    if let Some(provider) = row.optional("provider")? {
        let (provider, locale_option) = match provider.as_bytes() {
            b"c" => ("libc", None),
            b"i" => ("icu", Some("ICU_LOCALE")),
            b"b" => ("builtin", Some("BUILTIN_LOCALE")),
            other => {
                return Err(Error::new(format!(
                    "database {name} has an unknown locale provider \"{}\"",
                    other.as_bstr()
                )));
            }
        };
        option("LOCALE_PROVIDER", provider.into());
        if let (Some(locale_option), Some(locale)) = (locale_option, row.optional("locale")?) {
            option(locale_option, locale);
        }
        if let Some(rules) = row.optional("rules")? {
            option("ICU_RULES", rules);
        }
    }
    create.extend_from_slice(b";\n");

    let mut properties = BString::default();
    if row.bool("datistemplate")? {
        properties.extend_from_slice(&sql!("ALTER DATABASE {} IS_TEMPLATE true;\n", name));
    }
    let limit: i32 = row.number("datconnlimit")?;
    if limit >= 0 {
        let limit = limit.to_string();
        properties.extend_from_slice(&sql!(
            "ALTER DATABASE {} CONNECTION LIMIT {};\n",
            name,
            limit
        ));
    }
    properties.extend_from_slice(&settings(reader, &name).await?);

    let rest = Database {
        identity: identity.part(Part::Data),
        create: properties,
        tablespace: None,
    };
    let database = Database {
        identity,
        create,
        tablespace: row.optional_text("tablespace")?,
    };
    Ok([Some(database), Some(rest).filter(|rest| !rest.create.is_empty())]
        .into_iter()
        .flatten()
        .collect())
}

/// What is set for the database, for everyone and for single roles.
async fn settings(reader: &mut Reader<'_>, name: &BString) -> Result<BString> {
    let rows = reader
        .query(
            "settings of the database",
            "SELECT r.rolname AS role, s.setconfig
             FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole
             WHERE s.setdatabase = (SELECT oid FROM pg_database
                                    WHERE datname = current_database())
               AND (s.setrole = 0 OR r.oid IS NOT NULL)
             ORDER BY r.rolname COLLATE \"C\" NULLS FIRST",
        )
        .await?;
    let mut text = BString::default();
    for row in &rows {
        let whose = match row.optional("role")? {
            None => sql!("DATABASE {}", name),
            Some(role) => sql!("ROLE {} IN DATABASE {}", sql::identifier(role), name),
        };
        for setting in row.texts("setconfig")? {
            let (setting, value) = setting.split_once_str("=").ok_or_else(|| {
                Error::new(format!("setting \"{setting}\" of database {name} has no value"))
            })?;
            text.extend_from_slice(&sql!(
                "ALTER {} SET {} TO {};\n",
                whose,
                sql::identifier(setting),
                setting_value(setting.as_bstr(), value.as_bstr())
            ));
        }
    }
    Ok(text)
}

impl CatalogObject for Database {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn requires(&self) -> Vec<Address> {
        match self.identity.address.part {
            Part::Data => vec![self.identity.address.part(Part::Definition)],
            _ => Vec::new(),
        }
    }

    fn define(&self, _: &Defining<'_>) -> Result<Option<Definition>> {
        let name = self.identity.sql();
        let tag = self.identity.name.clone();
        let create = self.create.clone();
        if self.identity.address.part == Part::Data {
            let definition =
                Definition::new("DATABASE PROPERTIES", Section::PreData, tag, create);
            return Ok(Some(definition));
        }
        let target = sql!("DATABASE {}", name);
        let mut definition = Definition::new("DATABASE", Section::PreData, tag, create)
            .target(target)
            .privileges("DATABASE", name);
        definition.tablespace = self.tablespace.clone();
        // restore -C -c drops it before it connects
        definition.drop = Drop::None;
        Ok(Some(definition))
    }
}
