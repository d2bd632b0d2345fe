//! The restore of a test: which database an archive goes into, and how that is made.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bstr::BString;

use super::report::Restored;
use super::server::drawn_name;
use super::subject::{Member, Skipped};
use super::{Options, Report, Server, Subject, restore_options};
use crate::error::{Error, Result, ResultExt, SqlState};
use crate::report::Progress;
use crate::restore::{self, Selection, run_any};
use crate::sql;

/// Databases that a new server has.
const ALWAYS_THERE: [&str; 3] = ["postgres", "template0", "template1"];

pub struct Made {
    /// The one that was restored into. None: those of a set, by their own names, or none.
    pub database: Option<BString>,
    pub restored: Restored,
    pub took: Duration,
}

pub async fn restore(
    server: &Server,
    subject: &Subject,
    skipped: &Skipped,
    options: &Options,
    report: &mut Report,
    progress: Arc<Progress>,
) -> Result<Made> {
    let begun = Instant::now();
    let (database, entries, connections) = match subject.database() {
        Some(member) => {
            let (name, own) =
                one(server, subject, member, skipped, options, report, &progress).await?;
            report.take_failures(&own.failures, None);
            report.warnings.extend(own.warnings);
            (Some(name), own.entries, own.connections)
        }
        None => {
            let (entries, connections) = all(server, subject, options, report, &progress).await?;
            (None, entries, connections)
        }
    };
    let took = begun.elapsed();
    let counts = progress.counts();
    let restored = Restored::new(entries as u64, counts.rows, counts.bytes, connections, took);
    Ok(Made {
        database,
        restored,
        took,
    })
}

/// Into a database of its own name, with what is set for it, where that is free.
async fn one(
    server: &Server,
    subject: &Subject,
    member: &Member,
    skipped: &Skipped,
    options: &Options,
    report: &mut Report,
    progress: &Arc<Progress>,
) -> Result<(BString, restore::Report)> {
    let own_name = member.header.database.clone();
    let name = match server.scratch() {
        Some(name) => name.clone(),
        None if ALWAYS_THERE.iter().any(|there| own_name == *there) => drawn_name(),
        None => own_name.clone(),
    };
    let mut restoring = restore_options(options);
    restoring.selection = selection(member, skipped, options);
    restoring.create_database = member.entries.iter().any(|e| e.kind == "DATABASE");
    restoring.database_name = (name != own_name).then(|| name.clone());
    if restoring.create_database {
        let outcome = run_one(server.connector(), subject, restoring.clone(), progress).await;
        match outcome {
            Err(error) if is_about_locale(&error) => report.warnings.push(format!(
                "the server has not the locale of the database: it was made with locale C, in which texts are ordered otherwise ({error})"
            )),
            outcome => return Ok((name, outcome?)),
        }
    }
    // not under its own name: what is set for it is not restored either
    let name = server.scratch().cloned().unwrap_or_else(drawn_name);
    let mut session = server.connector().open().await?;
    let create = sql!(
        "CREATE DATABASE {} TEMPLATE template0 ENCODING {} LOCALE 'C'",
        sql::identifier(&name),
        sql::literal(&member.header.encoding)
    );
    let created = session.execute(create).await;
    created.context("creating a database for the test")?;
    session.close().await;
    restoring.create_database = false;
    restoring.database_name = None;
    let connector = server.connector().with_database(name.clone());
    let own = run_one(&connector, subject, restoring, progress).await?;
    Ok((name, own))
}

async fn run_one(
    connector: &crate::postgres::Connector,
    subject: &Subject,
    options: restore::Options,
    progress: &Arc<Progress>,
) -> Result<restore::Report> {
    let (input, progress) = (subject.input.clone(), Arc::clone(progress));
    let restored = run_any(connector.clone(), input, &subject.choice, options, progress);
    match restored.await? {
        restore::Restored::Archive(report) => Ok(report),
        restore::Restored::Set(_) => Err(Error::new("a set was restored in place of an archive")),
    }
}

/// CREATE DATABASE failed for its locale, or the provider of that.
fn is_about_locale(error: &Error) -> bool {
    error.to_string().contains("creating database")
        && matches!(
            error.sqlstate(),
            Some(
                &SqlState::WRONG_OBJECT_TYPE
                    | &SqlState::INVALID_PARAMETER_VALUE
                    | &SqlState::FEATURE_NOT_SUPPORTED
            )
        )
}

fn selection(member: &Member, skipped: &Skipped, options: &Options) -> Selection {
    let mut selection = Selection::default();
    selection.parts.no_privileges = options.no_privileges;
    if !skipped.is_empty() {
        let left_out = skipped.entries();
        let kept = member.entries.iter().map(|entry| entry.id);
        let kept = kept.filter(|id| !left_out.contains(id));
        selection.listed = Some(kept.enumerate().map(|(at, id)| (id, at)).collect());
    }
    selection
}

/// Globals, or a set: as they are, on a server that is there for nothing else.
async fn all(
    server: &Server,
    subject: &Subject,
    options: &Options,
    report: &mut Report,
    progress: &Arc<Progress>,
) -> Result<(usize, usize)> {
    if !server.is_disposable() {
        return Err(Error::usage(
            "roles and tablespaces are not restored into a given server for a test",
        )
        .hint(
            "choose a database of the set with --member, or let the test have a server of its own",
        ));
    }
    let mut restoring = restore_options(options);
    restoring.selection.parts.no_privileges = options.no_privileges;
    let restored = run_any(
        server.connector().clone(),
        subject.input.clone(),
        &subject.choice,
        restoring,
        Arc::clone(progress),
    );
    match restored.await? {
        restore::Restored::Archive(own) => {
            report.take_failures(&own.failures, None);
            report.warnings.extend(own.warnings);
            Ok((own.entries, own.connections))
        }
        restore::Restored::Set(set) => {
            let (mut entries, mut connections) = (0, 1);
            for member in set.members {
                match member.outcome {
                    Ok(own) => {
                        report.take_failures(&own.failures, Some(&member.member));
                        let warnings = own.warnings.iter();
                        let named = warnings.map(|warning| format!("{}: {warning}", member.member));
                        report.warnings.extend(named);
                        entries += own.entries;
                        connections = connections.max(own.connections);
                    }
                    Err(error) => report.not_restored(&member.member, &error.to_string()),
                }
            }
            if let Some(error) = set.broken_off {
                return Err(error);
            }
            for member in set.not_reached {
                report.not_restored(&member, "it was not begun");
            }
            Ok((entries, connections))
        }
    }
}
