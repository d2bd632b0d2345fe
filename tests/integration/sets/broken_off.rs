//! Restores of sets that do not come to their end: what is told of each member, and what is restored
//! all the same.

use super::members::{rows, small};
use super::{fresh, place, restore, restore_ok, snapshot};
use crate::support::{self, Finished};

fn assert_told(finished: &Finished, told: &[&str]) {
    for told in told {
        assert!(
            finished.stderr.contains(told),
            "{told}: {}",
            finished.stderr
        );
    }
}

#[test]
fn the_first_error_names_what_was_not_begun() {
    let source = small();
    let (_folder, file) = place("set.rdump");
    snapshot(&source, &file, &["--all-databases"]);
    let target = fresh(18);
    target.sql("postgres", "CREATE DATABASE a");
    target.sql("a", "CREATE TABLE t (i int)");
    let finished = restore(&file, &target, &["-e"]);
    assert_eq!(finished.code, 3, "{}", finished.stderr);
    let left = "database b, database postgres, database template1";
    assert_told(
        &finished,
        &[
            "globals complete: ",
            "error: database a: this target is not ready",
            &format!("error: not begun, as the run ended before: {left}"),
            &format!(
                "1 of 5 members of the set could not be restored in full: database a; not begun: {left}"
            ),
        ],
    );
    let told = restore(&file, &target, &["-e", "--json"]).text();
    let lines: Vec<serde_json::Value> = told
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let outcomes: Vec<(&str, &str)> = lines
        .iter()
        .filter(|line| line["type"] == "member")
        .filter_map(|line| Some((line["member"].as_str()?, line["outcome"].as_str()?)))
        .collect();
    assert_eq!(
        outcomes,
        [
            ("globals", "done"),
            ("database a", "failed"),
            ("database b", "not begun"),
            ("database postgres", "not begun"),
            ("database template1", "not begun"),
        ]
    );
    assert_eq!(lines.last().expect("a summary")["members"], 5);

    let stream = std::fs::read(&file).expect("the set");
    let conninfo = target.conninfo("postgres");
    let mut command = support::rdump_command(&["restore", "-e", "-", "-d", &conninfo]);
    let finished = support::run(&mut command, &stream);
    assert_eq!(finished.code, 3, "{}", finished.stderr);
    assert_told(
        &finished,
        &["not begun, as the run ended before: what follows in the stream"],
    );
}

#[test]
fn without_its_globals_no_database_is_begun() {
    let source = small();
    source.sql(
        "postgres",
        "CREATE TABLESPACE fast LOCATION '/tablespaces/fast'",
    );
    let (_folder, file) = place("set.rdump");
    snapshot(&source, &file, &["--all-databases"]);
    let target = fresh(18);
    target.sql(
        "postgres",
        "CREATE TABLESPACE fast LOCATION '/tablespaces/its place'",
    );
    let finished = restore(&file, &target, &[]);
    assert_eq!(finished.code, 1, "{}", finished.stderr);
    assert_told(
        &finished,
        &[
            "error: globals: this target is not ready",
            "not begun, as the run ended before: database a, database b, database postgres, database template1",
            "error: the globals of the set could not be restored, and without them no database was",
        ],
    );
}

/// The role that restores is altered last of all, over a connection that there may be none for.
#[test]
fn an_error_at_the_very_end_loses_no_report() {
    let source = fresh(18);
    source.sql(
        "postgres",
        "CREATE ROLE boss LOGIN CREATEROLE; ALTER ROLE boss SET work_mem = '5MB';
         CREATE TABLE t AS SELECT 1 AS i; GRANT SELECT ON t TO boss; ALTER TABLE t OWNER TO boss;
         ALTER DATABASE postgres OWNER TO boss; ALTER DATABASE postgres CONNECTION LIMIT 0",
    );
    let (_folder, file) = place("set.rdump");
    let flags = [
        "--all-databases",
        "--no-role-passwords",
        "--exclude-database",
        "template1",
    ];
    snapshot(&source, &file, &flags);
    let target = fresh(18);
    target.sql(
        "postgres",
        "CREATE ROLE boss LOGIN CREATEROLE PASSWORD 'p'; ALTER DATABASE postgres OWNER TO boss",
    );
    let conninfo = target.conninfo("postgres").replace(
        "user=postgres password=test-password",
        "user=boss password=p",
    );
    let finished = support::rdump(&["restore", &file, "-d", &conninfo, "-j", "1"]);
    assert_eq!(finished.code, 3, "{}", finished.stderr);
    assert_told(
        &finished,
        &[
            "error: globals: ROLE SETTING boss (creating or altering it): ",
            "too many connections for database \"postgres\"",
            "database postgres complete: ",
            "1 of 2 members of the set could not be restored in full: globals",
        ],
    );
    assert_eq!(rows(&target, "postgres"), "1");
}

/// The rows of a member that has failed are passed over to the next, whatever waits for them.
#[test]
fn a_stream_is_read_on_behind_a_member_that_failed() {
    let source = small();
    source.sql(
        "a",
        "CREATE TABLE big AS SELECT i, repeat(md5(i::text), 10) AS t FROM generate_series(1, 100000) i;
         INSERT INTO big SELECT * FROM big",
    );
    let (_folder, file) = place("set.rdump");
    snapshot(&source, &file, &["--all-databases"]);
    let target = fresh(18);
    restore_ok(&file, &target, &["-s"]);
    target.sql("a", "ALTER TABLE big ADD CHECK (i < 0)");
    let stream = std::fs::read(&file).expect("the set");
    let conninfo = target.conninfo("postgres");
    for jobs in ["1", "3", "1", "3"] {
        target.sql("a", "TRUNCATE t");
        target.sql("b", "TRUNCATE t");
        let arguments = [
            "restore",
            "-a",
            "-",
            "-d",
            &conninfo,
            "-j",
            jobs,
            "--transaction-size=5",
        ];
        let finished = support::run(&mut support::rdump_command(&arguments), &stream);
        assert_eq!(finished.code, 3, "{}", finished.stderr);
        assert_told(
            &finished,
            &[
                "error: database a: TABLE DATA public.big (loading its rows): ",
                "1 of 4 members of the set could not be restored in full: database a",
            ],
        );
        assert_eq!(rows(&target, "b"), "10");
    }
}
