//! Qualified names within statements, exchanged for others.
//!
//! Definitions that were read with an empty search_path name everything with its schema. So a name is
//! two identifiers and a dot, outside of strings; and what stands in a string is a name where it is
//! cast to regclass (`nextval('s.q'::regclass)`), and text everywhere else.

use std::ops::Range;

use bstr::{BStr, BString, ByteSlice};

use super::quote::{literal, qualified};

/// What `renamed` gives for what stands before a name in a string that is cast to regclass: no token
/// is like it.
pub const REGCLASS: &[u8] = b"::regclass";

/// The statements with each name exchanged for which `to` gives another. It is told what stands before
/// the name, as it is written, since names of different sorts may be equal: the statement's keyword
/// (INDEX) or whatever else, or nothing.
pub fn renamed(
    text: &[u8],
    to: impl Fn(&[u8], &BStr, &BStr) -> Option<(BString, BString)>,
) -> BString {
    let tokens = tokens(text);
    let mut result = BString::default();
    let mut copied = 0;
    let mut replace = |span: Range<usize>, by: BString| {
        result.extend_from_slice(&text[copied..span.start]);
        result.extend_from_slice(&by);
        copied = span.end;
    };
    for (at, token) in tokens.iter().enumerate() {
        match (&token.sort, tokens.get(at + 1..)) {
            (Sort::Name(schema), Some([dot, name, ..])) if dot.is(b'.') => {
                let before = at.checked_sub(1).map(|before| &tokens[before]);
                let continues = before.is_some_and(|before| before.is(b'.'));
                let before = before.map_or(&b""[..], |before| &text[before.span.clone()]);
                if let (false, Sort::Name(own)) = (continues, &name.sort)
                    && let Some((schema, own)) = to(before, schema.as_bstr(), own.as_bstr())
                {
                    replace(token.span.start..name.span.end, qualified(schema, own));
                }
            }
            (Sort::Text(value), Some([first, second, cast, ..]))
                if first.is(b':') && second.is(b':') && cast.is_word("regclass") =>
            {
                let name = tokens_of_name(value);
                if let Some((schema, own)) = name
                    && let Some((schema, own)) = to(REGCLASS, schema.as_bstr(), own.as_bstr())
                {
                    replace(token.span.clone(), literal(qualified(schema, own)));
                }
            }
            _ => {}
        }
    }
    result.extend_from_slice(&text[copied..]);
    result
}

/// Whether a text, such as the body of a function, has this name as a word anywhere.
pub fn mentions(text: &[u8], name: &[u8]) -> bool {
    let is_part = |byte: Option<&u8>| byte.is_some_and(|byte| is_word(*byte));
    !name.is_empty()
        && text.find_iter(name).any(|at| {
            let before = at.checked_sub(1).and_then(|at| text.get(at));
            !is_part(before) && !is_part(text.get(at + name.len()))
        })
}

fn tokens_of_name(value: &[u8]) -> Option<(BString, BString)> {
    match tokens(value).as_slice() {
        [
            Token {
                sort: Sort::Name(schema),
                ..
            },
            dot,
            Token {
                sort: Sort::Name(name),
                ..
            },
        ] if dot.is(b'.') => Some((schema.clone(), name.clone())),
        _ => None,
    }
}

struct Token {
    span: Range<usize>,
    sort: Sort,
}

enum Sort {
    /// An identifier, or a keyword.
    Name(BString),
    /// What a string literal holds.
    Text(BString),
    Sign(u8),
    /// In dollar quotes, or a number.
    Other,
}

impl Token {
    fn is(&self, sign: u8) -> bool {
        matches!(self.sort, Sort::Sign(own) if own == sign)
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(&self.sort, Sort::Name(name) if name == word)
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x80..)
}

fn tokens(text: &[u8]) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let start = at;
        let sort = match byte {
            b'"' => {
                let (name, length) = quoted(&text[at..], b'"', false);
                at += length;
                Sort::Name(name)
            }
            b'\'' => {
                let (value, length) = quoted(&text[at..], b'\'', false);
                at += length;
                Sort::Text(value)
            }
            b'E' if text.get(at + 1) == Some(&b'\'') => {
                let (value, length) = quoted(&text[at + 1..], b'\'', true);
                at += 1 + length;
                Sort::Text(value)
            }
            b'$' => {
                at += dollar_quoted(&text[at..]);
                Sort::Other
            }
            b'0'..=b'9' => {
                at += text[at..].iter().take_while(|byte| is_word(**byte)).count();
                Sort::Other
            }
            _ if is_word(byte) => {
                at += text[at..].iter().take_while(|byte| is_word(**byte)).count();
                Sort::Name(text[start..at].into())
            }
            _ => {
                at += 1;
                if byte.is_ascii_whitespace() {
                    continue;
                }
                Sort::Sign(byte)
            }
        };
        tokens.push(Token {
            span: start..at,
            sort,
        });
    }
    tokens
}

