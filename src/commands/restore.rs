//! `rdump restore`

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bstr::BString;
use clap::Args;

use super::connection::ConnectionArguments;
use super::interrupt::or_cancelled_if;
use super::output::{OutputArguments, bytes, print_json, tell};
use super::show;
use crate::error::{Error, Result};
use crate::report::Progress;
use crate::restore::{self, Input, Options, Report, Selection, parse_list};

#[derive(Debug, Args)]
pub struct Arguments {
    /// The archive; `-` for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Connections that load and build at once; fewer where the server would have none left for others
    /// [default: 2]
    #[arg(short = 'j', long = "parallel", visible_alias = "jobs", value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=1000))]
    parallel: Option<u16>,
    /// Create the archive's database, connecting to the given one first
    #[arg(short = 'C', long)]
    create: bool,
    /// Drop objects before they are created
    #[arg(short = 'c', long, conflicts_with = "data_only")]
    clean: bool,
    /// Use IF EXISTS when dropping
    #[arg(long, requires = "clean")]
    if_exists: bool,
    /// Restore rows, sequence values and large objects only
    #[arg(short = 'a', long, conflicts_with = "schema_only")]
    data_only: bool,
    /// Restore definitions only
    #[arg(short = 's', long)]
    schema_only: bool,
    /// Restore only objects in this schema (may be repeated)
    #[arg(short = 'n', long = "schema", value_name = "NAME")]
    schemas: Vec<String>,
    /// Do not restore objects in this schema (may be repeated)
    #[arg(short = 'N', long = "exclude-schema", value_name = "NAME")]
    exclude_schemas: Vec<String>,
    /// Restore only this table, view or sequence; its schema is given with -n (may be repeated)
    #[arg(short = 't', long = "table", value_name = "NAME")]
    tables: Vec<String>,
    /// Restore only this index (may be repeated)
    #[arg(short = 'I', long = "index", value_name = "NAME")]
    indexes: Vec<String>,
    /// Restore only this function, with its argument types (may be repeated)
    #[arg(short = 'P', long = "function", value_name = "NAME(ARGS)")]
    functions: Vec<String>,
    /// Restore only this trigger (may be repeated)
    #[arg(short = 'T', long = "trigger", value_name = "NAME")]
    triggers: Vec<String>,
    /// Do not set owners: everything belongs to the role that restores
    #[arg(short = 'O', long)]
    no_owner: bool,
    /// Do not restore privileges
    #[arg(short = 'x', long, visible_alias = "no-acl")]
    no_privileges: bool,
    /// Do not restore comments
    #[arg(long)]
    no_comments: bool,
    /// Do not place anything in tablespaces
    #[arg(long)]
    no_tablespaces: bool,
    /// Print the table of contents instead of restoring
    #[arg(short = 'l', long)]
    list: bool,
    /// Restore only the entries that this file lists, in its order as far as dependencies allow
    #[arg(short = 'L', long, value_name = "FILE")]
    use_list: Option<PathBuf>,
    /// Stop at the first error
    #[arg(short = 'e', long)]
    exit_on_error: bool,
    /// Restore all or nothing, in one transaction on one connection
    #[arg(short = '1', long)]
    single_transaction: bool,
    /// Go on although the target holds relations, or (with filters) what is chosen, or lacks roles or extensions
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    connection: ConnectionArguments,
    #[command(flatten)]
    output: OutputArguments,
}

impl Arguments {
    pub async fn run(self) -> Result<()> {
        if self.single_transaction && self.parallel.is_some_and(|jobs| jobs > 1) {
            return Err(Error::usage(
                "-1 restores over one connection: leave out -j",
            ));
        }
        let from_stdin = self.file.as_os_str() == "-";
        if self.list && from_stdin {
            return Err(Error::usage(
                "-l needs a file: a stream can be read only once",
            ));
        }
        if !self.list && self.connection.dbname.is_none() {
            return Err(Error::usage("no target database")
                .hint("name it with -d; with -C, name any database to connect to first"));
        }
        let listed = match &self.use_list {
            None => None,
            Some(path) => {
                let text = std::fs::read(path).map_err(|error| {
                    Error::new(format!("could not read \"{}\": {error}", path.display()))
                })?;
                Some(parse_list(&String::from_utf8_lossy(&text))?)
            }
        };
        let names = |names: &[String]| -> Vec<BString> {
            names.iter().map(|name| name.as_str().into()).collect()
        };
        let options = Options {
            jobs: usize::from(self.parallel.unwrap_or(2)),
            selection: Selection {
                schemas: names(&self.schemas),
                excluded_schemas: names(&self.exclude_schemas),
                tables: names(&self.tables),
                indexes: names(&self.indexes),
                functions: names(&self.functions),
                triggers: names(&self.triggers),
                data_only: self.data_only,
                schema_only: self.schema_only,
                no_privileges: self.no_privileges,
                no_comments: self.no_comments,
                listed,
            },
            create_database: self.create,
            clean: self.clean,
            if_exists: self.if_exists,
            no_owner: self.no_owner,
            no_tablespaces: self.no_tablespaces,
            exit_on_error: self.exit_on_error,
            single_transaction: self.single_transaction,
            force: self.force,
            ..Options::default()
        };
        if self.list {
            return show::print(&self.file, false, &options.selection);
        }
        let input = if from_stdin {
            Input::Stdin
        } else {
            Input::File(self.file.clone())
        };
        let connector = self.connection.connector()?;
        let started = Instant::now();
        let progress = self.output.progress();
        let watching = self.output.watch(Arc::clone(&progress), "loading");
        let cancellation = Arc::clone(&options.cancellation);
        let report = or_cancelled_if(
            &connector,
            || cancellation.cancel(),
            restore::run(connector.clone(), input, options, Arc::clone(&progress)),
        )
        .await;
        drop(watching);
        let report = report?;
        self.tell(&report, &progress, started.elapsed());
        report.into_result().map(drop)
    }

    fn tell(&self, report: &Report, progress: &Progress, elapsed: Duration) {
        for warning in &report.warnings {
            self.output.warn(warning);
        }
        let counts = progress.counts();
        if self.output.json {
            for failure in &report.failures {
                print_json(&serde_json::json!({
                    "type": "failure",
                    "entry": failure.entry.0,
                    "object": failure.object,
                    "doing": failure.doing,
                    "message": failure.message,
                    "hint": failure.hint,
                }));
            }
            print_json(&serde_json::json!({
                "type": "summary",
                "outcome": if report.failures.is_empty() { "done" } else { "partial" },
                "database": report.database,
                "entries": report.entries,
                "failures": report.failures.len(),
                "rows": report.rows,
                "raw_bytes": counts.bytes,
                "connections": report.connections,
                "seconds": elapsed.as_secs_f64(),
            }));
            return;
        }
        for failure in &report.failures {
            tell(format_args!(
                "error: {} ({}): {}",
                failure.object, failure.doing, failure.message
            ));
            if let Some(hint) = &failure.hint {
                tell(format_args!("hint: {hint}"));
            }
        }
        let ended = if report.failures.is_empty() {
            "complete"
        } else {
            "ended with failures"
        };
        self.output.say(&format!(
            "restore into {} {ended}: {} entries, {} rows, {}, {:.1} s",
            report.database,
            report.entries,
            report.rows,
            bytes(counts.bytes),
            elapsed.as_secs_f64()
        ));
    }
}
