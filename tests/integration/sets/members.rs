//! Members of a set: chosen, refused, damaged, gone.

use std::sync::Arc;

use rdump::archive::Codec;
use rdump::postgres::Connector;
use rdump::postgres::conninfo::{ConnectionFlags, Environment, resolve};
use rdump::snapshot::{ClusterOptions, Options, Output, Window, WindowHook, run_cluster};

use super::{assert_same_server, fresh, place, restore, restore_ok, snapshot};
use crate::support::{self, Server};

/// Two databases beside those that are always there; no awkward roles.
pub(super) fn small() -> Server {
    let server = fresh(18);
    server.sql(
        "postgres",
        "CREATE ROLE clerk; CREATE DATABASE a OWNER clerk; CREATE DATABASE b",
    );
    for database in ["a", "b"] {
        server.sql(
            database,
            "CREATE TABLE t AS SELECT i FROM generate_series(1, 10) i",
        );
    }
    server
}

fn databases(server: &Server) -> String {
    server.query_text(
        "postgres",
        "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database",
    )
}

pub(super) fn rows(server: &Server, database: &str) -> String {
    server.query_text(database, "SELECT count(*) FROM t")
}

#[test]
fn what_stands_in_the_way_is_left_alone() {
    let source = small();
    let (_folder, file) = place("set.rdump");
    snapshot(&source, &file, &["--all-databases"]);
    let target = fresh(18);
    target.sql(
        "postgres",
        "CREATE ROLE stays; CREATE DATABASE stays; CREATE DATABASE a",
    );
    target.sql(
        "postgres",
        "CREATE TABLESPACE stays LOCATION '/tablespaces/fast'",
    );
    target.sql(
        "a",
        "CREATE TABLE t AS SELECT 1 AS i; CREATE TABLE other AS SELECT 1 AS i",
    );

    let finished = restore(&file, &target, &[]);
    assert_eq!(finished.code, 3, "{}", finished.stderr);
    for told in [
        "database a: this target is not ready",
        "1 of 5 members of the set could not be restored in full: database a",
        "use -C -c to replace databases",
    ] {
        assert!(
            finished.stderr.contains(told),
            "{told}: {}",
            finished.stderr
        );
    }
    assert_eq!(
        (rows(&target, "a"), rows(&target, "b")),
        ("1".into(), "10".into())
    );

    // objects that the set holds; then databases that it holds
    restore_ok(&file, &target, &["-c"]);
    assert_eq!(
        (rows(&target, "a"), rows(&target, "b")),
        ("10".into(), "10".into())
    );
    assert_eq!(target.query_text("a", "SELECT count(*) FROM other"), "1");
    restore_ok(&file, &target, &["-C", "-c"]);
    assert_eq!(
        (rows(&target, "a"), rows(&target, "b")),
        ("10".into(), "10".into())
    );
    assert_eq!(
        target.query_text("a", "SELECT to_regclass('other') IS NULL"),
        "t"
    );

    assert_eq!(databases(&target), "a b postgres stays template0 template1");
    let kept = "SELECT count(*) FROM pg_roles WHERE rolname IN ('stays', 'clerk')";
    assert_eq!(target.query_text("postgres", kept), "2");
    let kept = "SELECT count(*) FROM pg_tablespace WHERE spcname = 'stays'";
    assert_eq!(target.query_text("postgres", kept), "1");
    let owner = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'a'";
    assert_eq!(target.query_text("postgres", owner), "clerk");
}

