//! What is restored: an archive, or a set of them; out of a file or as it comes.

use std::path::PathBuf;
use std::sync::Arc;

use bstr::BString;

use super::source::FileSource;
use super::stream::{self, Arriving, ArrivingSet};
use crate::archive::{Content, Entry, Header, Keys, Member, RandomReader, SetReader, is_set};
use crate::error::{Error, Result};
use crate::storage::{LocalFile, ReadAt, Volumes, Window};

/// Where the archive comes from.
#[derive(Debug, Clone)]
pub enum Input {
    File(PathBuf),
    /// Of a repository.
    Volumes(Arc<Volumes>),
    Stdin,
}

/// What is read at any place.
#[derive(Debug)]
pub enum Stored {
    File(LocalFile),
    Volumes(Arc<Volumes>),
}

impl Stored {
    pub fn open(input: Input) -> Result<Stored> {
        match input {
            Input::File(path) => Ok(Stored::File(LocalFile::open(path)?)),
            Input::Volumes(volumes) => Ok(Stored::Volumes(volumes)),
            Input::Stdin => Err(Error::usage("a stream can be read only once")),
        }
    }
}

impl ReadAt for Stored {
    fn size(&self) -> Result<u64> {
        match self {
            Stored::File(file) => file.size(),
            Stored::Volumes(volumes) => volumes.size(),
        }
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        match self {
            Stored::File(file) => file.read_exact_at(offset, buffer),
            Stored::Volumes(volumes) => volumes.read_exact_at(offset, buffer),
        }
    }
}

/// What of a set is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Choice {
    #[default]
    All,
    Globals,
    Database(BString),
}

/// An archive that is read at any place: all of it, or a member of a set.
pub type ArchiveFile = Window<Arc<Stored>>;

/// What is read at any place, and holds one archive or several.
pub enum Holding {
    Archive(Box<RandomReader<ArchiveFile>>),
    Set(SetReader<Stored>),
}

impl Holding {
    pub fn open(input: Input, keys: &Arc<Keys>) -> Result<Holding> {
        let file = Stored::open(input)?;
        if is_set(&file)? {
            let set = SetReader::open_with(file, Arc::clone(keys))?;
            return Ok(Holding::Set(set));
        }
        let reader = RandomReader::open_with(Window::whole(Arc::new(file))?, keys)?;
        Ok(Holding::Archive(Box::new(reader)))
    }

    /// With a choice, the member chosen; without, what it is.
    pub fn choose(self, choice: &Choice) -> Result<Holding> {
        match (self, choice) {
            (holding, Choice::All) => Ok(holding),
            (Holding::Set(set), choice) => {
                let member = set.members().iter().find(|m| choice.is(m.content, &m.name));
                let member = match member {
                    Some(member) => member,
                    None => {
                        set.require_names()?;
                        return Err(choice.missing());
                    }
                };
                Ok(Holding::Archive(Box::new(set.open_member(member)?)))
            }
            (Holding::Archive(reader), choice) => {
                choice.refuse_archive(reader.header().content)?;
                Ok(Holding::Archive(reader))
            }
        }
    }
}

fn not_a_set() -> Error {
    Error::usage("this is one archive, not a set: there is no member to choose")
}

impl Choice {
    pub fn is(&self, content: Content, name: &BString) -> bool {
        match self {
            Choice::All => true,
            Choice::Globals => content == Content::Globals,
            Choice::Database(wanted) => content == Content::Database && wanted == name,
        }
    }

    /// Of one archive nothing can be chosen, but globals of globals.
    pub fn refuse_archive(&self, content: Content) -> Result<()> {
        match self {
            Choice::All => Ok(()),
            Choice::Globals if content == Content::Globals => Ok(()),
            _ => Err(not_a_set()),
        }
    }

    pub fn missing(&self) -> Error {
        let what = match self {
            Choice::Database(name) => format!("database {}", crate::sql::identifier(name)),
            _ => "globals".to_owned(),
        };
        Error::new(format!("the set has no {what}")).hint("rdump show lists its members")
    }
}

/// The archive, with what is known before its rows are read.
pub struct Opened {
    pub header: Header,
    pub entries: Vec<Entry>,
    pub rows: Contents,
}

pub enum Contents {
    File(Arc<FileSource>),
    Stream(Arriving),
}

/// What the input turned out to be.
// a run has one
#[allow(clippy::large_enum_variant)]
pub enum Source {
    Archive(Opened),
    Set(SetSource),
}

/// The members of a set, to be opened one after the other.
pub enum SetSource {
    File {
        set: Arc<SetReader<Stored>>,
        next: usize,
    },
    Stream(ArrivingSet),
}

pub async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(read)
        .await
        .map_err(|error| Error::new(format!("reading the archive broke off: {error}")))?
}

impl Source {
    pub async fn open(input: Input, choice: &Choice, keys: &Arc<Keys>) -> Result<Source> {
        let (choice, keys) = (choice.clone(), Arc::clone(keys));
        match input {
            Input::Stdin => match stream::open_stdin(keys).await? {
                stream::Opening::Archive(opened) => {
                    choice.refuse_archive(opened.header.content)?;
                    Ok(Source::Archive(opened))
                }
                stream::Opening::Set(set) => Ok(Source::Set(SetSource::Stream(set))),
            },
            stored => {
                blocking(
                    move || match Holding::open(stored, &keys)?.choose(&choice)? {
                        Holding::Archive(reader) => Ok(Source::Archive(Opened::of_file(*reader)?)),
                        Holding::Set(set) => {
                            set.require_names()?;
                            Ok(Source::Set(SetSource::File {
                                set: Arc::new(set),
                                next: 0,
                            }))
                        }
                    },
                )
                .await
            }
        }
    }
}

impl Opened {
    fn of_file(reader: RandomReader<ArchiveFile>) -> Result<Opened> {
        Ok(Opened {
            header: reader.header().clone(),
            entries: reader.entries()?,
            rows: Contents::File(Arc::new(FileSource::new(reader))),
        })
    }
}

impl SetSource {
    /// The next member. What was not read of the one before is passed over.
    pub async fn next(&mut self) -> Result<Option<(String, Result<Opened>)>> {
        match self {
            SetSource::File { set, next } => {
                let Some(member) = set.members().get(*next).cloned() else {
                    return Ok(None);
                };
                *next += 1;
                let (set, label) = (Arc::clone(set), member.label());
                let opened = blocking(move || Opened::of_file(set.open_member(&member)?)).await;
                Ok(Some((label, opened)))
            }
            SetSource::Stream(set) => {
                let Some(opened) = set.next().await? else {
                    return Ok(None);
                };
                let label = label(&opened.header);
                Ok(Some((label, Ok(opened))))
            }
        }
    }

    /// What was not opened yet, as messages call it. None: a stream, which does not say beforehand.
    pub fn left(&self) -> Option<Vec<String>> {
        match self {
            SetSource::File { set, next } => {
                let left = set.members().iter().skip(*next);
                Some(left.map(Member::label).collect())
            }
            SetSource::Stream(_) => None,
        }
    }
}

/// What messages call an archive: "globals", "database shop".
pub fn label(header: &Header) -> String {
    match header.content {
        Content::Globals => "globals".to_owned(),
        Content::Database => format!("database {}", crate::sql::identifier(&header.database)),
    }
}
