//! Connecting to real servers: authentication, encryption, several hosts.
//!
//! Each test starts a private server from the machine's own PostgreSQL binaries, with certificates
//! made for the occasion, and fails if there are none.

#[path = "connection/certificates.rs"]
mod certificates;
#[path = "connection/local_server.rs"]
mod local_server;

use std::time::{Duration, Instant};

use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;
use rdump::postgres::connect::{Established, establish};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use certificates::Authority;
use local_server::{Recipe, Server, Surroundings, free_port};

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

#[tokio::test]
async fn authenticates_by_every_kind_of_password() {
    let Secured { server, .. } = secured();
    let port = server.port;
    let surroundings = Surroundings::new();
    for (user, password) in [
        ("scram", "'correct horse'"),
        ("md5", "battery"),
        ("clear", "staple"),
    ] {
        for mode in ["disable", "require"] {
            let conninfo = format!(
                "host=127.0.0.1 port={port} user={user} password={password} dbname=postgres \
                 sslmode={mode}"
            );
            let mut established = connect(&surroundings, &conninfo).await.unwrap();
            assert_eq!(
                query(&mut established, "SELECT current_user")
                    .await
                    .unwrap(),
                user
            );
            assert_eq!(established.user, user);
            assert_eq!(established.database, "postgres");
            assert_eq!(established.host, format!("host \"127.0.0.1\", port {port}"));
        }

        let conninfo =
            format!("host=127.0.0.1 port={port} user={user} password=sesame-wrong dbname=postgres");
        let error = connect(&surroundings, &conninfo).await.unwrap_err();
        assert_eq!(
            error.message(),
            format!(
                "connection to server at \"127.0.0.1\", port {port} failed: FATAL: password \
                 authentication failed for user \"{user}\""
            )
        );
        assert_eq!(error.sqlstate(), Some("28P01"));
        assert_contains(error.hint_text().unwrap(), "check the password");
        assert!(!format!("{error:?}").contains("sesame-wrong"));

        let conninfo = format!("host=127.0.0.1 port={port} user={user} dbname=postgres");
        let error = connect(&surroundings, &conninfo).await.unwrap_err();
        assert_contains(error.message(), "asks for a password, and none was given");
        assert_contains(error.hint_text().unwrap(), "PGPASSWORD");
    }
}

#[tokio::test]
async fn takes_passwords_from_the_password_file_and_the_prompt() {
    use rdump::postgres::conninfo::{ConnectionFlags, PasswordPrompt, Secret, resolve};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    let Secured { server, .. } = secured();
    let port = server.port;
    let surroundings = Surroundings::new();
    surroundings.file(
        ".pgpass",
        &format!(
            "# by database\n127.0.0.1:{port}:other:scram:wrong\n*:{port}:*:scram:correct horse\n"
        ),
    );
    let target = surroundings
        .target(&format!(
            "host=127.0.0.1 port={port} user=scram dbname=postgres"
        ))
        .unwrap();
    assert!(target.warnings().is_empty());
    establish(&target).await.unwrap();
    let error = establish(&target.with_database("other")).await.unwrap_err();
    assert_eq!(error.sqlstate(), Some("28P01"));
    assert_contains(error.hint_text().unwrap(), ".pgpass");

    // Asked once, for all the connections of a target.
    let asked = Arc::new(AtomicUsize::new(0));
    for (prompt, user, questions) in [
        (PasswordPrompt::WhenNeeded, "md5", 1),
        (PasswordPrompt::Always, "md5", 1),
        (PasswordPrompt::WhenNeeded, "trusted", 0),
    ] {
        asked.store(0, Ordering::SeqCst);
        let counter = Arc::clone(&asked);
        let target = resolve(
            &ConnectionFlags {
                dbname: Some("postgres".to_owned()),
                host: Some("127.0.0.1".to_owned()),
                port: Some(port.to_string()),
                username: Some(user.to_owned()),
                password_prompt: prompt,
                prompter: Some(Arc::new(move |prompt| {
                    counter.fetch_add(1, Ordering::SeqCst);
                    assert!(prompt.contains("for user"));
                    Ok(Some(Secret::new("battery")))
                })),
            },
            &Surroundings::new().environment(),
        )
        .unwrap();
        let first = establish(&target).await.unwrap();
        establish(&target.pinned_to(&first)).await.unwrap();
        establish(&target.with_database("other")).await.unwrap();
        assert_eq!(asked.load(Ordering::SeqCst), questions, "{prompt:?} {user}");
    }

    let nobody = resolve(
        &ConnectionFlags {
            dbname: Some(format!("host=127.0.0.1 port={port} user=trusted")),
            password_prompt: PasswordPrompt::Always,
            prompter: Some(Arc::new(|_| Ok(None))),
            ..ConnectionFlags::default()
        },
        &surroundings.environment(),
    )
    .unwrap();
    let error = establish(&nobody).await.unwrap_err();
    assert_contains(error.message(), "there is no terminal");
}

