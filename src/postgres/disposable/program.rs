//! Programs that are started beside rdump.

use std::ffi::OsStr;

use tokio::process::Command;

/// What a program gets no word of: rdump's own settings, which may be secrets, credentials, and the way
/// to other servers, which a foreign server of the archive would take for its own.
const KEPT_BACK: [&str; 3] = ["RDUMP_", "AWS_", "PG"];

/// Starts with the environment of this process, but for secrets.
pub(super) fn program(name: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(name);
    for (variable, _) in std::env::vars_os() {
        let is_kept_back = |prefix: &&str| variable.to_string_lossy().starts_with(prefix);
        if KEPT_BACK.iter().any(is_kept_back) {
            command.env_remove(&variable);
        }
    }
    // where libpq looks for servers that are not named
    command.env("PGHOST", "/nonexistent");
    command
}
