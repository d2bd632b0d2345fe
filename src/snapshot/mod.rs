//! The dump engine: from a live database to a sealed archive.
//!
//! `lock` takes locks and the snapshot (of `relations`),
//! `crate::catalog` reads the definitions, `plan` says what to copy, `worker`s copy it into blocks
//! (`rows`), `sealing` compresses and writes them, and gives the file its name unless the run was
//! cancelled.

mod cluster;
mod globals;
mod lock;
mod names;
mod plan;
mod queue;
mod relations;
mod rows;
mod sealing;
mod sequences;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bstr::BString;
use tokio::task::JoinSet;

pub use crate::rows::LEAST_SLICE;
pub use cluster::{ClusterOptions, SetReport, run_cluster};
pub use globals::run as run_globals;
pub use lock::{Window, WindowHook};

use crate::archive::limits::{HEADER_FLAG_WITHOUT_DATA, HEADER_FLAG_WITHOUT_LARGE_OBJECTS};
use crate::archive::{ArchiveId, ArchiveSummary, Codec, Encryption, EndRecord, Header};
use crate::catalog::{self, Catalog, Scope};
use crate::error::{Error, Result, ResultExt, SqlState};
use crate::postgres::settings::{BEGIN_LOOKING, KnownSettings, ROW_SETTINGS, is_server_encoding};
use crate::postgres::{Connector, ServerVersion, Session, TransactionState, open_workers};
use crate::report::{Cancellation, LOCK_PATIENCE, Progress, telling_lock_waits};
use crate::repository::Targets;
use crate::rows::{large_objects, run_all};
use crate::sql;
use lock::{LockOptions, Snapshot, give_way, lock_and_snapshot};
use plan::{Plan, Task, plan};
use sealing::{Destination, Writer, begin_archive};
use sequences::Values;
use worker::Work;

/// Where the archive goes.
#[derive(Debug, Clone)]
pub enum Output {
    /// Replaced if it exists, once the new archive is complete.
    File(PathBuf),
    /// Uploaded; the archive exists once the caller has committed it there.
    Repositories(Arc<Targets>),
    Stdout,
}

#[derive(Clone)]
pub struct Options {
    pub output: Output,
    /// Connections that copy, the leader's among them.
    pub jobs: usize,
    pub codec: Codec,
    /// Who can open the archive. None: it is not encrypted.
    pub encryption: Option<Arc<Encryption>>,
    /// Zero: no limit.
    pub lock_wait: Duration,
    /// Wait for the disk before success is reported.
    pub sync: bool,
    pub scope: Scope,
    pub reading: Reading,
    /// Pieces into which a table is cut are not smaller than this.
    pub least_slice: u64,
    pub window_hook: Option<WindowHook>,
}

/// How the database is read, where it is not as usual.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    /// Encoding of names, definitions and rows in the archive. None: the database's own.
    pub encoding: Option<String>,
    /// A snapshot that another session has exported.
    pub snapshot: Option<String>,
    pub serializable_deferrable: bool,
    pub extra_float_digits: Option<i8>,
    /// Names are quoted also where they need not be: for servers with other keywords.
    pub quote_all_identifiers: bool,
}

/// What came of a snapshot.
#[derive(Debug)]
pub struct Report {
    pub summary: ArchiveSummary,
    pub database: BString,
    pub server_version: String,
    /// By the server's clock, in microseconds since 1970 UTC.
    pub snapshot_time: i64,
    pub tables: usize,
    pub connections: usize,
    pub warnings: Vec<String>,
}

/// Takes a snapshot. On any error nothing is left behind, and the output is as it was before; but
/// for a folder that cannot be flushed, when the archive is there already.
pub async fn run(
    connector: Connector,
    options: &Options,
    progress: Arc<Progress>,
) -> Result<Report> {
    run_unless_cancelled(connector, options, progress, &Arc::default()).await
}

