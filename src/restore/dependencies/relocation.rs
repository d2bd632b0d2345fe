//! Tables under another name or schema.
//!
//! They are made in a schema of their own, under their own names, so that nothing in the database is
//! in the way and expressions that name a table's columns (`orders.id`) stay right; only the schema in
//! qualified names is exchanged. When all is there, one transaction gives them their new names and
//! moves them, with the server's own ALTER: nobody sees a table that is half loaded, and locks are
//! taken only on what is new.

use std::collections::{BTreeMap, BTreeSet};

use bstr::{BStr, BString};

use super::closure::index_name;
use super::present::Present;
use super::{Dependencies, made_of_the_table, will_fail};
use crate::archive::{Contents, Entry, EntryId};
use crate::error::{Error, Result, ResultExt};
use crate::postgres::Session;
use crate::restore::Options;
use crate::restore::preflight::Finding;
use crate::restore::selection::label;
use crate::sql;
use crate::sql::renaming::renamed;

/// Schema and name.
type Name = (BString, BString);

/// What is moved at the end, and where to.
#[derive(Debug)]
pub struct Relocation {
    scratch: String,
    /// Schemas to be made: nothing of the archive makes them.
    new_schemas: BTreeSet<BString>,
    /// Owners and grantors, who need the scratch schema.
    roles: BTreeSet<BString>,
    /// By name in the scratch schema.
    relations: BTreeMap<BString, Move>,
    statistics: BTreeMap<BString, Move>,
}

#[derive(Debug)]
struct Move {
    from: Name,
    to: Name,
}

pub struct Request<'a> {
    pub wanted: &'a Dependencies,
    pub roots: &'a BTreeSet<EntryId>,
    /// All that goes by the new schema: tables, and what belongs to them.
    pub moved: &'a BTreeSet<EntryId>,
    pub present: &'a Present,
    pub scratch: String,
}

/// What a relation is called, if an entry makes one.
fn made(entry: &Entry) -> Option<(&'static str, Name)> {
    let schema = entry.schema.clone()?;
    let (kind, name) = match entry.kind.as_str() {
        "TABLE" | "FOREIGN TABLE" => ("TABLE", entry.name.clone()),
        "SEQUENCE" => ("SEQUENCE", entry.name.clone()),
        "STATISTICS" => ("STATISTICS", entry.name.clone()),
        _ => ("INDEX", index_name(entry)?),
    };
    Some((kind, (schema, name)))
}

