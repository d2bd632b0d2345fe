//! The harness itself: a judge that cannot find fault is no judge.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::support::{self, Server, VERSIONS};

/// The message that this panics with.
fn failure(work: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(work)).expect_err("this was to fail");
    *panic.downcast::<String>().expect("a message")
}

#[test]
fn only_these_lines_are_taken_out_of_a_dump() {
    let dump = "--\n-- PostgreSQL database dump\n--\n\n\\restrict abc\n\n-- Dumped from database version 18.6\n\
        -- Dumped by pg_dump version 18.6\n\n -- Dumped of old\nSET a = 1;\n-- Name: t\nSELECT '\\restrict';\n\
        \\unrestrict abc\n\n";
    assert_eq!(
        support::normalise_dump(dump),
        "--\n-- PostgreSQL database dump\n--\n\n\n\n -- Dumped of old\nSET a = 1;\n-- Name: t\nSELECT '\\restrict';\n\n"
    );
}

#[test]
fn a_failed_start_says_why() {
    let error = Server::try_start(18, &["-c", "max_connections=none"])
        .err()
        .expect("it must not start");
    assert!(
        error.contains("invalid value for parameter \"max_connections\""),
        "{error}"
    );
}

#[test]
fn errors_of_sql_are_reported() {
    let database = support::server(18).create_database("errors");
    let error = database.sql_error("SELECT 1;\nSELECT nonsense;");
    assert!(
        error.contains("column \"nonsense\" does not exist"),
        "{error}"
    );
    let message = failure(|| support::server(18).sql("postgres", "SELECT nonsense"));
    assert!(
        message.contains("column \"nonsense\" does not exist"),
        "{message}"
    );
}

#[test]
fn equal_databases_are_equal_and_others_are_not() {
    let make = "CREATE TABLE \"odd | name\nhere\" (a int, b text DEFAULT 'x');
        INSERT INTO \"odd | name\nhere\" SELECT i, 'row ' || i FROM generate_series(1, 100) AS i;
        CREATE SEQUENCE s; SELECT nextval('s');
        SELECT lo_from_bytea(4711, '\\x00ff');";
    for major in VERSIONS {
        let server = support::server(major);
        let (left, right) = (
            server.create_database("judge"),
            server.create_database("judge"),
        );
        left.sql(make);
        right.sql(make);
        support::assert_same_schema(&left, &right);
        let expected = support::row_counts_and_hashes(&left);
        assert_eq!(expected, support::row_counts_and_hashes(&right));
        assert_eq!(expected.len(), 3, "{expected:?}");
        let table = &expected["table public.\"odd | name\nhere\""];
        assert!(table.starts_with("100|"), "{table}");
        assert_eq!(expected["sequence public.s"], "1|true");
        assert!(expected["large object 4711"].starts_with("2|"));

        for change in [
            "UPDATE \"odd | name\nhere\" SET b = 'row  1' WHERE a = 1",
            "SELECT setval('s', 2)",
            "SELECT lo_put(4711, 1, '\\xfe')",
        ] {
            right.sql(change);
            let actual = support::row_counts_and_hashes(&right);
            let differing = expected
                .iter()
                .filter(|(name, value)| actual.get(*name) != Some(value))
                .count();
            assert_eq!(differing, 1, "after {change}: {actual:?}");
            right.sql(
                "SELECT setval('s', 1), lo_put(4711, 1, '\\xff');
                UPDATE \"odd | name\nhere\" SET b = 'row 1' WHERE a = 1",
            );
        }

        right.sql("ALTER TABLE \"odd | name\nhere\" ALTER b SET DEFAULT 'y'");
        let verdict = failure(|| support::assert_same_schema(&left, &right));
        assert!(
            verdict.contains("-    b text DEFAULT 'x'::text"),
            "{verdict}"
        );
        assert!(
            verdict.contains("+    b text DEFAULT 'y'::text"),
            "{verdict}"
        );
    }
}

#[test]
fn a_newer_pg_dump_reaches_the_older_server() {
    let source = support::server(15).create_database("older");
    source.sql("CREATE TABLE t (i int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'one')");
    let target = support::server(18).copy_with_pg_dump(&source, "newer");
    assert_eq!(target.query_text("SELECT * FROM t"), "1|one");
    support::assert_same_rows(&source, &target);
}

#[test]
fn rdump_runs_without_the_callers_settings() {
    let command = support::rdump_command(&["--version"]);
    for (name, value) in command.get_envs() {
        let name = name.to_string_lossy();
        assert!(value.is_none() || !name.starts_with("PG"), "{name} is set");
    }
}
