//! Disposable servers start, answer, and leave nothing behind.

use rdump::postgres::disposable::{DEFAULT_MAJOR, DisposableServer};
use tokio_postgres::NoTls;

async fn version(conninfo: &str) -> u32 {
    let (client, connection) = tokio_postgres::connect(conninfo, NoTls)
        .await
        .expect("connecting");
    let connection = tokio::spawn(connection);
    let row = client
        .query_one("SHOW server_version_num", &[])
        .await
        .expect("asking");
    drop(client);
    connection
        .await
        .expect("the connection ends")
        .expect("it ends well");
    row.get::<_, String>(0).parse::<u32>().expect("a number") / 10_000
}

#[tokio::test]
async fn from_whatever_is_installed() {
    let server = DisposableServer::start(None, &mut |line| eprintln!("{line}"))
        .await
        .unwrap();
    let conninfo = server.conninfo();
    assert!(version(&conninfo).await >= 13);
    assert!(
        server.origin().starts_with("PostgreSQL "),
        "{}",
        server.origin()
    );
    drop(server);
    assert!(
        tokio_postgres::connect(&conninfo, NoTls).await.is_err(),
        "{conninfo} still answers"
    );
    if let Some(folder) = conninfo.strip_prefix("host='/") {
        let folder = format!("/{}", folder.split('\'').next().unwrap());
        assert!(
            !std::path::Path::new(&folder).exists(),
            "{folder} is still there"
        );
    }
}

#[tokio::test]
async fn from_docker() {
    let server = DisposableServer::start_container(DEFAULT_MAJOR, &mut |line| eprintln!("{line}"))
        .await
        .unwrap();
    let conninfo = server.conninfo();
    assert_eq!(version(&conninfo).await, DEFAULT_MAJOR);
    drop(server);
    assert!(
        tokio_postgres::connect(&conninfo, NoTls).await.is_err(),
        "{conninfo} still answers"
    );
}

#[tokio::test]
async fn an_image_that_does_not_exist_is_explained() {
    let error = DisposableServer::start_container(4, &mut |_| {})
        .await
        .err()
        .expect("there is no PostgreSQL 4");
    let message = error.to_string();
    assert!(
        message.contains("postgres:4") && message.contains("cannot be pulled"),
        "{message}"
    );
    assert!(
        message.contains("no Debian release is known to carry PostgreSQL 4"),
        "{message}"
    );
}
