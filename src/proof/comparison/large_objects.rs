//! Owners and privileges of large objects, one by one: entries hold them in batches, and one
//! object less would make every batch another.

use std::collections::{BTreeMap, HashMap};

use bstr::{BString, ByteSlice};

use super::finding::{Finding, FindingKind};
use super::matching::text_difference;
use crate::archive::{Entry, EntryId};
use crate::error::{Error, Result};
use crate::sql;

/// Large objects of equal owner and privileges.
#[derive(Debug)]
struct Group<'a> {
    owner: Option<&'a BString>,
    /// Statements, with a star where the objects are named.
    privileges: BString,
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
    pub fn of(entries: &'a [Entry]) -> Result<Metadata<'a>> {
        let mut metadata = Metadata::default();
        let mut group_of: HashMap<EntryId, (usize, BString)> = HashMap::new();
        for entry in entries.iter().filter(|entry| is_metadata(entry)) {
            if entry.kind == "ACL" {
                let group = entry
                    .dependencies
                    .iter()
                    .find_map(|id| group_of.get(id))
                    .and_then(|(group, list)| Some((metadata.groups.get_mut(*group)?, list)));
                if let Some((group, list)) = group {
                    group.privileges = entry.create.replace(list.as_slice(), "*").into();
                }
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
                privileges: BString::default(),
            });
            let list = sql::join(oids.iter().map(u32::to_string), ", ");
            group_of.insert(entry.id, (group, list));
            metadata
                .objects
                .extend(oids.into_iter().map(|oid| (oid, group)));
        }
        metadata.objects.sort_unstable();
        Ok(metadata)
    }

    pub fn count(&self) -> u64 {
        self.objects.len() as u64
    }

    fn group(&self, oid: u32) -> Option<&Group<'a>> {
        let at = self
            .objects
            .binary_search_by_key(&oid, |(oid, _)| *oid)
            .ok()?;
        self.groups.get(self.objects.get(at)?.1)
    }

    /// Objects with equal findings share one.
    pub fn compare(&self, found: &Metadata<'_>, options: Wanted) -> Vec<Finding> {
        let mut missing = Vec::new();
        let mut unexpected = Vec::new();
        let mut owners: BTreeMap<(String, String), Vec<u32>> = BTreeMap::new();
        let mut privileges: BTreeMap<(&BString, &BString), Vec<u32>> = BTreeMap::new();
        for &(oid, group) in &self.objects {
            let (Some(left), Some(right)) = (self.groups.get(group), found.group(oid)) else {
                missing.push(oid);
                continue;
            };
            if options.owners && left.owner != right.owner {
                owners
                    .entry((name(left.owner), name(right.owner)))
                    .or_default()
                    .push(oid);
            }
            if options.privileges && left.privileges != right.privileges {
                privileges
                    .entry((&left.privileges, &right.privileges))
                    .or_default()
                    .push(oid);
            }
        }
        for &(oid, _) in &found.objects {
            if self.group(oid).is_none() {
                unexpected.push(oid);
            }
        }
        let mut findings = Vec::new();
        let mut add = |kind, oids: &[u32], detail: String| {
            if !oids.is_empty() {
                findings.push(Finding::new(kind, objects(oids), detail));
            }
        };
        add(FindingKind::Missing, &missing, String::new());
        for ((expected, found), oids) in owners {
            add(FindingKind::Owner { expected, found }, &oids, String::new());
        }
        for ((expected, found), oids) in privileges {
            let detail = text_difference(expected, found, true);
            add(FindingKind::Different, &oids, detail);
        }
        if options.unexpected {
            add(FindingKind::Unexpected, &unexpected, String::new());
        }
        findings
    }
}

/// What is compared of large objects.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    pub owners: bool,
    pub privileges: bool,
    pub unexpected: bool,
}

fn name(owner: Option<&BString>) -> String {
    owner.map_or_else(
        || "nobody".to_owned(),
        |owner| sql::identifier(owner).to_string(),
    )
}

/// Named in one finding; the rest are counted.
const NAMED: usize = 10;

fn objects(oids: &[u32]) -> String {
    let mut text = String::from(if oids.len() == 1 {
        "LARGE OBJECT "
    } else {
        "LARGE OBJECTS "
    });
    let named: Vec<String> = oids.iter().take(NAMED).map(u32::to_string).collect();
    text.push_str(&named.join(", "));
    if oids.len() > NAMED {
        text.push_str(&format!(" and {} more", oids.len() - NAMED));
    }
    text
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
    use crate::archive::{Contents, Pass, Section};

    fn entry(id: u32, kind: &str, name: &str, create: &str, needed: &[u32]) -> Entry {
        Entry {
            id: EntryId(id),
            kind: kind.to_owned(),
            section: Section::Data,
            pass: Pass::Main,
            schema: None,
            name: name.into(),
            relation: None,
            owner: Some("alice".into()),
            owner_target: None,
            tablespace: None,
            access_method: None,
            create: create.into(),
            drop: BString::default(),
            drop_if_exists: BString::default(),
            dependencies: needed.iter().copied().map(EntryId).collect(),
            contents: Contents::None,
            load_into: None,
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

    #[test]
    fn one_object_less_is_one_finding() {
        let (left, right) = (all("1,2,3", "SELECT"), all("1,3,7", "SELECT"));
        let wanted = Wanted {
            owners: true,
            privileges: true,
            unexpected: true,
        };
        let left = Metadata::of(&left).unwrap();
        let right = Metadata::of(&right).unwrap();
        let found: Vec<String> = left
            .compare(&right, wanted)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            found,
            [
                "LARGE OBJECT 2: missing in the database",
                "LARGE OBJECT 7: not in the archive"
            ]
        );
        assert_eq!(left.compare(&left, wanted), []);
        let lost = all("1,2,3", "");
        let lost = Metadata::of(&lost).unwrap();
        assert_eq!(
            left.compare(&lost, wanted)[0].to_string(),
            "LARGE OBJECTS 1, 2, 3: different: the database lacks \"GRANT SELECT ON LARGE OBJECT * TO bob;\""
        );
    }
}
