//! An archive as plain SQL for psql: the entries and passes of a restore, one after the other.
//!
//! An archive may be forged. Whoever runs the script lets its SQL act on the database; but it must
//! not make psql run a program. So the script begins with `\restrict`, under a key that no archive
//! can know; names in comments have no line breaks; and a definition that psql would take for
//! anything but whole statements, or a row that COPY would not have written, is an error.

mod contents;
mod output;
mod reading;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bstr::{BString, ByteSlice};
use rand::Rng;
use rand::distr::Alphanumeric;

pub use self::output::{COMPLETE, Output};

use self::contents::Run;
use self::output::Writer;
use self::reading::{Opened, Piece, Pieces, Source};
use super::create::{LeftOut, Place};
use super::schedule::is_data;
use super::selection::{choose, label};
use super::{Choice, Input, SETTINGS, Selection, database};
use crate::archive::{Content, Entry, EntryId, Header, Keys, Pass, Section, needed_first};
use crate::catalog::{self, Family, rows_alone};
use crate::error::{Error, Result};
use crate::postgres::ServerVersion;
use crate::postgres::settings::{refuse_unknown, refuse_unknown_encoding, set};
use crate::report::{Cancellation, Progress};
use crate::sql;

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowForm {
    Copy,
    Insert {
        /// Rows of one statement, at least 1.
        rows_each: u32,
        on_conflict_do_nothing: bool,
    },
}

#[derive(Debug, Clone)]
pub struct Options {
    /// What of a set is written.
    pub choice: Choice,
    /// What an encrypted archive is opened with.
    pub keys: Arc<Keys>,
    pub selection: Selection,
    /// -C
    pub create_database: bool,
    /// -c
    pub clean: bool,
    pub if_exists: bool,
    /// -O
    pub no_owner: bool,
    pub no_tablespaces: bool,
    pub no_table_access_method: bool,
    /// With -a: no trigger or foreign key looks at the rows.
    pub disable_triggers: bool,
    pub rows: RowForm,
    /// Letters and digits. None: drawn at random.
    pub restrict_key: Option<String>,
    /// Whether a file is flushed to disk.
    pub sync: bool,
}

#[derive(Debug)]
pub struct Report {
    pub database: BString,
    pub entries: usize,
    pub rows: u64,
    /// Length of the script.
    pub bytes: u64,
    pub warnings: Vec<String>,
}

/// Characters of a key, as many as pg_dump draws.
const KEY_LENGTH: usize = 63;

/// Writes the script. Blocks; `cancellation` ends it. An error leaves no file; standard output then
/// ends with a statement that fails.
pub fn run(
    input: &Input,
    output: &Output,
    options: &Options,
    progress: &Progress,
    cancellation: &Arc<Cancellation>,
) -> Result<Report> {
    let Opened {
        header,
        entries: all,
        rows,
    } = Opened::open(input, &options.choice, &options.keys)?;
    refuse_unknown(&header.settings)?;
    refuse_unknown_encoding(&header.encoding)?;
    let mut options = options.clone();
    options.selection.heed(&header)?;
    let options = &options;
    let (mut entries, mut warnings) = choose(&all, &options.selection, options.create_database)?;
    if options.selection.parts.no_schema {
        // a stream has the rows in the order that it has them
        if let Source::File(_) = rows {
            let order = rows_alone::order(&all, &mut entries);
            if !options.disable_triggers {
                warnings.extend(order.warnings);
            }
            entries = needed_first(entries);
        }
    } else if options.disable_triggers {
        warnings.push("--disable-triggers does nothing without -a".to_owned());
    }
    let key = match &options.restrict_key {
        Some(key) if sql::psql::is_restrict_key(key) => key.clone(),
        Some(_) => return Err(Error::usage("a restrict key has letters and digits only")),
        None => {
            let letters = rand::rng().sample_iter(Alphanumeric).take(KEY_LENGTH);
            letters.map(char::from).collect()
        }
    };
    let mut script = Script {
        header: &header,
        options,
        progress,
        cancellation,
        key,
        place: Place::default(),
        identities: tables_with_identity(&all),
        rows: 0,
        writer: Writer::create(output, Arc::clone(cancellation))?,
    };
    let outcome = script.all(&all, &entries, rows);
    let Script { writer, rows, .. } = script;
    if let Err(error) = outcome {
        writer.break_off();
        return Err(error);
    }
    Ok(Report {
        rows,
        bytes: writer.finish(options.sync)?,
        database: match header.content {
            Content::Globals => "globals".into(),
            Content::Database => header.database,
        },
        entries: entries.len(),
        warnings,
    })
}