#[tokio::test]
async fn reports_what_is_wrong() {
    let Secured { server, .. } = secured();
    let port = server.port;
    let surroundings = Surroundings::new();

    for (conninfo, message, sqlstate, hint) in [
        (
            format!("host=127.0.0.1 port={port} user=trusted dbname=missing"),
            "FATAL: database \"missing\" does not exist",
            Some("3D000"),
            "check the database name",
        ),
        (
            format!("host=127.0.0.1 port={port} user=stranger sslmode=disable"),
            "no pg_hba.conf entry",
            Some("28000"),
            "sslmode=require",
        ),
        (
            format!("host=127.0.0.1 port={port} user=encrypted dbname=other sslmode=disable"),
            "no encryption",
            Some("28000"),
            "sslmode=require",
        ),
        (
            format!("host=127.0.0.1 port={} user=trusted", free_port()),
            "Connection refused",
            None,
            "is the server running",
        ),
        (
            format!("host=no-such-host.invalid port={port} user=trusted"),
            "could not translate host name \"no-such-host.invalid\" to address: ",
            None,
            "check the host name",
        ),
        (
            "host=/no/such/folder port=5432 user=trusted".to_owned(),
            "connection to server on socket \"/no/such/folder/.s.PGSQL.5432\" failed: No such file",
            None,
            "accepting connections on that socket",
        ),
        (
            format!("host=127.0.0.1 port={port} user=trusted options='-c no_such=1'"),
            "unrecognized configuration parameter \"no_such\"",
            Some("42704"),
            "",
        ),
    ] {
        let error = connect(&surroundings, &conninfo).await.unwrap_err();
        assert_contains(error.message(), message);
        assert_eq!(error.sqlstate(), sqlstate, "{conninfo}");
        assert_contains(error.hint_text().unwrap_or_default(), hint);
        assert_eq!(error.exit_code(), 1);
    }
}

#[tokio::test]
async fn sessions_start_bare_and_report_the_server() {
    let Secured { server, .. } = secured();
    let port = server.port;
    let surroundings = Surroundings::new();
    let socket = server.socket_folder().display().to_string();
    let mut established = connect(
        &surroundings,
        &format!("host={socket} port={port} user=trusted options='-c geqo=off' sslmode=require"),
    )
    .await
    .unwrap();
    assert_eq!(
        established.host,
        format!("socket \"{socket}/.s.PGSQL.{port}\"")
    );
    assert_eq!(established.parameters["server_encoding"], "UTF8");
    assert_eq!(established.parameters["standard_conforming_strings"], "on");
    assert_eq!(established.parameters["in_hot_standby"], "off");
    assert!(established.parameters["server_version"].starts_with(char::is_numeric));
    assert_eq!(
        query(&mut established, "SELECT pg_backend_pid()")
            .await
            .unwrap(),
        established.backend_pid.to_string()
    );
    for (setting, value) in [("geqo", "off"), ("application_name", "rdump")] {
        let shown = query(&mut established, &format!("SHOW {setting}")).await;
        assert_eq!(shown.unwrap(), value);
    }
    // Nothing but the application's name and the user's own options was asked of the server.
    let set_by_client = query(
        &mut established,
        "SELECT string_agg(name, ',' ORDER BY name) FROM pg_settings WHERE source = 'client'",
    )
    .await
    .unwrap();
    assert_eq!(set_by_client, "application_name,geqo");
}

