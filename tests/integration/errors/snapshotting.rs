//! Tables that cannot be locked or read, and those that vanish.

use std::time::Duration;

use rdump::snapshot::Window;

use super::{Folder, Other, expect_rdump, small_database, without_since};
use crate::hooked;
use crate::support::{self, server};

#[test]
fn a_table_dropped_between_listing_and_locking() {
    for major in support::VERSIONS {
        let source = small_database(major, "dropped");
        source.sql("CREATE TABLE short_lived (i int)");
        let folder = Folder::new();
        let file = folder.file("archive.rdump");
        let (server_of, name) = (source.server, source.name.clone());
        let (hook, tries) = hooked::at(Window::Listed, move || {
            server_of.sql(&name, "DROP TABLE short_lived");
        });
        let report = hooked::run(&source.conninfo(), &hooked::options(&file, Some(hook)))
            .expect("a snapshot");
        assert_eq!(tries.count(), 1, "what is gone is no reason to begin again");
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
        let conninfo = source.conninfo();
        let mut arguments = vec!["snapshot", "-d", &conninfo, "-f", &file];
        arguments.push("--lock-wait-timeout=300ms");
        let expected = format!(
            "rdump: error: could not lock all tables within 0.3 s: process {process} (user \
             \"postgres\", application \"psql\") holds an ACCESS EXCLUSIVE lock on table \
             sales.orders, idle in transaction since … UTC after LOCK TABLE\n\
             rdump: hint: wait for that session to end, or allow more time with \
             --lock-wait-timeout\n"
        );
        let finished = support::rdump(&arguments);
        assert_eq!(without_since(&finished.stderr), expected);
        assert_eq!(finished.code, 1);
        // the whole of what others ran is said only on request
        arguments.push("-v");
        let finished = support::rdump(&arguments);
        let query = format!("process {process} runs, or ran last: LOCK TABLE sales.orders;\n");
        assert!(finished.stderr.contains(&query), "{}", finished.stderr);
        assert!(folder.names().is_empty(), "{:?}", folder.names());
        // what it waits for is given free in time, or whenever that is
        let releasing = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(500));
            drop(other);
        });
        let snapshot = ["snapshot", "-d", &conninfo, "-f", &file];
        support::rdump_ok(&[&snapshot[..], &["--lock-wait-timeout", "0"]].concat());
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

        // may read every table, but not every row
        source.sql(
            "CREATE POLICY own ON sales.orders USING (id < 10);
             ALTER TABLE sales.orders ENABLE ROW LEVEL SECURITY;
             ALTER TABLE customers ENABLE ROW LEVEL SECURITY",
        );
        expect_rdump(
            &["snapshot", "-d", &conninfo, "-f", &file],
            1,
            "rdump: error: row-level security would hide rows from this role in 2 tables: \
             public.customers, sales.orders\n\
             rdump: hint: a backup must see every row: connect as a superuser, as a role with \
             BYPASSRLS, or as the owner of these tables where it is not forced on the owner; \
             or take only what the role may see, with --enable-row-security\n",
        );
        source.sql(&format!("ALTER ROLE {role} BYPASSRLS"));
        support::rdump_ok(&["snapshot", "-d", &conninfo, "-f", &file]);
        source.sql(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
    }
}

#[test]
fn a_warning_of_the_server() {
    let source = small_database(18, "collation_version");
    // as after an upgrade of the operating system's locales
    source.sql(&format!(
        "UPDATE pg_database SET datcollversion = '0.1' WHERE datname = '{}'",
        source.name
    ));
    let folder = Folder::new();
    let file = folder.file("archive.rdump");
    let finished = support::rdump_ok(&["snapshot", "-q", "-d", &source.conninfo(), "-f", &file]);
    assert_eq!(
        finished.stderr,
        format!(
            "rdump: warning: database \"{}\" has a collation version mismatch\n",
            source.name
        )
    );
}

#[test]
fn steps_are_named_when_asked_for() {
    let source = small_database(18, "verbose");
    let folder = Folder::new();
    let file = folder.file("archive.rdump");
    let conninfo = source.conninfo();
    let told = support::rdump_ok(&["snapshot", "-v", "-d", &conninfo, "-f", &file]).stderr;
    for step in [
        "rdump: locked 2 tables; snapshot ",
        "rdump: copied sales.orders: 1000 rows\n",
    ] {
        assert!(told.contains(step), "{told}");
    }
    let target = server(18).create_database_with("verbose_target", "TEMPLATE template0");
    let told = support::rdump_ok(&["restore", "-v", &file, "-d", &target.conninfo()]).stderr;
    for step in [
        "rdump: creating TABLE sales.orders\n",
        "rdump: loaded TABLE DATA sales.orders\n",
        "rdump: creating CONSTRAINT sales.orders orders_pkey\n",
    ] {
        assert!(told.contains(step), "{told}");
    }
}

/// What is not kept is said.
#[test]
fn constraints_with_an_invalid_index() {
    for major in support::VERSIONS {
        let source = small_database(major, "invalid");
        source.sql(
            "CREATE INDEX by_item ON sales.orders (item);
             UPDATE pg_index SET indisvalid = false
             WHERE indexrelid IN ('sales.by_item'::regclass, 'customers_name_key'::regclass)",
        );
        let folder = Folder::new();
        let file = folder.file("archive.rdump");
        let finished = support::rdump_ok(&["snapshot", "-d", &source.conninfo(), "-f", &file]);
        for warning in [
            "rdump: warning: constraint customers_name_key of table public.customers is left out: \
             its index is invalid\n",
            "rdump: warning: index sales.by_item is left out: it is invalid, ",
        ] {
            assert!(finished.stderr.contains(warning), "{}", finished.stderr);
        }
        let shown = support::rdump_ok(&["show", &file]).text();
        assert!(shown.contains("customers_pkey"), "{shown}");
        assert!(!shown.contains("customers_name_key"), "{shown}");
    }
}
