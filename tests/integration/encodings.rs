//! Databases in other encodings than UTF-8, and with settings of their own, judged by the bytes
//! that pg_dump prints.

use tempfile::TempDir;

use crate::support::{self, IGNORED_LINES, Server, TestDatabase, run_ok, server};

/// Above 127, each of these is a letter in LATIN1 and in WIN1252; in WIN1252 0x80 is the euro sign
/// too, and SQL_ASCII takes anything.
pub const ENCODINGS: [(&str, &[u8]); 3] = [
    ("SQL_ASCII", b"\x80\xe9\xff"),
    ("LATIN1", b"\xe4\xe9\xff"),
    ("WIN1252", b"\x80\xe9\x8a"),
];

/// `{}` stands for the bytes of the encoding.
const SCHEMA: &str = r#"
SET client_encoding = '[encoding]';
CREATE SCHEMA "schema {}";
COMMENT ON SCHEMA "schema {}" IS 'comment {}';
CREATE TYPE "schema {}"."mood {}" AS ENUM ('sad {}', 'ok');
CREATE DOMAIN "domain {}" AS text DEFAULT 'default {}' CONSTRAINT "check {}" CHECK (VALUE <> 'not {}');
CREATE TABLE "schema {}"."table {}" (
    "id {}" serial PRIMARY KEY,
    "text {}" text DEFAULT 'default {}' CHECK ("text {}" <> 'never {}'),
    "mood {}" "schema {}"."mood {}" DEFAULT 'sad {}',
    "moods" "schema {}"."mood {}"[],
    "domain {}" "domain {}"
);
COMMENT ON COLUMN "schema {}"."table {}"."text {}" IS 'column {}';
INSERT INTO "schema {}"."table {}" ("text {}") SELECT 'row {} ' || i FROM generate_series(1, 500) AS i;
INSERT INTO "schema {}"."table {}" ("text {}", moods) VALUES (E'tab\t{}\\ \n{}', ARRAY['sad {}', 'ok']::"schema {}"."mood {}"[]);
CREATE INDEX "index {}" ON "schema {}"."table {}" ("text {}") WHERE "text {}" <> 'where {}';
CREATE FUNCTION "function {}"("argument {}" text) RETURNS text LANGUAGE sql AS $body$SELECT 'body {}' || $1$body$;
CREATE FUNCTION atomic() RETURNS text LANGUAGE sql BEGIN ATOMIC SELECT "text {}" || '{}' FROM "schema {}"."table {}" LIMIT 1; END;
CREATE VIEW "view {}" AS SELECT "text {}" AS "column {}", 'literal {}' AS l FROM "schema {}"."table {}";
CREATE TRIGGER "trigger {}" BEFORE UPDATE ON "schema {}"."table {}" FOR EACH ROW
    EXECUTE FUNCTION suppress_redundant_updates_trigger('argument {}');
CREATE POLICY "policy {}" ON "schema {}"."table {}" USING ("text {}" <> 'policy {}');
CREATE SEQUENCE "sequence {}" START 42;
SELECT nextval('"sequence {}"');
"#;

pub fn filled(encoding: &str, letters: &[u8]) -> Vec<u8> {
    let mut script = Vec::new();
    let text = SCHEMA.replace("[encoding]", encoding);
    for (number, piece) in text.split("{}").enumerate() {
        if number > 0 {
            script.extend_from_slice(letters);
        }
        script.extend_from_slice(piece.as_bytes());
    }
    script
}

/// psql, fed bytes as they are.
pub fn sql_bytes(database: &TestDatabase, script: &[u8]) {
    let mut psql = database.server.program("psql");
    psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d"]);
    psql.arg(&database.name).args(["-f", "-"]);
    run_ok(&mut psql, script);
}

/// What pg_dump prints in the database's own encoding, without what may differ.
fn dump(judge: &Server, database: &TestDatabase, options: &[&str]) -> Vec<u8> {
    let mut pg_dump = judge.program("pg_dump");
    pg_dump
        .args(options)
        .args(["-U", "postgres", &database.name]);
    let printed = run_ok(&mut pg_dump, b"").stdout;
    printed
        .split_inclusive(|&byte| byte == b'\n')
        .filter(|line| {
            !IGNORED_LINES
                .iter()
                .any(|start| line.starts_with(start.as_bytes()))
        })
        .collect::<Vec<_>>()
        .concat()
}

