//! Each operation, with each fault, once and always: it succeeds, truly, or is an error that says what failed.

use std::time::SystemTime;

use tokio::task::JoinSet;

use super::server::{Asks, Fault, Server};
use super::{open, open_as};
use crate::error::{Error, Result};
use crate::storage::conformance::key;
use crate::storage::object::{Created, Storage, Unfinished};
use crate::storage::s3::S3;

/// What is done, and the request that fails.
const OPERATIONS: [(&str, Asks); 13] = [
    ("create", Asks::Put),
    ("put", Asks::Put),
    ("get", Asks::Get),
    ("read", Asks::Get),
    ("head", Asks::Head),
    ("list", Asks::List),
    ("delete", Asks::Delete),
    ("begin", Asks::Begin),
    ("part", Asks::Part),
    ("complete", Asks::Complete),
    ("abort", Asks::Abort),
    ("unfinished", Asks::Unfinished),
    ("discard", Asks::Abort),
];

/// Does it, and checks that it is done if it says so.
async fn operate(operation: &str, store: &S3, server: &Server) -> Result<()> {
    let (there, new) = (key("there"), key("new"));
    let must = |holds: bool| match holds {
        true => Ok(()),
        false => panic!("{operation} says that it succeeded, and did not"),
    };
    match operation {
        "create" => {
            let created = store.create(&new, "contents".into()).await?;
            must(created == Created::New && server.contents("new").unwrap() == b"contents")
        }
        "put" => {
            store.put(&there, "other".into()).await?;
            must(server.contents("there").unwrap() == b"other")
        }
        "get" => must(store.get(&there, 100).await?.unwrap() == "contents"),
        "read" => must(store.read(&there, 2..7).await? == "ntent"),
        "head" => must(store.head(&there).await?.unwrap().size == 8),
        "list" => must(store.list("", None).await?.objects.len() == 1),
        "delete" => {
            store.delete(&there).await?;
            must(server.contents("there").is_none())
        }
        "unfinished" => {
            std::mem::forget(store.begin(&new).await?);
            must(store.unfinished("").await?.len() == 1)
        }
        "discard" => {
            std::mem::forget(store.begin(&new).await?);
            let unfinished: Vec<Unfinished> = store.unfinished("").await?;
            store.discard(&unfinished[0]).await?;
            must(server.uploads() == 0)
        }
        // of an upload
        _ => {
            let upload = store.begin(&new).await?;
            upload.part(0, "contents".into()).await?;
            if operation == "abort" {
                upload.abort().await?;
                return must(server.uploads() == 0 && server.contents("new").is_none());
            }
            upload.complete(8).await?;
            must(server.contents("new").unwrap() == b"contents")
        }
    }
}

async fn try_with(
    operation: &'static str,
    asks: Asks,
    fault: Fault,
    times: usize,
) -> Option<Error> {
    let server = Server::start().await;
    let mut config = super::config(&server, "", "");
    if times > 1 {
        config.patience.attempts = 2;
    }
    let store = open_as(config, super::USER, super::PASSWORD).await;
    let _ = store
        .create(&key("there"), "contents".into())
        .await
        .unwrap();
    server.fail(asks, fault, times);
    let outcome = operate(operation, &store, &server).await;
    server.no_faults();
    // what a sweep does
    for unfinished in store.unfinished("").await.unwrap() {
        store.discard(&unfinished).await.unwrap();
    }
    assert_eq!(server.uploads(), 0, "{operation} with {fault:?}");
    // never half of it
    if let Some(there) = server.contents("new") {
        assert_eq!(there, b"contents", "{operation} with {fault:?}");
    }
    outcome.err()
}

/// The error of each operation, if the first request of its kind fails, or all.
async fn each(fault: Fault, times: usize) -> Vec<(&'static str, Option<String>)> {
    let mut tasks = JoinSet::new();
    for (at, (operation, asks)) in OPERATIONS.into_iter().enumerate() {
        tasks.spawn(async move {
            let error = try_with(operation, asks, fault, times).await;
            (at, operation, error.map(|error| error.to_string()))
        });
    }
    let mut outcomes = tasks.join_all().await;
    outcomes.sort_unstable();
    outcomes
        .into_iter()
        .map(|(_, operation, error)| (operation, error))
        .collect()
}

async fn once_does_no_harm(fault: Fault) {
    for (operation, error) in each(fault, 1).await {
        assert_eq!(error, None, "{operation} with {fault:?}");
    }
}

