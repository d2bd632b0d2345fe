//! Tables that cannot be locked or read, and those that vanish.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rdump::archive::Codec;
use rdump::catalog::Scope;
use rdump::postgres::Connector;
use rdump::postgres::conninfo::{ConnectionFlags, Environment, resolve};
use rdump::report::Progress;
use rdump::snapshot::{self, Options, Output, Window, WindowHook};

use super::{Folder, Other, expect_rdump, small_database};
use crate::support::{self, TestDatabase, server};

/// Runs a snapshot with a hook in its windows.
fn with_hook(
    source: &TestDatabase,
    file: &str,
    hook: WindowHook,
) -> rdump::Result<snapshot::Report> {
    let flags = ConnectionFlags {
        dbname: Some(source.conninfo()),
        ..ConnectionFlags::default()
    };
    let environment = Environment {
        variables: Default::default(),
        home: None,
        ..Environment::of_process()
    };
    let connector = Connector::new(resolve(&flags, &environment).expect("a conninfo string"));
    let options = Options {
        output: Output::File(file.into()),
        jobs: 2,
        codec: Codec::default(),
        lock_wait: Duration::from_secs(30),
        sync: false,
        scope: Scope::default(),
        least_slice: rdump::snapshot::LEAST_SLICE,
        window_hook: Some(hook),
    };
    tokio::runtime::Runtime::new()
        .expect("starting a runtime")
        .block_on(snapshot::run(
            connector,
            &options,
            Arc::new(Progress::default()),
        ))
}

/// Runs SQL the first time that the window comes.
fn once_at(
    source: &TestDatabase,
    wanted: Window,
    sql: &'static str,
) -> (WindowHook, Arc<AtomicU32>) {
    let (server, name) = (source.server, source.name.clone());
    let passed = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&passed);
    let hook: WindowHook = Arc::new(move |window| {
        let first = window == wanted && count.fetch_add(1, Ordering::SeqCst) == 0;
        let name = name.clone();
        Box::pin(async move {
            if first {
                tokio::task::spawn_blocking(move || server.sql(&name, sql))
                    .await
                    .expect("running SQL");
            }
        })
    });
    (hook, passed)
}

#[test]
fn a_table_dropped_between_listing_and_locking() {
    for major in support::VERSIONS {
        let source = small_database(major, "dropped");
        source.sql("CREATE TABLE short_lived (i int)");
        let folder = Folder::new();
        let file = folder.file("archive.rdump");
        let (hook, passed) = once_at(&source, Window::Listed, "DROP TABLE short_lived");
        let report = with_hook(&source, &file, hook).expect("a snapshot");
        assert_eq!(passed.load(Ordering::SeqCst), 2, "it looked a second time");
        assert!(report.warnings.is_empty(), "{:?}", report.warnings);
        let target = server(major).create_database_with("dropped_target", "TEMPLATE template0");
        support::rdump_ok(&["restore", &file, "-d", &target.conninfo()]);
        support::assert_same_schema(&source, &target);
        support::assert_same_rows(&source, &target);
    }
}

#[test]
fn a_table_locked_by_somebody_else() {
    for major in support::VERSIONS {
        let source = small_database(major, "locked");
        let folder = Folder::new();
        let file = folder.file("archive.rdump");
        let mut other = Other::new(&source);
        let process = other.run("BEGIN; LOCK TABLE sales.orders");
        expect_rdump(
            &[
                "snapshot",
                "-d",
                &source.conninfo(),
                "-f",
                &file,
                "--lock-wait-timeout",
                "300ms",
            ],
            1,
            &format!(
                "rdump: error: could not lock all tables within 0.3 s: process {process} (user \
                 \"postgres\") holds an ACCESS EXCLUSIVE lock on table sales.orders, \
                 idle in transaction after: LOCK TABLE sales.orders;\n\
                 rdump: hint: wait for that session to end, or allow more time with \
                 --lock-wait-timeout\n"
            ),
        );
        assert!(folder.names().is_empty(), "{:?}", folder.names());
        // what it waits for is given free in time
        let releasing = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(500));
            drop(other);
        });
        support::rdump_ok(&["snapshot", "-d", &source.conninfo(), "-f", &file]);
        releasing.join().expect("the other session");
    }
}

/// Everything that the role cannot read is named at once, before anything is locked.
#[test]
fn no_permission() {
    for major in support::VERSIONS {
        let source = small_database(major, "permission");
        let role = format!("permission_reader_{major}");
        source.sql(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'reader';
             GRANT SELECT ON customers TO {role};
             CREATE TABLE \"Odd | table\" (a int, b int);
             GRANT SELECT (a) ON \"Odd | table\" TO {role};
             CREATE SCHEMA hidden;
             CREATE TABLE hidden.t (i int);
             GRANT SELECT ON hidden.t TO {role};
             GRANT USAGE ON SCHEMA sales TO {role};
             CREATE SEQUENCE readable; GRANT SELECT ON readable TO {role};",
        ));
        let folder = Folder::new();
        let file = folder.file("archive.rdump");
        let conninfo = source
            .conninfo()
            .replace("user=postgres", &format!("user={role}"))
            .replace("password=test-password", "password=reader");
        // a lock that would be waited for, if it came to locking
        let mut other = Other::new(&source);
        other.run("BEGIN; LOCK TABLE customers");
        expect_rdump(
            &["snapshot", "-d", &conninfo, "-f", &file],
            1,
            "rdump: error: no permission to read 4 relations: \
             hidden.t, public.\"Odd | table\", public.customers_id_seq, sales.orders\n\
             rdump: hint: grant the role pg_read_all_data, or SELECT on these and USAGE on \
             their schemas\n",
        );
        drop(other);
        assert!(folder.names().is_empty(), "{:?}", folder.names());
        source.sql(&format!("GRANT pg_read_all_data TO {role}"));
        support::rdump_ok(&["snapshot", "-d", &conninfo, "-f", &file]);
        source.sql(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
    }
}
