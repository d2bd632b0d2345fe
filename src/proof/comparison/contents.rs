//! Contents of large objects, byte by byte. The same bytes may be stored in several ways: what was
//! never written to is a hole, or a page of zeros once it has been copied. So where the pages of both
//! sides are not the same, each object's bytes are compared, and those that differ are named.

use std::collections::BTreeMap;

use bstr::ByteSlice;
use xxhash_rust::xxh3::xxh3_128;

use super::finding::{Finding, FindingKind};
use super::large_objects::{self, Metadata};
use crate::archive::{EntryId, RandomReader, Segment};
use crate::error::{Error, Result, ResultExt};
use crate::postgres::{CopyProgress, RowConsumer, Session};
use crate::storage::ReadAt;

/// Bytes that are hashed together. Every block size of a server makes pages of a multiple of it.
const UNIT: usize = 256;

/// The bytes of one object, whatever its pages: zeros at the end of a unit count for nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Digest {
    size: u64,
    sum: u128,
}

impl Digest {
    fn add(&mut self, start: u64, mut data: &[u8]) {
        let mut at = start;
        self.size = self.size.max(start.saturating_add(data.len() as u64));
        while !data.is_empty() {
            let length = UNIT - (at % UNIT as u64) as usize;
            let (unit, rest) = data.split_at(length.min(data.len()));
            let end = unit.iter().rposition(|byte| *byte != 0);
            if let Some(end) = end {
                let mut bytes = [0; 8 + UNIT];
                bytes[..8].copy_from_slice(&at.to_le_bytes());
                bytes[8..=8 + end].copy_from_slice(&unit[..=end]);
                self.sum = self.sum.wrapping_add(xxh3_128(&bytes[..=8 + end]));
            }
            at = at.saturating_add(unit.len() as u64);
            data = rest;
        }
    }
}

/// Takes rows of (oid, offset, bytes) in COPY text form.
#[derive(Default)]
struct Digests {
    objects: BTreeMap<u32, Digest>,
    /// Of a row that comes in pieces.
    open: Vec<u8>,
    rows: u64,
    taken: usize,
    malformed: bool,
}

/// Bytes after which others get their turn.
const TURN: usize = 4 << 20;

/// A page, written in hexadecimal, is far shorter.
const LONGEST_ROW: usize = 1 << 20;

impl Digests {
    /// Whole rows and a last one that may go on in what comes next.
    fn add(&mut self, bytes: &[u8]) {
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            if !line.ends_with(b"\n") || !self.open.is_empty() {
                self.piece(line, line.ends_with(b"\n"));
            } else {
                self.row(line);
            }
        }
    }

    fn parse(row: &[u8]) -> Option<(u32, u64, Vec<u8>)> {
        let mut fields = row.strip_suffix(b"\n")?.split(|byte| *byte == b'\t');
        let oid = fields.next()?.to_str().ok()?.parse().ok()?;
        let start = fields.next()?.to_str().ok()?.parse().ok()?;
        let digits = fields.next()?.strip_prefix(b"\\\\x")?;
        if fields.next().is_some() || !digits.len().is_multiple_of(2) {
            return None;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
        let data: Option<Vec<u8>> = digits
            .chunks_exact(2)
            .map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?))
            .collect();
        Some((oid, start, data?))
    }

    fn finish(self) -> Result<BTreeMap<u32, Digest>> {
        if self.malformed || !self.open.is_empty() {
            return Err(Error::new("pages of large objects are not as they must be"));
        }
        Ok(self.objects)
    }
}

impl RowConsumer for Digests {
    fn row(&mut self, row: &[u8]) {
        self.rows += 1;
        self.taken += row.len();
        match Digests::parse(row) {
            Some((oid, start, data)) => self.objects.entry(oid).or_default().add(start, &data),
            None => self.malformed = true,
        }
    }

    fn piece(&mut self, piece: &[u8], last: bool) {
        if self.open.len() + piece.len() > LONGEST_ROW {
            self.malformed = true;
            self.open.clear();
            return;
        }
        self.open.extend_from_slice(piece);
        if last {
            let row = std::mem::take(&mut self.open);
            self.row(&row);
        }
    }

    fn full(&self) -> bool {
        self.taken >= TURN
    }
}

async fn of_archive<R: ReadAt>(
    reader: &RandomReader<R>,
    entry: EntryId,
) -> Result<BTreeMap<u32, Digest>> {
    let mut digests = Digests::default();
    for chunk in reader.chunks(entry)? {
        for (part, number) in chunk.blocks().enumerate() {
            let block = reader.read_block(number)?;
            // the second part of a chunk is the first segment of its block
            let position = if part == 0 { chunk.segment as usize } else { 0 };
            match block.segments.get(position) {
                Some(Segment::Rows(rows)) if rows.entry == entry => {
                    digests.add(block.segment_bytes(position));
                }
                _ => {
                    return Err(Error::new(format!(
                        "the archive is damaged: block {number} does not hold large objects"
                    )));
                }
            }
            // reading blocks this thread, and an interrupt must be seen
            tokio::task::yield_now().await;
        }
    }
    digests.finish()
}