/// As `run`, and may be dropped once `cancellation` has been told: that waits until the output is
/// as it was before.
pub async fn run_unless_cancelled(
    connector: Connector,
    options: &Options,
    progress: Arc<Progress>,
    cancellation: &Arc<Cancellation>,
) -> Result<Report> {
    let mut destination = None;
    let taken = take(connector, options, progress, cancellation, &mut destination);
    taken.await.map(|(report, _)| report)
}

/// Takes a snapshot into a destination: that of the options where there is none yet.
async fn take(
    connector: Connector,
    options: &Options,
    progress: Arc<Progress>,
    cancellation: &Arc<Cancellation>,
    destination: &mut Option<Destination>,
) -> Result<(Report, Header)> {
    let (leader, connector) = connector.first().await?;
    let standby = leader.parameter("in_hot_standby") == Some("on");
    let watched = Arc::clone(&progress);
    let running = run_with_leader(
        leader,
        &connector,
        options,
        progress,
        cancellation,
        standby,
        destination,
    );
    let running = sql::quoting_all(options.reading.quote_all_identifiers, running);
    let outcome = telling_lock_waits(&connector, LOCK_PATIENCE, &watched, running).await;
    if outcome.is_err() {
        connector.cancel_all().await;
    }
    outcome.map_err(|error| explain(error, standby))
}

async fn run_with_leader(
    mut leader: Session,
    connector: &Connector,
    options: &Options,
    progress: Arc<Progress>,
    cancellation: &Arc<Cancellation>,
    standby: bool,
    destination: &mut Option<Destination>,
) -> Result<(Report, Header)> {
    let version = leader.version()?;
    catalog::refuse_unsupported(version)?;
    let mut warnings: Vec<String> = Vec::new();
    let destination = match destination {
        Some(destination) => destination,
        None => destination.insert(Destination::alone(&options.output, cancellation)?),
    };
    // behind a pooler the leader must not be the one that nothing is left for
    leader.execute(BEGIN_LOOKING).await?;
    let known = KnownSettings::read(&mut leader)
        .await?
        .with(wanted_settings(options));
    let encoding = match &options.reading.encoding {
        Some(asked) => asked.clone(),
        None => leader
            .parameter("server_encoding")
            .unwrap_or("SQL_ASCII")
            .to_owned(),
    };
    leader.execute(known.for_reading(&encoding)).await?;
    // as the server spells it
    let encoding = leader
        .parameter("client_encoding")
        .map_or(encoding, str::to_owned);
    if !is_server_encoding(&encoding) {
        return Err(Error::usage(format!(
            "{encoding} is an encoding of clients alone, in which a byte of a letter may look like a backslash"
        ))
        .hint("leave out -E, or give an encoding that a database can have, such as UTF8"));
    }
    // Too few are found out before anything is locked. Each begins its transaction now, which holds
    // neither lock nor snapshot yet: behind a pooler only a transaction has a connection of the server.
    let mut begin = BString::from("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;\n");
    begin.extend_from_slice(&known.for_reading(&encoding));
    let jobs = options.jobs;
    let begun = async |session: &mut Session| session.execute(&begin).await;
    let mut workers = open_workers(&mut leader, connector, jobs, &mut warnings, begun).await?;
    leader.execute("COMMIT").await?;
    let lock_options = LockOptions {
        wait: options.lock_wait,
        encoding: encoding.clone(),
        scope: options.scope.clone(),
        serializable_deferrable: options.reading.serializable_deferrable,
        snapshot: options.reading.snapshot.clone(),
        hook: options.window_hook.clone(),
        progress: Arc::clone(&progress),
    };
    let reading = Catalogs {
        known: &known,
        begin: &begin,
        options: &lock_options,
        standby,
    };
    let (snapshot, catalog, values) = reading.read(&mut leader, workers.first_mut()).await?;
    progress.log(|| {
        let (tables, entries) = (snapshot.relations.len(), catalog.entries.len());
        format!(
            "locked {tables} tables; snapshot {} shows {entries} objects",
            snapshot.id
        )
    });
    warnings.extend(catalog.warnings.iter().cloned());
    for worker in workers.iter_mut().skip(1) {
        join_snapshot(worker, &snapshot).await?;
    }

    let connections = workers.len() + 1;
    let mut plan = plan(
        &catalog,
        &snapshot,
        connections,
        options.least_slice,
        standby,
    );
    if let Some(entry) = plan.large_objects {
        let copy = large_objects::copy_statement(&mut leader).await?;
        plan.add_large_objects(entry, copy);
    }
    warnings.extend(leader.take_warnings());
    plan.skipped.extend(values.skipped);
    warnings.extend(plan.skipped.iter().map(|(_, reason)| reason.clone()));
    plan.announce(&progress, connections);

    let mut header = header(&mut leader, &snapshot, &encoding, version, options).await?;
    header.set = destination.set();
    let mut archive = begin_archive(destination.take()?, &header, options)?;
    archive.write_entries(&catalog.entries)?;
    let writer = Writer::start(
        archive,
        destination,
        options,
        Arc::clone(&progress),
        cancellation,
    )?;
    let known_rows = values.rows.into_iter().chain(skipped_rows(&plan)).collect();
    lock_options.at(Window::Copying).await;

    let work = Arc::new(Work::new(&plan, progress));
    let copied = async {
        if let Err(error) = copy_all(&mut leader, workers, &work, &writer, known_rows).await {
            return Err(cause(&mut leader, error).await);
        }
        // while the locks still keep others' changes waiting
        refuse_change(&mut leader, &snapshot).await?;
        let settings = known.for_reading(&encoding);
        names::refuse_change(&mut leader, connector, &settings, &mut warnings).await?;
        end_locks(&mut leader).await
    };
    if let Err(error) = copied.await {
        return Err(writer.failure(error).await);
    }
    let summary = writer.finish(destination).await?;
    leader.close().await;
    let report = Report {
        summary,
        database: header.database.clone(),
        server_version: header.server_version.clone(),
        snapshot_time: snapshot.time,
        tables: plan.sources.len(),
        connections,
        warnings,
    };
    Ok((report, header))
}

