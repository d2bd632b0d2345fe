//! Privileges, compared by what they mean: what the archive's GRANT and REVOKE come to on the
//! database's own server, against what its catalogs have. So neither the order of grants counts, nor
//! what a newer server gives an owner by default.

use std::collections::{HashMap, VecDeque};

use bstr::{BStr, ByteSlice};

use super::difference::{Line, of_sets};
use super::finding::{Finding, FindingKind, Reason};
use super::matching::{
    Matched, by_id, first_line, is_implied, is_privileges, label, privileges_label,
};
use super::{Found, LAST, large_objects};
use crate::archive::Entry;
use crate::catalog::{Catalog, Privileges};
use crate::error::Result;
use crate::sql::granted::Granted;

/// What is compared of privileges.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Whether owners were restored, so that what is said of the archive's owner is said of whoever
    /// owns the object now.
    pub owners: bool,
    /// Those of the database itself.
    pub of_database: bool,
    /// Objects of which the archive says nothing.
    pub unexpected: bool,
}

/// What entry and object are by name; default privileges are also a role's.
type Key<'a> = (
    &'a str,
    Option<&'a BStr>,
    &'a BStr,
    Option<&'a BStr>,
    Option<&'a BStr>,
);

fn key_of_entry(entry: &Entry) -> Key<'_> {
    (
        &entry.kind,
        entry.schema.as_ref().map(|schema| schema.as_bstr()),
        entry.name.as_bstr(),
        entry.relation.as_ref().map(|relation| relation.as_bstr()),
        entry
            .owner
            .as_ref()
            .filter(|_| entry.kind == "DEFAULT ACL")
            .map(|owner| owner.as_bstr()),
    )
}

fn key_of_object(object: &Privileges) -> Key<'_> {
    (
        object.kind,
        object.schema.as_ref().map(|schema| schema.as_bstr()),
        object.tag.as_bstr(),
        object.relation.as_ref().map(|relation| relation.as_bstr()),
        (object.kind == "DEFAULT ACL").then(|| object.owner.as_bstr()),
    )
}

/// Findings, and how many entries were compared. What belongs to objects that are missing or
/// unexpected themselves is passed over.
pub fn compare(
    expected: &[Entry],
    catalog: &Catalog,
    matched: &Matched<'_>,
    wanted: Wanted,
) -> (Found, u64) {
    let major = catalog.version.major();
    let missing = by_id(&matched.missing);
    let unexpected = by_id(&matched.unexpected);
    let mut open = by_name(catalog, wanted);
    let mut found = Found::new();
    let mut compared = 0;
    let is_compared = |entry: &&Entry| {
        is_privileges(entry)
            && !large_objects::is_metadata(entry)
            && (wanted.of_database || !entry.is_of_database())
    };
    for entry in expected.iter().filter(is_compared) {
        let object = open
            .get_mut(&key_of_entry(entry))
            .and_then(VecDeque::pop_front);
        let finding = match object {
            Some((_, object)) => {
                compared += 1;
                of_entry(entry, object, wanted, major)
            }
            None if is_implied(entry, &missing) => None,
            None => Some(Finding::new(
                FindingKind::Missing,
                label(entry),
                first_line(entry),
            )),
        };
        found.extend(finding.map(|finding| (entry.id, finding)));
    }
    let mut rest: Vec<_> = open.into_values().flatten().collect();
    rest.sort_by_key(|(position, _)| *position);
    for (_, object) in rest {
        let of_unexpected = object
            .entry
            .is_some_and(|entry| unexpected.contains_key(&entry));
        let alone = object.privileges_only || object.kind == "DEFAULT ACL";
        if !(of_unexpected || (alone && !wanted.unexpected)) {
            found.extend(of_rest(object, major).map(|finding| (LAST, finding)));
        }
    }
    (found, compared)
}

/// The database's objects with their positions. Several may share a name.
fn by_name(catalog: &Catalog, wanted: Wanted) -> HashMap<Key<'_>, VecDeque<(usize, &Privileges)>> {
    let mut by_name: HashMap<Key<'_>, VecDeque<_>> = HashMap::new();
    for (position, object) in catalog.privileges.iter().enumerate() {
        let passed_over = match object.object_type {
            "LARGE OBJECT" => true,
            "DATABASE" => !wanted.of_database,
            _ => false,
        };
        if !passed_over {
            let same_name = by_name.entry(key_of_object(object)).or_default();
            same_name.push_back((position, object));
        }
    }
    by_name
}

fn of_entry(entry: &Entry, object: &Privileges, wanted: Wanted, major: u32) -> Option<Finding> {
    let former_owner = entry
        .owner
        .as_ref()
        .filter(|_| wanted.owners && !object.privileges_only)
        .map(|owner| owner.as_bstr());
    let difference = difference(object, entry.create.as_bstr(), former_owner, major);
    verdict(difference, label(entry))
}

/// Of an object that no entry is about the archive says that nothing was granted or revoked.
fn of_rest(object: &Privileges, major: u32) -> Option<Finding> {
    let label = privileges_label(
        object.kind,
        object.schema.as_ref(),
        &object.tag,
        Some(&object.owner),
    );
    verdict(difference(object, BStr::new(""), None, major), label)
}

fn verdict(difference: Result<Vec<Line>>, label: String) -> Option<Finding> {
    match difference {
        Ok(lines) if lines.is_empty() => None,
        Ok(lines) => Some(Finding::different(label, lines)),
        Err(error) => Some(Finding::not_comparable(
            label,
            Reason::from(error.to_string()),
        )),
    }
}

/// In which way an object's privileges are others than what the statements come to.
pub fn difference(
    object: &Privileges,
    statements: &BStr,
    former_owner: Option<&BStr>,
    major: u32,
) -> Result<Vec<Line>> {
    if statements.is_empty() && object.acl == object.fresh && object.columns.is_empty() {
        return Ok(Vec::new());
    }
    let nothing = Granted::nothing(object.object_type, object.owner.as_bstr(), major);
    let mut expected = nothing.clone().with_acl(object.fresh.as_bstr(), None)?;
    let mut found = nothing.with_acl(object.acl.as_bstr(), None)?;
    for own in &object.columns {
        let column = Some(own.column.as_bstr());
        expected = expected.with_acl(own.fresh.as_bstr(), column)?;
        found = found.with_acl(own.acl.as_bstr(), column)?;
    }
    expected.replay(statements, former_owner)?;
    if expected == found {
        return Ok(Vec::new());
    }
    // one name for all of a batch of large objects
    let name = match object.object_type {
        "LARGE OBJECT" => BStr::new("*"),
        _ => object.name.as_bstr(),
    };
    let (archive, database) = (expected.beyond(&found, name), found.beyond(&expected, name));
    Ok(of_sets(
        archive.iter().map(|grant| grant.as_slice()),
        database.iter().map(|grant| grant.as_slice()),
    ))
}
