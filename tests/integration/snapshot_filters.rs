//! The filters of snapshot, judged by pg_dump 18: the same flags store the same objects, and make the
//! same database.

use std::collections::BTreeSet;

use super::errors::{Folder, expect_rdump};
use crate::support::{self, TestDatabase, VERSIONS, server};

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

const SHOP: &str = r#"
CREATE SCHEMA sales;
CREATE TABLE public.item (i int);
CREATE TABLE sales.item (i int);
CREATE TABLE sales.sold (i int, r float4 DEFAULT 0.1);
CREATE TABLE sales."Größe" (i int);
INSERT INTO public.item VALUES (1);
INSERT INTO sales.sold VALUES (1), (2);
"#;

fn shop(major: u32, prefix: &str) -> TestDatabase {
    let database = server(major).create_database(prefix);
    database.sql(SHOP);
    database
}

/// Names of the tables that an archive has rows of.
fn tables(file: &str) -> Vec<String> {
    let list = support::rdump_ok(&["show", "--section", "data", file]).text();
    list.lines()
        .filter_map(|line| line.split_once("; TABLE DATA "))
        .map(|(_, entry)| entry.split(' ').take(2).collect::<Vec<_>>().join("."))
        .collect()
}

/// What is not chosen is not waited for.
#[test]
fn only_what_is_chosen_is_locked() {
    for major in VERSIONS {
        let source = shop(major, "chosen");
        let folder = Folder::new();
        let file = folder.file("chosen.rdump");
        let conninfo = source.conninfo();
        let mut psql = source.server.program("psql");
        psql.args(["-X", "-q", "-U", "postgres", "-d", &source.name]);
        psql.stdin(std::process::Stdio::piped());
        let mut locking = psql.spawn().expect("starting psql");
        let mut stdin = locking.stdin.take().expect("stdin is piped");
        std::io::Write::write_all(
            &mut stdin,
            b"BEGIN; LOCK TABLE sales.sold IN ACCESS EXCLUSIVE MODE;\n",
        )
        .expect("writing to psql");
        let held = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted
                    AND relation = 'sales.sold'::regclass";
        let started = std::time::Instant::now();
        while source.query_text(held) != "1" {
            assert!(started.elapsed().as_secs() < 30, "the table is not locked");
        }
        let snapshot = ["snapshot", "-q", "-d", &conninfo, "-f", &file];
        let with = |flags: &[&str]| {
            support::rdump(&[&snapshot[..], &["--lock-wait-timeout", "300ms"], flags].concat())
        };
        for flags in [
            &["-t", "item"][..],
            &["-T", "sales.sold"],
            &["-N", "sales"],
            &["-n", "public"],
        ] {
            let finished = with(flags);
            assert_eq!((finished.code, &*finished.stderr), (0, ""), "{flags:?}");
        }
        // it would have been waited for, for its definition too
        for flags in [
            &[][..],
            &["-t", "sales.*"],
            &["--exclude-table-data", "sales.sold"],
        ] {
            let finished = with(flags);
            assert_eq!(finished.code, 1, "{flags:?}");
            assert!(
                finished.stderr.contains("could not lock all tables"),
                "{flags:?}: {}",
                finished.stderr
            );
        }
        drop(stdin);
        locking.wait().expect("waiting for psql");
    }
}

/// A name without a schema is looked up as a query would.
#[test]
fn names_mean_what_the_search_path_makes_of_them() {
    let source = shop(18, "search_path");
    let folder = Folder::new();
    let file = folder.file("path.rdump");
    let conninfo = source.conninfo();
    let snapshot = ["snapshot", "-q", "-d", &conninfo, "-f", &file];
    let with = |flags: &[&str]| {
        support::rdump_ok(&[&snapshot[..], flags].concat());
        tables(&file)
    };
    assert_eq!(with(&["-t", "item"]), ["public.item"]);
    assert_eq!(with(&["-t", "*.item"]), ["public.item", "sales.item"]);
    assert_eq!(with(&["-t", "sales.\"Größe\""]), ["sales.Größe"]);
    assert_eq!(with(&["-t", "sales.*ö?e"]), ["sales.Größe"]);
    source.sql(&format!(
        "ALTER DATABASE {} SET search_path = sales, public",
        source.name
    ));
    assert_eq!(with(&["-t", "item"]), ["sales.item"]);
    assert_eq!(
        with(&["-t", "s?ld", "-t", "public.item"]),
        ["public.item", "sales.sold"]
    );
}

