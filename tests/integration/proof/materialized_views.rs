//! The archive holds a materialised view's query, and whether it is filled.

use super::{Archive, lines};
use crate::support::{VERSIONS, server};

#[test]
fn filled_or_not_is_compared_and_rows_are_listed_as_not_compared() {
    for major in VERSIONS {
        let server = server(major);
        let source = server.create_database("proof_mat");
        source.sql(
            "CREATE TABLE t (i int); INSERT INTO t VALUES (1);
             CREATE MATERIALIZED VIEW filled AS SELECT i FROM t;
             CREATE MATERIALIZED VIEW empty AS SELECT i FROM t WITH NO DATA",
        );
        let archive = Archive::of(&source);
        let copy = archive.restore(server, "proof_mat_copy");
        let listed = |comparison: &rdump::proof::Comparison| {
            let mut list = comparison.not_compared.iter();
            list.any(|what| {
                what.to_string()
                    == "rows of materialized views, of which the archive holds the query alone: \
                         public.filled"
            })
        };
        let comparison = archive.compare(&copy);
        assert_eq!(lines(&comparison), Vec::<String>::new(), "on {major}");
        assert!(listed(&comparison), "on {major}: {comparison}");
        assert!(
            comparison
                .summary()
                .ends_with("the database equals the archive in all of this"),
            "{comparison}"
        );

        let change = "REFRESH MATERIALIZED VIEW filled WITH NO DATA";
        copy.sql(change);
        archive.assert_findings(
            &copy,
            change,
            &["MATERIALIZED VIEW DATA public.filled: missing in the database: \"REFRESH MATERIALIZED VIEW public.filled;\""],
        );
        assert!(!listed(&archive.compare(&copy)));
        copy.sql("REFRESH MATERIALIZED VIEW filled; REFRESH MATERIALIZED VIEW empty");
        archive.assert_findings(
            &copy,
            "filling the other",
            &["MATERIALIZED VIEW DATA public.empty: not in the archive: \"REFRESH MATERIALIZED VIEW public.empty;\""],
        );
    }
}
