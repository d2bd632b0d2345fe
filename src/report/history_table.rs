//! The table `backup_history` in a database of the user's choice (`docs/history.md`).

use bstr::BString;
use jiff::Timestamp;

use super::Account;
use crate::error::{Error, Result, ResultExt, SqlState};
use crate::postgres::settings::set_local;
use crate::postgres::{Connector, Session};
use crate::sql;

const TABLE: &str = "backup_history";
const MIGRATIONS: &str = "backup_history_migrations";

/// Held while the table is made or changed. Any number that nobody else is likely to use.
const ADVISORY_LOCK: i64 = 0x7264_756d_7068_6973;

/// What brings the table from one version to the next; `{}` is the qualified name of the table. The first
/// makes version 1. One that was released is never changed.
const STEPS: [&str; 1] = ["CREATE TABLE {} (
    run_id text PRIMARY KEY,
    command text NOT NULL,
    label text,
    started timestamptz NOT NULL,
    finished timestamptz NOT NULL,
    outcome text NOT NULL,
    exit_code integer NOT NULL,
    archive text,
    repositories jsonb NOT NULL,
    size bigint,
    raw_size bigint,
    rows bigint,
    tables bigint,
    error text,
    version text NOT NULL,
    host text NOT NULL
)"];

/// So long a run waits for whoever holds a lock there, or for the server to answer.
const SETTINGS: [(&str, &str); 6] = [
    ("client_encoding", "UTF8"),
    ("search_path", ""),
    ("standard_conforming_strings", "on"),
    ("client_min_messages", "warning"),
    ("statement_timeout", "20s"),
    ("lock_timeout", "10s"),
];

/// Where runs are recorded beside the repositories.
#[derive(Debug, Clone)]
pub struct HistoryTable {
    connector: Connector,
    schema: String,
}

impl HistoryTable {
    pub fn new(connector: Connector, schema: impl Into<String>) -> HistoryTable {
        HistoryTable {
            connector,
            schema: schema.into(),
        }
    }

    /// Adds a run; makes the table where it is not there yet. A run that is there stays as it is.
    pub async fn record(&self, account: &Account) -> Result<()> {
        let recording = async {
            let (mut session, _) = self.connector.clone().first().await?;
            self.migrate(&mut session).await?;
            session
                .execute(in_transaction(&self.insertion(account)?))
                .await?;
            session.close().await;
            Ok(())
        };
        recording
            .await
            .map_err(|error: Error| error.context("the history database"))
    }

    fn table(&self, name: &str) -> BString {
        sql::qualified(&self.schema, name)
    }

    /// Who may only read the versions and add rows can use a table that is up to date.
    async fn migrate(&self, session: &mut Session) -> Result<()> {
        if self.version(session, false).await? >= STEPS.len() {
            return Ok(());
        }
        // two runs at once must not both make it: the second one waits here, then looks again
        let mut begin = begin();
        begin.extend_from_slice(&sql!(
            "SELECT pg_catalog.pg_advisory_xact_lock({})",
            ADVISORY_LOCK.to_string()
        ));
        session.execute(begin).await?;
        let version = self.version(session, true).await?;
        let mut steps = BString::default();
        for (position, step) in STEPS.iter().enumerate().skip(version) {
            if position == 0 {
                steps.extend_from_slice(&sql!(
                    "CREATE TABLE {} (version integer PRIMARY KEY, applied timestamptz NOT NULL DEFAULT pg_catalog.now());\n",
                    self.table(MIGRATIONS)
                ));
            }
            steps.extend_from_slice(&sql::render(step, &[&self.table(TABLE)]));
            steps.extend_from_slice(&sql!(
                ";\nINSERT INTO {} (version) VALUES ({});\n",
                self.table(MIGRATIONS),
                (position + 1).to_string()
            ));
        }
        steps.extend_from_slice(b"COMMIT");
        let made = session
            .execute(steps)
            .await
            .with_context(|| format!("making table {}", self.table(TABLE)));
        made.map_err(|error| match error.sqlstate() {
            Some(&SqlState::INSUFFICIENT_PRIVILEGE) => error.hint(format!(
                "grant CREATE on schema \"{}\" to the role, or name another schema with --history-schema",
                self.schema
            )),
            _ => error,
        })
    }

