//! Encrypted archives: who opens them, and what somebody who cannot, but makes every checksum and hash
//! fit, comes to. `fixtures/encrypted/expected.txt` states what must happen to each vector.
//!
//! `cargo test --test archive_format -- --ignored regenerate_encrypted` writes them anew, with new keys.
//! `RDUMP_SOAK=1` runs the full counts.

mod sealed;

use std::collections::BTreeSet;
use std::path::PathBuf;

use rdump::Result;
use rdump::archive::limits::*;
use rdump::archive::*;
use rdump::proof::verify_file_with;

use crate::forging::Forgery;
use crate::golden::expectations;
use crate::sample::Sample;

const ENVELOPE_RECIPIENTS: u64 = 30 << 1 | 1;
const ENVELOPE_PASSPHRASE: u64 = 31 << 1 | 1;
const SEALED: u64 = 127 << 1 | 1;
const PASSPHRASE: &str = "correct horse battery staple";

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/encrypted")
}

fn committed(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(name)).expect(name)
}

fn identity() -> Identity {
    let text = String::from_utf8(committed("identity.txt")).unwrap();
    text.lines().last().unwrap().parse().unwrap()
}

fn for_both(identity: &Identity) -> Encryption {
    let passphrase = SecretString::from(PASSPHRASE);
    let encryption = Encryption::new(vec![identity.to_public()], Some(passphrase));
    // a test need not be costly
    encryption.unwrap().with_work_factor(2)
}

/// Reads all there is, and gives back what came out, until something fails.
fn read_stream(bytes: &[u8], keys: &Keys) -> (Vec<Entry>, Vec<DataBlock>, Result<()>) {
    let (mut entries, mut blocks) = (Vec::new(), Vec::new());
    let mut read = || {
        let mut reader = StreamReader::open_with(bytes, keys)?;
        entries = reader.entries()?;
        while let Some(block) = reader.next_block()? {
            blocks.push(block);
        }
        Ok(())
    };
    let outcome = read();
    (entries, blocks, outcome)
}

