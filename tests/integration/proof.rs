//! A database is proved equal to an archive, and every way of not being equal is named.

mod changes;
mod constraints;
mod coverage;
mod databases;
mod forged;
mod large_objects;
mod materialized_views;
mod output;
mod privileges;
mod storage;
mod undecided;

use std::sync::Arc;

use rdump::Result;
use rdump::archive::RandomReader;
use rdump::proof::comparison::Compared;
use rdump::proof::{CompareOptions, Comparison, compare};
use rdump::storage::LocalFile;
use tempfile::TempDir;

use crate::hooked;
use crate::support::{self, Server, TestDatabase, VERSIONS, server};

/// An archive of a database, in a folder that goes with it.
struct Archive {
    folder: TempDir,
}

impl Archive {
    fn of(database: &TestDatabase) -> Archive {
        let folder = TempDir::new().expect("a temporary folder");
        let archive = Archive { folder };
        hooked::run(
            &database.conninfo(),
            &hooked::options(&archive.path(), None),
        )
        .unwrap_or_else(|error| panic!("snapshot of {}: {error}", database.name));
        archive
    }

    fn try_compare(&self, database: &TestDatabase, options: &CompareOptions) -> Result<Comparison> {
        self.try_compare_over(&database.conninfo(), options)
    }

    fn try_compare_over(&self, conninfo: &str, options: &CompareOptions) -> Result<Comparison> {
        let reader = RandomReader::open(LocalFile::open(self.path())?)?;
        let connector = hooked::connector(conninfo);
        tokio::runtime::Runtime::new()
            .expect("starting a runtime")
            .block_on(compare(&reader, connector, options, Arc::default()))
    }

    fn compare(&self, database: &TestDatabase) -> Comparison {
        let options = CompareOptions {
            jobs: 3,
            ..CompareOptions::default()
        };
        self.try_compare(database, &options)
            .unwrap_or_else(|error| panic!("comparing {}: {error}", database.name))
    }

    /// Fails unless the findings begin with these, one by one, in order.
    fn assert_findings(&self, database: &TestDatabase, after: &str, expected: &[&str]) {
        let found = self.findings(database);
        let major = database.server.major;
        let alike = found.len() == expected.len()
            && found
                .iter()
                .zip(expected)
                .all(|(found, expected)| found.starts_with(expected));
        assert!(
            alike,
            "on {major}, after {after}: {found:#?}, expected {expected:#?}"
        );
    }

    /// All findings, a line each.
    fn findings(&self, database: &TestDatabase) -> Vec<String> {
        lines(&self.compare(database))
    }
}

fn lines(comparison: &Comparison) -> Vec<String> {
    comparison
        .findings
        .iter()
        .map(ToString::to_string)
        .collect()
}