    /// 0: there is no table.
    async fn version(&self, session: &mut Session, within: bool) -> Result<usize> {
        let wrap = |statement: BString| match within {
            true => statement,
            false => in_transaction(&statement),
        };
        // not by to_regclass: it may remember that nothing had the name when the transaction began
        let there = sql!(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace WHERE n.nspname OPERATOR(pg_catalog.=) {} AND c.relname OPERATOR(pg_catalog.=) {}) AS there",
            sql::literal(&self.schema),
            sql::literal(MIGRATIONS)
        );
        if !result(session, wrap(there)).await?.only()?.bool("there")? {
            return Ok(0);
        }
        let version = sql!(
            "SELECT coalesce(pg_catalog.max(version), 0) AS version FROM {}",
            self.table(MIGRATIONS)
        );
        result(session, wrap(version))
            .await?
            .only()?
            .number("version")
    }

    fn insertion(&self, account: &Account) -> Result<BString> {
        let repositories = serde_json::to_string(&account.repositories)
            .map_err(|error| Error::new(format!("could not write the repositories: {error}")))?;
        let mut archives = account
            .repositories
            .iter()
            .filter_map(|p| p.archive.as_ref());
        let values = [
            text(&account.run),
            text(account.command),
            optional(account.label.as_deref()),
            time(account.started),
            time(account.finished),
            text(account.outcome.as_str()),
            account.exit_code.to_string().into(),
            optional(archives.next().map(String::as_str)),
            // a jsonb holds no zero
            text(&repositories.replace("\\u0000", "")),
            number(account.archive_bytes),
            number(account.raw_bytes),
            number(account.rows),
            number(account.tables),
            optional(account.error.as_deref()),
            text(account.rdump_version),
            text(&account.host),
        ];
        Ok(sql!(
            "INSERT INTO {} (run_id, command, label, started, finished, outcome, exit_code, archive, repositories, size, raw_size, rows, tables, error, version, host)\nVALUES ({})\nON CONFLICT (run_id) DO NOTHING",
            self.table(TABLE),
            sql::join(values, ", ")
        ))
    }
}

/// The result of the statement that returns one row.
async fn result(session: &mut Session, statements: BString) -> Result<crate::postgres::Rows> {
    let results = session.query_all(statements).await?;
    let mut results = results.into_iter().filter(|rows| !rows.is_empty());
    Ok(results.next().unwrap_or_default())
}

/// Settings are local to a transaction, so that a pooler hands them to nobody else.
fn begin() -> BString {
    // whatever the role or the database prefers: what others commit meanwhile is to be seen
    let mut text = BString::from("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;\n");
    for (name, value) in SETTINGS {
        text.extend_from_slice(&set_local(name, value));
    }
    text
}

fn in_transaction(statement: &BString) -> BString {
    let mut text = begin();
    text.extend_from_slice(statement);
    text.extend_from_slice(b";\nCOMMIT");
    text
}

/// PostgreSQL's texts hold no zero bytes.
fn text(value: &str) -> BString {
    sql::literal(value.replace('\0', ""))
}

fn optional(value: Option<&str>) -> BString {
    value.map_or_else(null, text)
}

fn number(value: Option<u64>) -> BString {
    value.map_or_else(null, |value| {
        i64::try_from(value).unwrap_or(i64::MAX).to_string().into()
    })
}

fn time(value: Timestamp) -> BString {
    text(&value.to_string())
}

fn null() -> BString {
    BString::from("NULL")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Outcome;
    use crate::postgres::conninfo::{ConnectionFlags, Environment, resolve};
    use crate::report::Place;

    fn table(schema: &str) -> HistoryTable {
        let flags = ConnectionFlags {
            dbname: Some("host=/nowhere user=u dbname=d".to_owned()),
            ..ConnectionFlags::default()
        };
        let target = resolve(&flags, &Environment::of_process()).expect("a target");
        HistoryTable::new(Connector::new(target), schema)
    }

    #[test]
    fn values_and_names_are_quoted() {
        let mut account = Account::begun("snapshot", "r'1");
        account.label = Some("o'brien\\\0".to_owned());
        account.rows = Some(u64::MAX);
        account.repositories = vec![Place::new("/srv/it's")];
        account.end(&Err::<(), _>(
            Error::new("it's \"full\"; DROP TABLE t").outcome(Outcome::Partial),
        ));
        let sql = table("od\"d").insertion(&account).expect("SQL").to_string();
        assert!(sql.starts_with("INSERT INTO \"od\"\"d\".backup_history (run_id,"));
        for part in [
            "'r''1', 'snapshot', E'o''brien\\\\', ",
            ", 'partial', 3, NULL, ",
            "/srv/it''s",
            ", NULL, NULL, 9223372036854775807, NULL, 'it''s \"full\"; DROP TABLE t', ",
        ] {
            assert!(sql.contains(part), "{part}: {sql}");
        }
    }

    #[test]
    fn columns_are_those_of_the_table() {
        let sql = table("public").insertion(&Account::begun("snapshot", "r"));
        let sql = sql.expect("SQL").to_string();
        let (_, rest) = sql.split_once('(').expect("columns");
        let (columns, _) = rest.split_once(')').expect("columns");
        let declared: Vec<&str> = STEPS[0]
            .lines()
            .filter_map(|line| line.strip_prefix("    ")?.split(' ').next())
            .collect();
        assert_eq!(columns.split(", ").collect::<Vec<_>>(), declared);
        let documented = include_str!("../../docs/history.md");
        for column in declared {
            assert!(documented.contains(&format!("| `{column}` |")), "{column}");
        }
    }
}
