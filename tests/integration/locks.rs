//! Locks that others hold or want, and connections that are few.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdump::report::Progress;
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
                reading: Default::default(),
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

/// The same before the catalogs are read: definitions of indexes lock their tables, and a second
/// connection that asks for them would wait for whoever waits for the first.
#[test]
fn a_lock_that_is_waited_for_while_the_catalogs_are_read() {
    for major in VERSIONS {
        let server = server(major);
        let source = server.create_database("waiting_early");
        source.sql(
            "SELECT format('CREATE TABLE t%s (i int PRIMARY KEY, j int); CREATE INDEX ON t%s (j);
                            CREATE INDEX ON t%s ((i + j)) WHERE j > 0', n, n, n)
             FROM generate_series(1, 50) n \\gexec",
        );
        let folder = Folder::new();
        let file = folder.file("archive.rdump");
        let background = Background::default();
        let (hook, tries) = {
            let (background, name) = (background.clone(), source.name.clone());
            hooked::at(Window::SnapshotTaken, move || {
                for n in 1..=50 {
                    // gives up, which fails the test, long before the snapshot could
                    let wants = format!("SET lock_timeout = '20s'; BEGIN; LOCK TABLE t{n}; COMMIT");
                    background.start(server, &name, wants);
                }
                background.settle(server, &name);
            })
        };
        hooked::run(&source.conninfo(), &hooked::options(&file, Some(hook))).expect("a snapshot");
        assert_eq!(tries.count(), 1);
        assert_eq!(background.finish(), 50, "all waited");
        let target = restored(&source, &file);
        let indexes = "SELECT string_agg(indexdef, E'\\n' ORDER BY indexname) FROM pg_indexes
                       WHERE schemaname = 'public'";
        assert_eq!(target.query_text(indexes), source.query_text(indexes));
        support::assert_same_rows(&source, &target);
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

/// Waits until sessions that have ended are gone from the server as well.
fn settle(server: &'static Server) {
    wait_for("no other session is left", 30, || {
        count(server, "datid IS NOT NULL") == 1
    });
    // nor that which looked
    std::thread::sleep(Duration::from_millis(300));
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
    settle(apart);
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
        settle(apart);
        let finished = support::rdump_ok(&[arguments, &["-j", "1000"]].concat());
        assert_eq!(finished.stderr, format!("rdump: warning: {warning}\n"));
    }

    settle(apart);
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

/// Runs something that waits for locks, until it has warned of as many who hold them; then `release`,
/// and it must come to its end.
pub fn warned(
    run: impl AsyncFnOnce(Arc<Progress>) -> rdump::Result<()>,
    warnings: usize,
    release: impl FnOnce(),
) -> Vec<String> {
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let hearing = Arc::clone(&heard);
    let progress = Arc::new(Progress::default().on_warning(move |line| {
        hearing.lock().expect("warnings").push(line.to_owned());
    }));
    let waiting = async {
        while heard.lock().expect("warnings").len() < warnings {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // what is told once is not told again
        tokio::time::sleep(Duration::from_secs(1)).await;
        tokio::task::block_in_place(release);
    };
    let both = async { tokio::join!(run(progress), waiting).0 };
    let runtime = tokio::runtime::Runtime::new().expect("starting a runtime");
    let outcome = runtime.block_on(async {
        let limited = tokio::time::timeout(Duration::from_secs(60), both);
        limited.await.expect("warnings, then the end")
    });
    outcome.expect("a run that ends once the locks are released");
    let heard = heard.lock().expect("warnings");
    heard.iter().map(|line| without_seconds(line)).collect()
}

fn without_seconds(line: &str) -> String {
    let (before, after) = line.split_once(" after ").expect("a time");
    let (seconds, rest) = after.split_once(" s: ").expect("seconds");
    assert!(seconds.parse::<u64>().is_ok(), "{line}");
    without_since(&format!("{before} after … s: {rest}"))
}

/// Who holds up a restore or a comparison is told while it waits.
#[test]
fn waits_for_locks_are_told() {
    const PATIENCE: Duration = Duration::from_millis(300);
    for major in VERSIONS {
        let source = server(major).create_database("held");
        source.sql(
            "CREATE TABLE t AS SELECT i FROM generate_series(1, 1000) i;
             CREATE TABLE u (i int PRIMARY KEY); INSERT INTO u VALUES (1), (2)",
        );
        let folder = Folder::new();
        let file = crate::errors::snapshot(&source, &folder);
        let target = restored(&source, &file);
        target.sql("TRUNCATE t, u");
        let (conninfo, archive) = (target.conninfo(), file.clone());
        let load = async move |progress| {
            let mut options = rdump::restore::Options {
                jobs: 2,
                lock_patience: PATIENCE,
                ..rdump::restore::Options::default()
            };
            options.selection.parts.no_schema = true;
            let input = rdump::restore::Input::File(archive.into());
            let connector = hooked::connector(&conninfo);
            let report = rdump::restore::run(connector, input, options, progress).await?;
            assert!(report.failures.is_empty(), "{:?}", report.failures);
            Ok(())
        };
        // a table for each of the two connections: held by one session, who is told once, and by
        // a row that may be there or not
        let mut other = Other::new(&target);
        let process = other.run("BEGIN; LOCK TABLE t IN SHARE MODE; INSERT INTO u VALUES (2)");
        let heard = warned(load, 1, move || drop(other));
        let blocker = format!(
            "still waiting for a lock after … s: process {process} (user \"postgres\", application \
             \"psql\") "
        );
        assert_eq!(heard.len(), 1, "{heard:?}");
        let rest = heard[0].strip_prefix(&blocker).expect(&blocker);
        assert!(
            [
                "holds a SHARE lock on table public.t, idle in transaction since … UTC after INSERT",
                "has not ended its transaction, idle in transaction since … UTC after INSERT",
            ]
            .contains(&rest),
            "{heard:?}"
        );
        support::assert_same_rows(&source, &target);

        target.sql("BEGIN; LOCK TABLE u; PREPARE TRANSACTION 'holding'");
        let (conninfo, archive) = (target.conninfo(), file.clone());
        let compare = async move |progress| {
            let options = rdump::proof::CompareOptions {
                lock_patience: PATIENCE,
                ..rdump::proof::CompareOptions::default()
            };
            let file = rdump::storage::LocalFile::open(&archive)?;
            let reader = rdump::archive::RandomReader::open(file)?;
            let connector = hooked::connector(&conninfo);
            let compared = rdump::proof::compare(&reader, connector, &options, progress).await?;
            assert!(compared.is_equal(), "{:?}", compared.findings);
            Ok(())
        };
        let heard = warned(compare, 1, || target.sql("ROLLBACK PREPARED 'holding'"));
        assert_eq!(
            heard,
            [
                "still waiting for a lock after … s: prepared transaction \"holding\" (user \
              \"postgres\") holds an ACCESS EXCLUSIVE lock on table public.u"
            ]
        );
    }
}

/// The same on standard error, after the time that is usual.
#[test]
fn commands_tell_what_they_wait_for() {
    let source = server(18).create_database("told");
    source.sql("CREATE TABLE t AS SELECT i FROM generate_series(1, 1000) i");
    let folder = Folder::new();
    let file = crate::errors::snapshot(&source, &folder);
    let conninfo = source.conninfo();
    let empty = restored(&source, &file);
    empty.sql("TRUNCATE t");
    let into = empty.conninfo();
    let mut others = [Other::new(&source), Other::new(&empty)];
    let processes = others
        .each_mut()
        .map(|other| other.run("BEGIN; LOCK TABLE t"));
    let mut commands = Vec::new();
    for arguments in [
        &["verify", "-q", &file, "--against", &conninfo][..],
        &["restore", "-q", "-a", &file, "-d", &into],
    ] {
        let mut command = support::rdump_command(arguments);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        commands.push(command.spawn().expect("starting rdump"));
    }
    let mut readers = Vec::new();
    for (command, process) in commands.iter_mut().zip(processes) {
        let mut stderr = BufReader::new(command.stderr.take().expect("stderr is piped"));
        let mut line = String::new();
        stderr.read_line(&mut line).expect("a line of rdump");
        assert_eq!(
            without_seconds(&line),
            format!(
                "rdump: warning: still waiting for a lock after … s: process {process} (user \
                 \"postgres\", application \"psql\") holds an ACCESS EXCLUSIVE lock on table \
                 public.t, idle in transaction since … UTC after LOCK TABLE\n"
            )
        );
        readers.push(stderr);
    }
    drop(others);
    for (mut command, mut stderr) in commands.into_iter().zip(readers) {
        let mut rest = String::new();
        stderr.read_to_string(&mut rest).expect("the rest of it");
        assert_eq!(rest, "");
        assert!(command.wait().expect("its end").success());
    }
    support::assert_same_rows(&source, &empty);
}

/// Somebody rewrites a catalog that the first connection has read and the second is to read.
#[test]
fn a_catalog_that_somebody_waits_for() {
    for major in VERSIONS {
        let server = server(major);
        let source = server.create_database("rewritten");
        source.sql(
            "CREATE TABLE parent (i int PRIMARY KEY); CREATE TABLE child (i int REFERENCES parent)",
        );
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let background = Background::default();
        let (mut leader, mut helper) = runtime.block_on(async {
            let connector = hooked::connector(&source.conninfo());
            let mut leader = connector.open().await.expect("a session");
            let mut helper = connector.open().await.expect("another");
            let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ; SET LOCAL search_path = ''";
            for session in [&mut leader, &mut helper] {
                session.execute(begin).await.expect("a transaction");
            }
            let held = "SELECT count(*) FROM pg_constraint";
            leader.execute(held).await.expect("a catalog that is read");
            (leader, helper)
        });
        background.start(server, &source.name, "VACUUM FULL pg_constraint".to_owned());
        background.settle(server, &source.name);
        let catalog = runtime.block_on(async {
            let scope = Default::default();
            let reading = rdump::catalog::read_with(&mut leader, &mut helper, &scope);
            let catalog = tokio::time::timeout(Duration::from_secs(30), reading).await;
            leader.close().await;
            helper.close().await;
            catalog
                .expect("no connection waits for ever")
                .expect("catalogs")
        });
        background.finish();
        let has = |kind: &str| catalog.entries.iter().any(|entry| entry.kind == kind);
        assert!(has("CONSTRAINT") && has("FK CONSTRAINT"));
    }
}
