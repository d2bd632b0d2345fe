//! Options of foreign-data wrappers, servers, user mappings, foreign tables and their columns.

use bstr::{BString, ByteSlice};

use crate::sql;

/// ` OPTIONS (host 'db', port '5432')` of a text[] of `name=value`, by name, since their order means
/// nothing; nothing if there are none.
pub(super) fn clause(options: &[BString]) -> BString {
    if options.is_empty() {
        return BString::default();
    }
    let mut options: Vec<&BString> = options.iter().collect();
    options.sort();
    let options = options.into_iter().map(|option| {
        // names hold no equals sign (transformGenericOptions, foreigncmds.c)
        let (name, value) = option
            .split_once_str("=")
            .unwrap_or((option.as_slice(), b""));
        sql!("\n    {} {}", sql::identifier(name), sql::literal(value))
    });
    sql!(" OPTIONS ({}\n)", sql::join(options, ","))
}
