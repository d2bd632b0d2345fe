//! TLS: when it is used, and which certificates are accepted.

use crate::certificates::{self, Authority};
use crate::local_server::{Recipe, Server, Surroundings};
use crate::{Secured, assert_contains, connect, encryption, query, secured};

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
            // libpq would go on unverified.
            "host=127.0.0.1 sslmode=require sslrootcert=/no/such/file".to_owned(),
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

/// Speaks TLS from the first byte, as servers from 17 on can, in front of a server that cannot.
async fn direct_tls_proxy(
    (certificate, key): &(String, String),
    protocols: &[&str],
    server_port: u16,
) -> u16 {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};

    use rustls::crypto::aws_lc_rs;
    use rustls::sign::{CertifiedKey, SingleCertAndKey};

    // Whether the key is that of the certificate is not looked at.
    let identity = CertifiedKey::new(
        vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
        aws_lc_rs::sign::any_supported_type(
            &PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        )
        .unwrap(),
    );
    let provider = std::sync::Arc::new(aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(std::sync::Arc::new(SingleCertAndKey::from(identity)));
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

#[tokio::test]
async fn a_server_must_own_the_key_of_its_certificate() {
    let server = Server::start(&Recipe::default());
    let genuine = certificates::self_signed("localhost", &["localhost"]);
    let stolen = (
        genuine.0.clone(),
        certificates::self_signed("localhost", &["localhost"]).1,
    );
    let surroundings = Surroundings::new();
    let root = surroundings.file("own.crt", &genuine.0);
    let own = direct_tls_proxy(&genuine, &["postgresql"], server.port).await;
    let thief = direct_tls_proxy(&stolen, &["postgresql"], server.port).await;
    for version in ["TLSv1.2", "TLSv1.3"] {
        for trust in [
            format!("sslmode=verify-full sslrootcert={root}"),
            "sslmode=require".to_owned(),
        ] {
            let conninfo = |port: u16| {
                format!(
                    "host=localhost hostaddr=127.0.0.1 port={port} user=postgres {trust} \
                     sslnegotiation=direct ssl_min_protocol_version={version} \
                     ssl_max_protocol_version={version}"
                )
            };
            connect(&surroundings, &conninfo(own)).await.unwrap();
            let error = connect(&surroundings, &conninfo(thief)).await.unwrap_err();
            assert_contains(error.message(), "BadSignature");
        }
    }
}
