//! Whole servers: globals and every database as one set. Roles belong to the server, so each test has
//! servers of its own. pg_dumpall is the judge.

mod broken_off;
mod lists;
mod members;
mod roles;

use tempfile::TempDir;

use crate::support::{self, Finished, Server, difference, normalise_dump};

/// A server with nothing on it but folders for tablespaces.
fn fresh(major: u32) -> Server {
    let server = Server::start(major, &[]);
    server.shell(
        "mkdir -p /tablespaces/fast \"/tablespaces/its place\" && chown -R postgres: /tablespaces",
    );
    server
}

const ROLES: &str = r#"
CREATE ROLE "Odd ""role"" 'x'; \ $$" LOGIN PASSWORD 'secret-of-odd' CONNECTION LIMIT 3
    VALID UNTIL '2031-01-02 03:04:05+00';
CREATE ROLE admin LOGIN CREATEROLE CREATEDB NOINHERIT PASSWORD 'secret-of-admin';
CREATE ROLE "select" REPLICATION BYPASSRLS;
CREATE ROLE "x PASSWORD 'y'" CONNECTION LIMIT 0;
CREATE ROLE team;
CREATE ROLE "Team B" SUPERUSER VALID UNTIL 'infinity';
CREATE ROLE b1; CREATE ROLE a2;
COMMENT ON ROLE team IS E'it''s a\nteam';
GRANT team TO admin WITH ADMIN OPTION;
GRANT team TO b1 WITH ADMIN OPTION GRANTED BY admin;
GRANT team TO a2 GRANTED BY b1;
GRANT team TO a2;
GRANT pg_monitor TO "Team B";
GRANT "x PASSWORD 'y'" TO "Odd ""role"" 'x'; \ $$";
ALTER ROLE admin SET work_mem = '7MB';
ALTER ROLE admin SET search_path = "Odd Schema", public, "a,b";
ALTER ROLE "Odd ""role"" 'x'; \ $$" SET application_name = E'it''s \\ x';
ALTER ROLE ALL SET cursor_tuple_fraction = 0.2;
SECURITY LABEL FOR rdump ON ROLE team IS E'it''s \\ a\nlabel';
SECURITY LABEL FOR "Odd ""provider""" ON ROLE "Odd ""role"" 'x'; \ $$" IS 'x';
GRANT SET ON PARAMETER work_mem TO team WITH GRANT OPTION;
GRANT ALTER SYSTEM, SET ON PARAMETER "my.Own" TO "Team B";
"#;

/// What 16 brought.
const ROLES_16: &str = r#"
GRANT "select" TO a2 WITH ADMIN FALSE, INHERIT FALSE, SET FALSE;
GRANT "select" TO b1 WITH ADMIN TRUE, INHERIT FALSE, SET TRUE;
GRANT "select" TO team WITH INHERIT TRUE, SET FALSE GRANTED BY b1;
"#;

/// pg_dumpall prints them in the order in which they were made, and rdump makes them in that of names.
const TABLESPACES: &str = r#"
CREATE TABLESPACE "It's" LOCATION '/tablespaces/its place';
CREATE TABLESPACE fast OWNER admin LOCATION '/tablespaces/fast'
    WITH (random_page_cost = 1.1, effective_io_concurrency = 7);
GRANT CREATE ON TABLESPACE fast TO team WITH GRANT OPTION;
COMMENT ON TABLESPACE fast IS 'the fast one';
SECURITY LABEL FOR rdump ON TABLESPACE fast IS 'fast';
"#;

