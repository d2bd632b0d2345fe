//! What the server itself does not hold to be valid: indexes left over from a build that failed,
//! constraints whose rows were never checked, or are not checked any more.

use std::collections::HashMap;

use bstr::{BStr, BString, ByteSlice};

use super::finding::{Finding, FindingKind};
use crate::archive::Entry;
use crate::catalog::USER_SCHEMAS;
use crate::error::{Result, ResultExt};
use crate::postgres::Session;
use crate::proof::Listed;
use crate::sql;

/// An index that no query uses. An invalid index of a partitioned table is one whose partitions
/// have not all an index attached, which the entries of the attachments show.
async fn invalid_indexes(session: &mut Session) -> Result<Vec<(BString, BString, &'static str)>> {
    let rows = session
        .query(format!(
            "SELECT n.nspname AS schema, c.relname AS name, i.indisvalid, i.indisready
             FROM pg_index i
             JOIN pg_class c ON c.oid = i.indexrelid
             JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE c.relkind = 'i' AND NOT (i.indisvalid AND i.indisready AND i.indislive)
               AND {USER_SCHEMAS}
             ORDER BY 1, 2"
        ))
        .await
        .context("reading which indexes are valid")?;
    rows.iter()
        .map(|row| {
            let reason = if row.bool("indisready")? {
                "its build has not ended (indisvalid is false)"
            } else {
                "it is not kept up to date (indisready is false)"
            };
            Ok((row.text("schema")?, row.text("name")?, reason))
        })
        .collect()
}

/// Inherited constraints are as valid as their parent's, which is looked at itself.
struct Unvalidated {
    schema: BString,
    /// The table or domain.
    relation: BString,
    name: BString,
}

async fn unvalidated_constraints(session: &mut Session) -> Result<Vec<Unvalidated>> {
    let rows = session
        .query(format!(
            "SELECT n.nspname AS schema, coalesce(c.relname, t.typname) AS relation,
                    k.conname AS name
             FROM pg_constraint k
             JOIN pg_namespace n ON n.oid = k.connamespace
             LEFT JOIN pg_class c ON c.oid = k.conrelid
             LEFT JOIN pg_type t ON t.oid = k.contypid
             WHERE NOT k.convalidated AND k.conislocal AND k.conparentid = 0 AND {USER_SCHEMAS}
             ORDER BY 1, 2, 3"
        ))
        .await
        .context("reading which constraints are valid")?;
    rows.iter()
        .filter(|row| row.at(1).is_some())
        .map(|row| {
            Ok(Unvalidated {
                schema: row.text("schema")?,
                relation: row.text("relation")?,
                name: row.text("name")?,
            })
        })
        .collect()
}

/// Findings, and the invalid indexes by schema and name: those are not among the entries that
/// were read of the database.
pub async fn compare(
    session: &mut Session,
    expected: &[Entry],
) -> Result<(Vec<Finding>, Vec<(BString, BString)>)> {
    let mut findings = Vec::new();
    let mut invalid = Vec::new();
    for (schema, name, reason) in invalid_indexes(session).await? {
        findings.push(Finding::new(
            FindingKind::Invalid,
            format!("INDEX {}", sql::qualified(&schema, &name)),
            reason,
        ));
        invalid.push((schema, name));
    }
    findings.extend(unchecked_constraints(session, expected).await?);
    findings.extend(disabled_constraints(session).await?);
    Ok((findings, invalid))
}

