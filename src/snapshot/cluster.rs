//! Snapshots of a whole server: its globals and every database, as one set.
//!
//! The databases are taken one after the other, each under a snapshot of its own: PostgreSQL has none
//! that spans databases.

use std::collections::HashSet;
use std::sync::Arc;

use bstr::BString;

use super::sealing::{Destination, Sink, end_set};
use super::{Options, Report, globals, take};
use crate::archive::{SetId, SetSummary, SetWriter};
use crate::catalog::filter::{Pattern, Patterns, matches};
use crate::catalog::globals::GlobalsScope;
use crate::catalog::refuse_unsupported;
use crate::error::{Error, Outcome, Result, ResultExt};
use crate::postgres::{Connector, Session};
use crate::report::{Cancellation, Progress};
use crate::sql;

#[derive(Debug, Clone, Default)]
pub struct ClusterOptions {
    pub globals: GlobalsScope,
    /// Patterns of databases that are left out.
    pub excluded: Vec<BString>,
}

/// What came of a snapshot of all databases.
#[derive(Debug)]
pub struct SetReport {
    pub summary: SetSummary,
    pub server_version: String,
    /// As the set has them: the globals first.
    pub members: Vec<Report>,
    /// Databases that are not in the set though nobody asked for that, and those that never are, with
    /// the reason.
    pub skipped: Vec<String>,
    pub warnings: Vec<String>,
}

/// Takes a snapshot of the globals and of each database. On any error nothing is left behind; but a
/// database that was dropped since the run began is only left out.
pub async fn run_cluster(
    connector: Connector,
    options: &Options,
    cluster: &ClusterOptions,
    progress: Arc<Progress>,
    cancellation: &Arc<Cancellation>,
) -> Result<SetReport> {
    let (mut session, connector) = connector.first().await?;
    refuse_unsupported(session.version()?)?;
    let mut sink = Sink::open(&options.output, cancellation)?;
    let mut set = SetWriter::begin(&mut sink, SetId::random())?;
    let mut destination = Destination::Member(set.id(), Some(sink));
    let mut warnings = Vec::new();
    let mut members = Vec::new();

    globals::begin(&mut session).await?;
    let (report, header) = globals::take(
        &mut session,
        options,
        &cluster.globals,
        &mut destination,
        Arc::clone(&progress),
        cancellation,
    )
    .await?;
    set.add(&header, &report.summary)?;
    warnings.extend(report.warnings.iter().cloned());
    members.push(report);
    let databases = list(&mut session, &cluster.excluded).await?;
    session.execute("COMMIT").await?;
    session.close().await;

    let mut skipped = Vec::new();
    // databases that are tried, and why nothing of some is chosen
    let (mut tried, mut unmatched) = (0, Vec::new());
    for database in databases {
        let name = sql::identifier(&database.name);
        if let Some(reason) = database.not_taken {
            // every server has its own
            if database.name == "template0" && reason == NO_CONNECTIONS {
                progress.log(|| format!("database {name} is not taken: {reason}"));
                continue;
            }
            skipped.push(format!("database {name} is not in the set: {reason}"));
            continue;
        }
        progress.log(|| format!("taking database {name}"));
        let mut place = Some(destination);
        let own = connector.with_database(database.name.clone());
        let taken = async {
            let mut options = options.clone();
            tried += 1;
            if let Some(error) = nothing_chosen(&own, &options.scope.patterns).await? {
                warnings.push(format!("database {name}: {error}; nothing of it is kept"));
                unmatched.push(error);
                options.scope.patterns.may_find_nothing = true;
            }
            let progress = Arc::clone(&progress);
            take(own, &options, progress, cancellation, &mut place).await
        };
        let taken = taken.await;
        destination = place.ok_or_else(|| Error::new("the output was given up"))?;
        match taken {
            Ok((report, header)) => {
                set.add(&header, &report.summary)?;
                let of_member = report.warnings.iter();
                warnings.extend(of_member.map(|warning| format!("database {name}: {warning}")));
                members.push(report);
            }
            Err(error) => {
                let error = error.context(format!("database {name}"));
                // what was begun cannot be taken back from the set
                if !destination.is_open() {
                    return Err(error);
                }
                match gone(&connector, &database.name).await {
                    Some(reason) => {
                        skipped.push(format!("database {name} is not in the set: {reason}"));
                    }
                    None => return Err(error),
                }
            }
        }
    }
    if unmatched.len() == tried
        && let Some(error) = unmatched.pop()
    {
        return Err(error.context("in all databases"));
    }
    let server_version = members
        .first()
        .map(|report| report.server_version.clone())
        .unwrap_or_default();
    let summary = end_set(set, destination.take()?, options.sync, cancellation).await?;
    Ok(SetReport {
        summary,
        server_version,
        members,
        skipped,
        warnings,
    })
}