/// Arguments are UTF-8, whatever the database is.
#[test]
fn patterns_in_another_encoding() {
    for options in [
        "ENCODING 'LATIN1' LOCALE 'C'",
        "ENCODING 'SQL_ASCII' LOCALE 'C'",
    ] {
        let source =
            server(18).create_database_with("latin", &format!("TEMPLATE template0 {options}"));
        source.sql(&format!("SET client_encoding = 'UTF8'; {SHOP}"));
        let folder = Folder::new();
        let file = folder.file("latin.rdump");
        let conninfo = source.conninfo();
        let snapshot = ["snapshot", "-q", "-d", &conninfo, "-f", &file];
        // in quotes, * stands for itself
        let finished = support::rdump(&[&snapshot[..], &["-t", "sales.\"Gr*ß*\""]].concat());
        assert!(
            finished.stderr.contains("no matching tables were found"),
            "{options}: {}",
            finished.stderr
        );
        support::rdump_ok(&[&snapshot[..], &["-t", "sales.*ß*"]].concat());
        assert_eq!(tables(&file).len(), 1, "{options}");
        let finished = support::rdump(&[&snapshot[..], &["-t", "sales.snow☃*"]].concat());
        assert_eq!(finished.code, 1, "{options}: {}", finished.stderr);
    }
}

#[test]
fn what_finds_nothing_and_what_cannot_be() {
    let source = shop(18, "nothing");
    let folder = Folder::new();
    let file = folder.file("nothing.rdump");
    let conninfo = source.conninfo();
    let snapshot = ["snapshot", "-q", "-d", &conninfo, "-f", &file];
    let quoting = "rdump: hint: names are folded to lower case unless they stand in double quotes within the argument\n";
    let dots = "rdump: hint: put names that have dots in them in double quotes\n";
    for (flags, message, hint) in [
        (
            &["-n", "nope"][..],
            "no matching schemas were found",
            quoting,
        ),
        (&["-t", "nope"], "no matching tables were found", quoting),
        (
            &["-t", "\"Item\""],
            "no matching tables were found",
            quoting,
        ),
        (
            &["-e", "nope"],
            "no matching extensions were found",
            quoting,
        ),
        (
            &["--include-foreign-data", "nope"],
            "no matching foreign servers were found for pattern \"nope\"",
            "",
        ),
        (
            &["--strict-names", "-n", "sales", "-n", "nope"],
            "no matching schemas were found for pattern \"nope\"",
            "",
        ),
        (
            &["--strict-names", "-t", "item", "-t", "no*pe"],
            "no matching tables were found for pattern \"no*pe\"",
            "",
        ),
        (
            &["-t", "a.b.c.d"],
            "improper relation name (too many dotted names): a.b.c.d",
            dots,
        ),
        (
            &["-e", "a.b"],
            "improper qualified name (too many dotted names): a.b",
            dots,
        ),
        (
            &["-t", "other.public.item"],
            "cross-database references are not implemented: other.public.item",
            dots,
        ),
        (
            &["-n", "pg_catalog"],
            "schema pg_catalog is the system's: what is in it is not kept",
            "",
        ),
        (
            &["-t", "pg_catalog.pg_class"],
            "relation pg_class is the system's: it is not kept",
            "",
        ),
        (
            &["--table-and-children", "information_schema.tables"],
            "relation tables is the system's: it is not kept",
            "",
        ),
    ] {
        let arguments = [&snapshot[..], flags].concat();
        expect_rdump(&arguments, 1, &format!("rdump: error: {message}\n{hint}"));
    }
    assert_eq!(folder.names(), Vec::<String>::new());
    // what excludes may find nothing
    let own = format!("{}.public.item", source.name);
    for flags in [
        &["-N", "nope", "-T", "nope", "--exclude-table-data", "nope"][..],
        &["--strict-names", "-t", "item", "-T", "nope"],
        &["-t", &own],
    ] {
        expect_rdump(&[&snapshot[..], flags].concat(), 0, "");
    }
    // refused before anything is connected to
    for flags in [
        &["-a", "-s"][..],
        &["-a", "--no-data"],
        &["-s", "--no-schema"],
        &["-a", "-c"],
        &["--if-exists"],
        &["--section", "nope"],
        &["-s", "--include-foreign-data", "x"],
    ] {
        let finished = support::rdump(&[&snapshot[..], flags].concat());
        assert_eq!(finished.code, 2, "{flags:?}: {}", finished.stderr);
    }
    let finished = support::rdump(&[&snapshot[..], &["-c", "-O", "-C"]].concat());
    assert_eq!(
        (finished.code, &*finished.stderr),
        (
            0,
            "rdump: warning: an archive can be restored with or without --clean, --create, --no-owner: say so at restore\n"
        )
    );
}

