//! Disabling triggers while rows alone are loaded (`--disable-triggers`): those of foreign keys too,
//! so that rows may come in any order.

use bstr::BString;

use super::create::{Shared, after_failure};
use crate::archive::{Contents, Entry};
use crate::error::{Error, Result, ResultExt};
use crate::postgres::{Connector, Session};
use crate::sql;

/// What brings the triggers back to what they were.
#[derive(Debug, Default)]
pub struct Disabled {
    superuser: Option<String>,
    /// That of --role, which is given up with the superuser.
    role: Option<String>,
    /// Statements, each for itself.
    enabling: Vec<BString>,
    /// The same, to be run after those.
    unusual: Vec<BString>,
}

/// Disables all triggers of the tables whose rows will come. `disabled` knows what was done also
/// where an error ends it.
pub async fn disable(
    session: &mut Session,
    shared: &Shared,
    disabled: &mut Disabled,
) -> Result<()> {
    disabled.superuser = shared.options.superuser.clone();
    disabled.role = shared.role.clone();
    let tables: Vec<(&Entry, &BString)> = shared
        .entries
        .iter()
        .filter_map(|entry| match &entry.contents {
            Contents::Rows { relation, .. } => Some((entry, relation)),
            _ => None,
        })
        .collect();
    let unusual = unusual(session, tables.iter().map(|(_, relation)| *relation)).await?;
    disabled.unusual = unusual;
    become_superuser(session, disabled).await?;
    for (entry, relation) in tables {
        let disable = sql!("ALTER TABLE {} DISABLE TRIGGER ALL", relation);
        match session.execute(disable).await {
            Ok(()) => disabled
                .enabling
                .push(sql!("ALTER TABLE {} ENABLE TRIGGER ALL", relation)),
            Err(error) => {
                after_failure(session, shared, entry, "disabling its triggers", error).await?;
            }
        }
    }
    become_oneself(session, disabled).await
}

/// Statements for triggers that are not simply enabled before.
async fn unusual<'a>(
    session: &mut Session,
    relations: impl Iterator<Item = &'a BString>,
) -> Result<Vec<BString>> {
    let relations = relations.map(|relation| sql!("to_regclass({})", sql::literal(relation)));
    let rows = session
        .query(sql!(
            "SELECT n.nspname AS schema, c.relname AS name, g.tgname, g.tgenabled
             FROM pg_catalog.pg_trigger g
             JOIN pg_catalog.pg_class c ON c.oid = g.tgrelid
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             WHERE g.tgrelid = ANY (ARRAY[{}]::pg_catalog.oid[]) AND g.tgenabled <> 'O'
               AND NOT g.tgisinternal
             ORDER BY 1, 2, 3",
            sql::join(relations, ", ")
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
        statements.push(sql!(
            "ALTER TABLE {} {} {}",
            sql::qualified(row.bytes("schema")?, row.bytes("name")?),
            state,
            sql::identifier(row.bytes("tgname")?)
        ));
    }
    Ok(statements)
}

impl Disabled {
    /// Enables them again: all that can be, whatever else cannot.
    pub async fn enable(&self, session: &mut Session) -> Result<()> {
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

    /// The same over a new connection, after the restore has ended with an error; which says so where
    /// triggers are left disabled.
    pub async fn after(&self, error: Error, connector: &Connector) -> Error {
        match self.enable_anew(connector).await {
            Ok(()) => error,
            Err(other) => error.hint(format!("triggers are still disabled: {other}")),
        }
    }

    async fn enable_anew(&self, connector: &Connector) -> Result<()> {
        if self.enabling.is_empty() {
            return Ok(());
        }
        let mut session = connector.open().await?;
        self.enable(&mut session).await?;
        session.close().await;
        Ok(())
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
