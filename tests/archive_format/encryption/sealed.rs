//! What is sealed: nothing of it shows, nothing that was changed is let out, and age opens the key.

use std::collections::HashSet;
use std::io::Write;
use std::process::{Command, Stdio};

use aws_lc_rs::{aead, hkdf};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rayon::prelude::*;

use super::*;

fn times(sample: usize, soak: usize) -> usize {
    match std::env::var_os("RDUMP_SOAK") {
        Some(_) => soak,
        None => sample,
    }
}

/// What came out of an archive must be what was put in, block by block.
fn assert_released_as_written(
    original: &(Vec<Entry>, Vec<DataBlock>, Result<()>),
    found: (Vec<Entry>, Vec<DataBlock>, Result<()>),
    changed: Option<u64>,
    what: &str,
) {
    let (entries, blocks, outcome) = found;
    assert!(entries.is_empty() || entries == original.0, "{what}");
    for block in &blocks {
        assert_ne!(Some(block.number), changed, "{what}");
        let written = original.1.iter().find(|b| b.number == block.number);
        assert_eq!(Some(block), written, "{what}");
    }
    assert!(outcome.is_err(), "{what}");
}

#[test]
fn nothing_is_released_of_a_block_that_was_changed() {
    let identity = Identity::generate();
    let encryption = Encryption::new(vec![identity.to_public()], None).unwrap();
    let keys = Keys::none().with_identity(identity);
    let mut random = StdRng::seed_from_u64(3);
    for codec in [Codec::None, Codec::Lz4, Codec::Zstd { level: 1 }] {
        let sample = Sample {
            codec,
            tables: 8,
            ..Sample::default()
        };
        let bytes = sample.write_for(Some(&encryption)).unwrap();
        let original = read_stream(&bytes, &keys);
        assert!(original.2.is_ok() && original.1.len() > 4);
        let whole = Forgery::of(&bytes);
        for number in 0..times(1_000, 10_000) / 3 + 1 {
            // any byte of the file, as it is
            let mut raw = bytes.clone();
            let at = random.random_range(0..raw.len());
            raw[at] ^= 1 << random.random_range(0..8);
            let what = format!("{codec}, mutation {number}, byte {at}");
            assert_released_as_written(&original, read_stream(&raw, &keys), None, &what);
            assert_released_as_written(&original, read_random(&raw, &keys), None, &what);

            // something of a block, with all checksums and hashes made to fit
            let mut forgery = whole.clone();
            let at = random.random_range(0..forgery.blocks.len());
            let (block, stored) = &mut forgery.blocks[at];
            let place = random.random_range(0..stored.len());
            match number % 5 {
                0 => stored[place] ^= 1 << random.random_range(0..8),
                1 => random.fill(&mut stored[place..]),
                2 if block.codec == BlockCodec::None => {
                    block.raw_length -= 1;
                    stored.remove(place);
                }
                2 => drop(stored.remove(place)),
                3 => block.flags |= 1 << random.random_range(8..16),
                _ => block.flags &= !BLOCK_FLAG_SEALED,
            }
            if stored == &whole.blocks[at].1 && *block == whole.blocks[at].0 {
                continue;
            }
            let forged = forgery.write();
            let what = format!("{codec}, mutation {number} of block {at}");
            let changed = Some(at as u64);
            assert_released_as_written(&original, read_stream(&forged, &keys), changed, &what);
            assert_released_as_written(&original, read_random(&forged, &keys), changed, &what);

            // and where the index vouches for it no more, which only the random reader sees first
            let mut raw = bytes.clone();
            let offset = block_offset(&bytes, at);
            let length = whole.blocks[at].1.len();
            raw[offset + BLOCK_HEADER_LENGTH + random.random_range(0..length)] ^= 1;
            let crc = crc32fast::hash(&raw[offset + BLOCK_HEADER_LENGTH..][..length]);
            let header = BlockHeader {
                stored_crc: crc,
                ..whole.blocks[at].0
            };
            raw[offset..offset + BLOCK_HEADER_LENGTH]
                .copy_from_slice(&header.serialise(whole.id()));
            assert_released_as_written(&original, read_random(&raw, &keys), changed, &what);
        }
    }
}

fn block_offset(bytes: &[u8], at: usize) -> usize {
    let pieces = crate::damage::pieces(bytes);
    pieces[..at + 1].iter().map(Vec::len).sum()
}

