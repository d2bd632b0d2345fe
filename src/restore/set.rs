//! Restoring a set: the globals, then one database after the other.
//!
//! What fails of one member does not keep the others from being restored. A database is dropped only
//! if it is told to be (-C -c) and the set holds it; nothing else is ever dropped.

use std::sync::Arc;

use super::globals::{self, Last};
use super::input::{Choice, Opened, SetSource};
use super::{Options, Report, Restored, database, run_watched, select};
use crate::archive::{Content, Entry, Header};
use crate::error::{Error, Kind, Outcome, Result};
use crate::postgres::Connector;
use crate::report::{LOCK_PATIENCE, Progress, telling_lock_waits};
use crate::sql;

/// What became of one member.
#[derive(Debug)]
pub struct MemberReport {
    /// "globals", "database shop".
    pub member: String,
    /// An error: it was not restored to its end, or not at all.
    pub outcome: Result<Report>,
}

#[derive(Debug, Default)]
pub struct SetReport {
    pub members: Vec<MemberReport>,
    /// Why what follows was not reached.
    pub broken_off: Option<Error>,
    /// Members that the run had ended before.
    pub not_reached: Vec<String>,
    /// The same of a stream, in which nobody has looked what follows.
    pub is_unread: bool,
}

impl MemberReport {
    pub fn is_complete(&self) -> bool {
        let outcome = self.outcome.as_ref();
        outcome.is_ok_and(|report| report.failures.is_empty())
    }
}

impl SetReport {
    /// Of those that are known.
    pub fn total(&self) -> usize {
        self.members.len() + self.not_reached.len()
    }

    /// What was not begun, in words.
    pub fn left_out(&self) -> Option<String> {
        match self.is_unread {
            true => Some("what follows in the stream".to_owned()),
            false if self.not_reached.is_empty() => None,
            false => Some(self.not_reached.join(", ")),
        }
    }

    /// Exit code 3 if a part failed.
    pub fn into_result(self) -> Result<SetReport> {
        if let Some(error) = self.broken_off {
            return Err(error);
        }
        let failed: Vec<&str> = self
            .members
            .iter()
            .filter(|member| !member.is_complete())
            .map(|member| member.member.as_str())
            .collect();
        if failed.is_empty() {
            return Ok(self);
        }
        let left_out = self
            .left_out()
            .map(|names| format!("; not begun: {names}"))
            .unwrap_or_default();
        Err(Error::new(format!(
            "{} of {} members of the set could not be restored in full: {}{left_out}",
            failed.len(),
            self.total(),
            failed.join(", ")
        ))
        .outcome(Outcome::Partial))
    }
}

/// Databases that every server has, and that programs connect to when they have no other.
const ALWAYS_THERE: [&str; 2] = ["postgres", "template1"];

pub(super) async fn run(
    connector: &Connector,
    mut set: SetSource,
    choice: &Choice,
    options: Options,
    progress: Arc<Progress>,
) -> Result<Restored> {
    if *choice == Choice::All {
        refuse_what_is_for_one(&options)?;
    }
    let mut report = SetReport::default();
    let mut last = Last::default();
    let mut globals = None;
    let mut chosen = None;
    let mut stopped = false;
    while let Some(next) = set.next().await.transpose() {
        let (member, opened) = match next {
            Ok((member, opened)) => (member, opened),
            Err(error) => {
                report.broken_off = Some(error);
                break;
            }
        };
        if *choice != Choice::All {
            // a stream: the one wanted, restored as it would be alone; the others pass by
            let opened = opened?;
            if choice.is(opened.header.content, &opened.header.database) {
                let own = run_watched(connector, opened, options.clone(), Arc::clone(&progress));
                chosen = Some(own.await?);
            }
            continue;
        }
        progress.log(|| format!("restoring {member}"));
        let outcome = match opened {
            Err(error) => Err(error),
            Ok(opened) if opened.header.content == Content::Globals => {
                if options.selection.parts.no_schema {
                    continue;
                }
                progress.begin_member(&member);
                let begun = globals::begin(connector, &opened, &options, Arc::clone(&progress));
                match telling_lock_waits(connector, LOCK_PATIENCE, &progress, begun).await {
                    Ok((own, to_do)) => {
                        last = to_do;
                        globals = Some(report.members.len());
                        Ok(own)
                    }
                    // without them nothing else would be in its place
                    Err(error) => {
                        report.broken_off = Some(without_globals());
                        Err(error)
                    }
                }
            }
            Ok(opened) => {
                progress.begin_member(&member);
                of_database(connector, opened, &options, &progress).await
            }
        };
        let member = MemberReport { member, outcome };
        stopped = report.broken_off.is_some() || (options.exit_on_error && !member.is_complete());
        report.members.push(member);
        if stopped {
            break;
        }
    }
    if *choice != Choice::All {
        return match (chosen, report.broken_off) {
            (_, Some(error)) => Err(error),
            (Some(own), None) => Ok(Restored::Archive(own)),
            (None, None) => Err(choice.missing()),
        };
    }
    if stopped {
        match set.left() {
            Some(left) => report.not_reached.extend(left),
            None => report.is_unread = true,
        }
    }
    if let Some(at) = globals
        && let Some(MemberReport {
            outcome: Ok(own), ..
        }) = report.members.get_mut(at)
    {
        globals::end(connector, &last, &options, own).await;
    }
    Ok(Restored::Set(report))
}

