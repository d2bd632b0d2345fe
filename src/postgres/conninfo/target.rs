//! Where to connect and how: the outcome of resolving flags, connection strings and environment.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bstr::BString;

use super::authentication::RequiredAuthentication;
use super::passfile::{Key, PasswordFile};
use super::secret::Secret;
use crate::postgres::connect::Endpoint;

/// Everything that `establish` needs, without looking at the environment again, apart from the
/// certificate files, which are read only when TLS is used.
#[derive(Debug, Clone)]
pub struct ConnectionTarget {
    pub(crate) hosts: Vec<Host>,
    pub(crate) user: String,
    pub(crate) database: BString,
    pub(crate) application_name: String,
    pub(crate) options: Option<String>,
    pub(crate) connect_timeout: Option<Duration>,
    pub(crate) keepalives: Keepalives,
    pub(crate) tls: TlsOptions,
    pub(crate) channel_binding: ChannelBinding,
    pub(crate) required_authentication: Option<RequiredAuthentication>,
    pub(crate) required_peer: Option<String>,
    pub(crate) session: SessionAttributes,
    pub(crate) load_balance: bool,
    pub(crate) password: PasswordSource,
    pub(crate) warnings: Vec<String>,
}

impl ConnectionTarget {
    /// The same server and settings, another database.
    pub fn with_database(&self, name: impl Into<BString>) -> ConnectionTarget {
        ConnectionTarget {
            database: name.into(),
            ..self.clone()
        }
    }

    /// Only the server that an earlier connection reached: the same address, never another host
    /// of the list, so that all workers of a snapshot meet the same server.
    pub fn pinned_to(&self, reached: impl AsRef<Endpoint>) -> ConnectionTarget {
        ConnectionTarget {
            hosts: vec![reached.as_ref().host().clone()],
            session: SessionAttributes::Any,
            load_balance: false,
            ..self.clone()
        }
    }

    /// The password for a host: what was typed, then what was given, then the password file's.
    pub(crate) fn password_for(&self, host: &Host) -> Option<Password> {
        if let Some(typed) = self.password.typed() {
            return Some(Password {
                secret: typed,
                from_file: None,
            });
        }
        if let Some(given) = &self.password.given {
            return Some(Password {
                secret: given.clone(),
                from_file: None,
            });
        }
        let secret = self.password.file.lookup(Key {
            hosts: &host.address.password_file_names(),
            port: host.port,
            database: &self.database,
            user: &self.user,
        })?;
        Some(Password {
            secret,
            from_file: self.password.file.path().map(Path::to_owned),
        })
    }

    pub fn user(&self) -> &str {
        &self.user
    }

    pub fn database(&self) -> &BString {
        &self.database
    }

    /// What the user should know before connecting, such as a password file that is ignored.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// One host of the list, tried in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    pub address: HostAddress,
    pub port: u16,
}

/// How a host was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostAddress {
    /// To be looked up, perhaps with several addresses.
    Name(String),
    /// `hostaddr`, with `host` beside it only for certificates and the password file.
    Address {
        address: IpAddr,
        name: Option<String>,
    },
    /// Folders of Unix sockets, tried in order: one that was given, or the usual ones.
    SocketFolders(Vec<PathBuf>),
}

impl HostAddress {
    /// The name that a certificate must be for.
    pub fn name(&self) -> Option<&str> {
        match self {
            HostAddress::Name(name) => Some(name),
            HostAddress::Address { name, .. } => name.as_deref(),
            HostAddress::SocketFolders(_) => None,
        }
    }
}

impl HostAddress {
    /// What the password file may call the host. A usual socket folder is "localhost" there.
    fn password_file_names(&self) -> Vec<String> {
        match self {
            HostAddress::Name(name) => vec![name.clone()],
            HostAddress::Address { address, name } => {
                vec![name.clone().unwrap_or_else(|| address.to_string())]
            }
            HostAddress::SocketFolders(folders) => {
                let mut names: Vec<String> = folders
                    .iter()
                    .map(|folder| folder.display().to_string())
                    .collect();
                if folders.iter().any(|folder| {
                    SOCKET_FOLDERS
                        .iter()
                        .any(|usual| folder.as_os_str() == *usual)
                }) {
                    names.insert(0, "localhost".to_owned());
                }
                names
            }
        }
    }
}

