//! Connecting to a server: hosts in turn, encryption, authentication, and the kind of server that
//! was asked for.
//!
//! What comes out is a bare transport, with the server idle and nothing read ahead; the session
//! speaks its own protocol on it from there on. Order and stopping rules are those of
//! PQconnectPoll in fe-connect.c.

mod attributes;
mod cancel;
mod failure;
mod socket;
mod startup;

use std::collections::BTreeMap;
use std::fmt;

use rand::seq::SliceRandom;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

pub use cancel::CancelHandle;
pub(crate) use socket::plain;

use super::conninfo::{
    ConnectionTarget, Host, Keepalives, Password, PasswordPrompt, SessionAttributes, SslMode,
    SslNegotiation, TlsOptions,
};
use super::message::Notice;
use super::tls;
use crate::error::{Error, Result};
use failure::{Failure, Failures, Next};
use socket::{Address, Described};
use startup::Encryption;

/// A connected socket, perhaps encrypted.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// A session that is ready for its first query.
pub struct Established {
    pub transport: Box<dyn Transport>,
    /// What the server reported: server_version, server_encoding, in_hot_standby and so on.
    pub parameters: BTreeMap<String, String>,
    pub backend_pid: i32,
    pub cancel: CancelHandle,
    /// For people: `host "db1" (10.0.0.5), port 5432`, or the path of the socket.
    pub host: String,
    pub user: String,
    pub database: String,
    /// What the server remarked while the session started.
    pub notices: Vec<Notice>,
    /// Where the session is, for further sessions on the very same server.
    pub endpoint: Endpoint,
}

impl AsRef<Endpoint> for Established {
    fn as_ref(&self) -> &Endpoint {
        &self.endpoint
    }
}

impl fmt::Debug for Established {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Established")
            .field("host", &self.host)
            .field("user", &self.user)
            .field("database", &self.database)
            .field("backend_pid", &self.backend_pid)
            .finish_non_exhaustive()
    }
}

/// The server that a connection reached.
#[derive(Debug, Clone)]
pub struct Endpoint {
    host: Host,
    address: Address,
    tls: TlsOptions,
    encrypted: bool,
    keepalives: Keepalives,
    required_peer: Option<String>,
}

impl Endpoint {
    /// A host that means only this address.
    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    /// Whether the connection is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.encrypted
    }
}

impl AsRef<Endpoint> for Endpoint {
    fn as_ref(&self) -> &Endpoint {
        self
    }
}

/// Connects, asking for a password where that is wanted.
pub async fn establish(target: &ConnectionTarget) -> Result<Established> {
    let source = &target.password;
    if source.prompt == PasswordPrompt::Always
        && source.typed().is_none()
        && !ask_for_password(target).await?
    {
        return Err(
            Error::new("cannot ask for a password: there is no terminal").hint(
                "leave out -W, and give the password with PGPASSWORD or in the password file",
            ),
        );
    }
    match try_hosts(target).await {
        Ok(established) => Ok(established),
        Err(failures)
            if failures.need_password()
                && source.prompt == PasswordPrompt::WhenNeeded
                && ask_for_password(target).await? =>
        {
            try_hosts(target).await.map_err(Failures::into_error)
        }
        Err(failures) => Err(failures.into_error()),
    }
}

/// Returns whether there is a typed password now.
async fn ask_for_password(target: &ConnectionTarget) -> Result<bool> {
    let prompter = std::sync::Arc::clone(&target.password.prompter);
    let prompt = format!("Password for user {}: ", target.user);
    let typed = tokio::task::spawn_blocking(move || prompter(&prompt))
        .await
        .map_err(|error| Error::new(format!("could not ask for a password: {error}")))?
        .map_err(|error| Error::new(format!("could not ask for a password: {error}")))?;
    Ok(match typed {
        Some(password) => {
            target.password.remember(password);
            true
        }
        None => false,
    })
}

