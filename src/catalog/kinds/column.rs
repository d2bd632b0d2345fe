//! Columns of tables, views and materialised views.

use std::collections::HashMap;

use bstr::BString;

use super::{foreign_options, relation};
use crate::catalog::object::{Address, class};
use crate::catalog::reader::{Reader, USER_SCHEMAS};
use crate::error::Result;
use crate::postgres::{Oid, Row};
use crate::sql;

#[derive(Debug)]
pub(super) struct Column {
    pub number: i32,
    pub name: BString,
    pub type_name: BString,
    /// ` COLLATE x`, where it is not the type's own.
    pub collate: BString,
    /// Declared by this relation itself, not merely inherited.
    pub is_local: bool,
    /// `s`tored, `v`irtual, or zero.
    pub generated: u8,
    pub default: Option<ColumnExpression>,
    pub not_null: Option<NotNull>,
    /// The statistics target, where it was set.
    statistics: Option<i32>,
    /// Where it is not the type's own.
    storage: Option<&'static str>,
    type_storage: Option<&'static str>,
    compression: Option<&'static str>,
    options: Vec<BString>,
    /// Of a foreign table's column.
    foreign_options: Vec<BString>,
}

/// A default or a generation expression.
#[derive(Debug, Clone)]
pub(super) struct ColumnExpression {
    pub address: Address,
    pub expression: BString,
}

/// A NOT NULL constraint. Only servers from 18 on have it by name.
#[derive(Debug, Clone)]
pub(super) struct NotNull {
    pub constraint: Option<(Address, BString)>,
    pub is_local: bool,
    pub no_inherit: bool,
    /// If not, the constraint is an object of its own.
    pub is_valid: bool,
}

/// Columns of all relations of the given kinds (`'r', 'p'`), in order, without the dropped.
pub(super) async fn read(
    reader: &mut Reader<'_>,
    kinds: &str,
) -> Result<HashMap<Oid, Vec<Column>>> {
    let (not_null, join) = if reader.version.at_least(18) {
        (
            "co.oid AS not_null_oid, co.conname AS not_null_name, co.oid IS NOT NULL AS not_null,
             coalesce(co.convalidated, false) AS not_null_valid,
             coalesce(co.connoinherit, false) AS not_null_no_inherit,
             coalesce(co.conislocal, false) AS not_null_local",
            "LEFT JOIN pg_constraint co
               ON co.conrelid = a.attrelid AND co.contype = 'n' AND co.conkey = ARRAY[a.attnum]",
        )
    } else {
        (
            "NULL AS not_null_oid, NULL AS not_null_name, a.attnotnull AS not_null,
             true AS not_null_valid, false AS not_null_no_inherit, true AS not_null_local",
            "",
        )
    };
    let wanted = reader.of_described();
    let rows = reader
        .query(
            "columns",
            &format!(
                "SELECT a.attrelid, a.attnum, a.attname,
                        format_type(a.atttypid, a.atttypmod) AS type,
                        a.attislocal, a.attgenerated, a.attstattarget, a.attstorage, t.typstorage,
                        a.attcompression,
                        CASE WHEN a.attoptions IS NULL THEN '{{}}'
                             ELSE ARRAY(SELECT o FROM unnest(a.attoptions) AS o
                                        WHERE NOT starts_with(o, 'pg_attver='))
                             END AS attoptions,
                        coalesce(a.attfdwoptions, '{{}}') AS attfdwoptions,
                        cn.nspname AS collation_schema, cl.collname AS collation,
                        d.oid AS default_oid, pg_get_expr(d.adbin, d.adrelid) AS \"default\",
                        {not_null}
                 FROM pg_class c
                 JOIN pg_namespace n ON n.oid = c.relnamespace
                 JOIN pg_attribute a ON a.attrelid = c.oid
                 JOIN pg_type t ON t.oid = a.atttypid
                 LEFT JOIN pg_collation cl
                   ON cl.oid = a.attcollation AND a.attcollation <> t.typcollation
                 LEFT JOIN pg_namespace cn ON cn.oid = cl.collnamespace
                 LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
                 {join}
                 WHERE c.relkind IN ({kinds}) AND c.relpersistence <> 't'
                   AND a.attnum > 0 AND NOT a.attisdropped AND {USER_SCHEMAS} AND {wanted}
                 ORDER BY a.attrelid, a.attnum"
            ),
        )
        .await?;
    let mut columns: HashMap<Oid, Vec<Column>> = HashMap::new();
    for row in &rows {
        columns
            .entry(row.number("attrelid")?)
            .or_default()
            .push(Column {
                compression: column_compression(reader, row)?,
                ..Column::from_row(row)?
            });
    }
    Ok(columns)
}

