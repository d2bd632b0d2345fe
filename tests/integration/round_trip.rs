//! Snapshot, verify, restore, and the judges: what pg_dump prints, row counts and hashes.

use tempfile::TempDir;

use crate::support::{
    self, Server, TestDatabase, assert_same_schema, row_counts_and_hashes, server,
};

/// How an archive is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    File,
    /// From front to back, as it comes.
    Stream,
}

/// Takes a snapshot of `source` and restores it on `target`; the archive passes `verify --deep`.
fn through_rdump(
    source: &TestDatabase,
    target: &'static Server,
    prefix: &str,
    way: Way,
) -> TestDatabase {
    let folder = TempDir::new().expect("a temporary folder");
    let archive = folder.path().join("archive.rdump");
    let archive = archive.to_str().expect("a path in UTF-8");
    support::rdump_ok(&[
        "snapshot",
        "-d",
        &source.conninfo(),
        "-f",
        archive,
        "-j",
        "4",
    ]);
    support::rdump_ok(&["verify", "--deep", archive]);
    let restored = target.create_database_with(prefix, "TEMPLATE template0");
    let (from, input) = match way {
        Way::File => (archive, Vec::new()),
        Way::Stream => ("-", std::fs::read(archive).expect("the archive")),
    };
    let conninfo = restored.conninfo();
    let mut restore =
        support::rdump_command(&["restore", from, "-d", &conninfo, "--parallel", "4"]);
    support::run_ok(&mut restore, &input);
    let target = restored.conninfo();
    support::rdump_ok(&["verify", archive, "--against", &target, "-j", "4"]);
    restored
}

/// The restored database equals its source; across versions, what pg_dump and psql made of it.
fn check_round_trip(
    source: &TestDatabase,
    target: &'static Server,
    prefix: &str,
    way: Way,
) -> TestDatabase {
    let restored = through_rdump(source, target, prefix, way);
    if source.server.major == target.major {
        assert_same_schema(source, &restored);
    } else {
        let judge = target.copy_with_pg_dump(source, &format!("{prefix}_judge"));
        assert_same_schema(&judge, &restored);
    }
    assert_eq!(
        row_counts_and_hashes(source),
        row_counts_and_hashes(&restored)
    );
    restored
}

#[test]
fn the_sample_database() {
    for (from, to) in support::pairs() {
        let source = server(from).create_database("shop");
        support::load_sample(&source, 1);
        check_round_trip(&source, server(to), "shop_restored", Way::File);
    }
}

/// Children whose columns keep what their types have, while the parent's do not. No fixture: what
/// pg_dump and psql restore of it is something else.
#[test]
fn columns_unlike_those_of_their_parents() {
    for major in support::VERSIONS {
        let source = server(major).create_database("unlike");
        source.sql(
            "CREATE TABLE parent (a text, b text, c text);
             CREATE TABLE child () INHERITS (parent);
             CREATE TABLE late (a text, b text, c text);
             ALTER TABLE late INHERIT parent;
             ALTER TABLE ONLY parent ALTER a SET STORAGE EXTERNAL, ALTER b SET COMPRESSION pglz;
             ALTER TABLE child ALTER c SET STORAGE MAIN",
        );
        check_round_trip(&source, server(major), "unlike_restored", Way::File);
    }
}

/// What is read once brings rows when they come, not when they are wanted: large objects before
/// there are any.
#[test]
fn from_standard_input() {
    let source = server(18).create_database("streamed");
    server(18).ensure_roles();
    for kind in ["large_objects", "partitions", "sequences", "tables"] {
        support::load_kind(&source, kind);
    }
    let snapshot = ["snapshot", "-d", &source.conninfo(), "-f", "-", "-j", "4"];
    let archive = support::rdump_ok(&snapshot).stdout;
    for options in [&["-j", "1"][..], &["-j", "4"], &["-1"]] {
        let restored = server(18).create_database_with("streamed", "TEMPLATE template0");
        let target = restored.conninfo();
        let arguments = [&["restore", "-", "-d", &target], options].concat();
        support::run_ok(&mut support::rdump_command(&arguments), &archive);
        assert_same_schema(&source, &restored);
        assert_eq!(
            row_counts_and_hashes(&source),
            row_counts_and_hashes(&restored)
        );
    }
}

#[test]
fn pgbench() {
    for (from, to) in support::pairs() {
        let source = server(from).create_database("pgbench");
        let scale = if support::soak() { "50" } else { "2" };
        source
            .server
            .pgbench(&["-i", "-q", "-s", scale, "--foreign-keys"], &source);
        check_round_trip(&source, server(to), "pgbench_restored", Way::Stream);
    }
}

#[test]
fn two_thousand_tables() {
    for (from, to) in support::pairs() {
        let source = server(from).create_database("many");
        source.sql(
            "SELECT format('CREATE TABLE t%s (id serial PRIMARY KEY, name text NOT NULL, parent integer); \
                            INSERT INTO t%s (name) SELECT md5(i::text) FROM generate_series(1, %s) i; \
                            CREATE INDEX ON t%s (name); COMMENT ON TABLE t%s IS ''number %s''', i, i, i % 7, i, i, i)
             FROM generate_series(1, 2000) i
             \\gexec",
        );
        check_round_trip(&source, server(to), "many_restored", Way::File);
    }
}

/// Every fixture of `fixtures/kinds`, alone and all together in one database.
#[test]
fn every_kind_of_object() {
    for (from, to) in support::pairs() {
        server(from).ensure_roles();
        server(to).ensure_roles();
        server(to).copy_roles(server(from));
        let together = server(from).create_database("kinds");
        let mut failed = Vec::new();
        for kind in support::kinds() {
            // what default privileges say holds for all that is made after them
            if kind != "default_privileges" {
                support::load_kind(&together, &kind);
            }
            let alone = server(from).create_database(&format!("kind_{kind}"));
            support::load_kind(&alone, &kind);
            let outcome = std::panic::catch_unwind(|| {
                let restored = check_round_trip(
                    &alone,
                    server(to),
                    &format!("kind_{kind}_restored"),
                    Way::Stream,
                );
                support::check_kind(&restored, from, &kind);
            });
            if outcome.is_err() {
                failed.push(kind);
            }
        }
        assert!(
            failed.is_empty(),
            "{from} to {to}: these kinds failed: {failed:?}"
        );
        support::load_kind(&together, "default_privileges");
        check_round_trip(&together, server(to), "kinds_restored", Way::File);
    }
}
