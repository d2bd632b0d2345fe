//! Result rows in text form, read by column name.

use std::str::FromStr;
use std::sync::Arc;

use bstr::{BStr, BString, ByteSlice};

use super::message::Cursor;
use crate::error::{Error, Result, SqlState};
use crate::sql::array;

/// A column of a result, as the server describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub name: BString,
    /// Its number in the table that it comes from; zero if from none.
    pub number: i16,
    pub type_oid: u32,
}

impl Column {
    /// All columns of a RowDescription.
    pub(super) fn parse_all(body: &[u8]) -> Result<Vec<Column>> {
        let mut cursor = Cursor(body);
        let count = cursor.u16()?;
        (0..count)
            .map(|_| {
                let name = BString::from(cursor.cstring()?.as_bytes());
                let _table: [u8; 4] = cursor.array()?;
                let number = i16::from_be_bytes(cursor.array()?);
                let type_oid = u32::from_be_bytes(cursor.array()?);
                let _size_modifier_format: [u8; 8] = cursor.array()?;
                Ok(Column {
                    name,
                    number,
                    type_oid,
                })
            })
            .collect()
    }
}

/// All rows of one result.
#[derive(Debug, Default)]
pub struct Rows {
    pub(super) columns: Arc<Vec<Column>>,
    pub(super) rows: Vec<Row>,
}

impl Rows {
    /// Described even where there are no rows.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Row> {
        self.rows.iter()
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The only row of a result that always has exactly one.
    pub fn only(&self) -> Result<&Row> {
        match self.rows.as_slice() {
            [row] => Ok(row),
            rows => Err(Error::new(format!(
                "expected one row from the server, got {}",
                rows.len()
            ))),
        }
    }
}

impl<'a> IntoIterator for &'a Rows {
    type Item = &'a Row;
    type IntoIter = std::slice::Iter<'a, Row>;

    fn into_iter(self) -> Self::IntoIter {
        self.rows.iter()
    }
}

#[derive(Debug)]
pub struct Row {
    columns: Arc<Vec<Column>>,
    data: Vec<u8>,
    fields: Vec<Option<(u32, u32)>>,
}

impl Row {
    pub(super) fn parse(columns: &Arc<Vec<Column>>, body: &[u8]) -> Result<Row> {
        let mut cursor = Cursor(body);
        let count = cursor.u16()?;
        if usize::from(count) != columns.len() {
            return Err(Error::new(
                "the server sent a row of another width than it announced",
            ));
        }
        let mut data = Vec::with_capacity(body.len());
        let mut fields = Vec::with_capacity(columns.len());
        for _ in 0..count {
            let length = cursor.i32()?;
            fields.push(match usize::try_from(length) {
                Err(_) => None,
                Ok(length) => {
                    let start = data.len() as u32;
                    data.extend_from_slice(cursor.bytes(length)?);
                    Some((start, length as u32))
                }
            });
        }
        Ok(Row {
            columns: Arc::clone(columns),
            data,
            fields,
        })
    }

    /// A column that may be NULL.
    pub fn optional(&self, column: &str) -> Result<Option<&BStr>> {
        let index = self
            .columns
            .iter()
            .position(|known| known.name == column)
            .ok_or_else(|| Error::new(format!("the result has no column \"{column}\"")))?;
        Ok(self.at(index))
    }

    /// A column by position; None for NULL or past the end.
    pub fn at(&self, index: usize) -> Option<&BStr> {
        let (start, length) = (*self.fields.get(index)?)?;
        let start = start as usize;
        Some(self.data[start..start + length as usize].as_bstr())
    }

    /// A column that is never NULL, unless it describes what was dropped meanwhile: the SQLSTATE of
    /// the error tells such a case from others.
    pub fn bytes(&self, column: &str) -> Result<&BStr> {
        self.optional(column)?.ok_or_else(|| {
            Error::new(format!("column \"{column}\" is unexpectedly null"))
                .with_sqlstate(SqlState::NULL_VALUE_NOT_ALLOWED)
        })
    }

    /// An owned copy of a column.
    pub fn text(&self, column: &str) -> Result<BString> {
        self.bytes(column).map(BStr::to_owned)
    }

    pub fn optional_text(&self, column: &str) -> Result<Option<BString>> {
        Ok(self.optional(column)?.map(BStr::to_owned))
    }

    pub fn string(&self, column: &str) -> Result<String> {
        Ok(self.bytes(column)?.to_str_lossy().into_owned())
    }

    pub fn bool(&self, column: &str) -> Result<bool> {
        Ok(self.bytes(column)? == "t")
    }

    /// A "char" column; zero where it is empty.
    pub fn char(&self, column: &str) -> Result<u8> {
        Ok(self.bytes(column)?.first().copied().unwrap_or(0))
    }

    /// Any type that Rust parses as PostgreSQL prints it: integers, OIDs, floats.
    pub fn number<T: FromStr>(&self, column: &str) -> Result<T> {
        let text = self.bytes(column)?;
        parse_number(text)
            .ok_or_else(|| Error::new(format!("column \"{column}\" holds no number: {text}")))
    }

    pub fn optional_number<T: FromStr>(&self, column: &str) -> Result<Option<T>> {
        match self.optional(column)? {
            None => Ok(None),
            Some(_) => self.number(column).map(Some),
        }
    }

    /// An array of numbers, `{1,2}`, or a vector, `1 2`. NULL is empty.
    pub fn numbers<T: FromStr>(&self, column: &str) -> Result<Vec<T>> {
        let Some(text) = self.optional(column)? else {
            return Ok(Vec::new());
        };
        text.trim_with(|c| c == '{' || c == '}')
            .split(|byte| matches!(byte, b',' | b' '))
            .filter(|piece| !piece.is_empty())
            .map(|piece| {
                parse_number(piece.as_bstr()).ok_or_else(|| {
                    Error::new(format!("column \"{column}\" holds no numbers: {text}"))
                })
            })
            .collect()
    }

    /// An array of text. NULL is empty, NULL elements are None.
    pub fn array(&self, column: &str) -> Result<Vec<Option<BString>>> {
        self.optional(column)?
            .map_or(Ok(Vec::new()), |text| array::parse(text))
    }

    /// An array of text without NULL elements.
    pub fn texts(&self, column: &str) -> Result<Vec<BString>> {
        Ok(self.array(column)?.into_iter().flatten().collect())
    }
}

fn parse_number<T: FromStr>(text: &BStr) -> Option<T> {
    text.to_str().ok()?.parse().ok()
}
