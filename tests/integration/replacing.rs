//! `restore --replace`: the live database is replaced in one step by a copy that equals the archive, or
//! stays as it was.

use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::libc;

use crate::errors::{
    Folder, Other, expect_rdump, small_database, small_database_on, snapshot, wait_for,
};
use crate::support::{self, Finished, Server, TestDatabase, VERSIONS, rdump_command, server};

/// Drops what a replaced database leaves beside it.
struct Beside<'a>(&'a TestDatabase);

impl Beside<'_> {
    /// Names of old databases and of copies.
    fn names(&self) -> Vec<String> {
        let names = self.0.server.query_text(
            "postgres",
            &format!(
                "SELECT datname FROM pg_database WHERE datname ~ '^{}_(old|rdump)_' ORDER BY 1",
                self.0.name
            ),
        );
        names.lines().map(str::to_owned).collect()
    }
}

impl Drop for Beside<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        for name in self.names() {
            let drop = format!("DROP DATABASE {name} WITH (FORCE)");
            self.0.server.sql("postgres", &drop);
        }
    }
}

fn oid(database: &TestDatabase) -> String {
    let query = format!(
        "SELECT oid FROM pg_database WHERE datname = '{}'",
        database.name
    );
    database.server.query_text("postgres", &query)
}

fn replace(archive: &str, database: &TestDatabase, more: &[&str]) -> Finished {
    let conninfo = database.conninfo();
    let restore = ["restore", "--replace", "-y", archive, "-d", &conninfo];
    support::rdump(&[&restore[..], more].concat())
}

/// What the live database is like in a test, before it is replaced.
fn spoil(live: &TestDatabase) {
    live.sql(
        "DELETE FROM sales.orders WHERE id <= 500;
         DROP TABLE customers CASCADE;
         CREATE TABLE later (i int);",
    );
}

const ORDERS: &str = "SELECT count(*) FROM sales.orders";

