//! What stays away is told.

use super::case_of;
use crate::support::server;

const OBJECTS: &str = "
    CREATE SCHEMA shop;
    CREATE TABLE shop.own (i int PRIMARY KEY);
    CREATE TABLE shop.other (i int);
    CREATE VIEW shop.seen AS SELECT i FROM shop.own;
    CREATE VIEW shop.far AS SELECT i FROM shop.seen;
    CREATE MATERIALIZED VIEW shop.kept AS SELECT i FROM shop.own;
    CREATE INDEX kept_i ON shop.kept (i);
    CREATE FUNCTION shop.first(shop.own) RETURNS int LANGUAGE sql AS 'SELECT 1';
    CREATE POLICY mine ON shop.other USING (EXISTS (SELECT FROM shop.own WHERE own.i = other.i));
    CREATE RULE quiet AS ON DELETE TO shop.other DO ALSO DELETE FROM shop.own WHERE i = old.i;
    CREATE PUBLICATION p FOR TABLE shop.own;
    CREATE FUNCTION shop.texts() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
    CREATE FUNCTION shop.parsed(i int) RETURNS int LANGUAGE sql RETURN i + 1;
    CREATE TRIGGER t BEFORE INSERT ON shop.own FOR EACH ROW EXECUTE FUNCTION shop.texts();
    ALTER TABLE shop.own ADD CHECK (shop.parsed(i) > 0);
    INSERT INTO shop.own VALUES (1)";

const DEPENDENTS: [&str; 6] = [
    "VIEW shop.seen",
    "VIEW shop.far",
    "MATERIALIZED VIEW shop.kept",
    "FUNCTION shop.first(shop.own)",
    "POLICY shop.other mine",
    "RULE shop.other quiet",
];

/// The warning that begins so.
#[track_caller]
fn warning<'a>(told: &'a str, beginning: &str) -> &'a str {
    let found = told.lines().find(|line| line.contains(beginning));
    found.unwrap_or_else(|| panic!("{beginning}: {told}"))
}

#[test]
fn what_depends_on_the_table_is_named() {
    let case = case_of(server(18).create_database("tables"), OBJECTS);
    let not_restored = "not restored, though they depend on it in the archive: ";
    let target = case.empty();
    let told = case.restore_ok(&target, &["-t", "own"]);
    let line = warning(&told, not_restored);
    for name in DEPENDENTS {
        assert!(line.contains(name), "{name}: {line}");
    }
    assert!(
        !line.contains("kept_i") && !line.contains("texts"),
        "{line}"
    );
    assert!(
        told.contains("left out: PUBLICATION TABLE shop.p own"),
        "{told}"
    );

    // those that are chosen, and that the target has, are not lost
    let target = case.copy();
    target.sql("DROP TABLE shop.own CASCADE");
    let told = case.restore_ok(&target, &["-t", "own", "-t", "seen", "-t", "kept"]);
    let line = warning(&told, not_restored);
    for (name, is_lost) in DEPENDENTS
        .iter()
        .zip([false, true, false, true, true, true])
    {
        assert_eq!(line.contains(name), is_lost, "{name}: {line}");
    }

    let target = case.copy();
    let told = case.restore_ok(&target, &["-t", "own", "--as", "copy"]);
    let line = warning(
        &told,
        "not made for the copy, though they depend on the table",
    );
    for name in DEPENDENTS {
        assert!(line.contains(name), "{name}: {line}");
    }
    let told = case.restore_ok(&target, &["-t", "other", "--as", "copy2"]);
    assert!(!told.contains("though they depend"), "{told}");
}

#[test]
fn functions_whose_bodies_are_text_are_named() {
    let case = case_of(server(18).create_database("tables"), OBJECTS);
    let target = case.empty();
    let told = case.restore_ok(&target, &["-t", "own"]);
    let line = warning(&told, "bodies of functions are text");
    assert!(
        line.ends_with("what they name is not looked for: FUNCTION shop.texts()"),
        "{line}"
    );
    // those that are used do as they did
    target.sql("DROP TABLE shop.own");
    let told = case.restore_ok(&target, &["-t", "own"]);
    assert!(!told.contains("bodies of functions"), "{told}");
}
