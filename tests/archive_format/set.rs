//! Sets: what the writer writes, both readers read, and what it did not write, both refuse.

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rdump::archive::*;
use rdump::{Error, Result};

use crate::sample::{Sample, entry};

const SET_TRAILER: usize = 104;
const HASH_OF_THE_COMMITTED_SET: &str =
    "a6d21ae5d4e21852ecdc39382d570375e9e2ce8ef47e336e78f2f6db9094a568";
const NAMES: [&str; 3] = ["", "postgres", "shop"];

/// Globals without rows, and two databases.
fn write(id: u8) -> Vec<u8> {
    write_members(id, &NAMES).unwrap()
}

fn write_members(id: u8, names: &[&str]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let mut set = SetWriter::begin(&mut out, SetId([id; 16]))?;
    for (number, name) in (0u8..).zip(names) {
        let sample = Sample {
            id: [id.wrapping_mul(16).wrapping_add(number); 16],
            tables: u32::from(number),
            ..Sample::default()
        };
        let header = Header {
            database: (*name).into(),
            set: Some(set.id()),
            content: if name.is_empty() {
                Content::Globals
            } else {
                Content::Database
            },
            ..sample.header()
        };
        let (bytes, summary) = archive(&header, &sample)?;
        out.extend_from_slice(&bytes);
        set.add(&header, &summary)?;
    }
    set.finish(&mut out)?;
    Ok(out)
}

/// As small as it gets: entries, and for each sample table one chunk.
fn archive(header: &Header, sample: &Sample) -> Result<(Vec<u8>, ArchiveSummary)> {
    let mut writer = ArchiveWriter::begin(Vec::new(), header, sample.codec)?;
    if header.content == Content::Globals {
        writer.write_entries(&[entry(1, "ROLE", "alice", Contents::None)])?;
        return writer.finish();
    }
    let entries = sample.entries();
    writer.write_entries(&entries)?;
    let mut builder = BlockBuilder::new();
    for entry in entries.iter().filter(|e| e.contents != Contents::None) {
        let text = format!("rows of {} in {}\n", entry.name, header.database);
        builder.buffer().extend_from_slice(text.as_bytes());
        builder.end_part(entry.id, 0, 1, true, true)?;
        builder.end_entry(EndRecord {
            entry: entry.id,
            rows: 1,
            fingerprint: xxhash_rust::xxh3::xxh3_128(text.as_bytes()),
            chunks: 1,
            raw_length: text.len() as u64,
        })?;
    }
    writer.append(builder.seal(sample.codec)?.0)?;
    writer.finish()
}

fn read_random(bytes: &[u8]) -> Result<Vec<Member>> {
    let set = SetReader::open(bytes)?;
    for member in set.members() {
        let reader = set.open_member(member)?;
        for entry in reader.entries()? {
            reader.chunks(entry.id)?;
        }
        for number in reader.data_blocks() {
            reader.read_block(number)?;
        }
    }
    Ok(set.members().to_vec())
}

fn read_stream(bytes: &[u8]) -> Result<Vec<Member>> {
    match open_stream(bytes)? {
        Incoming::Archive(_) => Err(Error::new("this is one archive")),
        Incoming::Set(mut set) => {
            while let Some(mut member) = set.next_member()? {
                // begun, and left to end_member
                member.entries()?;
                set.end_member(member)?;
            }
            assert!(set.next_member()?.is_none());
            Ok(set.members().to_vec())
        }
    }
}

fn assert_noticed(bytes: &[u8], what: &str) {
    assert!(read_random(bytes).is_err(), "random reader: {what}");
    assert!(read_stream(bytes).is_err(), "stream reader: {what}");
}

