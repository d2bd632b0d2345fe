//! Privileges are compared by what they mean: upgrades and copies give no finding, changes do.

use super::{Archive, lines};
use crate::support::{VERSIONS, server};

const SCHEMA: &str = r#"
CREATE SCHEMA up;
CREATE TABLE up.fresh (i int);
CREATE TABLE up.explicit (i int);
GRANT SELECT ON up.explicit TO fixture_reader;
REVOKE SELECT ON up.explicit FROM fixture_reader;
CREATE TABLE up.shared (i int, name text);
GRANT ALL ON up.shared TO fixture_writer;
GRANT SELECT ON up.shared TO fixture_reader;
GRANT UPDATE (name) ON up.shared TO fixture_reader;
CREATE TABLE up.partly (i int);
REVOKE DELETE, TRUNCATE ON up.partly FROM postgres;
GRANT SELECT ON up.partly TO fixture_reader;
CREATE TABLE up.nothing (i int);
REVOKE ALL ON up.nothing FROM postgres;
CREATE TABLE up.of_another (i int);
ALTER TABLE up.of_another OWNER TO fixture_owner;
REVOKE INSERT ON up.of_another FROM fixture_owner;
CREATE TABLE up.chain (i int);
GRANT USAGE ON SCHEMA up TO fixture_writer;
GRANT SELECT ON up.chain TO fixture_writer WITH GRANT OPTION;
SET ROLE fixture_writer;
GRANT SELECT ON up.chain TO fixture_reader;
RESET ROLE;
CREATE FUNCTION up.f(integer) RETURNS int LANGUAGE sql AS 'SELECT 1';
REVOKE EXECUTE ON FUNCTION up.f(integer) FROM PUBLIC;
CREATE SEQUENCE up.s;
GRANT ALL ON SEQUENCE up.s TO fixture_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE fixture_owner REVOKE INSERT ON TABLES FROM fixture_owner;
ALTER DEFAULT PRIVILEGES FOR ROLE fixture_writer GRANT SELECT ON TABLES TO fixture_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE fixture_writer IN SCHEMA up GRANT ALL ON TABLES TO fixture_reader;
REVOKE EXECUTE ON FUNCTION pg_catalog.pg_sleep(double precision) FROM PUBLIC;
GRANT CREATE ON SCHEMA public TO fixture_owner;
"#;

/// Changes that mean nothing.
const SAME: &[&str] = &[
    // an explicit ACL that says the default
    "GRANT ALL ON up.fresh TO postgres",
    // another order
    "REVOKE ALL ON up.shared FROM fixture_writer;
     GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER ON up.shared TO fixture_writer",
    "REVOKE ALL ON up.s FROM postgres; GRANT ALL ON SEQUENCE up.s TO postgres",
];