/// The dump with definitions and rows: rows too come in one order, as they were loaded on one
/// connection into an empty table.
#[track_caller]
pub fn assert_same_dump(source: &TestDatabase, target: &TestDatabase, options: &[&str]) {
    let expected = dump(source.server, source, options);
    let actual = dump(target.server, target, options);
    assert!(
        expected == actual,
        "{} and {} differ:\n{}",
        source.name,
        target.name,
        support::difference(
            &expected.escape_ascii().to_string().replace("\\n", "\n"),
            &actual.escape_ascii().to_string().replace("\\n", "\n")
        )
    );
}

struct Archive {
    _folder: TempDir,
    path: String,
}

fn snapshot(source: &TestDatabase) -> Archive {
    let folder = TempDir::new().expect("a temporary folder");
    let path = folder.path().join("archive.rdump");
    let path = path.into_os_string().into_string().expect("a plain path");
    support::rdump_ok(&["snapshot", "-q", "-d", &source.conninfo(), "-f", &path]);
    support::rdump_ok(&["verify", "-q", "--deep", &path]);
    Archive {
        _folder: folder,
        path,
    }
}

fn restore(archive: &Archive, target: &TestDatabase) {
    support::rdump_ok(&[
        "restore",
        "-q",
        "-j",
        "1",
        &archive.path,
        "-d",
        &target.conninfo(),
    ]);
}

/// Drops the source and lets `restore -C` make it again; the judge's dump of both.
fn create_again(archive: &Archive, source: &TestDatabase) {
    let before = dump(source.server, source, &["--create"]);
    source.server.sql(
        "postgres",
        &format!("DROP DATABASE \"{}\" WITH (FORCE)", source.name),
    );
    let postgres = source.server.conninfo("postgres");
    support::rdump_ok(&[
        "restore",
        "-q",
        "-j",
        "1",
        "-C",
        &archive.path,
        "-d",
        &postgres,
    ]);
    let after = dump(source.server, source, &["--create"]);
    assert!(
        before == after,
        "-C made another {}:\n{}",
        source.name,
        support::difference(
            &before.escape_ascii().to_string().replace("\\n", "\n"),
            &after.escape_ascii().to_string().replace("\\n", "\n")
        )
    );
}

#[test]
fn every_encoding_comes_back_byte_for_byte() {
    for major in support::VERSIONS {
        for (encoding, letters) in ENCODINGS {
            let options = format!("TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'");
            let prefix = encoding.to_lowercase();
            let source = server(major).create_database_with(&prefix, &options);
            sql_bytes(&source, &filled(encoding, letters));
            let printed = dump(source.server, &source, &[]);
            assert!(
                printed.windows(letters.len()).any(|bytes| bytes == letters),
                "the judge sees the letters"
            );
            let archive = snapshot(&source);

            let target = server(major).create_database_with(&prefix, &options);
            restore(&archive, &target);
            assert_same_dump(&source, &target, &[]);
            support::assert_same_rows(&source, &target);

            create_again(&archive, &source);
            support::assert_same_rows(&source, &target);
            assert_eq!(source.query_text("SHOW server_encoding"), encoding);
        }
    }
}

/// In some, the second byte of a letter is a backslash.
#[test]
fn encodings_of_clients_alone_are_refused() {
    let source = server(18).create_database("of_clients");
    source.sql("CREATE TABLE t (i int); COMMENT ON TABLE t IS '表new'");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("archive.rdump").display().to_string();
    let conninfo = source.conninfo();
    for encoding in ["SJIS", "big5", "GB18030", "UHC"] {
        let arguments = ["snapshot", "-E", encoding, "-d", &conninfo, "-f", &file];
        let finished = support::rdump(&arguments);
        assert_eq!(finished.code, 2, "{encoding}: {}", finished.stderr);
        let told = "is an encoding of clients alone";
        assert!(finished.stderr.contains(told), "{}", finished.stderr);
    }
    support::rdump_ok(&["snapshot", "-E", "euc_jp", "-d", &conninfo, "-f", &file]);
    let target = server(18).create_database_with("of_clients", "TEMPLATE template0");
    support::rdump_ok(&["restore", &file, "-d", &target.conninfo()]);
    let comment = "SELECT obj_description('t'::regclass)";
    assert_eq!(target.query_text(comment), "表new");
}

/// The archive's encoding is the session's, so a target in UTF-8 converts.
#[test]
fn into_a_database_in_utf8() {
    for (encoding, letters) in &ENCODINGS[1..] {
        let options = format!("TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'");
        let source = server(15).create_database_with("to_utf8", &options);
        sql_bytes(&source, &filled(encoding, letters));
        let archive = snapshot(&source);
        let target = server(15)
            .create_database_with("utf8", "TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'");
        restore(&archive, &target);
        let in_encoding = format!("--encoding={encoding}");
        assert_same_dump(&source, &target, &[&in_encoding]);
    }
}