/// Decides on names, and rewrites the entries for the scratch schema.
pub fn plan(
    entries: &mut [Entry],
    request: &Request<'_>,
    findings: &mut Vec<Finding>,
    warnings: &mut Vec<String>,
) -> Result<Relocation> {
    let mut relocation = Relocation {
        scratch: request.scratch.clone(),
        new_schemas: BTreeSet::new(),
        roles: BTreeSet::new(),
        relations: BTreeMap::new(),
        statistics: BTreeMap::new(),
    };
    let is_moved = |entry: &&Entry| request.moved.contains(&entry.id);
    let mut taken: BTreeSet<(&str, Name)> = BTreeSet::new();
    let mut names: BTreeSet<Name> = BTreeSet::new();
    // tables first: others give way to them
    for tables in [true, false] {
        for entry in entries.iter().filter(is_moved) {
            let Some((kind, from)) = made(entry).filter(|(kind, _)| (*kind == "TABLE") == tables)
            else {
                continue;
            };
            let is_root = request.roots.contains(&entry.id);
            let schema = request.wanted.into_schema.clone().unwrap_or(from.0.clone());
            let name = match &request.wanted.name {
                Some(name) if is_root => name.clone(),
                _ => from.1.clone(),
            };
            let space = if kind == "STATISTICS" {
                kind
            } else {
                "relation"
            };
            let mut to = (schema, name);
            let is_free = |to: &Name, taken: &BTreeSet<(&str, Name)>| {
                !request.present.is_taken(kind, to) && !taken.contains(&(space, to.clone()))
            };
            if !is_free(&to, &taken) {
                if is_root {
                    findings.push(will_fail(
                        format!("{} is there already", sql::qualified(&to.0, &to.1)),
                        "give another name with --as or another schema with --into-schema",
                    ));
                } else {
                    let old = root_name(entries, request.roots);
                    let new = request.wanted.name.as_ref().unwrap_or(&old);
                    to.1 = derived(&from.1, &old, new, |name| {
                        is_free(&(to.0.clone(), name.clone()), &taken)
                    });
                    warnings.push(format!(
                        "{} becomes {}: its own name is taken",
                        label(entry),
                        sql::qualified(&to.0, &to.1)
                    ));
                }
            }
            taken.insert((space, to.clone()));
            if !request.present.has_schema(&to.0) {
                relocation.new_schemas.insert(to.0.clone());
            }
            let moves = match kind {
                "STATISTICS" => &mut relocation.statistics,
                _ => &mut relocation.relations,
            };
            names.insert(from.clone());
            let other = moves.insert(from.1.clone(), Move { from, to });
            if let Some(other) = other {
                return Err(Error::usage(format!(
                    "two of what is chosen are called {}, in {} and another schema",
                    sql::identifier(&other.from.1),
                    sql::identifier(&other.from.0)
                ))
                .hint("restore them one after the other"));
            }
        }
    }
    let routine = |entry: &&Entry| {
        let end = entry.name.iter().position(|byte| *byte == b'(');
        let name = end.map(|end| BString::from(&entry.name[..end]));
        matches!(entry.kind.as_str(), "FUNCTION" | "PROCEDURE" | "AGGREGATE")
            && entry
                .schema
                .clone()
                .zip(name)
                .is_some_and(|name| names.contains(&name))
    };
    if let Some(entry) = entries.iter().find(routine) {
        findings.push(will_fail(
            format!("{} has the name of a table that gets another", label(entry)),
            "restore the table under its own name",
        ));
    }
    rewrite(entries, request, &names, findings);
    for entry in entries.iter() {
        // a schema of the archive's own
        if entry.kind == "SCHEMA" {
            relocation.new_schemas.remove(&entry.name);
        }
        if is_moved(&entry) {
            relocation
                .roles
                .extend(entry.owner.clone().filter(|owner| !owner.is_empty()));
        }
    }
    Ok(relocation)
}

fn root_name(entries: &[Entry], roots: &BTreeSet<EntryId>) -> BString {
    let root = entries.iter().find(|entry| roots.contains(&entry.id));
    root.map(|entry| entry.name.clone()).unwrap_or_default()
}

/// Bytes of a name: NAMEDATALEN - 1.
const LONGEST: usize = 63;

/// `orders_pkey` of a table that becomes `old` is `old_pkey`; where that is taken as well, with a number.
fn derived(
    name: &BString,
    old: &BString,
    new: &BString,
    is_free: impl Fn(&BString) -> bool,
) -> BString {
    let rest = match name.strip_prefix(old.as_slice()) {
        Some(rest) if rest.starts_with(b"_") => BString::from(rest),
        _ => sql!("_{}", name),
    };
    let mut number = 0u32;
    loop {
        let mut ending = rest.clone();
        if number > 0 {
            ending.extend_from_slice(number.to_string().as_bytes());
        }
        // the ending tells it from others: the table's name gives way, then the ending's beginning
        let excess = ending.len().saturating_sub(LONGEST - 1);
        let ending = after_character(&ending, excess);
        let room = (LONGEST - ending.len()).min(new.len());
        let mut name = BString::from(before_character(new, room));
        name.extend_from_slice(ending);
        if is_free(&name) {
            return name;
        }
        number += 1;
    }
}

/// Cut where no character of UTF-8 is cut apart.
fn before_character(text: &[u8], mut end: usize) -> &[u8] {
    while end > 0 && end < text.len() && text[end] & 0xc0 == 0x80 {
        end -= 1;
    }
    &text[..end]
}

fn after_character(text: &[u8], mut start: usize) -> &[u8] {
    while start < text.len() && start > 0 && text[start] & 0xc0 == 0x80 {
        start += 1;
    }
    &text[start..]
}

