//! What people and programs see: errors, warnings, progress, the final line.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::report::{Counts, Progress};

pub fn print_error(error: &Error) {
    tell(format_args!("error: {error}"));
    if let Some(hint) = error.hint_text() {
        tell(format_args!("hint: {hint}"));
    }
}

/// A line on standard error. That this is gone can be said nowhere, and ends no run.
pub fn tell(line: impl Display) {
    let line = line.to_string();
    let line = harmless(&line);
    let _ = writeln!(std::io::stderr().lock(), "rdump: {line}");
}

/// Without what could drive a terminal: names come from databases and from archives of anybody.
fn harmless(text: &str) -> Cow<'_, str> {
    let drives = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if !text.contains(drives) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if drives(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

/// Why standard output did not take a line.
static LOST: Mutex<Option<std::io::Error>> = Mutex::new(None);

/// A line on standard output. A failure ends no run, but none that had one ends with success.
pub fn print(line: impl Display) {
    let line = line.to_string();
    let line = harmless(&line);
    let mut stdout = std::io::stdout().lock();
    if let Err(error) = writeln!(stdout, "{line}").and_then(|()| stdout.flush()) {
        LOST.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(error);
    }
}

/// What was printed must have arrived. A reader such as head may close early.
pub fn check_printed() -> Result<()> {
    match LOST.lock().unwrap_or_else(PoisonError::into_inner).take() {
        Some(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::from(error).context("writing to standard output"))
        }
        _ => Ok(()),
    }
}

/// How much a command says, and in which form.
#[derive(Debug, Clone, Copy, clap::Args)]
#[command(next_help_heading = "Output")]
pub struct OutputArguments {
    /// Print JSON lines, the last with "type": "summary"
    #[arg(long)]
    pub json: bool,
    /// Print warnings and errors only
    #[arg(short = 'q', long, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Name each step: locks, the snapshot, each table and each object; cut no list short
    #[arg(short = 'v', long)]
    pub verbose: bool,
}

impl OutputArguments {
    pub fn warn(&self, warning: &str) {
        if self.json {
            print_json(&serde_json::json!({"type": "warning", "message": warning}));
        } else {
            tell(format_args!("warning: {warning}"));
        }
    }

    pub fn say(&self, line: &str) {
        if !self.quiet && !self.json {
            tell(line);
        }
    }

    /// The progress of a run, which with -v names its steps.
    pub fn progress(&self) -> Arc<Progress> {
        let output = *self;
        let clear = || {
            if std::io::stderr().is_terminal() {
                let _ = write!(std::io::stderr().lock(), "\r\x1b[K");
            }
        };
        let progress = match (self.verbose, self.json) {
            (false, _) => Progress::default(),
            (true, true) => Progress::with_log(|line| {
                print_json(&serde_json::json!({"type": "step", "message": line}));
            }),
            (true, false) => Progress::with_log(move |line| {
                clear();
                tell(line);
            }),
        };
        Arc::new(progress.on_warning(move |line| {
            clear();
            output.warn(line);
        }))
    }

    /// Shows progress until the guard is dropped: a line that rewrites itself on a terminal, one
    /// now and then elsewhere, an object a second as JSON.
    pub fn watch(&self, progress: Arc<Progress>, doing: &'static str) -> ProgressGuard {
        let terminal = std::io::stderr().is_terminal();
        if self.quiet {
            return ProgressGuard(None);
        }
        let json = self.json;
        ProgressGuard(Some(tokio::spawn(async move {
            let pause = match (json, terminal) {
                (false, true) => Duration::from_millis(200),
                (true, _) => Duration::from_secs(1),
                (false, false) => Duration::from_secs(30),
            };
            loop {
                tokio::time::sleep(pause).await;
                let counts = progress.counts();
                if json {
                    let mut object = serde_json::json!({"type": "progress", "doing": doing});
                    if let (Some(object), Ok(serde_json::Value::Object(fields))) =
                        (object.as_object_mut(), serde_json::to_value(counts))
                    {
                        object.extend(fields);
                    }
                    print_json(&object);
                } else if terminal {
                    let _ = write!(
                        std::io::stderr().lock(),
                        "\r\x1b[K{doing}: {}",
                        describe(&counts)
                    );
                } else {
                    tell(format_args!("{doing}: {}", describe(&counts)));
                }
            }
        })))
    }
}

pub struct ProgressGuard(Option<tokio::task::JoinHandle<()>>);

impl Drop for ProgressGuard {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            task.abort();
            if std::io::stderr().is_terminal() {
                let _ = write!(std::io::stderr().lock(), "\r\x1b[K");
            }
        }
    }
}

fn describe(counts: &Counts) -> String {
    let seconds = counts.milliseconds as f64 / 1000.0;
    let mut text = format!(
        "{} of {} tables, {} rows, {}",
        counts.tables,
        counts.tables_total,
        counts.rows,
        bytes(counts.bytes)
    );
    if seconds > 0.5 {
        text.push_str(&format!(
            " ({}/s)",
            bytes((counts.bytes as f64 / seconds) as u64)
        ));
    }
    if let Some(left) = seconds_left(counts) {
        text.push_str(&format!(", about {left} s left"));
    }
    text
}

/// From the share of the source's bytes on disk; they are not the bytes of COPY, but in proportion.
fn seconds_left(counts: &Counts) -> Option<u64> {
    if counts.bytes == 0 || counts.bytes_expected <= counts.bytes || counts.milliseconds < 2_000 {
        return None;
    }
    let rate = counts.bytes as f64 / counts.milliseconds as f64;
    let left = (counts.bytes_expected - counts.bytes) as f64 / rate;
    Some((left / 1000.0).ceil() as u64)
}

/// "1.5 GB"; powers of ten, as disks are sold.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if count < 1_000 {
        return format!("{count} B");
    }
    let mut value = count as f64;
    let mut unit = "B";
    for next in UNITS {
        if value < 999.95 {
            break;
        }
        value /= 1_000.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

pub fn print_json(value: &serde_json::Value) {
    print(value);
}

#[cfg(test)]
mod tests {
    use super::{bytes, harmless};

    #[test]
    fn nothing_drives_the_terminal() {
        assert_eq!(harmless("a\tb\nc"), "a\tb\nc");
        assert_eq!(harmless("x\u{1b}[2Jy\r\u{9b}"), "x\\u{1b}[2Jy\\r\\u{9b}");
    }

    #[test]
    fn sizes_for_people() {
        for (count, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (1_550_000, "1.6 MB"),
            (999_960_000, "1.0 GB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }
}
