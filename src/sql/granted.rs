//! What GRANT and REVOKE come to: the privileges that an object has once statements have been
//! replayed on it, so that ACLs can be compared by what they mean and not by how they read.
//!
//! A list of 15 that took DELETE from a table's owner leaves other rights on 18, where the owner of a
//! fresh table holds MAINTAIN as well. So statements are replayed on what a fresh object has on the
//! server in question, by that server's rules.

use std::collections::BTreeMap;
use std::ops::Range;

use bstr::{BStr, BString, ByteSlice};

use super::privileges::{parse_acl, privileges_of};
use super::quote::identifier;
use super::text::{join, statements};
use crate::error::{Error, Result};
use crate::sql;

/// One privilege of one role.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Privilege {
    /// None: on the object as a whole.
    column: Option<BString>,
    /// Empty: PUBLIC.
    grantee: BString,
    grantor: BString,
    /// As aclitem has it.
    letter: u8,
}

/// The major version that brought MAINTAIN.
const MAINTAIN_SINCE: u32 = 17;

/// What is granted on one object, in no order.
#[derive(Debug, Clone)]
pub struct Granted<'a> {
    object_type: &'a str,
    owner: &'a BStr,
    /// Of the server that the object is on.
    major: u32,
    /// With whether each may be granted on.
    held: BTreeMap<Privilege, bool>,
}

impl<'a> Granted<'a> {
    /// Nothing, on an object of this type (as GRANT spells it, or the plural that ALTER DEFAULT
    /// PRIVILEGES takes) and owner.
    pub fn nothing(object_type: &'a str, owner: &'a BStr, major: u32) -> Granted<'a> {
        Granted {
            object_type,
            owner,
            major,
            held: BTreeMap::new(),
        }
    }

    /// With all that an ACL says, as aclitem[] prints it.
    pub fn with_acl(mut self, acl: &BStr, column: Option<&BStr>) -> Result<Granted<'a>> {
        for item in parse_acl(acl)? {
            let grantor = item.grantor(self.owner).to_owned();
            for (letter, option) in &item.privileges {
                let privilege = Privilege {
                    column: column.map(|column| column.to_owned()),
                    grantee: item.grantee.clone(),
                    grantor: grantor.clone(),
                    letter: *letter,
                };
                self.add(privilege, *option);
            }
        }
        Ok(self)
    }

    fn add(&mut self, privilege: Privilege, option: bool) {
        let held = self.held.entry(privilege).or_default();
        *held = *held || option;
    }

    /// Runs the statements of an entry. `former_owner` is whom the statements take for the owner,
    /// where that is another: what they say of him holds for the owner now, as after ALTER ... OWNER.
    pub fn replay(&mut self, text: &BStr, former_owner: Option<&BStr>) -> Result<()> {
        let owner = self.owner;
        let now = |role: BString| match former_owner {
            Some(former) if role == former => owner.to_owned(),
            _ => role,
        };
        let mut grantor = owner.to_owned();
        for statement in statements(text) {
            match Statement::parse(statement).ok_or_else(|| {
                Error::new(format!(
                    "cannot tell what this grants: {}",
                    statement.as_bstr()
                ))
            })? {
                Statement::SetRole(role) => grantor = now(role),
                Statement::ResetRole => grantor = owner.to_owned(),
                Statement::Grant(change) => {
                    let grantee = now(change.grantee);
                    for (letter, column) in self.letters(&change.privileges)? {
                        let privilege = Privilege {
                            column,
                            grantee: grantee.clone(),
                            grantor: grantor.clone(),
                            letter,
                        };
                        self.add(privilege, change.option);
                    }
                }
                Statement::Revoke(change) => {
                    let grantee = now(change.grantee);
                    let gone = self.letters(&change.privileges)?;
                    self.held.retain(|held, _| {
                        held.grantee != grantee
                            || held.grantor != grantor
                            // from the object as a whole means from its columns as well
                            || !gone.iter().any(|(letter, column)| {
                                *letter == held.letter
                                    && (column.is_none() || *column == held.column)
                            })
                    });
                }
            }
        }
        Ok(())
    }

    /// Letters of a list of privileges; ALL is what this server takes it for.
    fn letters(&self, list: &[Named]) -> Result<Vec<(u8, Option<BString>)>> {
        let mut letters = Vec::new();
        for Named { words, column } in list {
            let before = letters.len();
            let known = privileges_of(self.object_type, column.is_some())?;
            letters.extend(
                known
                    .iter()
                    .filter(|(letter, name)| {
                        if *words == "ALL" {
                            *letter != b'm' || self.major >= MAINTAIN_SINCE
                        } else {
                            *words == *name
                        }
                    })
                    .map(|(letter, _)| (*letter, column.clone())),
            );
            if letters.len() == before {
                return Err(Error::new(format!(
                    "no privilege {words} is known on a {}",
                    self.object_type
                )));
            }
        }
        Ok(letters)
    }

    /// What `self` has and `other` has not, as statements.
    pub fn beyond(&self, other: &Granted<'_>, name: &BStr) -> Vec<BString> {
        type Group<'b> = (&'b BString, &'b BString, bool);
        let mut groups: BTreeMap<Group<'_>, Vec<&Privilege>> = BTreeMap::new();
        for (privilege, option) in &self.held {
            if other.held.get(privilege) != Some(option) {
                groups
                    .entry((&privilege.grantee, &privilege.grantor, *option))
                    .or_default()
                    .push(privilege);
            }
        }
        groups
            .into_iter()
            .map(|((grantee, grantor, option), list)| {
                let role = if grantee.is_empty() {
                    BString::from("PUBLIC")
                } else {
                    identifier(grantee)
                };
                let mut text = sql!(
                    "GRANT {} ON {} {} TO {}",
                    join(list.iter().map(|privilege| self.spelled(privilege)), ","),
                    self.object_type,
                    name,
                    role
                );
                if option {
                    text.extend_from_slice(b" WITH GRANT OPTION");
                }
                if grantor != self.owner {
                    text.extend_from_slice(&sql!(" GRANTED BY {}", identifier(grantor)));
                }
                text.push(b';');
                text
            })
            .collect()
    }

    fn spelled(&self, privilege: &Privilege) -> BString {
        let column = privilege.column.as_ref();
        let known = privileges_of(self.object_type, column.is_some()).unwrap_or_default();
        let word = known
            .iter()
            .find(|(letter, _)| *letter == privilege.letter)
            .map_or_else(
                || format!("'{}'", char::from(privilege.letter).escape_default()),
                |(_, word)| (*word).to_owned(),
            );
        match column {
            Some(column) => sql!("{}({})", word, identifier(column)),
            None => word.into(),
        }
    }
}

