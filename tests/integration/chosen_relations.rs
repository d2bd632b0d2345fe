//! What the patterns of a snapshot choose, and so lock, and what they refuse.

use super::errors::{Folder, expect_rdump};
use crate::support::{self, TestDatabase, VERSIONS, server};

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
