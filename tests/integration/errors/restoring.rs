//! Targets that are not ready, entries that fail, disks that fill up.

use std::process::Command;
use std::time::{Duration, Instant};

use super::{Folder, add_noise, assert_says, expect_rdump, small_database, snapshot};
use crate::hooked;
use crate::support::{self, Finished, SMALL_DISK, Server, TestDatabase, server};

/// What a user has made in a database.
fn objects(database: &TestDatabase) -> String {
    database.query_text(
        "SELECT relkind::text || ' ' || relname FROM pg_class WHERE oid >= 16384
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
         - role \"Only 15, too\", which has privileges, does not exist: create it first, or use \
         -x to leave out privileges\n  \
         - role \"only_15\", which has privileges, does not exist: create it first, or use -x to \
         leave out privileges\n  \
         - role \"only_15_owner\", an owner of objects, does not exist: create it first, or use \
         -O to let you own everything\n\
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

/// Roles that neither own nor are granted anything, and tablespaces.
#[test]
fn missing_roles_in_other_places_and_tablespaces() {
    let source = server(15).create_database("placed");
    let name = &source.name;
    source.sql(&format!(
        "CREATE ROLE policy_15; CREATE ROLE \"Maker 15\"; CREATE ROLE giver_15; CREATE ROLE set_15;
         CREATE TABLE t (i int); CREATE POLICY p ON t FOR SELECT TO PUBLIC USING (true);
         CREATE POLICY q ON t TO postgres, policy_15 USING (i > 0);
         ALTER DEFAULT PRIVILEGES FOR ROLE \"Maker 15\" GRANT SELECT ON TABLES TO PUBLIC;
         GRANT SELECT ON t TO giver_15 WITH GRANT OPTION;
         SET ROLE giver_15; GRANT SELECT ON t TO PUBLIC; RESET ROLE;
         ALTER ROLE set_15 IN DATABASE {name} SET work_mem TO '5MB';
         SET allow_in_place_tablespaces = on; CREATE TABLESPACE \"Space of {name}\" LOCATION ''"
    ));
    source.sql(&format!(
        "CREATE TABLE far (i int PRIMARY KEY USING INDEX TABLESPACE \"Space of {name}\")
         TABLESPACE \"Space of {name}\""
    ));
    let folder = Folder::new();
    let archive = snapshot(&source, &folder);
    // its own: others copy roles of one shared server to the other
    let apart: &'static Server = Box::leak(Box::new(Server::start(18, &[])));
    let target = apart.create_database("placed_target");
    let begin = "rdump: error: this target is not ready for the archive; nothing was written:\n";
    let end = "rdump: hint: mend these, or use --force to go on all the same and have the failures \
               counted\n";
    let privileges = "  \
         - role \"giver_15\", which has privileges, does not exist: create it first, or use -x to \
         leave out privileges\n  \
         - role \"Maker 15\", which has default privileges, does not exist: create it first, or use \
         -x to leave out privileges\n";
    let policy = "  - role \"policy_15\", which a policy is for, does not exist: create it first, or \
                  leave out the policy with -L\n";
    let settings = "  - role \"set_15\", which has settings in the database, does not exist: create \
                    it first, or leave out DATABASE PROPERTIES with -L\n";
    let tablespace = format!(
        "  - tablespace \"Space of {name}\", for 2 objects, does not exist: create it first, or use \
         --no-tablespaces to keep all in the default one\n"
    );
    let conninfo = target.conninfo();
    let restore = ["restore", &archive, "-d", &conninfo];
    for (more, expected) in [
        (&[][..], [privileges, policy, &tablespace].concat()),
        (
            &["-C"],
            [privileges, policy, settings, &tablespace].concat(),
        ),
        (&["-x", "--no-tablespaces"], policy.to_owned()),
    ] {
        let arguments = [&restore, more].concat();
        expect_rdump(&arguments, 1, &[begin, &expected, end].concat());
        assert_eq!(objects(&target), "");
    }

    // what the messages say helps
    target.sql("CREATE ROLE policy_15");
    support::rdump_ok(&[&restore[..], &["-x", "--no-tablespaces"]].concat());
    support::assert_same_rows(&source, &target);

    // roles that are there, but are not ours
    source.sql("CREATE ROLE nobody_15");
    let target = server(15).create_database("placed_target");
    let conninfo = format!("{} options='-c role=nobody_15'", target.conninfo());
    let finished = support::rdump(&["restore", "-O", &archive, "-d", &conninfo]);
    assert_eq!(finished.code, 1, "{}", finished.stderr);
    for (role, what) in [
        ("Maker 15", "which has default privileges"),
        ("giver_15", "which granted privileges"),
    ] {
        let line = format!(
            "  - you are no member of role \"{role}\", {what}: connect as a superuser or a member, \
             or use -x to leave out privileges\n"
        );
        assert!(finished.stderr.contains(&line), "{}", finished.stderr);
    }
    drop(target);

    source.sql(
        "DROP TABLE far, t; DROP OWNED BY \"Maker 15\"; DROP ROLE policy_15, \"Maker 15\", giver_15,
         set_15, nobody_15",
    );
    source.sql(&format!("DROP TABLESPACE \"Space of {name}\""));
}

#[test]
fn an_entry_that_fails() {
    for major in support::VERSIONS {
        let source = small_database(major, "failing");
        let folder = Folder::new();
        let archive = snapshot(&source, &folder);
        let in_the_way = "CREATE FUNCTION twice(i int) RETURNS int LANGUAGE sql AS 'SELECT 3 * i'";
        let failure = "FUNCTION public.twice(integer) (creating it): function \"twice\" already \
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
            // only -C restores the database itself
            .filter(|line| !line.contains(" DATABASE "))
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

/// What the target held before is not this restore's to empty or to overwrite, whatever fails.
#[test]
fn what_was_there_before() {
    for major in support::VERSIONS {
        let source = server(major).create_database("before");
        source.sql(
            "CREATE TABLE kept (id int PRIMARY KEY, note text);
             INSERT INTO kept SELECT i, repeat(md5(i::text), 8) FROM generate_series(1, 20000) AS i;
             SELECT lo_from_bytea(4711, 'new'), lo_from_bytea(4712, 'new');",
        );
        let folder = Folder::new();
        let archive = snapshot(&source, &folder);
        let before = "CREATE TABLE kept (id int PRIMARY KEY, note text);
                      INSERT INTO kept VALUES (19000, 'mine'), (-1, 'mine');
                      SELECT lo_from_bytea(4711, 'precious');";
        let check = |target: &TestDatabase, why: &str| {
            let mine = target.query_text("SELECT count(*) FROM kept WHERE note = 'mine'");
            assert_eq!(mine, "2", "{why}");
            let large = target.query_text("SELECT convert_from(lo_get(4711), 'UTF8')");
            assert_eq!(large, "precious", "{why}");
        };
        // told before anything is written
        let target = server(major).create_database("before_target");
        target.sql("SELECT lo_from_bytea(4711, 'precious')");
        expect_rdump(
            &["restore", &archive, "-d", &target.conninfo()],
            1,
            "rdump: error: this target is not ready for the archive; nothing was written:\n  \
             - the target holds 1 large object already: restore into an empty database, or drop \
             those of the archive first with -c --if-exists\n\
             rdump: hint: mend these, or use --force to go on all the same and have the failures \
             counted\n",
        );
        // one load, or many
        for least_load in [1 << 30, 100_000] {
            for (data_only, why) in [(false, "--force"), (true, "-a")] {
                let target = server(major).create_database("before_target");
                target.sql(before);
                let mut options = rdump::restore::Options {
                    jobs: 3,
                    force: true,
                    least_load,
                    ..rdump::restore::Options::default()
                };
                options.selection.parts.no_schema = data_only;
                let report = hooked::restore(&target.conninfo(), &archive, options);
                assert!(!report.failures.is_empty());
                check(&target, why);
            }
        }
        // from a stream
        let target = server(major).create_database("before_target");
        target.sql(before);
        let mut restore =
            support::rdump_command(&["restore", "-", "--force", "-d", &target.conninfo()]);
        let bytes = std::fs::read(&archive).expect("the archive");
        assert_eq!(support::run(&mut restore, &bytes).code, 3);
        check(&target, "a stream");
    }
}

/// A table that this restore made is emptied when one of several loads fails.
#[test]
fn one_load_of_many_that_fails() {
    let source = server(18).create_database("half");
    source.sql(
        "CREATE FUNCTION is_good(i int) RETURNS bool LANGUAGE sql AS 'SELECT true';
         CREATE TABLE picky (i int CHECK (is_good(i)), note text);
         INSERT INTO picky SELECT i, repeat(md5(i::text), 8) FROM generate_series(1, 20000) AS i;
         CREATE OR REPLACE FUNCTION is_good(i int) RETURNS bool LANGUAGE sql AS 'SELECT i <> 15000';",
    );
    let folder = Folder::new();
    let archive = snapshot(&source, &folder);
    let target = server(18).create_database("half_target");
    let options = rdump::restore::Options {
        jobs: 3,
        least_load: 100_000,
        ..rdump::restore::Options::default()
    };
    let report = hooked::restore(&target.conninfo(), &archive, options);
    assert_eq!(report.failures.len(), 1, "{:?}", report.failures);
    assert_eq!(report.rows, 0);
    assert_eq!(target.query_text("SELECT count(*) FROM picky"), "0");

    let target = server(18).create_database("half_target");
    let mut restore =
        support::rdump_command(&["restore", "-", "-j", "3", "-d", &target.conninfo()]);
    let finished = support::run(&mut restore, &std::fs::read(&archive).expect("the archive"));
    assert_eq!(finished.code, 3, "{}", finished.stderr);
    assert!(
        finished
            .stderr
            .ends_with("ended with failures: 4 entries, 0 rows, 0 B, 0.0 s\n")
            || finished.stderr.contains("rdump: error: 1 of "),
        "{}",
        finished.stderr
    );
    assert_eq!(target.query_text("SELECT count(*) FROM picky"), "0");
}

/// Rows that a trigger drops are missed, and nothing of their load stays.
#[test]
fn rows_that_do_not_arrive() {
    let source = server(18).create_database("dropped_rows");
    source.sql("CREATE TABLE t (i int); INSERT INTO t SELECT generate_series(1, 100)");
    let folder = Folder::new();
    let archive = snapshot(&source, &folder);
    let target = server(18).create_database("dropped_rows_target");
    target.sql(
        "CREATE TABLE t (i int);
         CREATE FUNCTION drop_some() RETURNS trigger LANGUAGE plpgsql
             AS 'BEGIN IF new.i = 7 THEN RETURN NULL; END IF; RETURN new; END';
         CREATE TRIGGER drop_some BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION drop_some()",
    );
    expect_rdump(
        &["restore", "-q", "-a", &archive, "-d", &target.conninfo()],
        3,
        "rdump: warning: TABLE DATA public.t goes through triggers that may change it: drop_some \
         (ALTER TABLE ... DISABLE TRIGGER USER before, ENABLE after)\n\
         rdump: error: TABLE DATA public.t (loading its rows): the server took 99 rows of 100 that \
         were sent\nrdump: hint: a trigger or rule on the table may have dropped some\n\
         rdump: error: 1 of 1 entries could not be restored\n",
    );
    assert_eq!(target.query_text("SELECT count(*) FROM t"), "0");
}

/// All of a restore is on the disk when it ends, though most of it was committed without waiting.
#[test]
fn what_is_done_lasts() {
    // else the server's own writer would do it soon
    let server: &'static Server = Box::leak(Box::new(Server::start(
        18,
        &[
            "-c",
            "wal_writer_delay=10s",
            "-c",
            "wal_writer_flush_after=1GB",
        ],
    )));
    let source = small_database(18, "lasting");
    let folder = Folder::new();
    let archive = snapshot(&source, &folder);
    for more in [&[][..], &["-1"]] {
        let target = server.create_database_with("lasting_target", "TEMPLATE template0");
        let conninfo = target.conninfo();
        let arguments = [&["restore", "-q", "-d", &conninfo, &archive], more].concat();
        support::rdump_ok(&arguments);
        let behind = target
            .query_text("SELECT pg_current_wal_insert_lsn() - pg_current_wal_flush_lsn() < 1000");
        assert_eq!(behind, "t", "{more:?}");
    }
}
