//! ALTER DEFAULT PRIVILEGES.

use bstr::{BString, ByteSlice};

use crate::archive::{Pass, Section};
use crate::catalog::object::{CatalogObject, Defining, Definition, Identity, class};
use crate::catalog::reader::{Reader, USER_SCHEMAS};
use crate::error::{Error, Result};
use crate::postgres::Row;
use crate::sql;
use crate::sql::privileges;

/// Privileges that one role's new objects of one type get. The identity's ACL is what this object
/// says, not who may use it.
#[derive(Debug)]
pub struct DefaultPrivileges {
    identity: Identity,
    role: BString,
    object_type: &'static str,
}

const OBJECT_TYPES: [(u8, &str); 6] = [
    (b'r', "TABLES"),
    (b'S', "SEQUENCES"),
    (b'f', "FUNCTIONS"),
    (b'T', "TYPES"),
    (b'n', "SCHEMAS"),
    (b'L', "LARGE OBJECTS"),
];

pub async fn read(reader: &mut Reader<'_>) -> Result<Vec<DefaultPrivileges>> {
    // A global row replaces the hard-wired default, so that is what it is compared with; a
    // schema's row adds to both.
    let rows = reader
        .query(
            "default privileges",
            &format!(
                "SELECT d.oid, n.nspname AS schema, d.defaclobjtype,
                        pg_get_userbyid(d.defaclrole) AS owner, d.defaclacl AS acl,
                        CASE WHEN d.defaclnamespace <> 0 THEN '{{}}'
                             ELSE acldefault(CASE d.defaclobjtype WHEN 'S' THEN 's'
                                                  ELSE d.defaclobjtype END, d.defaclrole)
                        END AS acldefault, '' AS name
                 FROM pg_default_acl d LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
                 WHERE d.defaclnamespace = 0 OR ({USER_SCHEMAS})"
            ),
        )
        .await?;
    let is_wanted = |row: &&Row| match row.optional("schema") {
        Ok(Some(schema)) => reader.chosen.contents_of(schema),
        _ => reader.chosen.everything(),
    };
    rows.iter()
        .filter(is_wanted)
        .map(|row| {
            let letter = row.char("defaclobjtype")?;
            let (_, object_type) = OBJECT_TYPES
                .iter()
                .copied()
                .find(|(known, _)| *known == letter)
                .ok_or_else(|| {
                    Error::new(format!(
                        "default privileges for an unknown type of object '{}'",
                        char::from(letter).escape_default()
                    ))
                })?;
            let mut identity = Identity::in_schema(class::DEFAULT_ACL, row)?.with_privileges(reader, row)?;
            identity.name = sql!("DEFAULT PRIVILEGES FOR {}", object_type);
            Ok(DefaultPrivileges {
                identity,
                role: row.text("owner")?,
                object_type,
            })
        })
        .collect()
}

impl CatalogObject for DefaultPrivileges {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn default_privileges_for(&self) -> Option<&'static str> {
        Some(self.object_type)
    }

    fn natural_key(&self) -> BString {
        self.role.clone()
    }

    fn section(&self) -> Section {
        Section::PostData
    }

    fn define(&self, _: &Defining<'_>) -> Result<Option<Definition>> {
        let schema = self.identity.schema.as_ref();
        let acl = |acl: &Option<BString>| acl.clone().unwrap_or_else(|| BString::from("{}"));
        let create = privileges::default_privileges(
            self.object_type,
            schema.map(|schema| schema.as_bstr()),
            acl(&self.identity.acl).as_bstr(),
            acl(&self.identity.acl_default).as_bstr(),
            self.role.as_bstr(),
        )?;
        let mut definition = Definition::new(
            "DEFAULT ACL",
            Section::PostData,
            self.identity.name.clone(),
            create,
        );
        definition.pass = Pass::Privileges;
        Ok(Some(definition))
    }
}
