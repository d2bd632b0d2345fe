//! Header, index and trailer of a set as bytes.

use std::collections::HashSet;
use std::io::Read;

use super::super::encryption::SetKey;
use super::super::header::{
    ArchiveId, Content, HEADER_TAG_MINIMUM_READER, minimum_reader, rest_text,
};
use super::super::limits::{CODE_LENGTH, HEADER_FIXED_LENGTH, MAX_HEADER_LENGTH};
use super::super::refusal::{damaged, matches, needs_newer, not_an_archive, truncated};
use super::super::wire::{Cursor, Need, put_bytes, put_field, put_varint};
use super::{Member, SetId};
use crate::error::{Error, Result};

pub const SET_HEADER_MAGIC: [u8; 8] = *b"\x89RDSET\r\n";
pub const SET_VERSION: u16 = 0;
/// The same in the header of an archive, so that one function finds it in both.
pub const SET_TAG_MINIMUM_READER: u64 = HEADER_TAG_MINIMUM_READER;
pub const SET_TAG_RDUMP_VERSION: u64 = 2;
pub const SET_INDEX_MAGIC: [u8; 8] = *b"\x89RDSIX\r\n";
pub const MAX_SET_INDEX_LENGTH: u32 = 16 << 20;
pub const SET_TAG_MEMBERS: u64 = 1;
/// Above all others, as it is over what stands before it.
pub const SET_TAG_CODE: u64 = 127;
/// Bit of a member's content.
pub const MEMBER_ENCRYPTED: u8 = 128;
pub const SET_TRAILER_LENGTH: usize = 104;
pub const SET_TRAILER_MAGIC: [u8; 8] = *b"rdsetEND";
pub const SET_TRAILER_END_MAGIC: [u8; 8] = *b"\x89RDSEN\r\n";

/// Context of the hash over a whole set.
const HASH_CONTEXT: &str = "rdump set hash, version 0";
/// The oldest rdump that reads what this one writes.
const MINIMUM_READER: &str = "0.1.0";
/// Magic and length before the index's fields.
const INDEX_FIXED_LENGTH: usize = 12;
/// Content, length of the name, offset, length, archive id, root hash.
const LEAST_MEMBER: usize = 1 + 1 + 1 + 1 + 16 + 32;

/// The header of a new set.
pub fn header(id: SetId) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    out.extend_from_slice(&SET_HEADER_MAGIC);
    out.extend_from_slice(&SET_VERSION.to_le_bytes());
    out.extend_from_slice(&[0; 2 + 4 + 4 + 4]);
    out.extend_from_slice(&id.0);
    for (tag, value) in [
        (SET_TAG_MINIMUM_READER, MINIMUM_READER),
        (SET_TAG_RDUMP_VERSION, env!("CARGO_PKG_VERSION")),
    ] {
        put_field(&mut out, tag, Need::Optional, value.as_bytes());
    }
    let length = out.len() as u32 + 4;
    out[12..16].copy_from_slice(&length.to_le_bytes());
    with_checksum(out)
}

fn with_checksum(mut out: Vec<u8>) -> Vec<u8> {
    let crc = crc32fast::hash(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

/// What stands before the checksum.
fn checked<'a>(bytes: &'a [u8], what: &str) -> Result<&'a [u8]> {
    let (body, crc) = bytes
        .split_last_chunk::<4>()
        .ok_or_else(|| truncated(format_args!("it ends within its {what}")))?;
    if !matches(crc32fast::hash(body), u32::from_le_bytes(*crc)) {
        return Err(damaged(format_args!("{what}: checksum does not match")));
    }
    Ok(body)
}

/// Reads as many bytes as there must be; what is missing shows when they are parsed.
fn read_up_to(source: &mut impl Read, bytes: &mut Vec<u8>, length: usize) -> Result<()> {
    let missing = length.saturating_sub(bytes.len()) as u64;
    source.by_ref().take(missing).read_to_end(bytes)?;
    Ok(())
}

