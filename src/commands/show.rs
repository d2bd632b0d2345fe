//! `rdump show`: what an archive holds.

use std::io::Write;
use std::sync::Arc;

use clap::Args;

use super::archive::ArchiveArguments;
use super::inputs;
use super::keys::KeyArguments;
use super::member::MemberArguments;
use super::selection::SelectionArguments;
use crate::archive::{Content, Entry, Keys, RandomReader, SetReader};
use crate::catalog::shown_definition;
use crate::error::{Error, Result};
use crate::report::counted;
use crate::restore::{ArchiveFile, Choice, Holding, Input, Selection, Stored, blocking, select};

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    archive: ArchiveArguments,
    /// Print JSON lines: the header, then an object an entry
    #[arg(long)]
    json: bool,
    /// Print the entries alone, without what is said of the archive
    #[arg(short = 'q', long, conflicts_with = "verbose")]
    quiet: bool,
    /// Print what each entry depends on as well
    #[arg(short = 'v', long)]
    verbose: bool,

    #[command(flatten)]
    selection: SelectionArguments,
    #[command(flatten)]
    member: MemberArguments,
    #[command(flatten)]
    keys: KeyArguments,
}

impl Arguments {
    pub async fn run(self) -> Result<()> {
        let form = Form {
            json: self.json,
            quiet: self.quiet,
            verbose: self.verbose,
        };
        self.archive.refuse_stream("show")?;
        inputs::refuse_shared_stdin(&self.selection.inputs(self.archive.file()))?;
        let selection = self.selection.selection()?;
        let keys = self.keys.keys()?;
        let input = self.archive.choose().await?.input;
        print_as(input, &self.member.choice(), &keys, form, &selection).await
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Form {
    json: bool,
    /// Only what is in the archive.
    quiet: bool,
    /// With dependencies, which JSON always has.
    verbose: bool,
}

/// Prints what an archive holds, or what of it is selected.
pub async fn print(
    input: Input,
    choice: &Choice,
    keys: &Arc<Keys>,
    json: bool,
    selection: &Selection,
) -> Result<()> {
    let form = Form {
        json,
        ..Form::default()
    };
    print_as(input, choice, keys, form, selection).await
}

async fn print_as(
    input: Input,
    choice: &Choice,
    keys: &Arc<Keys>,
    form: Form,
    selection: &Selection,
) -> Result<()> {
    let (choice, keys, selection) = (choice.clone(), Arc::clone(keys), selection.clone());
    blocking(move || print_now(input, &choice, &keys, form, &selection)).await
}

fn print_now(
    input: Input,
    choice: &Choice,
    keys: &Arc<Keys>,
    form: Form,
    selection: &Selection,
) -> Result<()> {
    let reader = match Holding::open(input, keys)?.choose(choice)? {
        Holding::Archive(reader) => reader,
        Holding::Set(set) => return print_set(&set, form),
    };
    let entries = reader.entries()?;
    selection.refuse_unknown(&entries)?;
    if selection.strict_names
        && let Some((what, hint)) = selection.unmatched(&entries).into_iter().next()
    {
        return Err(Error::new(what).hint(hint));
    }
    let entries = select(&entries, selection);
    let mut text = Vec::new();
    if form.json {
        json(&reader, &entries, &mut text)?;
    } else {
        if !form.quiet {
            head(&reader, &mut text)?;
        }
        list(&reader, &entries, form, &mut text)?;
    }
    write(&text)
}

fn write(text: &[u8]) -> Result<()> {
    // a reader such as head may close early
    match std::io::stdout().lock().write_all(text) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::from(error).context("writing to standard output"))
        }
        _ => Ok(()),
    }
}

/// The members of a set; each has a table of contents of its own.
fn print_set(set: &SetReader<Stored>, form: Form) -> Result<()> {
    set.require_names()?;
    let mut text = Vec::new();
    if form.json {
        let object = serde_json::json!({
            "type": "set",
            "id": set.id().to_string(),
            "members": set.members().len(),
            "bytes": set.file_length(),
        });
        writeln!(text, "{object}")?;
    } else if !form.quiet {
        writeln!(text, ";\n; Set {}", set.id())?;
        writeln!(
            text,
            ";     {}, {} bytes",
            counted(set.members().len() as u64, "member", "members"),
            set.file_length()
        )?;
        writeln!(
            text,
            ";     rdump show --member NAME (or -g) lists what is in one\n;"
        )?;
    }
    for member in set.members() {
        let reader = set.open_member(member)?;
        let totals = reader.totals();
        if form.json {
            let object = serde_json::json!({
                "type": "member",
                "content": if member.content == Content::Globals { "globals" } else { "database" },
                "database": member.name.to_string(),
                "archive_id": member.id.to_string(),
                "offset": member.offset,
                "bytes": member.length,
                "entries": totals.entries,
                "rows": totals.rows,
                "raw_bytes": totals.raw_length,
                "encoding": reader.header().encoding,
                "snapshot_time_unix_us": reader.header().snapshot_time,
            });
            writeln!(text, "{object}")?;
        } else {
            text.extend_from_slice(&on_one_line(member.label().as_bytes()));
            writeln!(
                text,
                " ({}, {}, {} bytes of rows, {} bytes in the set)",
                counted(totals.entries, "entry", "entries"),
                counted(totals.rows, "row", "rows"),
                totals.raw_length,
                member.length
            )?;
        }
    }
    write(&text)
}

