//! What is set for the database itself and granted on it.

use super::Archive;
use crate::support::{self, TestDatabase, server};

/// Restores with -C, which gives a database of the archive's name.
fn restore_created(archive: &Archive, source: &TestDatabase, to: u32) -> TestDatabase {
    let copy = TestDatabase {
        name: source.name.clone(),
        server: server(to),
    };
    let maintenance = server(to).conninfo("postgres");
    support::rdump_ok(&["restore", "-C", &archive.path(), "-d", &maintenance]);
    copy
}

#[test]
fn settings_comment_and_privileges_of_the_database() {
    for major in support::VERSIONS {
        server(major).ensure_roles();
    }
    let source = server(15).create_database("proof_database");
    let name = source.name.as_str();
    source.sql(&format!(
        "CREATE TABLE t (i int);
         ALTER DATABASE {name} SET work_mem = '7MB'; ALTER DATABASE {name} SET search_path = 'a', \"B;c\";
         ALTER ROLE fixture_reader IN DATABASE {name} SET statement_timeout = '5s';
         ALTER DATABASE {name} CONNECTION LIMIT 42; COMMENT ON DATABASE {name} IS 'for the proof';
         ALTER DATABASE {name} OWNER TO fixture_owner;
         REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC; GRANT CREATE ON DATABASE {name} TO fixture_writer"
    ));
    let archive = Archive::of(&source);
    archive.assert_findings(&source, "nothing", &[]);
    let copy = restore_created(&archive, &source, 18);
    assert!(archive.compare(&copy).not_compared.is_empty());
    let acl = format!("ACL of DATABASE {name}: different (- archive, + database):\n  ");
    let properties = format!("DATABASE PROPERTIES {name}: different (- archive, + database):\n  ");
    for (change, undo, expected) in [
        // in another order
        (
            format!(
                "ALTER DATABASE {name} RESET work_mem; ALTER DATABASE {name} SET work_mem = '7MB'"
            ),
            String::new(),
            vec![],
        ),
        (
            format!("ALTER DATABASE {name} RESET work_mem"),
            format!("ALTER DATABASE {name} SET work_mem = '7MB'"),
            vec![format!(
                "{properties}- ALTER DATABASE {name} SET work_mem TO '7MB';"
            )],
        ),
        (
            format!("ALTER ROLE fixture_reader IN DATABASE {name} SET work_mem = '8MB'"),
            format!("ALTER ROLE fixture_reader IN DATABASE {name} RESET work_mem"),
            vec![format!(
                "{properties}+ ALTER ROLE fixture_reader IN DATABASE {name} SET work_mem"
            )],
        ),
        (
            format!("COMMENT ON DATABASE {name} IS 'for nothing'"),
            format!("COMMENT ON DATABASE {name} IS 'for the proof'"),
            vec![format!(
                "COMMENT ON DATABASE {name}: different (- archive, + database):\n"
            )],
        ),
        (
            format!("REVOKE CREATE ON DATABASE {name} FROM fixture_writer"),
            format!("GRANT CREATE ON DATABASE {name} TO fixture_writer"),
            vec![format!(
                "{acl}- GRANT CREATE ON DATABASE {name} TO fixture_writer;"
            )],
        ),
        (
            format!("GRANT TEMPORARY ON DATABASE {name} TO PUBLIC"),
            format!("REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC"),
            vec![format!(
                "{acl}+ GRANT TEMPORARY ON DATABASE {name} TO PUBLIC;"
            )],
        ),
        (
            format!("ALTER DATABASE {name} OWNER TO fixture_reader"),
            format!("ALTER DATABASE {name} OWNER TO fixture_owner"),
            vec![format!(
                "DATABASE {name}: owner is fixture_reader, in the archive fixture_owner"
            )],
        ),
    ] {
        copy.sql(&change);
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        archive.assert_findings(&copy, &change, &expected);
        copy.sql(&undo);
    }
    archive.assert_findings(&copy, "undoing all", &[]);

    // made by hand under the same name, it has none of this
    let name = &copy.name;
    copy.server
        .sql("postgres", &format!("DROP DATABASE {name}"));
    copy.server.sql(
        "postgres",
        &format!("CREATE DATABASE {name} TEMPLATE template0"),
    );
    support::rdump_ok(&["restore", &archive.path(), "-d", &copy.conninfo()]);
    archive.assert_findings(
        &copy,
        "restoring without -C",
        &[
            &format!("DATABASE {name}: owner is postgres"),
            &format!("COMMENT ON DATABASE {name}: missing in the database"),
            &format!("ACL of DATABASE {name}: different (- archive, + database):\n"),
            &format!("DATABASE PROPERTIES {name}: missing in the database"),
        ],
    );
}

/// Under another name it is not compared, and that is said.
#[test]
fn a_database_of_another_name() {
    let server = server(18);
    let source = server.create_database("proof_name");
    let name = &source.name;
    source.sql(&format!("ALTER DATABASE {name} SET work_mem = '7MB'"));
    let archive = Archive::of(&source);
    let copy = archive.restore(server, "proof_other");
    let said = format!(
        "not compared: locale, owner, settings, comment and privileges of the database itself: it is called {}, in the archive {name}\n",
        copy.name
    );
    let against = copy.conninfo();
    let finished = support::rdump_ok(&["verify", &archive.path(), "--against", &against]);
    assert!(finished.text().starts_with(&said), "{}", finished.text());
    assert!(
        finished
            .text()
            .ends_with(": the database equals the archive in all of this\n"),
        "{}",
        finished.text()
    );
    let json = support::rdump_ok(&["verify", "--json", &archive.path(), "--against", &against]);
    assert!(
        json.text().contains("\"not_compared\":[\"locale, "),
        "{}",
        json.text()
    );
}