/// Equal where the same is granted, whatever it is called.
impl PartialEq for Granted<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.held == other.held
    }
}

enum Statement {
    SetRole(BString),
    ResetRole,
    Grant(Change),
    Revoke(Change),
}

struct Change {
    privileges: Vec<Named>,
    grantee: BString,
    option: bool,
}

/// `SELECT`, `ALTER SYSTEM`, `UPDATE("a b")`.
struct Named {
    words: String,
    column: Option<BString>,
}

impl Statement {
    /// None for what `sql::privileges` does not write.
    fn parse(text: &[u8]) -> Option<Statement> {
        let mut tokens = tokens(text)?;
        if tokens.last()? == &Token::Symbol(b';') {
            tokens.pop();
        }
        match tokens.as_slice() {
            [set, role, name] if set.is("SET") && role.is("ROLE") => {
                return Some(Statement::SetRole(name.name()?));
            }
            [reset, role] if reset.is("RESET") && role.is("ROLE") => {
                return Some(Statement::ResetRole);
            }
            _ => {}
        }
        // ALTER DEFAULT PRIVILEGES FOR ROLE r IN SCHEMA s
        if tokens.first()?.is("ALTER") {
            let start = tokens
                .iter()
                .position(|token| token.is("GRANT") || token.is("REVOKE"))?;
            tokens.drain(..start);
        }
        let is_grant = match tokens.first()? {
            token if token.is("GRANT") => true,
            token if token.is("REVOKE") => false,
            _ => return None,
        };
        let option = match tokens.as_slice() {
            [.., with, grant, option]
                if with.is("WITH") && grant.is("GRANT") && option.is("OPTION") =>
            {
                tokens.truncate(tokens.len() - 3);
                true
            }
            _ => false,
        };
        let (before, grantee) = match tokens.as_slice() {
            [.., before, grantee] => (before, grantee),
            _ => return None,
        };
        if !before.is(if is_grant { "TO" } else { "FROM" }) || (option && !is_grant) {
            return None;
        }
        let grantee = if grantee.is("PUBLIC") {
            BString::default()
        } else {
            grantee.name()?
        };
        let on = tokens.iter().position(|token| token.is("ON"))?;
        let change = Change {
            privileges: list(tokens.get(1..on)?)?,
            grantee,
            option,
        };
        Some(if is_grant {
            Statement::Grant(change)
        } else {
            Statement::Revoke(change)
        })
    }
}