#[test]
fn members_are_chosen_by_name() {
    let source = small();
    let (_folder, file) = place("set.rdump");
    let left_out = [
        "--all-databases",
        "--exclude-database",
        "B",
        "--exclude-database",
        "t*1",
    ];
    snapshot(&source, &file, &left_out);
    let shown = support::rdump_ok(&["show", &file]).text();
    let members: Vec<&str> = shown
        .lines()
        .filter(|line| !line.starts_with(';'))
        .filter_map(|line| line.split(" (").next())
        .collect();
    assert_eq!(members, ["globals", "database a", "database postgres"]);
    let toc = support::rdump_ok(&["show", &file, "--member", "a"]).text();
    assert!(toc.contains(" TABLE public t postgres"), "{toc}");
    let toc = support::rdump_ok(&["show", &file, "-g"]).text();
    assert!(toc.contains(" ROLE - clerk -"), "{toc}");

    let script = support::rdump_ok(&["sql", &file, "--member", "a"]).text();
    assert!(script.contains("CREATE TABLE public.t ("), "{script}");
    let script = support::rdump_ok(&["sql", &file, "-g"]).text();
    assert!(script.contains("\nCREATE ROLE clerk;"), "{script}");
    assert_eq!(support::rdump(&["sql", &file]).code, 2);

    let target = fresh(18);
    let finished = restore(&file, &target, &["--member", "nowhere"]);
    assert_eq!(finished.code, 1);
    assert!(
        finished.stderr.contains("the set has no database nowhere"),
        "{}",
        finished.stderr
    );
    let finished = restore(&file, &target, &["-t", "t"]);
    assert_eq!(finished.code, 2);
    assert!(
        finished.stderr.contains("choose one with --member NAME"),
        "{}",
        finished.stderr
    );

    restore_ok(&file, &target, &["-g"]);
    assert_eq!(databases(&target), "postgres template0 template1");
    restore_ok(&file, &target, &["-C", "--member", "a"]);
    assert_eq!(rows(&target, "a"), "10");
    target.sql("postgres", "CREATE DATABASE renamed TEMPLATE template0");
    let conninfo = target.conninfo("renamed");
    support::rdump_ok(&[
        "restore", &file, "--member", "a", "-t", "t", "-d", &conninfo,
    ]);
    assert_eq!(rows(&target, "renamed"), "10");
    support::rdump_ok(&["verify", &file, "--member", "a", "--against", &conninfo]);
    let conninfo = target.conninfo("a");
    support::rdump_ok(&["verify", &file, "--member", "a", "--against", &conninfo]);

    // the set against a server that lacks a member, and one whose member differs
    let conninfo = target.conninfo("postgres");
    support::rdump_ok(&["verify", &file, "--against", &conninfo]);
    target.sql("postgres", "DROP DATABASE a");
    let finished = support::rdump(&["verify", &file, "--against", &conninfo]);
    assert_eq!(finished.code, 3, "{}", finished.stderr);
    assert!(
        finished
            .stderr
            .contains("1 of 3 members differ: database a"),
        "{}",
        finished.stderr
    );
    target.sql("postgres", "CREATE TABLE extra (i int)");
    let finished = support::rdump(&["verify", &file, "--against", &conninfo]);
    assert!(
        finished
            .stderr
            .contains("2 of 3 members differ: database a, database postgres"),
        "{}",
        finished.stderr
    );

    // one archive has no members
    let (_folder, alone) = place("alone.rdump");
    support::rdump_ok(&["snapshot", "-d", &source.conninfo("a"), "-f", &alone]);
    let finished = restore(&alone, &target, &["--member", "a"]);
    assert_eq!(finished.code, 2, "{}", finished.stderr);
}

/// Definitions first, rows later; and rows alone make no database.
#[test]
fn definitions_and_rows_apart() {
    let source = small();
    let (_folder, file) = place("set.rdump");
    snapshot(&source, &file, &["--all-databases"]);
    let target = fresh(18);
    let finished = restore(&file, &target, &["-a"]);
    assert_eq!(finished.code, 3);
    let told = "database a: database a does not exist, and -a creates none";
    assert!(finished.stderr.contains(told), "{}", finished.stderr);
    assert_eq!(databases(&target), "postgres template0 template1");
    restore_ok(&file, &target, &["-s"]);
    assert_eq!(rows(&target, "a"), "0");
    restore_ok(&file, &target, &["-a"]);
    assert_eq!(
        (rows(&target, "a"), rows(&target, "b")),
        ("10".into(), "10".into())
    );
    let conninfo = target.conninfo("postgres");
    support::rdump_ok(&["verify", &file, "--against", &conninfo]);
}

#[test]
fn members_in_transactions_of_some_entries() {
    let source = small();
    for database in ["a", "b"] {
        source.sql(
            database,
            "CREATE SCHEMA own; CREATE TABLE own.u (i int PRIMARY KEY); INSERT INTO own.u VALUES (1), (2);
             CREATE VIEW own.v AS SELECT * FROM own.u; GRANT SELECT ON own.v TO clerk;
             COMMENT ON VIEW own.v IS 'a view'; CREATE INDEX ON t (i);
             ALTER TABLE own.u ADD FOREIGN KEY (i) REFERENCES own.u",
        );
    }
    let (_folder, file) = place("set.rdump");
    snapshot(&source, &file, &["--all-databases"]);
    for flags in [
        &["--transaction-size", "4"][..],
        &["--transaction-size", "4", "-j", "2"],
    ] {
        let target = fresh(18);
        restore_ok(&file, &target, flags);
        assert_same_server(&source, &target, &[]);
        let conninfo = target.conninfo("postgres");
        support::rdump_ok(&["verify", &file, "--against", &conninfo]);
    }

    // an error ends its own member, what was committed of it stays; the others are restored
    let target = fresh(18);
    target.sql("postgres", "CREATE DATABASE a");
    target.sql(
        "a",
        "CREATE TABLE t (i int CHECK (i < 5)); CREATE SCHEMA own; CREATE TABLE own.u (i int)",
    );
    let finished = restore(&file, &target, &["-a", "--transaction-size", "1"]);
    assert_eq!(finished.code, 3, "{}", finished.stderr);
    target.sql("postgres", "CREATE DATABASE b");
    target.sql(
        "b",
        "CREATE TABLE t (i int); CREATE SCHEMA own; CREATE TABLE own.u (i int)",
    );
    let finished = restore(&file, &target, &["-a", "--transaction-size", "1"]);
    assert_eq!(finished.code, 3, "{}", finished.stderr);
    for told in [
        "database a: TABLE DATA public.t (loading its rows): ",
        "1 of 4 members of the set could not be restored in full: database a",
    ] {
        assert!(
            finished.stderr.contains(told),
            "{told}: {}",
            finished.stderr
        );
    }
    assert_eq!(
        (rows(&target, "a"), rows(&target, "b")),
        ("0".into(), "10".into())
    );
}

