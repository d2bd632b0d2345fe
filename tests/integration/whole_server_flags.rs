//! Flags of snapshots of a whole server. Its roles and databases are seen by all of these, so the tests
//! have a server of their own.

use super::errors::Folder;
use crate::support::{self, Server};

fn members(file: &str) -> Vec<String> {
    let list = support::rdump_ok(&["show", "-q", file]).text();
    let name = |line: &str| line.split(" (").next().unwrap_or_default().to_owned();
    list.lines().map(name).collect()
}

#[test]
fn filters_hold_for_every_database() {
    let server = Server::start(18, &[]);
    server.sql(
        "postgres",
        "CREATE DATABASE one; CREATE DATABASE two;
         CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C';
         CREATE DATABASE \"größe\"",
    );
    server.sql(
        "one",
        "CREATE TABLE sold (i int); INSERT INTO sold VALUES (1); CREATE TABLE other (i int)",
    );
    server.sql("two", "CREATE SCHEMA s; CREATE TABLE s.sold (i int)");
    // its name is in the other encoding
    server.sql(
        "latin",
        "SET client_encoding = 'UTF8'; CREATE DATABASE \"Gräte\"",
    );
    let folder = Folder::new();
    let file = folder.file("set.rdump");
    let latin = server.conninfo("latin");
    let taken = |flags: &[&str]| {
        let snapshot = ["snapshot", "--all-databases", "-d", &latin, "-f", &file];
        support::rdump(&[&snapshot[..], flags].concat())
    };
    let without_odd = [
        "--exclude-database=\"Gräte\"",
        "--exclude-database=GRÖSSE|größe",
    ];

    let finished = taken(&without_odd);
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    let all = ["globals", "latin", "one", "postgres", "template1", "two"];
    let named = |name: &&str| match *name {
        "globals" => "globals".to_owned(),
        name => format!("database {name}"),
    };
    assert_eq!(members(&file), all.iter().map(named).collect::<Vec<_>>());

    let finished = taken(&[&without_odd[..], &["-t", "sold"]].concat());
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    assert_eq!(members(&file).len(), all.len());
    for (database, has_it) in [("one", true), ("two", false), ("latin", false)] {
        let list = support::rdump_ok(&["show", "-q", &file, "--member", database]).text();
        assert_eq!(
            list.contains("TABLE public sold"),
            has_it,
            "{database}: {list}"
        );
        assert!(
            !list.contains("SCHEMA - s ") && !list.contains("other"),
            "{list}"
        );
        let warning = format!(
            "warning: database {database}: no matching tables were found; nothing of it is kept"
        );
        assert_eq!(
            finished.stderr.contains(&warning),
            !has_it,
            "{}",
            finished.stderr
        );
    }
    for (flags, message) in [
        (
            &["-t", "nowhere"][..],
            "error: in all databases: no matching tables were found",
        ),
        (
            &["--strict-names", "-t", "sold"],
            "no matching tables were found for pattern \"sold\"",
        ),
        (&["-n", "pg_catalog"], "schema pg_catalog is the system's"),
    ] {
        let finished = taken(&[&without_odd[..], flags].concat());
        assert_eq!(finished.code, 1, "{flags:?}: {}", finished.stderr);
        assert!(finished.stderr.contains(message), "{}", finished.stderr);
    }
    let finished = taken(&["--exclude-database=a.b"]);
    assert_eq!(finished.code, 2, "{}", finished.stderr);
}

/// Nothing else could be meant than what the archive does not hold.
#[test]
fn globals_are_taken_whole() {
    let conninfo = support::server(18).conninfo("postgres");
    let folder = Folder::new();
    let file = folder.file("globals.rdump");
    for of in ["-g", "--roles-only", "--tablespaces-only"] {
        for flags in [
            &["-t", "x"][..],
            &["-n", "x"],
            &["-T", "x"],
            &["-a"],
            &["-s"],
            &["--statistics"],
            &["--no-comments"],
            &["-B"],
            &["-E", "UTF8"],
        ] {
            let snapshot = ["snapshot", of, "-d", &conninfo, "-f", &file];
            let finished = support::rdump(&[&snapshot[..], flags].concat());
            assert_eq!(finished.code, 2, "{of} {flags:?}: {}", finished.stderr);
            assert!(
                finished.stderr.contains("are taken whole"),
                "{}",
                finished.stderr
            );
        }
    }
    assert_eq!(folder.names(), Vec::<String>::new());
}

