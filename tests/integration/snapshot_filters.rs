//! The filters of snapshot, judged by pg_dump 18: the same flags store the same objects, and make the
//! same database.

use std::collections::BTreeSet;

use super::errors::Folder;
use crate::support::{self, TestDatabase, server};

/// One database with something of everything.
fn all_kinds(major: u32) -> TestDatabase {
    server(major).ensure_roles();
    let database = server(major).create_database("filtered");
    for name in support::kinds() {
        if name != "default_privileges" {
            support::load_kind(&database, &name);
        }
    }
    // what these say holds for all that is made after them
    support::load_kind(&database, "default_privileges");
    database
}

/// Sets of flags that pg_dump and rdump take alike.
const FLAGS: &[&[&str]] = &[
    &["-s"],
    &["-a"],
    &["--no-data"],
    &["--no-schema"],
    &["--no-data", "--no-schema"],
    &["--section=pre-data"],
    &["--section=data"],
    &["--section=post-data"],
    &["--section=data", "--section=post-data"],
    &["-a", "--section=pre-data"],
    &["-x"],
    &["--no-comments"],
    &["--no-policies"],
    &["--no-publications"],
    &["--no-subscriptions"],
    &["--no-unlogged-table-data"],
    &["-B"],
    &["-b"],
    &["-b", "-s"],
    &["--blobs", "-n", "tables"],
    &["--sequence-data", "-s"],
    &["--sequence-data", "--no-data", "-n", "sequences"],
    // schemas
    &["-n", "tables"],
    &["-n", "Tables"],
    &["-n", "public"],
    &["-n", "part*", "-n", "idx*", "-n", "t?bles"],
    &["-n", "(tables|views)"],
    &["-n", "t[a-z]{5}"],
    &["-n", "names*"],
    &["-n", "\"Odd \"\"search\"\"\""],
    &["-n", "tables", "-n", "nowhere"],
    &["-n", "privileges", "-x"],
    &["-n", "abroad", "-s"],
    &["-n", "extensions"],
    &["-n", "inheritance", "-T", "*.parent"],
    &["-n", "triggers", "-T", "triggers.*"],
    &["-n", "tables", "-b"],
    &["-N", "tables"],
    &["-N", "public"],
    &["-N", "*a*"],
    &["-N", "nowhere"],
    // relations
    &["-t", "partitions.*"],
    &["-t", "tables.*", "-t", "keys.*"],
    &["-t", "sequences.*"],
    &["-t", "views.*"],
    &["-t", "materialized_views.*"],
    &["-t", "abroad.*"],
    &["-t", "extensions.*"],
    &["-t", "privileges.*", "-b"],
    &["-t", "*.*_seq"],
    &["-t", "nowhere", "-t", "tables.*"],
    &["-T", "*.*_seq"],
    &["-T", "partitions.*"],
    &["-T", "*.thing"],
    &["--table-and-children", "inheritance.*"],
    &["--table-and-children", "partitions.*"],
    &["--exclude-table-and-children", "partitions.*"],
    // rows
    &["--exclude-table-data", "*.thing"],
    &["--exclude-table-data", "sequences.*"],
    &["--exclude-table-data", "materialized_views.*"],
    &["--exclude-table-data-and-children", "partitions.*"],
    // extensions
    &["-e", "hstore"],
    &["-e", "*"],
    &["-e", "rdump_settings"],
    &["-n", "tables", "-e", "hstore"],
    &["-t", "tables.*", "-e", "rdump*"],
    &["--exclude-extension", "rdump_settings"],
    &["--exclude-extension", "*"],
];

/// A list of `pg_restore -l` or `rdump show`, as entries that can be compared: both end with the
/// owner, `-` or nothing if there is none.
fn entries(list: &str, columns: usize) -> BTreeSet<String> {
    let mut entries = BTreeSet::new();
    for line in list.lines().filter(|line| !line.starts_with(';')) {
        let entry = match line.split_once("; ") {
            None => line,
            Some((_, entry)) => entry.splitn(columns, ' ').last().unwrap_or_default(),
        };
        let entry = entry.split(" (").next().unwrap_or_default();
        let entry = entry.trim_end_matches(" -").trim_end();
        let words: Vec<&str> = entry.split(' ').collect();
        entries.insert(match words[0] {
            "" | "ENCODING" | "STDSTRINGS" | "SEARCHPATH" => continue,
            "BLOB" | "BLOBS" => "large objects".to_owned(),
            // spelt otherwise: whether a schema has any counts here, and what they say elsewhere
            kind @ ("ACL" | "COMMENT") if entry.contains(" LARGE OBJECT") => {
                format!("{kind} of large objects")
            }
            kind @ ("ACL" | "COMMENT") => format!("{kind} in {}", words[1]),
            _ => entry.to_owned(),
        });
    }
    entries
}

fn entries_of_pg_dump(source: &TestDatabase, flags: &[&str]) -> BTreeSet<String> {
    let judge = server(18);
    let dump = format!("/tmp/{}.dump", source.name);
    judge.pg_dump(&[&["-Fc", "-f", &dump], flags].concat(), source);
    let mut pg_restore = judge.program("pg_restore");
    let list = support::run_ok(pg_restore.args(["-l", &dump]), b"").text();
    // the two OIDs stand before the kind
    entries(&list, 3)
}