#[tokio::test]
async fn cancels_over_a_connection_like_the_session() {
    let Secured { server, .. } = secured();
    let port = server.port;
    let surroundings = Surroundings::new();
    for mode in ["disable", "require"] {
        let mut established = connect(
            &surroundings,
            &format!("host=127.0.0.1 port={port} user=trusted sslmode={mode}"),
        )
        .await
        .unwrap();
        let cancel = established.cancel.clone();
        let began = Instant::now();
        let (answer, cancelled) =
            tokio::join!(query(&mut established, "SELECT pg_sleep(60)"), async {
                tokio::time::sleep(Duration::from_millis(300)).await;
                cancel.cancel().await
            });
        cancelled.unwrap();
        assert_eq!(answer, Err("57014".to_owned()), "{mode}");
        assert!(began.elapsed() < Duration::from_secs(30));
        assert_eq!(query(&mut established, "SELECT 1").await.unwrap(), "1");
    }
}

#[tokio::test]
async fn encrypts_as_sslmode_says() {
    let Secured {
        server, authority, ..
    } = secured();
    let port = server.port;
    let surroundings = Surroundings::new();
    let root = surroundings.file("authority.crt", &authority.pem);
    let other = surroundings.file("other.crt", &Authority::new("another authority").pem);
    let base = format!("port={port} user=trusted");

    for (conninfo, expected) in [
        ("host=127.0.0.1 sslmode=disable".to_owned(), "plain"),
        ("host=127.0.0.1 sslmode=allow".to_owned(), "plain"),
        ("host=127.0.0.1 sslmode=prefer".to_owned(), "TLSv1.3"),
        ("host=127.0.0.1".to_owned(), "TLSv1.3"),
        ("host=127.0.0.1 sslmode=require".to_owned(), "TLSv1.3"),
        (
            "host=127.0.0.1 sslmode=require ssl_max_protocol_version=TLSv1.2".to_owned(),
            "TLSv1.2",
        ),
        (
            format!("host=localhost hostaddr=127.0.0.1 sslmode=verify-full sslrootcert={root}"),
            "TLSv1.3",
        ),
        (
            format!("host=127.0.0.1 sslmode=verify-full sslrootcert={root}"),
            "TLSv1.3",
        ),
        (
            format!("host=db.example hostaddr=127.0.0.1 sslmode=verify-ca sslrootcert={root}"),
            "TLSv1.3",
        ),
        // A root file that is there is used, whatever the mode asks for.
        (
            format!("host=127.0.0.1 sslmode=require sslrootcert={root}"),
            "TLSv1.3",
        ),
        (
            format!("host=127.0.0.1 sslmode=prefer sslrootcert={other}"),
            "plain",
        ),
    ] {
        assert_eq!(
            encryption(&surroundings, &format!("{base} {conninfo}")).await,
            Ok(expected.to_owned()),
            "{conninfo}"
        );
    }

    for (conninfo, message) in [
        (
            format!("host=127.0.0.1 sslmode=verify-ca sslrootcert={other}"),
            "server certificate not accepted: certificate is not signed by a trusted root",
        ),
        (
            format!("host=127.0.0.1 sslmode=require sslrootcert={other}"),
            "server certificate not accepted",
        ),
        (
            format!("host=db.example hostaddr=127.0.0.1 sslmode=verify-full sslrootcert={root}"),
            "server certificate for \"localhost\" (and 1 other name) does not match host name \
             \"db.example\"",
        ),
        (
            // The common name does not count where there are alternative names.
            format!(
                "host=ignored.example hostaddr=127.0.0.1 sslmode=verify-full sslrootcert={root}"
            ),
            "does not match host name \"ignored.example\"",
        ),
        (
            format!("hostaddr=127.0.0.1 sslmode=verify-full sslrootcert={root}"),
            "host name must be specified",
        ),
        (
            "host=127.0.0.1 sslmode=verify-full".to_owned(),
            "root.crt\" does not exist",
        ),
        (
            "host=127.0.0.1 sslmode=verify-full sslrootcert=/no/such/file".to_owned(),
            "root certificate file \"/no/such/file\" does not exist",
        ),
        (
            // The server is too old for it, and the failure must not fall back to clear text.
            "host=127.0.0.1 sslmode=require sslnegotiation=direct".to_owned(),
            "failed",
        ),
    ] {
        let message_seen = encryption(&surroundings, &format!("{base} {conninfo}"))
            .await
            .expect_err(&conninfo);
        assert_contains(&message_seen, message);
    }

    // ~/.postgresql/root.crt turns "require" into "verify-ca".
    let home = Surroundings::new();
    home.file(".postgresql/root.crt", &Authority::new("another").pem);
    let error = encryption(&home, &format!("{base} host=127.0.0.1 sslmode=require"))
        .await
        .unwrap_err();
    assert_contains(&error, "server certificate not accepted");
    home.file(".postgresql/root.crt", &authority.pem);
    assert_eq!(
        encryption(&home, &format!("{base} host=127.0.0.1 sslmode=require")).await,
        Ok("TLSv1.3".to_owned())
    );

    // pg_hba.conf decides which way "allow" and "prefer" end.
    for (user, mode, expected) in [
        ("encrypted", "allow", "TLSv1.3"),
        ("unencrypted", "prefer", "plain"),
        ("encrypted", "prefer", "TLSv1.3"),
        ("unencrypted", "allow", "plain"),
    ] {
        let conninfo =
            format!("host=127.0.0.1 port={port} user={user} dbname=other sslmode={mode}");
        assert_eq!(
            encryption(&surroundings, &conninfo).await,
            Ok(expected.to_owned()),
            "{user} {mode}"
        );
    }
}

