//! Who stands in the way of a lock.

use bstr::BString;

use super::lock::LockOptions;
use super::relations::Relation;
use crate::error::Result;
use crate::postgres::settings::{BEGIN_LOOKING, KnownSettings};
use crate::postgres::{Row, Session};
use crate::sql;

/// Who holds, or waits for, a lock that conflicts with reading one of the relations.
pub async fn blockers(
    leader: &mut Session,
    known: &KnownSettings,
    options: &LockOptions,
    batch: &[Relation],
) -> Result<Vec<String>> {
    let oids: Vec<String> = batch
        .iter()
        .map(|relation| relation.oid.to_string())
        .collect();
    let mut begin = BString::from(BEGIN_LOOKING);
    begin.extend_from_slice(&known.for_reading(&options.encoding));
    leader.execute(begin).await?;
    let rows = leader
        .query(sql!(
            "SELECT coalesce(l.pid, 0) AS pid, n.nspname AS schema, c.relname AS name, l.granted,
                    coalesce(a.usename, p.owner, '?') AS usename,
                    coalesce(a.application_name, '') AS application,
                    coalesce(a.query, '') AS query, coalesce(p.gid, '') AS prepared,
                    coalesce(a.state, '') AS state,
                    coalesce(to_char(CASE a.state WHEN 'active' THEN a.query_start
                                                  ELSE a.state_change END,
                                     'YYYY-MM-DD HH24:MI:SS'), '?') AS since
             FROM pg_locks l
             JOIN pg_class c ON c.oid = l.relation
             JOIN pg_namespace n ON n.oid = c.relnamespace
             LEFT JOIN pg_stat_activity a ON a.pid = l.pid
             LEFT JOIN pg_prepared_xacts p
                  ON l.pid IS NULL
                     AND EXISTS (SELECT FROM pg_locks x
                                 WHERE x.locktype = 'transactionid' AND x.pid IS NULL
                                   AND x.transactionid = p.transaction
                                   AND x.virtualtransaction = l.virtualtransaction)
             WHERE l.mode = 'AccessExclusiveLock' AND l.relation IN ({})
               AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
             ORDER BY l.granted DESC, l.pid LIMIT 10",
            sql::join(oids, ", ")
        ))
        .await?;
    leader.execute("COMMIT").await?;
    for row in &rows {
        let (pid, query) = (row.number::<i32>("pid")?, row.string("query")?);
        if !query.is_empty() {
            options
                .progress
                .log(|| format!("process {pid} runs, or ran last: {query}"));
        }
    }
    rows.iter().map(describe).collect()
}

/// Without the query's text, which may hold passwords and does not belong in every log.
fn describe(row: &Row) -> Result<String> {
    let user = row.string("usename")?;
    let table = sql::qualified(row.bytes("schema")?, row.bytes("name")?);
    let pid = row.number::<i32>("pid")?;
    if pid == 0 {
        let prepared = row.string("prepared")?;
        return Ok(format!(
            "prepared transaction \"{prepared}\" (user \"{user}\") holds an ACCESS EXCLUSIVE lock \
             on table {table}"
        ));
    }
    let verb = match row.bool("granted")? {
        true => "holds",
        false => "waits for",
    };
    let application = match row.string("application")? {
        name if name.is_empty() => String::new(),
        name => format!(", application \"{name}\""),
    };
    let mut text = format!(
        "process {pid} (user \"{user}\"{application}) {verb} an ACCESS EXCLUSIVE lock on table {table}"
    );
    // empty for those who may not know
    let state = row.string("state")?;
    if !state.is_empty() {
        text.push_str(&format!(", {state} since {} UTC", row.string("since")?));
        if let Some(command) = command(&row.string("query")?) {
            let relation = if state == "active" { "with" } else { "after" };
            text.push_str(&format!(" {relation} {command}"));
        }
    }
    Ok(text)
}

/// What commands begin with.
const COMMANDS: &[&str] = &[
    "ABORT",
    "ALTER",
    "ANALYZE",
    "BEGIN",
    "CALL",
    "CHECKPOINT",
    "CLOSE",
    "CLUSTER",
    "COMMENT",
    "COMMIT",
    "COPY",
    "CREATE",
    "DEALLOCATE",
    "DECLARE",
    "DELETE",
    "DISCARD",
    "DO",
    "DROP",
    "END",
    "EXECUTE",
    "EXPLAIN",
    "FETCH",
    "GRANT",
    "IMPORT",
    "INSERT",
    "LISTEN",
    "LOAD",
    "LOCK",
    "MERGE",
    "MOVE",
    "NOTIFY",
    "PREPARE",
    "REASSIGN",
    "REFRESH",
    "REINDEX",
    "RELEASE",
    "REPACK",
    "RESET",
    "REVOKE",
    "ROLLBACK",
    "SAVEPOINT",
    "SECURITY",
    "SELECT",
    "SET",
    "SHOW",
    "START",
    "TABLE",
    "TRUNCATE",
    "UNLISTEN",
    "UPDATE",
    "VACUUM",
    "VALUES",
    "WITH",
];

/// What may follow, and says more.
const OBJECTS: &[&str] = &[
    "TABLE",
    "INDEX",
    "MATERIALIZED",
    "VIEW",
    "SCHEMA",
    "SEQUENCE",
    "FOREIGN",
    "UNIQUE",
    "FUNCTION",
    "PROCEDURE",
    "TYPE",
    "DOMAIN",
    "TRIGGER",
    "EXTENSION",
    "RULE",
    "POLICY",
    "TRANSACTION",
    "FULL",
    "CONCURRENTLY",
];

/// The kind of command, such as "ALTER TABLE": known words only.
fn command(query: &str) -> Option<String> {
    let mut kind = String::new();
    for token in query.split_whitespace().take(3) {
        let end = token.find(|c: char| !c.is_ascii_alphabetic());
        let word = token[..end.unwrap_or(token.len())].to_ascii_uppercase();
        let known = if kind.is_empty() { COMMANDS } else { OBJECTS };
        if !known.contains(&word.as_str()) {
            break;
        }
        if !kind.is_empty() {
            kind.push(' ');
        }
        kind.push_str(&word);
        if end.is_some() {
            break;
        }
    }
    (!kind.is_empty()).then_some(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_kind_of_a_command_is_said() {
        for (query, kind) in [
            ("alter table t add secret text", "ALTER TABLE"),
            ("ALTER ROLE bob PASSWORD 'secret'", "ALTER"),
            ("BEGIN; LOCK TABLE u", "BEGIN"),
            ("LOCK TABLE sales.orders;", "LOCK TABLE"),
            (
                "\n REFRESH MATERIALIZED VIEW CONCURRENTLY v",
                "REFRESH MATERIALIZED VIEW",
            ),
            ("VACUUM (FULL) t", "VACUUM"),
            ("Select secret", "SELECT"),
        ] {
            assert_eq!(command(query).as_deref(), Some(kind), "{query}");
        }
        for query in [
            "",
            "/* secret */ DROP TABLE t",
            "secret",
            "<insufficient privilege>",
            "é",
        ] {
            assert_eq!(command(query), None, "{query}");
        }
    }
}
