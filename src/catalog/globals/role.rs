//! Roles, with their attributes, passwords and comments.

use bstr::{BString, ByteSlice};

use super::{Global, Reader};
use crate::archive::Entry;
use crate::error::Result;
use crate::sql;

pub(super) const DESCRIPTOR: &str = "ROLE";

/// Whether the catalog that has them may be read: pg_roles shows none.
pub(super) async fn can_read_passwords(reader: &mut Reader<'_>) -> Result<bool> {
    let rows = reader
        .query(
            "privileges on pg_authid",
            "SELECT has_table_privilege('pg_catalog.pg_authid', 'SELECT') AS may",
        )
        .await?;
    rows.only()?.bool("may")
}

pub(super) async fn read(reader: &mut Reader<'_>, passwords: bool) -> Result<Vec<Global>> {
    let (catalog, password) = match passwords {
        true => ("pg_authid", "r.rolpassword"),
        false => ("pg_roles", "NULL::text"),
    };
    let rows = reader
        .query(
            "roles",
            &format!(
                "SELECT r.rolname AS name, r.rolsuper, r.rolinherit, r.rolcreaterole, r.rolcreatedb,
                        r.rolcanlogin, r.rolreplication, r.rolbypassrls, r.rolconnlimit,
                        r.rolvaliduntil, {password} AS password, d.description AS comment
                 FROM {catalog} r
                 LEFT JOIN pg_shdescription d
                        ON d.objoid = r.oid AND d.classoid = 'pg_authid'::regclass
                 WHERE r.rolname !~ '^pg_'
                 ORDER BY r.rolname COLLATE \"C\""
            ),
        )
        .await?;
    let mut roles = Vec::new();
    for row in &rows {
        let tag = row.text("name")?;
        let name = sql::identifier(&tag);
        let mut create = sql!("CREATE ROLE {};\nALTER ROLE {} WITH", name, name);
        for (column, attribute) in ATTRIBUTES {
            let no = if row.bool(column)? { "" } else { "NO" };
            create.extend_from_slice(&sql!(" {}{}", no, attribute));
        }
        let limit = row.string("rolconnlimit")?;
        create.extend_from_slice(&sql!(" CONNECTION LIMIT {}", limit));
        if let Some(until) = row.optional("rolvaliduntil")? {
            create.extend_from_slice(&sql!(" VALID UNTIL {}", sql::literal(until)));
        }
        create.extend_from_slice(b";\n");
        if let Some(password) = row.optional("password")? {
            create.extend_from_slice(&password_statement(&tag, &sql::literal(password)));
        }
        let comment = row.optional_text("comment")?;
        roles.push(Global {
            descriptor: DESCRIPTOR,
            tag,
            create,
            comment: comment.map(|text| (sql!("ROLE {}", name), text)),
            ..Global::default()
        });
    }
    Ok(roles)
}

/// The columns of pg_authid, and what CREATE ROLE calls them.
const ATTRIBUTES: [(&str, &str); 7] = [
    ("rolsuper", "SUPERUSER"),
    ("rolinherit", "INHERIT"),
    ("rolcreaterole", "CREATEROLE"),
    ("rolcreatedb", "CREATEDB"),
    ("rolcanlogin", "LOGIN"),
    ("rolreplication", "REPLICATION"),
    ("rolbypassrls", "BYPASSRLS"),
];

/// A statement of its own, so that it can be left out and hidden. `value`: a literal, or NULL.
pub fn password_statement(role: &BString, value: &[u8]) -> BString {
    sql!("ALTER ROLE {} PASSWORD {};\n", sql::identifier(role), value)
}

/// Whether one of the statements of a role's entry sets its password.
pub fn is_password(role: &BString, statement: &[u8]) -> bool {
    statement.starts_with(&sql!("ALTER ROLE {} PASSWORD ", sql::identifier(role)))
}

/// What may be shown of a definition: passwords are hidden.
pub fn without_passwords(entry: &Entry) -> BString {
    if entry.kind != DESCRIPTOR {
        return entry.create.clone();
    }
    let mut shown = BString::default();
    for statement in sql::statements(&entry.create) {
        if is_password(&entry.name, statement) {
            shown.extend_from_slice(&password_statement(&entry.name, b"'********'"));
        } else if statement.contains_str("PASSWORD") && !is_of_this_program(entry, statement) {
            shown.extend_from_slice(b"-- a statement that may hold a password is not shown\n");
        } else {
            shown.extend_from_slice(statement);
            shown.push(b'\n');
        }
    }
    shown
}

/// Names may hold the word as well; a forged archive may hold anything.
fn is_of_this_program(entry: &Entry, statement: &[u8]) -> bool {
    let name = sql::identifier(&entry.name);
    let rest = statement
        .strip_prefix(b"CREATE ROLE ")
        .or_else(|| statement.strip_prefix(b"ALTER ROLE "))
        .and_then(|rest| rest.strip_prefix(name.as_slice()));
    rest.is_some_and(|rest| !rest.contains_str("PASSWORD"))
}
