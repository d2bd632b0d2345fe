//! `rdump snapshot`

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;

use super::aftermath::{AftermathArguments, Course};
use super::cluster::ClusterArguments;
use super::connection::ConnectionArguments;
use super::filters::FilterArguments;
use super::inputs;
use super::interrupt::{or_cancelled_if, or_signalled};
use super::keys::EncryptionArguments;
use super::output::{OutputArguments, bytes};
use super::targets::{Stored, TargetArguments, describe, end, outcome, scope_mark, store};
use crate::archive::Codec;
use crate::error::{Error, Result};
use crate::report::{Cancellation, counted};
use crate::snapshot::{self, Options, Output, Report};
use crate::sql::hex;

#[derive(Debug, Args)]
pub struct Arguments {
    /// Archive to write; `-` for standard output. An existing file is replaced once the new one is complete.
    /// With it no repository is used
    #[arg(
        short = 'f',
        long,
        value_name = "FILE",
        required_unless_present = "repo"
    )]
    file: Option<PathBuf>,
    /// Connections that copy at once; fewer where the server would have none left for others
    #[arg(short = 'j', long, visible_alias = "parallel", value_name = "N", default_value_t = 2,
          value_parser = clap::value_parser!(u16).range(1..=1000))]
    jobs: u16,
    /// Compression: zstd[:LEVEL], lz4 or none
    #[arg(
        short = 'Z',
        long = "compress",
        value_name = "METHOD[:LEVEL]",
        default_value = "zstd:1"
    )]
    compress: String,
    /// Give up when a table cannot be locked within this time: milliseconds, or a number with us, ms, s,
    /// min, h or d; 0 for no limit
    #[arg(long, value_name = "TIME", default_value = "5min")]
    lock_wait_timeout: String,
    /// Do not wait for the disk
    #[arg(long)]
    no_sync: bool,

    /// Database name or connection string, as -d
    #[arg(value_name = "DBNAME", conflicts_with = "dbname")]
    database: Option<String>,

    #[command(flatten)]
    targets: TargetArguments,
    #[command(flatten)]
    filters: FilterArguments,
    #[command(flatten)]
    cluster: ClusterArguments,
    #[command(flatten)]
    encryption: EncryptionArguments,
    #[command(flatten)]
    connection: ConnectionArguments,
    #[command(flatten)]
    aftermath: AftermathArguments,
    #[command(flatten)]
    output: OutputArguments,
}

impl Arguments {
    pub async fn run(self) -> Result<()> {
        let aftermath = self.aftermath.prepare()?;
        let output = self.output;
        let mut course = Course::begun("snapshot");
        let outcome = self.take(&mut course).await;
        aftermath.follow(course, outcome, &output).await
    }

    async fn take(mut self, course: &mut Course) -> Result<()> {
        if self.connection.dbname.is_none() {
            self.connection.dbname = self.database.take();
        }
        let to_stdout = self
            .file
            .as_ref()
            .is_some_and(|file| file.as_os_str() == "-");
        if to_stdout && self.output.json {
            return Err(Error::usage("--json and -f - both want standard output")
                .hint("write the archive to a file, or leave out --json"));
        }
        let read = self.filters.inputs();
        inputs::refuse_shared_stdin(&read)?;
        if let Some(file) = &self.file {
            inputs::refuse_own_input(&read, file)?;
        }
        let scope = self.filters.scope()?;
        let mut options = Options {
            output: Output::Stdout,
            jobs: usize::from(self.jobs),
            codec: self.compress.parse::<Codec>()?,
            encryption: self.encryption.encryption()?,
            lock_wait: parse_time(&self.lock_wait_timeout)?,
            sync: !self.no_sync,
            scope,
            reading: self.filters.reading(),
            least_slice: snapshot::LEAST_SLICE,
            window_hook: None,
        };
        if let Some(warning) = self.filters.warning() {
            self.output.warn(&warning);
        }
        self.cluster.check(&options)?;
        let connector = self.connection.connector()?;
        let usual_label = match self.cluster.is_given() {
            true => &b"server"[..],
            false => connector.target().database(),
        };
        // to a file anything goes
        match self.targets.label(usual_label) {
            Ok(label) => course.set_label(&label),
            Err(error) if self.file.is_none() => return Err(error),
            Err(_) => {}
        }
        let storing = match &self.file {
            Some(_) if to_stdout => None,
            Some(file) => {
                options.output = Output::File(file.clone());
                None
            }
            None => {
                let encryption = options.encryption.as_deref();
                let beginning = self.targets.begin(course, encryption, &self.output);
                let storing = or_signalled(beginning).await?;
                options.output = Output::Repositories(Arc::clone(&storing.targets));
                Some(storing)
            }
        };
        let scope = scope_mark(&options.scope, &self.cluster.what_is_left_out());
        let started = Instant::now();
        if self.cluster.is_given() {
            return self
                .cluster
                .run(&connector, &options, storing, scope, course, &self.output)
                .await;
        }
        let progress = self.output.progress();
        let watching = self.output.watch(Arc::clone(&progress), "copying");
        let cancellation = Arc::new(Cancellation::default());
        let report = or_cancelled_if(
            &connector,
            || cancellation.cancel(),
            snapshot::run_unless_cancelled(
                connector.clone(),
                &options,
                Arc::clone(&progress),
                &cancellation,
            ),
        )
        .await;
        drop(watching);
        let (report, stored) = store(storing, report, course, &self.output, |report| {
            describe(report, scope)
        })
        .await?;
        self.tell(&report, stored.as_ref(), started.elapsed(), course);
        end(stored, course)
    }