/// Constraints that the server has not checked, and the archive does not say so.
async fn unchecked_constraints(session: &mut Session, expected: &[Entry]) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let constraints = unvalidated_constraints(session).await?;
    if constraints.is_empty() {
        return Ok(findings);
    }
    let mut by_relation: HashMap<(&BStr, &BStr), Vec<&Entry>> = HashMap::new();
    for entry in expected {
        if let Some(schema) = &entry.schema {
            let relation = entry.relation.as_ref().unwrap_or(&entry.name);
            by_relation
                .entry((schema.as_bstr(), relation.as_bstr()))
                .or_default()
                .push(entry);
        }
    }
    for constraint in &constraints {
        // a domain's is an entry of its own, which no relation is named with
        let of_domain = sql!("{} {}", constraint.relation, constraint.name);
        if ![&constraint.relation, &of_domain]
            .into_iter()
            .filter_map(|name| by_relation.get(&(constraint.schema.as_bstr(), name.as_bstr())))
            .flatten()
            .any(|entry| says_not_valid(&entry.create, &constraint.name))
        {
            findings.push(Finding::new(
                FindingKind::Invalid,
                constraint_label(&constraint.schema, &constraint.relation, &constraint.name),
                "its rows were never checked (NOT VALID), which the archive does not say",
            ));
        }
    }
    Ok(findings)
}

/// Foreign keys and deferrable keys whose own triggers were disabled, on whichever table they are:
/// no dump keeps that, and what breaks them is taken without an error. Those of partitions count
/// as their root's.
async fn disabled_constraints(session: &mut Session) -> Result<Vec<Finding>> {
    let rows = session
        .query(format!(
            "WITH RECURSIVE part AS (
                 SELECT oid, oid AS root FROM pg_constraint WHERE conparentid = 0
                 UNION ALL
                 SELECT k.oid, part.root FROM pg_constraint k JOIN part ON k.conparentid = part.oid)
             SELECT n.nspname AS schema, c.relname AS relation, k.conname AS name,
                    array_agg(DISTINCT quote_ident(tn.nspname) || '.' || quote_ident(t.relname)) AS tables
             FROM pg_trigger g
             JOIN part ON part.oid = g.tgconstraint
             JOIN pg_constraint k ON k.oid = part.root
             JOIN pg_class c ON c.oid = k.conrelid
             JOIN pg_namespace n ON n.oid = c.relnamespace
             JOIN pg_class t ON t.oid = g.tgrelid
             JOIN pg_namespace tn ON tn.oid = t.relnamespace
             WHERE g.tgisinternal AND k.contype <> 't' AND g.tgenabled IN ('D', 'R')
               AND {USER_SCHEMAS}
             GROUP BY 1, 2, 3
             ORDER BY 1, 2, 3"
        ))
        .await
        .context("reading which constraints are enforced")?;
    rows.iter()
        .map(|row| {
            let tables = row
                .texts("tables")?
                .iter()
                .map(ToString::to_string)
                .collect();
            Ok(Finding::new(
                FindingKind::NotEnforced,
                constraint_label(
                    &row.text("schema")?,
                    &row.text("relation")?,
                    &row.text("name")?,
                ),
                Listed::new(
                    "its own triggers are disabled (DISABLE TRIGGER ALL) on",
                    tables,
                ),
            ))
        })
        .collect()
}

fn constraint_label(schema: &BString, relation: &BString, name: &BString) -> String {
    format!(
        "CONSTRAINT {} of {}",
        sql::identifier(name),
        sql::qualified(schema, relation)
    )
}

/// Whether a statement itself has this constraint as one that need not hold.
fn says_not_valid(create: &[u8], constraint: &BString) -> bool {
    let name = sql!("CONSTRAINT {} ", sql::identifier(constraint));
    create.find(name.as_slice()).is_some_and(|at| {
        let rest = &create[at + name.len()..];
        let end = rest.find(b",\n").unwrap_or(rest.len());
        let clause = &rest[..end];
        clause.find("NOT VALID").is_some() || clause.find("NOT ENFORCED").is_some()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_constraint_itself_counts() {
        let create = b"CREATE TABLE public.t (\n    CONSTRAINT a CHECK (x),\n    CONSTRAINT b CHECK (y) NOT ENFORCED\n);\n";
        assert!(!says_not_valid(create, &"a".into()));
        assert!(says_not_valid(create, &"b".into()));
        assert!(!says_not_valid(create, &"c".into()));
        let added =
            b"ALTER TABLE public.t\n    ADD CONSTRAINT \"A b\" CHECK ((x > 0)) NOT VALID;\n";
        assert!(says_not_valid(added, &"A b".into()));
    }
}
