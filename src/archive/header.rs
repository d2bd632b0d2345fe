//! The header: what the archive is and where it came from.

mod sealed;

use std::fmt;
use std::io::Read;

use bstr::BString;

use super::limits::*;
use super::refusal::{damaged, matches, needs_newer, not_an_archive, truncated};
use super::set::SetId;
use super::wire::{Cursor, Need, UnknownField, put_bytes, put_field};
use crate::error::Result;

pub use sealed::SealedFields;
#[cfg(test)]
pub(super) use sealed::{
    HEADER_TAG_ENVELOPE_PASSPHRASE, HEADER_TAG_ENVELOPE_RECIPIENTS, HEADER_TAG_SEALED,
};

/// Drawn at random for each archive. Mixed into every block's checksum, so that a block of another
/// archive does not pass.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ArchiveId(pub [u8; 16]);

impl ArchiveId {
    pub fn random() -> ArchiveId {
        ArchiveId(rand::random())
    }
}

impl fmt::Display for ArchiveId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ArchiveId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ArchiveId({self})")
    }
}

/// The oldest rdump that reads what this one writes.
const MINIMUM_READER: &str = "0.1.0";

pub(super) const HEADER_TAG_MINIMUM_READER: u64 = 1;
pub(super) const HEADER_TAG_RDUMP_VERSION: u64 = 2;
pub(super) const HEADER_TAG_CODEC: u64 = 3;
pub(super) const HEADER_TAG_DATABASE: u64 = 4;
pub(super) const HEADER_TAG_SERVER_VERSION_NUM: u64 = 5;
pub(super) const HEADER_TAG_SERVER_VERSION: u64 = 6;
pub(super) const HEADER_TAG_ENCODING: u64 = 7;
pub(super) const HEADER_TAG_SNAPSHOT_TIME: u64 = 8;
pub(super) const HEADER_TAG_STANDARD_CONFORMING_STRINGS: u64 = 9;
pub(super) const HEADER_TAG_SETTINGS: u64 = 10;
pub(super) const HEADER_TAG_FILTERS: u64 = 11;
pub(super) const HEADER_TAG_SET: u64 = 20;
pub(super) const HEADER_TAG_CONTENT: u64 = 21;
pub(super) const CONTENT_DATABASE: u8 = 0;
pub(super) const CONTENT_GLOBALS: u8 = 1;

/// What an archive is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Content {
    /// What belongs to the whole server: roles, tablespaces.
    Globals,
    #[default]
    Database,
}

impl Content {
    pub(super) fn number(self) -> u8 {
        match self {
            Content::Database => CONTENT_DATABASE,
            Content::Globals => CONTENT_GLOBALS,
        }
    }

