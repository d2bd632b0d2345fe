//! Objects that exist and are not kept yet. Until every kind is, a snapshot says what it leaves
//! out: nothing is dropped in silence.

use super::reader::{Reader, USER_SCHEMAS};
use crate::error::Result;

/// Notes each kind of which there are any.
pub(super) async fn read(reader: &mut Reader<'_>) -> Result<()> {
    let rows = reader
        .query(
            "objects that are not kept",
            &format!(
                "SELECT 'security labels' AS kind,
                        (SELECT count(*) FROM pg_seclabel)
                        + (SELECT count(*) FROM pg_shseclabel
                           WHERE classoid = 'pg_database'::regclass
                             AND objoid = (SELECT oid FROM pg_database
                                           WHERE datname = current_database())) AS count
                 UNION ALL
                 SELECT 'rows of configuration tables in schemas of the system', count(*)
                 FROM pg_extension e
                 CROSS JOIN unnest(e.extconfig) AS r (relation)
                 JOIN pg_class c ON c.oid = r.relation
                 JOIN pg_namespace n ON n.oid = c.relnamespace
                 WHERE NOT ({USER_SCHEMAS})"
            ),
        )
        .await?;
    for row in &rows {
        let count: u64 = row.number("count")?;
        if count > 0 {
            reader.leave_out(format!("{} ({count})", row.string("kind")?));
        }
    }
    Ok(())
}
