//! Any bytes at all: both readers and the offline check end with an answer, never with a panic.
//! The library does not compare checksums when it is built with `--cfg fuzzing`, so that what
//! stands behind them is reached.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rdump::archive::{RandomReader, StreamReader};

fuzz_target!(|bytes: &[u8]| {
    let _ = stream(bytes);
    let _ = random(bytes);
    for deep in [false, true] {
        if let Ok(report) = rdump::proof::verify_file(bytes, deep) {
            for finding in report.findings {
                let _ = finding.to_string();
            }
        }
    }
});

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
