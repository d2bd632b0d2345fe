//! `restore --with-dependencies`: what is chosen comes back together with what it needs and what
//! belongs to it, under its own name or another.

mod closure;
mod present;
mod relocation;

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use bstr::{BString, ByteSlice};

use super::preflight::{Finding, Severity, refusal};
use super::schedule::is_data;
use super::selection::{Selection, label, select};
use crate::archive::{Entry, EntryId};
use crate::error::{Error, Result};
use crate::postgres::Session;
use crate::sql::renaming::mentions;
use closure::Closure;
use present::Present;
pub use relocation::Relocation;

/// What --with-dependencies and its companions ask for.
#[derive(Debug, Clone, Default)]
pub struct Dependencies {
    /// --into-schema
    pub into_schema: Option<BString>,
    /// --as
    pub name: Option<BString>,
    /// The schema in which tables are made before they get their new names, once it is there.
    pub scratch: Arc<OnceLock<String>>,
}

impl Dependencies {
    fn renames(&self) -> bool {
        self.into_schema.is_some() || self.name.is_some()
    }
}

/// An aborted restore leaves what it has made.
pub fn left_in(error: Error, scratch: &str) -> Error {
    let schema = crate::sql::identifier(scratch);
    error.context(format!(
        "what was restored so far may be in schema {schema}, to be dropped with DROP SCHEMA {schema} CASCADE"
    ))
}

/// What is restored, and what the user should know about it.
pub struct Plan {
    pub entries: Vec<Entry>,
    pub warnings: Vec<String>,
    pub relocation: Option<Relocation>,
}

fn will_fail(message: String, hint: &str) -> Finding {
    Finding {
        severity: Severity::WillFail,
        message,
        hint: hint.to_owned(),
    }
}

/// What the filters choose by name: not rows, comments and the like, which go with it.
fn roots(entries: &[Entry], selection: &Selection) -> BTreeSet<EntryId> {
    let chosen = select(entries, selection);
    let stands_alone = |entry: &&Entry| {
        let goes_with_another = matches!(
            entry.kind.as_str(),
            "ACL" | "COMMENT" | "SECURITY LABEL" | "STATISTICS DATA"
        );
        !is_data(entry) && !goes_with_another
    };
    let chosen = chosen.iter().filter(stands_alone);
    chosen.map(|entry| entry.id).collect()
}

/// The same selection, whatever the names.
fn of_any_name(selection: &Selection) -> Selection {
    Selection {
        schemas: Vec::new(),
        excluded_schemas: Vec::new(),
        tables: Vec::new(),
        indexes: Vec::new(),
        functions: Vec::new(),
        triggers: Vec::new(),
        listed: None,
        ..selection.clone()
    }
}

