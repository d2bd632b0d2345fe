//! Shells of range types: names that functions can take before the type is defined. Only where a
//! canonical function makes one necessary.

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
        "t.typnamespace",
        "JOIN pg_range r ON r.rngtypid = t.oid",
        "t.typtype = 'r' AND r.rngcanonical <> 0",
    );
    let rows = reader.query("range types", &query).await?;
    let mut shells = Vec::new();
    for row in &rows {
        let identity = Identity::in_schema(class::TYPE, row)?;
        if reader.extension_of(identity.address).is_none() {
            shells.push(ShellType {
                schema: Address::new(class::NAMESPACE, row.number("typnamespace")?),
                identity: identity.part(Part::Shell),
            });
        }
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
        if !context.placement.shells.contains(&self.identity.address) {
            return Ok(None);
        }
        // dropped, owned and commented as the type it becomes
        Ok(Some(Definition::new(
            "SHELL TYPE",
            Section::PreData,
            self.identity.name.clone(),
            sql!("CREATE TYPE {};\n", self.identity.sql()),
        )))
    }
}
