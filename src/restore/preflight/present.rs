//! What the target holds already.

use std::collections::BTreeSet;

use bstr::{BString, ByteSlice};

use super::{Finding, count, will_fail};
use crate::archive::Entry;
use crate::error::{Result, ResultExt};
use crate::postgres::Session;
use crate::restore::schedule::is_data;
use crate::restore::selection::label;
use crate::sql;

/// Relations outside extensions, of any sort: the target is in use.
pub async fn check_empty(
    session: &mut Session,
    entries: &[Entry],
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let rows = session
        .query(
            "SELECT n.nspname AS schema, c.relname AS name
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND c.relpersistence <> 't'
               AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
               AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                               AND d.objid = c.oid AND d.deptype = 'e')
             ORDER BY 1, 2",
        )
        .await
        .context("looking for tables in the target")?;
    check_large_objects(session, entries, findings).await?;
    if rows.is_empty() {
        return Ok(());
    }
    let found: BTreeSet<(BString, BString)> = rows
        .iter()
        .map(|row| Ok((row.text("schema")?, row.text("name")?)))
        .collect::<Result<_>>()?;
    let in_the_way: Vec<String> = entries
        .iter()
        .filter(|entry| !is_data(entry) && entry.owner_target.is_some())
        .filter(|entry| {
            entry
                .schema
                .as_ref()
                .is_some_and(|schema| found.contains(&(schema.clone(), entry.name.clone())))
        })
        .map(label)
        .collect();
    let some = |names: &[String]| {
        let shown = names.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
        match names.len().saturating_sub(5) {
            0 => shown,
            more => format!("{shown} and {more} more"),
        }
    };
    findings.push(if in_the_way.is_empty() {
        let names: Vec<String> = found
            .iter()
            .map(|(schema, name)| sql::qualified(schema, name).to_string())
            .collect();
        will_fail(
            format!(
                "the target holds {} already: {}",
                count(found.len(), "relation"),
                some(&names)
            ),
            "restore into an empty database, or use --force to add to this one",
        )
    } else {
        will_fail(
            format!(
                "{} in the way: {}",
                match in_the_way.len() {
                    1 => "1 object is".to_owned(),
                    more => format!("{more} objects are"),
                },
                some(&in_the_way)
            ),
            "restore into an empty database, or drop them first with -c --if-exists",
        )
    });
    Ok(())
}

/// Large objects have numbers for names, which any two databases may share.
async fn check_large_objects(
    session: &mut Session,
    entries: &[Entry],
    findings: &mut Vec<Finding>,
) -> Result<()> {
    if !entries.iter().any(|entry| entry.kind == "BLOB METADATA") {
        return Ok(());
    }
    let rows = session
        .query("SELECT count(*) AS count FROM pg_largeobject_metadata")
        .await
        .context("looking for large objects in the target")?;
    let held: usize = rows.only()?.number("count")?;
    if held > 0 {
        findings.push(will_fail(
            format!("the target holds {} already", count(held, "large object")),
            "restore into an empty database, or drop those of the archive first with -c --if-exists",
        ));
    }
    Ok(())
}

/// More than these are counted: nobody reads a list of thousands.
const MAX_NAMED: usize = 50;

/// With filters, a restore may add to what is there; in the way is what has the name of a chosen
/// entry.
pub async fn check_chosen(
    session: &mut Session,
    entries: &[Entry],
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let schemas: BTreeSet<&BString> = entries
        .iter()
        .filter(|entry| !names_taken_by(entry).is_empty())
        .filter_map(|entry| entry.schema.as_ref())
        .collect();
    let schemas = sql::join(schemas.into_iter().map(sql::literal), ", ");
    let rows = session
        .query(sql!(
            "WITH schema AS (SELECT oid, nspname AS name FROM pg_namespace
                                     WHERE nspname = ANY (ARRAY[{}]::name[])) {}",
            schemas,
            PRESENT
        ))
        .await
        .context("looking for objects of the same names in the target")?;
    let mut present = BTreeSet::new();
    for row in &rows {
        let name = row.text("name")?;
        present.insert((row.string("sort")?, row.optional_text("schema")?, name));
    }
    // with a table, all that is of it is in the way too
    let mut tables = BTreeSet::new();
    let mut in_the_way = Vec::new();
    for entry in entries {
        let belongs = (entry.schema.clone(), entry.relation.clone());
        let is_taken = |sort: &&str| {
            present.contains(&((*sort).to_owned(), entry.schema.clone(), entry.name.clone()))
        };
        if !tables.contains(&belongs) && names_taken_by(entry).iter().any(is_taken) {
            tables.insert((entry.schema.clone(), Some(entry.name.clone())));
            in_the_way.push(label(entry));
        }
    }
    let hint = "drop it first, or let -c --if-exists do so, or leave it out with -L";
    for name in in_the_way.iter().take(MAX_NAMED) {
        findings.push(will_fail(format!("{name} is there already"), hint));
    }
    if let Some(more @ 1..) = in_the_way.len().checked_sub(MAX_NAMED) {
        findings.push(will_fail(format!("and so are {more} more"), hint));
    }
    check_chosen_large_objects(session, entries, findings).await
}

