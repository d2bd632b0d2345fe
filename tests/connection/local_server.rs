//! A private PostgreSQL server from the machine's own binaries, gone when dropped.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::unistd::User;
use rdump::postgres::conninfo::{
    ConnectionFlags, Environment, FileSystem, PasswordPrompt, resolve,
};

pub struct Server {
    process: Child,
    folder: tempfile::TempDir,
    pub port: u16,
}

/// What a server is made of, beside its defaults.
#[derive(Default)]
pub struct Recipe<'a> {
    /// Certificate chain and key in PEM form: turns ssl on.
    pub certificate: Option<(String, String)>,
    /// Roots for client certificates.
    pub client_roots: Option<String>,
    /// pg_hba.conf; everyone is trusted by default.
    pub access: Option<&'a str>,
    /// Further lines of postgresql.conf.
    pub settings: &'a str,
    /// Comes up as a hot standby.
    pub standby: bool,
    /// SQL to run before the access rules apply.
    pub setup: &'a [&'a str],
}

impl Server {
    pub fn start(recipe: &Recipe<'_>) -> Server {
        let binaries = binaries();
        let folder = tempfile::Builder::new()
            .prefix("rdump-connection-")
            .tempdir()
            .expect("a temporary folder");
        // Owned by the server's user, and open to ours.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let data = folder.path().join("data");
        fs::create_dir(&data).unwrap();
        give_to_server_user(&data);
        give_to_server_user(folder.path());

        run(as_server_user(&binaries.join("initdb")).args([
            "--no-sync",
            "--auth=trust",
            "--username=postgres",
            "--encoding=UTF8",
            "--no-locale",
            "--pgdata",
            data.to_str().unwrap(),
        ]));

        let port = free_port();
        let mut settings = format!(
            "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{}'\n\
             fsync = off\nshared_buffers = 16MB\n{}\n",
            folder.path().display(),
            recipe.settings,
        );
        if let Some((certificate, key)) = &recipe.certificate {
            settings.push_str("ssl = on\n");
            write_owned(&data.join("server.crt"), certificate);
            write_owned(&data.join("server.key"), key);
        }
        if let Some(roots) = &recipe.client_roots {
            settings.push_str("ssl_ca_file = 'roots.crt'\n");
            write_owned(&data.join("roots.crt"), roots);
        }
        let mut configuration = fs::read_to_string(data.join("postgresql.conf")).unwrap();
        configuration.push_str(&settings);
        fs::write(data.join("postgresql.conf"), configuration).unwrap();

        for statement in recipe.setup {
            let mut single = as_server_user(&binaries.join("postgres"))
                .args(["--single", "-D", data.to_str().unwrap(), "postgres"])
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("postgres --single runs");
            std::io::Write::write_all(
                &mut single.stdin.take().unwrap(),
                format!("{statement}\n").as_bytes(),
            )
            .unwrap();
            assert!(single.wait().unwrap().success(), "{statement}");
        }
        if let Some(access) = recipe.access {
            fs::write(data.join("pg_hba.conf"), access).unwrap();
        }
        if recipe.standby {
            write_owned(&data.join("standby.signal"), "");
        }

        let log = fs::File::create(folder.path().join("log")).unwrap();
        let process = as_server_user(&binaries.join("postgres"))
            .args(["-D", data.to_str().unwrap()])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("postgres starts");
        let mut server = Server {
            process,
            folder,
            port,
        };
        server.await_readiness();
        server
    }

    fn await_readiness(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        let ready = format!(
            "database system is ready to accept {}connections",
            if self.folder.path().join("data/standby.signal").exists() {
                "read-only "
            } else {
                ""
            }
        );
        loop {
            let log = self.log();
            if log.contains(&ready) {
                return;
            }
            let ended = self.process.try_wait().unwrap();
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "the server did not start; its log:\n{log}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// The folder of its Unix socket.
    pub fn socket_folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(Some(_))) {
            return;
        }
        // SIGQUIT is an immediate shutdown; the data are not needed any more.
        let pid = i32::try_from(self.process.id()).unwrap();
        let _ = Command::new("kill")
            .args(["-QUIT", &pid.to_string()])
            .status();
        let _ = self.process.wait();
    }
}

