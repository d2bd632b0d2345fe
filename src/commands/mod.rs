//! One file a subcommand: its arguments and a thin run.

use std::process::ExitCode;

pub fn main() -> ExitCode {
    ExitCode::SUCCESS
}
