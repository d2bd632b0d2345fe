//! Who stands in the way of a lock.

use bstr::BString;
use postgres_types::Oid;

use super::rows::Row;
use super::session::Session;
use super::settings::{BEGIN_LOOKING, KnownSettings};
use crate::error::Result;
use crate::sql;

/// A session, or a prepared transaction, that holds up a lock.
#[derive(Debug)]
pub struct Blocker {
    /// None: a prepared transaction.
    pub process: Option<i32>,
    /// Without the text of what it runs, which may hold passwords and does not belong in every log.
    pub description: String,
    /// What it runs, or ran last. May be empty.
    pub query: String,
}

/// One of our sessions that waits for a lock.
#[derive(Debug)]
pub struct Wait {
    pub seconds: u64,
    pub blocker: Blocker,
}

/// Who holds, or waits for, a lock that conflicts with reading one of the relations.
pub async fn of_relations(
    session: &mut Session,
    known: &KnownSettings,
    relations: impl IntoIterator<Item = Oid>,
) -> Result<Vec<Blocker>> {
    let oids = relations.into_iter().map(|oid| oid.to_string());
    let locks = sql!(
        "SELECT k.*, 0 AS seconds FROM pg_locks k
         WHERE k.mode = 'AccessExclusiveLock' AND k.relation IN ({})
           AND k.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())",
        sql::join(oids, ", ")
    );
    let waits = look(session, known, &locks).await?;
    Ok(waits.into_iter().map(|wait| wait.blocker).collect())
}

/// Who holds up those of the processes that have waited for a lock for so long. None of `own` is
/// told: who waits for one of them may have to wait, and it is told itself where it waits too.
pub async fn of_processes(
    session: &mut Session,
    known: &KnownSettings,
    processes: &[i32],
    own: &[i32],
    patience: std::time::Duration,
) -> Result<Vec<Wait>> {
    let list = |processes: &[i32]| sql::join(processes.iter().map(i32::to_string), ", ");
    let locks = sql!(
        "SELECT DISTINCT ON (w.pid, k.pid, k.virtualtransaction) k.*,
                extract(epoch FROM w.waited)::bigint AS seconds
         FROM (SELECT *, clock_timestamp() - waitstart AS waited, pg_blocking_pids(pid) AS blockers
               FROM pg_locks WHERE NOT granted AND pid IN ({})) w
         JOIN pg_locks k
           ON (k.locktype, k.database, k.relation, k.page, k.tuple, k.virtualxid, k.transactionid,
               k.classid, k.objid, k.objsubid)
              IS NOT DISTINCT FROM
              (w.locktype, w.database, w.relation, w.page, w.tuple, w.virtualxid, w.transactionid,
               w.classid, w.objid, w.objsubid)
              -- prepared transactions are all called 0
              AND coalesce(k.pid, 0) = ANY (w.blockers)
         WHERE w.waited >= {} * interval '1 ms' AND coalesce(k.pid, 0) NOT IN ({})
         -- of several, the strongest
         ORDER BY w.pid, k.pid, k.virtualtransaction,
                  array_position(ARRAY['AccessExclusiveLock', 'ExclusiveLock',
                                       'ShareRowExclusiveLock', 'ShareLock',
                                       'ShareUpdateExclusiveLock', 'RowExclusiveLock',
                                       'RowShareLock', 'AccessShareLock'], k.mode),
                  k.granted DESC",
        list(processes),
        patience.as_millis().to_string(),
        list(own)
    );
    look(session, known, &locks).await
}

