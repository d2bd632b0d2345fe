//! Text for psql: its meta-commands have quoting rules of their own, which are not those of SQL.

mod flaw;

use bstr::BString;

pub use flaw::flaw;

/// What may stand behind `--`: a line break would end the comment, and the rest be run.
pub fn comment(text: impl AsRef<[u8]>) -> BString {
    let shown = |&byte: &u8| match byte.is_ascii_control() {
        true => b' ',
        false => byte,
    };
    text.as_ref().iter().map(shown).collect::<Vec<u8>>().into()
}

/// `\connect` to a database of the same server. A plain name stands as it is; any other becomes a
/// conninfo string (else a name with `=` would be read as one), quoted for psql, where backquotes
/// would run a program. All that is not plain is written in octal, so that it does not matter
/// which encoding psql believes the line to be in.
pub fn connect(database: impl AsRef<[u8]>) -> BString {
    let database = database.as_ref();
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.');
    if !database.is_empty() && database.iter().all(is_plain) {
        return crate::sql!("\\connect {}", database);
    }
    // psql takes double quotes within the single ones for those of an SQL name
    let mut conninfo = b"\"dbname='".to_vec();
    for &byte in database {
        match byte {
            b'\\' | b'\'' => conninfo.push(b'\\'),
            b'"' => conninfo.push(b'"'),
            _ => {}
        }
        conninfo.push(byte);
    }
    conninfo.extend_from_slice(b"'\"");
    let mut line = BString::from("\\connect -reuse-previous=on '");
    for byte in conninfo {
        match is_plain(&byte) || matches!(byte, b'=' | b' ') {
            true => line.push(byte),
            false => line.extend_from_slice(format!("\\{byte:03o}").as_bytes()),
        }
    }
    line.push(b'\'');
    line
}

/// Whether `\restrict` takes it: pg_dump 18's rule.
pub fn is_restrict_key(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Whether a text is the name of a relation as SQL, perhaps with its schema, and nothing else.
pub fn is_relation(text: &[u8]) -> bool {
    let rest = match end_of_name(text) {
        Some(end) if text.get(end) == Some(&b'.') => &text[end + 1..],
        Some(end) => return end == text.len(),
        None => return false,
    };
    end_of_name(rest) == Some(rest.len())
}

/// Behind the name that a text begins with.
fn end_of_name(text: &[u8]) -> Option<usize> {
    if text.first() != Some(&b'"') {
        let is_bare = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
        let end = text.iter().position(|byte| !is_bare(byte));
        let begins = text.first().is_some_and(|byte| !byte.is_ascii_digit());
        return Some(end.unwrap_or(text.len())).filter(|end| begins && *end > 0);
    }
    let mut at = 1;
    while let Some(&byte) = text.get(at) {
        at += 1;
        if byte == b'"' {
            if text.get(at) != Some(&b'"') {
                return Some(at).filter(|at| *at > 2);
            }
            at += 1;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use bstr::ByteSlice;

    use super::*;

    #[test]
    fn comments_are_one_line() {
        assert_eq!(
            comment("a\nDROP TABLE t;\r\\! ls\tü"),
            "a DROP TABLE t; \\! ls ü"
        );
    }

    /// What psql makes of a line: psqlscanslash.l reads single quotes, then double ones.
    fn read_by_psql(line: &str) -> Vec<u8> {
        let argument = line
            .strip_prefix("\\connect -reuse-previous=on '")
            .and_then(|rest| rest.strip_suffix('\''))
            .expect("a quoted argument");
        let mut bytes = argument.bytes();
        let mut read = Vec::new();
        while let Some(byte) = bytes.next() {
            assert_ne!(byte, b'\'', "{line}");
            if byte != b'\\' {
                read.push(byte);
                continue;
            }
            let digits: String = bytes.by_ref().take(3).map(char::from).collect();
            read.push(u8::from_str_radix(&digits, 8).expect("an octal number"));
        }
        let quoted = read
            .strip_prefix(b"\"")
            .and_then(|read| read.strip_suffix(b"\""));
        let quoted = quoted.expect("double quotes").replace("\"\"", "\0");
        assert!(!quoted.contains(&b'"'), "{line}");
        quoted.replace("\0", "\"")
    }

    #[test]
    fn names_of_databases_are_quoted_for_conninfo_and_for_psql() {
        assert_eq!(connect("Shop_1.0"), "\\connect Shop_1.0");
        for (name, conninfo) in [
            ("", "dbname=''"),
            ("my shop", "dbname='my shop'"),
            ("host=evil", "dbname='host=evil'"),
            ("-", "dbname='-'"),
            ("it's \"\\ `touch x`", "dbname='it\\'s \"\\\\ `touch x`'"),
            ("a\n\\! ls\r:DBNAME", "dbname='a\n\\\\! ls\r:DBNAME'"),
        ] {
            let line = connect(name).to_string();
            assert_eq!(read_by_psql(&line), conninfo.as_bytes(), "{line}");
            assert!(
                line.bytes()
                    .all(|byte| byte.is_ascii_graphic() || byte == b' ')
                    && !line.contains(['`', '"', ':']),
                "{line}"
            );
        }
        // a lead byte must not swallow the quote, whatever encoding psql is in
        assert!(connect(b"\x81").is_ascii());
    }

    #[test]
    fn keys() {
        assert!(is_restrict_key("aZ09"));
        for key in ["", "a b", "a\n", "ä", "a-b", "'a'"] {
            assert!(!is_restrict_key(key), "{key:?}");
        }
    }

    #[test]
    fn relations() {
        for name in ["t", "s.t", "\"A b\".\"c\"\"d\"", "_1.\"\n\"", "\"ü\""] {
            assert!(is_relation(name.as_bytes()), "{name}");
        }
        for text in [
            "",
            ".",
            "t.",
            ".t",
            "a.b.c",
            "1t",
            "T",
            "t (a)",
            "t FROM stdin; --",
            "\"a",
            "\"\"",
            "\"a\"b",
            "t\n",
            "ü",
            "ONLY t",
        ] {
            assert!(!is_relation(text.as_bytes()), "{text}");
        }
    }
}
