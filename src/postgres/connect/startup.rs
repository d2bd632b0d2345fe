//! The start of a session: startup message, authentication, and what the server says until it is
//! ready.
//!
//! Messages are read one at a time and never beyond their end, so that the transport can be handed
//! on with nothing lost.

use std::collections::BTreeMap;

use bytes::{BufMut, BytesMut};
use postgres_protocol::authentication::{md5_hash, sasl};
use postgres_protocol::message::backend::{ErrorFields, Message};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Transport;
use super::failure::{Failure, Next, hint_for};
use super::socket::plain;
use crate::error::SqlState;
use crate::postgres::conninfo::{
    ChannelBinding, ClientCertificateMode, ConnectionTarget, Method, Password,
};
use crate::postgres::message::Notice;
use crate::postgres::tls::ClientCertificate;

/// Protocol 3.0: what every server and pooler speaks.
const PROTOCOL_VERSION: i32 = 0x0003_0000;

/// Authentication requests are small; libpq allows 2000 bytes, error messages 30000.
const LONGEST_REQUEST: usize = 2000;
const LONGEST_ERROR: usize = 30_000;
/// After authentication the server is whom we meant to reach; a notice may be long.
const LONGEST_MESSAGE: usize = 1 << 20;

/// What the connection has by way of encryption.
pub struct Encryption<'a> {
    pub channel_binding: Option<&'a [u8]>,
    pub client_certificate: &'a ClientCertificate,
}

/// A session that is ready for queries.
#[derive(Debug)]
pub struct Session {
    pub parameters: BTreeMap<String, String>,
    pub process_id: i32,
    pub secret_key: i32,
    pub notices: Vec<Notice>,
}

/// Starts a session on a transport.
pub async fn start(
    transport: &mut dyn Transport,
    target: &ConnectionTarget,
    password: Option<&Password>,
    encryption: Option<Encryption<'_>>,
) -> Result<Session, Failure> {
    let mut exchange = Exchange {
        transport,
        target,
        password,
        encryption,
        finished: false,
        channel_bound: false,
    };
    let startup = startup_message(target)?;
    exchange.send(&startup).await?;
    exchange.authenticate().await?;
    exchange.await_ready().await
}

/// Nothing but what identifies us, since poolers refuse what they do not know.
fn startup_message(target: &ConnectionTarget) -> Result<BytesMut, Failure> {
    let mut parameters: Vec<(&str, &[u8])> = vec![
        ("user", target.user.as_bytes()),
        ("database", &target.database),
        ("application_name", target.application_name.as_bytes()),
    ];
    if let Some(options) = &target.options {
        parameters.push(("options", options.as_bytes()));
    }
    let mut body = BytesMut::new();
    body.put_i32(PROTOCOL_VERSION);
    for (name, value) in parameters {
        if value.contains(&0) {
            return Err(Failure::new(format!("the {name} contains a zero byte")));
        }
        body.put_slice(name.as_bytes());
        body.put_u8(0);
        body.put_slice(value);
        body.put_u8(0);
    }
    body.put_u8(0);
    let length = i32::try_from(body.len() + 4)
        .map_err(|_| Failure::new("the connection parameters are too long"))?;
    let mut message = BytesMut::with_capacity(body.len() + 4);
    message.put_i32(length);
    message.put_slice(&body);
    Ok(message)
}

struct Exchange<'a> {
    transport: &'a mut dyn Transport,
    target: &'a ConnectionTarget,
    password: Option<&'a Password>,
    encryption: Option<Encryption<'a>>,
    /// We have proved who we are, and with SCRAM the server has too.
    finished: bool,
    channel_bound: bool,
}

