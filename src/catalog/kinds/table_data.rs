//! Rows of tables, and of the configuration tables of extensions.

use std::collections::HashMap;

use bstr::BString;

use super::extension_data::{self, IS_CONFIGURATION};
use super::relation::{OWNER_COLUMNS, OWNER_JOINS};
use crate::archive::{Contents, Section};
use crate::catalog::object::{Address, CatalogObject, Defining, Definition, Identity, Part, class};
use crate::catalog::reader::{Reader, USER_SCHEMAS};
use crate::error::Result;
use crate::postgres::Oid;

#[derive(Debug)]
pub struct TableData {
    identity: Identity,
    columns: Vec<BString>,
    filter: BString,
    /// The root of its partition tree, where rows may belong to another leaf after a restore.
    load_into: Option<BString>,
    /// Configuration tables that this one refers to: their foreign keys stand already.
    references: Vec<Address>,
}

pub async fn read(reader: &mut Reader<'_>) -> Result<Vec<TableData>> {
    if !reader.scope.parts.takes_rows() {
        return Ok(Vec::new());
    }
    let mut configuration = extension_data::read(reader).await?;
    let mut references = if configuration.is_empty() {
        HashMap::new()
    } else {
        read_references(reader, &configuration).await?
    };
    let through_root = reader.scope.load_via_partition_root;
    let rows = reader
        .query(
            "tables with rows",
            &format!(
                "SELECT c.oid, c.relname AS name, c.relpersistence, ft.ftserver AS server,
                        {OWNER_COLUMNS},
                        ARRAY(SELECT a.attname FROM pg_attribute a
                              WHERE a.attrelid = c.oid AND a.attnum > 0
                                AND NOT a.attisdropped AND a.attgenerated = ''
                              ORDER BY a.attnum) AS columns,
                        CASE WHEN c.relispartition AND ({through_root} OR EXISTS (
                                 SELECT FROM pg_partition_ancestors(c.oid) AS p(oid)
                                 JOIN pg_partitioned_table t ON t.partrelid = p.oid
                                 JOIN pg_opclass o ON o.oid = ANY (t.partclass)
                                 WHERE t.partstrat = 'h' AND o.opcintype = 'anyenum'::regtype))
                             THEN pg_partition_root(c.oid)::regclass END AS load_into
                 FROM pg_class c
                 {OWNER_JOINS}
                 LEFT JOIN pg_foreign_table ft ON ft.ftrelid = c.oid
                 WHERE c.relkind IN ('r', 'f') AND ({USER_SCHEMAS} OR {IS_CONFIGURATION})"
            ),
        )
        .await?;
    let mut data = Vec::new();
    for row in &rows {
        let identity = Identity::in_schema(class::RELATION, row)?;
        let oid = identity.address.oid;
        let mut filter = configuration.remove(&oid);
        if !reader.wants_data(oid, row.char("relpersistence")?) {
            continue;
        }
        if let Some(server) = row.optional_number("server")? {
            if !reader.chosen.foreign_data(server) {
                continue;
            }
            // COPY reads a foreign table only by a query
            filter = filter.or_else(|| {
                let is_wanted = reader.has_relation(oid);
                is_wanted.then(|| BString::from("WHERE true"))
            });
        }
        if filter.is_some() || reader.has_relation(oid) {
            data.push(TableData {
                identity: identity.part(Part::Data),
                columns: row.texts("columns")?,
                filter: filter.unwrap_or_default(),
                load_into: row.optional_text("load_into")?,
                references: references.remove(&oid).unwrap_or_default(),
            });
        }
    }
    Ok(data)
}

/// Foreign keys among configuration tables, by the table that refers.
async fn read_references(
    reader: &mut Reader<'_>,
    configuration: &HashMap<Oid, BString>,
) -> Result<HashMap<Oid, Vec<Address>>> {
    let rows = reader
        .query(
            "foreign keys of configuration tables",
            "SELECT DISTINCT k.conrelid, k.confrelid
             FROM pg_constraint k
             JOIN pg_extension e ON k.conrelid = ANY (e.extconfig)
             WHERE k.contype = 'f' AND k.conrelid <> k.confrelid",
        )
        .await?;
    let mut references: HashMap<Oid, Vec<Address>> = HashMap::new();
    for row in &rows {
        let referenced = row.number("confrelid")?;
        if configuration.contains_key(&referenced) {
            references
                .entry(row.number("conrelid")?)
                .or_default()
                .push(Address::relation(referenced).part(Part::Data));
        }
    }
    Ok(references)
}

impl CatalogObject for TableData {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn section(&self) -> Section {
        Section::Data
    }

    fn requires(&self) -> Vec<Address> {
        let mut requires = vec![self.identity.address.part(Part::Definition)];
        requires.extend(&self.references);
        requires
    }

    fn define(&self, _: &Defining<'_>) -> Result<Option<Definition>> {
        let mut definition =
            Definition::new("TABLE DATA", Section::Data, self.identity.name.clone(), "");
        definition.relation = Some(self.identity.name.clone());
        definition.contents = Contents::Rows {
            relation: self.identity.sql(),
            columns: self.columns.clone(),
            filter: self.filter.clone(),
        };
        definition.load_into = self.load_into.clone();
        Ok(Some(definition))
    }
}
