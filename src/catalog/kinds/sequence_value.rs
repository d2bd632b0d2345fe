//! Values of sequences. They are read when the snapshot is taken: sequences are not transactional.

use super::extension_data::{self, IS_CONFIGURATION};
use super::relation::{OWNER_COLUMNS, OWNER_JOINS};
use crate::archive::{Contents, Section};
use crate::catalog::object::{Address, CatalogObject, Defining, Definition, Identity, Part, class};
use crate::catalog::reader::{Reader, USER_SCHEMAS};
use crate::error::Result;

#[derive(Debug)]
pub struct SequenceValue {
    identity: Identity,
}

pub async fn read(reader: &mut Reader<'_>) -> Result<Vec<SequenceValue>> {
    let configuration = extension_data::read(reader).await?;
    let rows = reader
        .query(
            "sequences",
            &format!(
                "SELECT c.oid, c.relname AS name, c.relpersistence, {OWNER_COLUMNS}
                 FROM pg_class c
                 {OWNER_JOINS}
                 WHERE c.relkind = 'S' AND ({USER_SCHEMAS} OR {IS_CONFIGURATION})"
            ),
        )
        .await?;
    let mut values = Vec::new();
    for row in &rows {
        let identity = Identity::in_schema(class::RELATION, row)?;
        let oid = identity.address.oid;
        let is_wanted = reader.has_relation(oid) || configuration.contains_key(&oid);
        if is_wanted && reader.wants_data(oid, row.char("relpersistence")?) {
            values.push(SequenceValue {
                identity: identity.part(Part::Data),
            });
        }
    }
    Ok(values)
}

impl CatalogObject for SequenceValue {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn section(&self) -> Section {
        Section::Data
    }

    fn requires(&self) -> Vec<Address> {
        vec![self.identity.address.part(Part::Definition)]
    }

    fn define(&self, _: &Defining<'_>) -> Result<Option<Definition>> {
        let mut definition = Definition::new(
            "SEQUENCE SET",
            Section::Data,
            self.identity.name.clone(),
            "",
        );
        definition.relation = Some(self.identity.name.clone());
        definition.contents = Contents::SequenceValue {
            sequence: self.identity.sql(),
        };
        Ok(Some(definition))
    }
}