/// Of header, entries, rows and index nothing is to be found.
#[test]
fn an_encrypted_archive_shows_no_name_and_no_row() {
    let identity = Identity::generate();
    for codec in [Codec::None, Codec::Zstd { level: 1 }] {
        let sample = Sample {
            codec,
            ..Sample::default()
        };
        let secrets = [
            "shop",
            "table_1",
            "Na me",
            "alice",
            "entry 3 of",
            "DateStyle",
            "18.6",
            "UTF8",
        ];
        let found = |bytes: &[u8]| {
            let is_in = |text: &&&str| bytes.windows(text.len()).any(|w| w == text.as_bytes());
            secrets.iter().filter(is_in).count()
        };
        let bytes = sample.write_for(Some(&for_both(&identity))).unwrap();
        assert_eq!(found(&bytes), 0, "{codec}");
        if codec == Codec::None {
            // the search finds what is there
            assert_eq!(found(&sample.write().unwrap()), secrets.len());
        }
    }
}

fn archive_key(forgery: &Forgery, identity: &Identity) -> Vec<u8> {
    let fields = forgery.header_fields();
    let (_, envelope) = fields
        .iter()
        .find(|(key, _)| *key == ENVELOPE_RECIPIENTS)
        .unwrap();
    age::decrypt(identity, envelope).unwrap()
}

/// Blocks come from many threads at once; what they are sealed with is never the same twice.
#[test]
fn nonces_are_unique_over_parallel_runs() {
    let identity = Identity::generate();
    let encryption = Encryption::new(vec![identity.to_public()], None).unwrap();
    let runs: Vec<Vec<u8>> = (0..times(8, 64) as u8)
        .into_par_iter()
        .map(|run| {
            let header = Header::new(ArchiveId([run % 4; 16]));
            let codec = Codec::default();
            let mut writer =
                ArchiveWriter::begin_with(Vec::new(), &header, codec, Some(&encryption)).unwrap();
            let contents = Contents::Rows {
                relation: "public.t".into(),
                columns: vec![],
                filter: Default::default(),
            };
            writer
                .write_entries(&[crate::sample::entry(1, "TABLE DATA", "t", contents)])
                .unwrap();
            let blocks: Vec<SealedBlock> = (0..200u32)
                .into_par_iter()
                .map(|chunk| {
                    let mut builder = BlockBuilder::new();
                    // the same rows again and again: only nonces make their blocks differ
                    builder.buffer().extend_from_slice(b"the same row\n");
                    builder.end_rows(EntryId(1), chunk, 1).unwrap();
                    builder.compress(codec).unwrap().0
                })
                .collect();
            for block in blocks {
                writer.append(block).unwrap();
            }
            let mut builder = BlockBuilder::new();
            let end = EndRecord {
                entry: EntryId(1),
                rows: 200,
                fingerprint: 0,
                chunks: 200,
                raw_length: 200 * 13,
            };
            builder.end_entry(end).unwrap();
            writer.append(builder.compress(codec).unwrap().0).unwrap();
            writer.finish().unwrap().0
        })
        .collect();
    let mut used = HashSet::new();
    let mut sealed = 0;
    for run in &runs {
        let forgery = Forgery::of(run);
        let key = archive_key(&forgery, &identity);
        let pages = forgery.pages.iter().map(|page| &page.block.0);
        for block in forgery.blocks.iter().map(|(block, _)| block).chain(pages) {
            assert!(block.flags & BLOCK_FLAG_SEALED != 0);
            let of_index = block.kind == BlockKind::IndexPage;
            let nonce = (key.clone(), forgery.id().0, of_index, block.sequence);
            assert!(used.insert(nonce), "block {}", block.sequence);
            sealed += 1;
        }
    }
    assert_eq!(used.len(), sealed);
    assert!(sealed >= runs.len() * 204, "{sealed}");
    let mut keys: Vec<_> = used.iter().map(|(key, ..)| key).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), runs.len());
}

