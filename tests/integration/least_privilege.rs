//! Roles that are no superusers: the SQL of docs/privileges.md, and what pg_dump can do in their place.

use crate::errors::{Folder, expect_rdump};
use crate::support::{self, TestDatabase, VERSIONS, run, server};

/// The SQL of docs/privileges.md whose first line begins with `-- NAME:`.
fn snippet(name: &str, source: &TestDatabase, target: &str) -> String {
    let page = include_str!("../../docs/privileges.md");
    let blocks = page.split("```sql\n").skip(1);
    let block = blocks
        .map(|block| block.split("```").next().expect("the end of a block"))
        .find(|block| block.starts_with(&format!("-- {name}:")))
        .unwrap_or_else(|| panic!("docs/privileges.md has no SQL \"{name}\""));
    block
        .replace("your_database", &source.name)
        .replace("restored_database", target)
}

/// The conninfo of a database as another role, with the password of the documentation.
fn as_role(database: &TestDatabase, role: &str) -> String {
    database
        .conninfo()
        .replace("user=postgres", &format!("user={role}"))
        .replace("password=test-password", "password='change me'")
}

/// Ends roles with all that they have in these databases.
fn drop_roles(databases: &[&TestDatabase], roles: &[&str]) {
    for role in roles {
        for database in databases {
            database.sql(&format!(
                "REASSIGN OWNED BY {role} TO postgres; DROP OWNED BY {role};"
            ));
        }
        databases[0].sql(&format!("DROP ROLE {role}"));
    }
}

/// The documented roles take a snapshot of the sample database and restore it, owners and all.
#[test]
fn the_documented_sql_suffices() {
    for major in VERSIONS {
        let server = server(major);
        let source = server.create_database("least");
        support::load_sample(&source, 1);
        let folder = Folder::new();
        let file = folder.file("archive.rdump");
        source.sql(&snippet("snapshot", &source, ""));
        let backup = as_role(&source, "rdump_backup");
        let arguments = ["snapshot", "-q", "-d", &backup, "-f", &file, "-j", "2"];
        expect_rdump(
            &arguments,
            1,
            "rdump: error: row-level security would hide rows from this role in 1 table: sales.customer\n\
             rdump: hint: a backup must see every row: connect as a superuser, as a role with \
             BYPASSRLS, or as the owner of these tables where it is not forced on the owner; \
             or take only what the role may see, with --enable-row-security\n",
        );
        source.sql(&snippet("row-level security", &source, ""));
        expect_rdump(&arguments, 0, "");

        let target = TestDatabase::reserve(server, "least_restored");
        for statement in snippet("restore", &source, &target.name).split_inclusive(";\n") {
            source.sql(statement);
        }
        // what the owner of a database may not do for others' objects is said before it is tried
        let restore = as_role(&target, "rdump_restore");
        let refused = support::rdump(&["restore", &file, "-d", &restore]);
        assert_eq!(refused.code, 1, "{}", refused.stderr);
        for owner in ["postgres", "shop_clerk"] {
            assert!(
                refused.stderr.contains(&format!("role \"{owner}\"")),
                "{owner}: {}",
                refused.stderr
            );
        }
        let arguments = [
            "restore", "-q", &file, "-d", &restore, "-O", "-x", "-j", "2",
        ];
        expect_rdump(&arguments, 0, "");
        support::assert_same_rows(&source, &target);
        let plain = |database: &TestDatabase| {
            let arguments = ["--schema-only", "--no-owner", "--no-privileges"];
            support::normalise_dump(&server.pg_dump(&arguments, database))
        };
        let (expected, actual) = (plain(&source), plain(&target));
        assert!(
            expected == actual,
            "{}",
            support::difference(&expected, &actual)
        );
        drop_roles(&[&source, &target], &["rdump_backup", "rdump_restore"]);
    }
}