#[test]
fn filter_files() {
    let source = shop(18, "filter_file");
    let folder = Folder::new();
    let (file, filter) = (folder.file("filter.rdump"), folder.file("filters"));
    let conninfo = source.conninfo();
    let snapshot = ["snapshot", "-q", "-d", &conninfo, "-f", &file];
    let with = |text: &str, flags: &[&str]| {
        std::fs::write(&filter, text).expect("writing a file");
        support::rdump(&[&snapshot[..], &["--filter", &filter], flags].concat())
    };
    let finished = with(
        "# what we sell\ninclude schema sales\nexclude table sales . item # not that\n\
         exclude table_data sales.\"Größe\"\n",
        &[],
    );
    assert_eq!((finished.code, &*finished.stderr), (0, ""));
    assert_eq!(tables(&file), ["sales.sold"]);
    let finished = with(
        "exclude table sales.sold\n",
        &["-n", "sales", "-N", "public"],
    );
    assert_eq!((finished.code, &*finished.stderr), (0, ""));
    assert_eq!(tables(&file), ["sales.Größe", "sales.item"]);

    let place =
        format!("rdump: error: invalid format in filter read from file \"{filter}\" on line 2");
    for (line, what) in [
        (
            "include table_data t",
            "include filter for \"table data\" is not allowed",
        ),
        (
            "exclude foreign_data s",
            "exclude filter for \"foreign data\" is not allowed",
        ),
        (
            "include trigger t",
            "include filter for \"trigger\" is not allowed",
        ),
        (
            "omit table t",
            "invalid filter command (expected \"include\" or \"exclude\")",
        ),
        ("include table", "missing object name pattern"),
    ] {
        let finished = with(&format!("\n{line}\n"), &[]);
        assert_eq!(finished.code, 1, "{line}");
        let expected = format!("{place}: {what}\n");
        assert!(
            finished.stderr.starts_with(&expected),
            "{}",
            finished.stderr
        );
    }
    // standard input
    let arguments = [&snapshot[..], &["--filter", "-"]].concat();
    let mut command = support::rdump_command(&arguments);
    let finished = support::run(&mut command, b"include table item\n");
    assert_eq!((finished.code, &*finished.stderr), (0, ""));
    assert_eq!(tables(&file), ["public.item"]);
}

/// A database is compared with what an archive was made to hold, not with more and not with less.
#[test]
fn verify_looks_at_what_was_chosen() {
    let source = shop(18, "verified");
    source.sql(
        "COMMENT ON TABLE sales.sold IS 'what was sold'; GRANT SELECT ON sales.sold TO PUBLIC;
         CREATE INDEX sold_i ON sales.sold (i); SELECT lo_create(4711);
         CREATE VIEW sales.many AS SELECT i FROM sales.sold",
    );
    let folder = Folder::new();
    let against = source.conninfo();
    let within_sales = format!("{against} options='-c search_path=sales'");
    let cases: &[&[&str]] = &[
        &["-n", "sales"],
        &["-t", "sales.sold"],
        &["-T", "sales.item", "-x"],
        &["-s"],
        &["-a"],
        &["--section", "pre-data", "--no-comments"],
        &["--section", "data", "-B"],
        &["--exclude-table-data", "sales.*", "-N", "nope"],
        &["-n", "sales", "-s", "-b"],
        &["-e", "plpgsql", "--sequence-data", "--no-data"],
        // by the search path
        &["-t", "sold"],
    ];
    let archives: Vec<String> = (0..cases.len())
        .map(|number| folder.file(&format!("{number}.rdump")))
        .collect();
    for (flags, file) in cases.iter().zip(&archives) {
        let snapshot = ["snapshot", "-q", "-d", &within_sales, "-f", file];
        support::rdump_ok(&[&snapshot[..], flags].concat());
        let finished = support::rdump(&["verify", file, "--against", &against]);
        let (code, text) = (finished.code, finished.text());
        assert_eq!(code, 0, "{flags:?}: {text}{}", finished.stderr);
        let listed = "what the archive was made without: its snapshot was taken with --";
        let only_bits = flags == &["-s"];
        assert_eq!(text.contains(listed), !only_bits, "{flags:?}: {text}");
    }
    // the search path of another database may lead elsewhere
    let elsewhere = format!("{against} options='-c search_path=public'");
    let finished = support::rdump(&["verify", "-q", &archives[10], "--against", &elsewhere]);
    assert_eq!(finished.code, 0, "{}", finished.text());

    source.sql(
        "CREATE TABLE public.more (i int); CREATE TABLE sales.more (i int);
         CREATE INDEX sold_r ON sales.sold (r); SELECT lo_create(4712)",
    );
    for (number, expected) in [
        (0, &["INDEX sales.sold_r", "TABLE sales.more"][..]),
        (1, &["INDEX sales.sold_r"]),
        (
            2,
            &[
                "INDEX sales.sold_r",
                "LARGE OBJECT 4712",
                "TABLE public.more",
                "TABLE sales.more",
            ],
        ),
        (5, &["TABLE public.more", "TABLE sales.more"]),
    ] {
        let finished = support::rdump(&["verify", &archives[number], "--against", &against]);
        assert_eq!(finished.code, 3, "{:?}", cases[number]);
        let said = format!("{}{}", finished.text(), finished.stderr);
        let mut found: Vec<&str> = said
            .lines()
            .filter_map(|line| line.split_once(": not in the archive"))
            .map(|(what, _)| what.trim_start_matches("rdump: ").trim())
            .collect();
        found.sort_unstable();
        assert_eq!(found, expected, "{:?}: {said}", cases[number]);
    }
}