const SCHEMA: &str = r#"
CREATE SCHEMA app;
CREATE TYPE app.mood AS ENUM ('sad', 'ok', 'happy');
CREATE FUNCTION app.twice(i integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT i * 2';
CREATE FUNCTION app.twice(i numeric) RETURNS numeric LANGUAGE sql IMMUTABLE AS 'SELECT i * 2';
GRANT EXECUTE ON FUNCTION app.twice(integer) TO fixture_reader;
GRANT EXECUTE ON FUNCTION app.twice(numeric) TO fixture_writer;
CREATE TABLE app.customer (
    id serial PRIMARY KEY,
    name varchar(40) NOT NULL DEFAULT 'nobody',
    state varchar(10) CHECK (state IN ('new', 'old')),
    feeling app.mood DEFAULT 'ok'
);
INSERT INTO app.customer (name, state)
SELECT 'customer ' || i, CASE WHEN i % 2 = 0 THEN 'new' ELSE 'old' END FROM generate_series(1, 500) i;
CREATE TABLE app."Order" (id bigint GENERATED ALWAYS AS IDENTITY, customer integer NOT NULL, total numeric(10, 2));
INSERT INTO app."Order" (customer, total) SELECT 1 + i % 500, i / 7.0 FROM generate_series(1, 1000) i;
ALTER TABLE app."Order" ADD FOREIGN KEY (customer) REFERENCES app.customer;
CREATE TABLE app.ticket (id bigint GENERATED ALWAYS AS IDENTITY (SEQUENCE NAME app.ticket_numbers), state varchar(10) CHECK (state IN ('open', 'done')));
CREATE INDEX order_customer ON app."Order" (customer) WHERE total > 10;
CREATE VIEW app.rich AS
    SELECT c.id, c.name, sum(o.total) AS total FROM app.customer c JOIN app."Order" o ON o.customer = c.id
    WHERE c.state IN ('new', 'old') GROUP BY c.id, c.name;
CREATE MATERIALIZED VIEW app.counted AS SELECT state, count(*) FROM app.customer GROUP BY state;
ALTER TABLE app.customer ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON app.customer USING (name = CURRENT_USER);
CREATE SEQUENCE app.tickets START 100 INCREMENT 5;
SELECT nextval('app.tickets'), nextval('app.tickets');
GRANT SELECT ON app.customer TO fixture_reader;
GRANT INSERT, UPDATE ON app.customer TO fixture_writer;
GRANT UPDATE (name) ON app.customer TO fixture_reader;
ALTER SEQUENCE app.tickets OWNER TO fixture_owner;
COMMENT ON TABLE app.customer IS 'who buys';
SELECT lo_from_bytea(4711, '\x00ff'), lo_from_bytea(4712, '\x01'), lo_from_bytea(4713, '\x02');
GRANT SELECT ON LARGE OBJECT 4711, 4712, 4713 TO fixture_reader;
"#;

/// A change, what undoes it, and a part of each finding that it must give, in order.
const CHANGES: &[(&str, &str, &[&str])] = &[
    (
        "UPDATE app.customer SET name = 'customer 8 ' WHERE id = 7",
        "UPDATE app.customer SET name = 'customer 7' WHERE id = 7",
        &["rows of app.customer: as many rows as in the archive, but not the same"],
    ),
    (
        "INSERT INTO app.\"Order\" (id, customer, total) OVERRIDING SYSTEM VALUE VALUES (5000, 1, 1)",
        "DELETE FROM app.\"Order\" WHERE id = 5000",
        &["rows of app.\"Order\": 1001 rows, in the archive 1000"],
    ),
    (
        "DROP INDEX app.order_customer",
        "CREATE INDEX order_customer ON app.\"Order\" (customer) WHERE total > 10",
        &["INDEX app.order_customer: missing in the database: \"CREATE INDEX order_customer"],
    ),
    (
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'app.order_customer'::regclass",
        "UPDATE pg_index SET indisvalid = true WHERE indexrelid = 'app.order_customer'::regclass",
        &["INDEX app.order_customer: not valid: its build has not ended"],
    ),
    (
        "ALTER TABLE app.customer ALTER name SET DEFAULT 'somebody'",
        "ALTER TABLE app.customer ALTER name SET DEFAULT 'nobody'",
        &[
            "TABLE app.customer: different (- archive, + database):\n        id integer NOT NULL,\n  -     name character varying(40) DEFAULT 'nobody'",
        ],
    ),
    (
        "ALTER TABLE app.customer ALTER name DROP NOT NULL",
        "ALTER TABLE app.customer ALTER name SET NOT NULL",
        &["TABLE app.customer: different (- archive, + database):\n"],
    ),
    (
        "REVOKE SELECT ON app.customer FROM fixture_reader",
        "GRANT SELECT ON app.customer TO fixture_reader",
        &["ACL of TABLE app.customer: different (- archive, + database):\n  - GRANT SELECT ON TABLE app.customer TO fixture_reader;"],
    ),
    (
        "REVOKE EXECUTE ON FUNCTION app.twice(numeric) FROM fixture_writer",
        "GRANT EXECUTE ON FUNCTION app.twice(numeric) TO fixture_writer",
        &["ACL of FUNCTION app.twice(numeric): different (- archive, + database):\n  - GRANT EXECUTE ON FUNCTION app.twice(i numeric) TO fixture_writer;"],
    ),
    (
        "SELECT nextval('app.tickets')",
        "SELECT setval('app.tickets', 105)",
        &["value of app.tickets: value is 110, in the archive 105"],
    ),
    (
        "ALTER SEQUENCE app.tickets OWNER TO fixture_writer",
        "ALTER SEQUENCE app.tickets OWNER TO fixture_owner",
        &["SEQUENCE app.tickets: owner is fixture_writer, in the archive fixture_owner"],
    ),
    (
        "COMMENT ON TABLE app.customer IS 'who bought'",
        "COMMENT ON TABLE app.customer IS 'who buys'",
        &["COMMENT ON TABLE app.customer: different (- archive, + database):\n  - COMMENT ON TABLE app.customer IS 'who buys';\n  + COMMENT ON TABLE app.customer IS 'who bought';"],
    ),
    (
        "CREATE OR REPLACE FUNCTION app.twice(i integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT i * 3'",
        "CREATE OR REPLACE FUNCTION app.twice(i integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT i * 2'",
        &["FUNCTION app.twice(integer): different (- archive, + database):\n"],
    ),
    (
        "ALTER TYPE app.mood RENAME VALUE 'sad' TO 'gloomy'",
        "ALTER TYPE app.mood RENAME VALUE 'gloomy' TO 'sad'",
        &["TYPE app.mood: different (- archive, + database):\n"],
    ),
    (
        "CREATE OR REPLACE VIEW app.rich AS
            SELECT c.id, c.name, sum(o.total) AS total FROM app.customer c JOIN app.\"Order\" o ON o.customer = c.id
            WHERE c.state IN ('new') GROUP BY c.id, c.name",
        "CREATE OR REPLACE VIEW app.rich AS
            SELECT c.id, c.name, sum(o.total) AS total FROM app.customer c JOIN app.\"Order\" o ON o.customer = c.id
            WHERE c.state IN ('new', 'old') GROUP BY c.id, c.name",
        &["VIEW app.rich: different (- archive, + database):\n"],
    ),
    (
        "ALTER POLICY own ON app.customer USING (name <> CURRENT_USER)",
        "ALTER POLICY own ON app.customer USING (name = CURRENT_USER)",
        &["POLICY app.customer own: different (- archive, + database):\n"],
    ),
    (
        "UPDATE pg_constraint SET convalidated = false WHERE conname = 'Order_customer_fkey'",
        "UPDATE pg_constraint SET convalidated = true WHERE conname = 'Order_customer_fkey'",
        &[
            "FK CONSTRAINT app.Order Order_customer_fkey: different (- archive, + database):\n",
            "CONSTRAINT \"Order_customer_fkey\" of app.\"Order\": not valid",
        ],
    ),
    (
        "CREATE TABLE app.extra (i integer); CREATE FUNCTION app.thrice() RETURNS int LANGUAGE sql AS 'SELECT 3'",
        "DROP TABLE app.extra; DROP FUNCTION app.thrice()",
        &[
            "FUNCTION app.thrice(): not in the archive",
            "TABLE app.extra: not in the archive",
        ],
    ),
    (
        "SELECT lo_put(4712, 0, '\\x07')",
        "SELECT lo_put(4712, 0, '\\x01')",
        &["contents of LARGE OBJECT 4712: as many bytes as in the archive, but not the same"],
    ),
    (
        "SELECT lo_unlink(4712)",
        "SELECT lo_from_bytea(4712, '\\x01'); GRANT SELECT ON LARGE OBJECT 4712 TO fixture_reader",
        &["LARGE OBJECT 4712: missing in the database"],
    ),
    (
        "REVOKE SELECT ON LARGE OBJECT 4713 FROM fixture_reader; ALTER LARGE OBJECT 4711 OWNER TO fixture_owner",
        "ALTER LARGE OBJECT 4711 OWNER TO postgres; REVOKE ALL ON LARGE OBJECT 4711 FROM fixture_owner;
         GRANT SELECT ON LARGE OBJECT 4713 TO fixture_reader",
        &[
            "LARGE OBJECT 4711: owner is fixture_owner, in the archive postgres",
            "LARGE OBJECT 4713: different (- archive, + database):\n  - GRANT SELECT ON LARGE OBJECT * TO fixture_reader;",
        ],
    ),
];

#[test]
fn every_difference_is_named() {
    for major in VERSIONS {
        let server = server(major);
        server.ensure_roles();
        let source = server.create_database("proof_source");
        source.sql(SCHEMA);
        let archive = Archive::of(&source);
        let copy = server.copy_with_pg_dump(&source, "proof_copy");
        let equal = archive.compare(&copy);
        assert_eq!(lines(&equal), Vec::<String>::new(), "on {major}");
        assert_eq!(equal.compared.rows, 1503);
        assert_eq!(equal.compared.large_objects, 3);
        assert!(
            equal.compared.sequences >= 3 && equal.compared.entries > 20,
            "{equal}"
        );

        for (change, undo, expected) in CHANGES {
            copy.sql(change);
            archive.assert_findings(&copy, change, expected);
            copy.sql(undo);
        }
        assert_eq!(archive.findings(&copy), Vec::<String>::new(), "on {major}");
    }
}

/// Texts that another major version prints in its own way are no difference; others are.
#[test]
fn an_upgraded_database_is_equal() {
    server(15).ensure_roles();
    server(18).ensure_roles();
    let source = server(15).create_database("proof_old");
    source.sql(SCHEMA);
    let archive = Archive::of(&source);
    let copy = server(18).copy_with_pg_dump(&source, "proof_new");
    let comparison = archive.compare(&copy);
    assert_eq!(lines(&comparison), Vec::<String>::new());
    assert!(comparison.compared.asked > 0, "nothing read differently");

    copy.sql("ALTER TABLE app.customer ALTER name SET DEFAULT 'somebody'");
    let found = archive.findings(&copy);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("TABLE app.customer: different (- archive, + database):\n"),
        "{found:?}"
    );

    // what must not be written to cannot be asked, and then nothing is passed over in silence
    let options = CompareOptions {
        read_only: true,
        ..CompareOptions::default()
    };
    let found = lines(&archive.try_compare(&copy, &options).expect("comparing"));
    assert!(
        found
            .iter()
            .any(|line| line.starts_with("TABLE app.customer: could not be compared: ")),
        "{found:?}"
    );
    let schemas = copy.query_text("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'rdump%'");
    assert_eq!(schemas, "0");
}