/// Owners that are no superusers: as a member of them, a role restores all that is theirs.
#[test]
fn owners_that_the_role_is_a_member_of() {
    for major in VERSIONS {
        let server = server(major);
        let (owner, role) = (format!("member_owner_{major}"), format!("member_{major}"));
        let source = server.create_database("member");
        source.sql(&format!(
            "CREATE ROLE {owner}; CREATE ROLE {role} LOGIN PASSWORD 'change me';
             GRANT ALL ON SCHEMA public TO {owner};
             SET ROLE {owner};
             CREATE TABLE orders (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, item text);
             INSERT INTO orders (item) SELECT 'item ' || i FROM generate_series(1, 100) i;
             GRANT SELECT ON orders TO {role};
             CREATE VIEW many AS SELECT * FROM orders;
             RESET ROLE;
             GRANT pg_read_all_data TO {role}",
        ));
        let folder = Folder::new();
        let file = folder.file("archive.rdump");
        expect_rdump(
            &[
                "snapshot",
                "-q",
                "-d",
                &as_role(&source, &role),
                "-f",
                &file,
            ],
            0,
            "",
        );
        let target = server.create_database_with(
            "member_restored",
            &format!("TEMPLATE template0 OWNER {role}"),
        );
        let restore = as_role(&target, &role);
        let refused = support::rdump(&["restore", &file, "-d", &restore]);
        assert_eq!(refused.code, 1, "{}", refused.stderr);
        assert!(refused.stderr.contains(&owner), "{}", refused.stderr);
        target.sql(
            &snippet("restore with owners", &source, "")
                .replace("your_owner", &owner)
                .replace("your_schema", "public")
                .replace("rdump_restore", &role),
        );
        expect_rdump(&["restore", "-q", &file, "-d", &restore], 0, "");
        support::assert_same_schema(&source, &target);
        support::assert_same_rows(&source, &target);
        expect_rdump(&["verify", "-q", &file, "--against", &restore], 0, "");
        drop_roles(&[&target, &source], &[&role, &owner]);
    }
}

/// The second way of the documentation: grants of its own, a schema at a time.
#[test]
fn grants_a_schema_at_a_time() {
    for major in VERSIONS {
        let source = server(major).create_database("grants");
        source.sql(
            "CREATE TABLE orders (id serial PRIMARY KEY); INSERT INTO orders DEFAULT VALUES;
             CREATE ROLE rdump_backup_by_schema LOGIN PASSWORD 'change me'",
        );
        let sql = snippet("a schema at a time", &source, "");
        source.sql(&sql.replace("rdump_backup", "rdump_backup_by_schema"));
        source.sql("CREATE TABLE later (id serial PRIMARY KEY)");
        let folder = Folder::new();
        let file = folder.file("archive.rdump");
        let conninfo = as_role(&source, "rdump_backup_by_schema");
        expect_rdump(&["snapshot", "-q", "-d", &conninfo, "-f", &file], 0, "");
        drop_roles(&[&source], &["rdump_backup_by_schema"]);
    }
}

/// Whatever a role may dump with pg_dump, it may dump with rdump: every fixture, with
/// pg_read_all_data and as the owner of the database.
#[test]
fn what_pg_dump_can_rdump_can() {
    for major in VERSIONS {
        let server = server(major);
        let role = format!("no_superuser_{major}");
        server.sql(
            "postgres",
            &format!("CREATE ROLE {role} LOGIN PASSWORD 'change me'"),
        );
        let mut failed = Vec::new();
        let mut dumped = 0;
        for kind in support::kinds() {
            let source = server.create_database(&format!("least_{kind}"));
            support::load_kind(&source, &kind);
            for grant in [
                format!("GRANT pg_read_all_data TO {role}"),
                format!(
                    "REVOKE pg_read_all_data FROM {role};
                     ALTER DATABASE \"{}\" OWNER TO {role}",
                    source.name
                ),
            ] {
                source.sql(&grant);
                let mut pg_dump = server.program("pg_dump");
                pg_dump.args(["-U", &role, "-d", &source.name, "-f", "/dev/null"]);
                let theirs = run(&mut pg_dump, b"");
                let folder = Folder::new();
                let file = folder.file("archive.rdump");
                let conninfo = as_role(&source, &role);
                let ours = support::rdump(&["snapshot", "-q", "-d", &conninfo, "-f", &file]);
                if theirs.code == 0 {
                    dumped += 1;
                    if ours.code != 0 {
                        failed.push(format!("{kind}, {grant}: {}", ours.stderr));
                    }
                } else if ours.code != 0 {
                    // a sentence of ours, not a server's error in the middle of the work
                    let known = ["no permission to read", "row-level security would hide"];
                    if !known.iter().any(|known| ours.stderr.contains(known)) {
                        failed.push(format!(
                            "{kind}, {grant}: {} (pg_dump: {})",
                            ours.stderr, theirs.stderr
                        ));
                    }
                }
            }
            source.sql(&format!(
                "ALTER DATABASE \"{}\" OWNER TO postgres",
                source.name
            ));
        }
        assert!(failed.is_empty(), "on {major}:\n{}", failed.join("\n"));
        assert!(dumped > 20, "pg_dump itself managed only {dumped}");
        server.sql("postgres", &format!("DROP ROLE {role}"));
    }
}
