//! The restore engine: from an archive to a database that equals it.
//!
//! Definitions that come before the data are replayed in order on one connection; rows, indexes
//! and constraints in parallel, as `schedule` allows; then privileges; then what must come last.
//! Errors of single entries are counted and listed, as pg_restore does, unless asked otherwise.

mod create;
mod database;
mod dependencies;
mod globals;
mod input;
mod load;
mod parallel;
mod preflight;
mod schedule;
pub mod script;
mod selection;
mod set;
mod source;
mod stream;
mod triggers;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bstr::BString;
use tokio::task::JoinSet;

pub use dependencies::Dependencies;
pub use input::{ArchiveFile, Choice, Holding, Input};
pub use preflight::{Finding, Severity};
pub use selection::{Selection, label, parse_list, select};
pub use set::{MemberReport, SetReport};

use crate::archive::{ChunkRecord, Content, EndRecord, Entry, EntryId, Header, Pass, Section};
use crate::catalog::roles::{RoleMap, map_roles};
use crate::catalog::rows_alone as data_only;
use crate::catalog::{self, Scope};
use crate::error::{Error, Outcome, Result};
use crate::postgres::settings::{refuse_unknown, set};
use crate::postgres::{
    Connector, ServerVersion, Session, TransactionState, open_workers, refuse_transaction_mode,
};
use crate::report::{Cancellation, LOCK_PATIENCE, Progress, telling_lock_waits};
use create::{Place, Shared, create, lock};
use input::{Contents, Opened, Source};
use parallel::{Loads, Parallel};
use schedule::is_data;
use source::{FileSource, cut};

#[derive(Debug, Clone)]
pub struct Options {
    pub jobs: usize,
    pub selection: Selection,
    /// --with-dependencies
    pub dependencies: Option<Dependencies>,
    /// --map-role
    pub roles: RoleMap,
    /// -C: create the archive's database and restore into it.
    pub create_database: bool,
    /// With -C, the name of the new database, if not the archive's.
    pub database_name: Option<BString>,
    /// The database is there, and is to have the archive's owner, comment, settings and privileges.
    pub database_properties: bool,
    /// -c
    pub clean: bool,
    pub if_exists: bool,
    /// -O
    pub no_owner: bool,
    pub no_tablespaces: bool,
    pub no_table_access_method: bool,
    pub no_data_for_failed_tables: bool,
    /// Where rows alone are loaded.
    pub disable_triggers: bool,
    /// Who disables triggers, if not the role that restores.
    pub superuser: Option<String>,
    /// -e
    pub exit_on_error: bool,
    /// -1
    pub single_transaction: bool,
    /// --transaction-size: commit after so many entries.
    pub transaction_size: Option<u32>,
    /// Go on although the preflight found what will fail, or the target holds tables already.
    pub force: bool,
    /// From a file, a table is loaded by several connections in pieces of about so many bytes.
    pub least_load: u64,
    /// After so long a wait for a lock it is said who holds it.
    pub lock_patience: Duration,
    /// Tells when it is too late to give up a restore that is one transaction.
    pub cancellation: Arc<Cancellation>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            jobs: 1,
            selection: Selection::default(),
            dependencies: None,
            roles: RoleMap::new(),
            create_database: false,
            database_name: None,
            database_properties: false,
            clean: false,
            if_exists: false,
            no_owner: false,
            no_tablespaces: false,
            no_table_access_method: false,
            no_data_for_failed_tables: false,
            disable_triggers: false,
            superuser: None,
            exit_on_error: false,
            single_transaction: false,
            transaction_size: None,
            force: false,
            least_load: source::LEAST_LOAD,
            lock_patience: LOCK_PATIENCE,
            cancellation: Arc::default(),
        }
    }
}

impl Options {
    /// Whether it asks for what globals and sets do not have.
    fn is_of_one_database(&self) -> bool {
        self.dependencies.is_some() || !self.roles.is_empty()
    }
}

fn of_one_database() -> Error {
    Error::usage("--with-dependencies and --map-role are for the archive of one database")
        .hint("choose a database of the set with --member")
}

