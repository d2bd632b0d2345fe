//! Roles that an archive names: the target must have them, and for some we must be members.

use std::collections::{BTreeMap, BTreeSet};

use bstr::{BString, ByteSlice};

use super::{Finding, will_fail};
use crate::archive::Entry;
use crate::error::{Result, ResultExt};
use crate::postgres::Session;
use crate::restore::Options;

/// As what a role is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Use {
    Grantee,
    /// Of default privileges, which are those of its own objects.
    Creator,
    Grantor,
    Policy,
    Settings,
    Owner,
}

impl Use {
    fn words(self) -> &'static str {
        match self {
            Use::Grantee => "which has privileges",
            Use::Creator => "which has default privileges",
            Use::Grantor => "which granted privileges",
            Use::Policy => "which a policy is for",
            Use::Settings => "which has settings in the database",
            Use::Owner => "an owner of objects",
        }
    }

    fn if_missing(self) -> &'static str {
        match self {
            Use::Grantee | Use::Creator | Use::Grantor => {
                "create it first, or use -x to leave out privileges"
            }
            Use::Policy => "create it first, or leave out the policy with -L",
            Use::Settings => "create it first, or leave out DATABASE PROPERTIES with -L",
            Use::Owner => "create it first, or use -O to let you own everything",
        }
    }

    /// None where it takes no membership.
    fn if_no_member(self) -> Option<&'static str> {
        match self {
            Use::Owner => Some("connect as a superuser or a member, or use -O"),
            Use::Creator | Use::Grantor => {
                Some("connect as a superuser or a member, or use -x to leave out privileges")
            }
            Use::Grantee | Use::Policy | Use::Settings => None,
        }
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
    let mut named: BTreeSet<(Use, BString)> = entries.iter().flat_map(named_by).collect();
    if !options.no_owner {
        named.extend(
            entries
                .iter()
                .filter(|entry| entry.owner_target.is_some())
                .filter_map(|entry| entry.owner.clone())
                .filter(|owner| !owner.is_empty())
                .map(|owner| (Use::Owner, owner)),
        );
    }
    // what has the same way out is told once
    let mut told = BTreeSet::new();
    for (as_what, role) in named {
        let words = as_what.words();
        // what comes with the server nobody creates; of pg_database_owner the owner of a database is
        // a member, which we are of one that is still to be created
        let is_predefined = role.starts_with(b"pg_");
        let (message, hint) = match (roles.get(&role), as_what.if_no_member()) {
            (Some(_), _) if is_predefined => continue,
            (None, _) if is_predefined => (
                format!("the server predefines no role \"{role}\", {words}"),
                "leave out what names it with -L, or privileges with -x",
            ),
            (None, _) => (
                format!("role \"{role}\", {words}, does not exist"),
                as_what.if_missing(),
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

/// Roles that an entry's statements name. An entry holds them as the SQL that this program wrote.
fn named_by(entry: &Entry) -> Vec<(Use, BString)> {
    let mut found = Vec::new();
    let words = words(&entry.create);
    let is =
        |at: usize, wanted: &str| matches!(words.get(at), Some(Word::Bare(word)) if word == wanted);
    let mut name = |as_what: Use, at: usize| match words.get(at) {
        Some(Word::Bare(word)) if word == "PUBLIC" => {}
        Some(Word::Bare(word) | Word::Quoted(word)) => found.push((as_what, word.clone())),
        _ => {}
    };
    for at in 0..words.len() {
        match entry.kind.as_str() {
            "ACL" | "DEFAULT ACL" if is(at, "TO") || is(at, "FROM") => name(Use::Grantee, at + 1),
            "ACL" if is(at, "SET") && is(at + 1, "ROLE") => name(Use::Grantor, at + 2),
            "DEFAULT ACL" if is(at, "FOR") && is(at + 1, "ROLE") => name(Use::Creator, at + 2),
            "DATABASE PROPERTIES" if is(at, "ALTER") && is(at + 1, "ROLE") => {
                name(Use::Settings, at + 2);
            }
            "POLICY" if is(at, "TO") => {
                let mut role = at + 1;
                name(Use::Policy, role);
                while words.get(role + 1) == Some(&Word::Comma) {
                    role += 2;
                    name(Use::Policy, role);
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

fn words(text: &[u8]) -> Vec<Word> {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x80..);
    let mut words = Vec::new();
    let mut rest = text;
    while let Some(&first) = rest.first() {
        let length = rest.iter().take_while(|byte| is_word(byte)).count();
        if length > 0 {
            words.push(Word::Bare(rest[..length].into()));
            rest = &rest[length..];
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
            words.push(match first {
                b'"' => Word::Quoted(name),
                _ => Word::Other,
            });
        } else {
            if !first.is_ascii_whitespace() {
                words.push(if first == b',' {
                    Word::Comma
                } else {
                    Word::Other
                });
            }
            rest = &rest[1..];
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::{Contents, EntryId, Pass, Section};

    fn named(kind: &str, create: &str) -> Vec<(Use, String)> {
        let entry = Entry {
            id: EntryId(1),
            kind: kind.to_owned(),
            section: Section::PostData,
            pass: Pass::Privileges,
            schema: None,
            name: BString::default(),
            relation: None,
            owner: None,
            owner_target: None,
            tablespace: None,
            access_method: None,
            create: create.into(),
            drop: BString::default(),
            drop_if_exists: BString::default(),
            dependencies: Vec::new(),
            contents: Contents::None,
            load_into: None,
        };
        let found = named_by(&entry).into_iter();
        found
            .map(|(as_what, role)| (as_what, role.to_string()))
            .collect()
    }

    fn all(as_what: Use, roles: &[&str]) -> Vec<(Use, String)> {
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
                Use::Grantee,
                &["plain", "Fixture \"Odd\" role", "PUBLIC", "b\u{fc}cher"]
            )
        );
        assert!(named("ACL", "GRANT SELECT ON t TO").is_empty());
        assert_eq!(
            named("ACL", "GRANT SELECT ON t TO \"open"),
            all(Use::Grantee, &["open"])
        );
    }

    #[test]
    fn roles_in_other_places() {
        assert_eq!(
            named(
                "ACL",
                "SET ROLE giver;\nGRANT SELECT ON TABLE t TO taker;\nRESET ROLE;\n"
            ),
            [all(Use::Grantor, &["giver"]), all(Use::Grantee, &["taker"])].concat()
        );
        assert_eq!(
            named(
                "DEFAULT ACL",
                "ALTER DEFAULT PRIVILEGES FOR ROLE \"Maker\" IN SCHEMA s GRANT SELECT ON TABLES TO r;\n"
            ),
            [all(Use::Creator, &["Maker"]), all(Use::Grantee, &["r"])].concat()
        );
        assert_eq!(
            named(
                "POLICY",
                "CREATE POLICY \"TO x\" ON s.t FOR SELECT TO a, \"B, c\" USING ((x = 'a TO d'::text));\n"
            ),
            all(Use::Policy, &["a", "B, c"])
        );
        assert!(named("POLICY", "CREATE POLICY p ON t USING (EXTRACT(YEAR TO x));").is_empty());
        assert_eq!(
            named(
                "DATABASE PROPERTIES",
                "ALTER DATABASE d SET work_mem TO '4MB';\n\
                 ALTER ROLE r IN DATABASE d SET \"search.path\" TO 'it''s ALTER ROLE x', 'y';\n"
            ),
            all(Use::Settings, &["r"])
        );
    }
}
