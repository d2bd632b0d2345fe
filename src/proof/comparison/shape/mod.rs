//! Whether statements have the shapes that rdump itself writes.
//!
//! An archive may come from anyone, and a twin is made by running what it holds. COPY TO PROGRAM, a
//! call of dblink or nextval would act at once, and no ROLLBACK takes that back. So a text is taken
//! apart as the server does it, and runs only if each statement in it is one that defines something
//! in the twin's schema and calls nothing: no CREATE TABLE AS, no bounds of partitions, no new column
//! with a default.

mod cursor;
mod forms;
mod tokens;

use cursor::Cursor;
use forms::{alter, create};
use tokens::{Token, statements, tokens};

/// Whether all statements of an entry's twin are of the shapes written for its kind. `conforming` is
/// the session's standard_conforming_strings.
pub fn is_ours(kind: &str, text: &[u8], twin: &str, conforming: bool) -> bool {
    let Some(tokens) = tokens(text, conforming) else {
        return false;
    };
    let statements = statements(&tokens);
    !statements.is_empty()
        && statements.iter().all(|statement| {
            let at = || Cursor {
                rest: statement,
                twin,
            };
            create(kind, at()).or_else(|| alter(at())).is_some()
        })
}

/// Whether making a function loads a library into the server, whose code then runs.
pub fn loads_library(text: &[u8], conforming: bool) -> bool {
    tokens(text, conforming).is_some_and(|tokens| {
        tokens.windows(2).any(|pair| match pair {
            [Token::Word(word), Token::Word(name)] if word == "LANGUAGE" => name == "C",
            [Token::Word(word), Token::Quoted(name)] if word == "LANGUAGE" => name == "c",
            [Token::Word(word), _] => word == "LANGUAGE",
            _ => false,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(kind: &str, text: &str) -> bool {
        is_ours(kind, text.as_bytes(), "x", true)
    }

    #[test]
    fn what_rdump_writes() {
        for (kind, text) in [
            (
                "TABLE",
                "CREATE UNLOGGED TABLE x.\"T;\" (\n    a integer DEFAULT nextval('s'::regclass),\n    \
                 b text DEFAULT E'it\\';'\n)\nINHERITS (s.p)\nPARTITION BY RANGE (lower(b), a)\n\
                 WITH (fillfactor='70');\nALTER TABLE ONLY x.\"T;\" ALTER COLUMN a SET STATISTICS 7;\n\
                 ALTER TABLE ONLY x.\"T;\" REPLICA IDENTITY FULL;\n",
            ),
            ("TABLE", "CREATE TABLE x.t OF s.kind;\n"),
            (
                "VIEW",
                "CREATE VIEW x.v WITH (security_barrier='true') AS\n SELECT 1, ';';\n",
            ),
            (
                "MATERIALIZED VIEW",
                "CREATE MATERIALIZED VIEW x.m AS\n SELECT 1\n  WITH NO DATA;\n\
                 ALTER MATERIALIZED VIEW x.m DEPENDS ON EXTENSION e;\n",
            ),
            (
                "DOMAIN",
                "CREATE DOMAIN x.d AS integer CONSTRAINT c CHECK ((VALUE > 0));\n",
            ),
            (
                "FUNCTION",
                "CREATE FUNCTION x.f(a integer DEFAULT 1) RETURNS integer\n    LANGUAGE plpgsql\n    \
                 SET search_path TO 'a', 'b'\n    AS $_$BEGIN; $$;$$ END$_$;\n\
                 ALTER FUNCTION x.f(a integer) DEPENDS ON EXTENSION e;\n",
            ),
            (
                "FUNCTION",
                "CREATE FUNCTION x.f(boolean) RETURNS integer\n    LANGUAGE sql\n    BEGIN ATOMIC\n  \
                 SELECT CASE WHEN $1 THEN 1 END AS \"case\";\n  SELECT 2;\nEND;\n",
            ),
            (
                "PROCEDURE",
                "CREATE PROCEDURE x.p()\n    LANGUAGE sql\n    BEGIN ATOMIC\nEND;\n",
            ),
            (
                "INDEX",
                "CREATE UNIQUE INDEX i ON ONLY x.t USING btree (a) WHERE (b > 1);\n\
                 ALTER TABLE x.t CLUSTER ON i;\nALTER INDEX x.i ALTER COLUMN 1 SET STATISTICS 7;\n",
            ),
            (
                "CONSTRAINT",
                "ALTER TABLE ONLY x.t\n    ADD CONSTRAINT c EXCLUDE USING gist (a WITH =, b WITH &&);\n",
            ),
            (
                "CHECK CONSTRAINT",
                "ALTER TABLE x.t\n    ADD CONSTRAINT c CHECK ((a = ANY (ARRAY[1, 2])));\n",
            ),
            (
                "DEFAULT",
                "ALTER TABLE ONLY x.t ALTER COLUMN a SET DEFAULT ARRAY[1, 2];\n",
            ),
            (
                "TRIGGER",
                "CREATE CONSTRAINT TRIGGER g AFTER UPDATE OF a, b ON x.t FOR EACH ROW EXECUTE FUNCTION s.f();\n\
                 ALTER TABLE x.t ENABLE ALWAYS TRIGGER g;\n",
            ),
            (
                "RULE",
                "CREATE RULE r AS\n    ON INSERT TO x.t DO ( SELECT 1;\n SELECT 2;\n);\n\
                 ALTER TABLE x.t DISABLE RULE r;\n",
            ),
            ("RULE", "CREATE OR REPLACE VIEW x.v AS\n SELECT 1;\n"),
            (
                "POLICY",
                "CREATE POLICY p ON x.t AS RESTRICTIVE FOR SELECT TO r, s USING ((a > 0));\n",
            ),
        ] {
            assert!(ours(kind, text), "{kind}: {text}");
        }
    }

    #[test]
    fn what_would_act_is_refused() {
        for (kind, text) in [
            ("TABLE", "COPY x.t TO PROGRAM 'true';"),
            ("TABLE", "CREATE TABLE x.t (); COPY x.t TO PROGRAM 'true';"),
            ("TABLE", "DO 'BEGIN PERFORM x.t(); END';"),
            ("TABLE", "CREATE TABLE x.t AS SELECT dblink('a', 'b');"),
            ("TABLE", "CREATE TABLE x.t (a) AS SELECT nextval('s');"),
            (
                "TABLE",
                "CREATE TABLE x.t WITH (fillfactor=70) AS SELECT 1;",
            ),
            (
                "TABLE",
                "CREATE TABLE x.t PARTITION OF s.p FOR VALUES IN (nextval('s'));",
            ),
            (
                "TABLE",
                "CREATE TABLE x.t (); ALTER TABLE x.t ADD COLUMN a int DEFAULT f();",
            ),
            (
                "TABLE",
                "CREATE TABLE x.t (); ALTER TABLE x.t FORCE ROW LEVEL SECURITY, ADD a int DEFAULT f();",
            ),
            (
                "TABLE",
                "CREATE TABLE x.t (); ALTER TABLE x.t ALTER COLUMN a SET DATA TYPE int USING f();",
            ),
            ("TABLE", "CREATE TABLE public.t ();"),
            (
                "TABLE",
                "CREATE TABLE x.t (); ALTER TABLE public.t FORCE ROW LEVEL SECURITY;",
            ),
            ("TABLE", "CREATE TABLE x.t (); /* x.t */ SELECT 1;"),
            ("TABLE", "CREATE TABLE x.t ()-- \n;"),
            ("VIEW", "CREATE VIEW x.v AS SELECT 1; SELECT nextval('s');"),
            (
                "VIEW",
                "CREATE MATERIALIZED VIEW x.v AS SELECT nextval('s') WITH NO DATA;",
            ),
            (
                "MATERIALIZED VIEW",
                "CREATE MATERIALIZED VIEW x.m AS SELECT nextval('s');",
            ),
            (
                "MATERIALIZED VIEW",
                "CREATE MATERIALIZED VIEW x.m AS SELECT nextval('s') WITH DATA;",
            ),
            ("INDEX", "CREATE INDEX i ON public.t (f(a));"),
            ("POLICY", "CREATE POLICY p ON public.t USING (true);"),
            (
                "CONSTRAINT",
                "ALTER TABLE ONLY public.t ADD CONSTRAINT c EXCLUDE (f(a) WITH =);",
            ),
            // quotes that end elsewhere than they seem to
            (
                "VIEW",
                "CREATE VIEW x.v AS SELECT E'a'\n'\\'; SELECT nextval($$';$$);",
            ),
            ("VIEW", "CREATE VIEW x.v AS SELECT name'\\'; SELECT 1; --';"),
            ("VIEW", "CREATE VIEW x.v AS SELECT 'open"),
            ("VIEW", "CREATE VIEW x.v AS SELECT $1$; SELECT 1; $1$"),
            (
                "FUNCTION",
                "CREATE FUNCTION x.f() RETURNS int BEGIN ATOMIC SELECT 1 AS case; END; COPY t TO PROGRAM 'true'; END;",
            ),
            (
                "FUNCTION",
                "CREATE FUNCTION x.f(begin atomic) RETURNS int LANGUAGE sql AS ''; SELECT 1; END;",
            ),
            (
                "FUNCTION",
                "CREATE FUNCTION x.f() RETURNS int LANGUAGE sql AS 'a'; SELECT x.f();",
            ),
            ("SCHEMA", "CREATE SCHEMA x;"),
            ("VIEW", ""),
        ] {
            assert!(!ours(kind, text), "{kind}: {text}");
        }
        // the backslash ends nothing, or all
        let text = b"CREATE VIEW x.v AS SELECT '\\'; SELECT 1 --';";
        assert!(!is_ours("VIEW", text, "x", true));
        assert!(is_ours("VIEW", text, "x", false));
    }

    #[test]
    fn libraries() {
        for (text, expected) in [
            (
                "CREATE FUNCTION x.f() RETURNS int LANGUAGE c AS 'a', 'b'",
                true,
            ),
            (
                "CREATE FUNCTION x.f() RETURNS int LANGUAGE \"c\" AS 'a', 'b'",
                true,
            ),
            (
                "CREATE FUNCTION x.f() RETURNS int LANGUAGE 'C' AS 'a', 'b'",
                true,
            ),
            (
                "CREATE FUNCTION x.f() RETURNS int LANGUAGE sql AS 'LANGUAGE c'",
                false,
            ),
        ] {
            assert_eq!(loads_library(text.as_bytes(), true), expected, "{text}");
        }
    }
}