/// Reads and checks a header; returns the set's id, and the bytes.
pub fn read_header(source: &mut impl Read) -> Result<(SetId, Vec<u8>)> {
    let mut bytes = Vec::with_capacity(HEADER_FIXED_LENGTH);
    read_up_to(source, &mut bytes, HEADER_FIXED_LENGTH)?;
    if !bytes.starts_with(&SET_HEADER_MAGIC) {
        return Err(not_an_archive(&bytes));
    }
    if bytes.len() < HEADER_FIXED_LENGTH {
        return Err(truncated("it ends within its set header"));
    }
    let length = Cursor::new(&bytes[12..], "set header").u32()?;
    if length > MAX_HEADER_LENGTH || (length as usize) < HEADER_FIXED_LENGTH + 4 {
        return Err(damaged(format_args!(
            "set header: length {length} is out of range"
        )));
    }
    read_up_to(source, &mut bytes, length as usize)?;
    if bytes.len() < length as usize {
        return Err(truncated("it ends within its set header"));
    }
    Ok((parse_header(checked(&bytes, "set header")?)?, bytes))
}

fn parse_header(body: &[u8]) -> Result<SetId> {
    let mut cursor = Cursor::new(body, "set header");
    cursor.take(SET_HEADER_MAGIC.len())?;
    let version = cursor.u16()?;
    let reserved = cursor.u16()?;
    cursor.u32()?;
    let critical_flags = cursor.u32()?;
    cursor.u32()?;
    let id = SetId(cursor.array()?);
    let minimum = minimum_reader(cursor.clone());
    let minimum = minimum.as_deref();
    if version != SET_VERSION || critical_flags != 0 {
        let what = format!("its set has version {version} and flags {critical_flags:#x}");
        return Err(needs_newer(what, minimum));
    }
    if reserved != 0 {
        return Err(cursor.damaged("reserved bytes are not zero"));
    }
    cursor.fields(minimum, |tag, field| {
        if !matches!(tag, SET_TAG_MINIMUM_READER | SET_TAG_RDUMP_VERSION) {
            return Ok(false);
        }
        rest_text(field).map(|_| true)
    })?;
    Ok(id)
}

/// Of encrypted members the names are left out, which stand sealed in their headers, and `key`
/// authenticates the list.
pub fn index(header: &[u8], members: &[Member], key: Option<&SetKey>) -> Result<Vec<u8>> {
    let mut value = Vec::new();
    put_varint(&mut value, members.len() as u64);
    for member in members {
        let (mark, name) = match member.encrypted {
            true => (MEMBER_ENCRYPTED, &[][..]),
            false => (0, member.name.as_slice()),
        };
        value.push(member.content.number() | mark);
        put_bytes(&mut value, name);
        put_varint(&mut value, member.offset);
        put_varint(&mut value, member.length);
        value.extend_from_slice(&member.id.0);
        value.extend_from_slice(&member.root_hash);
    }
    let mut out = Vec::with_capacity(value.len() + 32);
    out.extend_from_slice(&SET_INDEX_MAGIC);
    out.extend_from_slice(&[0; 4]);
    put_field(&mut out, SET_TAG_MEMBERS, Need::Critical, &value);
    let code_length = match key {
        Some(_) => {
            put_field(&mut out, SET_TAG_CODE, Need::Critical, &[0; CODE_LENGTH]);
            CODE_LENGTH
        }
        None => 0,
    };
    let length = u32::try_from(out.len() + 4)
        .ok()
        .filter(|length| *length <= MAX_SET_INDEX_LENGTH)
        .ok_or_else(|| Error::new("too many databases for one set"))?;
    out[8..12].copy_from_slice(&length.to_le_bytes());
    if let Some(key) = key {
        out.truncate(out.len() - code_length);
        let code = key.authenticate(header, &out);
        out.extend_from_slice(&code);
    }
    Ok(with_checksum(out))
}

/// That the index is the one that was written with the members.
pub fn check_code(header: &[u8], index: &[u8], key: &SetKey) -> Result<()> {
    let code = index.len().checked_sub(CODE_LENGTH + 4);
    let parts = code.and_then(|at| index.get(..at).zip(index.get(at..at + CODE_LENGTH)));
    let (before, code) = parts.ok_or_else(|| truncated("it ends within its set index"))?;
    key.check(header, before, code)
}

/// The index of a stream, from its magic on. Its bytes are parsed with `parse_index`.
pub fn read_index(source: &mut impl Read) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(INDEX_FIXED_LENGTH);
    read_up_to(source, &mut bytes, INDEX_FIXED_LENGTH)?;
    let length = index_length(&bytes)?;
    read_up_to(source, &mut bytes, length)?;
    Ok(bytes)
}

