//! Roles that entries name: owners, and those in statements, where they can be exchanged for others.
//!
//! An entry holds statements as this program wrote them, so each place where a role stands is known by
//! the words before it; names in strings, and what looks like a role elsewhere, are left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bstr::{BString, ByteSlice};

use crate::archive::Entry;
use crate::sql;

/// As what a role is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RoleUse {
    Grantee,
    /// Of default privileges, which are those of its own objects.
    Creator,
    Grantor,
    Policy,
    Settings,
    /// Of a foreign server.
    Mapping,
    Owner,
}

/// A role in the statements of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedRole {
    pub role_use: RoleUse,
    pub role: BString,
    /// Where it stands among the bytes of the statements, with its quotes.
    pub span: Range<usize>,
}

/// Roles by old name, with the new one.
pub type RoleMap = BTreeMap<BString, BString>;

/// Exchanges roles wherever an entry names them. Each old name that was found is noted.
pub fn map_roles(entry: &mut Entry, map: &RoleMap, found: &mut BTreeSet<BString>) {
    let mut create = BString::default();
    let mut copied = 0;
    for NamedRole {
        role_use,
        role,
        span,
    } in named_by(entry)
    {
        let Some(new) = map.get(&role) else {
            continue;
        };
        create.extend_from_slice(&entry.create[copied..span.start]);
        create.extend_from_slice(&sql::identifier(new));
        copied = span.end;
        if role_use == RoleUse::Mapping {
            let tag = sql!("USER MAPPING {} SERVER ", role);
            if let Some(server) = entry.name.strip_prefix(tag.as_slice()) {
                entry.name = sql!("USER MAPPING {} SERVER {}", new, server);
            }
        }
        found.insert(role);
    }
    create.extend_from_slice(&entry.create[copied..]);
    entry.create = create;
    if let Some(owner) = &mut entry.owner
        && let Some(new) = map.get(owner)
    {
        // of many large objects, each statement but the last stands within the target of that
        let between = |role: &BString| sql!(" OWNER TO {};\nALTER ", sql::identifier(role));
        if let Some(target) = &mut entry.owner_target {
            *target = target.replace(between(owner), between(new)).into();
        }
        found.insert(std::mem::replace(owner, new.clone()));
    }
}

/// Roles that an entry's statements name, in their order.
pub fn named_by(entry: &Entry) -> Vec<NamedRole> {
    let mut found = Vec::new();
    let words = words(&entry.create);
    let is = |at: usize, wanted: &str| matches!(words.get(at), Some((Word::Bare(word), _)) if word == wanted);
    let mut name = |role_use: RoleUse, at: usize| match words.get(at) {
        Some((Word::Bare(word), _)) if word == "PUBLIC" => {}
        Some((Word::Bare(word) | Word::Quoted(word), span)) => found.push(NamedRole {
            role_use,
            role: word.clone(),
            span: span.clone(),
        }),
        _ => {}
    };
    for at in 0..words.len() {
        match entry.kind.as_str() {
            "ACL" | "DEFAULT ACL" if is(at, "TO") || is(at, "FROM") => {
                name(RoleUse::Grantee, at + 1);
            }
            "ACL" if is(at, "SET") && is(at + 1, "ROLE") => name(RoleUse::Grantor, at + 2),
            "DEFAULT ACL" if is(at, "FOR") && is(at + 1, "ROLE") => name(RoleUse::Creator, at + 2),
            "DATABASE PROPERTIES" if is(at, "ALTER") && is(at + 1, "ROLE") => {
                name(RoleUse::Settings, at + 2);
            }
            "USER MAPPING" if is(at, "FOR") => {
                name(RoleUse::Mapping, at + 1);
                // what is left are options
                break;
            }
            "POLICY" if is(at, "TO") => {
                let mut role = at + 1;
                name(RoleUse::Policy, role);
                while matches!(words.get(role + 1), Some((Word::Comma, _))) {
                    role += 2;
                    name(RoleUse::Policy, role);
                }
                // what is left are expressions
                break;
            }
            "POLICY" if is(at, "USING") || is(at, "WITH") => break,
            _ => {}
        }
    }
    found
}

