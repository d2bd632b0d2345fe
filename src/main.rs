use std::process::ExitCode;

fn main() -> ExitCode {
    rdump::commands::main()
}
