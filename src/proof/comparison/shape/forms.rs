//! The forms of the statements that rdump writes.

use super::cursor::Cursor;
use super::tokens::Token;

/// What makes an object of a kind.
pub fn create(kind: &str, mut at: Cursor<'_>) -> Option<()> {
    at.words("CREATE")?;
    match kind {
        "TABLE" => table(at),
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
        "RULE" => rule(at),
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

/// Behind CREATE: no AS, whose query would run, and no PARTITION OF, whose bounds would.
fn table(mut at: Cursor<'_>) -> Option<()> {
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

/// Behind CREATE: a view's own rule is written as the view.
fn rule(mut at: Cursor<'_>) -> Option<()> {
    if at.skip("OR") {
        at.words("REPLACE VIEW")?;
        return view(at);
    }
    at.words("RULE")?;
    at.identifier()?;
    at.words("AS ON")?;
    at.identifier()?;
    at.words("TO")?;
    at.of_twin()
}

/// Behind CREATE VIEW.
fn view(mut at: Cursor<'_>) -> Option<()> {
    at.of_twin()?;
    at.clause("WITH")?;
    at.words("AS")
}

/// What only ALTER can say of an object that was just made.
pub fn alter(mut at: Cursor<'_>) -> Option<()> {
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
