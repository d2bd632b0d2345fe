//! What is serialised parses to the same, and what parses serialises to the same.

use bstr::BString;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::block::{BlockHeader, BlockKind, DataBlock};
use super::codec::{self, BlockCodec, Codec};
use super::encryption::{Encryption, Identity, Keys};
use super::entry::{Contents, Entry, EntryId, Pass, Section};
use super::header::{ArchiveId, Content, Header};
use super::index::*;
use super::limits::*;
use super::segment::{BlockBuilder, EndRecord, RowEncoding, Segment};
use super::set::SetId;
use super::toc;
use super::trailer::Trailer;
use super::wire::UnknownField;

fn name() -> impl Strategy<Value = BString> {
    vec(any::<u8>(), 0..20).prop_map(BString::from)
}

fn contents() -> impl Strategy<Value = Contents> {
    prop_oneof![
        Just(Contents::None),
        (name(), vec(name(), 0..5), name()).prop_map(|(relation, columns, filter)| {
            Contents::Rows {
                relation,
                columns,
                filter,
            }
        }),
        name().prop_map(|sequence| Contents::SequenceValue { sequence }),
        Just(Contents::LargeObjects),
    ]
}

prop_compose! {
    fn entry()(
        (id, kind, section, pass) in (
            1..u32::MAX,
            "[A-Z é]{0,9}",
            prop_oneof![Just(Section::PreData), Just(Section::Data), Just(Section::PostData)],
            prop_oneof![Just(Pass::Main), Just(Pass::Privileges), Just(Pass::Last)],
        ),
        (schema, name, relation, owner) in (option::of(name()), name(), option::of(name()), option::of(name())),
        (owner_target, tablespace, access_method) in (option::of(name()), option::of(name()), option::of(name())),
        (create, drop, drop_if_exists) in (name(), name(), name()),
        dependencies in proptest::collection::btree_set(1..u32::MAX, 0..6),
        (contents, load_into) in (contents(), option::of(name())),
    ) -> Entry {
        Entry {
            id: EntryId(id), kind, section, pass, schema, name, relation, owner, owner_target,
            tablespace, access_method, create, drop, drop_if_exists,
            dependencies: dependencies.into_iter().map(EntryId).collect(),
            contents, load_into,
        }
    }
}

prop_compose! {
    fn header()(
        id in any::<[u8; 16]>(),
        texts in vec("[ -~é]{0,12}", 5),
        database in name(),
        (server_version_num, snapshot_time, standard_conforming_strings) in any::<(u32, i64, bool)>(),
        optional_flags in any::<u32>(),
        settings in vec(("[a-z]{0,5}", "[ -~]{0,5}"), 0..4),
        filters in vec(("[a-z]{0,5}", name()), 0..4),
        (set, is_of_globals) in (option::of(any::<[u8; 16]>()), any::<bool>()),
        unknown in proptest::collection::btree_map(1000u64..1 << 40, vec(any::<u8>(), 0..9), 0..3),
    ) -> Header {
        let [minimum_reader, rdump_version, codec, server_version, encoding] =
            texts.try_into().unwrap();
        Header {
            id: ArchiveId(id), critical_flags: 0, optional_flags, minimum_reader, rdump_version,
            codec, database, server_version_num, server_version, encoding, snapshot_time,
            standard_conforming_strings, settings, filters,
            set: set.map(SetId), sealed: None,
            content: if is_of_globals { Content::Globals } else { Content::Database },
            unknown: unknown.into_iter().map(|(tag, value)| UnknownField { tag, value }).collect(),
        }
    }
}

fn lengths() -> impl Strategy<Value = (BlockCodec, u32, u32)> {
    (0u8..3, 2..=MAX_BLOCK_LENGTH, any::<u32>()).prop_map(|(codec, raw, stored)| {
        let codec = BlockCodec::from_number(codec).unwrap();
        match codec {
            BlockCodec::None => (codec, raw, raw),
            _ => (codec, raw, 1 + stored % (raw - 1)),
        }
    })
}

