//! Values of sequences. They do not follow snapshots: what is read is the state of this moment,
//! later than the rows, so that a restored sequence never hands out a value that a row has.

use bstr::BString;

use crate::archive::{EndRecord, EntryId};
use crate::error::Result;
use crate::postgres::Session;
use crate::rows::Fingerprint;
use crate::rows::sequences::{BATCH, read_batch};

/// One row a sequence, `last_value, is_called` as COPY text.
pub async fn read(
    session: &mut Session,
    sequences: &[(EntryId, BString)],
) -> Result<Vec<(Vec<u8>, u64, EndRecord)>> {
    let mut values = Vec::with_capacity(sequences.len());
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
            values.push((value, 1, end));
        }
    }
    Ok(values)
}
