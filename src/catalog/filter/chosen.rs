//! What patterns mean in a database: a query for each flag, whatever the number of objects.
//!
//! The rules of what follows from a choice are those of the selectDumpable functions in
//! src/bin/pg_dump/pg_dump.c.

use std::collections::{HashMap, HashSet};

use bstr::{BString, ByteSlice};

use super::{FIRST_NORMAL_OID, Pattern, Patterns};
use crate::error::{Error, Result};
use crate::postgres::{Oid, Session};
use crate::sql;

/// Objects by OID. Without patterns all are chosen that are not the system's.
#[derive(Debug, Default)]
pub struct Chosen {
    /// Nothing in particular is included.
    everything: bool,
    schemas: Option<HashSet<Oid>>,
    excluded_schemas: HashSet<Oid>,
    tables: Option<HashSet<Oid>>,
    excluded_tables: HashSet<Oid>,
    extensions: Option<HashSet<Oid>>,
    excluded_extensions: HashSet<Oid>,
    excluded_data: HashSet<Oid>,
    foreign_servers: HashSet<Oid>,
    /// By name, since objects are read with their schema's name.
    namespaces: HashMap<BString, Oid>,
    /// Sequences that belong to a column: its table, and whether they are its identity.
    owned_sequences: HashMap<Oid, (Oid, bool)>,
}

impl Chosen {
    /// Whether also what is in no schema is wanted.
    pub fn everything(&self) -> bool {
        self.everything
    }

    /// A schema itself, and what is in it.
    pub fn schema(&self, oid: Oid) -> bool {
        self.tables.is_none()
            && self
                .schemas
                .as_ref()
                .is_none_or(|schemas| schemas.contains(&oid))
            && !self.excluded_schemas.contains(&oid)
    }

    /// Those whose contents are chosen; None: all.
    pub fn wanted_schemas(&self) -> Option<Vec<Oid>> {
        // known only where something was asked for
        (!self.namespaces.is_empty()).then(|| {
            let mut wanted: Vec<Oid> = self.namespaces.values().copied().collect();
            wanted.retain(|oid| self.schema(*oid));
            wanted.sort_unstable();
            wanted
        })
    }

    /// What is in a schema, but for relations.
    pub fn contents_of(&self, schema: &[u8]) -> bool {
        let oid = self.namespaces.get(schema.as_bstr());
        oid.is_none_or(|oid| self.schema(*oid))
    }

    /// What initdb made, of which only privileges are kept.
    pub fn system_contents_of(&self, schema: &[u8]) -> bool {
        self.schemas.is_none() && self.contents_of(schema)
    }

    /// A relation that is no member of an extension.
    pub fn relation(&self, oid: Oid, schema: &[u8]) -> bool {
        let own = |oid: Oid| {
            let included = match &self.tables {
                Some(tables) => tables.contains(&oid),
                None => self.contents_of(schema),
            };
            included && !self.excluded_tables.contains(&oid)
        };
        match self.owned_sequences.get(&oid) {
            Some((table, true)) => own(*table),
            // of one schema, always
            Some((table, false)) => own(oid) || own(*table),
            None => own(oid),
        }
    }

    pub fn extension(&self, oid: Oid) -> bool {
        if oid < FIRST_NORMAL_OID {
            return true;
        }
        let included = match &self.extensions {
            Some(extensions) => extensions.contains(&oid),
            None => self.everything,
        };
        included && !self.excluded_extensions.contains(&oid)
    }

    /// The rows of a configuration table of an extension.
    pub fn configuration(&self, oid: Oid, schema: &[u8], extension: Oid) -> bool {
        let listed = |list: &Option<HashSet<Oid>>, oid| {
            list.as_ref().is_some_and(|list| list.contains(&oid))
        };
        if self.extensions.is_some() && !listed(&self.extensions, extension)
            || self.excluded_extensions.contains(&extension)
        {
            return false;
        }
        let included = (extension >= FIRST_NORMAL_OID && self.extension(extension))
            || listed(&self.tables, oid)
            || self.contents_of(schema);
        let namespace = self.namespaces.get(schema.as_bstr());
        included
            && !self.excluded_tables.contains(&oid)
            && !namespace.is_some_and(|oid| self.excluded_schemas.contains(oid))
    }