fn blocks() -> impl Strategy<Value = Vec<BlockRecord>> {
    let record = (lengths(), any::<bool>(), any::<u16>(), any::<[u8; 32]>());
    let start = (0u64..1 << 40, any::<u32>(), 0u64..1 << 50);
    (start, vec(record, 1..20)).prop_map(|((mut number, volume, mut offset), records)| {
        let mut blocks = Vec::new();
        for ((codec, raw_length, mut stored_length), data, flags, hash) in records {
            if flags & BLOCK_FLAG_SEALED != 0 {
                stored_length += TAG_LENGTH as u32;
            }
            let kind = if data {
                BlockKind::Data
            } else {
                BlockKind::Entries
            };
            let block = BlockRecord {
                kind,
                codec,
                flags,
                number,
                volume,
                offset,
                raw_length,
                stored_length,
                hash,
            };
            number += 1;
            offset += block.framed_length();
            blocks.push(block);
        }
        blocks
    })
}

fn chunks() -> impl Strategy<Value = Vec<ChunkRecord>> {
    let record = (
        0u32..3,
        0u64..1 << 50,
        any::<u32>(),
        1u32..,
        any::<(u64, u64)>(),
    );
    (1u32..1 << 20, 0u32..1 << 20, vec(record, 1..20)).prop_map(
        |(mut entry, mut chunk, records)| {
            let mut chunks = Vec::new();
            for (position, (step, block, segment, parts, (rows, raw_length))) in
                records.into_iter().enumerate()
            {
                if position > 0 && step > 0 {
                    entry += step;
                    chunk = 0;
                }
                chunks.push(ChunkRecord {
                    entry: EntryId(entry),
                    chunk,
                    block,
                    segment,
                    parts,
                    encoding: RowEncoding::Text,
                    rows,
                    raw_length,
                });
                chunk += 1;
            }
            chunks
        },
    )
}

fn end() -> impl Strategy<Value = EndRecord> {
    let sums = (any::<u64>(), any::<u128>(), any::<u32>(), any::<u64>());
    (1u32.., sums).prop_map(
        |(entry, (rows, fingerprint, chunks, raw_length))| EndRecord {
            entry: EntryId(entry),
            rows,
            fingerprint,
            chunks,
            raw_length,
        },
    )
}

fn ends() -> impl Strategy<Value = Vec<EndPosition>> {
    vec((end(), any::<u64>(), any::<u32>()), 1..20).prop_map(|records| {
        let mut ends: Vec<_> = records
            .into_iter()
            .map(|(end, block, segment)| EndPosition {
                end,
                block,
                segment,
            })
            .collect();
        ends.sort_by_key(|end| end.end.entry);
        ends.dedup_by_key(|end| end.end.entry);
        ends
    })
}

fn page() -> impl Strategy<Value = (Vec<u8>, ParsedPage)> {
    prop_oneof![
        blocks().prop_map(ParsedPage::Blocks),
        chunks().prop_map(ParsedPage::Chunks),
        ends().prop_map(ParsedPage::Ends),
    ]
    .prop_map(|page| (serialise_page(&page), page))
}

fn serialise_page(page: &ParsedPage) -> Vec<u8> {
    match page {
        ParsedPage::Blocks(records) => build_block_pages(records).next(),
        ParsedPage::Chunks(records) => build_chunk_pages(records).next(),
        ParsedPage::Ends(records) => build_end_pages(records).next(),
    }
    .unwrap()
    .payload
}

/// A data block's payload, as a builder makes it.
fn payload() -> impl Strategy<Value = (Vec<Segment>, Vec<u8>)> {
    let rows = vec(any::<u8>(), 1..50).prop_map(Some);
    let segment = (prop_oneof![rows, Just(None)], end(), any::<u32>());
    (vec(segment, 1..8), any::<(bool, bool)>()).prop_map(|(segments, (first, last))| {
        let mut builder = BlockBuilder::new();
        let count = segments.len();
        for (position, (rows, end, chunk)) in segments.into_iter().enumerate() {
            let Some(rows) = rows else {
                builder.end_entry(end).unwrap();
                continue;
            };
            builder.buffer().extend_from_slice(&rows);
            let counted = end.rows % (rows.len() as u64 + 1);
            let first = first || position > 0;
            let last = last || position + 1 < count;
            builder
                .end_part(end.entry, chunk, counted, first, last)
                .unwrap();
        }
        let (block, _) = builder.seal(Codec::None).unwrap();
        (block.segments.clone(), block.stored)
    })
}