/// Of the whole index, as it says itself.
fn index_length(bytes: &[u8]) -> Result<usize> {
    let mut cursor = Cursor::new(bytes, "set index");
    if bytes.len() < INDEX_FIXED_LENGTH {
        return Err(truncated("it ends within its set index"));
    }
    if cursor.array::<8>()? != SET_INDEX_MAGIC {
        return Err(damaged("set index: it is not where it must be"));
    }
    let length = cursor.u32()?;
    if length > MAX_SET_INDEX_LENGTH || (length as usize) < INDEX_FIXED_LENGTH + 4 {
        return Err(damaged(format_args!(
            "set index: length {length} is out of range"
        )));
    }
    Ok(length as usize)
}

/// Parses exactly one index, whose members must lie end to end from `start` to `end`.
pub fn parse_index(bytes: &[u8], start: u64, end: u64) -> Result<Vec<Member>> {
    let length = index_length(bytes)?;
    if bytes.len() < length {
        return Err(truncated("it ends within its set index"));
    }
    let body = checked(bytes, "set index")?;
    let mut cursor = Cursor::new(body, "set index");
    cursor.take(INDEX_FIXED_LENGTH)?;
    let mut members = Vec::new();
    let mut code: Option<[u8; CODE_LENGTH]> = None;
    cursor.fields(None, |tag, field| {
        match tag {
            SET_TAG_MEMBERS => {}
            SET_TAG_CODE => {
                code = Some(field.array()?);
                return Ok(true);
            }
            _ => return Ok(false),
        }
        let count = field.count(LEAST_MEMBER)?;
        members.reserve_exact(count);
        for _ in 0..count {
            let content = field.u8()?;
            members.push(Member {
                content: Content::from_number(content & !MEMBER_ENCRYPTED, None)?,
                encrypted: content & MEMBER_ENCRYPTED != 0,
                name: field.bytes()?.into(),
                offset: field.varint()?,
                length: field.varint()?,
                id: ArchiveId(field.array()?),
                root_hash: field.array()?,
            });
        }
        Ok(true)
    })?;
    if bytes.len() != length {
        return Err(damaged("set index: length does not match"));
    }
    let coded = code.is_some_and(|code| body.ends_with(&code));
    if code.is_some() != coded || members.iter().any(|member| member.encrypted != coded) {
        return Err(damaged(
            "set index: it has an authentication code if, and only if, its members are encrypted",
        ));
    }
    check_members(&members, start, end)?;
    Ok(members)
}

