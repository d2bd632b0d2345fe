//! What a definition of an older server must say on a newer one to mean the same.

use bstr::BString;

use super::SUPPORTED;
use crate::archive::Entry;
use crate::postgres::ServerVersion;
use crate::sql;

/// Changes a definition that was read from a server of version `from` for one of version `to`.
pub fn adapt(entry: &mut Entry, from: ServerVersion, to: ServerVersion) {
    if entry.kind == "ROLE MEMBERSHIP" && from.at_least(16) != to.at_least(16) {
        // before 16 there are no options but ADMIN, and grantors count for nothing
        if let Some(at) = sql::find_unquoted(&entry.name, b" GRANTED BY ") {
            entry.name.truncate(at);
        }
        let has = |text: &[u8]| sql::find_unquoted(&entry.create, text).is_some();
        let admin = has(b" WITH ADMIN TRUE") || has(b" WITH ADMIN OPTION");
        let option = if admin { " WITH ADMIN OPTION" } else { "" };
        entry.create = sql!("GRANT {}{};\n", entry.name, option);
    }
    if entry.kind == "SUBSCRIPTION" && !from.at_least(16) && to.at_least(16) {
        // changes were always applied as the owner; since 16, as the owner of each table
        if let Some(start) = entry.create.strip_suffix(b");\n") {
            let mut create = BString::from(start);
            create.extend_from_slice(b", run_as_owner = true);\n");
            entry.create = create;
        }
    }
    // there is no function to take statistics back
    if entry.kind == "STATISTICS DATA" && !to.at_least(18) {
        entry.create = match (&entry.schema, &entry.relation) {
            (Some(schema), Some(relation)) => {
                sql!("ANALYZE {};\n", sql::qualified(schema, relation))
            }
            _ => BString::default(),
        };
    }
}

/// The definition of an entry that was read from a server of version `from`, for every server: its
/// texts, each with the major version from which on it holds. The first holds for all before.
pub fn adaptations(entry: &Entry, from: ServerVersion) -> Vec<(u32, BString)> {
    let text = |to: ServerVersion| {
        let mut adapted = entry.clone();
        adapt(&mut adapted, from, to);
        adapted.create
    };
    let mut texts = vec![(0, text(from))];
    for major in from.major() + 1..=*SUPPORTED.end() {
        let text = text(ServerVersion(major * 10_000));
        if texts.last().is_some_and(|(_, last)| *last != text) {
            texts.push((major, text));
        }
    }
    texts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::{EntryId, Section};

    #[test]
    fn memberships_of_either_side_of_16() {
        let name = "\"x GRANTED BY y\" TO m GRANTED BY g";
        let adapted = |create: &str, from: u32, to: u32| {
            let mut entry = Entry {
                name: name.into(),
                create: create.into(),
                ..Entry::new(EntryId(1), "ROLE MEMBERSHIP", Section::PreData)
            };
            adapt(
                &mut entry,
                ServerVersion(from * 10_000),
                ServerVersion(to * 10_000),
            );
            (entry.name.to_string(), entry.create.to_string())
        };
        let newer =
            format!("GRANT {name} WITH ADMIN TRUE, INHERIT FALSE, SET TRUE GRANTED BY g;\n");
        let short = "\"x GRANTED BY y\" TO m";
        assert_eq!(adapted(&newer, 18, 16), (name.to_owned(), newer.clone()));
        assert_eq!(
            adapted(&newer, 18, 15),
            (
                short.to_owned(),
                format!("GRANT {short} WITH ADMIN OPTION;\n")
            )
        );
        assert_eq!(
            adapted("GRANT \"x GRANTED BY y\" TO m GRANTED BY g;\n", 15, 18),
            (short.to_owned(), format!("GRANT {short};\n"))
        );
    }
}
