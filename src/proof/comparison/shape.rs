//! Whether statements have the shapes that rdump itself writes.
//!
//! An archive may come from anyone, and a twin is made by running what it holds. COPY TO PROGRAM, a
//! call of dblink or nextval would act at once, and no ROLLBACK takes that back. So a text is taken
//! apart as the server does it, and runs only if each statement in it is one that defines something
//! in the twin's schema and calls nothing: no CREATE TABLE AS, no bounds of partitions, no new column
//! with a default.

use bstr::{BString, ByteSlice};

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

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// A bare word, in capitals.
    Word(BString),
    /// What stands in "".
    Quoted(BString),
    Text,
    Number,
    Sign(u8),
}

/// None where the server might read it in another way, or rdump never writes such a thing.
fn tokens(text: &[u8], conforming: bool) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(&first) = rest.first() {
        match first {
            b' ' | b'\t' | b'\r' | b'\n' => rest = &rest[1..],
            b'"' => {
                let (name, after) = quoted(rest, b'"', false)?;
                tokens.push(Token::Quoted(name));
                rest = after;
            }
            b'\'' => {
                let escapes = match tokens.last() {
                    Some(Token::Word(word)) if word == "E" && is_adjacent(text, rest) => {
                        tokens.pop();
                        true
                    }
                    // a string may go on in the next line, with the escapes of its beginning
                    Some(Token::Text) => return None,
                    _ => !conforming,
                };
                rest = quoted(rest, b'\'', escapes)?.1;
                tokens.push(Token::Text);
            }
            b'$' if rest.get(1).is_some_and(u8::is_ascii_digit) => {
                rest = rest[1..].trim_start_with(|c| c.is_ascii_digit());
                if rest
                    .first()
                    .is_some_and(|byte| in_word(*byte) || *byte == b'$')
                {
                    return None;
                }
                tokens.push(Token::Number);
            }
            b'$' => {
                let tag = rest[1..].iter().take_while(|byte| in_word(**byte)).count();
                let tag = rest.get(..tag + 2).filter(|tag| tag.ends_with(b"$"))?;
                let end = rest[tag.len()..].find(tag)?;
                rest = &rest[tag.len() + end + tag.len()..];
                tokens.push(Token::Text);
            }
            b'0'..=b'9' => {
                rest = rest.trim_start_with(|c| c.is_ascii_digit());
                tokens.push(Token::Number);
            }
            // comments: the server never prints any
            b'-' | b'/' if matches!(rest, [b'-', b'-', ..] | [b'/', b'*', ..]) => return None,
            _ if in_word(first) => {
                let length = rest
                    .iter()
                    .take_while(|byte| in_word(**byte) || **byte == b'$')
                    .count();
                tokens.push(Token::Word(rest[..length].to_ascii_uppercase().into()));
                rest = &rest[length..];
            }
            _ if first.is_ascii_control() => return None,
            _ => {
                tokens.push(Token::Sign(first));
                rest = &rest[1..];
            }
        }
    }
    Some(tokens)
}

fn in_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// Whether nothing stands between what comes next and the word before.
fn is_adjacent(text: &[u8], rest: &[u8]) -> bool {
    let before = text.len() - rest.len();
    before > 0 && in_word(text[before - 1])
}

/// What stands in quotes, and what comes behind.
fn quoted(text: &[u8], quote: u8, escapes: bool) -> Option<(BString, &[u8])> {
    let mut inside = BString::default();
    let mut at = 1;
    loop {
        let byte = *text.get(at)?;
        at += 1;
        if byte == quote {
            if text.get(at) != Some(&quote) {
                return Some((inside, &text[at..]));
            }
            at += 1;
        } else if escapes && byte == b'\\' {
            at += 1;
        }
        inside.push(byte);
    }
}

