//! No way to the server, or a server that is not for us.

use std::net::TcpListener;

use super::fake_server::FakeServer;
use super::{Folder, expect_rdump, small_database, snapshot};
use crate::support;

#[test]
fn a_wrong_password() {
    for major in support::VERSIONS {
        let server = support::server(major);
        let folder = Folder::new();
        let conninfo = format!(
            "host={} port={} user=postgres password=wrong dbname=postgres",
            server.host, server.port
        );
        let stderr = format!(
            "rdump: error: connection to server at \"{}\", port {} failed: \
             FATAL: password authentication failed for user \"postgres\"\n\
             rdump: hint: check the password: PGPASSWORD, the password file, or -W to type it\n",
            server.host, server.port
        );
        expect_rdump(
            &["snapshot", "-d", &conninfo, "-f", &folder.file("a")],
            1,
            &stderr,
        );
        assert!(folder.names().is_empty(), "{:?}", folder.names());
        let source = small_database(major, "password");
        let archive = snapshot(&source, &folder);
        expect_rdump(&["restore", &archive, "-d", &conninfo], 1, &stderr);
    }
}

#[test]
fn an_unreachable_host() {
    // a port that was free a moment ago
    let port = TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a port")
        .port();
    let folder = Folder::new();
    let conninfo = format!("host=127.0.0.1 port={port} user=postgres dbname=postgres");
    expect_rdump(
        &["snapshot", "-d", &conninfo, "-f", &folder.file("a")],
        1,
        &format!(
            "rdump: error: connection to server at \"127.0.0.1\", port {port} failed: \
             Connection refused\n\
             rdump: hint: is the server running on that host and accepting TCP/IP connections \
             on that port? (listen_addresses, a firewall, the port)\n"
        ),
    );
    let finished = support::rdump(&[
        "snapshot",
        "-d",
        "host=no-such-host.invalid user=postgres",
        "-f",
        &folder.file("a"),
    ]);
    assert_eq!(finished.code, 1);
    // the resolver's own words follow
    let start = "rdump: error: could not translate host name \"no-such-host.invalid\" to address: ";
    assert!(finished.stderr.starts_with(start), "{}", finished.stderr);
    assert!(folder.names().is_empty(), "{:?}", folder.names());
}

#[test]
fn a_missing_database() {
    for major in support::VERSIONS {
        let server = support::server(major);
        let folder = Folder::new();
        let stderr = format!(
            "rdump: error: connection to server at \"{}\", port {} failed: \
             FATAL: database \"no such\" does not exist\n\
             rdump: hint: check the database name: -d, the connection string or PGDATABASE\n",
            server.host, server.port
        );
        expect_rdump(
            &[
                "snapshot",
                "-d",
                &server.conninfo("no such"),
                "-f",
                &folder.file("a"),
            ],
            1,
            &stderr,
        );
        assert!(folder.names().is_empty(), "{:?}", folder.names());
    }
}

#[test]
fn servers_of_other_versions() {
    let folder = Folder::new();
    let old = "rdump: hint: use the pg_dump of that version, or upgrade the server\n";
    let new = "rdump: hint: a newer rdump is needed: this one might leave out objects that it \
               does not know\n";
    for (version, said, hint) in [
        ("9.6.24", "9.6", old),
        ("13.23 (Debian 13.23-1.pgdg12+1)", "13.23", old),
        ("19beta1", "19.0", new),
        ("19.2", "19.2", new),
    ] {
        let server = FakeServer::start(version);
        expect_rdump(
            &[
                "snapshot",
                "-d",
                &server.conninfo(),
                "-f",
                &folder.file("a"),
            ],
            1,
            &format!(
                "rdump: error: server version {said} is not supported: this rdump knows \
                 PostgreSQL 14 to 18\n{hint}"
            ),
        );
        assert!(folder.names().is_empty(), "{:?}", folder.names());
    }
    let source = small_database(18, "version");
    let archive = snapshot(&source, &folder);
    for (version, said, hint) in [("13.23", "13.23", old), ("19.2", "19.2", new)] {
        let server = FakeServer::start(version);
        expect_rdump(
            &["verify", "-q", &archive, "--against", &server.conninfo()],
            1,
            &format!(
                "rdump: error: server version {said} is not supported: this rdump knows \
                 PostgreSQL 14 to 18\n{hint}"
            ),
        );
    }
    for (version, said) in [("9.6.24", "9.6"), ("13.23", "13.23")] {
        let server = FakeServer::start(version);
        expect_rdump(
            &["restore", &archive, "-d", &server.conninfo()],
            1,
            &format!(
                "rdump: error: server version {said} is not supported\n\
                 rdump: hint: restore into PostgreSQL 14 or later\n"
            ),
        );
    }
}

#[test]
fn something_else_listens_there() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            use std::io::{Read, Write};
            let mut stream = stream.expect("a connection");
            let mut request = [0; 8];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let folder = Folder::new();
    let finished = support::rdump(&[
        "snapshot",
        "-d",
        &format!("host=127.0.0.1 port={port} user=postgres"),
        "-f",
        &folder.file("a"),
    ]);
    assert_eq!(finished.code, 1);
    assert!(
        finished
            .stderr
            .contains(&format!("at \"127.0.0.1\", port {port} failed: ")),
        "{}",
        finished.stderr
    );
}
