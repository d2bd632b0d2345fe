//! Snapshots of a whole server: its globals and every database, as one set.
//!
//! The databases are taken one after the other, each under a snapshot of its own: PostgreSQL has none
//! that spans databases.

use std::sync::Arc;

use bstr::{BStr, BString, ByteSlice};

use super::sealing::{Destination, Sink, end_set};
use super::{Options, Report, globals, take};
use crate::archive::{SetId, SetSummary, SetWriter};
use crate::catalog::globals::GlobalsScope;
use crate::catalog::refuse_unsupported;
use crate::error::{Error, Result, ResultExt};
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
        let taken = take(
            connector.with_database(database.name.clone()),
            options,
            Arc::clone(&progress),
            cancellation,
            &mut place,
        )
        .await;
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
    let mut condition = BString::from("true");
    for pattern in excluded {
        condition.extend_from_slice(&sql!(
            " AND datname !~ {} COLLATE pg_catalog.default",
            sql::literal(regular_expression(pattern.as_bstr())?)
        ));
    }
    let rows = session
        .query(sql!(
            "SELECT datname AS name, datallowconn, datconnlimit FROM pg_database WHERE {}",
            condition
        ))
        .await
        .context("listing the databases")?;
    let mut databases = Vec::new();
    for row in &rows {
        databases.push(Database {
            name: row.text("name")?,
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

/// A pattern of a database's name as psql and pg_dumpall read it, as a regular expression of the
/// server: letters are folded and `*` and `?` mean something outside of double quotes.
fn regular_expression(pattern: &BStr) -> Result<BString> {
    let mut text = BString::from("^(");
    let mut quoted = false;
    let mut bytes = pattern.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' if quoted && bytes.peek() == Some(&b'"') => {
                bytes.next();
                text.push(b'"');
            }
            b'"' => quoted = !quoted,
            b'*' if !quoted => text.extend_from_slice(b".*"),
            b'?' if !quoted => text.push(b'.'),
            b'.' if !quoted => {
                return Err(Error::usage(format!(
                    "improper qualified name (too many dotted names): {pattern}"
                ))
                .hint("put names that have dots in them in double quotes"));
            }
            // names have it
            b'$' => text.extend_from_slice(b"\\$"),
            _ if quoted && b"|*+?()[]{}.^\\".contains(&byte) => {
                text.extend_from_slice(&[b'\\', byte]);
            }
            _ if quoted => text.push(byte),
            _ => text.push(byte.to_ascii_lowercase()),
        }
    }
    text.extend_from_slice(b")$");
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::regular_expression;

    #[test]
    fn patterns_of_databases() {
        for (pattern, expected) in [
            ("Shop", "^(shop)$"),
            ("shop_*", "^(shop_.*)$"),
            ("sh?p$", "^(sh.p\\$)$"),
            ("\"Sh.*\"\"p\"X", "^(Sh\\.\\*\"px)$"),
            ("a|b", "^(a|b)$"),
        ] {
            assert_eq!(regular_expression(pattern.into()).unwrap(), expected);
        }
        assert!(regular_expression("a.b".into()).is_err());
    }
}