#[tokio::test]
async fn revoked_certificates_are_refused() {
    let Secured {
        server, authority, ..
    } = secured();
    let surroundings = Surroundings::new();
    let root = surroundings.file("authority.crt", &authority.pem);
    let fine = surroundings.file("fine.crl", &authority.revocation_list(&[99]));
    let revoked = surroundings.file("revoked.crl", &authority.revocation_list(&[7]));
    let base = format!(
        "host=localhost hostaddr=127.0.0.1 port={} user=trusted sslmode=verify-full \
         sslrootcert={root}",
        server.port
    );
    assert!(
        encryption(&surroundings, &format!("{base} sslcrl={fine}"))
            .await
            .is_ok()
    );
    for (list, message) in [
        (revoked.as_str(), "certificate is revoked"),
        (
            "/no/such/list",
            "could not read certificate revocation list",
        ),
    ] {
        let error = encryption(&surroundings, &format!("{base} sslcrl={list}"))
            .await
            .unwrap_err();
        assert_contains(&error, message);
    }
}

#[tokio::test]
async fn a_certificate_may_be_its_own_root() {
    for (certificate, host) in [
        (
            certificates::self_signed("localhost", &["localhost"]),
            "localhost",
        ),
        // Without alternative names the common name counts.
        (certificates::self_signed("db.example", &[]), "db.example"),
        (
            certificates::self_signed("wild", &["*.example"]),
            "db.example",
        ),
    ] {
        let server = Server::start(&Recipe {
            certificate: Some(certificate.clone()),
            setup: &["CREATE ROLE trusted LOGIN"],
            ..Recipe::default()
        });
        let surroundings = Surroundings::new();
        let root = surroundings.file("own.crt", &certificate.0);
        let (lookalike, _) = certificates::self_signed(host, &[host]);
        let other = surroundings.file("lookalike.crt", &lookalike);
        let base = format!(
            "hostaddr=127.0.0.1 port={} user=trusted dbname=postgres",
            server.port
        );
        for mode in ["verify-ca", "verify-full", "require"] {
            assert_eq!(
                encryption(
                    &surroundings,
                    &format!("{base} host={host} sslmode={mode} sslrootcert={root}")
                )
                .await,
                Ok("TLSv1.3".to_owned()),
                "{host} {mode}"
            );
        }
        let error = encryption(
            &surroundings,
            &format!("{base} host=elsewhere.org sslmode=verify-full sslrootcert={root}"),
        )
        .await
        .unwrap_err();
        assert_contains(&error, "does not match host name \"elsewhere.org\"");
        let error = encryption(
            &surroundings,
            &format!("{base} host={host} sslmode=verify-ca sslrootcert={other}"),
        )
        .await
        .unwrap_err();
        assert_contains(&error, "server certificate not accepted");
    }
}

