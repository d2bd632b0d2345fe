//! Entries as bytes, packed into blocks.

use bstr::BString;

use super::entry::{Contents, Entry, EntryId, Pass, Section};
use super::limits::*;
use super::refusal::needs_newer;
use super::wire::{Cursor, Need, put_bytes, put_field, put_varint};
use crate::error::{Error, Result};

pub(super) const ENTRY_TAG_KIND: u64 = 1;
pub(super) const ENTRY_TAG_SECTION: u64 = 2;
pub(super) const ENTRY_TAG_PASS: u64 = 3;
pub(super) const ENTRY_TAG_SCHEMA: u64 = 4;
pub(super) const ENTRY_TAG_NAME: u64 = 5;
pub(super) const ENTRY_TAG_RELATION: u64 = 6;
pub(super) const ENTRY_TAG_OWNER: u64 = 7;
pub(super) const ENTRY_TAG_OWNER_TARGET: u64 = 8;
pub(super) const ENTRY_TAG_TABLESPACE: u64 = 9;
pub(super) const ENTRY_TAG_ACCESS_METHOD: u64 = 10;
pub(super) const ENTRY_TAG_CREATE: u64 = 11;
pub(super) const ENTRY_TAG_DROP: u64 = 12;
pub(super) const ENTRY_TAG_DROP_IF_EXISTS: u64 = 13;
pub(super) const ENTRY_TAG_DEPENDENCIES: u64 = 14;
pub(super) const ENTRY_TAG_CONTENTS: u64 = 15;
pub(super) const ENTRY_TAG_LOAD_INTO: u64 = 16;

pub(super) const CONTENTS_ROWS: u8 = 1;
pub(super) const CONTENTS_SEQUENCE_VALUE: u8 = 2;
pub(super) const CONTENTS_LARGE_OBJECTS: u8 = 3;

/// Appends the entry's record: its length, its id, its fields.
pub(super) fn put_entry(out: &mut Vec<u8>, entry: &Entry) -> Result<()> {
    let mut body = Vec::with_capacity(entry.create.len() + 256);
    put_varint(&mut body, u64::from(entry.id.0));
    // Critical throughout: an entry that is understood in part is not restored right.
    let mut put = |tag, value: &[u8]| put_field(&mut body, tag, Need::Critical, value);
    put(ENTRY_TAG_KIND, entry.kind.as_bytes());
    put(ENTRY_TAG_SECTION, &[entry.section as u8]);
    put(ENTRY_TAG_PASS, &[entry.pass as u8]);
    let mut put_option = |tag, value: &Option<BString>| {
        if let Some(value) = value {
            put(tag, value);
        }
    };
    put_option(ENTRY_TAG_SCHEMA, &entry.schema);
    put_option(ENTRY_TAG_NAME, &Some(entry.name.clone()));
    put_option(ENTRY_TAG_RELATION, &entry.relation);
    put_option(ENTRY_TAG_OWNER, &entry.owner);
    put_option(ENTRY_TAG_OWNER_TARGET, &entry.owner_target);
    put_option(ENTRY_TAG_TABLESPACE, &entry.tablespace);
    put_option(ENTRY_TAG_ACCESS_METHOD, &entry.access_method);
    let mut put_text = |tag, value: &BString| {
        if !value.is_empty() {
            put(tag, value);
        }
    };
    put_text(ENTRY_TAG_CREATE, &entry.create);
    put_text(ENTRY_TAG_DROP, &entry.drop);
    put_text(ENTRY_TAG_DROP_IF_EXISTS, &entry.drop_if_exists);
    if !entry.dependencies.is_empty() {
        let mut value = Vec::new();
        let mut last = 0;
        for dependency in &entry.dependencies {
            let step = dependency.0.checked_sub(last).filter(|step| *step > 0);
            let step = step.ok_or_else(|| {
                Error::new(format!(
                    "dependencies of entry {} are not sorted",
                    entry.id.0
                ))
            })?;
            put_varint(&mut value, u64::from(step));
            last = dependency.0;
        }
        put(ENTRY_TAG_DEPENDENCIES, &value);
    }
    if let Some(value) = contents_bytes(&entry.contents) {
        put(ENTRY_TAG_CONTENTS, &value);
    }
    if let Some(relation) = &entry.load_into {
        put(ENTRY_TAG_LOAD_INTO, relation);
    }
    if body.len() > MAX_ENTRY_LENGTH as usize {
        return Err(Error::new(format!(
            "definition of {} {} is too long for an archive",
            entry.kind, entry.name
        )));
    }
    put_bytes(out, &body);
    Ok(())
}

fn contents_bytes(contents: &Contents) -> Option<Vec<u8>> {
    let mut value = Vec::new();
    match contents {
        Contents::None => return None,
        Contents::Rows {
            relation,
            columns,
            filter,
        } => {
            value.push(CONTENTS_ROWS);
            put_bytes(&mut value, relation);
            put_varint(&mut value, columns.len() as u64);
            for column in columns {
                put_bytes(&mut value, column);
            }
            put_bytes(&mut value, filter);
        }
        Contents::SequenceValue { sequence } => {
            value.push(CONTENTS_SEQUENCE_VALUE);
            put_bytes(&mut value, sequence);
        }
        Contents::LargeObjects => value.push(CONTENTS_LARGE_OBJECTS),
    }
    Some(value)
}