/// The server keeps a name as it came, also where the database itself is in another encoding.
#[test]
fn names_are_bytes() {
    let source = fresh(18);
    source.sql(
        "postgres",
        "CREATE DATABASE \"größe\" TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'",
    );
    source.sql(
        "größe",
        "SET client_encoding = 'UTF8'; CREATE TABLE t AS SELECT 'größer' AS x",
    );
    let (_folder, file) = place("set.rdump");
    snapshot(&source, &file, &["--all-databases"]);
    let target = fresh(18);
    for options in [&[][..], &["-c"], &["-C", "-c"]] {
        restore_ok(&file, &target, options);
        assert_eq!(databases(&target), "größe postgres template0 template1");
        assert_eq!(rows(&target, "größe"), "1");
    }
    let conninfo = target.conninfo("postgres");
    support::rdump_ok(&["verify", &file, "--against", &conninfo]);
}

/// A new name takes what is set for the database with it, and for roles in it.
#[test]
fn a_database_under_another_name() {
    let source = small();
    source.sql(
        "postgres",
        "ALTER DATABASE a SET work_mem = '9MB'; ALTER ROLE clerk IN DATABASE a SET work_mem = '8MB';
         COMMENT ON DATABASE a IS 'of a'; REVOKE ALL ON DATABASE a FROM PUBLIC;
         ALTER DATABASE a CONNECTION LIMIT 7",
    );
    let (_folder, file) = place("set.rdump");
    snapshot(&source, &file, &["--all-databases"]);
    let name = "new \"name\"";
    restore_ok(
        &file,
        &source,
        &["--member", "a", "-C", "--database-name", name],
    );
    assert_eq!(rows(&source, name), "10");
    let properties = |name: &str| {
        let name = name.replace('"', "\"\"");
        source.query_text(
            "postgres",
            &format!(
                "SELECT datconnlimit, datacl, pg_get_userbyid(datdba), shobj_description(d.oid, 'pg_database'),
                        (SELECT string_agg(format('%s %s', setrole::regrole, setconfig), ' ' ORDER BY setrole)
                         FROM pg_db_role_setting WHERE setdatabase = d.oid)
                 FROM pg_database d WHERE quote_ident(datname) IN ('{name}', '\"{name}\"')"
            ),
        )
    };
    assert!(
        properties("a").contains("work_mem=8MB"),
        "{}",
        properties("a")
    );
    assert_eq!(properties("a"), properties(name));
    let finished = restore(&file, &source, &["-C", "--database-name", name]);
    assert_eq!(finished.code, 2, "{}", finished.stderr);
}

#[test]
fn damage_is_named_by_member() {
    let source = small();
    let (_folder, file) = place("set.rdump");
    snapshot(&source, &file, &["--all-databases"]);
    let whole = std::fs::read(&file).expect("the set");
    let set = rdump::archive::SetReader::open(&whole[..]).expect("a set");
    let member = set
        .members()
        .iter()
        .find(|m| m.name == "b")
        .expect("b")
        .clone();

    let mut damaged = whole.clone();
    damaged[(member.offset + member.length / 2) as usize] ^= 1;
    std::fs::write(&file, &damaged).expect("writing");
    let finished = support::rdump(&["verify", &file]);
    assert_eq!(finished.code, 3);
    assert!(
        finished.stderr.contains("database b is damaged"),
        "{}",
        finished.stderr
    );
    support::rdump_ok(&["verify", &file, "--member", "a"]);
    // the others are restored
    let target = fresh(18);
    let finished = restore(&file, &target, &[]);
    assert_eq!(finished.code, 3, "{}", finished.stderr);
    assert_eq!(rows(&target, "a"), "10");
    assert!(
        finished.stderr.contains("in full: database b"),
        "{}",
        finished.stderr
    );

    for (at, what) in [(20, "set header"), (whole.len() - 60, "set trailer")] {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        std::fs::write(&file, &damaged).expect("writing");
        let finished = support::rdump(&["verify", &file]);
        assert_eq!(finished.code, 3, "{}", finished.stderr);
        assert!(finished.text().contains(what), "{}", finished.text());
        let finished = restore(&file, &target, &[]);
        assert_eq!(finished.code, 1);
        assert!(
            finished.stderr.contains("archive is damaged"),
            "{}",
            finished.stderr
        );
    }
    std::fs::write(&file, &whole[..whole.len() - 1]).expect("writing");
    let finished = restore(&file, &target, &[]);
    assert_eq!(finished.code, 1);
    assert!(!finished.stderr.contains("database"), "{}", finished.stderr);
}

