//! Targets that are not ready, entries that fail, disks that fill up.

use std::process::Command;
use std::time::{Duration, Instant};

use super::{Folder, add_noise, assert_says, expect_rdump, small_database, snapshot};
use crate::support::{self, Finished, SMALL_DISK, Server, TestDatabase, server};

/// What a user has made in a database.
fn objects(database: &TestDatabase) -> String {
    database.query_text(
        "SELECT relkind || ' ' || relname FROM pg_class WHERE oid >= 16384
             AND relnamespace NOT IN (SELECT oid FROM pg_namespace WHERE nspname = 'pg_toast')
         UNION ALL SELECT 'function ' || proname FROM pg_proc WHERE oid >= 16384
         UNION ALL SELECT 'schema ' || nspname FROM pg_namespace WHERE oid >= 16384
         ORDER BY 1",
    )
}

#[test]
fn a_target_that_is_not_empty() {
    for major in support::VERSIONS {
        let source = small_database(major, "filled");
        let folder = Folder::new();
        let archive = snapshot(&source, &folder);
        let target = server(major).create_database("filled_target");
        target.sql("CREATE TABLE mine (i int)");
        let restore = ["restore", &archive, "-d", &target.conninfo()];
        let hint = "rdump: hint: mend these, or use --force to go on all the same and have the \
                    failures counted\n";
        expect_rdump(
            &restore,
            1,
            &format!(
                "rdump: error: this target is not ready for the archive; nothing was written:\n  \
                 - the target holds 1 relation already: public.mine: restore into an empty \
                 database, or use --force to add to this one\n{hint}"
            ),
        );
        assert_eq!(objects(&target), "r mine");
        target.sql("CREATE TABLE customers (id int); CREATE VIEW many AS SELECT 1");
        let before = objects(&target);
        expect_rdump(
            &restore,
            1,
            &format!(
                "rdump: error: this target is not ready for the archive; nothing was written:\n  \
                 - 2 objects are in the way: TABLE public.customers, VIEW public.many: restore \
                 into an empty database, or drop them first with -c --if-exists\n{hint}"
            ),
        );
        assert_eq!(objects(&target), before);
        target.sql("DROP TABLE mine");
        support::rdump_ok(&[
            "restore",
            "-c",
            "--if-exists",
            &archive,
            "-d",
            &target.conninfo(),
        ]);
        support::assert_same_schema(&source, &target);
        support::assert_same_rows(&source, &target);
    }
}

/// Roles and extensions that the target lacks, all named at once.
#[test]
fn missing_roles_and_extensions() {
    let source = small_database(15, "needy");
    let folder = Folder::new();
    for (file, text) in [
        ("only_here.control", "default_version = '1.0'"),
        (
            "only_here--1.0.sql",
            "CREATE FUNCTION only_here() RETURNS int LANGUAGE sql AS 'SELECT 1';",
        ),
    ] {
        let path = format!("/usr/share/postgresql/15/extension/{file}");
        let mut write = Command::new("docker");
        write.args(["exec", "-i", "-u", "root", &source.server.container]);
        write.args(["sh", "-c", "cat > \"$0\"", &path]);
        support::run_ok(&mut write, text.as_bytes());
    }
    source.sql(
        "CREATE EXTENSION only_here;
         CREATE ROLE only_15; CREATE ROLE \"Only 15, too\"; CREATE ROLE only_15_owner;
         ALTER TABLE customers OWNER TO only_15_owner;
         GRANT SELECT ON sales.orders TO only_15, \"Only 15, too\";",
    );
    let archive = snapshot(&source, &folder);
    let target = server(18).create_database("needy_target");
    expect_rdump(
        &["restore", &archive, "-d", &target.conninfo()],
        1,
        "rdump: error: this target is not ready for the archive; nothing was written:\n  \
         - extension \"only_here\" is not available: install its package on the target server\n  \
         - role \"only_15_owner\", an owner of objects, does not exist: create it first, or use \
         -O to let you own everything\n  \
         - role \"Only 15, too\", which has privileges, does not exist: create it first, or use \
         -x to leave out privileges\n  \
         - role \"only_15\", which has privileges, does not exist: create it first, or use -x to \
         leave out privileges\n\
         rdump: hint: mend these, or use --force to go on all the same and have the failures \
         counted\n",
    );
    assert_eq!(objects(&target), "");
    // forced: what can be restored is
    let finished = support::rdump(&[
        "restore",
        "-q",
        "--force",
        &archive,
        "-d",
        &target.conninfo(),
    ]);
    assert_eq!(finished.code, 3);
    for words in [
        "rdump: error: EXTENSION only_here (creating it): extension \"only_here\" is not available",
        "rdump: error: TABLE public.customers (setting its owner): role \"only_15_owner\" does not \
         exist\n",
    ] {
        assert!(finished.stderr.contains(words), "{}", finished.stderr);
    }
    support::assert_same_rows(&source, &target);
    source.sql(
        "DROP OWNED BY only_15, \"Only 15, too\"; REASSIGN OWNED BY only_15_owner TO postgres",
    );
    source.sql("DROP ROLE only_15, \"Only 15, too\", only_15_owner");
}

