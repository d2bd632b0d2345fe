//! Connecting to real servers: authentication, encryption, several hosts.
//!
//! Each test starts a private server from the machine's own PostgreSQL binaries, with certificates
//! made for the occasion, and fails if there are none.

#[path = "connection/authentication.rs"]
mod authentication;
#[path = "connection/certificates.rs"]
mod certificates;
#[path = "connection/encryption.rs"]
mod encryption;
#[path = "connection/hosts.rs"]
mod hosts;
#[path = "connection/local_server.rs"]
mod local_server;

use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;
use rdump::postgres::connect::{Established, establish};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use certificates::Authority;
use local_server::{Recipe, Server, Surroundings};

/// Runs a query on the raw transport and returns the first column of its first row, or the
/// server's SQLSTATE. So the transport is shown to be in order, with nothing lost or left over.
async fn query(established: &mut Established, sql: &str) -> Result<String, String> {
    let mut request = BytesMut::new();
    frontend::query(sql, &mut request).unwrap();
    established.transport.write_all(&request).await.unwrap();
    established.transport.flush().await.unwrap();
    let mut buffer = BytesMut::new();
    let mut answer = Ok(String::new());
    loop {
        match Message::parse(&mut buffer).unwrap() {
            None => {
                let count = established.transport.read_buf(&mut buffer).await.unwrap();
                assert_ne!(count, 0, "the server closed the connection");
            }
            Some(Message::DataRow(row)) => {
                let range = row.ranges().next().unwrap().unwrap().unwrap();
                answer = Ok(String::from_utf8(row.buffer()[range].to_vec()).unwrap());
            }
            Some(Message::ErrorResponse(body)) => {
                let code = body
                    .fields()
                    .find(|field| Ok(field.type_() == b'C'))
                    .unwrap()
                    .unwrap();
                answer = Err(String::from_utf8_lossy(code.value_bytes()).into_owned());
            }
            Some(Message::ReadyForQuery(_)) => {
                assert!(buffer.is_empty());
                return answer;
            }
            Some(_) => {}
        }
    }
}

async fn connect(surroundings: &Surroundings, conninfo: &str) -> rdump::Result<Established> {
    establish(&surroundings.target(conninfo)?).await
}

/// Connects, and says whether the session is encrypted.
async fn encryption(surroundings: &Surroundings, conninfo: &str) -> Result<String, String> {
    let mut established = connect(surroundings, conninfo)
        .await
        .map_err(|error| error.message().to_owned())?;
    let encrypted = query(
        &mut established,
        "SELECT coalesce(version, 'plain') FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
    )
    .await
    .unwrap();
    assert_eq!(established.endpoint.is_encrypted(), encrypted != "plain");
    Ok(encrypted)
}

#[track_caller]
fn assert_contains(text: &str, part: &str) {
    assert!(text.contains(part), "{text:?} does not contain {part:?}");
}

const USERS: &[&str] = &[
    "SET password_encryption = 'scram-sha-256'; CREATE ROLE scram LOGIN PASSWORD 'correct horse'",
    "SET password_encryption = 'md5'; CREATE ROLE md5 LOGIN PASSWORD 'battery'",
    "CREATE ROLE clear LOGIN PASSWORD 'staple'",
    "CREATE ROLE trusted LOGIN",
    "CREATE ROLE encrypted LOGIN",
    "CREATE ROLE unencrypted LOGIN",
    "CREATE ROLE certified LOGIN",
    "CREATE ROLE asked LOGIN",
    "CREATE DATABASE trusted",
    "CREATE DATABASE other",
];

const ACCESS: &str = "\
host all scram 127.0.0.1/32 scram-sha-256
host all md5 127.0.0.1/32 md5
host all clear 127.0.0.1/32 password
host all trusted 127.0.0.1/32 trust
local all trusted trust
hostssl all encrypted 127.0.0.1/32 trust
hostnossl all unencrypted 127.0.0.1/32 trust
hostssl all certified 127.0.0.1/32 cert
hostssl all asked 127.0.0.1/32 trust clientcert=verify-ca
";

/// A server with TLS, whose certificate comes from an authority.
struct Secured {
    server: Server,
    authority: Authority,
    client: (String, String),
}

fn secured() -> Secured {
    let authority = Authority::new("rdump test authority");
    let (certificate, key) = authority.issue("ignored.example", &["localhost", "127.0.0.1"], 7);
    let client = authority.issue("certified", &[], 8);
    let server = Server::start(&Recipe {
        certificate: Some((certificate, key)),
        client_roots: Some(authority.pem.clone()),
        access: Some(ACCESS),
        setup: USERS,
        ..Recipe::default()
    });
    Secured {
        server,
        authority,
        client,
    }
}
