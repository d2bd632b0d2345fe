//! `rdump restore`

mod replace;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bstr::BString;
use clap::Args;

use super::archive::ArchiveArguments;
use super::connection::ConnectionArguments;
use super::dependencies::{DependencyArguments, refuse_bad_length};
use super::inputs;
use super::interrupt::or_cancelled_if;
use super::keys::KeyArguments;
use super::member::MemberArguments;
use super::output::{OutputArguments, bytes, print_json, tell};
use super::replay::ReplayArguments;
use super::roles::RoleArguments;
use super::selection::SelectionArguments;
use super::show;
use super::transactions::TransactionArguments;
use crate::error::{Error, Result};
use crate::report::{Progress, counted};
use crate::restore::{self, Options, Report, Restored, SetReport};
use replace::ReplaceArguments;

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    archive: ArchiveArguments,
    /// Connections that load and build at once; fewer where the server would have none left for others
    /// [default: 2]
    #[arg(short = 'j', long = "parallel", visible_alias = "jobs", value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=1000))]
    parallel: Option<u16>,
    #[command(flatten)]
    replay: ReplayArguments,
    /// With -C, give the new database this name, with all that is set for it and for roles in it; with
    /// --replace, replace this one
    #[arg(long, value_name = "NAME")]
    database_name: Option<String>,
    /// Load no rows into tables that could not be created
    #[arg(long)]
    no_data_for_failed_tables: bool,
    /// Superuser who disables triggers
    #[arg(short = 'S', long, value_name = "NAME", requires = "disable_triggers")]
    superuser: Option<String>,
    /// Print the table of contents instead of restoring
    #[arg(short = 'l', long)]
    list: bool,
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
    replace: ReplaceArguments,
    #[command(flatten)]
    selection: SelectionArguments,
    #[command(flatten)]
    member: MemberArguments,
    #[command(flatten)]
    keys: KeyArguments,
    #[command(flatten)]
    dependencies: DependencyArguments,
    #[command(flatten)]
    roles: RoleArguments,
    #[command(flatten)]
    transactions: TransactionArguments,
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
        if self.list {
            self.archive.refuse_stream("-l")?;
        }
        inputs::refuse_shared_stdin(&self.selection.inputs(self.archive.file()))?;
        if !self.list && self.connection.dbname.is_none() {
            return Err(Error::usage("no target database")
                .hint("name it with -d; with -C, name any database to connect to first"));
        }
        let selection = self.selection.selection()?;
        if let Some(name) = &self.database_name {
            if !self.replay.create && !self.replace.replace {
                return Err(
                    Error::usage("--database-name is the name of a new database")
                        .hint("add -C to create it, or --replace to put a new one in its place"),
                );
            }
            refuse_bad_length("--database-name", name)?;
        }
        let mut options = Options {
            jobs: usize::from(self.parallel.unwrap_or(2)),
            selection,
            create_database: self.replay.create,
            database_name: self.database_name.as_deref().map(BString::from),
            clean: self.replay.clean,
            if_exists: self.replay.if_exists,
            no_owner: self.replay.no_owner,
            no_tablespaces: self.replay.no_tablespaces,
            no_table_access_method: self.replay.no_table_access_method,
            no_data_for_failed_tables: self.no_data_for_failed_tables,
            disable_triggers: self.replay.disable_triggers,
            superuser: self.superuser.clone(),
            exit_on_error: self.exit_on_error,
            single_transaction: self.single_transaction,
            force: self.force,
            ..Options::default()
        };
        options.keys = self.keys.keys()?;
        options.transaction_size = self.transactions.size();
        if options.transaction_size.is_some() && self.parallel.is_none() {
            options.jobs = 1;
        }
        options.roles = self.roles.map()?;
        options.dependencies = self.dependencies.dependencies(&options.selection)?;
        if self.list {
            let input = self.archive.choose().await?.input;
            let choice = self.member.choice();
            return show::print(input, &choice, &options.keys, false, &options.selection).await;
        }
        if self.replace.replace {
            return self.replace(options).await;
        }
        let connector = self.connection.connector()?;
        self.archive.require()?;
        let chosen = self.archive.choose().await?;
        chosen.refuse_another().await?;
        if let Some(told) = &chosen.told {
            self.output.say(&format!("restoring {told}"));
        }
        let input = chosen.input;
        let started = Instant::now();
        let progress = self.output.progress();
        let watching = self.output.watch(Arc::clone(&progress), "loading");
        let cancellation = Arc::clone(&options.cancellation);
        let triggers = Arc::clone(&options.triggers);
        let dependencies = options.dependencies.clone();
        let report = or_cancelled_if(
            &connector,
            || cancellation.cancel(),
            restore::run_any(
                connector.clone(),
                input,
                &self.member.choice(),
                options,
                Arc::clone(&progress),
            ),
        )
        .await;
        let report = match report {
            Err(error) if error.exit_code() > 128 => Err(triggers.after_signal(error).await),
            ended => ended,
        };
        drop(watching);
        // a run that a signal ends does not come to say it itself
        let report = report.map_err(|error| match dependencies {
            _ if error.exit_code() <= 128 => error,
            Some(wanted) => wanted.left_behind(error),
            None => tell_members(error, &progress.members()),
        });
        match report? {
            Restored::Archive(report) => {
                self.tell(&report, &progress, started.elapsed());
                report.into_result().map(drop)
            }
            Restored::Set(report) => {
                self.tell_set(&report, &progress, started.elapsed());
                report.into_result().map(drop)
            }
        }
    }

    fn tell_set(&self, report: &SetReport, progress: &Progress, elapsed: Duration) {
        let mut rows = 0;
        for member in &report.members {
            let name = &member.member;
            match &member.outcome {
                Ok(own) => {
                    rows += own.rows;
                    for warning in &own.warnings {
                        self.output.warn(&format!("{name}: {warning}"));
                    }
                    self.tell_failures(own, Some(name));
                    let outcome = match member.is_complete() {
                        true => "done",
                        false => "partial",
                    };
                    if self.output.json {
                        print_json(&serde_json::json!({
                            "type": "member",
                            "member": name,
                            "outcome": outcome,
                            "entries": own.entries,
                            "failures": own.failures.len(),
                            "rows": own.rows,
                        }));
                    } else {
                        let ended = match member.is_complete() {
                            true => "complete".to_owned(),
                            false => format!(
                                "ended with {}",
                                counted(own.failures.len() as u64, "failure", "failures")
                            ),
                        };
                        self.output.say(&format!(
                            "{name} {ended}: {}, {}",
                            counted(own.entries as u64, "entry", "entries"),
                            counted(own.rows, "row", "rows")
                        ));
                    }
                }
                Err(error) if self.output.json => print_json(&serde_json::json!({
                    "type": "member",
                    "member": name,
                    "outcome": "failed",
                    "message": error.to_string(),
                    "hint": error.hint_text(),
                })),
                Err(error) => {
                    tell(format_args!("error: {name}: {error}"));
                    if let Some(hint) = error.hint_text() {
                        tell(format_args!("hint: {hint}"));
                    }
                }
            }
        }
        if self.output.json {
            for name in &report.not_reached {
                print_json(&serde_json::json!({
                    "type": "member",
                    "member": name,
                    "outcome": "not begun",
                }));
            }
        } else if let Some(names) = report.left_out() {
            tell(format_args!(
                "error: not begun, as the run ended before: {names}"
            ));
        }
        let complete = report.members.iter().filter(|m| m.is_complete()).count();
        let all = complete == report.total() && report.broken_off.is_none() && !report.is_unread;
        if self.output.json {
            print_json(&serde_json::json!({
                "type": "summary",
                "outcome": if all { "done" } else { "partial" },
                "content": "set",
                "members": report.total(),
                "complete": complete,
                "rows": rows,
                "raw_bytes": progress.counts().bytes,
                "seconds": elapsed.as_secs_f64(),
            }));
            return;
        }
        self.output.say(&format!(
            "restore of the set {}: {complete} of {} members in full, {}, {}, {:.1} s",
            if all {
                "complete"
            } else {
                "ended with failures"
            },
            report.total(),
            counted(rows, "row", "rows"),
            bytes(progress.counts().bytes),
            elapsed.as_secs_f64()
        ));
    }

    fn tell_failures(&self, report: &Report, member: Option<&str>) {
        for failure in &report.failures {
            if self.output.json {
                print_json(&serde_json::json!({
                    "type": "failure",
                    "member": member,
                    "entry": failure.entry.0,
                    "object": failure.object,
                    "doing": failure.doing.to_string(),
                    "message": failure.message,
                    "hint": failure.hint,
                }));
                continue;
            }
            let member = member.map(|name| format!("{name}: ")).unwrap_or_default();
            tell(format_args!(
                "error: {member}{} ({}): {}",
                failure.object, failure.doing, failure.message
            ));
            if let Some(hint) = &failure.hint {
                tell(format_args!("hint: {hint}"));
            }
        }
    }

    fn tell(&self, report: &Report, progress: &Progress, elapsed: Duration) {
        for warning in &report.warnings {
            self.output.warn(warning);
        }
        let counts = progress.counts();
        self.tell_failures(report, None);
        if self.output.json {
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
        let ended = if report.failures.is_empty() {
            "complete"
        } else {
            "ended with failures"
        };
        self.output.say(&format!(
            "restore into {} {ended}: {}, {}, {}, {:.1} s",
            report.database,
            counted(report.entries as u64, "entry", "entries"),
            counted(report.rows, "row", "rows"),
            bytes(counts.bytes),
            elapsed.as_secs_f64()
        ));
    }
}

/// What a signal leaves of a set.
fn tell_members(error: Error, begun: &[String]) -> Error {
    let Some((at, before)) = begun.split_last() else {
        return error;
    };
    let before = match before {
        [] => String::new(),
        before => format!(
            "restored before, as far as that went: {}; ",
            before.join(", ")
        ),
    };
    error.hint(format!(
        "{before}{at} may be restored in part; nothing behind it was begun"
    ))
}
