//! Statistics of the planner: carried across where the target can take them, else made anew.

use super::errors::Folder;
use crate::support::{self, Server, TestDatabase, run_ok, server};

const TABLES: &str = r#"
CREATE TABLE thing (id int PRIMARY KEY, v text, tags text[], during int4range, "Odd ""n""" numeric, gone int);
INSERT INTO thing SELECT i, CASE i % 4 WHEN 0 THEN E'it''s \\ "odd", {}' ELSE 'v' || i % 50 END,
    ARRAY['a' || i % 3, 'b'], int4range(i, i + i % 9), i / 7.0, i FROM generate_series(1, 3000) AS i;
ALTER TABLE thing DROP gone;
CREATE INDEX thing_expression_idx ON thing (lower(v), ("Odd ""n""" * 2));
CREATE TABLE parent (a int);
CREATE TABLE child () INHERITS (parent);
CREATE STATISTICS parent_next ON (a + 1) FROM parent;
INSERT INTO parent SELECT i % 5 FROM generate_series(1, 100) AS i;
INSERT INTO child SELECT i FROM generate_series(1, 500) AS i;
CREATE TABLE parted (a int, b int) PARTITION BY RANGE (a);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (100);
CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (100) TO (1000);
CREATE INDEX parted_idx ON parted ((a + b));
INSERT INTO parted SELECT i, i % 3 FROM generate_series(1, 999) AS i;
CREATE MATERIALIZED VIEW stored AS SELECT v, count(*) AS n FROM thing GROUP BY v;
CREATE TABLE extended (a int, b int);
CREATE STATISTICS extended_ab ON a, b FROM extended;
INSERT INTO extended SELECT i % 10, i % 10 FROM generate_series(1, 1000) AS i;
CREATE TABLE never_analyzed (a int);
VACUUM ANALYZE thing, parent, child, parted, stored, extended;
"#;

/// All that pg_class and pg_stats say; servers before 17 show nothing of ranges.
fn numbers(database: &TestDatabase, source: u32) -> String {
    let ranges = match source {
        17.. => ", range_length_histogram, range_empty_frac, range_bounds_histogram",
        _ => "",
    };
    database.query_text(&format!(
        "SELECT relname, relpages, reltuples, relallvisible FROM pg_class
         WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'm', 'i', 'I')
         ORDER BY relname;
         SELECT tablename, attname, inherited, null_frac, avg_width, n_distinct, most_common_vals,
                most_common_freqs, histogram_bounds, correlation, most_common_elems,
                most_common_elem_freqs, elem_count_histogram{ranges}
         FROM pg_stats WHERE schemaname = 'public'
         ORDER BY tablename, attname, inherited",
    ))
}

fn restored(archive: &str, target: &'static Server, flags: &[&str]) -> TestDatabase {
    let restored = target.create_database_with("statistics_restored", "TEMPLATE template0");
    let conninfo = restored.conninfo();
    support::rdump_ok(&[&["restore", archive, "-d", &conninfo], flags].concat());
    restored
}

fn count(database: &TestDatabase, sql: &str) -> usize {
    let count = database.query_text(&format!("SELECT count(*) FROM {sql}"));
    count.parse().expect("a number")
}

#[test]
fn statistics_are_what_they_were() {
    for major in support::VERSIONS {
        let source = server(major).create_database("statistics");
        source.sql(TABLES);
        let folder = Folder::new();
        let archive = folder.file("archive.rdump");
        let conninfo = source.conninfo();
        support::rdump_ok(&["snapshot", "--statistics", "-d", &conninfo, "-f", &archive]);

        // to 18 all numbers come along; the planner is told at once
        let target = restored(&archive, server(18), &[]);
        let (expected, found) = (numbers(&source, major), numbers(&target, major));
        assert!(expected.lines().count() > 30, "{expected}");
        assert!(
            expected == found,
            "from {major}:\n{}",
            support::difference(&expected, &found)
        );
        assert_eq!(
            count(&target, "pg_stats_ext WHERE n_distinct IS NOT NULL"),
            1
        );
        let target_conninfo = target.conninfo();
        support::rdump_ok(&["verify", &archive, "--against", &target_conninfo]);

        // so they do by psql, whatever server that is connected to
        let script = folder.file("script.sql");
        support::rdump_ok(&["sql", &archive, "-f", &script]);
        let by_psql = server(18).create_database_with("statistics_psql", "TEMPLATE template0");
        by_psql.sql(&std::fs::read_to_string(&script).expect("a script"));
        assert_eq!(expected, numbers(&by_psql, major));
        if major == 15 {
            let by_psql = server(15).create_database_with("statistics_psql", "TEMPLATE template0");
            by_psql.sql(&std::fs::read_to_string(&script).expect("a script"));
            assert_eq!(count(&by_psql, "pg_stats WHERE tablename = 'thing'"), 5);
        }

        // to 15 ANALYZE runs
        if major == 15 {
            let target = restored(&archive, server(15), &[]);
            let columns = "pg_stats WHERE schemaname = 'public' AND histogram_bounds IS NOT NULL";
            assert_eq!(count(&target, columns), count(&source, columns));
            assert_eq!(
                count(&target, "pg_stats_ext WHERE n_distinct IS NOT NULL"),
                1
            );
        }

        // without, and then alone
        let target = restored(&archive, server(18), &["--no-statistics"]);
        let any = "pg_stats WHERE schemaname = 'public'";
        assert_eq!(count(&target, any), 0);
        let target_conninfo = target.conninfo();
        let alone = [
            "restore",
            &archive,
            "--statistics-only",
            "-d",
            &target_conninfo,
        ];
        support::rdump_ok(&alone);
        assert_eq!(expected, numbers(&target, major));
        assert_eq!(count(&restored(&archive, server(18), &["-s"]), any), 0);

        let plain = folder.file("plain.rdump");
        support::rdump_ok(&["snapshot", "-d", &conninfo, "-f", &plain]);
        let list = support::rdump_ok(&["show", &plain]).text();
        assert!(!list.contains("STATISTICS DATA"), "{list}");
    }
}