#[test]
fn an_entry_that_fails() {
    for major in support::VERSIONS {
        let source = small_database(major, "failing");
        let folder = Folder::new();
        let archive = snapshot(&source, &folder);
        let in_the_way = "CREATE FUNCTION twice(i int) RETURNS int LANGUAGE sql AS 'SELECT 3 * i'";
        let failure = "FUNCTION public.twice(i integer) (creating it): function \"twice\" already \
                       exists with same argument types\n";

        let target = server(major).create_database("failing_target");
        target.sql(in_the_way);
        let restore = |more: &[&str], target: &TestDatabase| -> Finished {
            let conninfo = target.conninfo();
            let mut arguments = vec!["restore", "-q", &archive, "-d", &conninfo];
            arguments.extend(more);
            support::rdump(&arguments)
        };
        let listed = support::rdump_ok(&["show", &archive]).text();
        let entries = listed
            .lines()
            .filter(|line| !line.starts_with(';') && !line.is_empty())
            .count();
        assert_says(
            &restore(&[], &target),
            3,
            &format!(
                "rdump: error: {failure}\
                 rdump: error: 1 of {entries} entries could not be restored\n"
            ),
        );
        support::assert_same_rows(&source, &target);
        target.sql(
            "CREATE OR REPLACE FUNCTION twice(i int) RETURNS int LANGUAGE sql AS 'SELECT 2 * i'",
        );
        support::assert_same_schema(&source, &target);

        // -e stops there; -1 leaves nothing
        for (flag, kept) in [("-e", true), ("-1", false)] {
            let target = server(major).create_database("failing_target");
            target.sql(in_the_way);
            assert_says(
                &restore(&[flag], &target),
                1,
                &format!("rdump: error: {failure}"),
            );
            let left = objects(&target);
            assert_eq!(left.contains("schema sales"), kept, "{flag}: {left}");
            assert!(!left.contains("_pkey"), "{flag}: {left}");
        }
    }
}