/// Goes through the hosts and their addresses until one is right.
async fn try_hosts(target: &ConnectionTarget) -> Result<Established, Failures> {
    let mut hosts: Vec<&Host> = target.hosts.iter().collect();
    if target.load_balance {
        hosts.shuffle(&mut rand::rng());
    }
    let passes: &[SessionAttributes] = match target.session {
        SessionAttributes::PreferStandby => &[SessionAttributes::Standby, SessionAttributes::Any],
        SessionAttributes::Any => &[SessionAttributes::Any],
        SessionAttributes::ReadWrite => &[SessionAttributes::ReadWrite],
        SessionAttributes::ReadOnly => &[SessionAttributes::ReadOnly],
        SessionAttributes::Primary => &[SessionAttributes::Primary],
        SessionAttributes::Standby => &[SessionAttributes::Standby],
    };
    let mut failures = Failures::default();
    for &wanted in passes {
        for &host in &hosts {
            match try_host(target, host, wanted, &mut failures).await {
                Some(established) => return Ok(established),
                None if failures.stop() => return Err(failures),
                None => {}
            }
        }
    }
    Err(failures)
}

async fn try_host(
    target: &ConnectionTarget,
    host: &Host,
    wanted: SessionAttributes,
    failures: &mut Failures,
) -> Option<Established> {
    let mut addresses = match socket::lookup(host).await {
        Ok(addresses) => addresses,
        Err(failure) => {
            failures.push(failure);
            return None;
        }
    };
    if target.load_balance {
        addresses.shuffle(&mut rand::rng());
    }
    for address in &addresses {
        let attempt = Attempt {
            target,
            host,
            address,
            place: Described::new(host, address),
        };
        // As in libpq, the time limit is for each address, authentication included.
        let outcome = match target.connect_timeout {
            None => attempt.run(wanted, failures).await,
            Some(limit) => tokio::time::timeout(limit, attempt.run(wanted, failures))
                .await
                .unwrap_or_else(|_| {
                    failures.push(
                        Failure::new("timeout expired")
                            .next(Next::Address)
                            .hint("connect_timeout sets how long to wait for each address")
                            .at(&attempt.place),
                    );
                    None
                }),
        };
        match outcome {
            Some(established) => return Some(established),
            None if failures.last_next() == Some(Next::Address) => {}
            None => return None,
        }
    }
    None
}

/// Connecting to one address.
struct Attempt<'a> {
    target: &'a ConnectionTarget,
    host: &'a Host,
    address: &'a Address,
    place: Described,
}

/// A way to use encryption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Plain,
    Tls {
        /// A server without TLS may be spoken to in clear on the same socket.
        or_plain: bool,
    },
}

