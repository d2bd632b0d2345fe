//! What the kinds of types share.

use bstr::BString;

use crate::archive::Section;
use crate::catalog::object::{Address, Definition, Identity, class};
use crate::catalog::reader::{Reader, USER_SCHEMAS};
use crate::error::Result;
use crate::postgres::{Oid, Row};
use crate::sql;

/// The query for types `t` of one kind: `columns` and `joins` beside the usual, `condition` for the
/// kind. System types come along where their ACL was set.
pub(super) fn query(columns: &str, joins: &str, condition: &str) -> String {
    format!(
        "SELECT t.oid, t.typname AS name, n.nspname AS schema,
                pg_get_userbyid(t.typowner) AS owner, t.typacl AS acl,
                acldefault('T', t.typowner) AS acldefault, t.typarray, {columns}
         FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace {joins}
         WHERE {condition}
           AND (({USER_SCHEMAS}) OR (n.nspname = 'pg_catalog' AND t.typacl IS NOT NULL))"
    )
}

/// A type's identity, if the type is wanted.
pub(super) fn identity(reader: &Reader<'_>, row: &Row) -> Result<Option<Identity>> {
    let mut identity = Identity::in_schema(class::TYPE, row)?.with_privileges(reader, row)?;
    Ok(reader.admit(&mut identity).then_some(identity))
}

/// The array type that every type brings along.
pub(super) fn array_alias(row: &Row) -> Result<Vec<Address>> {
    let array: Oid = row.number("typarray")?;
    Ok(if array == 0 {
        Vec::new()
    } else {
        vec![Address::new(class::TYPE, array)]
    })
}

/// `descriptor` is TYPE or DOMAIN; GRANT takes TYPE for both.
pub(super) fn definition(
    descriptor: &'static str,
    identity: &Identity,
    create: BString,
) -> Definition {
    let name = identity.sql();
    Definition::new(descriptor, Section::PreData, identity.name.clone(), create)
        .target(sql!("{} {}", descriptor, name))
        .privileges("TYPE", name)
}

/// ` COLLATE schema.name` from two columns that are NULL where the collation is the type's own.
pub(super) fn collate(row: &Row, schema: &str, name: &str) -> Result<BString> {
    Ok(match (row.optional(schema)?, row.optional(name)?) {
        (Some(schema), Some(name)) => sql!(" COLLATE {}", sql::qualified(schema, name)),
        _ => BString::default(),
    })
}