/// An entry that could not be restored.
#[derive(Debug, Clone)]
pub struct Failure {
    pub entry: EntryId,
    pub object: String,
    /// "creating it", "loading its rows".
    pub doing: String,
    pub message: String,
    pub hint: Option<String>,
}

#[derive(Debug)]
pub struct Report {
    pub database: String,
    pub entries: usize,
    /// Rows that the target has taken; of tables that failed, none count.
    pub rows: u64,
    pub connections: usize,
    pub failures: Vec<Failure>,
    pub warnings: Vec<String>,
}

/// What was restored.
#[derive(Debug)]
pub enum Restored {
    Archive(Report),
    Set(SetReport),
}

/// Restores one archive. Single failures are in the report; an error means that the restore did not
/// run to its end.
pub async fn run(
    connector: Connector,
    input: Input,
    options: Options,
    progress: Arc<Progress>,
) -> Result<Report> {
    match run_any(connector, input, &Choice::All, options, progress).await? {
        Restored::Archive(report) => Ok(report),
        Restored::Set(_) => Err(Error::new("this is a set of archives, not one archive")),
    }
}

/// Restores an archive, a set, or a member of one.
pub async fn run_any(
    connector: Connector,
    input: Input,
    choice: &Choice,
    options: Options,
    progress: Arc<Progress>,
) -> Result<Restored> {
    match Source::open(input, choice).await? {
        Source::Archive(opened) => {
            let report = run_watched(&connector, opened, options, progress).await?;
            Ok(Restored::Archive(report))
        }
        Source::Set(_) if options.is_of_one_database() => Err(of_one_database()),
        Source::Set(set) => set::run(&connector, set, choice, options, progress).await,
    }
}

async fn run_watched(
    connector: &Connector,
    opened: Opened,
    options: Options,
    progress: Arc<Progress>,
) -> Result<Report> {
    let patience = options.lock_patience;
    let scratch = options.dependencies.as_ref();
    let scratch = scratch.map(|wanted| Arc::clone(&wanted.scratch));
    let watched = Arc::clone(&progress);
    let running = async {
        match opened.header.content {
            Content::Globals if options.is_of_one_database() => Err(of_one_database()),
            Content::Globals => globals::run(connector, &opened, &options, progress).await,
            Content::Database => run_opened(connector, opened, options, progress).await,
        }
    };
    let outcome = telling_lock_waits(connector, patience, &watched, running).await;
    if outcome.is_err() {
        connector.cancel_all().await;
    }
    match scratch.as_ref().and_then(|scratch| scratch.get()) {
        Some(scratch) => outcome.map_err(|error| dependencies::left_in(error, scratch)),
        None => outcome,
    }
}

