//! What goes wrong with one object takes nothing else with it.

use crate::errors::{Folder, snapshot};
use crate::support::{self, TestDatabase, server};

fn empty() -> TestDatabase {
    server(18).create_database_with("partial", "TEMPLATE template0")
}

/// Exit code 3, and what was said.
fn restored_in_part(target: &TestDatabase, file: &str, flags: &[&str]) -> String {
    let conninfo = target.conninfo();
    let finished = support::rdump(&[&["restore", file, "-d", &conninfo], flags].concat());
    assert_eq!(finished.code, 3, "{}", finished.stderr);
    finished.stderr
}

#[test]
fn large_objects_have_contents_whoever_owns_them() {
    let source = server(18).create_database("partial");
    source.sql(
        "CREATE ROLE partial_gone; CREATE TABLE t AS SELECT 1 AS i;
         SELECT lo_from_bytea(4711, 'bytes'); ALTER LARGE OBJECT 4711 OWNER TO partial_gone",
    );
    let folder = Folder::new();
    let file = snapshot(&source, &folder);
    let contents = "SELECT convert_from(lo_get(4711), 'UTF8')";
    let target = empty();
    let told = restored_in_part(&target, &file, &["-c"]);
    assert!(told.contains("TABLE public.t (dropping it)"), "{told}");
    assert!(told.contains("1 could not be dropped before"), "{told}");
    assert_eq!(target.query_text(contents), "bytes");

    target.sql("DROP OWNED BY partial_gone");
    source.sql("DROP OWNED BY partial_gone; DROP ROLE partial_gone");
    let target = empty();
    let told = restored_in_part(&target, &file, &["--force"]);
    assert!(told.contains("(setting its owner)"), "{told}");
    assert_eq!(target.query_text(contents), "bytes");
}

/// Only superusers disable triggers of foreign keys.
#[test]
fn rows_are_loaded_where_triggers_stay_enabled() {
    let source = server(18).create_database("partial");
    source.sql(
        "CREATE TABLE a (i int PRIMARY KEY); CREATE TABLE b (i int REFERENCES a);
         INSERT INTO a VALUES (1), (2); INSERT INTO b VALUES (1)",
    );
    let folder = Folder::new();
    let file = snapshot(&source, &folder);
    let target = empty();
    support::rdump_ok(&["restore", "-s", &file, "-d", &target.conninfo()]);
    target.sql(
        "CREATE ROLE partial_clerk LOGIN PASSWORD 'p';
         ALTER TABLE a OWNER TO partial_clerk; ALTER TABLE b OWNER TO partial_clerk",
    );
    let as_clerk = target.conninfo().replace(
        "user=postgres password=test-password",
        "user=partial_clerk password=p",
    );
    let arguments = [
        "restore",
        "-a",
        "--disable-triggers",
        &file,
        "-d",
        &as_clerk,
    ];
    let finished = support::rdump(&arguments);
    target.sql("REASSIGN OWNED BY partial_clerk TO postgres; DROP ROLE partial_clerk");
    assert_eq!(finished.code, 3, "{}", finished.stderr);
    let told = "TABLE DATA public.b (disabling its triggers): permission denied";
    assert!(finished.stderr.contains(told), "{}", finished.stderr);
    let rows = "SELECT (SELECT count(*) FROM a), (SELECT count(*) FROM b)";
    assert_eq!(target.query_text(rows), "2|1");
}

#[test]
fn a_grant_that_is_refused_leaves_the_others() {
    let source = server(18).create_database("partial");
    source.sql(
        "CREATE ROLE partial_a; CREATE ROLE partial_b; CREATE ROLE partial_c;
         CREATE SCHEMA s; CREATE TABLE s.t (i int, j int);
         GRANT USAGE ON SCHEMA s TO partial_b;
         GRANT SELECT ON s.t TO partial_a; GRANT SELECT ON s.t TO partial_b WITH GRANT OPTION;
         GRANT UPDATE (j) ON s.t TO partial_a;
         SET ROLE partial_b; GRANT SELECT ON s.t TO partial_c; RESET ROLE;
         REVOKE USAGE ON SCHEMA s FROM partial_b",
    );
    let folder = Folder::new();
    let file = snapshot(&source, &folder);
    let target = empty();
    let told = restored_in_part(&target, &file, &[]);
    assert!(told.contains("error: ACL TABLE t (creating it)"), "{told}");
    assert!(told.contains("1 of "), "{told}");
    let granted = "SELECT has_table_privilege('partial_a', 's.t', 'SELECT'),
                          has_table_privilege('partial_b', 's.t', 'SELECT WITH GRANT OPTION'),
                          has_table_privilege('partial_c', 's.t', 'SELECT'),
                          has_column_privilege('partial_a', 's.t', 'j', 'UPDATE')";
    assert_eq!(target.query_text(granted), "t|t|f|t");
    for database in [&source, &target] {
        database.sql("DROP OWNED BY partial_a, partial_b, partial_c");
    }
    source.sql("DROP ROLE partial_a, partial_b, partial_c");
}

/// A copy that has all its rows gets its name, whoever owns it.
#[test]
fn a_copy_gets_its_name_without_its_owner() {
    let source = server(18).create_database("partial");
    source.sql(
        "CREATE ROLE partial_owner; CREATE TABLE t AS SELECT generate_series(1, 5) AS i;
         ALTER TABLE t OWNER TO partial_owner",
    );
    let folder = Folder::new();
    let file = snapshot(&source, &folder);
    source.sql("DROP OWNED BY partial_owner; DROP ROLE partial_owner");
    let target = empty();
    let flags = ["--force", "-t", "t", "--with-dependencies", "--as", "copy"];
    let told = restored_in_part(&target, &file, &flags);
    assert!(told.contains("(setting its owner)"), "{told}");
    assert_eq!(target.query_text("SELECT count(*) FROM copy"), "5");
}

#[test]
fn a_schema_that_every_database_has_may_be_gone() {
    let source = server(18).create_database("partial");
    source.sql("CREATE TABLE t AS SELECT 1 AS i");
    let folder = Folder::new();
    let file = snapshot(&source, &folder);
    let target = empty();
    target.sql("DROP SCHEMA public");
    support::rdump_ok(&["restore", &file, "-d", &target.conninfo()]);
    support::assert_same_rows(&source, &target);
    for database in [&source, &target] {
        let granted =
            "SELECT pg_get_userbyid(nspowner), nspacl, obj_description(oid) FROM pg_namespace
                       WHERE nspname = 'public'";
        assert_eq!(
            database.query_text(granted),
            "pg_database_owner|{pg_database_owner=UC/pg_database_owner,=U/pg_database_owner}|standard public schema"
        );
    }
}

/// The server would take the first 63 bytes for the name of another.
#[test]
fn names_that_are_too_long_are_refused() {
    let source = server(18).create_database("partial");
    source.sql("CREATE TABLE t AS SELECT 1 AS i");
    let folder = Folder::new();
    let file = snapshot(&source, &folder);
    let conninfo = source.conninfo();
    let restore = ["restore", &file, "-d", &conninfo];
    for flags in [
        ["-C", "--database-name", &"x".repeat(64)],
        ["-C", "--database-name", ""],
        ["-tt", "--with-dependencies", "--section=data"],
        ["-tt", "--with-dependencies", "--statistics-only"],
    ] {
        let finished = support::rdump(&[&restore[..], &flags].concat());
        assert_eq!(finished.code, 2, "{flags:?}: {}", finished.stderr);
    }
}
