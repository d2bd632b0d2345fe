//! `--map-role`, judged by pg_dump of the source once its roles are renamed by the server.

use super::errors::{Folder, snapshot};
use crate::support::{self, Server, VERSIONS, difference, normalise_dump, server};

/// The roles, and what they become. The first two change places.
const ROLES: [(&str, &str); 3] = [
    ("map \"a\" to", "map_b"),
    ("map_b", "map \"a\" to"),
    ("map=c", "Map;c"),
];

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[test]
fn roles_stand_in_for_others_everywhere() {
    for major in VERSIONS {
        let server = server(major);
        let [a, b, c, new] = ["map \"a\" to", "map_b", "map=c", "Map;c"].map(quoted);
        let source = server.create_database("roles");
        source.sql(&format!(
            r#"CREATE ROLE {a}; CREATE ROLE {b}; CREATE ROLE {c}; CREATE ROLE {new};
               CREATE SCHEMA s AUTHORIZATION {a};
               CREATE TABLE s.t (i int, "TO" text, map_b int);
               ALTER TABLE s.t OWNER TO {a};
               GRANT SELECT ON s.t TO {b} WITH GRANT OPTION;
               GRANT UPDATE ("TO") ON s.t TO {c};
               GRANT USAGE ON SCHEMA s TO {b};
               SET ROLE {b}; GRANT SELECT ON s.t TO {c}; RESET ROLE;
               REVOKE ALL ON FUNCTION pg_catalog.pg_sleep(float8) FROM PUBLIC;
               CREATE FUNCTION s.f(map_b int) RETURNS text LANGUAGE sql AS 'SELECT ''map_b''';
               ALTER FUNCTION s.f(int) OWNER TO {c};
               REVOKE ALL ON FUNCTION s.f(int) FROM PUBLIC;
               GRANT EXECUTE ON FUNCTION s.f(int) TO {a};
               CREATE POLICY map_b ON s.t TO {b} USING (map_b > 0 AND "TO" <> 'TO map_b');
               ALTER TABLE s.t ENABLE ROW LEVEL SECURITY;
               ALTER DEFAULT PRIVILEGES FOR ROLE {c} IN SCHEMA s GRANT SELECT ON TABLES TO {b};
               CREATE FOREIGN DATA WRAPPER w; CREATE SERVER map_b FOREIGN DATA WRAPPER w;
               ALTER SERVER map_b OWNER TO {b};
               CREATE USER MAPPING FOR {c} SERVER map_b OPTIONS (x 'FOR map_b');
               COMMENT ON TABLE s.t IS 'GRANT ALL ON s.t TO map_b';
               INSERT INTO s.t VALUES (1, 'one', 1);
               SELECT lo_create(81), lo_create(82), lo_create(83);
               ALTER LARGE OBJECT 81 OWNER TO {a}; ALTER LARGE OBJECT 82 OWNER TO {a};
               ALTER LARGE OBJECT 83 OWNER TO {a}"#
        ));
        let folder = Folder::new();
        let file = snapshot(&source, &folder);
        let target = server.create_database_with("roles", "TEMPLATE template0");
        let conninfo = target.conninfo();
        let maps: Vec<String> = ROLES
            .iter()
            .map(|(old, new)| format!("--map-role={}={new}", quoted(old)))
            .collect();
        let maps: Vec<&str> = maps.iter().map(String::as_str).collect();
        support::rdump_ok(&[&["restore", "-q", &file, "-d", &conninfo], &maps[..]].concat());
        support::rdump_ok(&[&["verify", "-q", &file, "--against", &conninfo], &maps[..]].concat());
        let plain = support::rdump(&["verify", "-q", &file, "--against", &conninfo]);
        assert_eq!(plain.code, 3, "{}", plain.stderr);

        let actual = normalise_dump(&server.pg_dump(&[], &target));
        source.sql(&format!(
            "ALTER ROLE {new} RENAME TO map_away; ALTER ROLE {a} RENAME TO map_x;
             ALTER ROLE {b} RENAME TO {a}; ALTER ROLE map_x RENAME TO {b};
             ALTER ROLE {c} RENAME TO {new}"
        ));
        let expected = normalise_dump(&server.pg_dump(&[], &source));
        assert!(expected.contains("GRANT"), "nothing is granted");
        assert!(expected == actual, "{}", difference(&expected, &actual));
    }
}

#[test]
fn only_roles_that_are_left_must_be_there() {
    let server = server(18);
    let source = server.create_database("roles");
    source.sql("CREATE ROLE map_gone; CREATE TABLE t (i int); ALTER TABLE t OWNER TO map_gone");
    let folder = Folder::new();
    let file = snapshot(&source, &folder);
    source.sql("REASSIGN OWNED BY map_gone TO postgres; DROP ROLE map_gone");
    let target = server.create_database_with("roles", "TEMPLATE template0");
    let conninfo = target.conninfo();
    let restore = |map: &str| {
        let mut arguments = vec!["restore", "-q", &file, "-d", &conninfo];
        arguments.extend((!map.is_empty()).then_some(map));
        support::rdump(&arguments)
    };
    assert!(
        restore("")
            .stderr
            .contains("role \"map_gone\", an owner of objects, does not exist")
    );
    let twice = restore("--map-role=x");
    assert_eq!((twice.code, twice.stderr.contains("OLD=NEW")), (2, true));
    let done = restore("--map-role=map_gone=postgres");
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert_eq!(
        target.query_text("SELECT tableowner FROM pg_tables WHERE tablename = 't'"),
        "postgres"
    );
}

/// A member of a set that comes through a pipe is one database like any other.
#[test]
fn a_member_of_a_set_on_stdin() {
    let server = Server::start(18, &[]);
    server.sql("postgres", "CREATE ROLE map_gone; CREATE DATABASE shop");
    server.sql(
        "shop",
        "CREATE TABLE t (i int); ALTER TABLE t OWNER TO map_gone; CREATE TABLE u (i int); INSERT INTO t VALUES (1)",
    );
    let conninfo = server.conninfo("postgres");
    let all =
        support::rdump_ok(&["snapshot", "--all-databases", "-d", &conninfo, "-f", "-"]).stdout;
    server.sql(
        "shop",
        "REASSIGN OWNED BY map_gone TO postgres; DROP ROLE map_gone",
    );
    let restore = |database: &str, flags: &[&str]| {
        server.sql(
            "postgres",
            &format!("CREATE DATABASE {database} TEMPLATE template0"),
        );
        let conninfo = server.conninfo(database);
        let arguments = [&["restore", "-", "-d", &conninfo][..], flags].concat();
        support::run(&mut support::rdump_command(&arguments), &all)
    };
    let map = "--map-role=map_gone=postgres";
    let done = restore("one", &["--member", "shop", map]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    let table = ["--member", "shop", map, "-t", "t", "--with-dependencies"];
    let done = restore("two", &[&table[..], &["--as", "copy"]].concat());
    assert_eq!(done.code, 0, "{}", done.stderr);
    let tables = "SELECT string_agg(tablename || ' ' || tableowner, ',' ORDER BY tablename)
                  FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(server.query_text("one", tables), "t postgres,u postgres");
    assert_eq!(server.query_text("two", tables), "copy postgres");
    for all in [&[map][..], &["--globals-only", map]] {
        let refused = restore(if all.len() > 1 { "three" } else { "four" }, all);
        assert_eq!(refused.code, 2, "{}", refused.stderr);
        assert!(refused.stderr.contains("--member"), "{}", refused.stderr);
    }
}