async fn run_opened(
    connector: &Connector,
    mut opened: Opened,
    mut options: Options,
    progress: Arc<Progress>,
) -> Result<Report> {
    let has_rows_alone = Scope::from_flags(&opened.header.filters)?.parts.no_schema;
    options.selection.parts.no_schema |= has_rows_alone;
    let mut mapped = BTreeSet::new();
    for entry in &mut opened.entries {
        map_roles(entry, &options.roles, &mut mapped);
    }
    if let Some(name) = options
        .database_name
        .as_ref()
        .filter(|_| options.create_database)
    {
        database::rename(&mut opened, name);
    }
    let of_database = options.create_database || options.database_properties;
    let (mut entries, mut warnings) =
        selection::choose(&opened.entries, &options.selection, of_database)?;
    if options.database_properties {
        database::keep_properties(&mut entries);
    }
    let unmapped = options.roles.keys().filter(|role| !mapped.contains(*role));
    warnings.extend(unmapped.map(|role| format!("the archive does not name role \"{role}\"")));
    let (mut leader, mut connector) = connector.clone().first().await?;
    preflight::refuse_unsupported(&leader)?;
    warnings.extend(leader.take_warnings());
    refuse_transaction_mode(&mut leader, &connector, "restore").await?;
    prepare(&mut leader, &opened.header).await?;
    let mut relocation = None;
    if let Some(wanted) = &options.dependencies {
        let (all, selection) = (&opened.entries, &options.selection);
        let plan = dependencies::plan(&mut leader, all, selection, wanted, options.force).await?;
        (entries, relocation) = (plan.entries, plan.relocation);
        warnings.extend(plan.warnings);
    }

    let findings = preflight::check(
        &mut leader,
        &opened.header,
        &opened.entries,
        &entries,
        &options,
    )
    .await?;
    let (blocking, others): (Vec<_>, Vec<_>) = findings
        .into_iter()
        .partition(|finding| finding.severity == Severity::WillFail && !options.force);
    if !blocking.is_empty() {
        return Err(preflight::refusal(&blocking));
    }
    warnings.extend(others.iter().map(ToString::to_string));
    if options.create_database {
        (leader, connector) = database::create(leader, &connector, &opened, &options).await?;
        prepare(&mut leader, &opened.header).await?;
        // created; left to do are its owner, comment, settings and privileges
        database::keep_properties(&mut entries);
    }

    let from = ServerVersion(opened.header.server_version_num);
    let to = leader.version()?;
    for entry in &mut entries {
        catalog::adapt(entry, from, to);
    }
    let current_role: BString = leader
        .query("SELECT current_user AS role")
        .await?
        .only()?
        .text("role")?;
    let rows_alone = options.selection.parts.no_schema && !options.disable_triggers;
    let order = match (&opened.rows, rows_alone) {
        (Contents::File(_), true) => data_only::order(&opened.entries, &mut entries),
        // a stream has the rows in the order that it has them
        _ => data_only::Order::default(),
    };
    warnings.extend(order.warnings);
    if options.no_table_access_method {
        entries.iter_mut().for_each(create::without_access_method);
    }
    let mut connections = 1;
    let jobs = if options.single_transaction {
        1
    } else {
        options.jobs
    };
    let mut shared = Shared::new(
        entries,
        options,
        Arc::clone(&progress),
        current_role,
        connector.role().map(str::to_owned),
    );
    shared.whole = order.whole;
    if has_rows_alone && !shared.options.disable_triggers {
        // which tables refer to themselves is not known
        shared.whole = shared.entries.iter().map(|entry| entry.id).collect();
    }
    expect(&shared, &opened.rows)?;

    let sized = shared.options.transaction_size.is_some();
    if shared.options.single_transaction || sized {
        leader.execute("BEGIN").await?;
    }
    if let Some(relocation) = &relocation {
        relocation.begin(&mut leader, &shared.options).await?;
    }
    // a database that was just created holds nothing to drop
    if shared.options.clean && !shared.options.create_database {
        clean(&mut leader, &shared).await?;
    }
    serial(&mut leader, &shared, |entry| {
        entry.pass == Pass::Main && entry.section != Section::PostData && !is_data(entry)
    })
    .await?;
    let header = &opened.header;
    let prepare = async |session: &mut Session| prepare(session, header).await;
    let workers = open_workers(&mut leader, &connector, jobs, &mut warnings, prepare).await?;
    connections += workers.len();
    let mut disabled = triggers::Disabled::default();
    if shared.options.disable_triggers
        && has_no_schema(&shared)
        && let Err(error) = triggers::disable(&mut leader, &shared, &mut disabled).await
    {
        // in one transaction nothing stays
        if shared.options.single_transaction || sized {
            return Err(error);
        }
        return Err(disabled.after(error, &connector).await);
    }
    // others must see what was made; of several connections each commits as it goes, as pg_restore's do
    if sized && !workers.is_empty() {
        leader.execute("COMMIT").await?;
    }
    let shared = Arc::new(shared);
    let loaded = match opened.rows {
        Contents::File(source) => from_file(leader, workers, &shared, &connector, source).await,
        Contents::Stream(arriving) => {
            stream::restore(leader, workers, &shared, &connector, arriving).await
        }
    };
    leader = match loaded {
        Ok(leader) => leader,
        // what was one transaction is as it was
        Err(error) if shared.options.single_transaction => return Err(error),
        Err(error) => return Err(disabled.after(error, &connector).await),
    };
    if !sized {
        disabled.enable(&mut leader).await?;
    }
    let ending = async {
        if sized && leader.state() == TransactionState::Idle {
            leader.execute("BEGIN").await?;
        }
        serial(&mut leader, &shared, |entry| entry.pass == Pass::Privileges).await?;
        serial(&mut leader, &shared, |entry| entry.pass == Pass::Last).await?;
        if sized {
            leader.execute("COMMIT").await?;
            disabled.enable(&mut leader).await?;
        }
        Ok(())
    };
    if let Err(error) = ending.await {
        if !sized {
            return Err(error);
        }
        // its transaction holds locks
        drop(leader);
        return Err(disabled.after(error, &connector).await);
    }
    if let Some(relocation) = &relocation {
        relocation.finish(&mut leader, &shared.options).await?;
    }
    settle(&mut leader, &shared).await?;
    let database = leader.database().to_owned();
    leader.close().await;
    let failures = std::mem::take(&mut *lock(&shared.failures));
    warnings.append(&mut *lock(&shared.warnings));
    Ok(Report {
        database,
        entries: shared.entries.len(),
        rows: shared.rows(),
        connections,
        failures,
        warnings,
    })
}

