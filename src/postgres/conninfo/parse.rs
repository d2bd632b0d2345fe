//! Connection strings: `key=value` lists and `postgresql://` URIs.
//!
//! The grammar is libpq's (conninfo_parse and conninfo_uri_parse_options in fe-connect.c). The
//! messages differ in one thing: libpq repeats the string it could not parse, which may hold a
//! password, and we never do.

use super::settings::{self, Settings};
use crate::error::{Error, Result};

const URI_PREFIXES: [&str; 2] = ["postgresql://", "postgres://"];

/// Whether the value of `-d` is a connection string rather than the name of a database.
pub fn is_connection_string(value: &str) -> bool {
    uri_rest(value).is_some() || value.contains('=')
}

/// Parses a connection string of either form into `settings`, over what they hold.
pub fn parse_into(settings: &mut Settings, text: &str) -> Result<()> {
    match uri_rest(text) {
        Some(rest) => parse_uri(settings, rest),
        None => parse_key_values(settings, text),
    }
}

fn uri_rest(text: &str) -> Option<&str> {
    URI_PREFIXES
        .iter()
        .find_map(|prefix| text.strip_prefix(prefix))
}

/// What C's isspace says in the POSIX locale.
fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\n' | '\x0b' | '\x0c' | '\r')
}

fn parse_key_values(settings: &mut Settings, text: &str) -> Result<()> {
    let mut rest = text.trim_start_matches(is_space);
    let mut after_secret = false;
    while !rest.is_empty() {
        let end = rest
            .find(|character| character == '=' || is_space(character))
            .unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        let Some(value) = after.trim_start_matches(is_space).strip_prefix('=') else {
            // The word after a password may be the rest of a password with a blank in it.
            return Err(if !after_secret && settings::looks_like_option(name) {
                Error::usage(format!(
                    "missing \"=\" after \"{name}\" in connection info string"
                ))
            } else {
                Error::usage("missing \"=\" after a word in connection info string")
            }
            .hint("values with blanks need single quotes: password='two words'"));
        };
        if after_secret && settings::find(name).is_none() && name != "requiressl" {
            return Err(Error::usage("invalid connection option after a password")
                .hint("a password with blanks needs single quotes: password='two words'"));
        }
        let (value, remaining) = take_value(value.trim_start_matches(is_space))?;
        settings.set(name, value)?;
        after_secret = settings::is_secret(name);
        rest = remaining.trim_start_matches(is_space);
    }
    Ok(())
}

/// Takes a bare or a quoted value from the front; a backslash takes the next character as it is.
fn take_value(text: &str) -> Result<(String, &str)> {
    let (quoted, body) = match text.strip_prefix('\'') {
        Some(body) => (true, body),
        None => (false, text),
    };
    let mut value = String::new();
    let mut characters = body.char_indices();
    while let Some((position, character)) = characters.next() {
        match character {
            '\\' => {
                if let Some((_, escaped)) = characters.next() {
                    value.push(escaped);
                }
            }
            '\'' if quoted => {
                return Ok((value, body.get(position + 1..).unwrap_or_default()));
            }
            character if !quoted && is_space(character) => {
                return Ok((value, body.get(position..).unwrap_or_default()));
            }
            character => value.push(character),
        }
    }
    if quoted {
        return Err(Error::usage(
            "unterminated quoted string in connection info string",
        ));
    }
    Ok((value, ""))
}

