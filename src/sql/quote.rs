//! The quoting rules of `quote_identifier` (ruleutils.c) and `quote_literal` (quote.c).

use std::cell::Cell;
use std::pin::pin;

use bstr::{BString, ByteSlice};

use super::keywords::is_reserved;

thread_local! {
    static QUOTES_ALL: Cell<bool> = const { Cell::new(false) };
}

/// Does some work in which `identifier` quotes every name, if so wanted: as the server does under
/// `quote_all_identifiers`.
pub async fn quoting_all<T>(is_wanted: bool, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    // the work may go on in another thread, and others' in this one
    std::future::poll_fn(|context| {
        let _while_polled = Quoting(QUOTES_ALL.replace(is_wanted));
        work.as_mut().poll(context)
    })
    .await
}

/// What holds again behind it, also after a panic.
struct Quoting(bool);

impl Drop for Quoting {
    fn drop(&mut self) {
        QUOTES_ALL.set(self.0);
    }
}

/// A name as an SQL identifier, quoted only where it must be, as the server's `quote_ident` does.
pub fn identifier(name: impl AsRef<[u8]>) -> BString {
    let name = name.as_ref();
    let bare = matches!(name.first(), Some(b'a'..=b'z' | b'_'))
        && name
            .iter()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
        && !is_reserved(name);
    if bare && !QUOTES_ALL.get() {
        return BString::from(name);
    }
    quoted(name, b'"')
}

/// `schema.name`, each quoted where it must be.
pub fn qualified(schema: impl AsRef<[u8]>, name: impl AsRef<[u8]>) -> BString {
    let mut text = identifier(schema);
    text.push(b'.');
    text.extend_from_slice(&identifier(name));
    text
}

/// A value as an SQL string literal. Valid under either setting of standard_conforming_strings:
/// backslashes are doubled inside an `E''` string.
pub fn literal(value: impl AsRef<[u8]>) -> BString {
    let value = value.as_ref();
    if !value.contains(&b'\\') {
        return quoted(value, b'\'');
    }
    let mut text = BString::from("E'");
    for &byte in value {
        if byte == b'\'' || byte == b'\\' {
            text.push(byte);
        }
        text.push(byte);
    }
    text.push(b'\'');
    text
}

/// Appends a part of a value, for between single quotes under standard_conforming_strings.
pub fn push_literal_part(text: &mut Vec<u8>, part: &[u8]) {
    for piece in part.split_inclusive(|&byte| byte == b'\'') {
        text.extend_from_slice(piece);
        if piece.ends_with(b"'") {
            text.push(b'\'');
        }
    }
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A value in dollar quotes, between tags that it cannot end early.
pub fn dollar_quoted(value: impl AsRef<[u8]>) -> BString {
    let value = value.as_ref();
    // not even the tag's beginning may occur: the value could end in it
    let mut tag = BString::from("$");
    while value.find(&tag).is_some() {
        let next = if tag.len() == 1 { b'_' } else { b'x' };
        tag.push(next);
    }
    tag.push(b'$');
    let mut text = tag.clone();
    text.extend_from_slice(value);
    text.extend_from_slice(&tag);
    text
}

fn quoted(value: &[u8], quote: u8) -> BString {
    let mut text = BString::new(Vec::with_capacity(value.len() + 2));
    text.push(quote);
    for &byte in value {
        if byte == quote {
            text.push(quote);
        }
        text.push(byte);
    }
    text.push(quote);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_names_stay_bare() {
        for name in ["orders", "_x", "a1_b"] {
            assert_eq!(identifier(name), name);
        }
    }

    #[test]
    fn other_names_are_quoted() {
        for (name, expected) in [
            ("Orders", "\"Orders\""),
            ("1a", "\"1a\""),
            ("a b", "\"a b\""),
            ("a\"b", "\"a\"\"b\""),
            ("a$b", "\"a$b\""),
            ("select", "\"select\""),
            ("between", "\"between\""),
            ("", "\"\""),
            ("naïve", "\"naïve\""),
        ] {
            assert_eq!(identifier(name), expected);
        }
    }

    #[tokio::test]
    async fn every_name_is_quoted_where_that_is_wanted() {
        let name = async || {
            tokio::task::yield_now().await;
            identifier("orders")
        };
        let (all, usual) = tokio::join!(quoting_all(true, name()), name());
        assert_eq!((all, usual), ("\"orders\"".into(), "orders".into()));
        assert_eq!(
            quoting_all(true, quoting_all(false, name())).await,
            "orders"
        );
    }

    #[test]
    fn dollar_tags_do_not_occur_in_the_value() {
        for (value, expected) in [
            ("", "$$$$"),
            ("a", "$$a$$"),
            ("a$", "$_$a$$_$"),
            ("$$", "$_$$$$_$"),
            ("a$_", "$_x$a$_$_x$"),
            ("$_$ $_x$", "$_xx$$_$ $_x$$_xx$"),
        ] {
            assert_eq!(dollar_quoted(value), expected);
        }
    }

    #[test]
    fn parts_of_literals_double_quotes_alone() {
        let mut text = Vec::new();
        for part in ["", "a'", "'b", "\\c"] {
            push_literal_part(&mut text, part.as_bytes());
        }
        assert_eq!(text, b"a''''b\\c");
    }

    #[test]
    fn literals_double_quotes_and_backslashes() {
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\b'c"), "E'a\\\\b''c'");
    }
}
