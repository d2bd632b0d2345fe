//! What is easily forgotten. Not all of it comes back as it was even with pg_dump, so that pg_dump and
//! psql make a copy of the source, and the restored database must equal that copy.

use crate::errors::{Folder, Other};
use crate::support::{self, Server, TestDatabase, row_counts_and_hashes, server};

/// Takes SQL through snapshot, restore and verify on each pair of servers.
fn check(prefix: &str, sql: &str) {
    for (from, to) in support::pairs() {
        let source = server(from).create_database(prefix);
        source.sql(sql);
        check_database(&source, server(to));
    }
}

/// The database as rdump restored it. The order of columns may be another than in the source, so rows
/// are compared with the copy too.
pub fn check_database(source: &TestDatabase, target: &'static Server) -> TestDatabase {
    let judge = target.copy_with_pg_dump(source, "forgotten_judge");
    let folder = Folder::new();
    let file = folder.file("archive.rdump");
    support::rdump_ok(&["snapshot", "-d", &source.conninfo(), "-f", &file, "-j", "2"]);
    let restored = target.create_database_with("forgotten", "TEMPLATE template0");
    let conninfo = restored.conninfo();
    support::rdump_ok(&["restore", &file, "-d", &conninfo, "--parallel", "4"]);
    support::assert_same_schema(&judge, &restored);
    assert_eq!(
        row_counts_and_hashes(&judge),
        row_counts_and_hashes(&restored)
    );
    support::rdump_ok(&["verify", &file, "--against", &conninfo]);
    restored
}