#[test]
fn members_read_back() {
    let bytes = write(1);
    let members = read_random(&bytes).unwrap();
    assert_eq!(members, read_stream(&bytes).unwrap());
    let names: Vec<String> = members.iter().map(|m| m.name.to_string()).collect();
    assert_eq!(names, NAMES);
    assert!(is_set(&bytes).unwrap());
    assert_eq!(bytes, write(1));
    for member in &members {
        // a member is an archive by itself
        let (from, to) = (
            member.offset as usize,
            (member.offset + member.length) as usize,
        );
        let alone = RandomReader::open(&bytes[from..to]).unwrap();
        assert_eq!(alone.header().set, Some(SetId([1; 16])));
        assert_eq!(alone.header().content, member.content);
        assert!(!is_set(&bytes[from..to].to_vec()).unwrap());
        crate::damage::read_stream(&bytes[from..to]).unwrap();
    }
    let Incoming::Archive(_) = open_stream(&bytes[members[1].offset as usize..]).unwrap() else {
        panic!("a member is an archive");
    };
}

fn golden() -> std::path::PathBuf {
    std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/sets/good.rdump")
}

/// A set that an earlier build wrote.
#[test]
fn the_committed_set_reads() {
    let bytes = std::fs::read(golden()).unwrap();
    let members = read_random(&bytes).unwrap();
    assert_eq!(members, read_stream(&bytes).unwrap());
    let names: Vec<String> = members.iter().map(|m| m.name.to_string()).collect();
    assert_eq!(names, NAMES);
    let hash = SetReader::open(&bytes[..]).unwrap().hash();
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hash, HASH_OF_THE_COMMITTED_SET);
}

#[test]
#[ignore = "writes fixtures/sets anew"]
fn regenerate() {
    std::fs::create_dir_all(golden().parent().unwrap()).unwrap();
    std::fs::write(golden(), write(1)).unwrap();
}

#[test]
fn a_set_is_not_taken_for_an_archive() {
    let bytes = write(1);
    for error in [
        RandomReader::open(&bytes[..]).unwrap_err(),
        StreamReader::open(&bytes[..]).unwrap_err(),
    ] {
        assert_eq!(
            error.to_string(),
            "this is a set of archives, not one archive"
        );
    }
}

#[test]
fn what_does_not_go_together_is_not_written() {
    for names in [&[][..], &["a", ""], &["a", "a"], &["", ""]] {
        assert!(write_members(1, names).is_err(), "{names:?}");
    }
    let mut out = Vec::new();
    let mut set = SetWriter::begin(&mut out, SetId([1; 16])).unwrap();
    let sample = Sample::default();
    let (_, summary) = archive(&sample.header(), &sample).unwrap();
    assert!(set.add(&sample.header(), &summary).is_err());
}

#[test]
fn every_flipped_bit_is_noticed() {
    let bytes = write(1);
    let mut random = StdRng::seed_from_u64(7);
    // the set's own frames whole, the members as a sample
    let members = read_random(&bytes).unwrap();
    let first = members[0].offset as usize;
    let end = members.last().map_or(0, |m| m.offset + m.length) as usize;
    let inside: Vec<usize> = (0..300).map(|_| random.random_range(first..end)).collect();
    for at in (0..first).chain(end..bytes.len()).chain(inside) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << random.random_range(0..8);
        assert_noticed(&damaged, &format!("bit at {at} of {}", bytes.len()));
    }
}

#[test]
fn every_cut_is_noticed() {
    let bytes = write(1);
    for length in 0..bytes.len() {
        assert_noticed(&bytes[..length], &format!("cut to {length}"));
    }
    assert_noticed(&[&bytes[..], b"x"].concat(), "a byte more");
    assert_noticed(&[&bytes[..], &bytes[..]].concat(), "twice");
    assert_noticed(&[b"x", &bytes[..]].concat(), "a byte before");
}

/// The set's header, its members, its index, its trailer.
fn pieces(bytes: &[u8]) -> Vec<Vec<u8>> {
    let members = SetReader::open(bytes).unwrap().members().to_vec();
    let mut ends = vec![members[0].offset as usize];
    ends.extend(members.iter().map(|m| (m.offset + m.length) as usize));
    ends.extend([bytes.len() - SET_TRAILER, bytes.len()]);
    let mut at = 0;
    ends.into_iter()
        .map(|end| bytes[std::mem::replace(&mut at, end)..end].to_vec())
        .collect()
}

