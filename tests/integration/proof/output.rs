//! What is printed of a comparison.

use super::Archive;
use crate::support::{self, server};

/// One of each.
const SCHEMA: &str = "
    CREATE SEQUENCE numbers;
    CREATE TABLE t (i int);
    INSERT INTO t VALUES (1);
    SELECT lo_create(8001)";

#[test]
fn quiet_and_in_the_singular() {
    let source = server(18).create_database("proof_quiet");
    source.sql(SCHEMA);
    let archive = Archive::of(&source);
    let (file, against) = (archive.path(), source.conninfo());
    let quiet = || support::rdump(&["verify", "-q", &file, "--against", &against]);

    let finished = quiet();
    assert_eq!((finished.code, finished.text()), (0, String::new()));
    assert_eq!(finished.stderr, "");
    let finished = support::rdump_ok(&["verify", &file, "--against", &against]);
    assert!(
        finished.text().ends_with(
            " entries, 1 row of 1 table, 1 sequence, 1 large object: the database equals the archive\n"
        ),
        "{}",
        finished.text()
    );

    source.sql("DELETE FROM t");
    let finished = quiet();
    assert_eq!(finished.code, 3);
    assert_eq!(
        finished.text(),
        "rows of public.t: 0 rows, in the archive 1\n"
    );
    assert_eq!(
        finished.stderr,
        "rdump: error: the database differs from the archive: 1 difference\n"
    );
}

#[test]
fn long_lists_are_counted_or_shown_in_full() {
    let source = server(18).create_database("proof_lists");
    let archive = Archive::of(&source);
    source.sql("SELECT lo_create(oid) FROM generate_series(9001, 9047) AS oid");
    let against = source.conninfo();
    let printed = |option: &str| {
        let finished = support::rdump(&["verify", option, &archive.path(), "--against", &against]);
        assert_eq!(finished.code, 3, "{}", finished.stderr);
        finished.text()
    };
    assert_eq!(
        printed("-q"),
        "LARGE OBJECTS 9001, 9002, 9003, 9004, 9005, 9006, 9007, 9008, 9009, 9010 and 37 more: not \
         in the archive\n"
    );
    for option in ["-v", "--json"] {
        let all = printed(option);
        assert!(all.contains(" 9011, ") && all.contains(", 9047"), "{all}");
    }
}

/// Every line that differs, and under the names that users know.
#[test]
fn differences_of_definitions() {
    let source = server(18).create_database("proof_lines");
    source.sql(
        "CREATE SCHEMA \"S 1\"; SET search_path TO \"S 1\";
         CREATE TABLE t (a int, b int, c int);
         CREATE VIEW v AS SELECT a, b FROM t WHERE a = 1 AND b = 2 AND c = 3;
         CREATE FUNCTION f(i int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT i';
         CREATE TABLE u (a int, CONSTRAINT positive CHECK (\"S 1\".f(a) > 0))",
    );
    let archive = Archive::of(&source);
    source.sql(
        "SET search_path TO \"S 1\";
         CREATE OR REPLACE VIEW v AS SELECT a, b FROM t WHERE a = 7 AND b = 2 AND c = 8;
         ALTER TABLE u DROP CONSTRAINT positive; DROP FUNCTION f(int)",
    );
    assert_eq!(
        archive.findings(&source),
        [
            "FUNCTION \"S 1\".f(integer): missing in the database: \"CREATE FUNCTION \"S 1\".f(i \
             integer) RETURNS integer\"",
            "TABLE \"S 1\".u: different: what the archive has cannot be created here: function S \
             1.f(integer) does not exist (- archive, + database):\n    CREATE TABLE \"S 1\".u (\n  \
             -     a integer,\n  -     CONSTRAINT positive CHECK ((\"S 1\".f(a) > 0))\n  \
             +     a integer\n    );",
            "VIEW \"S 1\".v: different (- archive, + database):\n       FROM \"S 1\".t\n  \
             -   WHERE ((a = 1) AND (b = 2) AND (c = 3));\n  \
             +   WHERE ((a = 7) AND (b = 2) AND (c = 8));",
        ]
    );
}