#[test]
fn a_database_is_replaced_while_it_is_used() {
    for major in VERSIONS {
        let live = small_database(major, "replaced");
        let name = &live.name;
        let beside = Beside(&live);
        let owner = format!("{name}_owner");
        live.sql(&format!(
            "CREATE ROLE {owner} LOGIN;
             ALTER DATABASE {name} OWNER TO {owner};
             ALTER DATABASE {name} CONNECTION LIMIT 77;
             ALTER DATABASE {name} SET work_mem = '9MB';
             ALTER ROLE {owner} IN DATABASE {name} SET work_mem = '11MB';
             COMMENT ON DATABASE {name} IS 'the archive''s';
             REVOKE CONNECT ON DATABASE {name} FROM PUBLIC;"
        ));
        let folder = Folder::new();
        let file = snapshot(&live, &folder);
        spoil(&live);
        live.sql(&format!(
            "ALTER DATABASE {name} OWNER TO postgres;
             ALTER DATABASE {name} CONNECTION LIMIT 88;
             ALTER DATABASE {name} SET work_mem = '12MB';
             ALTER ROLE {owner} IN DATABASE {name} RESET work_mem;
             COMMENT ON DATABASE {name} IS 'later';
             GRANT CONNECT ON DATABASE {name} TO PUBLIC;"
        ));
        let before = oid(&live);
        // one in a transaction, and some that come again and again
        let mut idle = live.server.program("psql");
        idle.args(["-X", "-q", "-U", "postgres", "-d", name, "-c"])
            .arg("BEGIN; LOCK TABLE later; SELECT pg_sleep(600)")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut idle = idle.spawn().expect("starting psql");
        wait_for("a session sleeps", 20, || {
            let query = format!(
                "SELECT count(*) FROM pg_stat_activity
                 WHERE datname = '{name}' AND wait_event = 'PgSleep'"
            );
            live.server.query_text("postgres", &query) == "1"
        });
        let done = AtomicBool::new(false);
        let (finished, seen) = std::thread::scope(|scope| {
            let user = scope.spawn(|| {
                let mut seen = Vec::new();
                while !done.load(Ordering::Relaxed) || seen.last().is_none_or(|s| s != "1000") {
                    let mut query = live.server.program("psql");
                    query.args(["-X", "-A", "-t", "-U", "postgres", "-d", name, "-c", ORDERS]);
                    let finished = support::run(&mut query, b"");
                    if finished.code == 0 {
                        seen.push(finished.text().trim().to_owned());
                    }
                    assert!(seen.len() < 10_000, "never replaced");
                }
                seen
            });
            let finished = replace(&file, &live, &["--parallel", "2"]);
            done.store(true, Ordering::Relaxed);
            if finished.code != 0 {
                panic!("{}", finished.stderr);
            }
            (finished, user.join().expect("a user"))
        });
        idle.wait().expect("psql ends");
        let [old] = &beside.names()[..] else {
            panic!("{:?}", beside.names());
        };
        assert!(old.starts_with(&format!("{name}_old_20")), "{old}");
        let said = format!(
            "the old database stays as {old}; when nobody needs it any more: DROP DATABASE {old}\n"
        );
        assert!(finished.stderr.ends_with(&said), "{}", finished.stderr);
        // one after the other, and never back
        let mut seen = seen;
        seen.dedup();
        assert!(seen == ["500", "1000"] || seen == ["1000"], "{seen:?}");
        // with what is set for it, as it has the archive's name
        support::rdump_ok(&["verify", &file, "--against", &live.conninfo()]);
        let set = |name: &str| {
            live.server.query_text(
                "postgres",
                &format!(
                    "SELECT oid, pg_get_userbyid(datdba), datconnlimit, datallowconn,
                            has_database_privilege('pg_monitor', oid, 'CONNECT'),
                            shobj_description(oid, 'pg_database'),
                            (SELECT string_agg(setconfig::text, ' ' ORDER BY setrole)
                             FROM pg_db_role_setting WHERE setdatabase = oid)
                     FROM pg_database WHERE datname = '{name}'"
                ),
            )
        };
        let of_old = format!("{before}|postgres|88|t|t|later|{{work_mem=12MB}}");
        assert_eq!(set(old), of_old);
        let of_new = set(name);
        let (new, rest) = of_new.split_once('|').expect("an OID");
        assert_ne!(new, before);
        let as_archived =
            format!("{owner}|77|t|f|the archive's|{{work_mem=9MB}} {{work_mem=11MB}}");
        assert_eq!(rest, as_archived);
        // the old one is whole
        let rows = "SELECT (SELECT count(*) FROM sales.orders), to_regclass('later') IS NOT NULL,
                    to_regclass('customers') IS NULL";
        assert_eq!(live.server.query_text(old, rows), "500|t|t");
    }
}

/// A role of no other rights than it needs.
#[test]
fn an_owner_replaces_its_own_database() {
    for major in VERSIONS {
        let live = server(major).create_database("own");
        let beside = Beside(&live);
        let role = format!("{}_owner", live.name);
        live.sql(&format!(
            "CREATE ROLE {role} LOGIN CREATEDB PASSWORD 'secret';
             ALTER DATABASE {} OWNER TO {role};
             SET SESSION AUTHORIZATION {role};
             CREATE TABLE public.t (i int); INSERT INTO public.t VALUES (1)",
            live.name
        ));
        let folder = Folder::new();
        let file = folder.file("own.rdump");
        let conninfo = live.conninfo();
        let conninfo = conninfo.replace("user=postgres", &format!("user={role}"));
        let conninfo = conninfo.replace("password=test-password", "password=secret");
        support::rdump_ok(&["snapshot", "-q", "-d", &conninfo, "-f", &file]);
        live.sql("DROP TABLE t");
        let restore = [
            "restore",
            "--replace",
            "-y",
            "--json",
            &file,
            "-d",
            &conninfo,
        ];
        // a superuser's session is not the role's to end
        let other = Other::new(&live);
        wait_for("the other session is there", 20, || {
            let query = format!(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}'",
                live.name
            );
            live.server.query_text("postgres", &query) == "1"
        });
        let refused = support::rdump(&restore);
        assert_eq!(refused.code, 1, "{}", refused.stderr);
        let what = format!("role {role} may not end the sessions of postgres");
        assert!(refused.stderr.contains(&what), "{}", refused.stderr);
        drop(other);
        wait_for("the other session is gone", 20, || {
            let query = format!(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}'",
                live.name
            );
            live.server.query_text("postgres", &query) == "0"
        });
        let finished = support::rdump_ok(&restore);
        let text = finished.text();
        let last = text.lines().last().expect("a summary");
        let summary: serde_json::Value = serde_json::from_str(last).expect("JSON");
        assert_eq!(summary["type"], "summary");
        assert_eq!(summary["outcome"], "done");
        assert_eq!(summary["database"], live.name);
        assert_eq!(summary["old_database"], beside.names()[0]);
        assert_eq!(live.query_text("SELECT i FROM t"), "1");
    }
}

