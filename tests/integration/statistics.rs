//! Statistics of the planner: carried across where the target can take them, else made anew.

use super::errors::Folder;
use crate::support::{self, Server, TestDatabase, server};

const TABLES: &str = r#"
CREATE TABLE thing (id int PRIMARY KEY, v text, tags text[], during int4range, "Odd ""n""" numeric, gone int);
INSERT INTO thing SELECT i, CASE i % 4 WHEN 0 THEN E'it''s \\ "odd", {}' ELSE 'v' || i % 50 END,
    ARRAY['a' || i % 3, 'b'], int4range(i, i + i % 9), i / 7.0, i FROM generate_series(1, 3000) AS i;
ALTER TABLE thing DROP gone;
CREATE INDEX thing_expression_idx ON thing (lower(v), ("Odd ""n""" * 2));
CREATE TABLE parent (a int);
CREATE TABLE child () INHERITS (parent);
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
           AND relname NOT LIKE 'extended%'
         ORDER BY relname;
         SELECT tablename, attname, inherited, null_frac, avg_width, n_distinct, most_common_vals,
                most_common_freqs, histogram_bounds, correlation, most_common_elems,
                most_common_elem_freqs, elem_count_histogram{ranges}
         FROM pg_stats WHERE schemaname = 'public' AND tablename NOT LIKE 'extended%'
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
            "--force",
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
