//! Relations with rows, as looks at the catalogs show them.

use std::collections::{HashMap, HashSet};

use bstr::BString;

use crate::catalog::Scope;
use crate::error::{Error, Result, ResultExt};
use crate::postgres::{Oid, Row, Session};
use crate::sql;

/// A relation with rows, as one look at the catalogs shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    pub oid: Oid,
    pub schema: BString,
    pub name: BString,
    /// Unlogged relations cannot be read on a standby.
    pub unlogged: bool,
    /// A partitioned table: locked, but without rows of its own.
    pub partitioned: bool,
    /// Table scans may be cut by ctid: an ordinary heap.
    pub splittable: bool,
    pub heap_bytes: u64,
    pub toast_bytes: u64,
    readable: bool,
    /// Policies would hide rows from this role.
    secured: bool,
}

impl Relation {
    pub fn bytes(&self) -> u64 {
        self.heap_bytes.saturating_add(self.toast_bytes)
    }

    pub fn qualified(&self) -> BString {
        sql::qualified(&self.schema, &self.name)
    }
}

/// Tables that are the user's, and those of extensions whose rows are configuration.
const LIST: &str = "
    SELECT c.oid, n.nspname AS schema, c.relname AS name,
           c.relpersistence = 'u' AS unlogged,
           c.relkind = 'p' AS partitioned,
           c.relkind = 'r' AND coalesce(a.amname = 'heap', false) AS splittable,
           -- null where it has been dropped meanwhile, which is no question of privileges
           coalesce(has_schema_privilege(n.oid, 'USAGE')
                    AND has_table_privilege(c.oid, 'SELECT'), true) AS readable,
           -- rows are read from the partitions themselves, whatever is said of their parent
           c.relkind = 'r' AND row_security_active(c.oid) AS secured,
           m.refobjid AS extension
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_am a ON a.oid = c.relam
    -- of one extension at most
    LEFT JOIN pg_depend m ON m.refclassid = 'pg_extension'::regclass AND m.deptype = 'e'
                         AND m.classid = 'pg_class'::regclass AND m.objid = c.oid
    WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND c.oid >= 16384
      AND (n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
               AND m.objid IS NULL
           OR c.oid IN (SELECT unnest(e.extconfig) FROM pg_extension e))
    ORDER BY c.oid";

/// Those that are wanted, by OID, ascending.
pub async fn list(session: &mut Session, scope: &Scope) -> Result<Vec<Relation>> {
    let chosen = scope.patterns.choose(session).await?;
    let rows = session.query(LIST).await.context("listing tables")?;
    let mut relations = Vec::new();
    for row in &rows {
        let relation = relation(row)?;
        let is_wanted = match row.optional_number("extension")? {
            None => chosen.relation(relation.oid, &relation.schema),
            Some(extension) => chosen.configuration(relation.oid, &relation.schema, extension),
        };
        if is_wanted {
            relations.push(relation);
        }
    }
    Ok(relations)
}

fn relation(row: &Row) -> Result<Relation> {
    Ok(Relation {
        oid: row.number("oid")?,
        schema: row.text("schema")?,
        name: row.text("name")?,
        unlogged: row.bool("unlogged")?,
        partitioned: row.bool("partitioned")?,
        splittable: row.bool("splittable")?,
        heap_bytes: 0,
        toast_bytes: 0,
        readable: row.bool("readable")?,
        secured: row.bool("secured")?,
    })
}

/// As an array literal without its quotes.
fn oids<'a>(relations: impl IntoIterator<Item = &'a Relation>) -> BString {
    sql::join(
        relations
            .into_iter()
            .map(|relation| relation.oid.to_string()),
        ",",
    )
}

/// Only of relations that we have locked: asking for a size takes a lock, and would wait without
/// limit, and without a word, for whoever has locked the table against us.
pub async fn measure(leader: &mut Session, relations: &mut [Relation]) -> Result<()> {
    let with_rows = relations.iter().filter(|relation| !relation.partitioned);
    let rows = leader
        .query(sql!(
            "SELECT c.oid, coalesce(pg_relation_size(c.oid), 0) AS heap_bytes,
                    CASE WHEN c.reltoastrelid <> 0
                         THEN coalesce(pg_relation_size(c.reltoastrelid), 0) ELSE 0 END AS toast_bytes
             FROM pg_class c WHERE c.oid = ANY ('{{}}'::oid[]) ORDER BY c.oid",
            oids(with_rows)
        ))
        .await
        .context("reading the sizes of tables")?;
    for row in &rows {
        // listed by OID
        let oid: Oid = row.number("oid")?;
        if let Ok(at) = relations.binary_search_by_key(&oid, |relation| relation.oid) {
            relations[at].heap_bytes = row.number("heap_bytes")?;
            relations[at].toast_bytes = row.number("toast_bytes")?;
        }
    }
    Ok(())
}

/// The relations that this session holds an ACCESS SHARE lock on, by the word of the lock manager
/// itself: a name may have meant another relation when it was locked.
pub async fn held(leader: &mut Session) -> Result<HashSet<Oid>> {
    let rows = leader
        .query(
            "SELECT l.relation FROM pg_locks l
             WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation' AND l.granted
               AND l.mode = 'AccessShareLock'
               AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())",
        )
        .await
        .context("reading which tables are locked")?;
    rows.iter().map(|row| row.number("relation")).collect()
}