/// But for those of which it can be seen that they took effect.
async fn always_is_an_error(fault: Fault, seen: &[&str], says: &str) {
    for (operation, error) in each(fault, usize::MAX).await {
        match error {
            None => assert!(seen.contains(&operation), "{operation} with {fault:?}"),
            Some(error) => {
                assert!(!seen.contains(&operation), "{operation}: {error}");
                assert!(
                    error.starts_with("could not ") && error.contains("s3://bucket/"),
                    "{operation}: {error}"
                );
                // the answer to HEAD has no body
                assert!(
                    error.contains(says) || operation == "head",
                    "{operation}: {error}"
                );
            }
        }
    }
}

#[tokio::test]
async fn an_internal_error_passes() {
    once_does_no_harm(Fault::InternalError).await;
    always_is_an_error(Fault::InternalError, &[], "InternalError").await;
}

#[tokio::test]
async fn a_store_that_asks_to_slow_down_is_obeyed() {
    once_does_no_harm(Fault::SlowDown).await;
    always_is_an_error(Fault::SlowDown, &[], "SlowDown").await;
}

#[tokio::test]
async fn a_connection_may_be_reset() {
    once_does_no_harm(Fault::Reset).await;
    always_is_an_error(Fault::Reset, &[], "the request could not be sent").await;
}

#[tokio::test]
async fn a_store_may_fall_silent() {
    once_does_no_harm(Fault::Stall).await;
    always_is_an_error(Fault::Stall, &[], "the store did not answer in time").await;
}

#[tokio::test]
async fn a_lost_reply_is_neither_failure_nor_success() {
    once_does_no_harm(Fault::LostReply).await;
    always_is_an_error(
        Fault::LostReply,
        &["create", "complete"],
        "the request could not be sent",
    )
    .await;
}

#[tokio::test]
async fn a_reply_may_break_off() {
    once_does_no_harm(Fault::CutReply).await;
    // the status of the second attempt is enough: there is no such upload any more
    let seen = ["create", "complete", "abort", "discard"];
    always_is_an_error(Fault::CutReply, &seen, "").await;
}

#[tokio::test]
async fn an_error_may_come_after_the_status_of_success() {
    for times in [1, usize::MAX] {
        let error = try_with("complete", Asks::Complete, Fault::ErrorAfterSuccess, times).await;
        match (times, error) {
            (1, None) => {}
            (usize::MAX, Some(error)) => assert_eq!(
                error.to_string(),
                "could not complete s3://bucket/new: InternalError: As the test wants it (HTTP status 200)"
            ),
            (_, error) => panic!("{times} times: {error:?}"),
        }
    }
}

/// Whose object is there is told by its token, not by its contents.
#[tokio::test]
async fn the_same_contents_of_another_are_another_object() {
    let server = Server::start().await;
    let store = open(&server, "", "").await;
    let name = key("a");
    let create = || store.create(&name, "the same".into());
    assert_eq!(create().await.unwrap(), Created::New);
    server.fail(Asks::Put, Fault::LostReply, 1);
    assert_eq!(create().await.unwrap(), Created::Exists);
    let upload = store.begin(&key("b")).await.unwrap();
    upload.part(0, "the same".into()).await.unwrap();
    let _ = store.create(&key("b"), "the same".into()).await.unwrap();
    server.fail(Asks::Complete, Fault::LostReply, 1);
    let error = upload.complete(8).await.unwrap_err().to_string();
    assert_eq!(error, "s3://bucket/b exists already");
}

/// Where who created it cannot be seen, it is neither.
#[tokio::test]
async fn what_cannot_be_looked_at_is_an_error() {
    let server = Server::start().await;
    let store = open(&server, "", "").await;
    server.fail(Asks::Put, Fault::LostReply, 1);
    server.fail(Asks::Head, Fault::Denied, usize::MAX);
    let error = store.create(&key("a"), "x".into()).await.unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("looking who created the object: "),
        "{error}"
    );
}

#[tokio::test]
async fn uploads_of_nobody_are_listed_in_pages() {
    let server = Server::start().await;
    let store = open(&server, "", "").await;
    for number in 0..7 {
        std::mem::forget(
            store
                .begin(&key(&format!("u{}", number % 2)))
                .await
                .unwrap(),
        );
    }
    let unfinished = store.unfinished("").await.unwrap();
    assert_eq!(unfinished.len(), 7);
    assert!(server.count(Asks::Unfinished) > 2);
    let forged = Unfinished {
        key: key("u0"),
        upload: "unknown".to_owned(),
        begun: SystemTime::UNIX_EPOCH,
    };
    store.discard(&forged).await.unwrap();
    assert_eq!(server.uploads(), 7);
}
