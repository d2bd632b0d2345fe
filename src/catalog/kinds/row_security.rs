//! Row-level security switched on for a table, after its rows are loaded. (FORCE stands with the
//! table.)

use super::relation::{OWNER_COLUMNS, OWNER_JOINS};
use crate::archive::Section;
use crate::catalog::object::{Address, CatalogObject, Defining, Definition, Identity, Part, class};
use crate::catalog::reader::{Reader, USER_SCHEMAS};
use crate::error::Result;
use crate::sql;

#[derive(Debug)]
pub struct RowSecurity {
    identity: Identity,
}

pub async fn read(reader: &mut Reader<'_>) -> Result<Vec<RowSecurity>> {
    let rows = reader
        .query(
            "row security",
            &format!(
                "SELECT c.oid, c.relname AS name, {OWNER_COLUMNS}
                 FROM pg_class c
                 {OWNER_JOINS}
                 WHERE c.relkind IN ('r', 'p') AND c.relrowsecurity AND {USER_SCHEMAS}"
            ),
        )
        .await?;
    let mut secured = Vec::new();
    for row in &rows {
        let identity = Identity::in_schema(class::RELATION, row)?.part(Part::RowSecurity);
        if reader.has_relation(identity.address.oid) {
            secured.push(RowSecurity { identity });
        }
    }
    Ok(secured)
}

impl CatalogObject for RowSecurity {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn section(&self) -> Section {
        Section::PostData
    }

    fn requires(&self) -> Vec<Address> {
        vec![self.identity.address.part(Part::Definition)]
    }

    fn define(&self, _: &Defining<'_>) -> Result<Option<Definition>> {
        let mut definition = Definition::new(
            "ROW SECURITY",
            Section::PostData,
            self.identity.name.clone(),
            sql!(
                "ALTER TABLE {} ENABLE ROW LEVEL SECURITY;\n",
                self.identity.sql()
            ),
        );
        definition.relation = Some(self.identity.name.clone());
        Ok(Some(definition))
    }
}
