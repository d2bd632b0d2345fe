//! Patterns of object names: pg_dump's language, and psql's (`\d`), turned into the server's
//! regular expressions.
//!
//! Letters are folded to lower case and `*`, `?` and `.` have a meaning, unless they stand in double
//! quotes (a doubled quote is a quote). Other characters of regular expressions keep their meaning
//! outside of quotes, but for `$` and `[]`, which names and types have in them.

use bstr::BString;

use crate::error::{Error, Result};

/// A name with what may stand before it, each as a regular expression that the whole name must
/// match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// As the user wrote it.
    pub text: BString,
    /// Without `^(` and `)$`, and as it would be if it were no pattern.
    database: Option<BString>,
    pub schema: Option<BString>,
    pub name: BString,
}

impl Pattern {
    /// Of objects that stand in no schema and in no other database: extensions, foreign servers.
    pub fn of_database_object(text: &BString) -> Result<Pattern> {
        let (parts, database) = (parts(text), None);
        match parts.len() {
            1 => Ok(Pattern::of_parts(text, database, parts)),
            _ => Err(too_many_names("qualified", text)),
        }
    }

    /// Of schemas. What stands before one would be a database, of which pg_dump takes not even the
    /// one that is read.
    pub fn of_schema(text: &BString) -> Result<Pattern> {
        let parts = parts(text);
        match parts.len() {
            1 => Ok(Pattern::of_parts(text, None, parts)),
            2 => Err(other_database(text)),
            _ => Err(too_many_names("qualified", text)),
        }
    }

    /// Of relations: `name`, `schema.name` or `database.schema.name`.
    pub fn of_relation(text: &BString) -> Result<Pattern> {
        let parts = parts(text);
        match parts.len() {
            1 | 2 => Ok(Pattern::of_parts(text, None, parts)),
            3 => Ok(Pattern::of_parts(text, Some(literal_first(text)), parts)),
            _ => Err(too_many_names("relation", text)),
        }
    }

    fn of_parts(text: &BString, database: Option<BString>, mut parts: Vec<BString>) -> Pattern {
        let name = parts.pop().unwrap_or_default();
        Pattern {
            text: text.clone(),
            database,
            schema: parts.pop(),
            name,
        }
    }

    /// Only the database that is read can be named, and as it is called: not by a pattern.
    pub fn refuse_other_database(&self, current: &[u8]) -> Result<()> {
        match &self.database {
            Some(database) if database != current => Err(other_database(&self.text)),
            _ => Ok(()),
        }
    }
}

fn too_many_names(of: &str, text: &BString) -> Error {
    Error::new(format!(
        "improper {of} name (too many dotted names): {text}"
    ))
    .hint("put names that have dots in them in double quotes")
}

fn other_database(text: &BString) -> Error {
    Error::new(format!(
        "cross-database references are not implemented: {text}"
    ))
    .hint("put names that have dots in them in double quotes")
}

/// The regular expressions of a pattern's parts, as its dots separate them.
fn parts(text: &[u8]) -> Vec<BString> {
    let mut parts = Vec::new();
    let mut part = BString::from("^(");
    scan(text, |token| match token {
        Token::Dot => {
            part.extend_from_slice(b")$");
            parts.push(std::mem::replace(&mut part, BString::from("^(")));
        }
        Token::Any => part.extend_from_slice(b".*"),
        Token::One => part.push(b'.'),
        Token::Literal(byte) => {
            if b"|*+?()[]{}.^$\\".contains(&byte) {
                part.push(b'\\');
            }
            part.push(byte);
        }
        Token::Regex(byte) => part.push(byte),
    });
    part.extend_from_slice(b")$");
    parts.push(part);
    parts
}

/// The first part as a plain name.
fn literal_first(text: &[u8]) -> BString {
    let mut is_first = true;
    let mut name = BString::default();
    scan(text, |token| match token {
        Token::Dot => is_first = false,
        _ if !is_first => {}
        Token::Any => name.push(b'*'),
        Token::One => name.push(b'?'),
        Token::Literal(byte) | Token::Regex(byte) => name.push(byte),
    });
    name
}

enum Token {
    /// Between a schema and a name.
    Dot,
    Any,
    One,
    /// Stands for itself.
    Literal(u8),
    /// Means what it means in a regular expression.
    Regex(u8),
}