/// What is said of the archive, as comments of the list.
fn head(reader: &RandomReader<ArchiveFile>, text: &mut Vec<u8>) -> Result<()> {
    let header = reader.header();
    let totals = reader.totals();
    writeln!(text, ";")?;
    writeln!(text, "; Archive {}", header.id)?;
    if let Some(set) = header.set {
        writeln!(text, ";     member of set {set}")?;
    }
    if let Some(sealed) = &header.sealed {
        let envelopes = sealed.envelopes();
        let opened_by = match (&envelopes.recipients, &envelopes.passphrase) {
            (Some(_), Some(_)) => "age identities, or a passphrase",
            (None, Some(_)) => "a passphrase",
            _ => "age identities",
        };
        writeln!(text, ";     encrypted; opened by {opened_by}")?;
    }
    if header.content == Content::Globals {
        let passwords = if header.is_without_passwords() {
            ", without passwords"
        } else {
            ""
        };
        writeln!(text, ";     globals of a server{passwords}")?;
    }
    for (what, value) in [
        ("database", header.database.as_slice()),
        ("server", header.server_version.as_bytes()),
        ("encoding", header.encoding.as_bytes()),
        ("compression", header.codec.as_bytes()),
        ("written by rdump", header.rdump_version.as_bytes()),
    ] {
        if what == "database" && header.content == Content::Globals {
            continue;
        }
        write!(text, ";     {what}: ")?;
        text.extend_from_slice(&on_one_line(value));
        writeln!(text)?;
    }
    writeln!(
        text,
        ";     snapshot: {}",
        match jiff::Timestamp::from_microsecond(header.snapshot_time) {
            Ok(time) => time.to_string(),
            Err(_) => format!("{} us since 1970 UTC", header.snapshot_time),
        }
    )?;
    writeln!(
        text,
        ";     {}, {}, {} bytes of rows",
        counted(totals.entries, "entry", "entries"),
        counted(totals.rows, "row", "rows"),
        totals.raw_length
    )?;
    writeln!(text, ";")?;
    Ok(())
}

/// The form of `pg_restore -l`; `rdump restore -L` reads it.
fn list(
    reader: &RandomReader<ArchiveFile>,
    entries: &[Entry],
    form: Form,
    text: &mut Vec<u8>,
) -> Result<()> {
    for entry in entries {
        write!(text, "{}; ", entry.id.0)?;
        text.extend_from_slice(&on_one_line(entry.kind.as_bytes()));
        text.push(b' ');
        let schema = entry.schema.as_ref().map_or(&b"-"[..], |name| name);
        let owner = entry.owner.as_ref().map_or(&b"-"[..], |name| name);
        let names = [schema, &entry.name, owner].map(on_one_line);
        text.extend_from_slice(&names.join(&b' '));
        if let Some(end) = reader.end_record(entry.id)? {
            let rows = counted(end.rows, "row", "rows");
            write!(text, " ({rows}, {} bytes)", end.raw_length)?;
        }
        writeln!(text)?;
        if form.verbose && !entry.dependencies.is_empty() {
            let needed = entry.dependencies.iter().map(|id| id.0.to_string());
            let needed: Vec<String> = needed.collect();
            writeln!(text, ";     depends on: {}", needed.join(" "))?;
        }
    }
    Ok(())
}

/// A name with a line break must not look like a line of its own, and none may drive a terminal.
fn on_one_line(name: &[u8]) -> Vec<u8> {
    let shown = |&byte: &u8| match byte.is_ascii_control() {
        true => b' ',
        false => byte,
    };
    name.iter().map(shown).collect()
}

fn json(reader: &RandomReader<ArchiveFile>, entries: &[Entry], text: &mut Vec<u8>) -> Result<()> {
    let header = reader.header();
    let mut line = |value: serde_json::Value| writeln!(text, "{value}");
    line(serde_json::json!({
        "type": "archive",
        "id": header.id.to_string(),
        "set": header.set.map(|set| set.to_string()),
        "content": if header.content == Content::Globals { "globals" } else { "database" },
        "encrypted": header.is_encrypted(),
        "without_passwords": header.is_without_passwords(),
        "database": header.database.to_string(),
        "server_version": header.server_version,
        "encoding": header.encoding,
        "snapshot_time_unix_us": header.snapshot_time,
        "rdump_version": header.rdump_version,
        "rows": reader.totals().rows,
        "raw_bytes": reader.totals().raw_length,
    }))?;
    for entry in entries {
        let end = reader.end_record(entry.id)?;
        line(serde_json::json!({
            "type": "entry",
            "id": entry.id.0,
            "kind": entry.kind,
            "schema": entry.schema.as_ref().map(ToString::to_string),
            "name": entry.name.to_string(),
            "owner": entry.owner.as_ref().map(ToString::to_string),
            "dependencies": entry.dependencies.iter().map(|id| id.0).collect::<Vec<_>>(),
            "definition": shown_definition(entry).to_string(),
            "rows": end.map(|end| end.rows),
            "raw_bytes": end.map(|end| end.raw_length),
            "chunks": end.map(|end| end.chunks),
        }))?;
    }
    Ok(())
}