/// An index whose function does something where the database is a copy.
fn with_trap(live: &TestDatabase, trap: &str) {
    live.sql(&format!(
        "CREATE TABLE a (i int); INSERT INTO a VALUES (1);
         CREATE TABLE b (i int); INSERT INTO b VALUES (1);
         CREATE FUNCTION trap() RETURNS void LANGUAGE plpgsql AS $$
         BEGIN
             IF current_database() LIKE '%\\_rdump\\_new\\_%' THEN {trap}; END IF;
         END $$;
         CREATE FUNCTION f(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
             'BEGIN PERFORM public.trap(); RETURN i; END';
         CREATE INDEX ON a (f(i));"
    ));
}

#[test]
fn a_copy_that_differs_does_not_replace() {
    for major in VERSIONS {
        for (trap, said) in [
            ("INSERT INTO public.b VALUES (2)", "public.b"),
            ("RAISE EXCEPTION 'not here'", "not here"),
        ] {
            let live = server(major).create_database("differs");
            let beside = Beside(&live);
            with_trap(&live, trap);
            let folder = Folder::new();
            let file = snapshot(&live, &folder);
            let before = oid(&live);
            let mut other = Other::new(&live);
            other.run("SELECT 1");
            let finished = replace(&file, &live, &["-j1"]);
            assert_eq!(finished.code, 3, "{}", finished.stderr);
            let all = finished.text() + &finished.stderr;
            assert!(all.contains(said), "{all}");
            let hint = "the live database is as it was; the copy was dropped\n";
            assert!(finished.stderr.ends_with(hint), "{}", finished.stderr);
            // nobody was thrown out
            other.run("SELECT 1");
            assert_eq!(oid(&live), before);
            assert!(beside.names().is_empty(), "{:?}", beside.names());
            if trap.starts_with("RAISE") {
                continue;
            }
            let finished = replace(&file, &live, &["-j1", "--keep-failed"]);
            assert_eq!(finished.code, 3, "{}", finished.stderr);
            let [copy] = &beside.names()[..] else {
                panic!("{:?}", beside.names());
            };
            let hint = format!("the copy stays, as {copy}, until DROP DATABASE {copy}\n");
            assert!(finished.stderr.ends_with(&hint), "{}", finished.stderr);
            assert_eq!(oid(&live), before);
        }
    }
}

#[test]
fn what_is_in_the_way_is_told_beforehand() {
    let live = small_database(18, "in_the_way");
    let beside = Beside(&live);
    let name = &live.name;
    let folder = Folder::new();
    let file = snapshot(&live, &folder);
    let role = format!("{name}_role");
    live.sql(&format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'secret' IN ROLE pg_signal_backend"
    ));
    let before = oid(&live);
    let weak = live
        .conninfo()
        .replace("user=postgres", &format!("user={role}"));
    let weak = weak.replace("password=test-password", "password=secret");
    let restore = ["restore", "--replace", "-y", &file, "-d"];
    let refused = support::rdump(&[&restore[..], &[&weak]].concat());
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    for line in [
        format!("role {role} may neither create nor rename databases"),
        format!("role {role} may not rename the database, whose owner is postgres"),
        "the archive's database belongs to postgres, so that the copy could not be renamed"
            .to_owned(),
        "nothing was written".to_owned(),
    ] {
        assert!(refused.stderr.contains(&line), "{line}: {}", refused.stderr);
    }
    live.sql(
        "BEGIN; INSERT INTO customers (name) VALUES ('x'); PREPARE TRANSACTION 'in the way';
         CREATE SUBSCRIPTION sub CONNECTION 'host=nowhere' PUBLICATION p WITH (connect = false)",
    );
    live.server.sql(
        "postgres",
        &format!("ALTER DATABASE {name} IS_TEMPLATE true"),
    );
    let refused = replace(&file, &live, &[]);
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    for line in [
        "prepared transactions are open in it: 'in the way'",
        "subscriptions belong to it, and would go on in the old database: sub",
        "the database is a template",
    ] {
        assert!(refused.stderr.contains(line), "{line}: {}", refused.stderr);
    }
    live.server.sql(
        "postgres",
        &format!("ALTER DATABASE {name} IS_TEMPLATE false"),
    );
    live.sql(
        "ROLLBACK PREPARED 'in the way'; ALTER SUBSCRIPTION sub SET (slot_name = NONE);
         DROP SUBSCRIPTION sub",
    );
    // as managed services refuse it
    let conninfo = format!(
        "{} options='-c rdump_labels.fixed_names=on'",
        live.conninfo()
    );
    let refused = support::rdump(&[&restore[..], &[&conninfo, "--dry-run"]].concat());
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    assert!(
        refused.stderr.contains(
            "a database cannot be renamed here, as a try with a scratch database has shown"
        ),
        "{}",
        refused.stderr
    );
    assert_eq!(oid(&live), before);
    assert!(beside.names().is_empty(), "{:?}", beside.names());
    // and with nothing in the way, it is told what would be done
    let told = replace(&file, &live, &["--dry-run"]);
    assert_eq!(told.code, 0, "{}", told.stderr);
    let text = told.text();
    assert!(
        text.contains(&format!("would restore into {name}_rdump_new_")),
        "{text}"
    );
    assert!(beside.names().is_empty(), "{:?}", beside.names());
    assert_eq!(oid(&live), before);
}

