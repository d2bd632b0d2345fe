//! Base types of the system and of extensions, for their privileges alone: those that users make
//! are not kept yet.

use super::types;
use crate::catalog::object::{Address, CatalogObject, Defining, Definition, Identity};
use crate::catalog::reader::Reader;
use crate::error::Result;

#[derive(Debug)]
pub struct BaseType {
    identity: Identity,
    aliases: Vec<Address>,
}

pub async fn read(reader: &mut Reader<'_>) -> Result<Vec<BaseType>> {
    // array types cannot be granted; they are what another type calls its array
    let query = types::query(
        "'' AS nothing",
        "",
        "t.typtype = 'b' AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid)",
    );
    let rows = reader.query("base types", &query).await?;
    let mut base_types = Vec::new();
    for row in &rows {
        if let Some(identity) = types::identity(reader, row)?
            && identity.privileges_only
        {
            base_types.push(BaseType {
                identity,
                aliases: types::array_alias(row)?,
            });
        }
    }
    Ok(base_types)
}

impl CatalogObject for BaseType {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn aliases(&self) -> Vec<Address> {
        self.aliases.clone()
    }

    fn define(&self, _: &Defining<'_>) -> Result<Option<Definition>> {
        // nothing to create: privileges only
        Ok(Some(types::definition("TYPE", &self.identity, "".into())))
    }
}
