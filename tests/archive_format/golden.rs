//! Committed archives, good and bad, and what must happen to each (`fixtures/archives/expected.txt`).
//!
//! `cargo test --test archive_format -- --ignored regenerate` writes them anew: to be done only
//! where the format has changed, with the version table of the specification.

use std::collections::BTreeSet;
use std::path::PathBuf;

use rdump::archive::limits::*;
use rdump::archive::*;
use rdump::proof::verify_file;

use crate::damage::{pieces, read_random, read_stream};
use crate::sample::Sample;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/archives")
}

/// `NAME.rdump`, then what it gives, indented: `key: value` lines.
pub fn expectations(text: &str) -> Vec<(&str, Vec<(&str, &str)>)> {
    let mut all: Vec<(&str, Vec<(&str, &str)>)> = Vec::new();
    for line in text.lines() {
        if line.starts_with('#') || line.is_empty() {
            continue;
        }
        match line.strip_prefix("    ") {
            None => all.push((line, Vec::new())),
            Some(line) => {
                let (key, value) = line.split_once(": ").expect(line);
                all.last_mut().expect(line).1.push((key, value));
            }
        }
    }
    all
}

/// In the words of `expected.txt`.
fn outcome(bytes: &[u8]) -> Vec<(&'static str, String)> {
    let reading = |result: rdump::Result<()>| match result {
        Ok(()) => "ok".to_owned(),
        Err(error) => error.to_string(),
    };
    let (random, stream) = (reading(read_random(bytes)), reading(read_stream(bytes)));
    let mut outcome = match random == stream {
        true => vec![("read", random)],
        false => vec![("random", random), ("stream", stream)],
    };
    match verify_file(bytes, true) {
        Err(error) => outcome.push(("verify", format!("error: {error}"))),
        Ok(report) if report.is_sound() => {
            let reader = RandomReader::open(bytes).unwrap();
            let totals = reader.totals();
            outcome.push((
                "verify",
                format!(
                    "sound; {} entries, {} chunks, {} rows in {} data blocks",
                    report.entries, totals.chunks, report.rows_checked, totals.data_blocks
                ),
            ));
        }
        Ok(report) => {
            for finding in report.findings {
                outcome.push(("verify", finding.to_string()));
            }
        }
    }
    outcome
}

#[test]
fn each_archive_does_what_is_stated() {
    let mut stated = BTreeSet::from(["expected.txt".to_owned()]);
    let text = std::fs::read_to_string(folder().join("expected.txt")).unwrap();
    for (name, expected) in expectations(&text) {
        let bytes = std::fs::read(folder().join(name)).expect(name);
        let outcome = outcome(&bytes);
        let outcome: Vec<(&str, &str)> = outcome
            .iter()
            .map(|(key, value)| (*key, value.as_str()))
            .collect();
        assert_eq!(outcome, expected, "{name}");
        stated.insert(name.to_owned());
    }
    let there: BTreeSet<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(there, stated);
}

fn good() -> Vec<(&'static str, Vec<u8>)> {
    let with = |codec| {
        Sample {
            codec,
            tables: 3,
            rows: 12,
            rows_per_chunk: 6,
            ..Sample::default()
        }
        .write()
        .unwrap()
    };
    let header = Header::new(ArchiveId([0; 16]));
    let header = Header {
        rdump_version: "0.1.0".to_owned(),
        ..header
    };
    let empty = ArchiveWriter::begin(Vec::new(), &header, Codec::None).unwrap();
    let unknown = Header {
        optional_flags: 1 << 31,
        unknown: vec![UnknownField {
            tag: 9999,
            value: b"later".to_vec(),
        }],
        ..header
    };
    let unknown = ArchiveWriter::begin(Vec::new(), &unknown, Codec::None).unwrap();
    vec![
        ("good-none.rdump", with(Codec::None)),
        ("good-lz4.rdump", with(Codec::Lz4)),
        ("good-zstd.rdump", with(Codec::Zstd { level: 1 })),
        ("good-empty.rdump", empty.finish().unwrap().0),
        (
            "good-unknown-optional-field.rdump",
            unknown.finish().unwrap().0,
        ),
    ]
}

/// A header's bytes changed, with the checksum made to fit.
fn with_header(pieces: &[Vec<u8>], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut pieces = pieces.to_vec();
    let header = &mut pieces[0];
    header.truncate(header.len() - 4);
    change(header);
    let length = header.len() as u32 + 4;
    header[12..16].copy_from_slice(&length.to_le_bytes());
    header.extend_from_slice(&crc32fast::hash(header).to_le_bytes());
    pieces.concat()
}

/// A block header's bytes changed, with the checksum made to fit.
fn with_block_header(pieces: &[Vec<u8>], at: usize, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut pieces = pieces.to_vec();
    let header = &mut pieces[at][..BLOCK_HEADER_LENGTH];
    change(header);
    let mut crc = crc32fast::Hasher::new();
    crc.update(&Sample::default().id);
    crc.update(&header[..28]);
    header[28..].copy_from_slice(&crc.finalize().to_le_bytes());
    pieces.concat()
}

