//! Reading a set, or an archive, once and from front to back.

use std::io::{self, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::super::encryption::{Keys, SetKey};
use super::super::header::Content;
use super::super::refusal::{damaged, truncated};
use super::super::stream::StreamReader;
use super::frames::{self, SET_HEADER_MAGIC, SET_INDEX_MAGIC, SET_TRAILER_LENGTH, SetTrailer};
use super::{Member, SetId};
use crate::error::{Error, Result};

/// What a stream turned out to be.
#[derive(Debug)]
pub enum Incoming<R> {
    Archive(Box<StreamReader<Shared<R>>>),
    Set(SetStreamReader<R>),
}

/// Looks at the first bytes, and reads the header.
pub fn open_stream<R: Read>(source: R) -> Result<Incoming<R>> {
    open_stream_with(source, Arc::default())
}

/// The same, with the keys that it may need.
pub fn open_stream_with<R: Read>(source: R, keys: Arc<Keys>) -> Result<Incoming<R>> {
    let source = Shared::new(source);
    let start = source.peek(SET_HEADER_MAGIC.len())?;
    if start == SET_HEADER_MAGIC {
        return Ok(Incoming::Set(SetStreamReader::open(source, keys)?));
    }
    let reader = StreamReader::open_with(source, &keys)?;
    Ok(Incoming::Archive(Box::new(reader)))
}

/// A source that the set's reader and that of a member read by turns.
#[derive(Debug)]
pub struct Shared<R>(Arc<Mutex<Source<R>>>);

#[derive(Debug)]
struct Source<R> {
    inner: R,
    /// Looked at and not yet read.
    ahead: Vec<u8>,
    offset: u64,
}

impl<R> Clone for Shared<R> {
    fn clone(&self) -> Shared<R> {
        Shared(Arc::clone(&self.0))
    }
}

impl<R: Read> Shared<R> {
    fn new(inner: R) -> Shared<R> {
        Shared(Arc::new(Mutex::new(Source {
            inner,
            ahead: Vec::new(),
            offset: 0,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Source<R>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn offset(&self) -> u64 {
        self.lock().offset
    }

    /// What comes next, or less where the input ends.
    fn peek(&self, length: usize) -> Result<Vec<u8>> {
        let mut source = self.lock();
        let Source { inner, ahead, .. } = &mut *source;
        let missing = length.saturating_sub(ahead.len()) as u64;
        inner.by_ref().take(missing).read_to_end(ahead)?;
        Ok(ahead.clone())
    }
}

impl<R: Read> Read for Shared<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut source = self.lock();
        let length = if source.ahead.is_empty() {
            source.inner.read(buffer)?
        } else {
            let length = source.ahead.len().min(buffer.len());
            let rest = source.ahead.split_off(length);
            buffer[..length].copy_from_slice(&source.ahead);
            source.ahead = rest;
            length
        };
        source.offset += length as u64;
        Ok(length)
    }
}

/// The members of a set, one after the other. Whether the set is whole is known once there are no
/// more.
#[derive(Debug)]
pub struct SetStreamReader<R> {
    source: Shared<R>,
    id: SetId,
    header: Vec<u8>,
    members: Vec<Member>,
    keys: Arc<Keys>,
    /// That of the first member, if they are encrypted.
    set_key: Option<SetKey>,
    /// Where the member that is being read began.
    open: Option<u64>,
    finished: bool,
}

impl<R: Read> SetStreamReader<R> {
    fn open(mut source: Shared<R>, keys: Arc<Keys>) -> Result<SetStreamReader<R>> {
        let (id, header) = frames::read_header(&mut source)?;
        Ok(SetStreamReader {
            source,
            id,
            header,
            members: Vec::new(),
            keys,
            set_key: None,
            open: None,
            finished: false,
        })
    }

    pub fn id(&self) -> SetId {
        self.id
    }

    /// Those that have been read to their end.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The next member, its header read; it must be given back to `end_member`. None once index and
    /// trailer have been read and the whole set found consistent.
    pub fn next_member(&mut self) -> Result<Option<StreamReader<Shared<R>>>> {
        if self.finished {
            return Ok(None);
        }
        if self.open.is_some() {
            return Err(Error::new("a member of the set was not read to its end"));
        }
        let offset = self.source.offset();
        if self.source.peek(SET_INDEX_MAGIC.len())? == SET_INDEX_MAGIC {
            self.finish(offset)?;
            self.finished = true;
            return Ok(None);
        }
        let reader = StreamReader::open_member(self.source.clone(), &self.keys)?;
        let header = reader.header();
        if header.set != Some(self.id) {
            return Err(damaged(format_args!(
                "the archive at offset {offset} is not of this set"
            )));
        }
        let out_of_place = header.content == Content::Globals && !self.members.is_empty();
        let repeated = self
            .members
            .iter()
            .any(|member| member.name == header.database);
        // what comes of a stream is restored at once, so not only the index shall tell
        let mixed = self
            .members
            .iter()
            .any(|member| member.encrypted != header.is_encrypted());
        if out_of_place || repeated || mixed {
            return Err(damaged("its members do not go together"));
        }
        self.open = Some(offset);
        Ok(Some(reader))
    }

    /// Reads what is left of a member, and checks it.
    pub fn end_member(&mut self, mut reader: StreamReader<Shared<R>>) -> Result<()> {
        while reader.next_block()?.is_some() {}
        let (Some(offset), Some(trailer)) = (self.open.take(), reader.trailer()) else {
            return Err(Error::new("no member of the set is being read"));
        };
        let header = reader.header();
        if self.members.is_empty() {
            self.set_key = reader.set_key();
        }
        self.members.push(Member {
            content: header.content,
            encrypted: header.is_encrypted(),
            name: header.database.clone(),
            offset,
            length: trailer.file_length,
            id: trailer.id,
            root_hash: trailer.root_hash,
        });
        Ok(())
    }

    /// Reads index and trailer, `offset` being that of the index.
    fn finish(&mut self, offset: u64) -> Result<()> {
        let index = frames::read_index(&mut self.source)?;
        let mut members = frames::parse_index(&index, self.header.len() as u64, offset)?;
        if let Some(key) = &self.set_key {
            frames::check_code(&self.header, &index, key)?;
        }
        for (member, read) in members.iter_mut().zip(&self.members) {
            if member.encrypted && read.encrypted {
                member.name.clone_from(&read.name);
            }
        }
        let mut bytes = Vec::with_capacity(SET_TRAILER_LENGTH);
        self.source
            .by_ref()
            .take(SET_TRAILER_LENGTH as u64)
            .read_to_end(&mut bytes)?;
        let bytes: &[u8; SET_TRAILER_LENGTH] = bytes
            .as_slice()
            .try_into()
            .map_err(|_| truncated("it ends within the trailer of the set"))?;
        let trailer = SetTrailer::parse(bytes)?;
        trailer.check(&self.header, &index)?;
        let fits = trailer.index_offset == offset
            && trailer.members == members.len() as u64
            && trailer.file_length == self.source.offset()
            && trailer.id == self.id;
        if !fits {
            return Err(damaged("set trailer: it does not fit the set"));
        }
        if members != self.members {
            return Err(damaged("its index does not say what members the set has"));
        }
        if !self.source.peek(1)?.is_empty() {
            return Err(damaged("something follows its trailer"));
        }
        Ok(())
    }
}