/// Builds the block again from what was parsed.
fn serialise_block(block: &DataBlock) -> Vec<u8> {
    let mut builder = BlockBuilder::new();
    for (position, segment) in block.segments.iter().enumerate() {
        match segment {
            Segment::End(end) => builder.end_entry(*end).unwrap(),
            Segment::Rows(rows) => {
                builder
                    .buffer()
                    .extend_from_slice(block.segment_bytes(position));
                builder
                    .end_part(rows.entry, rows.chunk, rows.rows, rows.first, rows.last)
                    .unwrap();
            }
        }
    }
    builder.seal(Codec::None).unwrap().0.stored
}

/// A few bytes changed, removed or added.
fn altered(mut bytes: Vec<u8>, changes: &[(u32, u8, u8)]) -> Vec<u8> {
    for (place, what, value) in changes {
        let at = *place as usize % (bytes.len() + 1);
        match what % 3 {
            0 => bytes.insert(at, *value),
            1 if at < bytes.len() => drop(bytes.remove(at)),
            _ if at < bytes.len() => bytes[at] = *value,
            _ => {}
        }
    }
    bytes
}

proptest! {
    #[test]
    fn headers(header in header()) {
        let bytes = header.serialise().unwrap();
        prop_assert_eq!(&Header::parse(&bytes).unwrap(), &header);
        let (read, read_bytes) = Header::read(&mut &bytes[..]).unwrap();
        prop_assert_eq!((read, read_bytes), (header, bytes));
    }

    #[test]
    fn sealed_headers(header in header()) {
        let identity = Identity::generate();
        let encryption = Encryption::new(vec![identity.to_public()], None).unwrap();
        let (bytes, _) = header.serialise_sealed(&encryption).unwrap();
        let mut locked = Header::parse(&bytes).unwrap();
        prop_assert!(locked.is_encrypted() && locked.database.is_empty() && locked.filters.is_empty());
        let keys = Keys::none().with_identity(identity);
        locked.unlock(&keys).unwrap();
        let opened = Header { sealed: None, critical_flags: header.critical_flags, ..locked };
        prop_assert_eq!(opened, header);
    }

    #[test]
    fn entries(entry in entry(), changes in any::<[(u32, u8, u8); 2]>()) {
        let serialise = |entry: &Entry| {
            let mut bytes = Vec::new();
            toc::put_entry(&mut bytes, entry).map(|()| bytes)
        };
        let bytes = serialise(&entry).unwrap();
        let mut parsed = Vec::new();
        toc::parse_entries(&bytes, entry.id.0, &mut parsed).unwrap();
        prop_assert_eq!(&parsed, std::slice::from_ref(&entry));

        // What still parses is a fixed point from then on. (An altered criticality is not kept.)
        parsed.clear();
        if toc::parse_entries(&altered(bytes, &changes), entry.id.0, &mut parsed).is_ok()
            && let [parsed] = &parsed[..]
        {
            let again = serialise(parsed).unwrap();
            let mut reparsed = Vec::new();
            toc::parse_entries(&again, entry.id.0, &mut reparsed).unwrap();
            prop_assert_eq!(std::slice::from_ref(parsed), &reparsed);
        }
    }

    #[test]
    fn index_pages((bytes, page) in page(), changes in any::<[(u32, u8, u8); 1]>()) {
        prop_assert_eq!(&ParsedPage::parse(&bytes).unwrap(), &page);
        let altered = altered(bytes, &changes);
        if let Ok(parsed) = ParsedPage::parse(&altered) {
            prop_assert_eq!(serialise_page(&parsed), altered);
        }
    }

    #[test]
    fn index_roots(blocks in blocks(), chunks in chunks(), ends in ends()) {
        let mut root = IndexRoot::default();
        let mut offset = 100;
        let blocks: Vec<_> = blocks.iter().zip(0..).map(|(block, number)| BlockRecord { number, ..*block }).collect();
        for page in build_block_pages(&blocks).chain(build_chunk_pages(&chunks)).chain(build_end_pages(&ends)) {
            root.pages.push(PageReference {
                kind: page.kind, first: page.first, count: page.count, volume: 0, offset,
                stored_length: page.payload.len() as u32, hash: [7; 32],
            });
            offset += root.pages.last().unwrap().framed_length();
        }
        root.totals.entries_blocks = 1;
        root.totals.data_blocks = blocks.len() as u64 - 1;
        root.totals.chunks = chunks.len() as u64;
        root.totals.ends = ends.len() as u64;
        prop_assert_eq!(&IndexRoot::parse(&root.serialise(), None).unwrap(), &root);
        root.totals.ends += 1;
        prop_assert!(IndexRoot::parse(&root.serialise(), None).is_err());
    }

    #[test]
    fn block_headers(
        (codec, raw_length, stored_length) in lengths(),
        kind in 1u8..5,
        flags in any::<u8>(),
        (sequence, stored_crc) in any::<(u64, u32)>(),
        id in any::<[u8; 16]>(),
    ) {
        let header = BlockHeader {
            kind: BlockKind::from_number(kind).unwrap(),
            flags: u16::from(flags) << 8, codec, sequence, raw_length, stored_length, stored_crc,
        };
        let bytes = header.serialise(ArchiveId(id));
        prop_assert_eq!(BlockHeader::parse(&bytes, ArchiveId(id)).unwrap(), header);
        let mut other = id;
        other[0] ^= 1;
        prop_assert!(BlockHeader::parse(&bytes, ArchiveId(other)).is_err());
    }

    #[test]
    fn data_blocks((segments, payload) in payload(), changes in any::<[(u32, u8, u8); 1]>()) {
        let block = DataBlock::parse(3, payload.clone()).unwrap();
        prop_assert_eq!(&block.segments, &segments);
        prop_assert_eq!(&serialise_block(&block), &payload);
        let altered = altered(payload, &changes);
        if let Ok(parsed) = DataBlock::parse(3, altered.clone()) {
            prop_assert_eq!(serialise_block(&parsed), altered);
        }
    }

    #[test]
    fn trailers(
        (header_length, root_offset, root_length) in (44..=MAX_HEADER_LENGTH, 1u64 << 20..1 << 50, 33u64..1 << 20),
        blocks in 1u64..,
        id in any::<[u8; 16]>(),
        root_hash in any::<[u8; 32]>(),
    ) {
        let trailer = Trailer {
            header_length, root_volume: 0, root_offset, root_length, blocks, id: ArchiveId(id), root_hash,
            file_length: root_offset + root_length + TRAILER_LENGTH as u64,
        };
        prop_assert_eq!(Trailer::parse(&trailer.serialise()).unwrap(), trailer);
    }

    #[test]
    fn compressed_bytes(raw in vec(0u8..4, 1..3000), damage in any::<(u32, u8)>(), other in 1usize..4000) {
        for asked in [Codec::None, Codec::Lz4, Codec::Zstd { level: 1 }, Codec::Zstd { level: -5 }] {
            let mut out = Vec::new();
            let used = codec::compress(asked, &raw, &mut out).unwrap();
            let mut stored = if used == BlockCodec::None { raw.clone() } else { out };
            prop_assert_eq!(&codec::decompress(used, stored.clone(), raw.len()).unwrap(), &raw);
            if other != raw.len() {
                prop_assert!(codec::decompress(used, stored.clone(), other).is_err());
            }
            // Must not panic, nor give more than was said.
            let at = damage.0 as usize % stored.len();
            stored[at] ^= damage.1;
            if let Ok(wrong) = codec::decompress(used, stored, raw.len()) {
                prop_assert_eq!(wrong.len(), raw.len());
            }
        }
    }
}

