//! `restore --with-dependencies`: what is chosen comes back together with what it needs and what
//! belongs to it, under its own name or another.

mod closure;
mod partitions;
mod present;
mod relocation;
mod told;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use bstr::{BString, ByteSlice};

use super::Options;
use super::create::lock;
use super::input::Opened;
use super::preflight::{Finding, Severity, final_refusal, refusal};
use super::schedule::is_data;
use super::selection::{Selection, label, select};
use crate::archive::{Entry, EntryId};
use crate::error::{Error, Result};
use crate::postgres::{ServerVersion, Session};
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
    pub scratch: Arc<Scratch>,
}

/// The schema in which tables are made before they get their new names, while it may be there.
#[derive(Debug, Default)]
pub struct Scratch(Mutex<Option<String>>);

impl Scratch {
    fn set(&self, name: Option<String>) {
        *lock(&self.0) = name;
    }
}

impl Dependencies {
    fn renames(&self) -> bool {
        self.into_schema.is_some() || self.name.is_some()
    }

    /// A restore that does not come to its end leaves what it has made.
    pub fn left_behind(&self, error: Error) -> Error {
        match &*lock(&self.scratch.0) {
            None => error,
            Some(scratch) => error.context(format!(
                "what was restored so far may be in schema {}",
                removal(scratch)
            )),
        }
    }
}

/// A schema, and how to get rid of it.
fn removal(scratch: &str) -> String {
    let schema = crate::sql::identifier(scratch);
    format!("{schema}, to be dropped with DROP SCHEMA {schema} CASCADE")
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
    opened: &Opened,
    options: &Options,
    wanted: &Dependencies,
) -> Result<Plan> {
    let (selection, force) = (&options.selection, options.force);
    let entries = &opened.entries;
    let roots = roots(entries, selection);
    if roots.is_empty() {
        return Err(nothing_chosen(entries, selection));
    }
    let present = Present::read(session, opened.header.quotes_all()).await?;
    let mut warnings = Vec::new();
    let mut closure = close(entries, &present, &roots, wanted)?;
    let from = ServerVersion(opened.header.server_version_num);
    let alone = partitions::alone(&closure, entries, from).unwrap_or_default();
    let mut all = entries;
    if !alone.entries.is_empty() {
        all = &alone.entries;
        closure = close(all, &present, &roots, wanted)?;
        closure.leave(&alone.pointless);
        warnings.extend(alone.warnings);
    }
    let copied = wanted.renames().then(|| closure.of(&roots));
    closure.tie(copied.as_ref());
    closure
        .left_out
        .retain(|(id, _)| !alone.handed_down.contains(id));

    let mut findings = Vec::new();
    find_differing(&closure, force, &mut findings, &mut warnings);
    if !wanted.renames() {
        find_taken(&closure, &roots, &present, &mut findings);
    }
    told::tell(&closure, &roots, &mut warnings);
    told::tell_dependents(&closure, &roots, wanted.renames(), &mut warnings);
    told::tell_texts(&closure, &mut warnings);

    let mut chosen = select(all, &of_any_name(selection));
    chosen.retain(|entry| closure.included.contains(&entry.id));
    let mut relocation = None;
    if wanted.renames() {
        let moved = closure.of(&roots);
        findings.extend(heirs(&closure, &moved));
        findings.extend(used_of_the_table(&closure, &moved));
        told::tell_bodies(&closure, &roots, &mut warnings);
        let request = relocation::Request {
            wanted,
            roots: &roots,
            moved: &moved,
            present: &present,
            scratch: format!("rdump_restore_{}", session.backend_pid()),
        };
        let planned = relocation::plan(&mut chosen, &request, &mut findings, &mut warnings)?;
        relocation = Some(planned);
    }
    match (findings.is_empty(), force) {
        (false, false) => return Err(refusal(&findings)),
        // what would be given to another table cannot be forced
        (false, true) if wanted.renames() => return Err(final_refusal(&findings)),
        _ => {}
    }
    warnings.extend(findings.iter().map(ToString::to_string));
    Ok(Plan {
        entries: chosen,
        warnings,
        relocation,
    })
}

fn nothing_chosen(entries: &[Entry], selection: &Selection) -> Error {
    let hint = selection.unmatched(entries).into_iter().next();
    Error::new("nothing in the archive matches the filters").hint(hint.map_or_else(
        || "rdump show lists what it holds".to_owned(),
        |(_, hint)| hint,
    ))
}

/// What is chosen with what it needs, before anything is tied to anything.
fn close<'a>(
    entries: &'a [Entry],
    present: &'a Present,
    roots: &BTreeSet<EntryId>,
    wanted: &Dependencies,
) -> Result<Closure<'a>> {
    let mut closure = Closure::new(entries, present);
    if wanted.renames() {
        refuse_unless_tables(&closure, roots, wanted)?;
    }
    closure.add(roots.iter().copied());
    if let Some(schema) = &wanted.into_schema {
        let of_needed: BTreeSet<BString> = {
            let moved = closure.of(roots);
            let stay = closure.included.iter().filter(|id| !moved.contains(id));
            stay.filter_map(|id| closure.entry(*id)?.schema.clone())
                .collect()
        };
        closure.drop_schemas(|entry| entry.name == *schema || of_needed.contains(&entry.name));
    }
    Ok(closure)
}

/// What is needed and there, and not what the archive has.
fn find_differing(
    closure: &Closure<'_>,
    force: bool,
    findings: &mut Vec<Finding>,
    warnings: &mut Vec<String>,
) {
    for entry in closure.differing.iter().filter_map(|id| closure.entry(*id)) {
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
}

/// What is chosen and there.
fn find_taken(
    closure: &Closure<'_>,
    roots: &BTreeSet<EntryId>,
    present: &Present,
    findings: &mut Vec<Finding>,
) {
    let taken = roots.iter().filter_map(|id| closure.entry(*id));
    for entry in taken.filter(|entry| has_rows(entry) && present.has_relation(entry)) {
        findings.push(will_fail(
            format!("{} is there already", label(entry)),
            "restore it beside that one with --as NAME or --into-schema SCHEMA, or drop it first",
        ));
    }
}

fn used_of_the_table(closure: &Closure<'_>, moved: &BTreeSet<EntryId>) -> Vec<Finding> {
    let used = closure.used.iter().filter_map(|id| closure.entry(*id));
    used.filter(|entry| entry.dependencies.iter().any(|id| moved.contains(id)))
        .map(made_of_the_table)
        .collect()
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
