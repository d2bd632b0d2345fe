//! Owners and privileges of large objects, one by one: entries hold them in batches, and one
//! object less would make every batch another.

use std::collections::{BTreeMap, HashMap};

use bstr::{BStr, BString, ByteSlice};

use super::difference::Line;
use super::finding::{Finding, FindingKind, Reason};
use super::privileges::difference;
use crate::archive::{Entry, EntryId};
use crate::catalog::Privileges;
use crate::error::{Error, Result};
use crate::proof::Listed;
use crate::sql;

/// Large objects of equal owner and privileges.
#[derive(Debug)]
struct Group<'a> {
    owner: Option<&'a BString>,
    /// Statements, where the archive has any.
    statements: &'a BStr,
    /// What the database's catalogs have.
    privileges: Option<&'a Privileges>,
}

#[derive(Debug, Default)]
pub struct Metadata<'a> {
    groups: Vec<Group<'a>>,
    /// Each object's OID and group, ascending.
    objects: Vec<(u32, usize)>,
}

/// Whether an entry is about large objects' existence, owner or privileges.
pub fn is_metadata(entry: &Entry) -> bool {
    entry.kind == "BLOB METADATA"
        || (entry.kind == "ACL" && entry.name.starts_with(b"LARGE OBJECT "))
}

impl<'a> Metadata<'a> {
    /// `privileges` are the catalogs'; of an archive there are none.
    pub fn of(entries: &'a [Entry], privileges: &'a [Privileges]) -> Result<Metadata<'a>> {
        let mut metadata = Metadata::default();
        let mut group_of: HashMap<EntryId, usize> = HashMap::new();
        for entry in entries.iter().filter(|entry| is_metadata(entry)) {
            if entry.kind == "ACL" {
                let group = entry.dependencies.iter().find_map(|id| group_of.get(id));
                let group = group
                    .and_then(|group| metadata.groups.get_mut(*group))
                    .ok_or_else(|| {
                        Error::new(format!(
                            "the privileges of {} belong to no large objects of the archive",
                            entry.name
                        ))
                    })?;
                group.statements = entry.create.as_bstr();
                continue;
            }
            let oids = oids(&entry.create).ok_or_else(|| {
                Error::new(format!(
                    "the entry of large objects {} cannot be understood",
                    entry.name
                ))
            })?;
            let group = metadata.groups.len();
            metadata.groups.push(Group {
                owner: entry.owner.as_ref(),
                statements: BStr::new(""),
                privileges: None,
            });
            group_of.insert(entry.id, group);
            metadata
                .objects
                .extend(oids.into_iter().map(|oid| (oid, group)));
        }
        for object in privileges {
            let group = object.entry.and_then(|entry| group_of.get(&entry));
            if let Some(group) = group.and_then(|group| metadata.groups.get_mut(*group)) {
                group.privileges = Some(object);
            }
        }
        metadata.objects.sort_unstable();
        Ok(metadata)
    }

    pub fn count(&self) -> u64 {
        self.objects.len() as u64
    }

    pub fn has(&self, oid: u32) -> bool {
        self.position(oid).is_some()
    }

    /// Its group's position.
    fn position(&self, oid: u32) -> Option<usize> {
        let at = self
            .objects
            .binary_search_by_key(&oid, |(oid, _)| *oid)
            .ok()?;
        Some(self.objects.get(at)?.1)
    }

    /// Objects with equal findings share one.
    pub fn compare(&self, found: &Metadata<'_>, options: Wanted) -> Vec<Finding> {
        let mut missing = Vec::new();
        let mut unexpected = Vec::new();
        let mut owners: BTreeMap<(String, String), Vec<u32>> = BTreeMap::new();
        let mut privileges: BTreeMap<(usize, usize), Vec<u32>> = BTreeMap::new();
        for &(oid, left) in &self.objects {
            let Some(right) = found.position(oid) else {
                missing.push(oid);
                continue;
            };
            let expected_owner = self.groups.get(left).and_then(|group| group.owner);
            let found_owner = found.groups.get(right).and_then(|group| group.owner);
            if options.owners && expected_owner != found_owner {
                owners
                    .entry((name(expected_owner), name(found_owner)))
                    .or_default()
                    .push(oid);
            }
            if options.privileges {
                privileges.entry((left, right)).or_default().push(oid);
            }
        }
        for &(oid, _) in &found.objects {
            if !self.has(oid) {
                unexpected.push(oid);
            }
        }
        let mut findings = Vec::new();
        if !missing.is_empty() {
            findings.push(Finding::new(FindingKind::Missing, objects(&missing), ""));
        }
        findings.extend(owners.into_iter().map(|((expected, found), oids)| {
            Finding::new(FindingKind::Owner { expected, found }, objects(&oids), "")
        }));
        findings.extend(self.compare_privileges(found, privileges, options));
        if options.unexpected && !unexpected.is_empty() {
            findings.push(Finding::new(
                FindingKind::Unexpected,
                objects(&unexpected),
                "",
            ));
        }
        findings
    }

    /// Of objects by their groups in both.
    fn compare_privileges(
        &self,
        found: &Metadata<'_>,
        objects_of: BTreeMap<(usize, usize), Vec<u32>>,
        options: Wanted,
    ) -> Vec<Finding> {
        let mut by_difference: BTreeMap<Result<Vec<Line>, String>, Vec<u32>> = BTreeMap::new();
        for ((left, right), oids) in objects_of {
            let difference = match (self.groups.get(left), found.groups.get(right)) {
                (Some(left), Some(right)) => privileges_difference(left, right, options),
                _ => Err(Error::new("their privileges are unknown")),
            };
            let key = difference.map_err(|error| error.to_string());
            by_difference.entry(key).or_default().extend(oids);
        }
        by_difference
            .into_iter()
            .filter_map(|(difference, mut oids)| {
                oids.sort_unstable();
                match difference {
                    Ok(lines) if lines.is_empty() => None,
                    Ok(lines) => Some(Finding::different(objects(&oids), lines)),
                    Err(reason) => Some(Finding::not_comparable(
                        objects(&oids),
                        Reason::from(reason),
                    )),
                }
            })
            .collect()
    }
}

