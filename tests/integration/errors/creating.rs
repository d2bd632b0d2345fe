//! `restore -C`: a database that is still to be created.

use super::{Folder, expect_rdump, small_database, snapshot};
use crate::hooked;
use crate::support::{self, Server, server};

/// Who may create databases restores one of his own: that schema public is its owner's, and what is
/// granted to roles of the server itself, is no obstacle.
#[test]
fn a_database_created_by_no_superuser() {
    for major in support::VERSIONS {
        let source = small_database(major, "own");
        let (name, role) = (source.name.clone(), format!("own_{major}"));
        source.sql(&format!(
            "CREATE ROLE {role} LOGIN CREATEDB PASSWORD 'own';
             ALTER DATABASE {name} OWNER TO {role};
             ALTER SCHEMA sales OWNER TO {role}; ALTER TABLE sales.orders OWNER TO {role};
             ALTER TABLE customers OWNER TO {role}; ALTER VIEW many OWNER TO {role};
             ALTER FUNCTION twice OWNER TO {role};
             GRANT SELECT ON customers TO pg_monitor, pg_database_owner;
             SET ROLE pg_database_owner; GRANT USAGE ON SCHEMA public TO {role}"
        ));
        let folder = Folder::new();
        let archive = snapshot(&source, &folder);
        let before = source.server.pg_dump(&[], &source);
        let server = source.server;
        drop(source);
        let conninfo = server
            .conninfo("postgres")
            .replace("user=postgres", &format!("user={role}"))
            .replace("password=test-password", "password=own");
        expect_rdump(&["restore", "-q", "-C", &archive, "-d", &conninfo], 0, "");
        let mut pg_dump = server.program("pg_dump");
        pg_dump.args(["-U", "postgres", &name]);
        let after = support::run_ok(&mut pg_dump, b"").text();
        let lines = |text: &str| -> Vec<String> {
            let differs =
                |line: &&str| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict");
            text.lines().filter(differs).map(str::to_owned).collect()
        };
        assert_eq!(lines(&before), lines(&after));
        server.sql("postgres", &format!("DROP DATABASE {name}"));
        server.sql("postgres", &format!("DROP ROLE {role}"));
    }

    // 15 has no such role
    let source = server(18).create_database("predefined");
    source.sql("CREATE TABLE t (i int); GRANT SELECT ON t TO pg_maintain");
    let folder = Folder::new();
    let archive = snapshot(&source, &folder);
    let target = server(15).create_database("predefined");
    let finished = support::rdump(&["restore", &archive, "-d", &target.conninfo()]);
    assert_eq!(finished.code, 1);
    let line = "  - the server predefines no role \"pg_maintain\", which has privileges: leave out what \
                names it with -L, or privileges with -x\n";
    assert!(finished.stderr.contains(line), "{}", finished.stderr);
}

/// Servers before 15 do not name the provider of a database's locale, and a newer one would take its
/// template's. Nor would one of 15 in a cluster whose own is another.
#[test]
fn a_locale_of_another_provider() {
    let apart: &'static Server = Box::leak(Box::new(Server::start(18, &[])));
    for statement in [
        "CREATE DATABASE other TEMPLATE template0 LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'",
        "ALTER DATABASE template0 IS_TEMPLATE false",
        "DROP DATABASE template0",
        "ALTER DATABASE other RENAME TO template0",
        // as initdb leaves it
        "UPDATE pg_database SET datcollversion = NULL WHERE datname = 'template0'",
    ] {
        apart.sql("postgres", statement);
    }
    let conninfo = apart.conninfo("postgres");
    let folder = Folder::new();
    let source = server(15).create_database("provided");
    source.sql("CREATE VIEW v AS SELECT 1 AS i");
    let name = &source.name;
    let archive = snapshot(&source, &folder);
    let old = folder.file("old.rdump");
    let create = format!(
        "CREATE DATABASE {name} WITH TEMPLATE = template0 ENCODING = 'UTF8' LOCALE = 'C';\n"
    );
    hooked::forge(&archive, &old, &[("DATABASE", &create)]);
    let provider = format!("SELECT datlocprovider FROM pg_database WHERE datname = '{name}'");
    for file in [&archive, &old] {
        support::rdump_ok(&["restore", "-C", "-c", "--if-exists", file, "-d", &conninfo]);
        assert_eq!(hooked::ask(&conninfo, &provider), "c");
    }

    let icu = server(15).create_database_with(
        "icu",
        "TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'de'",
    );
    let archive = snapshot(&icu, &folder);
    support::rdump_ok(&["restore", "-C", &archive, "-d", &conninfo]);
    let locale = format!(
        "SELECT concat(datlocprovider, datlocale) FROM pg_database WHERE datname = '{}'",
        icu.name
    );
    assert_eq!(hooked::ask(&conninfo, &locale), "ide");

    // what the target does not have
    let builtin = apart.create_database_with("built_in", "TEMPLATE template0");
    let archive = snapshot(&builtin, &folder);
    let finished = support::rdump(&[
        "restore",
        "-C",
        &archive,
        "-d",
        &server(15).conninfo("postgres"),
    ]);
    assert_eq!(finished.code, 1);
    let line = format!(
        "  - database \"{}\" has its locale from builtin, which PostgreSQL has since 17 and the \
         target, 15.",
        builtin.name
    );
    assert!(finished.stderr.contains(&line), "{}", finished.stderr);
}

/// What to do about a database that is there already, or is not, or is in use.
#[test]
fn a_database_that_exists_already() {
    let source = small_database(18, "existing");
    let folder = Folder::new();
    let archive = snapshot(&source, &folder);
    let name = source.name.clone();
    let postgres = source.server.conninfo("postgres");
    expect_rdump(
        &["restore", "-C", &archive, "-d", &postgres],
        1,
        &format!(
            "rdump: error: creating database {name}: database \"{name}\" already exists\n\
             rdump: hint: restore into it by its name with -d and without -C, or replace it with \
             -C -c\n"
        ),
    );
    expect_rdump(
        &["restore", "-C", "-c", &archive, "-d", &source.conninfo()],
        1,
        &format!(
            "rdump: error: dropping database {name}: cannot drop the currently open database\n\
             rdump: hint: with -C -c, connect to another database first, such as -d postgres, and \
             let nobody else be connected to this one\n"
        ),
    );
    drop(source);
    expect_rdump(
        &["restore", "-C", "-c", &archive, "-d", &postgres],
        1,
        &format!(
            "rdump: error: dropping database {name}: database \"{name}\" does not exist\n\
             rdump: hint: leave out -c, or add --if-exists\n"
        ),
    );
    support::rdump_ok(&["restore", "-C", &archive, "-d", &postgres]);
    server(18).sql("postgres", &format!("DROP DATABASE \"{name}\""));
}
