//! One transaction keeps a lock on each object that it makes, in a table of the server that is shared
//! by all and has an end.

use bstr::ByteSlice;

use super::{Finding, will_fail};
use crate::archive::Entry;
use crate::error::{Result, ResultExt};
use crate::postgres::Session;
use crate::restore::Options;

pub async fn check(
    session: &mut Session,
    entries: &[Entry],
    options: &Options,
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let rows = session
        .query(
            "SELECT current_setting('max_locks_per_transaction') AS locks,
                    current_setting('max_connections') AS connections,
                    current_setting('max_prepared_transactions') AS prepared,
                    (SELECT count(*) FROM pg_class WHERE oid >= 16384)
                    + (SELECT count(*) FROM pg_largeobject_metadata) AS objects",
        )
        .await
        .context("asking how many locks the target has room for")?;
    let row = rows.only()?;
    let number = |name: &str| row.number::<u64>(name);
    let room = number("locks")? * (number("connections")? + number("prepared")?);
    let of_each = entries.iter().map(locks);
    let needed: u64 = match options.transaction_size {
        None => {
            // what is dropped for -c was there
            let dropped = entries.iter().filter(|entry| !entry.drop.is_empty());
            let dropped: u64 = match options.clean {
                true => dropped.map(locks).sum(),
                false => 0,
            };
            of_each.sum::<u64>() + dropped.min(number("objects")?)
        }
        Some(size) => {
            // at worst, those that take most stand together
            let mut all: Vec<u64> = of_each.filter(|locks| *locks > 0).collect();
            all.sort_unstable_by(|left, right| right.cmp(left));
            all.iter().take(size as usize).sum()
        }
    };
    if needed <= room {
        return Ok(());
    }
    let (what, hint) = match options.transaction_size {
        None => (
            "one transaction for all",
            "raise max_locks_per_transaction, which takes a restart, or use --transaction-size instead of -1",
        ),
        Some(_) => (
            "each transaction",
            "raise max_locks_per_transaction, which takes a restart, or give a smaller --transaction-size",
        ),
    };
    findings.push(will_fail(
        format!(
            "{what} would keep about {needed} locks, and the target has room for {room} \
             (max_locks_per_transaction * (max_connections + max_prepared_transactions))"
        ),
        hint,
    ));
    Ok(())
}

/// Types of columns whose values may be long: their tables have a TOAST table, with an index.
const LONG: [&str; 9] = [
    " text",
    " character",
    " bytea",
    " json",
    " xml",
    " numeric",
    " tsvector",
    "[]",
    " bit varying",
];

/// Relations that an entry makes.
fn locks(entry: &Entry) -> u64 {
    match entry.kind.as_str() {
        _ if entry.create.is_empty() => 0,
        "TABLE" | "MATERIALIZED VIEW" => {
            let is_partitioned = entry.create.contains_str("\nPARTITION BY ");
            let is_long = LONG.iter().any(|name| entry.create.contains_str(name));
            if is_long && !is_partitioned { 3 } else { 1 }
        }
        "INDEX" | "CONSTRAINT" | "SEQUENCE" | "VIEW" | "FOREIGN TABLE" => 1,
        // a number each
        "BLOB METADATA" => entry.create.find_iter(",").count() as u64,
        _ => 0,
    }
}