/// Names that are no keywords are written in small letters, or in quotes.
#[derive(Debug, PartialEq, Eq)]
enum Word {
    Bare(BString),
    Quoted(BString),
    Comma,
    Other,
}

fn words(text: &[u8]) -> Vec<(Word, Range<usize>)> {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x80..);
    let mut words = Vec::new();
    let mut rest = text;
    while let Some(&first) = rest.first() {
        let start = text.len() - rest.len();
        let length = rest.iter().take_while(|byte| is_word(byte)).count();
        let word = if length > 0 {
            let word = Word::Bare(rest[..length].into());
            rest = &rest[length..];
            word
        } else if matches!(first, b'"' | b'\'') {
            let mut name = BString::default();
            loop {
                let quoted = rest.get(1..).unwrap_or_default();
                let end = quoted.find_byte(first).unwrap_or(quoted.len());
                name.extend_from_slice(&quoted[..end]);
                rest = quoted.get(end + 1..).unwrap_or_default();
                if rest.first() != Some(&first) {
                    break;
                }
                name.push(first);
            }
            match first {
                b'"' => Word::Quoted(name),
                _ => Word::Other,
            }
        } else {
            rest = &rest[1..];
            match first {
                _ if first.is_ascii_whitespace() => continue,
                b',' => Word::Comma,
                _ => Word::Other,
            }
        };
        words.push((word, start..text.len() - rest.len()));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::{EntryId, Pass, Section};

    fn entry_of(kind: &str, create: &str) -> Entry {
        Entry {
            pass: Pass::Privileges,
            create: create.into(),
            ..Entry::new(EntryId(1), kind, Section::PostData)
        }
    }

    fn named(kind: &str, create: &str) -> Vec<(RoleUse, String)> {
        let entry = entry_of(kind, create);
        let found = named_by(&entry).into_iter();
        found
            .map(|named| (named.role_use, named.role.to_string()))
            .collect()
    }

    fn all(as_what: RoleUse, roles: &[&str]) -> Vec<(RoleUse, String)> {
        roles
            .iter()
            .map(|role| (as_what, (*role).to_owned()))
            .collect()
    }

    #[test]
    fn grantees_of_statements() {
        let statements = "GRANT SELECT ON TABLE public.\"FROM x\" TO plain WITH GRANT OPTION;\n\
            REVOKE ALL ON SCHEMA s FROM PUBLIC;\n\
            GRANT SELECT(\"TO\") ON TABLE s.role TO \"Fixture \"\"Odd\"\" role\";\n\
            GRANT ALL ON TABLE s.t TO \"PUBLIC\";\n\
            GRANT USAGE ON SCHEMA s TO \"b\u{fc}cher\";\n";
        assert_eq!(
            named("ACL", statements),
            all(
                RoleUse::Grantee,
                &["plain", "Fixture \"Odd\" role", "PUBLIC", "b\u{fc}cher"]
            )
        );
        assert!(named("ACL", "GRANT SELECT ON t TO").is_empty());
        assert_eq!(
            named("ACL", "GRANT SELECT ON t TO \"open"),
            all(RoleUse::Grantee, &["open"])
        );
    }

    #[test]
    fn roles_in_other_places() {
        assert_eq!(
            named(
                "ACL",
                "SET ROLE giver;\nGRANT SELECT ON TABLE t TO taker;\nRESET ROLE;\n"
            ),
            [
                all(RoleUse::Grantor, &["giver"]),
                all(RoleUse::Grantee, &["taker"])
            ]
            .concat()
        );
        assert_eq!(
            named(
                "DEFAULT ACL",
                "ALTER DEFAULT PRIVILEGES FOR ROLE \"Maker\" IN SCHEMA s GRANT SELECT ON TABLES TO r;\n"
            ),
            [
                all(RoleUse::Creator, &["Maker"]),
                all(RoleUse::Grantee, &["r"])
            ]
            .concat()
        );
        assert_eq!(
            named(
                "POLICY",
                "CREATE POLICY \"TO x\" ON s.t FOR SELECT TO a, \"B, c\" USING ((x = 'a TO d'::text));\n"
            ),
            all(RoleUse::Policy, &["a", "B, c"])
        );
        assert!(named("POLICY", "CREATE POLICY p ON t USING (EXTRACT(YEAR TO x));").is_empty());
        assert_eq!(
            named(
                "DATABASE PROPERTIES",
                "ALTER DATABASE d SET work_mem TO '4MB';\n\
                 ALTER ROLE r IN DATABASE d SET \"search.path\" TO 'it''s ALTER ROLE x', 'y';\n"
            ),
            all(RoleUse::Settings, &["r"])
        );
    }

    #[test]
    fn roles_are_exchanged_where_they_stand() {
        let map: RoleMap = [("a", "B \"b"), ("b", "a"), ("public", "everybody")]
            .map(|(old, new)| (old.into(), new.into()))
            .into();
        let mapped = |kind: &str, create: &str| {
            let mut entry = entry_of(kind, create);
            map_roles(&mut entry, &map, &mut BTreeSet::new());
            entry.create.to_string()
        };
        for (kind, create, expected) in [
            (
                "ACL",
                "SET ROLE a;\nGRANT SELECT(a) ON TABLE a.b TO b WITH GRANT OPTION;\nRESET ROLE;\n\
                 REVOKE ALL ON TABLE a.\"TO\" FROM PUBLIC;\nGRANT ALL ON TABLE a.b TO public;\n",
                "SET ROLE \"B \"\"b\";\nGRANT SELECT(a) ON TABLE a.b TO a WITH GRANT OPTION;\nRESET ROLE;\n\
                 REVOKE ALL ON TABLE a.\"TO\" FROM PUBLIC;\nGRANT ALL ON TABLE a.b TO everybody;\n",
            ),
            (
                "DEFAULT ACL",
                "ALTER DEFAULT PRIVILEGES FOR ROLE a IN SCHEMA a GRANT SELECT ON TABLES TO b;\n",
                "ALTER DEFAULT PRIVILEGES FOR ROLE \"B \"\"b\" IN SCHEMA a GRANT SELECT ON TABLES TO a;\n",
            ),
            (
                "POLICY",
                "CREATE POLICY a ON a.b FOR SELECT TO a, b USING ((a = 'TO a'::text));\n",
                "CREATE POLICY a ON a.b FOR SELECT TO \"B \"\"b\", a USING ((a = 'TO a'::text));\n",
            ),
            (
                "DATABASE PROPERTIES",
                "ALTER ROLE b IN DATABASE a SET search_path TO 'a';\n",
                "ALTER ROLE a IN DATABASE a SET search_path TO 'a';\n",
            ),
            (
                "USER MAPPING",
                "CREATE USER MAPPING FOR a SERVER a OPTIONS (\n    user 'FOR a'\n);\n",
                "CREATE USER MAPPING FOR \"B \"\"b\" SERVER a OPTIONS (\n    user 'FOR a'\n);\n",
            ),
            (
                "FUNCTION",
                "CREATE FUNCTION a.b() TO a",
                "CREATE FUNCTION a.b() TO a",
            ),
        ] {
            assert_eq!(mapped(kind, create), expected);
        }
        let mut mapping = entry_of("USER MAPPING", "CREATE USER MAPPING FOR b SERVER s;\n");
        mapping.name = "USER MAPPING b SERVER s".into();
        mapping.owner = Some("a".into());
        let mut found = BTreeSet::new();
        map_roles(&mut mapping, &map, &mut found);
        assert_eq!(mapping.name, "USER MAPPING a SERVER s");
        assert_eq!(mapping.owner, Some("B \"b".into()));
        assert_eq!(found, ["a", "b"].map(BString::from).into());
    }
}