#[test]
fn members_that_were_exchanged_are_noticed() {
    let (own, other) = (pieces(&write(1)), pieces(&write(2)));
    let count = own.len();
    for left in 0..count {
        let mut without = own.clone();
        without.remove(left);
        assert_noticed(&without.concat(), &format!("without piece {left}"));
        let mut twice = own.clone();
        twice.insert(left, own[left].clone());
        assert_noticed(&twice.concat(), &format!("piece {left} twice"));
        let mut spliced = own.clone();
        spliced[left] = other[left].clone();
        assert_noticed(&spliced.concat(), &format!("piece {left} of another set"));
        for right in left + 1..count {
            let mut swapped = own.clone();
            swapped.swap(left, right);
            assert_noticed(&swapped.concat(), &format!("{left} and {right} swapped"));
        }
    }
    // an index and a trailer that fit one another, with the members of another set
    let mut members_of_other = own.clone();
    members_of_other[1..4].clone_from_slice(&other[1..4]);
    assert_noticed(&members_of_other.concat(), "all members of another set");
}

/// A set whose frames all hold, but whose members are of another one, or of no set.
#[test]
fn members_name_their_set() {
    for foreign in [None, Some(SetId([9; 16]))] {
        let sample = Sample::default();
        let header = Header {
            set: foreign,
            ..sample.header()
        };
        let (bytes, summary) = archive(&header, &sample).unwrap();
        let mut out = Vec::new();
        let mut set = SetWriter::begin(&mut out, SetId([1; 16])).unwrap();
        out.extend_from_slice(&bytes);
        let claimed = Header {
            set: Some(set.id()),
            ..header
        };
        set.add(&claimed, &summary).unwrap();
        set.finish(&mut out).unwrap();
        assert_noticed(&out, "a member that names another set");
    }
}

#[test]
fn lengths_that_cannot_be_are_refused() {
    let bytes = write(1);
    // of the header, the index, the trailer's fields
    let index = bytes.len() - SET_TRAILER - {
        let at = bytes.len() - SET_TRAILER + 12;
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
    };
    for at in [12, index + 8] {
        for length in [0, 1, 15, 43, u32::MAX, 1 << 20, 16 << 20] {
            let mut damaged = bytes.clone();
            damaged[at..at + 4].copy_from_slice(&u32::to_le_bytes(length));
            assert_noticed(&damaged, &format!("length {length} at {at}"));
        }
    }
}

fn write_encrypted(id: u8, encryption: &Encryption) -> Vec<u8> {
    let mut out = Vec::new();
    let mut set = SetWriter::begin(&mut out, SetId([id; 16])).unwrap();
    for (number, name) in (0u8..).zip(NAMES) {
        let header = Header {
            database: name.into(),
            set: Some(set.id()),
            content: match name {
                "" => Content::Globals,
                _ => Content::Database,
            },
            ..Sample::default().header()
        };
        let header = Header {
            id: ArchiveId([id.wrapping_mul(16).wrapping_add(number); 16]),
            ..header
        };
        let codec = Codec::default();
        let mut writer =
            ArchiveWriter::begin_with(Vec::new(), &header, codec, Some(encryption)).unwrap();
        let of_member = entry(1, "ROLE", "alice", Contents::None);
        writer.write_entries(&[of_member]).unwrap();
        let (bytes, summary) = writer.finish().unwrap();
        out.extend_from_slice(&bytes);
        set.add(&header, &summary).unwrap();
    }
    set.finish(&mut out).unwrap();
    out
}

fn open_both_ways(bytes: &[u8], keys: &Arc<Keys>) -> [Result<Vec<Member>>; 2] {
    let random = || {
        let set = SetReader::open_with(bytes, Arc::clone(keys))?;
        for member in set.members() {
            set.open_member(member)?.entries()?;
        }
        Ok(set.members().to_vec())
    };
    let stream = || match open_stream_with(bytes, Arc::clone(keys))? {
        Incoming::Archive(_) => Err(Error::new("this is one archive")),
        Incoming::Set(mut set) => {
            while let Some(member) = set.next_member()? {
                set.end_member(member)?;
            }
            Ok(set.members().to_vec())
        }
    };
    [random(), stream()]
}