/// How the catalogs are read.
struct Catalogs<'a> {
    known: &'a KnownSettings,
    /// How a worker begins its transaction.
    begin: &'a BString,
    options: &'a LockOptions,
    standby: bool,
}

impl Catalogs<'_> {
    /// Reads under a snapshot whose tables are locked, and which the helper then shares. Objects
    /// that cannot be locked (functions, types) may vanish meanwhile, which the server's own
    /// deparsing functions report as a failed cache lookup: then all begins again. So it does when a
    /// sequence is gone, whose value cannot be read any more; they come with the catalog.
    async fn read(
        &self,
        leader: &mut Session,
        mut helper: Option<&mut Session>,
    ) -> Result<(Snapshot, Catalog, Values)> {
        const TRIES: u32 = 20;
        let mut tries = 0;
        loop {
            let snapshot = lock_and_snapshot(leader, self.known, self.options).await?;
            match self
                .try_once(leader, helper.as_deref_mut(), &snapshot)
                .await
            {
                Ok((catalog, values)) => return Ok((snapshot, catalog, values)),
                Err(error) => match error.sqlstate() {
                    Some(
                        // "cache lookup failed"; some functions return NULL instead
                        &(SqlState::INTERNAL_ERROR
                        | SqlState::NULL_VALUE_NOT_ALLOWED
                        | SqlState::UNDEFINED_TABLE
                        | SqlState::T_R_DEADLOCK_DETECTED),
                    ) if tries < TRIES => {
                        tries += 1;
                        give_way(leader, tries).await?;
                        if let Some(helper) = &mut helper {
                            helper.execute("ROLLBACK").await?;
                            helper.execute(self.begin).await?;
                        }
                    }
                    _ => return Err(error),
                },
            }
        }
    }

    async fn try_once(
        &self,
        leader: &mut Session,
        helper: Option<&mut Session>,
        snapshot: &Snapshot,
    ) -> Result<(Catalog, Values)> {
        let scope = &self.options.scope;
        // rolled back for its locks, as in lock_and_snapshot
        leader.execute("SAVEPOINT rdump_catalogs").await?;
        let catalog = match helper {
            None => catalog::read(leader, scope).await,
            Some(helper) => {
                join_snapshot(helper, snapshot).await?;
                catalog::read_with(leader, helper, scope).await
            }
        };
        let catalog = catalog.context("reading the catalogs")?;
        let wanted = plan::sequences(&catalog.entries);
        let values = sequences::read(leader, wanted, self.standby).await?;
        leader
            .execute("ROLLBACK TO rdump_catalogs; RELEASE rdump_catalogs")
            .await?;
        Ok((catalog, values))
    }
}

