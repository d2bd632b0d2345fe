//! Schemas.

use crate::archive::Section;
use crate::catalog::object::{CatalogObject, Defining, Definition, Drop, Identity, class};
use crate::catalog::reader::Reader;
use crate::error::Result;
use crate::sql;

#[derive(Debug)]
pub struct Schema {
    identity: Identity,
}

pub async fn read(reader: &mut Reader<'_>) -> Result<Vec<Schema>> {
    let rows = reader
        .query(
            "schemas",
            // "public" is given its fresh ACL as it is once the owner is set; what pg_init_privs
            // says of it still names its first owner
            "SELECT n.oid, n.nspname AS name, pg_get_userbyid(n.nspowner) AS owner,
                    CASE WHEN n.nspname = 'public'
                         THEN coalesce(n.nspacl, acldefault('n', n.nspowner))
                         ELSE n.nspacl END AS acl,
                    CASE WHEN n.nspname = 'public'
                         THEN acldefault('n', n.nspowner)
                              || makeaclitem(0, n.nspowner, 'USAGE', false)
                         ELSE acldefault('n', n.nspowner) END AS acldefault
             FROM pg_namespace n
             WHERE n.nspname = 'pg_catalog'
                OR (n.nspname <> 'information_schema' AND n.nspname !~ '^pg_')",
        )
        .await?;
    let mut schemas = Vec::new();
    for row in &rows {
        let mut identity = Identity::from_row(class::NAMESPACE, row)?.owned(row)?.with_privileges(reader, row)?;
        let is_public = identity.name == "public" && reader.wants(&identity);
        if is_public || reader.admit(&mut identity) {
            schemas.push(Schema { identity });
        }
    }
    Ok(schemas)
}

impl Schema {
    /// Every database is made with it.
    fn is_public(&self) -> bool {
        self.identity.name == "public"
    }
}

impl CatalogObject for Schema {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn define(&self, _: &Defining<'_>) -> Result<Option<Definition>> {
        let name = self.identity.sql();
        let create = if self.is_public() {
            Default::default()
        } else {
            sql!("CREATE SCHEMA {};\n", name)
        };
        let mut definition = Definition::new(
            "SCHEMA",
            Section::PreData,
            self.identity.name.clone(),
            create,
        )
        .target(sql!("SCHEMA {}", name))
        .privileges("SCHEMA", name);
        if self.is_public() {
            // what is not created again must not be dropped
            definition.drop = Drop::None;
        }
        Ok(Some(definition))
    }
}