fn rewrite(
    entries: &mut [Entry],
    request: &Request<'_>,
    names: &BTreeSet<Name>,
    findings: &mut Vec<Finding>,
) {
    let scratch = BString::from(request.scratch.as_str());
    let to = |schema: &BStr, name: &BStr| {
        let is_moved = names.contains(&(schema.to_owned(), name.to_owned()));
        is_moved.then(|| (scratch.clone(), name.to_owned()))
    };
    for entry in entries {
        let create = renamed(&entry.create, to);
        if !request.moved.contains(&entry.id) {
            if create != entry.create {
                findings.push(made_of_the_table(entry));
            }
            continue;
        }
        entry.create = create;
        // nothing is dropped in such a restore
        entry.drop.clear();
        entry.drop_if_exists.clear();
        let again = |text: &mut BString| *text = renamed(text, to);
        entry.owner_target.as_mut().map(again);
        entry.load_into.as_mut().map(again);
        match &mut entry.contents {
            Contents::Rows {
                relation, filter, ..
            } => {
                again(relation);
                again(filter);
            }
            Contents::SequenceValue { sequence } => again(sequence),
            Contents::None | Contents::LargeObjects => {}
        }
        if entry.schema.is_some() {
            entry.schema = Some(scratch.clone());
        }
    }
}

impl Relocation {
    /// Makes the schemas.
    pub async fn begin(&self, session: &mut Session, options: &Options) -> Result<()> {
        let mut text = sql!("CREATE SCHEMA {};\n", sql::identifier(&self.scratch));
        for schema in &self.new_schemas {
            text.extend_from_slice(&sql!("CREATE SCHEMA {};\n", sql::identifier(schema)));
        }
        let rows = session
            .query("SELECT rolname AS role FROM pg_roles WHERE rolname <> current_user")
            .await?;
        for row in rows.iter() {
            let role = row.text("role")?;
            if self.roles.contains(&role) {
                text.extend_from_slice(&sql!(
                    "GRANT USAGE, CREATE ON SCHEMA {} TO {};\n",
                    sql::identifier(&self.scratch),
                    sql::identifier(role)
                ));
            }
        }
        session.execute(text).await.map_err(|error| {
            error
                .context("making the schema in which tables are restored before they get their new names")
                .hint("the role needs the privilege CREATE on the database")
        })?;
        if !options.single_transaction
            && let Some(wanted) = &options.dependencies
        {
            let _ = wanted.scratch.set(self.scratch.clone());
        }
        Ok(())
    }

    /// Gives everything its name and its place, in one transaction.
    pub async fn finish(&self, session: &mut Session, options: &Options) -> Result<()> {
        let in_transaction = options.single_transaction;
        if !in_transaction {
            session.execute("BEGIN").await?;
        }
        self.refuse_references(session).await?;
        let mut text = BString::default();
        let scratch = sql::literal(&self.scratch);
        // what is there after all that failed
        let found = session
            .query(sql!(
                "SELECT c.relname AS name, c.relkind AS kind,
                        EXISTS (SELECT FROM pg_depend d
                                WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                                  AND d.refclassid = 'pg_class'::regclass
                                  AND c.relkind = 'S' AND d.deptype IN ('a', 'i')) AS owned
                 FROM pg_class c
                 WHERE c.relnamespace = {}::regnamespace AND c.relkind IN ('r', 'p', 'f', 'S', 'i', 'I')
                 ORDER BY c.relkind IN ('r', 'p', 'f'), c.relname",
                sql::literal(sql::identifier(&self.scratch))
            ))
            .await?;
        let mut moves = BString::default();
        for row in found.iter() {
            let name = row.text("name")?;
            let Some(Move { to, .. }) = self.relations.get(&name) else {
                continue;
            };
            let kind = match row.char("kind")? {
                b'S' => "SEQUENCE",
                b'i' | b'I' => "INDEX",
                b'f' => "FOREIGN TABLE",
                _ => "TABLE",
            };
            self.rename(&mut text, kind, &name, &to.1);
            // what is the table's goes with it
            if kind != "INDEX" && !row.bool("owned")? {
                self.place(&mut moves, kind, to);
            }
        }
        let found = session
            .query(sql!(
                "SELECT s.stxname AS name FROM pg_statistic_ext s
                 JOIN pg_namespace n ON n.oid = s.stxnamespace WHERE n.nspname = {}",
                scratch
            ))
            .await?;
        for row in found.iter() {
            let name = row.text("name")?;
            if let Some(Move { to, .. }) = self.statistics.get(&name) {
                self.rename(&mut text, "STATISTICS", &name, &to.1);
                self.place(&mut moves, "STATISTICS", to);
            }
        }
        text.extend_from_slice(&moves);
        text.extend_from_slice(&sql!("DROP SCHEMA {};\n", sql::identifier(&self.scratch)));
        session
            .execute(text)
            .await
            .context("giving what was restored its name and schema")?;
        if !in_transaction {
            session.execute("COMMIT").await?;
        }
        Ok(())
    }

