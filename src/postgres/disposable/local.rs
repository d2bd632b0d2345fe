//! A disposable server from PostgreSQL's programs on this machine.

use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::program::program;
use super::{Access, DisposableServer, Network, Watchdog, tail, unique_name};
use crate::error::{Error, Result, ResultExt};

/// The oldest server that is worth a demonstration.
const OLDEST_MAJOR: u32 = 13;

/// The socket's name within the folder; the port is part of it and of nothing else.
const PORT: u16 = 5432;

/// `sun_path` holds 104 bytes on macOS and the BSDs, 108 on Linux.
const LONGEST_SOCKET_FOLDER: usize = 104 - "/.s.PGSQL.5432".len() - 1;

/// Bytes of a name of ours, with a process number of any size, and of the folder of a container's socket.
const LONGEST_NAME: usize = "/rdump-4294967295-00000000/socket".len();

/// A folder with `postgres` and `initdb`, and what they say their version is.
pub(super) struct Programs {
    folder: PathBuf,
    version: String,
    major: u32,
}

/// The newest installed version, or the newest of this major version.
pub(super) async fn find(major: Option<u32>) -> Option<Programs> {
    let oldest = |found: u32| found >= OLDEST_MAJOR;
    newest(|found| major.map_or(oldest(found), |major| found == major)).await
}

/// This major version, else the newest above it.
pub(super) async fn find_at_least(major: u32) -> Option<Programs> {
    match find(Some(major)).await {
        Some(programs) => Some(programs),
        None => newest(|found| found > major).await,
    }
}

async fn newest(is_wanted: impl Fn(u32) -> bool) -> Option<Programs> {
    let mut best: Option<Programs> = None;
    for folder in candidate_folders() {
        let Some(found) = probe(folder).await else {
            continue;
        };
        if is_wanted(found.major) && best.as_ref().is_none_or(|best| found.major > best.major) {
            best = Some(found);
        }
    }
    best
}

/// Debian keeps the server's programs off PATH; Red Hat and Homebrew have folders of their own.
fn candidate_folders() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    let parents = [
        "/usr/lib/postgresql",
        "/usr",
        "/opt/homebrew/opt",
        "/usr/local/opt",
    ];
    for parent in parents {
        let Ok(entries) = std::fs::read_dir(parent) else {
            continue;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let versioned = match parent {
                "/usr/lib/postgresql" => name.bytes().all(|byte| byte.is_ascii_digit()),
                "/usr" => name.starts_with("pgsql-"),
                _ => name == "postgresql" || name.starts_with("postgresql@"),
            };
            if versioned {
                folders.push(entry.path().join("bin"));
            }
        }
    }
    if let Some(path) = std::env::var_os("PATH") {
        folders.extend(std::env::split_paths(&path).filter(|folder| folder.is_absolute()));
    }
    folders
}

async fn probe(folder: PathBuf) -> Option<Programs> {
    if !folder.join("initdb").is_file() {
        return None;
    }
    let output = program(folder.join("postgres"))
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .await
        .ok()?;
    let version = parse_version(&String::from_utf8_lossy(&output.stdout))?;
    let major = version
        .split(|c: char| !c.is_ascii_digit())
        .next()?
        .parse()
        .ok()?;
    Some(Programs {
        folder,
        version,
        major,
    })
}

/// `postgres (PostgreSQL) 15.18 (Debian ...)` has the version as its third word.
fn parse_version(output: &str) -> Option<String> {
    output
        .split_whitespace()
        .nth(2)
        .filter(|word| word.starts_with(|c: char| c.is_ascii_digit()))
        .map(str::to_owned)
}

/// PostgreSQL refuses to run as root: the account that root runs it as.
fn unprivileged_account(passwd: &str) -> Option<(u32, u32)> {
    ["postgres", "nobody"].iter().find_map(|wanted| {
        passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
            (name == *wanted && uid != 0).then_some((uid, gid))
        })
    })
}

/// `$1` is the folder, `$2` that of the programs; with `isolated` as `$3`, the server gets a network
/// of its own without any interface, where the kernel lets this user make one: `isolated` appears.
/// `ended` appears when the server is gone.
const RUN_SERVER: &str = r#"alone='unshare --map-current-user --net'
if [ "$3" = isolated ] && $alone true 2>/dev/null; then : >"$1/isolated"; else alone=; fi
{
    "$2/initdb" -D "$1/data" --username=postgres --auth=trust --encoding=UTF8 --no-locale --no-sync &&
    [ ! -e "$1/stop" ] &&
    $alone "$2/postgres" -D "$1/data" -k "$1" -c listen_addresses= -c port=5432 \
        -c unix_socket_permissions=0700 -c fsync=off -c synchronous_commit=off \
        -c full_page_writes=off -c max_connections=100 -c max_locks_per_transaction=256 \
        -c max_wal_size=4GB -c logging_collector=off
    echo $? >"$1/ended"
} </dev/null >"$1/log" 2>&1 &"#;

