//! Clean-up that also happens when this process is killed.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};

use super::program::program;
use crate::error::{Result, ResultExt};

/// A child process that runs a shell script once this process has ended, in whatever way.
///
/// The child waits for the end of a pipe whose other end only this process holds; the kernel
/// closes it on exit, on a panic and on SIGKILL alike. It has a process group of its own and
/// ignores signals, so that Ctrl-C at a terminal does not take it along. Dropping the value
/// closes the pipe too, and waits until the script is done.
pub struct Watchdog {
    child: Child,
}

impl Watchdog {
    /// `before` runs at once (it may start background processes), `after` when this process has
    /// ended; both find `arguments` in `$1`, `$2`, and so on. With `user`, the script runs as that user and
    /// group, without supplementary groups.
    pub fn spawn<A: AsRef<OsStr>>(
        before: &str,
        after: &str,
        arguments: impl IntoIterator<Item = A>,
        user: Option<(u32, u32)>,
    ) -> Result<Watchdog> {
        let script = format!("trap '' HUP INT QUIT TERM\n{before}\ncat >/dev/null\n{after}\n");
        let mut command = program("sh").into_std();
        command
            .arg("-c")
            .arg(script)
            .arg("rdump-watchdog")
            .args(arguments)
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if let Some((uid, gid)) = user {
            command.uid(uid).gid(gid);
        }
        let child = command.spawn().context("starting the clean-up process")?;
        Ok(Watchdog { child })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn runs_the_script_when_dropped_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let (early, late) = (folder.path().join("early"), folder.path().join("late"));
        let watchdog = Watchdog::spawn(
            "echo >\"$1\"; echo >\"$1.done\"",
            "echo >\"$2\"",
            [&early, &late],
            None,
        )
        .unwrap();
        wait_for(&folder.path().join("early.done"));
        assert!(!late.exists());
        drop(watchdog);
        assert!(late.exists());
    }

    const VICTIM: &str = "RDUMP_WATCHDOG_VICTIM";

    /// Does nothing by itself: the test below runs it in a process of its own and kills that.
    #[test]
    fn victim() {
        let Some(marker) = std::env::var_os(VICTIM) else {
            return;
        };
        let _watchdog =
            Watchdog::spawn("echo >\"$1.up\"", "echo >\"$1\"", [&marker], None).unwrap();
        std::thread::sleep(std::time::Duration::from_secs(60));
    }

    #[test]
    fn runs_the_script_when_the_process_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let marker = folder.path().join("marker");
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "postgres::disposable::watchdog::tests::victim"])
            .env(VICTIM, &marker)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        wait_for(&folder.path().join("marker.up"));
        assert!(!marker.exists());
        victim.kill().unwrap();
        victim.wait().unwrap();
        wait_for(&marker);
    }

    fn wait_for(path: &std::path::Path) {
        let started = std::time::Instant::now();
        while !path.exists() {
            assert!(
                started.elapsed().as_secs() < 20,
                "{} does not appear",
                path.display()
            );
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}
