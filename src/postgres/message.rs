//! Bodies of the backend messages that matter here (PostgreSQL manual, "Message Formats").

use bstr::{BStr, ByteSlice};

use crate::error::{Error, Result, SqlState};

pub(super) const COPY_DATA: u8 = b'd';
pub(super) const COPY_DONE: u8 = b'c';
pub(super) const COPY_IN: u8 = b'G';
pub(super) const COPY_OUT: u8 = b'H';
pub(super) const COMMAND_COMPLETE: u8 = b'C';
pub(super) const DATA_ROW: u8 = b'D';
pub(super) const EMPTY_QUERY: u8 = b'I';
pub(super) const ERROR: u8 = b'E';
pub(super) const NOTICE: u8 = b'N';
pub(super) const NOTIFICATION: u8 = b'A';
pub(super) const PARAMETER_STATUS: u8 = b'S';
pub(super) const READY: u8 = b'Z';
pub(super) const ROW_DESCRIPTION: u8 = b'T';

/// Reads numbers and strings off the front of a body.
pub(super) struct Cursor<'a>(pub &'a [u8]);

impl<'a> Cursor<'a> {
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count).ok_or_else(short)?;
        self.0 = rest;
        Ok(head)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk().ok_or_else(short)?;
        self.0 = rest;
        Ok(*head)
    }

    pub fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub fn i32(&mut self) -> Result<i32> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    /// A string ended by a zero byte.
    pub fn cstring(&mut self) -> Result<&'a BStr> {
        let length = self.0.find_byte(0).ok_or_else(short)?;
        let text = self.bytes(length)?;
        self.bytes(1)?;
        Ok(text.as_bstr())
    }
}

fn short() -> Error {
    Error::new("the server sent a message that ends in the middle of a field")
}

/// A notice or warning that the server sent.
#[derive(Debug, Clone)]
pub struct Notice {
    /// WARNING, NOTICE, INFO, LOG or DEBUG, never translated.
    pub severity: String,
    pub message: String,
}

impl Notice {
    pub fn is_warning(&self) -> bool {
        self.severity == "WARNING"
    }
}

/// What ErrorResponse and NoticeResponse carry.
#[derive(Debug, Clone, Default)]
pub(super) struct Diagnostic {
    pub severity: String,
    pub sqlstate: Option<SqlState>,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    pub context: Option<String>,
}

impl Diagnostic {
    pub fn parse(body: &[u8]) -> Result<Diagnostic> {
        let mut cursor = Cursor(body);
        let mut diagnostic = Diagnostic::default();
        loop {
            let [field] = cursor.array()?;
            if field == 0 {
                return Ok(diagnostic);
            }
            let value = cursor.cstring()?;
            match field {
                b'S' if diagnostic.severity.is_empty() => diagnostic.severity = value.to_string(),
                // not translated, from 9.6 on
                b'V' => diagnostic.severity = value.to_string(),
                b'C' => diagnostic.sqlstate = Some(SqlState::from_code(&value.to_string())),
                b'M' => diagnostic.message = value.to_string(),
                b'D' => diagnostic.detail = Some(value.to_string()),
                b'H' => diagnostic.hint = Some(value.to_string()),
                b'W' => diagnostic.context = Some(value.to_string()),
                _ => {}
            }
        }
    }

    pub fn into_error(self) -> Error {
        let mut message = self.message;
        if let Some(detail) = self.detail {
            message.push_str(&format!(" ({detail})"));
        }
        // where in a COPY the server stopped: "COPY orders, line 3, column total"
        if let Some(place) = self.context.as_deref().and_then(|text| text.lines().next()) {
            message.push_str(&format!(" [{place}]"));
        }
        let mut error = Error::new(message);
        if let Some(sqlstate) = self.sqlstate {
            error = error.with_sqlstate(sqlstate);
        }
        match self.hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}
