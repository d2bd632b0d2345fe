//! Configuration tables of extensions: tables and sequences whose contents are the user's though
//! CREATE EXTENSION makes them (pg_extension_config_dump).

use std::collections::HashMap;

use bstr::BString;

use crate::catalog::reader::Reader;
use crate::error::Result;
use crate::postgres::Oid;

/// Whether relation `c` is one, wherever it is: an extension may have it in information_schema.
pub(super) const IS_CONFIGURATION: &str =
    "c.oid IN (SELECT unnest(x.extconfig) FROM pg_extension x)";

/// By relation: the filter, `WHERE ...` or empty.
pub(super) async fn read(reader: &mut Reader<'_>) -> Result<HashMap<Oid, BString>> {
    let rows = reader
        .query(
            "configuration tables of extensions",
            "SELECT e.oid AS extension, c.relation, coalesce(c.condition, '') AS condition,
                    coalesce(n.nspname, '') AS schema
             FROM pg_extension e
             CROSS JOIN unnest(e.extconfig, e.extcondition) AS c (relation, condition)
             LEFT JOIN pg_class r ON r.oid = c.relation
             LEFT JOIN pg_namespace n ON n.oid = r.relnamespace
             WHERE c.relation IS NOT NULL",
        )
        .await?;
    let mut wanted = HashMap::new();
    for row in &rows {
        let relation = row.number("relation")?;
        let (schema, extension) = (row.bytes("schema")?, row.number("extension")?);
        if reader.chosen.configuration(relation, schema, extension) {
            wanted.insert(relation, row.text("condition")?);
        }
    }
    Ok(wanted)
}
