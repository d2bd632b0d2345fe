//! SIGKILL at chosen moments of a snapshot: whatever is left behind, what verify accepts is whole.
//!
//! strace ends the process at the n-th call of a kind, before the call is carried out, and its own
//! record says what had been done by then.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use super::errors::{Folder, small_database, snapshot};
use crate::support::{self, TestDatabase, rdump_command, server};

/// How far a snapshot had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// Connecting, before anything is locked.
    Connecting,
    /// From the first lock to the first COPY: locks, snapshot, catalogs.
    Locking,
    Copying,
    /// All rows are there; index and trailer are written, the file is flushed.
    Sealing,
    /// Rereading, rename, flushing the folder, up to the end of the process.
    Renaming,
    /// It ended by itself.
    NotKilled,
}

impl Phase {
    fn of(trace: &str) -> Phase {
        if !trace.contains("+++ killed by SIGKILL") {
            return Phase::NotKilled;
        }
        // the leader's COMMIT comes after all rows; its connection is the one that locked
        let leader = trace
            .lines()
            .find(|line| line.contains("\"Q") && line.contains("LOCK TABLE"))
            .and_then(|line| line.split(',').next())
            .and_then(|line| line.split_once("sendto("))
            .map(|(_, connection)| format!("sendto({connection},"));
        let Some(leader) = leader else {
            return Phase::Connecting;
        };
        let first_copy = trace.find("COPY ");
        let done = |start: usize| {
            trace[start..]
                .lines()
                .any(|line| line.contains(&leader) && line.contains("COMMIT"))
        };
        match first_copy {
            None => Phase::Locking,
            Some(_) if flushed(trace) => Phase::Renaming,
            Some(start) if done(start) => Phase::Sealing,
            Some(_) => Phase::Copying,
        }
    }
}

/// Whether the file's fsync has returned.
fn flushed(trace: &str) -> bool {
    trace
        .lines()
        .any(|line| line.contains("fsync") && line.trim_end().ends_with("= 0"))
}

/// Kinds of calls, and which of them (of one thread) is the last. With these the phase is mostly
/// reached; what counts is where it really ended.
const CALLS: [(Phase, &str, std::ops::Range<u32>); 8] = [
    (Phase::Locking, "sendto", 16..86),
    (Phase::Copying, "recvfrom", 290..360),
    (Phase::Copying, "write", 7..11),
    (Phase::Sealing, "write", 4..16),
    (Phase::Sealing, "fsync", 1..2),
    (Phase::Renaming, "pread64", 3..5),
    (Phase::Renaming, "rename,exit_group", 1..2),
    (Phase::Renaming, "fsync", 2..3),
];

const PHASES: [Phase; 4] = [
    Phase::Locking,
    Phase::Copying,
    Phase::Sealing,
    Phase::Renaming,
];

/// What is the same in every archive of one unchanged database: its entries, and its rows.
fn contents(archive: &str) -> String {
    let table = support::rdump_ok(&["show", archive]).text();
    let entries = table.lines().filter(|line| !line.starts_with(';'));
    let summary = support::rdump_ok(&["verify", "--deep", "--json", archive]).text();
    let rows = summary
        .rsplit_once("\"rows\":")
        .and_then(|(_, rest)| rest.split(|c: char| !c.is_ascii_digit()).next())
        .expect("a number of rows")
        .to_owned();
    entries
        .map(|line| format!("{line}\n"))
        .chain([format!("{rows} rows")])
        .collect()
}

struct Run<'a> {
    source: &'a TestDatabase,
    expected: &'a str,
    call: &'a str,
    number: u32,
    /// Chooses compression, connections, and whether a file of that name exists.
    variant: u32,
}

