//! `rdump sql`, run by psql: it makes what `rdump restore` makes, and nothing else.

mod broken;
mod encodings;
mod forged;
mod options;

use std::process::Command;

use crate::errors::Folder;
use crate::support::{self, Server, TestDatabase, run_ok, server};

const PAIRS: [(u32, u32); 3] = [(15, 15), (18, 18), (15, 18)];

/// COPY, and each way of INSERT.
const FORMS: [&[&str]; 4] = [
    &[],
    &["--inserts"],
    &["--column-inserts", "--rows-per-insert", "100"],
    &["--rows-per-insert", "7", "--on-conflict-do-nothing"],
];

fn snapshot(source: &TestDatabase, folder: &Folder) -> String {
    let file = folder.file("archive.rdump");
    let source = source.conninfo();
    support::rdump_ok(&["snapshot", "-q", "-d", &source, "-f", &file, "-j", "4"]);
    file
}

/// What `rdump sql` prints.
fn script(archive: &str, options: &[&str]) -> Vec<u8> {
    let arguments = [&["sql", "-q", archive], options].concat();
    support::rdump_ok(&arguments).stdout
}

/// psql of a database's own server, as whoever restores would run it.
fn psql_command(database: &TestDatabase, options: &[&str]) -> Command {
    psql_on(database.server, &database.name, options)
}

pub fn psql_on(server: &Server, database: &str, options: &[&str]) -> Command {
    let mut psql = server.program("psql");
    psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-U", "postgres"]);
    psql.args(options);
    let name = database.replace('\\', "\\\\").replace('\'', "\\'");
    psql.args(["-o", "/dev/null", "-f", "-", "-d"]);
    psql.arg(format!("dbname='{name}'"));
    psql
}

/// An empty database that psql runs a script on.
fn made_by(script: &[u8], on: &'static Server, prefix: &str) -> TestDatabase {
    let target = on.create_database_with(prefix, "TEMPLATE template0");
    let finished = run_ok(&mut psql_command(&target, &[]), script);
    // of subscriptions, which are made without their publisher
    let is_known = |line: &str| line.contains("WARNING:  ") || line.starts_with("HINT:  ");
    assert!(
        finished.stderr.lines().all(is_known),
        "{prefix}: {}",
        finished.stderr
    );
    target
}

fn restored(archive: &str, on: &'static Server, prefix: &str) -> TestDatabase {
    let target = on.create_database_with(prefix, "TEMPLATE template0");
    support::rdump_ok(&["restore", archive, "-d", &target.conninfo(), "-j", "4"]);
    target
}

/// Every form makes the rows that `expected` has; COPY the definitions too.
fn check(archive: &str, expected: &TestDatabase, on: &'static Server, forms: &[&[&str]]) {
    for form in forms {
        let made = made_by(&script(archive, form), on, &expected.name);
        if form.is_empty() {
            support::assert_same_schema(expected, &made);
        }
        support::assert_same_rows(expected, &made);
    }
}

#[test]
fn the_sample_database() {
    for (from, to) in PAIRS {
        let source = server(from).create_database("script_shop");
        support::load_sample(&source, 1);
        let folder = Folder::new();
        let archive = snapshot(&source, &folder);
        let expected = restored(&archive, server(to), "script_shop");
        // a row a statement takes its time
        check(&archive, &expected, server(to), &[FORMS[0], FORMS[2]]);

        // from a stream, rows come in pieces
        let bytes = std::fs::read(&archive).expect("the archive");
        let mut sql = support::rdump_command(&["sql", "-q", "-"]);
        let streamed = run_ok(&mut sql, &bytes).stdout;
        let made = server(to).create_database_with("script_streamed", "TEMPLATE template0");
        // nothing in it ends the transaction
        run_ok(&mut psql_command(&made, &["-1"]), &streamed);
        support::assert_same_schema(&expected, &made);
        support::assert_same_rows(&expected, &made);
    }
}

fn each_kind_alone(major: u32) {
    let mut failed = Vec::new();
    for kind in support::kinds() {
        let source = server(major).create_database(&format!("script_{kind}"));
        support::load_kind(&source, &kind);
        let folder = Folder::new();
        let archive = snapshot(&source, &folder);
        let outcome = std::panic::catch_unwind(|| {
            check(&archive, &source, server(major), &FORMS[..1]);
        });
        if outcome.is_err() {
            failed.push(kind);
        }
    }
    assert!(failed.is_empty(), "on {major}: {failed:?}");
}

#[test]
fn each_kind_alone_on_15() {
    each_kind_alone(15);
}

#[test]
fn each_kind_alone_on_18() {
    each_kind_alone(18);
}

#[test]
fn all_kinds_together() {
    for (from, to) in PAIRS {
        server(from).ensure_roles();
        server(to).copy_roles(server(from));
        let source = server(from).create_database("script_kinds");
        for kind in support::kinds() {
            if kind != "default_privileges" {
                support::load_kind(&source, &kind);
            }
        }
        support::load_kind(&source, "default_privileges");
        let folder = Folder::new();
        let archive = snapshot(&source, &folder);
        let expected = restored(&archive, server(to), "script_kinds");
        check(&archive, &expected, server(to), &FORMS);
    }
}