/// All characters beyond ASCII stand for themselves, so bytes of any encoding that servers have pass
/// through unchanged.
fn scan(text: &[u8], mut found: impl FnMut(Token)) {
    let mut quoted = false;
    let mut bytes = text.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' if quoted && bytes.peek() == Some(&b'"') => {
                bytes.next();
                found(Token::Literal(b'"'));
            }
            b'"' => quoted = !quoted,
            _ if quoted => found(Token::Literal(byte)),
            b'*' => found(Token::Any),
            b'?' => found(Token::One),
            b'.' => found(Token::Dot),
            b'$' => found(Token::Literal(byte)),
            // of an array type rather than a bracket expression
            b'[' if bytes.peek() == Some(&b']') => found(Token::Literal(byte)),
            _ => found(Token::Regex(byte.to_ascii_lowercase())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relation(text: &str) -> (Option<String>, String) {
        let pattern = Pattern::of_relation(&text.into()).expect(text);
        let plain = |part: BString| part.to_string();
        (pattern.schema.map(plain), plain(pattern.name))
    }

    #[test]
    fn regular_expressions() {
        for (text, schema, name) in [
            ("orders", None, "^(orders)$"),
            ("Orders", None, "^(orders)$"),
            ("\"Orders\"", None, "^(Orders)$"),
            ("or*s", None, "^(or.*s)$"),
            ("or?s", None, "^(or.s)$"),
            ("\"or*s?\"", None, "^(or\\*s\\?)$"),
            ("a.b", Some("^(a)$"), "^(b)$"),
            ("\"a.b\"", None, "^(a\\.b)$"),
            ("a\".\"b", None, "^(a\\.b)$"),
            ("\"a\"\"b\"", None, "^(a\"b)$"),
            ("\"\"", None, "^()$"),
            ("a$b", None, "^(a\\$b)$"),
            ("\"a$b\"", None, "^(a\\$b)$"),
            ("(a|b)[0-9]+", None, "^((a|b)[0-9]+)$"),
            ("a[]", None, "^(a\\[])$"),
            ("*.*", Some("^(.*)$"), "^(.*)$"),
            ("Größe", None, "^(größe)$"),
            ("\"a", None, "^(a)$"),
            (".b", Some("^()$"), "^(b)$"),
        ] {
            let expected = (schema.map(str::to_owned), name.to_owned());
            assert_eq!(relation(text), expected, "{text}");
        }
    }

    #[test]
    fn too_many_names() {
        let refusal = |outcome: Result<Pattern>| {
            outcome.map_or_else(|error| error.to_string(), |_| String::new())
        };
        let (relation, schema) = (Pattern::of_relation, Pattern::of_schema);
        for (outcome, expected) in [
            (
                relation(&"a.b.c.d".into()),
                "improper relation name (too many dotted names): a.b.c.d",
            ),
            (relation(&"a.b.c".into()), ""),
            (relation(&"a.\"b.c.d\"".into()), ""),
            (
                schema(&"a.b.c".into()),
                "improper qualified name (too many dotted names): a.b.c",
            ),
            (
                schema(&"a.b".into()),
                "cross-database references are not implemented: a.b",
            ),
            (schema(&"\"a.b\"".into()), ""),
            (
                Pattern::of_database_object(&"a.b".into()),
                "improper qualified name (too many dotted names): a.b",
            ),
        ] {
            assert_eq!(refusal(outcome), expected);
        }
    }

    #[test]
    fn only_the_database_itself_is_named() {
        let relation = |text: &str| Pattern::of_relation(&text.into()).expect(text);
        for text in [
            "shop.public.t",
            "Shop.*.t",
            "\"shop\".public.t",
            "t",
            "public.t",
        ] {
            assert!(
                relation(text).refuse_other_database(b"shop").is_ok(),
                "{text}"
            );
        }
        for text in ["\"Shop\".public.t", "sho?.public.t", ".public.t"] {
            let error = relation(text).refuse_other_database(b"shop");
            let text = format!("cross-database references are not implemented: {text}");
            assert_eq!(error.expect_err("another").to_string(), text);
        }
    }

    proptest::proptest! {
        /// What is quoted means itself and nothing else.
        #[test]
        fn a_quoted_name_matches_only_itself(name in "[ -~äß☃]{0,12}", other in "[ -~äß☃]{0,12}") {
            let quoted = format!("\"{}\"", name.replace('"', "\"\""));
            let pattern = Pattern::of_relation(&quoted.into()).expect("a pattern");
            proptest::prop_assert_eq!(&pattern.schema, &None);
            let regex = regex(&pattern.name.to_string());
            proptest::prop_assert!(matches(&regex, &name));
            proptest::prop_assert_eq!(matches(&regex, &other), name == other);
        }

        #[test]
        fn any_bytes_are_a_pattern_or_refused(text: Vec<u8>) {
            if let Ok(pattern) = Pattern::of_relation(&text.into()) {
                proptest::prop_assert!(pattern.name.starts_with(b"^("));
                proptest::prop_assert!(pattern.name.ends_with(b")$"));
            }
        }
    }

    /// Characters behind a backslash stand for themselves; a quoted pattern has no others that mean
    /// more.
    fn regex(pattern: &str) -> Vec<char> {
        let inner = pattern
            .strip_prefix("^(")
            .and_then(|rest| rest.strip_suffix(")$"));
        let mut characters = inner.expect("a whole name").chars();
        let mut literal = Vec::new();
        while let Some(character) = characters.next() {
            literal.push(match character {
                '\\' => characters.next().expect("a character behind the backslash"),
                special => {
                    assert!(!"|*+?()[]{}.^$".contains(special), "{pattern}");
                    special
                }
            });
        }
        literal
    }

    fn matches(regex: &[char], name: &str) -> bool {
        name.chars().eq(regex.iter().copied())
    }
}
