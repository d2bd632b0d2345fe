//! What a run reads beside the server: an input that is wanted twice, or written over.

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::error::{Error, Result};

/// What messages call an input, and where it is; `-` is standard input.
pub type Input<'a> = (&'static str, &'a Path);

pub const ARCHIVE: &str = "the archive";
pub const FILTER: &str = "the filter file";
pub const LIST: &str = "the list of -L";

fn is_stream(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// For what reads at any place of an archive, or more than once.
pub fn refuse_stream(what: &str, archive: &Path) -> Result<()> {
    match is_stream(archive) {
        false => Ok(()),
        true => Err(Error::usage(format!(
            "{what} needs a file: a stream can be read only once"
        ))
        .hint("write the stream to a file first, and give its name")),
    }
}

/// One of two would find standard input read to its end.
pub fn refuse_shared_stdin(inputs: &[Input]) -> Result<()> {
    let mut streams = inputs.iter().filter(|(_, path)| is_stream(path));
    match (streams.next(), streams.next()) {
        (Some((first, _)), Some((second, _))) => {
            let second = match second == first {
                true => &format!("another {}", second.trim_start_matches("the ")),
                false => *second,
            };
            Err(
                Error::usage(format!("{first} and {second} both want standard input"))
                    .hint("give one of them as a file"),
            )
        }
        _ => Ok(()),
    }
}

/// Whatever leads to it: another name, a link, a redirection.
pub fn refuse_own_input(inputs: &[Input], output: &Path) -> Result<()> {
    let Some(written) = regular_file(output, io::stdout().as_fd()) else {
        return Ok(());
    };
    let is_written = |(_, path): &&Input| {
        regular_file(path, io::stdin().as_fd())
            .is_some_and(|read| (read.dev(), read.ino()) == (written.dev(), written.ino()))
    };
    let Some((what, _)) = inputs.iter().find(is_written) else {
        return Ok(());
    };
    let (output, hint) = match is_stream(output) {
        true => ("standard output".to_owned(), "redirect it to another file"),
        false => (
            format!("file \"{}\"", output.display()),
            "give another file with -f",
        ),
    };
    Err(Error::usage(format!(
        "{output} is {what} itself: it cannot be written to while it is read"
    ))
    .hint(hint))
}

/// None: it does not exist, or nothing that is written there is read again.
fn regular_file(path: &Path, stream: BorrowedFd) -> Option<Metadata> {
    let metadata = match is_stream(path) {
        true => File::from(stream.try_clone_to_owned().ok()?).metadata(),
        false => std::fs::metadata(path),
    };
    metadata.ok().filter(Metadata::is_file)
}