/// Rows that the target refuses: the table stays empty, all else is there.
#[test]
fn rows_that_fail() {
    let source = small_database(18, "bad_rows");
    source.sql(
        "CREATE FUNCTION is_good(i int) RETURNS bool LANGUAGE sql AS 'SELECT true';
         CREATE TABLE picky (i int CHECK (is_good(i)));
         INSERT INTO picky SELECT generate_series(1, 100);
         CREATE OR REPLACE FUNCTION is_good(i int) RETURNS bool LANGUAGE sql AS 'SELECT i < 50';",
    );
    let folder = Folder::new();
    let archive = snapshot(&source, &folder);
    for jobs in ["1", "4"] {
        let target = server(18).create_database("bad_rows_target");
        let finished = support::rdump(&[
            "restore",
            "-q",
            "-j",
            jobs,
            &archive,
            "-d",
            &target.conninfo(),
        ]);
        assert_eq!(finished.code, 3, "{}", finished.stderr);
        assert!(
            finished.stderr.starts_with(
                "rdump: error: TABLE DATA public.picky (loading its rows): new row for relation \
                 \"picky\" violates check constraint \"picky_i_check\" (Failing row contains \
                 (50).) [COPY picky, line 50: \"50\"]\nrdump: error: 1 of "
            ),
            "{}",
            finished.stderr
        );
        assert_eq!(target.query_text("SELECT count(*) FROM picky"), "0");
        assert_eq!(
            target.query_text("SELECT count(*) FROM sales.orders"),
            "1000"
        );
        support::assert_same_schema(&source, &target);
    }
}

/// A database on a disk of its own that is soon full.
fn small_disk_target(server: &'static Server, name: &str) -> TestDatabase {
    let space = format!("{SMALL_DISK}/{name}");
    let mut make = Command::new("docker");
    make.args(["exec", "-u", "postgres", &server.container, "mkdir", &space]);
    support::run_ok(&mut make, b"");
    server.sql(
        "postgres",
        &format!("CREATE TABLESPACE {name} LOCATION '{space}'"),
    );
    server.create_database_with(name, &format!("TEMPLATE template0 TABLESPACE {name}"))
}

#[test]
fn a_disk_that_fills_up() {
    let small: &'static Server = Box::leak(Box::new(Server::start_with_small_disk(18, 40 << 20)));

    // in the middle of a load
    let source = small_database(18, "full_load");
    add_noise(&source, 60);
    let folder = Folder::new();
    let archive = snapshot(&source, &folder);
    for jobs in ["1", "3"] {
        let name = format!("full_load_{jobs}");
        let target = small_disk_target(small, &name);
        let started = Instant::now();
        let finished = support::rdump(&[
            "restore",
            "-q",
            "-j",
            jobs,
            &archive,
            "-d",
            &target.conninfo(),
        ]);
        assert!(started.elapsed() < Duration::from_secs(60), "it hung");
        assert_eq!(finished.code, 3, "{}", finished.stderr);
        let error = finished.stderr.lines().next().unwrap_or_default();
        assert!(
            error.starts_with(
                "rdump: error: TABLE DATA public.noise (loading its rows): could not "
            ) && error.contains("No space left on device"),
            "{}",
            finished.stderr
        );
        assert!(
            finished
                .stderr
                .contains("\nrdump: hint: Check free disk space.\n"),
            "{}",
            finished.stderr
        );
        assert_eq!(target.query_text("SELECT count(*) FROM noise"), "0");
        assert_eq!(
            target.query_text("SELECT count(*) FROM sales.orders"),
            "1000"
        );
        target.server.sql(
            "postgres",
            &format!(
                "DROP DATABASE \"{}\" WITH (FORCE); DROP TABLESPACE {name}",
                target.name
            ),
        );
    }

    // in the middle of an index
    let source = small_database(18, "full_index");
    add_noise(&source, 14);
    source
        .sql("CREATE INDEX noise_line ON noise (line); CREATE INDEX again ON sales.orders (item)");
    let archive = snapshot(&source, &folder);
    let target = small_disk_target(small, "full_index");
    let finished = support::rdump(&["restore", "-q", &archive, "-d", &target.conninfo()]);
    assert_eq!(finished.code, 3, "{}", finished.stderr);
    let error = finished.stderr.lines().next().unwrap_or_default();
    assert!(
        error.starts_with("rdump: error: INDEX public.noise_line (creating it): could not ")
            && error.contains("No space left on device"),
        "{}",
        finished.stderr
    );
    support::assert_same_rows(&source, &target);
    assert_eq!(
        target.query_text("SELECT to_regclass('sales.again') IS NOT NULL"),
        "t"
    );
}
