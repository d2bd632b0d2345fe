//! Values of sequences. They do not follow snapshots: what is read is the state of this moment,
//! later than the rows, so that a restored sequence never hands out a value that a row has.

use std::collections::HashSet;

use bstr::BString;

use crate::archive::{EndRecord, EntryId};
use crate::error::{Result, ResultExt};
use crate::postgres::Session;
use crate::rows::Fingerprint;
use crate::rows::sequences::{BATCH, read_batch};
use crate::sql;

#[derive(Default)]
pub struct Values {
    /// One row a sequence, `last_value, is_called` as COPY text.
    pub rows: Vec<(Vec<u8>, u64, EndRecord)>,
    /// Sequences that cannot be read here, with the reason: they end with no row.
    pub skipped: Vec<(EntryId, String)>,
}

/// `standby`: unlogged sequences cannot be read.
pub async fn read(
    session: &mut Session,
    mut sequences: Vec<(EntryId, BString)>,
    standby: bool,
) -> Result<Values> {
    let mut values = Values::default();
    if standby {
        let unlogged = unlogged(session).await?;
        sequences.retain(|(entry, sequence)| {
            let readable = !unlogged.contains(sequence);
            if !readable {
                let reason = "values of unlogged sequences cannot be read on a standby";
                values
                    .skipped
                    .push((*entry, format!("{sequence}: {reason}")));
            }
            readable
        });
    }
    for batch in sequences.chunks(BATCH) {
        for (entry, value) in read_batch(session, batch).await? {
            let mut fingerprint = Fingerprint::default();
            fingerprint.add_row(&value);
            let end = EndRecord {
                entry,
                rows: 1,
                fingerprint: fingerprint.sum,
                chunks: 1,
                raw_length: value.len() as u64,
            };
            values.rows.push((value, 1, end));
        }
    }
    Ok(values)
}

/// Those of unlogged tables, from 15 on, as SQL names them.
async fn unlogged(session: &mut Session) -> Result<HashSet<BString>> {
    let rows = session
        .query(
            "SELECT n.nspname AS schema, c.relname AS name
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE c.relkind = 'S' AND c.relpersistence = 'u'",
        )
        .await
        .context("looking for unlogged sequences")?;
    rows.iter()
        .map(|row| Ok(sql::qualified(row.bytes("schema")?, row.bytes("name")?)))
        .collect()
}