    fn tell(
        &self,
        report: &Report,
        stored: Option<&Stored>,
        elapsed: Duration,
        course: &mut Course,
    ) {
        for warning in &report.warnings {
            self.output.warn(warning);
        }
        let totals = &report.summary.totals;
        if self.output.json {
            course.summarise(serde_json::json!({
                "type": "summary",
                "outcome": outcome(stored),
                "repositories": stored.map(Stored::json),
                "database": report.database.to_string(),
                "server_version": report.server_version,
                "archive_id": report.summary.id.to_string(),
                "root_hash": hex(&report.summary.root_hash),
                "snapshot_time_unix_us": report.snapshot_time,
                "tables": report.tables,
                "rows": totals.rows,
                "raw_bytes": totals.raw_length,
                "archive_bytes": report.summary.file_length,
                "encrypted": report.summary.is_encrypted(),
                "connections": report.connections,
                "seconds": elapsed.as_secs_f64(),
            }));
        } else {
            course.say(format!(
                "{}snapshot of {} complete: {}, {}, {} in {} on disk, {:.1} s",
                if report.summary.is_encrypted() {
                    "encrypted "
                } else {
                    ""
                },
                report.database,
                counted(totals.entries, "entry", "entries"),
                counted(totals.rows, "row", "rows"),
                bytes(totals.raw_length),
                bytes(report.summary.file_length),
                elapsed.as_secs_f64()
            ));
        }
    }
}

/// As PostgreSQL's own time settings: a number that may have a fraction and a unit, else it is of
/// milliseconds; 0 is no limit. What is more than 0 does not become it by rounding.
pub fn parse_time(text: &str) -> Result<Duration> {
    let number = text
        .trim()
        .trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let milliseconds = match &text.trim()[number.len()..] {
        "us" => Some(0.001),
        "" | "ms" => Some(1.0),
        "s" => Some(1_000.0),
        "min" => Some(60_000.0),
        "h" => Some(3_600_000.0),
        "d" => Some(86_400_000.0),
        _ => None,
    };
    let is_plain = |text: &&str| text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    milliseconds
        .zip(
            Some(number.trim())
                .filter(is_plain)
                .and_then(|number| number.parse::<f64>().ok()),
        )
        .map(|(factor, number)| match number * factor {
            0.0 => 0.0,
            more => more.round().max(1.0),
        })
        // the server's own limit
        .filter(|time| *time <= f64::from(i32::MAX))
        .map(|time| Duration::from_millis(time as u64))
        .ok_or_else(|| {
            Error::usage(format!("not a time: \"{text}\""))
                .hint("for example 30000, 1.5s or 5min, or 0 for no limit")
        })
}

#[cfg(test)]
mod tests {
    use super::parse_time;

    #[test]
    fn times_as_postgresql_reads_them() {
        for (text, milliseconds) in [
            ("0", 0),
            ("0s", 0),
            ("100", 100),
            ("1.5s", 1500),
            (".5s", 500),
            ("2.", 2),
            (" 1.5 min ", 90_000),
            ("1d", 86_400_000),
            ("1500us", 2),
            ("0.1", 1),
            ("2147483647", 2_147_483_647),
        ] {
            let time = parse_time(text).expect(text);
            assert_eq!(time.as_millis(), milliseconds, "{text}");
        }
        for text in [
            "",
            "s",
            ".",
            "soon",
            "-1",
            "1.5.5s",
            "1e3",
            "inf",
            "NaN",
            "5 m",
            "5S",
            "2147483648",
            "25d",
        ] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }
}
