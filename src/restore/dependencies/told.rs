//! What the user should know: what is used, what comes along, what stays away.

use std::collections::BTreeSet;

use bstr::BString;

use super::closure::Closure;
use crate::archive::{Entry, EntryId};
use crate::restore::selection::label;
use crate::sql;
use crate::sql::renaming::mentions;

/// What is used, what comes along, what is left out.
pub fn tell(closure: &Closure<'_>, roots: &BTreeSet<EntryId>, warnings: &mut Vec<String>) {
    let mut used = Vec::new();
    for entry in closure.used.iter().filter_map(|id| closure.entry(*id)) {
        match entry.kind.as_str() {
            "SCHEMA" | "EXTENSION" => {}
            "SEQUENCE" => used.push(format!("{} (with the value that it has)", label(entry))),
            _ => used.push(label(entry)),
        }
    }
    if !used.is_empty() {
        warnings.push(format!("used as the target has it: {}", used.join(", ")));
    }
    let moved = closure.of(roots);
    let brought: Vec<String> = closure
        .included
        .iter()
        .filter(|id| !moved.contains(id))
        .filter_map(|id| closure.entry(*id))
        .filter(|entry| entry.owner_target.is_some() || entry.kind == "EXTENSION")
        .map(label)
        .collect();
    if !brought.is_empty() {
        warnings.push(format!(
            "restored as well, since it is needed: {}",
            brought.join(", ")
        ));
    }
    for (id, reason) in &closure.left_out {
        if let Some(entry) = closure.entry(*id) {
            warnings.push(format!("left out: {}: {reason}", label(entry)));
        }
    }
}

/// What depended on what comes back: it was dropped with that, or stays with the original.
pub fn tell_dependents(
    closure: &Closure<'_>,
    roots: &BTreeSet<EntryId>,
    copied: bool,
    warnings: &mut Vec<String>,
) {
    let left = closure.dependents_left(&closure.of(roots), !copied);
    if left.is_empty() {
        return;
    }
    let names = some(&left.into_iter().map(label).collect::<Vec<_>>());
    warnings.push(match copied {
        true => format!("not made for the copy, though they depend on the table in the archive: {names}"),
        false => format!(
            "not restored, though they depend on it in the archive: {names} (choose them as well to have them back)"
        ),
    });
}

/// Functions that come along may need what nobody sees.
pub fn tell_texts(closure: &Closure<'_>, warnings: &mut Vec<String>) {
    let included = closure.included.iter().filter_map(|id| closure.entry(*id));
    let names: Vec<String> = included
        .filter(|entry| has_text(entry))
        .map(label)
        .collect();
    if !names.is_empty() {
        warnings.push(format!(
            "bodies of functions are text, and what they name is not looked for: {}",
            some(&names)
        ));
    }
}

/// Not a body that the server has parsed, nor compiled code.
fn has_text(entry: &Entry) -> bool {
    let says = |clause: &str| sql::find_unquoted(&entry.create, clause.as_bytes()).is_some();
    matches!(entry.kind.as_str(), "FUNCTION" | "PROCEDURE")
        && says("\n    AS $")
        && !says("\n    LANGUAGE internal")
}

/// More than these are counted: nobody reads a list of thousands.
const MAX_NAMED: usize = 20;

fn some(names: &[String]) -> String {
    let shown = names
        .iter()
        .take(MAX_NAMED)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    match names.len().saturating_sub(MAX_NAMED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// A function's body is text: nobody can tell a table's name in it from another word.
pub fn tell_bodies(closure: &Closure<'_>, roots: &BTreeSet<EntryId>, warnings: &mut Vec<String>) {
    let names: Vec<&BString> = roots
        .iter()
        .filter_map(|id| Some(&closure.entry(*id)?.name))
        .collect();
    let concerned = closure.included.iter().chain(&closure.used);
    for entry in concerned.filter_map(|id| closure.entry(*id)) {
        if matches!(entry.kind.as_str(), "FUNCTION" | "PROCEDURE")
            && let Some(name) = names.iter().find(|name| mentions(&entry.create, name))
        {
            warnings.push(format!(
                "{} has \"{name}\" in its text, which keeps meaning what it says, not the table restored",
                label(entry)
            ));
        }
    }
}
