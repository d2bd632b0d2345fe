//! `restore --with-dependencies`: a table with what it needs, judged by what pg_dump prints of it and
//! of the same table in a copy of the source, renamed there by the server.

mod copies;
mod failures;
mod partitions;
mod told;

use super::errors::{Folder, snapshot};
use crate::support::{self, TestDatabase, VERSIONS, difference, normalise_dump, server};

const SCHEMA: &str = r#"
CREATE SCHEMA shop;
CREATE EXTENSION hstore SCHEMA public;
CREATE TYPE shop.mood AS ENUM ('good', 'bad');
CREATE DOMAIN shop.positive AS int CHECK (VALUE > 0);
CREATE TYPE shop.address AS (street text, town text);
CREATE TYPE shop.spans AS RANGE (subtype = int);
CREATE COLLATION shop.plain (provider = libc, locale = 'C');
CREATE SEQUENCE shop.codes START 500;
CREATE FUNCTION shop.is_code(t text) RETURNS bool LANGUAGE sql IMMUTABLE AS $$SELECT t <> 'shop.orders'$$;
CREATE FUNCTION shop.next_code() RETURNS text LANGUAGE sql AS $$SELECT 'c' || pg_catalog.nextval('shop.codes')$$;
CREATE FUNCTION shop.folded(t text) RETURNS text LANGUAGE sql IMMUTABLE AS $$SELECT pg_catalog.lower(t)$$;
CREATE FUNCTION shop.act() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN new.note := 'seen'; RETURN new; END$$;
CREATE FUNCTION shop.unneeded() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE TABLE shop.customers (id int PRIMARY KEY, name text);
CREATE TABLE shop.members (role name, customer int);
CREATE TABLE shop.orders (
    id serial PRIMARY KEY,
    number int GENERATED ALWAYS AS IDENTITY (START WITH 7),
    customer int REFERENCES shop.customers,
    parent int CONSTRAINT "self's" REFERENCES shop.orders,
    mood shop.mood DEFAULT 'good',
    amount shop.positive,
    twice int GENERATED ALWAYS AS (amount * 2) STORED,
    at shop.address,
    span shop.spans,
    extra public.hstore,
    label text COLLATE shop.plain DEFAULT 'nextval(''shop.orders_id_seq'')',
    code text DEFAULT shop.next_code() CHECK (shop.is_code(code)),
    ticket bigint DEFAULT nextval('shop.codes'::regclass),
    note text,
    CONSTRAINT "odd ""check" CHECK (label <> 'shop.orders')
);
CREATE TABLE shop.lines (id int PRIMARY KEY, of int REFERENCES shop.orders);
CREATE UNIQUE INDEX "Odd ""index""" ON shop.orders (shop.folded(code)) WHERE (mood = 'good');
CREATE INDEX orders_span ON shop.orders USING gist (span);
ALTER TABLE shop.orders CLUSTER ON orders_pkey;
ALTER TABLE shop.orders REPLICA IDENTITY USING INDEX orders_pkey;
CREATE STATISTICS shop.orders_stat ON customer, amount FROM shop.orders;
CREATE TRIGGER "Acting ""now""" BEFORE INSERT ON shop.orders FOR EACH ROW EXECUTE FUNCTION shop.act();
CREATE RULE quiet AS ON DELETE TO shop.orders WHERE (old.id < 0) DO INSTEAD UPDATE shop.orders SET note = 'kept' WHERE orders.id = old.id;
CREATE POLICY mine ON shop.orders TO fixture_reader, "Fixture ""Odd"" role"
    USING (EXISTS (SELECT FROM shop.members m WHERE m.role = current_user AND m.customer = orders.customer));