#[test]
fn a_member_is_chosen_of_sets_alone() {
    let archive = support::fixture_path("archives/good-zstd.rdump");
    let archive = archive.to_str().expect("a plain path");
    for choice in [&["--member", "x"][..], &["-g"]] {
        for command in ["verify", "show", "sql"] {
            let finished = support::rdump(&[&[command, archive], choice].concat());
            assert_eq!(finished.code, 2, "{command}: {}", finished.stderr);
            let message = "this is one archive, not a set: there is no member to choose";
            assert!(finished.stderr.contains(message), "{}", finished.stderr);
        }
    }
    let set = std::fs::read(support::fixture_path("sets/good.rdump")).expect("a set");
    for choice in [&[][..], &["-g"]] {
        let mut script = support::rdump_command(&[&["sql", "-"], choice].concat());
        let finished = support::run(&mut script, &set);
        assert_eq!(finished.code, 2, "{}", finished.stderr);
        let hint = "hint: a member is chosen from a file, not from standard input";
        assert!(finished.stderr.contains(hint), "{}", finished.stderr);
    }
}

#[test]
fn globals_have_no_tables() {
    let conninfo = support::server(18).conninfo("postgres");
    let set = support::fixture_path("sets/good.rdump");
    let set = set.to_str().expect("a plain path");
    let finished = support::rdump(&["restore", set, "-g", "-t", "nothing", "-d", &conninfo]);
    assert_eq!(finished.code, 1, "{}", finished.stderr);
    let message = "nothing in the archive matches the filters";
    assert!(finished.stderr.contains(message), "{}", finished.stderr);

    let script = support::rdump_ok(&["sql", set, "-g"]).text();
    assert!(
        script.contains("\n-- Globals of a server, snapshot of 20"),
        "{script}"
    );
}

#[test]
fn a_list_is_as_long_as_wanted() {
    let source = support::server(18).create_database("listed");
    source.sql("CREATE TABLE t (i int PRIMARY KEY); INSERT INTO t VALUES (1)");
    let folder = Folder::new();
    let file = folder.file("archive.rdump");
    support::rdump_ok(&["snapshot", "-d", &source.conninfo(), "-f", &file]);
    let list = |flags: &[&str]| support::rdump_ok(&[&["show", &file], flags].concat()).text();
    let usual = list(&[]);
    assert!(
        usual.contains(" entries, 1 row, 2 bytes of rows\n"),
        "{usual}"
    );
    assert!(
        usual.contains("; TABLE DATA public t postgres (1 row, 2 bytes)\n"),
        "{usual}"
    );
    let entries: String = usual
        .lines()
        .filter(|line| !line.starts_with(';'))
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!(list(&["-q"]), entries);
    let long = list(&["-v"]);
    let number = |what: &str| {
        let line = usual.lines().find(|line| line.contains(what)).expect(what);
        line.split(';').next().expect("a number").to_owned()
    };
    let rows = format!(
        "(1 row, 2 bytes)\n;     depends on: {}\n",
        number("; TABLE public t ")
    );
    assert!(long.contains(&rows), "{long}");
    // it is still a list for -L
    let listed = folder.file("list");
    std::fs::write(&listed, &long).expect("a list");
    let target = support::server(18).create_database_with("listed", "TEMPLATE template0");
    support::rdump_ok(&["restore", &file, "-L", &listed, "-d", &target.conninfo()]);
    support::assert_same_schema(&source, &target);
}

/// It is so in every new database.
#[test]
fn the_owner_of_public_is_written_where_it_is_not_the_usual() {
    for major in support::VERSIONS {
        let source = support::server(major).create_database("public_owner");
        let folder = Folder::new();
        let file = folder.file("archive.rdump");
        let script = || {
            support::rdump_ok(&["snapshot", "-d", &source.conninfo(), "-f", &file]);
            support::rdump_ok(&["sql", &file]).text()
        };
        assert!(!script().contains("SCHEMA public"));
        source.sql("ALTER SCHEMA public OWNER TO postgres");
        assert!(script().contains("\nALTER SCHEMA public OWNER TO postgres;\n"));
    }
}
