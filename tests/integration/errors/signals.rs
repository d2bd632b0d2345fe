//! SIGINT, SIGTERM, SIGQUIT and SIGHUP: no file is left, and nothing runs on at the server.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::libc;

use super::{Folder, Other, add_noise, sessions_in, small_database, snapshot, wait_for};
use crate::support::{self, TestDatabase, rdump_command, server};

const SIGNALS: [(i32, i32); 4] = [
    (libc::SIGINT, 130),
    (libc::SIGTERM, 143),
    (libc::SIGQUIT, 131),
    (libc::SIGHUP, 129),
];

fn start(arguments: &[&str]) -> Child {
    rdump_command(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starting rdump")
}

/// Sends the signal; the process must end soon, with this code and these words, and its sessions
/// with it.
#[track_caller]
fn end(child: Child, signal: (i32, i32), database: &TestDatabase) {
    let stderr = end_with(child, signal.0, signal.1, database);
    assert_eq!(stderr, "rdump: error: cancelled by a signal\n");
}

#[track_caller]
fn end_with(mut child: Child, signal: i32, code: i32, database: &TestDatabase) -> String {
    // SAFETY: kill() touches no memory; the child has not been waited for, so the id is its own.
    assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
    let started = Instant::now();
    let status = loop {
        match child.try_wait().expect("waiting for rdump") {
            Some(status) => break status,
            None if started.elapsed() > Duration::from_secs(10) => {
                let _ = child.kill();
                panic!("rdump did not end within 10 s of signal {signal}");
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    let mut stderr = String::new();
    let mut pipe = child.stderr.take().expect("stderr is piped");
    pipe.read_to_string(&mut stderr).expect("reading stderr");
    assert_eq!(status.code(), Some(code), "{stderr}");
    wait_for("rdump's sessions end", 5, || sessions_in(database) == "0");
    stderr
}

#[test]
fn a_snapshot_that_waits_for_a_lock() {
    let source = small_database(18, "signal_lock");
    let mut other = Other::new(&source);
    other.run("BEGIN; LOCK TABLE sales.orders");
    for signal in SIGNALS {
        let folder = Folder::new();
        let file = folder.file("archive.rdump");
        std::fs::write(&file, "before").expect("writing a file");
        let child = start(&["snapshot", "-d", &source.conninfo(), "-f", &file]);
        wait_for("rdump waits for the lock", 30, || {
            other.run("SELECT 1");
            super::server_query(
                &source,
                &format!(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}'
                     AND wait_event_type = 'Lock'",
                    source.name
                ),
            ) == "1"
        });
        assert_eq!(folder.names().len(), 2, "{:?}", folder.names());
        end(child, signal, &source);
        assert_eq!(folder.names(), ["archive.rdump"]);
        assert_eq!(std::fs::read(&file).expect("the file"), b"before");
    }
}

/// A snapshot that is copying, and whose reader does not read.
#[test]
fn a_snapshot_that_copies() {
    for major in support::VERSIONS {
        let source = small_database(major, "signal_copy");
        add_noise(&source, 20);
        for signal in SIGNALS {
            let mut child = start(&[
                "snapshot",
                "-q",
                "-Z",
                "none",
                "-d",
                &source.conninfo(),
                "-f",
                "-",
            ]);
            let mut stdout = child.stdout.take().expect("stdout is piped");
            let mut first = [0; 100_000];
            stdout.read_exact(&mut first).expect("reading the archive");
            std::thread::sleep(Duration::from_millis(300));
            end(child, signal, &source);
            let mut rest = Vec::new();
            stdout.read_to_end(&mut rest).expect("reading the archive");
            let mut archive = first.to_vec();
            archive.extend(rest);
            // what came is no archive
            let folder = Folder::new();
            let file = folder.file("part");
            std::fs::write(&file, archive).expect("writing a file");
            assert_eq!(support::rdump(&["verify", &file]).code, 3);
        }
    }
}

/// A snapshot into `file` whose system calls strace delays or lets fail. The process that is
/// returned is rdump itself, with strace beside it.
pub fn start_injected(what: &str, source: &TestDatabase, file: &str) -> Child {
    support::ensure_program("strace", "strace");
    let conninfo = source.conninfo();
    let rdump = rdump_command(&[
        "snapshot", "-Znone", "-q", "-j2", "-d", &conninfo, "-f", file,
    ]);
    let mut strace = Command::new("strace");
    strace
        .args(["-D", "-f", "-qq", "-o", "/dev/null", "-e"])
        .arg(format!("inject={what}"))
        .arg(rdump.get_program())
        .args(rdump.get_args());
    for (name, value) in rdump.get_envs() {
        match value {
            Some(value) => strace.env(name, value),
            None => strace.env_remove(name),
        };
    }
    support::heed_signals(&mut strace);
    strace
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starting strace")
}

/// The file that has not got its name yet, if it is there.
fn partial(folder: &Folder) -> Option<String> {
    let names = folder.names();
    let name = names.iter().find(|name| name.ends_with(".partial"))?;
    Some(folder.file(name))
}

fn is_archive(file: &str) -> bool {
    support::rdump(&["verify", file]).code == 0
}

/// Whatever it does with its file, that is gone when the process is.
#[test]
fn a_snapshot_into_a_file() {
    let source = small_database(18, "signal_file");
    add_noise(&source, 8);
    let leader_is_idle = || {
        super::server_query(
            &source,
            &format!(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}'
                 AND application_name LIKE 'rdump%' AND query = 'COMMIT' AND state = 'idle'",
                source.name
            ),
        ) == "1"
    };
    for signal in SIGNALS {
        for (moment, delay) in [
            ("copying", "write:delay_enter=200000"),
            ("sealing", "write:delay_enter=200000"),
            ("committing", "fsync:delay_enter=3000000"),
        ] {
            let folder = Folder::new();
            let file = folder.file("archive.rdump");
            std::fs::write(&file, "before").expect("writing a file");
            let child = start_injected(delay, &source, &file);
            wait_for(moment, 60, || {
                let Some(partial) = partial(&folder) else {
                    return false;
                };
                match moment {
                    "copying" => std::fs::metadata(&partial).is_ok_and(|is| is.len() > 1 << 20),
                    "sealing" => leader_is_idle(),
                    _ => is_archive(&partial),
                }
            });
            if moment != "committing" {
                let partial = partial(&folder).expect("it is being written");
                assert!(!is_archive(&partial), "it was to be {moment}");
            }
            end(child, signal, &source);
            assert_eq!(folder.names(), ["archive.rdump"], "{moment}");
            assert_eq!(std::fs::read(&file).expect("the file"), b"before");
        }
    }
}

/// The last of all steps, when nothing can be undone any more.
#[test]
fn a_folder_that_cannot_be_flushed() {
    let source = small_database(18, "unflushed");
    let folder = Folder::new();
    let file = folder.file("archive.rdump");
    let child = start_injected("fsync:error=EIO:when=2", &source, &file);
    let output = child.wait_with_output().expect("waiting for rdump");
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        format!(
            "rdump: error: could not fsync the folder of file \"{file}\": Input/output error\n\
             rdump: hint: the archive is complete under its name, but may not survive a power cut\n"
        )
    );
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(folder.names(), ["archive.rdump"]);
    assert!(is_archive(&file));
}

/// Once the archive has its name, the run is done and says so.
#[test]
fn a_signal_that_comes_too_late() {
    let source = small_database(18, "signal_late");
    for (signal, _) in SIGNALS {
        let folder = Folder::new();
        let file = folder.file("archive.rdump");
        // the folder's
        let child = start_injected("fsync:delay_enter=3000000:when=2", &source, &file);
        wait_for("the archive has its name", 60, || {
            folder.names() == ["archive.rdump"]
        });
        assert_eq!(end_with(child, signal, 0, &source), "");
        assert!(is_archive(&file));
    }
}

#[test]
fn a_restore_that_waits_for_the_server() {
    let source = small_database(18, "signal_restore");
    let folder = Folder::new();
    let archive = snapshot(&source, &folder);
    for signal in SIGNALS {
        let target = server(18).create_database("signal_target");
        // the name is taken, or not: only the end of this transaction will tell
        let mut other = Other::new(&target);
        other.run("BEGIN; CREATE SCHEMA sales");
        let child = start(&["restore", "-q", &archive, "-d", &target.conninfo()]);
        wait_for("rdump waits for the other session", 30, || {
            super::server_query(
                &target,
                &format!(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}'
                     AND wait_event_type = 'Lock'",
                    target.name
                ),
            ) == "1"
        });
        end(child, signal, &target);
    }
}

