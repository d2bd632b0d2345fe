//! Writer to readers.

use rdump::archive::*;

use crate::sample::{Sample, entry};

fn codecs() -> [Codec; 3] {
    [Codec::None, Codec::Lz4, Codec::Zstd { level: 1 }]
}

#[test]
fn both_readers_give_back_what_was_written() {
    for codec in codecs() {
        let sample = Sample {
            codec,
            ..Sample::default()
        };
        let bytes = sample.write().unwrap();
        let random = RandomReader::open(&bytes[..]).unwrap();
        assert_eq!(random.header(), &sample.header());
        assert_eq!(random.entries().unwrap(), sample.entries());
        assert_eq!(random.totals().rows, 3 * 50 + 1);
        assert_eq!(random.totals().ends, 5);

        let mut stream = StreamReader::open(&bytes[..]).unwrap();
        assert_eq!(stream.header(), &sample.header());
        assert_eq!(stream.entries().unwrap(), sample.entries());
        let mut numbers = random.data_blocks();
        while let Some(block) = stream.next_block().unwrap() {
            assert_eq!(Some(block.number), numbers.next());
            assert_eq!(random.read_block(block.number).unwrap(), block);
        }
        assert_eq!(numbers.next(), None);
        for entry in sample.entries() {
            assert!(stream.is_complete(entry.id));
            assert_eq!(
                stream.end_record(entry.id),
                random.end_record(entry.id).unwrap()
            );
        }
    }
}

#[test]
fn chunks_are_found_by_their_entry() {
    let sample = Sample::default();
    let bytes = sample.write().unwrap();
    let reader = RandomReader::open(&bytes[..]).unwrap();
    assert_eq!(reader.chunks(EntryId(1)).unwrap(), []);
    assert_eq!(reader.end_record(EntryId(1)).unwrap(), None);
    let mut parts = Vec::new();
    for table in 2..5 {
        let chunks = reader.chunks(EntryId(table)).unwrap();
        let mut text = Vec::new();
        for chunk in &chunks {
            parts.push(chunk.parts);
            for (position, number) in chunk.blocks().enumerate() {
                let block = reader.read_block(number).unwrap();
                let segment = if position == 0 { chunk.segment } else { 0 };
                text.extend_from_slice(block.segment_bytes(segment as usize));
            }
        }
        let expected: String = (1..=50)
            .map(|row| format!("{row}\tentry {table} of archive 69\n"))
            .collect();
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }
    assert_eq!(parts, [1, 1, 1, 1, 1, 1, 1, 2, 1]);
}

#[test]
fn an_archive_may_be_empty() {
    let header = Header::new(ArchiveId([7; 16]));
    let writer = ArchiveWriter::begin(Vec::new(), &header, Codec::default()).unwrap();
    let (bytes, summary) = writer.finish().unwrap();
    assert_eq!(summary.file_length, bytes.len() as u64);
    summary.check(&bytes[..]).unwrap();
    let other = Sample::default().write().unwrap();
    assert_eq!(
        summary.check(&other[..]).unwrap_err().to_string(),
        "the file does not hold what was written"
    );
    let reader = RandomReader::open(&bytes[..]).unwrap();
    assert_eq!(reader.entries().unwrap(), []);
    let mut stream = StreamReader::open(&bytes[..]).unwrap();
    assert_eq!(stream.next_block().unwrap(), None);
}

/// One entry longer than a block, and more entries than one block or index page takes.
#[test]
fn entries_may_be_long_or_many() {
    let mut long = entry(1, "FUNCTION", "long", Contents::None);
    long.create = vec![b'x'; 40 << 20].into();
    let mut entries = vec![long];
    for id in 2..10_000 {
        entries.push(entry(
            id,
            "SEQUENCE SET",
            "s",
            Contents::SequenceValue {
                sequence: "s".into(),
            },
        ));
    }
    let header = Header::new(ArchiveId([7; 16]));
    let mut writer = ArchiveWriter::begin(Vec::new(), &header, Codec::Lz4).unwrap();
    writer.write_entries(&entries).unwrap();
    let mut builder = BlockBuilder::new();
    for entry in &entries[1..] {
        builder.buffer().extend_from_slice(b"1\tt\n");
        builder.end_rows(entry.id, 0, 1).unwrap();
        let end = EndRecord {
            entry: entry.id,
            rows: 1,
            fingerprint: 1,
            chunks: 1,
            raw_length: 4,
        };
        builder.end_entry(end).unwrap();
    }
    writer.append(builder.seal(Codec::Lz4).unwrap().0).unwrap();
    let (bytes, _) = writer.finish().unwrap();

    let reader = RandomReader::open(&bytes[..]).unwrap();
    assert!(reader.entries().unwrap() == entries);
    for id in [2, 4097, 4098, 4099, 9999] {
        assert_eq!(reader.chunks(EntryId(id)).unwrap().len(), 1, "{id}");
        assert_eq!(reader.end_record(EntryId(id)).unwrap().unwrap().rows, 1);
    }
    assert_eq!(reader.end_record(EntryId(10_000)).unwrap(), None);
    assert_eq!(reader.chunks(EntryId(10_000)).unwrap(), []);
    let mut stream = StreamReader::open(&bytes[..]).unwrap();
    assert!(stream.entries().unwrap() == entries);
    while stream.next_block().unwrap().is_some() {}
}

#[test]
fn the_writer_refuses_what_readers_would() {
    let sample = Sample::default();
    let begin = || {
        let mut writer = ArchiveWriter::begin(Vec::new(), &sample.header(), sample.codec).unwrap();
        writer.write_entries(&sample.entries()).unwrap();
        writer
    };
    let rows = |entry: u32, first: bool, last: bool| {
        let mut builder = BlockBuilder::new();
        builder.buffer().extend_from_slice(b"1\n");
        builder.end_part(EntryId(entry), 0, 1, first, last).unwrap();
        builder.seal(Codec::None).unwrap().0
    };
    let error = begin().finish().unwrap_err().to_string();
    assert!(error.ends_with("has not ended"), "{error}");
    let error = begin().append(rows(1, true, true)).unwrap_err();
    assert_eq!(error.to_string(), "entry 1 has no contents");
    let error = begin().append(rows(2, false, true)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the parts of a chunk are not adjacent (entry 2, chunk 0)"
    );
    let mut writer = begin();
    writer.append(rows(2, true, false)).unwrap();
    assert!(writer.append(rows(3, true, true)).is_err());

    let mut builder = BlockBuilder::new();
    builder.buffer().extend_from_slice(b"1\n");
    assert!(
        builder.seal(Codec::None).is_err(),
        "rows that belong to no chunk"
    );
}
