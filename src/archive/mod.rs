//! The archive file: header, entries, data blocks, index, trailer (`format-spec/archive.md`).
//!
//! Nothing here knows a server: listing and verifying work offline.

mod block;
mod codec;
mod encryption;
mod entry;
mod header;
#[cfg(test)]
mod identity;
mod index;
pub mod limits;
mod random;
mod refusal;
mod segment;
mod set;
#[cfg(test)]
mod specification;
mod stream;
mod toc;
mod trailer;
mod wire;
mod writer;

pub use block::{BlockHash, BlockHeader, BlockKind, DataBlock, SealedBlock};
pub use codec::{BlockCodec, Codec};
pub use encryption::{
    Encryption, Envelopes, ExposeSecret, Identity, Keys, Recipient, SecretString,
};
pub use entry::{Contents, Entry, EntryId, Pass, Section, needed_first};
pub use header::{ArchiveId, Content, Header, SealedFields};
pub use index::{BlockRecord, ChunkRecord, Totals};
pub use random::RandomReader;
pub use segment::{BlockBuilder, EndRecord, RowEncoding, RowsSegment, Segment};
pub use set::{
    Incoming, Member, SetId, SetReader, SetStreamReader, SetSummary, SetWriter, Shared, is_set,
    open_stream, open_stream_with,
};
pub use stream::StreamReader;
pub use trailer::Trailer;
pub use wire::UnknownField;
pub use writer::{ArchiveSummary, ArchiveWriter};

pub(crate) use encryption::Access;
pub(crate) use index::{EndPosition, PageKind, ParsedPage};
pub(crate) use random::{EntriesCollector, check_chunks, read_header, read_range, read_trailer};
pub(crate) use refusal::{is_damage, problem};