fn entries_of_rdump(source: &TestDatabase, flags: &[&str], folder: &Folder) -> BTreeSet<String> {
    let file = folder.file("listed.rdump");
    let conninfo = source.conninfo();
    let snapshot = ["snapshot", "-q", "--no-sync", "-d", &conninfo, "-f", &file];
    support::rdump_ok(&[&snapshot[..], flags].concat());
    entries(&support::rdump_ok(&["show", &file]).text(), 1)
}

/// Which entries an archive has. Without flags the two differ by a few names and by how they break
/// loops; with flags, by nothing else.
fn same_entries(major: u32) {
    let source = all_kinds(major);
    let folder = Folder::new();
    let (theirs, ours) = (
        entries_of_pg_dump(&source, &[]),
        entries_of_rdump(&source, &[], &folder),
    );
    let usual: BTreeSet<&String> = theirs.symmetric_difference(&ours).collect();
    assert!(usual.len() < 40 && ours.len() > 900, "{usual:?}");
    let mut failed = String::new();
    for flags in FLAGS {
        let (theirs, ours) = (
            entries_of_pg_dump(&source, flags),
            entries_of_rdump(&source, flags, &folder),
        );
        // what is in a loop depends on what is there
        let is_new = |entry: &&String| {
            let in_loop = entry.contains(" dependencies ") || entry.contains("functions thing");
            !usual.contains(entry) && !in_loop
        };
        for entry in theirs.difference(&ours).filter(is_new) {
            failed.push_str(&format!("{flags:?} - {entry}\n"));
        }
        for entry in ours.difference(&theirs).filter(is_new) {
            failed.push_str(&format!("{flags:?} + {entry}\n"));
        }
    }
    assert!(failed.is_empty(), "-pg_dump +rdump\n{failed}");
}

#[test]
fn entries_as_pg_dump_has_them_of_15() {
    same_entries(15);
}

#[test]
fn entries_as_pg_dump_has_them_of_18() {
    same_entries(18);
}

/// What these make of an empty database with the schemas of the source, or of one without them.
const RESTORED: &[(bool, &[&str])] = &[
    (false, &["-s"]),
    (false, &["--section=pre-data", "--section=post-data", "-x"]),
    (
        false,
        &["--no-comments", "--no-policies", "--no-publications"],
    ),
    (false, &["-n", "tables", "-n", "views", "-n", "privileges"]),
    (
        false,
        &["-n", "comments", "-n", "policies", "-n", "sequences", "-b"],
    ),
    (false, &["-N", "*a*", "--exclude-extension", "*"]),
    (false, &["-e", "*", "-n", "extensions"]),
    (
        true,
        &["-t", "tables.*", "-t", "keys.*", "-t", "sequences.*"],
    ),
    (
        true,
        &[
            "-t",
            "partitions.*",
            "-t",
            "policies.*",
            "-t",
            "comments.*",
            "-x",
        ],
    ),
    (
        true,
        &[
            "--table-and-children",
            "partitions.*",
            "--exclude-table-data",
            "*.*_seq",
        ],
    ),
    (
        false,
        &["-T", "partitions.*", "--exclude-table-data", "tables.*"],
    ),
    // pg_dump loads a row of "dependencies" before what its partition's key needs
    (
        false,
        &[
            "--no-unlogged-table-data",
            "--load-via-partition-root",
            "--no-toast-compression",
            "-N",
            "dependencies",
        ],
    ),
];

fn same_database(major: u32) {
    let source = all_kinds(major);
    let judge = server(18);
    judge.copy_roles(source.server);
    // their tablespaces too
    judge.ensure_roles();
    let schemas = source.query_text(
        "SELECT string_agg(format('CREATE SCHEMA %I;', nspname), ' ') FROM pg_namespace
         WHERE nspname !~ '^pg_' AND nspname NOT IN ('public', 'information_schema')",
    );
    let folder = Folder::new();
    let mut failed = Vec::new();
    for (with_schemas, flags) in RESTORED {
        let target = || {
            let target = judge.create_database_with("filtered_target", "TEMPLATE template0");
            if *with_schemas {
                target.sql(&schemas);
            }
            target
        };
        let (ours, theirs) = (target(), target());
        let dump = judge.pg_dump(flags, &source);
        // goes on after errors, as a restore does
        let mut psql = judge.program("psql");
        psql.args(["-X", "-q", "-U", "postgres", "-d", &theirs.name]);
        support::run(&mut psql, dump.as_bytes());
        let file = folder.file("restored.rdump");
        let conninfo = source.conninfo();
        let snapshot = ["snapshot", "-q", "--no-sync", "-d", &conninfo, "-f", &file];
        support::rdump_ok(&[&snapshot[..], flags].concat());
        let finished = support::rdump(&["restore", "-q", "--force", "-d", &ours.conninfo(), &file]);
        assert!(
            [0, 3].contains(&finished.code),
            "{flags:?}: {}",
            finished.stderr
        );
        let outcome = std::panic::catch_unwind(|| {
            support::assert_same_schema(&theirs, &ours);
            support::assert_same_rows(&theirs, &ours);
        });
        if outcome.is_err() {
            failed.push(format!("{flags:?}: {}", finished.stderr));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn databases_as_pg_dump_makes_them_of_15() {
    same_database(15);
}

#[test]
fn databases_as_pg_dump_makes_them_of_18() {
    same_database(18);
}
