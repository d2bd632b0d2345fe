//! A web server that takes what rdump posts.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// Listens for as long as the test runs, and takes everything.
pub struct Hook {
    port: u16,
    scheme: &'static str,
    bodies: Arc<Mutex<Vec<serde_json::Value>>>,
}

impl Hook {
    pub fn start() -> Hook {
        Hook::listen(None, true)
    }

    /// One that takes everything and answers nothing.
    pub fn start_silent() -> Hook {
        Hook::listen(None, false)
    }

    /// One whose certificate a CA of its own signed; the CA's certificate, in a file.
    pub fn start_with_ca(folder: &Path) -> (Hook, PathBuf) {
        let key = KeyPair::generate().expect("a key");
        let mut of_ca = CertificateParams::new(Vec::new()).expect("parameters");
        of_ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = of_ca.self_signed(&key).expect("a certificate");
        let own_key = KeyPair::generate().expect("a key");
        let own = CertificateParams::new(vec!["127.0.0.1".to_owned()])
            .and_then(|own| own.signed_by(&own_key, &Issuer::from_params(&of_ca, &key)))
            .expect("a certificate");
        let file = folder.join("ca.pem");
        std::fs::write(&file, ca.pem()).expect("written");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let private = rustls::pki_types::PrivateKeyDer::try_from(own_key.serialize_der());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![own.der().clone()], private.expect("a key"))
            .expect("a configuration");
        (Hook::listen(Some(Arc::new(config)), true), file)
    }

    fn listen(tls: Option<Arc<ServerConfig>>, answers: bool) -> Hook {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&bodies);
        std::thread::spawn(move || {
            let mut open = Vec::new();
            for stream in listener.incoming() {
                let stream = stream.expect("a connection");
                match &tls {
                    None if !answers => {
                        let mut silent = stream.try_clone().expect("a connection");
                        open.push(stream);
                        note(&mut silent, &seen);
                    }
                    None => answer(stream, &seen),
                    Some(config) => {
                        let connection = ServerConnection::new(Arc::clone(config));
                        answer(
                            StreamOwned::new(connection.expect("a connection"), stream),
                            &seen,
                        );
                    }
                }
            }
        });
        Hook {
            port,
            scheme,
            bodies,
        }
    }

    /// With a secret wherever a URL can have one.
    pub fn url(&self, secret: &str) -> String {
        let Hook { port, scheme, .. } = self;
        format!("{scheme}://{secret}:{secret}@127.0.0.1:{port}/{secret}?{secret}={secret}")
    }

    /// What came since the last call.
    pub fn take(&self) -> Vec<serde_json::Value> {
        std::mem::take(&mut *self.bodies.lock().expect("bodies"))
    }
}

/// A client that does not trust us hangs up.
fn answer(mut stream: impl Read + Write, bodies: &Mutex<Vec<serde_json::Value>>) {
    if note(&mut stream, bodies) {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        let _ = stream.write_all(answer).and_then(|()| stream.flush());
    }
}

/// Whether a whole request came.
fn note(stream: &mut impl Read, bodies: &Mutex<Vec<serde_json::Value>>) -> bool {
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut part) {
        bytes.extend_from_slice(&part[..length]);
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let head = head.to_lowercase();
        let wanted = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        if body.len()
            == wanted
                .expect("a length")
                .parse::<usize>()
                .expect("a number")
        {
            let body = serde_json::from_str(body).expect("JSON");
            bodies.lock().expect("bodies").push(body);
            return true;
        }
    }
    false
}