    fn rename(&self, text: &mut BString, kind: &str, name: &BString, to: &BString) {
        if name != to {
            text.extend_from_slice(&sql!(
                "ALTER {} {} RENAME TO {};\n",
                kind,
                sql::qualified(&self.scratch, name),
                sql::identifier(to)
            ));
        }
    }

    fn place(&self, text: &mut BString, kind: &str, to: &Name) {
        text.extend_from_slice(&sql!(
            "ALTER {} {} SET SCHEMA {};\n",
            kind,
            sql::qualified(&self.scratch, &to.1),
            sql::identifier(&to.0)
        ));
    }

    /// Nothing that was made may refer to a table of the old name: the server knows.
    async fn refuse_references(&self, session: &mut Session) -> Result<()> {
        let old = self.relations.values().map(|one| {
            sql!(
                "({}, {})",
                sql::literal(&one.from.0),
                sql::literal(&one.from.1)
            )
        });
        let rows = session
            .query(sql!(
                "WITH old AS (SELECT c.oid, c.reltype, format('%I.%I', n.nspname, c.relname) AS name
                              FROM (VALUES {}) AS v (schema, name)
                              JOIN pg_namespace n ON n.nspname = v.schema
                              JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = v.name),
                      made AS (SELECT oid FROM pg_class WHERE relnamespace = {}::regnamespace),
                      part (classid, objid) AS (
                          SELECT 'pg_class'::regclass, oid FROM made
                          UNION ALL SELECT 'pg_attrdef'::regclass, a.oid
                                    FROM pg_attrdef a JOIN made ON made.oid = a.adrelid
                          UNION ALL SELECT 'pg_constraint'::regclass, c.oid
                                    FROM pg_constraint c JOIN made ON made.oid = c.conrelid
                          UNION ALL SELECT 'pg_trigger'::regclass, t.oid
                                    FROM pg_trigger t JOIN made ON made.oid = t.tgrelid
                          UNION ALL SELECT 'pg_rewrite'::regclass, r.oid
                                    FROM pg_rewrite r JOIN made ON made.oid = r.ev_class
                          UNION ALL SELECT 'pg_policy'::regclass, p.oid
                                    FROM pg_policy p JOIN made ON made.oid = p.polrelid)
                 SELECT pg_describe_object(d.classid, d.objid, d.objsubid) AS object, old.name
                 FROM part JOIN pg_depend d ON d.classid = part.classid AND d.objid = part.objid
                 JOIN old ON d.refclassid = 'pg_class'::regclass AND d.refobjid = old.oid
                          OR d.refclassid = 'pg_type'::regclass AND d.refobjid = old.reltype
                 ORDER BY 1, 2 LIMIT 1",
                sql::join(old, ", "),
                sql::literal(sql::identifier(&self.scratch))
            ))
            .await
            .context("looking for references to the table of the old name")?;
        match rows.iter().next() {
            None => Ok(()),
            Some(row) => Err(Error::new(format!(
                "{} refers to {}, not to the table restored",
                row.text("object")?,
                row.text("name")?
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_derived_from_the_table() {
        let derive = |name: &str, taken: &[&str]| {
            let is_free = |name: &BString| !taken.iter().any(|taken| name == taken);
            derived(&name.into(), &"orders".into(), &"old".into(), is_free).to_string()
        };
        assert_eq!(derive("orders_pkey", &[]), "old_pkey");
        assert_eq!(derive("orders_pkey", &["old_pkey"]), "old_pkey1");
        assert_eq!(derive("by_day", &[]), "old_by_day");
        let long = "orders_".to_owned() + &"é".repeat(28);
        let name = derive(&long, &[]);
        assert!(name.len() <= LONGEST && name.starts_with("old_é"));
        let longest = "x".repeat(63);
        assert_eq!(derive(&longest, &[]).len(), LONGEST);
    }
}
