//! Holds the import directions of the crate: a module uses those below it, never those above.

use std::fs;
use std::path::{Path, PathBuf};

/// From the top down. Modules of one layer may use one another, but for [`FORBIDDEN`].
const LAYERS: [&[&str]; 5] = [
    &["commands"],
    &["snapshot", "restore", "proof", "report", "repository"],
    &["catalog", "rows"],
    &["archive", "storage", "postgres", "sql"],
    &["error"],
];

/// Listing and verifying an archive work offline; SQL text knows neither servers nor files.
const FORBIDDEN: [(&str, &str); 5] = [
    ("archive", "postgres"),
    ("storage", "postgres"),
    ("sql", "postgres"),
    ("sql", "archive"),
    ("sql", "storage"),
];

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// Why `user` may not use `used`, if so.
fn objection(user: &str, used: &str) -> Option<String> {
    // What lib.rs exports for all: `crate::Error`, `crate::Result`.
    if used.starts_with(char::is_uppercase) || user == used {
        return None;
    }
    let Some(from) = layer(user) else {
        return Some(format!(
            "module {user} has no layer: give it one in tests/layering.rs"
        ));
    };
    let Some(to) = layer(used) else {
        return Some(format!(
            "{user} uses {used}, which has no layer: give it one in tests/layering.rs"
        ));
    };
    if to < from {
        return Some(format!("{user} uses {used}, which is above it"));
    }
    FORBIDDEN
        .contains(&(user, used))
        .then(|| format!("{user} must not use {used}"))
}

/// The first segments of all `crate::` paths of a source text, also of `crate::{a, b::c}`.
fn modules_used(source: &str) -> Vec<String> {
    let code: String = source
        .lines()
        .map(|line| match line.trim_start().starts_with("//") {
            true => "",
            false => line.split_once(" //").map_or(line, |(code, _)| code),
        })
        .collect::<Vec<_>>()
        .join("\n");
    let mut used = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        // `rdump_crate::` or `$crate::` within a macro of another crate would not be ours.
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        match rest.trim_start().strip_prefix('{') {
            Some(group) => used.extend(first_segments(group)),
            None => used.extend(identifier(rest)),
        }
    }
    // `super::super::` may reach the root of the crate as well
    for (at, _) in code.match_indices("super::super::") {
        let rest = code[at..].trim_start_matches("super::");
        used.extend(identifier(rest).filter(|name| layer(name).is_some()));
    }
    used
}

/// The first segment of each item of a brace group, up to its closing brace.
fn first_segments(group: &str) -> Vec<String> {
    let (mut depth, mut expecting, mut found) = (0, true, Vec::new());
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => expecting = true,
            c if c.is_whitespace() => {}
            _ if expecting => {
                found.extend(identifier(&group[at..]));
                expecting = false;
            }
            _ => {}
        }
    }
    found
}

fn identifier(text: &str) -> Option<String> {
    let text = text.trim_start();
    let end = text
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(text.len());
    (end > 0).then(|| text[..end].to_owned())
}

/// All objections to a source text of a module.
fn objections(user: &str, source: &str) -> Vec<String> {
    modules_used(source)
        .iter()
        .filter_map(|used| objection(user, used))
        .collect()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("reading src") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

#[test]
fn imports_go_downwards() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    let mut modules = std::collections::BTreeSet::new();
    for path in rust_files(&root) {
        let relative = path.strip_prefix(&root).expect("within src");
        let first = relative.iter().next().expect("a name").to_string_lossy();
        let module = first.strip_suffix(".rs").unwrap_or(&first);
        if module == "lib" || module == "main" {
            continue;
        }
        modules.insert(module.to_owned());
        let source = fs::read_to_string(&path).expect("reading a source file");
        for objection in objections(module, &source) {
            all.push(format!("src/{}: {objection}", relative.display()));
        }
    }
    assert!(
        modules.contains("archive") && modules.contains("commands"),
        "{modules:?}"
    );
    assert!(all.is_empty(), "\n{}", all.join("\n"));
}

#[test]
fn every_way_of_breaking_it_is_found() {
    let broken = [
        (
            "archive",
            "use crate::postgres::Session;",
            "archive must not use postgres",
        ),
        (
            "storage",
            "fn f() { crate::catalog::read() }",
            "storage uses catalog, which is above it",
        ),
        (
            "error",
            "use crate::sql;",
            "error uses sql, which is above it",
        ),
        (
            "rows",
            "use crate::{\n    error::{Error, Result},\n    snapshot::{plan, Queue},\n};",
            "rows uses snapshot, which is above it",
        ),
        (
            "catalog",
            "pub(crate) use crate::commands as c;",
            "catalog uses commands, which is above it",
        ),
        (
            "archive",
            "use super::super::postgres::Session;",
            "archive must not use postgres",
        ),
        (
            "sql",
            "use crate::surprise::X;",
            "sql uses surprise, which has no layer",
        ),
        (
            "surprise",
            "use crate::error::Error;",
            "module surprise has no layer",
        ),
    ];
    for (user, source, expected) in broken {
        let found = objections(user, source);
        assert_eq!(found.len(), 1, "{source}: {found:?}");
        assert!(found[0].starts_with(expected), "{found:?}");
    }
}

#[test]
fn what_is_allowed_is_not_objected_to() {
    for (user, source) in [
        (
            "commands",
            "use crate::{snapshot, archive::{Reader, Entry}, error::Result};",
        ),
        (
            "catalog",
            "use crate::postgres::Session; // not crate::commands",
        ),
        (
            "catalog",
            "/// See [`crate::snapshot`].\nuse crate::sql::identifier;",
        ),
        ("archive", "use crate::{Error, Result};"),
        ("archive", "use crate::archive::entry::Entry;"),
        ("restore", "use crate::proof::Verdict;"),
    ] {
        assert_eq!(objections(user, source), Vec::<String>::new(), "{source}");
    }
}