/// Bytes above 127 arrive as they were, and settings of roles and databases change nothing.
#[test]
fn encodings_and_settings_make_no_difference() {
    for major in VERSIONS {
        let make = "SET client_encoding = 'UTF8'; CREATE TABLE t (i int, b bytea, at timestamptz, span interval, f float8, name text DEFAULT 'caf\u{e9}');
            INSERT INTO t SELECT i, decode(md5(i::text), 'hex'), '2024-01-01 00:00:00 UTC'::timestamptz + i * interval '1 hour',
                i * interval '1 day', i / 3.0, 'na\u{ef}ve' FROM generate_series(1, 50) i";
        let options = "TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'";
        let source = server(major).create_database_with("proof_latin", options);
        source.sql(make);
        let archive = Archive::of(&source);
        let target = server(major)
            .create_database_with("proof_utf", "TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'");
        target.sql(make);
        let name = &target.name;
        target.sql(&format!(
            "ALTER DATABASE {name} SET DateStyle = 'German'; ALTER DATABASE {name} SET TimeZone = 'Asia/Tokyo';
             ALTER DATABASE {name} SET bytea_output = 'escape'; ALTER DATABASE {name} SET IntervalStyle = 'iso_8601';
             ALTER DATABASE {name} SET extra_float_digits = 0; ALTER DATABASE {name} SET default_transaction_read_only = on"
        ));
        assert_eq!(
            archive.findings(&target),
            Vec::<String>::new(),
            "on {major}"
        );
        target.sql("BEGIN READ WRITE; UPDATE t SET name = 'naive' WHERE i = 1; COMMIT");
        let found = archive.findings(&target);
        assert_eq!(
            found,
            ["rows of public.t: as many rows as in the archive, but not the same"]
        );
    }
}