/// What of the relations is not any more as the session's snapshot shows it, if anything. Asks
/// functions that see the present, whatever the snapshot: of a name, its OID; of an OID, its file.
pub async fn change(leader: &mut Session, relations: &[Relation]) -> Result<Option<String>> {
    let rows = leader
        .query(sql!(
            "SELECT n.nspname AS schema, c.relname AS name,
                    to_regclass(quote_ident(n.nspname) || '.' || quote_ident(c.relname))
                        IS DISTINCT FROM c.oid AS renamed
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE c.oid = ANY ('{{}}'::oid[])
               AND (to_regclass(quote_ident(n.nspname) || '.' || quote_ident(c.relname))
                        IS DISTINCT FROM c.oid
                    OR c.relkind = 'r' AND c.relfilenode IS DISTINCT FROM pg_relation_filenode(c.oid))
             ORDER BY 1, 2 LIMIT 1",
            oids(relations)
        ))
        .await
        .context("comparing tables with the snapshot")?;
    rows.iter()
        .next()
        .map(|row| {
            let name = sql::qualified(row.bytes("schema")?, row.bytes("name")?);
            Ok(if row.bool("renamed")? {
                format!("table {name} was dropped or renamed")
            } else {
                format!("table {name} was rewritten")
            })
        })
        .transpose()
}

/// A column as it is read: its number, name, and type, for a domain the type beneath it.
type Column = (i16, BString, Oid);

/// The first of the relations whose columns are other ones than the session's snapshot shows. A
/// query is planned by the present definition, so that the server's description of its result
/// tells what COPY will read.
pub async fn altered(leader: &mut Session, relations: &[Relation]) -> Result<Option<String>> {
    let rows = leader
        .query(sql!(
            "WITH RECURSIVE base(of, oid) AS (
                 SELECT DISTINCT a.atttypid, a.atttypid FROM pg_attribute a
                 WHERE a.attrelid = ANY ('{{}}'::oid[])
                 UNION ALL
                 SELECT b.of, t.typbasetype FROM base b JOIN pg_type t ON t.oid = b.oid
                 WHERE t.typtype = 'd')
             SELECT a.attrelid AS relation, a.attnum AS number, a.attname AS name, b.oid AS type
             FROM pg_attribute a
             JOIN base b ON b.of = a.atttypid
             JOIN pg_type t ON t.oid = b.oid AND t.typtype <> 'd'
             WHERE a.attrelid = ANY ('{{}}'::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
             ORDER BY a.attrelid, a.attnum",
            oids(relations),
            oids(relations)
        ))
        .await
        .context("reading the columns of tables")?;
    let mut expected: HashMap<Oid, Vec<Column>> = HashMap::new();
    for row in &rows {
        expected.entry(row.number("relation")?).or_default().push((
            row.number("number")?,
            row.text("name")?,
            row.number("type")?,
        ));
    }
    for relation in relations {
        let present = leader
            .query(sql!("SELECT * FROM ONLY {} LIMIT 0", relation.qualified()))
            .await
            .with_context(|| format!("reading the columns of {}", relation.qualified()))?;
        let present: Vec<Column> = present
            .columns()
            .iter()
            .map(|column| (column.number, column.name.clone(), column.type_oid))
            .collect();
        if expected.remove(&relation.oid).unwrap_or_default() != present {
            return Ok(Some(format!("table {} was altered", relation.qualified())));
        }
    }
    Ok(None)
}

/// Sequences are not locked, but their values are read.
const UNREADABLE_SEQUENCES: &str = "
    SELECT c.oid, n.nspname AS schema, c.relname AS name
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'S' AND c.relpersistence <> 't' AND c.oid >= 16384
      AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
      AND NOT EXISTS (SELECT FROM pg_depend d
                      WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
                        AND d.classid = 'pg_class'::regclass AND d.objid = c.oid)
      AND NOT coalesce(has_sequence_privilege(c.oid, 'SELECT')
                       AND has_schema_privilege(n.oid, 'USAGE'), true)
    ORDER BY 2, 3";

/// All that cannot be read at once, and not each when its turn comes.
pub async fn refuse_unreadable(
    leader: &mut Session,
    relations: &[Relation],
    scope: &Scope,
) -> Result<()> {
    let chosen = scope.patterns.choose(leader).await?;
    let mut unreadable = names(relations, |relation| !relation.readable);
    let rows = leader
        .query(UNREADABLE_SEQUENCES)
        .await
        .context("looking for sequences that cannot be read")?;
    for row in &rows {
        let (schema, name) = (row.bytes("schema")?, row.bytes("name")?);
        let oid = row.number("oid")?;
        if scope.parts.takes_sequence_values() && chosen.relation(oid, schema) && chosen.data(oid) {
            unreadable.push(sql::qualified(schema, name).to_string());
        }
    }
    if !unreadable.is_empty() {
        return Err(Error::new(format!(
            "no permission to read {}",
            counted(unreadable, "relation")
        ))
        .hint("grant the role pg_read_all_data, or SELECT on these and USAGE on their schemas"));
    }
    let hides_rows = |relation: &Relation| relation.secured && chosen.data(relation.oid);
    let secured = match scope.parts.takes_rows() && !scope.enable_row_security {
        true => names(relations, hides_rows),
        false => Vec::new(),
    };
    if !secured.is_empty() {
        return Err(Error::new(format!(
            "row-level security would hide rows from this role in {}",
            counted(secured, "table")
        ))
        .hint("a backup must see every row: connect as a superuser, as a role with BYPASSRLS, or as the owner of these tables where it is not forced on the owner; or take only what the role may see, with --enable-row-security"));
    }
    Ok(())
}

fn names(relations: &[Relation], which: impl Fn(&Relation) -> bool) -> Vec<String> {
    relations
        .iter()
        .filter(|relation| which(relation))
        .map(|relation| relation.qualified().to_string())
        .collect()
}

/// "2 tables: public.a, public.b"
fn counted(mut names: Vec<String>, what: &str) -> String {
    names.sort();
    let plural = if names.len() == 1 { "" } else { "s" };
    format!("{} {what}{plural}: {}", names.len(), names.join(", "))
}