fn without_globals() -> Error {
    Error::new("the globals of the set could not be restored, and without them no database was")
        .hint("--member NAME restores one database, for which its roles must be there")
}

/// Flags that choose among the objects of one database, or make one transaction of it.
fn refuse_what_is_for_one(options: &Options) -> Result<()> {
    let flag = if options.single_transaction {
        "-1"
    } else if options.database_name.is_some() {
        "another name"
    } else if options.selection.listed.is_some() {
        "-L"
    } else if options.selection.is_of_a_part() {
        "a filter of objects"
    } else {
        return Ok(());
    };
    Err(Error::usage(format!(
        "{flag} is for one database, and this is a set of them"
    ))
    .hint("choose one with --member NAME"))
}

async fn of_database(
    connector: &Connector,
    opened: Opened,
    options: &Options,
    progress: &Arc<Progress>,
) -> Result<Report> {
    let name = opened.header.database.clone();
    let exists = exists(connector, &opened.header).await?;
    let mut own = options.clone();
    let always_there = ALWAYS_THERE.iter().any(|there| name == *there);
    let replace = options.create_database && options.clean && exists && !always_there;
    own.create_database = !exists || replace;
    own.database_properties = exists && !replace && !options.selection.parts.no_schema;
    if options.selection.parts.no_schema && !exists {
        return Err(Error::new(format!(
            "database {} does not exist, and -a creates none",
            sql::identifier(&name)
        )));
    }
    // what stands in a database that is there need not be all that the set has
    own.if_exists = true;
    own.clean = options.clean && exists;
    let of_database = own.create_database || own.database_properties;
    let selected = select(&opened.entries, &options.selection);
    if !of_database && selected.iter().all(Entry::is_of_database) {
        // such as a database without rows, with -a
        return Ok(Report {
            database: name.to_string(),
            entries: 0,
            rows: 0,
            connections: 0,
            failures: Vec::new(),
            warnings: Vec::new(),
        });
    }
    let into = match own.create_database {
        true => connector.clone(),
        false => connector.with_database(name),
    };
    run_watched(&into, opened, own, Arc::clone(progress))
        .await
        .map_err(|error| explain(error, exists && !options.clean))
}

/// Whether the server has a database of the archive's name.
async fn exists(connector: &Connector, header: &Header) -> Result<bool> {
    let mut session = connector.open().await?;
    database::keep_bytes(&mut session).await?;
    let rows = session
        .query(sql!(
            "SELECT 1 AS one FROM pg_catalog.pg_database WHERE datname OPERATOR(pg_catalog.=) {}",
            sql::literal(&header.database)
        ))
        .await?;
    session.close().await;
    Ok(!rows.is_empty())
}

fn explain(error: Error, in_the_way: bool) -> Error {
    match in_the_way {
        true if error.kind() == Kind::TargetNotReady => error.hint(
            "drop the database; or use -C -c to replace databases that the set holds, or -c to drop the objects that it holds",
        ),
        _ => error,
    }
}
