//! Servers that live as long as a command needs them, for `rdump demo` and restore tests.
//!
//! A server comes from PostgreSQL's programs on this machine where they are installed, else from
//! Docker. It listens where only this machine reaches it, does not sync to disk, and is removed
//! with its files when the value is dropped and also when this process dies without dropping it
//! (see [`Watchdog`]).

mod container;
mod image;
mod local;
mod program;
mod watchdog;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio_postgres::NoTls;

use crate::error::{Error, Result};

pub use image::ensure_image;
pub use watchdog::Watchdog;

/// The major version that is started where the caller names none and Docker provides it.
pub const DEFAULT_MAJOR: u32 = 18;

/// Starting takes a second or two; a loaded machine may need much longer.
const START_LIMIT: Duration = Duration::from_secs(120);

/// What a server can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// Nothing: what is restored into it reaches no other server.
    None,
    /// Whatever this machine reaches.
    OfMachine,
    /// Not known: the server is not ours.
    OfServer,
}

/// A running server with a superuser named `postgres`. Dropping it stops and removes it.
pub struct DisposableServer {
    access: Access,
    origin: String,
    network: Network,
    // Last: what it removes must not be in use by the fields above.
    _watchdog: Watchdog,
}

/// How to reach a server.
struct Access {
    /// A host name, or the folder of a Unix socket.
    host: String,
    port: u16,
    password: Option<String>,
}

impl Access {
    /// Values hold no quotes, spaces or backslashes: folders are checked by `local`, passwords
    /// are generated. The database's name is the caller's and is quoted.
    fn conninfo(&self, database: &str) -> String {
        let database = database.replace('\\', "\\\\").replace('\'', "\\'");
        let mut conninfo = format!(
            "host='{}' port={} user=postgres dbname='{database}'",
            self.host, self.port
        );
        if let Some(password) = &self.password {
            conninfo.push_str(&format!(" password='{password}'"));
        }
        conninfo
    }

    async fn answers(&self) -> Result<(), tokio_postgres::Error> {
        let mut config = tokio_postgres::Config::new();
        config.user("postgres").dbname("postgres").port(self.port);
        config.connect_timeout(Duration::from_secs(5));
        config.host(&self.host);
        if let Some(password) = &self.password {
            config.password(password);
        }
        // The connection is dropped at once: it was accepted, which is all that is asked.
        config.connect(NoTls).await.map(|_| ())
    }

    /// Waits until the server accepts connections; `ended` says why it never will.
    async fn wait(
        &self,
        ended: impl AsyncFn() -> Option<String>,
        log: impl AsyncFn() -> String,
    ) -> Result<()> {
        let started = Instant::now();
        loop {
            let refused = match self.answers().await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if let Some(reason) = ended().await {
                return Err(start_failed(&reason, &log().await));
            }
            if started.elapsed() > START_LIMIT {
                let reason = format!(
                    "no connection within {} seconds: {}",
                    START_LIMIT.as_secs(),
                    root_cause(&refused)
                );
                return Err(start_failed(&reason, &log().await));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl DisposableServer {
    /// Starts a server of this major version, or of the newest one at hand.
    ///
    /// `progress` is told of what takes long (fetching or building an image).
    pub async fn start(
        major: Option<u32>,
        progress: &mut (dyn FnMut(&str) + Send),
    ) -> Result<DisposableServer> {
        match local::find(major).await {
            Some(programs) => local::start(&programs, false).await,
            None => container::start(major.unwrap_or(DEFAULT_MAJOR), progress).await,
        }
    }

    /// Starts a server from programs on this machine that reaches nothing, if the kernel allows it
    /// (see [`DisposableServer::network`]): of this major version, or a later one. None: there are none.
    pub async fn start_isolated_local(major: u32) -> Result<Option<DisposableServer>> {
        match local::find_at_least(major).await {
            Some(programs) => local::start(&programs, true).await.map(Some),
            None => Ok(None),
        }
    }

    /// Starts a server in Docker that reaches nothing: from this image, or that of the major version.
    pub async fn start_isolated_container(
        major: u32,
        image: Option<&str>,
        progress: &mut (dyn FnMut(&str) + Send),
    ) -> Result<DisposableServer> {
        container::start_isolated(major, image, progress).await
    }

    pub fn network(&self) -> Network {
        self.network
    }

    /// Starts a server in Docker, whatever is installed on this machine.
    pub async fn start_container(
        major: u32,
        progress: &mut (dyn FnMut(&str) + Send),
    ) -> Result<DisposableServer> {
        container::start(major, progress).await
    }

    /// The conninfo string of the database `postgres`.
    pub fn conninfo(&self) -> String {
        self.conninfo_of("postgres")
    }

    /// The conninfo string of another database of this server.
    pub fn conninfo_of(&self, database: &str) -> String {
        self.access.conninfo(database)
    }

    /// Where the server came from, for people: `PostgreSQL 18.6 from /usr/lib/postgresql/18/bin`.
    pub fn origin(&self) -> &str {
        &self.origin
    }
}

/// The folder that files of local servers are made in.
pub fn local_folder() -> PathBuf {
    local::parent_folder()
}

/// Whether Docker answers, and if so, the folder that it keeps files in.
pub async fn docker_folder() -> Option<PathBuf> {
    let folder = container::docker(["info", "--format", "{{.DockerRootDir}}"], &[]).await;
    folder.ok().map(PathBuf::from)
}

/// Whether programs of this version, or a later one, are on this machine.
pub async fn has_local_programs(major: u32) -> bool {
    local::find_at_least(major).await.is_some()
}

fn start_failed(reason: &str, log: &str) -> Error {
    let log = log.trim_end();
    let message = format!("the disposable server did not start: {}", reason.trim_end());
    if log.is_empty() {
        Error::new(message)
    } else {
        Error::new(format!("{message}\nthe end of its log:\n{log}"))
    }
}

/// tokio-postgres prints only its outermost layer ("error connecting to server").
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// The last lines of a text: where a program says why it gave up.
fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Names of folders and containers must not meet those of another process, past or present.
fn unique_name() -> String {
    format!("rdump-{}-{:08x}", std::process::id(), rand::random::<u32>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conninfo_quotes_the_database() {
        let access = Access {
            host: "/tmp/x".into(),
            port: 5432,
            password: Some("secret".into()),
        };
        assert_eq!(
            access.conninfo(r"it's \ mine"),
            r"host='/tmp/x' port=5432 user=postgres dbname='it\'s \\ mine' password='secret'"
        );
    }

    #[test]
    fn tail_keeps_the_last_lines() {
        assert_eq!(tail("a\nb\nc\n", 2), "b\nc");
        assert_eq!(tail("a", 2), "a");
        assert_eq!(tail("", 2), "");
    }
}
