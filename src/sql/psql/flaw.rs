//! Whether psql would read a text as whole statements, and as nothing else.
//!
//! psql cuts its input into statements by a lexer of its own (psqlscan.l). A text that leaves it
//! within quotes, parentheses or a statement would make it read what follows in another way than
//! it was written; and a backslash outside of quotes begins a meta-command: `\!` runs a program.
//! SQL itself has no backslash outside of quotes.

/// What is wrong with a text as statements for psql, if something is.
pub fn flaw(text: &[u8]) -> Option<&'static str> {
    read(&mut Lexer { text, at: 0 }).err()
}

type Read = Result<(), &'static str>;

/// Versions of psql read it differently, and no definition has it.
const ODD: &str = "has a form that PostgreSQL does not write";

const VARIABLE: &str = "has what psql would take for a variable";

fn read(lexer: &mut Lexer<'_>) -> Read {
    let mut statement = Statement::default();
    while let Some(byte) = lexer.peek() {
        match byte {
            0 => return Err("has a zero byte"),
            b'\\' => return Err("has a backslash outside of quotes"),
            b' ' | b'\t' | b'\n' | b'\r' | b'\x0b' | b'\x0c' => {
                lexer.at += 1;
                continue;
            }
            b'-' if lexer.follows("--") => {
                lexer.line_comment();
                continue;
            }
            b'/' if lexer.follows("/*") => {
                lexer.block_comment()?;
                continue;
            }
            b';' if statement.may_end() => {
                lexer.at += 1;
                statement = Statement::default();
                continue;
            }
            b'\'' => lexer.string()?,
            b'"' => lexer.quoted_by(b'"')?,
            b'$' => lexer.dollar()?,
            b'0'..=b'9' => lexer.number()?,
            b':' => lexer.colon()?,
            byte if begins_word(byte) => match lexer.word() {
                b"e" | b"E" if lexer.follows("'") => lexer.escape_string()?,
                word => statement.word(word),
            },
            byte => {
                statement.parenthesis(byte);
                lexer.at += 1;
            }
        }
        statement.begun = true;
    }
    match statement.begun {
        true => Err("does not end with its statement"),
        false => Ok(()),
    }
}

/// What decides, for psql, whether `;` ends a statement.
#[derive(Default)]
struct Statement {
    begun: bool,
    parentheses: u32,
    /// BEGIN and CASE of a function's body in SQL, without their END.
    blocks: u32,
    /// First letters of the first words, as far as they are those of CREATE OR REPLACE FUNCTION.
    words: [u8; 4],
    count: usize,
}

impl Statement {
    fn may_end(&self) -> bool {
        self.parentheses == 0 && self.blocks == 0
    }

    fn parenthesis(&mut self, byte: u8) {
        match byte {
            b'(' => self.parentheses += 1,
            b')' => self.parentheses = self.parentheses.saturating_sub(1),
            _ => {}
        }
    }

    /// psql's own rule, which knows no grammar.
    fn word(&mut self, word: &[u8]) {
        const FIRST: [&[u8]; 5] = [b"create", b"function", b"procedure", b"or", b"replace"];
        let is = |keyword: &[u8]| word.eq_ignore_ascii_case(keyword);
        if let Some(letter) = self.words.get_mut(self.count)
            && FIRST.into_iter().any(is)
        {
            *letter = word[0].to_ascii_lowercase();
        }
        self.count += 1;
        let of_routine = matches!(
            self.words,
            [b'c', b'f' | b'p', ..] | [b'c', b'o', b'r', b'f' | b'p']
        );
        if !of_routine || self.parentheses > 0 {
            return;
        }
        if is(b"begin") || (is(b"case") && self.blocks > 0) {
            self.blocks += 1;
        } else if is(b"end") {
            self.blocks = self.blocks.saturating_sub(1);
        }
    }
}

struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
}