struct Database {
    name: BString,
    /// Why it is left out, where nobody asked for that.
    not_taken: Option<&'static str>,
}

const NO_CONNECTIONS: &str = "it allows no connections";
const INVALID: &str = "it is invalid: its DROP DATABASE was interrupted; drop it again";

/// All databases but those that match a pattern, in order of their names' bytes.
async fn list(session: &mut Session, excluded: &[BString]) -> Result<Vec<Database>> {
    let mut left_out = HashSet::new();
    for pattern in excluded {
        left_out.extend(matching(session, pattern).await?);
    }
    let rows = session
        .query("SELECT datname AS name, datallowconn, datconnlimit FROM pg_database")
        .await
        .context("listing the databases")?;
    let mut databases = Vec::new();
    for row in &rows {
        let name = row.text("name")?;
        if left_out.contains(&name) {
            continue;
        }
        databases.push(Database {
            name,
            not_taken: match (
                row.number::<i32>("datconnlimit")?,
                row.bool("datallowconn")?,
            ) {
                (-2, _) => Some(INVALID),
                (_, false) => Some(NO_CONNECTIONS),
                _ => None,
            },
        });
    }
    // the server's collation may have another order
    databases.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(databases)
}

/// Databases whose names match a pattern. Names are bytes in the encoding of whichever database they were
/// given in: what is not ASCII may be as it was typed, or in the encoding of this one.
async fn matching(session: &mut Session, pattern: &BString) -> Result<Vec<BString>> {
    let usage = |error: Error| error.outcome(Outcome::Usage);
    let regex = Pattern::of_database_object(pattern).map_err(usage)?.name;
    let as_typed = sql!(
        "datname ~ {} COLLATE pg_catalog.\"default\"",
        sql::literal(&regex)
    );
    let mut conditions = vec![as_typed];
    if !regex.is_ascii() {
        conditions.push(matches("datname", &regex));
    }
    let mut found = Vec::new();
    let mut failed = Vec::new();
    for condition in &conditions {
        session.execute("SAVEPOINT rdump_pattern").await?;
        let query = sql!(
            "SELECT datname AS name FROM pg_database WHERE {}",
            condition
        );
        match session.query(query).await {
            Ok(rows) => {
                for row in &rows {
                    found.push(row.text("name")?);
                }
            }
            Err(error) => failed.push(error),
        }
        session
            .execute("ROLLBACK TO rdump_pattern; RELEASE rdump_pattern")
            .await?;
    }
    match failed.pop() {
        Some(error) if failed.len() + 1 == conditions.len() => {
            Err(error.context(format!("looking for databases like {pattern}")))
        }
        _ => Ok(found),
    }
}

/// Why patterns choose nothing in a database, though they choose something in particular; elsewhere they
/// may. Strict ones must find what they are for in every database.
async fn nothing_chosen(connector: &Connector, patterns: &Patterns) -> Result<Option<Error>> {
    let includes = !patterns.include_everything() || !patterns.foreign_data.is_empty();
    if patterns.strict_names || !includes {
        return Ok(None);
    }
    let mut session = connector.open().await?;
    globals::begin(&mut session).await?;
    let chosen = patterns.choose(&mut session).await;
    if chosen.is_ok() {
        session.execute("COMMIT").await?;
    }
    session.close().await;
    match chosen {
        Ok(_) => Ok(None),
        Err(error) if error.sqlstate().is_none() => Ok(Some(error)),
        Err(error) => Err(error),
    }
}

/// Whether a database that could not be taken is gone, or closed, since it was listed.
async fn gone(connector: &Connector, name: &BString) -> Option<&'static str> {
    let look = async {
        let mut session = connector.open().await?;
        let rows = session
            .query(sql!(
                "SELECT datallowconn, datconnlimit FROM pg_catalog.pg_database
                 WHERE datname OPERATOR(pg_catalog.=) {}",
                sql::literal(name)
            ))
            .await?;
        session.close().await;
        Ok::<_, Error>(match rows.iter().next() {
            None => Some("it was dropped or renamed meanwhile"),
            Some(row) if row.number::<i32>("datconnlimit")? == -2 => Some(INVALID),
            Some(row) if !row.bool("datallowconn")? => Some(NO_CONNECTIONS),
            Some(_) => None,
        })
    };
    // the error that led here says more
    look.await.ok().flatten()
}
