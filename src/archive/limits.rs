//! Constants of the format. `format-spec/archive.md` gives the reason for each; a test holds the
//! two against each other.

/// First bytes of an archive. The byte above 127 and the line break show a file that went through
/// a text conversion.
pub const HEADER_MAGIC: [u8; 8] = *b"\x89RDUMP\r\n";
pub const FORMAT_VERSION: u16 = 0;
/// Bytes of the header before its fields.
pub const HEADER_FIXED_LENGTH: usize = 40;
pub const MAX_HEADER_LENGTH: u32 = 1 << 20;
pub const KNOWN_CRITICAL_FLAGS: u32 = 1;
/// Critical flag: contents and what tells of them are sealed.
pub const HEADER_FLAG_ENCRYPTED: u32 = 1;
/// Optional flags: what a snapshot was told to leave out.
pub const HEADER_FLAG_WITHOUT_DATA: u32 = 1;
pub const HEADER_FLAG_WITHOUT_LARGE_OBJECTS: u32 = 2;
pub const HEADER_FLAG_WITHOUT_PASSWORDS: u32 = 256;

pub const BLOCK_SYNC: [u8; 4] = *b"\xb7rdB";
pub const BLOCK_HEADER_LENGTH: usize = 32;
/// Most bytes of a block before compression, its segment table included.
pub const MAX_BLOCK_LENGTH: u32 = 16 << 20;
/// A writer seals a data block at the next end of a chunk once its rows, or its segments, have this
/// length: large enough to compress well, small enough that jobs × a few blocks fit in memory.
pub const TARGET_DATA_BLOCK_LENGTH: u32 = 1 << 20;
pub const TARGET_ENTRIES_BLOCK_LENGTH: u32 = 1 << 20;
/// Bits of a block's flags that a reader must know.
pub const CRITICAL_BLOCK_FLAGS: u16 = 0x00ff;
/// The entries of this block go on in the next one.
pub const BLOCK_FLAG_CONTINUED: u16 = 0x0001;
/// The stored bytes are encrypted, and end with the tag that authenticates them.
pub const BLOCK_FLAG_SEALED: u16 = 0x0002;

pub const ARCHIVE_KEY_LENGTH: usize = 32;
/// Of AES-256-GCM: what sealing adds.
pub const TAG_LENGTH: usize = 16;
/// Of HMAC-SHA256.
pub const CODE_LENGTH: usize = 32;
/// Most bytes of one age file in the header: some 400 recipients.
pub const MAX_ENVELOPE_LENGTH: u32 = 1 << 16;
/// What rdump writes: 128 MB and some tenths of a second for each passphrase tried.
pub const SCRYPT_WORK_FACTOR: u8 = 17;
/// Most that a header can make a reader spend on one passphrase: 512 MB, and a few seconds.
pub const MAX_SCRYPT_WORK_FACTOR: u8 = 19;

/// Most bytes of one serialised entry.
pub const MAX_ENTRY_LENGTH: u32 = 1 << 30;
/// PostgreSQL's MaxHeapAttributeNumber.
pub const MAX_COLUMNS: usize = 1600;

/// Most records in one index page.
pub const INDEX_PAGE_RECORDS: u32 = 4096;

pub const TRAILER_MAGIC: [u8; 8] = *b"rdumpEND";
pub const TRAILER_END_MAGIC: [u8; 8] = *b"\x89RDEND\r\n";
pub const TRAILER_LENGTH: usize = 112;
