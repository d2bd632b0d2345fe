//! Whatever is done to an archive's bytes, both readers and the offline check notice.
//!
//! `RDUMP_SOAK=1` runs the full counts; otherwise a sample.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rdump::Result;
use rdump::archive::limits::*;
use rdump::archive::*;
use rdump::proof::verify_file;

use crate::sample::Sample;

fn times(sample: usize, soak: usize) -> usize {
    match std::env::var_os("RDUMP_SOAK") {
        Some(_) => soak,
        None => sample,
    }
}

/// Reads all there is to read.
pub fn read_random(bytes: &[u8]) -> Result<()> {
    let reader = RandomReader::open(bytes)?;
    for entry in reader.entries()? {
        reader.end_record(entry.id)?;
        reader.chunks(entry.id)?;
    }
    for number in reader.data_blocks() {
        reader.read_block(number)?;
    }
    Ok(())
}

pub fn read_stream(bytes: &[u8]) -> Result<()> {
    let mut reader = StreamReader::open(bytes)?;
    reader.entries()?;
    while reader.next_block()?.is_some() {}
    Ok(())
}

fn verify_finds(bytes: &[u8], deep: bool) -> bool {
    verify_file(bytes, deep).map_or(true, |report| !report.is_sound())
}

fn assert_sound(bytes: &[u8]) {
    read_random(bytes).unwrap();
    read_stream(bytes).unwrap();
    for deep in [false, true] {
        let report = verify_file(bytes, deep).unwrap();
        assert!(report.is_sound(), "{:?}", report.findings);
    }
}

fn assert_noticed(bytes: &[u8], what: &str) {
    assert!(read_random(bytes).is_err(), "random reader: {what}");
    assert!(read_stream(bytes).is_err(), "stream reader: {what}");
    assert!(verify_finds(bytes, false), "verify: {what}");
    assert!(verify_finds(bytes, true), "verify --deep: {what}");
}

/// Header, each block, trailer.
pub fn pieces(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = bytes;
    let mut pieces = Vec::new();
    let mut cut = |length: usize| {
        let (piece, after) = rest.split_at(length);
        rest = after;
        pieces.push(piece.to_vec());
        rest.to_vec()
    };
    let header = u32::from_le_bytes(bytes[12..16].try_into().unwrap()) as usize;
    let mut after = cut(header);
    while after.len() > TRAILER_LENGTH {
        let stored = u32::from_le_bytes(after[20..24].try_into().unwrap()) as usize;
        after = cut(BLOCK_HEADER_LENGTH + stored);
    }
    cut(TRAILER_LENGTH);
    pieces
}

fn samples() -> Vec<Vec<u8>> {
    [Codec::None, Codec::Lz4, Codec::Zstd { level: 1 }]
        .into_iter()
        .map(|codec| {
            let sample = Sample {
                codec,
                tables: 8,
                ..Sample::default()
            };
            let bytes = sample.write().unwrap();
            assert_sound(&bytes);
            bytes
        })
        .collect()
}