impl Attempt<'_> {
    /// Tries the ways of encryption that sslmode allows, in its order.
    async fn run(&self, wanted: SessionAttributes, failures: &mut Failures) -> Option<Established> {
        let methods: &[Method] = if self.address.is_unix() {
            // There is no TLS over Unix sockets.
            &[Method::Plain]
        } else {
            match self.target.tls.mode {
                SslMode::Disable => &[Method::Plain],
                SslMode::Allow => &[Method::Plain, Method::Tls { or_plain: false }],
                SslMode::Prefer => &[Method::Tls { or_plain: true }, Method::Plain],
                SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => {
                    &[Method::Tls { or_plain: false }]
                }
            }
        };
        let mut plain_was_tried = false;
        for (index, &method) in methods.iter().enumerate() {
            if method == Method::Plain && plain_was_tried {
                break;
            }
            match self.run_method(method, wanted, &mut plain_was_tried).await {
                Ok(established) => return Some(established),
                Err(failure) => {
                    let other = failure.what_next() == Next::OtherEncryption;
                    let last = index + 1 == methods.len();
                    failures.push(failure.at(&self.place));
                    if !other || last {
                        break;
                    }
                }
            }
        }
        None
    }

    async fn run_method(
        &self,
        method: Method,
        wanted: SessionAttributes,
        plain_was_tried: &mut bool,
    ) -> Result<Established, Failure> {
        let target = self.target;
        let mut transport = socket::open(
            self.address,
            target.keepalives,
            target.required_peer.as_deref(),
        )
        .await?;
        let mut encrypted = None;
        if let Method::Tls { or_plain } = method {
            if negotiate_tls(&mut *transport, &target.tls).await? {
                let established = tls::handshake(transport, &target.tls, self.host.address.name())
                    .await
                    .map_err(|failure| {
                        Failure::new(failure.message)
                            .maybe_hint(failure.hint)
                            .next(Next::OtherEncryption)
                    })?;
                transport = established.transport;
                encrypted = Some((established.channel_binding, established.client_certificate));
            } else if !or_plain {
                return Err(Failure::new(
                    "server does not support SSL, but SSL was required",
                )
                .hint(format!(
                    "sslmode=\"{}\" asks for TLS; turn ssl on at the server, or use sslmode=prefer",
                    target.tls.mode.name()
                )));
            }
        }
        let is_encrypted = encrypted.is_some();
        *plain_was_tried |= !is_encrypted;

        let password: Option<Password> = target.password_for(self.host);
        let encryption = encrypted.as_ref().map(|(binding, certificate)| Encryption {
            channel_binding: binding.as_deref(),
            client_certificate: certificate,
        });
        let session =
            startup::start(&mut *transport, target, password.as_ref(), encryption).await?;
        attributes::check(&mut *transport, &session.parameters, wanted).await?;

        let endpoint = Endpoint {
            host: socket::pin(self.host, self.address),
            address: self.address.clone(),
            tls: target.tls.clone(),
            encrypted: is_encrypted,
            keepalives: target.keepalives,
            required_peer: target.required_peer.clone(),
        };
        Ok(Established {
            transport,
            parameters: session.parameters,
            backend_pid: session.process_id,
            cancel: CancelHandle::new(
                endpoint.clone(),
                target.connect_timeout,
                session.process_id,
                session.secret_key,
            ),
            host: self.place.reached(),
            user: target.user.clone(),
            database: target.database.to_string(),
            notices: session.notices,
            endpoint,
        })
    }
}

/// Asks for TLS, and returns whether the server will speak it.
async fn negotiate_tls(
    transport: &mut dyn Transport,
    options: &TlsOptions,
) -> Result<bool, Failure> {
    if options.negotiation == SslNegotiation::Direct {
        return Ok(true);
    }
    let mut request = bytes::BytesMut::new();
    postgres_protocol::message::frontend::ssl_request(&mut request);
    let mut answer = [0];
    let asked = async {
        transport.write_all(&request).await?;
        transport.flush().await?;
        // One byte and no more: what follows belongs to the handshake, or was injected.
        transport.read_exact(&mut answer).await
    };
    asked.await.map_err(|error| {
        Failure::new(if error.kind() == std::io::ErrorKind::UnexpectedEof {
            "server closed the connection unexpectedly".to_owned()
        } else {
            socket::plain(&error)
        })
        .hint("is it a PostgreSQL server that listens on that port?")
    })?;
    match answer {
        [b'S'] => Ok(true),
        [b'N'] => Ok(false),
        // What it says cannot be trusted: anyone could have said it.
        [b'E'] => Err(Failure::new(
            "server sent an error response during SSL exchange",
        )),
        [byte] => Err(Failure::new(format!(
            "received invalid response to SSL negotiation: 0x{byte:02x}"
        ))
        .hint("is it a PostgreSQL server that listens on that port?")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_send<T: Send>(_: &T) {}

    /// Sessions are opened in tasks of their own, and cancelled from yet others.
    #[test]
    fn connecting_works_in_any_task() {
        fn assert_shared<T: Send + Sync + Clone + 'static>() {}
        assert_shared::<CancelHandle>();
        assert_shared::<Endpoint>();
        assert_shared::<ConnectionTarget>();
        fn checked(target: &ConnectionTarget, cancel: &CancelHandle) {
            assert_send(&establish(target));
            assert_send(&cancel.cancel());
        }
        let _ = checked;
    }
}