impl Exchange<'_> {
    async fn send(&mut self, message: &[u8]) -> Result<(), Failure> {
        let sent = async {
            self.transport.write_all(message).await?;
            self.transport.flush().await
        };
        sent.await.map_err(|error| lost(&error))
    }

    /// Reads the next message of the authentication; errors of the server become failures.
    async fn next_request(&mut self) -> Result<Message, Failure> {
        let (tag, message) = read_message(self.transport, |tag| match tag {
            b'R' => Some(LONGEST_REQUEST),
            b'E' | b'N' => Some(LONGEST_ERROR),
            _ => None,
        })
        .await?;
        match parse(message)? {
            Message::ErrorResponse(body) => Err(self.refused(body.fields(), Next::OtherEncryption)),
            message @ (Message::AuthenticationOk
            | Message::AuthenticationCleartextPassword
            | Message::AuthenticationMd5Password(_)
            | Message::AuthenticationSasl(_)
            | Message::AuthenticationSaslContinue(_)
            | Message::AuthenticationSaslFinal(_)
            | Message::AuthenticationGss
            | Message::AuthenticationGssContinue(_)
            | Message::AuthenticationSspi
            | Message::AuthenticationKerberosV5
            | Message::AuthenticationScmCredential) => Ok(message),
            _ => Err(Failure::new(format!(
                "expected authentication request from server, but received \"{}\"",
                char::from(tag)
            ))),
        }
    }

    async fn authenticate(&mut self) -> Result<(), Failure> {
        loop {
            match self.next_request().await? {
                Message::AuthenticationOk => return self.check_authenticated(),
                Message::AuthenticationCleartextPassword => {
                    self.check_allowed(Method::Password)?;
                    let mut message = BytesMut::new();
                    frontend::password_message(self.password()?, &mut message)
                        .map_err(|error| Failure::new(error.to_string()))?;
                    self.send(&message).await?;
                    self.finished = true;
                }
                Message::AuthenticationMd5Password(body) => {
                    self.check_allowed(Method::Md5)?;
                    let hash = md5_hash(self.target.user.as_bytes(), self.password()?, body.salt());
                    let mut message = BytesMut::new();
                    frontend::password_message(hash.as_bytes(), &mut message)
                        .map_err(|error| Failure::new(error.to_string()))?;
                    self.send(&message).await?;
                    self.finished = true;
                }
                Message::AuthenticationSasl(body) => {
                    let mechanisms = mechanism_names(body.mechanisms())?;
                    self.authenticate_scram(&mechanisms).await?;
                }
                Message::AuthenticationGss | Message::AuthenticationGssContinue(_) => {
                    return Err(unsupported_method(Method::Gss, "GSSAPI"));
                }
                Message::AuthenticationSspi => {
                    return Err(unsupported_method(Method::Sspi, "SSPI"));
                }
                Message::AuthenticationKerberosV5 => {
                    return Err(Failure::new("Kerberos 5 authentication not supported"));
                }
                Message::AuthenticationScmCredential => {
                    return Err(Failure::new("SCM_CRED authentication method not supported"));
                }
                _ => return Err(Failure::new("received invalid authentication request")),
            }
        }
    }

    /// SCRAM-SHA-256, bound to the TLS channel where both sides can.
    async fn authenticate_scram(&mut self, mechanisms: &[String]) -> Result<(), Failure> {
        let offered = |name: &str| mechanisms.iter().any(|offered| offered == name);
        let policy = self.target.channel_binding;
        let can_bind = self
            .encryption
            .as_ref()
            .filter(|_| policy != ChannelBinding::Disable)
            .and_then(|encryption| encryption.channel_binding);

        if offered(sasl::SCRAM_SHA_256_PLUS) && self.encryption.is_none() {
            // Someone may have taken the TLS away.
            return Err(Failure::new(
                "server offered SCRAM-SHA-256-PLUS authentication over a non-SSL connection",
            ));
        }
        let (mechanism, binding) = match can_bind {
            Some(data) if offered(sasl::SCRAM_SHA_256_PLUS) => (
                sasl::SCRAM_SHA_256_PLUS,
                sasl::ChannelBinding::tls_server_end_point(data.to_vec()),
            ),
            _ if policy == ChannelBinding::Require => {
                return Err(Failure::new(if self.encryption.is_none() {
                    "channel binding required, but SSL not in use"
                } else if can_bind.is_none() {
                    "channel binding required, but not defined for the signature of the server's \
                     certificate"
                } else {
                    "channel binding is required, but server did not offer an authentication \
                     method that supports channel binding"
                })
                .hint("channel_binding=prefer connects without it"));
            }
            // Telling the server that we could have bound lets it detect a downgrade.
            Some(_) if offered(sasl::SCRAM_SHA_256) => {
                (sasl::SCRAM_SHA_256, sasl::ChannelBinding::unrequested())
            }
            None if offered(sasl::SCRAM_SHA_256) => {
                (sasl::SCRAM_SHA_256, sasl::ChannelBinding::unsupported())
            }
            _ => {
                return Err(Failure::new(format!(
                    "none of the server's SASL authentication mechanisms are supported: {}",
                    mechanisms.join(", ")
                )));
            }
        };
        self.check_allowed(Method::ScramSha256)?;

        let invalid =
            |error: std::io::Error| Failure::new(format!("SCRAM authentication failed: {error}"));
        let mut scram = sasl::ScramSha256::new(self.password()?, binding);
        let mut message = BytesMut::new();
        frontend::sasl_initial_response(mechanism, scram.message(), &mut message)
            .map_err(invalid)?;
        self.send(&message).await?;

        let Message::AuthenticationSaslContinue(body) = self.next_request().await? else {
            return Err(incomplete());
        };
        scram.update(body.data()).map_err(invalid)?;
        let mut message = BytesMut::new();
        frontend::sasl_response(scram.message(), &mut message).map_err(invalid)?;
        self.send(&message).await?;

        // The server now proves that it knows the password too.
        let Message::AuthenticationSaslFinal(body) = self.next_request().await? else {
            return Err(incomplete());
        };
        scram.finish(body.data()).map_err(invalid)?;
        self.finished = true;
        self.channel_bound = mechanism == sasl::SCRAM_SHA_256_PLUS;
        Ok(())
    }

    fn password(&self) -> Result<&[u8], Failure> {
        self.password
            .map(|password| password.secret.expose())
            .filter(|password| !password.is_empty())
            .ok_or_else(|| {
                Failure::new("the server asks for a password, and none was given")
                    .hint("set PGPASSWORD, add a line to ~/.pgpass, or use -W to type it")
                    .needs_password()
            })
    }

    fn check_allowed(&self, method: Method) -> Result<(), Failure> {
        if let Some(required) = &self.target.required_authentication
            && !required.allows(method)
        {
            return Err(Failure::new(format!(
                "authentication method requirement \"{}\" failed: server requested {} \
                 authentication",
                required.text(),
                method.name()
            )));
        }
        if self.target.channel_binding == ChannelBinding::Require && method != Method::ScramSha256 {
            // Answering would give the password to a server that has proved nothing.
            return Err(Failure::new(
                "channel binding required but not supported by server's authentication request",
            ));
        }
        Ok(())
    }

    /// The server lets us in: is it by what the user asked for?
    fn check_authenticated(&self) -> Result<(), Failure> {
        if self.target.tls.certificate_mode == ClientCertificateMode::Require {
            let certificate = self
                .encryption
                .as_ref()
                .map(|encryption| encryption.client_certificate);
            if !certificate.is_some_and(ClientCertificate::was_requested) {
                return Err(Failure::new("server did not request an SSL certificate"));
            }
            if !certificate.is_some_and(ClientCertificate::was_sent) {
                return Err(Failure::new(
                    "server accepted connection without a valid SSL certificate",
                ));
            }
        }
        if let Some(required) = &self.target.required_authentication
            && !self.finished
            && !required.allows_none()
        {
            return Err(Failure::new(format!(
                "authentication method requirement \"{}\" failed: server did not complete \
                 authentication",
                required.text()
            )));
        }
        if self.target.channel_binding == ChannelBinding::Require && !self.channel_bound {
            return Err(Failure::new(
                "channel binding required, but server authenticated client without channel binding",
            ));
        }
        Ok(())
    }

    /// Reads until the server is ready for queries.
    async fn await_ready(&mut self) -> Result<Session, Failure> {
        let mut session = Session {
            parameters: BTreeMap::new(),
            process_id: 0,
            secret_key: 0,
            notices: Vec::new(),
        };
        loop {
            let (tag, message) = read_message(self.transport, |_| Some(LONGEST_MESSAGE)).await?;
            if tag == b'S' {
                let (name, value) = parameter_status(&message)
                    .ok_or_else(|| Failure::new("received invalid parameter status message"))?;
                session.parameters.insert(name, value);
                continue;
            }
            match parse(message)? {
                Message::BackendKeyData(body) => {
                    session.process_id = body.process_id();
                    session.secret_key = body.secret_key();
                }
                Message::NoticeResponse(body) => {
                    let said = ServerMessage::read(body.fields());
                    session.notices.push(Notice {
                        message: said.message,
                        severity: said.severity,
                    });
                }
                Message::ErrorResponse(body) => {
                    return Err(self.refused(body.fields(), Next::Nothing));
                }
                Message::ReadyForQuery(_) => return Ok(session),
                _ => {
                    return Err(Failure::new(
                        "unexpected message from server during startup",
                    ));
                }
            }
        }
    }

    /// Makes a failure of the server's error, with what the user could do.
    fn refused(&self, fields: ErrorFields<'_>, next: Next) -> Failure {
        let error = ServerMessage::read(fields);
        let next = match error.sqlstate {
            Some(SqlState::CANNOT_CONNECT_NOW) => Next::Host,
            _ => next,
        };
        let mut hint = error
            .hint
            .clone()
            .or_else(|| hint_for(error.sqlstate.as_ref()?, &error.message));
        if error.sqlstate == Some(SqlState::INVALID_PASSWORD)
            && let Some(file) = self
                .password
                .and_then(|password| password.from_file.as_ref())
        {
            hint = Some(format!(
                "the password was retrieved from file \"{}\"",
                file.display()
            ));
        }
        Failure::new(error.text())
            .maybe_hint(hint)
            .sqlstate(error.sqlstate)
            .next(next)
    }
}

