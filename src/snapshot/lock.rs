//! Lock, then look.
//!
//! A snapshot does not protect from DDL: a table truncated or rewritten after the snapshot was
//! taken reads as empty under it, and one dropped cannot be read at all. So all relations are
//! locked first, in a transaction that has no snapshot yet (LOCK takes none); only then the
//! snapshot is taken, and what it shows is compared with what was locked. Any difference means
//! another try. Leader, locks and snapshot are one transaction, so that whoever holds the locks
//! can also read every table under the snapshot.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bstr::BString;

use crate::error::{Error, Result, ResultExt};
use crate::postgres::settings::{KnownSettings, set_local};
use crate::postgres::{Row, Session};
use crate::sql;

/// A relation with rows, as one look at the catalogs shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    pub oid: u32,
    pub schema: BString,
    pub name: BString,
    /// Unlogged relations cannot be read on a standby.
    pub unlogged: bool,
    /// A partitioned table: locked, but without rows of its own.
    pub partitioned: bool,
    /// Table scans may be cut by ctid: an ordinary heap.
    pub splittable: bool,
    pub heap_bytes: u64,
    pub toast_bytes: u64,
    /// Its file is another one than the catalogs of this snapshot say.
    moved: bool,
    readable: bool,
}

impl Relation {
    pub fn bytes(&self) -> u64 {
        self.heap_bytes.saturating_add(self.toast_bytes)
    }

    fn is_same(&self, other: &Relation) -> bool {
        self.oid == other.oid
            && self.schema == other.schema
            && self.name == other.name
            && self.partitioned == other.partitioned
    }
}

/// The exported snapshot that all sessions of a run share.
#[derive(Debug)]
pub struct Snapshot {
    /// As pg_export_snapshot names it.
    pub id: String,
    /// When it was taken, by the server's clock, in microseconds since 1970 UTC.
    pub time: i64,
    pub relations: Vec<Relation>,
    pub block_size: u64,
}

/// More tries than any real series of migrations needs within seconds.
const MAX_TRIES: u32 = 50;

/// Relations named by one LOCK: few round trips, and statements of bounded length.
const LOCK_BATCH: usize = 500;

pub struct LockOptions {
    /// How long to wait for a lock that another session holds.
    pub wait: Duration,
    /// The database's encoding.
    pub encoding: String,
    pub hook: Option<WindowHook>,
}

impl LockOptions {
    pub async fn at(&self, window: Window) {
        if let Some(hook) = &self.hook {
            hook(window).await;
        }
    }
}

/// Locks all relations and takes the snapshot, in a transaction that the session keeps open.
pub async fn lock_and_snapshot(
    leader: &mut Session,
    known: &KnownSettings,
    options: &LockOptions,
) -> Result<Snapshot> {
    let mut reason = String::new();
    for attempt in 0..MAX_TRIES {
        if attempt > 0 {
            give_way(leader, attempt).await?;
        }
        match try_once(leader, known, options).await? {
            Attempt::Done(snapshot) => return Ok(snapshot),
            Attempt::Changed(what) => reason = what,
        }
    }
    Err(Error::new(format!(
        "tables keep changing while they are being locked ({MAX_TRIES} tries): {reason}"
    ))
    .hint("run again when no other session creates, drops, truncates or rewrites tables"))
}

/// Ends the transaction of a try that came to nothing, and lets the others go on for a while.
pub async fn give_way(leader: &mut Session, attempt: u32) -> Result<()> {
    leader.execute("ROLLBACK").await?;
    tokio::time::sleep(Duration::from_millis(20 * u64::from(attempt.min(25)))).await;
    Ok(())
}

enum Attempt {
    Done(Snapshot),
    Changed(String),
}