#[test]
fn a_restore_in_the_middle_of_its_rows() {
    let source = small_database(18, "signal_load");
    source.sql("CREATE TABLE slow (i int); INSERT INTO slow SELECT generate_series(1, 200000)");
    source.sql(
        "CREATE FUNCTION slowly(i int) RETURNS bool LANGUAGE sql
             AS 'SELECT true';
         ALTER TABLE slow ADD CHECK (slowly(i));
         CREATE OR REPLACE FUNCTION slowly(i int) RETURNS bool LANGUAGE sql
             AS 'SELECT pg_sleep(0.01) IS NOT NULL';",
    );
    let folder = Folder::new();
    let archive = snapshot(&source, &folder);
    for signal in SIGNALS {
        for from_stdin in [false, true] {
            let target = server(18).create_database("signal_load_target");
            let conninfo = target.conninfo();
            let file = if from_stdin { "-" } else { &archive };
            let mut child = start(&["restore", "-q", file, "-d", &conninfo]);
            let mut stdin = child.stdin.take();
            if from_stdin {
                // all but the end: more may come
                let bytes = std::fs::read(&archive).expect("the archive");
                let cut = bytes.len() - 10;
                let pipe = stdin.as_mut().expect("stdin is piped");
                std::io::Write::write_all(pipe, &bytes[..cut]).expect("writing to rdump");
            }
            wait_for("rows are being loaded", 30, || {
                super::server_query(
                    &target,
                    &format!(
                        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}'
                         AND query LIKE 'COPY public.slow%' AND state = 'active'",
                        target.name
                    ),
                ) == "1"
            });
            end(child, signal, &target);
        }
    }
}
