//! Rows in COPY's text format, read piece by piece: a row may be larger than memory should be.
//!
//! Only what COPY TO writes is taken; COPY FROM would take more (`\.`, octal numbers, a backslash
//! before anything). So no line of rows that passed can be taken for the end of a COPY.

use crate::error::{Error, Result};

/// What the fields of rows are told to. A field's text may come in many parts, or in none.
pub trait Fields {
    fn text(&mut self, part: &[u8]) -> Result<()>;
    fn null(&mut self) -> Result<()>;
    fn end_field(&mut self) -> Result<()>;
    fn end_row(&mut self) -> Result<()>;
}

/// For those who only want rows to be checked.
pub struct Unread;

impl Fields for Unread {
    fn text(&mut self, _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn null(&mut self) -> Result<()> {
        Ok(())
    }

    fn end_field(&mut self) -> Result<()> {
        Ok(())
    }

    fn end_row(&mut self) -> Result<()> {
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    FieldStart,
    Within,
    /// Behind a backslash; whether the field begins with it.
    Escape {
        first: bool,
    },
    /// Behind `\N`, which is the whole field.
    Null,
}

#[derive(Debug)]
pub struct TextRows {
    /// A row without columns is an empty line, as is one empty field.
    columns: usize,
    /// Fields of the row that have ended.
    fields: usize,
    state: State,
    rows: u64,
}

impl TextRows {
    /// For rows of so many columns, which may be none.
    pub fn new(columns: usize) -> TextRows {
        TextRows {
            columns,
            fields: 0,
            state: State::FieldStart,
            rows: 0,
        }
    }

    /// Rows that have ended.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    pub fn is_between_rows(&self) -> bool {
        self.fields == 0 && self.state == State::FieldStart
    }

    /// Reads on, from where the last piece ended.
    pub fn read(&mut self, mut bytes: &[u8], fields: &mut impl Fields) -> Result<()> {
        while let Some(&byte) = bytes.first() {
            if let State::Escape { first } = self.state {
                self.escaped(byte, first, fields)?;
                bytes = &bytes[1..];
                continue;
            }
            if matches!(byte, b'\t' | b'\n') {
                self.end_field(byte == b'\n', fields)?;
                bytes = &bytes[1..];
                continue;
            }
            if self.state == State::Null {
                return Err(invalid("something follows \\N"));
            }
            if byte == b'\\' {
                let first = self.state == State::FieldStart;
                self.state = State::Escape { first };
                bytes = &bytes[1..];
                continue;
            }
            let length = bytes.iter().position(|byte| is_special(*byte));
            let (part, rest) = bytes.split_at(length.unwrap_or(bytes.len()));
            if part.is_empty() {
                return Err(invalid("a control character is not escaped"));
            }
            self.has_text()?;
            fields.text(part)?;
            bytes = rest;
        }
        Ok(())
    }

    fn has_text(&mut self) -> Result<()> {
        if self.columns == 0 {
            return Err(self.wrong_count("more"));
        }
        self.state = State::Within;
        Ok(())
    }

    fn escaped(&mut self, byte: u8, first: bool, fields: &mut impl Fields) -> Result<()> {
        self.has_text()?;
        let meant = match byte {
            b'N' if first => {
                self.state = State::Null;
                return fields.null();
            }
            b'b' => b'\x08',
            b'f' => b'\x0c',
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => b'\x0b',
            b'\\' => b'\\',
            _ => return Err(invalid("a backslash stands where COPY would not write one")),
        };
        fields.text(&[meant])
    }

    fn end_field(&mut self, ends_row: bool, fields: &mut impl Fields) -> Result<()> {
        self.state = State::FieldStart;
        self.fields += 1;
        let expected = self.columns.max(1);
        if !ends_row {
            if self.fields >= expected {
                return Err(self.wrong_count("more"));
            }
            return fields.end_field();
        }
        if self.fields < expected {
            return Err(self.wrong_count("fewer"));
        }
        self.fields = 0;
        self.rows += 1;
        if self.columns > 0 {
            fields.end_field()?;
        }
        fields.end_row()
    }

    fn wrong_count(&self, which: &str) -> Error {
        invalid(&format!(
            "it has {which} fields than {} columns",
            self.columns
        ))
    }
}

/// Those that COPY escapes, and zero, which text cannot hold.
fn is_special(byte: u8) -> bool {
    matches!(byte, 0 | b'\x08'..=b'\r' | b'\\')
}

fn invalid(problem: &str) -> Error {
    Error::new(format!("a row is not as COPY writes rows: {problem}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Rows as lists of fields.
    #[derive(Debug, Default, PartialEq, Eq)]
    struct Collected {
        rows: Vec<Vec<Option<Vec<u8>>>>,
        row: Vec<Option<Vec<u8>>>,
        field: Vec<u8>,
        is_null: bool,
    }

    impl Fields for Collected {
        fn text(&mut self, part: &[u8]) -> Result<()> {
            self.field.extend_from_slice(part);
            Ok(())
        }

        fn null(&mut self) -> Result<()> {
            self.is_null = true;
            Ok(())
        }

        fn end_field(&mut self) -> Result<()> {
            let field = std::mem::take(&mut self.field);
            let is_null = std::mem::take(&mut self.is_null);
            self.row.push((!is_null).then_some(field));
            Ok(())
        }

        fn end_row(&mut self) -> Result<()> {
            self.rows.push(std::mem::take(&mut self.row));
            Ok(())
        }
    }

    fn read(columns: usize, pieces: &[&[u8]]) -> Result<Collected> {
        let mut rows = TextRows::new(columns);
        let mut collected = Collected::default();
        for piece in pieces {
            rows.read(piece, &mut collected)?;
        }
        assert_eq!(rows.rows(), collected.rows.len() as u64);
        assert!(rows.is_between_rows());
        Ok(collected)
    }

    #[test]
    fn fields_are_what_copy_wrote() {
        let text = b"1\t\\N\t\n\\\\N\t\\\\.\t\\b\\f\\n\\r\\t\\v'\n";
        let expected = vec![
            vec![Some(b"1".to_vec()), None, Some(Vec::new())],
            vec![
                Some(b"\\N".to_vec()),
                Some(b"\\.".to_vec()),
                Some(b"\x08\x0c\n\r\t\x0b'".to_vec()),
            ],
        ];
        assert_eq!(read(3, &[text]).unwrap().rows, expected);
        assert_eq!(read(0, &[b"\n\n"]).unwrap().rows, [vec![], vec![]]);
        assert_eq!(read(1, &[b"\n"]).unwrap().rows, [vec![Some(Vec::new())]]);
    }

    #[test]
    fn nothing_else_is_taken() {
        for (columns, text) in [
            (1, &b"\\.\n"[..]),
            (1, b"a\\.\n"),
            (1, b"\\x41\n"),
            (1, b"\\101\n"),
            (1, b"\\a\n"),
            (1, b"\\\n\n"),
            (1, b"a\\N\n"),
            (1, b"\\Na\n"),
            (1, b"\\N\\N\n"),
            (1, b"a\rb\n"),
            (1, b"a\0b\n"),
            (1, b"a\x0bb\n"),
            (1, b"a\tb\n"),
            (3, b"a\tb\n"),
            (0, b"a\n"),
            (0, b"\\N\n"),
            (0, b"\t\n"),
        ] {
            let error = read(columns, &[text]).expect_err("an invalid row");
            let words = error.to_string();
            assert!(words.starts_with("a row is not as COPY writes"), "{words}");
        }
    }

    /// As CopyAttributeOutText does.
    fn written(rows: &[Vec<Option<Vec<u8>>>]) -> Vec<u8> {
        let mut text = Vec::new();
        for row in rows {
            for (position, field) in row.iter().enumerate() {
                if position > 0 {
                    text.push(b'\t');
                }
                let Some(field) = field else {
                    text.extend_from_slice(b"\\N");
                    continue;
                };
                for &byte in field {
                    match b"\x08\x0c\n\r\t\x0b\\"
                        .iter()
                        .position(|known| *known == byte)
                    {
                        Some(at) => text.extend_from_slice(&[b'\\', b"bfnrtv\\"[at]]),
                        None => text.push(byte),
                    }
                }
            }
            text.push(b'\n');
        }
        text
    }

    fn field() -> impl Strategy<Value = Option<Vec<u8>>> {
        let byte = prop_oneof![
            proptest::sample::select(b"\x08\x0c\n\r\t\x0b\\N.'".to_vec()),
            1_u8..,
        ];
        proptest::option::of(proptest::collection::vec(byte, 0..12))
    }

    proptest! {
        #[test]
        fn whatever_copy_writes_is_read_however_it_is_cut(
            (columns, rows) in (0_usize..4).prop_flat_map(|columns| {
                let row = proptest::collection::vec(field(), columns);
                (Just(columns), proptest::collection::vec(row, 0..5))
            }),
            cut in 1_usize..7,
        ) {
            let text = written(&rows);
            let pieces: Vec<&[u8]> = text.chunks(cut).collect();
            prop_assert_eq!(read(columns, &pieces).unwrap().rows, rows);
        }
    }
}
