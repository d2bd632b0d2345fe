//! `--disable-triggers`: through the root of partitions, and when a signal ends the run.

use std::process::Stdio;
use std::time::Duration;

use nix::libc;

use super::errors::Folder;
use super::restore_flags::{ROWS, SCHEMA, STATES};
use crate::support::{self, TestDatabase, VERSIONS, server};

const INTERNAL: &str = "SELECT count(*) FROM pg_trigger WHERE tgisinternal AND tgenabled <> 'O'";

#[test]
fn rows_go_past_the_triggers_of_partitions_and_of_their_root() {
    const TREE: &str = "
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN RAISE EXCEPTION ''not now''; END';
        CREATE TABLE tree (i int) PARTITION BY LIST (i);
        CREATE TABLE one PARTITION OF tree FOR VALUES IN (1);
        CREATE TABLE two PARTITION OF tree FOR VALUES IN (2);";
    const TRIGGERS: &str = "
        CREATE TRIGGER of_root BEFORE INSERT ON tree EXECUTE FUNCTION refuse();
        CREATE TRIGGER of_rows BEFORE INSERT ON tree FOR EACH ROW EXECUTE FUNCTION refuse();
        CREATE TRIGGER of_one BEFORE INSERT ON one FOR EACH ROW EXECUTE FUNCTION refuse();
        ALTER TABLE two DISABLE TRIGGER of_rows;";
    const STATES: &str =
        "SELECT string_agg(format('%s %s %s', tgrelid::regclass, tgname, tgenabled), ', '
                           ORDER BY tgrelid::regclass::text, tgname) FROM pg_trigger";
    for major in VERSIONS {
        let source = server(major).create_database("tree");
        source.sql(TREE);
        source.sql("INSERT INTO tree VALUES (1), (2), (2)");
        let folder = Folder::new();
        let conninfo = source.conninfo();
        for flags in [&[][..], &["--load-via-partition-root"]] {
            let file = folder.file("tree.rdump");
            let snapshot = ["snapshot", "-q", "-d", &conninfo, "-f", &file];
            support::rdump_ok(&[&snapshot[..], flags].concat());
            let target = server(major).create_database("tree_target");
            target.sql(TREE);
            target.sql(TRIGGERS);
            let before = target.query_text(STATES);
            assert!(before.contains("two of_rows D"), "{before}");
            let against = target.conninfo();
            let restore = ["restore", "-a", "--disable-triggers", "-d", &against, &file];
            support::rdump_ok(&restore);
            let rows = "SELECT string_agg(i::text, ' ' ORDER BY i) FROM tree";
            assert_eq!(target.query_text(rows), "1 2 2", "{flags:?}");
            assert_eq!(target.query_text(STATES), before, "{flags:?}");
        }
    }
}

fn hens(folder: &Folder) -> (TestDatabase, String) {
    let source = server(18).create_database("hens");
    source.sql(SCHEMA);
    source.sql(ROWS);
    let file = folder.file("hens.rdump");
    support::rdump_ok(&["snapshot", "-q", "-d", &source.conninfo(), "-f", &file]);
    let target = server(18).create_database("hens_target");
    target.sql(SCHEMA);
    (target, file)
}

/// Starts a restore, and ends it by a signal once `waits` is true; returns what it said.
fn ended(target: &TestDatabase, file: &str, more: &[&str], waits: &str) -> String {
    let against = target.conninfo();
    let restore = [
        "restore",
        "-a",
        "-q",
        "--disable-triggers",
        "-d",
        &against,
        file,
    ];
    let child = support::rdump_command(&[&restore[..], more].concat())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starting rdump");
    let mut tries = 0;
    while target.query_text(waits) != "t" {
        std::thread::sleep(Duration::from_millis(50));
        tries += 1;
        assert!(tries < 1200, "the restore did not come to wait");
    }
    // SAFETY: the process is our own child, and has not been waited for
    unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
    let output = child.wait_with_output().expect("its end");
    assert_eq!(output.status.code(), Some(143));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_signal_leaves_triggers_as_they_were() {
    let folder = Folder::new();
    let (target, file) = hens(&folder);
    target.sql(
        "CREATE FUNCTION slow(int) RETURNS bool LANGUAGE plpgsql AS
             'BEGIN PERFORM pg_sleep(600); RETURN true; END';
         ALTER TABLE egg ADD CHECK (public.slow(id)); ALTER TABLE hen ADD CHECK (public.slow(id))",
    );
    let waits = "SELECT count(*) > 0 FROM pg_stat_activity
                 WHERE datname = current_database() AND wait_event = 'PgSleep'";
    for more in [
        &["-j", "1"][..],
        &["-j", "3"],
        &["-1"],
        &["--transaction-size", "2"],
        &["-S", "postgres"],
    ] {
        let said = ended(&target, &file, more, waits);
        assert_eq!(said, "rdump: error: cancelled by a signal\n", "{more:?}");
        let states = target.query_text(STATES);
        assert_eq!(states, "refusingO replicatingR silentD", "{more:?}");
        assert_eq!(target.query_text(INTERNAL), "0", "{more:?}");
    }
}

/// What cannot be enabled within a reasonable time is told, with the statements that do it.
#[test]
fn a_signal_tells_of_triggers_that_stay_disabled() {
    let folder = Folder::new();
    let (target, file) = hens(&folder);
    let mut holder = target
        .server
        .program("psql")
        .args(["-X", "-q", "-U", "postgres", "-d", &target.name, "-c"])
        .arg("BEGIN; LOCK TABLE hen IN ROW EXCLUSIVE MODE; SELECT pg_sleep(600)")
        .stdout(Stdio::null())
        .spawn()
        .expect("starting psql");
    let locks = |granted: &str| {
        format!(
            "SELECT count(*) > 0 FROM pg_locks
             WHERE relation = 'hen'::regclass AND {granted} AND mode LIKE '%RowExclusive%'"
        )
    };
    let mut tries = 0;
    while target.query_text(&locks("granted")) != "t" {
        std::thread::sleep(Duration::from_millis(50));
        tries += 1;
        assert!(tries < 1200, "nobody holds the lock");
    }
    let said = ended(&target, &file, &[], &locks("NOT granted"));
    for told in [
        "rdump: error: cancelled by a signal\n",
        "hint: triggers may still be disabled (the server did not do it within 10 s); what enables them:",
        "ALTER TABLE public.hen ENABLE TRIGGER ALL;",
        "ALTER TABLE ONLY public.egg DISABLE TRIGGER silent;",
    ] {
        assert!(said.contains(told), "{told}: {said}");
    }
    target.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND query LIKE '%pg_sleep(600)%' AND pid <> pg_backend_pid()",
    );
    let _ = holder.wait();
}
