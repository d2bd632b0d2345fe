//! SIGKILL at chosen moments of a backup into a repository, with the pruning after it: what is listed is
//! whole, what was good and is to be kept is there, and a sweep leaves nothing else.
//!
//! As in `killed`, strace ends the process at the n-th call of a kind, and its record says how far the run
//! had come.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use crate::errors::small_database;
use crate::repository::Place;
use crate::support::{self, TestDatabase, rdump_command};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Connecting,
    Locking,
    Copying,
    /// Writing the volume to its end, flushing it, giving it its name.
    Sealing,
    /// The volume stands; the manifest is on its way.
    Manifest,
    /// The archive exists; older ones are removed, runs recorded.
    Pruning,
    NotKilled,
}

impl Phase {
    fn of(trace: &str) -> Phase {
        if !trace.contains("+++ killed by SIGKILL") {
            return Phase::NotKilled;
        }
        let linked = |what: &str| {
            trace.lines().any(|line| {
                line.contains("linkat(") && line.contains(what) && line.trim_end().ends_with("= 0")
            })
        };
        let has = |what: &str| trace.contains(what);
        match () {
            () if linked("/manifests/") => Phase::Pruning,
            () if linked("/archives/") => Phase::Manifest,
            () if has("pwrite64(") => Phase::Sealing,
            () if has("COPY ") => Phase::Copying,
            () if has("LOCK TABLE") => Phase::Locking,
            () => Phase::Connecting,
        }
    }
}

/// Kinds of calls, and numbers of them (of one thread), by which a phase is mostly reached.
const CALLS: [(Phase, &str, std::ops::Range<u32>); 11] = [
    (Phase::Locking, "sendto", 21..120),
    (Phase::Copying, "recvfrom", 213..262),
    (Phase::Sealing, "pwrite64", 1..2),
    (Phase::Sealing, "fsync", 1..2),
    (Phase::Sealing, "linkat", 1..2),
    (Phase::Manifest, "unlink", 1..2),
    (Phase::Manifest, "linkat", 1..2),
    (Phase::Manifest, "fsync", 2..4),
    (Phase::Pruning, "unlink", 2..5),
    (Phase::Pruning, "fsync", 5..12),
    (Phase::Pruning, "linkat,exit_group", 2..4),
];

const PHASES: [Phase; 5] = [
    Phase::Locking,
    Phase::Copying,
    Phase::Sealing,
    Phase::Manifest,
    Phase::Pruning,
];

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(copied.expect("cp").success());
}

/// Runs a backup that is killed; the phase, and whether the new archive is listed.
fn run(source: &TestDatabase, before: &Place, call: &str, number: u32) -> (Phase, bool) {
    let place = Place::empty();
    copy(Path::new(&before.url), Path::new(&place.url));
    let trace = tempfile::NamedTempFile::new().expect("a temporary file");
    let conninfo = source.conninfo();
    let rdump = rdump_command(&[
        "snapshot",
        "-q",
        "-d",
        &conninfo,
        "--label",
        "shop",
        "--repo",
        &place.url,
        "--keep-last",
        "2",
    ]);
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-qq", "-s", "120", "-o"])
        .arg(trace.path())
        .args([
            "-e",
            "trace=sendto,recvfrom,openat,pwrite64,fsync,linkat,rename,unlink,exit_group",
            "-e",
        ]);
    strace.arg(format!("inject={call}:signal=KILL:when={number}"));
    strace.arg(rdump.get_program()).args(rdump.get_args());
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
    (phase, check(before, &place, phase))
}

fn check(before: &Place, place: &Place, phase: Phase) -> bool {
    let old = before.names();
    let names = place.names();
    for name in &names {
        support::rdump_ok(&["verify", "-q", "--deep", name, "--repo", &place.url]);
    }
    let is_new = |name: &&String| !old.contains(name);
    let committed = names.iter().any(|name| is_new(&name));
    // what the rule keeps is there at any time; all of it until the new one exists
    let kept = if committed { &old[1..] } else { &old[..] };
    let kept = if phase < Phase::Pruning {
        kept
    } else {
        &old[old.len() - 1..]
    };
    for name in kept {
        assert!(names.contains(name), "{phase:?}: {name} is lost");
    }
    let sweep = [
        "sweep",
        "-q",
        "--least-age",
        "0",
        "--watch",
        "0",
        "--repo",
        &place.url,
    ];
    support::rdump_ok(&sweep);
    let volumes: Vec<String> = place.files("archives");
    let expected: Vec<String> = names.iter().map(|name| format!("{name}.rdump")).collect();
    assert_eq!(volumes, expected, "{phase:?}: after the sweep");
    assert_eq!(place.files("writers"), Vec::<String>::new(), "{phase:?}");
    assert_eq!(
        place.names(),
        names,
        "{phase:?}: the sweep changed what is listed"
    );
    committed
}

#[test]
fn at_any_moment() {
    support::ensure_program("strace", "strace");
    // a thousand in all
    let quota = if support::soak() { 200 } else { 3 };
    let source = small_database(18, "killed_backup");
    let before = Place::new();
    for _ in 0..2 {
        before.snapshot(&source);
    }
    let mut killed: BTreeMap<Phase, u32> = BTreeMap::new();
    let mut committed: BTreeMap<Phase, u32> = BTreeMap::new();
    for phase in PHASES {
        let calls: Vec<_> = CALLS.iter().filter(|(aim, ..)| *aim == phase).collect();
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
            let number = numbers.start + (attempt / calls.len() as u32) * 7 % span;
            let (phase, is_listed) = run(&source, &before, call, number);
            *killed.entry(phase).or_default() += 1;
            *committed.entry(phase).or_default() += u32::from(is_listed);
        }
    }
    println!("killed: {killed:?}; of these had committed: {committed:?}");
    for phase in [
        Phase::Connecting,
        Phase::Locking,
        Phase::Copying,
        Phase::Sealing,
    ] {
        let count = committed.get(&phase).copied().unwrap_or(0);
        assert_eq!(count, 0, "{phase:?}: committed before the end");
    }
}