/// Privileges, separated by commas.
fn list(tokens: &[Token]) -> Option<Vec<Named>> {
    tokens
        .split(|token| *token == Token::Symbol(b','))
        .map(|part| {
            let (words, column) = match part {
                [words @ .., Token::Symbol(b'('), column, Token::Symbol(b')')] => {
                    (words, Some(column.name()?))
                }
                words => (words, None),
            };
            let words: Option<Vec<&str>> = words
                .iter()
                .map(|token| match token {
                    Token::Word(word) => word.to_str().ok(),
                    _ => None,
                })
                .collect();
            let words = words?.join(" ");
            (!words.is_empty()).then_some(Named { words, column })
        })
        .collect()
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    /// Not quoted: a keyword or a plain name. Ours have keywords in capitals, plain names never.
    Word(BString),
    /// In double quotes, which are taken off.
    Quoted(BString),
    Symbol(u8),
}

impl Token {
    fn is(&self, keyword: &str) -> bool {
        matches!(self, Token::Word(word) if word == keyword)
    }

    fn name(&self) -> Option<BString> {
        match self {
            Token::Word(name) | Token::Quoted(name) => Some(name.clone()),
            Token::Symbol(_) => None,
        }
    }
}

fn tokens(text: &[u8]) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        if byte.is_ascii_whitespace() {
            at += 1;
        } else if byte == b'"' {
            let Range { start, end } = quoted(text, at)?;
            tokens.push(Token::Quoted(text[start..end].replace("\"\"", "\"").into()));
            at = end + 1;
        } else if is_word(byte) {
            let length = text[at..].iter().take_while(|byte| is_word(**byte)).count();
            tokens.push(Token::Word(text[at..at + length].into()));
            at += length;
        } else {
            tokens.push(Token::Symbol(byte));
            at += 1;
        }
    }
    Some(tokens)
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x80..)
}