#[tokio::test]
async fn expired_certificates_are_refused_even_as_their_own_root() {
    let certificate = certificates::expired("localhost");
    let server = Server::start(&Recipe {
        certificate: Some(certificate.clone()),
        ..Recipe::default()
    });
    let surroundings = Surroundings::new();
    let root = surroundings.file("own.crt", &certificate.0);
    let base = format!(
        "host=localhost hostaddr=127.0.0.1 port={} user=postgres",
        server.port
    );
    let error = encryption(
        &surroundings,
        &format!("{base} sslmode=verify-full sslrootcert={root}"),
    )
    .await
    .unwrap_err();
    assert_contains(&error, "certificate has expired");
    assert!(
        encryption(&surroundings, &format!("{base} sslmode=require"))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn version_1_certificates_are_verified_against_their_root() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/tls");
    let read = |name: &str| std::fs::read_to_string(format!("{folder}/{name}")).unwrap();
    let server = Server::start(&Recipe {
        certificate: Some((read("version1_server.crt"), read("version1_server.key"))),
        setup: &["CREATE ROLE scram LOGIN PASSWORD 'correct'"],
        access: Some("host all postgres all trust\nhost all scram all scram-sha-256"),
        ..Recipe::default()
    });
    let surroundings = Surroundings::new();
    let base = format!("hostaddr=127.0.0.1 port={}", server.port);
    let root = format!("{folder}/version1_root.crt");
    let lookalike = surroundings.file("other.crt", &Authority::new("rdump test root").pem);

    for conninfo in [
        "user=postgres host=localhost sslmode=require".to_owned(),
        format!("user=postgres host=localhost sslmode=verify-full sslrootcert={root}"),
        format!(
            "user=postgres host=localhost sslmode=verify-full sslrootcert={root} \
             ssl_max_protocol_version=TLSv1.2"
        ),
        "user=scram password=correct dbname=postgres channel_binding=require sslmode=require"
            .to_owned(),
    ] {
        let outcome = encryption(&surroundings, &format!("{base} {conninfo}")).await;
        assert!(
            outcome.is_ok_and(|version| version != "plain"),
            "{conninfo}"
        );
    }
    for (conninfo, message) in [
        (
            format!("host=localhost sslmode=verify-ca sslrootcert={lookalike}"),
            "not signed by a trusted root certificate",
        ),
        (
            format!("host=elsewhere sslmode=verify-full sslrootcert={root}"),
            "server certificate for \"localhost\" does not match host name \"elsewhere\"",
        ),
    ] {
        let error = encryption(&surroundings, &format!("{base} user=postgres {conninfo}"))
            .await
            .unwrap_err();
        assert_contains(&error, message);
    }
}

#[tokio::test]
async fn binds_scram_to_the_channel() {
    let Secured { server, .. } = secured();
    let port = server.port;
    let surroundings = Surroundings::new();
    let base = format!("host=127.0.0.1 port={port} dbname=postgres");
    for (conninfo, expected) in [
        (
            "user=scram password='correct horse' sslmode=require channel_binding=require",
            Ok(()),
        ),
        (
            "user=scram password='correct horse' sslmode=require channel_binding=disable",
            Ok(()),
        ),
        (
            "user=scram password='correct horse' sslmode=require channel_binding=prefer",
            Ok(()),
        ),
        (
            "user=scram password='correct horse' sslmode=disable channel_binding=require",
            Err("channel binding required, but SSL not in use"),
        ),
        (
            "user=md5 password=battery sslmode=require channel_binding=require",
            Err("channel binding required but not supported by server's authentication request"),
        ),
        (
            "user=trusted sslmode=require channel_binding=require",
            Err("server authenticated client without channel binding"),
        ),
    ] {
        match (
            encryption(&surroundings, &format!("{base} {conninfo}")).await,
            expected,
        ) {
            (Ok(_), Ok(())) => {}
            (Err(seen), Err(expected)) => assert_contains(&seen, expected),
            (seen, expected) => panic!("{conninfo}: {seen:?} instead of {expected:?}"),
        }
    }
}

#[tokio::test]
async fn requires_the_authentication_that_the_user_names() {
    let Secured { server, .. } = secured();
    let port = server.port;
    let surroundings = Surroundings::new();
    let base = format!("host=127.0.0.1 port={port} dbname=postgres");
    let scram = "user=scram password='correct horse'";
    for (conninfo, expected) in [
        (format!("{scram} require_auth=scram-sha-256"), Ok(())),
        (format!("{scram} require_auth=!password,!md5,!none"), Ok(())),
        (
            format!("{scram} require_auth=md5"),
            Err("authentication method requirement \"md5\" failed: server requested scram-sha-256"),
        ),
        (
            "user=clear password=staple require_auth=!password".to_owned(),
            Err("server requested password authentication"),
        ),
        (
            "user=trusted require_auth=scram-sha-256".to_owned(),
            Err("server did not complete authentication"),
        ),
        ("user=trusted require_auth=none".to_owned(), Ok(())),
        (
            "user=md5 password=battery require_auth=none".to_owned(),
            Err("server requested md5 authentication"),
        ),
    ] {
        match (
            encryption(&surroundings, &format!("{base} {conninfo}")).await,
            expected,
        ) {
            (Ok(_), Ok(())) => {}
            (Err(seen), Err(expected)) => assert_contains(&seen, expected),
            (seen, expected) => panic!("{conninfo}: {seen:?} instead of {expected:?}"),
        }
    }
}

#[tokio::test]
async fn authenticates_by_client_certificate() {
    let Secured {
        server,
        client: (certificate, key),
        ..
    } = secured();
    let port = server.port;
    let surroundings = Surroundings::new();
    let certificate_path = surroundings.file("client.crt", &certificate);
    let key_path = surroundings.file("client.key", &key);
    let base = format!("host=127.0.0.1 port={port} dbname=postgres sslmode=require");
    let files = format!("sslcert={certificate_path} sslkey={key_path}");

    for conninfo in [
        format!("user=certified {files}"),
        format!("user=asked {files} sslcertmode=require"),
    ] {
        let outcome = encryption(&surroundings, &format!("{base} {conninfo}")).await;
        assert!(outcome.is_ok(), "{conninfo}: {outcome:?}");
    }
    // The usual places in the home folder.
    let home = Surroundings::new();
    home.file(".postgresql/postgresql.crt", &certificate);
    home.file(".postgresql/postgresql.key", &key);
    assert!(
        encryption(&home, &format!("{base} user=certified"))
            .await
            .is_ok()
    );

    let open = surroundings.file("open.key", &key);
    std::fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let stranger = surroundings.file("stranger.key", &certificates::self_signed("x", &[]).1);
    for (conninfo, message) in [
        (
            "user=certified".to_owned(),
            "connection requires a valid client certificate",
        ),
        (
            format!("user=certified {files} sslcertmode=disable"),
            "connection requires a valid client certificate",
        ),
        (
            format!("user=certified sslcert={certificate_path} sslkey={open}"),
            "has group or world access",
        ),
        (
            format!("user=certified sslcert={certificate_path} sslkey={stranger}"),
            "does not match private key file",
        ),
        (
            format!("user=certified sslcert={certificate_path}"),
            "certificate present, but not private key file",
        ),
        (
            "user=trusted sslcertmode=require".to_owned(),
            "server accepted connection without a valid SSL certificate",
        ),
    ] {
        let error = encryption(&surroundings, &format!("{base} {conninfo}"))
            .await
            .expect_err(&conninfo);
        assert_contains(&error, message);
    }
}

#[tokio::test]
async fn a_server_without_tls_is_refused_or_spoken_to_in_clear() {
    let server = Server::start(&Recipe::default());
    let surroundings = Surroundings::new();
    let base = format!("host=127.0.0.1 port={} user=postgres", server.port);
    for mode in ["prefer", "allow", "disable"] {
        assert_eq!(
            encryption(&surroundings, &format!("{base} sslmode={mode}")).await,
            Ok("plain".to_owned()),
        );
    }
    let error = connect(&surroundings, &format!("{base} sslmode=require"))
        .await
        .unwrap_err();
    assert_contains(
        error.message(),
        "server does not support SSL, but SSL was required",
    );
    assert_contains(error.hint_text().unwrap(), "sslmode=prefer");
}

#[tokio::test]
async fn goes_through_hosts_for_the_kind_of_server_wanted() {
    let primary = Server::start(&Recipe::default());
    let standby = Server::start(&Recipe {
        standby: true,
        ..Recipe::default()
    });
    let read_only = Server::start(&Recipe {
        settings: "default_transaction_read_only = on",
        ..Recipe::default()
    });
    let surroundings = Surroundings::new();
    let (p, s, r, dead) = (primary.port, standby.port, read_only.port, free_port());

    for (ports, wanted, expected) in [
        (vec![dead, p], "any", Some(p)),
        (vec![dead, s, p], "any", Some(s)),
        (vec![dead, s, r, p], "read-write", Some(p)),
        (vec![p, dead, r], "read-only", Some(r)),
        (vec![p, s], "read-only", Some(s)),
        (vec![s, p], "primary", Some(p)),
        (vec![s, r], "primary", Some(r)),
        (vec![p, r, s], "standby", Some(s)),
        (vec![p, s], "prefer-standby", Some(s)),
        (vec![dead, p, r], "prefer-standby", Some(p)),
        (vec![p, r], "standby", None),
        (vec![s, r], "read-write", None),
        (vec![dead], "any", None),
    ] {
        let hosts = vec!["127.0.0.1"; ports.len()].join(",");
        let list: Vec<String> = ports.iter().map(u16::to_string).collect();
        let uri = format!(
            "postgresql://postgres@{}/?target_session_attrs={wanted}",
            list.iter()
                .map(|port| format!("127.0.0.1:{port}"))
                .collect::<Vec<_>>()
                .join(",")
        );
        let pairs = format!(
            "user=postgres host={hosts} port={} target_session_attrs={wanted}",
            list.join(",")
        );
        for conninfo in [uri, pairs] {
            let reached = connect(&surroundings, &conninfo).await;
            match expected {
                Some(port) => {
                    let established = reached.unwrap();
                    assert_contains(&established.host, &format!("port {port}"));
                    // Workers meet the same server, whatever the list says.
                    let target = surroundings.target(&conninfo).unwrap();
                    let mut again = establish(&target.pinned_to(&established)).await.unwrap();
                    assert_eq!(
                        query(&mut again, "SHOW port").await.unwrap(),
                        port.to_string()
                    );
                }
                None => {
                    let error = reached.unwrap_err();
                    // One line for each host that was tried.
                    assert_eq!(error.message().lines().count(), ports.len(), "{error}");
                }
            }
        }
    }

    let both =
        format!("user=postgres host=127.0.0.1,127.0.0.1 port={p},{r} load_balance_hosts=random");
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..40 {
        seen.insert(connect(&surroundings, &both).await.unwrap().host);
    }
    assert_eq!(seen.len(), 2);
}

#[tokio::test]
async fn hosts_after_one_that_refused_us_are_not_tried() {
    let Secured { server, .. } = secured();
    let open = Server::start(&Recipe::default());
    let error = connect(
        &Surroundings::new(),
        &format!(
            "user=postgres host=127.0.0.1,127.0.0.1 port={},{}",
            server.port, open.port
        ),
    )
    .await
    .unwrap_err();
    assert_eq!(error.sqlstate(), Some("28000"));
    assert!(!error.message().contains(&open.port.to_string()));
}

#[tokio::test]
async fn gives_up_on_a_silent_server_and_tries_the_next() {
    let server = Server::start(&Recipe::default());
    // Accepts, and never says a word.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_port = silent.local_addr().unwrap().port();
    let surroundings = Surroundings::new();
    let error = connect(
        &surroundings,
        &format!("user=postgres host=127.0.0.1 port={silent_port} connect_timeout=1"),
    )
    .await
    .unwrap_err();
    assert_contains(error.message(), "timeout expired");
    connect(
        &surroundings,
        &format!(
            "user=postgres host=127.0.0.1,127.0.0.1 port={silent_port},{} connect_timeout=1",
            server.port
        ),
    )
    .await
    .unwrap();
}

#[tokio::test]
async fn survives_servers_that_are_none() {
    for answer in [
        &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
        b"",
        b"N",
        b"S",
        b"E",
        b"NR\xff\xff\xff\xff",
        b"NR\0\0\0\x03",
        b"NR\0\0\0\x04",
        b"NE\0\0\0\x08ABCD",
        b"NE\x7f\xff\xff\xffABCD",
        b"NR\0\0\0\x08\0\0\0\x05",
        b"NR\0\0\0\x08\0\0\0\x63",
        b"NR\0\0\0\x08\0\0\0\x0b",
        b"NR\0\0\0\x08\0\0\0\0S\0\0\0\x04",
        b"NR\0\0\0\x08\0\0\0\0K\0\0\0\x05a",
        b"NR\0\0\0\x08\0\0\0\0\xff\xff\xff\xff\xff",
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.write_all(answer).await;
                let _ = stream.shutdown().await;
                let mut rest = Vec::new();
                let _ = stream.read_to_end(&mut rest).await;
            }
        });
        let error = connect(
            &Surroundings::new(),
            &format!("user=postgres password=x host=127.0.0.1 port={port} connect_timeout=10"),
        )
        .await
        .unwrap_err();
        assert_contains(error.message(), "connection to server at \"127.0.0.1\"");
        assert!(!error.message().contains("timeout"), "{answer:?}: {error}");
        server.abort();
    }
}

