//! Where the script goes. It can be cut off at any byte, and psql would take what came for all there
//! is: it even ends a COPY that breaks off as if it were complete. So a script that fails on its
//! way to standard output ends with what makes the open statement fail.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::report::Cancellation;
use crate::storage::{LocalTarget, ReadAt, Replace, StdoutTarget, write_error};

/// Where the script goes.
#[derive(Debug, Clone)]
pub enum Output {
    /// An existing file is replaced once the script is complete.
    File(PathBuf),
    Stdout,
}

/// Bytes that are collected before they are written.
const BUFFER: usize = 256 << 10;

/// What psql is in the middle of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    Nothing,
    /// The rows of a COPY of so many columns.
    Copy {
        columns: usize,
    },
    Statement {
        parentheses: usize,
        in_literal: bool,
    },
}

/// The last line of every script that is complete.
pub const COMPLETE: &str = "-- rdump: complete\n";

const INCOMPLETE: &str = "rdump: this script is not complete";

#[derive(Debug)]
enum Sink {
    File(Box<LocalTarget>),
    Stdout(StdoutTarget),
}

#[derive(Debug)]
pub struct Writer {
    sink: Sink,
    buffer: Vec<u8>,
    written: u64,
    /// It could not be written to: nothing more can be said there.
    is_broken: bool,
    cancellation: Arc<Cancellation>,
    pub open: Open,
}

impl Writer {
    pub fn create(output: &Output, cancellation: Arc<Cancellation>) -> Result<Writer> {
        let sink = match output {
            Output::File(path) => Sink::File(Box::new(LocalTarget::create(path)?)),
            Output::Stdout => Sink::Stdout(StdoutTarget::new()?),
        };
        Ok(Writer {
            sink,
            buffer: Vec::with_capacity(2 * BUFFER),
            written: 0,
            is_broken: false,
            cancellation,
            open: Open::Nothing,
        })
    }

    /// Bytes written so far, or about to be.
    pub fn written(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    pub fn put(&mut self, bytes: impl AsRef<[u8]>) -> Result<()> {
        self.buffer.extend_from_slice(bytes.as_ref());
        if self.buffer.len() >= BUFFER {
            self.cancellation.check()?;
            self.spill()?;
        }
        Ok(())
    }

    /// Appends a part of a literal, its quotes doubled.
    pub fn put_literal_part(&mut self, part: &[u8]) -> Result<()> {
        crate::sql::push_literal_part(&mut self.buffer, part);
        self.put("")
    }

    fn spill(&mut self) -> Result<()> {
        let outcome = match &mut self.sink {
            Sink::File(target) => target.write_all(&self.buffer),
            Sink::Stdout(target) => target.write_all(&self.buffer),
        };
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        outcome.map_err(|error| {
            self.is_broken = true;
            write_error(error)
        })
    }

    /// Writes the last line, and gives a file its name. Returns the length of the script.
    pub fn finish(mut self, sync: bool) -> Result<u64> {
        self.put(COMPLETE)?;
        match self.sink {
            Sink::Stdout(_) => {
                self.cancellation.commit()?;
                self.spill()?;
                Ok(self.written)
            }
            Sink::File(_) => {
                self.spill()?;
                let Sink::File(target) = self.sink else {
                    return Err(Error::new("the script has no file"));
                };
                let (written, cancellation) = (self.written, self.cancellation);
                target.commit(Replace::Yes, sync, |file| {
                    if file.size()? != written {
                        return Err(Error::new("it does not have the length that was written"));
                    }
                    cancellation.commit()
                })?;
                Ok(written)
            }
        }
    }

    /// Ends standard output so that psql fails, in what is open and once more. A file just vanishes.
    pub fn break_off(mut self) {
        if self.is_broken || matches!(self.sink, Sink::File(_)) {
            return;
        }
        let end = broken_off(self.open);
        self.buffer.extend_from_slice(&end);
        // there is nothing to be done about a failure, and another error is on its way already
        let _ = self.spill();
    }
}

/// What ends a script that is not complete.
fn broken_off(open: Open) -> Vec<u8> {
    let mut text = match open {
        Open::Nothing => String::from("\n"),
        // a row with a field too many, whatever part of one stands before it
        Open::Copy { columns } => format!("{INCOMPLETE}{}\n\\.\n", "\t".repeat(columns)),
        Open::Statement {
            parentheses,
            in_literal,
        } => format!(
            "{}{} {INCOMPLETE};\n",
            if in_literal { "'" } else { "" },
            ")".repeat(parentheses),
        ),
    };
    text.push_str(&format!(
        "SELECT CAST('{INCOMPLETE}' AS pg_catalog.int4);\n-- {INCOMPLETE}\n"
    ));
    text.into_bytes()
}
