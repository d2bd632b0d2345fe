//! Creating entries, and what all connections of a restore share.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::selection::label;
use super::{Doing, Failure, Options};
use crate::archive::{Contents, Entry, EntryId};
use crate::error::{Error, Result};
use crate::postgres::settings::set;
use crate::postgres::{Session, TransactionState};
use crate::report::Progress;
use crate::sql;
use bstr::{BString, ByteSlice};

/// What all connections of a restore share.
pub struct Shared {
    pub entries: Vec<Entry>,
    /// Positions among the entries.
    positions: HashMap<EntryId, usize>,
    /// Rows that the server has taken for good.
    rows: AtomicU64,
    pub options: Options,
    pub progress: Arc<Progress>,
    pub failures: Mutex<Vec<Failure>>,
    /// What the server warned of, with the entry that it was about.
    pub warnings: Mutex<Vec<String>>,
    /// No further step begins: an error under --exit-on-error.
    stopped: AtomicBool,
    /// Of --transaction-size: entries in the transaction that is open.
    in_transaction: AtomicU32,
    /// Entries whose rows must go into one COPY.
    pub whole: HashSet<EntryId>,
    /// The role that we act as; objects of others are handed over.
    pub current_role: BString,
    /// Taken on by --role.
    pub role: Option<String>,
}

impl Shared {
    pub fn new(
        entries: Vec<Entry>,
        options: Options,
        progress: Arc<Progress>,
        current_role: BString,
        role: Option<String>,
    ) -> Shared {
        let positions = (0..)
            .zip(&entries)
            .map(|(position, entry)| (entry.id, position));
        Shared {
            positions: positions.collect(),
            rows: AtomicU64::new(0),
            entries,
            options,
            progress,
            failures: Mutex::default(),
            warnings: Mutex::default(),
            stopped: AtomicBool::new(false),
            in_transaction: AtomicU32::new(0),
            whole: HashSet::new(),
            current_role,
            role,
        }
    }

    /// Notes a failed entry. An error if the whole restore must end with it.
    pub fn failed(&self, entry: &Entry, doing: Doing, error: Error) -> Result<()> {
        let failure = Failure {
            entry: entry.id,
            object: label(entry),
            doing,
            message: error.to_string(),
            hint: error.hint_text().map(str::to_owned),
        };
        let must_end = self.ends_with_an_error();
        lock(&self.failures).push(failure);
        if must_end {
            self.stop();
            return Err(error.context(format!("{} ({doing})", label(entry))));
        }
        Ok(())
    }

    /// Whether the first error is the last.
    fn ends_with_an_error(&self) -> bool {
        self.options.exit_on_error
            || self.options.single_transaction
            || self.options.transaction_size.is_some()
    }

    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }

    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    pub fn entry(&self, id: EntryId) -> Option<&Entry> {
        self.positions
            .get(&id)
            .map(|&position| &self.entries[position])
    }

    /// Of the large objects, an entry that was to create some and failed: contents would go into
    /// those that others have made.
    pub fn not_created(&self, entry: &Entry) -> Option<&Entry> {
        if entry.contents != Contents::LargeObjects {
            return None;
        }
        let mut needed = entry.dependencies.iter().filter_map(|id| self.entry(*id));
        needed.find(|needed| self.has_failed_at(needed, Doing::Creating))
    }

    /// The definition of the table that an entry has rows of.
    fn table_of(&self, entry: &Entry) -> Option<&Entry> {
        let mut needed = entry.dependencies.iter().filter_map(|id| self.entry(*id));
        needed.find(|table| {
            table.kind == "TABLE"
                && table.schema == entry.schema
                && Some(&table.name) == entry.relation.as_ref()
        })
    }

    /// Under --no-data-for-failed-tables, the table that could not be created, if it is so.
    pub fn failed_table(&self, entry: &Entry) -> Option<&Entry> {
        if !self.options.no_data_for_failed_tables {
            return None;
        }
        let table = self.table_of(entry);
        table.filter(|table| self.has_failed_at(table, Doing::Creating))
    }

    pub fn loaded(&self, rows: u64) {
        self.rows.fetch_add(rows, Ordering::SeqCst);
    }

    /// Rows that the server has taken for good.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::SeqCst)
    }

    /// Whether all rows of its table are from here: this run made the table, and no extension put
    /// anything into it, nor partitions that share a way in.
    pub fn may_empty(&self, entry: &Entry) -> bool {
        let made_here =
            |table: &Entry| !table.create.is_empty() && !self.has_failed_at(table, Doing::Creating);
        entry.load_into.is_none()
            && matches!(entry.contents, Contents::Rows { .. })
            && self.table_of(entry).is_some_and(made_here)
    }

    /// Whether some of its rows are missing.
    pub fn has_lost_rows(&self, entry: &Entry) -> bool {
        self.has_failed_at(entry, Doing::Loading)
    }

    fn has_failed_at(&self, entry: &Entry, doing: Doing) -> bool {
        lock(&self.failures)
            .iter()
            .any(|failure| failure.entry == entry.id && failure.doing == doing)
    }
}