const DATABASES: &str = r#"
CREATE DATABASE shop OWNER admin TABLESPACE "It's" CONNECTION LIMIT 50;
CREATE DATABASE "Odd ""db"" 'x'" TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C';
CREATE DATABASE "select" IS_TEMPLATE true;
CREATE DATABASE closed ALLOW_CONNECTIONS false;
CREATE DATABASE broken;
UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'broken';
COMMENT ON DATABASE shop IS 'a shop';
REVOKE CONNECT ON DATABASE shop FROM PUBLIC;
GRANT CONNECT, CREATE ON DATABASE shop TO team WITH GRANT OPTION;
ALTER DATABASE shop SET work_mem = '9MB';
ALTER ROLE admin IN DATABASE shop SET work_mem = '11MB';
ALTER ROLE admin IN DATABASE "Odd ""db"" 'x'" SET search_path = "Odd Schema", pg_catalog;
ALTER ROLE ALL IN DATABASE "Odd ""db"" 'x'" SET extra_float_digits = 1;
"#;

/// Databases that a set of `source` holds, in its order.
const MEMBERS: [&str; 5] = ["Odd \"db\" 'x'", "postgres", "select", "shop", "template1"];

fn source(major: u32) -> Server {
    let server = fresh(major);
    server.sql("postgres", ROLES);
    if major >= 16 {
        server.sql("postgres", ROLES_16);
    }
    server.sql("postgres", TABLESPACES);
    server.sql("postgres", DATABASES);
    server.sql(
        "shop",
        "CREATE TABLE orders (id int PRIMARY KEY, note text) TABLESPACE fast;
         INSERT INTO orders SELECT i, 'note ' || i FROM generate_series(1, 1000) i;
         ALTER TABLE orders OWNER TO admin; GRANT SELECT ON orders TO \"Team B\";
         CREATE SEQUENCE numbers START 7; SELECT nextval('numbers');
         SELECT lo_from_bytea(0, 'bytes');",
    );
    server.sql(
        "Odd \"db\" 'x'",
        "SET client_encoding = 'UTF8'; CREATE SCHEMA \"Odd Schema\";
         CREATE TABLE \"Odd Schema\".\"größe\" AS SELECT 'größer'::text AS t",
    );
    server.sql("postgres", "CREATE TABLE kept_here AS SELECT 1 AS i");
    server.sql(
        "template1",
        "CREATE FUNCTION of_template() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    );
    server
}

fn snapshot(server: &Server, file: &str, options: &[&str]) -> Finished {
    let conninfo = server.conninfo("postgres");
    let arguments = [&["snapshot", "-d", &conninfo, "-f", file], options].concat();
    support::rdump_ok(&arguments)
}

fn restore(file: &str, server: &Server, options: &[&str]) -> Finished {
    let conninfo = server.conninfo("postgres");
    let arguments = [&["restore", file, "-d", &conninfo], options].concat();
    support::rdump(&arguments)
}

fn restore_ok(file: &str, server: &Server, options: &[&str]) -> Finished {
    let finished = restore(file, server, options);
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    finished
}

/// A folder, and a name in it.
fn place(name: &str) -> (TempDir, String) {
    let folder = TempDir::new().expect("a temporary folder");
    let path = folder.path().join(name);
    let path = path.to_str().expect("a path in UTF-8").to_owned();
    (folder, path)
}

/// Fails unless pg_dumpall prints the same of both; the first one's is asked.
fn assert_same_server(expected: &Server, actual: &Server, options: &[&str]) {
    let dump = |server| normalise_dump(&expected.pg_dumpall(options, server));
    let (left, right) = (dump(expected), dump(actual));
    assert!(
        left == right,
        "the servers differ (-expected +actual):\n{}",
        difference(&left, &right)
    );
}

/// What pg_dumpall does not print.
fn assert_same_settings_of_all(expected: &Server, actual: &Server) {
    let settings = |server: &Server| {
        server.query_text(
            "postgres",
            "SELECT setconfig FROM pg_db_role_setting WHERE setrole = 0 AND setdatabase = 0",
        )
    };
    assert_eq!(settings(expected), settings(actual));
    assert_eq!(settings(expected), "{cursor_tuple_fraction=0.2}");
}

#[test]
fn a_server_and_its_second_generation() {
    for major in support::VERSIONS {
        let source = source(major);
        let (_folder, file) = place("all.rdump");
        let finished = snapshot(&source, &file, &["--all-databases", "-j", "2"]);
        for told in [
            "database broken is not in the set: it is invalid",
            "database closed is not in the set: it allows no connections",
        ] {
            assert!(finished.stderr.contains(told), "{}", finished.stderr);
        }
        support::rdump_ok(&["verify", "--deep", &file]);
        let target = fresh(major);
        let finished = restore_ok(&file, &target, &["-j", "2"]);
        assert!(!finished.stderr.contains("secret"), "{}", finished.stderr);
        source.sql("postgres", "DROP DATABASE broken");
        source.sql("postgres", "DROP DATABASE closed");
        assert_same_server(&source, &target, &[]);
        assert_same_settings_of_all(&source, &target);
        let conninfo = target.conninfo("postgres");
        support::rdump_ok(&["verify", &file, "--against", &conninfo]);
        assert_eq!(
            target.query_text("shop", "SELECT count(*), sum(id) FROM orders"),
            "1000|500500"
        );

        let (_folder, again) = place("again.rdump");
        snapshot(&target, &again, &["--all-databases"]);
        let third = fresh(major);
        restore_ok(&again, &third, &[]);
        assert_same_server(&source, &third, &[]);
        assert_eq!(show(&file), show(&again));
    }
}

/// What is in a set, without what differs from run to run.
fn show(file: &str) -> Vec<String> {
    let members = MEMBERS.map(|name| vec!["--member", name]);
    let mut shown = Vec::new();
    for member in [vec!["-g"]].into_iter().chain(members) {
        let text = support::rdump_ok(&[&["show", file][..], &member].concat()).text();
        shown.extend(
            text.lines()
                .filter(|line| !line.starts_with(';'))
                .map(str::to_owned),
        );
    }
    shown
}

/// Judged by what pg_dumpall 18 and psql make of it.
#[test]
fn an_upgrade() {
    let source = source(15);
    source.sql("postgres", "DROP DATABASE broken");
    let (_folder, file) = place("all.rdump");
    snapshot(&source, &file, &["--all-databases"]);
    let (target, judge) = (fresh(18), fresh(18));
    restore_ok(&file, &target, &["-j", "2"]);
    judge.replay(&judge.pg_dumpall(&[], &source));
    assert_same_server(&judge, &target, &[]);
    assert_same_settings_of_all(&source, &target);
    let conninfo = target.conninfo("postgres");
    support::rdump_ok(&["verify", &file, "--against", &conninfo]);
}

#[test]
fn through_pipes() {
    let source = source(18);
    let out = snapshot(&source, "-", &["--all-databases"]).stdout;
    let target = fresh(18);
    let conninfo = target.conninfo("postgres");
    let mut command = support::rdump_command(&["restore", "-", "-d", &conninfo, "-j", "2"]);
    support::run_ok(&mut command, &out);
    source.sql("postgres", "DROP DATABASE broken; ");
    source.sql("postgres", "DROP DATABASE closed");
    assert_same_server(&source, &target, &[]);

    // a part of it: what came is restored, and the end is missed
    let second = fresh(18);
    let conninfo = second.conninfo("postgres");
    let cut = &out[..out.len() - 200];
    let mut command = support::rdump_command(&["restore", "-", "-d", &conninfo]);
    let finished = support::run(&mut command, cut);
    assert_eq!(finished.code, 1, "{}", finished.stderr);
    assert!(
        finished.stderr.contains("archive is incomplete"),
        "{}",
        finished.stderr
    );

    // one member out of the stream, under another name
    second.sql("postgres", "CREATE DATABASE other TEMPLATE template0");
    let conninfo = second.conninfo("other");
    let arguments = [
        "restore",
        "-",
        "--member",
        "shop",
        "-d",
        &conninfo,
        "--no-tablespaces",
    ];
    support::run_ok(&mut support::rdump_command(&arguments), &out);
    assert_eq!(
        second.query_text("other", "SELECT count(*) FROM orders"),
        "1000"
    );
}
