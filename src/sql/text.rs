//! Building statements from bytes.

use bstr::{BString, ByteSlice};

/// Joins pieces of SQL.
pub fn join<T: AsRef<[u8]>>(pieces: impl IntoIterator<Item = T>, separator: &str) -> BString {
    BString::from(bstr::join(separator, pieces))
}

/// `format!` for SQL whose parts are bytes: each `{}` takes the next part.
pub fn render(template: &str, parts: &[&dyn AsRef<[u8]>]) -> BString {
    let mut text = BString::default();
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
    fn parts_take_the_place_of_braces() {
        let name = BString::from("public.t");
        assert_eq!(
            sql!("DROP TABLE {} {};", name, "CASCADE"),
            "DROP TABLE public.t CASCADE;"
        );
        assert_eq!(sql!("BEGIN;"), "BEGIN;");
    }
}