fn has_no_schema(shared: &Shared) -> bool {
    shared.options.selection.parts.no_schema
}

/// Tells the display what is to come, where the index of a file says it.
fn expect(shared: &Shared, rows: &Contents) -> Result<()> {
    let (mut tables, mut bytes) = (0, 0);
    for entry in shared.entries.iter().filter(|entry| is_data(entry)) {
        tables += 1;
        if let Contents::File(source) = rows {
            bytes += source
                .reader()
                .end_record(entry.id)?
                .map_or(0, |end| end.raw_length);
        }
    }
    shared.progress.expect(tables, bytes);
    Ok(())
}

/// What every connection of a restore is set to, and a script sets; beside `transaction_timeout`,
/// which came with 17, and what shapes the text of rows.
const SETTINGS: &[(&str, &str)] = &[
    ("search_path", ""),
    ("check_function_bodies", "off"),
    ("xmloption", "content"),
    ("standard_conforming_strings", "on"),
    ("row_security", "off"),
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
    // else {NULL} would be read as a string
    ("array_nulls", "on"),
    ("default_transaction_read_only", "off"),
    ("default_transaction_isolation", "read committed"),
    ("default_tablespace", ""),
    ("default_table_access_method", "heap"),
];

/// Settings of every connection of a restore.
async fn prepare(session: &mut Session, header: &Header) -> Result<()> {
    refuse_unknown(&header.settings)?;
    let version = session.version()?;
    let mut text = set("client_encoding", &header.encoding);
    let mut settings = SETTINGS.to_vec();
    // flushed once, at the end
    settings.push(("synchronous_commit", "off"));
    if version.at_least(17) {
        settings.push(("transaction_timeout", "0"));
    }
    for (name, value) in settings {
        text.extend_from_slice(&set(name, value));
    }
    for (name, value) in &header.settings {
        text.extend_from_slice(&set(name, value));
    }
    session
        .execute_by_known_process(text)
        .await
        .map_err(|error| error.context("setting up the connection"))
}

/// Runs the chosen entries one after the other.
async fn serial(
    session: &mut Session,
    shared: &Shared,
    chosen: impl Fn(&Entry) -> bool,
) -> Result<()> {
    let mut place = Place::default();
    for entry in shared.entries.iter().filter(|entry| chosen(entry)) {
        create(session, shared, entry, &mut place).await?;
    }
    create::reset(session, &mut place).await
}

/// Drops what the archive will create, dependents first.
async fn clean(session: &mut Session, shared: &Shared) -> Result<()> {
    for entry in shared.entries.iter().rev() {
        let drop = if shared.options.if_exists {
            &entry.drop_if_exists
        } else {
            &entry.drop
        };
        if drop.is_empty() || is_data(entry) {
            continue;
        }
        shared.progress.log(|| format!("dropping {}", label(entry)));
        if let Err(error) = session.execute(drop).await {
            create::after_failure(session, shared, entry, "dropping it", error).await?;
        }
    }
    Ok(())
}

