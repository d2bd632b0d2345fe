//! Values of sequences. They do not follow snapshots: what is read is the state of this moment.

use bstr::BString;

use crate::archive::EntryId;
use crate::error::{Result, ResultExt};
use crate::postgres::Session;
use crate::sql;

/// Sequences that one statement should read at most.
pub const BATCH: usize = 500;

/// One row a sequence, `last_value, is_called` as COPY text. The entry's number only says which is
/// which.
pub async fn read_batch(
    session: &mut Session,
    batch: &[(EntryId, BString)],
) -> Result<Vec<(EntryId, Vec<u8>)>> {
    let selects = batch.iter().map(|(entry, sequence)| {
        sql!(
            "SELECT {} AS entry, last_value, is_called FROM {}",
            entry.0.to_string(),
            sequence
        )
    });
    let rows = session
        .query(sql::join(selects, "\nUNION ALL "))
        .await
        .context("reading the values of sequences")?;
    rows.iter()
        .map(|row| {
            let value = sql!(
                "{}\t{}\n",
                row.bytes("last_value")?,
                row.bytes("is_called")?
            );
            Ok((EntryId(row.number("entry")?), value.into()))
        })
        .collect()
}