/// On a server of one's own, for the slot's sake and the set's.
#[test]
fn replication_slots_stay_with_a_database_and_members_of_sets_replace_one() {
    let own: &'static Server = Box::leak(Box::new(Server::start(15, &["-c", "wal_level=logical"])));
    let live = small_database_on(own, "slots");
    let folder = Folder::new();
    let file = snapshot(&live, &folder);
    live.sql("SELECT pg_create_logical_replication_slot('cdc', 'pgoutput')");
    let refused = replace(&file, &live, &[]);
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    let line = "logical replication slots belong to it, and would stay with the old database: cdc";
    assert!(refused.stderr.contains(line), "{}", refused.stderr);
    live.sql("SELECT pg_drop_replication_slot('cdc')");
    let set = folder.file("set.rdump");
    let conninfo = live.conninfo();
    support::rdump_ok(&[
        "snapshot",
        "--all-databases",
        "-q",
        "-d",
        &conninfo,
        "-f",
        &set,
    ]);
    spoil(&live);
    let finished = replace(&set, &live, &["--member", &live.name]);
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    assert_eq!(live.query_text(ORDERS), "1000");
}

#[test]
fn what_cannot_replace_a_database_is_refused() {
    let live = small_database(15, "unfit");
    let folder = Folder::new();
    let file = snapshot(&live, &folder);
    let conninfo = live.conninfo();
    let usage = "rdump: error: a live database is replaced only if that is confirmed\n\
                 rdump: hint: give --yes, or --dry-run to see what would be done\n";
    expect_rdump(&["restore", "--replace", &file, "-d", &conninfo], 2, usage);
    for more in [
        &["-s"][..],
        &["-a"],
        &["-n", "sales"],
        &["-t", "orders"],
        &["-c"],
        &["-1"],
        &["-g"],
        &["--no-comments"],
        &["-t", "orders", "--with-dependencies"],
    ] {
        let finished = replace(&file, &live, more);
        assert_eq!(finished.code, 2, "{more:?}: {}", finished.stderr);
    }
    for flag in ["--dry-run", "--keep-failed", "--yes"] {
        let finished = support::rdump(&["restore", &file, "-d", &conninfo, flag]);
        assert_eq!(finished.code, 2, "{flag}: {}", finished.stderr);
    }
    let finished = support::rdump(&["restore", "--replace", "-y", "-", "-d", &conninfo]);
    assert_eq!(finished.code, 2, "{}", finished.stderr);
    let finished = replace(&file, &live, &["--database-name", "nobody_has_this"]);
    assert_eq!(finished.code, 1, "{}", finished.stderr);
    let line = "there is no database nobody_has_this to replace";
    assert!(finished.stderr.contains(line), "{}", finished.stderr);
    let part = folder.file("part.rdump");
    support::rdump_ok(&[
        "snapshot", "-q", "-n", "sales", "-d", &conninfo, "-f", &part,
    ]);
    let finished = replace(&part, &live, &[]);
    assert_eq!(finished.code, 1, "{}", finished.stderr);
    let line = "the archive holds a part of its database, which cannot replace all of one: its snapshot was taken with";
    assert!(finished.stderr.contains(line), "{}", finished.stderr);
    let set = support::fixture_path("sets/good.rdump");
    let finished = replace(&set.to_string_lossy(), &live, &[]);
    assert_eq!(finished.code, 2, "{}", finished.stderr);
    let line = "--replace replaces one database, and this is a set of them";
    assert!(finished.stderr.contains(line), "{}", finished.stderr);
}

