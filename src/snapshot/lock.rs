//! Lock, then look, then look again.
//!
//! A snapshot does not protect from DDL: a table truncated or rewritten after the snapshot was
//! taken reads as empty under it, and one dropped cannot be read at all. So all relations are
//! locked first, in a transaction that has no snapshot yet (LOCK takes none); only then the
//! snapshot is taken. Leader, locks and snapshot are one transaction, so that whoever holds the
//! locks can also read every table under the snapshot.
//!
//! What counts in the end is a statement about each relation that the snapshot shows:
//!
//! - we hold a lock on its OID, which the lock manager itself says;
//! - its name means this OID at a moment when we hold that lock, and so until we release it;
//! - its file at such a moment is the one that the snapshot shows: a TRUNCATE or rewrite since the
//!   snapshot would have given it another, and none can follow;
//! - if it was locked only after the snapshot (it is new, or took another's name), its columns are
//!   also those that the snapshot shows. One locked before could not be altered in between.
//!
//! Then every row that the snapshot sees is there and will be read by the right name, whatever
//! went on before: relations that came and went are no reason to begin again. Only a relation of
//! which this cannot be said is.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bstr::BString;

use super::relations::{self, Relation};
use crate::catalog::Scope;
use crate::error::{Error, Result, ResultExt, SqlState};
use crate::postgres::settings::{BEGIN_LOOKING, KnownSettings, set_local};
use crate::postgres::{Session, blockers};
use crate::report::Progress;
use crate::sql;

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
    /// How long to wait for a lock that another session holds. Zero: no limit.
    pub wait: Duration,
    /// That of the archive: the database's own unless asked otherwise.
    pub encoding: String,
    pub scope: Scope,
    /// Wait for a moment at which no transaction can be seen in part.
    pub serializable_deferrable: bool,
    /// Another session's snapshot, as pg_export_snapshot named it.
    pub snapshot: Option<String>,
    pub hook: Option<WindowHook>,
    pub progress: Arc<Progress>,
}

impl LockOptions {
    fn limit(&self) -> BString {
        set_local("lock_timeout", &format!("{}ms", self.wait.as_millis()))
    }