/// None for the default, or where none is wanted.
fn column_compression(reader: &Reader<'_>, row: &Row) -> Result<Option<&'static str>> {
    Ok(match row.char("attcompression")? {
        _ if reader.scope.no_toast_compression => None,
        b'p' => Some("pglz"),
        b'l' => Some("lz4"),
        _ => None,
    })
}

impl Column {
    fn from_row(row: &Row) -> Result<Column> {
        let storage = row.char("attstorage")?;
        let default = match row.optional_number("default_oid")? {
            Some(oid) => Some(ColumnExpression {
                address: Address::new(class::ATTRDEF, oid),
                expression: row.text("default")?,
            }),
            None => None,
        };
        let not_null = if row.bool("not_null")? {
            let constraint = match row.optional_number("not_null_oid")? {
                Some(oid) => Some((
                    Address::new(class::CONSTRAINT, oid),
                    row.text("not_null_name")?,
                )),
                None => None,
            };
            Some(NotNull {
                constraint,
                is_local: row.bool("not_null_local")?,
                no_inherit: row.bool("not_null_no_inherit")?,
                is_valid: row.bool("not_null_valid")?,
            })
        } else {
            None
        };
        Ok(Column {
            number: row.number("attnum")?,
            name: row.text("attname")?,
            type_name: row.text("type")?,
            collate: super::types::collate(row, "collation_schema", "collation")?,
            is_local: row.bool("attislocal")?,
            generated: row.char("attgenerated")?,
            default,
            not_null,
            // servers before 17 have -1 for the default
            statistics: row
                .optional_number("attstattarget")?
                .filter(|target| *target >= 0),
            storage: (storage != row.char("typstorage")?)
                .then(|| storage_name(storage))
                .flatten(),
            type_storage: storage_name(row.char("typstorage")?),
            compression: None,
            // without pg_attver: a version that patched servers (15.20 and its like) keep for
            // themselves; their pg_dump leaves it out as well
            options: row.texts("attoptions")?,
            foreign_options: row.texts("attfdwoptions")?,
        })
    }

    /// What brings back the type's own storage and the default compression, where a new column gets
    /// another from this column of a parent.
    pub fn unlike_parent(&self, parent: &Column) -> Vec<String> {
        let mut clauses = Vec::new();
        if self.storage.is_none() && parent.storage.is_some() {
            clauses.extend(self.type_storage.map(|own| format!("SET STORAGE {own}")));
        }
        if self.compression.is_none() && parent.compression.is_some() {
            clauses.push("SET COMPRESSION default".to_owned());
        }
        clauses
    }

    pub fn has_valid_not_null(&self) -> bool {
        self.not_null.as_ref().is_some_and(|found| found.is_valid)
    }
}

fn storage_name(storage: u8) -> Option<&'static str> {
    match storage {
        b'p' => Some("PLAIN"),
        b'e' => Some("EXTERNAL"),
        b'x' => Some("EXTENDED"),
        b'm' => Some("MAIN"),
        _ => None,
    }
}

/// What only ALTER TABLE can say of columns: statistics targets, storage, compression, options.
pub(super) fn alterations(table: &BString, columns: &[Column]) -> BString {
    let mut text = BString::default();
    for column in columns {
        let mut changes = Vec::new();
        if let Some(target) = column.statistics {
            changes.push(sql!("SET STATISTICS {}", target.to_string()));
        }
        if let Some(storage) = column.storage {
            changes.push(sql!("SET STORAGE {}", storage));
        }
        if let Some(compression) = column.compression {
            changes.push(sql!("SET COMPRESSION {}", compression));
        }
        if !column.options.is_empty() {
            let options = relation::options(&column.options, "");
            changes.push(sql!("SET ({})", sql::join(options, ", ")));
        }
        if !column.foreign_options.is_empty() {
            let clause = foreign_options::clause(&column.foreign_options);
            changes.push(BString::from(clause.trim_ascii_start()));
        }
        for change in changes {
            text.extend_from_slice(&sql!(
                "ALTER TABLE ONLY {} ALTER COLUMN {} {};\n",
                table,
                sql::identifier(&column.name),
                change
            ));
        }
    }
    text
}

/// Where comments on columns are found, and what they are on.
pub(super) fn comments(
    address: Address,
    relation: &BString,
    columns: &[Column],
) -> Vec<(Address, i32, BString)> {
    columns
        .iter()
        .map(|column| {
            let name = sql::identifier(&column.name);
            (address, column.number, sql!("COLUMN {}.{}", relation, name))
        })
        .collect()
}

/// A query that gives no rows' worth of a view, but the right columns: for views in a loop.
pub(super) fn dummy_query(columns: &[Column]) -> BString {
    let columns = columns.iter().map(|column| {
        sql!(
            "\n    NULL::{}{} AS {}",
            column.type_name,
            column.collate,
            sql::identifier(&column.name)
        )
    });
    sql!("SELECT{}", sql::join(columns, ","))
}

/// The query of pg_get_viewdef without its semicolon, so that clauses may follow.
pub(super) fn view_query(definition: &[u8]) -> BString {
    BString::from(
        definition
            .trim_ascii_end()
            .strip_suffix(b";")
            .unwrap_or(definition),
    )
}
