//! `restore --replace`: the archive is restored beside the live database, proved equal to the archive, and
//! takes the live one's name.
//!
//! Until the transaction of the two renames is committed the live database is as it was, whatever ends the
//! run: nothing is set on it that would have to be taken back.

mod checks;
mod made;
mod swap;

use std::sync::Arc;

use bstr::BString;

pub use made::Made;

use super::input::{Choice, Holding, Input, Opened, Source, blocking};
use super::{Options, Report, Restored, database, run as engine, run_any};
use crate::archive::{Content, Entry};
use crate::catalog::roles::RoleMap;
use crate::catalog::shown;
use crate::error::{Error, Kind, Outcome, Result};
use crate::postgres::{Connector, Session};
use crate::proof::{CompareOptions, Comparison, compare};
use crate::report::{Progress, counted};
use crate::sql;

/// What is asked for.
pub struct Request {
    pub input: Input,
    pub choice: Choice,
    /// The database to be replaced, if not the one of the archive's name.
    pub name: Option<BString>,
    /// How the copy is restored; what makes it a new database is added.
    pub options: Options,
    /// Leave a copy that is not fit to take the name, for looking into it.
    pub keep_failed: bool,
}

/// What is going to be done, on a server that was found to allow it.
pub struct Plan {
    /// The live database.
    pub name: BString,
    /// What its copy is called until then.
    pub copy: BString,
    /// Others that are connected to it now.
    pub sessions: u64,
    pub warnings: Vec<String>,
    /// To another database of the server, which stays.
    elsewhere: Connector,
    oid: u32,
}

/// What became of it.
pub struct Replaced {
    pub report: Report,
    /// None: the copy was not restored in full.
    pub comparison: Option<Comparison>,
    /// The old database's new name; or why the live one is as it was.
    pub old: Result<BString>,
    /// The connection was lost at the very commit, and the server could not be asked since.
    is_uncertain: bool,
}

/// Refuses what would fail later, as far as the server can say. A scratch database is made, renamed and
/// dropped: many services do not let their databases be renamed, and say so only when it is tried.
pub async fn plan(connector: &Connector, request: &Request, made: &Made) -> Result<Plan> {
    let opened = open(request).await?;
    refuse_part(&opened)?;
    let header = &opened.header;
    let name = request
        .name
        .clone()
        .unwrap_or_else(|| header.database.clone());
    let quotes_all = header.quotes_all();
    let owner = match request.options.no_owner {
        true => None,
        false => owner(&opened.entries, &request.options.roles),
    };
    let copy = sql::with_ending(&name, &format!("_rdump_new_{}", random()));
    let (mut session, elsewhere) = elsewhere(connector, &name).await?;
    let live = checks::check(&mut session, &name, owner.as_ref()).await?;
    let options = options_for(request, &copy);
    let checking = engine::check(&elsewhere, opened, options);
    let mut warnings = live.warnings;
    warnings.extend(sql::quoting_all(quotes_all, checking).await?);
    made.server(&elsewhere);
    try_rename(&mut session, &name, made).await?;
    session.close().await;
    Ok(Plan {
        name,
        copy,
        sessions: live.sessions,
        warnings,
        elsewhere,
        oid: live.oid,
    })
}

/// Restores, proves and swaps. An error, or one in what is returned: the live database is as it was, and
/// the copy is gone unless it is to be kept.
pub async fn run(
    plan: &Plan,
    request: &Request,
    made: &Made,
    restoring: Arc<Progress>,
    comparing: Arc<Progress>,
) -> Result<Replaced> {
    made.push(&plan.copy);
    let mut outcome = attempt(plan, request, restoring, comparing).await;
    let failed = match &mut outcome {
        Ok(replaced) if replaced.is_uncertain => None,
        Ok(replaced) => replaced.old.as_mut().err(),
        Err(error) => Some(error),
    };
    let Some(error) = failed else {
        made.keep();
        return outcome;
    };
    let copy = sql::identifier(&plan.copy);
    let became = match request.keep_failed {
        true => {
            made.keep();
            format!("the copy stays, as {copy}, until DROP DATABASE {copy}")
        }
        false => match made.drop_all().await {
            Ok(()) => "the copy was dropped".to_owned(),
            Err(told) => told,
        },
    };
    let own = error.hint_text().map(|hint| format!("{hint}; "));
    let hint = format!(
        "{}the live database is as it was; {became}",
        own.unwrap_or_default()
    );
    let told = std::mem::replace(error, Error::new(""));
    *error = told.hint(hint);
    outcome
}

async fn attempt(
    plan: &Plan,
    request: &Request,
    restoring: Arc<Progress>,
    comparing: Arc<Progress>,
) -> Result<Replaced> {
    let options = options_for(request, &plan.copy);
    let (input, choice) = (request.input.clone(), &request.choice);
    let report = match run_any(plan.elsewhere.clone(), input, choice, options, restoring).await? {
        Restored::Archive(report) => report,
        Restored::Set(_) => return Err(is_set()),
    };
    if !report.failures.is_empty() {
        let count = report.failures.len();
        return Ok(Replaced {
            report,
            comparison: None,
            is_uncertain: false,
            old: Err(Error::new(format!(
                "the copy was not restored in full, and does not replace {}: {}",
                sql::identifier(&plan.name),
                counted(count as u64, "failure", "failures")
            ))
            .outcome(Outcome::Partial)),
        });
    }
    let comparison = prove(plan, request, comparing).await?;
    if !comparison.is_equal() {
        let old = Err(Error::new(format!(
            "the copy was not proved equal to the archive, and does not replace {}: {}",
            sql::identifier(&plan.name),
            comparison.findings_in_words()
        ))
        .outcome(Outcome::Partial));
        return Ok(Replaced {
            report,
            comparison: Some(comparison),
            old,
            is_uncertain: false,
        });
    }
    let swapped = swap::swap(plan, &request.options.cancellation).await;
    let is_uncertain = matches!(swapped, Err(swap::Failure::Uncertain(_)));
    Ok(Replaced {
        report,
        comparison: Some(comparison),
        old: swapped.map_err(swap::Failure::into_error),
        is_uncertain,
    })
}

