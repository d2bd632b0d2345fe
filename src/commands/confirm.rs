//! Asking before something is done that cannot be taken back.

use std::io::{IsTerminal, Write};

use crate::error::{Error, Result};

/// Where nobody can be asked, `--yes` must have been given.
pub fn refuse_without_terminal(what_is_done: &str, dry_run: &str) -> Result<()> {
    if std::io::stdin().is_terminal() {
        return Ok(());
    }
    Err(
        Error::usage(format!("{what_is_done} only if that is confirmed"))
            .hint(format!("give --yes, or --dry-run to {dry_run}")),
    )
}

pub fn confirmed(question: &str) -> Result<bool> {
    write!(std::io::stderr().lock(), "{question}? [y/N] ")?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
