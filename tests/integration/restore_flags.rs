//! What restore does beside choosing: triggers that are disabled, tables that could not be created,
//! filter files, and archives that hold a part of a database.

use super::errors::Folder;
use crate::support::{self, TestDatabase, VERSIONS, server};

pub(super) const SCHEMA: &str = "
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN RAISE EXCEPTION ''not now''; END';
    CREATE TABLE egg (id int PRIMARY KEY, hen int);
    CREATE TABLE hen (id int PRIMARY KEY, egg int REFERENCES egg DEFERRABLE, mother int REFERENCES hen);
    ALTER TABLE egg ADD FOREIGN KEY (hen) REFERENCES hen;
    CREATE TRIGGER refusing BEFORE INSERT ON egg FOR EACH ROW EXECUTE FUNCTION refuse();
    CREATE TRIGGER silent BEFORE INSERT ON egg FOR EACH ROW EXECUTE FUNCTION refuse();
    CREATE TRIGGER replicating BEFORE INSERT ON egg FOR EACH ROW EXECUTE FUNCTION refuse();
    ALTER TABLE egg DISABLE TRIGGER silent;
    ALTER TABLE egg ENABLE REPLICA TRIGGER replicating;";

/// Each refers to the other.
pub(super) const ROWS: &str = "
    SET session_replication_role = replica;
    ALTER TABLE egg DISABLE TRIGGER replicating;
    INSERT INTO hen SELECT i, i, i + 1 FROM generate_series(1, 1999) i;
    INSERT INTO hen VALUES (2000, 2000, 1);
    INSERT INTO egg SELECT i, 2001 - i FROM generate_series(1, 2000) i;
    ALTER TABLE egg ENABLE REPLICA TRIGGER replicating;";

pub(super) const STATES: &str =
    "SELECT string_agg(tgname::text || tgenabled::text, ' ' ORDER BY tgname) FROM pg_trigger
     WHERE tgrelid = 'egg'::regclass AND NOT tgisinternal";

fn counts(database: &TestDatabase) -> String {
    database.query_text("SELECT (SELECT count(*) FROM hen), (SELECT count(*) FROM egg)")
}

#[test]
fn triggers_are_disabled_and_enabled_again() {
    for major in VERSIONS {
        let source = server(major).create_database("hens");
        source.sql(SCHEMA);
        source.sql(ROWS);
        let folder = Folder::new();
        let conninfo = source.conninfo();
        for (flags, file) in [
            (&[][..], folder.file("all.rdump")),
            (&["-a"], folder.file("rows.rdump")),
        ] {
            let snapshot = ["snapshot", "-q", "-d", &conninfo, "-f", &file];
            support::rdump(&[&snapshot[..], flags].concat());
            let target = server(major).create_database("hens_target");
            target.sql(SCHEMA);
            let against = target.conninfo();
            let restore = ["restore", "-a", "-q", "-j", "3", "-d", &against, &file];
            let finished = support::rdump(&restore);
            assert_eq!(finished.code, 3, "{}", finished.stderr);
            assert_ne!(counts(&target), "2000|2000");
            target.sql("TRUNCATE hen, egg");
            for more in [&[][..], &["-S", "postgres"], &["-1", "-j", "1"]] {
                let restore = [
                    "restore",
                    "-a",
                    "-q",
                    "--disable-triggers",
                    "-d",
                    &against,
                    &file,
                ];
                let finished = support::rdump(&[&restore[..], more].concat());
                assert_eq!(
                    (finished.code, &*finished.stderr),
                    (0, ""),
                    "{flags:?} {more:?}"
                );
                assert_eq!(counts(&target), "2000|2000");
                let states = target.query_text(STATES);
                assert_eq!(
                    states, "refusingO replicatingR silentD",
                    "{flags:?} {more:?}"
                );
                let internal =
                    "SELECT count(*) FROM pg_trigger WHERE tgisinternal AND tgenabled <> 'O'";
                assert_eq!(target.query_text(internal), "0");
                target.sql("TRUNCATE hen, egg");
            }
        }
    }
}

