//! Locks that others hold or want, and connections that are few.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdump::snapshot::{Options, Window};

use crate::errors::{Folder, Other, wait_for, without_since};
use crate::hooked::{self, Background, count, restored};
use crate::support::{self, Server, VERSIONS, server};

/// Somebody wants a table for himself while it is being copied: he waits for us, and our
/// connections do not wait for him.
#[test]
fn a_waiting_access_exclusive_lock() {
    for major in VERSIONS {
        let server = server(major);
        let source = server.create_database("waiting");
        source.sql(
            "CREATE TABLE large AS SELECT i, repeat(md5(i::text), 4) AS filler FROM generate_series(1, 200000) i;
             CREATE TABLE small AS SELECT i FROM generate_series(1, 1000) i;
             CREATE INDEX ON large (i);
             CREATE TABLE locked (asked timestamptz, got timestamptz);",
        );
        for middle in [false, true] {
            let folder = Folder::new();
            let file = folder.file("archive.rdump");
            let background = Background::default();
            let (hook, tries) = {
                let (background, name) = (background.clone(), source.name.clone());
                hooked::at(Window::Copying, move || {
                    for table in ["large", "small"] {
                        background.start(server, &name, lock_exclusively(table, middle));
                    }
                    if middle {
                        wait_for("both look out for the copy", 30, || {
                            count(
                                server,
                                &format!(
                                    "datname = '{name}' AND state = 'active' AND query LIKE 'DO%'"
                                ),
                            ) == 2
                        });
                    } else {
                        background.settle(server, &name);
                    }
                })
            };
            let options = Options {
                jobs: 4,
                least_slice: 256 << 10,
                ..hooked::options(&file, Some(hook))
            };
            let started = Instant::now();
            hooked::run(&source.conninfo(), &options).expect("a snapshot");
            let seconds = started.elapsed().as_secs();
            assert!(seconds < 60, "{seconds} s on {major}");
            assert_eq!(tries.count(), 1);
            background.finish();
            let waits =
                source.query_text("SELECT string_agg((got - asked)::text, ' ') FROM locked");
            println!("waits for a snapshot on {major}: {waits}");
            let waited =
                source.query_text("SELECT count(*) FROM locked WHERE got - asked > '10 ms'");
            assert_eq!(waited, "2", "both waited for the snapshot: {waits}");
            let target = restored(&source, &file);
            source.sql("TRUNCATE locked");
            support::assert_same_rows(&source, &target);
        }
    }
}

/// Takes the lock; in the middle: once a piece of the large table is being read.
fn lock_exclusively(table: &str, middle: bool) -> String {
    let wait = if middle {
        "DO $$ BEGIN
             FOR n IN 1 .. 30000 LOOP
                 EXIT WHEN EXISTS (SELECT FROM pg_stat_activity
                                   WHERE datname = current_database() AND state = 'active'
                                     AND query LIKE 'COPY%large%');
                 PERFORM pg_stat_clear_snapshot(), pg_sleep(0.001);
             END LOOP;
         END $$; COMMIT;"
    } else {
        ""
    };
    format!(
        "{wait} SELECT set_config('test.asked', clock_timestamp()::text, false); BEGIN;
         LOCK TABLE {table};
         INSERT INTO locked VALUES (current_setting('test.asked')::timestamptz, clock_timestamp());
         COMMIT"
    )
}

/// Whoever stands in the way of a lock is named, also of a lock that is taken late.
#[test]
fn blockers_are_named() {
    for major in VERSIONS {
        let server = server(major);
        let source = server.create_database("blockers");
        source.sql("CREATE TABLE t (i int); CREATE TABLE u (i int)");
        let folder = Folder::new();
        let file = folder.file("archive.rdump");
        let brief = |hook| Options {
            lock_wait: Duration::from_millis(400),
            ..hooked::options(&file, hook)
        };
        let failure = |hook| {
            let error = hooked::run(&source.conninfo(), &brief(hook)).expect_err("locked tables");
            assert!(folder.names().is_empty(), "{:?}", folder.names());
            without_since(&error.to_string())
        };

        source.sql("BEGIN; LOCK TABLE t; PREPARE TRANSACTION 'blocking'");
        assert_eq!(
            failure(None),
            "could not lock all tables within 0.4 s: prepared transaction \"blocking\" (user \
             \"postgres\") holds an ACCESS EXCLUSIVE lock on table public.t"
        );
        source.sql("ROLLBACK PREPARED 'blocking'");

        // it reads, another wants the table for himself, and we come behind him
        let mut reading = Other::new(&source);
        reading.run("BEGIN; SELECT FROM u");
        let background = Background::default();
        background.start(
            server,
            &source.name,
            "BEGIN; LOCK TABLE u; COMMIT".to_owned(),
        );
        background.settle(server, &source.name);
        let message = failure(None);
        assert!(
            message.ends_with(
                "(user \"postgres\") waits for an ACCESS EXCLUSIVE lock on table public.u, \
                 active since … UTC with BEGIN"
            ),
            "{message}"
        );
        drop(reading);
        background.finish();

        let other = Mutex::new(Other::new(&source));
        let process = Arc::new(AtomicU32::new(0));
        let pid = Arc::clone(&process);
        let (hook, _) = hooked::at(Window::Locked, move || {
            let mut other = other.lock().expect("a session");
            let process = other.run("CREATE TABLE late (i int); BEGIN; LOCK TABLE late");
            pid.store(process, Ordering::SeqCst);
        });
        assert_eq!(
            failure(Some(hook)),
            format!(
                "could not lock all tables within 0.4 s: process {} (user \"postgres\", application \
                 \"psql\") holds an ACCESS EXCLUSIVE lock on table public.late, idle in transaction \
                 since … UTC after LOCK TABLE",
                process.load(Ordering::SeqCst)
            )
        );
    }
}