async fn prove(plan: &Plan, request: &Request, progress: Arc<Progress>) -> Result<Comparison> {
    let options = &request.options;
    let compare_options = CompareOptions {
        jobs: options.jobs,
        no_owner: options.no_owner,
        no_privileges: options.selection.parts.no_privileges,
        no_tablespaces: options.no_tablespaces,
        roles: options.roles.clone(),
        database_name: Some(plan.copy.clone()),
        ..CompareOptions::default()
    };
    let (input, choice) = (request.input.clone(), request.choice.clone());
    let keys = Arc::clone(&options.keys);
    let holding = blocking(move || Holding::open(input, &keys)?.choose(&choice)).await?;
    let Holding::Archive(reader) = holding else {
        return Err(is_set());
    };
    let connector = plan.elsewhere.with_database(plan.copy.clone());
    let comparing = compare(&reader, connector, &compare_options, progress);
    comparing
        .await
        .map_err(|error| error.context("comparing the copy with the archive"))
}

fn options_for(request: &Request, copy: &BString) -> Options {
    let mut options = request.options.clone();
    options.create_database = true;
    options.database_name = Some(copy.clone());
    options
}

async fn open(request: &Request) -> Result<Opened> {
    match Source::open(
        request.input.clone(),
        &request.choice,
        &request.options.keys,
    )
    .await?
    {
        Source::Archive(opened) if opened.header.content == Content::Database => Ok(opened),
        Source::Archive(_) => Err(Error::usage(
            "--replace takes the archive of a database; this one holds globals",
        )),
        Source::Set(_) => Err(is_set()),
    }
}

fn is_set() -> Error {
    Error::usage("--replace replaces one database, and this is a set of them")
        .hint("choose one with --member NAME")
}

/// What the archive was made without would be gone from the live database.
fn refuse_part(opened: &Opened) -> Result<()> {
    let header = &opened.header;
    let what = if !header.filters.is_empty() {
        format!("its snapshot was taken with {}", shown(&header.filters))
    } else if header.is_without_data() {
        "it was made without rows".to_owned()
    } else if header.is_without_large_objects() {
        "it was made without large objects".to_owned()
    } else {
        return Ok(());
    };
    Err(Error::new(format!(
        "the archive holds a part of its database, which cannot replace all of one: {what}"
    ))
    .with_kind(Kind::TargetNotReady)
    .hint("restore it into another database, with -C --database-name"))
}

/// Whose the copy will be.
fn owner(entries: &[Entry], roles: &RoleMap) -> Option<BString> {
    let owner = database::entry(entries)?.owner.as_ref()?;
    Some(roles.get(owner).unwrap_or(owner).clone())
}

/// Sessions of its own would be in the way of the live database's new name.
const MAINTENANCE: [&str; 2] = ["postgres", "template1"];

/// A session in another database than the live one.
async fn elsewhere(connector: &Connector, live: &BString) -> Result<(Session, Connector)> {
    let given = connector.target().database();
    if given != live {
        return connector.clone().first().await;
    }
    let mut told = Vec::new();
    for name in MAINTENANCE.iter().filter(|name| live != **name) {
        match connector.with_database(*name).first().await {
            Ok(reached) => return Ok(reached),
            Err(error) => told.push(error.to_string()),
        }
    }
    Err(Error::new(format!(
        "no database but the one to be replaced could be connected to: {}",
        told.join("; ")
    ))
    .hint("name another with -d: the names are swapped from there"))
}

/// Whether databases can be renamed here.
async fn try_rename(session: &mut Session, name: &BString, made: &Made) -> Result<()> {
    let id = random();
    let scratch = sql::with_ending(name, &format!("_rdump_try_{id}"));
    let renamed = sql::with_ending(name, &format!("_rdump_tried_{id}"));
    made.push(&scratch);
    let create = sql!(
        "CREATE DATABASE {} TEMPLATE template0 CONNECTION LIMIT 0",
        sql::identifier(&scratch)
    );
    session.execute(create).await.map_err(|error| {
        error
            .hint("--replace restores into a new database")
            .context("no database can be created here")
    })?;
    made.push(&renamed);
    let rename = sql!(
        "ALTER DATABASE {} RENAME TO {}",
        sql::identifier(&scratch),
        sql::identifier(&renamed)
    );
    let tried = session.execute(rename).await;
    let dropped = made.drop_all().await;
    tried.map_err(|error| {
        error
            .hint("restore beside the live database with -C --database-name, and let programs connect to that")
            .context("a database cannot be renamed here, as a try with a scratch database has shown")
    })?;
    dropped.map_err(|told| Error::new(format!("a database cannot be dropped here: {told}")))
}

fn random() -> String {
    format!("{:08x}", rand::random::<u32>())
}