/// Values of every type that there is an unusual text of, and rows of unusual tables.
const VALUES: &str = r#"
CREATE EXTENSION hstore;
CREATE TYPE mood AS ENUM ('it''s', E'a\nb', '', 'NULL');
CREATE TYPE pair AS (a text, b int[]);
CREATE DOMAIN short AS varchar(5) CHECK (VALUE <> 'never');
CREATE TABLE "values" (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    i2 smallint, i8 bigint, n numeric(30,10), f4 real, f8 double precision, ok boolean, cash money,
    t text, c char(5), v varchar(5), "char" "char", b bytea, d date, ts timestamp, tz timestamptz,
    tm time, tmz timetz, iv interval, u uuid, j json, jb jsonb, x xml, ip inet, cidr cidr, mac macaddr,
    bits bit(3), vbits bit varying, p point, poly polygon, tsv tsvector, tsq tsquery, r int4range,
    mr int4multirange, m mood, ms mood[], pr pair, prs pair[], s short, ss short[], ia int[][], h hstore,
    lsn pg_lsn, cls regclass, "o'id" oid, g text GENERATED ALWAYS AS (v || '!') STORED
);
INSERT INTO "values" (i2, i8, n, f4, f8, ok, cash, t, c, v, "char", b, d, ts, tz, tm, tmz, iv, u, j, jb, x, ip, cidr,
    mac, bits, vbits, p, poly, tsv, tsq, r, mr, m, ms, pr, prs, s, ss, ia, h, lsn, cls, "o'id") VALUES
(-32768, -9223372036854775808, -1234567890.0123456789, '-infinity', 'NaN', true, '-$1,234.56', E'it''s \\ "\n\r\t\b\f\v\\.',
 'ab', '', E'\\', '\x00275c0aff', '0044-03-15 BC', 'infinity', '2024-02-29 12:34:56.789+13', '24:00', '12:34:56-15:59',
 '-1 year 2 mons -3 days 04:05:06.7', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{"a" :  "\u0000"}', '{"a": "\\\"''"}',
 'no document', '::1/64', '10.0.0.0/8', '08:00:2b:01:02:03', B'101', B'', '(1e300,-0)', '((0,0),(1,1),(2,0.1))',
 $$'it''s':1A '\\':2$$, $$'a' & !'b''c':*$$, '[1,5)', '{[1,2),[5,)}', E'a\nb', ARRAY['it''s','','NULL',NULL,E'a\nb']::mood[],
 ROW(E'a"\\,()\n', ARRAY[1,NULL]), ARRAY[ROW(NULL,NULL)::pair, ROW('','{}')::pair], 'x''y', ARRAY['NULL',NULL,'"']::short[],
 '[0:1][-1:0]={{1,2},{3,NULL}}', 'a=>NULL, "b c"=>"\"\\"', '16/B374D848', '"values"', 4294967295),
(NULL, NULL, 'NaN', 1.1754944e-38, 5e-324, false, NULL, '', '', '', NULL, '', 'infinity', NULL, '-infinity', NULL, NULL,
 NULL, NULL, 'null', 'null', '', NULL, NULL, NULL, NULL, NULL, NULL, NULL, '', '', 'empty', '{}', '', '{}', ROW(NULL,NULL),
 '{}', '', '{}', '{}', '', NULL, NULL, 0);
INSERT INTO "values" (t) SELECT chr(i) || repeat('''\', i % 9) FROM generate_series(1, 500) AS i;
CREATE TABLE nothing ();
INSERT INTO nothing DEFAULT VALUES; INSERT INTO nothing DEFAULT VALUES;
CREATE TABLE computed (g int GENERATED ALWAYS AS (42) STORED);
INSERT INTO computed DEFAULT VALUES; INSERT INTO computed DEFAULT VALUES;
CREATE TABLE empty (i int);
CREATE TABLE one (t text);
INSERT INTO one VALUES (''), (NULL), ('\N'), ('\.'), (E'\n'), ('NULL');
CREATE TABLE large (t text);
INSERT INTO large SELECT repeat(E'it''s \\ \n', 400000);
CREATE TABLE parent (id int GENERATED ALWAYS AS IDENTITY, k int) PARTITION BY LIST (k);
CREATE TABLE parent_1 PARTITION OF parent FOR VALUES IN (1);
CREATE TABLE parent_2 PARTITION OF parent DEFAULT;
INSERT INTO parent (k) VALUES (1), (2), (3);
CREATE TYPE colour AS ENUM ('red', 'green', 'blue');
CREATE TABLE hashed (c colour, i int) PARTITION BY HASH (c);
CREATE TABLE hashed_0 PARTITION OF hashed FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE hashed_1 PARTITION OF hashed FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO hashed SELECT (enum_range(NULL::colour))[i % 3 + 1], i FROM generate_series(1, 30) AS i;
SELECT lo_create(4000000001), lo_put(4000000001, 30000000, 'far away'), lo_put(4000000001, 5, '\x00ff');
SELECT lo_from_bytea(77, (SELECT decode(string_agg(md5(i::text), ''), 'hex') FROM generate_series(1, 60000) AS i));
SELECT lo_create(78);
"#;

#[test]
fn every_value_arrives() {
    for (from, to) in PAIRS {
        let source = server(from).create_database("script_values");
        source.sql(VALUES);
        let folder = Folder::new();
        let archive = snapshot(&source, &folder);
        for form in FORMS {
            let made = made_by(&script(&archive, form), server(to), "script_values");
            support::assert_same_rows(&source, &made);
        }
    }
}
