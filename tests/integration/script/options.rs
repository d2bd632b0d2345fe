//! What is written, and how: the flags.

use super::{made_by, psql_command, psql_on, script, snapshot};
use crate::errors::{Folder, expect_rdump};
use crate::support::{self, TestDatabase, VERSIONS, normalise_dump, run, run_ok, server};

const SCHEMA: &str = "
    CREATE SCHEMA other;
    CREATE TABLE b_parent (id int PRIMARY KEY, t text);
    CREATE TABLE a_child (id int PRIMARY KEY, parent int REFERENCES b_parent, next int REFERENCES a_child);
    INSERT INTO b_parent SELECT i, 'row ' || i FROM generate_series(1, 300) AS i;
    INSERT INTO a_child SELECT i, i, nullif(i + 1, 301) FROM generate_series(1, 300) AS i;
    CREATE TABLE other.t (i serial);
    INSERT INTO other.t SELECT generate_series(1, 5);
    COMMENT ON TABLE other.t IS 'a comment';
    GRANT SELECT ON other.t TO PUBLIC;
    CREATE VIEW v AS SELECT * FROM other.t;
    CREATE FUNCTION tenfold() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN new.t := new.t || '!'; RETURN new; END $$;
    CREATE TRIGGER changes BEFORE INSERT ON b_parent FOR EACH ROW EXECUTE FUNCTION tenfold();
    SELECT lo_from_bytea(123, 'large');";

fn source(major: u32) -> (TestDatabase, Folder, String) {
    let source = server(major).create_database("script_options");
    source.sql(SCHEMA);
    let folder = Folder::new();
    let archive = snapshot(&source, &folder);
    (source, folder, archive)
}

fn text(archive: &str, options: &[&str]) -> String {
    String::from_utf8(script(archive, options)).expect("UTF-8")
}

#[test]
fn sections_one_after_the_other_are_the_whole() {
    for major in VERSIONS {
        let (source, _folder, archive) = source(major);
        let sections = ["pre-data", "data", "post-data"]
            .map(|section| script(&archive, &["--section", section]))
            .concat();
        let made = made_by(&sections, server(major), "script_sections");
        support::assert_same_schema(&source, &made);
        support::assert_same_rows(&source, &made);

        let parts = [&["-s"][..], &["-a", "--disable-triggers"]];
        let parts = parts.map(|part| script(&archive, part)).concat();
        let made = made_by(&parts, server(major), "script_parts");
        support::assert_same_schema(&source, &made);
        support::assert_same_rows(&source, &made);
    }
}

#[test]
fn rows_alone_come_after_those_that_they_refer_to() {
    let (_source, _folder, archive) = source(18);
    let data = text(&archive, &["-a"]);
    let at = |table: &str| data.find(&format!("COPY public.{table} ")).expect(table);
    assert!(at("b_parent") < at("a_child"));
    assert!(
        !data.contains("CREATE ") && !data.contains("TRIGGER"),
        "{data}"
    );
    let target = made_by(&script(&archive, &["-s"]), server(18), "script_rows");
    run_ok(&mut psql_command(&target, &[]), data.as_bytes());
    // the trigger has seen them
    let seen = target.query_text("SELECT count(*) FROM b_parent WHERE t LIKE 'row %!'");
    assert_eq!(seen, "300");
}

#[test]
fn clean_drops_what_is_there() {
    for major in VERSIONS {
        let (source, _folder, archive) = source(major);
        let target = made_by(&script(&archive, &[]), server(major), "script_clean");
        target.sql("INSERT INTO other.t VALUES (77)");
        for options in [&["-c"][..], &["-c", "--if-exists"]] {
            run_ok(&mut psql_command(&target, &[]), &script(&archive, options));
            support::assert_same_schema(&source, &target);
            support::assert_same_rows(&source, &target);
        }
        let empty = server(major).create_database_with("script_clean", "TEMPLATE template0");
        let finished = run(&mut psql_command(&empty, &[]), &script(&archive, &["-c"]));
        assert_eq!(finished.code, 3, "{}", finished.stderr);
        run_ok(
            &mut psql_command(&empty, &[]),
            &script(&archive, &["-c", "--if-exists"]),
        );
        support::assert_same_schema(&source, &empty);
    }
}

#[test]
fn filters_choose() {
    let (_source, folder, archive) = source(18);
    let all = text(&archive, &[]);
    let has = |options: &[&str], wanted: &[&str], unwanted: &[&str]| {
        let text = text(&archive, options);
        for words in wanted {
            assert!(text.contains(words), "{options:?}: {words} is missing");
        }
        for words in unwanted {
            assert!(all.contains(words), "{words} is nowhere");
            assert!(!text.contains(words), "{options:?}: {words}");
        }
        assert!(text.ends_with("\n-- rdump: complete\n"));
    };
    has(
        &["-n", "other"],
        &["CREATE TABLE other.t "],
        &["b_parent", "lo_create", "VIEW public.v"],
    );
    has(&["-N", "other"], &["b_parent"], &["CREATE TABLE other.t "]);
    has(
        &["-t", "b_parent"],
        &["COPY public.b_parent "],
        &["a_child", "CREATE TRIGGER"],
    );
    has(
        &["-T", "changes"],
        &["CREATE TRIGGER changes"],
        &["CREATE TABLE"],
    );
    has(
        &["-P", "tenfold()"],
        &["CREATE FUNCTION public.tenfold"],
        &["CREATE TABLE"],
    );
    has(&["-O"], &["Owner: -\n"], &["OWNER TO"]);
    has(&["-x"], &[], &["GRANT SELECT"]);
    has(&["--no-comments"], &[], &["COMMENT ON"]);
    has(
        &["-s"],
        &["CREATE TABLE"],
        &["COPY ", "setval", "lo_create", "lo_put"],
    );

    let list = support::rdump_ok(&["sql", "-l", "-t", "v", &archive]).text();
    assert!(list.contains("; VIEW public v "), "{list}");
    let file = folder.file("list");
    std::fs::write(&file, &list).expect("writing a file");
    has(&["-L", &file], &["CREATE VIEW public.v"], &["CREATE TABLE"]);
}

