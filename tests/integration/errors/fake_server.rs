//! A server that speaks just enough of the protocol to say which version it is.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

/// Listens on a port of its own for as long as the test runs; fails every query.
pub struct FakeServer {
    pub port: u16,
}

const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;
const CANCEL_REQUEST: u32 = 80_877_102;

impl FakeServer {
    pub fn start(version: &'static str) -> FakeServer {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.expect("a connection");
                // a client that has heard enough hangs up
                std::thread::spawn(move || serve(stream, version));
            }
        });
        FakeServer { port }
    }

    pub fn conninfo(&self) -> String {
        format!(
            "host=127.0.0.1 port={} user=postgres dbname=postgres",
            self.port
        )
    }
}

fn serve(mut stream: TcpStream, version: &str) -> std::io::Result<()> {
    loop {
        let request = read_body(&mut stream)?;
        let code = u32::from_be_bytes(request[..4].try_into().expect("four bytes"));
        match code {
            SSL_REQUEST | GSS_REQUEST => stream.write_all(b"N")?,
            CANCEL_REQUEST => return Ok(()),
            _ => break,
        }
    }
    let mut greeting = message(b'R', &[0, 0, 0, 0]);
    for (name, value) in [
        ("server_version", version),
        ("server_encoding", "UTF8"),
        ("client_encoding", "UTF8"),
    ] {
        greeting.extend(message(b'S', format!("{name}\0{value}\0").as_bytes()));
    }
    greeting.extend(message(b'K', &[0, 0, 0, 1, 0, 0, 0, 2]));
    greeting.extend(message(b'Z', b"I"));
    stream.write_all(&greeting)?;
    loop {
        let mut tag = [0];
        stream.read_exact(&mut tag)?;
        read_body(&mut stream)?;
        if tag == *b"X" {
            return Ok(());
        }
        let mut answer = message(
            b'E',
            b"SERROR\0CXX000\0Mthe fake server was asked something\0\0",
        );
        answer.extend(message(b'Z', b"I"));
        stream.write_all(&answer)?;
    }
}

fn read_body(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut body = vec![0; u32::from_be_bytes(length) as usize - 4];
    stream.read_exact(&mut body)?;
    Ok(body)
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend((body.len() as u32 + 4).to_be_bytes());
    bytes.extend(body);
    bytes
}
