//! Schemas.

use crate::archive::Section;
use crate::catalog::object::{CatalogObject, Defining, Definition, Identity, class};
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
            "SELECT n.oid, n.nspname AS name, pg_get_userbyid(n.nspowner) AS owner,
                    n.nspacl AS acl, acldefault('n', n.nspowner) AS acldefault
             FROM pg_namespace n
             WHERE n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'",
        )
        .await?;
    rows.iter()
        .map(|row| {
            let mut identity = Identity::from_row(class::NAMESPACE, row)?;
            // initdb made "public" and said who may use it; the difference to that is what counts
            if let Some(initial) = reader.initial_acl(identity.address, 0)
                && identity.name == "public"
            {
                identity.acl_default = Some(initial.clone());
            }
            Ok(Schema { identity })
        })
        .collect()
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
        let definition = Definition::new(
            "SCHEMA",
            Section::PreData,
            self.identity.name.clone(),
            create,
        )
        .target(sql!("SCHEMA {}", name))
        .privileges("SCHEMA", name);
        Ok(Some(definition))
    }
}