fn privileges_difference(
    expected: &Group<'_>,
    found: &Group<'_>,
    options: Wanted,
) -> Result<Vec<Line>> {
    let object = found
        .privileges
        .ok_or_else(|| Error::new("their privileges are unknown"))?;
    let former_owner = expected.owner.filter(|_| options.owners);
    difference(
        object,
        expected.statements,
        former_owner.map(|owner| owner.as_bstr()),
        options.major,
    )
}

/// What is compared of large objects.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    pub owners: bool,
    pub privileges: bool,
    pub unexpected: bool,
    /// Of the database's server.
    pub major: u32,
}

fn name(owner: Option<&BString>) -> String {
    owner.map_or_else(
        || "nobody".to_owned(),
        |owner| sql::identifier(owner).to_string(),
    )
}

pub fn objects(oids: &[u32]) -> Listed {
    listed("", oids)
}

pub fn contents(oids: &[u32]) -> Listed {
    listed("contents of ", oids)
}

fn listed(before: &str, oids: &[u32]) -> Listed {
    let plural = if oids.len() == 1 { "" } else { "S" };
    let names = oids.iter().map(u32::to_string).collect();
    Listed::new(format!("{before}LARGE OBJECT{plural}"), names)
}

/// The OIDs of `'{1,2}'` in a statement.
fn oids(create: &[u8]) -> Option<Vec<u32>> {
    let start = create.find("'{")? + 2;
    let rest = create.get(start..)?;
    let list = rest.get(..rest.find("}'")?)?;
    list.split_str(",")
        .map(|oid| oid.to_str().ok()?.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::Section;

    fn entry(id: u32, kind: &str, name: &str, create: &str, needed: &[u32]) -> Entry {
        Entry {
            name: name.into(),
            owner: Some("alice".into()),
            create: create.into(),
            dependencies: needed.iter().copied().map(EntryId).collect(),
            ..Entry::new(EntryId(id), kind, Section::Data)
        }
    }

    fn all(oids: &str, grant: &str) -> Vec<Entry> {
        let listed = oids.replace(',', ", ");
        let mut entries = vec![entry(
            1,
            "BLOB METADATA",
            "1..9",
            &format!("SELECT count(lo_create(o)) FROM unnest('{{{oids}}}'::oid[]) AS o;\n"),
            &[],
        )];
        if !grant.is_empty() {
            let text = format!("GRANT {grant} ON LARGE OBJECT {listed} TO bob;\n");
            entries.push(entry(2, "ACL", "LARGE OBJECT 1..9", &text, &[1]));
        }
        entries
    }

    fn privileges(acl: &str) -> Vec<Privileges> {
        vec![Privileges {
            entry: Some(EntryId(1)),
            kind: "ACL",
            schema: None,
            tag: "LARGE OBJECT 1..9".into(),
            relation: None,
            owner: "alice".into(),
            privileges_only: false,
            object_type: "LARGE OBJECT",
            name: "1, 2, 3".into(),
            acl: acl.into(),
            fresh: "{alice=rw/alice}".into(),
            columns: Vec::new(),
        }]
    }

    const WANTED: Wanted = Wanted {
        owners: true,
        privileges: true,
        unexpected: true,
        major: 18,
    };

    fn findings(expected: &[Entry], found: &[Entry], acl: &str) -> Vec<String> {
        let privileges = privileges(acl);
        let expected = Metadata::of(expected, &[]).unwrap();
        let found = Metadata::of(found, &privileges).unwrap();
        let findings = expected.compare(&found, WANTED);
        findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn one_object_less_is_one_finding() {
        let (left, right) = (all("1,2,3", "SELECT"), all("1,3,7", "SELECT"));
        let acl = "{alice=rw/alice,bob=r/alice}";
        assert_eq!(
            findings(&left, &right, acl),
            [
                "LARGE OBJECT 2: missing in the database",
                "LARGE OBJECT 7: not in the archive"
            ]
        );
        assert!(findings(&left, &left, acl).is_empty());
        assert_eq!(
            findings(&left, &all("1,2,3", ""), "{alice=rw/alice}"),
            [
                "LARGE OBJECTS 1, 2, 3: different (- archive, + database):\n  - GRANT SELECT ON LARGE OBJECT * TO bob;"
            ]
        );
    }

    #[test]
    fn privileges_that_belong_to_none_are_an_error() {
        let lone = [entry(2, "ACL", "LARGE OBJECT 1..9", "GRANT", &[1])];
        assert!(Metadata::of(&lone, &[]).is_err());
    }
}
