//! Archives that are damaged, readers that go away, signals: nothing that looks complete is left.

use std::io::{Read, Write};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::libc;

use super::{FORMS, psql_command, snapshot};
use crate::errors::{Folder, wait_for};
use crate::support::{self, TestDatabase, rdump_command, run, server};

/// More than one block of rows, uncompressed; the last one is damaged, and has a large object's bytes.
fn damaged(prefix: &str, folder: &Folder) -> (TestDatabase, String) {
    let source = server(18).create_database(prefix);
    source.sql(
        "CREATE TABLE wide (i int, t text, u text);
         INSERT INTO wide SELECT i, repeat(md5(i::text), 30), E'\\\\' FROM generate_series(1, 4000) AS i",
    );
    let file = folder.file("archive.rdump");
    let conninfo = source.conninfo();
    support::rdump_ok(&["snapshot", "-q", "-Z", "none", "-d", &conninfo, "-f", &file]);
    let mut bytes = std::fs::read(&file).expect("the archive");
    let at = bytes.len() * 3 / 4;
    bytes[at] ^= 1;
    std::fs::write(&file, bytes).expect("writing a file");
    (source, file)
}

const INCOMPLETE: &str = "rdump: this script is not complete";

fn ends_incomplete(script: &[u8]) -> bool {
    script.ends_with(b"-- rdump: this script is not complete\n")
}

#[test]
fn a_damaged_archive_leaves_no_file() {
    let folder = Folder::new();
    let (_source, file) = damaged("script_damaged", &folder);
    let out = folder.file("script.sql");
    std::fs::write(&out, "before").expect("writing a file");
    let finished = support::rdump(&["sql", "-q", &file, "-f", &out]);
    assert_eq!(finished.code, 1);
    assert!(
        finished.stderr.contains("checksum does not match"),
        "{}",
        finished.stderr
    );
    assert_eq!(std::fs::read(&out).expect("the file"), b"before");
    assert_eq!(folder.names(), ["archive.rdump", "script.sql"]);
}

/// psql would end a COPY that breaks off as if it were complete.
#[test]
fn psql_fails_on_what_came_of_a_damaged_archive() {
    let folder = Folder::new();
    let (source, file) = damaged("script_damaged", &folder);
    let bytes = std::fs::read(&file).expect("the archive");
    let truncated = &bytes[..bytes.len() / 2];
    for form in [FORMS[0], FORMS[2]] {
        for (from, input) in [(file.as_str(), &[][..]), ("-", &bytes), ("-", truncated)] {
            let arguments = [&["sql", "-q", from], form].concat();
            let finished = run(&mut rdump_command(&arguments), input);
            assert_eq!(finished.code, 1, "{form:?}: {}", finished.stderr);
            let script = finished.stdout;
            assert!(ends_incomplete(&script), "{form:?}");
            assert!(script.len() > 500_000, "{form:?}: {} bytes", script.len());
            for stop in ["1", "0"] {
                let stop_on_error = format!("ON_ERROR_STOP={stop}");
                let target =
                    server(18).create_database_with("script_damaged", "TEMPLATE template0");
                let mut psql = psql_command(&target, &["-v", &stop_on_error]);
                let finished = run(&mut psql, &script);
                assert_eq!(finished.code, if stop == "1" { 3 } else { 0 });
                let says = |words: &str| finished.stderr.contains(words);
                assert!(
                    says("ERROR") && says(if stop == "1" { "rdump" } else { INCOMPLETE }),
                    "{form:?}: {}",
                    finished.stderr
                );
                if form.is_empty() && from != "-" {
                    assert_eq!(target.query_text("SELECT count(*) FROM wide"), "0");
                }
                // never a row that is cut
                target.sql("CREATE TABLE whole (i int, t text, u text)");
                let odd =
                    "SELECT count(*) FROM wide WHERE t <> repeat(md5(i::text), 30) OR u <> E'\\\\'";
                assert_eq!(target.query_text(odd), "0", "{form:?}");
            }
        }
    }
    drop(source);
}

#[test]
fn a_reader_that_goes_away() {
    let source = server(18).create_database("script_pipe");
    support::load_sample(&source, 1);
    let folder = Folder::new();
    let file = snapshot(&source, &folder);
    let mut child = start(&["sql", &file]);
    let mut stdout = child.stdout.take().expect("stdout is piped");
    stdout.read_exact(&mut [0; 1000]).expect("reading");
    drop(stdout);
    let finished = child.wait_with_output().expect("waiting for rdump");
    let stderr = String::from_utf8_lossy(&finished.stderr);
    assert_eq!(finished.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("Broken pipe\nrdump: hint: the program reading the output ended early\n"),
        "{stderr}"
    );
}

fn start(arguments: &[&str]) -> Child {
    rdump_command(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starting rdump")
}

fn end(child: &mut Child, signal: i32) -> Option<i32> {
    // SAFETY: kill() touches no memory; the child has not been waited for, so the id is its own.
    assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(10) {
        if let Some(status) = child.try_wait().expect("waiting for rdump") {
            return status.code();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = child.kill();
    panic!("rdump did not end within 10 s of signal {signal}");
}

/// The archive comes in no further: whatever rdump waits for, a signal ends it in order.
#[test]
fn signals() {
    let source = server(18).create_database("script_signals");
    support::load_sample(&source, 1);
    let folder = Folder::new();
    let archive = std::fs::read(snapshot(&source, &folder)).expect("the archive");
    let out = folder.file("script.sql");
    for (signal, code) in [
        (libc::SIGINT, 130),
        (libc::SIGTERM, 143),
        (libc::SIGQUIT, 131),
        (libc::SIGHUP, 129),
    ] {
        for sent in [10, archive.len() / 2] {
            let mut child = start(&["sql", "-q", "-"]);
            let mut stdin = child.stdin.take().expect("stdin is piped");
            let mut stdout = child.stdout.take().expect("stdout is piped");
            let reading = std::thread::spawn(move || {
                let mut script = Vec::new();
                stdout.read_to_end(&mut script).expect("reading");
                script
            });
            stdin.write_all(&archive[..sent]).expect("writing");
            stdin.flush().expect("writing");
            std::thread::sleep(Duration::from_millis(500));
            assert_eq!(end(&mut child, signal), Some(code));
            let script = reading.join().expect("reading");
            assert!(script.is_empty() == (sent == 10), "{} bytes", script.len());
            assert!(script.is_empty() || ends_incomplete(&script));
        }

        std::fs::write(&out, "before").expect("writing a file");
        let mut child = start(&["sql", "-q", "-", "-f", &out]);
        let mut stdin = child.stdin.take().expect("stdin is piped");
        stdin
            .write_all(&archive[..archive.len() / 2])
            .expect("writing");
        wait_for("the script is begun", 10, || folder.names().len() == 3);
        assert_eq!(end(&mut child, signal), Some(code));
        assert_eq!(folder.names(), ["archive.rdump", "script.sql"]);
        assert_eq!(std::fs::read(&out).expect("the file"), b"before");
    }
}
