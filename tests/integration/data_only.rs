//! `restore -a`: rows into tables that have their foreign keys and triggers already.

use crate::errors::Folder;
use crate::support::{self, VERSIONS, server};

fn archive_of(source: &support::TestDatabase, folder: &Folder) -> String {
    let file = folder.file("archive.rdump");
    support::rdump_ok(&["snapshot", "-d", &source.conninfo(), "-f", &file]);
    file
}

/// The names are in the wrong order, and one table refers to itself.
#[test]
fn rows_come_after_those_that_they_refer_to() {
    for major in VERSIONS {
        let source = server(major).create_database("data_only");
        source.sql(
            "CREATE TABLE c_root (id int PRIMARY KEY) PARTITION BY RANGE (id);
             CREATE TABLE z_low PARTITION OF c_root FOR VALUES FROM (0) TO (1000);
             CREATE TABLE z_high PARTITION OF c_root FOR VALUES FROM (1000) TO (9000);
             CREATE TABLE b_parent (id int PRIMARY KEY, root int REFERENCES c_root);
             CREATE TABLE a_child (id int PRIMARY KEY, parent int REFERENCES b_parent, next int REFERENCES a_child);
             INSERT INTO c_root SELECT generate_series(0, 4999);
             INSERT INTO b_parent SELECT i, (i * 7) % 5000 FROM generate_series(1, 4000) i;
             INSERT INTO a_child SELECT i, i, nullif(i + 1, 4001) FROM generate_series(1, 4000) i;",
        );
        let folder = Folder::new();
        let file = archive_of(&source, &folder);
        let target = server(major).create_database_with("data_only", "TEMPLATE template0");
        for part in ["-s", "-a"] {
            let into = target.conninfo();
            support::rdump_ok(&["restore", part, &file, "-d", &into, "-j", "4"]);
        }
        support::assert_same_schema(&source, &target);
        support::assert_same_rows(&source, &target);
    }
}

/// Those who read the archive once need its rows in that order, and those who do not must be told of it:
/// it has no foreign keys.
#[test]
fn an_archive_of_rows_alone_has_them_in_order() {
    for major in VERSIONS {
        let source = server(major).create_database("rows_alone");
        source.sql(
            "CREATE TABLE c_root (id int PRIMARY KEY) PARTITION BY RANGE (id);
             CREATE TABLE z_low PARTITION OF c_root FOR VALUES FROM (0) TO (1000);
             CREATE TABLE z_high PARTITION OF c_root FOR VALUES FROM (1000) TO (9000) PARTITION BY RANGE (id);
             CREATE TABLE zz_higher PARTITION OF z_high FOR VALUES FROM (1000) TO (9000);
             CREATE TABLE b_parent (id int PRIMARY KEY, root int REFERENCES c_root);
             CREATE TABLE a_child (id int PRIMARY KEY, parent int REFERENCES b_parent, next int REFERENCES a_child);
             CREATE TABLE apart (t text);
             INSERT INTO c_root SELECT generate_series(0, 4999);
             INSERT INTO b_parent SELECT i, (i * 7) % 5000 FROM generate_series(1, 4000) i;
             INSERT INTO a_child SELECT i, i, nullif(i + 1, 4001) FROM generate_series(1, 4000) i;
             INSERT INTO apart SELECT repeat('x', 100) FROM generate_series(1, 5000);",
        );
        let folder = Folder::new();
        let (schema, rows) = (folder.file("schema.rdump"), folder.file("rows.rdump"));
        let conninfo = source.conninfo();
        support::rdump_ok(&["snapshot", "-s", "-d", &conninfo, "-f", &schema]);
        support::rdump_ok(&["snapshot", "-a", "-j", "4", "-d", &conninfo, "-f", &rows]);
        let archive = std::fs::read(&rows).expect("an archive");
        for way in ["file", "stream", "script", "script of a stream"] {
            let target = server(major).create_database_with("rows_alone", "TEMPLATE template0");
            let into = target.conninfo();
            support::rdump_ok(&["restore", &schema, "-d", &into]);
            match way {
                "file" => drop(support::rdump_ok(&[
                    "restore", &rows, "-d", &into, "-j", "4",
                ])),
                "stream" => {
                    let restore = ["restore", "-", "-d", &into, "-j", "4"];
                    support::run_ok(&mut support::rdump_command(&restore), &archive);
                }
                "script" => target.sql(&support::rdump_ok(&["sql", &rows]).text()),
                _ => {
                    let script =
                        support::run_ok(&mut support::rdump_command(&["sql", "-"]), &archive);
                    target.sql(&script.text());
                }
            }
            support::assert_same_rows(&source, &target);
        }
        // as a restore has it, without being asked
        let script = support::rdump_ok(&["sql", "--disable-triggers", &rows]).text();
        assert!(script.contains("ALTER TABLE public.a_child DISABLE TRIGGER ALL"));
    }
}

