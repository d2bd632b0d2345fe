//! Values of sequences: the archive's against the database's of this moment.

use std::collections::HashMap;

use bstr::{BString, ByteSlice};

use super::finding::{Finding, FindingKind, Reason};
use super::matching::{Pair, label};
use super::rows::HINT_PERMISSION;
use super::target::{recover, set_savepoint};
use crate::archive::{Contents, EndRecord, EntryId, RandomReader, Segment};
use crate::error::{Error, Result};
use crate::postgres::Session;
use crate::rows::Fingerprint;
use crate::rows::sequences::{BATCH, read_batch};
use crate::storage::ReadAt;

/// Compares all of them in few statements.
pub async fn compare<R: ReadAt>(
    session: &mut Session,
    reader: &RandomReader<R>,
    sequences: &[(Pair<'_>, EndRecord)],
) -> Result<Vec<(EntryId, Finding)>> {
    let mut findings = Vec::new();
    set_savepoint(session).await?;
    for batch in sequences.chunks(BATCH) {
        let wanted: Vec<(EntryId, BString)> = batch
            .iter()
            .filter_map(|(pair, _)| match &pair.found.contents {
                Contents::SequenceValue { sequence } => Some((pair.expected.id, sequence.clone())),
                _ => None,
            })
            .collect();
        let values = read(session, &wanted).await?;
        for (pair, end) in batch {
            let id = pair.expected.id;
            let finding = match values.get(&id) {
                Some(Ok(value)) => compare_value(reader, pair, end, value)?,
                Some(Err(error)) => Some(not_comparable(pair, Reason::of(error, HINT_PERMISSION))),
                None => Some(not_comparable(
                    pair,
                    Reason::from("the server gave no value"),
                )),
            };
            findings.extend(finding.map(|finding| (id, finding)));
        }
    }
    Ok(findings)
}

fn not_comparable(pair: &Pair<'_>, reason: Reason) -> Finding {
    Finding::not_comparable(label(pair.expected), reason)
}

/// A batch in one statement; where that fails, one by one, to know which cannot be read.
async fn read(
    session: &mut Session,
    wanted: &[(EntryId, BString)],
) -> Result<HashMap<EntryId, Result<Vec<u8>>>> {
    if wanted.is_empty() {
        return Ok(HashMap::new());
    }
    let mut values = HashMap::new();
    match read_batch(session, wanted).await {
        Ok(read) => values.extend(read.into_iter().map(|(id, value)| (id, Ok(value)))),
        Err(error) => {
            recover(session, error).await?;
            for one in wanted {
                match read_batch(session, std::slice::from_ref(one)).await {
                    Ok(read) => values.extend(read.into_iter().map(|(id, value)| (id, Ok(value)))),
                    Err(error) => {
                        let error = recover(session, error).await?;
                        values.insert(one.0, Err(error));
                    }
                }
            }
        }
    }
    Ok(values)
}

fn compare_value<R: ReadAt>(
    reader: &RandomReader<R>,
    pair: &Pair<'_>,
    end: &EndRecord,
    value: &[u8],
) -> Result<Option<Finding>> {
    let mut found = Fingerprint::default();
    found.add_row(value);
    if found == Fingerprint::of_end(end) {
        return Ok(None);
    }
    let expected = archived_value(reader, pair.expected.id)?;
    Ok(Some(Finding::new(
        FindingKind::SequenceValue {
            expected: expected.map_or_else(|| "none".to_owned(), |value| described(&value)),
            found: described(value),
        },
        label(pair.expected),
        "",
    )))
}

/// The one row of an entry. None where it has no row: an unlogged sequence read on a standby.
fn archived_value<R: ReadAt>(reader: &RandomReader<R>, entry: EntryId) -> Result<Option<Vec<u8>>> {
    let Some(chunk) = reader.chunks(entry)?.first().copied() else {
        return Ok(None);
    };
    let block = reader.read_block(chunk.block)?;
    let position = chunk.segment as usize;
    match block.segments.get(position) {
        Some(Segment::Rows(rows)) if rows.entry == entry => {
            Ok(Some(block.segment_bytes(position).to_vec()))
        }
        _ => Err(Error::new(format!(
            "the archive is damaged: block {} does not hold the value of entry {}",
            chunk.block, entry.0
        ))),
    }
}

/// "42", or "42 (not yet used)".
fn described(row: &[u8]) -> String {
    let row = row.trim_end_with(|c| c == '\n');
    match row.split_once_str("\t") {
        Some((value, b"f")) => format!("{} (not yet used)", value.as_bstr()),
        Some((value, _)) => value.as_bstr().to_string(),
        None => row.as_bstr().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_in_words() {
        assert_eq!(described(b"42\tt\n"), "42");
        assert_eq!(described(b"1\tf\n"), "1 (not yet used)");
    }
}