/// Called when the first database is about to be copied.
fn while_copying(script: &'static str, server: Arc<Server>) -> WindowHook {
    Arc::new(move |window| {
        let server = Arc::clone(&server);
        Box::pin(async move {
            if window == Window::Copying {
                server.sql("postgres", script);
            }
        })
    })
}

fn take(server: &Arc<Server>, file: &str, script: &'static str) -> rdump::Result<Vec<String>> {
    let options = Options {
        output: Output::File(file.into()),
        jobs: 1,
        codec: Codec::None,
        encryption: None,
        lock_wait: std::time::Duration::from_secs(60),
        sync: false,
        scope: rdump::catalog::Scope::default(),
        reading: Default::default(),
        least_slice: rdump::snapshot::LEAST_SLICE,
        window_hook: Some(while_copying(script, Arc::clone(server))),
    };
    let flags = ConnectionFlags {
        dbname: Some(server.conninfo("postgres")),
        ..ConnectionFlags::default()
    };
    let connector = Connector::new(resolve(&flags, &Environment::of_process())?);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (cluster, cancellation) = (ClusterOptions::default(), Arc::default());
    let run = run_cluster(connector, &options, &cluster, Arc::default(), &cancellation);
    runtime.block_on(run).map(|report| report.skipped)
}

#[test]
fn databases_that_vanish_are_told() {
    let server = Arc::new(small());
    let (folder, file) = place("set.rdump");
    let skipped = take(&server, &file, "DROP DATABASE IF EXISTS b").expect("a set");
    assert_eq!(
        skipped,
        ["database b is not in the set: it was dropped or renamed meanwhile"]
    );
    support::rdump_ok(&["verify", &file]);
    let before = std::fs::read(&file).expect("the set");

    // what cannot be read fails the whole, and leaves what was there
    server.sql("postgres", "CREATE DATABASE c");
    let error = take(
        &server,
        &file,
        "UPDATE pg_database SET datconnlimit = 0 WHERE datname = 'c'",
    );
    assert!(error.is_ok(), "a superuser is not bound by it: {error:?}");
    let before = std::fs::read(&file).unwrap_or(before);
    server.sql(
        "c",
        "CREATE TYPE label AS ENUM ('x'); CREATE TABLE t (l label)",
    );
    let broken = "UPDATE pg_database SET datcollate = 'no_such_locale', datctype = 'no_such_locale' WHERE datname = 'c'";
    let error = take(&server, &file, broken).expect_err("a database that nobody can connect to");
    assert!(error.to_string().starts_with("database c: "), "{error}");
    assert_eq!(std::fs::read(&file).expect("the set"), before);
    assert_eq!(
        std::fs::read_dir(folder.path())
            .expect("the folder")
            .count(),
        1
    );
}

/// Some members are written, another waits for a lock: a signal leaves nothing.
#[test]
fn a_signal_leaves_no_part_of_a_set() {
    let server = small();
    server.shell(
        "(psql -U postgres -d b -c 'BEGIN; LOCK TABLE t; SELECT pg_sleep(600)' >/dev/null 2>&1 &)",
    );
    let waits = |wanted: &str| {
        for _ in 0..600 {
            let lock = "SELECT count(*) FROM pg_locks WHERE relation = 't'::regclass AND ";
            if server.query_text("b", &format!("{lock}{wanted}")) == "1" {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        panic!("nobody has waited for the lock: {wanted}");
    };
    waits("granted");
    let (folder, file) = place("set.rdump");
    let conninfo = server.conninfo("postgres");
    let arguments = ["snapshot", "--all-databases", "-d", &conninfo, "-f", &file];
    let mut child = support::rdump_command(&arguments)
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("starting rdump");
    waits("NOT granted");
    let files = || {
        std::fs::read_dir(folder.path())
            .expect("the folder")
            .count()
    };
    assert_eq!(files(), 1);
    // SAFETY: the process is our own child, and has not been waited for
    unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
    assert_eq!(child.wait().expect("its end").code(), Some(143));
    assert_eq!(files(), 0);
}