/// Splits at each `;`, but for those in parentheses and in BEGIN ATOMIC ... END: the END that closes
/// such a body stands behind a `;` or ATOMIC itself, and no END of a CASE does.
fn statements(tokens: &[Token]) -> Vec<&[Token]> {
    let mut found = Vec::new();
    let (mut start, mut depth, mut in_body) = (0, 0usize, false);
    for (at, token) in tokens.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|at| tokens.get(at));
        match token {
            Token::Sign(b'(' | b'[') => depth += 1,
            Token::Sign(b')' | b']') => depth = depth.saturating_sub(1),
            Token::Word(word) if depth == 0 => match word.as_slice() {
                b"ATOMIC" if !in_body => in_body = is_word(before, "BEGIN"),
                b"END" if in_body => {
                    in_body = before != Some(&Token::Sign(b';')) && !is_word(before, "ATOMIC");
                }
                _ => {}
            },
            Token::Sign(b';') if depth == 0 && !in_body => {
                found.push(&tokens[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    found.push(&tokens[start..]);
    found.retain(|statement| !statement.is_empty());
    found
}

fn is_word(token: Option<&Token>, wanted: &str) -> bool {
    matches!(token, Some(Token::Word(word)) if word == wanted)
}

/// Reads one statement from its beginning; None as soon as it is not as expected.
#[derive(Clone, Copy)]
struct Cursor<'a> {
    rest: &'a [Token],
    twin: &'a str,
}

impl<'a> Cursor<'a> {
    fn next(&mut self) -> Option<&'a Token> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    fn skip(&mut self, word: &str) -> bool {
        let found = is_word(self.rest.first(), word);
        if found {
            self.next();
        }
        found
    }

    fn words(&mut self, words: &str) -> Option<()> {
        words.split(' ').all(|word| self.skip(word)).then_some(())
    }

    fn one_of(&mut self, words: &[&str]) -> Option<()> {
        words.iter().any(|word| self.skip(word)).then_some(())
    }

    fn identifier(&mut self) -> Option<BString> {
        match self.next()? {
            Token::Word(word) => Some(word.to_ascii_lowercase().into()),
            Token::Quoted(name) => Some(name.clone()),
            _ => None,
        }
    }

    /// The name of something in the twin's schema.
    fn of_twin(&mut self) -> Option<()> {
        let in_twin = self.identifier()? == self.twin && *self.next()? == Token::Sign(b'.');
        self.identifier().filter(|_| in_twin).map(drop)
    }

    /// All up to the parenthesis that closes the one here.
    fn group(&mut self) -> Option<()> {
        if *self.next()? != Token::Sign(b'(') {
            return None;
        }
        let mut depth = 1;
        while depth > 0 {
            match self.next()? {
                Token::Sign(b'(' | b'[') => depth += 1,
                Token::Sign(b')' | b']') => depth -= 1,
                _ => {}
            }
        }
        Some(())
    }

    /// A keyword and what stands in parentheses behind it, if it is there.
    fn clause(&mut self, word: &str) -> Option<()> {
        if self.skip(word) {
            self.group()
        } else {
            Some(())
        }
    }

    fn end(&self) -> Option<()> {
        self.rest.is_empty().then_some(())
    }

    /// To behind the first such word outside of parentheses.
    fn find(&mut self, word: &str) -> Option<()> {
        while !self.skip(word) {
            if self.rest.first() == Some(&Token::Sign(b'(')) {
                self.group()?;
            } else {
                self.next()?;
            }
        }
        Some(())
    }

    /// Whether a comma stands outside of parentheses: another action of ALTER TABLE.
    fn is_list(&self) -> bool {
        let mut depth = 0usize;
        self.rest.iter().any(|token| {
            match token {
                Token::Sign(b'(' | b'[') => depth += 1,
                Token::Sign(b')' | b']') => depth = depth.saturating_sub(1),
                _ => {}
            }
            depth == 0 && *token == Token::Sign(b',')
        })
    }
}

fn create(kind: &str, mut at: Cursor<'_>) -> Option<()> {
    at.words("CREATE")?;
    match kind {
        "TABLE" => {
            at.skip("UNLOGGED");
            at.words("TABLE")?;
            at.of_twin()?;
            if at.skip("OF") {
                at.identifier()?;
                while at.rest.first() == Some(&Token::Sign(b'.')) {
                    at.next();
                    at.identifier()?;
                }
            }
            if at.rest.first() == Some(&Token::Sign(b'(')) {
                at.group()?;
            }
            at.clause("INHERITS")?;
            if at.skip("PARTITION") {
                at.words("BY")?;
                at.one_of(&["RANGE", "LIST", "HASH"])?;
                at.group()?;
            }
            at.clause("WITH")?;
            at.end()
        }
        "VIEW" => {
            at.words("VIEW")?;
            view(at)
        }
        "MATERIALIZED VIEW" => {
            at.words("MATERIALIZED VIEW")?;
            view(at)?;
            // else its query would run
            let last = at.rest.len().checked_sub(3)?;
            at.rest = &at.rest[last..];
            at.words("WITH NO DATA")
        }
        "RULE" if at.skip("OR") => {
            at.words("REPLACE VIEW")?;
            view(at)
        }
        "RULE" => {
            at.words("RULE")?;
            at.identifier()?;
            at.words("AS ON")?;
            at.identifier()?;
            at.words("TO")?;
            at.of_twin()
        }
        "DOMAIN" => {
            at.words("DOMAIN")?;
            at.of_twin()?;
            at.words("AS")
        }
        "FUNCTION" | "PROCEDURE" => {
            at.words(kind)?;
            at.of_twin()?;
            at.group()
        }
        "INDEX" => {
            at.skip("UNIQUE");
            at.words("INDEX")?;
            at.identifier()?;
            at.words("ON")?;
            at.skip("ONLY");
            at.of_twin()
        }
        "TRIGGER" => {
            at.skip("CONSTRAINT");
            at.words("TRIGGER")?;
            at.identifier()?;
            at.find("ON")?;
            at.of_twin()
        }
        "POLICY" => {
            at.words("POLICY")?;
            at.identifier()?;
            at.words("ON")?;
            at.of_twin()
        }
        _ => None,
    }
}

/// Behind CREATE VIEW.
fn view(mut at: Cursor<'_>) -> Option<()> {
    at.of_twin()?;
    at.clause("WITH")?;
    at.words("AS")
}

/// What only ALTER can say of an object that was just made.
fn alter(mut at: Cursor<'_>) -> Option<()> {
    at.words("ALTER")?;
    if at.skip("TABLE") {
        at.skip("ONLY");
        at.of_twin()?;
        return action(at);
    }
    if at.skip("INDEX") {
        at.of_twin()?;
        if at.skip("ALTER") {
            return at.words("COLUMN");
        }
    } else if at.skip("MATERIALIZED") {
        at.words("VIEW")?;
        at.of_twin()?;
    } else if at.skip("TRIGGER") {
        at.identifier()?;
        at.words("ON")?;
        at.of_twin()?;
    } else {
        at.one_of(&["FUNCTION", "PROCEDURE"])?;
        at.of_twin()?;
        at.group()?;
    }
    at.words("DEPENDS ON EXTENSION")
}

/// Behind ALTER TABLE and the name.
fn action(mut at: Cursor<'_>) -> Option<()> {
    if at.is_list() {
        return None;
    }
    if at.skip("ALTER") {
        at.words("COLUMN")?;
        at.identifier()?;
        at.words("SET")?;
        if at.rest.first() == Some(&Token::Sign(b'(')) {
            return at.group();
        }
        return at.one_of(&["STATISTICS", "STORAGE", "COMPRESSION", "DEFAULT", "NOT"]);
    }
    if at.skip("ADD") {
        at.words("CONSTRAINT")?;
        at.identifier()?;
        return at.one_of(&["CHECK", "EXCLUDE", "NOT"]);
    }
    if at.skip("SET") {
        return at.words("ACCESS METHOD");
    }
    if at.skip("ENABLE") || at.skip("DISABLE") {
        let _ = at.skip("ALWAYS") || at.skip("REPLICA");
        return at.one_of(&["TRIGGER", "RULE"]);
    }
    at.one_of(&["REPLICA", "FORCE", "CLUSTER"])
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
