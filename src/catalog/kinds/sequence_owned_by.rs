//! Sequences owned by a column: said apart, since it asks that both have the same owner already.

use bstr::BString;

use super::relation::{OWNER_COLUMNS, OWNER_JOINS};
use crate::archive::Section;
use crate::catalog::object::{Address, CatalogObject, Defining, Definition, Identity, Part, class};
use crate::catalog::reader::{Reader, USER_SCHEMAS};
use crate::error::Result;
use crate::postgres::Oid;
use crate::sql;

#[derive(Debug)]
pub struct SequenceOwnedBy {
    identity: Identity,
    table: Address,
    table_name: BString,
    column: BString,
}

pub async fn read(reader: &mut Reader<'_>) -> Result<Vec<SequenceOwnedBy>> {
    let rows = reader
        .query(
            "owned sequences",
            &format!(
                "SELECT c.oid, c.relname AS name, d.refobjid, t.relname AS table_name,
                        a.attname, {OWNER_COLUMNS}
                 FROM pg_class c
                 JOIN pg_depend d
                   ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.objsubid = 0
                      AND d.refclassid = 'pg_class'::regclass AND d.deptype = 'a'
                 JOIN pg_class t ON t.oid = d.refobjid
                 JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
                 {OWNER_JOINS}
                 WHERE c.relkind = 'S' AND {USER_SCHEMAS}"
            ),
        )
        .await?;
    let mut owned = Vec::new();
    for row in &rows {
        let identity = Identity::in_schema(class::RELATION, row)?;
        let table: Oid = row.number("refobjid")?;
        if reader.has_relation(identity.address.oid) && reader.has_relation(table) {
            owned.push(SequenceOwnedBy {
                identity: identity.part(Part::OwnedBy),
                table: Address::relation(table),
                table_name: row.text("table_name")?,
                column: row.text("attname")?,
            });
        }
    }
    Ok(owned)
}

impl CatalogObject for SequenceOwnedBy {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn requires(&self) -> Vec<Address> {
        vec![self.identity.address.part(Part::Definition), self.table]
    }

    fn define(&self, _: &Defining<'_>) -> Result<Option<Definition>> {
        // both are of one schema, always
        let schema = self.identity.schema.clone().unwrap_or_default();
        let mut definition = Definition::new(
            "SEQUENCE OWNED BY",
            Section::PreData,
            self.identity.name.clone(),
            sql!(
                "ALTER SEQUENCE {} OWNED BY {}.{};\n",
                self.identity.sql(),
                sql::qualified(schema, &self.table_name),
                sql::identifier(&self.column)
            ),
        );
        definition.relation = Some(self.table_name.clone());
        Ok(Some(definition))
    }
}