/// How a copy was made.
#[derive(Debug, Clone, Copy)]
enum Copied {
    Rdump,
    PgDump,
}

impl Archive {
    fn path(&self) -> String {
        let path = self.folder.path().join("archive.rdump");
        path.to_str().expect("a path in UTF-8").to_owned()
    }

    fn restore(&self, server: &'static Server, prefix: &str) -> TestDatabase {
        let target = server.create_database_with(prefix, "TEMPLATE template0");
        support::rdump_ok(&[
            "restore",
            &self.path(),
            "-d",
            &target.conninfo(),
            "--parallel",
            "2",
        ]);
        target
    }
}

/// Every fixture, all in one database, and the sample, which has extensions in common with them.
fn fixtures(server: &'static Server) -> [TestDatabase; 2] {
    let kinds = server.create_database("proof_kinds");
    for kind in support::kinds() {
        // what default privileges say holds for all that is made after them
        if kind != "default_privileges" {
            support::load_kind(&kinds, &kind);
        }
    }
    support::load_kind(&kinds, "default_privileges");
    let sample = server.create_database("proof_shop");
    support::load_sample(&sample, 1);
    [kinds, sample]
}

/// No copy differs, however it was made.
fn fixtures_equal_their_copies(from: u32, targets: &[u32]) {
    let mut all = Vec::new();
    let mut compared = Compared::default();
    for source in fixtures(server(from)) {
        let archive = Archive::of(&source);
        for to in targets.iter().copied() {
            server(to).copy_roles(server(from));
            for copied in [Copied::Rdump, Copied::PgDump] {
                let copy = match copied {
                    Copied::Rdump => archive.restore(server(to), "proof_restored"),
                    Copied::PgDump => server(to).copy_with_pg_dump(&source, "proof_copied"),
                };
                let comparison = archive.compare(&copy);
                compared = comparison.compared;
                all.extend(comparison.findings.iter().map(|finding| {
                    format!(
                        "{} from {from} to {to} by {copied:?}: {finding}",
                        source.name
                    )
                }));
            }
        }
    }
    assert!(all.is_empty(), "{all:#?}");
    assert!(compared.entries > 100, "{compared:?}");
}

#[test]
fn fixtures_of_15_equal_their_copies_on_15_and_18() {
    fixtures_equal_their_copies(15, &[15, 18]);
}

#[test]
fn fixtures_of_18_equal_their_copies() {
    fixtures_equal_their_copies(18, &[18]);
}
