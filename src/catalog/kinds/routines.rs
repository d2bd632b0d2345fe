//! What functions and aggregates share.

use bstr::{BStr, BString, ByteSlice};

use crate::catalog::reader::USER_SCHEMAS;
use crate::sql;

/// The query for routines `p` of one kind: `columns` and `joins` beside the usual, `condition` for
/// the kind. System routines come along where their ACL is not as initdb left it.
pub(super) fn query(columns: &str, joins: &str, condition: &str) -> String {
    format!(
        "SELECT p.oid, p.proname AS name, n.nspname AS schema,
                pg_get_userbyid(p.proowner) AS owner, p.proacl AS acl,
                acldefault('f', p.proowner) AS acldefault,
                pg_get_function_arguments(p.oid) AS arguments,
                pg_get_function_identity_arguments(p.oid) AS identity_arguments,
                array_to_string(ARRAY(SELECT format_type(a.type, NULL)
                                      FROM unnest(p.proargtypes) WITH ORDINALITY AS a (type, number)
                                      ORDER BY a.number), ', ') AS argument_types,
                {columns}
         FROM pg_proc p
         JOIN pg_namespace n ON n.oid = p.pronamespace
         LEFT JOIN pg_init_privs i
           ON i.classoid = 'pg_proc'::regclass AND i.objoid = p.oid AND i.objsubid = 0
         {joins}
         WHERE {condition}
           AND (({USER_SCHEMAS})
                OR (n.nspname = 'pg_catalog' AND p.proacl IS DISTINCT FROM i.initprivs))"
    )
}

/// A value of pg_proc.proconfig as `SET name TO` takes it.
///
/// Settings that are lists of names (GUC_LIST_QUOTE) are stored as such a list, already quoted.
/// SQL takes each element as a string of its own; one string for all would be a single name.
pub(in crate::catalog) fn setting_value(name: &BStr, value: &BStr) -> BString {
    const LISTS: [&str; 8] = [
        "local_preload_libraries",
        "oauth_validator_libraries",
        "output_plugin_libraries",
        "search_path",
        "session_preload_libraries",
        "shared_preload_libraries",
        "temp_tablespaces",
        "unix_socket_directories",
    ];
    if !LISTS
        .iter()
        .any(|list| name.eq_ignore_ascii_case(list.as_bytes()))
    {
        return sql::literal(value);
    }
    match split_names(value) {
        Some(names) if !names.is_empty() => sql::join(names.iter().map(sql::literal), ", "),
        // an empty list, or not one that the server could have written
        _ => sql::literal(value),
    }
}

/// Elements of a list as flatten_set_variable_args (guc_funcs.c) writes it: `a, "b ""c"`.
fn split_names(value: &[u8]) -> Option<Vec<BString>> {
    let mut names = Vec::new();
    let mut rest = value.trim_ascii_start();
    if rest.is_empty() {
        return Some(names);
    }
    loop {
        let mut name = BString::default();
        if let Some(mut quoted) = rest.strip_prefix(b"\"") {
            loop {
                let end = quoted.find_byte(b'"')?;
                name.extend_from_slice(&quoted[..end]);
                quoted = &quoted[end + 1..];
                match quoted.strip_prefix(b"\"") {
                    Some(after) => {
                        name.push(b'"');
                        quoted = after;
                    }
                    None => break,
                }
            }
            rest = quoted;
        } else {
            let end = rest.find_byte(b',').unwrap_or(rest.len());
            name.extend_from_slice(rest[..end].trim_ascii_end());
            rest = &rest[end..];
        }
        names.push(name);
        rest = rest.trim_ascii_start();
        match rest.strip_prefix(b",") {
            Some(after) => rest = after.trim_ascii_start(),
            None if rest.is_empty() => return Some(names),
            None => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_taken_apart() {
        for (value, expected) in [
            ("public", "'public'"),
            ("a, b,c", "'a', 'b', 'c'"),
            ("\"$user\", public", "'$user', 'public'"),
            ("\"a, b\", \"q\"\"q\", \"it's\"", "'a, b', 'q\"q', 'it''s'"),
            ("\"\"", "''"),
            ("", "''"),
            ("a b", "'a b'"),
            ("\"a", "'\"a'"),
            ("\"a\"b", "'\"a\"b'"),
        ] {
            assert_eq!(
                setting_value("Search_Path".into(), value.into()),
                expected,
                "{value}"
            );
        }
    }

    #[test]
    fn other_settings_are_one_string() {
        assert_eq!(setting_value("work_mem".into(), "4MB".into()), "'4MB'");
        assert_eq!(
            setting_value("datestyle".into(), "ISO, DMY".into()),
            "'ISO, DMY'"
        );
    }
}
