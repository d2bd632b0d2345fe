//! GRANT and REVOKE from ACLs as aclitem[] prints them.
//!
//! The statements turn the ACL that a fresh object has into the wanted one, so that the array which
//! results has its items in the order of the source: that order is visible (in `\dp`, in what
//! pg_dump writes), and it is the order in which grants were made that build on one another.
//!
//! Privileges are spelled out unless the item holds all that the newest supported server knows. A
//! table's full rights on PostgreSQL 15 are therefore a list: they had no MAINTAIN in them, and a
//! newer server must not read it into them.

use std::collections::HashSet;

use bstr::{BStr, BString, ByteSlice};

use super::array;
use super::quote::identifier;
use super::text::join;
use crate::error::{Error, Result};
use crate::sql;

/// What the statements name.
#[derive(Debug, Clone, Copy)]
pub struct PrivilegeTargetSql<'a> {
    /// As GRANT spells it: "TABLE", "FOREIGN SERVER", "LARGE OBJECT".
    pub object_type: &'a str,
    /// As SQL; several names where GRANT takes a list of them.
    pub name: &'a BStr,
    /// The column's name, not quoted, where the ACL is a column's.
    pub column: Option<&'a BStr>,
}

/// The statements, each ended by `;` and a line break, that turn `base` into `acl` on an object of
/// `owner`. Empty where there is no difference.
///
/// `base` is what a fresh object has: what `acldefault` gives, `{}` for a column, or what
/// pg_init_privs records. Grants by others than the owner are made in their role.
pub fn statements(
    target: &PrivilegeTargetSql<'_>,
    acl: &BStr,
    base: &BStr,
    owner: &BStr,
) -> Result<BString> {
    let known = privileges_of(target.object_type, target.column.is_some())?;
    let wanted = parse_acl(acl)?;
    let base = parse_acl(base)?;

    // Items that stay keep their places at the front, so only such can stay as are there in the
    // same order; the others are taken away and granted anew, in order.
    let mut kept = vec![false; base.len()];
    let mut place = 0;
    let mut staying = 0;
    for item in &wanted {
        match base[place..].iter().position(|other| other == item) {
            Some(offset) => {
                kept[place + offset] = true;
                place += offset + 1;
                staying += 1;
            }
            None => break,
        }
    }
    let (present, granted) = wanted.split_at(staying);
    let writer = Writer {
        prefix: BStr::new(""),
        on: sql!(" ON {} {}", target.object_type, target.name),
        column: target.column,
        known,
        owner,
    };
    let mut text = BString::default();
    // the last grant first: it may build on an earlier one
    for (item, kept) in base.iter().zip(&kept).rev() {
        if !kept {
            writer.revoke(&mut text, item);
        }
    }
    for item in possible_order(present, granted, owner) {
        writer.grant(&mut text, item);
    }
    Ok(text)
}

/// `ALTER DEFAULT PRIVILEGES` statements for one row of pg_default_acl. `object_type` is the
/// plural that the command takes: "TABLES", "FUNCTIONS". Within a schema, `base` is `{}`: such rows
/// only add to the global ones.
///
/// The server keeps these ACLs sorted by the OIDs of roles, so there is no order to preserve; the
/// statements are sorted by name, which is the same in every cluster.
pub fn default_privileges(
    object_type: &str,
    schema: Option<&BStr>,
    acl: &BStr,
    base: &BStr,
    owner: &BStr,
) -> Result<BString> {
    let known = privileges_of(object_type, false)?;
    let mut wanted = parse_acl(acl)?;
    wanted.sort_by(|a, b| a.grantee.cmp(&b.grantee));
    let base = parse_acl(base)?;
    let mut prefix = sql!("ALTER DEFAULT PRIVILEGES FOR ROLE {} ", identifier(owner));
    if let Some(schema) = schema {
        prefix.extend_from_slice(&sql!("IN SCHEMA {} ", identifier(schema)));
    }
    let writer = Writer {
        prefix: prefix.as_bstr(),
        on: sql!(" ON {}", object_type),
        column: None,
        known,
        owner,
    };
    let mut text = BString::default();
    for item in base.iter().filter(|item| !wanted.contains(item)) {
        writer.revoke(&mut text, item);
    }
    for item in wanted.iter().filter(|item| !base.contains(item)) {
        writer.grant(&mut text, item);
    }
    Ok(text)
}

/// One aclitem: who may do what, and who said so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AclItem {
    /// Empty: PUBLIC.
    pub grantee: BString,
    grantor: BString,
    /// Letters and whether each is WITH GRANT OPTION.
    pub privileges: Vec<(u8, bool)>,
}