ALTER TABLE shop.orders ENABLE ROW LEVEL SECURITY;
COMMENT ON TABLE shop.orders IS 'the shop.orders';
COMMENT ON COLUMN shop.orders.code IS 'its code';
COMMENT ON INDEX shop.orders_span IS 'spans';
COMMENT ON CONSTRAINT "odd ""check" ON shop.orders IS 'odd';
COMMENT ON TRIGGER "Acting ""now""" ON shop.orders IS 'acts';
COMMENT ON SEQUENCE shop.orders_id_seq IS 'numbers';
ALTER TABLE shop.orders OWNER TO fixture_owner;
GRANT SELECT ON shop.orders TO fixture_reader WITH GRANT OPTION;
GRANT UPDATE (note) ON shop.orders TO "Fixture ""Odd"" role";
GRANT USAGE ON SEQUENCE shop.orders_id_seq TO fixture_writer;
GRANT USAGE ON SCHEMA shop TO fixture_owner, fixture_reader;
GRANT SELECT ON shop.customers, shop.members TO fixture_owner;
INSERT INTO shop.customers SELECT i, 'name ' || i FROM generate_series(1, 9) i;
INSERT INTO shop.members VALUES ('fixture_reader', 3);
INSERT INTO shop.orders (customer, parent, amount, at, span, extra)
SELECT 1 + i % 9, nullif(i - 1, 0), i, ROW('street', i::text)::shop.address, int4range(i, i + 3)::text::shop.spans, hstore('i', i::text)
FROM generate_series(1, 200) i;
INSERT INTO shop.lines SELECT i, i FROM generate_series(1, 50) i;
"#;

struct Case {
    source: TestDatabase,
    file: String,
    _folder: Folder,
}

fn case(major: u32) -> Case {
    let source = server(major).create_database("tables");
    source.server.ensure_roles();
    case_of(source, SCHEMA)
}

fn case_of(source: TestDatabase, schema: &str) -> Case {
    source.sql(schema);
    let folder = Folder::new();
    let file = snapshot(&source, &folder);
    Case {
        source,
        file,
        _folder: folder,
    }
}

impl Case {
    fn empty(&self) -> TestDatabase {
        self.source
            .server
            .create_database_with("tables", "TEMPLATE template0")
    }

    fn copy(&self) -> TestDatabase {
        self.copy_of(&[])
    }

    fn copy_of(&self, flags: &[&str]) -> TestDatabase {
        let copy = self.empty();
        let conninfo = copy.conninfo();
        support::rdump_ok(&[&["restore", "-q", &self.file, "-d", &conninfo], flags].concat());
        copy
    }

    fn restore(&self, target: &TestDatabase, flags: &[&str]) -> support::Finished {
        let conninfo = target.conninfo();
        let mut arguments = vec!["restore", &self.file, "-d", &conninfo];
        arguments.extend(["-n", "shop", "--with-dependencies"]);
        arguments.extend(flags);
        support::rdump(&arguments)
    }

    #[track_caller]
    fn restore_ok(&self, target: &TestDatabase, flags: &[&str]) -> String {
        let finished = self.restore(target, flags);
        assert_eq!(finished.code, 0, "{flags:?}: {}", finished.stderr);
        assert_eq!(
            target.query_text("SELECT count(*) FROM pg_namespace WHERE nspname ~ '^rdump'"),
            "0"
        );
        finished.stderr
    }
}

/// What pg_dump prints of some tables, rows and all.
#[track_caller]
fn assert_same_tables(expected: &TestDatabase, actual: &TestDatabase, pattern: &str) {
    let dump = |database: &TestDatabase| {
        normalise_dump(&expected.server.pg_dump(&["-t", pattern], database))
    };
    let (left, right) = (dump(expected), dump(actual));
    assert!(left.contains("COPY "), "{pattern}: nothing is there");
    assert!(left == right, "{pattern}:\n{}", difference(&left, &right));
}

/// The defaults, the trigger and the policy do what they did.
fn assert_alive(target: &TestDatabase, table: &str) {
    assert_eq!(
        target.query_text(&format!(
            "INSERT INTO {table} (amount) VALUES (4) RETURNING id, number, mood, twice, note, code LIKE 'c%'"
        )),
        "201|207|good|8|seen|t"
    );
    let error = target.sql_error(&format!("INSERT INTO {table} (amount) VALUES (-4)"));
    assert!(error.contains("positive"), "{error}");
    let error = target.sql_error(&format!("INSERT INTO {table} (parent) VALUES (-4)"));
    assert!(error.contains("self's"), "{error}");
    assert_eq!(
        target.query_text(&format!(
            "GRANT SELECT ON shop.members TO fixture_reader; SET ROLE fixture_reader; \
             SELECT count(*) FROM {table} WHERE id < 201"
        )),
        "23"
    );
}

