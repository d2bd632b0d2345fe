//! Writes what stands around the members of a set.

use std::io::Write;

use super::super::encryption::SetKey;
use super::super::header::Header;
use super::super::writer::ArchiveSummary;
use super::frames::{self, SET_TRAILER_LENGTH, SetTrailer};
use super::random::SetReader;
use super::{Member, SetId};
use crate::error::{Error, Result};
use crate::storage::{ReadAt, write_error};

/// Writes a set from front to back, by turns with the `ArchiveWriter` of each member, which writes
/// to the same place.
#[derive(Debug)]
pub struct SetWriter {
    id: SetId,
    header: Vec<u8>,
    members: Vec<Member>,
    /// That of the first member, if they are encrypted.
    key: Option<SetKey>,
    /// Bytes written, those of members among them.
    offset: u64,
}

/// What `finish` wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetSummary {
    pub id: SetId,
    pub members: Vec<Member>,
    pub file_length: u64,
    pub hash: [u8; 32],
}

impl SetSummary {
    /// Opens what was written, each member too, and sees that it is this set. Needs no key.
    pub fn check(&self, source: impl ReadAt) -> Result<()> {
        let reader = SetReader::open(source)?;
        if reader.hash() != self.hash {
            return Err(Error::new("the file does not hold what was written"));
        }
        for member in reader.members() {
            reader.open_member(member)?;
        }
        Ok(())
    }
}

impl SetWriter {
    /// Writes the header.
    pub fn begin(sink: &mut impl Write, id: SetId) -> Result<SetWriter> {
        let header = frames::header(id);
        sink.write_all(&header).map_err(write_error)?;
        Ok(SetWriter {
            id,
            offset: header.len() as u64,
            header,
            members: Vec::new(),
            key: None,
        })
    }

    pub fn id(&self) -> SetId {
        self.id
    }

    /// Notes an archive that was written whole, right behind what was there. Its header must name
    /// this set.
    pub fn add(&mut self, header: &Header, summary: &ArchiveSummary) -> Result<()> {
        if header.set != Some(self.id) || header.id != summary.id {
            return Err(Error::new("an archive that is not of the set was written"));
        }
        if self.members.is_empty() {
            self.key.clone_from(&summary.set_key);
        } else if self.key.is_some() != summary.is_encrypted() {
            return Err(Error::new("of a set all members are encrypted, or none is"));
        }
        self.members.push(Member {
            content: header.content,
            encrypted: summary.is_encrypted(),
            name: header.database.clone(),
            offset: self.offset,
            length: summary.file_length,
            id: summary.id,
            root_hash: summary.root_hash,
        });
        self.offset += summary.file_length;
        Ok(())
    }

    /// Writes index and trailer and flushes.
    pub fn finish(self, sink: &mut impl Write) -> Result<SetSummary> {
        let index = frames::index(&self.header, &self.members, self.key.as_ref())?;
        // a set that no reader would take must not look like one
        frames::parse_index(&index, self.header.len() as u64, self.offset)?;
        let file_length = self.offset + index.len() as u64 + SET_TRAILER_LENGTH as u64;
        let trailer = SetTrailer {
            header_length: self.header.len() as u32,
            index_length: index.len() as u32,
            index_offset: self.offset,
            members: self.members.len() as u64,
            file_length,
            id: self.id,
            hash: [0; 32],
        }
        .sealed(&self.header, &index);
        sink.write_all(&index)
            .and_then(|()| sink.write_all(&trailer.serialise()))
            .and_then(|()| sink.flush())
            .map_err(write_error)?;
        Ok(SetSummary {
            id: self.id,
            members: self.members,
            file_length,
            hash: trailer.hash,
        })
    }
}