/// What stands between the double quote here and the one that ends it.
fn quoted(text: &[u8], open: usize) -> Option<Range<usize>> {
    let start = open + 1;
    let mut end = start;
    loop {
        end += text.get(end..)?.find_byte(b'"')?;
        if text.get(end + 1) != Some(&b'"') {
            return Some(start..end);
        }
        end += 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted<'a>(object_type: &'a str, major: u32, acl: &str) -> Granted<'a> {
        Granted::nothing(object_type, "own".into(), major)
            .with_acl(acl.into(), None)
            .unwrap()
    }

    fn replayed<'a>(object_type: &'a str, major: u32, base: &str, text: &str) -> Granted<'a> {
        let mut granted = granted(object_type, major, base);
        granted.replay(text.into(), None).unwrap();
        granted
    }

    #[test]
    fn what_is_left_of_an_owner_on_15_has_maintain_on_18() {
        let text = "REVOKE SELECT,INSERT,REFERENCES,DELETE,TRIGGER,TRUNCATE,UPDATE ON TABLE t FROM own;\n\
                    GRANT SELECT,INSERT ON TABLE t TO own;\n";
        assert_eq!(
            replayed("TABLE", 18, "{own=arwdDxtm/own}", text),
            granted("TABLE", 18, "{own=arm/own}")
        );
        assert_eq!(
            replayed("TABLE", 15, "{own=arwdDxt/own}", text),
            granted("TABLE", 15, "{own=ar/own}")
        );
        let found = granted("TABLE", 18, "{own=ar/own}");
        let expected = replayed("TABLE", 18, "{own=arwdDxtm/own}", text);
        assert_ne!(expected, found);
        assert_eq!(
            expected.beyond(&found, "t".into()),
            ["GRANT MAINTAIN ON TABLE t TO own;"]
        );
        assert!(found.beyond(&expected, "t".into()).is_empty());
    }

    #[test]
    fn all_is_what_the_server_takes_it_for() {
        for (major, letters) in [(16, "arwdDxt"), (17, "arwdDxtm")] {
            assert_eq!(
                replayed("TABLE", major, "{}", "GRANT ALL ON TABLE t TO a;\n"),
                granted("TABLE", major, &format!("{{a={letters}/own}}"))
            );
        }
    }

    #[test]
    fn order_means_nothing_and_grantors_and_options_do() {
        let left = granted("TABLE", 18, "{a=r/own,b=w/own}");
        assert_eq!(left, granted("TABLE", 18, "{b=w/own,a=r/own}"));
        for other in ["{a=r*/own,b=w/own}", "{a=r/b,b=w/own}", "{a=r/own}"] {
            let other = granted("TABLE", 18, other);
            assert_ne!(left, other);
            assert!(!left.beyond(&other, "t".into()).is_empty(), "{other:?}");
        }
        assert_eq!(
            replayed(
                "TABLE",
                18,
                "{}",
                "GRANT SELECT ON TABLE t TO a WITH GRANT OPTION;\nSET ROLE a;\n\
                 GRANT SELECT ON TABLE t TO b;\nRESET ROLE;\nGRANT UPDATE ON TABLE t TO b;\n"
            ),
            granted("TABLE", 18, "{b=w/own,b=r/a,a=r*/own}")
        );
    }

    #[test]
    fn odd_names() {
        assert_eq!(
            replayed(
                "FUNCTION",
                18,
                "{=X/own,own=X/own}",
                "REVOKE ALL ON FUNCTION f(\"TO\" a.\"x;\n y\", \"a\"\"b\" integer) FROM PUBLIC;\n\
                 GRANT ALL ON FUNCTION f(\"TO\" a.\"x;\n y\") TO \"q\"\"u TO x\";\n\
                 GRANT ALL ON FUNCTION f() TO \"PUBLIC\";\n"
            ),
            granted(
                "FUNCTION",
                18,
                r#"{own=X/own,"\"q\"\"u TO x\"=X/own","\"PUBLIC\"=X/own"}"#
            )
        );
    }

    #[test]
    fn revoked_from_a_table_is_revoked_from_its_columns() {
        let column = |acl: &str| {
            Granted::nothing("TABLE", "own".into(), 18)
                .with_acl(acl.into(), Some("a b".into()))
                .unwrap()
        };
        let mut left = column("{x=rw/own,y=r/own}");
        left.replay(
            "REVOKE SELECT ON TABLE t FROM x;\nREVOKE ALL(\"a b\") ON TABLE t FROM y;\n".into(),
            None,
        )
        .unwrap();
        assert_eq!(left, column("{x=w/own}"));
        assert_eq!(
            left.beyond(&column("{}"), "t".into()),
            ["GRANT UPDATE(\"a b\") ON TABLE t TO x;"]
        );
    }

    #[test]
    fn a_new_owner_has_what_the_former_one_had() {
        let mut left = granted("TABLE", 15, "{own=arwdDxt/own}");
        let text = "REVOKE ALL ON TABLE t FROM old;\nGRANT SELECT ON TABLE t TO old;\n";
        left.replay(text.into(), Some("old".into())).unwrap();
        assert_eq!(left, granted("TABLE", 15, "{own=r/own}"));
        let mut left = granted("TABLE", 15, "{own=arwdDxt/own}");
        left.replay(text.into(), None).unwrap();
        assert_eq!(left, granted("TABLE", 15, "{own=arwdDxt/own,old=r/own}"));
    }

    #[test]
    fn default_privileges_are_replayed_too() {
        assert_eq!(
            replayed(
                "TABLES",
                18,
                "{own=arwdDxtm/own}",
                "ALTER DEFAULT PRIVILEGES FOR ROLE own IN SCHEMA \"GRANT\" GRANT SELECT ON TABLES TO a;\n"
            ),
            granted("TABLES", 18, "{own=arwdDxtm/own,a=r/own}")
        );
    }

    #[test]
    fn what_cannot_be_understood_is_an_error() {
        for text in [
            "SELECT 1;",
            "GRANT SELECT ON TABLE t;",
            "GRANT SELECT TO a;",
            "GRANT FLY ON TABLE t TO a;",
            "GRANT ON TABLE t TO a;",
            "GRANT SELECT, ON TABLE t TO a;",
            "REVOKE SELECT ON TABLE t FROM a CASCADE;",
            "GRANT SELECT ON TABLE t TO \"a;",
            "SET ROLE ;",
        ] {
            let mut granted = granted("TABLE", 18, "{}");
            assert!(granted.replay(text.into(), None).is_err(), "{text}");
        }
    }
}
