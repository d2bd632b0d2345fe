//! Disabling triggers while rows alone are loaded (`--disable-triggers`): those of foreign keys too,
//! so that rows may come in any order.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use bstr::BString;

use super::Doing;
use super::create::{Shared, after_failure, lock};
use crate::archive::{Contents, Entry};
use crate::error::{Error, Result, ResultExt};
use crate::postgres::{Connector, Session};
use crate::sql;

/// After a signal the user waits no longer for locks that others hold.
const PATIENCE: Duration = Duration::from_secs(10);

/// Triggers that are disabled at the moment. Outlives the run, which an error or a signal may end.
#[derive(Debug, Default)]
pub struct DisabledTriggers(Mutex<Option<Disabled>>);

/// What brings the triggers back to what they were.
#[derive(Debug, Clone)]
struct Disabled {
    superuser: Option<String>,
    /// That of --role, which is given up with the superuser.
    role: Option<String>,
    /// Where to connect after the run. None: all is one transaction, of which nothing stays.
    connector: Option<Connector>,
    /// Statements, each for itself.
    enabling: Vec<BString>,
    /// The same, to be run after those.
    unusual: Vec<BString>,
}

/// Disables all triggers that rows come past: those of their table, and where they go in through the
/// root of its partitions also those of the root, whose own triggers for statements fire.
pub async fn disable(session: &mut Session, shared: &Shared, connector: &Connector) -> Result<()> {
    let mut relations: Vec<(&Entry, &BString)> = Vec::new();
    let mut roots = BTreeSet::new();
    for entry in &shared.entries {
        if let Contents::Rows { relation, .. } = &entry.contents {
            let root = entry.load_into.as_ref();
            relations.extend(
                root.filter(|root| roots.insert(*root))
                    .map(|root| (entry, root)),
            );
            relations.push((entry, relation));
        }
    }
    let names = relations.iter().map(|(_, relation)| *relation);
    let disabled = Disabled {
        superuser: shared.options.superuser.clone(),
        role: shared.role.clone(),
        connector: (!shared.options.single_transaction).then(|| connector.clone()),
        enabling: Vec::new(),
        unusual: unusual(session, names, roots.iter().copied()).await?,
    };
    become_superuser(session, &disabled).await?;
    let noted = &shared.options.triggers;
    noted.set(Some(disabled.clone()));
    for (entry, relation) in relations {
        // noted before: the run may end while the server is at it
        noted.push(sql!("ALTER TABLE {} ENABLE TRIGGER ALL", relation));
        let disable = sql!("ALTER TABLE {} DISABLE TRIGGER ALL", relation);
        if let Err(error) = session.execute(disable).await {
            noted.pop();
            after_failure(session, shared, entry, Doing::DisablingTriggers, error).await?;
        }
    }
    become_oneself(session, &disabled).await
}

/// Statements for triggers that are not simply enabled before. What is done to the root of a tree is
/// done to the same triggers of all its partitions.
async fn unusual<'a>(
    session: &mut Session,
    relations: impl Iterator<Item = &'a BString>,
    roots: impl Iterator<Item = &'a BString>,
) -> Result<Vec<BString>> {
    let oid = |relation| sql!("to_regclass({})", sql::literal(relation));
    let (relations, roots) = (relations.map(oid), roots.map(oid));
    let rows = session
        .query(sql!(
            "SELECT n.nspname AS schema, c.relname AS name, g.tgname, g.tgenabled
             FROM pg_catalog.pg_trigger g
             JOIN pg_catalog.pg_class c ON c.oid = g.tgrelid
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             WHERE g.tgrelid IN (
                 SELECT pg_catalog.unnest(ARRAY[{}]::pg_catalog.oid[])
                 UNION ALL
                 SELECT p.relid FROM pg_catalog.unnest(ARRAY[{}]::pg_catalog.oid[]) AS root,
                     LATERAL pg_catalog.pg_partition_tree(root) AS p)
               AND g.tgenabled <> 'O'
               -- before 15, what partitions have of their parents' triggers is internal too
               AND (NOT g.tgisinternal
                    OR g.tgparentid <> 0 AND NOT pg_catalog.starts_with(g.tgname::pg_catalog.text, 'RI_ConstraintTrigger_'))
             ORDER BY 1, 2, 3",
            sql::join(relations, ", "),
            sql::join(roots, ", ")
        ))
        .await
        .context("reading which triggers are enabled")?;
    let mut statements = Vec::new();
    for row in &rows {
        let state = match row.char("tgenabled")? {
            b'D' => "DISABLE TRIGGER",
            b'R' => "ENABLE REPLICA TRIGGER",
            _ => "ENABLE ALWAYS TRIGGER",
        };
        // of this table alone: its partitions have lines of their own
        statements.push(sql!(
            "ALTER TABLE ONLY {} {} {}",
            sql::qualified(row.bytes("schema")?, row.bytes("name")?),
            state,
            sql::identifier(row.bytes("tgname")?)
        ));
    }
    Ok(statements)
}

