use std::sync::Arc;

use bytes::Bytes;

use super::{HEAD, TAIL, Volumes};
use crate::storage::conformance::{key, pattern};
use crate::storage::memory::{Memory, Moment, Operation, Span};
use crate::storage::object::Storage;
use crate::storage::read_at::ReadAt;
use crate::storage::runtime::wait;
use crate::storage::upload::Volume;

/// An archive of objects of these sizes, and its bytes.
fn archive(sizes: &[usize]) -> (Memory, Volumes, Bytes) {
    let memory = Memory::new();
    let bytes = pattern(sizes.iter().sum(), 7);
    let (mut volumes, mut at) = (Vec::new(), 0);
    for (number, size) in sizes.iter().enumerate() {
        let volume = Volume {
            key: key(&format!("v{number}")),
            size: *size as u64,
        };
        let (store, name) = (memory.clone(), volume.key.clone());
        let part = bytes.slice(at..at + size);
        wait(async move { store.put(&name, part).await }).unwrap();
        at += size;
        volumes.push(volume);
    }
    let volumes = Volumes::new(Arc::new(memory.clone()), volumes).unwrap();
    (memory, volumes, bytes)
}

fn read(volumes: &Volumes, offset: usize, length: usize) -> Vec<u8> {
    let mut buffer = vec![0; length];
    volumes.read_exact_at(offset as u64, &mut buffer).unwrap();
    buffer
}

#[test]
fn ranges_span_volumes() {
    for sizes in [
        &[10, 20, 1, 0, 5][..],
        &[100_000, 50_000, 3, 70_000],
        &[HEAD as usize, TAIL as usize],
        &[1],
    ] {
        let (_, volumes, bytes) = archive(sizes);
        assert_eq!(volumes.size().unwrap(), bytes.len() as u64);
        let mut borders = vec![0];
        for size in sizes {
            borders.push(borders[borders.len() - 1] + size);
        }
        borders.push(bytes.len().saturating_sub(TAIL as usize));
        borders.push(bytes.len().min(HEAD as usize));
        for from in &borders {
            for to in &borders {
                for (from, to) in [
                    (*from, *to),
                    (from + 1, *to),
                    (*from, to + 1),
                    (from + 1, to + 1),
                ] {
                    if from <= to && to <= bytes.len() {
                        assert_eq!(read(&volumes, from, to - from), bytes[from..to]);
                    }
                }
            }
        }
    }
}

#[test]
fn reads_past_the_end_fail() {
    let (_, volumes, _) = archive(&[10, 10]);
    for (offset, length) in [(0, 21), (20, 1), (u64::MAX, 1), (19, 2)] {
        let error = volumes
            .read_exact_at(offset, &mut vec![0; length])
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "could not read {length} bytes at offset {offset} of an archive in memory: it has 20 bytes"
            )
        );
    }
    volumes.read_exact_at(20, &mut []).unwrap();
    let empty = Volumes::new(Arc::new(Memory::new()), Vec::new()).unwrap();
    empty.read_exact_at(0, &mut []).unwrap();
    assert!(empty.read_exact_at(0, &mut [0]).is_err());
    let huge = |number| Volume {
        key: key(&format!("v{number}")),
        size: u64::MAX,
    };
    assert!(Volumes::new(Arc::new(Memory::new()), vec![huge(0), huge(1)]).is_err());
}

#[test]
fn the_ends_of_an_archive_are_read_once() {
    let (memory, volumes, bytes) = archive(&[100_000, 100_000]);
    let end = bytes.len();
    for (offset, length) in [(0, 40), (0, 500), (end - 80, 80), (end - 5_000, 4_000)] {
        assert_eq!(
            read(&volumes, offset, length),
            bytes[offset..offset + length]
        );
    }
    assert_eq!(memory.count(Operation::Read), 2);
}

#[test]
fn a_failed_read_names_the_object_and_is_not_kept() {
    let (memory, volumes, bytes) = archive(&[10, 10]);
    memory.fail_at(1, Moment::Before, Span::Once);
    let error = volumes.read_exact_at(15, &mut [0; 2]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Read of memory/v1: failed, as the test wants it"
    );
    assert_eq!(read(&volumes, 15, 2), bytes[15..17]);
}

/// An object that is shorter than the manifest says.
#[test]
fn a_volume_of_another_size_is_found_out() {
    let (memory, volumes, _) = archive(&[100_000, 100_000]);
    assert!(memory.damage(&key("v0"), |bytes| bytes.truncate(50_000)));
    let error = volumes.read_exact_at(49_000, &mut [0; 2_000]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "could not read bytes 49000 to 51000 of memory/v0: it has 50000 bytes"
    );
}

#[test]
fn any_thread_may_read() {
    let (_, volumes, bytes) = archive(&[100_000, 100_000]);
    let volumes = Arc::new(volumes);
    let check = {
        let (volumes, bytes) = (volumes.clone(), bytes.clone());
        move || {
            for offset in [0, 70_000, 99_990, 190_000] {
                assert_eq!(read(&volumes, offset, 20), bytes[offset..offset + 20]);
            }
        }
    };
    use rayon::prelude::*;
    (0..8).into_par_iter().for_each(|_| check());
    let one = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let several = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    for runtime in [&one, &several] {
        runtime.block_on(async { check() });
        runtime.block_on(async {
            let tasks: Vec<_> = (0..4)
                .map(|_| {
                    let check = check.clone();
                    tokio::spawn(async move { check() })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
        });
        runtime.block_on(async {
            let check = check.clone();
            tokio::task::spawn_blocking(check).await.unwrap();
        });
    }
}
