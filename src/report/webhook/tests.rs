//! Against real sockets.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::report::{Ended, Place};

const SECRET: &str = "canary";

/// Answers each request with the next of these statuses; without one left, never.
struct Server {
    address: String,
    requests: Arc<Mutex<Vec<(String, serde_json::Value)>>>,
}

impl Server {
    async fn start(statuses: &'static [&'static str]) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        tokio::spawn(async move {
            let mut statuses = statuses.iter();
            let mut silent = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                let request = read_request(&mut stream).await;
                seen.lock().expect("requests").push(request);
                match statuses.next() {
                    None => silent.push(stream),
                    Some(status) => {
                        let answer = format!(
                            "HTTP/1.1 {status}\r\nlocation: http://{SECRET}.invalid/\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                        );
                        stream.write_all(answer.as_bytes()).await.expect("written");
                    }
                }
            }
        });
        Server { address, requests }
    }

    fn url(&self) -> String {
        format!(
            "http://{SECRET}-user:{SECRET}-word@{}/{SECRET}?token={SECRET}",
            self.address
        )
    }

    fn requests(&self) -> Vec<(String, serde_json::Value)> {
        self.requests.lock().expect("requests").clone()
    }
}

async fn read_request(stream: &mut TcpStream) -> (String, serde_json::Value) {
    let mut bytes = Vec::new();
    loop {
        stream.read_buf(&mut bytes).await.expect("a request");
        let text = String::from_utf8(bytes.clone()).expect("text");
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let head = head.to_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        if body.len()
            == length
                .expect("a length")
                .parse::<usize>()
                .expect("a number")
        {
            return (head, serde_json::from_str(body).expect("JSON"));
        }
    }
}

fn account() -> Account {
    let mut account = Account::begun("snapshot", "r1");
    account.label = Some("shop".to_owned());
    account.host = "db1".to_owned();
    account.rows = Some(3);
    account.repositories = vec![Place::new("/srv/backups")];
    account.end(&Err::<(), _>(Error::new("full").hint("make room")));
    account
}

async fn send(url: &str) -> Result<()> {
    let patience = Patience {
        timeout: Duration::from_secs(30),
        first_wait: Duration::from_millis(1),
        ..Patience::default()
    };
    let webhook = Webhook::new(url)?.with_patience(patience);
    assert!(!format!("{webhook:?}").contains(SECRET));
    webhook.send(&account()).await
}

fn assert_is_discreet(error: &Error) {
    let text = format!("{error} {:?} {error:?}", error.hint_text());
    assert!(!text.contains(SECRET), "{text}");
}

#[tokio::test]
async fn an_account_is_posted_once_if_it_is_taken() {
    let server = Server::start(&["204 No Content"]).await;
    send(&server.url()).await.expect("sent");
    let requests = server.requests();
    assert_eq!(requests.len(), 1);
    let (head, body) = &requests[0];
    let expected = format!("post /{SECRET}?token={SECRET} http/1.1");
    assert_eq!(head.lines().next(), Some(expected.as_str()));
    for line in ["content-type: application/json", "authorization: basic "] {
        assert!(head.contains(line), "{head}");
    }
    assert_eq!(body["version"], 1);
    assert_eq!(body["text"], "rdump snapshot of shop on db1 failed: full");
    assert_eq!(body["run"], "r1");
    assert_eq!(body["outcome"], "failed");
    assert_eq!(body["exit_code"], 1);
    assert_eq!(body["hint"], "make room");
    assert_eq!(body["rows"], 3);
    assert!(body["tables"].is_null() && body["seconds"].is_f64());
    assert_eq!(body["repositories"][0]["repository"], "/srv/backups");
    let documented = include_str!("../../../docs/webhook.md");
    for name in body.as_object().expect("an object").keys() {
        assert!(documented.contains(&format!("| `{name}` |")), "{name}");
    }
    // the outcome in the words that other places have for it
    assert_eq!(Ended::Failed.as_str(), body["outcome"]);
}

#[tokio::test]
async fn what_may_pass_is_tried_three_times() {
    for (statuses, tries) in [
        (&["500 Broken", "200 OK"][..], Ok(2)),
        (&["503 Busy", "429 Too Many", "200 OK"], Ok(3)),
        (&["500 Broken", "502 Gone", "503 Busy", "200 OK"], Err(3)),
        (&["404 Not Found", "200 OK"], Err(1)),
        (&["401 Unauthorized", "200 OK"], Err(1)),
        (&["302 Found", "200 OK"], Err(1)),
    ] {
        let server = Server::start(statuses).await;
        let sent = send(&server.url()).await;
        let count = server.requests().len();
        match (sent, tries) {
            (Ok(()), Ok(tries)) => assert_eq!(count, tries, "{statuses:?}"),
            (Err(error), Err(tries)) => {
                assert_eq!(count, tries, "{statuses:?}");
                assert_is_discreet(&error);
                let beginning = "the webhook at 127.0.0.1 was not told: it answered ";
                assert!(error.message().starts_with(beginning), "{error}");
            }
            (sent, _) => panic!("{statuses:?}: {sent:?}"),
        }
    }
}

#[tokio::test]
async fn each_try_sends_the_same() {
    let server = Server::start(&["500 Broken", "500 Broken", "200 OK"]).await;
    send(&server.url()).await.expect("sent");
    let requests = server.requests();
    assert!(requests.iter().all(|request| *request == requests[0]));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_by_its_host_alone() {
    // a port that nobody listens on: it was ours a moment ago
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let error = send(&format!("http://u:{SECRET}@{address}/{SECRET}"))
        .await
        .expect_err("nobody is there");
    assert_is_discreet(&error);
    let text = error.to_string();
    assert!(
        text.starts_with("the webhook at 127.0.0.1 was not told: ") && text.ends_with("(3 tries)"),
        "{text}"
    );
    assert!(text.contains("refused"), "{text}");
}

#[tokio::test]
async fn a_server_that_is_silent_is_given_up() {
    let server = Server::start(&[]).await;
    let patience = Patience {
        tries: 2,
        timeout: Duration::from_millis(100),
        first_wait: Duration::from_millis(1),
    };
    let webhook = Webhook::new(&server.url()).expect("a URL");
    let sent = webhook.with_patience(patience).send(&account()).await;
    let error = sent.expect_err("no answer");
    assert_is_discreet(&error);
    assert_eq!(
        error.message(),
        "the webhook at 127.0.0.1 was not told: no answer within 0.1 s (2 tries)"
    );
}

/// Over TLS, with what a server says that does not speak it.
#[tokio::test]
async fn failures_of_tls_show_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let error = send(&format!("https://u:{SECRET}@{address}/{SECRET}"))
        .await
        .expect_err("no TLS");
    assert_is_discreet(&error);
}

#[test]
fn urls_that_are_none_are_not_shown() {
    for url in [
        SECRET,
        "ftp://canary/",
        "http://",
        "https://[canary/",
        "http://u:canary@:80/",
        "file:///canary",
        "",
    ] {
        let error = Webhook::new(url).expect_err(url);
        assert_eq!(error.exit_code(), 2);
        assert_is_discreet(&error);
    }
    let url = "https://u:p@hooks.example.org:8443/services/x\n";
    assert_eq!(
        Webhook::new(url).expect("a URL").host(),
        "hooks.example.org"
    );
}
