//! The restore engine: from an archive to a database that equals it.
//!
//! Definitions that come before the data are replayed in order on one connection; rows, indexes
//! and constraints in parallel, as `schedule` allows; then privileges; then what must come last.
//! Errors of single entries are counted and listed, as pg_restore does, unless asked otherwise.

mod connections;
mod create;
mod database;
mod dependencies;
mod globals;
mod input;
mod load;
mod parallel;
mod preflight;
pub mod replace;
mod run;
mod schedule;
pub mod script;
mod selection;
mod set;
mod source;
mod stream;
mod transactions;
mod triggers;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bstr::BString;
pub use dependencies::Dependencies;
pub use input::{ArchiveFile, Choice, Holding, Input, Stored, blocking};
pub use preflight::{Finding, Severity};
pub use selection::{Selection, label, parse_list, select};
pub use set::{MemberReport, SetReport};
pub use triggers::DisabledTriggers;

use crate::archive::{Content, EntryId, Header, Keys};
use crate::catalog::roles::RoleMap;
use crate::error::{Error, Outcome, Result};
use crate::postgres::settings::{refuse_unknown, refuse_unknown_encoding, set};
use crate::postgres::{Connector, Session};
use crate::report::{Cancellation, LOCK_PATIENCE, Progress, telling_lock_waits};
use crate::sql;
use input::{Opened, Source};

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
    /// Knows which are disabled, for whoever goes on after a run that a signal has ended.
    pub triggers: Arc<DisabledTriggers>,
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
    /// What an encrypted archive is opened with.
    pub keys: Arc<Keys>,
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
            triggers: Arc::default(),
            exit_on_error: false,
            single_transaction: false,
            transaction_size: None,
            force: false,
            least_load: source::LEAST_LOAD,
            lock_patience: LOCK_PATIENCE,
            keys: Arc::default(),
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
    pub doing: Doing,
    pub message: String,
    pub hint: Option<String>,
}

/// What was being done to an entry when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    Dropping,
    Creating,
    /// Roles and tablespaces, which may be there already.
    CreatingOrAltering,
    SettingOwner,
    DisablingTriggers,
    Loading,
    Emptying,
}

impl Doing {
    /// Whether what the entry holds is missing, in full or in part.
    fn loses_contents(self) -> bool {
        matches!(self, Doing::Creating | Doing::Loading | Doing::Emptying)
    }
}

impl std::fmt::Display for Doing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Doing::Dropping => "dropping it",
            Doing::Creating => "creating it",
            Doing::CreatingOrAltering => "creating or altering it",
            Doing::SettingOwner => "setting its owner",
            Doing::DisablingTriggers => "disabling its triggers",
            Doing::Loading => "loading its rows",
            Doing::Emptying => "emptying it",
        })
    }
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
    match Source::open(input, choice, &options.keys).await? {
        Source::Archive(opened) => {
            let report = run_watched(&connector, opened, options, progress).await?;
            Ok(Restored::Archive(report))
        }
        Source::Set(_) if *choice == Choice::All && options.is_of_one_database() => {
            Err(of_one_database())
        }
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
    let wanted = options.dependencies.clone();
    let triggers = Arc::clone(&options.triggers);
    let watched = Arc::clone(&progress);
    // what the target has is compared with what the archive has
    let quotes_all = opened.header.quotes_all();
    let running = async {
        let outcome = match opened.header.content {
            Content::Globals if options.is_of_one_database() => Err(of_one_database()),
            Content::Globals => globals::run(connector, &opened, &options, progress).await,
            Content::Database => run::run(connector, opened, options, progress).await,
        };
        match outcome {
            Ok(report) => Ok(report),
            Err(error) => {
                connector.cancel_all().await;
                Err(triggers.after(error).await)
            }
        }
    };
    let running = sql::quoting_all(quotes_all, running);
    let outcome = telling_lock_waits(connector, patience, &watched, running).await;
    outcome.map_err(|error| match &wanted {
        Some(wanted) => wanted.left_behind(error),
        None => error,
    })
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
    // options of dictionaries are stored as they are printed
    ("quote_all_identifiers", "off"),
    ("default_transaction_read_only", "off"),
    ("default_transaction_isolation", "read committed"),
    ("default_tablespace", ""),
    ("default_table_access_method", "heap"),
];

/// Settings of every connection of a restore.
async fn prepare(session: &mut Session, header: &Header) -> Result<()> {
    refuse_unknown(&header.settings)?;
    refuse_unknown_encoding(&header.encoding)?;
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
    for (name, value) in header.settings_of_rows() {
        text.extend_from_slice(&set(name, value));
    }
    session
        .execute_by_known_process(text)
        .await
        .map_err(|error| error.context("setting up the connection"))
}

impl Report {
    /// Exit code 3 if something was left out.
    pub fn into_result(self) -> Result<Report> {
        let (dropping, others): (Vec<&Failure>, Vec<&Failure>) = self
            .failures
            .iter()
            .partition(|failure| failure.doing == Doing::Dropping);
        let failed: HashSet<EntryId> = others.iter().map(|failure| failure.entry).collect();
        let mut told = Vec::new();
        if !failed.is_empty() {
            let (count, all) = (failed.len(), self.entries);
            told.push(format!("{count} of {all} entries could not be restored"));
        }
        if !dropping.is_empty() {
            told.push(format!("{} could not be dropped before", dropping.len()));
        }
        match told.is_empty() {
            true => Ok(self),
            false => Err(Error::new(told.join(", ")).outcome(Outcome::Partial)),
        }
    }
}