fn read_random(bytes: &[u8], keys: &Keys) -> (Vec<Entry>, Vec<DataBlock>, Result<()>) {
    let (mut entries, mut blocks) = (Vec::new(), Vec::new());
    let mut read = || {
        let reader = RandomReader::open_with(bytes, keys)?;
        entries = reader.entries()?;
        let mut outcome = Ok(());
        for entry in &entries {
            outcome = outcome.and(reader.end_record(entry.id).map(drop));
            outcome = outcome.and(reader.chunks(entry.id).map(drop));
        }
        // whatever a block before it said
        for number in reader.data_blocks() {
            match reader.read_block(number) {
                Ok(block) => blocks.push(block),
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        outcome
    };
    let outcome = read();
    (entries, blocks, outcome)
}

/// In the words of `expected.txt`.
fn outcome(bytes: &[u8]) -> Vec<(String, String)> {
    let in_words = |outcome: Result<()>| match outcome {
        Ok(()) => "ok".to_owned(),
        Err(error) => format!("{error} (exit code {})", error.exit_code()),
    };
    let mut all = Vec::new();
    for (name, keys) in [
        ("identity", Keys::none().with_identity(identity())),
        (
            "passphrase",
            Keys::none().with_passphrase(SecretString::from(PASSPHRASE)),
        ),
        (
            "wrong",
            Keys::none()
                .with_identity(Identity::generate())
                .with_passphrase(SecretString::from("another")),
        ),
        ("none", Keys::none()),
    ] {
        let random = in_words(read_random(bytes, &keys).2);
        let stream = in_words(read_stream(bytes, &keys).2);
        if random == stream {
            all.push((format!("{name}, read"), random));
        } else {
            all.push((format!("{name}, random"), random));
            all.push((format!("{name}, stream"), stream));
        }
        // contents cannot be counted without the key
        let deep = keys.count() > 0;
        let verify = format!("{name}, verify");
        match verify_file_with(bytes, &keys, deep) {
            Err(error) => all.push((verify, in_words(Err(error)))),
            Ok(report) => {
                let unread = match report.contents_unread {
                    true => ", contents not read",
                    false => "",
                };
                if report.is_sound() {
                    all.push((verify, format!("sound{unread}")));
                }
                for finding in report.findings {
                    all.push((format!("{name}, verify"), finding.to_string()));
                }
            }
        }
    }
    all
}

fn sample(id: &[u8; 16]) -> Sample {
    Sample {
        id: *id,
        tables: 3,
        rows: 12,
        rows_per_chunk: 6,
        ..Sample::default()
    }
}

#[test]
fn each_vector_does_what_is_stated() {
    let mut stated: BTreeSet<String> = ["expected.txt", "identity.txt"].map(str::to_owned).into();
    let text = String::from_utf8(committed("expected.txt")).unwrap();
    for (name, expected) in expectations(&text) {
        let outcome = outcome(&committed(name));
        let outcome: Vec<(&str, &str)> = outcome
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
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

/// The bad ones are what a forger makes of the good ones.
#[test]
fn vectors_are_forgeries_of_the_committed_archives() {
    for (name, bytes) in bad(&committed("good.rdump"), &committed("good-other.rdump")) {
        assert!(committed(name) == bytes, "{name}");
    }
}

#[test]
fn what_is_not_forged_is_written_as_it_was() {
    for name in ["good.rdump", "good-other.rdump"] {
        let bytes = Forgery::of(&committed(name)).write();
        // the index is not compressed any more
        let keys = Keys::none().with_identity(identity());
        let error = read_random(&bytes, &keys).2.err();
        assert!(error.is_none(), "{name}: {error:?}");
        assert!(read_stream(&bytes, &keys).2.is_ok(), "{name}");
    }
}

/// Each makes every length, checksum and hash fit.
fn bad(good: &[u8], other: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let forged = |change: &dyn Fn(&mut Forgery, Forgery)| {
        let mut forgery = Forgery::of(good);
        change(&mut forgery, Forgery::of(other));
        forgery.write()
    };
    let data = |forgery: &Forgery| {
        let is_data = |(block, _): &(BlockHeader, Vec<u8>)| block.kind == BlockKind::Data;
        forgery.blocks.iter().position(is_data).unwrap()
    };
    let without = |forgery: &mut Forgery, tags: &[u64]| {
        let mut fields = forgery.header_fields();
        fields.retain(|(key, _)| !tags.contains(key));
        forgery.set_header_fields(&fields);
    };
    vec![
        ("bad-cut.rdump", good[..good.len() / 2].to_vec()),
        (
            "bad-last-block-left-out.rdump",
            forged(&|forgery, _| drop(forgery.blocks.pop())),
        ),
        (
            "bad-blocks-reordered.rdump",
            forged(&|forgery, _| {
                let at = data(forgery);
                forgery.blocks.swap(at, at + 1);
            }),
        ),
        (
            "bad-block-duplicated.rdump",
            forged(&|forgery, _| {
                let at = data(forgery);
                forgery.blocks.insert(at, forgery.blocks[at].clone());
            }),
        ),
        (
            "bad-block-spliced.rdump",
            forged(&|forgery, other| {
                let at = data(forgery);
                forgery.blocks[at] = other.blocks[at].clone();
            }),
        ),
        (
            "bad-block-changed.rdump",
            forged(&|forgery, _| {
                let at = data(forgery);
                forgery.blocks[at].1[10] ^= 1;
            }),
        ),
        (
            "bad-block-in-clear.rdump",
            forged(&|forgery, _| {
                let at = data(forgery);
                let clear = Sample {
                    codec: Codec::None,
                    ..sample(b"a plain archive!")
                };
                let clear = Forgery::of(&clear.write().unwrap());
                forgery.blocks[at] = clear.blocks[at].clone();
            }),
        ),
        (
            "bad-raw-length.rdump",
            forged(&|forgery, _| {
                let at = data(forgery);
                forgery.blocks[at].0.raw_length += 1;
            }),
        ),
        (
            "bad-entries-of-another-archive.rdump",
            forged(&|forgery, other| forgery.blocks[0] = other.blocks[0].clone()),
        ),
        (
            "bad-index-of-another-archive.rdump",
            forged(&|forgery, other| {
                forgery.pages = other.pages;
                forgery.code = other.code;
            }),
        ),
        (
            "bad-index-page-changed.rdump",
            forged(&|forgery, _| forgery.pages[1].block.1[3] ^= 1),
        ),
        (
            "bad-totals.rdump",
            forged(&|forgery, _| forgery.totals[5] += 1),
        ),
        (
            "bad-code-changed.rdump",
            forged(&|forgery, _| forgery.code.as_mut().unwrap()[0] ^= 1),
        ),
        (
            "bad-code-left-out.rdump",
            forged(&|forgery, _| forgery.code = None),
        ),
        (
            "bad-header-flags.rdump",
            forged(&|forgery, _| forgery.header[20] ^= HEADER_FLAG_WITHOUT_DATA as u8),
        ),
        (
            "bad-header-time.rdump",
            forged(&|forgery, _| {
                let mut fields = forgery.header_fields();
                let time = fields.iter_mut().find(|(key, _)| *key == 8 << 1).unwrap();
                time.1[0] ^= 1;
                forgery.set_header_fields(&fields);
            }),
        ),
        (
            "bad-header-sealed-field.rdump",
            forged(&|forgery, _| *forgery.header.last_mut().unwrap() ^= 1),
        ),
        (
            "bad-header-database-in-clear.rdump",
            forged(&|forgery, _| {
                let mut fields = forgery.header_fields();
                fields.push((4 << 1, b"other".to_vec()));
                fields.sort();
                forgery.set_header_fields(&fields);
            }),
        ),
        (
            "bad-header-of-another-archive.rdump",
            forged(&|forgery, other| forgery.header = other.header),
        ),
        (
            "bad-envelope-left-out.rdump",
            forged(&|forgery, _| without(forgery, &[ENVELOPE_PASSPHRASE])),
        ),
        (
            "bad-envelope-of-another-archive.rdump",
            forged(&|forgery, other| {
                let mut fields = forgery.header_fields();
                for (key, value) in &mut fields {
                    if *key == ENVELOPE_RECIPIENTS {
                        let mut others = other.header_fields().into_iter();
                        *value = others.find(|(other, _)| other == key).unwrap().1;
                    }
                }
                forgery.set_header_fields(&fields);
            }),
        ),
        (
            "bad-costly-passphrase.rdump",
            forged(&|forgery, _| {
                let mut fields = forgery.header_fields();
                let (_, envelope) = fields
                    .iter_mut()
                    .find(|(key, _)| *key == ENVELOPE_PASSPHRASE)
                    .unwrap();
                let factor = envelope.windows(3).position(|w| w == b" 2\n").unwrap();
                envelope.splice(factor + 1..factor + 2, *b"40");
                forgery.set_header_fields(&fields);
            }),
        ),
        (
            "bad-said-not-to-be-encrypted.rdump",
            forged(&|forgery, _| {
                forgery.header[16] &= !(HEADER_FLAG_ENCRYPTED as u8);
                without(forgery, &[ENVELOPE_PASSPHRASE, ENVELOPE_RECIPIENTS, SEALED]);
                forgery.code = None;
            }),
        ),
    ]
}

#[test]
#[ignore = "writes fixtures/encrypted anew, with new keys"]
fn regenerate_encrypted() {
    let _ = std::fs::create_dir(folder());
    let key = Identity::generate();
    let text = format!(
        "# For tests: what it opens is no secret.\n# public key: {}\n{}\n",
        key.to_public(),
        key.to_string().expose_secret()
    );
    std::fs::write(folder().join("identity.txt"), text).unwrap();
    let recipient = Encryption::new(vec![key.to_public()], None).unwrap();
    let passphrase = Encryption::new(vec![], Some(SecretString::from(PASSPHRASE)));
    let passphrase = passphrase.unwrap().with_work_factor(2);
    let both = for_both(&key);
    let write = |id, encryption| sample(id).write_for(Some(encryption)).unwrap();
    let good = write(b"rdump test archi", &both);
    let other = write(b"another archive!", &both);
    let mut all = vec![
        ("good.rdump", good.clone()),
        ("good-other.rdump", other.clone()),
        (
            "good-recipient.rdump",
            write(b"rdump recipient ", &recipient),
        ),
        (
            "good-passphrase.rdump",
            write(b"rdump passphrase", &passphrase),
        ),
    ];
    all.extend(bad(&good, &other));
    let mut text = format!(
        "# What must happen to each archive in this folder, all of whose lengths, checksums and hashes fit:\n\
         # what both readers say (or random and stream, where they differ), and what \"rdump verify\" says (--deep\n\
         # where a key is given), with the identity in identity.txt, with the passphrase \"{PASSPHRASE}\", with\n\
         # others, and with none.\n",
    );
    for (name, bytes) in all {
        std::fs::write(folder().join(name), &bytes).unwrap();
        text += &format!("\n{name}\n");
        for (key, value) in outcome(&bytes) {
            text += &format!("    {key}: {value}\n");
        }
    }
    std::fs::write(folder().join("expected.txt"), text).unwrap();
}
