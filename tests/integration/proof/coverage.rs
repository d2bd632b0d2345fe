//! What the archive was made without, or the user does not want, is not missed, and is listed.

use rdump::archive::limits::HEADER_FLAG_WITHOUT_DATA;
use rdump::proof::{CompareOptions, Comparison};
use tempfile::TempDir;

use super::{Archive, lines};
use crate::hooked;
use crate::support::{self, VERSIONS, server};

const SCHEMA: &str = "
    CREATE TABLE t (id serial PRIMARY KEY, b int GENERATED ALWAYS AS IDENTITY);
    INSERT INTO t DEFAULT VALUES;
    CREATE MATERIALIZED VIEW m AS SELECT id FROM t";
const LARGE_OBJECTS: &str =
    "SELECT lo_from_bytea(7001, '\\x01'); COMMENT ON LARGE OBJECT 7001 IS 'large'";

const DATA: &str =
    "rows, values of sequences, large objects, and whether materialized views are filled";

fn not_compared(comparison: &Comparison) -> Vec<String> {
    let of_others = |what: &String| !what.starts_with("locale, owner, ");
    let list = comparison.not_compared.iter().map(ToString::to_string);
    list.filter(of_others).collect()
}

fn without_data(archive: &Archive, optional_flags: u32) -> Archive {
    let forged = Archive {
        folder: TempDir::new().expect("a temporary folder"),
    };
    hooked::forge_without_data(&archive.path(), &forged.path(), optional_flags);
    forged
}

#[test]
fn an_archive_of_definitions() {
    for major in VERSIONS {
        let source = server(major).create_database("proof_schema");
        source.sql(SCHEMA);
        source.sql(LARGE_OBJECTS);
        let archive = without_data(&Archive::of(&source), HEADER_FLAG_WITHOUT_DATA);
        let comparison = archive.compare(&source);
        assert_eq!(lines(&comparison), Vec::<String>::new(), "on {major}");
        let expected = format!("{DATA}: the archive was made without");
        assert_eq!(not_compared(&comparison), [expected]);
        assert_eq!(comparison.compared.rows, 0);
        source.sql(
            "ALTER TABLE t ADD c int; SELECT nextval('t_id_seq'); INSERT INTO t DEFAULT VALUES",
        );
        archive.assert_findings(&source, "a new column", &["TABLE public.t: different"]);
    }
}

/// Tables without their rows, by whatever made it.
#[test]
fn an_archive_without_the_rows_of_its_tables() {
    for major in VERSIONS {
        let source = server(major).create_database("proof_rowless");
        source.sql(SCHEMA);
        let archive = without_data(&Archive::of(&source), 0);
        let comparison = archive.compare(&source);
        assert_eq!(lines(&comparison), Vec::<String>::new(), "on {major}");
        let list = not_compared(&comparison);
        assert_eq!(list.len(), 2, "{list:#?}");
        assert_eq!(
            list[0],
            "rows or values that the archive was made without: public.t, public.t_b_seq, \
             public.t_id_seq"
        );
        // of a table that it does not have at all, nothing is excused
        source.sql("CREATE TABLE other AS SELECT 1 AS i");
        archive.assert_findings(
            &source,
            "another table",
            &["TABLE public.other: not in the archive"],
        );
    }
}

#[test]
fn an_archive_without_large_objects() {
    for major in VERSIONS {
        let source = server(major).create_database("proof_no_blobs");
        source.sql(SCHEMA);
        source.sql(LARGE_OBJECTS);
        let folder = TempDir::new().expect("a temporary folder");
        let file = folder.path().join("a").display().to_string();
        let against = source.conninfo();
        support::rdump_ok(&["snapshot", "-q", "-B", "-d", &against, "-f", &file]);
        let finished = support::rdump_ok(&["verify", &file, "--against", &against]);
        let said = "not compared: large objects: the archive was made without\n";
        assert!(finished.text().starts_with(said), "{}", finished.text());
        source.sql("INSERT INTO t DEFAULT VALUES");
        let finished = support::rdump(&["verify", "-q", &file, "--against", &against]);
        assert_eq!(finished.code, 3, "{}", finished.stderr);
    }
}

#[test]
fn what_the_user_leaves_out() {
    for major in VERSIONS {
        let source = server(major).create_database("proof_asked");
        source.sql(SCHEMA);
        source.sql(LARGE_OBJECTS);
        let archive = Archive::of(&source);
        let copy = server(major).create_database_with("proof_asked_copy", "TEMPLATE template0");
        support::rdump_ok(&["restore", "-s", &archive.path(), "-d", &copy.conninfo()]);
        assert!(!archive.findings(&copy).is_empty());
        let options = CompareOptions {
            no_data: true,
            ..CompareOptions::default()
        };
        let comparison = archive.try_compare(&copy, &options).expect("comparing");
        assert_eq!(lines(&comparison), Vec::<String>::new(), "on {major}");
        assert_eq!(not_compared(&comparison), [format!("{DATA}, as asked")]);

        source.sql("SELECT lo_unlink(7001), lo_create(7002)");
        archive.assert_findings(
            &source,
            "another large object",
            &[
                "LARGE OBJECT 7001: missing in the database",
                "LARGE OBJECT 7002: not in the archive",
                "COMMENT ON LARGE OBJECT 7001: missing in the database",
            ],
        );
        let arguments = [
            "verify",
            "-B",
            &archive.path(),
            "--against",
            &source.conninfo(),
        ];
        let said = "not compared: large objects, as asked\n";
        let finished = support::rdump_ok(&arguments);
        assert!(finished.text().starts_with(said), "{}", finished.text());
    }
}