async fn from_file(
    leader: Session,
    workers: Vec<Session>,
    shared: &Arc<Shared>,
    connector: &Connector,
    source: Arc<FileSource>,
) -> Result<Session> {
    let stored = stored_rows(shared, &source).await?;
    let parallel = Arc::new(Parallel::new(shared, |id| {
        stored.get(&id).map_or(0, |rows| rows.end.raw_length)
    }));
    let stored = Arc::new(stored);
    let waiting = Arc::clone(shared);
    let begin = move |entry: &Entry| {
        let least_load = match waiting.whole.contains(&entry.id) {
            true => u64::MAX,
            false => waiting.options.least_load,
        };
        let rows = stored.get(&entry.id).ok_or_else(|| {
            Error::new(format!(
                "the archive does not say how many rows {} has",
                label(entry)
            ))
        })?;
        Ok(Loads {
            rows: cut(&source, entry, &rows.chunks, least_load),
            expected: rows.end.rows,
        })
    };
    run_parallel(leader, workers, shared, connector, &parallel, begin).await
}

/// What the index of a file says of an entry's rows.
struct StoredRows {
    chunks: Vec<ChunkRecord>,
    end: EndRecord,
}

async fn stored_rows(
    shared: &Arc<Shared>,
    source: &Arc<FileSource>,
) -> Result<HashMap<EntryId, StoredRows>> {
    let (shared, source) = (Arc::clone(shared), Arc::clone(source));
    tokio::task::spawn_blocking(move || {
        let reader = source.reader();
        let mut stored = HashMap::new();
        for entry in shared.entries.iter().filter(|entry| is_data(entry)) {
            let chunks = reader.chunks(entry.id)?;
            if let Some(end) = reader.end_record(entry.id)? {
                stored.insert(entry.id, StoredRows { chunks, end });
            }
        }
        Ok(stored)
    })
    .await
    .map_err(|error| Error::new(format!("reading the archive broke off: {error}")))?
}

/// Runs all connections to the end of the parallel part; hands the leader back.
async fn run_parallel(
    leader: Session,
    workers: Vec<Session>,
    shared: &Arc<Shared>,
    connector: &Connector,
    parallel: &Arc<Parallel>,
    begin: impl Fn(&Entry) -> Result<Loads> + Clone + Send + Sync + 'static,
) -> Result<Session> {
    let mut running = JoinSet::new();
    for (number, mut session) in std::iter::once(leader).chain(workers).enumerate() {
        let (shared, parallel) = (Arc::clone(shared), Arc::clone(parallel));
        let begin = begin.clone();
        running.spawn(async move {
            let outcome = parallel.run(&mut session, &shared, begin).await;
            if outcome.is_err() {
                shared.stop();
                parallel.wake();
            }
            (number, session, outcome)
        });
    }
    let mut leader = None;
    while let Some(ended) = running.join_next().await {
        let (number, session, outcome) =
            ended.map_err(|error| Error::new(format!("a worker died: {error}")))?;
        if let Err(error) = outcome {
            // the others may be building an index for an hour, or wait for rows that never come
            connector.cancel_all().await;
            running.shutdown().await;
            return Err(error);
        }
        if number == 0 {
            leader = Some(session);
        } else {
            session.close().await;
        }
    }
    leader.ok_or_else(|| Error::new("the first connection did not come back"))
}

/// Makes all that was committed without waiting durable. A commit waits for the disk, and for
/// synchronous standbys, only if its transaction wrote to the log itself.
async fn settle(session: &mut Session, shared: &Shared) -> Result<()> {
    if shared.options.single_transaction {
        shared.options.cancellation.commit()?;
        session
            .execute("SET LOCAL synchronous_commit = on; COMMIT")
            .await?;
        return Ok(());
    }
    session.execute("SET synchronous_commit = on").await?;
    session
        .query("SELECT pg_catalog.pg_logical_emit_message(true, 'rdump', 'restored')")
        .await
        .map(drop)
        .map_err(|error| error.context("making the restore durable"))
}

impl Report {
    /// Exit code 3 if something was left out.
    pub fn into_result(self) -> Result<Report> {
        let failed: HashSet<EntryId> = self.failures.iter().map(|failure| failure.entry).collect();
        match failed.len() {
            0 => Ok(self),
            count => Err(Error::new(format!(
                "{count} of {} entries could not be restored",
                self.entries
            ))
            .outcome(Outcome::Partial)),
        }
    }
}
