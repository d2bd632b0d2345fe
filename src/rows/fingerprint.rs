//! The fingerprint of a set of rows: equal for equal rows in whatever order.

use bstr::ByteSlice;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use crate::archive::EndRecord;
use crate::error::{Error, Result};

/// Count of rows, and the sum modulo 2^128 of XXH3-128 (seed 0) over each row's COPY text, its
/// line break included. A sum, not an exclusive or, so that two equal rows do not cancel out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fingerprint {
    pub rows: u64,
    pub sum: u128,
}

impl Fingerprint {
    /// Adds one row, its line break included.
    pub fn add_row(&mut self, row: &[u8]) {
        self.add_hash(xxh3_128(row));
    }

    /// Adds whole rows. Returns how many bytes at the end are no whole row.
    ///
    /// COPY text escapes line breaks within values, so that each one ends a row.
    pub fn add_rows(&mut self, rows: &[u8]) -> usize {
        let mut rest = rows;
        while let Some(end) = rest.find_byte(b'\n') {
            let (row, after) = rest.split_at(end + 1);
            self.add_row(row);
            rest = after;
        }
        rest.len()
    }

    /// The fingerprint of both sets of rows together.
    pub fn merge(&mut self, other: Fingerprint) {
        self.rows = self.rows.wrapping_add(other.rows);
        self.sum = self.sum.wrapping_add(other.sum);
    }

    pub fn of_end(end: &EndRecord) -> Fingerprint {
        Fingerprint {
            rows: end.rows,
            sum: end.fingerprint,
        }
    }

    fn add_hash(&mut self, hash: u128) {
        self.rows = self.rows.wrapping_add(1);
        self.sum = self.sum.wrapping_add(hash);
    }
}

/// Takes rows in pieces that may end anywhere. A row longer than a piece is hashed as it passes,
/// never collected.
#[derive(Default)]
pub struct FingerprintStream {
    whole: Fingerprint,
    /// Of the row that has begun, if one has.
    open: Option<Box<Xxh3>>,
}

impl FingerprintStream {
    pub fn new() -> FingerprintStream {
        FingerprintStream::default()
    }

    pub fn update(&mut self, mut bytes: &[u8]) {
        if let Some(open) = &mut self.open {
            let end = bytes.find_byte(b'\n').map(|end| end + 1);
            let (row, after) = bytes.split_at(end.unwrap_or(bytes.len()));
            open.update(row);
            if end.is_none() {
                return;
            }
            self.whole.add_hash(open.digest128());
            self.open = None;
            bytes = after;
        }
        let left = self.whole.add_rows(bytes);
        if left > 0 {
            let mut open = Box::new(Xxh3::new());
            open.update(&bytes[bytes.len() - left..]);
            self.open = Some(open);
        }
    }

    /// Rows that have ended so far.
    pub fn rows(&self) -> u64 {
        self.whole.rows
    }

    /// Whether a row has begun that has not ended.
    pub fn is_within_row(&self) -> bool {
        self.open.is_some()
    }

    /// Fails if the last row has no line break.
    pub fn finish(self) -> Result<Fingerprint> {
        if self.is_within_row() {
            return Err(Error::new(format!(
                "row {} does not end with a line break",
                self.whole.rows.wrapping_add(1)
            )));
        }
        Ok(self.whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(rows: &[u8]) -> Fingerprint {
        let mut fingerprint = Fingerprint::default();
        assert_eq!(fingerprint.add_rows(rows), 0);
        fingerprint
    }

    #[test]
    fn order_does_not_matter_but_repeats_do() {
        assert_eq!(of(b"1\ta\n2\tb\n"), of(b"2\tb\n1\ta\n"));
        assert_ne!(of(b"1\n1\n"), of(b"2\n2\n"));
        assert_ne!(of(b"1\n1\n").sum, 0);
        assert_ne!(of(b"12\n3\n"), of(b"1\n23\n"));
        assert_eq!(of(b""), Fingerprint::default());
    }

    /// Archives written once must read the same for ever.
    #[test]
    fn the_sum_is_pinned() {
        assert_eq!(
            of(b"1\talice\n2\t\\N\n"),
            Fingerprint {
                rows: 2,
                sum: 206_621_376_264_738_675_253_890_740_779_986_124_665
            }
        );
    }

    #[test]
    fn a_row_that_does_not_end_is_refused() {
        let mut stream = FingerprintStream::new();
        stream.update(b"1\n2");
        assert_eq!(stream.rows(), 1);
        assert_eq!(
            stream.finish().unwrap_err().to_string(),
            "row 2 does not end with a line break"
        );
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(
            mut rows in proptest::collection::vec(prop_oneof![4 => any::<u8>(), 1 => Just(b'\n')], 0..2000),
            piece in 1usize..300,
        ) {
            rows.push(b'\n');
            let mut stream = FingerprintStream::new();
            for piece in rows.chunks(piece) {
                stream.update(piece);
            }
            prop_assert_eq!(stream.finish().unwrap(), of(&rows));
        }
    }
}