#[test]
fn compression_is_asked_for_as_in_pg_dump() {
    for (text, expected) in [
        ("none", "none"),
        ("0", "none"),
        ("lz4", "lz4"),
        ("lz4:1", "lz4"),
        ("zstd", "zstd:3"),
        ("zstd:0", "zstd:3"),
        ("zstd:19", "zstd:19"),
        ("zstd:level=7", "zstd:7"),
        ("zstd:-3", "zstd:-3"),
        ("5", "zstd:5"),
    ] {
        assert_eq!(text.parse::<Codec>().unwrap().to_string(), expected);
    }
    for (text, expected) in [
        ("gzip", "compression method \"gzip\" is not supported"),
        ("gzip:9", "compression method \"gzip\" is not supported"),
        ("zstd:23", "compression level 23 is out of range for zstd"),
        ("99", "compression level 99 is out of range for zstd"),
        ("zstd:long", "invalid compression detail \"long\""),
        ("none:1", "compression method \"none\" takes no level"),
        ("lz4:9", "compression level 9 is not supported for lz4"),
        ("brotli", "unrecognized compression method \"brotli\""),
        ("", "unrecognized compression method \"\""),
    ] {
        let error = text.parse::<Codec>().unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert_eq!(error.exit_code(), 2);
    }
}
