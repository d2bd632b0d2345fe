//! Filter files (`--filter`), in pg_dump's grammar: a command, a kind of object and a pattern on
//! each line.
//!
//! ```text
//! # comments, to the end of a line
//! include table public.orders*
//! exclude table_data "Odd Name"
//! ```

use std::io::Read;
use std::path::Path;

use bstr::BString;

use crate::error::{Error, Result};

/// One line that says something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    pub command: Command,
    pub object: ObjectType,
    /// As on the command line, quotes and all; white space as it is written once.
    pub pattern: BString,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    Include,
    Exclude,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectType {
    TableData,
    TableDataAndChildren,
    Database,
    Extension,
    ForeignData,
    Function,
    Index,
    Schema,
    Table,
    TableAndChildren,
    Trigger,
}

/// Keywords of the grammar; messages write spaces for the underscores.
const OBJECT_TYPES: [(&str, ObjectType); 11] = [
    ("table_data", ObjectType::TableData),
    ("table_data_and_children", ObjectType::TableDataAndChildren),
    ("database", ObjectType::Database),
    ("extension", ObjectType::Extension),
    ("foreign_data", ObjectType::ForeignData),
    ("function", ObjectType::Function),
    ("index", ObjectType::Index),
    ("schema", ObjectType::Schema),
    ("table", ObjectType::Table),
    ("table_and_children", ObjectType::TableAndChildren),
    ("trigger", ObjectType::Trigger),
];

/// "file \"x\" on line 3"
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    source: String,
    line: usize,
}

impl Place {
    fn refusal(&self, what: impl std::fmt::Display) -> Error {
        Error::new(format!(
            "invalid format in filter read from {} on line {}: {what}",
            self.source, self.line
        ))
        .hint("each line is \"include\" or \"exclude\", a kind of object, and a pattern")
    }
}

impl Item {
    /// Of a command whose filters have no such line.
    pub fn not_allowed(&self) -> Error {
        let command = match self.command {
            Command::Include => "include",
            Command::Exclude => "exclude",
        };
        let keyword = OBJECT_TYPES
            .iter()
            .find(|(_, object)| *object == self.object)
            .map_or("", |(keyword, _)| keyword);
        self.place.refusal(format_args!(
            "{command} filter for \"{}\" is not allowed",
            keyword.replace('_', " ")
        ))
    }
}

/// Reads a file; `-` is standard input.
pub fn read(path: &Path) -> Result<Vec<Item>> {
    let mut text = Vec::new();
    let source = if path.as_os_str() == "-" {
        std::io::stdin()
            .lock()
            .read_to_end(&mut text)
            .map_err(|error| {
                Error::new(format!(
                    "could not read filters from standard input: {error}"
                ))
            })?;
        "standard input".to_owned()
    } else {
        text = std::fs::read(path).map_err(|error| {
            let path = path.display();
            Error::new(format!("could not open filter file \"{path}\": {error}"))
        })?;
        format!("file \"{}\"", path.display())
    };
    parse(&text, source)
}

fn parse(text: &[u8], source: String) -> Result<Vec<Item>> {
    let mut parser = Parser {
        rest: text,
        place: Place { source, line: 0 },
    };
    let mut items = Vec::new();
    while let Some(line) = parser.next_line() {
        items.extend(parser.item(line)?);
    }
    Ok(items)
}

struct Parser<'a> {
    /// Lines that are still to come.
    rest: &'a [u8],
    place: Place,
}

impl<'a> Parser<'a> {
    fn next_line(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        let end = self.rest.iter().position(|&byte| byte == b'\n');
        let (line, rest) = match end {
            Some(end) => (&self.rest[..end], &self.rest[end + 1..]),
            None => (self.rest, &b""[..]),
        };
        self.rest = rest;
        self.place.line += 1;
        // a zero byte ends a line, as it would an argument
        let line = line.split(|&byte| byte == 0).next().unwrap_or_default();
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }

    fn item(&mut self, line: &'a [u8]) -> Result<Option<Item>> {
        let line = line.trim_ascii_start();
        if line.is_empty() || line[0] == b'#' {
            return Ok(None);
        }
        let place = self.place.clone();
        const EXPECTED: &str = "(expected \"include\" or \"exclude\")";
        let (command, line) = keyword(line);
        let command = match command.to_ascii_lowercase().as_slice() {
            b"include" => Command::Include,
            b"exclude" => Command::Exclude,
            b"" => {
                let what = format!("no filter command found {EXPECTED}");
                return Err(place.refusal(what));
            }
            _ => {
                let what = format!("invalid filter command {EXPECTED}");
                return Err(place.refusal(what));
            }
        };
        let (object, line) = keyword(line);
        if object.is_empty() {
            return Err(place.refusal("missing filter object type"));
        }
        let object = OBJECT_TYPES
            .iter()
            .find(|(keyword, _)| object.eq_ignore_ascii_case(keyword.as_bytes()))
            .map(|(_, object)| *object)
            .ok_or_else(|| {
                place.refusal(format_args!(
                    "unsupported filter object type: \"{}\"",
                    String::from_utf8_lossy(object)
                ))
            })?;
        let pattern = self.pattern(line)?;
        Ok(Some(Item {
            command,
            object,
            pattern,
            place,
        }))
    }

