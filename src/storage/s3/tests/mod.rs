mod config;
mod faults;
mod server;

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::config::{Credentials, Region};

use super::config::{Config, Patience};
use super::{Inner, S3};
use crate::error::Kind;
use crate::storage::conformance::{PAGE, Subject, conformance, key, pattern};
use crate::storage::object::{Created, Key, Storage};
use crate::storage::probe::{Conditional, probe_conditional};
use crate::storage::upload::{UploadWriter, Volume};
use crate::storage::volumes::Volumes;
use crate::storage::{ReadAt, write_error};
use server::{Asks, BUCKET, Fault, PASSWORD, Server, USER};

/// Longer than any answer of the test server takes, and short enough to wait for.
const TIMEOUT: Duration = Duration::from_secs(4);

fn config(server: &Server, prefix: &str, parameters: &str) -> Config {
    let url = format!(
        "s3://{BUCKET}/{prefix}?endpoint={}&part-size=5MiB{parameters}",
        server.url
    );
    let mut config = Config::parse(&url).unwrap();
    config.page = PAGE as i32;
    config.patience = Patience {
        connect: TIMEOUT,
        read: TIMEOUT,
        attempt: 5 * TIMEOUT,
        attempts: 3,
        backoff: Duration::from_millis(1),
    };
    config
}

/// With the server's credentials, and without the environment's.
async fn open_as(config: Config, user: &str, password: &str) -> S3 {
    let client = super::client::client(&config).await.unwrap();
    let credentials = Credentials::new(user, password, None, None, "test");
    let own = client
        .config()
        .to_builder()
        .credentials_provider(credentials)
        .region(Region::new("us-east-1"))
        .build();
    S3(Arc::new(Inner {
        client: aws_sdk_s3::Client::from_conf(own),
        config,
    }))
}

async fn open(server: &Server, prefix: &str, parameters: &str) -> S3 {
    open_as(config(server, prefix, parameters), USER, PASSWORD).await
}

async fn subject() -> Option<Subject> {
    let server = Server::start().await;
    Some(Subject {
        storage: Arc::new(open(&server, "some/prefix", "").await),
        keep: Box::new(server),
    })
}

conformance!(subject());

/// Any store: `RDUMP_TEST_S3_URL`, with credentials where AWS's programs look for them. What the tests
/// leave there is under the prefix `conformance-`.
mod another {
    use std::sync::Arc;

    use super::super::S3;
    use super::super::config::Config;
    use crate::storage::conformance::{PAGE, Subject, conformance};

    async fn subject() -> Option<Subject> {
        let url = std::env::var("RDUMP_TEST_S3_URL").ok()?;
        let mut config = Config::parse(&url).unwrap();
        let prefix = format!("conformance-{:032x}/", rand::random::<u128>());
        config.prefix.push_str(&prefix);
        config.page = PAGE as i32;
        Some(Subject {
            storage: Arc::new(S3::with_config(config).await.unwrap()),
            keep: Box::new(()),
        })
    }

    conformance!(subject());
}

#[tokio::test]
async fn a_prefix_hides_what_is_beside_it() {
    let server = Server::start().await;
    let whole = open(&server, "", "").await;
    let part = open(&server, "p", "").await;
    assert_eq!(
        (whole.to_string(), part.to_string()),
        ("s3://bucket".into(), "s3://bucket/p".into())
    );
    let _ = part.create(&key("a"), "x".into()).await.unwrap();
    for name in ["p-a", "p/b", "q"] {
        let _ = whole.create(&key(name), "x".into()).await.unwrap();
    }
    std::mem::forget(whole.begin(&key("p-u")).await.unwrap());
    std::mem::forget(part.begin(&key("u")).await.unwrap());
    let listed = part.list("", None).await.unwrap();
    let names: Vec<&Key> = listed.objects.iter().map(|object| &object.key).collect();
    assert_eq!(names, [&key("a"), &key("b")]);
    let unfinished = part.unfinished("").await.unwrap();
    assert_eq!(unfinished.len(), 1);
    assert_eq!(unfinished[0].key, key("u"));
}

#[tokio::test]
async fn a_store_that_overwrites_is_found_out() {
    let server = Server::start().await;
    let store = open(&server, "", "").await;
    assert_eq!(
        probe_conditional(&store).await.unwrap(),
        Conditional::Refuses
    );
    server.ignore_conditions();
    assert_eq!(
        probe_conditional(&store).await.unwrap(),
        Conditional::Ignores
    );
    assert!(store.list("", None).await.unwrap().objects.is_empty());
    // an upload looks before
    let _ = store.create(&key("a"), "x".into()).await.unwrap();
    assert!(store.begin(&key("a")).await.is_err());
}