/// Keeps what the server has said meanwhile.
pub fn heed(session: &mut Session, shared: &Shared, entry: &Entry) {
    for notice in session.take_notices() {
        let line = || format!("{}: {}", label(entry), notice.message);
        if notice.is_warning() {
            lock(&shared.warnings).push(line());
        } else {
            shared.progress.log(line);
        }
    }
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A connection that is gone cannot run what is left.
fn is_lost(session: &Session, error: &Error) -> bool {
    session.is_lost()
        || error
            .sqlstate()
            .is_some_and(|state| state.code().starts_with("57P"))
}

/// Where tables go unless they say otherwise; remembered, to set it only when it changes.
#[derive(Debug, Default)]
pub struct Place {
    tablespace: Option<BString>,
    access_method: Option<BString>,
}

/// Creates one entry and hands it to its owner.
pub async fn create(
    session: &mut Session,
    shared: &Shared,
    entry: &Entry,
    place: &mut Place,
) -> Result<()> {
    if entry.create.is_empty() && entry.owner_target.is_none() {
        return Ok(());
    }
    shared.progress.log(|| format!("creating {}", label(entry)));
    let outcome = async {
        settle(session, shared, entry, place).await?;
        if !entry.create.is_empty() {
            session.execute(&entry.create).await?;
        }
        // grants in the name of others end with RESET ROLE
        if entry.kind == "ACL"
            && let Some(role) = &shared.role
        {
            session
                .execute(sql!("SET ROLE {}", sql::identifier(role)))
                .await?;
        }
        Ok(())
    }
    .await;
    if let Err(error) = outcome {
        let by_itself = !shared.ends_with_an_error() && !is_lost(session, &error);
        after_failure(session, shared, entry, Doing::Creating, error).await?;
        if entry.kind == "ACL" && by_itself {
            grant_one_by_one(session, shared, entry).await?;
            heed(session, shared, entry);
        }
        return Ok(());
    }
    heed(session, shared, entry);
    if let Some(hand_over) = hand_over(shared, entry)
        && let Err(error) = session.execute(hand_over).await
    {
        return after_failure(session, shared, entry, Doing::SettingOwner, error).await;
    }
    count(session, shared).await
}

/// What of an object's privileges can be granted, where not all can. At least one fails again, which
/// is told with the entry.
async fn grant_one_by_one(session: &mut Session, shared: &Shared, entry: &Entry) -> Result<()> {
    const RESET: &[u8] = b"RESET ROLE;";
    let mut as_another = false;
    for statement in sql::statements(&entry.create) {
        // not in the name of another than the grantor, who could not be taken on
        if as_another && statement != RESET {
            continue;
        }
        as_another = false;
        if let Err(error) = session.execute(statement).await {
            if is_lost(session, &error) {
                return Err(error);
            }
            as_another = statement.starts_with(b"SET ROLE ");
        }
    }
    session.execute(RESET).await?;
    if let Some(role) = &shared.role {
        let take = sql!("SET ROLE {}", sql::identifier(role));
        session.execute(take).await?;
    }
    Ok(())
}

/// Of --transaction-size: ends the transaction once it is full, and begins another. Without it, and
/// on connections that commit each step, nothing.
pub async fn count(session: &mut Session, shared: &Shared) -> Result<()> {
    let Some(size) = shared.options.transaction_size else {
        return Ok(());
    };
    if session.state() == TransactionState::Open
        && shared.in_transaction.fetch_add(1, Ordering::SeqCst) + 1 >= size
    {
        shared.in_transaction.store(0, Ordering::SeqCst);
        session.execute("COMMIT; BEGIN").await?;
    }
    Ok(())
}

pub async fn after_failure(
    session: &mut Session,
    shared: &Shared,
    entry: &Entry,
    doing: Doing,
    error: Error,
) -> Result<()> {
    if is_lost(session, &error) {
        return Err(error.context(format!("{} ({doing})", label(entry))));
    }
    // a statement list that failed half way may have left its own transaction open
    if session.state() != TransactionState::Idle && !shared.options.single_transaction {
        session.execute("ROLLBACK").await?;
    }
    shared.failed(entry, doing, error)
}

fn hand_over(shared: &Shared, entry: &Entry) -> Option<BString> {
    if shared.options.no_owner {
        return None;
    }
    let owner = entry.owner.as_ref().filter(|owner| !owner.is_empty())?;
    let target = entry.owner_target.as_ref()?;
    // what this run makes is its role's; what was there (the schema public) may be anybody's
    if *owner == shared.current_role && !entry.create.is_empty() {
        return None;
    }
    Some(sql!("ALTER {} OWNER TO {}", target, sql::identifier(owner)))
}

/// Takes out the access method of a partitioned table, which its own statement sets.
pub fn without_access_method(entry: &mut Entry) {
    if entry.kind != "TABLE" || !entry.create.contains_str(" SET ACCESS METHOD ") {
        return;
    }
    let is_about_method = |statement: &[u8]| {
        statement.starts_with(b"ALTER TABLE ")
            && sql::find_unquoted(statement, b" SET ACCESS METHOD ").is_some()
    };
    let statements = sql::statements(&entry.create);
    let kept = statements
        .iter()
        .filter(|statement| !is_about_method(statement));
    let kept = sql::join(kept, "\n");
    entry.create = sql!("{}\n", kept);
}

/// What is not set, so that the target's own defaults hold.
#[derive(Debug, Clone, Copy)]
pub struct LeftOut {
    pub tablespaces: bool,
    pub access_methods: bool,
}

impl Place {
    /// What sets tablespace and access method for this entry, where they are others.
    pub fn changes(&self, entry: &Entry, left_out: LeftOut) -> BString {
        let mut text = BString::default();
        if entry.tablespace != self.tablespace && !left_out.tablespaces {
            let name = entry.tablespace.clone().unwrap_or_default();
            text.extend_from_slice(&set("default_tablespace", &name));
        }
        if entry.access_method != self.access_method && !left_out.access_methods {
            let name = entry.access_method.clone().unwrap_or_else(|| "heap".into());
            text.extend_from_slice(&set("default_table_access_method", &name));
        }
        text
    }

    /// They have been set.
    pub fn changed(&mut self, entry: &Entry, left_out: LeftOut) {
        if !left_out.tablespaces {
            self.tablespace.clone_from(&entry.tablespace);
        }
        if !left_out.access_methods {
            self.access_method.clone_from(&entry.access_method);
        }
    }
}

/// Sets tablespace and access method for what is created next.
async fn settle(
    session: &mut Session,
    shared: &Shared,
    entry: &Entry,
    place: &mut Place,
) -> Result<()> {
    let left_out = LeftOut {
        tablespaces: shared.options.no_tablespaces,
        access_methods: shared.options.no_table_access_method,
    };
    let changes = place.changes(entry, left_out);
    if !changes.is_empty() {
        // all or nothing: one message is one transaction
        session.execute(changes).await?;
        place.changed(entry, left_out);
    }
    Ok(())
}

/// Back to the database's own tablespace and to heap.
pub async fn reset(session: &mut Session, place: &mut Place) -> Result<()> {
    if place.tablespace.take().is_some() {
        session.execute("SET default_tablespace = ''").await?;
    }
    if place.access_method.take().is_some() {
        session
            .execute("SET default_table_access_method = 'heap'")
            .await?;
    }
    Ok(())
}
