//! Every fixture loads, on every server it is for.

use crate::support::{self, TestDatabase, VERSIONS};

/// pg_dump and psql must carry a fixture over unchanged, or it could not judge rdump.
fn assert_fair(source: &TestDatabase) {
    let copy = source.server.copy_with_pg_dump(source, "copy");
    support::assert_same_schema(source, &copy);
    assert_eq!(
        support::row_counts_and_hashes(source),
        support::row_counts_and_hashes(&copy)
    );
}

fn every_kind_loads(major: u32) {
    let kinds = support::kinds();
    assert!(kinds.len() >= 25, "{kinds:?}");
    let mut failed = Vec::new();
    for name in kinds {
        let outcome = std::panic::catch_unwind(|| {
            let database = support::server(major).create_database(&name);
            support::load_kind(&database, &name);
            let dump = database.server.pg_dump(&[], &database);
            let entries = dump
                .lines()
                .filter(|line| line.starts_with("-- Name: "))
                .count();
            assert!(
                entries >= 5,
                "{name} on {major} makes only {entries} entries"
            );
            support::check_kind(&database, major, &name);
        });
        if outcome.is_err() {
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "on {major}: {failed:?}");
}

#[test]
fn every_kind_loads_on_15() {
    every_kind_loads(15);
}

#[test]
fn every_kind_loads_on_18() {
    every_kind_loads(18);
}

#[test]
fn all_kinds_together_are_fair_judges() {
    for major in VERSIONS {
        let database = support::server(major).create_database("all_kinds");
        for name in support::kinds() {
            if name != "default_privileges" {
                support::load_kind(&database, &name);
            }
        }
        // What these say holds for all that is made after them.
        support::load_kind(&database, "default_privileges");
        assert_fair(&database);
        if major < 18 {
            let upgraded = support::server(18).copy_with_pg_dump(&database, "upgraded");
            support::assert_same_rows(&database, &upgraded);
        }
    }
}

#[test]
fn the_sample_database_loads() {
    for major in VERSIONS {
        let database = support::server(major).create_database("sample");
        support::load_sample(&database, 1);
        let relations = database.query_text(
            "SELECT count(*) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
             WHERE c.relkind IN ('r', 'p') AND n.nspname IN ('catalog', 'sales', 'stock')",
        );
        assert!(
            relations.parse::<u32>().expect("a number") >= 15,
            "{relations} tables"
        );
        assert_eq!(
            database.query_text("SELECT count(*) FROM pg_largeobject_metadata"),
            "3"
        );
    }
}

#[test]
fn the_sample_database_is_the_same_every_time() {
    let server = support::server(18);
    let (left, right) = (
        server.create_database("sample"),
        server.create_database("sample"),
    );
    support::load_sample(&left, 1);
    support::load_sample(&right, 1);
    support::assert_same_schema(&left, &right);
    support::assert_same_rows(&left, &right);
}