    pub(super) fn from_number(number: u8, minimum: Option<&str>) -> Result<Content> {
        match number {
            CONTENT_DATABASE => Ok(Content::Database),
            CONTENT_GLOBALS => Ok(Content::Globals),
            _ => Err(needs_newer(
                format_args!("it has contents of kind {number}"),
                minimum,
            )),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    pub id: ArchiveId,
    /// Bits that a reader must know to read on.
    pub critical_flags: u32,
    /// Bits that a reader may ignore: what the snapshot was told to leave out.
    pub optional_flags: u32,
    /// The oldest rdump that reads this archive.
    pub minimum_reader: String,
    /// The rdump that wrote it.
    pub rdump_version: String,
    /// The compression asked for, as `-Z` takes it. Each block names its own.
    pub codec: String,
    pub database: BString,
    /// `server_version_num`: 180006.
    pub server_version_num: u32,
    /// `server_version`: "18.6 (Debian 18.6-1)".
    pub server_version: String,
    /// `server_encoding`, which names, definitions and rows are in.
    pub encoding: String,
    /// When the snapshot was taken, by the server's clock, in microseconds since 1970 UTC.
    pub snapshot_time: i64,
    /// The setting under which definitions and literals were written.
    pub standard_conforming_strings: bool,
    /// Session settings that shape row text (DateStyle and the like): needed to read a target in
    /// the same form when its rows are compared with the fingerprints.
    pub settings: Vec<(String, String)>,
    /// What the archive was made to hold, as flags of `rdump snapshot` with their values: needed to
    /// compare a database with it. Empty: everything.
    pub filters: Vec<(String, BString)>,
    /// The set that it is a member of.
    pub set: Option<SetId>,
    pub content: Content,
    /// Of an encrypted archive that was read: what opens it. A writer makes its own.
    pub sealed: Option<Box<SealedFields>>,
    /// Optional fields of a later version.
    pub unknown: Vec<UnknownField>,
}

/// The setting that shapes definitions alone.
const QUOTING: &str = "quote_all_identifiers";

impl Header {
    /// Whether definitions have every name in quotes, and are compared with such.
    pub fn quotes_all(&self) -> bool {
        let is_it = |(name, value): &(String, String)| name == QUOTING && value == "on";
        self.settings.iter().any(is_it)
    }

    /// The settings under which the archive's rows are read.
    pub fn settings_of_rows(&self) -> impl Iterator<Item = (&str, &str)> {
        let settings = self.settings.iter();
        let settings = settings.map(|(name, value)| (name.as_str(), value.as_str()));
        settings.filter(|(name, _)| *name != QUOTING)
    }

    /// A header of this version, to be filled in.
    pub fn new(id: ArchiveId) -> Header {
        Header {
            id,
            critical_flags: 0,
            optional_flags: 0,
            minimum_reader: MINIMUM_READER.to_owned(),
            rdump_version: env!("CARGO_PKG_VERSION").to_owned(),
            codec: String::new(),
            database: BString::default(),
            server_version_num: 0,
            server_version: String::new(),
            encoding: String::new(),
            snapshot_time: 0,
            standard_conforming_strings: true,
            settings: Vec::new(),
            filters: Vec::new(),
            set: None,
            content: Content::Database,
            sealed: None,
            unknown: Vec::new(),
        }
    }

    pub fn is_encrypted(&self) -> bool {
        self.critical_flags & HEADER_FLAG_ENCRYPTED != 0
    }

    /// Whether rows, values of sequences and large objects were left out.
    pub fn is_without_data(&self) -> bool {
        self.optional_flags & HEADER_FLAG_WITHOUT_DATA != 0
    }

    pub fn is_without_large_objects(&self) -> bool {
        self.optional_flags & (HEADER_FLAG_WITHOUT_DATA | HEADER_FLAG_WITHOUT_LARGE_OBJECTS) != 0
    }

    pub fn is_without_passwords(&self) -> bool {
        self.optional_flags & HEADER_FLAG_WITHOUT_PASSWORDS != 0
    }

    /// Of an archive that is not encrypted.
    pub fn serialise(&self) -> Result<Vec<u8>> {
        let fields = self.fields();
        let critical_flags = self.critical_flags & !HEADER_FLAG_ENCRYPTED;
        with_checksum(self.start(critical_flags, &fields))
    }

    /// In ascending order of tags.
    fn fields(&self) -> Vec<(u64, Need, Vec<u8>)> {
        let mut fields: Vec<(u64, Need, Vec<u8>)> = vec![
            (
                HEADER_TAG_MINIMUM_READER,
                Need::Optional,
                text(&self.minimum_reader),
            ),
            (
                HEADER_TAG_RDUMP_VERSION,
                Need::Optional,
                text(&self.rdump_version),
            ),
            (HEADER_TAG_CODEC, Need::Optional, text(&self.codec)),
            (HEADER_TAG_DATABASE, Need::Optional, text(&self.database)),
            (
                HEADER_TAG_SERVER_VERSION_NUM,
                Need::Optional,
                self.server_version_num.to_le_bytes().to_vec(),
            ),
            (
                HEADER_TAG_SERVER_VERSION,
                Need::Optional,
                text(&self.server_version),
            ),
            (HEADER_TAG_ENCODING, Need::Optional, text(&self.encoding)),
            (
                HEADER_TAG_SNAPSHOT_TIME,
                Need::Optional,
                self.snapshot_time.to_le_bytes().to_vec(),
            ),
            (
                HEADER_TAG_STANDARD_CONFORMING_STRINGS,
                Need::Optional,
                vec![u8::from(self.standard_conforming_strings)],
            ),
        ];
        if !self.settings.is_empty() {
            let mut value = Vec::new();
            for (name, setting) in &self.settings {
                put_bytes(&mut value, name.as_bytes());
                put_bytes(&mut value, setting.as_bytes());
            }
            fields.push((HEADER_TAG_SETTINGS, Need::Optional, value));
        }
        if !self.filters.is_empty() {
            let mut value = Vec::new();
            for (flag, argument) in &self.filters {
                put_bytes(&mut value, flag.as_bytes());
                put_bytes(&mut value, argument);
            }
            fields.push((HEADER_TAG_FILTERS, Need::Optional, value));
        }
        if let Some(set) = self.set {
            fields.push((HEADER_TAG_SET, Need::Optional, set.0.to_vec()));
        }
        if self.content != Content::Database {
            let value = vec![self.content.number()];
            fields.push((HEADER_TAG_CONTENT, Need::Critical, value));
        }
        for field in &self.unknown {
            fields.push((field.tag, Need::Optional, field.value.clone()));
        }
        fields.sort_by_key(|(tag, ..)| *tag);
        fields
    }

    /// All but the length, which is still 0, and the checksum.
    fn start(&self, critical_flags: u32, fields: &[(u64, Need, Vec<u8>)]) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        out.extend_from_slice(&HEADER_MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&0u16.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&critical_flags.to_le_bytes());
        out.extend_from_slice(&self.optional_flags.to_le_bytes());
        out.extend_from_slice(&self.id.0);
        for (tag, need, value) in fields {
            put_field(&mut out, *tag, *need, value);
        }
        out
    }

    /// Reads a header and returns it with its bytes.
    pub fn read(reader: &mut impl Read) -> Result<(Header, Vec<u8>)> {
        let mut bytes = Vec::with_capacity(HEADER_FIXED_LENGTH);
        reader
            .by_ref()
            .take(HEADER_FIXED_LENGTH as u64)
            .read_to_end(&mut bytes)?;
        let length = header_length(&bytes)?;
        reader
            .by_ref()
            .take((length - HEADER_FIXED_LENGTH) as u64)
            .read_to_end(&mut bytes)?;
        if bytes.len() < length {
            return Err(truncated("it ends within its header"));
        }
        Ok((Header::parse(&bytes)?, bytes))
    }

    /// Parses exactly one header.
    pub fn parse(bytes: &[u8]) -> Result<Header> {
        let length = header_length(bytes)?;
        if bytes.len() < length {
            return Err(truncated("it ends within its header"));
        }
        if bytes.len() > length {
            return Err(damaged("header: length does not match"));
        }
        let Some((body, crc)) = bytes.split_last_chunk::<4>() else {
            return Err(truncated("it ends within its header"));
        };
        if !matches(crc32fast::hash(body), u32::from_le_bytes(*crc)) {
            return Err(damaged("header: checksum does not match"));
        }
        let mut cursor = Cursor::new(body, "header");
        cursor.take(HEADER_MAGIC.len())?;
        let version = cursor.u16()?;
        let reserved = cursor.u16()?;
        cursor.u32()?;
        let critical_flags = cursor.u32()?;
        let optional_flags = cursor.u32()?;
        let id = ArchiveId(cursor.array()?);

        // The frame of fields is the same in all versions, so the version needed can be named.
        let minimum = minimum_reader(cursor.clone());
        let minimum = minimum.as_deref();
        if version != FORMAT_VERSION {
            return Err(needs_newer(
                format_args!("it has format version {version}"),
                minimum,
            ));
        }
        if critical_flags & !KNOWN_CRITICAL_FLAGS != 0 {
            return Err(needs_newer(
                format_args!(
                    "it uses features that this version does not know (flags {critical_flags:#x})"
                ),
                minimum,
            ));
        }
        if reserved != 0 {
            return Err(cursor.damaged("reserved bytes are not zero"));
        }
        let mut header = Header {
            critical_flags,
            optional_flags,
            ..Header::new(id)
        };
        header.minimum_reader.clear();
        header.rdump_version.clear();
        if header.is_encrypted() {
            header.take_sealed(body, cursor, minimum)?;
        } else {
            header.unknown =
                cursor.fields(minimum, |tag, field| header.take_field(tag, field, minimum))?;
        }
        Ok(header)
    }

    /// False for a field that is not known.
    fn take_field(
        &mut self,
        tag: u64,
        field: &mut Cursor<'_>,
        minimum: Option<&str>,
    ) -> Result<bool> {
        let header = self;
        match tag {
            HEADER_TAG_MINIMUM_READER => header.minimum_reader = rest_text(field)?,
            HEADER_TAG_RDUMP_VERSION => header.rdump_version = rest_text(field)?,
            HEADER_TAG_CODEC => header.codec = rest_text(field)?,
            HEADER_TAG_DATABASE => header.database = field.take(field.remaining())?.into(),
            HEADER_TAG_SERVER_VERSION_NUM => header.server_version_num = field.u32()?,
            HEADER_TAG_SERVER_VERSION => header.server_version = rest_text(field)?,
            HEADER_TAG_ENCODING => header.encoding = rest_text(field)?,
            HEADER_TAG_SNAPSHOT_TIME => header.snapshot_time = i64::from_le_bytes(field.array()?),
            HEADER_TAG_STANDARD_CONFORMING_STRINGS => {
                header.standard_conforming_strings = match field.u8()? {
                    0 => false,
                    1 => true,
                    _ => return Err(field.damaged("bad boolean")),
                }
            }
            HEADER_TAG_SETTINGS => {
                while !field.is_empty() {
                    let name = field.text()?.to_owned();
                    header.settings.push((name, field.text()?.to_owned()));
                }
            }
            HEADER_TAG_FILTERS => {
                while !field.is_empty() {
                    let flag = field.text()?.to_owned();
                    header.filters.push((flag, field.bytes()?.into()));
                }
            }
            HEADER_TAG_SET => header.set = Some(SetId(field.array()?)),
            HEADER_TAG_CONTENT => {
                header.content = Content::from_number(field.u8()?, minimum)?;
                // one value has one form
                if header.content == Content::Database {
                    return Err(field.damaged("field 21 is not needed"));
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// The length of the whole header, of which `more` bytes and the checksum are to come.
fn put_length(out: &mut [u8], more: usize) -> Result<()> {
    let length = u32::try_from(out.len() + more + 4)
        .ok()
        .filter(|length| *length <= MAX_HEADER_LENGTH)
        .ok_or_else(|| crate::error::Error::new("archive header is too long"))?;
    out[12..16].copy_from_slice(&length.to_le_bytes());
    Ok(())
}

fn with_checksum(mut out: Vec<u8>) -> Result<Vec<u8>> {
    put_length(&mut out, 0)?;
    let crc = crc32fast::hash(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    Ok(out)
}

/// Checks the magic and returns the length of the whole header.
pub(super) fn header_length(bytes: &[u8]) -> Result<usize> {
    let known = bytes.len().min(HEADER_MAGIC.len());
    if known == 0 || bytes[..known] != HEADER_MAGIC[..known] {
        return Err(not_an_archive(bytes));
    }
    if bytes.len() < HEADER_FIXED_LENGTH {
        return Err(truncated("it ends within its header"));
    }
    let mut cursor = Cursor::new(bytes, "header");
    cursor.take(12)?;
    let length = cursor.u32()?;
    if length > MAX_HEADER_LENGTH || (length as usize) < HEADER_FIXED_LENGTH + 4 {
        return Err(damaged(format_args!(
            "header: length {length} is out of range"
        )));
    }
    Ok(length as usize)
}

pub(super) fn minimum_reader(cursor: Cursor<'_>) -> Option<String> {
    let mut found = None;
    // Errors are reported by the real pass over the fields.
    let _ = cursor.fields(None, |tag, field| {
        let value = field.take(field.remaining())?;
        if tag == HEADER_TAG_MINIMUM_READER {
            found = std::str::from_utf8(value)
                .ok()
                .filter(|text| text.len() <= 32 && text.bytes().all(|byte| byte.is_ascii_graphic()))
                .map(str::to_owned);
        }
        Ok(true)
    });
    found
}

fn text(value: impl AsRef<[u8]>) -> Vec<u8> {
    value.as_ref().to_vec()
}

pub(super) fn rest_text(field: &mut Cursor<'_>) -> Result<String> {
    let bytes = field.take(field.remaining())?;
    std::str::from_utf8(bytes)
        .map(str::to_owned)
        .map_err(|_| field.damaged("text is not UTF-8"))
}