/// Fewer connections than asked for are said, and found out before anything is locked.
#[test]
fn too_few_free_connections() {
    for major in VERSIONS {
        let server = server(major);
        let source = server.create_database("few_connections");
        let role = format!("few_connections_{major}");
        source.sql(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'few' CONNECTION LIMIT 3;
             GRANT pg_read_all_data TO {role};
             CREATE TABLE t AS SELECT i FROM generate_series(1, 10000) i;"
        ));
        let conninfo = source
            .conninfo()
            .replace("user=postgres", &format!("user={role}"))
            .replace("password=test-password", "password=few");
        let folder = Folder::new();
        let file = folder.file("archive.rdump");
        let seen = Arc::new(Mutex::new(String::new()));
        let (hook, _) = {
            let (seen, name, role) = (Arc::clone(&seen), source.name.clone(), role.clone());
            hooked::at(Window::Listed, move || {
                let mut command = server.program("psql");
                command
                    .args(["-X", "-A", "-t", "-U", "postgres", "-d", &name, "-c"])
                    .arg(format!(
                        "SELECT count(*), (SELECT count(*) FROM pg_locks WHERE relation = 't'::regclass)
                         FROM pg_stat_activity WHERE usename = '{role}'"
                    ));
                *seen.lock().expect("what was seen") = support::run_ok(&mut command, b"").text();
            })
        };
        let options = Options {
            jobs: 8,
            least_slice: 8192,
            ..hooked::options(&file, Some(hook))
        };
        let report = hooked::run(&conninfo, &options).expect("a snapshot");
        assert_eq!(report.connections, 3);
        let warning = format!(
            "the server has too few free connections: using 3 instead of 8 \
             (connection to server at \"{}\", port {} failed: FATAL: too many connections for role \"{role}\")",
            server.host, server.port
        );
        assert_eq!(report.warnings, std::slice::from_ref(&warning));
        assert_eq!(seen.lock().expect("what was seen").trim(), "3|0");
        let target = restored(&source, &file);
        support::assert_same_rows(&source, &target);

        let finished = support::rdump_ok(&["snapshot", "-j8", "-d", &conninfo, "-f", &file]);
        assert!(
            finished
                .stderr
                .contains(&format!("rdump: warning: {warning}\n")),
            "{}",
            finished.stderr
        );
        source.sql(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
    }
}

/// However many connections are asked for, some are left for others.
#[test]
fn some_connections_are_left_for_others() {
    let apart: &'static Server =
        Box::leak(Box::new(Server::start(18, &["-c", "max_connections=20"])));
    let source = apart.create_database("greedy");
    source.sql(
        "CREATE ROLE other LOGIN PASSWORD 'test-password';
         CREATE TABLE t AS SELECT i FROM generate_series(1, 10000) i",
    );
    let folder = Folder::new();
    let file = folder.file("archive.rdump");
    let other = apart
        .conninfo("postgres")
        .replace("user=postgres", "user=other");
    let (hook, tries) = hooked::at(Window::Listed, move || {
        let clients = "SELECT count(*) FROM pg_stat_activity WHERE datid IS NOT NULL";
        assert_eq!(hooked::ask(&other, clients), "13", "ours and this one");
    });
    let options = Options {
        jobs: 1000,
        least_slice: 8192,
        ..hooked::options(&file, Some(hook))
    };
    let report = hooked::run(&source.conninfo(), &options).expect("a snapshot");
    assert_eq!(tries.count(), 1);
    // of 20 three are for superusers only
    assert_eq!(report.connections, 12);
    let warning = "the server has too few free connections: using 12 instead of 1000 (5 are left \
                   for others)";
    assert_eq!(report.warnings, [warning]);

    let target = apart.create_database("greedy_target");
    let conninfo = target.conninfo();
    for arguments in [
        &["restore", "-q", &file, "-d", &conninfo][..],
        &["verify", "-q", &file, "--against", &conninfo],
    ] {
        let finished = support::rdump_ok(&[arguments, &["-j", "1000"]].concat());
        assert_eq!(finished.stderr, format!("rdump: warning: {warning}\n"));
    }

    // with no more than those left, the first connection must do
    let mut held: Vec<Other> = (0..13).map(|_| Other::new(&source)).collect();
    for other in &mut held {
        other.run("SELECT 1");
    }
    let finished = support::rdump_ok(&["snapshot", "-q", "-d", &source.conninfo(), "-f", &file]);
    assert_eq!(
        finished.stderr,
        "rdump: warning: the server has too few free connections: using 1 instead of 2 (3 are left \
         for others)\n"
    );
}
