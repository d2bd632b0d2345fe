//! Foreign keys. Those that partitions have of their parents come with these.

use std::collections::HashMap;

use bstr::BString;

use super::relation::{OWNER_COLUMNS, OWNER_JOINS, Relation};
use crate::archive::Section;
use crate::catalog::object::{Address, CatalogObject, Defining, Definition, Identity, Part, class};
use crate::catalog::reader::{Reader, USER_SCHEMAS};
use crate::error::Result;
use crate::postgres::Oid;
use crate::sql;

#[derive(Debug)]
pub struct ForeignKey {
    identity: Identity,
    relation: Relation,
    definition: BString,
    referenced: Address,
    /// Of a table that an extension makes: no entry stands for the table, so that its rows are
    /// waited for by name.
    referenced_rows: Option<Address>,
    /// Of a partitioned table that is referred to, the unique index is valid only once those of
    /// all partitions are attached.
    index_attachments: Vec<Address>,
}

pub async fn read(reader: &mut Reader<'_>) -> Result<Vec<ForeignKey>> {
    let partitions = read_index_partitions(reader).await?;
    let query = query(reader);
    let rows = reader.query("foreign keys", &query).await?;
    let mut keys = Vec::new();
    for row in &rows {
        let relation = Relation::from_row(row)?;
        if reader.has_relation(relation.oid) {
            let referenced = Address::relation(row.number("confrelid")?);
            let has_entry = reader.has_relation(referenced.oid);
            keys.push(ForeignKey {
                identity: Identity::in_schema(class::CONSTRAINT, row)?,
                relation,
                definition: row.text("definition")?,
                referenced,
                referenced_rows: (!has_entry).then(|| referenced.part(Part::Data)),
                index_attachments: attachments(&partitions, row.number("conindid")?),
            });
        }
    }
    Ok(keys)
}

/// Locks no table: columns and tables are named from the catalogs' caches.
pub fn query(reader: &Reader<'_>) -> String {
    let wanted = reader.of_wanted();
    format!(
        "SELECT k.oid, k.conname AS name, k.confrelid, k.conindid,
                pg_get_constraintdef(k.oid) AS definition, {OWNER_COLUMNS}
         FROM pg_constraint k
         JOIN pg_class c ON c.oid = k.conrelid
         {OWNER_JOINS}
         WHERE k.contype = 'f' AND k.conparentid = 0 AND {USER_SCHEMAS} AND {wanted}"
    )
}

/// Indexes of partitions by the index they are part of.
async fn read_index_partitions(reader: &mut Reader<'_>) -> Result<HashMap<Oid, Vec<Oid>>> {
    let rows = reader
        .query(
            "indexes of partitions",
            "SELECT h.inhparent, h.inhrelid
             FROM pg_inherits h JOIN pg_class p ON p.oid = h.inhparent AND p.relkind = 'I'",
        )
        .await?;
    let mut partitions: HashMap<Oid, Vec<Oid>> = HashMap::new();
    for row in &rows {
        partitions
            .entry(row.number("inhparent")?)
            .or_default()
            .push(row.number("inhrelid")?);
    }
    Ok(partitions)
}

fn attachments(partitions: &HashMap<Oid, Vec<Oid>>, index: Oid) -> Vec<Address> {
    let mut found = Vec::new();
    let mut open = vec![index];
    while let Some(index) = open.pop() {
        for &partition in partitions.get(&index).into_iter().flatten() {
            found.push(Address::relation(partition).part(Part::Attach));
            open.push(partition);
        }
    }
    found
}

impl CatalogObject for ForeignKey {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn natural_key(&self) -> BString {
        self.relation.name.clone()
    }

    fn section(&self) -> Section {
        Section::PostData
    }

    fn requires(&self) -> Vec<Address> {
        let mut requires = vec![self.relation.address(), self.referenced];
        requires.extend(self.referenced_rows);
        requires.extend(&self.index_attachments);
        requires
    }

    fn define(&self, _: &Defining<'_>) -> Result<Option<Definition>> {
        // of a partitioned table it always reaches the partitions; elsewhere never the children
        let only = if self.relation.is_partitioned() {
            ""
        } else {
            "ONLY "
        };
        let name = sql::identifier(&self.identity.name);
        let table = self.relation.sql();
        let mut definition = Definition::new(
            "FK CONSTRAINT",
            Section::PostData,
            self.relation.tag(&self.identity.name),
            sql!(
                "ALTER TABLE {}{}\n    ADD CONSTRAINT {} {};\n",
                only,
                table,
                name,
                self.definition
            ),
        );
        definition.relation = Some(self.relation.name.clone());
        definition.comment_target = Some(sql!("CONSTRAINT {} ON {}", name, table));
        definition.drop = self.relation.drop_constraint(only, &self.identity.name);
        Ok(Some(definition))
    }
}
