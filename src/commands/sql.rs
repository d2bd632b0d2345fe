//! `rdump sql`

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;

use super::archive::ArchiveArguments;
use super::inputs;
use super::interrupt::signalled;
use super::keys::KeyArguments;
use super::member::MemberArguments;
use super::output::{OutputArguments, bytes, print_json};
use super::replay::ReplayArguments;
use super::selection::SelectionArguments;
use super::show;
use crate::error::{Error, Outcome, Result};
use crate::report::{Cancellation, counted};
use crate::restore::script::{self, Options, Output, Report, RowForm};

/// Write an archive as plain SQL that psql runs
///
/// The script is for psql, which leaves no meta-command to the archive: \restrict needs psql of a
/// minor release since August 2025. Run it with -X and -v ON_ERROR_STOP=1. A script that is
/// complete ends with the line "-- rdump: complete"; one that broke off on its way to standard
/// output ends with statements that fail.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    archive: ArchiveArguments,
    /// File to write; `-` for standard output. An existing file is replaced once the new one is complete
    #[arg(short = 'f', long, value_name = "FILE", default_value = "-")]
    file: PathBuf,
    /// Do not wait for the disk
    #[arg(long)]
    no_sync: bool,
    /// The key that psql's restricted mode is ended by: letters and digits. Drawn at random unless given;
    /// whoever can know it can make psql run programs
    #[arg(long, value_name = "KEY")]
    restrict_key: Option<String>,
    #[command(flatten)]
    replay: ReplayArguments,
    /// Print the table of contents instead
    #[arg(short = 'l', long)]
    list: bool,

    #[command(flatten)]
    selection: SelectionArguments,
    #[command(flatten)]
    rows: RowArguments,
    #[command(flatten)]
    member: MemberArguments,
    #[command(flatten)]
    keys: KeyArguments,
    #[command(flatten)]
    output: OutputArguments,
}

/// COPY unless one of these is given.
#[derive(Debug, Args)]
#[command(next_help_heading = "Form of rows")]
struct RowArguments {
    /// As INSERT commands, which name the columns
    #[arg(long)]
    inserts: bool,
    /// The same: the names of columns are always written
    #[arg(long, visible_alias = "attribute-inserts")]
    column_inserts: bool,
    /// As INSERT commands of so many rows
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=2147483647))]
    rows_per_insert: Option<u32>,
    /// Pass over rows that conflict with what is there; goes with INSERT commands
    #[arg(long)]
    on_conflict_do_nothing: bool,
}

impl RowArguments {
    fn form(&self) -> Result<RowForm> {
        if self.inserts || self.column_inserts || self.rows_per_insert.is_some() {
            return Ok(RowForm::Insert {
                rows_each: self.rows_per_insert.unwrap_or(1),
                on_conflict_do_nothing: self.on_conflict_do_nothing,
            });
        }
        match self.on_conflict_do_nothing {
            false => Ok(RowForm::Copy),
            true => Err(Error::usage(
                "--on-conflict-do-nothing needs --inserts, --rows-per-insert or --column-inserts",
            )),
        }
    }
}

/// How long a run that was given up may take to end its output.
const LAST_WORDS: Duration = Duration::from_secs(5);

impl Arguments {
    pub async fn run(self) -> Result<()> {
        let to_stdout = self.file.as_os_str() == "-";
        let read = self.selection.inputs(self.archive.file());
        if self.list {
            self.archive.refuse_stream("-l")?;
        } else {
            inputs::refuse_own_input(&read, &self.file)?;
        }
        inputs::refuse_shared_stdin(&read)?;
        let selection = self.selection.selection()?;
        let keys = self.keys.keys()?;
        if self.list {
            let input = self.archive.choose().await?.input;
            let choice = self.member.choice();
            return show::print(input, &choice, &keys, false, &selection).await;
        }
        if to_stdout && self.output.json {
            return Err(
                Error::usage("--json and the script both want standard output")
                    .hint("write the script to a file with -f, or leave out --json"),
            );
        }
        let options = Options {
            choice: self.member.choice(),
            keys,
            selection,
            create_database: self.replay.create,
            clean: self.replay.clean,
            if_exists: self.replay.if_exists,
            no_owner: self.replay.no_owner,
            no_tablespaces: self.replay.no_tablespaces,
            no_table_access_method: self.replay.no_table_access_method,
            disable_triggers: self.replay.disable_triggers,
            rows: self.rows.form()?,
            restrict_key: self.restrict_key.clone(),
            sync: !self.no_sync,
        };
        let chosen = self.archive.choose().await?;
        chosen.refuse_another().await?;
        if let Some(told) = &chosen.told {
            self.output.say(told);
        }
        let input = chosen.input;
        let output = match to_stdout {
            true => Output::Stdout,
            false => Output::File(self.file.clone()),
        };
        let started = Instant::now();
        let progress = self.output.progress();
        let watching = self.output.watch(Arc::clone(&progress), "writing");
        let cancellation = Arc::new(Cancellation::default());
        let signal = signalled()?;
        let mut writing = tokio::task::spawn_blocking({
            let cancellation = Arc::clone(&cancellation);
            move || script::run(&input, &output, &options, &progress, &cancellation)
        });
        let outcome = tokio::select! {
            outcome = &mut writing => outcome,
            number = signal => {
                if cancellation.cancel() {
                    // what was written is taken back, or ended so that psql fails
                    let _ = tokio::time::timeout(LAST_WORDS, writing).await;
                    return Err(Error::new("cancelled by a signal").outcome(Outcome::Signal(number)));
                }
                writing.await
            }
        };
        drop(watching);
        let report = outcome
            .map_err(|error| Error::new(format!("writing the script broke off: {error}")))??;
        self.tell(&report, started.elapsed());
        Ok(())
    }

    fn tell(&self, report: &Report, elapsed: Duration) {
        for warning in &report.warnings {
            self.output.warn(warning);
        }
        if self.output.json {
            print_json(&serde_json::json!({
                "type": "summary",
                "outcome": "done",
                "database": report.database.to_string(),
                "entries": report.entries,
                "rows": report.rows,
                "bytes": report.bytes,
                "seconds": elapsed.as_secs_f64(),
            }));
            return;
        }
        self.output.say(&format!(
            "script of {} complete: {}, {}, {}, {:.1} s",
            report.database,
            counted(report.entries as u64, "entry", "entries"),
            counted(report.rows, "row", "rows"),
            bytes(report.bytes),
            elapsed.as_secs_f64()
        ));
    }
}