/// A change, what undoes it, and the beginning of the one finding.
const CHANGES: &[(&str, &str, &str)] = &[
    (
        "REVOKE SELECT ON up.shared FROM fixture_reader; GRANT UPDATE (name) ON up.shared TO fixture_reader",
        "GRANT SELECT ON up.shared TO fixture_reader",
        "ACL of TABLE up.shared: different (- archive, + database):\n  - GRANT SELECT ON TABLE up.shared TO fixture_reader;",
    ),
    (
        "GRANT SELECT ON up.shared TO fixture_reader WITH GRANT OPTION",
        "REVOKE GRANT OPTION FOR SELECT ON up.shared FROM fixture_reader",
        "ACL of TABLE up.shared: different (- archive, + database):\n  - GRANT SELECT ON TABLE up.shared TO fixture_reader;\n  + GRANT SELECT ON TABLE up.shared TO fixture_reader WITH GRANT OPTION;",
    ),
    (
        "REVOKE UPDATE (name) ON up.shared FROM fixture_reader",
        "GRANT UPDATE (name) ON up.shared TO fixture_reader",
        "ACL of TABLE up.shared: different (- archive, + database):\n  - GRANT UPDATE(name) ON TABLE up.shared TO fixture_reader;",
    ),
    (
        "GRANT UPDATE (i) ON up.fresh TO fixture_reader",
        "REVOKE UPDATE (i) ON up.fresh FROM fixture_reader",
        "ACL of TABLE up.fresh: different (- archive, + database):\n  + GRANT UPDATE(i) ON TABLE up.fresh TO fixture_reader;",
    ),
    (
        "GRANT DELETE ON up.partly TO postgres",
        "REVOKE DELETE ON up.partly FROM postgres",
        "ACL of TABLE up.partly: different (- archive, + database):\n  + GRANT DELETE ON TABLE up.partly TO postgres;",
    ),
    (
        "REVOKE SELECT ON up.fresh FROM postgres",
        "GRANT SELECT ON up.fresh TO postgres",
        "ACL of TABLE up.fresh: different (- archive, + database):\n  - GRANT SELECT ON TABLE up.fresh TO postgres;",
    ),
    (
        "REVOKE UPDATE ON up.of_another FROM fixture_owner",
        "GRANT UPDATE ON up.of_another TO fixture_owner",
        "ACL of TABLE up.of_another: different (- archive, + database):\n  - GRANT UPDATE ON TABLE up.of_another TO fixture_owner;",
    ),
    (
        "SET ROLE fixture_writer; REVOKE SELECT ON up.chain FROM fixture_reader; RESET ROLE; GRANT SELECT ON up.chain TO fixture_reader",
        "REVOKE SELECT ON up.chain FROM fixture_reader; SET ROLE fixture_writer; GRANT SELECT ON up.chain TO fixture_reader",
        "ACL of TABLE up.chain: different (- archive, + database):\n  - GRANT SELECT ON TABLE up.chain TO fixture_reader GRANTED BY fixture_writer;\n  + GRANT SELECT ON TABLE up.chain TO fixture_reader;",
    ),
    (
        "GRANT EXECUTE ON FUNCTION up.f(integer) TO PUBLIC",
        "REVOKE EXECUTE ON FUNCTION up.f(integer) FROM PUBLIC",
        "ACL of FUNCTION up.f(integer): different (- archive, + database):\n  + GRANT EXECUTE ON FUNCTION up.f(integer) TO PUBLIC;",
    ),
    (
        "REVOKE USAGE ON SEQUENCE up.s FROM fixture_reader",
        "GRANT USAGE ON SEQUENCE up.s TO fixture_reader",
        "ACL of SEQUENCE up.s: different (- archive, + database):\n  - GRANT USAGE ON SEQUENCE up.s TO fixture_reader;",
    ),
    (
        "ALTER DEFAULT PRIVILEGES FOR ROLE fixture_owner GRANT INSERT ON TABLES TO fixture_owner",
        "ALTER DEFAULT PRIVILEGES FOR ROLE fixture_owner REVOKE INSERT ON TABLES FROM fixture_owner",
        "DEFAULT PRIVILEGES FOR TABLES OF ROLE fixture_owner: missing in the database: \"ALTER DEFAULT PRIVILEGES",
    ),
    (
        "ALTER DEFAULT PRIVILEGES FOR ROLE fixture_writer GRANT UPDATE ON TABLES TO fixture_reader",
        "ALTER DEFAULT PRIVILEGES FOR ROLE fixture_writer REVOKE UPDATE ON TABLES FROM fixture_reader",
        "DEFAULT PRIVILEGES FOR TABLES OF ROLE fixture_writer: different (- archive, + database):\n  + GRANT UPDATE ON TABLES",
    ),
    (
        "ALTER DEFAULT PRIVILEGES FOR ROLE fixture_reader GRANT USAGE ON TYPES TO fixture_owner",
        "ALTER DEFAULT PRIVILEGES FOR ROLE fixture_reader REVOKE USAGE ON TYPES FROM fixture_owner",
        "DEFAULT PRIVILEGES FOR TYPES OF ROLE fixture_reader: different (- archive, + database):\n  + GRANT USAGE ON TYPES",
    ),
    (
        "GRANT EXECUTE ON FUNCTION pg_catalog.pg_ls_logdir() TO fixture_reader",
        "REVOKE EXECUTE ON FUNCTION pg_catalog.pg_ls_logdir() FROM fixture_reader",
        "ACL of FUNCTION pg_catalog.pg_ls_logdir(): different (- archive, + database):\n  + GRANT EXECUTE",
    ),
    (
        "GRANT EXECUTE ON FUNCTION pg_catalog.pg_sleep(double precision) TO PUBLIC",
        "REVOKE EXECUTE ON FUNCTION pg_catalog.pg_sleep(double precision) FROM PUBLIC",
        "ACL of FUNCTION pg_catalog.pg_sleep(double precision): ",
    ),
    (
        "REVOKE CREATE ON SCHEMA public FROM fixture_owner",
        "GRANT CREATE ON SCHEMA public TO fixture_owner",
        "ACL of SCHEMA public: different (- archive, + database):\n  - GRANT CREATE ON SCHEMA public TO fixture_owner;",
    ),
];