fn begins_word(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn continues_word(byte: u8) -> bool {
    begins_word(byte) || byte.is_ascii_digit() || byte == b'$'
}

impl<'a> Lexer<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn rest(&self) -> &'a [u8] {
        &self.text[self.at.min(self.text.len())..]
    }

    fn follows(&self, text: &str) -> bool {
        self.rest().starts_with(text.as_bytes())
    }

    /// Takes what fits, and returns it.
    fn take(&mut self, fits: impl Fn(u8) -> bool) -> &'a [u8] {
        let rest = self.rest();
        let length = rest.iter().position(|byte| !fits(*byte));
        let taken = &rest[..length.unwrap_or(rest.len())];
        self.at += taken.len();
        taken
    }

    fn word(&mut self) -> &'a [u8] {
        self.take(continues_word)
    }

    fn number(&mut self) -> Read {
        self.take(|byte| byte.is_ascii_digit());
        if self.peek().is_some_and(begins_word) {
            self.word();
            // 1E'...': older versions take it apart
            if self.follows("'") {
                return Err(ODD);
            }
        }
        Ok(())
    }

    /// psql puts the value of a variable in place of `:NAME`, `:'NAME'` and `:"NAME"`, and that may
    /// hold anything: LAST_ERROR_MESSAGE does. Its own variables are all in capitals, which a
    /// definition has in quotes only.
    fn colon(&mut self) -> Read {
        self.at += 1;
        if self.follows(":") {
            self.at += 1;
            return Ok(());
        }
        let mut ahead = Lexer {
            text: self.text,
            at: self.at,
        };
        ahead.take(|byte| matches!(byte, b'\'' | b'"' | b'{' | b'?'));
        let name = ahead.take(|byte| continues_word(byte) && byte != b'$');
        let has = |fits: fn(&u8) -> bool| name.iter().any(fits);
        match has(u8::is_ascii_uppercase) && !has(u8::is_ascii_lowercase) {
            true => Err(VARIABLE),
            false => Ok(()),
        }
    }

    /// Up to the quote that ends it. A doubled one ends it too, and begins another.
    fn quoted_by(&mut self, quote: u8) -> Read {
        self.at += 1;
        self.take(|byte| byte != quote && byte != 0);
        if self.peek() != Some(quote) {
            return Err("ends within quotes");
        }
        self.at += 1;
        Ok(())
    }

    fn string(&mut self) -> Read {
        self.quoted_by(b'\'')
    }

    /// `E'...'`, in which a backslash hides a quote.
    fn escape_string(&mut self) -> Read {
        self.at += 1;
        loop {
            self.take(|byte| !matches!(byte, b'\'' | b'\\' | 0));
            match self.peek() {
                Some(b'\\') if self.at + 1 < self.text.len() => self.at += 2,
                Some(b'\'') => {
                    self.at += 1;
                    if !self.follows("'") {
                        break;
                    }
                    self.at += 1;
                }
                _ => return Err("ends within quotes"),
            }
        }
        // a string that goes on behind a line break would be of the same sort
        let mut ahead = Lexer {
            text: self.text,
            at: self.at,
        };
        loop {
            ahead.take(|byte| byte.is_ascii_whitespace() || byte == b'\x0b');
            if !ahead.follows("--") {
                break;
            }
            ahead.line_comment();
        }
        match ahead.at > self.at && ahead.follows("'") {
            true => Err(ODD),
            false => Ok(()),
        }
    }

    /// `$1`, `$tag$...$tag$`, or a dollar sign alone.
    fn dollar(&mut self) -> Read {
        let start = self.at;
        self.at += 1;
        if !self.take(|byte| byte.is_ascii_digit()).is_empty() {
            return match self.peek().is_some_and(begins_word) {
                true => Err(ODD),
                false => Ok(()),
            };
        }
        self.take(|byte| continues_word(byte) && byte != b'$');
        if self.peek() != Some(b'$') {
            self.at = start + 1;
            return Ok(());
        }
        self.at += 1;
        let tag = &self.text[start..self.at];
        let rest = self.rest();
        let Some(length) = bstr::ByteSlice::find(rest, tag) else {
            return Err("ends within quotes");
        };
        if rest[..length].contains(&0) {
            return Err("has a zero byte");
        }
        self.at += length + tag.len();
        Ok(())
    }

    fn line_comment(&mut self) {
        self.take(|byte| !matches!(byte, b'\n' | b'\r'));
    }

    /// They nest.
    fn block_comment(&mut self) -> Read {
        let mut depth = 0_u32;
        loop {
            if self.follows("/*") {
                depth += 1;
                self.at += 2;
            } else if self.follows("*/") {
                depth -= 1;
                self.at += 2;
                if depth == 0 {
                    return Ok(());
                }
            } else if self.at < self.text.len() {
                self.at += 1;
            } else {
                return Err("ends within a comment");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sql;

    #[test]
    fn whole_statements_have_none() {
        for text in [
            "",
            "\n -- only a comment\n",
            "CREATE TABLE \"a\\\"\"b\n\\! ls\" (i int DEFAULT '\\');\n",
            "SELECT E'it\\'s \\\\', 'a''b', E'a''b'; SELECT $1, a$b, 1.5e10;\n",
            "DO $_x$ BEGIN '\\! ls'; $$ END $_x$;",
            "COMMENT ON TABLE t IS '--'; -- a \\! comment\n/* one /* in */ another \\! */",
            "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END;\n",
            "CREATE OR REPLACE PROCEDURE f() BEGIN ATOMIC SELECT 1; END;\n",
            "CREATE RULE r AS ON DELETE TO t DO INSTEAD (DELETE FROM a; DELETE FROM b);\n",
            "SELECT U&'\\0061', B'01', a[1:2], a[1:b], a[1:\"Up\"], 'x'::TEXT, ':USER';",
            "CREATE OPERATOR s.<-> (FUNCTION = f);",
        ] {
            assert_eq!(flaw(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn what_would_confuse_psql_is_found() {
        for (text, expected) in [
            ("\\! ls", "has a backslash outside of quotes"),
            ("SELECT 1 \\! ls\n;", "has a backslash outside of quotes"),
            ("SELECT 'a\\'\\! ls';", "has a backslash outside of quotes"),
            ("SELECT 1", "does not end with its statement"),
            ("SELECT (1;", "does not end with its statement"),
            (
                "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1;",
                "does not end with its statement",
            ),
            ("SELECT 'a;", "ends within quotes"),
            ("SELECT E'a\\';", "ends within quotes"),
            ("SELECT :LAST_ERROR_MESSAGE;", VARIABLE),
            ("SELECT :'USER', :\"USER\";", VARIABLE),
            ("SELECT a[1:{?X}];", VARIABLE),
            ("SELECT \"a;", "ends within quotes"),
            ("SELECT $a$ $b$;", "ends within quotes"),
            ("SELECT 1; /* /* */", "ends within a comment"),
            ("SELECT '\0';", "ends within quotes"),
            ("SELECT $$\0$$;", "has a zero byte"),
            ("SELECT \0;", "has a zero byte"),
            ("SELECT E'a'\n'\\';", ODD),
            ("SELECT E'a' -- x\n'\\';", ODD),
            ("SELECT 1E'\\';", ODD),
            ("SELECT $1E'\\';", ODD),
        ] {
            assert_eq!(flaw(text.as_bytes()), Some(expected), "{text}");
        }
    }

    proptest! {
        /// Whatever stands in quotes, the statement around it is whole.
        #[test]
        fn quoting_leaves_no_flaw(value in proptest::collection::vec(1_u8.., 0..40)) {
            let text = sql!(
                "SELECT {} AS {}, {};\n",
                sql::literal(&value),
                sql::identifier(&value),
                sql::dollar_quoted(&value)
            );
            prop_assert_eq!(flaw(&text), None);
        }

        #[test]
        fn nothing_panics(text in proptest::collection::vec(
            proptest::sample::select(b"\0\\'\"$aE1-/*(); \nbegincreatefunction".to_vec()), 0..60))
        {
            let _ = flaw(&text);
        }
    }
}
