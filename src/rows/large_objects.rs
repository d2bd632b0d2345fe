//! Contents of large objects, as rows of (oid, offset, bytes).

use crate::error::{Result, ResultExt};
use crate::postgres::Session;

/// The COPY that reads all large objects. Whoever may read pg_largeobject gets its pages as they
/// are, holes and all; others go through the functions, which check each object's privileges.
pub async fn copy_statement(session: &mut Session) -> Result<&'static str> {
    let rows = session
        .query("SELECT has_table_privilege('pg_largeobject', 'SELECT') AS direct")
        .await
        .context("looking at large objects")?;
    Ok(if rows.only()?.bool("direct")? {
        PAGES
    } else {
        FUNCTIONS
    })
}

/// A page is a quarter of a block (LOBLKSIZE in large_object.h).
pub const PAGES: &str = "COPY (
    SELECT loid, pageno::bigint * (current_setting('block_size')::bigint / 4), data
    FROM pg_largeobject ORDER BY loid, pageno) TO STDOUT";

/// 262144 is INV_READ; 2 is SEEK_END. Pieces are whole pages, so that both ways give the same rows.
const FUNCTIONS: &str = "COPY (
    SELECT m.oid, page.start,
           lo_get(m.oid, page.start, (current_setting('block_size')::bigint / 4)::integer)
    FROM (SELECT oid, lo_lseek64(lo_open(oid, 262144), 0, 2) AS size
          FROM pg_largeobject_metadata ORDER BY oid) m
    CROSS JOIN LATERAL generate_series(0, m.size - 1,
          current_setting('block_size')::bigint / 4) AS page(start)) TO STDOUT";
