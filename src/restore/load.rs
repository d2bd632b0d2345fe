//! Bringing contents in: rows by COPY, sequence values, large objects.

use bstr::{BString, ByteSlice};

use super::source::Rows;
use crate::archive::{Contents, Entry};
use crate::error::{Error, Result};
use crate::postgres::{CopyIn, Session, TransactionState};
use crate::report::Progress;
use crate::sql;

/// Loads rows of an entry in a transaction of its own, unless one is open; returns how many the
/// server took. Nothing of them stays if it fails, unless the caller's transaction goes on.
pub async fn load(
    session: &mut Session,
    entry: &Entry,
    rows: Rows,
    progress: &Progress,
) -> Result<u64> {
    let own_transaction = session.state() == TransactionState::Idle;
    if own_transaction {
        session.execute("BEGIN").await?;
    }
    let taken = match &entry.contents {
        Contents::None => Ok(0),
        Contents::Rows {
            relation, columns, ..
        } => {
            let relation = entry.load_into.as_ref().unwrap_or(relation);
            copy_in(session, &copy_statement(relation, columns), rows, progress).await
        }
        Contents::SequenceValue { sequence } => {
            set_sequence(session, sequence, rows, progress).await
        }
        Contents::LargeObjects => large_objects(session, rows, progress).await,
    }?;
    if own_transaction {
        session.execute("COMMIT").await?;
    }
    Ok(taken)
}

fn copy_statement(relation: &BString, columns: &[BString]) -> BString {
    if columns.is_empty() {
        return sql!("COPY {} FROM STDIN", relation);
    }
    let columns = sql::join(columns.iter().map(sql::identifier), ", ");
    sql!("COPY {} ({}) FROM STDIN", relation, columns)
}

async fn copy_in(
    session: &mut Session,
    statement: &BString,
    mut rows: Rows,
    progress: &Progress,
) -> Result<u64> {
    let mut copy = session.copy_in(statement).await?;
    let mut sent = 0;
    loop {
        match rows.next().await {
            Ok(Some(piece)) => {
                copy.send(piece.bytes()).await?;
                sent += piece.rows();
                progress.add(piece.rows(), piece.bytes().len() as u64);
            }
            Ok(None) => break,
            Err(error) => return Err(give_up(copy, error).await?),
        }
    }
    let taken = copy.finish().await?;
    if taken != sent {
        return Err(Error::new(format!(
            "the server took {taken} rows of {sent} that were sent"
        ))
        .hint("a trigger or rule on the table may have dropped some"));
    }
    Ok(taken)
}

/// Ends a COPY whose rows cannot be had; hands the reason back.
async fn give_up(copy: CopyIn<'_>, error: Error) -> Result<Error> {
    copy.abort("the archive could not be read").await?;
    Ok(error)
}

/// The only row of a sequence, as a whole.
async fn collect(mut rows: Rows) -> Result<Vec<u8>> {
    // two numbers at most
    const LONGEST: usize = 64;
    let mut bytes = Vec::new();
    while let Some(piece) = rows.next().await? {
        bytes.extend_from_slice(piece.bytes());
        if bytes.len() > LONGEST {
            return Err(Error::new("the archive holds no value for the sequence"));
        }
    }
    Ok(bytes)
}

/// What the row of a sequence says: its value, and whether that has been called for.
pub fn sequence_value(row: &[u8]) -> Result<(i64, bool)> {
    let mut fields = row.trim_ascii_end().split(|&byte| byte == b'\t');
    let number = |field: Option<&[u8]>| -> Option<i64> { field?.to_str().ok()?.parse().ok() };
    match (number(fields.next()), fields.next()) {
        (Some(value), Some(called @ (b"t" | b"f"))) => Ok((value, called == b"t")),
        _ => Err(Error::new("the archive holds no value for the sequence")),
    }
}

async fn set_sequence(
    session: &mut Session,
    sequence: &BString,
    rows: Rows,
    progress: &Progress,
) -> Result<u64> {
    let row = collect(rows).await?;
    let (value, is_called) = sequence_value(&row)?;
    session
        .query(sql!(
            "SELECT pg_catalog.setval({}, {}, {})",
            sql::literal(sequence),
            value.to_string(),
            is_called.to_string()
        ))
        .await?;
    progress.add(1, row.len() as u64);
    Ok(1)
}

/// Large objects exist already, empty; their pages go through a temporary table, so that they
/// arrive by COPY and not as statements. One COPY a chunk: a row may be cut within one.
async fn large_objects(session: &mut Session, mut rows: Rows, progress: &Progress) -> Result<u64> {
    session
        .execute(
            "CREATE TEMPORARY TABLE rdump_large_object (id oid, start bigint, data bytea) ON COMMIT DROP",
        )
        .await?;
    let mut total = 0;
    let mut next = rows.next().await?;
    while let Some(first) = next {
        let mut copy = session
            .copy_in("COPY pg_temp.rdump_large_object FROM STDIN")
            .await?;
        let mut piece = first;
        loop {
            copy.send(piece.bytes()).await?;
            progress.add(piece.rows(), piece.bytes().len() as u64);
            if piece.is_last() {
                break;
            }
            piece = match rows.next().await {
                Ok(Some(piece)) => piece,
                Ok(None) => {
                    let error = Error::new("the archive broke off in the middle of a row");
                    return Err(give_up(copy, error).await?);
                }
                Err(error) => return Err(give_up(copy, error).await?),
            };
        }
        total += copy.finish().await?;
        session
            .query(
                "SELECT count(pg_catalog.lo_put(id, start, data)) FROM pg_temp.rdump_large_object;
                 TRUNCATE pg_temp.rdump_large_object",
            )
            .await?;
        next = rows.next().await?;
    }
    // the caller's transaction may be one that goes on
    session
        .execute("DROP TABLE pg_temp.rdump_large_object")
        .await?;
    Ok(total)
}
