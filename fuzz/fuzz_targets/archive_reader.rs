//! Any bytes at all: both readers and the offline check end with an answer, never with a panic.
//! The library does not compare checksums when it is built with `--cfg fuzzing`, so that what
//! stands behind them is reached.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rdump::archive::{Incoming, Keys, RandomReader, SetReader, StreamReader, open_stream};

fuzz_target!(|bytes: &[u8]| {
    let _ = stream(bytes);
    let _ = random(bytes);
    let _ = set(bytes);
    let _ = set_as_stream(bytes);
    encrypted(bytes);
    for deep in [false, true] {
        if let Ok(report) = rdump::proof::verify_file(bytes, deep) {
            for finding in report.findings {
                let _ = finding.to_string();
            }
        }
    }
});

/// With a key, envelopes are looked into.
fn encrypted(bytes: &[u8]) {
    let identity = include_str!("../../fixtures/encrypted/identity.txt")
        .lines()
        .last()
        .and_then(|line| line.parse().ok());
    let Some(identity) = identity else {
        panic!("no identity in the fixture");
    };
    let keys = Keys::none().with_identity(identity);
    let _ = RandomReader::open_with(bytes, &keys).map(drop);
    let _ = StreamReader::open_with(bytes, &keys).map(drop);
}

fn stream(bytes: &[u8]) -> rdump::Result<()> {
    let mut reader = StreamReader::open(bytes)?;
    reader.entries()?;
    while let Some(block) = reader.next_block()? {
        for position in 0..block.segments.len() {
            let _ = block.segment_bytes(position);
        }
    }
    Ok(())
}

fn set(bytes: &[u8]) -> rdump::Result<()> {
    let set = SetReader::open(bytes)?;
    for member in set.members().iter().take(100) {
        if let Ok(reader) = set.open_member(member) {
            let _ = reader.entries();
        }
    }
    Ok(())
}

fn set_as_stream(bytes: &[u8]) -> rdump::Result<()> {
    let Incoming::Set(mut set) = open_stream(bytes)? else {
        return Ok(());
    };
    while let Some(member) = set.next_member()? {
        set.end_member(member)?;
    }
    Ok(())
}

fn random(bytes: &[u8]) -> rdump::Result<()> {
    let reader = RandomReader::open(bytes)?;
    for entry in reader.entries()? {
        let _ = reader.end_record(entry.id);
        for chunk in reader.chunks(entry.id).unwrap_or_default() {
            for number in chunk.blocks().take(8) {
                if let Ok(block) = reader.read_block(number) {
                    let _ = block.segment_bytes(chunk.segment as usize);
                }
            }
        }
    }
    for number in reader.data_blocks().take(1000) {
        let _ = reader.read_block(number);
    }
    Ok(())
}