impl AclItem {
    /// Reads `grantee=privileges/grantor`, each name in double quotes where it has other
    /// characters than letters, digits and `_`.
    fn parse(text: &[u8]) -> Result<AclItem> {
        let malformed = || Error::new(format!("malformed ACL item: {}", text.as_bstr()));
        let (grantee, rest) = role_name(text).ok_or_else(malformed)?;
        let rest = rest.strip_prefix(b"=").ok_or_else(malformed)?;
        let slash = rest.find_byte(b'/').ok_or_else(malformed)?;
        let (letters, rest) = rest.split_at(slash);
        let (grantor, rest) = role_name(&rest[1..]).ok_or_else(malformed)?;
        if !rest.is_empty() {
            return Err(malformed());
        }
        let mut privileges: Vec<(u8, bool)> = Vec::new();
        for &letter in letters {
            match letter {
                b'*' => privileges.last_mut().ok_or_else(malformed)?.1 = true,
                letter if letter.is_ascii_alphabetic() => privileges.push((letter, false)),
                _ => return Err(malformed()),
            }
        }
        Ok(AclItem {
            grantee,
            grantor,
            privileges,
        })
    }

    /// The grant option held on this letter: None if not even the privilege is.
    fn option(&self, letter: u8) -> Option<bool> {
        self.privileges
            .iter()
            .find(|(other, _)| *other == letter)
            .map(|(_, option)| *option)
    }

    pub fn grantor<'a>(&'a self, owner: &'a BStr) -> &'a BStr {
        if self.grantor.is_empty() {
            owner
        } else {
            self.grantor.as_bstr()
        }
    }
}

pub(super) fn parse_acl(text: &BStr) -> Result<Vec<AclItem>> {
    array::parse(text)?
        .into_iter()
        .flatten()
        .map(|item| AclItem::parse(&item))
        .collect()
}

/// An ACL as aclitem[] prints it, without items that name any of these roles.
pub fn acl_without(acl: &BStr, roles: &HashSet<BString>) -> Result<BString> {
    let mut kept = Vec::new();
    for text in array::parse(acl)?.into_iter().flatten() {
        let item = AclItem::parse(&text)?;
        if !roles.contains(&item.grantee) && !roles.contains(&item.grantor) {
            kept.push(array::element(&text));
        }
    }
    Ok([b"{", join(kept, ",").as_slice(), b"}"].concat().into())
}

/// Takes a name off the front of an ACL item; ends at `=` or the end.
fn role_name(text: &[u8]) -> Option<(BString, &[u8])> {
    let mut name = BString::default();
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        if byte == b'=' {
            break;
        }
        rest = after;
        if byte != b'"' {
            name.push(byte);
            continue;
        }
        loop {
            let (&byte, after) = rest.split_first()?;
            rest = after;
            if byte != b'"' {
                name.push(byte);
            } else if rest.first() == Some(&b'"') {
                name.push(b'"');
                rest = &rest[1..];
            } else {
                break;
            }
        }
    }
    Some((name, rest))
}

/// `items` in their order, except that a grant waits until its grantor has the grant options that
/// it needs. (They may have come to stand later in the ACL: the first grant that they held them by
/// was revoked after a second.)
fn possible_order<'a>(
    present: &'a [AclItem],
    items: &'a [AclItem],
    owner: &BStr,
) -> Vec<&'a AclItem> {
    let mut done: Vec<&AclItem> = present.iter().collect();
    let mut waiting: Vec<&AclItem> = items.iter().collect();
    while !waiting.is_empty() {
        let ready = waiting.iter().position(|item| {
            let grantor = item.grantor(owner);
            grantor == owner
                || item.privileges.iter().all(|(letter, _)| {
                    done.iter().any(|earlier| {
                        earlier.grantee == grantor && earlier.option(*letter) == Some(true)
                    })
                })
        });
        // if none is ready, the server will say what it thinks of the first
        done.push(waiting.remove(ready.unwrap_or(0)));
    }
    done.split_off(present.len())
}

struct Writer<'a> {
    prefix: &'a BStr,
    /// ` ON TABLE public.t`
    on: BString,
    column: Option<&'a BStr>,
    known: &'static [(u8, &'static str)],
    owner: &'a BStr,
}