const ROWS: &str = r#"
CREATE TABLE "values" (
    id int PRIMARY KEY, moment timestamptz, day date, pause interval, bytes bytea,
    small real, large double precision, price money, "array" text[], "content" xml
);
INSERT INTO "values"
SELECT i, '2024-02-29 12:34:56.789+00'::timestamptz + i * interval '7 hours 3 minutes',
       '0044-03-15 BC'::date + i, i * interval '-1 year 2 mons -3 days 04:05:06.7',
       decode(md5(i::text), 'hex') || '\x005c27', i / 3.0::real, i / 3.0::float8, i * 1.01::money,
       ARRAY['NULL', NULL, i::text], xmlparse(CONTENT 'no document, ' || i)
FROM generate_series(1, 300) AS i;
CREATE TABLE hidden (i int);
INSERT INTO hidden SELECT generate_series(1, 10);
ALTER TABLE hidden ENABLE ROW LEVEL SECURITY;
CREATE VIEW recent AS SELECT * FROM "values" WHERE moment > '2024-03-01 00:00:00+00' AND pause < '-3 days';
CREATE INDEX ON "values" (id) WHERE day < '0044-04-15 BC';
"#;

/// Settings that would change what the text of rows and definitions is, or what a session may do.
const SETTINGS: [(&str, &str); 20] = [
    ("timezone", "'America/St_Johns'"),
    ("datestyle", "'SQL, DMY'"),
    ("intervalstyle", "'sql_standard'"),
    ("bytea_output", "'escape'"),
    ("extra_float_digits", "-5"),
    ("lc_monetary", "'en_US.utf8'"),
    (
        "search_path",
        "'no such', pg_catalog, \"$user\", \"odd \"\"one\"",
    ),
    ("default_transaction_read_only", "on"),
    ("default_transaction_isolation", "'serializable'"),
    ("default_transaction_deferrable", "on"),
    ("statement_timeout", "'3s'"),
    ("row_security", "off"),
    ("client_encoding", "'LATIN1'"),
    ("standard_conforming_strings", "off"),
    ("quote_all_identifiers", "on"),
    ("array_nulls", "off"),
    ("idle_session_timeout", "'3s'"),
    ("client_min_messages", "'error'"),
    ("xmlbinary", "'hex'"),
    ("xmloption", "'document'"),
];

#[test]
fn settings_of_databases_and_roles() {
    for major in support::VERSIONS {
        for whose in ["database", "role", "role in the database"] {
            let source = server(major).create_database("settings");
            source.sql(ROWS);
            let role = format!("settings_{major}_{}", whose.len());
            source.sql(&format!(
                "CREATE ROLE {role} SUPERUSER LOGIN PASSWORD 'settings'"
            ));
            let target =
                server(major).create_database_with("settings_target", "TEMPLATE template0");
            let clean = server(major).create_database_with("settings_clean", "TEMPLATE template0");
            let archive = snapshot(&source);
            restore(&archive, &clean);

            let set = |database: &TestDatabase| {
                let altered = match whose {
                    "database" => format!("DATABASE \"{}\"", database.name),
                    "role" => format!("ROLE {role}"),
                    _ => format!("ROLE {role} IN DATABASE \"{}\"", database.name),
                };
                let statements: String = SETTINGS
                    .iter()
                    .map(|(name, value)| format!("ALTER {altered} SET {name} TO {value};\n"))
                    .collect();
                database.server.sql("postgres", &statements);
            };
            set(&source);
            set(&target);
            let as_role = |database: &TestDatabase| {
                let conninfo = database.conninfo();
                match whose {
                    "database" => conninfo,
                    _ => conninfo
                        .replace("user=postgres", &format!("user={role}"))
                        .replace("password=test-password", "password=settings"),
                }
            };
            let folder = TempDir::new().expect("a temporary folder");
            let file = folder.path().join("archive.rdump");
            let file = file.to_str().expect("a plain path");
            support::rdump_ok(&["snapshot", "-q", "-d", &as_role(&source), "-f", file]);
            support::rdump_ok(&["restore", "-q", file, "-d", &as_role(&target)]);

            // read without those settings
            for database in [&source, &target] {
                database.server.sql(
                    "postgres",
                    &format!(
                        "ALTER DATABASE \"{0}\" RESET ALL; ALTER ROLE {role} RESET ALL;
                         ALTER ROLE {role} IN DATABASE \"{0}\" RESET ALL;",
                        database.name
                    ),
                );
            }
            assert_same_dump(&source, &clean, &["--schema-only"]);
            assert_same_dump(&source, &target, &["--schema-only"]);
            support::assert_same_rows(&source, &clean);
            support::assert_same_rows(&source, &target);
            drop((source, target, clean));
            server(major).sql("postgres", &format!("DROP ROLE {role}"));
        }
    }
}