#[test]
fn a_flipped_bit_is_noticed() {
    let samples = samples();
    let mut random = StdRng::seed_from_u64(1);
    for number in 0..times(500, 10_000) {
        let mut bytes = samples[number % samples.len()].clone();
        let bit = random.random_range(0..bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert_noticed(&bytes, &format!("bit {bit}"));
    }
}

#[test]
fn a_cut_is_noticed_wherever_it_is() {
    let sample = Sample {
        tables: 2,
        rows: 9,
        rows_per_chunk: 7,
        ..Sample::default()
    };
    let bytes = sample.write().unwrap();
    assert_sound(&bytes);
    let step = times(7, 1);
    for length in (0..bytes.len()).step_by(step) {
        assert_noticed(&bytes[..length], &format!("cut at {length}"));
    }
    assert_noticed(&bytes[..bytes.len() - 1], "last byte missing");
}

#[test]
fn what_follows_is_noticed() {
    for bytes in samples() {
        for more in [&b"\0"[..], b"garbage", &[0; 4096], &bytes] {
            assert_noticed(&[&bytes[..], more].concat(), "something follows");
        }
        let trailer = &bytes[bytes.len() - TRAILER_LENGTH..];
        assert_noticed(&[&bytes[..], trailer].concat(), "second trailer");
        assert_noticed(&[b"x", &bytes[..]].concat(), "something stands before");
    }
}

/// Blocks moved about, and blocks of other archives put in, as they are.
#[test]
fn moved_blocks_are_noticed() {
    let samples = samples();
    let mut random = StdRng::seed_from_u64(2);
    // The same tables and rows, but another archive; and another with the very same id.
    let other = |id: [u8; 16], rows: u32| {
        let sample = Sample {
            id,
            rows,
            tables: 8,
            ..Sample::default()
        };
        pieces(&sample.write().unwrap())
    };
    let mut id = Sample::default().id;
    let same_id = other(id, 49);
    id[15] ^= 1;
    let other_id = other(id, 50);
    for number in 0..times(150, 1_000) {
        let bytes = &samples[number % samples.len()];
        let mut pieces = pieces(bytes);
        let one = random.random_range(0..pieces.len());
        let two = random.random_range(0..pieces.len());
        let what = match number % 5 {
            0 => {
                pieces.swap(one, two);
                "swapped"
            }
            1 => {
                pieces.insert(two, pieces[one].clone());
                "duplicated"
            }
            2 => {
                pieces.remove(one);
                "removed"
            }
            3 => {
                pieces[one] = other_id[one.min(other_id.len() - 1)].clone();
                "spliced"
            }
            _ => {
                pieces[one] = same_id[one.min(same_id.len() - 1)].clone();
                "spliced from an archive of the same id"
            }
        };
        let changed = pieces.concat();
        if &changed != bytes {
            assert_noticed(&changed, &format!("{what}: {one}, {two}"));
        }
    }
}

/// Blocks exchanged with their headers made to fit: only the hashes can tell.
#[test]
fn blocks_with_forged_headers_are_noticed() {
    for bytes in samples() {
        let sample = Sample::default();
        let id = ArchiveId(sample.id);
        let pieces = pieces(&bytes);
        let parse = |piece: &[u8]| {
            BlockHeader::parse(piece[..BLOCK_HEADER_LENGTH].try_into().unwrap(), id).unwrap()
        };
        let data: Vec<usize> = (1..pieces.len() - 1)
            .filter(|at| parse(&pieces[*at]).kind == BlockKind::Data)
            .collect();
        let (one, two) = (data[0], data[1]);
        let mut forged = pieces.clone();
        for (from, to) in [(one, two), (two, one)] {
            let mut header = parse(&pieces[from]);
            header.sequence = parse(&pieces[to]).sequence;
            let stored = &pieces[from][BLOCK_HEADER_LENGTH..];
            forged[to] = [&header.serialise(id)[..], stored].concat();
        }
        assert_noticed(&forged.concat(), "exchanged");

        // One byte of rows altered, its checksums made to fit.
        let mut forged = pieces.clone();
        let mut header = parse(&pieces[one]);
        if header.codec == BlockCodec::None {
            forged[one][BLOCK_HEADER_LENGTH] ^= 1;
            header.stored_crc = crc32(&forged[one][BLOCK_HEADER_LENGTH..]);
            forged[one][..BLOCK_HEADER_LENGTH].copy_from_slice(&header.serialise(id));
            assert_noticed(&forged.concat(), "altered");
        }
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

#[test]
fn verify_names_the_block_and_the_table() {
    let bytes = Sample::default().write().unwrap();
    let reader = RandomReader::open(&bytes[..]).unwrap();
    let chunk = reader.chunks(EntryId(3)).unwrap()[0];
    let record = reader.block_record(chunk.block).unwrap();
    let mut damaged = bytes.clone();
    damaged[record.offset as usize + BLOCK_HEADER_LENGTH + 5] ^= 0x10;
    for deep in [false, true] {
        let report = verify_file(&damaged[..], deep).unwrap();
        assert!(!report.scanned);
        let [finding] = &report.findings[..] else {
            panic!("{:?}", report.findings);
        };
        assert_eq!(finding.block, Some(chunk.block));
        assert_eq!(finding.place, Some((record.offset, record.framed_length())));
        assert_eq!(
            finding.objects.names(),
            ["public.table_0", "public.table_1"]
        );
        assert_eq!(
            finding.to_string(),
            format!(
                "block {}: checksum does not match (offset {}, {} bytes); \
                 affects public.table_0, public.table_1",
                chunk.block,
                record.offset,
                record.framed_length()
            )
        );
    }
}

/// Where verify says that the damage is in rows whose objects it names, all others can be read.
#[test]
fn what_is_not_named_can_be_restored() {
    let samples = samples();
    let mut random = StdRng::seed_from_u64(2);
    let (mut within_rows, mut elsewhere) = (0, 0);
    for number in 0..times(500, 10_000) {
        let mut bytes = samples[number % samples.len()].clone();
        let bit = random.random_range(0..bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        let Ok(report) = verify_file(&bytes[..], number % 2 == 0) else {
            continue;
        };
        if !report.is_of_named_objects() {
            elsewhere += 1;
            continue;
        }
        within_rows += 1;
        let named: Vec<&String> = report
            .findings
            .iter()
            .flat_map(|finding| finding.objects.names())
            .collect();
        let reader = RandomReader::open(&bytes[..]).unwrap();
        for entry in reader.entries().unwrap() {
            let name = match &entry.contents {
                Contents::None => continue,
                Contents::Rows { relation, .. } => relation.to_string(),
                Contents::SequenceValue { sequence } => sequence.to_string(),
                Contents::LargeObjects => "large objects".to_owned(),
            };
            if named.contains(&&name) {
                continue;
            }
            assert!(reader.end_record(entry.id).unwrap().is_some());
            for chunk in reader.chunks(entry.id).unwrap().iter() {
                for block in chunk.blocks() {
                    assert!(reader.read_block(block).is_ok(), "bit {bit}: {name}");
                }
            }
        }
    }
    assert!(
        within_rows > 50 && elsewhere > 50,
        "{within_rows}, {elsewhere}"
    );
}

/// With the index gone, the blocks are looked for, and the table is still named.
#[test]
fn verify_scans_where_the_index_is_damaged() {
    let bytes = Sample::default().write().unwrap();
    let reader = RandomReader::open(&bytes[..]).unwrap();
    let chunk = reader.chunks(EntryId(4)).unwrap()[1];
    assert_eq!(chunk.parts, 2);
    let record = reader.block_record(chunk.block + 1).unwrap();
    let root = reader.trailer().root_offset as usize;

    let mut damaged = bytes.clone();
    damaged[root + BLOCK_HEADER_LENGTH] ^= 1;
    let report = verify_file(&damaged[..], false).unwrap();
    assert!(report.scanned);
    assert_eq!(report.entries, 6);
    let problems: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    assert!(
        problems.contains(&"root hash does not match".to_owned()),
        "{problems:?}"
    );

    // Header of a data block and the trailer's end, both destroyed.
    damaged[record.offset as usize..][..8].fill(0);
    let report = verify_file(&damaged[..], true).unwrap();
    let last = report.findings.last().unwrap().to_string();
    assert!(
        last.starts_with("rows are missing or damaged; affects public.table_2"),
        "{last}"
    );
    let cut = &bytes[..record.offset as usize];
    let report = verify_file(cut, true).unwrap();
    assert!(report.scanned);
    let objects = report.findings.last().unwrap().objects.names();
    assert_eq!(objects, ["public.table_2", "public.ids", "large objects"]);
}

#[test]
fn deep_counts_rows_and_compares_fingerprints() {
    let report = verify_file(&Sample::default().write().unwrap()[..], true).unwrap();
    assert_eq!(report.rows_checked, 151);
    assert!(report.is_sound());

    // A writer that says something else than it wrote: the checksums are all right.
    let header = Header::new(ArchiveId([1; 16]));
    let wrong = |rows: u64, fingerprint: u128| {
        let mut writer = ArchiveWriter::begin(Vec::new(), &header, Codec::None).unwrap();
        let contents = Contents::Rows {
            relation: "public.t".into(),
            columns: vec![],
            filter: Default::default(),
        };
        writer
            .write_entries(&[crate::sample::entry(1, "TABLE DATA", "t", contents)])
            .unwrap();
        let mut builder = BlockBuilder::new();
        builder.buffer().extend_from_slice(b"a\nb\n");
        builder.end_rows(EntryId(1), 0, rows).unwrap();
        let end = EndRecord {
            entry: EntryId(1),
            rows,
            fingerprint,
            chunks: 1,
            raw_length: 4,
        };
        builder.end_entry(end).unwrap();
        writer.append(builder.seal(Codec::None).unwrap().0).unwrap();
        let (bytes, _) = writer.finish().unwrap();
        assert!(verify_file(&bytes[..], false).unwrap().is_sound());
        let report = verify_file(&bytes[..], true).unwrap();
        assert_eq!(report.findings.len(), 1, "{:?}", report.findings);
        report.findings[0].to_string()
    };
    assert_eq!(
        wrong(2, 0),
        "the fingerprint of the rows is not the one that was written; affects public.t"
    );
    assert!(
        wrong(3, 0).starts_with("block 1: entry 1, chunk 0: 2 rows where 3 must be"),
        "{}",
        wrong(3, 0)
    );
}