/// Never skips: a test that needs a server and finds none fails.
/// Where PostgreSQL's server programs are; Debian's package is installed where there are none.
fn binaries() -> PathBuf {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND
        .get_or_init(|| {
            if let Some(folder) = std::env::var_os("RDUMP_TEST_POSTGRES_BIN") {
                return PathBuf::from(folder);
            }
            find_binaries().unwrap_or_else(|| {
                install();
                find_binaries().expect("Debian's postgresql package has server programs")
            })
        })
        .clone()
}

fn find_binaries() -> Option<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .filter(|(_, folder)| folder.join("initdb").exists())
        .collect();
    found.sort();
    found.pop().map(|(_, folder)| folder)
}

/// Installs the server without letting Debian make and start a cluster of its own.
fn install() {
    const SCRIPT: &str = "set -e
        export DEBIAN_FRONTEND=noninteractive
        mkdir -p /etc/postgresql-common
        test -e /etc/postgresql-common/createcluster.conf ||
            echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.conf
        apt-get update -q
        apt-get install -qy --no-install-recommends -o Dpkg::Options::=--force-confold postgresql";
    let mut command = if nix::unistd::geteuid().is_root() {
        Command::new("sh")
    } else {
        let mut command = Command::new("sudo");
        command.args(["-n", "sh"]);
        command
    };
    let output = command
        .args(["-c", SCRIPT])
        .output()
        .expect("running the installation");
    assert!(
        output.status.success(),
        "no PostgreSQL server programs here, and installing them failed: install postgresql, or \
         name their folder in RDUMP_TEST_POSTGRES_BIN\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Servers refuse to run as root: then they run as postgres.
fn server_user() -> Option<User> {
    nix::unistd::geteuid().is_root().then(|| {
        User::from_name("postgres")
            .unwrap()
            .expect("root needs a user \"postgres\" to run the server as")
    })
}

fn as_server_user(program: &Path) -> Command {
    let mut command = Command::new(program);
    if let Some(user) = server_user() {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        command.current_dir("/");
    }
    command.env("LC_ALL", "C");
    command
}

fn give_to_server_user(path: &Path) {
    if let Some(user) = server_user() {
        std::os::unix::fs::chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
    }
}

fn write_owned(path: &Path, contents: &str) {
    fs::write(path, contents).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    give_to_server_user(path);
}

fn run(command: &mut Command) {
    let output = command.output().expect("the command runs");
    assert!(
        output.status.success(),
        "{command:?} failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A port that nothing listens on.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// A user's surroundings, made up: a home folder and variables.
pub struct Surroundings {
    pub home: tempfile::TempDir,
    pub variables: Vec<(&'static str, String)>,
}

impl Surroundings {
    pub fn new() -> Surroundings {
        Surroundings {
            home: tempfile::tempdir().unwrap(),
            variables: Vec::new(),
        }
    }

    pub fn with(mut self, name: &'static str, value: &str) -> Surroundings {
        self.variables.push((name, value.to_owned()));
        self
    }

    /// Puts a file into the home folder, readable by its owner only, and returns its path.
    pub fn file(&self, name: &str, contents: &str) -> String {
        let path = self.home.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, contents).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub fn environment(&self) -> Environment {
        Environment {
            variables: self
                .variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect(),
            operating_system_user: Some("nobody".to_owned()),
            home: Some(self.home.path().to_owned()),
            files: std::sync::Arc::new(FileSystem),
        }
    }

    pub fn target(
        &self,
        conninfo: &str,
    ) -> rdump::Result<rdump::postgres::conninfo::ConnectionTarget> {
        resolve(
            &ConnectionFlags {
                dbname: Some(conninfo.to_owned()),
                password_prompt: PasswordPrompt::Never,
                ..ConnectionFlags::default()
            },
            &self.environment(),
        )
    }
}