impl Writer<'_> {
    fn revoke(&self, text: &mut BString, item: &AclItem) {
        let all = self.known.iter().all(|(l, _)| item.option(*l).is_some());
        let list = self.list(all, |letter| item.option(letter).is_some());
        if list.is_empty() {
            return;
        }
        self.as_grantor(text, item, |text| {
            text.extend_from_slice(&sql!(
                "{}REVOKE {}{} FROM {};\n",
                self.prefix,
                list,
                self.on,
                grantee(item)
            ));
        });
    }

    fn grant(&self, text: &mut BString, item: &AclItem) {
        let held = |option: bool| {
            let all = self
                .known
                .iter()
                .all(|(l, _)| item.option(*l) == Some(option));
            self.list(all, |letter| item.option(letter) == Some(option))
        };
        let lists = [(held(false), ""), (held(true), " WITH GRANT OPTION")];
        if lists.iter().all(|(list, _)| list.is_empty()) {
            return;
        }
        self.as_grantor(text, item, |text| {
            for (list, option) in &lists {
                if !list.is_empty() {
                    text.extend_from_slice(&sql!(
                        "{}GRANT {}{} TO {}{};\n",
                        self.prefix,
                        list,
                        self.on,
                        grantee(item),
                        option
                    ));
                }
            }
        });
    }

    /// `SELECT,INSERT`, or `SELECT(a),INSERT(a)` of a column.
    fn list(&self, all: bool, holds: impl Fn(u8) -> bool) -> BString {
        let column = self
            .column
            .map(|column| sql!("({})", identifier(column)))
            .unwrap_or_default();
        let words: Vec<&str> = if all {
            vec!["ALL"]
        } else {
            let held = self.known.iter().filter(|(letter, _)| holds(*letter));
            held.map(|(_, word)| *word).collect()
        };
        join(words.iter().map(|word| sql!("{}{}", word, column)), ",")
    }

    /// The server records the owner as the grantor unless someone else is at work. SET ROLE takes
    /// membership in the role, where SET SESSION AUTHORIZATION would take a superuser.
    fn as_grantor(&self, text: &mut BString, item: &AclItem, write: impl FnOnce(&mut BString)) {
        let grantor = item.grantor(self.owner);
        let other = grantor != self.owner;
        if other {
            text.extend_from_slice(&sql!("SET ROLE {};\n", identifier(grantor)));
        }
        write(text);
        if other {
            text.extend_from_slice(b"RESET ROLE;\n");
        }
    }
}

fn grantee(item: &AclItem) -> BString {
    if item.grantee.is_empty() {
        BString::from("PUBLIC")
    } else {
        identifier(&item.grantee)
    }
}

/// The privileges of a type of object: letter and keyword (src/include/utils/acl.h), in the order
/// that pg_dump prints them.
pub(super) fn privileges_of(
    object_type: &str,
    column: bool,
) -> Result<&'static [(u8, &'static str)]> {
    const SELECT: (u8, &str) = (b'r', "SELECT");
    const INSERT: (u8, &str) = (b'a', "INSERT");
    const REFERENCES: (u8, &str) = (b'x', "REFERENCES");
    const UPDATE: (u8, &str) = (b'w', "UPDATE");
    const USAGE: (u8, &str) = (b'U', "USAGE");
    const CREATE: (u8, &str) = (b'C', "CREATE");
    Ok(match object_type {
        "TABLE" if column => &[SELECT, INSERT, REFERENCES, UPDATE],
        _ if column => {
            return Err(Error::new(format!(
                "no column privileges exist on {object_type}"
            )));
        }
        "TABLE" | "TABLES" => &[
            SELECT,
            INSERT,
            REFERENCES,
            (b'd', "DELETE"),
            (b't', "TRIGGER"),
            (b'D', "TRUNCATE"),
            (b'm', "MAINTAIN"),
            UPDATE,
        ],
        "SEQUENCE" | "SEQUENCES" => &[SELECT, USAGE, UPDATE],
        "FUNCTION" | "FUNCTIONS" | "PROCEDURE" | "PROCEDURES" | "ROUTINE" | "ROUTINES" => {
            &[(b'X', "EXECUTE")]
        }
        "LANGUAGE" | "TYPE" | "TYPES" | "DOMAIN" | "FOREIGN DATA WRAPPER" | "FOREIGN SERVER" => {
            &[USAGE]
        }
        "SCHEMA" | "SCHEMAS" => &[CREATE, USAGE],
        "DATABASE" => &[CREATE, (b'c', "CONNECT"), (b'T', "TEMPORARY")],
        "TABLESPACE" => &[CREATE],
        "PARAMETER" => &[(b's', "SET"), (b'A', "ALTER SYSTEM")],
        "LARGE OBJECT" | "LARGE OBJECTS" => &[SELECT, UPDATE],
        _ => {
            return Err(Error::new(format!(
                "privileges on an unknown type of object: {object_type}"
            )));
        }
    })
}

#[cfg(test)]
mod tests;