/// What fails half way leaves the triggers as they were.
#[test]
fn triggers_are_enabled_again_after_an_error() {
    let source = server(18).create_database("hens");
    source.sql(SCHEMA);
    source.sql(ROWS);
    let folder = Folder::new();
    let file = folder.file("all.rdump");
    support::rdump_ok(&["snapshot", "-q", "-d", &source.conninfo(), "-f", &file]);
    let target = server(18).create_database("hens_target");
    target.sql(SCHEMA);
    target.sql("ALTER TABLE hen ADD CHECK (id < 1000)");
    for more in [
        &["-e"][..],
        &["-1", "-j", "1"],
        &["-j", "2"],
        &["-j", "2", "-e"],
        &["--transaction-size", "2"],
        &["--transaction-size", "2", "-j", "2"],
    ] {
        let against = target.conninfo();
        let restore = [
            "restore",
            "-a",
            "-q",
            "--disable-triggers",
            "-d",
            &against,
            &file,
        ];
        let finished = support::rdump(&[&restore[..], more].concat());
        assert_ne!(finished.code, 0, "{more:?}");
        assert!(
            finished.stderr.contains("hen_id_check"),
            "{}",
            finished.stderr
        );
        let states = target.query_text(STATES);
        assert_eq!(states, "refusingO replicatingR silentD", "{more:?}");
        let internal = "SELECT count(*) FROM pg_trigger WHERE tgisinternal AND tgenabled <> 'O'";
        assert_eq!(target.query_text(internal), "0", "{more:?}");
        target.sql("TRUNCATE hen, egg");
    }
}

#[test]
fn no_rows_for_tables_that_could_not_be_created() {
    for major in VERSIONS {
        let source = server(major).create_database("failing");
        source.sql(
            "CREATE TABLE a (i int); INSERT INTO a VALUES (1), (2);
                    CREATE TABLE b (i int); INSERT INTO b VALUES (3)",
        );
        let folder = Folder::new();
        let file = folder.file("failing.rdump");
        support::rdump_ok(&["snapshot", "-q", "-d", &source.conninfo(), "-f", &file]);
        for (more, rows) in [(&[][..], "2|1"), (&["--no-data-for-failed-tables"], "0|1")] {
            let target = server(major).create_database("failing_target");
            target.sql("CREATE TABLE a (i int)");
            let against = target.conninfo();
            let restore = ["restore", "--force", "-q", "-d", &against, &file];
            let finished = support::rdump(&[&restore[..], more].concat());
            assert_eq!(finished.code, 3, "{}", finished.stderr);
            let counts = "SELECT (SELECT count(*) FROM a), (SELECT count(*) FROM b)";
            assert_eq!(target.query_text(counts), rows, "{more:?}");
            let said = "rdump: warning: TABLE DATA public.a: not loaded, since the table could not be created\n";
            assert_eq!(
                finished.stderr.contains(said),
                !more.is_empty(),
                "{}",
                finished.stderr
            );
            assert!(
                finished
                    .stderr
                    .contains("1 of 5 entries could not be restored"),
                "{}",
                finished.stderr
            );
        }
    }
}