/// What is set for a database, for everyone or for a role, comes with `-C`; so do its locale, owner,
/// comment, privileges and limits.
#[test]
fn a_database_is_created_as_it_was() {
    for major in support::VERSIONS {
        let server = server(major);
        let source = server.create_database_with(
            "Odd \"database\" it's",
            "TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'en_US.utf8'",
        );
        source.sql(ROWS);
        let name = source.name.replace('"', "\"\"");
        let role = format!("created_{major}");
        let statements: String = SETTINGS
            .iter()
            .flat_map(|(setting, value)| {
                [
                    format!("ALTER DATABASE \"{name}\" SET {setting} TO {value};\n"),
                    format!("ALTER ROLE {role} IN DATABASE \"{name}\" SET {setting} TO {value};\n"),
                ]
            })
            .collect();
        server.sql(
            "postgres",
            &format!(
                "CREATE ROLE {role}; CREATE ROLE {role}_owner;
                 COMMENT ON DATABASE \"{name}\" IS 'it''s a comment';
                 ALTER DATABASE \"{name}\" OWNER TO {role}_owner;
                 ALTER DATABASE \"{name}\" CONNECTION LIMIT 7;
                 REVOKE CONNECT ON DATABASE \"{name}\" FROM PUBLIC;
                 GRANT CONNECT, TEMPORARY ON DATABASE \"{name}\" TO {role} WITH GRANT OPTION;
                 {statements}"
            ),
        );
        let expected = properties(&source);
        let archive = snapshot(&source);
        let text = |database: &TestDatabase| {
            let conninfo = format!(
                "user=postgres dbname='{}'",
                database.name.replace('\'', "\\'")
            );
            let mut pg_dump = database.server.program("pg_dump");
            pg_dump.args(["--create", "--schema-only", "-d", &conninfo]);
            support::normalise_dump(&run_ok(&mut pg_dump, b"").text())
        };
        let before = text(&source);
        assert!(before.contains("SET search_path TO"), "{before}");
        server.sql("postgres", &format!("DROP DATABASE \"{name}\""));
        let postgres = server.conninfo("postgres");
        support::rdump_ok(&["restore", "-q", "-C", &archive.path, "-d", &postgres]);
        let after = text(&source);
        assert!(before == after, "{}", support::difference(&before, &after));
        assert_eq!(properties(&source), expected);

        // again over it, with everything of it in place
        support::rdump_ok(&["restore", "-q", "-C", "-c", &archive.path, "-d", &postgres]);
        let after = text(&source);
        assert!(before == after, "{}", support::difference(&before, &after));

        // without -C none of it
        let plain = server.create_database_with("plain", "TEMPLATE template0");
        let untouched = properties(&plain);
        restore(&archive, &plain);
        assert_eq!(properties(&plain), untouched);
        // the judge names tables as the database's settings say
        let reset = format!("ALTER DATABASE \"{name}\" RESET quote_all_identifiers");
        server.sql("postgres", &reset);
        support::assert_same_rows(&source, &plain);
        drop(source);
        server.sql(
            "postgres",
            &format!("DROP ROLE {role}; DROP ROLE {role}_owner"),
        );
    }
}

fn properties(database: &TestDatabase) -> String {
    let mut psql = database.server.program("psql");
    psql.args(["-X", "-A", "-t", "-U", "postgres", "-d", "postgres", "-c"]);
    psql.arg(format!(
        "SELECT pg_encoding_to_char(encoding), datcollate, datctype, datdba::regrole, datacl,
                datconnlimit, shobj_description(oid, 'pg_database'),
                ARRAY(SELECT format('%s: %s', setrole::regrole, setconfig) FROM pg_db_role_setting
                      WHERE setdatabase = d.oid ORDER BY 1)
         FROM pg_database AS d WHERE datname = '{}'",
        database.name.replace('\'', "''")
    ));
    run_ok(&mut psql, b"").text()
}
