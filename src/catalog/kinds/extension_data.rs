//! Configuration tables of extensions: tables and sequences whose contents are the user's though
//! CREATE EXTENSION makes them (pg_extension_config_dump).

use std::collections::HashMap;

use bstr::BString;

use crate::catalog::reader::Reader;
use crate::error::Result;
use crate::postgres::Oid;

/// By relation: the filter, `WHERE ...` or empty.
pub(super) async fn read(reader: &mut Reader<'_>) -> Result<HashMap<Oid, BString>> {
    let rows = reader
        .query(
            "configuration tables of extensions",
            "SELECT c.relation, coalesce(c.condition, '') AS condition
             FROM pg_extension e
             CROSS JOIN unnest(e.extconfig, e.extcondition) AS c (relation, condition)
             WHERE c.relation IS NOT NULL",
        )
        .await?;
    rows.iter()
        .map(|row| Ok((row.number("relation")?, row.text("condition")?)))
        .collect()
}
