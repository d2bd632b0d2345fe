mod counting;

use std::io::{ErrorKind, Write};
use std::sync::Arc;

use bytes::Bytes;

use super::{UploadWriter, Volume};
use crate::error::{Error, Kind, Result};
use crate::storage::conformance::pattern;
use crate::storage::memory::{Memory, Moment, Operation, Span};
use crate::storage::object::{Key, Limits, Storage};
use crate::storage::write_error;
use counting::Counting;

const PART: usize = 16;
const VOLUME: u64 = 3 * PART as u64;

fn memory() -> Memory {
    Memory::new().with_limits(Limits {
        part_size: PART,
        parts: 10,
        concurrency: 2,
    })
}

fn name(number: u32) -> Result<Key> {
    Key::new(format!("archive/{number:03}"))
}

fn writer(memory: &Memory) -> UploadWriter {
    UploadWriter::new(Arc::new(memory.clone()), VOLUME, name).unwrap()
}

fn sizes(volumes: &[Volume]) -> Vec<u64> {
    for (number, volume) in (0..).zip(volumes) {
        assert_eq!(volume.key, name(number).unwrap());
    }
    volumes.iter().map(|volume| volume.size).collect()
}

fn concatenated(memory: &Memory) -> Vec<u8> {
    let contents = memory.contents();
    contents.into_values().flatten().collect()
}

/// Nothing is left, finished or not.
fn assert_empty(memory: &Memory) {
    memory.no_faults();
    assert!(memory.contents().is_empty(), "{:?}", memory.contents());
    let unfinished = crate::storage::runtime::wait({
        let memory = memory.clone();
        async move { memory.unfinished("").await }
    });
    assert_eq!(unfinished.unwrap(), []);
}

#[test]
fn a_stream_is_cut_into_volumes_whatever_its_pieces() {
    for (length, expected) in [
        (0, &[] as &[u64]),
        (1, &[1]),
        (PART, &[PART as u64]),
        (47, &[47]),
        (48, &[48]),
        (49, &[48, 1]),
        (3 * 48, &[48, 48, 48]),
        (3 * 48 + 17, &[48, 48, 48, 17]),
    ] {
        let bytes = pattern(length, 3);
        for piece in [1, 5, PART, 17, 1000] {
            let memory = memory();
            let mut writer = writer(&memory);
            for piece in bytes.chunks(piece) {
                writer.write_all(piece).unwrap();
            }
            assert_eq!(writer.written(), length as u64);
            let volumes = writer.finish().unwrap();
            assert_eq!(sizes(&volumes), expected, "{length} by {piece}");
            assert_eq!(concatenated(&memory), bytes);
            let parts = length.div_ceil(PART);
            assert_eq!(memory.count(Operation::Part), parts);
        }
    }
}

#[test]
fn whole_parts_are_handed_over_as_they_are() {
    let memory = memory();
    let mut writer = writer(&memory);
    let part = pattern(PART, 1);
    let mut all = Vec::new();
    for bytes in [
        &part,
        &part,
        &part.slice(..5),
        &part,
        &part.slice(..11),
        &part,
    ] {
        writer.write_bytes(bytes.clone()).unwrap();
        all.extend_from_slice(bytes);
    }
    writer.flush().unwrap();
    assert_eq!(sizes(&writer.finish().unwrap()), [48, 32]);
    assert_eq!(concatenated(&memory), all);
}

/// Every operation fails in its turn, before or after it has taken effect, once or for good.
#[test]
fn every_failure_is_told_and_what_can_be_cleaned_up_is() {
    let bytes = pattern(2 * VOLUME as usize + 20, 4);
    let write = |memory: &Memory| -> Result<Vec<Volume>> {
        let mut writer = writer(memory);
        writer.write_all(&bytes).map_err(write_error)?;
        writer.finish()
    };
    let memory = memory();
    write(&memory).unwrap();
    let operations = memory.operations().len();
    // 3 volumes of 8 parts
    assert_eq!(operations, 3 + 8 + 3);
    for n in 0..operations {
        for moment in [Moment::Before, Moment::After] {
            for span in [Span::Once, Span::FromThenOn] {
                let memory = self::memory();
                memory.fail_at(n, moment, span);
                let error = write(&memory).unwrap_err();
                assert!(
                    error.to_string().contains("failed, as the test wants it"),
                    "{error}"
                );
                let failed = memory.operations()[n].0;
                let lost_reply = moment == Moment::After
                    && matches!(failed, Operation::Begin | Operation::Complete);
                let is_left = span == Span::FromThenOn
                    || lost_reply
                    // the store alone knows the upload that it refused to complete
                    || failed == Operation::Complete;
                if !is_left {
                    assert_empty(&memory);
                }
            }
        }
    }
}

#[test]
fn a_failure_fails_the_writes_that_follow() {
    let memory = memory();
    memory.deny(Operation::Part);
    let mut writer = writer(&memory);
    let part = pattern(PART, 1);
    let error = loop {
        if let Err(error) = writer.write_all(&part) {
            break error;
        }
    };
    assert_eq!(error.kind(), ErrorKind::Other);
    let error = write_error(error);
    assert_eq!(error.to_string(), "Part of memory/archive/000: not allowed");
    assert_eq!(error.kind(), Kind::Denied);
    let again = writer.write_all(&part).unwrap_err().to_string();
    assert_eq!(again, "Part of memory/archive/000: not allowed");
    assert!(writer.finish().is_err());
    assert_empty(&memory);
}

