//! What the planner knows of relations and their columns, as ANALYZE left it: kept where asked for,
//! and restored last of all, since loading rows and building indexes change it.
//!
//! PostgreSQL 18 takes these numbers back by functions. What they cannot say is left to ANALYZE: numbers
//! of extended statistics, and everything on an older server (`catalog::adapt`).

use std::collections::HashMap;

use bstr::BString;

use super::relation::{OWNER_COLUMNS, OWNER_JOINS, Relation};
use crate::archive::{Pass, Section};
use crate::catalog::object::{Address, CatalogObject, Defining, Definition, Identity, Part, class};
use crate::catalog::reader::{Reader, USER_SCHEMAS};
use crate::error::Result;
use crate::postgres::{Oid, Row};
use crate::sql;

#[derive(Debug)]
pub struct StatisticsData {
    /// Of the table, index or materialised view.
    identity: Identity,
    /// The table of an index, else the relation itself.
    table: Relation,
    create: BString,
    section: Section,
    is_partition: bool,
    needed: Address,
}

/// The arguments of pg_restore_attribute_stats that may be NULL in pg_stats, with their types.
const COLUMN_ARGUMENTS: [(&str, &str); 14] = [
    ("inherited", "boolean"),
    ("null_frac", "real"),
    ("avg_width", "integer"),
    ("n_distinct", "real"),
    ("most_common_vals", "text"),
    ("most_common_freqs", "real[]"),
    ("histogram_bounds", "text"),
    ("correlation", "real"),
    ("most_common_elems", "text"),
    ("most_common_elem_freqs", "real[]"),
    ("elem_count_histogram", "real[]"),
    ("range_length_histogram", "text"),
    ("range_empty_frac", "real"),
    ("range_bounds_histogram", "text"),
];

pub async fn read(reader: &mut Reader<'_>) -> Result<Vec<StatisticsData>> {
    if reader.scope.parts.no_statistics {
        return Ok(Vec::new());
    }
    let mut of_columns = read_columns(reader).await?;
    let frozen = match reader.version.at_least(18) {
        true => "x.relallfrozen",
        false => "NULL",
    };
    let rows = reader
        .query(
            "statistics",
            &format!(
                "SELECT x.oid, x.relname AS name, x.relkind AS kind, x.relispartition,
                        x.relpages, x.reltuples, x.relallvisible, {frozen} AS relallfrozen,
                        EXISTS (SELECT FROM pg_statistic_ext e WHERE e.stxrelid = x.oid)
                            AS is_extended, {OWNER_COLUMNS}
                 FROM pg_class x
                 LEFT JOIN pg_index i ON i.indexrelid = x.oid
                 JOIN pg_class c ON c.oid = coalesce(i.indrelid, x.oid)
                 {OWNER_JOINS}
                 WHERE x.relkind IN ('r', 'p', 'm', 'f', 'i', 'I') AND {USER_SCHEMAS}
                   AND (i.indexrelid IS NULL
                        OR ((i.indisvalid OR c.relkind = 'p') AND i.indisready))"
            ),
        )
        .await?;
    let version = reader.version.0.to_string();
    let mut statistics = Vec::new();
    for row in &rows {
        let table = Relation::from_row(row)?;
        if !reader.has_relation(table.oid) {
            continue;
        }
        let identity = Identity::in_schema(class::RELATION, row)?;
        let kind = row.char("kind")?;
        let is_analyzed = row.bool("is_extended")? && kind != b'f';
        let relation = Address::relation(identity.address.oid);
        statistics.push(StatisticsData {
            create: {
                let columns = of_columns.remove(&identity.address.oid);
                let columns = columns.unwrap_or_default();
                let mut create = match is_analyzed {
                    true => analyze(&identity),
                    false => BString::default(),
                };
                create.extend_from_slice(&statements(&version, &identity, kind, row, &columns)?);
                create
            },
            section: match kind {
                b'i' | b'I' | b'm' => Section::PostData,
                _ => Section::Data,
            },
            is_partition: row.bool("relispartition")?,
            needed: match kind {
                b'm' => relation.part(Part::Refresh),
                _ => relation,
            },
            identity: identity.part(Part::Statistics),
            table,
        });
    }
    Ok(statistics)
}

/// For extended statistics, which no function takes back; before what is. Heirs and partitions have
/// statements of their own.
fn analyze(identity: &Identity) -> BString {
    sql!("ANALYZE ONLY {};\n", identity.sql())
}