    /// Whether rows, the value or the filling of a relation were not excluded by name.
    pub fn data(&self, oid: Oid) -> bool {
        !self.excluded_data.contains(&oid)
    }

    /// Whether the rows of a server's foreign tables are wanted.
    pub fn foreign_data(&self, server: Oid) -> bool {
        self.foreign_servers.contains(&server)
    }

    pub fn any_foreign_data(&self) -> bool {
        !self.foreign_servers.is_empty()
    }
}

pub(super) async fn choose(patterns: &Patterns, session: &mut Session) -> Result<Chosen> {
    if *patterns == Patterns::default() {
        return Ok(Chosen {
            everything: true,
            ..Chosen::default()
        });
    }
    let mut search = Search::new(session).await?;
    let strict = patterns.strict_names;
    let schemas = search.schemas(&patterns.schemas, strict).await?;
    let is_system =
        |found: &Found| found.name.starts_with(b"pg_") || found.name == "information_schema";
    let must_exist = !patterns.may_find_nothing;
    if must_exist {
        refuse_system("schema", &schemas, is_system)?;
    }
    let mut chosen = Chosen {
        everything: patterns.include_everything(),
        schemas: included(&[&patterns.schemas], ids(schemas), "schemas", must_exist)?,
        excluded_schemas: ids(search.schemas(&patterns.excluded_schemas, false).await?),
        ..Chosen::default()
    };
    let children = &patterns.tables_and_children;
    chosen.tables = match &patterns.relations {
        Some(relations) => Some(search.exact_relations(relations).await?),
        None => {
            let mut tables = search.relations(&patterns.tables, strict, false).await?;
            tables.extend(search.relations(children, strict, true).await?);
            if must_exist {
                refuse_system("relation", &tables, |found| found.oid < FIRST_NORMAL_OID)?;
            }
            let patterns = [&patterns.tables, children];
            included(&patterns, ids(tables), "tables", must_exist)?
        }
    };
    for (set, plain, with_children) in [
        (
            &mut chosen.excluded_tables,
            &patterns.excluded_tables,
            &patterns.excluded_tables_and_children,
        ),
        (
            &mut chosen.excluded_data,
            &patterns.excluded_data,
            &patterns.excluded_data_and_children,
        ),
    ] {
        set.extend(ids(search.relations(plain, false, false).await?));
        set.extend(ids(search.relations(with_children, false, true).await?));
    }
    let servers = search
        .named("pg_foreign_server", "srvname", &patterns.foreign_data)
        .await?;
    // always strict: whoever names a server means its rows
    if must_exist {
        refuse_unmatched(&patterns.foreign_data, &servers, "foreign servers")?;
    }
    chosen.foreign_servers = ids(servers);
    let extensions = search
        .named("pg_extension", "extname", &patterns.extensions)
        .await?;
    if strict {
        refuse_unmatched(&patterns.extensions, &extensions, "extensions")?;
    }
    chosen.extensions = included(
        &[&patterns.extensions],
        ids(extensions),
        "extensions",
        must_exist,
    )?;
    chosen.excluded_extensions = ids(search
        .named("pg_extension", "extname", &patterns.excluded_extensions)
        .await?);
    chosen.namespaces = search.namespaces().await?;
    chosen.owned_sequences = search.owned_sequences().await?;
    Ok(chosen)
}

/// None where nothing in particular is included. pg_dump takes it for a mistake if nothing at all is
/// found.
fn included(
    patterns: &[&Vec<BString>],
    found: HashSet<Oid>,
    what: &str,
    must_exist: bool,
) -> Result<Option<HashSet<Oid>>> {
    if patterns.iter().all(|patterns| patterns.is_empty()) {
        return Ok(None);
    }
    if found.is_empty() && must_exist {
        return Err(Error::new(format!("no matching {what} were found")).hint(
            "names are folded to lower case unless they stand in double quotes within the argument",
        ));
    }
    Ok(Some(found))
}