    /// The pattern, which may go on over lines within quotes. White space outside of quotes counts
    /// once, and not at all beside punctuation.
    fn pattern(&mut self, line: &'a [u8]) -> Result<BString> {
        let mut line = line.trim_ascii_start();
        if line.is_empty() {
            return Err(self.place.refusal("missing object name pattern"));
        }
        let mut pattern = BString::default();
        let mut skip_space = true;
        let mut found_space = false;
        while !line.is_empty() && line[0] != b'#' {
            let end = line
                .iter()
                .position(|&byte| is_space(byte) || b"#,.()\"".contains(&byte))
                .unwrap_or(line.len());
            if found_space && !skip_space && (end > 0 || line[0] == b'"') {
                pattern.push(b' ');
            }
            if end > 0 {
                pattern.extend_from_slice(&line[..end]);
                line = &line[end..];
            }
            skip_space = false;
            match line.first() {
                Some(b'"') => line = self.quoted(&line[1..], &mut pattern)?,
                Some(b',') => {
                    pattern.extend_from_slice(b", ");
                    skip_space = true;
                    line = &line[1..];
                }
                Some(&byte @ (b'.' | b'(' | b')')) => {
                    pattern.push(byte);
                    skip_space = true;
                    line = &line[1..];
                }
                _ => {}
            }
            let rest = line.trim_ascii_start();
            found_space = rest.len() < line.len();
            line = rest;
        }
        Ok(pattern)
    }

    /// From behind the opening quote; what follows the closing one.
    fn quoted(&mut self, mut line: &'a [u8], pattern: &mut BString) -> Result<&'a [u8]> {
        pattern.push(b'"');
        loop {
            match line {
                [] => {
                    line = self
                        .next_line()
                        .ok_or_else(|| self.place.refusal("unexpected end of file"))?;
                    pattern.push(b'\n');
                }
                [b'"', b'"', rest @ ..] => {
                    pattern.extend_from_slice(b"\"\"");
                    line = rest;
                }
                [b'"', rest @ ..] => {
                    pattern.push(b'"');
                    return Ok(rest);
                }
                [b'\\', b'n', rest @ ..] => {
                    pattern.push(b'\n');
                    line = rest;
                }
                [b'\\', b'\\', rest @ ..] => {
                    pattern.push(b'\\');
                    line = rest;
                }
                // pg_dump drops the backslash of an escape that it does not know, and what it escapes
                [b'\\', _, rest @ ..] | [b'\\', rest @ ..] => line = rest,
                [byte, rest @ ..] => {
                    pattern.push(*byte);
                    line = rest;
                }
            }
        }
    }
}

/// C's isspace.
fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}

/// The letters and underscores that a line begins with; empty unless the first is a letter.
fn keyword(line: &[u8]) -> (&[u8], &[u8]) {
    let line = line.trim_ascii_start();
    if !line.first().is_some_and(u8::is_ascii_alphabetic) {
        return (&[], line);
    }
    let end = line
        .iter()
        .position(|&byte| !byte.is_ascii_alphabetic() && byte != b'_')
        .unwrap_or(line.len());
    line.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(text: &str) -> Vec<String> {
        let items = parse(text.as_bytes(), "file \"f\"".to_owned()).expect("a filter file");
        items.iter().map(|item| item.pattern.to_string()).collect()
    }

    #[test]
    fn a_line_is_a_command_a_kind_and_a_pattern() {
        let text = "# first\n\n  include  table  public.*  # second\nEXCLUDE Table_Data t\r\n";
        let items = parse(text.as_bytes(), "file \"f\"".to_owned()).expect("a filter file");
        let found: Vec<_> = items
            .iter()
            .map(|item| (item.command, item.object, item.pattern.to_string()))
            .collect();
        assert_eq!(
            found,
            [
                (Command::Include, ObjectType::Table, "public.*".to_owned()),
                (Command::Exclude, ObjectType::TableData, "t".to_owned()),
            ]
        );
    }

    #[test]
    fn white_space_and_quotes_in_patterns() {
        for (text, expected) in [
            ("include table a", "a"),
            ("include table  a . b ", "a.b"),
            ("include table a  b", "a b"),
            ("include function f( int ,  text )", "f(int, text)"),
            ("include table \"A b\" . \"c#\"", "\"A b\".\"c#\""),
            ("include table \"say \"\"hi\"\"\"", "\"say \"\"hi\"\"\""),
            ("include table \"two\nlines\"", "\"two\nlines\""),
            ("include table \"two\\nlines\"", "\"two\nlines\""),
            ("include table \"a\\\\b\"", "\"a\\b\""),
            ("include table a#b", "a"),
            ("include table a \"B\"", "a \"B\""),
        ] {
            assert_eq!(patterns(text), [expected], "{text}");
        }
    }

    #[test]
    fn mistakes_are_told_with_file_and_line() {
        for (text, line, expected) in [
            (
                "\n-table t",
                2,
                "no filter command found (expected \"include\" or \"exclude\")",
            ),
            (
                "includes table t",
                1,
                "invalid filter command (expected \"include\" or \"exclude\")",
            ),
            ("include", 1, "missing filter object type"),
            ("include 5", 1, "missing filter object type"),
            (
                "include tables t",
                1,
                "unsupported filter object type: \"tables\"",
            ),
            ("\n\nexclude schema  ", 3, "missing object name pattern"),
            ("include table \"t\n", 1, "unexpected end of file"),
        ] {
            let error = parse(text.as_bytes(), "file \"f\"".to_owned()).expect_err(text);
            assert_eq!(
                error.to_string(),
                format!("invalid format in filter read from file \"f\" on line {line}: {expected}"),
                "{text}"
            );
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused() {
        proptest::proptest!(|(text: Vec<u8>)| {
            let _ = parse(&text, String::new());
        });
    }
}