/// The first statement of the worker's transaction that needs a snapshot.
async fn join_snapshot(worker: &mut Session, snapshot: &Snapshot) -> Result<()> {
    let join = sql!("SET TRANSACTION SNAPSHOT {}", sql::literal(&snapshot.id));
    worker.execute(join).await.map_err(|error| {
        error
            .context("sharing the snapshot with another connection")
            .hint("all connections must reach the same server; behind a pooler that spreads them, connect to the server itself")
    })
}

async fn header(
    leader: &mut Session,
    snapshot: &Snapshot,
    encoding: &str,
    version: ServerVersion,
    options: &Options,
) -> Result<Header> {
    let mut header = Header::new(ArchiveId::random());
    header.codec = options.codec.to_string();
    if options.scope.parts.no_data {
        header.optional_flags |= HEADER_FLAG_WITHOUT_DATA;
    }
    if !options.scope.takes_large_objects() {
        header.optional_flags |= HEADER_FLAG_WITHOUT_LARGE_OBJECTS;
    }
    header.filters = options.scope.flags();
    // what the connection asked for may be a pooler's alias
    let named = leader.query("SELECT current_database() AS name").await?;
    header.database = named.only()?.text("name")?;
    header.server_version_num = version.0;
    header.server_version = leader
        .parameter("server_version")
        .unwrap_or_default()
        .to_owned();
    header.encoding = encoding.to_owned();
    header.snapshot_time = snapshot.time;
    header.settings = recorded_settings(options);
    Ok(header)
}

/// What the header says of how rows and definitions were read.
fn recorded_settings(options: &Options) -> Vec<(String, String)> {
    let wanted = wanted_settings(options);
    ROW_SETTINGS
        .iter()
        .map(|(name, usual)| {
            let wanted = wanted.iter().find(|(wanted, _)| wanted == name);
            let value = wanted.map_or(*usual, |(_, value)| value);
            ((*name).to_owned(), value.to_owned())
        })
        .collect()
}

/// Settings of the sessions that read, where they are not as usual.
fn wanted_settings(options: &Options) -> Vec<(&'static str, String)> {
    let mut wanted = Vec::new();
    if options.scope.enable_row_security {
        wanted.push(("row_security", "on".to_owned()));
    }
    if let Some(digits) = options.reading.extra_float_digits {
        wanted.push(("extra_float_digits", digits.to_string()));
    }
    if options.reading.quote_all_identifiers {
        wanted.push(("quote_all_identifiers", "on".to_owned()));
    }
    if !options.scope.patterns.foreign_data.is_empty() {
        // what is asked for may be read; views still run nobody's code as us
        wanted.push(("restrict_nonsystem_relation_kind", "view".to_owned()));
    }
    wanted
}

type KnownRows = Vec<(Vec<u8>, u64, EndRecord)>;

/// The ends of entries that are skipped.
fn skipped_rows(plan: &Plan) -> KnownRows {
    let end = |entry| EndRecord {
        entry,
        rows: 0,
        fingerprint: 0,
        chunks: 0,
        raw_length: 0,
    };
    plan.skipped
        .iter()
        .map(|(entry, _)| (Vec::new(), 0, end(*entry)))
        .collect()
}

