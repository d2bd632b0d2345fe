//! Contents of entries as SQL: rows as COPY or INSERT, values of sequences, large objects.

use bstr::BString;

use super::RowForm;
use super::output::{Open, Writer};
use super::reading::Piece;
use crate::archive::{Contents, Entry};
use crate::error::{Error, Result};
use crate::restore::load::sequence_value;
use crate::rows::text::{Fields, TextRows, Unread};
use crate::sql;

/// Rows of one entry that follow each other in the script.
pub struct Run {
    kind: Kind,
}

enum Kind {
    Copy(TextRows),
    Insert(TextRows, Insert),
    Sequence(BString, Vec<u8>),
    LargeObjects(TextRows, Pages),
}

impl Run {
    /// `overriding`: the table has a column that is GENERATED ALWAYS AS IDENTITY.
    pub fn begin(
        entry: &Entry,
        form: RowForm,
        overriding: bool,
        writer: &mut Writer,
    ) -> Result<Run> {
        let kind = match &entry.contents {
            Contents::None => return Err(Error::new("it has rows, and says that it has none")),
            Contents::SequenceValue { sequence } => Kind::Sequence(sequence.clone(), Vec::new()),
            Contents::LargeObjects => Kind::LargeObjects(TextRows::new(3), Pages::default()),
            Contents::Rows {
                relation, columns, ..
            } => {
                let relation = entry.load_into.as_ref().unwrap_or(relation);
                // else what follows COPY might not be read as rows
                if !sql::psql::is_relation(relation) {
                    return Err(Error::new(
                        "its rows belong to what is not the name of a table",
                    ));
                }
                let names = sql::join(columns.iter().map(sql::identifier), ", ");
                let count = columns.len();
                let text = TextRows::new(count);
                let list = match count {
                    0 => BString::default(),
                    _ => sql!(" ({})", names),
                };
                match form {
                    RowForm::Copy => {
                        let statement = sql!("COPY {}{} FROM stdin;\n", relation, list);
                        super::refuse_flaw(&statement)?;
                        writer.put(statement)?;
                        writer.open = Open::Copy { columns: count };
                        Kind::Copy(text)
                    }
                    RowForm::Insert {
                        rows_each,
                        on_conflict_do_nothing,
                    } => {
                        let overriding = match overriding {
                            true => " OVERRIDING SYSTEM VALUE",
                            false => "",
                        };
                        let head = match count {
                            0 => sql!("INSERT INTO {} DEFAULT VALUES", relation),
                            _ => sql!("INSERT INTO {}{}{} VALUES", relation, list, overriding),
                        };
                        let end = match on_conflict_do_nothing {
                            true => " ON CONFLICT DO NOTHING;\n",
                            false => ";\n",
                        };
                        super::refuse_flaw(&sql!("{} (){}", head, end))?;
                        let insert = Insert {
                            head,
                            end,
                            rows_each: if count == 0 { 1 } else { rows_each },
                            rows: 0,
                            fields: 0,
                            field: Field::None,
                        };
                        Kind::Insert(text, insert)
                    }
                }
            }
        };
        Ok(Run { kind })
    }

    pub fn add(&mut self, piece: &Piece, writer: &mut Writer) -> Result<()> {
        let bytes = piece.bytes();
        match &mut self.kind {
            Kind::Copy(rows) => {
                counted(rows, piece, &mut Unread)?;
                writer.put(bytes)
            }
            Kind::Insert(rows, insert) => counted(rows, piece, &mut Inserting { insert, writer }),
            Kind::LargeObjects(rows, pages) => counted(rows, piece, &mut Putting { pages, writer }),
            Kind::Sequence(_, row) => {
                row.extend_from_slice(bytes);
                match row.len() <= LONGEST_VALUE {
                    true => Ok(()),
                    false => Err(Error::new("the archive holds no value for the sequence")),
                }
            }
        }
    }

    pub fn end(self, writer: &mut Writer) -> Result<()> {
        match self.kind {
            Kind::Copy(_) => {
                writer.put("\\.\n\n")?;
                writer.open = Open::Nothing;
            }
            Kind::Insert(_, mut insert) => {
                insert.end_statement(writer)?;
                writer.put("\n")?;
            }
            Kind::LargeObjects(_, mut pages) => {
                pages.end_statement(writer)?;
                writer.put("\n")?;
            }
            Kind::Sequence(sequence, row) => {
                let (value, is_called) = sequence_value(&row)?;
                writer.put(sql!(
                    "SELECT pg_catalog.setval({}, {}, {});\n\n",
                    sql::literal(&sequence),
                    value.to_string(),
                    is_called.to_string()
                ))?;
            }
        }
        Ok(())
    }
}

/// Two numbers at most.
const LONGEST_VALUE: usize = 64;

/// Reads a piece, and holds it to what its segment says.
fn counted(rows: &mut TextRows, piece: &Piece, fields: &mut impl Fields) -> Result<()> {
    let before = rows.rows();
    rows.read(piece.bytes(), fields)?;
    if rows.rows() - before != piece.segment.rows || (piece.segment.last && !rows.is_between_rows())
    {
        return Err(
            Error::new("the archive holds other rows than it says").hint("rdump verify says more")
        );
    }
    Ok(())
}

struct Insert {
    head: BString,
    end: &'static str,
    rows_each: u32,
    /// Rows of the statement that is open.
    rows: u32,
    /// Fields of the row that is open.
    fields: usize,
    field: Field,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    None,
    Null,
    Literal,
}