#[test]
fn a_table_comes_into_an_empty_database_with_what_it_needs() {
    for major in VERSIONS {
        let case = case(major);
        let target = case.empty();
        let told = case.restore_ok(&target, &["-t", "orders"]);
        for part in [
            "TABLE shop.members",
            "TYPE shop.mood",
            "FUNCTION shop.act()",
            "SEQUENCE shop.codes",
            "left out: FK CONSTRAINT shop.orders orders_customer_fkey: TABLE shop.customers is not there",
            "left out: FK CONSTRAINT shop.lines lines_of_fkey: TABLE shop.lines is not there",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
        let expected = case.copy();
        expected.sql("ALTER TABLE shop.orders DROP CONSTRAINT orders_customer_fkey");
        assert_same_tables(
            &expected,
            &target,
            "shop.(orders|members|codes|orders_id_seq)",
        );
        assert_eq!(
            target.query_text(
                "SELECT count(*) FROM pg_proc WHERE proname = 'unneeded'
                 UNION ALL SELECT count(*) FROM pg_class WHERE relname IN ('customers', 'lines')"
            ),
            "0\n0"
        );
        assert_alive(&target, "shop.orders");
    }
}

#[test]
fn a_lost_table_comes_back_among_the_others() {
    for major in VERSIONS {
        let case = case(major);
        let target = case.copy();
        target.sql("DROP TABLE shop.orders CASCADE");
        let told = case.restore_ok(&target, &["-t", "orders", "-1"]);
        assert!(told.contains("used as the target has it: "), "{told}");
        assert!(!told.contains("left out"), "{told}");
        support::assert_same_schema(&case.source, &target);
        support::assert_same_rows(&case.source, &target);
        assert_alive(&target, "shop.orders");
    }
}

#[test]
fn what_is_there_is_refused_or_used() {
    let case = case(18);
    let target = case.copy();
    let before = normalise_dump(&target.server.pg_dump(&[], &target));
    let refused = case.restore(&target, &["-t", "orders"]);
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    assert!(
        refused.stderr.contains(
            "TABLE shop.orders is there already: restore it beside that one with --as NAME or --into-schema SCHEMA"
        ),
        "{}",
        refused.stderr
    );
    let after = normalise_dump(&target.server.pg_dump(&[], &target));
    assert_eq!(before, after);

    target.sql("DROP TABLE shop.orders CASCADE; ALTER TYPE shop.mood ADD VALUE 'new'");
    let before = normalise_dump(&target.server.pg_dump(&[], &target));
    let refused = case.restore(&target, &["-t", "orders"]);
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    assert!(
        refused.stderr.contains(
            "TYPE shop.mood, which is needed, is there already and its definition reads differently"
        ),
        "{}",
        refused.stderr
    );
    let after = normalise_dump(&target.server.pg_dump(&[], &target));
    assert_eq!(before, after);
    case.restore_ok(&target, &["-t", "orders", "--force"]);
    assert_alive(&target, "shop.orders");
}

#[test]
fn a_table_comes_back_beside_the_one_that_is_there() {
    for major in VERSIONS {
        let case = case(major);
        let target = case.copy();
        let told = case.restore_ok(&target, &["-t", "orders", "--as", "Old \"orders"]);
        assert!(
            told.contains("FUNCTION shop.is_code(text) has \"orders\" in its text"),
            "{told}"
        );
        let expected = case.copy();
        // names as told: the rest after the table's, or all of it
        expected.sql(
            r#"ALTER TABLE shop.orders RENAME TO "Old ""orders";
               ALTER INDEX shop.orders_pkey RENAME TO "Old ""orders_pkey";
               ALTER INDEX shop.orders_span RENAME TO "Old ""orders_span";
               ALTER INDEX shop."Odd ""index""" RENAME TO "Old ""orders_Odd ""index""";
               ALTER SEQUENCE shop.orders_id_seq RENAME TO "Old ""orders_id_seq";
               ALTER SEQUENCE shop.orders_number_seq RENAME TO "Old ""orders_number_seq";
               ALTER STATISTICS shop.orders_stat RENAME TO "Old ""orders_stat";"#,
        );
        assert_same_tables(&expected, &target, "shop.\"Old \"\"orders\"*");
        assert_same_tables(&case.source, &target, "shop.orders*");
        assert_alive(&target, "shop.\"Old \"\"orders\"");
        assert_alive(&target, "shop.orders");
        // taken now
        let refused = case.restore(&target, &["-t", "orders", "--as", "Old \"orders"]);
        assert_eq!(refused.code, 1, "{}", refused.stderr);
        assert!(
            refused.stderr.contains("is there already"),
            "{}",
            refused.stderr
        );
    }
}

#[test]
fn a_table_comes_into_another_schema() {
    for major in VERSIONS {
        let case = case(major);
        let schema = "Res \"cue";
        for (target, flags) in [
            (case.copy(), vec![]),
            (case.copy(), vec!["-1"]),
            (case.copy(), vec!["-j", "4", "--as", "again"]),
        ] {
            let flags = [vec!["-t", "orders", "--into-schema", schema], flags].concat();
            case.restore_ok(&target, &flags);
            let expected = case.copy();
            expected.sql(
                r#"CREATE SCHEMA "Res ""cue"; GRANT CREATE ON SCHEMA "Res ""cue" TO fixture_owner;
                   ALTER TABLE shop.orders SET SCHEMA "Res ""cue"; ALTER STATISTICS shop.orders_stat SET SCHEMA "Res ""cue""#,
            );
            let mut table = "\"Res \"\"cue\".orders";
            if flags.contains(&"--as") {
                expected.sql(r#"ALTER TABLE "Res ""cue".orders RENAME TO again"#);
                table = "\"Res \"\"cue\".again";
            }
            assert_same_tables(&expected, &target, "\"Res \"\"cue\".*");
            assert_same_tables(&case.source, &target, "shop.*");
            target.sql("GRANT USAGE ON SCHEMA \"Res \"\"cue\" TO PUBLIC");
            assert_alive(&target, table);
        }
        // alone, with what it needs
        let target = case.empty();
        case.restore_ok(&target, &["-t", "orders", "--into-schema", schema]);
        assert_eq!(
            target.query_text(
                "SELECT string_agg(nspname || '.' || relname, ' ' ORDER BY 1)
                 FROM (SELECT nspname, relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
                       WHERE relkind = 'r' AND nspname !~ '^pg_' AND nspname <> 'information_schema'
                       ORDER BY 1, 2) t"
            ),
            "Res \"cue.orders shop.members"
        );
    }
}

#[test]
fn hostile_names_move_as_others_do() {
    for major in VERSIONS {
        let source = server(major).create_database("tables");
        source.sql(
            r#"CREATE SCHEMA "S.c'h\e""ma;";
               CREATE TABLE "S.c'h\e""ma;"."T.a'b\l""e$$;" (
                   "i.d'\""" serial PRIMARY KEY,
                   "é" int REFERENCES "S.c'h\e""ma;"."T.a'b\l""e$$;",
                   said text DEFAULT '"S.c''h\e""ma;"."T.a''b\l""e$$;"' CHECK (said <> $x$'"S.c'h\e""ma;"."T.a'b\l""e$$$x$),
                   of regclass DEFAULT '"S.c''h\e""ma;"."T.a''b\l""e$$;"'::regclass
               );
               COMMENT ON TABLE "S.c'h\e""ma;"."T.a'b\l""e$$;" IS E'"S.c''h\\e""ma;"."T.a''b\\l""e$$;"\n';
               INSERT INTO "S.c'h\e""ma;"."T.a'b\l""e$$;" ("é", of) SELECT 1, NULL FROM generate_series(1, 9)"#,
        );
        let folder = Folder::new();
        let case = Case {
            file: snapshot(&source, &folder),
            source,
            _folder: folder,
        };
        let target = case.empty();
        let conninfo = target.conninfo();
        let to = "N'e\\w\"; $$";
        support::rdump_ok(&[
            "restore",
            "-q",
            &case.file,
            "-d",
            &conninfo,
            "-t",
            "T.a'b\\l\"e$$;",
            "--with-dependencies",
            "--into-schema",
            to,
            "--as",
            to,
        ]);
        let expected = case.copy();
        expected.sql(
            r#"CREATE SCHEMA "N'e\w""; $$";
               ALTER TABLE "S.c'h\e""ma;"."T.a'b\l""e$$;" RENAME TO "N'e\w""; $$";
               ALTER TABLE "S.c'h\e""ma;"."N'e\w""; $$" SET SCHEMA "N'e\w""; $$";
               DROP SCHEMA "S.c'h\e""ma;""#,
        );
        support::assert_same_schema(&expected, &target);
        let rows = r#"SELECT count(*), sum("é"), max("i.d'\""") FROM "N'e\w""; $$"."N'e\w""; $$""#;
        assert_eq!(target.query_text(rows), "9|9|9");
        assert_eq!(
            target.query_text(r#"SELECT nextval(pg_get_serial_sequence('"N''e\w""; $$"."N''e\w""; $$"', E'i.d\'\\"'))"#),
            "10"
        );
    }
}

#[test]
fn heirs_and_what_depends_on_the_table_itself() {
    let source = server(18).create_database("tables");
    source.sql(
        "CREATE SCHEMA shop;
         CREATE TABLE shop.parent (i int);
         CREATE TABLE shop.child (j int) INHERITS (shop.parent);
         CREATE TABLE shop.own (i int);
         CREATE FUNCTION shop.good(shop.own) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT true';
         ALTER TABLE shop.own ADD CHECK (shop.good(own));
         CREATE VIEW shop.seen AS SELECT own.i FROM shop.own;
         INSERT INTO shop.child VALUES (1, 2);
         INSERT INTO shop.parent VALUES (3)",
    );
    let folder = Folder::new();
    let case = Case {
        file: snapshot(&source, &folder),
        source,
        _folder: folder,
    };
    let target = case.copy();
    for system in ["pg_catalog", "information_schema", "pg_mine"] {
        let refused = case.restore(&target, &["-t", "child", "--into-schema", system]);
        assert_eq!(refused.code, 2, "{}", refused.stderr);
        assert!(
            refused.stderr.contains("is the system's"),
            "{}",
            refused.stderr
        );
    }
    let refused = case.restore(&target, &["-t", "child", "--into-schema", "old"]);
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    assert!(
        refused
            .stderr
            .contains("inherits from TABLE shop.parent, which is in use"),
        "{}",
        refused.stderr
    );
    case.restore_ok(
        &target,
        &["-t", "child", "-t", "parent", "--into-schema", "old"],
    );
    assert_eq!(
        target.query_text(
            "SELECT count(*) FROM shop.parent UNION ALL SELECT count(*) FROM old.parent"
        ),
        "2\n2"
    );
    let refused = case.restore(&target, &["-t", "own", "--into-schema", "old"]);
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    assert!(
        refused.stderr.contains("shop.good(shop.own)"),
        "{}",
        refused.stderr
    );

    // by its own name all of it comes, and a view if it is asked for
    let target = case.empty();
    case.restore_ok(&target, &["-t", "child", "-t", "own", "-t", "seen"]);
    support::assert_same_schema(&case.source, &target);
    support::assert_same_rows(&case.source, &target);
}

/// Identity columns of other tables depend on the schema as well, and statistics name their table in
/// a text.
#[test]
fn neighbours_stay_where_they_are() {
    let source = server(18).create_database("neighbours");
    source.sql(
        "CREATE SCHEMA a; CREATE TABLE a.lonely (id int); INSERT INTO a.lonely VALUES (1);
         CREATE TABLE a.big (x int GENERATED ALWAYS AS IDENTITY, y text);
         INSERT INTO a.big (y) SELECT i FROM generate_series(1, 100) i;
         ANALYZE",
    );
    let folder = Folder::new();
    let file = folder.file("archive.rdump");
    let conninfo = source.conninfo();
    support::rdump_ok(&[
        "snapshot",
        "-q",
        "-d",
        &conninfo,
        "-f",
        &file,
        "--statistics",
    ]);
    let tables = |database: &TestDatabase| {
        database.query_text(
            "SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class
             WHERE relkind = 'r' AND oid >= 16384",
        )
    };
    for (more, expected) in [(&[][..], "lonely"), (&["--as", "copy"], "copy")] {
        let target = server(18).create_database_with("neighbour", "TEMPLATE template0");
        let conninfo = target.conninfo();
        let restore = [
            "restore",
            &file,
            "-d",
            &conninfo,
            "-t",
            "lonely",
            "--with-dependencies",
        ];
        let finished = support::rdump_ok(&[&restore[..], more].concat());
        assert_eq!(tables(&target), expected);
        assert!(
            finished
                .stderr
                .contains("left out: STATISTICS DATA a.lonely"),
            "{}",
            finished.stderr
        );
    }
}