fn incomplete() -> Failure {
    Failure::new("server did not complete the SCRAM authentication")
}

fn unsupported_method(method: Method, name: &str) -> Failure {
    Failure::new(format!(
        "server requested {name} authentication, which is not supported"
    ))
    .hint(format!(
        "let this user in by another method than {} in pg_hba.conf",
        method.name()
    ))
}

fn mechanism_names(
    mut mechanisms: postgres_protocol::message::backend::SaslMechanisms<'_>,
) -> Result<Vec<String>, Failure> {
    use fallible_iterator::FallibleIterator;
    let mut names = Vec::new();
    while let Some(name) = mechanisms
        .next()
        .map_err(|_| Failure::new("received invalid authentication request"))?
    {
        names.push(name.to_owned());
    }
    Ok(names)
}

/// Reads one message to its end and not a byte further. `limit` gives the greatest length of a
/// kind of message, and `None` for kinds that do not belong here.
pub async fn read_message(
    transport: &mut dyn Transport,
    limit: impl Fn(u8) -> Option<usize>,
) -> Result<(u8, BytesMut), Failure> {
    let mut header = [0; 5];
    transport
        .read_exact(&mut header)
        .await
        .map_err(|error| lost(&error))?;
    let [tag, length @ ..] = header;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    let limit = limit(tag).ok_or_else(|| not_postgres(tag))?;
    if length < 4 || length > limit {
        return Err(not_postgres(tag));
    }
    let mut message = BytesMut::zeroed(length + 1);
    message[..5].copy_from_slice(&header);
    transport
        .read_exact(&mut message[5..])
        .await
        .map_err(|error| lost(&error))?;
    Ok((tag, message))
}