    pub async fn at(&self, window: Window) {
        if let Some(hook) = &self.hook {
            hook(window).await;
        }
    }
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
            // another try would see the same
            Attempt::Changed(what) if options.snapshot.is_some() => {
                return Err(
                    Error::new(format!("{what} since the given snapshot was taken")).hint(
                        "its rows as they were then cannot be read any more: take a new snapshot",
                    ),
                );
            }
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

enum Attempt<T> {
    Done(T),
    Changed(String),
}

async fn try_once(
    leader: &mut Session,
    known: &KnownSettings,
    options: &LockOptions,
) -> Result<Attempt<Snapshot>> {
    let listed = list_before_locking(leader, known, options).await?;
    options.at(Window::Listed).await;

    let mut begin = BString::from(match options.serializable_deferrable {
        true => "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE;\n",
        false => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;\n",
    });
    begin.extend_from_slice(&known.for_reading(&options.encoding));
    begin.extend_from_slice(&options.limit());
    leader
        .execute(begin)
        .await
        .context("starting the transaction")?;
    if let Attempt::Changed(what) = lock_those_left(leader, known, &listed, options).await? {
        return Ok(Attempt::Changed(what));
    }
    leader.execute(set_local("lock_timeout", "0")).await?;
    options.at(Window::Locked).await;

    if let Some(snapshot) = &options.snapshot {
        leader
            .execute(sql!("SET TRANSACTION SNAPSHOT {}", sql::literal(snapshot)))
            .await
            .map_err(|error| {
                error
                    .context(format!("taking over snapshot \"{snapshot}\""))
                    .hint(
                        "the transaction that exported it must still be open, in the same database",
                    )
            })?;
    }
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

    Ok(match look_again(leader, known, options).await? {
        Attempt::Done(relations) => Attempt::Done(Snapshot {
            id,
            time,
            relations,
            block_size,
        }),
        Attempt::Changed(what) => Attempt::Changed(what),
    })
}

/// Outside the transaction, since it would take the snapshot too early.
async fn list_before_locking(
    leader: &mut Session,
    known: &KnownSettings,
    options: &LockOptions,
) -> Result<Vec<Relation>> {
    let mut begin = BString::from(BEGIN_LOOKING);
    begin.extend_from_slice(&known.for_reading(&options.encoding));
    leader.execute(begin).await?;
    let listed = relations::list(leader, &options.scope).await?;
    relations::refuse_unreadable(leader, &listed, &options.scope).await?;
    leader.execute("COMMIT").await?;
    Ok(listed)
}

/// Locks what of the list is still there under its name. What is gone needs no lock: the snapshot,
/// still to be taken, will not show it, or under another name.
async fn lock_those_left(
    leader: &mut Session,
    known: &KnownSettings,
    listed: &[Relation],
    options: &LockOptions,
) -> Result<Attempt<()>> {
    let mut batches: Vec<&[Relation]> = listed.chunks(LOCK_BATCH).rev().collect();
    while let Some(batch) = batches.pop() {
        // a savepoint takes no snapshot, and what is locked within it stays locked after its
        // release; rolling back gives up the locks of this one batch, which are then taken again
        let statement = sql!(
            "SAVEPOINT rdump_lock; {}; RELEASE rdump_lock",
            lock_statement(batch, false)
        );
        let Err(error) = leader.execute(statement).await else {
            continue;
        };
        match error.sqlstate() {
            Some(code) if GONE.contains(code) => {
                leader
                    .execute("ROLLBACK TO rdump_lock; RELEASE rdump_lock")
                    .await?;
                if batch.len() > 1 {
                    let (first, second) = batch.split_at(batch.len() / 2);
                    batches.extend([second, first]);
                }
            }
            _ => return after_failed_lock(leader, known, batch, error, options).await,
        }
    }
    Ok(Attempt::Done(()))
}

/// Under the snapshot: what it shows, once all is said of it that must be.
///
/// The looks are rolled back for the locks on catalogs that they leave: these would last as long
/// as the run, and a VACUUM FULL of a catalog that waits for them would keep everybody out of it,
/// our workers too. Locks on tables are taken outside of them.
async fn look_again(
    leader: &mut Session,
    known: &KnownSettings,
    options: &LockOptions,
) -> Result<Attempt<Vec<Relation>>> {
    leader.execute(BEGIN_LOOK).await?;
    let mut shown = relations::list(leader, &options.scope).await?;
    // nothing has been locked since the snapshot: what is held now was locked before it
    let held = relations::held(leader).await?;
    let late: Vec<Relation> = shown
        .iter()
        .filter(|relation| !held.contains(&relation.oid))
        .cloned()
        .collect();
    if !late.is_empty() {
        relations::refuse_unreadable(leader, &late, &options.scope).await?;
        leader.execute(END_LOOK).await?;
        leader.execute(options.limit()).await?;
        for batch in late.chunks(LOCK_BATCH) {
            if let Err(error) = leader.execute(lock_statement(batch, false)).await {
                return match error.sqlstate() {
                    // rows that the snapshot shows cannot be read any more
                    Some(code) if GONE.contains(code) => Ok(Attempt::Changed(error.to_string())),
                    _ => after_failed_lock(leader, known, batch, error, options).await,
                };
            }
        }
        leader.execute(set_local("lock_timeout", "0")).await?;
        leader.execute(BEGIN_LOOK).await?;
        let held = relations::held(leader).await?;
        if let Some(other) = late.iter().find(|relation| !held.contains(&relation.oid)) {
            return Ok(Attempt::Changed(format!(
                "table {} was dropped or renamed",
                other.qualified()
            )));
        }
    }
    if let Some(change) = relations::change(leader, &shown).await? {
        return Ok(Attempt::Changed(change));
    }
    if let Some(change) = relations::altered(leader, &late).await? {
        return Ok(Attempt::Changed(change));
    }
    if options.scope.parts.takes_rows() {
        relations::measure(leader, &mut shown).await?;
    }
    leader.execute(END_LOOK).await?;
    Ok(Attempt::Done(shown))
}

const BEGIN_LOOK: &str = "SAVEPOINT rdump_look";
const END_LOOK: &str = "ROLLBACK TO rdump_look; RELEASE rdump_look";

/// The statement that locks relations as COPY would, ONLY because each is listed itself.
pub fn lock_statement(relations: &[Relation], nowait: bool) -> BString {
    let names = relations
        .iter()
        .map(|relation| sql!("ONLY {}", relation.qualified()));
    sql!(
        "LOCK TABLE {} IN ACCESS SHARE MODE{}",
        sql::join(names, ", "),
        if nowait { " NOWAIT" } else { "" }
    )
}

/// Dropped, renamed, or replaced by something else.
const GONE: [SqlState; 4] = [
    SqlState::UNDEFINED_TABLE,
    SqlState::INVALID_SCHEMA_NAME,
    SqlState::WRONG_OBJECT_TYPE,
    SqlState::UNDEFINED_OBJECT,
];

async fn after_failed_lock<T>(
    leader: &mut Session,
    known: &KnownSettings,
    batch: &[Relation],
    error: Error,
    options: &LockOptions,
) -> Result<Attempt<T>> {
    match error.sqlstate() {
        // another session locks several tables too, in another order
        Some(&SqlState::T_R_DEADLOCK_DETECTED) => Ok(Attempt::Changed(error.to_string())),
        Some(&SqlState::LOCK_NOT_AVAILABLE) => {
            leader.execute("ROLLBACK").await?;
            let oids = batch.iter().map(|relation| relation.oid);
            let blockers = blockers::of_relations(leader, known, oids).await?;
            for blocker in &blockers {
                options.progress.log_query(blocker);
            }
            let blockers: Vec<_> = blockers.into_iter().map(|one| one.description).collect();
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
