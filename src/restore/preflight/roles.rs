//! Roles that an archive names: the target must have them, and for some we must be members.

use std::collections::{BTreeMap, BTreeSet};

use bstr::BString;

use super::{Finding, will_fail};
use crate::archive::Entry;
use crate::catalog::roles::{RoleUse, named_by};
use crate::error::{Result, ResultExt};
use crate::postgres::Session;
use crate::restore::Options;

fn words(role_use: RoleUse) -> &'static str {
    match role_use {
        RoleUse::Grantee => "which has privileges",
        RoleUse::Creator => "which has default privileges",
        RoleUse::Grantor => "which granted privileges",
        RoleUse::Policy => "which a policy is for",
        RoleUse::Settings => "which has settings in the database",
        RoleUse::Mapping => "which a user mapping is for",
        RoleUse::Owner => "an owner of objects",
    }
}

fn if_missing(role_use: RoleUse) -> &'static str {
    match role_use {
        RoleUse::Grantee | RoleUse::Creator | RoleUse::Grantor => {
            "create it first, or use -x to leave out privileges"
        }
        RoleUse::Policy => "create it first, or leave out the policy with -L",
        RoleUse::Settings => "create it first, or leave out DATABASE PROPERTIES with -L",
        RoleUse::Mapping => "create it first, or leave out the user mapping with -L",
        RoleUse::Owner => "create it first, or use -O to let you own everything",
    }
}

/// None where it takes no membership.
fn if_no_member(role_use: RoleUse) -> Option<&'static str> {
    match role_use {
        RoleUse::Owner => Some("connect as a superuser or a member, or use -O"),
        RoleUse::Creator | RoleUse::Grantor => {
            Some("connect as a superuser or a member, or use -x to leave out privileges")
        }
        RoleUse::Grantee | RoleUse::Policy | RoleUse::Settings | RoleUse::Mapping => None,
    }
}

pub async fn check(
    session: &mut Session,
    entries: &[Entry],
    options: &Options,
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let rows = session
        .query("SELECT rolname, pg_has_role(oid, 'MEMBER') AS member FROM pg_roles")
        .await
        .context("listing the roles of the target")?;
    let mut roles = BTreeMap::new();
    for row in &rows {
        roles.insert(row.text("rolname")?, row.bool("member")?);
    }
    let in_statements = entries.iter().flat_map(named_by);
    let mut named: BTreeSet<(RoleUse, BString)> = in_statements
        .map(|named| (named.role_use, named.role))
        .collect();
    if !options.no_owner {
        named.extend(
            entries
                .iter()
                .filter(|entry| entry.owner_target.is_some())
                .filter_map(|entry| entry.owner.clone())
                .filter(|owner| !owner.is_empty())
                .map(|owner| (RoleUse::Owner, owner)),
        );
    }
    // what has the same way out is told once
    let mut told = BTreeSet::new();
    for (as_what, role) in named {
        let words = words(as_what);
        // what comes with the server nobody creates; of pg_database_owner the owner of a database is
        // a member, which we are of one that is still to be created
        let is_predefined = role.starts_with(b"pg_");
        let (message, hint) = match (roles.get(&role), if_no_member(as_what)) {
            (Some(_), _) if is_predefined => continue,
            (None, _) if is_predefined => (
                format!("the server predefines no role \"{role}\", {words}"),
                "leave out what names it with -L, or privileges with -x",
            ),
            (None, _) => (
                format!("role \"{role}\", {words}, does not exist"),
                if_missing(as_what),
            ),
            (Some(false), Some(hint)) => (
                format!("you are no member of role \"{role}\", {words}"),
                hint,
            ),
            _ => continue,
        };
        if told.insert((role, hint)) {
            findings.push(will_fail(message, hint));
        }
    }
    Ok(())
}