#[test]
fn columns_that_were_dropped_or_added_later() {
    check(
        "columns",
        "CREATE TABLE nothing_left (a int, b text);
         INSERT INTO nothing_left VALUES (1, 'x'), (2, 'y');
         ALTER TABLE nothing_left DROP a, DROP b;
         CREATE TABLE never_any ();
         INSERT INTO never_any DEFAULT VALUES;

         -- rows that are narrower than their table, and rows that have values of dropped columns
         CREATE TABLE grown (id int PRIMARY KEY, gone text DEFAULT 'gone');
         INSERT INTO grown SELECT i FROM generate_series(1, 100) i;
         ALTER TABLE grown ADD state text NOT NULL DEFAULT 'new', ADD at timestamptz DEFAULT now(), DROP gone;
         INSERT INTO grown SELECT i, 'later' FROM generate_series(101, 200) i;
         ALTER TABLE grown ALTER state SET DEFAULT 'other', ADD list int[] DEFAULT '{1,2}';

         CREATE TABLE parent (a int, dropped text, b text DEFAULT 'b', c numeric CHECK (c > 0));
         CREATE TABLE child (own int, own_dropped int, last text NOT NULL) INHERITS (parent);
         ALTER TABLE child DROP own_dropped;
         ALTER TABLE parent DROP dropped;
         ALTER TABLE parent ADD added date DEFAULT '2001-01-01';
         ALTER TABLE child ALTER b SET DEFAULT 'of the child', ALTER a SET NOT NULL;
         INSERT INTO parent VALUES (1, 'one', 1);
         INSERT INTO child VALUES (2, 'two', 2, 3, 'last', '2002-02-02');
         CREATE TABLE grandchild () INHERITS (child);
         ALTER TABLE grandchild NO INHERIT child;
         ALTER TABLE child ADD in_between int;
         INSERT INTO grandchild VALUES (3, 'three', 3, 4, 'x');

         CREATE TABLE measured (id int, \"when\" date, junk int, value text DEFAULT 'none', PRIMARY KEY (id, \"when\"))
             PARTITION BY RANGE (\"when\");
         CREATE TABLE measured_1 PARTITION OF measured FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
         CREATE TABLE measured_2 (gone int, value text, extra int, \"when\" date NOT NULL, junk int, id int NOT NULL);
         ALTER TABLE measured_2 DROP gone, DROP extra;
         ALTER TABLE measured ATTACH PARTITION measured_2 FOR VALUES FROM ('2021-01-01') TO ('2022-01-01');
         ALTER TABLE measured DROP junk;
         ALTER TABLE measured ADD note text DEFAULT 'note';
         CREATE TABLE measured_3 PARTITION OF measured DEFAULT;
         ALTER TABLE measured_2 ALTER value SET DEFAULT 'of two';
         INSERT INTO measured (id, \"when\", value) SELECT i, '2020-06-01'::date + i * 100, 'v' || i FROM generate_series(1, 12) i;
         CREATE INDEX ON measured (value, id);

         CREATE VIEW all_of_it AS SELECT * FROM grown;
         CREATE VIEW renamed AS SELECT * FROM parent p (one, two);
         ALTER TABLE grown ADD after_the_view int DEFAULT 5;
         ALTER TABLE parent RENAME b TO \"select\";
         ALTER VIEW all_of_it RENAME state TO \"the state\";
         CREATE VIEW joined AS SELECT * FROM grown JOIN child ON grown.id = child.a;
         ALTER TABLE child ADD id int;",
    );
}

#[test]
fn a_table_of_sixteen_hundred_columns() {
    check(
        "wide",
        "SELECT format('CREATE TABLE widest (%s)', string_agg(format('c%s int', i), ', ' ORDER BY i))
         FROM generate_series(1, 1600) i \\gexec
         INSERT INTO widest (c1, c800, c1600) VALUES (1, NULL, 3), (NULL, 2, NULL);
         SELECT format('COMMENT ON COLUMN widest.c%s IS %L', i, 'number ' || i) FROM generate_series(1, 1600) i \\gexec
         GRANT SELECT (c1, c1600), UPDATE (c7) ON widest TO PUBLIC;",
    );
}

#[test]
fn expressions_that_lean_on_other_objects() {
    check(
        "expressions",
        "CREATE DOMAIN positive AS int CONSTRAINT above CHECK (VALUE > 0);
         CREATE DOMAIN small AS positive DEFAULT 3 CHECK (VALUE < 100) CHECK (VALUE <> 50);
         CREATE DOMAIN odd AS small NOT NULL CONSTRAINT \"check\" CHECK (VALUE % 2 = 1);
         ALTER DOMAIN small ADD CONSTRAINT late CHECK (VALUE <> 60) NOT VALID;
         CREATE DOMAIN list AS small[] CHECK (array_length(VALUE, 1) < 10);
         CREATE TABLE of_domains (a positive, b small, c odd DEFAULT 7, d list);
         INSERT INTO of_domains VALUES (1, 2, 3, '{4,5}'), (NULL, NULL, 9, NULL);

         CREATE TABLE item (id int PRIMARY KEY, name text, price numeric(10, 2) NOT NULL);
         INSERT INTO item SELECT i, 'item ' || i, i FROM generate_series(1, 10) i;
         CREATE VIEW cheap AS SELECT * FROM item WHERE price < 5;
         CREATE FUNCTION number_of_items() RETURNS bigint LANGUAGE sql STABLE
             BEGIN ATOMIC SELECT count(*) FROM item; END;
         CREATE FUNCTION cheapest() RETURNS SETOF cheap LANGUAGE sql STABLE
             BEGIN ATOMIC SELECT * FROM cheap ORDER BY price LIMIT 1; END;
         -- needs the primary key, which stands behind the data
         CREATE FUNCTION by_key() RETURNS TABLE (id int, name text, number bigint) LANGUAGE sql STABLE
             BEGIN ATOMIC SELECT i.id, i.name, count(*) FROM item i GROUP BY i.id; END;
         CREATE PROCEDURE put(id int, name text) LANGUAGE sql
             BEGIN ATOMIC
                 INSERT INTO item VALUES (id, name, 1) ON CONFLICT ON CONSTRAINT item_pkey DO NOTHING;
                 UPDATE item SET name = upper(put.name) WHERE item.id = put.id;
             END;
         CREATE FUNCTION calls_another(n int DEFAULT 1) RETURNS bigint LANGUAGE sql STABLE
             RETURN number_of_items() + n;
         CREATE FUNCTION twice(numeric) RETURNS numeric LANGUAGE sql IMMUTABLE RETURN $1 * 2;
         CREATE FUNCTION thrice(n numeric) RETURNS numeric LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN n * 3; END';
         ALTER TABLE item ADD doubled numeric GENERATED ALWAYS AS (twice(price)) STORED,
             ADD tripled numeric GENERATED ALWAYS AS (thrice(price)) STORED;
         CREATE INDEX ON item (twice(doubled)) WHERE thrice(price) > 3;
         CREATE VIEW of_functions AS SELECT number_of_items() AS n, b.* FROM by_key() b;
         ALTER TABLE item ADD CHECK (twice(price) >= 0);

         CREATE SCHEMA \"table\";
         CREATE TYPE \"table\".\"select\" AS ENUM ('from', 'where');
         CREATE TABLE \"table\".\"user\" (\"order\" int PRIMARY KEY, \"group\" \"table\".\"select\" DEFAULT 'from',
             \"primary\" int UNIQUE, \"end\" text COLLATE \"C\", CONSTRAINT \"foreign\" CHECK (\"order\" > 0));
         INSERT INTO \"table\".\"user\" VALUES (1, 'where', 2, 'end');
         CREATE VIEW \"table\".\"view\" AS SELECT \"order\" AS \"as\", \"user\".\"end\" AS \"limit\" FROM \"table\".\"user\";
         CREATE FUNCTION \"table\".\"function\"(\"in\" int, \"out\" int) RETURNS int LANGUAGE sql RETURN \"in\" + \"out\";
         CREATE INDEX \"index\" ON \"table\".\"user\" (\"end\", \"group\");
         CREATE SEQUENCE \"table\".\"analyze\" OWNED BY \"table\".\"user\".\"order\";
         CREATE TABLE \"table\".interval (\"interval\" interval, \"coalesce\" int, \"values\" int, \"row\" int, \"left\" int);",
    );
}

#[test]
fn partitions_and_their_keys() {
    check(
        "partitions",
        "CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
         CREATE TABLE by_mood (mood mood, id int, PRIMARY KEY (mood, id)) PARTITION BY HASH (mood);
         SELECT format('CREATE TABLE by_mood_%s PARTITION OF by_mood FOR VALUES WITH (MODULUS 3, REMAINDER %s)', i, i)
         FROM generate_series(0, 2) i \\gexec
         -- an enum of two levels further up still decides where a row is
         CREATE TABLE by_mood_deep (mood mood, id int, name text) PARTITION BY HASH (mood);
         CREATE TABLE by_mood_deep_0 PARTITION OF by_mood_deep FOR VALUES WITH (MODULUS 2, REMAINDER 0) PARTITION BY RANGE (id);
         CREATE TABLE by_mood_deep_1 PARTITION OF by_mood_deep FOR VALUES WITH (MODULUS 2, REMAINDER 1) PARTITION BY RANGE (id);
         SELECT format('CREATE TABLE by_mood_deep_%s_%s PARTITION OF by_mood_deep_%s FOR VALUES FROM (%s) TO (%s)',
                       m, i, m, i * 1000, i * 1000 + 1000) FROM generate_series(0, 1) m, generate_series(0, 2) i \\gexec
         INSERT INTO by_mood SELECT m, i FROM unnest(enum_range(NULL::mood)) m, generate_series(1, 2000) i;
         INSERT INTO by_mood_deep SELECT m, i, 'name ' || i FROM unnest(enum_range(NULL::mood)) m, generate_series(1, 2999) i;

         -- keys in a circle among partitioned tables, checked late
         CREATE TABLE left_one (id int, part int, other int, PRIMARY KEY (id, part)) PARTITION BY LIST (part);
         CREATE TABLE right_one (id int, part int, other int, PRIMARY KEY (id, part)) PARTITION BY LIST (part);
         SELECT format('CREATE TABLE %s_%s PARTITION OF %s FOR VALUES IN (%s)', t, i, t, i)
         FROM unnest(ARRAY['left_one', 'right_one']) t, generate_series(1, 3) i \\gexec
         ALTER TABLE left_one ADD CONSTRAINT to_right FOREIGN KEY (other, part) REFERENCES right_one
             ON UPDATE CASCADE DEFERRABLE INITIALLY DEFERRED;
         ALTER TABLE right_one ADD CONSTRAINT to_left FOREIGN KEY (other, part) REFERENCES left_one DEFERRABLE;
         ALTER TABLE left_one_1 ADD CONSTRAINT between_partitions FOREIGN KEY (id, part) REFERENCES right_one_1 (id, part)
             DEFERRABLE INITIALLY DEFERRED;
         ALTER TABLE right_one_1 ADD CONSTRAINT and_back FOREIGN KEY (id, part) REFERENCES left_one_1 (id, part);
         BEGIN;
         INSERT INTO left_one SELECT i, p, i FROM generate_series(1, 50) i, generate_series(1, 3) p;
         INSERT INTO right_one SELECT i, p, i FROM generate_series(1, 50) i, generate_series(1, 3) p;
         COMMIT;
         CREATE TABLE unique_later (a int UNIQUE DEFERRABLE INITIALLY DEFERRED, b int,
             CONSTRAINT pk PRIMARY KEY (b) DEFERRABLE, EXCLUDE USING btree (a WITH =) DEFERRABLE);
         INSERT INTO unique_later VALUES (1, 2), (2, 1);

         CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
         CREATE TRIGGER a_off BEFORE INSERT ON left_one FOR EACH ROW EXECUTE FUNCTION touch();
         CREATE TRIGGER b_always AFTER UPDATE ON left_one FOR EACH ROW EXECUTE FUNCTION touch();
         CREATE TRIGGER c_own AFTER UPDATE ON left_one_3 FOR EACH ROW EXECUTE FUNCTION touch();
         CREATE TRIGGER d_on_again AFTER DELETE ON left_one FOR EACH ROW EXECUTE FUNCTION touch();
         ALTER TABLE left_one_1 DISABLE TRIGGER a_off;
         ALTER TABLE left_one_2 ENABLE ALWAYS TRIGGER b_always;
         ALTER TABLE left_one_3 ENABLE REPLICA TRIGGER b_always;
         ALTER TABLE left_one_3 DISABLE TRIGGER c_own;
         ALTER TABLE left_one DISABLE TRIGGER d_on_again;
         ALTER TABLE left_one_2 ENABLE TRIGGER d_on_again;
         CREATE INDEX of_all ON left_one (other);
         ALTER INDEX left_one_2_other_idx RENAME TO \"named by hand\";
         ALTER TABLE left_one_2 SET (fillfactor = 70);
         CREATE INDEX only_here ON ONLY right_one (other);
         CREATE INDEX attached ON right_one_1 (other);
         ALTER INDEX only_here ATTACH PARTITION attached;",
    );
}

#[test]
fn sequences_and_unlogged_tables() {
    for (from, to) in support::pairs() {
        let source = server(from).create_database("states");
        source.sql(
            "CREATE SEQUENCE at_the_end MINVALUE 1 MAXVALUE 3 CYCLE;
             SELECT nextval('at_the_end') FROM generate_series(1, 3) \\g /dev/null
             CREATE SEQUENCE at_the_start MINVALUE -5 MAXVALUE -1 INCREMENT -2 START -1 CYCLE CACHE 7;
             SELECT setval('at_the_start', -5) \\g /dev/null
             CREATE SEQUENCE least AS bigint INCREMENT -1 MINVALUE -9223372036854775808;
             SELECT setval('least', -9223372036854775808) \\g /dev/null
             CREATE SEQUENCE greatest AS bigint; SELECT setval('greatest', 9223372036854775807) \\g /dev/null
             CREATE SEQUENCE small AS smallint START 7; SELECT setval('small', 32767, false) \\g /dev/null
             CREATE SEQUENCE untouched START 5;
             CREATE UNLOGGED TABLE unlogged (id int GENERATED BY DEFAULT AS IDENTITY (START 10 CYCLE MAXVALUE 12), s serial, t text);
             INSERT INTO unlogged (t) SELECT 'row ' || i FROM generate_series(1, 4) i;
             CREATE TABLE logged (id bigint GENERATED ALWAYS AS IDENTITY, v text);
             INSERT INTO logged (v) VALUES ('a'), ('b');
             CREATE TABLE options (a text, b bytea) WITH (fillfactor = 50, autovacuum_enabled = off,
                 toast.autovacuum_enabled = false, toast.autovacuum_vacuum_threshold = 7, toast_tuple_target = 200,
                 toast.vacuum_truncate = off, toast.vacuum_index_cleanup = off);
             INSERT INTO options VALUES (repeat(md5('a'), 1000), decode(repeat('00ff', 5000), 'hex'));
             CREATE MATERIALIZED VIEW kept WITH (toast.autovacuum_enabled = false) AS SELECT * FROM options;
             ALTER TABLE options ALTER a SET STORAGE EXTERNAL, ALTER a SET (n_distinct = -0.5);",
        );
        if from >= 15 {
            source.sql("CREATE UNLOGGED SEQUENCE unlogged_too; SELECT nextval('unlogged_too') FROM generate_series(1, 9) \\g /dev/null");
        }
        // large objects with holes, of which one begins and one ends with nothing
        source.sql(
            "DO $$ DECLARE o oid; BEGIN
                 o := lo_create(70001); PERFORM lo_put(o, 1000000, 'far away'); PERFORM lo_put(o, 5000000, '\\x00ff');
                 o := lo_create(70002);
                 o := lo_from_bytea(70003, decode(repeat('ab', 5000), 'hex'));
                 PERFORM lo_put(70003, 100000000, 'x');
                 PERFORM lo_truncate(lo_open(70003, x'20000'::int), 99999999);
             END $$",
        );
        let restored = check_database(&source, server(to));
        for (sequence, next) in [
            ("at_the_end", "1"),
            ("at_the_start", "-1"),
            ("small", "32767"),
        ] {
            let value = restored.query_text(&format!("SELECT nextval('{sequence}')"));
            assert_eq!(value, next, "{sequence}");
        }
        let error = restored.sql_error("SELECT nextval('greatest')");
        assert!(error.contains("reached maximum value"), "{error}");
    }
}

#[test]
fn publications_of_everything() {
    check(
        "published",
        "CREATE SCHEMA other;
         CREATE TABLE a (id int PRIMARY KEY, b text, gone int, c int);
         CREATE TABLE other.b (id int PRIMARY KEY, \"select\" text, c int);
         ALTER TABLE a DROP gone;
         CREATE PUBLICATION everything FOR ALL TABLES WITH (publish = 'insert, truncate', publish_via_partition_root);
         CREATE PUBLICATION columns FOR TABLE a (c, id), other.b (id, \"select\") WHERE (id > 5 AND c IS NULL) WITH (publish = 'insert');
         CREATE PUBLICATION mixed FOR TABLE a, TABLES IN SCHEMA other;
         CREATE PUBLICATION nothing WITH (publish = '');",
    );
}

#[test]
fn definitions_of_megabytes() {
    check(
        "large",
        "CREATE TABLE described (id int);
         SELECT format('COMMENT ON TABLE described IS %L', repeat(E'a line of ''text'' \\\\ \n', 50000)) \\gexec
         SELECT format('CREATE FUNCTION large() RETURNS int LANGUAGE plpgsql AS %L',
                       E'BEGIN\n' || repeat(E'-- a line that says ''nothing'' \\\\ $$ $_$ at all\n', 110000) || 'RETURN 1; END') \\gexec
         SELECT format('CREATE VIEW large_view AS SELECT %L AS text', repeat('é', 500000)) \\gexec
         SELECT format('CREATE TYPE many AS ENUM (%s)', string_agg(quote_literal('label ' || i), ', ' ORDER BY i))
         FROM generate_series(1, 5000) i \\gexec
         INSERT INTO described SELECT large();",
    );
}

/// A role that was dropped behind the server's back leaves its number in privileges. No GRANT
/// can say that: pg_dump writes such that fail; here the others come back, and a warning says so.
#[test]
fn privileges_of_roles_that_are_gone() {
    for major in support::majors().iter().copied() {
        let source = server(major).create_database("leftovers");
        let role = format!("gone_{major}");
        source.sql(&format!(
            "CREATE ROLE {role};
             CREATE TABLE t (a int, b int); CREATE SCHEMA n;
             INSERT INTO t VALUES (1, 2);
             CREATE FUNCTION f() RETURNS int LANGUAGE sql RETURN 1;
             CREATE EXTENSION citext;
             GRANT SELECT ON t TO {role} WITH GRANT OPTION;
             SET ROLE {role}; GRANT SELECT ON t TO pg_monitor; RESET ROLE;
             GRANT INSERT ON t TO PUBLIC; GRANT DELETE ON t TO pg_monitor;
             GRANT UPDATE (b) ON t TO {role}, pg_monitor;
             GRANT EXECUTE ON FUNCTION f(), citext_eq(citext, citext) TO {role};
             ALTER DEFAULT PRIVILEGES IN SCHEMA n GRANT SELECT ON TABLES TO {role};"
        ));
        let oid = source.query_text(&format!("SELECT '{role}'::regrole::oid"));
        source.sql(&format!(
            "DELETE FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass AND refobjid = {oid};
             DROP ROLE {role};"
        ));
        let folder = Folder::new();
        let file = folder.file("archive.rdump");
        let taken = support::rdump_ok(&["snapshot", "-d", &source.conninfo(), "-f", &file]);
        let warning = format!(
            "role {oid} was dropped behind the server's back: privileges that name it are left out"
        );
        assert!(taken.stderr.contains(&warning), "{}", taken.stderr);
        support::rdump_ok(&["verify", &file, "--against", &source.conninfo()]);

        let restored = server(major).create_database_with("forgotten", "TEMPLATE template0");
        let conninfo = restored.conninfo();
        support::rdump_ok(&["restore", &file, "-d", &conninfo]);
        support::rdump_ok(&["verify", &file, "--against", &conninfo]);
        support::assert_same_rows(&source, &restored);
        let of_others = |database: &TestDatabase| {
            database.query_text(
                "SELECT relacl::text FROM pg_class WHERE relname = 't'
                 UNION ALL SELECT attacl::text FROM pg_attribute WHERE attrelid = 't'::regclass AND attacl IS NOT NULL
                 UNION ALL SELECT proacl::text FROM pg_proc WHERE proname IN ('f', 'citext_eq')
                 UNION ALL SELECT defaclacl::text FROM pg_default_acl",
            )
        };
        assert!(of_others(&source).contains(&oid));
        let acls = of_others(&restored);
        assert!(!acls.contains(&oid), "{acls}");
        for kept in [
            "pg_monitor=d/postgres",
            "=a/postgres",
            "pg_monitor=w/postgres",
        ] {
            assert!(acls.contains(kept), "{kept}: {acls}");
        }
    }
}

/// The server warns of these with every use.
#[test]
fn collations_of_another_version() {
    for (from, to) in support::pairs() {
        let source = server(from).create_database("collations");
        source.sql(
            "CREATE COLLATION of_icu (provider = icu, locale = 'de');
             CREATE TABLE t (a text COLLATE of_icu, b text COLLATE \"en_US.utf8\");
             INSERT INTO t VALUES ('ä', 'b'), ('z', 'a');
             CREATE INDEX ON t (a);
             UPDATE pg_collation SET collversion = '1.2.3' WHERE collname IN ('of_icu', 'en_US.utf8');
             UPDATE pg_database SET datcollversion = '0.0' WHERE datname = current_database();",
        );
        let target = server(to);
        let folder = Folder::new();
        let file = folder.file("archive.rdump");
        support::rdump_ok(&["snapshot", "-d", &source.conninfo(), "-f", &file]);
        let restored = target.create_database_with("collations", "TEMPLATE template0");
        let conninfo = restored.conninfo();
        support::rdump_ok(&["restore", &file, "-d", &conninfo]);
        support::assert_same_rows(&source, &restored);
        support::rdump_ok(&["verify", &file, "--against", &conninfo]);
        // the version that is recorded is what the target's library has, as after pg_dump
        let judge = target.copy_with_pg_dump(&source, "collations_judge");
        support::assert_same_schema(&judge, &restored);
    }
}

/// Tables and views of another session's temporary schema are nobody's to keep.
#[test]
fn temporary_tables_of_open_sessions() {
    for (from, to) in support::pairs() {
        let source = server(from).create_database("temporary");
        source.sql("CREATE TABLE kept (id int); INSERT INTO kept VALUES (1);");
        let mut session = Other::new(&source);
        session.run(
            "CREATE TEMP TABLE passing (id serial PRIMARY KEY, kept text CHECK (kept <> ''));
             CREATE TEMP VIEW passing_view AS SELECT * FROM passing;
             CREATE TEMP SEQUENCE passing_sequence;
             CREATE TYPE pg_temp.passing_type AS (a int);
             CREATE FUNCTION pg_temp.passing_function() RETURNS int LANGUAGE sql RETURN 1;
             COMMENT ON TABLE passing IS 'of this session';
             GRANT SELECT ON passing TO PUBLIC;
             INSERT INTO passing (kept) VALUES ('not this')",
        );
        let restored = check_database(&source, server(to));
        let relations =
            restored.query_text("SELECT count(*) FROM pg_class WHERE relname LIKE 'passing%'");
        assert_eq!(relations, "0");
    }
}
