//! Restores over eight connections, again and again: no deadlock, and always the same outcome.

use crate::errors::{Folder, expect_rdump};
use crate::support::{self, VERSIONS, server};

/// What makes connections wait for one another: keys in cycles, inheritance, partitions three deep, and
/// materialised views of materialised views.
const SCHEMA: &str = "
    CREATE TABLE a (id int PRIMARY KEY, b int, self int REFERENCES a);
    CREATE TABLE b (id int PRIMARY KEY, c int, other int REFERENCES a);
    CREATE TABLE c (id int PRIMARY KEY, a int REFERENCES a, b int REFERENCES b);
    INSERT INTO a SELECT i, i, i FROM generate_series(1, 500) i;
    INSERT INTO b SELECT i, i, i FROM generate_series(1, 500) i;
    INSERT INTO c SELECT i, i, i FROM generate_series(1, 500) i;
    ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES b;
    ALTER TABLE b ADD FOREIGN KEY (c) REFERENCES c;

    CREATE TABLE parent (id int PRIMARY KEY, name text NOT NULL CHECK (name <> ''));
    CREATE TABLE child (extra int UNIQUE) INHERITS (parent);
    CREATE TABLE grandchild (more int) INHERITS (child);
    CREATE INDEX ON parent (name); CREATE INDEX ON child (name); CREATE INDEX ON grandchild (name);
    INSERT INTO grandchild SELECT i, 'name ' || i, i, i FROM generate_series(1, 500) i;

    CREATE TABLE event (id int, year int, region int, a int REFERENCES a, PRIMARY KEY (id, year, region))
        PARTITION BY RANGE (year);
    CREATE INDEX ON event (a);
    SELECT format('CREATE TABLE event_%s PARTITION OF event FOR VALUES FROM (%s) TO (%s) PARTITION BY LIST (region)',
                  y, y, y + 1) FROM generate_series(2020, 2023) y \\gexec
    SELECT format('CREATE TABLE event_%s_%s PARTITION OF event_%s FOR VALUES IN (%s) PARTITION BY HASH (id)',
                  y, r, y, r) FROM generate_series(2020, 2023) y, generate_series(1, 3) r \\gexec
    SELECT format('CREATE TABLE event_%s_%s_%s PARTITION OF event_%s_%s FOR VALUES WITH (MODULUS 2, REMAINDER %s)',
                  y, r, h, y, r, h)
    FROM generate_series(2020, 2023) y, generate_series(1, 3) r, generate_series(0, 1) h \\gexec
    INSERT INTO event SELECT i, 2020 + i % 4, 1 + i % 3, 1 + i % 500 FROM generate_series(1, 3000) i;
    CREATE TABLE mention (event_id int, year int, region int,
                          FOREIGN KEY (event_id, year, region) REFERENCES event);
    INSERT INTO mention SELECT id, year, region FROM event;
    CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
    CREATE TRIGGER touched BEFORE UPDATE ON event FOR EACH ROW EXECUTE FUNCTION touch();
    CREATE STATISTICS of_c ON a, b FROM c;

    CREATE MATERIALIZED VIEW by_year AS SELECT year, count(*) AS number FROM event GROUP BY year;
    CREATE MATERIALIZED VIEW total AS SELECT sum(number) AS number FROM by_year;
    CREATE MATERIALIZED VIEW shares AS SELECT y.year, t.number FROM by_year y, total t;
    CREATE UNIQUE INDEX ON shares (year);
    CREATE VIEW seen AS SELECT * FROM shares;
    CREATE MATERIALIZED VIEW last AS SELECT * FROM seen;
    CREATE INDEX ON last (year);";

/// 5 restores on each server; with RDUMP_SOAK, 50.
#[test]
fn never_deadlock_and_never_differ() {
    let rounds = if support::soak() { 50 } else { 5 };
    for major in VERSIONS {
        let server = server(major);
        let source = server.create_database("tangled");
        source.sql(SCHEMA);
        let folder = Folder::new();
        let file = folder.file("archive.rdump");
        expect_rdump(
            &["snapshot", "-q", "-d", &source.conninfo(), "-f", &file],
            0,
            "",
        );
        let expected = support::row_counts_and_hashes(&source);
        for _ in 0..rounds {
            let target = server.create_database_with("tangled_restored", "TEMPLATE template0");
            let conninfo = target.conninfo();
            let restore = ["restore", "-q", &file, "-d", &conninfo, "--parallel", "8"];
            expect_rdump(&restore, 0, "");
            assert_eq!(
                target.query_text(
                    "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
                ),
                "0"
            );
            support::assert_same_schema(&source, &target);
            assert_eq!(expected, support::row_counts_and_hashes(&target));
            server.sql("postgres", &format!("DROP DATABASE \"{}\"", target.name));
        }
    }
}

/// What was restored is a source like any other: the second generation equals the first.
#[test]
fn a_second_generation() {
    for major in VERSIONS {
        let server = server(major);
        server.ensure_roles();
        let mut database = server.create_database("generation");
        for kind in support::kinds() {
            if kind != "default_privileges" {
                support::load_kind(&database, &kind);
            }
        }
        support::load_kind(&database, "default_privileges");
        let folder = Folder::new();
        let mut archives = Vec::new();
        for generation in 0..2 {
            let file = folder.file(&format!("{generation}.rdump"));
            let snapshot = ["snapshot", "-d", &database.conninfo(), "-f", &file];
            support::rdump_ok(&snapshot);
            let next = server.create_database_with("generation", "TEMPLATE template0");
            let restore = ["restore", &file, "-d", &next.conninfo(), "--parallel", "4"];
            support::rdump_ok(&restore);
            support::assert_same_schema(&database, &next);
            support::assert_same_rows(&database, &next);
            archives.push(support::rdump_ok(&["show", &file]).text());
            database = next;
        }
        // Entries in the same order under the same numbers, whatever OIDs the objects have. But for the
        // database's own name, and rows that move when an enum gets new OIDs.
        let moves = [" DATABASE ", " TABLE DATA enums hashed_"];
        let entries = |list: &str| -> String {
            list.split_inclusive('\n')
                .filter(|line| {
                    !line.starts_with(';') && !moves.iter().any(|what| line.contains(what))
                })
                .collect()
        };
        let (first, second) = (entries(&archives[0]), entries(&archives[1]));
        assert!(first.lines().count() > 100, "{first}");
        assert!(first == second, "{}", support::difference(&first, &second));
    }
}
