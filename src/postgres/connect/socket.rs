//! Finding a server's addresses and opening a socket.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, UnixStream};

use super::Transport;
use super::failure::{Failure, Next};
use crate::postgres::conninfo::{Host, HostAddress, Keepalives, socket_path};

/// One address of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    Tcp(SocketAddr),
    /// The folder of the socket, and the port in its name.
    Unix {
        folder: PathBuf,
        port: u16,
    },
}

impl Address {
    pub fn is_unix(&self) -> bool {
        matches!(self, Address::Unix { .. })
    }
}

/// A host with the address that is tried, as messages name it.
#[derive(Debug, Clone)]
pub struct Described {
    name: Option<String>,
    address: Address,
}

impl Described {
    pub fn new(host: &Host, address: &Address) -> Described {
        Described {
            name: host.address.name().map(str::to_owned),
            address: address.clone(),
        }
    }

    pub fn is_socket(&self) -> bool {
        self.address.is_unix()
    }

    /// As messages of success name it: `host "db1" (10.0.0.5), port 5432`.
    pub fn reached(&self) -> String {
        match &self.address {
            Address::Unix { folder, port } => {
                format!("socket \"{}\"", socket_path(folder, *port).display())
            }
            Address::Tcp(_) => format!("host {self}"),
        }
    }
}

/// As libpq's messages name it, after "connection to server ".
impl fmt::Display for Described {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.address, &self.name) {
            (Address::Unix { folder, port }, _) => {
                write!(f, "on socket \"{}\"", socket_path(folder, *port).display())
            }
            (Address::Tcp(address), Some(name)) if *name != address.ip().to_string() => {
                write!(f, "\"{name}\" ({}), port {}", address.ip(), address.port())
            }
            (Address::Tcp(address), _) => {
                write!(f, "\"{}\", port {}", address.ip(), address.port())
            }
        }
    }
}

/// Looks up the addresses of a host, in the order in which they are to be tried.
pub async fn lookup(host: &Host) -> Result<Vec<Address>, Failure> {
    match &host.address {
        HostAddress::Address { address, .. } => {
            Ok(vec![Address::Tcp(SocketAddr::new(*address, host.port))])
        }
        HostAddress::SocketFolders(folders) => Ok(folders
            .iter()
            .map(|folder| Address::Unix {
                folder: folder.clone(),
                port: host.port,
            })
            .collect()),
        HostAddress::Name(name) => {
            let unknown = |reason: String| {
                Failure::new(format!(
                    "could not translate host name \"{name}\" to address: {reason}"
                ))
                .next(Next::Host)
                .hint("check the host name given with -h, in the connection string or in PGHOST")
            };
            let mut addresses = Vec::new();
            for address in tokio::net::lookup_host((name.as_str(), host.port))
                .await
                .map_err(|error| unknown(lookup_reason(&error)))?
            {
                let address = Address::Tcp(address);
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
            if addresses.is_empty() {
                return Err(unknown("no address found".to_owned()));
            }
            Ok(addresses)
        }
    }
}

/// The standard library puts a sentence of its own before that of the resolver.
fn lookup_reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.strip_prefix("failed to lookup address information: ")
        .map_or_else(|| text.clone(), str::to_owned)
}

/// Opens a socket to the address.
pub async fn open(
    address: &Address,
    keepalives: Keepalives,
    required_peer: Option<&str>,
) -> Result<Box<dyn Transport>, Failure> {
    match address {
        Address::Tcp(address) => {
            let stream = TcpStream::connect(address).await.map_err(|error| {
                let hint = match error.kind() {
                    io::ErrorKind::ConnectionRefused => {
                        "is the server running on that host and accepting TCP/IP connections on \
                         that port? (listen_addresses, a firewall, the port)"
                    }
                    _ => {
                        "is that host reachable from here, and does a firewall let PostgreSQL's \
                          port pass?"
                    }
                };
                Failure::new(plain(&error)).next(Next::Address).hint(hint)
            })?;
            set_options(&stream, keepalives).map_err(|error| {
                Failure::new(format!("could not set socket options: {}", plain(&error)))
                    .next(Next::Address)
            })?;
            Ok(Box::new(stream))
        }
        Address::Unix { folder, port } => {
            let stream = UnixStream::connect(socket_path(folder, *port))
                .await
                .map_err(|error| {
                    let hint = match error.kind() {
                        io::ErrorKind::PermissionDenied => {
                            "may this user open the socket? (unix_socket_permissions)"
                        }
                        _ => {
                            "is the server running locally and accepting connections on that \
                              socket? name another host with -h"
                        }
                    };
                    Failure::new(plain(&error)).next(Next::Address).hint(hint)
                })?;
            if let Some(required) = required_peer {
                check_peer(&stream, required)?;
            }
            Ok(Box::new(stream))
        }
    }
}

fn set_options(stream: &TcpStream, keepalives: Keepalives) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    if keepalives.enabled {
        let mut parameters = TcpKeepalive::new();
        if let Some(idle) = keepalives.idle {
            parameters = parameters.with_time(idle);
        }
        if let Some(interval) = keepalives.interval {
            parameters = parameters.with_interval(interval);
        }
        if let Some(count) = keepalives.count {
            parameters = parameters.with_retries(count);
        }
        socket.set_keepalive(true)?;
        socket.set_tcp_keepalive(&parameters)?;
    }
    #[cfg(target_os = "linux")]
    if let Some(timeout) = keepalives.user_timeout {
        socket.set_tcp_user_timeout(Some(timeout))?;
    }
    Ok(())
}

/// The option `requirepeer`: the server process must belong to that user.
fn check_peer(stream: &UnixStream, required: &str) -> Result<(), Failure> {
    let credentials = stream.peer_cred().map_err(|error| {
        Failure::new(format!("could not get peer credentials: {}", plain(&error)))
    })?;
    let account = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(credentials.uid()))
        .ok()
        .flatten()
        .ok_or_else(|| {
            Failure::new(format!(
                "could not look up local user ID {}",
                credentials.uid()
            ))
        })?;
    if account.name == required {
        Ok(())
    } else {
        Err(Failure::new(format!(
            "requirepeer specifies \"{required}\", but actual peer user name is \"{}\"",
            account.name
        )))
    }
}

/// The system's words without the number that the standard library adds.
pub fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error ") {
        Some(end) => text.get(..end).unwrap_or(&text).to_owned(),
        None => text,
    }
}

/// Turns an address that was reached into a host that means only it.
pub fn pin(host: &Host, address: &Address) -> Host {
    let (address, port) = match address {
        Address::Tcp(address) => {
            let ip: IpAddr = address.ip();
            (
                HostAddress::Address {
                    address: ip,
                    name: host.address.name().map(str::to_owned),
                },
                address.port(),
            )
        }
        Address::Unix { folder, port } => (HostAddress::SocketFolders(vec![folder.clone()]), *port),
    };
    Host { address, port }
}