#[test]
fn what_is_said() {
    let (_source, folder, archive) = source(18);
    let error = |arguments: &[&str], code, stderr: &str| {
        expect_rdump(&[&["sql", &archive][..], arguments].concat(), code, stderr);
    };
    error(
        &["--on-conflict-do-nothing"],
        2,
        "rdump: error: --on-conflict-do-nothing needs --inserts, --rows-per-insert or --column-inserts\n",
    );
    error(
        &["--restrict-key", "a\n\\! ls"],
        2,
        "rdump: error: a restrict key has letters and digits only\n",
    );
    error(
        &["--json"],
        2,
        "rdump: error: --json and the script both want standard output\n\
         rdump: hint: write the script to a file with -f, or leave out --json\n",
    );
    error(
        &["-t", "missing"],
        1,
        "rdump: error: nothing in the archive matches the filters\n\
         rdump: hint: rdump show lists what it holds\n",
    );

    let out = folder.file("script.sql");
    let finished = support::rdump_ok(&["sql", &archive, "-f", &out, "--json"]);
    let script = std::fs::read(&out).expect("the script");
    assert!(
        finished
            .text()
            .contains(&format!("\"bytes\":{}", script.len())),
        "{}",
        finished.text()
    );
    assert!(
        finished.text().contains("\"rows\":607"),
        "{}",
        finished.text()
    );
    let finished = support::rdump_ok(&["sql", &archive, "-f", &out, "--disable-triggers"]);
    assert!(
        finished
            .stderr
            .starts_with("rdump: warning: --disable-triggers does nothing without -a\n")
            && finished.stderr.contains(" entries, 607 rows, "),
        "{}",
        finished.stderr
    );
}

#[test]
fn keys_of_the_restricted_mode() {
    let (_source, _folder, archive) = source(18);
    let keys = |options: &[&str]| -> Vec<String> {
        let text = text(&archive, options);
        let lines = text.lines().filter_map(|line| {
            line.strip_prefix("\\restrict ")
                .or(line.strip_prefix("\\unrestrict "))
        });
        lines.map(str::to_owned).collect()
    };
    assert_eq!(keys(&["--restrict-key", "abc123"]), ["abc123", "abc123"]);
    let (one, other) = (keys(&[]), keys(&[]));
    assert_eq!(one.len(), 2);
    assert!(one[0] == one[1] && one[0].len() == 63 && one[0] != other[0]);
    assert_eq!(keys(&["-C"]).len(), 4);
    // nothing but comments comes before it
    let script = text(&archive, &[]);
    let first = script
        .lines()
        .find(|line| !line.starts_with("--") && !line.is_empty());
    assert!(
        first.is_some_and(|line| line.starts_with("\\restrict ")),
        "{first:?}"
    );
}

/// Names that conninfo strings, psql and SQL each read in their own way.
#[test]
fn the_database_itself() {
    for major in VERSIONS {
        for prefix in [
            "script_plain",
            "host=nowhere 'a' \\ \"b\"",
            "`touch /tmp/x` :DBNAME ; \\! ls",
            "a\nb\r\n\\! ls",
            "-ü%20",
        ] {
            let source = server(major).create_database_with(
                prefix,
                "TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C' CONNECTION LIMIT 7",
            );
            source.sql(SCHEMA);
            let quoted = support::quote_identifier(&source.name);
            source.sql(&format!(
                "ALTER DATABASE {quoted} SET work_mem = '5MB';
                 COMMENT ON DATABASE {quoted} IS 'mine';
                 GRANT CREATE ON DATABASE {quoted} TO PUBLIC;"
            ));
            let folder = Folder::new();
            let archive = snapshot(&source, &folder);
            let dump = || {
                match prefix.contains('\n') {
                // pg_dump refuses the name
                true => source.query_text(
                    "SELECT d.datacl, s.setconfig, datconnlimit, shobj_description(d.oid, 'pg_database')
                     FROM pg_database d JOIN pg_db_role_setting s ON s.setdatabase = d.oid
                     WHERE datname = current_database()",
                ),
                false => normalise_dump(&source.server.pg_dump(&["--create"], &source)),
            }
            };
            let rows = support::row_counts_and_hashes(&source);
            let before = dump();
            for options in [&["-C", "-c"][..], &["-C", "-c", "--if-exists"]] {
                if options.len() == 3 {
                    source
                        .server
                        .sql("postgres", &format!("DROP DATABASE {quoted}"));
                }
                let mut psql = psql_on(source.server, "postgres", &[]);
                run_ok(&mut psql, &script(&archive, options));
                assert_eq!(before, dump(), "{prefix}");
                assert_eq!(rows, support::row_counts_and_hashes(&source), "{prefix}");
            }
        }
    }
}