/// Parses the entries of one block, or of a group of continued ones. `next` is the id that the
/// first of them must have; ids are dense.
pub(super) fn parse_entries(payload: &[u8], mut next: u32, into: &mut Vec<Entry>) -> Result<()> {
    let mut cursor = Cursor::new(payload, "entries");
    while !cursor.is_empty() {
        let entry = parse_entry(cursor.bytes()?, next)?;
        into.push(entry);
        next = next
            .checked_add(1)
            .ok_or_else(|| cursor.damaged("too many entries"))?;
    }
    Ok(())
}

fn parse_entry(record: &[u8], expected: u32) -> Result<Entry> {
    let what = format!("entry {expected}");
    let mut cursor = Cursor::new(record, &what);
    let id = cursor.varint_u32()?;
    if id != expected {
        return Err(cursor.damaged(format_args!("has number {id}")));
    }
    let mut kind = None;
    let mut section = None;
    let mut pass = None;
    let mut name = None;
    let mut entry = Entry {
        ..Entry::new(EntryId(id), "", Section::PreData)
    };
    let incomplete = cursor.damaged("a field is missing");
    cursor.fields(None, |tag, field| {
        match tag {
            ENTRY_TAG_KIND => {
                let text = std::str::from_utf8(field.take(field.remaining())?)
                    .map_err(|_| field.damaged("text is not UTF-8"))?;
                kind = Some(text.to_owned());
            }
            ENTRY_TAG_SECTION => {
                section = Some(match field.u8()? {
                    1 => Section::PreData,
                    2 => Section::Data,
                    3 => Section::PostData,
                    number => {
                        return Err(needs_newer(
                            format_args!("{what} has section {number}"),
                            None,
                        ));
                    }
                });
            }
            ENTRY_TAG_PASS => {
                pass = Some(match field.u8()? {
                    1 => Pass::Main,
                    2 => Pass::Privileges,
                    3 => Pass::Last,
                    number => {
                        return Err(needs_newer(format_args!("{what} has pass {number}"), None));
                    }
                });
            }
            ENTRY_TAG_SCHEMA => entry.schema = Some(rest(field)?),
            ENTRY_TAG_NAME => name = Some(rest(field)?),
            ENTRY_TAG_RELATION => entry.relation = Some(rest(field)?),
            ENTRY_TAG_OWNER => entry.owner = Some(rest(field)?),
            ENTRY_TAG_OWNER_TARGET => entry.owner_target = Some(rest(field)?),
            ENTRY_TAG_TABLESPACE => entry.tablespace = Some(rest(field)?),
            ENTRY_TAG_ACCESS_METHOD => entry.access_method = Some(rest(field)?),
            ENTRY_TAG_CREATE => entry.create = rest_not_empty(field)?,
            ENTRY_TAG_DROP => entry.drop = rest_not_empty(field)?,
            ENTRY_TAG_DROP_IF_EXISTS => entry.drop_if_exists = rest_not_empty(field)?,
            ENTRY_TAG_DEPENDENCIES => entry.dependencies = parse_dependencies(field)?,
            ENTRY_TAG_CONTENTS => entry.contents = parse_contents(field, &what)?,
            ENTRY_TAG_LOAD_INTO => entry.load_into = Some(rest(field)?),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let (Some(kind), Some(section), Some(pass), Some(name)) = (kind, section, pass, name) else {
        return Err(incomplete);
    };
    entry.kind = kind;
    entry.section = section;
    entry.pass = pass;
    entry.name = name;
    Ok(entry)
}

fn rest(field: &mut Cursor<'_>) -> Result<BString> {
    Ok(field.take(field.remaining())?.into())
}

/// An empty text is written by leaving the field out.
fn rest_not_empty(field: &mut Cursor<'_>) -> Result<BString> {
    if field.is_empty() {
        return Err(field.damaged("empty field"));
    }
    rest(field)
}

fn parse_dependencies(field: &mut Cursor<'_>) -> Result<Vec<EntryId>> {
    let mut dependencies = Vec::new();
    let mut last = 0u32;
    while !field.is_empty() {
        let step = field.varint_u32()?;
        last = match last.checked_add(step) {
            Some(id) if step > 0 => id,
            _ => return Err(field.damaged("bad dependency")),
        };
        dependencies.push(EntryId(last));
    }
    if dependencies.is_empty() {
        return Err(field.damaged("empty field"));
    }
    Ok(dependencies)
}

fn parse_contents(field: &mut Cursor<'_>, what: &str) -> Result<Contents> {
    Ok(match field.u8()? {
        CONTENTS_ROWS => {
            let relation = field.bytes()?.into();
            let count = field.count(1)?;
            if count > MAX_COLUMNS {
                return Err(field.damaged(format_args!("{count} columns")));
            }
            let mut columns = Vec::with_capacity(count);
            for _ in 0..count {
                columns.push(BString::from(field.bytes()?));
            }
            Contents::Rows {
                relation,
                columns,
                filter: field.bytes()?.into(),
            }
        }
        CONTENTS_SEQUENCE_VALUE => Contents::SequenceValue {
            sequence: field.bytes()?.into(),
        },
        CONTENTS_LARGE_OBJECTS => Contents::LargeObjects,
        kind => {
            return Err(needs_newer(
                format_args!("{what} has contents of kind {kind}"),
                None,
            ));
        }
    })
}

/// Every dependency must be an entry of the archive, and not the entry itself.
pub(super) fn check_dependencies(entries: &[Entry]) -> Result<(), String> {
    for entry in entries {
        let reach = entry.dependencies.last().map_or(0, |last| last.0) as usize;
        if reach > entries.len() || entry.dependencies.contains(&entry.id) {
            return Err(format!(
                "entry {} has a dependency that cannot be",
                entry.id.0
            ));
        }
    }
    Ok(())
}
