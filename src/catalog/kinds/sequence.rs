//! Sequences, those of identity columns too: these are made by giving the column its identity.

use bstr::BString;

use super::relation;
use crate::archive::Section;
use crate::catalog::object::{CatalogObject, Defining, Definition, Drop, Identity};
use crate::catalog::reader::Reader;
use crate::error::{Error, Result};
use crate::postgres::Row;
use crate::sql;

#[derive(Debug)]
pub struct Sequence {
    identity: Identity,
    data_type: DataType,
    start: i64,
    increment: i64,
    minimum: i64,
    maximum: i64,
    cache: i64,
    cycles: bool,
    unlogged: bool,
    identity_column: Option<IdentityColumn>,
}

/// The column that an identity sequence belongs to.
#[derive(Debug)]
struct IdentityColumn {
    /// As SQL.
    table: BString,
    name: BString,
    always: bool,
    unlogged: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DataType {
    SmallInt,
    Integer,
    BigInt,
}

pub async fn read(reader: &mut Reader<'_>) -> Result<Vec<Sequence>> {
    let query = relation::query(
        "s.seqstart, s.seqincrement, s.seqmin, s.seqmax, s.seqcache, s.seqcycle,
         format_type(s.seqtypid, NULL) AS type,
         tn.nspname AS table_schema, t.relname AS table_name, t.relpersistence AS table_persistence,
         ta.attname AS column_name, ta.attidentity",
        "JOIN pg_sequence s ON s.seqrelid = c.oid
         LEFT JOIN pg_depend d
           ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.objsubid = 0
              AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid > 0 AND d.deptype = 'i'
         LEFT JOIN pg_class t ON t.oid = d.refobjid
         LEFT JOIN pg_namespace tn ON tn.oid = t.relnamespace
         LEFT JOIN pg_attribute ta ON ta.attrelid = d.refobjid AND ta.attnum = d.refobjsubid",
        "'S'",
    );
    let rows = reader.query("sequences", &query).await?;
    let mut sequences = Vec::new();
    for row in &rows {
        if let Some(identity) = relation::identity(reader, row, &[])? {
            sequences.push(Sequence::from_row(identity, row)?);
        }
    }
    Ok(sequences)
}

impl DataType {
    fn from_name(name: &[u8]) -> Option<DataType> {
        match name {
            b"smallint" => Some(DataType::SmallInt),
            b"integer" => Some(DataType::Integer),
            b"bigint" => Some(DataType::BigInt),
            _ => None,
        }
    }

    /// Bounds that a sequence of this type has unless told otherwise.
    fn default_bounds(self, ascending: bool) -> (i64, i64) {
        let (least, greatest) = match self {
            DataType::SmallInt => (i64::from(i16::MIN), i64::from(i16::MAX)),
            DataType::Integer => (i64::from(i32::MIN), i64::from(i32::MAX)),
            DataType::BigInt => (i64::MIN, i64::MAX),
        };
        if ascending { (1, greatest) } else { (least, -1) }
    }
}

impl Sequence {
    fn from_row(identity: Identity, row: &Row) -> Result<Sequence> {
        let type_name = row.bytes("type")?;
        let data_type = DataType::from_name(type_name).ok_or_else(|| {
            Error::new(format!(
                "sequence {} is of an unknown type {type_name}",
                identity.sql()
            ))
        })?;
        let identity_column = match row.optional("column_name")? {
            Some(column) => Some(IdentityColumn {
                table: sql::qualified(row.bytes("table_schema")?, row.bytes("table_name")?),
                name: column.into(),
                always: row.char("attidentity")? == b'a',
                unlogged: row.char("table_persistence")? == b'u',
            }),
            None => None,
        };
        Ok(Sequence {
            identity,
            data_type,
            start: row.number("seqstart")?,
            increment: row.number("seqincrement")?,
            minimum: row.number("seqmin")?,
            maximum: row.number("seqmax")?,
            cache: row.number("seqcache")?,
            cycles: row.bool("seqcycle")?,
            unlogged: row.char("relpersistence")? == b'u',
            identity_column,
        })
    }

    /// One option a line.
    fn options(&self) -> BString {
        let (least, greatest) = self.data_type.default_bounds(self.increment >= 0);
        let bound = |keyword: &str, value: i64, usual: i64| {
            if value == usual {
                format!("NO {keyword}")
            } else {
                format!("{keyword} {value}")
            }
        };
        let mut options = vec![
            format!("START WITH {}", self.start),
            format!("INCREMENT BY {}", self.increment),
            bound("MINVALUE", self.minimum, least),
            bound("MAXVALUE", self.maximum, greatest),
            format!("CACHE {}", self.cache),
        ];
        if self.cycles {
            options.push("CYCLE".to_owned());
        }
        sql::join(options, "\n    ")
    }

    fn create(&self) -> BString {
        let name = self.identity.sql();
        let options = self.options();
        if let Some(column) = &self.identity_column {
            // said only where it differs: servers before 15 do not know it
            let persistence = match (self.unlogged, column.unlogged) {
                (true, false) => "    UNLOGGED\n",
                (false, true) => "    LOGGED\n",
                _ => "",
            };
            return sql!(
                "ALTER TABLE {} ALTER COLUMN {} ADD GENERATED {} AS IDENTITY (\n    \
                 SEQUENCE NAME {}\n{}    {}\n);\n",
                column.table,
                sql::identifier(&column.name),
                if column.always { "ALWAYS" } else { "BY DEFAULT" },
                name,
                persistence,
                options
            );
        }
        let data_type = match self.data_type {
            DataType::SmallInt => "    AS smallint\n",
            DataType::Integer => "    AS integer\n",
            DataType::BigInt => "",
        };
        sql!(
            "CREATE {}SEQUENCE {}\n{}    {};\n",
            if self.unlogged { "UNLOGGED " } else { "" },
            name,
            data_type,
            options
        )
    }
}

impl CatalogObject for Sequence {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn define(&self, _: &Defining<'_>) -> Result<Option<Definition>> {
        let name = self.identity.sql();
        let mut definition = Definition::new(
            "SEQUENCE",
            Section::PreData,
            self.identity.name.clone(),
            self.create(),
        )
        .target(sql!("SEQUENCE {}", name))
        .privileges("SEQUENCE", name);
        if self.identity_column.is_some() {
            // it goes with its column, and is owned by the table's owner from the start
            definition.drop = Drop::None;
            definition.owner_target = None;
        }
        Ok(Some(definition))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_bounds_depend_on_type_and_direction() {
        assert_eq!(DataType::SmallInt.default_bounds(true), (1, 32767));
        assert_eq!(DataType::Integer.default_bounds(false), (-2147483648, -1));
        assert_eq!(DataType::BigInt.default_bounds(true), (1, i64::MAX));
    }
}