/// Members lie end to end, the globals first, and no two databases have the same name.
fn check_members(members: &[Member], start: u64, end: u64) -> Result<()> {
    let mut at = start;
    let mut names = HashSet::new();
    for (position, member) in members.iter().enumerate() {
        let globals = member.content == Content::Globals;
        let named = match member.encrypted {
            // in its header only
            true => member.name.is_empty(),
            false => globals == member.name.is_empty() && names.insert(&member.name),
        };
        if (globals && position > 0) || !named {
            return Err(damaged("set index: its members do not go together"));
        }
        at = match at.checked_add(member.length) {
            Some(next) if member.offset == at => next,
            _ => return Err(damaged("set index: its members do not lie end to end")),
        };
    }
    if members.is_empty() || at != end {
        return Err(damaged("set index: it does not fit the set"));
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetTrailer {
    pub header_length: u32,
    pub index_length: u32,
    pub index_offset: u64,
    pub members: u64,
    pub file_length: u64,
    pub id: SetId,
    pub hash: [u8; 32],
}

impl SetTrailer {
    fn start(&self) -> [u8; 56] {
        let mut out = [0; 56];
        out[0..8].copy_from_slice(&SET_TRAILER_MAGIC);
        out[8..12].copy_from_slice(&self.header_length.to_le_bytes());
        out[12..16].copy_from_slice(&self.index_length.to_le_bytes());
        out[16..24].copy_from_slice(&self.index_offset.to_le_bytes());
        out[24..32].copy_from_slice(&self.members.to_le_bytes());
        out[32..40].copy_from_slice(&self.file_length.to_le_bytes());
        out[40..56].copy_from_slice(&self.id.0);
        out
    }

    /// With the hash that it must bear.
    pub fn sealed(mut self, header: &[u8], index: &[u8]) -> SetTrailer {
        let mut hasher = blake3::Hasher::new_derive_key(HASH_CONTEXT);
        hasher.update(header).update(index).update(&self.start());
        self.hash = *hasher.finalize().as_bytes();
        self
    }

    pub fn serialise(&self) -> [u8; SET_TRAILER_LENGTH] {
        let mut out = [0; SET_TRAILER_LENGTH];
        out[..56].copy_from_slice(&self.start());
        out[56..88].copy_from_slice(&self.hash);
        // 88..92: reserved.
        let crc = crc32fast::hash(&out[..92]);
        out[92..96].copy_from_slice(&crc.to_le_bytes());
        out[96..].copy_from_slice(&SET_TRAILER_END_MAGIC);
        out
    }

    pub fn parse(bytes: &[u8; SET_TRAILER_LENGTH]) -> Result<SetTrailer> {
        let mut cursor = Cursor::new(bytes, "set trailer");
        let magic = cursor.array::<8>()?;
        let trailer = SetTrailer {
            header_length: cursor.u32()?,
            index_length: cursor.u32()?,
            index_offset: cursor.u64()?,
            members: cursor.u64()?,
            file_length: cursor.u64()?,
            id: SetId(cursor.array()?),
            hash: cursor.array()?,
        };
        let reserved = cursor.u32()?;
        let crc = cursor.u32()?;
        let end_magic = cursor.array::<8>()?;
        if magic != SET_TRAILER_MAGIC && end_magic != SET_TRAILER_END_MAGIC {
            return Err(truncated("it does not end with the trailer of a set"));
        }
        if magic != SET_TRAILER_MAGIC || end_magic != SET_TRAILER_END_MAGIC {
            return Err(damaged("set trailer: it does not begin and end as it must"));
        }
        if !matches(crc, crc32fast::hash(&bytes[..92])) {
            return Err(damaged("set trailer: checksum does not match"));
        }
        if reserved != 0 {
            return Err(damaged("set trailer: reserved bytes are not zero"));
        }
        let end = trailer
            .index_offset
            .checked_add(u64::from(trailer.index_length))
            .and_then(|end| end.checked_add(SET_TRAILER_LENGTH as u64));
        if end != Some(trailer.file_length)
            || trailer.index_length > MAX_SET_INDEX_LENGTH
            || trailer.index_offset < u64::from(trailer.header_length)
        {
            return Err(damaged("set trailer: lengths do not fit each other"));
        }
        Ok(trailer)
    }

    /// That it is the trailer of this header and index.
    pub fn check(&self, header: &[u8], index: &[u8]) -> Result<()> {
        if self.header_length as usize != header.len() || self.index_length as usize != index.len()
        {
            return Err(damaged("set trailer: it does not fit the set"));
        }
        if !matches(self.sealed(header, index).hash, self.hash) {
            return Err(damaged("set hash does not match"));
        }
        Ok(())
    }
}

/// What the specification must say.
#[cfg(test)]
pub fn specified() -> (Vec<(&'static str, String)>, String) {
    let hex = |bytes: &[u8]| {
        let words: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        words.join(" ")
    };
    let constants = vec![
        ("SET_HEADER_MAGIC", hex(&SET_HEADER_MAGIC)),
        ("SET_VERSION", SET_VERSION.to_string()),
        ("SET_TAG_MINIMUM_READER", SET_TAG_MINIMUM_READER.to_string()),
        ("SET_TAG_RDUMP_VERSION", SET_TAG_RDUMP_VERSION.to_string()),
        ("SET_INDEX_MAGIC", hex(&SET_INDEX_MAGIC)),
        ("MAX_SET_INDEX_LENGTH", MAX_SET_INDEX_LENGTH.to_string()),
        ("SET_TAG_MEMBERS", SET_TAG_MEMBERS.to_string()),
        ("SET_TAG_CODE", SET_TAG_CODE.to_string()),
        ("MEMBER_ENCRYPTED", MEMBER_ENCRYPTED.to_string()),
        ("SET_TRAILER_LENGTH", SET_TRAILER_LENGTH.to_string()),
        ("SET_TRAILER_MAGIC", hex(&SET_TRAILER_MAGIC)),
        ("SET_TRAILER_END_MAGIC", hex(&SET_TRAILER_END_MAGIC)),
    ];
    (constants, HASH_CONTEXT.to_owned())
}