#[test]
fn an_abort_leaves_nothing() {
    for length in [0, 5, 20, VOLUME as usize, 2 * VOLUME as usize + 20] {
        let memory = memory();
        let mut writer = writer(&memory);
        writer.write_all(&pattern(length, 1)).unwrap();
        writer.abort().unwrap();
        assert_empty(&memory);

        let mut writer = self::writer(&memory);
        writer.write_all(&pattern(length, 1)).unwrap();
        drop(writer);
        assert_empty(&memory);
    }
}

#[test]
fn an_abort_tells_what_it_could_not_remove() {
    let memory = memory();
    let mut writer = writer(&memory);
    writer.write_all(&pattern(VOLUME as usize, 1)).unwrap();
    memory.deny(Operation::Abort);
    memory.deny(Operation::Delete);
    assert_eq!(writer.abort().unwrap_err().kind(), Kind::Denied);
}

#[test]
fn volumes_are_what_the_store_takes() {
    let new = |size| UploadWriter::new(Arc::new(memory()), size, name);
    for size in [0, 1, PART as u64 + 1, 11 * PART as u64] {
        let error = new(size).unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "volumes of {size} bytes are not possible in memory: it takes up to 10 parts of 16 bytes"
            )
        );
    }
    new(10 * PART as u64).unwrap();
}

#[test]
fn a_name_that_cannot_be_fails_the_stream() {
    let refuse = |_| Err(Error::new("no name"));
    let mut writer = UploadWriter::new(Arc::new(memory()), VOLUME, refuse).unwrap();
    let _ = writer.write_all(&pattern(PART, 1));
    assert_eq!(writer.finish().unwrap_err().to_string(), "no name");
}

/// Where an async program uses it without a thread of its own.
#[test]
fn it_works_on_the_threads_of_any_runtime() {
    let one = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let several = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap();
    let bytes = pattern(200, 1);
    let write = |bytes: &Bytes| {
        let memory = memory();
        let mut written = writer(&memory);
        written.write_all(bytes).unwrap();
        written.finish().unwrap();
        assert_eq!(concatenated(&memory), *bytes);
        let mut dropped = writer(&memory);
        dropped.write_all(&bytes[..20]).unwrap();
        drop(dropped);
    };
    one.block_on(async { write(&bytes) });
    let again = bytes.clone();
    several.block_on(async move { tokio::spawn(async move { write(&again) }).await.unwrap() });
    one.block_on(async {
        tokio::task::spawn_blocking(move || write(&bytes))
            .await
            .unwrap()
    });
}

/// An abort that never returns, as of a network that is gone.
#[test]
fn a_store_that_hangs_does_not_hold_up_a_drop() {
    let counting = Counting::new(memory().limits());
    counting.hang();
    let mut writer = UploadWriter::new(Arc::new(counting.clone()), VOLUME, name).unwrap();
    writer.write_all(&pattern(PART, 1)).unwrap();
    drop(writer);
    assert_eq!(counting.seen().completed, 0);
}

/// What goes over the network is counted and dropped; parts are clones of one buffer, so that neither
/// the copying of 5 TB nor its memory is simulated, but every part, volume and reply is.
#[test]
fn five_terabytes_are_cut_as_a_store_takes_them() {
    const TOTAL: u64 = 5_000_000_000_000;
    let limits = Limits {
        part_size: 8 << 20,
        parts: 10_000,
        concurrency: 4,
    };
    let part_size = limits.part_size as u64;
    let volume_size = 10_000 * part_size;
    let counting = Counting::new(limits);
    let mut writer = UploadWriter::new(Arc::new(counting.clone()), volume_size, name).unwrap();
    let part = Bytes::from(vec![0; limits.part_size]);
    for _ in 0..TOTAL / part_size {
        writer.write_bytes(part.clone()).unwrap();
    }
    let rest = (TOTAL % part_size) as usize;
    writer.write_bytes(part.slice(..rest)).unwrap();
    assert_eq!(writer.written(), TOTAL);
    let volumes = writer.finish().unwrap();

    let count = TOTAL.div_ceil(volume_size);
    assert_eq!((count, volumes.len() as u64), (60, count));
    let sizes = sizes(&volumes);
    assert!(sizes[..59].iter().all(|size| *size == volume_size));
    assert_eq!(sizes.iter().sum::<u64>(), TOTAL);
    let seen = counting.seen();
    assert_eq!(seen.parts, TOTAL.div_ceil(part_size));
    assert_eq!((seen.completed, seen.bytes), (count, TOTAL));
    assert_eq!(seen.last_part, 9_999);
    assert!(seen.most_at_once <= limits.concurrency, "{seen:?}");
}

/// Copied from pieces, as the archive's writer gives them.
#[test]
fn no_more_buffers_than_parts_on_their_way_and_one() {
    let limits = Limits {
        part_size: 1 << 16,
        parts: 100,
        concurrency: 3,
    };
    let counting = Counting::new(limits);
    let volume_size = 100 << 16;
    let mut writer = UploadWriter::new(Arc::new(counting.clone()), volume_size, name).unwrap();
    let piece = pattern(10_007, 1);
    for _ in 0..5_000 {
        writer.write_all(&piece).unwrap();
    }
    writer.finish().unwrap();
    let seen = counting.seen();
    assert_eq!(seen.bytes, 5_000 * 10_007);
    assert!(seen.parts > 700);
    assert!(
        seen.most_at_once <= 3 && seen.buffers.len() <= 4,
        "{seen:?}"
    );
}