/// As the specification says it, with the key that an age file holds.
fn open_by_specification(forgery: &Forgery, key: &[u8], at: usize) -> Vec<u8> {
    let (block, stored) = &forgery.blocks[at];
    let id = forgery.id();
    let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, &id.0);
    let extracted = salt.extract(key);
    let info = [&b"rdump archive format version 0: data"[..]];
    let subkey = extracted.expand(&info, &aead::AES_256_GCM).unwrap();
    let subkey = aead::LessSafeKey::new(aead::UnboundKey::from(subkey));
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&block.sequence.to_le_bytes());
    let mut associated = id.0.to_vec();
    associated.extend_from_slice(&0u32.to_le_bytes());
    associated.extend_from_slice(&block.sequence.to_le_bytes());
    associated.extend_from_slice(&[block.kind as u8, block.codec as u8]);
    associated.extend_from_slice(&block.flags.to_le_bytes());
    associated.extend_from_slice(&block.raw_length.to_le_bytes());
    associated.extend_from_slice(&block.stored_length.to_le_bytes());
    let mut bytes = stored.clone();
    let nonce = aead::Nonce::assume_unique_for_key(nonce);
    let plain = subkey.open_in_place(nonce, aead::Aad::from(associated), &mut bytes);
    let length = plain.unwrap().len();
    bytes.truncate(length);
    match block.codec {
        BlockCodec::Zstd => zstd::bulk::decompress(&bytes, block.raw_length as usize).unwrap(),
        _ => bytes,
    }
}

#[test]
fn blocks_open_by_what_the_specification_says() {
    let forgery = Forgery::of(&committed("good.rdump"));
    let key = archive_key(&forgery, &identity());
    let entries = open_by_specification(&forgery, &key, 0);
    assert!(entries.windows(7).any(|window| window == b"table_1"));
}

fn is_on_path(program: &str) -> bool {
    let version = Command::new(program).arg("--version").output();
    version.is_ok_and(|output| output.status.success())
}

/// The key in the header is in an ordinary age file, so that no archive depends on rdump's own code to
/// be opened.
#[test]
fn the_public_age_tool_opens_the_envelope() {
    if !is_on_path("age") {
        let missing = "NOT TESTED: the program age is not installed (Debian: apt-get install age)";
        // past what the test harness keeps to itself
        writeln!(std::io::stderr(), "{missing}").unwrap();
        return;
    }
    let forgery = Forgery::of(&committed("good.rdump"));
    let fields = forgery.header_fields();
    let folder = tempfile::tempdir().unwrap();
    let envelope = folder.path().join("envelope.age");
    let (_, bytes) = fields
        .iter()
        .find(|(key, _)| *key == ENVELOPE_RECIPIENTS)
        .unwrap();
    std::fs::write(&envelope, bytes).unwrap();
    let opened = Command::new("age")
        .arg("-d")
        .arg("-i")
        .arg(self::folder().join("identity.txt"))
        .arg(&envelope)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&opened.stderr);
    assert!(opened.status.success(), "{told}");
    assert_eq!(opened.stdout.len(), ARCHIVE_KEY_LENGTH);
    let entries = open_by_specification(&forgery, &opened.stdout, 0);
    assert!(entries.windows(7).any(|window| window == b"table_1"));
}

/// Both envelopes hold the same key.
#[test]
fn a_passphrase_opens_the_same_key() {
    let forgery = Forgery::of(&committed("good.rdump"));
    let fields = forgery.header_fields();
    let (_, envelope) = fields
        .iter()
        .find(|(key, _)| *key == ENVELOPE_PASSPHRASE)
        .unwrap();
    let passphrase = age::scrypt::Identity::new(SecretString::from(PASSPHRASE));
    let key = age::decrypt(&passphrase, envelope).unwrap();
    assert_eq!(key, archive_key(&forgery, &identity()));
}

/// Keys may be set in the environment for all runs.
#[test]
fn an_archive_in_clear_is_read_whatever_keys_are_given() {
    let bytes = Sample::default().write().unwrap();
    let keys = Keys::none().with_identity(Identity::generate());
    assert!(read_random(&bytes, &keys).2.is_ok());
    assert!(read_stream(&bytes, &keys).2.is_ok());
    assert!(
        verify_file_with(&bytes[..], &keys, true)
            .unwrap()
            .is_sound()
    );
}

/// What the mutations above are worth: without encryption, one of them comes through.
#[test]
fn a_forger_changes_rows_of_an_archive_in_clear() {
    let sample = Sample {
        codec: Codec::None,
        ..Sample::default()
    };
    let bytes = sample.write().unwrap();
    let original = read_stream(&bytes, &Keys::none());
    let mut forgery = Forgery::of(&bytes);
    let data = forgery
        .blocks
        .iter_mut()
        .find(|(block, _)| block.kind == BlockKind::Data);
    data.unwrap().1[3] ^= 1;
    let forged = forgery.write();
    for found in [
        read_stream(&forged, &Keys::none()),
        read_random(&forged, &Keys::none()),
    ] {
        assert!(found.2.is_ok(), "{:?}", found.2);
        assert_ne!(found.1, original.1);
    }
}