/// Looks at the target and decides; nothing is written.
pub async fn plan(
    session: &mut Session,
    entries: &[Entry],
    selection: &Selection,
    wanted: &Dependencies,
    force: bool,
) -> Result<Plan> {
    let roots = roots(entries, selection);
    if roots.is_empty() {
        let hint = selection.unmatched(entries).into_iter().next();
        return Err(
            Error::new("nothing in the archive matches the filters").hint(hint.map_or_else(
                || "rdump show lists what it holds".to_owned(),
                |(_, hint)| hint,
            )),
        );
    }
    let present = Present::read(session).await?;
    let mut closure = Closure::new(entries, &present);
    if wanted.renames() {
        refuse_unless_tables(&closure, &roots, wanted)?;
    }
    closure.add(roots.iter().copied());
    if let Some(schema) = &wanted.into_schema {
        let of_needed: BTreeSet<BString> = {
            let moved = closure.of(&roots);
            let stay = closure.included.iter().filter(|id| !moved.contains(id));
            stay.filter_map(|id| closure.entry(*id)?.schema.clone())
                .collect()
        };
        closure.drop_schemas(|entry| entry.name == *schema || of_needed.contains(&entry.name));
    }
    closure.tie(!wanted.renames());

    let mut findings = Vec::new();
    let mut warnings = Vec::new();
    for id in &closure.differing {
        let Some(entry) = closure.entry(*id) else {
            continue;
        };
        let what = format!(
            "{}, which is needed, is there already and its definition reads differently",
            label(entry)
        );
        match force {
            true => warnings.push(format!("{what}: it is used as it is")),
            false => findings.push(will_fail(
                what,
                "compare the two; --force uses the target's as it is",
            )),
        }
    }
    if !wanted.renames() {
        let taken = roots.iter().filter_map(|id| closure.entry(*id));
        for entry in taken.filter(|entry| has_rows(entry) && present.has_relation(entry)) {
            findings.push(will_fail(
                format!("{} is there already", label(entry)),
                "restore it beside that one with --as NAME or --into-schema SCHEMA, or drop it first",
            ));
        }
    }
    tell(&closure, &roots, &mut warnings);

    let passing = select(entries, &of_any_name(selection));
    let mut chosen: Vec<Entry> = passing
        .into_iter()
        .filter(|entry| closure.included.contains(&entry.id))
        .collect();
    let relocation = match wanted.renames() {
        false => None,
        true => {
            let moved = closure.of(&roots);
            findings.extend(heirs(&closure, &moved));
            for entry in closure.used.iter().filter_map(|id| closure.entry(*id)) {
                if entry.dependencies.iter().any(|id| moved.contains(id)) {
                    findings.push(made_of_the_table(entry));
                }
            }
            tell_bodies(&closure, &roots, &mut warnings);
            let process = session.backend_pid();
            Some(relocation::plan(
                &mut chosen,
                &relocation::Request {
                    wanted,
                    roots: &roots,
                    moved: &moved,
                    present: &present,
                    scratch: format!("rdump_restore_{process}"),
                },
                &mut findings,
                &mut warnings,
            )?)
        }
    };
    if !findings.is_empty() && (!force || wanted.renames()) {
        return Err(refusal(&findings));
    }
    warnings.extend(findings.iter().map(ToString::to_string));
    Ok(Plan {
        entries: chosen,
        warnings,
        relocation,
    })
}

/// A function that takes the table's rows, say: it would take those of the old name only.
fn made_of_the_table(entry: &Entry) -> Finding {
    will_fail(
        format!(
            "{} is needed, and is itself made of a table that gets another name",
            label(entry)
        ),
        "restore the table under its own name",
    )
}

/// A copy that inherits from a table in use would show there, beside the rows that it is a copy of.
fn heirs(closure: &Closure<'_>, moved: &BTreeSet<EntryId>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let moved = moved.iter().filter_map(|id| closure.entry(*id));
    for heir in moved.filter(|entry| entry.create.contains_str("\nINHERITS (")) {
        let parents = heir
            .dependencies
            .iter()
            .filter(|id| closure.used.contains(id));
        let mut parents = parents.filter_map(|id| closure.entry(*id));
        if let Some(parent) = parents.find(|entry| entry.kind == "TABLE") {
            findings.push(will_fail(
                format!(
                    "{} inherits from {}, which is in use, and would show the rows of the copy as well",
                    label(heir),
                    label(parent)
                ),
                "choose the parent with it (-t), with --into-schema",
            ));
        }
    }
    findings
}

fn has_rows(entry: &Entry) -> bool {
    matches!(
        entry.kind.as_str(),
        "TABLE" | "FOREIGN TABLE" | "VIEW" | "MATERIALIZED VIEW" | "SEQUENCE"
    )
}

fn refuse_unless_tables(
    closure: &Closure<'_>,
    roots: &BTreeSet<EntryId>,
    wanted: &Dependencies,
) -> Result<()> {
    let roots: Vec<&Entry> = roots.iter().filter_map(|id| closure.entry(*id)).collect();
    if let Some(other) = roots.iter().find(|entry| entry.kind != "TABLE") {
        return Err(Error::usage(format!(
            "only tables can be restored under another name or schema, not {}",
            label(other)
        ))
        .hint("choose tables with -t"));
    }
    if wanted.name.is_some() && roots.len() > 1 {
        return Err(Error::usage(format!(
            "--as is for one table, and {} are chosen",
            roots.len()
        ))
        .hint("choose one with -t, and its schema with -n"));
    }
    Ok(())
}

/// What is used, what comes along, what is left out.
fn tell(closure: &Closure<'_>, roots: &BTreeSet<EntryId>, warnings: &mut Vec<String>) {
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

/// A function's body is text: nobody can tell a table's name in it from another word.
fn tell_bodies(closure: &Closure<'_>, roots: &BTreeSet<EntryId>, warnings: &mut Vec<String>) {
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
