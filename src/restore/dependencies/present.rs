//! What the target has of what an archive holds.

use std::collections::{BTreeSet, HashMap};

use bstr::BString;

use crate::archive::Entry;
use crate::catalog::{self, Scope};
use crate::error::{Result, ResultExt};
use crate::postgres::Session;
use crate::postgres::settings::set_local;
use crate::sql;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    Absent,
    /// Its definition reads as in the archive.
    Same,
    Different,
}

type Key = (String, Option<BString>, BString, Option<BString>);

fn key(entry: &Entry) -> Key {
    (
        entry.kind.clone(),
        entry.schema.clone(),
        entry.name.clone(),
        entry.relation.clone(),
    )
}

/// The target as it is before anything is written.
pub struct Present {
    /// What creates each object.
    created_by: HashMap<Key, BString>,
    schemas: BTreeSet<BString>,
    /// By schema and name: tables, views, sequences, indexes, composite types.
    relations: BTreeSet<(BString, BString)>,
    /// By schema and name, but for the array types that give way by themselves.
    types: BTreeSet<(BString, BString)>,
    statistics: BTreeSet<(BString, BString)>,
}

impl Present {
    /// As definitions are printed that have every name in quotes, or only those that need them.
    pub async fn read(session: &mut Session, quotes_all: bool) -> Result<Present> {
        let quoting = if quotes_all { "on" } else { "off" };
        session
            .execute(sql!(
                "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {}",
                set_local("quote_all_identifiers", quoting)
            ))
            .await?;
        let outcome = Present::read_in_transaction(session).await;
        let ended = session.execute("ROLLBACK").await;
        let present = outcome.context("looking at what the target has")?;
        ended?;
        Ok(present)
    }

    async fn read_in_transaction(session: &mut Session) -> Result<Present> {
        let scope = Scope {
            no_large_objects: true,
            ..Scope::default()
        };
        let catalog = catalog::read(session, &scope).await?;
        let entries = catalog.entries.into_iter();
        let mut names: HashMap<&str, BTreeSet<(BString, BString)>> = HashMap::new();
        for (sort, query) in [
            (
                "relation",
                "SELECT n.nspname AS schema, c.relname AS name
                 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace",
            ),
            (
                "type",
                "SELECT n.nspname AS schema, t.typname AS name
                 FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
                 WHERE NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid)",
            ),
            (
                "statistics",
                "SELECT n.nspname AS schema, s.stxname AS name
                 FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace",
            ),
            (
                "schema",
                "SELECT nspname AS schema, nspname AS name FROM pg_namespace",
            ),
        ] {
            let rows = session.query(query).await?;
            let found = rows
                .iter()
                .map(|row| Ok((row.text("schema")?, row.text("name")?)))
                .collect::<Result<_>>()?;
            names.insert(sort, found);
        }
        let mut take = |sort: &str| names.remove(sort).unwrap_or_default();
        Ok(Present {
            created_by: entries.map(|entry| (key(&entry), entry.create)).collect(),
            schemas: take("schema").into_iter().map(|(_, name)| name).collect(),
            relations: take("relation"),
            types: take("type"),
            statistics: take("statistics"),
        })
    }

    /// Schemas and extensions are looked for by name alone.
    pub fn of(&self, entry: &Entry) -> Presence {
        if entry.kind == "SCHEMA" {
            return match self.has_schema(&entry.name) {
                true => Presence::Same,
                false => Presence::Absent,
            };
        }
        match self.created_by.get(&key(entry)) {
            None => Presence::Absent,
            Some(create) if entry.kind == "EXTENSION" || *create == entry.create => Presence::Same,
            Some(_) => Presence::Different,
        }
    }

    pub fn has_schema(&self, name: &BString) -> bool {
        self.schemas.contains(name)
    }

    pub fn has_relation(&self, entry: &Entry) -> bool {
        entry.schema.as_ref().is_some_and(|schema| {
            self.relations
                .contains(&(schema.clone(), entry.name.clone()))
        })
    }

    /// Whether a table, sequence or index cannot have this name.
    pub fn is_taken(&self, kind: &str, name: &(BString, BString)) -> bool {
        match kind {
            "STATISTICS" => self.statistics.contains(name),
            "TABLE" => self.relations.contains(name) || self.types.contains(name),
            _ => self.relations.contains(name),
        }
    }
}