#[tokio::test]
async fn checks_the_owner_of_the_socket() {
    let server = Server::start(&Recipe::default());
    let surroundings = Surroundings::new();
    let owner = if nix::unistd::geteuid().is_root() {
        "postgres".to_owned()
    } else {
        nix::unistd::User::from_uid(nix::unistd::geteuid())
            .unwrap()
            .unwrap()
            .name
    };
    let base = format!(
        "user=postgres host={} port={}",
        server.socket_folder().display(),
        server.port
    );
    connect(&surroundings, &format!("{base} requirepeer={owner}"))
        .await
        .unwrap();
    let error = connect(&surroundings, &format!("{base} requirepeer=daemon"))
        .await
        .unwrap_err();
    assert_eq!(
        error.message().rsplit_once("failed: ").unwrap().1,
        format!("requirepeer specifies \"daemon\", but actual peer user name is \"{owner}\"")
    );
}

#[tokio::test]
async fn resolves_from_the_environment_and_service_files() {
    let server = Server::start(&Recipe::default());
    let surroundings = Surroundings::new()
        .with("PGSERVICE", "mine")
        .with("PGUSER", "nobody-of-that-name");
    surroundings.file(
        ".pg_service.conf",
        &format!(
            "[mine]\nhost=127.0.0.1\nport={}\nuser=postgres\napplication_name=from service\n",
            server.port
        ),
    );
    let mut established = connect(&surroundings, "").await.unwrap();
    assert_eq!(
        query(&mut established, "SHOW application_name")
            .await
            .unwrap(),
        "from service"
    );
}