/// Statistics of one column, with its number and name, as arguments.
#[derive(Debug)]
struct OfColumn {
    number: BString,
    name: BString,
    arguments: BString,
}

async fn read_columns(reader: &mut Reader<'_>) -> Result<HashMap<Oid, Vec<OfColumn>>> {
    let ranges = match reader.version.at_least(17) {
        true => "s.range_length_histogram, s.range_empty_frac, s.range_bounds_histogram",
        false => {
            "NULL AS range_length_histogram, NULL AS range_empty_frac,
             NULL AS range_bounds_histogram"
        }
    };
    let rows = reader
        .query(
            "statistics of columns",
            &format!(
                "SELECT c.oid, a.attnum, s.attname, s.inherited, s.null_frac, s.avg_width,
                        s.n_distinct, s.most_common_vals, s.most_common_freqs, s.histogram_bounds,
                        s.correlation, s.most_common_elems, s.most_common_elem_freqs,
                        s.elem_count_histogram, {ranges}
                 FROM pg_stats s
                 JOIN pg_namespace n ON n.nspname = s.schemaname
                 JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = s.tablename
                 JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = s.attname
                 WHERE {USER_SCHEMAS}
                 ORDER BY c.oid, a.attnum, s.inherited"
            ),
        )
        .await?;
    let mut columns: HashMap<Oid, Vec<OfColumn>> = HashMap::new();
    for row in &rows {
        let mut arguments = BString::default();
        for (name, type_name) in COLUMN_ARGUMENTS {
            if let Some(value) = row.optional(name)? {
                arguments.extend_from_slice(&argument(name, value, type_name));
            }
        }
        columns
            .entry(row.number("oid")?)
            .or_default()
            .push(OfColumn {
                number: row.text("attnum")?,
                name: row.text("attname")?,
                arguments,
            });
    }
    Ok(columns)
}

/// `, 'name', 'value'::type`
fn argument(name: &str, value: impl AsRef<[u8]>, type_name: &str) -> BString {
    sql!(
        ",\n    {}, {}::{}",
        sql::literal(name),
        sql::literal(value),
        type_name
    )
}

fn statements(
    version: &str,
    identity: &Identity,
    kind: u8,
    row: &Row,
    columns: &[OfColumn],
) -> Result<BString> {
    let schema = identity.schema.clone().unwrap_or_default();
    let begin = |function: &str| {
        let mut text = sql!("SELECT * FROM pg_catalog.{}(\n    ", function);
        text.extend_from_slice(&sql!("'version', {}::integer", sql::literal(version)));
        text.extend_from_slice(&argument("schemaname", &schema, "text"));
        text.extend_from_slice(&argument("relname", &identity.name, "text"));
        text
    };
    let mut text = begin("pg_restore_relation_stats");
    for (name, type_name) in [
        ("relpages", "integer"),
        ("reltuples", "real"),
        ("relallvisible", "integer"),
        ("relallfrozen", "integer"),
    ] {
        if let Some(value) = row.optional(name)? {
            text.extend_from_slice(&argument(name, value, type_name));
        }
    }
    text.extend_from_slice(b"\n);\n");
    for column in columns {
        text.extend_from_slice(&begin("pg_restore_attribute_stats"));
        text.extend_from_slice(&match kind {
            // columns of indexes may be named otherwise by another server
            b'i' | b'I' => argument("attnum", &column.number, "smallint"),
            _ => argument("attname", &column.name, "text"),
        });
        text.extend_from_slice(&column.arguments);
        text.extend_from_slice(b"\n);\n");
    }
    Ok(text)
}

impl CatalogObject for StatisticsData {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn section(&self) -> Section {
        self.section
    }

    fn requires(&self) -> Vec<Address> {
        let relation = self.identity.address.part(Part::Definition);
        vec![relation, self.needed, self.table.address()]
    }

    fn define(&self, _: &Defining<'_>) -> Result<Option<Definition>> {
        let mut definition = Definition::new(
            "STATISTICS DATA",
            self.section,
            self.identity.name.clone(),
            self.create.clone(),
        );
        definition.pass = Pass::Last;
        // of those that ANALYZE would be run on: a partition's come with its parent's, an index's
        // with its table's, and a foreign server need not answer
        let is_own = self.table.name == self.identity.name;
        if is_own && !self.is_partition && self.table.kind != b'f' {
            definition.relation = Some(self.identity.name.clone());
        }
        Ok(Some(definition))
    }
}