/// What stands in the quotes here, and how long it is with them.
fn quoted(text: &[u8], quote: u8, escapes: bool) -> (BString, usize) {
    let mut inside = BString::default();
    let mut at = 1;
    while let Some(&byte) = text.get(at) {
        at += 1;
        if byte == quote {
            if text.get(at) != Some(&quote) {
                break;
            }
            at += 1;
        }
        // only \\ is written by a server; of others the meaning does not matter here
        if escapes && byte == b'\\' {
            inside.extend(text.get(at));
            at += 1;
        } else {
            inside.push(byte);
        }
    }
    (inside, at.min(text.len()))
}

/// The length of a string in dollar quotes; 1 for any other dollar sign.
fn dollar_quoted(text: &[u8]) -> usize {
    let tag = text[1..]
        .iter()
        .take_while(|byte| is_word(**byte) && **byte != b'$')
        .count();
    let Some(tag) = text.get(..tag + 2).filter(|tag| tag.ends_with(b"$")) else {
        return 1;
    };
    match text[tag.len()..].find(tag) {
        Some(end) => tag.len() + end + tag.len(),
        None => text.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(text: &str) -> String {
        let to = |before: &[u8], schema: &BStr, name: &BStr| {
            let is_index = name == "i" && before == b"INDEX";
            let is_relation = name == "q" && before == REGCLASS;
            let own =
                schema == "s" && (name == "t" || name == "o\"d.d'\\" || is_index || is_relation);
            own.then(|| ("N w".into(), name.to_owned()))
        };
        renamed(text.as_bytes(), to).to_string()
    }

    #[test]
    fn names_move_and_texts_stay() {
        for (text, expected) in [
            (
                "CREATE TABLE s.t (a s.u);",
                "CREATE TABLE \"N w\".t (a s.u);",
            ),
            ("\"s\".\"t\"", "\"N w\".t"),
            ("s.t.s.t", "\"N w\".t.s.t"),
            ("s.tt ss.t s.\"T\" x.s.t", "s.tt ss.t s.\"T\" x.s.t"),
            ("nextval('s.q'::regclass)", "nextval('\"N w\".q'::regclass)"),
            ("'s.q'::text", "'s.q'::text"),
            ("'a s.q'::regclass", "'a s.q'::regclass"),
            (
                "COMMENT ON TABLE s.t IS 'of s.t';",
                "COMMENT ON TABLE \"N w\".t IS 'of s.t';",
            ),
            ("AS $$SELECT s.t$$ s.t", "AS $$SELECT s.t$$ \"N w\".t"),
            ("AS $_$ $$ s.t $_$", "AS $_$ $$ s.t $_$"),
            ("E'it\\'s s.t' s.t", "E'it\\'s s.t' \"N w\".t"),
            ("'it''s s.t' || s.t", "'it''s s.t' || \"N w\".t"),
            ("s.\"o\"\"d.d'\\\"", "\"N w\".\"o\"\"d.d'\\\""),
            (
                "E's.\"o\"\"d.d''\\\\\"'::regclass",
                "E'\"N w\".\"o\"\"d.d''\\\\\"'::regclass",
            ),
            ("'open s.t", "'open s.t"),
            (
                "ALTER INDEX s.i; \"INDEX\" s.i s.q",
                "ALTER INDEX \"N w\".i; \"INDEX\" s.i s.q",
            ),
            ("$1.t s.t", "$1.t \"N w\".t"),
            ("", ""),
        ] {
            assert_eq!(moved(text), expected, "{text}");
        }
    }

    #[test]
    fn words_are_whole() {
        assert!(mentions(b"INSERT INTO orders VALUES", b"orders"));
        assert!(mentions(b"\"s\".\"orders\"", b"orders"));
        assert!(!mentions(b"orders2 my_orders", b"orders"));
    }
}