/// A replacement in the background.
fn start(archive: &str, live: &TestDatabase) -> Child {
    let conninfo = live.conninfo();
    rdump_command(&["restore", "--replace", "-y", "-q", archive, "-d", &conninfo])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starting rdump")
}

/// Ends it with a signal; returns its code, none after SIGKILL, and what it said.
fn end(child: Child, signal: i32) -> (Option<i32>, String) {
    // SAFETY: kill() touches no memory; the child has not been waited for, so the id is its own.
    assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
    let output = child.wait_with_output().expect("waiting for rdump");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), stderr)
}

fn rdump_waits(live: &TestDatabase, condition: &str) -> bool {
    let query = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'rdump%' AND {condition}
         AND query NOT LIKE '%pg_stat_activity%'"
    );
    live.server.query_text("postgres", &query) != "0"
}

#[test]
fn a_signal_leaves_the_live_database_as_it_was() {
    for major in VERSIONS {
        let live = server(major).create_database("signalled");
        let beside = Beside(&live);
        with_trap(&live, "PERFORM pg_sleep(600)");
        let folder = Folder::new();
        let file = snapshot(&live, &folder);
        let before = oid(&live);
        let sleeps = format!(
            "datname LIKE '{}\\_rdump\\_new\\_%' AND wait_event = 'PgSleep'",
            live.name
        );
        let mut other = Other::new(&live);
        for (signal, code) in [
            (libc::SIGTERM, Some(143)),
            (libc::SIGINT, Some(130)),
            (libc::SIGKILL, None),
        ] {
            let child = start(&file, &live);
            wait_for("the copy is being restored", 60, || {
                rdump_waits(&live, &sleeps)
            });
            let (ended, stderr) = end(child, signal);
            assert_eq!(ended, code, "{stderr}");
            if code.is_some() {
                let hint = "the live database is as it was; nothing else was left\n";
                assert!(stderr.ends_with(hint), "{stderr}");
                assert!(beside.names().is_empty(), "{:?}", beside.names());
            }
            assert_eq!(oid(&live), before);
            other.run("SELECT 1");
        }
        // what was killed leaves a copy, which says what it is
        let [copy] = &beside.names()[..] else {
            panic!("{:?}", beside.names());
        };
        assert!(
            copy.starts_with(&format!("{}_rdump_new_", live.name)),
            "{copy}"
        );
        assert_eq!(live.query_text("SELECT count(*) FROM b"), "1");
    }
}

