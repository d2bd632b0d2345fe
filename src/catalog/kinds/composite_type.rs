//! Composite types that stand alone (those of tables belong to their tables).

use std::collections::HashMap;

use bstr::BString;

use super::types;
use crate::catalog::object::{Address, CatalogObject, Defining, Definition, Identity};
use crate::catalog::reader::Reader;
use crate::error::Result;
use crate::postgres::Oid;
use crate::sql;

#[derive(Debug)]
pub struct CompositeType {
    identity: Identity,
    /// The pg_class row that holds the attributes.
    relation: Oid,
    array: Vec<Address>,
    attributes: Vec<Attribute>,
}

#[derive(Debug)]
struct Attribute {
    number: i32,
    name: BString,
    /// Type, and COLLATE where it is not the type's own.
    definition: BString,
}

pub async fn read(reader: &mut Reader<'_>) -> Result<Vec<CompositeType>> {
    let rows = reader
        .query(
            "attributes of composite types",
            "SELECT a.attrelid, a.attnum, a.attname,
                    format_type(a.atttypid, a.atttypmod) AS type,
                    cn.nspname AS collation_schema, c.collname AS collation
             FROM pg_class r
             JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
             JOIN pg_type at ON at.oid = a.atttypid
             LEFT JOIN pg_collation c
               ON c.oid = a.attcollation AND a.attcollation <> at.typcollation
             LEFT JOIN pg_namespace cn ON cn.oid = c.collnamespace
             WHERE r.relkind = 'c'
             ORDER BY a.attrelid, a.attnum",
        )
        .await?;
    let mut attributes: HashMap<Oid, Vec<Attribute>> = HashMap::new();
    for row in &rows {
        let collate = types::collate(row, "collation_schema", "collation")?;
        attributes
            .entry(row.number("attrelid")?)
            .or_default()
            .push(Attribute {
                number: row.number("attnum")?,
                name: row.text("attname")?,
                definition: sql!("{}{}", row.bytes("type")?, collate),
            });
    }
    let query = types::query(
        "t.typrelid",
        "JOIN pg_class r ON r.oid = t.typrelid",
        "t.typtype = 'c' AND r.relkind = 'c'",
    );
    let rows = reader.query("composite types", &query).await?;
    let mut composites = Vec::new();
    for row in &rows {
        let relation = row.number("typrelid")?;
        if let Some(identity) = types::identity(reader, row)? {
            composites.push(CompositeType {
                identity,
                relation,
                array: types::array_alias(row)?,
                attributes: attributes.remove(&relation).unwrap_or_default(),
            });
        }
    }
    Ok(composites)
}

impl CatalogObject for CompositeType {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn aliases(&self) -> Vec<Address> {
        let mut aliases = self.array.clone();
        aliases.push(Address::relation(self.relation));
        aliases
    }

    fn comment_columns(&self) -> Vec<(Address, i32, BString)> {
        let name = self.identity.sql();
        self.attributes
            .iter()
            .map(|attribute| {
                let column = sql::identifier(&attribute.name);
                (
                    Address::relation(self.relation),
                    attribute.number,
                    sql!("COLUMN {}.{}", name, column),
                )
            })
            .collect()
    }

    fn define(&self, _: &Defining<'_>) -> Result<Option<Definition>> {
        let attributes = self.attributes.iter().map(|attribute| {
            sql!(
                "\n    {} {}",
                sql::identifier(&attribute.name),
                attribute.definition
            )
        });
        let create = sql!(
            "CREATE TYPE {} AS ({}\n);\n",
            self.identity.sql(),
            sql::join(attributes, ",")
        );
        Ok(Some(types::definition("TYPE", &self.identity, create)))
    }
}
