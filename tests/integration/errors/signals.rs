//! SIGINT and SIGTERM: no file is left, and nothing runs on at the server.

use std::io::Read;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::libc;

use super::{Folder, Other, add_noise, sessions_in, small_database, snapshot, wait_for};
use crate::support::{self, TestDatabase, rdump_command, server};

const SIGNALS: [(i32, i32); 2] = [(libc::SIGINT, 130), (libc::SIGTERM, 143)];

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
fn end(mut child: Child, (signal, code): (i32, i32), database: &TestDatabase) {
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
    assert_eq!(stderr, "rdump: error: cancelled by a signal\n");
    wait_for("rdump's sessions end", 5, || sessions_in(database) == "0");
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
