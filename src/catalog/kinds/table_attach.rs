//! Partitions attached to their parents: after both tables stand, so that each can also be
//! restored without the other.

use bstr::BString;

use super::relation::{OWNER_COLUMNS, OWNER_JOINS, Relation};
use crate::archive::Section;
use crate::catalog::object::{Address, CatalogObject, Defining, Definition, Identity, Part, class};
use crate::catalog::reader::{Reader, USER_SCHEMAS};
use crate::error::Result;
use crate::sql;

#[derive(Debug)]
pub struct TableAttach {
    identity: Identity,
    partition: Relation,
    parent: Address,
    /// As SQL.
    parent_name: BString,
    /// `FOR VALUES ...` or `DEFAULT`.
    bound: BString,
}

pub async fn read(reader: &mut Reader<'_>) -> Result<Vec<TableAttach>> {
    let wanted = reader.of_wanted();
    let rows = reader
        .query(
            "partitions",
            &format!(
                "SELECT c.oid, c.relname AS name, h.inhparent, pn.nspname AS parent_schema,
                        p.relname AS parent_name, pg_get_expr(c.relpartbound, c.oid) AS bound,
                        {OWNER_COLUMNS}
                 FROM pg_class c
                 JOIN pg_inherits h ON h.inhrelid = c.oid
                 JOIN pg_class p ON p.oid = h.inhparent
                 JOIN pg_namespace pn ON pn.oid = p.relnamespace
                 {OWNER_JOINS}
                 WHERE c.relispartition AND c.relkind IN ('r', 'p', 'f') AND {USER_SCHEMAS} AND {wanted}"
            ),
        )
        .await?;
    let mut attached = Vec::new();
    for row in &rows {
        let partition = Relation::from_row(row)?;
        if reader.has_relation(partition.oid) {
            attached.push(TableAttach {
                identity: Identity::in_schema(class::RELATION, row)?.part(Part::Attach),
                parent: Address::relation(row.number("inhparent")?),
                parent_name: sql::qualified(row.bytes("parent_schema")?, row.bytes("parent_name")?),
                bound: row.text("bound")?,
                partition,
            });
        }
    }
    Ok(attached)
}

impl CatalogObject for TableAttach {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn requires(&self) -> Vec<Address> {
        vec![self.partition.address(), self.parent]
    }

    fn define(&self, _: &Defining<'_>) -> Result<Option<Definition>> {
        let mut definition = Definition::new(
            "TABLE ATTACH",
            Section::PreData,
            self.identity.name.clone(),
            sql!(
                "ALTER TABLE ONLY {} ATTACH PARTITION {} {};\n",
                self.parent_name,
                self.partition.sql(),
                self.bound
            ),
        );
        definition.relation = Some(self.partition.name.clone());
        Ok(Some(definition))
    }
}