/// SIGQUIT is an immediate shutdown: nothing here is worth a checkpoint.
const REMOVE_SERVER: &str = r#": >"$1/stop"
while kill -0 $!; do
    read -r server <"$1/data/postmaster.pid" && [ "$server" -gt 1 ] && kill -QUIT "$server"
    sleep 0.05
done
rm -rf "$1""#;

pub(super) async fn start(programs: &Programs, isolated: bool) -> Result<DisposableServer> {
    let folder = make_folder()?;
    // Owns the folder from here on: removes it however this ends.
    let user = match prepare(&folder) {
        Ok(user) => user,
        Err(error) => {
            let _ = std::fs::remove_dir_all(&folder);
            return Err(error);
        }
    };
    let origin = format!(
        "PostgreSQL {} from {}",
        programs.version,
        programs.folder.display()
    );
    let isolation = if isolated { "isolated" } else { "" };
    // Both programs are children of the watchdog, which outlives this process if it is killed.
    let watchdog = Watchdog::spawn(
        RUN_SERVER,
        REMOVE_SERVER,
        [
            folder.as_os_str(),
            programs.folder.as_os_str(),
            isolation.as_ref(),
        ],
        user,
    )
    .inspect_err(|_| {
        let _ = std::fs::remove_dir_all(&folder);
    })?;
    let access = Access {
        host: folder.to_string_lossy().into_owned(),
        port: PORT,
        password: None,
    };
    let log_path = folder.join("log");
    access
        .wait(
            async || {
                let code = std::fs::read_to_string(folder.join("ended")).ok()?;
                Some(format!("exit code {}", code.trim()))
            },
            async || tail(&std::fs::read_to_string(&log_path).unwrap_or_default(), 15),
        )
        .await
        .with_context(|| format!("starting {origin}"))?;
    let network = match folder.join("isolated").exists() {
        true => Network::None,
        false => Network::OfMachine,
    };
    Ok(DisposableServer {
        access,
        origin,
        network,
        _watchdog: watchdog,
    })
}

/// Where folders are made: the folder for temporary files, unless its path does not suit.
pub(super) fn parent_folder() -> PathBuf {
    let parent = std::env::temp_dir();
    let plain = |path: &Path| {
        path.to_str().is_some_and(|path| {
            path.len() + LONGEST_NAME < LONGEST_SOCKET_FOLDER
                && path.starts_with('/')
                && !path.contains(['\'', '\\', ','])
        })
    };
    match plain(&parent) {
        true => parent,
        false => PathBuf::from("/tmp"),
    }
}

/// A folder that only its owner may enter, with a path short enough for a Unix socket.
pub(super) fn make_folder() -> Result<PathBuf> {
    let folder = parent_folder().join(unique_name());
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(&folder)
        .with_context(|| format!("creating folder {}", folder.display()))?;
    Ok(folder)
}

/// Gives the folder to the account that the server runs as, if that is not the caller's own.
fn prepare(folder: &Path) -> Result<Option<(u32, u32)>> {
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))?;
    if std::fs::metadata(folder)?.uid() != 0 {
        return Ok(None);
    }
    let passwd = std::fs::read_to_string("/etc/passwd").context("reading /etc/passwd")?;
    let Some((uid, gid)) = unprivileged_account(&passwd) else {
        return Err(Error::new(
            "PostgreSQL does not run as root, and there is no user postgres or nobody to run it as",
        )
        .hint("run rdump as another user"));
    };
    std::os::unix::fs::chown(folder, Some(uid), Some(gid))
        .with_context(|| format!("changing the owner of {}", folder.display()))?;
    Ok(Some((uid, gid)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_is_the_third_word() {
        assert_eq!(
            parse_version("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n").as_deref(),
            Some("15.18")
        );
        assert_eq!(
            parse_version("postgres (PostgreSQL) 19beta1\n").as_deref(),
            Some("19beta1")
        );
        assert_eq!(parse_version("postgres: command not found"), None);
        assert_eq!(parse_version(""), None);
    }

    #[test]
    fn root_runs_the_server_as_somebody_else() {
        let passwd = "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65533::/:/bin/false\npostgres:x:101:102::/:/bin/sh\n";
        assert_eq!(unprivileged_account(passwd), Some((101, 102)));
        assert_eq!(
            unprivileged_account("nobody:x:65534:65533::/:/bin/false"),
            Some((65534, 65533))
        );
        assert_eq!(
            unprivileged_account("postgres:x:0:0::/:/bin/sh\nnonsense\n"),
            None
        );
    }
}
