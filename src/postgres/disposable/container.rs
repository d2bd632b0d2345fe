//! A disposable server in Docker, through its command line client.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::image::ensure_named_image;
use super::local::make_folder;
use super::program::program;
use super::{
    Access, DisposableServer, Network, START_LIMIT, Watchdog, ensure_image, start_failed, tail,
    unique_name,
};
use crate::error::{Error, Result, ResultExt};

/// How the server is reached.
enum Reach<'a> {
    /// Over a port of this machine's loopback interface.
    Port,
    /// Over a Unix socket in this folder, and without a network.
    Socket(&'a Path),
}

pub(super) async fn start(
    major: u32,
    progress: &mut (dyn FnMut(&str) + Send),
) -> Result<DisposableServer> {
    answers().await.map_err(|error| {
        Error::new(format!(
            "no PostgreSQL programs on this machine, and {error}"
        ))
        .hint("install PostgreSQL's server package, or start Docker")
    })?;
    ensure_image(major, progress).await?;
    let name = unique_name();
    let watchdog = Watchdog::spawn("", r#"docker rm -f -v "$1""#, [&name], None)?;
    run(&format!("postgres:{major}"), &name, Reach::Port, watchdog).await
}

/// What the server leaves in the folder of its socket belongs to another user: the container removes it.
const REMOVE_ISOLATED: &str = r#"docker exec --user 0 "$1" sh -c 'rm -rf /var/run/postgresql/.s.PGSQL.*'
docker rm -f -v "$1"
rm -rf "$2""#;

/// Without a network; the socket stands in a folder that only we may enter.
pub(super) async fn start_isolated(
    major: u32,
    image: Option<&str>,
    progress: &mut (dyn FnMut(&str) + Send),
) -> Result<DisposableServer> {
    answers()
        .await
        .map_err(|error| error.hint("start Docker"))?;
    let image = match image {
        Some(image) => {
            ensure_named_image(image, progress).await?;
            image.to_owned()
        }
        None => {
            ensure_image(major, progress).await?;
            format!("postgres:{major}")
        }
    };
    let folder = make_folder()?;
    let socket = folder.join("socket");
    let name = unique_name();
    let watched = [name.as_ref(), folder.as_os_str()];
    let watchdog = std::fs::create_dir(&socket)
        .with_context(|| format!("creating folder {}", socket.display()))
        .and_then(|()| Watchdog::spawn("", REMOVE_ISOLATED, watched, None))
        .inspect_err(|_| {
            let _ = std::fs::remove_dir_all(&folder);
        })?;
    run(&image, &name, Reach::Socket(&socket), watchdog).await
}

async fn answers() -> Result<()> {
    docker(["version", "--format", "{{.Server.Version}}"], &[])
        .await
        .map(drop)
        .map_err(|error| Error::new(format!("Docker does not answer: {error}")))
}

async fn run(
    image: &str,
    name: &str,
    reach: Reach<'_>,
    watchdog: Watchdog,
) -> Result<DisposableServer> {
    let password = format!("{:032x}", rand::random::<u128>());
    let network = match reach {
        Reach::Port => vec!["--publish".to_owned(), "127.0.0.1::5432".to_owned()],
        Reach::Socket(folder) => vec![
            "--network".to_owned(),
            "none".to_owned(),
            "--volume".to_owned(),
            // z: SELinux, where there is one, lets the container in
            format!("{}:/var/run/postgresql:z", folder.display()),
        ],
    };
    let mut arguments = vec![
        "run",
        "--detach",
        "--name",
        name,
        "--label",
        "org.rdump.disposable=1",
    ];
    arguments.extend(network.iter().map(String::as_str));
    arguments.extend([
        "--shm-size",
        "256m",
        "--env",
        "POSTGRES_PASSWORD",
        image,
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
    ]);
    // The password goes through the environment: arguments are public.
    docker(arguments, &[("POSTGRES_PASSWORD", &password)])
        .await
        .with_context(|| format!("starting a container of {image}"))?;

    let access = match reach {
        Reach::Port => Access {
            host: "127.0.0.1".into(),
            port: published_port(name).await?,
            password: Some(password),
        },
        Reach::Socket(folder) => {
            // the server that sets the cluster up listens on the socket as well
            set_up(name).await?;
            Access {
                host: folder.to_string_lossy().into_owned(),
                port: 5432,
                password: Some(password),
            }
        }
    };
    access
        .wait(async || ended(name).await, async || log(name).await)
        .await
        .with_context(|| format!("starting a container of {image}"))?;
    let version = docker(["exec", name, "postgres", "--version"], &[]).await?;
    let version = version
        .split_whitespace()
        .nth(2)
        .unwrap_or("of an unknown version")
        .to_owned();
    Ok(DisposableServer {
        access,
        origin: format!("PostgreSQL {version} from Docker image {image}"),
        network: match reach {
            Reach::Port => Network::OfMachine,
            Reach::Socket(_) => Network::None,
        },
        _watchdog: watchdog,
    })
}

/// Waits until the container's first process is the server itself, and no longer the script that sets
/// it up with a server of its own.
async fn set_up(name: &str) -> Result<()> {
    let started = Instant::now();
    loop {
        let first = docker(["exec", name, "cat", "/proc/1/comm"], &[]).await;
        if first.is_ok_and(|program| program.contains("postgres")) {
            return Ok(());
        }
        if let Some(reason) = ended(name).await {
            return Err(start_failed(&reason, &log(name).await));
        }
        if started.elapsed() > START_LIMIT {
            return Err(start_failed("it was not set up in time", &log(name).await));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn ended(name: &str) -> Option<String> {
    let format = "{{.State.Running}} {{.State.ExitCode}} {{.State.Error}}";
    let state = docker(["inspect", "--format", format, name], &[])
        .await
        .ok()?;
    let mut words = state.splitn(3, ' ');
    (words.next() == Some("false")).then(|| {
        format!(
            "container ended with exit code {}",
            words.collect::<Vec<_>>().join(" ").trim()
        )
    })
}

async fn log(name: &str) -> String {
    match program("docker")
        .args(["logs", "--tail", "15", name])
        .stdin(Stdio::null())
        .output()
        .await
    {
        Ok(output) => {
            let text = [output.stdout, output.stderr].concat();
            tail(&String::from_utf8_lossy(&text), 15)
        }
        Err(error) => format!("(docker logs: {error})"),
    }
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
            return Err(start_failed(&error.to_string(), &log));
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
    let output = program("docker")
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