/// How often a script has statistics, rows and definitions of a table.
fn parts(script: &str) -> [usize; 3] {
    let of = [
        "pg_restore_relation_stats(",
        "COPY public.t ",
        "CREATE TABLE ",
    ];
    of.map(|words| script.matches(words).count())
}

/// The words of each line are flags of pg_dump and of `rdump snapshot`, of pg_restore and of `rdump sql`.
#[test]
fn flags_choose_parts_as_those_of_postgresql_18() {
    let source = server(18).create_database("statistics_flags");
    source.sql("CREATE TABLE t (i int PRIMARY KEY); INSERT INTO t VALUES (1), (2); ANALYZE t");
    let folder = Folder::new();
    let conninfo = source.conninfo();
    let whole = folder.file("whole.rdump");
    support::rdump_ok(&["snapshot", "--statistics", "-d", &conninfo, "-f", &whole]);
    let mut dump = server(18).program("pg_dump");
    dump.args(["-U", "postgres", "-Fc", "--statistics", &source.name]);
    let dump = run_ok(&mut dump, b"").stdout;
    for line in [
        "",
        "--statistics",
        "--no-statistics",
        "--statistics-only",
        "--statistics-only --no-data",
        "--statistics-only --section=data",
        "--statistics-only --section=pre-data",
        "--statistics --no-data",
        "--statistics --no-schema",
        "--statistics --no-data --no-schema",
        "--no-statistics --no-data",
        "-a",
        "-a --no-statistics",
        "-s",
        "-s --no-statistics",
        "--no-data",
        "--no-schema",
    ] {
        let flags: Vec<&str> = line.split_whitespace().collect();
        let expected = parts(&server(18).pg_dump(&flags, &source));
        let file = folder.file("part.rdump");
        support::rdump_ok(&[&["snapshot", "-d", &conninfo, "-f", &file], &flags[..]].concat());
        let script = support::rdump(&["sql", &file]).text();
        assert_eq!(parts(&script), expected, "snapshot {line}");

        let mut restore = server(18).program("pg_restore");
        restore.args(["-f", "-"]).args(&flags);
        let expected = parts(&run_ok(&mut restore, &dump).text());
        let script = support::rdump(&[&["sql", &whole], &flags[..]].concat()).text();
        assert_eq!(parts(&script), expected, "restore {line}");
    }
    for line in [
        "--statistics --no-statistics",
        "--statistics-only --no-statistics",
        "--statistics-only -a",
        "--statistics-only -s",
        "--statistics -a",
        "--statistics -s",
    ] {
        let flags: Vec<&str> = line.split_whitespace().collect();
        let mut dump = server(18).program("pg_dump");
        dump.args(["-U", "postgres", &source.name]).args(&flags);
        assert_eq!(support::run(&mut dump, b"").code, 1, "{line}");
        let file = folder.file("part.rdump");
        let snapshot = [&["snapshot", "-d", &conninfo, "-f", &file], &flags[..]].concat();
        let script = [&["sql", &whole], &flags[..]].concat();
        for command in [snapshot, script] {
            let finished = support::rdump(&command);
            assert_eq!(finished.code, 2, "{line}: {}", finished.stderr);
        }
    }
}

/// An archive of nothing else goes into the database that has the tables.
#[test]
fn statistics_alone_go_into_tables_that_are_there() {
    let source = server(18).create_database("statistics_alone");
    source.sql(TABLES);
    let folder = Folder::new();
    let (alone, rest) = (folder.file("alone.rdump"), folder.file("rest.rdump"));
    let conninfo = source.conninfo();
    support::rdump_ok(&[
        "snapshot",
        "--statistics-only",
        "-d",
        &conninfo,
        "-f",
        &alone,
    ]);
    support::rdump_ok(&["snapshot", "-d", &conninfo, "-f", &rest]);
    let list = support::rdump_ok(&["show", &alone]).text();
    let other = |line: &&str| !line.starts_with(';') && !line.contains("; STATISTICS DATA ");
    assert_eq!(list.lines().find(other), None);
    let target = restored(&rest, server(18), &[]);
    let target_conninfo = target.conninfo();
    support::rdump_ok(&["restore", &alone, "-d", &target_conninfo]);
    assert_eq!(numbers(&source, 18), numbers(&target, 18));
    // also where there are no rows to look at
    let empty = restored(&rest, server(18), &["-s"]);
    support::rdump_ok(&["restore", &alone, "-d", &empty.conninfo()]);
    assert_eq!(numbers(&source, 18), numbers(&empty, 18));
    // no proof of nothing
    let finished = support::rdump(&["verify", &alone, "--against", &target_conninfo]);
    assert_eq!(finished.code, 1, "{}", finished.text());
    let told = "there is nothing to compare";
    assert!(finished.stderr.contains(told), "{}", finished.stderr);
}
