//! Indexes that no constraint brings along.

use bstr::BString;

use super::relation::{self, OWNER_COLUMNS, OWNER_JOINS, Relation};
use crate::archive::Section;
use crate::catalog::object::{Address, CatalogObject, Defining, Definition, Drop, Identity, class};
use crate::catalog::reader::{Reader, USER_SCHEMAS};
use crate::error::Result;
use crate::postgres::Row;
use crate::sql;

#[derive(Debug)]
pub struct Index {
    identity: Identity,
    relation: Relation,
    definition: BString,
    properties: IndexProperties,
    /// Part of a partitioned table's index, and dropped with that.
    is_attached: bool,
}

/// What has to be said of an index beside its creation, also of a constraint's.
#[derive(Debug)]
pub(super) struct IndexProperties {
    pub address: Address,
    schema: BString,
    name: BString,
    pub tablespace: Option<BString>,
    is_clustered: bool,
    is_replica_identity: bool,
    /// Column numbers and their targets.
    statistics: Vec<(i32, i32)>,
    extensions: Vec<BString>,
}

/// Columns of a query over the index `i` and its pg_class row `x`.
pub(super) fn properties_columns() -> String {
    // only an expression has a target of its own
    let targets_of = "CASE WHEN i.indexprs IS NULL THEN '{}' ELSE";
    format!(
        "x.oid AS index_oid, x.relname AS index_name, i.indisclustered, i.indisreplident,
         CASE WHEN x.reltablespace <> 0
              THEN (SELECT s.spcname FROM pg_tablespace s WHERE s.oid = x.reltablespace)
              END AS tablespace,
         {targets_of} ARRAY(SELECT a.attnum FROM pg_attribute a
                            WHERE a.attrelid = x.oid AND a.attstattarget >= 0
                            ORDER BY a.attnum) END AS statistics_columns,
         {targets_of} ARRAY(SELECT a.attstattarget FROM pg_attribute a
                            WHERE a.attrelid = x.oid AND a.attstattarget >= 0
                            ORDER BY a.attnum) END AS statistics_targets,
         {}",
        relation::extensions_column("pg_class", "x.oid")
    )
}

impl IndexProperties {
    pub fn from_row(row: &Row, relation: &Relation) -> Result<IndexProperties> {
        let columns = row.numbers("statistics_columns")?;
        let targets = row.numbers("statistics_targets")?;
        Ok(IndexProperties {
            address: Address::relation(row.number("index_oid")?),
            schema: relation.schema.clone(),
            name: row.text("index_name")?,
            tablespace: row.optional_text("tablespace")?,
            is_clustered: row.bool("indisclustered")?,
            is_replica_identity: row.bool("indisreplident")?,
            statistics: columns.into_iter().zip(targets).collect(),
            extensions: row.texts("extensions")?,
        })
    }

    pub fn sql(&self) -> BString {
        sql::qualified(&self.schema, &self.name)
    }

    /// Statements after the one that makes the index.
    pub fn alterations(&self, relation: &Relation) -> BString {
        let (table, index) = (relation.sql(), sql::identifier(&self.name));
        let mut text = BString::default();
        if self.is_clustered {
            text.extend_from_slice(&sql!("ALTER TABLE {} CLUSTER ON {};\n", table, index));
        }
        for (column, target) in &self.statistics {
            text.extend_from_slice(&sql!(
                "ALTER INDEX {} ALTER COLUMN {} SET STATISTICS {};\n",
                self.sql(),
                column.to_string(),
                target.to_string()
            ));
        }
        text.extend_from_slice(&relation::depends_on_extensions(
            &sql!("INDEX {}", self.sql()),
            &self.extensions,
        ));
        if self.is_replica_identity {
            text.extend_from_slice(&sql!(
                "ALTER TABLE ONLY {} REPLICA IDENTITY USING INDEX {};\n",
                table,
                index
            ));
        }
        text
    }
}

pub async fn read(reader: &mut Reader<'_>) -> Result<Vec<Index>> {
    let mut indexes = Vec::new();
    // a helper begins at the other end
    for query in queries(reader).iter().rev() {
        for row in &reader.query("indexes", query).await? {
            indexes.extend(index(reader, row)?);
        }
    }
    Ok(indexes)
}

/// The server takes longer over these definitions than over all others: in parts, two connections
/// can share them.
const PARTS: u32 = 4;

/// Each finds a part of all indexes. Tells them apart by runs of OIDs, since every third or fourth
/// OID may well be an index, where tables have been made in a row.
pub fn queries(reader: &Reader<'_>) -> Vec<String> {
    let wanted = reader.of_wanted();
    let properties = properties_columns();
    (0..PARTS)
        .map(|part| {
            format!(
                "SELECT x.oid, x.relname AS name, x.relispartition,
                        (i.indisvalid OR c.relkind = 'p') AND i.indisready AS is_usable,
                        pg_get_indexdef(x.oid) AS definition, {properties}, {OWNER_COLUMNS}
                 FROM pg_index i
                 JOIN pg_class x ON x.oid = i.indexrelid
                 JOIN pg_class c ON c.oid = i.indrelid
                 {OWNER_JOINS}
                 WHERE c.relkind IN ('r', 'p', 'm') AND {USER_SCHEMAS} AND {wanted}
                   AND i.indexrelid::bigint / 64 % {PARTS} = {part}
                   AND NOT EXISTS (SELECT FROM pg_constraint k
                                   WHERE k.conrelid = i.indrelid AND k.conindid = i.indexrelid
                                     AND k.contype IN ('p', 'u', 'x'))"
            )
        })
        .collect()
}

/// None if it is not wanted, or of no use.
fn index(reader: &mut Reader<'_>, row: &Row) -> Result<Option<Index>> {
    let relation = Relation::from_row(row)?;
    if !reader.has_relation(relation.oid) {
        return Ok(None);
    }
    let identity = Identity::in_schema(class::RELATION, row)?;
    if !row.bool("is_usable")? {
        reader.warn(format!(
            "index {} is left out: it is invalid, left behind by a command that failed or is still \
             running",
            identity.sql()
        ));
        return Ok(None);
    }
    Ok(Some(Index {
        identity,
        definition: row.text("definition")?,
        properties: IndexProperties::from_row(row, &relation)?,
        is_attached: row.bool("relispartition")?,
        relation,
    }))
}

impl CatalogObject for Index {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn section(&self) -> Section {
        Section::PostData
    }

    fn requires(&self) -> Vec<Address> {
        vec![self.relation.address()]
    }

    fn define(&self, _: &Defining<'_>) -> Result<Option<Definition>> {
        let mut create = sql!("{};\n", self.definition);
        create.extend_from_slice(&self.properties.alterations(&self.relation));
        let target = sql!("INDEX {}", self.identity.sql());
        let mut definition = Definition::new(
            "INDEX",
            Section::PostData,
            self.identity.name.clone(),
            create,
        );
        definition.relation = Some(self.relation.name.clone());
        definition.tablespace = self.properties.tablespace.clone();
        definition.comment_target = Some(target.clone());
        if !self.is_attached {
            definition.drop = Drop::Object(target);
        }
        Ok(Some(definition))
    }
}
