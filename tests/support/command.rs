//! Running programs.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::libc;

/// What a program left behind when it ended.
#[derive(Debug)]
pub struct Finished {
    /// Exit code; 128 + number where a signal ended it.
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Finished {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// Runs a command to its end, feeding it `input`.
pub fn run(command: &mut Command, input: &[u8]) -> Finished {
    use std::os::unix::process::ExitStatusExt;
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let output = std::thread::scope(|scope| {
        // A program that ends early leaves a broken pipe; its exit code tells.
        scope.spawn(move || {
            let _ = stdin.write_all(input);
        });
        child.wait_with_output().expect("waiting for a child")
    });
    let status = output.status;
    Finished {
        code: status
            .code()
            .unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
        stdout: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// As [`run`], for a command that must succeed.
pub fn run_ok(command: &mut Command, input: &[u8]) -> Finished {
    let finished = run(command, input);
    assert_eq!(
        finished.code,
        0,
        "{command:?} failed:\n{}{}",
        finished.stderr,
        // an archive would be of no use here
        std::str::from_utf8(&finished.stdout).unwrap_or_default()
    );
    finished
}

/// `rdump ARGUMENTS`, with nothing of the caller's own settings: no PG*, RDUMP_* or AWS_*
/// variables, no password, service or configuration files.
pub fn rdump_command<S: AsRef<OsStr>>(arguments: &[S]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rdump"));
    command.args(arguments);
    for (name, _) in std::env::vars_os() {
        let foreign = ["PG", "RDUMP_", "AWS_"];
        if foreign
            .iter()
            .any(|prefix| name.to_string_lossy().starts_with(prefix))
        {
            command.env_remove(name);
        }
    }
    command.env("HOME", "/nonexistent").env("NO_COLOR", "1");
    heed_signals(&mut command);
    command
}

/// Signals that whoever started the tests has ignored (nohup, a shell's `&`) would stay ignored in
/// what the tests start.
pub fn heed_signals(command: &mut Command) {
    let reset = || {
        for signal in [
            libc::SIGHUP,
            libc::SIGINT,
            libc::SIGQUIT,
            libc::SIGTERM,
            libc::SIGXFSZ,
        ] {
            // SAFETY: signal() touches no memory, and is safe between fork and exec.
            if unsafe { libc::signal(signal, libc::SIG_DFL) } == libc::SIG_ERR {
                return Err(std::io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: `reset` allocates nothing and takes no lock.
    unsafe { command.pre_exec(reset) };
}

/// Runs `rdump ARGUMENTS`.
pub fn rdump<S: AsRef<OsStr>>(arguments: &[S]) -> Finished {
    run(&mut rdump_command(arguments), b"")
}

/// Runs `rdump ARGUMENTS`, which must succeed.
pub fn rdump_ok<S: AsRef<OsStr>>(arguments: &[S]) -> Finished {
    run_ok(&mut rdump_command(arguments), b"")
}
