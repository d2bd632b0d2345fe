//! Objects that exist and are not kept yet. Until every kind is, a snapshot says what it leaves
//! out: nothing is dropped in silence.

use super::reader::Reader;
use crate::error::Result;

/// Catalogs whose objects are not kept: what users call them, the catalog, and a condition.
const KINDS: &[(&str, &str, &str)] = &[
    ("access methods", "pg_am", ""),
    ("conversions", "pg_conversion", ""),
    ("event triggers", "pg_event_trigger", ""),
    ("foreign-data wrappers", "pg_foreign_data_wrapper", ""),
    ("foreign servers", "pg_foreign_server", ""),
    ("foreign tables", "pg_class", "o.relkind = 'f'"),
    ("operator classes", "pg_opclass", ""),
    ("operator families", "pg_opfamily", ""),
    ("publications", "pg_publication", ""),
    (
        "base and shell types",
        "pg_type",
        "o.typtype IN ('b', 'p') AND o.typelem = 0",
    ),
    ("text search configurations", "pg_ts_config", ""),
    ("text search dictionaries", "pg_ts_dict", ""),
    ("text search parsers", "pg_ts_parser", ""),
    ("text search templates", "pg_ts_template", ""),
    ("transforms", "pg_transform", ""),
];

/// Notes each kind of which there are any.
pub(super) async fn read(reader: &mut Reader<'_>) -> Result<()> {
    let mut selects: Vec<String> = KINDS
        .iter()
        .map(|(name, catalog, condition)| {
            let condition = if condition.is_empty() {
                "true"
            } else {
                condition
            };
            format!(
                "SELECT '{name}' AS kind, count(*) AS count FROM {catalog} o
                 WHERE o.oid >= 16384 AND {condition}
                   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = '{catalog}'::regclass
                                   AND d.objid = o.oid AND d.deptype IN ('e', 'i'))"
            )
        })
        .collect();
    // these columns of pg_subscription are everybody's
    selects.push(
        "SELECT 'subscriptions', count(*) FROM pg_subscription
         WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())"
            .to_owned(),
    );
    // pg_user_mapping itself is for superusers
    selects.push("SELECT 'user mappings', count(*) FROM pg_user_mappings".to_owned());
    selects.push("SELECT 'security labels', count(*) FROM pg_seclabel".to_owned());
    let rows = reader
        .query("objects that are not kept", &selects.join("\nUNION ALL "))
        .await?;
    for row in &rows {
        let count: u64 = row.number("count")?;
        if count > 0 {
            reader.leave_out(format!("{} ({count})", row.string("kind")?));
        }
    }
    Ok(())
}