async fn of_database(session: &mut Session, copy: &str) -> Result<BTreeMap<u32, Digest>> {
    let mut digests = Digests::default();
    let mut copy = session.copy_out(copy).await?;
    loop {
        let progress = copy.read(&mut digests).await?;
        digests.taken = 0;
        if let CopyProgress::Done { rows } = progress {
            if rows != digests.rows {
                return Err(Error::new(format!(
                    "the server counted {rows} pages, {} arrived",
                    digests.rows
                )));
            }
            return digests.finish();
        }
    }
}

/// Names the objects whose bytes differ. Those that only one side has are named with their owners and
/// privileges.
pub async fn compare<R: ReadAt>(
    session: &mut Session,
    reader: &RandomReader<R>,
    entry: EntryId,
    copy: &str,
    (archived, present): (&Metadata<'_>, &Metadata<'_>),
) -> Result<Vec<Finding>> {
    let found = of_database(session, copy)
        .await
        .context("reading large objects")?;
    let expected = of_archive(reader, entry).await?;
    Ok(differences(&expected, &found, |oid| {
        archived.has(oid) != present.has(oid)
    }))
}

fn differences(
    expected: &BTreeMap<u32, Digest>,
    found: &BTreeMap<u32, Digest>,
    is_named_already: impl Fn(u32) -> bool,
) -> Vec<Finding> {
    // an object without a page is empty
    let digest = |of: &BTreeMap<u32, Digest>, oid| of.get(&oid).copied().unwrap_or_default();
    let mut oids: Vec<u32> = expected.keys().chain(found.keys()).copied().collect();
    oids.sort_unstable();
    oids.dedup();
    // objects with equal findings share one
    let mut sizes: BTreeMap<(u64, u64), Vec<u32>> = BTreeMap::new();
    for oid in oids {
        let (left, right) = (digest(expected, oid), digest(found, oid));
        if left != right && !is_named_already(oid) {
            let same = sizes.entry((left.size, right.size)).or_default();
            same.push(oid);
        }
    }
    sizes
        .into_iter()
        .map(|((expected_bytes, found_bytes), oids)| {
            let kind = FindingKind::Contents {
                expected_bytes,
                found_bytes,
            };
            Finding::new(kind, large_objects::contents(&oids), "")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digests(rows: &[&str]) -> BTreeMap<u32, Digest> {
        let mut digests = Digests::default();
        for row in rows {
            digests.add(row.as_bytes());
        }
        digests.finish().unwrap()
    }

    fn found(left: &[&str], right: &[&str]) -> Vec<String> {
        differences(&digests(left), &digests(right), |_| false)
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn holes_are_zeros() {
        let zeros = "00".repeat(2048);
        let written = [
            format!("7\t0\t\\\\x42{}\n", "00".repeat(2047)),
            format!("7\t2048\t\\\\x{zeros}\n"),
            "7\t4096\t\\\\x0001\n".to_owned(),
        ];
        let written: Vec<&str> = written.iter().map(String::as_str).collect();
        let sparse = ["7\t0\t\\\\x42\n7\t4096", "\t\\\\x00", "01\n"];
        assert!(found(&sparse, &written).is_empty());
        let moved = ["7\t0\t\\\\x42\n", "7\t4096\t\\\\x0100\n"];
        assert_eq!(
            found(&moved, &written),
            ["contents of LARGE OBJECT 7: as many bytes as in the archive, but not the same"]
        );
        let longer = ["7\t0\t\\\\x42\n", "7\t4096\t\\\\x000100\n"];
        assert_eq!(
            found(&longer, &written),
            ["contents of LARGE OBJECT 7: 4098 bytes, in the archive 4099"]
        );
    }

    #[test]
    fn pages_of_other_sizes_hold_the_same_bytes() {
        let bytes: Vec<u8> = (0..2048u32).map(|byte| (byte % 251) as u8).collect();
        let (mut whole, mut halves) = (Digest::default(), Digest::default());
        whole.add(4096, &bytes);
        halves.add(4096, &bytes[..1024]);
        halves.add(5120, &bytes[1024..]);
        assert_eq!(whole, halves);
    }

    #[test]
    fn each_object_is_named_and_the_empty_one_too() {
        assert_eq!(
            found(
                &["1\t0\t\\\\x01\n2\t0\t\\\\x02\n", "3\t0\t\\\\x03\n"],
                &["1\t0\t\\\\x11\n", "2\t0\t\\\\x12\n"]
            ),
            [
                "contents of LARGE OBJECT 3: 0 bytes, in the archive 1",
                "contents of LARGE OBJECTS 1, 2: as many bytes as in the archive, but not the same"
            ]
        );
    }

    #[test]
    fn rows_that_are_none_are_an_error() {
        for row in [
            "1\t0\n",
            "1\t0\t\\\\x0\n",
            "1\t0\t\\\\xgg\n",
            "x\t0\t\\\\x00\n",
            "1\t0\t\\\\x00\t1\n",
            "1\t0\t\\\\x00",
        ] {
            let mut digests = Digests::default();
            digests.add(row.as_bytes());
            assert!(digests.finish().is_err(), "{row:?}");
        }
    }
}
