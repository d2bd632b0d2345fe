//! Building statements from bytes.

use bstr::{BString, ByteSlice};

/// Joins pieces of SQL.
pub fn join<T: AsRef<[u8]>>(pieces: impl IntoIterator<Item = T>, separator: &str) -> BString {
    BString::from(bstr::join(separator, pieces))
}

/// `format!` for SQL whose parts are bytes: each `{}` takes the next part.
pub fn render(template: &str, parts: &[&dyn AsRef<[u8]>]) -> BString {
    let length: usize = parts
        .iter()
        .map(|part| AsRef::<[u8]>::as_ref(*part).len())
        .sum();
    let mut text = BString::from(Vec::with_capacity(template.len() + length));
    let mut parts = parts.iter();
    for (index, piece) in template.as_bytes().split_str("{}").enumerate() {
        if index > 0 {
            let part = parts.next();
            debug_assert!(part.is_some(), "a part is missing for {template}");
            text.extend_from_slice(part.map_or(&[][..], |part| part.as_ref()));
        }
        text.extend_from_slice(piece);
    }
    debug_assert!(parts.next().is_none(), "too many parts for {template}");
    text
}

/// The statements of a text, each with its `;`, without the white space between them. One that has no
/// end is the last.
pub fn statements(text: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    let mut rest = text.trim_ascii_start();
    while !rest.is_empty() {
        let (statement, after) = rest.split_at(end_of_statement(rest));
        found.push(statement.trim_ascii_end());
        rest = after.trim_ascii_start();
    }
    found
}

/// Where a text first occurs outside of quotes.
pub fn find_unquoted(text: &[u8], wanted: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with(wanted) {
            return Some(at);
        }
        at += match rest[0] {
            b'"' => 1 + end_of_quote(&rest[1..], b'"', false),
            b'\'' => {
                let escapes = at >= 1 && matches!(text[at - 1], b'E' | b'e');
                1 + end_of_quote(&rest[1..], b'\'', escapes)
            }
            _ => 1,
        };
    }
    None
}

/// Behind the first `;` that stands in no quotes.
fn end_of_statement(text: &[u8]) -> usize {
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        at += 1;
        match byte {
            b';' => return at,
            b'"' => at += end_of_quote(&text[at..], b'"', false),
            b'\'' => {
                // ours write E'' wherever a backslash needs it
                let escapes = at >= 2 && matches!(text[at - 2], b'E' | b'e');
                at += end_of_quote(&text[at..], b'\'', escapes);
            }
            _ => {}
        }
    }
    text.len()
}

/// Behind the quote that ends what begins here. A doubled one ends it too, and begins another.
fn end_of_quote(text: &[u8], quote: u8, escapes: bool) -> usize {
    let mut bytes = text.iter().enumerate();
    while let Some((at, &byte)) = bytes.next() {
        if byte == quote {
            return at + 1;
        }
        if escapes && byte == b'\\' {
            bytes.next();
        }
    }
    text.len()
}

/// `sql!("CREATE TYPE {} AS ({})", name, list)`: like `format!`, but the parts are bytes.
#[macro_export]
macro_rules! sql {
    ($template:literal $(, $part:expr)* $(,)?) => {{
        // the borrowed parts end here, so that the text may live across an await
        let text = $crate::sql::render($template, &[$(&$part as &dyn AsRef<[u8]>),*]);
        text
    }};
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_end_outside_of_quotes() {
        let text =
            b"GRANT a ON \"x;\"\";y\" TO b;\nSET v TO 'a;''b';\n SET w TO E'it\\';\\\\';\nlast";
        let found: Vec<_> = statements(text).iter().map(|one| one.as_bstr()).collect();
        assert_eq!(
            found,
            [
                "GRANT a ON \"x;\"\";y\" TO b;",
                "SET v TO 'a;''b';",
                "SET w TO E'it\\';\\\\';",
                "last"
            ]
        );
        assert!(statements(b" \n").is_empty());
    }

    #[test]
    fn what_stands_in_quotes_is_not_found() {
        let text = b"GRANT \" TO \"\" TO \" TO E'\\' TO ' TO x";
        assert_eq!(find_unquoted(text, b" TO "), Some(18));
        assert_eq!(find_unquoted(text, b" TO x"), Some(31));
        assert_eq!(find_unquoted(text, b"missing"), None);
    }

    #[test]
    fn parts_take_the_place_of_braces() {
        let name = BString::from("public.t");
        assert_eq!(
            sql!("DROP TABLE {} {};", name, "CASCADE"),
            "DROP TABLE public.t CASCADE;"
        );
        assert_eq!(sql!("BEGIN;"), "BEGIN;");
    }
}
