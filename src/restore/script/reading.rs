//! Rows of the archive, in the order in which the script has them: read, checked and decompressed by
//! a thread of its own, a few blocks ahead of the writer. It may sit in a read from standard input
//! that never ends; so nobody waits for it.

use std::collections::HashSet;
use std::io::{BufReader, Stdin};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use crate::archive::{
    DataBlock, Entry, EntryId, Header, Incoming, Keys, RowsSegment, Segment, Shared, StreamReader,
    open_stream_with,
};
use crate::error::{Error, Result};
use crate::report::Cancellation;
use crate::restore::source::FileSource;
use crate::restore::{Choice, Holding, Input};

/// Pieces that wait for the writer.
const AHEAD: usize = 4;

/// How often it is looked whether the run was given up.
const PATIENCE: Duration = Duration::from_millis(100);

/// The archive, with what is known before its rows are read.
pub struct Opened {
    pub header: Header,
    pub entries: Vec<Entry>,
    pub rows: Source,
}

type Stream = StreamReader<Shared<BufReader<Stdin>>>;

pub enum Source {
    File(Box<FileSource>),
    Stream(Box<Stream>),
}

impl Opened {
    pub fn open(input: &Input, choice: &Choice, keys: &Arc<Keys>) -> Result<Opened> {
        match input {
            Input::File(_) | Input::Volumes(_) => {
                let holding = Holding::open(input.clone(), keys)?;
                let Holding::Archive(reader) = holding.choose(choice)? else {
                    return Err(
                        Error::usage("this is a set of archives, and a script is of one")
                            .hint("choose one with --member NAME, or the globals with -g"),
                    );
                };
                Ok(Opened {
                    header: reader.header().clone(),
                    entries: reader.entries()?,
                    rows: Source::File(Box::new(FileSource::new(*reader))),
                })
            }
            Input::Stdin => {
                let stdin = BufReader::with_capacity(1 << 20, std::io::stdin());
                let mut reader = match open_stream_with(stdin, Arc::clone(keys))? {
                    Incoming::Archive(reader) => reader,
                    Incoming::Set(_) => {
                        return Err(Error::usage(
                            "this is a set of archives, and a script is of one",
                        )
                        .hint("a member is chosen from a file, not from standard input"));
                    }
                };
                choice.refuse_archive(reader.header().content)?;
                let entries = reader.entries()?;
                Ok(Opened {
                    header: reader.header().clone(),
                    entries,
                    rows: Source::Stream(reader),
                })
            }
        }
    }
}

impl Source {
    /// Bytes of the rows of these entries, where the index says it.
    pub fn expected_bytes(&self, wanted: &[EntryId]) -> Result<u64> {
        let Source::File(source) = self else {
            return Ok(0);
        };
        let mut bytes = 0_u64;
        for entry in wanted {
            let end = source.reader().end_record(*entry)?;
            bytes = bytes.saturating_add(end.map_or(0, |end| end.raw_length));
        }
        Ok(bytes)
    }
}

/// Some rows of one entry, or parts of a row.
pub struct Piece {
    block: Arc<DataBlock>,
    position: usize,
    pub segment: RowsSegment,
}

impl Piece {
    pub fn bytes(&self) -> &[u8] {
        self.block.segment_bytes(self.position)
    }
}

enum Message {
    Piece(Piece),
    /// All has been read, and the archive found whole.
    End,
    Failed(Error),
}

/// The writer's end.
pub struct Pieces {
    messages: Receiver<Message>,
    is_over: bool,
}

impl Pieces {
    /// Starts reading the rows of these entries: of a file in this order, of a stream as they come.
    pub fn start(source: Source, wanted: Vec<EntryId>) -> Result<Pieces> {
        let (sender, messages) = sync_channel(AHEAD);
        std::thread::Builder::new()
            .name("reading".to_owned())
            .spawn(move || {
                let outcome = match source {
                    Source::File(source) => read_file(&source, &wanted, &sender),
                    Source::Stream(reader) => read_stream(*reader, &wanted, &sender),
                };
                let last = match outcome {
                    Ok(()) => Message::End,
                    Err(error) => Message::Failed(error),
                };
                // nobody listens any more where the writer has failed
                let _ = sender.send(last);
            })
            .map_err(|error| Error::new(format!("could not start a thread: {error}")))?;
        Ok(Pieces {
            messages,
            is_over: false,
        })
    }

    /// None once all has been read and the archive found whole.
    pub fn next(&mut self, cancellation: &Cancellation) -> Result<Option<Piece>> {
        while !self.is_over {
            match self.messages.recv_timeout(PATIENCE) {
                Ok(Message::Piece(piece)) => return Ok(Some(piece)),
                Ok(Message::End) => self.is_over = true,
                Ok(Message::Failed(error)) => return Err(error),
                Err(RecvTimeoutError::Timeout) => cancellation.check()?,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::new("reading the archive broke off"));
                }
            }
        }
        Ok(None)
    }
}

/// False: the writer is gone.
fn send(to: &SyncSender<Message>, block: &Arc<DataBlock>, position: usize) -> bool {
    match block.segments.get(position) {
        Some(Segment::Rows(segment)) => to
            .send(Message::Piece(Piece {
                block: Arc::clone(block),
                position,
                segment: *segment,
            }))
            .is_ok(),
        _ => true,
    }
}

fn read_file(source: &FileSource, wanted: &[EntryId], to: &SyncSender<Message>) -> Result<()> {
    let reader = source.reader();
    for entry in wanted {
        if reader.end_record(*entry)?.is_none() {
            return Err(Error::new(format!(
                "the archive does not say how many rows entry {} has",
                entry.0
            )));
        }
        // checked to be as many, of as many rows, as that end says
        for chunk in reader.chunks(*entry)? {
            for (part, number) in chunk.blocks().enumerate() {
                let block = source.block_now(number)?;
                // the second part of a chunk is the first segment of its block
                let position = if part == 0 { chunk.segment as usize } else { 0 };
                let is_it = matches!(block.segments.get(position), Some(Segment::Rows(rows))
                    if rows.entry == *entry && rows.chunk == chunk.chunk
                        && rows.first == (part == 0)
                        && rows.last == (part as u64 + 1 == u64::from(chunk.parts)));
                if !is_it {
                    return Err(Error::new(format!(
                        "block {number} of the archive holds other rows than its index says"
                    ))
                    .hint("rdump verify says what is damaged"));
                }
                if !send(to, &block, position) {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

fn read_stream(mut reader: Stream, wanted: &[EntryId], to: &SyncSender<Message>) -> Result<()> {
    let wanted: HashSet<EntryId> = wanted.iter().copied().collect();
    // on to the end, where it is found out whether the archive is whole
    while let Some(block) = reader.next_block()? {
        let block = Arc::new(block);
        for (position, segment) in block.segments.iter().enumerate() {
            if wanted.contains(&segment.entry()) && !send(to, &block, position) {
                return Ok(());
            }
        }
    }
    Ok(())
}