/// Objects in the schemas concerned, by the sort of names that they share with others.
const PRESENT: &str = "
    SELECT 'relation' AS sort, s.name::text AS schema, c.relname::text AS name
    FROM pg_class c JOIN schema s ON s.oid = c.relnamespace
    UNION ALL
    -- the array type of another gives way by itself
    SELECT 'type', s.name, t.typname FROM pg_type t JOIN schema s ON s.oid = t.typnamespace
    WHERE NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid)
    UNION ALL
    SELECT 'routine', s.name,
           p.proname || '(' || array_to_string(
               ARRAY(SELECT format_type(a.type, NULL)
                     FROM unnest(p.proargtypes) WITH ORDINALITY AS a (type, number)
                     ORDER BY a.number), ', ') || ')'
    FROM pg_proc p JOIN schema s ON s.oid = p.pronamespace
    UNION ALL
    SELECT 'constraint', s.name, coalesce(c.relname, t.typname) || ' ' || o.conname
    FROM pg_constraint o JOIN schema s ON s.oid = o.connamespace
    LEFT JOIN pg_class c ON c.oid = o.conrelid LEFT JOIN pg_type t ON t.oid = o.contypid
    UNION ALL
    SELECT 'trigger', s.name, c.relname || ' ' || t.tgname
    FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN schema s ON s.oid = c.relnamespace
    UNION ALL
    SELECT 'policy', s.name, c.relname || ' ' || p.polname
    FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN schema s ON s.oid = c.relnamespace
    UNION ALL
    SELECT 'rule', s.name, c.relname || ' ' || r.rulename
    FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class JOIN schema s ON s.oid = c.relnamespace
    UNION ALL
    SELECT 'statistics', s.name, x.stxname
    FROM pg_statistic_ext x JOIN schema s ON s.oid = x.stxnamespace
    UNION ALL
    SELECT 'collation', s.name, c.collname
    FROM pg_collation c JOIN schema s ON s.oid = c.collnamespace
    UNION ALL
    SELECT 'schema', NULL, nspname FROM pg_namespace";

/// What an entry cannot share its name with. Other kinds fail by themselves, if at all.
fn names_taken_by(entry: &Entry) -> &'static [&'static str] {
    // also of what replaces, alters, or is there only IF NOT EXISTS
    let creates = entry.create.starts_with(b"CREATE ") && !entry.create.starts_with(b"CREATE OR ");
    match entry.kind.as_str() {
        _ if entry.create.is_empty() => &[],
        "TABLE" | "VIEW" | "MATERIALIZED VIEW" | "FOREIGN TABLE" => &["relation", "type"],
        "SEQUENCE" | "INDEX" => &["relation"],
        "TYPE" | "DOMAIN" => &["type"],
        "FUNCTION" | "PROCEDURE" | "AGGREGATE" => &["routine"],
        "CONSTRAINT" | "FK CONSTRAINT" | "CHECK CONSTRAINT" => &["constraint"],
        "TRIGGER" if creates => &["trigger"],
        "RULE" if creates => &["rule"],
        "POLICY" => &["policy"],
        "STATISTICS" => &["statistics"],
        "COLLATION" => &["collation"],
        "SCHEMA" => &["schema"],
        _ => &[],
    }
}

/// Those with the number of one that is there.
async fn check_chosen_large_objects(
    session: &mut Session,
    entries: &[Entry],
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let mut held: usize = 0;
    for entry in entries.iter().filter(|entry| entry.kind == "BLOB METADATA") {
        // they stand in the statement as an array
        let (Some(start), Some(end)) = (entry.create.find("{"), entry.create.find("}")) else {
            continue;
        };
        let oids = entry.create.get(start..=end).unwrap_or(b"{}");
        let rows = session
            .query(sql!(
                "SELECT count(*) AS count FROM pg_largeobject_metadata
                 WHERE oid = ANY ({}::oid[])",
                sql::literal(oids.as_bstr())
            ))
            .await
            .context("looking for large objects in the target")?;
        held += rows.only()?.number::<usize>("count")?;
    }
    if held > 0 {
        findings.push(will_fail(
            format!(
                "{} of the archive {} there already",
                count(held, "large object"),
                if held == 1 { "is" } else { "are" }
            ),
            "drop them first, or let -c --if-exists do so, or leave them out with -L",
        ));
    }
    Ok(())
}
