//! Every fixture loads, on every server it is for.

use std::collections::BTreeSet;

use crate::support::{self, TestDatabase, VERSIONS};

/// The names of `fixtures/kinds/NAME.sql`, without those of one version.
fn kinds() -> BTreeSet<String> {
    std::fs::read_dir(support::fixture_path("kinds"))
        .expect("reading fixtures/kinds")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("a plain name")
        })
        .filter_map(|file| file.strip_suffix(".sql").map(str::to_owned))
        .filter(|name| !name.starts_with('_') && !name.ends_with(".18"))
        .collect()
}

/// Loads a kind's fixture, with what is only for this version or a newer one.
fn load_kind(database: &TestDatabase, name: &str) {
    database.server.ensure_roles();
    database.sql(&support::fixture(&format!("kinds/{name}.sql")));
    let newer = format!("kinds/{name}.18.sql");
    if database.server.major >= 18 && support::fixture_path(&newer).exists() {
        database.sql(&support::fixture(&newer));
    }
}

#[test]
fn every_kind_loads_and_makes_something() {
    for major in VERSIONS {
        for name in kinds() {
            let database = support::server(major).create_database(&name);
            load_kind(&database, &name);
            let dump = database.server.pg_dump(&["--schema-only"], &database);
            let entries = dump
                .lines()
                .filter(|line| line.starts_with("-- Name: "))
                .count();
            assert!(
                entries >= 5,
                "{name} on {major} makes only {entries} entries"
            );
        }
    }
}

#[test]
fn all_kinds_load_into_one_database() {
    for major in VERSIONS {
        let database = support::server(major).create_database("all_kinds");
        for name in kinds() {
            load_kind(&database, &name);
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
    assert_eq!(
        support::row_counts_and_hashes(&left),
        support::row_counts_and_hashes(&right)
    );
}