/// An object, and which pattern found it.
struct Found {
    pattern: usize,
    oid: Oid,
    /// As the server prints it.
    name: BString,
}

fn ids(found: Vec<Found>) -> HashSet<Oid> {
    found.iter().map(|found| found.oid).collect()
}

fn refuse_unmatched(patterns: &[BString], found: &[Found], what: &str) -> Result<()> {
    let matched: HashSet<usize> = found.iter().map(|found| found.pattern).collect();
    match (0..patterns.len()).find(|number| !matched.contains(number)) {
        None => Ok(()),
        Some(number) => Err(Error::new(format!(
            "no matching {what} were found for pattern \"{}\"",
            patterns[number]
        ))),
    }
}

/// An archive holds none of these, and would seem to.
fn refuse_system(what: &str, found: &[Found], is_system: impl Fn(&Found) -> bool) -> Result<()> {
    let kept = match what {
        "schema" => "what is in it is not kept",
        _ => "it is not kept",
    };
    match found.first() {
        Some(first) if found.iter().all(is_system) => Err(Error::new(format!(
            "{what} {} is the system's: {kept}",
            first.name
        ))),
        _ => Ok(()),
    }
}

struct Search<'a> {
    session: &'a mut Session,
    database: BString,
}

impl<'a> Search<'a> {
    async fn new(session: &'a mut Session) -> Result<Search<'a>> {
        let rows = session.query("SELECT current_database() AS name").await?;
        let database = rows.only()?.text("name")?;
        Ok(Search { session, database })
    }

    async fn schemas(&mut self, patterns: &[BString], strict: bool) -> Result<Vec<Found>> {
        let mut selects = Vec::new();
        for (number, text) in patterns.iter().enumerate() {
            let pattern = Pattern::of_schema(text)?;
            selects.push(sql!(
                "SELECT {} AS pattern, n.oid, n.nspname AS name FROM pg_catalog.pg_namespace n WHERE {}",
                number.to_string(),
                matches("n.nspname", &pattern.name)
            ));
        }
        let found = self.run(selects, "schemas").await?;
        if strict {
            refuse_unmatched(patterns, &found, "schemas")?;
        }
        Ok(found)
    }

    /// Extensions, foreign servers: what has a name and no schema.
    async fn named(
        &mut self,
        catalog: &str,
        column: &str,
        patterns: &[BString],
    ) -> Result<Vec<Found>> {
        let mut selects = Vec::new();
        for (number, text) in patterns.iter().enumerate() {
            let pattern = Pattern::of_database_object(text)?;
            selects.push(sql!(
                "SELECT {} AS pattern, o.oid, o.{} AS name FROM pg_catalog.{} o WHERE {}",
                number.to_string(),
                column,
                catalog,
                matches(&format!("o.{column}"), &pattern.name)
            ));
        }
        self.run(selects, catalog).await
    }

    /// Relations of all kinds; a name without a schema means what it would mean in a query, by the
    /// user's own search path.
    async fn relations(
        &mut self,
        patterns: &[BString],
        strict: bool,
        with_children: bool,
    ) -> Result<Vec<Found>> {
        let mut selects = Vec::new();
        for (number, text) in patterns.iter().enumerate() {
            let pattern = Pattern::of_relation(text)?;
            pattern.refuse_other_database(&self.database)?;
            let within = match &pattern.schema {
                Some(schema) => matches("n.nspname", schema),
                None => BString::from("pg_catalog.pg_table_is_visible(c.oid)"),
            };
            selects.push(sql!(
                "SELECT {} AS pattern, c.oid, c.relname AS name
                 FROM pg_catalog.pg_class c
                 JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
                 WHERE c.relkind OPERATOR(pg_catalog.=) ANY (ARRAY['r', 'S', 'v', 'm', 'f', 'p']::pg_catalog.\"char\"[])
                   AND {} AND {}",
                number.to_string(),
                matches("c.relname", &pattern.name),
                within
            ));
        }
        if with_children && !selects.is_empty() {
            let roots = sql::join(&selects, "\nUNION ALL\n");
            selects = vec![sql!(
                "SELECT * FROM (
                     WITH RECURSIVE tree (pattern, oid, name) AS (
                         SELECT * FROM ({}) AS roots
                         UNION
                         SELECT t.pattern, h.inhrelid, NULL
                         FROM tree t
                         JOIN pg_catalog.pg_inherits h ON h.inhparent OPERATOR(pg_catalog.=) t.oid)
                     SELECT pattern, oid, coalesce(name, '') AS name FROM tree) AS tree",
                roots
            )];
        }
        // the only queries that see the user's search path: every name in them is qualified
        self.session
            .execute("SET LOCAL search_path TO DEFAULT")
            .await?;
        let found = self.run(selects, "tables").await;
        if found.is_ok() {
            self.session.execute("SET LOCAL search_path TO ''").await?;
        }
        let found = found?;
        if strict {
            refuse_unmatched(patterns, &found, "tables")?;
        }
        Ok(found)
    }

    /// Relations of these schemas and names, as names are written in the session's encoding.
    async fn exact_relations(&mut self, relations: &[(BString, BString)]) -> Result<HashSet<Oid>> {
        const BATCH: usize = 1000;
        let mut found = HashSet::new();
        for batch in relations.chunks(BATCH) {
            let names = batch
                .iter()
                .map(|(schema, name)| sql!("({}, {})", sql::literal(schema), sql::literal(name)));
            let rows = self
                .session
                .query(sql!(
                    "SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                     WHERE (n.nspname, c.relname) IN ({})",
                    sql::join(names, ", ")
                ))
                .await?;
            for row in &rows {
                found.insert(row.number("oid")?);
            }
        }
        Ok(found)
    }

    async fn run(&mut self, selects: Vec<BString>, what: &str) -> Result<Vec<Found>> {
        if selects.is_empty() {
            return Ok(Vec::new());
        }
        let query = sql::join(selects, "\nUNION ALL\n");
        let rows = self.session.query(query).await.map_err(|error| {
            error
                .context(format!("looking for {what} by the given patterns"))
                .hint("a pattern is a regular expression but for * ? . and $; put names with special characters in double quotes")
        })?;
        rows.iter()
            .map(|row| {
                Ok(Found {
                    pattern: row.number("pattern")?,
                    oid: row.number("oid")?,
                    name: row.text("name")?,
                })
            })
            .collect()
    }

    async fn namespaces(&mut self) -> Result<HashMap<BString, Oid>> {
        let rows = self
            .session
            .query("SELECT oid, nspname AS name FROM pg_catalog.pg_namespace")
            .await?;
        rows.iter()
            .map(|row| Ok((row.text("name")?, row.number("oid")?)))
            .collect()
    }

    async fn owned_sequences(&mut self) -> Result<HashMap<Oid, (Oid, bool)>> {
        let rows = self
            .session
            .query(
                "SELECT d.objid AS sequence, d.refobjid AS \"table\", d.deptype = 'i' AS is_identity
                 FROM pg_depend d
                 JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
                 WHERE d.classid = 'pg_class'::regclass AND d.objsubid = 0
                   AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid > 0
                   AND d.deptype IN ('a', 'i')",
            )
            .await?;
        rows.iter()
            .map(|row| {
                let table = (row.number("table")?, row.bool("is_identity")?);
                Ok((row.number("sequence")?, table))
            })
            .collect()
    }
}

/// A condition on a column of type name, which has the collation "C"; classes of characters go by
/// the database's.
pub fn matches(column: &str, regex: &BString) -> BString {
    if regex == "^(.*)$" {
        return BString::from("true");
    }
    // arguments come in UTF-8, statements go out in the database's own encoding
    let regex = match regex.is_ascii() {
        true => sql::literal(regex),
        false => sql!(
            "pg_catalog.convert_from(pg_catalog.decode({}, 'hex'), 'UTF8')",
            sql::literal(sql::hex(regex))
        ),
    };
    sql!(
        "{} OPERATOR(pg_catalog.~) {} COLLATE pg_catalog.\"default\"",
        column,
        regex
    )
}