/// Rows of these tables may need OVERRIDING SYSTEM VALUE: those that have a column GENERATED ALWAYS
/// AS IDENTITY, and their partitions; and those of which the archive does not say it.
fn tables_with_identity(entries: &[Entry]) -> HashSet<EntryId> {
    let is_always = |entry: &&Entry| {
        entry.kind == "SEQUENCE"
            && entry.create.starts_with(b"ALTER TABLE ")
            && entry
                .create
                .contains_str(" ADD GENERATED ALWAYS AS IDENTITY")
    };
    let family = Family::of(entries);
    let trees: HashSet<usize> = entries
        .iter()
        .filter(is_always)
        .flat_map(|entry| family.trees_of(entry))
        .collect();
    let tables = entries.iter().filter(|entry| entry.kind == "TABLE");
    let tables: HashSet<EntryId> = tables.map(|entry| entry.id).collect();
    entries
        .iter()
        .filter(|entry| is_data(entry))
        .filter(|entry| {
            let own = family.trees_of(entry);
            own.iter().any(|tree| trees.contains(tree))
                || !entry.dependencies.iter().any(|id| tables.contains(id))
        })
        .map(|entry| entry.id)
        .collect()
}

/// Refuses what psql would not take for whole statements.
fn refuse_flaw(text: &[u8]) -> Result<()> {
    match sql::psql::flaw(text) {
        None => Ok(()),
        Some(flaw) => Err(Error::new(format!("its SQL {flaw}")).hint(
            "psql might run something else; rdump restore does not run psql, and -L leaves an entry out",
        )),
    }
}

struct Script<'a> {
    header: &'a Header,
    options: &'a Options,
    progress: &'a Progress,
    cancellation: &'a Cancellation,
    key: String,
    place: Place,
    identities: HashSet<EntryId>,
    rows: u64,
    writer: Writer,
}