/// Since 17.
const MAINTAIN_CHANGES: &[(&str, &str, &str)] = &[
    (
        "GRANT MAINTAIN ON up.shared TO fixture_writer",
        "REVOKE MAINTAIN ON up.shared FROM fixture_writer",
        "ACL of TABLE up.shared: different (- archive, + database):\n  + GRANT MAINTAIN ON TABLE up.shared TO fixture_writer;",
    ),
    (
        "REVOKE MAINTAIN ON up.partly FROM postgres",
        "GRANT MAINTAIN ON up.partly TO postgres",
        "ACL of TABLE up.partly: different (- archive, + database):\n  - GRANT MAINTAIN ON TABLE up.partly TO postgres;",
    ),
    (
        "REVOKE MAINTAIN ON up.nothing FROM postgres",
        "GRANT MAINTAIN ON up.nothing TO postgres",
        "ACL of TABLE up.nothing: different (- archive, + database):\n  - GRANT MAINTAIN ON TABLE up.nothing TO postgres;",
    ),
    (
        "REVOKE MAINTAIN ON up.fresh FROM postgres",
        "GRANT MAINTAIN ON up.fresh TO postgres",
        "ACL of TABLE up.fresh: different (- archive, + database):\n  - GRANT MAINTAIN ON TABLE up.fresh TO postgres;",
    ),
    (
        "ALTER DEFAULT PRIVILEGES FOR ROLE fixture_owner REVOKE MAINTAIN ON TABLES FROM fixture_owner",
        "ALTER DEFAULT PRIVILEGES FOR ROLE fixture_owner GRANT MAINTAIN ON TABLES TO fixture_owner",
        "DEFAULT PRIVILEGES FOR TABLES OF ROLE fixture_owner: different (- archive, + database):\n  - GRANT MAINTAIN ON TABLES",
    ),
    (
        "ALTER DEFAULT PRIVILEGES FOR ROLE fixture_writer IN SCHEMA up GRANT MAINTAIN ON TABLES TO fixture_reader",
        "ALTER DEFAULT PRIVILEGES FOR ROLE fixture_writer IN SCHEMA up REVOKE MAINTAIN ON TABLES FROM fixture_reader",
        "DEFAULT PRIVILEGES FOR TABLES IN SCHEMA up OF ROLE fixture_writer: different (- archive, + database):\n  + GRANT MAINTAIN ON TABLES",
    ),
];

#[test]
fn an_upgrade_and_every_change_after_it() {
    for major in VERSIONS {
        server(major).ensure_roles();
    }
    let source = server(15).create_database("proof_privileges");
    source.sql(SCHEMA);
    let archive = Archive::of(&source);
    let copies = [
        (archive.restore(server(15), "proof_same"), &[][..]),
        (
            archive.restore(server(18), "proof_upgraded"),
            MAINTAIN_CHANGES,
        ),
        (
            server(18).copy_with_pg_dump(&source, "proof_dumped"),
            &MAINTAIN_CHANGES[..2],
        ),
    ];
    for (copy, maintain) in &copies {
        for change in SAME {
            copy.sql(change);
            archive.assert_findings(copy, change, &[]);
        }
        // not reading rows makes it fast
        for (change, undo, expected) in CHANGES.iter().chain(*maintain) {
            copy.sql(change);
            archive.assert_findings(copy, change, &[expected]);
            copy.sql(undo);
        }
        let comparison = archive.compare(copy);
        assert_eq!(lines(&comparison), Vec::<String>::new());
    }
}

/// A table handed to another owner takes its privileges along: one finding, for the owner. Restored
/// with -O, what was granted to the archive's owner is granted to a role like others.
#[test]
fn owners_and_what_is_theirs() {
    let server = server(18);
    server.ensure_roles();
    let source = server.create_database("proof_owners");
    source.sql(
        "CREATE TABLE t (i int); ALTER TABLE t OWNER TO fixture_owner;
         REVOKE DELETE ON t FROM fixture_owner; GRANT SELECT ON t TO fixture_reader",
    );
    let archive = Archive::of(&source);
    let copy = archive.restore(server, "proof_owners_copy");
    let change = "ALTER TABLE t OWNER TO fixture_writer";
    copy.sql(change);
    archive.assert_findings(
        &copy,
        change,
        &["TABLE public.t: owner is fixture_writer, in the archive fixture_owner"],
    );

    let without = server.create_database_with("proof_no_owners", "TEMPLATE template0");
    crate::support::rdump_ok(&["restore", "-O", &archive.path(), "-d", &without.conninfo()]);
    let options = rdump::proof::CompareOptions {
        no_owner: true,
        ..Default::default()
    };
    let equal = archive.try_compare(&without, &options).expect("comparing");
    assert_eq!(lines(&equal), Vec::<String>::new());
    assert_eq!(
        equal.not_compared.last().map(ToString::to_string),
        Some("owners, as asked".to_owned())
    );
    without.sql("REVOKE UPDATE ON t FROM fixture_owner");
    let found = lines(&archive.try_compare(&without, &options).expect("comparing"));
    assert_eq!(
        found,
        [
            "ACL of TABLE public.t: different (- archive, + database):\n  - GRANT UPDATE ON TABLE public.t TO fixture_owner;"
        ]
    );
}
