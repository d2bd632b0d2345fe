//! One file a subcommand: its arguments and a thin run. Errors are printed in one place, here.

mod aftermath;
mod archive;
mod cluster;
mod confirm;
mod connection;
mod demo;
mod dependencies;
mod filters;
mod history;
mod init;
mod inputs;
mod interrupt;
mod keygen;
mod keys;
mod list;
mod marks;
mod member;
mod output;
mod prune;
mod replay;
mod repository;
mod restore;
mod retention;
mod roles;
mod secret;
mod selection;
mod show;
mod snapshot;
mod sql;
mod sweep;
mod targets;
mod test;
mod test_report;
mod transactions;
mod verify;

use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::error::{Error, Result};

#[derive(Debug, Parser)]
#[command(
    name = "rdump",
    version,
    about = "Native PostgreSQL backup: parallel snapshots, checksummed archives, restores that are proved equal",
    disable_help_flag = true,
    disable_version_flag = true,
    propagate_version = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,

    /// Print help
    #[arg(short = '?', long, action = clap::ArgAction::Help, global = true, display_order = 1000)]
    help: Option<bool>,
    /// Print version
    #[arg(short = 'V', long, action = clap::ArgAction::Version, global = true, display_order = 1001)]
    version: Option<bool>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Take a snapshot of a database
    Snapshot(Box<snapshot::Arguments>),
    /// Restore an archive into a database
    Restore(Box<restore::Arguments>),
    /// Write an archive as plain SQL that psql runs
    Sql(sql::Arguments),
    /// Make a place a repository
    Init(init::Arguments),
    /// List the archives of a repository
    List(list::Arguments),
    Pin(marks::Pin),
    Unpin(marks::Unpin),
    Tag(marks::Tag),
    Prune(prune::Arguments),
    Sweep(sweep::Arguments),
    Test(Box<test::Arguments>),
    /// List the runs that worked on a repository, failed ones too
    History(history::Arguments),
    /// Show the whole cycle on a disposable server
    Demo(demo::Arguments),
    /// Make a key that archives can be encrypted for
    Keygen(keygen::Arguments),
    /// Print the table of contents of an archive
    Show(show::Arguments),
    /// Check an archive, or prove a database equal to it
    Verify(verify::Arguments),
}

/// Parses, runs, prints the error; the process's exit code.
pub fn main() -> ExitCode {
    let command = without_empty_variables(Arguments::command());
    let matches = match command.try_get_matches() {
        Ok(matches) => matches,
        Err(error) => {
            // clap knows whether it is help for stdout or a mistake for stderr
            if error.use_stderr() {
                let _ = write!(std::io::stderr().lock(), "rdump: {}", error.render());
                return ExitCode::from(2);
            }
            output::print(error.render().to_string().trim_end());
            return ending(output::check_printed());
        }
    };
    let outcome = Arguments::from_arg_matches(&matches)
        .map_err(|error| Error::usage(error.to_string()))
        .and_then(|arguments| run(arguments.command));
    ending(outcome.and_then(|()| output::check_printed()))
}

/// A variable that is empty, as `RDUMP_KEEP_LAST=` in a file of variables makes it, is one that is not
/// given.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |argument: &clap::Arg| {
        let value = argument.get_env().and_then(std::env::var_os);
        value.is_some_and(|value| value.is_empty())
    };
    command
        .mut_args(|argument| match is_empty(&argument) {
            true => argument.env(clap::builder::Resettable::Reset),
            false => argument,
        })
        .mut_subcommands(without_empty_variables)
}

fn ending(outcome: Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::print_error(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(command: Command) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::new(format!("could not start the runtime: {error}")))?;
    let outcome = runtime.block_on(async {
        interrupt::survive_file_limits()?;
        match command {
            Command::Snapshot(arguments) => arguments.run().await,
            Command::Restore(arguments) => arguments.run().await,
            Command::Sql(arguments) => arguments.run().await,
            Command::Init(arguments) => arguments.run().await,
            Command::List(arguments) => arguments.run().await,
            Command::Pin(arguments) => arguments.run().await,
            Command::Unpin(arguments) => arguments.run().await,
            Command::Tag(arguments) => arguments.run().await,
            Command::Prune(arguments) => arguments.run().await,
            Command::Sweep(arguments) => arguments.run().await,
            Command::Test(arguments) => arguments.run().await,
            Command::History(arguments) => arguments.run().await,
            Command::Demo(arguments) => arguments.run().await,
            Command::Keygen(arguments) => arguments.run(),
            Command::Show(arguments) => arguments.run().await,
            Command::Verify(arguments) => arguments.run().await,
        }
    });
    // a thread that blocks on standard input must not keep the process
    runtime.shutdown_background();
    outcome
}