/// `postgresql://[user[:password]@][host][:port][,...][/dbname][?param=value&...]`
fn parse_uri(settings: &mut Settings, rest: &str) -> Result<()> {
    let mut rest = rest;
    let credentials_end = rest.find(['@', '/']).unwrap_or(rest.len());
    if rest[credentials_end..].starts_with('@') {
        let (credentials, after) = rest.split_at(credentials_end);
        let (user, password) = match credentials.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (credentials, None),
        };
        if !user.is_empty() {
            settings.set("user", decode(user, "the user name of the connection URI")?)?;
        }
        if let Some(password) = password.filter(|password| !password.is_empty()) {
            settings.set(
                "password",
                decode(password, "the password of the connection URI")?,
            )?;
        }
        rest = after.strip_prefix('@').unwrap_or(after);
    }

    let mut hosts = String::new();
    let mut ports = String::new();
    loop {
        let (host, after) = take_host(rest)?;
        hosts.push_str(host);
        rest = after;
        if let Some(after) = rest.strip_prefix(':') {
            let end = after.find(['/', '?', ',']).unwrap_or(after.len());
            let (port, after) = after.split_at(end);
            ports.push_str(port);
            rest = after;
        }
        match rest.strip_prefix(',') {
            Some(after) => {
                rest = after;
                hosts.push(',');
                ports.push(',');
            }
            None => break,
        }
    }
    if !hosts.is_empty() {
        if hosts.contains('@') {
            return Err(unencoded("the host of the connection URI contains \"@\""));
        }
        settings.set("host", decode(&hosts, "the host of the connection URI")?)?;
    }
    if !ports.is_empty() {
        let ports = decode(&ports, "the port of the connection URI")?;
        let plausible = |c: char| c.is_ascii_digit() || c == ',' || is_space(c);
        if !ports.chars().all(plausible) {
            return Err(unencoded("invalid port number in the connection URI"));
        }
        settings.set("port", ports)?;
    }

    let (path, parameters) = match rest.split_once('?') {
        Some((path, parameters)) => (path, parameters),
        None => (rest, ""),
    };
    let dbname = path.strip_prefix('/').unwrap_or(path);
    if !dbname.is_empty() {
        settings.set(
            "dbname",
            decode(dbname, "the database name of the connection URI")?,
        )?;
    }
    parse_parameters(settings, parameters)
}

/// Takes a host name or a bracketed IPv6 address from the front.
fn take_host(text: &str) -> Result<(&str, &str)> {
    let Some(bracketed) = text.strip_prefix('[') else {
        return Ok(text.split_at(text.find([':', '/', '?', ',']).unwrap_or(text.len())));
    };
    let Some((address, after)) = bracketed.split_once(']') else {
        return Err(Error::usage(
            "end of string reached when looking for matching \"]\" in IPv6 host address in the \
             connection URI",
        ));
    };
    if address.is_empty() {
        return Err(Error::usage(
            "IPv6 host address may not be empty in the connection URI",
        ));
    }
    match after.chars().next() {
        None | Some(':' | '/' | '?' | ',') => Ok((address, after)),
        Some(character) => Err(Error::usage(format!(
            "unexpected character \"{character}\" after the IPv6 host address in the connection \
             URI (expected \":\" or \"/\")"
        ))),
    }
}

fn parse_parameters(settings: &mut Settings, text: &str) -> Result<()> {
    let mut rest = text;
    while !rest.is_empty() {
        let (parameter, after) = rest.split_once('&').unwrap_or((rest, ""));
        rest = after;
        let Some((name, value)) = parameter.split_once('=') else {
            return Err(Error::usage(
                "missing key/value separator \"=\" in a query parameter of the connection URI",
            ));
        };
        let name = decode(name, "a query parameter of the connection URI")?;
        if value.contains('=') {
            return Err(Error::usage(format!(
                "extra key/value separator \"=\" in query parameter \"{name}\" of the connection \
                 URI"
            )));
        }
        let value = decode(
            value,
            &format!("query parameter \"{name}\" of the connection URI"),
        )?;
        if name == "ssl" && value == "true" {
            // As JDBC writes it.
            settings.set("sslmode", "require")?;
        } else if settings::find(&name).is_none() && name != "requiressl" {
            return Err(Error::usage(format!(
                "invalid URI query parameter: \"{name}\""
            )));
        } else {
            settings.set(&name, value)?;
        }
    }
    Ok(())
}

/// Decodes percent-encoding; blanks around the text are dropped, blanks within it refused.
fn decode(text: &str, part: &str) -> Result<String> {
    let trimmed = text.trim_matches(' ');
    if trimmed.contains(' ') {
        return Err(
            Error::usage(format!("unexpected spaces found in {part}")).hint("write a space as %20")
        );
    }
    let mut decoded = Vec::with_capacity(trimmed.len());
    let mut bytes = trimmed.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let digits = (bytes.next().and_then(hex), bytes.next().and_then(hex));
        let (Some(high), Some(low)) = digits else {
            return Err(
                Error::usage(format!("invalid percent-encoded token in {part}"))
                    .hint("write a percent sign as %25"),
            );
        };
        match high * 16 + low {
            0 => {
                return Err(Error::usage(format!(
                    "forbidden value %00 in percent-encoded value in {part}"
                )));
            }
            byte => decoded.push(byte),
        }
    }
    String::from_utf8(decoded).map_err(|_| Error::usage(format!("{part} is not valid UTF-8")))
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

fn unencoded(message: &str) -> Error {
    Error::usage(message).hint(
        "special characters of a user name or password need percent-encoding: @ is %40, / is \
         %2F, : is %3A, ? is %3F, # is %23",
    )
}