/// No lock keeps a schema's name: where two schemas have changed places, rows were read under the
/// wrong names.
async fn refuse_change(leader: &mut Session, snapshot: &Snapshot) -> Result<()> {
    // whoever rewrites a catalog does not have to wait for us, nor then others for him
    leader.execute("SAVEPOINT rdump_look").await?;
    let change = relations::change(leader, &snapshot.relations).await?;
    leader
        .execute("ROLLBACK TO rdump_look; RELEASE rdump_look")
        .await?;
    match change {
        None => Ok(()),
        Some(change) => Err(Error::new(format!("{change} while rows were read"))
            .hint("run again, and rename schemas only when no snapshot is being taken")),
    }
}

/// Ends the leader's transaction, and with it the locks. That it can still be ended shows that they
/// were held to the last row: had the server ended the session meanwhile, a table truncated since
/// then would have read as empty, without any error.
async fn end_locks(leader: &mut Session) -> Result<()> {
    let doing = "ending the transaction that kept the tables as they were";
    if leader.state() != TransactionState::Open {
        return Err(Error::new("the transaction has failed").context(doing));
    }
    leader.execute("COMMIT").await.context(doing)
}

/// Runs all workers to their end. The first error ends the run.
async fn copy_all(
    leader: &mut Session,
    workers: Vec<Session>,
    work: &Arc<Work>,
    writer: &Writer,
    known_rows: KnownRows,
) -> Result<()> {
    worker::put_known(work, writer.sealer(), known_rows).await?;
    let mut running = JoinSet::new();
    for mut session in workers {
        let work = Arc::clone(work);
        let sealer = writer.sealer();
        work.join();
        running.spawn(async move {
            work.run_worker(&mut session, sealer).await?;
            // a pooler throws connections away whose transaction was left open
            session.execute("COMMIT").await?;
            session.close().await;
            Ok::<(), Error>(())
        });
    }
    run_all(work.run_leader(leader, writer.sealer()), running).await
}

/// A server answers at once that a connection has ended.
const LEADER_PATIENCE: Duration = Duration::from_secs(2);

/// Without the leader its locks are gone, and tables with them: then its end is what to tell, and
/// not what a worker met.
async fn cause(leader: &mut Session, error: Error) -> Error {
    if leader.is_lost() {
        return error;
    }
    match tokio::time::timeout(LEADER_PATIENCE, leader.execute("SELECT 1")).await {
        Ok(Err(lost)) if leader.is_lost() => lost.context("keeping the tables as they were"),
        _ => error,
    }
}

/// On a standby, replay may cancel the queries of a long snapshot.
fn explain(error: Error, standby: bool) -> Error {
    if standby
        && matches!(
            error.sqlstate(),
            Some(&(SqlState::T_R_SERIALIZATION_FAILURE | SqlState::T_R_DEADLOCK_DETECTED))
        )
    {
        return error.hint(
            "the standby had to replay changes that conflict with the snapshot: raise max_standby_streaming_delay, set hot_standby_feedback = on, or take the snapshot from the primary",
        );
    }
    error
}

impl Plan {
    fn announce(&self, progress: &Progress, connections: usize) {
        progress.log(|| {
            let (tables, pieces) = (self.sources.len(), self.tasks.len());
            format!("copying {tables} tables in {pieces} pieces over {connections} connections")
        });
        progress.expect(self.sources.len() as u64, self.bytes);
    }

    fn add_large_objects(&mut self, entry: crate::archive::EntryId, copy: &str) {
        let source = self.sources.len();
        self.sources.push(plan::Source {
            label: "large objects".to_owned(),
            tasks: 1,
        });
        // of unknown size: first, lest it be the last to end
        self.tasks.push(Task {
            entry,
            source,
            copy: copy.into(),
            lock: None,
            locks_indexes: None,
            bytes: 0,
        });
    }
}