fn bad() -> Vec<(&'static str, Vec<u8>)> {
    let (_, good) = good().remove(0);
    let pieces = pieces(&good);
    let last = pieces.len() - 1;
    let changed = |at: usize, offset: usize| {
        let mut pieces = pieces.clone();
        pieces[at][offset] ^= 1;
        pieces.concat()
    };
    let arranged = |order: &[usize]| {
        let pieces: Vec<_> = order.iter().map(|at| pieces[*at].clone()).collect();
        pieces.concat()
    };
    let all: Vec<usize> = (0..=last).collect();
    let (mut swapped, mut duplicated, mut removed) = (all.clone(), all.clone(), all);
    swapped.swap(2, 3);
    duplicated.insert(2, 2);
    removed.remove(3);
    let spliced = {
        let other = Sample {
            id: *b"another archive!",
            codec: Codec::None,
            rows: 12,
            rows_per_chunk: 6,
            ..Sample::default()
        };
        let mut pieces = pieces.clone();
        pieces[2] = crate::damage::pieces(&other.write().unwrap())[2].clone();
        pieces.concat()
    };
    let needs_2 = |header: &mut Vec<u8>| {
        let field = b"\x02\x050.1.0";
        assert_eq!(&header[HEADER_FIXED_LENGTH..][..field.len()], field);
        header[HEADER_FIXED_LENGTH + 2] = b'2';
    };
    let oversize = (MAX_BLOCK_LENGTH + 1).to_le_bytes();
    vec![
        ("bad-empty-file.rdump", Vec::new()),
        (
            "bad-pg_dump-custom.rdump",
            b"PGDMP\x01\x10\x00\x04\x08\x01\x01".to_vec(),
        ),
        (
            "bad-plain-sql.rdump",
            b"--\n-- PostgreSQL database dump\n--\n".to_vec(),
        ),
        ("bad-magic.rdump", changed(0, 1)),
        ("bad-text-mode.rdump", {
            let mut bytes = good.clone();
            bytes.remove(6);
            bytes
        }),
        (
            "bad-newer-version.rdump",
            with_header(&pieces, |header| {
                needs_2(header);
                header[8] = 1;
            }),
        ),
        (
            "bad-unknown-critical-flag.rdump",
            with_header(&pieces, |header| {
                needs_2(header);
                header[17] = 1;
            }),
        ),
        (
            "bad-unknown-critical-field.rdump",
            with_header(&pieces, |header| {
                needs_2(header);
                // Tag 5000, critical, no bytes.
                header.extend_from_slice(&[0x91, 0x4e, 0]);
            }),
        ),
        ("bad-header-checksum.rdump", changed(0, 60)),
        ("bad-header-length.rdump", {
            let mut bytes = good.clone();
            bytes[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
            bytes
        }),
        (
            "bad-entries-block.rdump",
            changed(1, BLOCK_HEADER_LENGTH + 9),
        ),
        ("bad-block-header.rdump", changed(2, 10)),
        (
            "bad-block-checksum.rdump",
            changed(2, BLOCK_HEADER_LENGTH + 9),
        ),
        (
            "bad-block-length.rdump",
            with_block_header(&pieces, 2, |header| {
                header[16..20].copy_from_slice(&oversize);
                header[20..24].copy_from_slice(&oversize);
            }),
        ),
        (
            "bad-block-codec.rdump",
            with_block_header(&pieces, 2, |header| header[5] = 77),
        ),
        ("bad-blocks-swapped.rdump", arranged(&swapped)),
        ("bad-block-duplicated.rdump", arranged(&duplicated)),
        ("bad-block-removed.rdump", arranged(&removed)),
        ("bad-block-of-another-archive.rdump", spliced),
        (
            "bad-index-page.rdump",
            changed(last - 2, BLOCK_HEADER_LENGTH),
        ),
        (
            "bad-index-root.rdump",
            changed(last - 1, BLOCK_HEADER_LENGTH),
        ),
        ("bad-trailer.rdump", changed(last, 70)),
        (
            "bad-truncated-in-data.rdump",
            good[..pieces[..3].concat().len() + 50].to_vec(),
        ),
        ("bad-truncated-between-blocks.rdump", pieces[..3].concat()),
        ("bad-without-trailer.rdump", pieces[..last].concat()),
        (
            "bad-truncated-in-trailer.rdump",
            good[..good.len() - 1].to_vec(),
        ),
        (
            "bad-trailing-garbage.rdump",
            [&good[..], b"garbage"].concat(),
        ),
        ("bad-twice.rdump", [&good[..], &good].concat()),
    ]
}

/// The committed archives are what this version writes: a change of the format does not go unseen.
/// Compressed ones may differ with the compressor's version, so they are only held to be readable.
#[test]
fn this_version_writes_the_same() {
    for (name, bytes) in good().into_iter().chain(bad()) {
        if !["good-lz4.rdump", "good-zstd.rdump"].contains(&name) {
            let committed = std::fs::read(folder().join(name)).expect(name);
            assert!(committed == bytes, "{name}");
        }
    }
}

#[test]
#[ignore = "writes fixtures/archives anew"]
fn regenerate() {
    let mut text = String::from(
        "# What must happen to each archive in this folder. An archive's name, then, indented:\n\
         # read: what both readers say (or random: and stream:, where they differ), then\n\
         # verify: what \"rdump verify --deep\" says, a line for each finding.\n",
    );
    for (name, bytes) in good().into_iter().chain(bad()) {
        std::fs::write(folder().join(name), &bytes).unwrap();
        text += &format!("\n{name}\n");
        for (key, value) in outcome(&bytes) {
            text += &format!("    {key}: {value}\n");
        }
    }
    std::fs::write(folder().join("expected.txt"), text).unwrap();
}
