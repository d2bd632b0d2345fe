//! Reading and writing the small values that records are made of.
//!
//! Integers are little endian or variable length (LEB128, shortest form only). A *field list* is
//! what makes records extensible: an unknown optional field is skipped, an unknown critical one
//! refused.

use super::refusal::{damaged, needs_newer};
use crate::error::{Error, Result};

/// A position in untrusted bytes. Every read is checked; nothing is allocated here.
#[derive(Debug, Clone)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
    /// What is being read, for messages: "entry 12".
    what: &'a str,
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8], what: &'a str) -> Cursor<'a> {
        Cursor { rest: bytes, what }
    }

    pub fn damaged(&self, problem: impl std::fmt::Display) -> Error {
        damaged(format!("{}: {problem}", self.what))
    }

    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Requires that nothing is left.
    pub fn finish(self) -> Result<()> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(self.damaged(format_args!("{} bytes too many", self.rest.len())))
    }

    pub fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        match self.rest.split_at_checked(length) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => Err(self.damaged("ends too early")),
        }
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        match self.rest.split_first_chunk::<N>() {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(*taken)
            }
            None => Err(self.damaged("ends too early")),
        }
    }

    pub fn u8(&mut self) -> Result<u8> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub fn u128(&mut self) -> Result<u128> {
        Ok(u128::from_le_bytes(self.array()?))
    }

    /// One value has one form: a longer coding of it than needed is damage.
    pub fn varint(&mut self) -> Result<u64> {
        let mut value = 0u64;
        for position in 0..10 {
            let byte = self.u8()?;
            if position == 9 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << (7 * position);
            if byte & 0x80 == 0 {
                if byte == 0 && position > 0 {
                    break;
                }
                return Ok(value);
            }
        }
        Err(self.damaged("bad integer"))
    }

    pub fn varint_u32(&mut self) -> Result<u32> {
        let value = self.varint()?;
        u32::try_from(value).map_err(|_| self.damaged(format_args!("{value} is out of range")))
    }

    /// A count of things of at least `least` bytes each, so that it cannot exceed what is left.
    pub fn count(&mut self, least: usize) -> Result<usize> {
        let count = self.varint()?;
        match usize::try_from(count) {
            Ok(count) if count <= self.remaining() / least.max(1) => Ok(count),
            _ => Err(self.damaged(format_args!("count {count} is out of range"))),
        }
    }

    /// Length, then that many bytes.
    pub fn bytes(&mut self) -> Result<&'a [u8]> {
        let length = self.count(1)?;
        self.take(length)
    }

    pub fn text(&mut self) -> Result<&'a str> {
        let bytes = self.bytes()?;
        std::str::from_utf8(bytes).map_err(|_| self.damaged("text is not UTF-8"))
    }

    /// Calls `known` for each field until the end of the bytes, in ascending order of tags. It
    /// answers false for a tag it does not know. Returns the unknown optional fields.
    pub fn fields(
        mut self,
        minimum: Option<&str>,
        mut known: impl FnMut(u64, &mut Cursor<'a>) -> Result<bool>,
    ) -> Result<Vec<UnknownField>> {
        let mut unknown = Vec::new();
        let mut last = None;
        while !self.is_empty() {
            let key = self.varint()?;
            let (tag, critical) = (key >> 1, key & 1 == 1);
            if last.is_some_and(|last| last >= tag) {
                return Err(self.damaged(format_args!("field {tag} is out of order")));
            }
            last = Some(tag);
            let value = self.bytes()?;
            let mut field = Cursor::new(value, self.what);
            if known(tag, &mut field)? {
                field.finish()?;
            } else if critical {
                return Err(needs_newer(
                    format_args!(
                        "{} has field {tag}, which this version does not know",
                        self.what
                    ),
                    minimum,
                ));
            } else {
                unknown.push(UnknownField {
                    tag,
                    value: value.to_vec(),
                });
            }
        }
        Ok(unknown)
    }
}

/// An optional field of a later version: skipped in meaning, kept in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownField {
    pub tag: u64,
    pub value: Vec<u8>,
}

/// Whether a reader that does not know a field may go on without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    Optional = 0,
    Critical = 1,
}

pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(super) fn put_field(out: &mut Vec<u8>, tag: u64, need: Need, value: &[u8]) {
    put_varint(out, tag << 1 | need as u64);
    put_bytes(out, value);
}

/// Signed numbers near zero become small unsigned ones.
pub(super) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

pub(super) fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn integers_read_back(value: u64) {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            let mut cursor = Cursor::new(&out, "test");
            prop_assert_eq!(cursor.varint().unwrap(), value);
            prop_assert!(cursor.finish().is_ok());
        }

        #[test]
        fn what_reads_as_an_integer_is_its_only_form(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
            let mut cursor = Cursor::new(&bytes, "test");
            if let Ok(value) = cursor.varint() {
                let mut out = Vec::new();
                put_varint(&mut out, value);
                prop_assert_eq!(&out[..], &bytes[..bytes.len() - cursor.remaining()]);
            }
        }

        #[test]
        fn zigzag_is_undone(value: i64) {
            prop_assert_eq!(unzigzag(zigzag(value)), value);
        }
    }

    #[test]
    fn long_forms_and_short_inputs_are_refused() {
        for bytes in [&[0x80, 0x00][..], &[0x80], &[], &[0xff; 11], &[0x80; 10]] {
            assert!(Cursor::new(bytes, "test").varint().is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn unknown_fields_are_skipped_or_refused() {
        let mut out = Vec::new();
        put_field(&mut out, 1, Need::Critical, b"a");
        put_field(&mut out, 9, Need::Optional, b"b");
        let unknown = Cursor::new(&out, "header")
            .fields(None, |tag, field| Ok(tag == 1 && field.take(1).is_ok()))
            .unwrap();
        assert_eq!(
            unknown,
            [UnknownField {
                tag: 9,
                value: b"b".to_vec()
            }]
        );
        put_field(&mut out, 10, Need::Critical, b"c");
        let error = Cursor::new(&out, "header")
            .fields(Some("7.1"), |tag, field| {
                Ok(tag == 1 && field.take(1).is_ok())
            })
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "archive needs rdump 7.1 or newer: header has field 10, which this version does not know"
        );
    }
}