/// Folders of the Unix socket where no host is given. libpq has one compiled in: Debian's and Red
/// Hat's is the first, that of a build from source the second.
pub const SOCKET_FOLDERS: [&str; 2] = ["/var/run/postgresql", "/tmp"];

/// A password to use, and where it came from.
pub(crate) struct Password {
    pub secret: Secret,
    pub from_file: Option<PathBuf>,
}

/// The socket of a server in its folder.
pub fn socket_path(folder: &Path, port: u16) -> PathBuf {
    folder.join(format!(".s.PGSQL.{port}"))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalives {
    pub enabled: bool,
    pub idle: Option<Duration>,
    pub interval: Option<Duration>,
    pub count: Option<u32>,
    pub user_timeout: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SslMode {
    Disable,
    Allow,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl SslMode {
    pub fn name(self) -> &'static str {
        match self {
            SslMode::Disable => "disable",
            SslMode::Allow => "allow",
            SslMode::Prefer => "prefer",
            SslMode::Require => "require",
            SslMode::VerifyCa => "verify-ca",
            SslMode::VerifyFull => "verify-full",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SslNegotiation {
    /// Asks with an SSLRequest first.
    Postgres,
    /// Starts with the TLS handshake, which servers understand from 17 on.
    Direct,
}

/// Which certificates the server's must come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootCertificates {
    /// Those of the operating system.
    System,
    File(PathBuf),
    /// `~/.postgresql/root.crt`: where it exists, even sslmode=require verifies against it.
    DefaultFile(PathBuf),
    /// There is no home folder to look in.
    Unknown,
}

/// A certificate file that was named, or libpq's default, which may be missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionalFile {
    pub path: PathBuf,
    pub named: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCertificateMode {
    Disable,
    Allow,
    Require,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    V1_2,
    V1_3,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsOptions {
    pub mode: SslMode,
    pub negotiation: SslNegotiation,
    pub roots: RootCertificates,
    pub certificate: Option<OptionalFile>,
    pub key: Option<OptionalFile>,
    pub certificate_mode: ClientCertificateMode,
    pub revocation_list: Option<OptionalFile>,
    pub server_name_indication: bool,
    pub lowest_version: TlsVersion,
    pub highest_version: TlsVersion,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelBinding {
    Disable,
    Prefer,
    Require,
}

/// The option `target_session_attrs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionAttributes {
    Any,
    ReadWrite,
    ReadOnly,
    Primary,
    Standby,
    PreferStandby,
}

/// Whether to ask for a password on the terminal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PasswordPrompt {
    /// `-w`
    Never,
    /// Once the server wants one and none was given.
    #[default]
    WhenNeeded,
    /// `-W`: before connecting.
    Always,
}

/// Asks the user for a password. `None` where there is nobody to ask.
pub type Prompter = Arc<dyn Fn(&str) -> std::io::Result<Option<Secret>> + Send + Sync>;

/// Where the password comes from. Clones share what was typed, so that workers do not ask again.
#[derive(Clone)]
pub(crate) struct PasswordSource {
    /// From the connection string or PGPASSWORD: valid for all hosts.
    pub given: Option<Secret>,
    /// Where the password may differ by host and database.
    pub file: Arc<PasswordFile>,
    pub prompt: PasswordPrompt,
    pub prompter: Prompter,
    pub typed: Arc<Mutex<Option<Secret>>>,
}

impl PasswordSource {
    /// What the user typed, once asked.
    pub fn typed(&self) -> Option<Secret> {
        self.typed
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }

    pub fn remember(&self, password: Secret) {
        *self
            .typed
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = Some(password);
    }
}

impl fmt::Debug for PasswordSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PasswordSource")
            .field("file", &self.file.path())
            .field("prompt", &self.prompt)
            .finish_non_exhaustive()
    }
}

/// Asks on the terminal, without echo. Without a terminal there is nobody to ask.
pub fn prompt_on_terminal(prompt: &str) -> std::io::Result<Option<Secret>> {
    if std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/tty")
        .is_err()
    {
        return Ok(None);
    }
    rpassword::prompt_password(prompt).map(|password| Some(Secret::new(password)))
}
