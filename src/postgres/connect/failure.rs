//! Failed attempts: what comes after them, and the one error that they add up to.

use super::socket::Described;
use crate::error::{Error, SqlState};

/// What to try after a failure. Where a server was reached and refused us, another would most
/// likely do so too, and trying it could lock an account: libpq stops, and so do we.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The next address of the same host.
    Address,
    /// The next host of the list.
    Host,
    /// The same address with or without encryption, if sslmode allows it; then nothing.
    OtherEncryption,
    Nothing,
}

/// One failed attempt.
#[derive(Debug)]
pub struct Failure {
    message: String,
    hint: Option<String>,
    sqlstate: Option<SqlState>,
    next: Next,
    needs_password: bool,
}

impl Failure {
    pub fn new(message: impl Into<String>) -> Failure {
        Failure {
            message: message.into(),
            hint: None,
            sqlstate: None,
            next: Next::Nothing,
            needs_password: false,
        }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }

    pub fn maybe_hint(mut self, hint: Option<String>) -> Failure {
        self.hint = hint.or(self.hint);
        self
    }

    pub fn sqlstate(mut self, sqlstate: Option<SqlState>) -> Failure {
        self.sqlstate = sqlstate;
        self
    }

    pub fn next(mut self, next: Next) -> Failure {
        self.next = next;
        self
    }

    /// The server asked for a password and there was none.
    pub fn needs_password(mut self) -> Failure {
        self.needs_password = true;
        self
    }

    pub fn what_next(&self) -> Next {
        self.next
    }

    /// Says where it happened, as libpq does.
    pub fn at(mut self, place: &Described) -> Failure {
        let preposition = if place.is_socket() { "" } else { "at " };
        self.message = format!(
            "connection to server {preposition}{place} failed: {}",
            self.message
        );
        self
    }
}

/// All failures of one connection, in order.
#[derive(Debug, Default)]
pub struct Failures(Vec<Failure>);

impl Failures {
    pub fn push(&mut self, failure: Failure) {
        // The same refusal with and without encryption needs saying once.
        self.0.retain(|earlier| earlier.message != failure.message);
        self.0.push(failure);
    }

    pub fn last_next(&self) -> Option<Next> {
        self.0.last().map(|failure| failure.next)
    }

    /// Whether the last failure rules out further hosts.
    pub fn stop(&self) -> bool {
        matches!(
            self.last_next(),
            Some(Next::Nothing | Next::OtherEncryption)
        )
    }

    pub fn need_password(&self) -> bool {
        self.0.iter().any(|failure| failure.needs_password)
    }

    /// One line a failure; the hint and the SQLSTATE of the last one that has any.
    pub fn into_error(self) -> Error {
        let message = self
            .0
            .iter()
            .map(|failure| failure.message.as_str())
            .collect::<Vec<_>>()
            .join("\n");
        let mut error = Error::new(message);
        if let Some(hint) = self.0.iter().rev().find_map(|failure| failure.hint.clone()) {
            error = error.hint(hint);
        }
        if let Some(sqlstate) = self
            .0
            .iter()
            .rev()
            .find_map(|failure| failure.sqlstate.clone())
        {
            error = error.with_sqlstate(sqlstate);
        }
        error
    }
}

/// What a server's refusal asks of the user.
pub fn hint_for(sqlstate: &SqlState, message: &str) -> Option<String> {
    let hint = match *sqlstate {
        SqlState::INVALID_PASSWORD => {
            "check the password: PGPASSWORD, the password file, or -W to type it"
        }
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION
            if message.contains("no encryption") || message.contains("SSL off") =>
        {
            "the server may want TLS: sslmode=require; or pg_hba.conf on the server needs an entry"
        }
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION if message.contains("pg_hba.conf") => {
            "pg_hba.conf on the server needs an entry that lets this user and address in"
        }
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION if message.contains("eer authentication") => {
            "over the Unix socket the server lets in the operating system's user of the same name: \
             name the host with -h localhost to use a password, or the user with -U"
        }
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
            "check the user name: -U, the connection string or PGUSER"
        }
        SqlState::INVALID_CATALOG_NAME => {
            "check the database name: -d, the connection string or PGDATABASE"
        }
        SqlState::TOO_MANY_CONNECTIONS => {
            "wait for free connections, or raise max_connections on the server"
        }
        SqlState::CANNOT_CONNECT_NOW => {
            "the server is starting up, shutting down or in recovery: try again later"
        }
        // as poolers use it
        SqlState::PROTOCOL_VIOLATION if message.contains("startup parameter") => {
            "a pooler refuses the parameter: leave out \"options\", or connect to the server itself"
        }
        _ => return None,
    };
    Some(hint.to_owned())
}
