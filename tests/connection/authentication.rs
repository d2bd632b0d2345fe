//! Passwords, certificates, and what the user requires of them.

use crate::certificates;
use crate::local_server::{Recipe, Server, Surroundings};
use crate::{Secured, assert_contains, connect, encryption, query, secured};
use rdump::error::SqlState;
use rdump::postgres::connect::establish;

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
        assert_eq!(error.sqlstate(), Some(&SqlState::INVALID_PASSWORD));
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
    assert_eq!(error.sqlstate(), Some(&SqlState::INVALID_PASSWORD));
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
            "user=certified sslcert=/no/such/file".to_owned(),
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