/// In a transaction of its own: the session may be that of a pooler.
async fn look(session: &mut Session, known: &KnownSettings, locks: &BString) -> Result<Vec<Wait>> {
    let encoding = session.parameter("server_encoding").unwrap_or("SQL_ASCII");
    let mut begin = BString::from(BEGIN_LOOKING);
    begin.extend_from_slice(&known.for_reading(encoding));
    session.execute(begin).await?;
    let rows = session
        .query(sql!(
            "SELECT coalesce(l.pid, 0) AS pid, l.seconds, l.granted, l.mode, l.locktype,
                    n.nspname AS schema, c.relname AS name, c.relkind,
                    coalesce(a.usename, p.owner, '?') AS usename,
                    coalesce(a.application_name, '') AS application,
                    coalesce(a.query, '') AS query, coalesce(p.gid, '') AS prepared,
                    coalesce(a.state, '') AS state,
                    coalesce(to_char(CASE a.state WHEN 'active' THEN a.query_start
                                                  ELSE a.state_change END,
                                     'YYYY-MM-DD HH24:MI:SS'), '?') AS since
             FROM ({}) l
             LEFT JOIN pg_class c ON c.oid = l.relation
             LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
             LEFT JOIN pg_stat_activity a ON a.pid = l.pid
             LEFT JOIN pg_prepared_xacts p
                  ON l.pid IS NULL
                     AND EXISTS (SELECT FROM pg_locks x
                                 WHERE x.locktype = 'transactionid' AND x.pid IS NULL
                                   AND x.transactionid = p.transaction
                                   AND x.virtualtransaction = l.virtualtransaction)
             ORDER BY l.granted DESC, l.pid LIMIT 10",
            locks
        ))
        .await?;
    session.execute("COMMIT").await?;
    rows.iter()
        .map(|row| {
            Ok(Wait {
                seconds: row.number("seconds")?,
                blocker: Blocker {
                    process: Some(row.number("pid")?).filter(|pid| *pid != 0),
                    description: describe(row)?,
                    query: row.string("query")?,
                },
            })
        })
        .collect()
}

fn describe(row: &Row) -> Result<String> {
    let user = row.string("usename")?;
    let lock = lock(row)?;
    let pid = row.number::<i32>("pid")?;
    if pid == 0 {
        let prepared = row.string("prepared")?;
        return Ok(format!(
            "prepared transaction \"{prepared}\" (user \"{user}\") {lock}"
        ));
    }
    let application = match row.string("application")? {
        name if name.is_empty() => String::new(),
        name => format!(", application \"{name}\""),
    };
    let mut text = format!("process {pid} (user \"{user}\"{application}) {lock}");
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

/// "holds an ACCESS EXCLUSIVE lock on table public.t"
fn lock(row: &Row) -> Result<String> {
    let verb = match row.bool("granted")? {
        true => "holds",
        false => "waits for",
    };
    let of_what = match (row.optional("schema")?, row.optional("name")?) {
        (Some(schema), Some(name)) => {
            let sort = match row.char("relkind")? {
                b'i' | b'I' => "index",
                b'S' => "sequence",
                b'v' => "view",
                b'm' => "materialized view",
                _ => "table",
            };
            format!("{sort} {}", sql::qualified(schema, name))
        }
        _ => match row.string("locktype")?.as_str() {
            // the usual way to wait for a row that another has written
            "transactionid" => return Ok("has not ended its transaction".to_owned()),
            "relation" => "a relation of another database".to_owned(),
            "object" => "an object".to_owned(),
            other => format!("type {other}"),
        },
    };
    let mode = mode(&row.string("mode")?);
    let article = match mode.as_bytes().first() {
        Some(b'A' | b'E') => "an",
        _ => "a",
    };
    Ok(format!("{verb} {article} {mode} lock on {of_what}"))
}

/// As LOCK names it: "ShareRowExclusiveLock" is SHARE ROW EXCLUSIVE.
fn mode(name: &str) -> String {
    let mut words = String::new();
    for character in name.strip_suffix("Lock").unwrap_or(name).chars() {
        if character.is_ascii_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.push(character.to_ascii_uppercase());
    }
    words
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
    fn modes_as_lock_names_them() {
        for (name, words) in [
            ("AccessExclusiveLock", "ACCESS EXCLUSIVE"),
            ("ShareRowExclusiveLock", "SHARE ROW EXCLUSIVE"),
            ("ShareLock", "SHARE"),
        ] {
            assert_eq!(mode(name), words);
        }
    }

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