impl Script<'_> {
    fn all(&mut self, all: &[Entry], entries: &[Entry], rows: Source) -> Result<()> {
        self.head()?;
        if self.options.create_database {
            self.create_database(all)?;
        } else if self.options.clean {
            self.clean(entries)?;
        }
        self.serial(entries, |entry| {
            entry.pass == Pass::Main && entry.section != Section::PostData
        })?;
        self.contents(entries, rows)?;
        self.serial(entries, |entry| {
            entry.pass == Pass::Main && entry.section == Section::PostData
        })?;
        self.serial(entries, |entry| entry.pass == Pass::Privileges)?;
        self.serial(entries, |entry| entry.pass == Pass::Last)?;
        self.writer.put(format!("\\unrestrict {}\n\n", self.key))
    }

    fn head(&mut self) -> Result<()> {
        let taken = match jiff::Timestamp::from_microsecond(self.header.snapshot_time) {
            Ok(time) => time.to_string(),
            Err(_) => format!("{} us since 1970 UTC", self.header.snapshot_time),
        };
        let comment = |text: &[u8]| sql::psql::comment(text);
        let what = match self.header.content {
            Content::Globals => BString::from("Globals of a server"),
            Content::Database => sql!("Database {}", comment(&self.header.database)),
        };
        self.writer.put(sql!(
            "--\n-- PostgreSQL database dump, made by rdump from an archive\n--\n\n\
             \\restrict {}\n\n\
             -- {}, snapshot of {}, archive {}\n\
             -- Dumped from database version {}\n\
             -- Dumped by rdump version {}\n\n",
            self.key,
            what,
            taken,
            self.header.id.to_string(),
            comment(self.header.server_version.as_bytes()),
            comment(self.header.rdump_version.as_bytes())
        ))?;
        self.settings()
    }

    /// For every connection that the script is run on.
    fn settings(&mut self) -> Result<()> {
        let mut text = set("client_encoding", &self.header.encoding);
        let recorded = self.header.settings_of_rows();
        for (name, value) in SETTINGS.iter().copied().chain(recorded) {
            text.extend_from_slice(&set(name, value));
        }
        text.extend_from_slice(&set("client_min_messages", "warning"));
        // not every server knows it
        text.extend_from_slice(
            b"SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings \
              WHERE name = 'transaction_timeout';\n\n",
        );
        self.place = Place::default();
        self.writer.put(text)
    }

    /// Statements of an entry, which are to be read as such.
    fn statements(&mut self, text: impl AsRef<[u8]>) -> Result<()> {
        let text = text.as_ref();
        refuse_flaw(text)?;
        self.writer.put(text)?;
        match text.ends_with(b"\n") {
            true => Ok(()),
            false => self.writer.put("\n"),
        }
    }

    fn create_database(&mut self, all: &[Entry]) -> Result<()> {
        let name = sql::identifier(&self.header.database);
        let entry = database::entry(all)
            .ok_or_else(|| Error::new(format!("the archive does not say how to create {name}")))?;
        // the server keeps names of databases as they come, whatever encoding each of them has
        self.writer.put(
            "SELECT pg_catalog.set_config('client_encoding', \
             pg_catalog.current_setting('server_encoding'), false);\n\n",
        )?;
        if self.options.clean {
            let clause = match self.options.if_exists {
                true => "IF EXISTS ",
                false => "",
            };
            self.statements(sql!("DROP DATABASE {}{};\n", clause, name))?;
        }
        // which server it will run on is not known: one like that of the archive
        let major = ServerVersion(self.header.server_version_num).major();
        let no_tablespaces = self.options.no_tablespaces;
        let create = database::create_statement(self.header, entry, major, no_tablespaces);
        self.comment(entry)?;
        self.statements(sql!("{};\n", create))
            .map_err(|error| error.context(label(entry)))?;
        // psql leaves restricted mode for one line
        let connect = sql::psql::connect(&self.header.database);
        self.writer.put(sql!(
            "\n\\unrestrict {}\n{}\n\\restrict {}\n\n",
            self.key,
            connect,
            self.key
        ))?;
        self.settings()
    }

    /// Drops what the script will create, dependents first.
    fn clean(&mut self, entries: &[Entry]) -> Result<()> {
        for entry in entries.iter().rev().filter(|entry| !is_data(entry)) {
            let drop = match self.options.if_exists {
                true => &entry.drop_if_exists,
                false => &entry.drop,
            };
            if !drop.is_empty() {
                self.statements(drop)
                    .map_err(|error| error.context(label(entry)))?;
            }
        }
        self.writer.put("\n")
    }

    fn serial(&mut self, entries: &[Entry], chosen: impl Fn(&Entry) -> bool) -> Result<()> {
        for entry in entries
            .iter()
            .filter(|entry| chosen(entry) && !is_data(entry))
        {
            self.create(entry)
                .map_err(|error| error.context(label(entry)))?;
        }
        Ok(())
    }

    fn comment(&mut self, entry: &Entry) -> Result<()> {
        let comment = |text: &Option<BString>| match text {
            Some(text) if !text.is_empty() => sql::psql::comment(text),
            _ => BString::from("-"),
        };
        let owner = match self.options.no_owner {
            true => BString::from("-"),
            false => comment(&entry.owner),
        };
        self.writer.put(sql!(
            "--\n-- {}: {}; Type: {}; Schema: {}; Owner: {}\n--\n\n",
            if is_data(entry) {
                "Data for Name"
            } else {
                "Name"
            },
            sql::psql::comment(&entry.name),
            sql::psql::comment(&entry.kind),
            comment(&entry.schema),
            owner
        ))
    }

    fn create(&mut self, entry: &Entry) -> Result<()> {
        // what was made before the connection to it
        let is_made = entry.kind == "DATABASE";
        let owner = entry
            .owner
            .as_ref()
            .filter(|owner| !owner.is_empty() && !self.is_of_every_database(entry, owner));
        let hand_over = match (&entry.owner_target, owner) {
            (Some(target), Some(owner)) if !self.options.no_owner => Some(sql!(
                "ALTER {} OWNER TO {};\n",
                target,
                sql::identifier(owner)
            )),
            _ => None,
        };
        let has_text = !entry.create.is_empty() && !is_made;
        if !has_text && hand_over.is_none() {
            return Ok(());
        }
        self.cancellation.check()?;
        self.comment(entry)?;
        if has_text {
            let left_out = LeftOut {
                tablespaces: self.options.no_tablespaces,
                access_methods: self.options.no_table_access_method,
            };
            self.statements(self.place.changes(entry, left_out))?;
            self.place.changed(entry, left_out);
            let text = for_any_version(entry, ServerVersion(self.header.server_version_num));
            self.statements(text)?;
        }
        if let Some(hand_over) = hand_over {
            self.statements(hand_over)?;
        }
        self.writer.put("\n")
    }

    /// Since version 15 the schema public belongs to this role in a new database.
    fn is_of_every_database(&self, entry: &Entry, owner: &BString) -> bool {
        ServerVersion(self.header.server_version_num).at_least(15)
            && entry.kind == "SCHEMA"
            && entry.name == "public"
            && owner == "pg_database_owner"
            && entry.create.is_empty()
    }

    fn contents(&mut self, entries: &[Entry], rows: Source) -> Result<()> {
        let wanted: HashMap<EntryId, &Entry> = entries
            .iter()
            .filter(|entry| is_data(entry))
            .map(|entry| (entry.id, entry))
            .collect();
        let order: Vec<EntryId> = entries
            .iter()
            .filter(|entry| is_data(entry))
            .map(|entry| entry.id)
            .collect();
        let bytes = rows.expected_bytes(&order)?;
        self.progress.expect(order.len() as u64, bytes);
        let mut pieces = Pieces::start(rows, order)?;
        let mut open: Option<(&Entry, Run)> = None;
        while let Some(piece) = pieces.next(self.cancellation)? {
            let id = piece.segment.entry;
            if let Some((entry, run)) = open.take_if(|(entry, _)| entry.id != id) {
                self.end_contents(entry, run)
                    .map_err(|error| error.context(label(entry)))?;
            }
            let entry = *wanted
                .get(&id)
                .ok_or_else(|| Error::new(format!("entry {} was not asked for", id.0)))?;
            self.piece(entry, &mut open, &piece)
                .map_err(|error| error.context(label(entry)))?;
        }
        match open {
            Some((entry, run)) => self
                .end_contents(entry, run)
                .map_err(|error| error.context(label(entry))),
            None => Ok(()),
        }
    }

    fn piece<'e>(
        &mut self,
        entry: &'e Entry,
        open: &mut Option<(&'e Entry, Run)>,
        piece: &Piece,
    ) -> Result<()> {
        if open.is_none() {
            self.comment(entry)?;
            self.triggers(entry, "DISABLE")?;
            let overriding = self.identities.contains(&entry.id);
            let run = Run::begin(entry, self.options.rows, overriding, &mut self.writer)?;
            *open = Some((entry, run));
        }
        if let Some((_, run)) = open {
            run.add(piece, &mut self.writer)?;
        }
        let (rows, bytes) = (piece.segment.rows, piece.bytes().len() as u64);
        self.rows += rows;
        self.progress.add(rows, bytes);
        self.progress.written(self.writer.written());
        Ok(())
    }

    fn end_contents(&mut self, entry: &Entry, run: Run) -> Result<()> {
        run.end(&mut self.writer)?;
        self.progress.table_done();
        self.triggers(entry, "ENABLE")
    }

    fn triggers(&mut self, entry: &Entry, doing: &str) -> Result<()> {
        if !self.options.disable_triggers || !self.options.selection.parts.no_schema {
            return Ok(());
        }
        let crate::archive::Contents::Rows { relation, .. } = &entry.contents else {
            return Ok(());
        };
        // rows that go in through the root of their partitions come past its triggers too
        let relations = entry.load_into.iter().chain([relation]);
        let text = relations.map(|name| sql!("ALTER TABLE {} {} TRIGGER ALL;\n", name, doing));
        self.statements(sql!("{}\n", sql::join(text, "")))
    }
}

/// The definition of an entry for whatever server the script is run on: where versions need it
/// otherwise, the server chooses.
fn for_any_version(entry: &Entry, from: ServerVersion) -> BString {
    let mut texts = catalog::adaptations(entry, from);
    let (_, oldest) = texts.remove(0);
    if texts.is_empty() {
        return oldest;
    }
    let mut body = BString::from("BEGIN\n    ");
    for (since, text) in texts.into_iter().rev() {
        body.extend_from_slice(&sql!(
            "IF pg_catalog.current_setting('server_version_num')::pg_catalog.int4 >= {} THEN\n        \
             EXECUTE {};\n    ELS",
            (since * 10_000).to_string(),
            sql::literal(&text)
        ));
    }
    body.extend_from_slice(&sql!(
        "E\n        EXECUTE {};\n    END IF;\nEND",
        sql::literal(&oldest)
    ));
    sql!("DO {};\n", sql::dollar_quoted(&body))
}
