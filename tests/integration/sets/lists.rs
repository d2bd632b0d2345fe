//! Globals chosen by a list: what it leaves out stays as it is on the server.

use super::{assert_same_server, fresh, place, restore_ok, snapshot};
use crate::support;

/// The lines of the table of contents that begin an entry of one of these.
fn list(file: &str, wanted: &[&str]) -> String {
    let toc = support::rdump_ok(&["show", "-g", file]).text();
    let lines: Vec<&str> = toc
        .lines()
        .filter(|line| wanted.iter().any(|wanted| line.contains(wanted)))
        .collect();
    assert_eq!(lines.len(), wanted.len(), "{toc}");
    lines.join("\n")
}

#[test]
fn what_a_list_leaves_out_is_left_alone() {
    for major in support::VERSIONS {
        let source = fresh(major);
        source.sql(
            "postgres",
            "CREATE ROLE clerk; CREATE ROLE team; CREATE ROLE boss;
             GRANT team TO clerk; GRANT team TO boss WITH ADMIN OPTION;
             ALTER ROLE clerk SET work_mem = '7MB'; ALTER ROLE team SET work_mem = '5MB';
             COMMENT ON ROLE clerk IS 'a clerk';
             CREATE TABLESPACE fast OWNER clerk LOCATION '/tablespaces/fast' WITH (seq_page_cost = 3);
             COMMENT ON TABLESPACE fast IS 'the fast one'",
        );
        let (folder, file) = place("globals.rdump");
        snapshot(&source, &file, &["-g"]);
        let listed = folder.path().join("list");
        let listed = listed.to_str().expect("a path in UTF-8");
        let roles = ["ROLE - clerk ", "ROLE - team ", "TABLESPACE - fast "];
        std::fs::write(listed, list(&file, &roles)).expect("writing the list");

        let target = fresh(major);
        restore_ok(&file, &target, &[]);
        // something of each to alter, so that the entries are not passed over
        let altered = "ALTER ROLE clerk CREATEDB; ALTER ROLE team CREATEDB;
                       ALTER TABLESPACE fast SET (seq_page_cost = 4)";
        target.sql("postgres", altered);
        let finished = restore_ok(&file, &target, &["-L", listed]);
        assert!(!finished.stderr.contains("revoked"), "{}", finished.stderr);
        assert_same_server(&source, &target, &["-g"]);

        // another value than the archive's, whose entry is not in the list
        target.sql(
            "postgres",
            "ALTER ROLE clerk SET work_mem = '9MB'; COMMENT ON ROLE clerk IS 'another'",
        );
        restore_ok(&file, &target, &["-L", listed]);
        let setting = "SELECT setconfig FROM pg_db_role_setting WHERE setrole = 'clerk'::regrole";
        assert_eq!(target.query_text("postgres", setting), "{work_mem=9MB}");
        let comment = "SELECT shobj_description('clerk'::regrole, 'pg_authid')";
        assert_eq!(target.query_text("postgres", comment), "another");

        // what the whole archive does not have of a chosen role is taken away; others keep theirs
        target.sql(
            "postgres",
            "ALTER ROLE clerk SET work_mem = '7MB'; COMMENT ON ROLE clerk IS 'a clerk';
             GRANT clerk TO boss; COMMENT ON ROLE team IS 'old'; COMMENT ON ROLE boss IS 'old';
             CREATE ROLE other; GRANT other TO clerk",
        );
        restore_ok(&file, &target, &["-L", listed]);
        assert_eq!(
            target.query_text(
                "postgres",
                "SELECT pg_has_role('boss', 'clerk', 'MEMBER'), pg_has_role('clerk', 'other', 'MEMBER'),
                        shobj_description('team'::regrole, 'pg_authid') IS NULL,
                        shobj_description('boss'::regrole, 'pg_authid')"
            ),
            "t|t|t|old"
        );
        let boss = [&roles[..], &["ROLE - boss "]].concat();
        std::fs::write(listed, list(&file, &boss)).expect("writing the list");
        let finished = restore_ok(&file, &target, &["-L", listed]);
        assert!(
            finished
                .stderr
                .contains("membership clerk TO boss, which the archive does not have, was revoked"),
            "{}",
            finished.stderr
        );
        target.sql("postgres", "DROP ROLE other");
        assert_same_server(&source, &target, &["-g"]);
    }
}

/// What is there is compared with texts that have every name in quotes.
#[test]
fn a_set_with_all_names_quoted_takes_nothing_away() {
    for major in support::VERSIONS {
        let source = fresh(major);
        source.sql(
            "postgres",
            "CREATE ROLE clerk LOGIN PASSWORD 'secret'; CREATE ROLE team; GRANT team TO clerk;
             ALTER ROLE clerk SET work_mem = '7MB'; ALTER ROLE postgres SET work_mem = '6MB'",
        );
        let (_folder, file) = place("set.rdump");
        let options = ["--all-databases", "--quote-all-identifiers"];
        snapshot(&source, &file, &options);
        let target = fresh(major);
        let whole = "SELECT (SELECT rolpassword FROM pg_authid WHERE rolname = 'clerk'),
                            (SELECT string_agg(setconfig::text, ' ' ORDER BY setrole::regrole::text)
                             FROM pg_db_role_setting),
                            pg_has_role('clerk', 'team', 'MEMBER')";
        for again in [false, true] {
            let force: &[&str] = if again { &["--force"] } else { &[] };
            let finished = restore_ok(&file, &target, force);
            assert!(!finished.stderr.contains("revoked"), "{}", finished.stderr);
            let (expected, actual) = (
                source.query_text("postgres", whole),
                target.query_text("postgres", whole),
            );
            assert_eq!(expected, actual);
            assert!(actual.starts_with("SCRAM-SHA-256"), "{actual}");
        }
        assert_same_server(&source, &target, &["-g"]);
    }
}

/// Since 16, what was granted by means of a membership hangs on it.
#[test]
fn memberships_that_hang_on_each_other_are_revoked() {
    let source = fresh(18);
    let roles = "CREATE ROLE x1; CREATE ROLE x2; CREATE ROLE x3; CREATE ROLE a4";
    source.sql("postgres", roles);
    let (_folder, file) = place("globals.rdump");
    snapshot(&source, &file, &["-g"]);
    let target = fresh(18);
    target.sql("postgres", roles);
    target.sql(
        "postgres",
        "GRANT x2 TO x1 WITH ADMIN OPTION; GRANT x2 TO x3 WITH ADMIN OPTION GRANTED BY x1;
         GRANT x2 TO a4 GRANTED BY x3",
    );
    let finished = restore_ok(&file, &target, &[]);
    assert!(
        !finished.stderr.contains("could not be revoked"),
        "{}",
        finished.stderr
    );
    assert_same_server(&source, &target, &["-g"]);
}
