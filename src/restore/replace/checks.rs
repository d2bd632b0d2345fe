//! What would keep the live database from being renamed, found beforehand.

use bstr::BString;

use crate::error::{Error, Kind, Result, ResultExt};
use crate::postgres::{Row, Session};
use crate::restore::database::keep_bytes;
use crate::restore::preflight::{Finding, Severity, final_refusal};
use crate::sql;

/// The database that is to be replaced.
pub struct Live {
    pub oid: u32,
    /// Others that are connected to it.
    pub sessions: u64,
    pub warnings: Vec<String>,
}

/// `owner`: of the copy, once it is restored.
pub async fn check(session: &mut Session, name: &BString, owner: Option<&BString>) -> Result<Live> {
    keep_bytes(session).await?;
    let rows = session
        .query(query(name))
        .await
        .context("looking at the database that is to be replaced")?;
    let Some(row) = rows.iter().next() else {
        return Err(Error::new(format!(
            "there is no database {} to replace",
            sql::identifier(name)
        ))
        .with_kind(Kind::TargetNotReady)
        .hint("restore it with -C; or name the one to replace with --database-name"));
    };
    let mut findings = rights(row)?;
    findings.extend(bound(row)?);
    let is_super = row.bool("is_super")?;
    if let Some(owner) = owner.filter(|_| !is_super) {
        findings.extend(of_owner(session, owner).await?);
    }
    let mut warnings = Vec::new();
    if !is_super {
        let untouchable = untouchable(session, row.number("oid")?).await?;
        if !untouchable.is_empty() {
            findings.push(finding(
                format!(
                    "role {} may not end the sessions of {untouchable}",
                    role(row)?
                ),
                "GRANT pg_signal_backend; sessions of superusers only a superuser can end",
            ));
        } else if !row.bool("may_signal")? {
            warnings.push(format!(
                "role {} may end no sessions of roles that it is not a member of, should there be any by then: GRANT pg_signal_backend",
                role(row)?
            ));
        }
    }
    if !findings.is_empty() {
        return Err(final_refusal(&findings));
    }
    Ok(Live {
        oid: row.number("oid")?,
        sessions: row.number("sessions")?,
        warnings,
    })
}

fn query(name: &BString) -> BString {
    sql!(
        "SELECT d.oid, d.datistemplate AS is_template,
                pg_catalog.pg_get_userbyid(d.datdba) AS owner,
                pg_catalog.pg_has_role(d.datdba, 'USAGE') AS owns,
                r.rolname AS role, r.rolsuper AS is_super,
                r.rolcreatedb OR r.rolsuper AS may_create,
                pg_catalog.pg_has_role('pg_signal_backend', 'USAGE') AS may_signal,
                (SELECT pg_catalog.string_agg(pg_catalog.quote_literal(gid), ', ' ORDER BY gid)
                 FROM pg_catalog.pg_prepared_xacts WHERE database = d.datname) AS prepared,
                (SELECT pg_catalog.string_agg(slot_name::text, ', ' ORDER BY slot_name)
                 FROM pg_catalog.pg_replication_slots WHERE datoid = d.oid AND NOT temporary) AS slots,
                (SELECT pg_catalog.string_agg(subname::text, ', ' ORDER BY subname)
                 FROM pg_catalog.pg_subscription WHERE subdbid = d.oid) AS subscriptions,
                (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity
                 WHERE datid = d.oid AND pid <> pg_catalog.pg_backend_pid()) AS sessions
         FROM pg_catalog.pg_database d
         JOIN pg_catalog.pg_roles r ON r.rolname = CURRENT_USER
         WHERE d.datname OPERATOR(pg_catalog.=) {}",
        sql::literal(name)
    )
}

fn finding(message: String, hint: &str) -> Finding {
    Finding {
        severity: Severity::WillFail,
        message,
        hint: hint.to_owned(),
    }
}

fn role(row: &Row) -> Result<BString> {
    Ok(sql::identifier(row.bytes("role")?))
}

/// What renaming takes of the role.
fn rights(row: &Row) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    if !row.bool("may_create")? {
        findings.push(finding(
            format!(
                "role {} may neither create nor rename databases",
                role(row)?
            ),
            "ALTER ROLE ... CREATEDB",
        ));
    }
    if !row.bool("owns")? {
        let owner = sql::identifier(row.bytes("owner")?);
        findings.push(finding(
            format!(
                "role {} may not rename the database, whose owner is {owner}",
                role(row)?
            ),
            "GRANT its owner to the role, or connect as a superuser",
        ));
    }
    Ok(findings)
}

/// What is bound to the database itself, and would stay with the old one or keep it from being renamed.
fn bound(row: &Row) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    if row.bool("is_template")? {
        findings.push(finding(
            "the database is a template, which others are made from".to_owned(),
            "ALTER DATABASE ... IS_TEMPLATE false first",
        ));
    }
    for (column, what, hint) in [
        (
            "prepared",
            "prepared transactions are open in it",
            "COMMIT PREPARED or ROLLBACK PREPARED first",
        ),
        (
            "slots",
            "logical replication slots belong to it, and would stay with the old database",
            "drop them first, and set up what reads them anew afterwards",
        ),
        (
            "subscriptions",
            "subscriptions belong to it, and would go on in the old database",
            "drop them first (or SET (slot_name = NONE) to keep the publisher's slot), and create them anew afterwards",
        ),
    ] {
        if let Some(names) = row.optional_text(column)? {
            findings.push(finding(format!("{what}: {names}"), hint));
        }
    }
    Ok(findings)
}

/// Whoever gives the copy away must still be able to rename it.
async fn of_owner(session: &mut Session, owner: &BString) -> Result<Option<Finding>> {
    let rows = session
        .query(sql!(
            "SELECT pg_catalog.pg_has_role(oid, 'USAGE') AS owns FROM pg_catalog.pg_roles
             WHERE rolname OPERATOR(pg_catalog.=) {}",
            sql::literal(owner)
        ))
        .await?;
    // a role that is missing is found by the preflight of every restore
    let Some(row) = rows.iter().next() else {
        return Ok(None);
    };
    Ok((!row.bool("owns")?).then(|| {
        finding(
            format!(
                "the archive's database belongs to {}, so that the copy could not be renamed",
                sql::identifier(owner)
            ),
            "GRANT that role to the one that restores, or restore with -O",
        )
    }))
}

/// Roles, whose sessions in the database a role that is no superuser cannot end.
async fn untouchable(session: &mut Session, oid: u32) -> Result<String> {
    let rows = session
        .query(sql!(
            "SELECT coalesce(pg_catalog.string_agg(DISTINCT pg_catalog.quote_ident(o.rolname), ', '), '') AS roles
             FROM pg_catalog.pg_stat_activity a
             JOIN pg_catalog.pg_roles o ON o.oid = a.usesysid
             WHERE a.datid = {} AND a.pid <> pg_catalog.pg_backend_pid()
               AND (o.rolsuper
                    OR NOT pg_catalog.pg_has_role(o.oid, 'USAGE')
                       AND NOT pg_catalog.pg_has_role('pg_signal_backend', 'USAGE'))",
            oid.to_string()
        ))
        .await
        .context("looking who is connected to the database")?;
    rows.only()?.string("roles")
}
