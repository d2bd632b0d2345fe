//! The restore of a test: which database an archive goes into, and how that is made.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bstr::BString;

use super::report::Restored;
use super::server::drawn_name;
use super::subject::{Member, Skipped};
use super::{Options, Report, Server, Subject, restore_options};
use crate::error::{Error, Kind, Result, ResultExt, SqlState};
use crate::postgres::Connector;
use crate::report::Progress;
use crate::restore::{self, Choice, Selection, run_any};
use crate::sql;

pub struct Made {
    /// Of each member the database that it was restored into. None: globals, or nowhere.
    pub databases: Vec<Option<BString>>,
    pub restored: Restored,
    pub took: Duration,
}

/// What a restore is made from, and told to.
struct Restoring<'a> {
    server: &'a Server,
    subject: &'a Subject,
    options: &'a Options,
    progress: Arc<Progress>,
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
    let restoring = Restoring {
        server,
        subject,
        options,
        progress: Arc::clone(&progress),
    };
    let (databases, entries, connections) = match subject.database() {
        Some(member) => {
            let (name, own) = restoring.one(member, skipped, report).await?;
            report.take_failures(&own.failures, None);
            report.warnings.extend(own.warnings);
            (vec![Some(name)], own.entries, own.connections)
        }
        None => restoring.all(report).await?,
    };
    let took = begun.elapsed();
    let counts = progress.counts();
    let restored = Restored::new(entries as u64, counts.rows, counts.bytes, connections, took);
    Ok(Made {
        databases,
        restored,
        took,
    })
}

impl Restoring<'_> {
    /// On a server of our own into a database of its own name, with what is set for it.
    async fn one(
        &self,
        member: &Member,
        skipped: &Skipped,
        report: &mut Report,
    ) -> Result<(BString, restore::Report)> {
        let own_name = member.header.database.clone();
        let name = self.server.scratch().unwrap_or(&own_name).clone();
        let mut options = restore_options(self.options);
        options.selection = selection(member, skipped, self.options);
        options.create_database = member.entries.iter().any(|e| e.kind == "DATABASE");
        options.database_name = (name != own_name).then(|| name.clone());
        if options.create_database {
            let connector = self.server.connector();
            let outcome = self.run(connector, &self.subject.choice, options.clone());
            match outcome.await {
                Err(error) if is_about_locale(&error) => report.warnings.push(other_locale(&error)),
                outcome => return Ok((name, outcome?)),
            }
        }
        options.create_database = false;
        options.database_name = None;
        self.in_plain_locale(member, &self.subject.choice, options)
            .await
    }

    /// Into a database without a locale, and not under the archive's name: what is set for that is not
    /// restored either.
    async fn in_plain_locale(
        &self,
        member: &Member,
        choice: &Choice,
        options: restore::Options,
    ) -> Result<(BString, restore::Report)> {
        let name = self.server.scratch().cloned().unwrap_or_else(drawn_name);
        let mut session = self.server.connector().open().await?;
        let create = sql!(
            "CREATE DATABASE {} TEMPLATE template0 ENCODING {} LOCALE 'C'",
            sql::identifier(&name),
            sql::literal(&member.header.encoding)
        );
        let created = session.execute(create).await;
        created.context("creating a database for the test")?;
        session.close().await;
        let connector = self.server.connector().with_database(name.clone());
        let own = self.run(&connector, choice, options).await?;
        Ok((name, own))
    }

    async fn run(
        &self,
        connector: &Connector,
        choice: &Choice,
        mut options: restore::Options,
    ) -> Result<restore::Report> {
        options.keys = Arc::clone(&self.subject.keys);
        let progress = Arc::clone(&self.progress);
        let input = self.subject.input.clone();
        let restored = run_any(connector.clone(), input, choice, options, progress).await;
        match restored.map_err(not_ready)? {
            restore::Restored::Archive(report) => Ok(report),
            restore::Restored::Set(_) => {
                Err(Error::new("a set was restored in place of an archive"))
            }
        }
    }

    /// Globals, or a set: as they are, on a server that is there for nothing else.
    async fn all(&self, report: &mut Report) -> Result<(Vec<Option<BString>>, usize, usize)> {
        if !self.server.is_disposable() {
            return Err(
                Error::usage("roles and tablespaces are not restored into a given server for a test")
                    .hint("choose a database of the set with --member, or let the test have a server of its own"),
            );
        }
        let members = &self.subject.members;
        let mut databases: Vec<Option<BString>> = members.iter().map(Member::database).collect();
        let mut options = restore_options(self.options);
        options.selection.parts.no_privileges = self.options.no_privileges;
        let restored = run_any(
            self.server.connector().clone(),
            self.subject.input.clone(),
            &self.subject.choice,
            options.clone(),
            Arc::clone(&self.progress),
        );
        let set = match restored.await? {
            restore::Restored::Archive(own) => {
                report.take_failures(&own.failures, None);
                report.warnings.extend(own.warnings);
                return Ok((databases, own.entries, own.connections));
            }
            restore::Restored::Set(set) => set,
        };
        let (mut entries, mut connections) = (0, 1);
        for mut restored in set.members {
            let label = restored.member;
            let at = members.iter().position(|member| member.label == label);
            if let (Err(error), Some(at)) = (&restored.outcome, at)
                && is_about_locale(error)
                && let (Some(member), Some(database)) = (members.get(at), databases.get_mut(at))
            {
                let warning = other_locale(error);
                report.warnings.push(format!("{label}: {warning}"));
                let choice = Choice::Database(member.header.database.clone());
                restored.outcome =
                    match self.in_plain_locale(member, &choice, options.clone()).await {
                        Ok((name, own)) => {
                            *database = Some(name);
                            Ok(own)
                        }
                        Err(error) => Err(error),
                    };
            }
            match restored.outcome {
                Ok(own) => {
                    report.take_failures(&own.failures, Some(&label));
                    let warnings = own.warnings.iter();
                    let named = warnings.map(|warning| format!("{label}: {warning}"));
                    report.warnings.extend(named);
                    entries += own.entries;
                    connections = connections.max(own.connections);
                }
                Err(error) => {
                    report.not_restored(&label, &error.to_string());
                    if let Some(database) = at.and_then(|at| databases.get_mut(at)) {
                        *database = None;
                    }
                }
            }
        }
        if let Some(error) = set.broken_off {
            return Err(error);
        }
        for label in set.not_reached {
            report.not_restored(&label, "it was not begun");
        }
        Ok((databases, entries, connections))
    }
}

fn other_locale(error: &Error) -> String {
    format!(
        "the server has not the locale of the database: it was made with locale C, in which texts are ordered otherwise ({error})"
    )
}

/// A test has no --force.
fn not_ready(error: Error) -> Error {
    match error.kind() {
        Kind::TargetNotReady => error.hint(
            "mend these; -O and -x test without owners and privileges; a server of its own (without --on) has the roles",
        ),
        _ => error,
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
