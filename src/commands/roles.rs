//! The flag that exchanges roles.

use bstr::{BString, ByteSlice};
use clap::Args;

use crate::catalog::roles::RoleMap;
use crate::error::{Error, Result};

#[derive(Debug, Args)]
pub struct RoleArguments {
    /// Put role NEW in the place of OLD, as an owner, in privileges, default privileges, policies,
    /// user mappings and settings (may be repeated). Names are taken as they are written, or in double
    /// quotes as in SQL: an OLD with = in it needs them
    #[arg(long = "map-role", value_name = "OLD=NEW")]
    map_roles: Vec<String>,
}

impl RoleArguments {
    pub fn map(&self) -> Result<RoleMap> {
        let mut map = RoleMap::new();
        for text in &self.map_roles {
            let (old, new) = parse(text)
                .ok_or_else(|| Error::usage(format!("--map-role takes OLD=NEW, not \"{text}\"")))?;
            if map.insert(old.clone(), new).is_some() {
                return Err(Error::usage(format!(
                    "--map-role names role \"{old}\" twice"
                )));
            }
        }
        Ok(map)
    }
}

fn parse(text: &str) -> Option<(BString, BString)> {
    let (old, rest) = match text.strip_prefix('"') {
        Some(inside) => unquoted(inside)?,
        None => text
            .split_once('=')
            .map(|(old, _)| (old.into(), &text[old.len()..]))?,
    };
    let rest = rest.strip_prefix('=')?;
    let new = match rest.strip_prefix('"') {
        Some(inside) => match unquoted(inside)? {
            (new, "") => new,
            _ => return None,
        },
        None => rest.into(),
    };
    (!old.is_empty() && !new.is_empty()).then_some((old, new))
}

/// A name behind its first quote, and what comes after the last.
fn unquoted(text: &str) -> Option<(BString, &str)> {
    let mut name = BString::default();
    let mut rest = text;
    loop {
        let end = rest.find('"')?;
        name.extend_from_slice(&rest.as_bytes()[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(after) => {
                name.extend_from_slice(b"\"");
                rest = after;
            }
            None => return Some((name.as_bstr().to_owned(), rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_on_both_sides() {
        for (text, old, new) in [
            ("a=b", "a", "b"),
            ("A b=c=d", "A b", "c=d"),
            ("\"a=\"\"b\"=c", "a=\"b", "c"),
            ("a=\"B \"\" c\"", "a", "B \" c"),
        ] {
            assert_eq!(parse(text), Some((old.into(), new.into())), "{text}");
        }
        for text in ["", "a", "=a", "a=", "\"a=b", "\"a\"b", "a=\"b\"c", "\"\"=a"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