fn keys_and_encryption() -> (Arc<Keys>, Encryption) {
    let identity = Identity::generate();
    let encryption = Encryption::new(vec![identity.to_public()], None).unwrap();
    (Arc::new(Keys::none().with_identity(identity)), encryption)
}

#[test]
fn names_of_encrypted_members_are_known_with_the_key_alone() {
    let (keys, encryption) = keys_and_encryption();
    let bytes = write_encrypted(1, &encryption);
    for name in ["postgres", "shop", "alice"] {
        let is_there = bytes.windows(name.len()).any(|w| w == name.as_bytes());
        assert!(!is_there, "{name}");
    }
    for members in open_both_ways(&bytes, &keys) {
        let members = members.unwrap();
        let names: Vec<String> = members.iter().map(|m| m.name.to_string()).collect();
        assert_eq!(names, NAMES);
    }
    let set = SetReader::open(&bytes[..]).unwrap();
    assert_eq!(set.require_names().unwrap_err().exit_code(), 12);
    for member in set.members() {
        assert!(member.encrypted && member.name.is_empty());
        assert!(!member.label().contains("shop"), "{}", member.label());
        let reader = set.open_member(member).unwrap();
        assert!(reader.is_locked());
        assert_eq!(reader.entries().unwrap_err().exit_code(), 12);
    }
    let (wrong, _) = keys_and_encryption();
    for outcome in open_both_ways(&bytes, &wrong) {
        assert_eq!(outcome.unwrap_err().exit_code(), 12);
    }
}

/// Members left out, exchanged or moved, by somebody who makes all of the set's frames fit.
#[test]
fn an_encrypted_set_that_was_put_together_anew_is_noticed() {
    let (keys, encryption) = keys_and_encryption();
    let bytes = write_encrypted(1, &encryption);
    let set = SetReader::open(&bytes[..]).unwrap();
    let header = &bytes[..set.members()[0].offset as usize];
    let members = set.members().to_vec();
    let index_length = {
        let at = bytes.len() - SET_TRAILER + 12;
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
    };
    let index_end = bytes.len() - SET_TRAILER;
    let index = &bytes[index_end - index_length..index_end - 4];
    let code = crate::forging::fields(&index[12..]).pop().unwrap().1;
    // by the specification; `code` is what the forger has
    let put_together = |order: &[usize], code: Option<&[u8]>| {
        let mut out = header.to_vec();
        let mut list = vec![order.len() as u8];
        let mut varint = Vec::new();
        for number in order {
            let member = &members[*number];
            let content = u8::from(member.content == Content::Globals);
            list.extend_from_slice(&[content | 128, 0]);
            for mut value in [out.len() as u64, member.length] {
                varint.clear();
                while value >= 0x80 {
                    varint.push(value as u8 | 0x80);
                    value >>= 7;
                }
                varint.push(value as u8);
                list.extend_from_slice(&varint);
            }
            list.extend_from_slice(&member.id.0);
            list.extend_from_slice(&member.root_hash);
            let from = member.offset as usize;
            out.extend_from_slice(&bytes[from..from + member.length as usize]);
        }
        let offset = out.len() as u64;
        let mut index = b"\x89RDSIX\r\n\0\0\0\0".to_vec();
        let mut fields = vec![(1 << 1 | 1, list)];
        fields.extend(code.map(|code| (127 << 1 | 1, code.to_vec())));
        crate::forging::put_fields(&mut index, &fields);
        let length = index.len() as u32 + 4;
        index[8..12].copy_from_slice(&length.to_le_bytes());
        index.extend_from_slice(&crc32fast::hash(&index).to_le_bytes());
        let mut trailer = b"rdsetEND".to_vec();
        trailer.extend_from_slice(&(header.len() as u32).to_le_bytes());
        trailer.extend_from_slice(&length.to_le_bytes());
        let file_length = offset + u64::from(length) + SET_TRAILER as u64;
        for value in [offset, order.len() as u64, file_length] {
            trailer.extend_from_slice(&value.to_le_bytes());
        }
        trailer.extend_from_slice(&set.id().0);
        let mut hasher = blake3::Hasher::new_derive_key("rdump set hash, version 0");
        hasher.update(header).update(&index).update(&trailer);
        trailer.extend_from_slice(hasher.finalize().as_bytes());
        trailer.extend_from_slice(&[0; 4]);
        trailer.extend_from_slice(&crc32fast::hash(&trailer).to_le_bytes());
        trailer.extend_from_slice(b"\x89RDSEN\r\n");
        out.extend_from_slice(&index);
        out.extend_from_slice(&trailer);
        out
    };
    assert!(put_together(&[0, 1, 2], Some(&code)) == bytes);
    for order in [&[0, 1][..], &[0, 2], &[1, 2], &[0], &[2], &[0, 2, 1]] {
        let forged = put_together(order, Some(&code));
        // without the key the frames are all there is to be seen
        assert!(SetReader::open(&forged[..]).is_ok(), "{order:?}");
        for outcome in open_both_ways(&forged, &keys) {
            let error = outcome.unwrap_err().to_string();
            assert!(
                error.contains("was put together anew"),
                "{order:?}: {error}"
            );
        }
    }
    for outcome in open_both_ways(&put_together(&[0, 1, 2], None), &keys) {
        let error = outcome.unwrap_err().to_string();
        assert!(error.contains("authentication code"), "{error}");
    }
}