#[test]
fn filters_from_a_file_and_strict_names() {
    let source = server(18).create_database("from_file");
    source.sql("CREATE TABLE a (i int); CREATE TABLE b (i int); CREATE INDEX a_i ON a (i);");
    let folder = Folder::new();
    let (file, filter) = (folder.file("a.rdump"), folder.file("filter"));
    support::rdump_ok(&["snapshot", "-q", "-d", &source.conninfo(), "-f", &file]);
    std::fs::write(&filter, "include table a # first\ninclude index a_i\n").expect("writing");
    let shown = support::rdump_ok(&["show", "--filter", &filter, &file]).text();
    let kinds: Vec<&str> = shown
        .lines()
        .filter_map(|line| line.split_once("; "))
        .map(|(_, entry)| entry.split(" public ").next().unwrap_or_default())
        .filter(|kind| !kind.starts_with(' '))
        .filter(|kind| !kind.starts_with("Archive"))
        .collect();
    assert_eq!(kinds, ["TABLE", "TABLE DATA", "INDEX"]);
    std::fs::write(&filter, "include table a\n\ninclude table_data a\n").expect("writing");
    let finished = support::rdump(&["show", "--filter", &filter, &file]);
    assert_eq!(finished.code, 1);
    let said = format!(
        "rdump: error: invalid format in filter read from file \"{filter}\" on line 3: include filter for \"table data\" is not allowed\n"
    );
    assert!(finished.stderr.starts_with(&said), "{}", finished.stderr);
    let target = server(18).create_database("from_file_target");
    let against = target.conninfo();
    let restore = [
        "restore", "-q", "-d", &against, &file, "-t", "a", "-t", "nope",
    ];
    let finished = support::rdump(&[&restore[..], &["--strict-names"]].concat());
    assert_eq!(
        (finished.code, &*finished.stderr),
        (
            1,
            "rdump: error: -t nope matches nothing in the archive\nrdump: hint: rdump show lists what it holds\n"
        )
    );
    assert_eq!(target.query_text("SELECT to_regclass('a')"), "");
    assert_eq!(support::rdump(&restore).code, 0);
    assert_eq!(target.query_text("SELECT to_regclass('a')"), "a");
}

/// An archive of a part is added to what is there, as a part of an archive is.
#[test]
fn archives_of_sections_make_one_database() {
    for major in VERSIONS {
        let source = server(major).create_database("sections");
        support::load_sample(&source, 1);
        let folder = Folder::new();
        let target = server(major).create_database_with("sections_target", "TEMPLATE template0");
        for section in ["pre-data", "data", "post-data"] {
            let file = folder.file(section);
            let conninfo = source.conninfo();
            support::rdump_ok(&[
                "snapshot",
                "-q",
                "--section",
                section,
                "-d",
                &conninfo,
                "-f",
                &file,
            ]);
            let finished = support::rdump(&["restore", "-q", "-d", &target.conninfo(), &file]);
            assert_eq!((finished.code, &*finished.stderr), (0, ""), "{section}");
        }
        support::assert_same_schema(&source, &target);
        support::assert_same_rows(&source, &target);
    }
}

/// No filter is to blame for what was not there to be taken.
#[test]
fn an_archive_of_nothing() {
    let source = server(18).create_database("nothing");
    source.sql("DROP SCHEMA public");
    let folder = Folder::new();
    let conninfo = source.conninfo();
    let target = server(18).create_database("nothing_target");
    let against = target.conninfo();
    let (file, rows) = (folder.file("nothing.rdump"), folder.file("rows.rdump"));
    for (taken, file) in [(&["-s"][..], &file), (&["-a"], &rows), (&[], &file)] {
        let snapshot = ["snapshot", "-q", "-d", &conninfo, "-f", file];
        support::rdump_ok(&[&snapshot[..], taken].concat());
        for more in [&[][..], &["-a"], &["-1"]] {
            let restore = ["restore", "-d", &against, file];
            let finished = support::rdump_ok(&[&restore[..], more].concat());
            for told in [
                "warning: the archive holds no objects: there is nothing to restore",
                "complete: 0 entries, 0 rows",
            ] {
                assert!(
                    finished.stderr.contains(told),
                    "{taken:?} {more:?} {told}: {}",
                    finished.stderr
                );
            }
        }
    }
    let finished = support::rdump(&["restore", "-d", &against, &file, "-t", "nope"]);
    assert_eq!(finished.code, 1);
    assert!(
        finished
            .stderr
            .contains("nothing in the archive matches the filters"),
        "{}",
        finished.stderr
    );
}
