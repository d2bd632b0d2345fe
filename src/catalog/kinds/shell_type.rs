//! Shell types: names that functions can take before the type is defined. Base types need one, range
//! types where they have a canonical function; and some were never defined.

use super::types;
use crate::archive::Section;
use crate::catalog::object::{Address, CatalogObject, Defining, Definition, Identity, Part, class};
use crate::catalog::reader::Reader;
use crate::error::Result;
use crate::sql;

#[derive(Debug)]
pub struct ShellType {
    identity: Identity,
    schema: Address,
}

pub async fn read(reader: &mut Reader<'_>) -> Result<Vec<ShellType>> {
    let query = types::query(
        "t.typnamespace, t.typisdefined",
        "LEFT JOIN pg_range r ON r.rngtypid = t.oid",
        "(r.rngcanonical <> 0 OR NOT t.typisdefined
          OR t.typtype = 'b' AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid))",
    );
    let rows = reader.query("shell types", &query).await?;
    let mut shells = Vec::new();
    for row in &rows {
        let mut identity = Identity::in_schema(class::TYPE, row)?;
        if !reader.admit(&mut identity) {
            continue;
        }
        shells.push(ShellType {
            schema: Address::new(class::NAMESPACE, row.number("typnamespace")?),
            identity: if row.bool("typisdefined")? {
                identity.part(Part::Shell)
            } else {
                identity
            },
        });
    }
    Ok(shells)
}

impl CatalogObject for ShellType {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn requires(&self) -> Vec<Address> {
        vec![self.schema]
    }

    fn define(&self, context: &Defining<'_>) -> Result<Option<Definition>> {
        let is_all = self.identity.address.part == Part::Definition;
        if !is_all && !context.placement.shells.contains(&self.identity.address) {
            return Ok(None);
        }
        let name = self.identity.sql();
        let definition = Definition::new(
            if is_all { "TYPE" } else { "SHELL TYPE" },
            Section::PreData,
            self.identity.name.clone(),
            sql!("CREATE TYPE {};\n", name),
        );
        // else dropped, owned and commented as the type it becomes
        Ok(Some(if is_all {
            definition.target(sql!("TYPE {}", name))
        } else {
            definition
        }))
    }
}