/// Speaks TLS from the first byte, as servers from 17 on can, in front of a server that cannot.
async fn direct_tls_proxy(
    (certificate, key): &(String, String),
    protocols: &[&str],
    server_port: u16,
) -> u16 {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};

    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        )
        .unwrap();
    config.alpn_protocols = protocols
        .iter()
        .map(|name| name.as_bytes().to_vec())
        .collect();
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut client) = acceptor.accept(stream).await else {
                continue;
            };
            tokio::spawn(async move {
                let mut server = tokio::net::TcpStream::connect(("127.0.0.1", server_port))
                    .await
                    .unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    port
}

#[tokio::test]
async fn negotiates_tls_directly() {
    let server = Server::start(&Recipe::default());
    let certificate = certificates::self_signed("localhost", &["localhost"]);
    let surroundings = Surroundings::new();
    let root = surroundings.file("own.crt", &certificate.0);
    let conninfo = |port: u16| {
        format!(
            "host=localhost hostaddr=127.0.0.1 port={port} user=postgres sslmode=verify-full \
             sslrootcert={root} sslnegotiation=direct"
        )
    };

    let port = direct_tls_proxy(&certificate, &["postgresql"], server.port).await;
    let mut established = connect(&surroundings, &conninfo(port)).await.unwrap();
    assert!(established.endpoint.is_encrypted());
    assert_eq!(query(&mut established, "SELECT 1").await.unwrap(), "1");

    // Without the protocol's name it could be a server of another protocol.
    let port = direct_tls_proxy(&certificate, &[], server.port).await;
    let error = connect(&surroundings, &conninfo(port)).await.unwrap_err();
    assert_contains(error.message(), "without ALPN protocol negotiation");
}