#[tokio::test]
async fn checksums_of_parts_are_sent() {
    for parameter in ["crc32", "crc32c", "sha256", "none"] {
        let server = Server::start().await;
        let store = open(&server, "", &format!("&checksum={parameter}")).await;
        let created = store.create(&key("a"), "contents".into()).await.unwrap();
        assert_eq!(created, Created::New, "{parameter}");
        let upload = store.begin(&key("b")).await.unwrap();
        upload.part(0, "part".into()).await.unwrap();
        upload.complete(4).await.unwrap();
        assert_eq!(server.contents("a").unwrap(), b"contents");
        assert_eq!(server.contents("b").unwrap(), b"part");
    }
}

#[tokio::test]
async fn a_missing_bucket_is_named_or_made() {
    let server = Server::without_bucket().await;
    let store = open(&server, "", "").await;
    for error in [
        store.create(&key("a"), "x".into()).await.unwrap_err(),
        store.get(&key("a"), 1).await.unwrap_err(),
        store.list("", None).await.unwrap_err(),
    ] {
        let text = error.to_string();
        assert!(
            text.contains("s3://bucket/") && text.contains("NoSuchBucket"),
            "{text}"
        );
        assert_eq!(
            error.hint_text(),
            Some("create the bucket, or add create-bucket=true to the URL")
        );
    }
    for _ in 0..2 {
        store.0.create_bucket().await.unwrap();
    }
    let _ = store.create(&key("a"), "x".into()).await.unwrap();
}

#[tokio::test]
async fn what_is_denied_says_so_and_wrong_credentials_are_another_thing() {
    let server = Server::start().await;
    let store = open(&server, "", "").await;
    server.fail(Asks::Delete, Fault::Denied, 1);
    let error = store.delete(&key("a")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Denied);
    assert_eq!(
        error.to_string(),
        "could not delete s3://bucket/a: AccessDenied: As the test wants it (HTTP status 403)"
    );
    server.fail(Asks::Head, Fault::Denied, 1);
    assert_eq!(
        store.head(&key("a")).await.unwrap_err().kind(),
        Kind::Denied
    );

    let wrong = open_as(config(&server, "", ""), USER, "another-secret").await;
    let error = wrong.list("", None).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Other, "{error}");
    assert!(
        error.to_string().contains("SignatureDoesNotMatch"),
        "{error}"
    );
    assert!(error.hint_text().unwrap().contains("credentials"));
    assert!(!format!("{error} {wrong:?} {store:?}").contains("secret"));
}

#[tokio::test]
async fn a_store_that_is_not_there_is_an_error() {
    let server = Server::start().await;
    let mut config = config(&server, "", "");
    // nobody listens on a port that has just been given back
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    config.endpoint = Some(format!("http://{}", listener.local_addr().unwrap()));
    drop(listener);
    let store = open_as(config, USER, PASSWORD).await;
    let error = store.list("", None).await.unwrap_err().to_string();
    assert!(
        error.starts_with("could not list s3://bucket/: the request could not be sent: ")
            && error.contains("refused"),
        "{error}"
    );
}

#[tokio::test]
async fn an_authority_of_its_own_is_trusted_where_it_is_given() {
    let (server, certificate) = Server::with_tls().await;
    let store = open(&server, "", "").await;
    let error = store.list("", None).await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
    assert_eq!(
        error.hint_text(),
        Some("if the store has an authority of its own, add ca=FILE to the URL")
    );
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), certificate).unwrap();
    let parameter = format!("&ca={}", file.path().display());
    let store = open(&server, "", &parameter).await;
    let _ = store.create(&key("a"), "x".into()).await.unwrap();
    assert_eq!(store.list("", None).await.unwrap().objects.len(), 1);
}

/// Written by a plain thread and read by others, with no buffer of all of it.
#[tokio::test]
async fn a_stream_goes_there_and_back() {
    let server = Server::start().await;
    let storage: Arc<dyn Storage> = Arc::new(open(&server, "", "").await);
    let bytes = pattern((5 << 20) * 3 + 1234, 9);
    let (written, to) = (bytes.clone(), storage.clone());
    let volumes = std::thread::spawn(move || {
        use std::io::Write;
        let name = |number| Key::new(format!("archive/{number}"));
        let mut writer = UploadWriter::new(to, 10 << 20, name)?;
        for piece in written.chunks(1_000_003) {
            writer.write_all(piece).map_err(write_error)?;
        }
        writer.finish()
    });
    let volumes: Vec<Volume> = volumes.join().unwrap().unwrap();
    let sizes: Vec<u64> = volumes.iter().map(|volume| volume.size).collect();
    assert_eq!(sizes, [10 << 20, (5 << 20) + 1234]);
    let archive = Volumes::new(storage, volumes).unwrap();
    // on this test's own runtime, which has one thread
    for (offset, length) in [(0, 100), ((10 << 20) - 50, 100), (bytes.len() - 100, 100)] {
        let mut buffer = vec![0; length];
        archive.read_exact_at(offset as u64, &mut buffer).unwrap();
        assert_eq!(buffer, bytes[offset..offset + length]);
    }
    assert_eq!(server.uploads(), 0);
}
