//! Reading a set at any place.

use std::collections::HashSet;
use std::io::{self, Read};
use std::sync::Arc;

use super::super::encryption::{Keys, SetKey};
use super::super::header::{Content, Header};
use super::super::random::{RandomReader, read_header, read_range};
use super::super::refusal::{damaged, is_damage, matches, truncated, wrong_key};
use super::frames::{self, SET_HEADER_MAGIC, SET_TRAILER_LENGTH, SetTrailer};
use super::{Member, SetId};
use crate::error::Result;
use crate::storage::{ReadAt, Window};

/// Whether this begins as a set does, and not as an archive.
pub fn is_set(source: &impl ReadAt) -> Result<bool> {
    let mut magic = [0; SET_HEADER_MAGIC.len()];
    if source.size()? < magic.len() as u64 {
        return Ok(false);
    }
    source.read_exact_at(0, &mut magic)?;
    Ok(magic == SET_HEADER_MAGIC)
}

/// A set whose header, index and trailer have been checked against its hash. Members are checked as
/// they are opened.
#[derive(Debug)]
pub struct SetReader<R> {
    source: Arc<R>,
    trailer: SetTrailer,
    members: Vec<Member>,
    /// What members are opened with.
    keys: Arc<Keys>,
}

impl<R: ReadAt> SetReader<R> {
    /// Without a key: encrypted members are then locked, and nameless.
    pub fn open(source: R) -> Result<SetReader<R>> {
        SetReader::open_with(source, Arc::default())
    }

    /// With the keys that its members may need.
    pub fn open_with(source: R, keys: Arc<Keys>) -> Result<SetReader<R>> {
        let size = source.size()?;
        let mut from_start = FromStart {
            source: &source,
            offset: 0,
            size,
        };
        let (id, header) = frames::read_header(&mut from_start)?;
        let place = size.checked_sub(SET_TRAILER_LENGTH as u64);
        let place = place.ok_or_else(|| truncated("it is too short for a set"))?;
        let mut bytes = [0; SET_TRAILER_LENGTH];
        source.read_exact_at(place, &mut bytes)?;
        let trailer = SetTrailer::parse(&bytes)?;
        if trailer.file_length != size || trailer.id != id {
            return Err(damaged("set trailer: it does not fit the file"));
        }
        let length = u64::from(trailer.index_length);
        let index = read_range(&source, trailer.index_offset, length)?;
        trailer.check(&header, &index)?;
        let members = frames::parse_index(&index, header.len() as u64, trailer.index_offset)?;
        if members.len() as u64 != trailer.members {
            return Err(damaged("set trailer: it does not fit the set"));
        }
        let mut set = SetReader {
            source: Arc::new(source),
            trailer,
            members,
            keys,
        };
        if set.keys.count() > 0 && set.members.iter().any(|member| member.encrypted) {
            // where the first member is damaged, which its reader will say, nothing vouches for the list
            if let Some(key) = set.unlock()? {
                frames::check_code(&header, &index, &key)?;
            }
        }
        Ok(set)
    }

    /// Reads the names in the members' headers; returns what authenticates the list of members. One
    /// whose header is damaged stays nameless.
    fn unlock(&mut self) -> Result<Option<SetKey>> {
        let mut key = None;
        let mut names = HashSet::new();
        for position in 0..self.members.len() {
            let Some(member) = self.members.get(position) else {
                break;
            };
            let window = self.window(member)?;
            let header = read_header(&window, member.length)
                .and_then(|(mut header, _)| Ok((header.unlock(&self.keys)?, header)));
            let (access, header) = match header {
                Ok(read) => read,
                Err(error) if is_damage(&error) => continue,
                Err(error) => return Err(error.context(member.label())),
            };
            if position == 0 {
                key = access.set_key();
            }
            if header.content == Content::Database && !names.insert(header.database.clone()) {
                return Err(damaged("set index: its members do not go together"));
            }
            if let Some(member) = self.members.get_mut(position) {
                member.name = header.database;
            }
        }
        Ok(key)
    }

    /// Why a member that was not found by its name may be in the set all the same.
    pub fn require_names(&self) -> Result<()> {
        let locked = self.members.iter().any(Member::is_locked);
        if locked && self.keys.count() == 0 {
            return Err(wrong_key(
                "the set is encrypted, and no key was given: the names of its databases cannot be read",
            )
            .hint("give the file of an age identity with --identity, or that of the passphrase with --passphrase-file"));
        }
        Ok(())
    }

    /// Given when the set was opened.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    pub fn id(&self) -> SetId {
        self.trailer.id
    }

    pub fn hash(&self) -> [u8; 32] {
        self.trailer.hash
    }

    pub fn file_length(&self) -> u64 {
        self.trailer.file_length
    }

    /// The globals, if the set has any, then the databases.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The bytes of one member.
    pub fn window(&self, member: &Member) -> Result<Window<Arc<R>>> {
        Window::new(Arc::clone(&self.source), member.offset, member.length)
    }

    /// One member, checked to be the one that the index has.
    pub fn open_member(&self, member: &Member) -> Result<RandomReader<Window<Arc<R>>>> {
        let opened = self
            .window(member)
            .and_then(|window| RandomReader::open_with(window, &self.keys));
        let reader = opened.map_err(|error| error.context(member.label()))?;
        let trailer = reader.trailer();
        check_member(member, self.id(), reader.header(), trailer.root_hash)?;
        Ok(reader)
    }
}

/// That an archive is the one that a set's index has.
pub(super) fn check_member(
    member: &Member,
    set: SetId,
    header: &Header,
    root_hash: [u8; 32],
) -> Result<()> {
    let is_the_same = header.set == Some(set)
        && header.id == member.id
        && header.content == member.content
        && header.is_encrypted() == member.encrypted
        && (member.is_locked() || header.database == member.name);
    if !is_the_same || !matches(root_hash, member.root_hash) {
        return Err(damaged(format_args!(
            "{} is not the archive that the set was made with",
            member.label()
        )));
    }
    Ok(())
}

/// Reads on from the beginning.
struct FromStart<'a, R> {
    source: &'a R,
    offset: u64,
    size: u64,
}

impl<R: ReadAt> Read for FromStart<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.size - self.offset).unwrap_or(usize::MAX);
        let length = buffer.len().min(left);
        self.source
            .read_exact_at(self.offset, &mut buffer[..length])
            .map_err(|error| io::Error::other(error.to_string()))?;
        self.offset += length as u64;
        Ok(length)
    }
}
