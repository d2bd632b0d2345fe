//! What an archive holds is not run, whoever wrote it: a rollback does not take all of it back.

use rdump::proof::CompareOptions;
use tempfile::TempDir;

use super::{Archive, lines};
use crate::hooked;
use crate::support::{TestDatabase, VERSIONS, server};

const SCHEMA: &str = "
    CREATE VIEW v AS SELECT 1 AS i;
    CREATE MATERIALIZED VIEW m AS SELECT 1 AS i WITH NO DATA;
    CREATE INDEX m_i ON m (i);
    CREATE FUNCTION f(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN i; END'";

impl Archive {
    fn forged(&self, texts: &[(&str, &str)]) -> Archive {
        let forged = Archive {
            folder: TempDir::new().unwrap(),
        };
        hooked::forge(&self.path(), &forged.path(), texts);
        forged
    }
}

fn assert_nothing_ran(database: &TestDatabase, forgery: &str) {
    let found = database.query_text(
        "SELECT (SELECT is_called FROM marker), (pg_stat_file('forged', true)).size IS NOT NULL",
    );
    assert_eq!(found, "f|f", "after {forgery}");
}

#[test]
fn nothing_of_a_forged_archive_runs() {
    let act = "nextval('public.marker')";
    let forgeries = [
        (
            "VIEW",
            "COPY (SELECT 1) TO PROGRAM 'touch forged' /* public.v */;".to_owned(),
        ),
        (
            "VIEW",
            "COPY (SELECT 1 AS \"public.v\") TO PROGRAM 'touch forged';".to_owned(),
        ),
        (
            "VIEW",
            format!("DO $$BEGIN PERFORM {act} AS \"x public.v\"; END$$;"),
        ),
        (
            "VIEW",
            format!("DO 'BEGIN PERFORM {act}, public.v; END';")
                .replace("'public.marker'", "''public.marker''"),
        ),
        (
            "VIEW",
            format!("CREATE VIEW public.v AS SELECT 2 AS i;\nSELECT {act} FROM public.v;"),
        ),
        (
            "VIEW",
            format!("CREATE TABLE public.v AS SELECT {act} AS i;"),
        ),
        (
            "VIEW",
            format!(
                "CREATE VIEW public.v AS SELECT E''\n'\\'; SELECT {act} FROM public.v; SELECT $$';$$;"
            ),
        ),
        (
            "MATERIALIZED VIEW",
            format!("CREATE MATERIALIZED VIEW public.m AS SELECT {act} AS i;"),
        ),
        (
            "INDEX",
            format!("CREATE INDEX m_i ON public.m (i);\nSELECT {act} FROM public.m;"),
        ),
        (
            "FUNCTION",
            format!(
                "CREATE FUNCTION public.f(i integer) RETURNS integer\n    LANGUAGE sql\n    BEGIN ATOMIC \
                 SELECT 1 AS case; END; SELECT {act} AS \"public.f\"; SELECT public.f(1); END;"
            ),
        ),
    ];
    for major in VERSIONS {
        let server = server(major);
        let source = server.create_database("proof_forged");
        source.sql(SCHEMA);
        let archive = Archive::of(&source);
        source.sql("CREATE SEQUENCE marker");
        let options = CompareOptions {
            ignore_unexpected: true,
            ..CompareOptions::default()
        };
        let compare = |archive: &Archive| lines(&archive.try_compare(&source, &options).unwrap());
        assert_eq!(compare(&archive.forged(&[])), Vec::<String>::new());
        for (kind, text) in &forgeries {
            let found = compare(&archive.forged(&[(kind, text)]));
            assert_nothing_ran(&source, text);
            assert_eq!(found.len(), 1, "on {major}, {text}: {found:#?}");
            assert!(
                found[0].starts_with(kind)
                    && found[0].contains(": could not be compared: the texts differ, and ")
                    && found[0].contains(
                        ": it has statements of a form that rdump does not write, and none was run \
                         (- archive, + database):\n"
                    ),
                "on {major}, {text}: {found:#?}"
            );
        }

        // the planner would call the one for the other
        let function = format!(
            "CREATE FUNCTION public.f(i integer) RETURNS integer\n    LANGUAGE plpgsql IMMUTABLE\n    \
             AS $$BEGIN RETURN {act}; END$$;\n"
        );
        let index = (0..3)
            .map(|question| format!("rdump_proof_a{question}.f(1)"))
            .collect::<Vec<_>>();
        for call in index {
            let index = format!("CREATE INDEX m_i ON public.m USING btree (({call} + i));\n");
            let found = compare(&archive.forged(&[("FUNCTION", &function), ("INDEX", &index)]));
            assert_nothing_ran(&source, &index);
            assert_eq!(found.len(), 2, "on {major}: {found:#?}");
            assert!(
                found[0].starts_with("FUNCTION public.f(integer): different (- archive, ")
                    && found[1].starts_with("INDEX public.m_i: different: what the archive has")
                    && found[1].contains("does not exist (- archive, "),
                "on {major}: {found:#?}"
            );
        }

        // a library would be loaded
        let library = "CREATE FUNCTION public.f(i integer) RETURNS integer\n    LANGUAGE c\n    \
                       AS '$libdir/forged', 'f';\n";
        let found = compare(&archive.forged(&[("FUNCTION", library)]));
        assert!(
            found.len() == 1
                && found[0].contains(": making it would load a library into the server ("),
            "on {major}: {found:#?}"
        );
    }
}
