//! Copies that do not come to their end: where they are, and what messages call them.

use std::io::Read;
use std::process::Stdio;

use nix::libc;

use super::case_of;
use crate::errors::{server_query, sessions_in, wait_for};
use crate::support::{TestDatabase, rdump_command, server};

/// The function is replaced after the rows: of them, none can be loaded where there is no
/// shop.limits, and each takes a minute where that is empty.
const ROWS: &str = "
    CREATE SCHEMA shop;
    CREATE TABLE shop.customers (id int PRIMARY KEY);
    CREATE TABLE shop.orders (id int PRIMARY KEY, customer int REFERENCES shop.customers);
    INSERT INTO shop.customers VALUES (1);
    INSERT INTO shop.orders SELECT i, 1 FROM generate_series(1, 9) i;
    CREATE FUNCTION shop.fits(i int) RETURNS bool LANGUAGE plpgsql AS 'BEGIN RETURN true; END';
    CREATE TABLE shop.t (i serial CHECK (shop.fits(i)));
    INSERT INTO shop.t SELECT generate_series(1, 9);
    CREATE OR REPLACE FUNCTION shop.fits(i int) RETURNS bool LANGUAGE plpgsql AS
        'BEGIN
             PERFORM FROM shop.limits;
             IF NOT FOUND THEN PERFORM pg_catalog.pg_sleep(60); END IF;
             RETURN true;
         END'";

fn scratch(target: &TestDatabase) -> String {
    target.query_text("SELECT string_agg(nspname, ' ') FROM pg_namespace WHERE nspname ~ '^rdump'")
}

fn has(target: &TestDatabase, table: &str) -> bool {
    target.query_text(&format!("SELECT to_regclass('{table}') IS NOT NULL")) == "t"
}

#[test]
fn a_copy_without_its_rows_does_not_get_its_name() {
    let case = case_of(server(18).create_database("tables"), ROWS);
    for flags in [
        &["--as", "copy"][..],
        &["--into-schema", "old", "--as", "copy"],
    ] {
        let target = case.copy_of(&["-s"]);
        let finished = case.restore(&target, &[&["-t", "t"], flags].concat());
        assert_eq!(finished.code, 3, "{}", finished.stderr);
        let scratch = scratch(&target);
        let table = if flags.len() > 2 {
            "old.copy"
        } else {
            "shop.copy"
        };
        for line in [
            format!("error: TABLE DATA {table} (loading its rows): "),
            format!(
                "nothing was given its name, since TABLE DATA {table} failed: what was restored is in \
                 schema {scratch}, to be dropped with DROP SCHEMA {scratch} CASCADE"
            ),
        ] {
            assert!(
                finished.stderr.contains(&line),
                "{line}: {}",
                finished.stderr
            );
        }
        let inside = format!("{scratch}.");
        assert!(!finished.stderr.contains(&inside), "{}", finished.stderr);
        assert!(!has(&target, table), "{}", finished.stderr);
        assert!(has(&target, &format!("{scratch}.t")));

        // again, where nothing is in the way of the rows
        target.sql(&format!(
            "DROP SCHEMA {scratch} CASCADE; CREATE TABLE shop.limits (); INSERT INTO shop.limits DEFAULT VALUES"
        ));
        case.restore_ok(&target, &[&["-t", "t"], flags].concat());
        assert_eq!(
            target.query_text(&format!("SELECT count(*) FROM {table}")),
            "9"
        );
    }
}

#[test]
fn what_fails_is_called_by_its_new_name() {
    let case = case_of(server(18).create_database("tables"), ROWS);
    let target = case.copy_of(&["-s"]);
    let finished = case.restore(&target, &["-t", "orders", "--as", "copy"]);
    assert_eq!(finished.code, 3, "{}", finished.stderr);
    assert!(
        finished
            .stderr
            .contains("error: FK CONSTRAINT shop.copy orders_customer_fkey (creating it): "),
        "{}",
        finished.stderr
    );
    assert!(
        !finished.stderr.contains("rdump_restore"),
        "{}",
        finished.stderr
    );
    // all rows are there: it is the table, without that key
    assert_eq!(target.query_text("SELECT count(*) FROM shop.copy"), "9");
    assert_eq!(scratch(&target), "");
}

#[test]
fn a_signal_names_what_it_leaves() {
    let case = case_of(server(18).create_database("tables"), ROWS);
    let target = case.copy_of(&["-s"]);
    target.sql("CREATE TABLE shop.limits ()");
    for (signal, code, single) in [
        (libc::SIGINT, 130, false),
        (libc::SIGTERM, 143, false),
        (libc::SIGTERM, 143, true),
    ] {
        let conninfo = target.conninfo();
        let mut arguments = vec!["restore", "-q", &case.file, "-d", &conninfo, "-t", "t"];
        arguments.extend(["--with-dependencies", "--as", "copy"]);
        arguments.extend(single.then_some("-1"));
        let mut child = rdump_command(&arguments)
            .stderr(Stdio::piped())
            .spawn()
            .expect("starting rdump");
        wait_for("rows are being loaded", 30, || {
            let loading = format!(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}'
                 AND query LIKE 'COPY rdump%' AND wait_event = 'PgSleep'",
                target.name
            );
            server_query(&target, &loading) == "1"
        });
        // SAFETY: kill() touches no memory; the child has not been waited for
        assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
        assert_eq!(child.wait().expect("its end").code(), Some(code));
        let mut stderr = String::new();
        let mut pipe = child.stderr.take().expect("stderr is piped");
        pipe.read_to_string(&mut stderr).expect("reading stderr");
        wait_for("its sessions end", 10, || sessions_in(&target) == "0");
        let scratch = scratch(&target);
        assert_eq!(scratch.is_empty(), single, "{scratch}");
        let left = format!(
            "what was restored so far may be in schema {scratch}, to be dropped with DROP SCHEMA {scratch} CASCADE: "
        );
        let left = if single { "" } else { &left };
        let last = format!("rdump: error: {left}cancelled by a signal\n");
        assert!(stderr.ends_with(&last), "{stderr}");
        if !single {
            target.sql(&format!("DROP SCHEMA {scratch} CASCADE"));
        }
    }
}
