//! Large objects are equal where their bytes are, however they are stored.

use rdump::proof::CompareOptions;

use super::{Archive, lines};
use crate::support::{VERSIONS, server};

/// Holes before, between and behind what was written; all of them of one owner.
const SPARSE: &str = "
    SELECT lo_create(5001), lo_create(5002), lo_create(5003), lo_from_bytea(5004, '\\x01020304'), lo_create(5005);
    SELECT lo_put(5001, 1000000, '\\x42'), lo_put(5002, 0, '\\x01'), lo_put(5002, 5000, '\\x02');
    SELECT lo_put(5003, 3000, decode(repeat('00', 5000), 'hex'));
    SELECT format('ALTER LARGE OBJECT %s OWNER TO fixture_owner', oid) FROM pg_largeobject_metadata \\gexec";

#[test]
fn sparse_ones_are_equal_to_their_bytes_and_changes_are_named() {
    for (from, to) in [(15, 15), (18, 18), (15, 18)] {
        server(from).ensure_roles();
        let source = server(from).create_database("proof_sparse");
        source.sql(SPARSE);
        let archive = Archive::of(&source);
        // psql writes every byte, holes included
        let dumped = server(to).copy_with_pg_dump(&source, "proof_dumped");
        let pages = |database: &crate::support::TestDatabase| {
            database.query_text("SELECT count(*) FROM pg_largeobject")
        };
        assert_ne!(pages(&source), pages(&dumped));
        for copy in [dumped, archive.restore(server(to), "proof_restored")] {
            for (change, undo, expected) in [
                // a byte within a hole, and one at the end
                (
                    "SELECT lo_put(5001, 500000, '\\x01')",
                    "SELECT lo_put(5001, 500000, '\\x00')",
                    &[
                        "contents of LARGE OBJECT 5001: as many bytes as in the archive, but not the same",
                    ][..],
                ),
                (
                    "SELECT lo_put(5004, 3, '\\x00')",
                    "SELECT lo_put(5004, 3, '\\x04')",
                    &[
                        "contents of LARGE OBJECT 5004: as many bytes as in the archive, but not the same",
                    ],
                ),
                // nothing but zeros, and yet longer
                (
                    "SELECT lo_put(5004, 4, '\\x00')",
                    "SELECT lo_truncate(lo_open(5004, 131072), 4)",
                    &["contents of LARGE OBJECT 5004: 5 bytes, in the archive 4"],
                ),
                (
                    "SELECT lo_put(5005, 0, '\\x00'), lo_put(5002, 5000, '\\x03')",
                    "SELECT lo_truncate(lo_open(5005, 131072), 0), lo_put(5002, 5000, '\\x02')",
                    &[
                        "contents of LARGE OBJECT 5005: 1 byte, in the archive 0",
                        "contents of LARGE OBJECT 5002: as many bytes as in the archive, but not the same",
                    ],
                ),
                (
                    "SELECT lo_unlink(5004)",
                    "SELECT lo_from_bytea(5004, '\\x01020304'); ALTER LARGE OBJECT 5004 OWNER TO fixture_owner",
                    &["LARGE OBJECT 5004: missing in the database"],
                ),
                (
                    "SELECT lo_from_bytea(5006, '\\x05')",
                    "SELECT lo_unlink(5006)",
                    &["LARGE OBJECT 5006: not in the archive"],
                ),
            ] {
                copy.sql(change);
                archive.assert_findings(&copy, change, expected);
                copy.sql(undo);
            }
            archive.assert_findings(&copy, "undoing all", &[]);
        }
    }
}

/// Who may not read pg_largeobject asks for each object, and gets zeros where there are holes.
#[test]
fn without_a_superuser() {
    for major in VERSIONS {
        server(major).ensure_roles();
        let source = server(major).create_database("proof_functions");
        source.sql(SPARSE);
        let archive = Archive::of(&source);
        let conninfo = format!("{} options='-c role=fixture_owner'", source.conninfo());
        let compare = || {
            let comparison = archive.try_compare_over(&conninfo, &CompareOptions::default());
            lines(&comparison.expect("comparing"))
        };
        assert_eq!(compare(), Vec::<String>::new());
        source.sql("SELECT lo_put(5003, 7999, '\\x01')");
        assert_eq!(
            compare(),
            ["contents of LARGE OBJECT 5003: as many bytes as in the archive, but not the same"]
        );
    }
}
