//! Security labels, beyond what their fixture shows: left out, compared, and where pg_dump has none.

use super::errors::{Folder, snapshot};
use crate::support::{self, TestDatabase, VERSIONS, server};

const LABELLED: &str = "
    CREATE TYPE pair AS (a int, b int);
    SECURITY LABEL FOR rdump ON COLUMN pair.b IS 'an attribute';
    CREATE TABLE thing (id int);
    SECURITY LABEL FOR rdump ON TABLE thing IS 'a table';
    SECURITY LABEL FOR \"Odd \"\"provider\"\"\" ON TABLE thing IS 'by another';
    SECURITY LABEL FOR rdump ON COLUMN thing.id IS 'a column';";

fn labels(database: &TestDatabase) -> String {
    database.query_text(
        "SELECT string_agg(objname || ': ' || label, ', ' ORDER BY objname, provider) FROM pg_seclabels
         WHERE objtype NOT IN ('subscription', 'database')",
    )
}

#[test]
fn labels_are_kept_or_left_out() {
    for major in VERSIONS {
        let source = server(major).create_database("labels");
        source.sql(LABELLED);
        let folder = Folder::new();
        let archive = snapshot(&source, &folder);
        let restore = |archive: &str, flags: &[&str]| {
            let target = server(major).create_database("labels_restored");
            let conninfo = target.conninfo();
            support::rdump_ok(&[&["restore", archive, "-d", &conninfo], flags].concat());
            labels(&target)
        };
        // pg_dump passes over those of attributes
        let all = "pair.b: an attribute, thing: by another, thing: a table, thing.id: a column";
        assert_eq!(restore(&archive, &[]), all);
        assert_eq!(restore(&archive, &["--no-security-labels"]), "");

        let without = folder.file("without.rdump");
        support::rdump_ok(&[
            "snapshot",
            "--no-security-labels",
            "-d",
            &source.conninfo(),
            "-f",
            &without,
        ]);
        let list = support::rdump_ok(&["show", &without]).text();
        assert!(list.contains("TABLE public thing"), "{list}");
        assert!(!list.contains("LABEL"), "{list}");
        assert_eq!(restore(&without, &[]), "");
    }
}

#[test]
fn labels_that_differ_are_found() {
    let source = server(18).create_database("labels");
    source.sql(LABELLED);
    let folder = Folder::new();
    let archive = snapshot(&source, &folder);
    source.sql(
        "SECURITY LABEL FOR rdump ON COLUMN thing.id IS 'another';
         SECURITY LABEL FOR rdump ON COLUMN pair.b IS NULL;
         CREATE SCHEMA more;
         SECURITY LABEL FOR rdump ON SCHEMA more IS 'a schema'",
    );
    let verify = ["verify", &archive, "--against", &source.conninfo()];
    let finished = support::rdump(&verify);
    assert_eq!(finished.code, 3, "{}", finished.stderr);
    let findings = finished.text();
    for expected in [
        "SECURITY LABEL ON TABLE public.thing: different",
        "SECURITY LABEL ON COLUMN public.pair.b: missing",
        "SCHEMA more: not in the archive",
    ] {
        assert!(findings.contains(expected), "no {expected} in:\n{findings}");
    }
    assert!(!findings.contains("LABEL ON SCHEMA more"), "{findings}");
}
