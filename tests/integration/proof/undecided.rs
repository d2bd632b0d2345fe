//! What could not be compared is told apart from differences, and ends with 3 as they do.

use super::Archive;
use crate::support::{self, TestDatabase, VERSIONS, server};

const SCHEMA: &str = "
    CREATE TABLE plain (i int); INSERT INTO plain VALUES (1);
    CREATE TABLE hidden (i int); INSERT INTO hidden VALUES (1);
    ALTER TABLE hidden ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON hidden USING (i > 1);
    CREATE TABLE denied (i int);
    CREATE SEQUENCE numbers;
    SELECT lo_from_bytea(6001, '\\x01');
    GRANT SELECT ON plain, hidden TO fixture_reader";

const ROW_SECURITY: &str = "a proof must see every row: connect as a superuser, as a role with \
                            BYPASSRLS, or as the owner of these tables where it is not forced on the owner";
const LARGE_OBJECTS: &str = "grant the role SELECT on all large objects, or connect as a superuser; \
                             -B leaves them out";
const PERMISSION: &str =
    "grant the role pg_read_all_data, or SELECT on these and USAGE on their schemas";

fn verify(archive: &Archive, database: &TestDatabase, options: &[&str]) -> support::Finished {
    let against = format!("{} options='-c role=fixture_reader'", database.conninfo());
    let path = archive.path();
    let arguments = ["verify", "-q", &path, "--against", &against];
    support::rdump(&[&arguments, options].concat())
}

#[test]
fn rows_that_a_role_does_not_see() {
    for major in VERSIONS {
        server(major).ensure_roles();
        let source = server(major).create_database("proof_undecided");
        source.sql(SCHEMA);
        let archive = Archive::of(&source);

        let finished = verify(&archive, &source, &[]);
        assert_eq!(finished.code, 3, "on {major}: {}", finished.stderr);
        assert_eq!(
            finished.text(),
            "rows of public.denied: could not be compared: permission denied for table denied\n\
             rows of public.hidden: could not be compared: row-level security would hide rows from this role\n\
             value of public.numbers: could not be compared: reading the values of sequences: permission denied for sequence numbers\n\
             contents of large objects: could not be compared: permission denied for large object 6001\n",
            "on {major}"
        );
        assert_eq!(
            finished.stderr,
            format!(
                "rdump: error: the database could not be proved equal to the archive: 4 objects \
                 could not be compared\nrdump: hint: {PERMISSION}; {ROW_SECURITY}; {LARGE_OBJECTS}\n"
            )
        );

        // beside a difference
        source
            .sql("GRANT SELECT ON denied, numbers TO fixture_reader; GRANT SELECT ON LARGE OBJECT 6001 TO fixture_reader; INSERT INTO plain VALUES (2)");
        let finished = verify(&archive, &source, &["-x"]);
        assert_eq!(finished.code, 3, "on {major}: {}", finished.stderr);
        assert_eq!(
            finished.stderr,
            format!(
                "rdump: error: the database differs from the archive: 1 difference, 1 object could \
                 not be compared\nrdump: hint: {ROW_SECURITY}\n"
            )
        );
        let json = verify(&archive, &source, &["-x", "--json"]).text();
        let summary = json.lines().last().expect("a summary");
        assert!(
            summary.contains("\"differences\":1,")
                && summary.contains("\"undecided\":1")
                && summary.contains("\"outcome\":\"different\""),
            "{summary}"
        );
        source.sql("DELETE FROM plain WHERE i = 2");
        let json = verify(&archive, &source, &["-x", "--json"]).text();
        assert!(json.contains("\"outcome\":\"undecided\""), "{json}");
    }
}

/// Definitions that read differently, of which the server must not be asked.
#[test]
fn a_role_that_may_not_create_schemas() {
    server(15).ensure_roles();
    server(18).ensure_roles();
    let source = server(15).create_database("proof_unasked");
    source.sql("CREATE TABLE t (v varchar(10) CHECK (v IN ('a', 'b')))");
    let archive = Archive::of(&source);
    let copy = archive.restore(server(18), "proof_unasked_copy");
    assert_eq!(archive.compare(&copy).compared.asked, 1);
    copy.sql("GRANT SELECT ON t TO fixture_reader");
    let finished = verify(&archive, &copy, &["-x"]);
    assert_eq!(finished.code, 3, "{}", finished.stderr);
    let text = finished.text();
    assert!(
        text.starts_with(
            "TABLE public.t: could not be compared: the texts differ, and whether they mean the \
             same cannot be told: permission denied for database "
        ) && text.contains(" (- archive, + database):\n"),
        "{text}"
    );
    assert!(
        finished.stderr.ends_with(
            "1 object could not be compared\nrdump: hint: the server is asked by creating both, in \
             schemas of their own and a transaction that is rolled back: connect as a role that may \
             create schemas in the database\n"
        ),
        "{}",
        finished.stderr
    );
}
