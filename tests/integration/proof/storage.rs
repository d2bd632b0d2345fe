//! Where tables are kept and how: what is set before their statements run is not in these.

use rdump::proof::CompareOptions;

use super::{Archive, lines};
use crate::support::{VERSIONS, server};

#[test]
fn tablespaces_and_access_methods() {
    for major in VERSIONS {
        let server = server(major);
        let source = server.create_database("proof_storage");
        source
            .sql("CREATE TABLE t (i int PRIMARY KEY); CREATE MATERIALIZED VIEW m AS SELECT 1 AS i");
        let archive = Archive::of(&source);
        let space = format!("space_of_{}", source.name);
        let copy = archive.restore(server, "proof_storage_copy");
        copy.sql(&format!(
            "SET allow_in_place_tablespaces = on; CREATE TABLESPACE {space} LOCATION '';
             CREATE ACCESS METHOD other TYPE TABLE HANDLER heap_tableam_handler"
        ));
        source.sql("CREATE ACCESS METHOD other TYPE TABLE HANDLER heap_tableam_handler");
        let archive = Archive::of(&source);
        archive.assert_findings(&copy, "nothing", &[]);
        for (change, undo, expected) in [
            (
                format!("ALTER TABLE t SET TABLESPACE {space}"),
                "ALTER TABLE t SET TABLESPACE pg_default",
                format!("TABLE public.t: different: its tablespace is {space}, in the archive the default"),
            ),
            (
                format!("ALTER INDEX t_pkey SET TABLESPACE {space}"),
                "ALTER INDEX t_pkey SET TABLESPACE pg_default",
                format!("CONSTRAINT public.t t_pkey: different: its tablespace is {space}, in the archive the default"),
            ),
            (
                "ALTER MATERIALIZED VIEW m SET ACCESS METHOD other".to_owned(),
                "ALTER MATERIALIZED VIEW m SET ACCESS METHOD heap",
                "MATERIALIZED VIEW public.m: different: its access method is other, in the archive heap".to_owned(),
            ),
        ] {
            copy.sql(&change);
            archive.assert_findings(&copy, &change, &[&expected]);
            let options = CompareOptions {
                no_tablespaces: true,
                ..CompareOptions::default()
            };
            let found = lines(&archive.try_compare(&copy, &options).expect("comparing"));
            assert_eq!(found.is_empty(), change.contains("TABLESPACE"), "{found:?}");
            copy.sql(undo);
        }
        drop(copy);
        server.sql("postgres", &format!("DROP TABLESPACE {space}"));
    }
}