impl Insert {
    /// What stands before a field: the statement, a parenthesis, a comma.
    fn begin_field(&mut self, writer: &mut Writer) -> Result<()> {
        if self.fields > 0 {
            return writer.put(", ");
        }
        if self.rows == 0 {
            writer.put(&self.head)?;
        }
        writer.open = Open::Statement {
            parentheses: 1,
            in_literal: false,
        };
        match (self.rows_each, self.rows) {
            (1, _) => writer.put(" ("),
            (_, 0) => writer.put("\n\t("),
            _ => writer.put(",\n\t("),
        }
    }

    fn end_statement(&mut self, writer: &mut Writer) -> Result<()> {
        if std::mem::take(&mut self.rows) > 0 {
            writer.put(self.end)?;
            writer.open = Open::Nothing;
        }
        Ok(())
    }
}

struct Inserting<'a> {
    insert: &'a mut Insert,
    writer: &'a mut Writer,
}

impl Inserting<'_> {
    fn begin_literal(&mut self) -> Result<()> {
        if self.insert.field == Field::None {
            self.insert.begin_field(self.writer)?;
            self.writer.put("'")?;
            self.writer.open = Open::Statement {
                parentheses: 1,
                in_literal: true,
            };
            self.insert.field = Field::Literal;
        }
        Ok(())
    }
}

/// Values are literals without a type, which take that of their column.
impl Fields for Inserting<'_> {
    fn text(&mut self, part: &[u8]) -> Result<()> {
        self.begin_literal()?;
        self.writer.put_literal_part(part)
    }

    fn null(&mut self) -> Result<()> {
        self.insert.begin_field(self.writer)?;
        self.insert.field = Field::Null;
        self.writer.put("NULL")
    }

    fn end_field(&mut self) -> Result<()> {
        if self.insert.field != Field::Null {
            self.begin_literal()?;
            self.writer.put("'")?;
            self.writer.open = Open::Statement {
                parentheses: 1,
                in_literal: false,
            };
        }
        self.insert.field = Field::None;
        self.insert.fields += 1;
        Ok(())
    }

    fn end_row(&mut self) -> Result<()> {
        let Inserting { insert, writer } = self;
        if insert.fields == 0 {
            writer.put(&insert.head)?;
        } else {
            writer.put(")")?;
            insert.fields = 0;
        }
        writer.open = Open::Statement {
            parentheses: 0,
            in_literal: false,
        };
        insert.rows += 1;
        match insert.rows >= insert.rows_each {
            true => insert.end_statement(writer),
            false => Ok(()),
        }
    }
}

/// Bytes of large objects in one statement, as hexadecimal text.
const PUT_AT_ONCE: usize = 256 << 10;

/// A page is 8 kB at most.
const LONGEST_PAGE: usize = 64 << 10;

/// Pages of large objects on their way into `lo_put`, which needs no open transaction.
#[derive(Default)]
struct Pages {
    fields: [Vec<u8>; 3],
    field: usize,
    /// What the open statement has of the object that it is at: its number, where its next byte
    /// belongs.
    open: Option<(u32, i64)>,
    /// Of the open statement; 0: none is open.
    length: usize,
}

impl Pages {
    fn end_statement(&mut self, writer: &mut Writer) -> Result<()> {
        if std::mem::take(&mut self.length) > 0 {
            self.open = None;
            writer.put("')) AS l (o, s, d);\n")?;
            writer.open = Open::Nothing;
        }
        Ok(())
    }

    /// Adds a page; one that continues what stands there lengthens it.
    fn add(&mut self, writer: &mut Writer) -> Result<()> {
        let number = |field: &[u8]| str::from_utf8(field).ok().map(str::to_owned);
        let oid: Option<u32> = number(&self.fields[0]).and_then(|text| text.parse().ok());
        let start: Option<i64> = number(&self.fields[1]).and_then(|text| text.parse().ok());
        let digits = self.fields[2].strip_prefix(b"\\x");
        let digits = digits
            .filter(|digits| digits.len() % 2 == 0 && digits.iter().all(u8::is_ascii_hexdigit));
        let (Some(oid), Some(start), Some(digits)) = (oid, start, digits) else {
            return Err(not_a_page());
        };
        if self.length > 0 && self.open != Some((oid, start)) {
            writer.put(format!("'),\n\t({oid}, {start}, '\\x"))?;
        } else if self.length == 0 {
            writer.put(format!(
                "SELECT pg_catalog.count(pg_catalog.lo_put(o, s, d)) FROM (VALUES\n\t\
                 ({oid}::pg_catalog.oid, {start}::pg_catalog.int8, \
                 pg_catalog.bytea '\\x"
            ))?;
            writer.open = Open::Statement {
                parentheses: 2,
                in_literal: true,
            };
        }
        writer.put(digits)?;
        let next = start.saturating_add(digits.len() as i64 / 2);
        self.open = Some((oid, next));
        self.length += digits.len() + 1;
        for field in &mut self.fields {
            field.clear();
        }
        match self.length >= PUT_AT_ONCE {
            true => self.end_statement(writer),
            false => Ok(()),
        }
    }
}

fn not_a_page() -> Error {
    Error::new("the archive holds what is no page of a large object")
}

struct Putting<'a> {
    pages: &'a mut Pages,
    writer: &'a mut Writer,
}

impl Fields for Putting<'_> {
    fn text(&mut self, part: &[u8]) -> Result<()> {
        let field = self.pages.fields.get_mut(self.pages.field);
        let field = field.ok_or_else(not_a_page)?;
        field.extend_from_slice(part);
        match field.len() <= LONGEST_PAGE {
            true => Ok(()),
            false => Err(not_a_page()),
        }
    }

    fn null(&mut self) -> Result<()> {
        Err(not_a_page())
    }

    fn end_field(&mut self) -> Result<()> {
        self.pages.field += 1;
        Ok(())
    }

    fn end_row(&mut self) -> Result<()> {
        self.pages.field = 0;
        self.pages.add(self.writer)
    }
}