#[test]
fn what_cannot_be_put_in_order_is_told() {
    let source = server(18).create_database("data_only");
    source.sql(
        "CREATE TABLE one (id int PRIMARY KEY, two int);
         CREATE TABLE two (id int PRIMARY KEY, one int REFERENCES one);
         INSERT INTO one VALUES (1, 1);
         INSERT INTO two VALUES (1, 1);
         ALTER TABLE one ADD FOREIGN KEY (two) REFERENCES two;
         CREATE FUNCTION tenfold() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN new.a := new.a * 10; RETURN new; END $$;
         CREATE TABLE changed (a int);
         INSERT INTO changed VALUES (1);
         CREATE TRIGGER changes BEFORE INSERT ON changed FOR EACH ROW EXECUTE FUNCTION tenfold();",
    );
    let folder = Folder::new();
    let file = archive_of(&source, &folder);
    let target = server(18).create_database_with("data_only", "TEMPLATE template0");
    support::rdump_ok(&["restore", "-s", &file, "-d", &target.conninfo()]);
    let finished = support::rdump(&["restore", "-a", &file, "-d", &target.conninfo()]);
    assert_eq!(finished.code, 3, "{}", finished.stderr);
    for line in [
        "refer to each other: unless the target's foreign keys are deferred or dropped, their rows cannot be loaded",
        "TABLE DATA public.changed goes through triggers that may change it: changes",
    ] {
        assert!(finished.stderr.contains(line), "{}", finished.stderr);
    }
    // also where the first error is the end
    let finished = support::rdump(&["restore", "-a", "-1", &file, "-d", &target.conninfo()]);
    assert_eq!(finished.code, 1, "{}", finished.stderr);
    let told = "refer to each other";
    assert!(finished.stderr.contains(told), "{}", finished.stderr);
    for (flags, is_told) in [(&["-a"][..], true), (&["-a", "--disable-triggers"], false)] {
        let script = support::rdump_ok(&[&["sql"], flags, &[file.as_str()]].concat());
        assert_eq!(script.stderr.contains(told), is_told, "{}", script.stderr);
    }
}

/// What is restored has the default privileges of the target beside its own.
#[test]
fn default_privileges_of_the_target_are_told() {
    let source = server(18).create_database("data_only");
    source.sql("CREATE TABLE t (a int)");
    let folder = Folder::new();
    let file = archive_of(&source, &folder);
    let target = server(18).create_database_with("data_only", "TEMPLATE template0");
    target.sql("ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC");
    let finished = support::rdump_ok(&["restore", &file, "-d", &target.conninfo()]);
    assert!(
        finished
            .stderr
            .contains("the target has default privileges (1)"),
        "{}",
        finished.stderr
    );
}

/// A large table is cut, but not one that refers to itself: each piece is checked at its end.
#[test]
fn a_tree_is_not_cut() {
    for major in VERSIONS {
        let source = server(major).create_database("tree");
        let schema = "CREATE TABLE tree (id int PRIMARY KEY, parent int REFERENCES tree)";
        source.sql(schema);
        source.sql(
            "INSERT INTO tree SELECT i, nullif(i % 40000 + 1, i) FROM generate_series(1, 40000) i",
        );
        let folder = Folder::new();
        let file = folder.file("rows.rdump");
        let mut options = crate::hooked::options(&file, None);
        options.scope.parts.no_schema = true;
        options.least_slice = 64 << 10;
        options.jobs = 4;
        crate::hooked::run(&source.conninfo(), &options).expect("a snapshot");
        let target = server(major).create_database_with("tree", "TEMPLATE template0");
        target.sql(schema);
        let archive = std::fs::read(&file).expect("an archive");
        let mut restore = support::rdump_command(&["restore", "-", "-d", &target.conninfo()]);
        support::run_ok(&mut restore, &archive);
        support::assert_same_rows(&source, &target);
    }
}

/// What the archive does not say of tables may be so: values of identity columns are theirs.
#[test]
fn a_script_of_rows_alone_keeps_identities() {
    for major in VERSIONS {
        let source = server(major).create_database("identities");
        let schema = "CREATE TABLE numbered (id int GENERATED ALWAYS AS IDENTITY, t text); CREATE TABLE plain (i int)";
        source.sql(schema);
        source.sql("INSERT INTO numbered (t) VALUES ('a'), ('b'); INSERT INTO plain VALUES (1)");
        let folder = Folder::new();
        let file = folder.file("rows.rdump");
        support::rdump_ok(&["snapshot", "-a", "-d", &source.conninfo(), "-f", &file]);
        let target = server(major).create_database_with("identities", "TEMPLATE template0");
        target.sql(schema);
        target.sql(&support::rdump_ok(&["sql", "--inserts", &file]).text());
        support::assert_same_rows(&source, &target);
    }
}

/// A stream brings rows as they come, which is said.
#[test]
fn the_order_of_a_stream_is_told() {
    let source = server(18).create_database("as_they_come");
    source.sql("CREATE TABLE t (i int); INSERT INTO t VALUES (1)");
    let folder = Folder::new();
    let archive = std::fs::read(archive_of(&source, &folder)).expect("an archive");
    let target = server(18).create_database_with("as_they_come", "TEMPLATE template0");
    target.sql("CREATE TABLE t (i int)");
    let mut restore = support::rdump_command(&["restore", "-a", "-", "-d", &target.conninfo()]);
    let told = support::run_ok(&mut restore, &archive).stderr;
    assert!(
        told.contains("rows of a stream are loaded as they come"),
        "{told}"
    );
}
