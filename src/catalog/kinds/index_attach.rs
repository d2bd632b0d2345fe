//! Indexes of partitions attached to those of their parents, constraints' indexes too.

use bstr::BString;

use super::relation::{OWNER_COLUMNS, OWNER_JOINS, Relation};
use crate::archive::Section;
use crate::catalog::object::{Address, CatalogObject, Defining, Definition, Identity, Part, class};
use crate::catalog::reader::{Reader, USER_SCHEMAS};
use crate::error::Result;
use crate::postgres::Oid;
use crate::sql;

#[derive(Debug)]
pub struct IndexAttach {
    identity: Identity,
    partition: Relation,
    parent: Address,
    parent_table: Address,
    /// As SQL.
    parent_name: BString,
}

pub async fn read(reader: &mut Reader<'_>) -> Result<Vec<IndexAttach>> {
    let rows = reader
        .query(
            "indexes of partitions",
            &format!(
                "SELECT x.oid, x.relname AS name, h.inhparent,
                        pg_get_userbyid(p.relowner) AS parent_owner, pi.indrelid AS parent_table,
                        pn.nspname AS parent_schema, p.relname AS parent_name, {OWNER_COLUMNS}
                 FROM pg_inherits h
                 JOIN pg_class x ON x.oid = h.inhrelid
                 JOIN pg_index i ON i.indexrelid = h.inhrelid
                 JOIN pg_class c ON c.oid = i.indrelid
                 JOIN pg_class p ON p.oid = h.inhparent
                 JOIN pg_namespace pn ON pn.oid = p.relnamespace
                 JOIN pg_index pi ON pi.indexrelid = h.inhparent
                 {OWNER_JOINS}
                 WHERE (i.indisvalid OR c.relkind = 'p') AND i.indisready AND {USER_SCHEMAS}"
            ),
        )
        .await?;
    let mut attached = Vec::new();
    for row in &rows {
        let partition = Relation::from_row(row)?;
        let parent_table: Oid = row.number("parent_table")?;
        if reader.has_relation(partition.oid) && reader.knows_relation(parent_table) {
            let mut identity = Identity::in_schema(class::RELATION, row)?.part(Part::Attach);
            // whose index is altered
            identity.owner = row.optional_text("parent_owner")?;
            attached.push(IndexAttach {
                identity,
                partition,
                parent: Address::relation(row.number("inhparent")?),
                parent_table: Address::relation(parent_table),
                parent_name: sql::qualified(row.bytes("parent_schema")?, row.bytes("parent_name")?),
            });
        }
    }
    Ok(attached)
}

impl CatalogObject for IndexAttach {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn section(&self) -> Section {
        Section::PostData
    }

    /// The tables as well, so that a parallel restore knows of the locks.
    fn requires(&self) -> Vec<Address> {
        vec![
            self.identity.address.part(Part::Definition),
            self.parent,
            self.partition.address(),
            self.parent_table,
        ]
    }

    fn define(&self, _: &Defining<'_>) -> Result<Option<Definition>> {
        let mut definition = Definition::new(
            "INDEX ATTACH",
            Section::PostData,
            self.identity.name.clone(),
            sql!(
                "ALTER INDEX {} ATTACH PARTITION {};\n",
                self.parent_name,
                self.identity.sql()
            ),
        );
        definition.relation = Some(self.partition.name.clone());
        Ok(Some(definition))
    }
}