/// Somebody holds a lock on the database itself, so that the swap waits.
#[test]
fn a_signal_during_the_swap_leaves_all_in_place() {
    for major in VERSIONS {
        let live = small_database(major, "swapped");
        let beside = Beside(&live);
        let folder = Folder::new();
        let file = snapshot(&live, &folder);
        spoil(&live);
        let before = oid(&live);
        let elsewhere = TestDatabase::reserve(live.server, "elsewhere");
        live.server
            .sql("postgres", &format!("CREATE DATABASE {}", elsewhere.name));
        let mut user = Other::new(&live);
        user.run("SELECT 1");
        let waits = "wait_event_type = 'Lock' AND query LIKE '%RENAME TO%'";
        for (signal, code) in [(libc::SIGTERM, Some(143)), (libc::SIGKILL, None)] {
            let mut holder = Other::new(&elsewhere);
            holder.run(&format!("BEGIN; COMMENT ON DATABASE {} IS 'x'", live.name));
            let child = start(&file, &live);
            wait_for("the swap waits", 60, || rdump_waits(&live, waits));
            let (ended, stderr) = end(child, signal);
            assert_eq!(ended, code, "{stderr}");
            if code.is_some() {
                assert!(beside.names().is_empty(), "{:?}", beside.names());
            }
            holder.run("ROLLBACK");
            // not thrown out in vain, and others come in
            user.run("SELECT 1");
            assert_eq!(oid(&live), before);
            assert_eq!(live.query_text(ORDERS), "500");
        }
        // where the lock is given back in time, the swap goes on
        let mut holder = Other::new(&elsewhere);
        holder.run(&format!("BEGIN; COMMENT ON DATABASE {} IS 'x'", live.name));
        let child = start(&file, &live);
        wait_for("the swap waits", 60, || rdump_waits(&live, waits));
        holder.run("ROLLBACK");
        let output = child.wait_with_output().expect("waiting for rdump");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{stderr}");
        assert_eq!(live.query_text(ORDERS), "1000");
        assert_ne!(oid(&live), before);
    }
}

/// What comes up between the look at the database and the swap.
#[test]
fn a_swap_that_cannot_be_had_is_given_up() {
    let live = small_database(18, "given_up");
    let beside = Beside(&live);
    let folder = Folder::new();
    let file = snapshot(&live, &folder);
    spoil(&live);
    let before = oid(&live);
    let elsewhere = TestDatabase::reserve(live.server, "elsewhere");
    live.server
        .sql("postgres", &format!("CREATE DATABASE {}", elsewhere.name));
    let mut user = Other::new(&live);
    let mut holder = Other::new(&elsewhere);
    holder.run(&format!("BEGIN; COMMENT ON DATABASE {} IS 'x'", live.name));
    let child = start(&file, &live);
    wait_for("the swap waits", 60, || {
        rdump_waits(
            &live,
            "wait_event_type = 'Lock' AND query LIKE '%RENAME TO%'",
        )
    });
    user.run("BEGIN; DELETE FROM sales.orders; PREPARE TRANSACTION 'meanwhile'");
    holder.run("ROLLBACK");
    let output = child.wait_with_output().expect("waiting for rdump");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("swapping the names: "), "{stderr}");
    assert!(
        stderr.ends_with("the live database is as it was; the copy was dropped\n"),
        "{stderr}"
    );
    assert_eq!(oid(&live), before);
    assert!(beside.names().is_empty(), "{:?}", beside.names());
    live.sql("ROLLBACK PREPARED 'meanwhile'");
    assert_eq!(live.query_text(ORDERS), "500");
}
