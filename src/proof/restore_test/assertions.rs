//! The user's own assertions: statements of SQL files. One that returns rows must return a single
//! column of truth values, all of them true; any other must not fail.

use std::path::PathBuf;

use bstr::ByteSlice;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::postgres::{Connector, Session};

/// OID of type boolean, the same on every server.
const BOOLEAN: u32 = 16;

#[derive(Debug, Clone)]
pub struct AssertionFile {
    name: String,
    text: Vec<u8>,
}

/// What came of one statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Assertion {
    pub file: String,
    pub line: usize,
    /// Its first line.
    pub statement: String,
    /// None: it holds.
    pub problem: Option<String>,
}

impl AssertionFile {
    pub fn read(path: PathBuf) -> Result<AssertionFile> {
        let name = path.display().to_string();
        let text = std::fs::read(&path)
            .map_err(|error| Error::new(format!("could not read \"{name}\": {error}")))?;
        if statements(&text).is_empty() {
            return Err(Error::new(format!("file \"{name}\" holds no statement"))
                .hint("for example SELECT count(*) > 0 FROM orders;"));
        }
        Ok(AssertionFile { name, text })
    }
}

/// Asks the statements of a file in one session, one after the other. That one does not hold does not
/// keep the rest from being asked.
pub async fn ask(connector: &Connector, file: &AssertionFile) -> Result<Vec<Assertion>> {
    let mut session = connector.open().await?;
    let mut asked = Vec::new();
    for (line, text) in statements(&file.text) {
        let problem = ask_one(&mut session, text).await;
        let first = text.lines().next().unwrap_or_default();
        asked.push(Assertion {
            file: file.name.clone(),
            line,
            statement: first.trim_ascii().to_str_lossy().into_owned(),
            problem,
        });
        if session.is_lost() {
            return Ok(asked);
        }
    }
    session.close().await;
    Ok(asked)
}

async fn ask_one(session: &mut Session, text: &[u8]) -> Option<String> {
    let results = match session.query_all(text).await {
        Ok(results) => results,
        Err(error) => return Some(error.to_string()),
    };
    for rows in results.iter().filter(|rows| !rows.columns().is_empty()) {
        let [column] = rows.columns() else {
            return Some("it returns several columns, not one that is true or false".to_owned());
        };
        if column.type_oid != BOOLEAN {
            return Some("what it returns is not true or false".to_owned());
        }
        for row in rows.iter() {
            match row.at(0).map(|value| value.to_vec()).as_deref() {
                Some(b"t") => {}
                Some(_) => return Some("it is false".to_owned()),
                None => return Some("it is null".to_owned()),
            }
        }
    }
    None
}

/// The statements of a text, each with its line, without comments before it. Wherever this errs, the
/// server finds a syntax error.
fn statements(text: &[u8]) -> Vec<(usize, &[u8])> {
    let mut found = Vec::new();
    let mut at = 0;
    // where the statement begins, once there is more than white space and comments
    let mut start: Option<usize> = None;
    while let Some(&byte) = text.get(at) {
        let length = match byte {
            byte if byte.is_ascii_whitespace() => {
                at += 1;
                continue;
            }
            b'-' if text[at..].starts_with(b"--") => {
                at += text[at..].find_byte(b'\n').unwrap_or(text.len() - at);
                continue;
            }
            b'/' if text[at..].starts_with(b"/*") => {
                at += end_of_comment(&text[at..]);
                continue;
            }
            b';' => {
                if let Some(start) = start.take() {
                    found.push(numbered(text, start, at + 1));
                }
                at += 1;
                continue;
            }
            b'\'' => {
                let escapes = at >= 1
                    && matches!(text[at - 1], b'e' | b'E')
                    && !at
                        .checked_sub(2)
                        .is_some_and(|before| is_word(text[before]));
                end_of_quote(&text[at..], escapes)
            }
            b'"' => end_of_quote(&text[at..], false),
            b'$' if at == 0 || !is_word(text[at - 1]) => end_of_dollars(&text[at..]),
            _ => 1,
        };
        start.get_or_insert(at);
        at += length;
    }
    if let Some(start) = start {
        found.push(numbered(text, start, text.len()));
    }
    found
}

fn numbered(text: &[u8], start: usize, end: usize) -> (usize, &[u8]) {
    let line = 1 + text[..start].iter().filter(|byte| **byte == b'\n').count();
    (line, text[start..end].trim_ascii_end())
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | 0x80..)
}

/// Of a text that begins with a quote. A doubled one ends it too, and begins another.
fn end_of_quote(text: &[u8], escapes: bool) -> usize {
    let mut bytes = text.iter().enumerate().skip(1);
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'\\' if escapes => {
                bytes.next();
            }
            byte if Some(byte) == text.first() => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Of a text that begins with a dollar: `$tag$...$tag$`, or the sign alone.
fn end_of_dollars(text: &[u8]) -> usize {
    let name = text[1..].iter().take_while(|byte| is_word(**byte)).count();
    let Some(tag) = text.get(..name + 2).filter(|tag| tag.ends_with(b"$")) else {
        return 1;
    };
    if tag[1].is_ascii_digit() {
        return 1;
    }
    match text[tag.len()..].find(tag) {
        Some(end) => end + 2 * tag.len(),
        None => text.len(),
    }
}

/// Of a text that begins with a comment, which may hold others.
fn end_of_comment(text: &[u8]) -> usize {
    let (mut at, mut depth) = (0, 0);
    while at < text.len() {
        if text[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::statements;

    fn of(text: &str) -> Vec<(usize, &str)> {
        statements(text.as_bytes())
            .into_iter()
            .map(|(line, text)| (line, std::str::from_utf8(text).unwrap()))
            .collect()
    }

    #[test]
    fn statements_end_where_the_server_ends_them() {
        for (text, expected) in [
            ("", vec![]),
            (" ;; -- nothing ;\n/* ; /* ; */ ; */", vec![]),
            ("SELECT true", vec![(1, "SELECT true")]),
            (
                "-- first\nSELECT 1;\n\n  SELECT\n2; ",
                vec![(2, "SELECT 1;"), (4, "SELECT\n2;")],
            ),
            (
                "SELECT ';'';', \";\", E'\\';', 'a\\'; SELECT 2;",
                vec![
                    (1, "SELECT ';'';', \";\", E'\\';', 'a\\';"),
                    (1, "SELECT 2;"),
                ],
            ),
            (
                "DO $$ BEGIN ASSERT true; END $$; DO $a_1$ $$;$$ $a_1$;",
                vec![
                    (1, "DO $$ BEGIN ASSERT true; END $$;"),
                    (1, "DO $a_1$ $$;$$ $a_1$;"),
                ],
            ),
            (
                "SELECT a$b, $1; SELECT 1 /* ; */ + 1 -- ;\n;",
                vec![(1, "SELECT a$b, $1;"), (1, "SELECT 1 /* ; */ + 1 -- ;\n;")],
            ),
            ("SELECT 'open;", vec![(1, "SELECT 'open;")]),
            ("SELECT $x$ open;", vec![(1, "SELECT $x$ open;")]),
        ] {
            assert_eq!(of(text), expected, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics_and_nothing_is_lost(text in "[;'\"$a1Ee\\\\/*\n -]{0,40}") {
            let mut rest = text.as_str();
            for (_, statement) in of(&text) {
                let at = rest.find(statement).expect("in order");
                rest = &rest[at + statement.len()..];
            }
        }
    }
}
