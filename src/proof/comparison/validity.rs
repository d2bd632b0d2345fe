//! What the server itself does not hold to be valid: indexes left over from a build that failed,
//! constraints whose rows were never checked.

use std::collections::HashMap;

use bstr::{BStr, BString, ByteSlice};

use super::finding::{Finding, FindingKind};
use crate::archive::Entry;
use crate::catalog::USER_SCHEMAS;
use crate::error::{Result, ResultExt};
use crate::postgres::Session;
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
    let constraints = unvalidated_constraints(session).await?;
    if constraints.is_empty() {
        return Ok((findings, invalid));
    }
    let mut by_relation: HashMap<(&BStr, &BStr), Vec<&Entry>> = HashMap::new();
    for entry in expected {
        if let Some(schema) = &entry.schema {
            let relation = entry.relation.as_ref().unwrap_or(&entry.name);
            by_relation
                .entry((schema.as_bstr(), relation.as_bstr()))
                .or_default()
                .push(entry);
            // a constraint of a domain: "domain constraint"
            if entry.relation.is_none()
                && let Some(at) = entry.name.find_byte(b' ')
            {
                by_relation
                    .entry((schema.as_bstr(), entry.name[..at].as_bstr()))
                    .or_default()
                    .push(entry);
            }
        }
    }
    for constraint in &constraints {
        let key = (constraint.schema.as_bstr(), constraint.relation.as_bstr());
        let entries = by_relation.get(&key).map_or(&[][..], Vec::as_slice);
        if !entries
            .iter()
            .any(|entry| says_not_valid(&entry.create, &constraint.name))
        {
            findings.push(Finding::new(
                FindingKind::Invalid,
                format!(
                    "CONSTRAINT {} of {}",
                    sql::identifier(&constraint.name),
                    sql::qualified(&constraint.schema, &constraint.relation)
                ),
                "its rows were never checked (NOT VALID), which the archive does not say",
            ));
        }
    }
    Ok((findings, invalid))
}

/// Whether a statement itself has this constraint as one that need not hold.
fn says_not_valid(create: &[u8], constraint: &BString) -> bool {
    let name = sql!("CONSTRAINT {} ", sql::identifier(constraint));
    create.find(name.as_slice()).is_some_and(|at| {
        let rest = &create[at..];
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