impl DisabledTriggers {
    fn set(&self, disabled: Option<Disabled>) {
        *lock(&self.0) = disabled;
    }

    fn push(&self, enabling: BString) {
        if let Some(disabled) = &mut *lock(&self.0) {
            disabled.enabling.push(enabling);
        }
    }

    fn pop(&self) {
        if let Some(disabled) = &mut *lock(&self.0) {
            disabled.enabling.pop();
        }
    }

    fn get(&self) -> Option<Disabled> {
        lock(&self.0).clone()
    }

    pub(super) fn are_disabled(&self) -> bool {
        lock(&self.0).is_some()
    }

    /// Enables them again: all that can be, whatever else cannot.
    pub(super) async fn enable(&self, session: &mut Session) -> Result<()> {
        if let Some(disabled) = self.get() {
            disabled.enable(session).await?;
            self.set(None);
        }
        Ok(())
    }

    /// The same over a new connection, after the run has ended with an error; which says so where
    /// triggers are left disabled.
    pub(super) async fn after(&self, error: Error) -> Error {
        match self.enable_anew().await {
            Ok(()) => error,
            Err(other) => self.still_disabled(error, &other),
        }
    }

    /// After a signal.
    pub async fn after_signal(&self, error: Error) -> Error {
        let enabled = tokio::time::timeout(PATIENCE, self.enable_anew()).await;
        let seconds = PATIENCE.as_secs();
        let no_answer = |_| {
            Err(Error::new(format!(
                "the server did not do it within {seconds} s"
            )))
        };
        match enabled.unwrap_or_else(no_answer) {
            Ok(()) => error,
            Err(other) => self.still_disabled(error, &other),
        }
    }

    async fn enable_anew(&self) -> Result<()> {
        let Some(disabled) = self.get() else {
            return Ok(());
        };
        let Some(connector) = disabled.connector.as_ref() else {
            self.set(None);
            return Ok(());
        };
        let mut session = connector.open().await?;
        self.enable(&mut session).await?;
        session.close().await;
        Ok(())
    }

    fn still_disabled(&self, error: Error, other: &Error) -> Error {
        const SHOWN: usize = 10;
        let disabled = self.get();
        let statements = disabled
            .iter()
            .flat_map(|d| d.enabling.iter().chain(&d.unusual));
        let statements: Vec<String> = statements.map(|text| format!("{text};")).collect();
        let more = match statements.len().saturating_sub(SHOWN) {
            0 => String::new(),
            more => format!(" ... and {more} more like these"),
        };
        error.hint(format!(
            "triggers may still be disabled ({other}); what enables them: {}{more}",
            statements[..statements.len().min(SHOWN)].join(" ")
        ))
    }
}

impl Disabled {
    async fn enable(&self, session: &mut Session) -> Result<()> {
        become_superuser(session, self).await?;
        let mut failed = Vec::new();
        for statement in self.enabling.iter().chain(&self.unusual) {
            if let Err(error) = session.execute(statement).await {
                failed.push(format!("{statement}: {error}"));
            }
        }
        if !failed.is_empty() {
            return Err(Error::new(failed.join("; ")).context("enabling triggers again"));
        }
        become_oneself(session, self).await
    }
}

async fn become_superuser(session: &mut Session, disabled: &Disabled) -> Result<()> {
    match &disabled.superuser {
        None => Ok(()),
        Some(name) => session
            .execute(sql!("SET SESSION AUTHORIZATION {}", sql::identifier(name)))
            .await
            .with_context(|| format!("becoming {name}")),
    }
}

async fn become_oneself(session: &mut Session, disabled: &Disabled) -> Result<()> {
    if disabled.superuser.is_none() {
        return Ok(());
    }
    session.execute("RESET SESSION AUTHORIZATION").await?;
    match &disabled.role {
        None => Ok(()),
        Some(role) => {
            let role = sql::identifier(role);
            session.execute(sql!("SET ROLE {}", role)).await
        }
    }
}