async fn try_once(
    leader: &mut Session,
    known: &KnownSettings,
    options: &LockOptions,
) -> Result<Attempt> {
    let listed = list_before_locking(leader, known, &options.encoding).await?;
    options.at(Window::Listed).await;

    let mut begin = BString::from("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;\n");
    begin.extend_from_slice(&known.for_reading(&options.encoding));
    begin.extend_from_slice(&set_local(
        "lock_timeout",
        &format!("{}ms", options.wait.as_millis()),
    ));
    leader
        .execute(begin)
        .await
        .context("starting the transaction")?;
    for batch in listed.chunks(LOCK_BATCH) {
        if let Err(error) = leader.execute(lock_statement(batch, false)).await {
            return after_failed_lock(leader, known, batch, error, options).await;
        }
    }
    leader.execute(set_local("lock_timeout", "0")).await?;
    options.at(Window::Locked).await;

    // the first statement that needs a snapshot takes it
    let rows = leader
        .query(
            "SELECT pg_export_snapshot() AS id,
                    (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS time,
                    current_setting('block_size') AS block_size",
        )
        .await
        .context("exporting the snapshot")?;
    let row = rows.only()?;
    let (id, time) = (row.string("id")?, row.number("time")?);
    let block_size = row.number("block_size")?;
    options.at(Window::SnapshotTaken).await;

    // locks on catalogs would last as long as the run, and a VACUUM FULL of a catalog that waits
    // for them would keep everybody out of it, our workers too
    leader.execute("SAVEPOINT rdump_list").await?;
    let mut relations = list(leader).await?;
    if let Some(change) = difference(&listed, &relations) {
        return Ok(Attempt::Changed(change));
    }
    measure(leader, &mut relations).await?;
    leader
        .execute("ROLLBACK TO rdump_list; RELEASE rdump_list")
        .await?;
    Ok(Attempt::Done(Snapshot {
        id,
        time,
        relations,
        block_size,
    }))
}

/// Outside the transaction, since it would take the snapshot too early.
async fn list_before_locking(
    leader: &mut Session,
    known: &KnownSettings,
    encoding: &str,
) -> Result<Vec<Relation>> {
    let mut begin = BString::from("BEGIN READ ONLY;\n");
    begin.extend_from_slice(&known.for_reading(encoding));
    leader.execute(begin).await?;
    let listed = list(leader).await?;
    refuse_unreadable(leader, &listed).await?;
    leader.execute("COMMIT").await?;
    Ok(listed)
}

/// Tables that are the user's, and those of extensions whose rows are configuration.
const LIST: &str = "
    SELECT c.oid, n.nspname AS schema, c.relname AS name,
           c.relpersistence = 'u' AS unlogged,
           c.relkind = 'p' AS partitioned,
           c.relkind = 'r' AND coalesce(a.amname = 'heap', false) AS splittable,
           c.relkind = 'r' AND c.relfilenode IS DISTINCT FROM pg_relation_filenode(c.oid) AS moved,
           coalesce(has_schema_privilege(n.oid, 'USAGE')
                    AND has_table_privilege(c.oid, 'SELECT'), false) AS readable
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_am a ON a.oid = c.relam
    WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND c.oid >= 16384
      AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
      AND (NOT EXISTS (SELECT FROM pg_depend d
                       WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
           OR c.oid IN (SELECT unnest(e.extconfig) FROM pg_extension e))
    ORDER BY c.oid";

async fn list(session: &mut Session) -> Result<Vec<Relation>> {
    let rows = session.query(LIST).await.context("listing tables")?;
    rows.iter().map(relation).collect()
}

/// Only of relations that we have locked: asking for a size takes a lock, and would wait without
/// limit, and without a word, for whoever has locked the table against us.
async fn measure(leader: &mut Session, relations: &mut [Relation]) -> Result<()> {
    let oids = relations
        .iter()
        .filter(|relation| !relation.partitioned)
        .map(|relation| relation.oid.to_string());
    let rows = leader
        .query(sql!(
            "SELECT c.oid, coalesce(pg_relation_size(c.oid), 0) AS heap_bytes,
                    CASE WHEN c.reltoastrelid <> 0
                         THEN coalesce(pg_relation_size(c.reltoastrelid), 0) ELSE 0 END AS toast_bytes
             FROM pg_class c WHERE c.oid = ANY ('{{}}'::oid[]) ORDER BY c.oid",
            sql::join(oids, ",")
        ))
        .await
        .context("reading the sizes of tables")?;
    for row in &rows {
        // listed by OID
        let oid: u32 = row.number("oid")?;
        if let Ok(at) = relations.binary_search_by_key(&oid, |relation| relation.oid) {
            relations[at].heap_bytes = row.number("heap_bytes")?;
            relations[at].toast_bytes = row.number("toast_bytes")?;
        }
    }
    Ok(())
}

fn relation(row: &Row) -> Result<Relation> {
    Ok(Relation {
        oid: row.number("oid")?,
        schema: row.text("schema")?,
        name: row.text("name")?,
        unlogged: row.bool("unlogged")?,
        partitioned: row.bool("partitioned")?,
        splittable: row.bool("splittable")?,
        heap_bytes: 0,
        toast_bytes: 0,
        moved: row.bool("moved")?,
        readable: row.bool("readable")?,
    })
}

/// Sequences are not locked, but their values are read.
const UNREADABLE_SEQUENCES: &str = "
    SELECT n.nspname AS schema, c.relname AS name
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'S' AND c.relpersistence <> 't' AND c.oid >= 16384
      AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
      AND NOT EXISTS (SELECT FROM pg_depend d
                      WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
      AND NOT coalesce(has_sequence_privilege(c.oid, 'SELECT')
                       AND has_schema_privilege(n.oid, 'USAGE'), false)
    ORDER BY 1, 2";

/// All that cannot be read at once, and not each when its turn comes.
async fn refuse_unreadable(leader: &mut Session, relations: &[Relation]) -> Result<()> {
    let mut names: Vec<String> = relations
        .iter()
        .filter(|relation| !relation.readable)
        .map(|relation| sql::qualified(&relation.schema, &relation.name).to_string())
        .collect();
    let rows = leader
        .query(UNREADABLE_SEQUENCES)
        .await
        .context("looking for sequences that cannot be read")?;
    for row in &rows {
        names.push(sql::qualified(row.bytes("schema")?, row.bytes("name")?).to_string());
    }
    if names.is_empty() {
        return Ok(());
    }
    names.sort();
    Err(Error::new(format!(
        "no permission to read {} relation{}: {}",
        names.len(),
        if names.len() == 1 { "" } else { "s" },
        names.join(", ")
    ))
    .hint("grant the role pg_read_all_data, or SELECT on these and USAGE on their schemas"))
}

/// The statement that locks relations as COPY would, ONLY because each is listed itself.
pub fn lock_statement(relations: &[Relation], nowait: bool) -> BString {
    let names = relations
        .iter()
        .map(|relation| sql!("ONLY {}", sql::qualified(&relation.schema, &relation.name)));
    sql!(
        "LOCK TABLE {} IN ACCESS SHARE MODE{}",
        sql::join(names, ", "),
        if nowait { " NOWAIT" } else { "" }
    )
}

const UNDEFINED_TABLE: &str = "42P01";
const INVALID_SCHEMA: &str = "3F000";
const WRONG_OBJECT_TYPE: &str = "42809";
const LOCK_NOT_AVAILABLE: &str = "55P03";
const UNDEFINED_OBJECT: &str = "42704";
pub const DEADLOCK: &str = "40P01";

async fn after_failed_lock(
    leader: &mut Session,
    known: &KnownSettings,
    batch: &[Relation],
    error: Error,
    options: &LockOptions,
) -> Result<Attempt> {
    match error.sqlstate() {
        // dropped, renamed, or replaced by something else since they were listed
        Some(UNDEFINED_TABLE | INVALID_SCHEMA | WRONG_OBJECT_TYPE | UNDEFINED_OBJECT) => {
            Ok(Attempt::Changed(error.to_string()))
        }
        // another session locks several tables too, in another order
        Some(DEADLOCK) => Ok(Attempt::Changed(error.to_string())),
        Some(LOCK_NOT_AVAILABLE) => {
            leader.execute("ROLLBACK").await?;
            let blockers = blockers(leader, known, &options.encoding, batch).await?;
            Err(Error::new(format!(
                "could not lock all tables within {} s: {}",
                options.wait.as_secs_f64(),
                if blockers.is_empty() {
                    "whoever held the lock has just released it".to_owned()
                } else {
                    blockers.join("; ")
                }
            ))
            .hint("wait for that session to end, or allow more time with --lock-wait-timeout"))
        }
        _ => Err(error.context("locking tables")),
    }
}

/// Who holds, or waits for, a lock that conflicts with reading one of the relations.
async fn blockers(
    leader: &mut Session,
    known: &KnownSettings,
    encoding: &str,
    batch: &[Relation],
) -> Result<Vec<String>> {
    let oids: Vec<String> = batch
        .iter()
        .map(|relation| relation.oid.to_string())
        .collect();
    let mut begin = BString::from("BEGIN READ ONLY;\n");
    begin.extend_from_slice(&known.for_reading(encoding));
    leader.execute(begin).await?;
    let rows = leader
        .query(sql!(
            "SELECT coalesce(l.pid, 0) AS pid, n.nspname AS schema, c.relname AS name, l.granted,
                    coalesce(a.usename, p.owner, '?') AS usename,
                    coalesce(left(a.query, 200), '?') AS query, coalesce(p.gid, '') AS prepared,
                    coalesce(a.state, '') LIKE 'idle in transaction%' AS idle
             FROM pg_locks l
             JOIN pg_class c ON c.oid = l.relation
             JOIN pg_namespace n ON n.oid = c.relnamespace
             LEFT JOIN pg_stat_activity a ON a.pid = l.pid
             LEFT JOIN pg_prepared_xacts p
                  ON l.pid IS NULL AND l.virtualtransaction = '-1/' || p.transaction
             WHERE l.mode = 'AccessExclusiveLock' AND l.relation IN ({})
               AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
             ORDER BY l.granted DESC, l.pid LIMIT 10",
            sql::join(oids, ", ")
        ))
        .await?;
    leader.execute("COMMIT").await?;
    rows.iter()
        .map(|row| {
            let user = row.string("usename")?;
            let table = sql::qualified(row.bytes("schema")?, row.bytes("name")?);
            let verb = if row.bool("granted")? {
                "holds"
            } else {
                "waits for"
            };
            Ok(match row.number::<i32>("pid")? {
                0 => format!(
                    "prepared transaction \"{}\" (user \"{user}\") holds an ACCESS EXCLUSIVE lock on table {table}",
                    row.string("prepared")?
                ),
                pid => format!(
                    "process {pid} (user \"{user}\") {verb} an ACCESS EXCLUSIVE lock on table {table}, {}: {}",
                    if row.bool("idle")? {
                        "idle in transaction after"
                    } else {
                        "running"
                    },
                    row.string("query")?
                ),
            })
        })
        .collect()
}

/// What changed between listing and snapshot, if anything did.
fn difference(listed: &[Relation], seen: &[Relation]) -> Option<String> {
    let name = |relation: &Relation| sql::qualified(&relation.schema, &relation.name).to_string();
    if let Some(moved) = seen.iter().find(|relation| relation.moved) {
        return Some(format!("table {} was rewritten", name(moved)));
    }
    let mut listed = listed.iter().peekable();
    for relation in seen {
        match listed.next() {
            Some(before) if before.is_same(relation) => {}
            Some(before) => return Some(format!("table {} changed", name(before))),
            None => return Some(format!("table {} is new", name(relation))),
        }
    }
    listed
        .next()
        .map(|gone| format!("table {} is gone", name(gone)))
}

/// Moments between which another session might change tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    Listed,
    Locked,
    SnapshotTaken,
    /// All is planned, and every connection shares the snapshot.
    Copying,
}

/// Called, and awaited, at each window: tests force DDL into them.
pub type WindowHook = Arc<dyn Fn(Window) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;