impl Run<'_> {
    /// Phase in which it was killed, and whether the new archive has its name.
    fn run(&self) -> (Phase, bool) {
        let folder = Folder::new();
        let file = folder.file("archive.rdump");
        let before = self.variant.is_multiple_of(2).then_some("what was before");
        if let Some(before) = before {
            std::fs::write(&file, before).expect("writing a file");
        }
        let trace = tempfile::NamedTempFile::new().expect("a temporary file");
        let codec = ["zstd:1", "lz4", "none"][self.variant as usize % 3];
        let jobs = ["1", "2", "4"][self.variant as usize / 3 % 3];
        let conninfo = self.source.conninfo();
        let rdump = rdump_command(&[
            "snapshot", "-q", "-d", &conninfo, "-f", &file, "-Z", codec, "-j", jobs,
        ]);
        let mut strace = Command::new("strace");
        strace
            .args(["-f", "-qq", "-s", "60", "-o"])
            .arg(trace.path())
            .args([
                "-e",
                "trace=sendto,recvfrom,write,pread64,fsync,rename,exit_group",
                "-e",
            ])
            .arg(format!(
                "inject={}:signal=KILL:when={}",
                self.call, self.number
            ))
            .arg(rdump.get_program())
            .args(rdump.get_args());
        for (name, value) in rdump.get_envs() {
            match value {
                Some(value) => strace.env(name, value),
                None => strace.env_remove(name),
            };
        }
        let finished = support::run(&mut strace, b"");
        let trace = std::fs::read(trace.path()).expect("the record of strace");
        let phase = Phase::of(&String::from_utf8_lossy(&trace));
        assert!(
            phase != Phase::NotKilled || finished.code == 0,
            "{}",
            finished.stderr
        );
        (phase, self.check(&folder, Path::new(&file), before, phase))
    }

    fn check(&self, folder: &Folder, file: &Path, before: Option<&str>, phase: Phase) -> bool {
        for name in folder.names() {
            let path = folder.file(&name);
            // all that is accepted is complete, under its name or not yet
            if support::rdump(&["verify", &path]).code == 0 {
                assert_eq!(contents(&path), self.expected, "{phase:?}: {name}");
            } else {
                assert!(
                    name.ends_with(".partial") || before.is_some() && Path::new(&path) == file,
                    "{phase:?}: {name} is no archive"
                );
            }
        }
        match std::fs::read(file) {
            Ok(bytes) if Some(bytes.as_slice()) == before.map(str::as_bytes) => false,
            Ok(_) => {
                let accepted = support::rdump(&["verify", &file.to_string_lossy()]).code == 0;
                assert!(accepted, "{phase:?}: the name belongs to no archive");
                true
            }
            Err(_) => {
                assert!(before.is_none(), "{phase:?}: what was before is gone");
                false
            }
        }
    }
}

#[test]
fn at_any_moment() {
    support::ensure_program("strace", "strace");
    let quota = if support::soak() { 50 } else { 4 };
    let large = server(18).create_database("killed");
    support::load_sample(&large, 1);
    // one block of data: most of what is written is index
    let small = small_database(18, "killed_small");
    let [large, small] = [large, small].map(|source| {
        let folder = Folder::new();
        let expected = contents(&snapshot(&source, &folder));
        (source, expected)
    });

    let mut killed: BTreeMap<Phase, u32> = BTreeMap::new();
    let mut committed: BTreeMap<Phase, u32> = BTreeMap::new();
    let mut variant = 0;
    for phase in PHASES {
        let calls: Vec<_> = CALLS.iter().filter(|(aim, ..)| *aim == phase).collect();
        // a call that some runs do not reach ends in another phase, or not at all
        for attempt in 0.. {
            if killed.get(&phase).is_some_and(|&count| count >= quota) {
                break;
            }
            assert!(
                attempt < quota * 20,
                "{phase:?} is hardly ever reached: {killed:?}"
            );
            let (_, call, numbers) = calls[attempt as usize % calls.len()];
            let span = numbers.end - numbers.start;
            // 7 is prime to all the spans: every number has its turn
            let number = numbers.start + (attempt / calls.len() as u32) * 7 % span;
            variant += 1;
            let (source, expected) = if phase == Phase::Sealing {
                &small
            } else {
                &large
            };
            let run = Run {
                source,
                expected,
                call,
                number,
                variant,
            };
            let (phase, has_name) = run.run();
            *killed.entry(phase).or_default() += 1;
            *committed.entry(phase).or_default() += u32::from(has_name);
        }
    }
    println!("killed: {killed:?}; of these had committed: {committed:?}");
    let early = [
        Phase::Connecting,
        Phase::Locking,
        Phase::Copying,
        Phase::Sealing,
    ];
    for phase in early {
        let count = committed.get(&phase).copied().unwrap_or(0);
        assert_eq!(count, 0, "{phase:?}: committed before the end");
    }
}
