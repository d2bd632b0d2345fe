//! Sessions, failures, and choosing among several hosts.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use rdump::error::SqlState;
use rdump::postgres::connect::establish;

use crate::local_server::{Recipe, Server, Surroundings, free_port};
use crate::{Secured, assert_contains, connect, query, secured};

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
        assert_eq!(error.sqlstate().map(SqlState::code), sqlstate, "{conninfo}");
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
    assert_eq!(error.sqlstate().map(SqlState::code), Some("28000"));
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