#[test]
fn of_a_set_all_members_are_encrypted_or_none_is() {
    let (_, encryption) = keys_and_encryption();
    let mut out = Vec::new();
    let mut set = SetWriter::begin(&mut out, SetId([1; 16])).unwrap();
    for (number, encryption) in [Some(&encryption), None].into_iter().enumerate() {
        let header = Header {
            set: Some(set.id()),
            ..Sample::default().header()
        };
        let codec = Codec::default();
        let writer = ArchiveWriter::begin_with(Vec::new(), &header, codec, encryption).unwrap();
        let (_, summary) = writer.finish().unwrap();
        assert_eq!(set.add(&header, &summary).is_ok(), number == 0);
    }
}

/// Of damage by chance all that is sound can still be read.
#[test]
fn behind_a_damaged_first_member_the_others_open() {
    let (keys, encryption) = keys_and_encryption();
    let mut bytes = write_encrypted(1, &encryption);
    let members = SetReader::open(&bytes[..]).unwrap().members().to_vec();
    bytes[members[0].offset as usize + 60] ^= 1;
    let set = SetReader::open_with(&bytes[..], keys).unwrap();
    assert!(set.open_member(&set.members()[0]).is_err());
    for (member, name) in set.members().iter().zip(NAMES).skip(1) {
        assert_eq!(member.name, name);
        assert!(set.open_member(member).unwrap().entries().is_ok());
    }
}

/// Somebody without the key can write an archive that is not encrypted.
#[test]
fn an_archive_in_clear_is_no_member_of_an_encrypted_set() {
    let (keys, encryption) = keys_and_encryption();
    let (sealed, clear) = (pieces(&write_encrypted(1, &encryption)), pieces(&write(1)));
    for at in [1, 2, 3] {
        let mut mixed = sealed.clone();
        mixed[at] = clear[at].clone();
        let mixed = mixed.concat();
        let Incoming::Set(mut set) = open_stream_with(&mixed[..], keys.clone()).unwrap() else {
            panic!("this is a set");
        };
        let mut read = 0;
        let error = loop {
            match set.next_member() {
                Ok(Some(member)) => set.end_member(member).unwrap(),
                Ok(None) => panic!("member {at}"),
                Err(error) => break error.to_string(),
            }
            read += 1;
        };
        assert!(error.contains("do not go together"), "{error}");
        assert_eq!(read, at.saturating_sub(1).max(1), "member {at}");
    }
}