pub fn parse(mut message: BytesMut) -> Result<Message, Failure> {
    Message::parse(&mut message)
        .ok()
        .flatten()
        .ok_or_else(|| Failure::new("received an invalid message from the server"))
}

fn not_postgres(tag: u8) -> Failure {
    Failure::new(format!(
        "received an unexpected message (type 0x{tag:02x}) during startup"
    ))
    .hint("is it a PostgreSQL server that listens on that port?")
}

fn lost(error: &std::io::Error) -> Failure {
    if error.kind() == std::io::ErrorKind::UnexpectedEof {
        return Failure::new("server closed the connection unexpectedly")
            .next(Next::OtherEncryption)
            .hint("the server's log may say why; is it a PostgreSQL server on that port?");
    }
    // rustls reports the server's alerts this way, such as a missing client certificate.
    let failure = Failure::new(plain(error)).next(Next::OtherEncryption);
    if error.to_string().contains("CertificateRequired") {
        failure.hint("the server wants a client certificate: sslcert and sslkey")
    } else {
        failure
    }
}

/// Values may be in any encoding.
fn parameter_status(message: &[u8]) -> Option<(String, String)> {
    let mut parts = message.get(5..)?.split(|&byte| byte == 0);
    let name = String::from_utf8_lossy(parts.next()?).into_owned();
    let value = String::from_utf8_lossy(parts.next()?).into_owned();
    Some((name, value))
}

/// An error or notice of the server.
struct ServerMessage {
    severity: String,
    sqlstate: Option<SqlState>,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
}

impl ServerMessage {
    fn read(mut fields: ErrorFields<'_>) -> ServerMessage {
        use fallible_iterator::FallibleIterator;
        let mut read = ServerMessage {
            severity: "ERROR".to_owned(),
            sqlstate: None,
            message: String::new(),
            detail: None,
            hint: None,
        };
        while let Ok(Some(field)) = fields.next() {
            let value = String::from_utf8_lossy(field.value_bytes()).into_owned();
            match field.type_() {
                // S is the same, translated
                b'V' => read.severity = value,
                b'C' => read.sqlstate = Some(SqlState::from_code(&value)),
                b'M' => read.message = value,
                b'D' => read.detail = Some(value),
                b'H' => read.hint = Some(value),
                _ => {}
            }
        }
        read
    }

    fn text(&self) -> String {
        let mut text = format!("{}: {}", self.severity, self.message);
        if let Some(detail) = &self.detail {
            text.push_str(&format!(" ({detail})"));
        }
        text
    }
}
