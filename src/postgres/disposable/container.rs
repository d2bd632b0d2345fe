//! A disposable server in Docker, through its command line client.

use std::process::Stdio;

use tokio::process::Command;

use super::{Access, DisposableServer, Watchdog, ensure_image, tail, unique_name};
use crate::error::{Error, Result, ResultExt};

pub(super) async fn start(
    major: u32,
    progress: &mut (dyn FnMut(&str) + Send),
) -> Result<DisposableServer> {
    docker(["version", "--format", "{{.Server.Version}}"], &[])
        .await
        .map_err(|error| {
            Error::new(format!(
                "no PostgreSQL programs on this machine, and Docker does not answer: {error}"
            ))
            .hint("install PostgreSQL's server package, or start Docker")
        })?;
    ensure_image(major, progress).await?;

    let image = format!("postgres:{major}");
    let name = unique_name();
    let password = format!("{:032x}", rand::random::<u128>());
    let watchdog = Watchdog::spawn("", r#"docker rm -f -v "$1""#, [&name], None)?;
    // The password goes through the environment: arguments are public.
    docker(
        [
            "run",
            "--detach",
            "--name",
            &name,
            "--label",
            "org.rdump.disposable=1",
            "--publish",
            "127.0.0.1::5432",
            "--shm-size",
            "256m",
            "--env",
            "POSTGRES_PASSWORD",
            &image,
            "-c",
            "fsync=off",
            "-c",
            "synchronous_commit=off",
            "-c",
            "full_page_writes=off",
            "-c",
            "max_locks_per_transaction=256",
            "-c",
            "max_wal_size=4GB",
        ],
        &[("POSTGRES_PASSWORD", &password)],
    )
    .await
    .with_context(|| format!("starting a container of {image}"))?;

    let access = Access {
        host: "127.0.0.1".into(),
        port: published_port(&name).await?,
        password: Some(password),
    };
    access
        .wait(
            async || {
                let format = "{{.State.Running}} {{.State.ExitCode}} {{.State.Error}}";
                let state = docker(["inspect", "--format", format, &name], &[])
                    .await
                    .ok()?;
                let mut words = state.splitn(3, ' ');
                (words.next() == Some("false")).then(|| {
                    format!(
                        "container ended with exit code {}",
                        words.collect::<Vec<_>>().join(" ").trim()
                    )
                })
            },
            async || match Command::new("docker")
                .args(["logs", "--tail", "15", &name])
                .stdin(Stdio::null())
                .output()
                .await
            {
                Ok(output) => {
                    let text = [output.stdout, output.stderr].concat();
                    tail(&String::from_utf8_lossy(&text), 15)
                }
                Err(error) => format!("(docker logs: {error})"),
            },
        )
        .await
        .with_context(|| format!("starting a container of {image}"))?;
    let version = docker(["exec", &name, "postgres", "--version"], &[]).await?;
    let version = version
        .split_whitespace()
        .nth(2)
        .unwrap_or("of an unknown version")
        .to_owned();
    Ok(DisposableServer {
        access,
        origin: format!("PostgreSQL {version} from Docker image {image}"),
        _watchdog: watchdog,
    })
}

/// `docker port` prints `127.0.0.1:49153`.
async fn published_port(name: &str) -> Result<u16> {
    let output = match docker(["port", name, "5432/tcp"], &[]).await {
        Ok(output) => output,
        // A container that ended at once has no ports; its log says why.
        Err(error) => {
            let log = docker(["logs", "--tail", "15", name], &[])
                .await
                .unwrap_or_default();
            return Err(super::start_failed(&error.to_string(), &log));
        }
    };
    output
        .lines()
        .filter_map(|line| line.rsplit_once(':'))
        .find_map(|(_, port)| port.trim().parse().ok())
        .ok_or_else(|| Error::new(format!("docker port printed no port: {output:?}")))
}

/// Runs a docker command to its end: its output, or what it complained of.
pub(super) async fn docker<'a>(
    arguments: impl IntoIterator<Item = &'a str>,
    environment: &[(&str, &str)],
) -> Result<String> {
    let output = Command::new("docker")
        .args(arguments)
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| Error::new(format!("docker: {error}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(Error::new(tail(complaint.trim(), 5)))
}
