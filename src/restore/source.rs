//! Where the rows of a restore come from: a file, read at random by all workers, or a stream,
//! read once by one.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedSemaphorePermit;

use super::input::ArchiveFile;
use crate::archive::{
    ChunkRecord, Contents, DataBlock, Entry, EntryId, RandomReader, RowsSegment, Segment,
};
use crate::error::{Error, Result};

/// Blocks kept for small tables that share one.
const KEPT: usize = 8;

/// A file, with the blocks that were read last.
pub struct FileSource {
    reader: RandomReader<ArchiveFile>,
    recent: Mutex<VecDeque<Arc<DataBlock>>>,
}

impl FileSource {
    pub fn new(reader: RandomReader<ArchiveFile>) -> FileSource {
        FileSource {
            reader,
            recent: Mutex::default(),
        }
    }

    pub fn reader(&self) -> &RandomReader<ArchiveFile> {
        &self.reader
    }

    /// Reads, checks and decompresses one block, on a thread where that may take time.
    pub async fn block(self: &Arc<Self>, number: u64) -> Result<Arc<DataBlock>> {
        if let Some(block) = self.kept(number) {
            return Ok(block);
        }
        let source = Arc::clone(self);
        tokio::task::spawn_blocking(move || source.block_now(number))
            .await
            .map_err(|error| Error::new(format!("reading the archive broke off: {error}")))?
    }

    /// As `block`, on this thread.
    pub fn block_now(&self, number: u64) -> Result<Arc<DataBlock>> {
        if let Some(block) = self.kept(number) {
            return Ok(block);
        }
        let block = Arc::new(self.reader.read_block(number)?);
        // only blocks that others will want too
        if block.segments.len() > 2 {
            let mut recent = self.recent();
            recent.push_back(Arc::clone(&block));
            if recent.len() > KEPT {
                recent.pop_front();
            }
        }
        Ok(block)
    }

    fn kept(&self, number: u64) -> Option<Arc<DataBlock>> {
        let recent = self.recent();
        recent.iter().find(|block| block.number == number).cloned()
    }

    fn recent(&self) -> std::sync::MutexGuard<'_, VecDeque<Arc<DataBlock>>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A block, and the segment of it that is wanted.
#[derive(Debug)]
pub struct Piece {
    block: Arc<DataBlock>,
    position: usize,
    segment: RowsSegment,
    /// Given back when the piece is done with.
    _permit: Option<OwnedSemaphorePermit>,
}

impl Piece {
    pub fn new(block: Arc<DataBlock>, position: usize) -> Result<Piece> {
        match block.segments.get(position) {
            Some(Segment::Rows(segment)) => Ok(Piece {
                position,
                segment: *segment,
                block,
                _permit: None,
            }),
            _ => Err(Error::new(format!(
                "block {} of the archive holds no rows where they are looked for",
                block.number
            ))),
        }
    }

    /// With a permit that bounds how many pieces there are.
    pub fn holding(self, permit: Option<OwnedSemaphorePermit>) -> Piece {
        Piece {
            _permit: permit,
            ..self
        }
    }

    pub fn bytes(&self) -> &[u8] {
        self.block.segment_bytes(self.position)
    }

    pub fn rows(&self) -> u64 {
        self.segment.rows
    }

    /// Whether its chunk, and so its last row, ends with it.
    pub fn is_last(&self) -> bool {
        self.segment.last
    }
}

/// Rows on their way into one COPY.
pub enum Rows {
    /// Chunks of a file, to be read in order.
    Chunks {
        source: Arc<FileSource>,
        entry: EntryId,
        /// What is still to be read.
        places: VecDeque<Place>,
        /// The next one, read ahead while the one before is sent.
        ahead: Option<tokio::task::JoinHandle<Result<Arc<DataBlock>>>>,
    },
    /// One chunk of a stream: its parts as they come.
    Stream {
        parts: tokio::sync::mpsc::Receiver<Piece>,
        is_whole: bool,
    },
}

/// Where a part of a chunk is.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    block: u64,
    position: usize,
    chunk: u32,
}

impl Rows {
    pub fn of_chunks(source: Arc<FileSource>, entry: EntryId, chunks: &[ChunkRecord]) -> Rows {
        let places = chunks
            .iter()
            .flat_map(|chunk| {
                chunk.blocks().enumerate().map(|(part, block)| Place {
                    block,
                    // the second part of a chunk is the first segment of its block
                    position: if part == 0 { chunk.segment as usize } else { 0 },
                    chunk: chunk.chunk,
                })
            })
            .collect();
        Rows::Chunks {
            source,
            entry,
            places,
            ahead: None,
        }
    }

    pub fn arriving(parts: tokio::sync::mpsc::Receiver<Piece>) -> Rows {
        Rows::Stream {
            parts,
            is_whole: false,
        }
    }

    /// None once all is there: a chunk that broke off is an error.
    pub async fn next(&mut self) -> Result<Option<Piece>> {
        match self {
            Rows::Stream { parts, is_whole } => match parts.recv().await {
                Some(piece) => {
                    *is_whole = piece.is_last();
                    Ok(Some(piece))
                }
                None if *is_whole => Ok(None),
                None => Err(Error::new("the archive broke off in the middle of a row")),
            },
            Rows::Chunks {
                source,
                entry,
                places,
                ahead,
            } => {
                let Some(place) = places.pop_front() else {
                    return Ok(None);
                };
                let block = match ahead.take() {
                    Some(reading) => reading.await.map_err(|error| {
                        Error::new(format!("reading the archive broke off: {error}"))
                    })??,
                    None => source.block(place.block).await?,
                };
                if let Some(next) = places.front() {
                    let (source, next) = (Arc::clone(source), next.block);
                    *ahead = Some(tokio::spawn(async move { source.block(next).await }));
                }
                let piece = Piece::new(block, place.position)?;
                if piece.segment.entry != *entry || piece.segment.chunk != place.chunk {
                    return Err(Error::new(format!(
                        "block {} of the archive holds other rows than its index says",
                        place.block
                    ))
                    .hint("rdump verify says what is damaged"));
                }
                Ok(Some(piece))
            }
        }
    }
}

/// Bytes of rows in one COPY: enough that its own cost does not count, few enough to share a table.
pub const LEAST_LOAD: u64 = 64 << 20;

/// Cuts an entry's chunks into loads of `least` bytes or a little more. Sequences and large
/// objects are one.
pub fn cut(
    source: &Arc<FileSource>,
    entry: &Entry,
    chunks: &[ChunkRecord],
    least: u64,
) -> Vec<Rows> {
    if chunks.is_empty() {
        return Vec::new();
    }
    if !matches!(entry.contents, Contents::Rows { .. }) {
        return vec![Rows::of_chunks(Arc::clone(source), entry.id, chunks)];
    }
    let mut loads = Vec::new();
    let mut from = 0;
    let mut length = 0;
    for (position, chunk) in chunks.iter().enumerate() {
        length += chunk.raw_length;
        if length >= least || position + 1 == chunks.len() {
            loads.push(Rows::of_chunks(
                Arc::clone(source),
                entry.id,
                &chunks[from..=position],
            ));
            from = position + 1;
            length = 0;
        }
    }
    loads
}
