//! Resolving where to connect, by libpq's rules.
//!
//! A pure function of the flags, the environment and files, so that its tests need no process
//! environment. Order of precedence, as in pg_dump: the connection string, then the flags -h, -p
//! and -U, then the service file, then PG* variables, then defaults.

mod authentication;
mod environment;
mod parse;
mod passfile;
mod secret;
mod service;
mod settings;
mod target;
mod validate;

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bstr::BString;

pub use authentication::{Method, RequiredAuthentication};
pub use environment::{Environment, File, FileSystem, Files};
pub use parse::is_connection_string;
pub use secret::Secret;
pub use target::{
    ChannelBinding, ClientCertificateMode, ConnectionTarget, Host, HostAddress, Keepalives,
    OptionalFile, PasswordPrompt, Prompter, RootCertificates, SessionAttributes, SslMode,
    SslNegotiation, TlsOptions, TlsVersion, prompt_on_terminal, socket_path,
};

pub(crate) use target::{Password, PasswordSource};

use crate::error::{Error, Result};
use passfile::PasswordFile;
use settings::Settings;
use target::SOCKET_FOLDERS;

pub const DEFAULT_PORT: u16 = 5432;

/// The connection flags of the command line.
#[derive(Clone, Default)]
pub struct ConnectionFlags {
    /// `-d`: a database name or a connection string.
    pub dbname: Option<String>,
    /// `-h`: may list several hosts, as PGHOST may.
    pub host: Option<String>,
    /// `-p`
    pub port: Option<String>,
    /// `-U`
    pub username: Option<String>,
    /// `-w` and `-W`
    pub password_prompt: PasswordPrompt,
    /// Asks for a password; the terminal by default.
    pub prompter: Option<Prompter>,
}

/// Resolves where and how to connect.
pub fn resolve(flags: &ConnectionFlags, environment: &Environment) -> Result<ConnectionTarget> {
    let settings = gather(flags, environment)?;
    let mut warnings = Vec::new();
    validate::refuse_unsupported(&settings)?;

    let user = match settings.get("user") {
        Some(user) => user.to_owned(),
        None => environment.operating_system_user.clone().ok_or_else(|| {
            Error::usage("could not look up the name of the operating system's user")
                .hint("give a user name with -U")
        })?,
    };
    let database = settings.get("dbname").unwrap_or(&user).to_owned();

    let given = settings
        .get("password")
        .map(|password| Secret::new(password.as_bytes()));
    let password_file = match (&given, flags.password_prompt) {
        (Some(_), _) | (_, PasswordPrompt::Always) => None,
        (None, _) => settings
            .get("passfile")
            .map(PathBuf::from)
            .or_else(|| Some(environment.home.as_ref()?.join(".pgpass"))),
    };
    let passwords = match &password_file {
        Some(path) => PasswordFile::load(path, environment, &mut warnings),
        None => PasswordFile::default(),
    };
    let hosts = resolve_hosts(&settings)?;

    Ok(ConnectionTarget {
        hosts,
        database: BString::from(database),
        application_name: settings
            .get("application_name")
            .or_else(|| settings.get("fallback_application_name"))
            .unwrap_or("rdump")
            .to_owned(),
        options: settings.get("options").map(str::to_owned),
        connect_timeout: validate::connect_timeout(&settings)?,
        keepalives: validate::keepalives(&settings)?,
        tls: validate::tls(&settings, environment)?,
        channel_binding: validate::channel_binding(&settings)?,
        required_authentication: settings
            .get("require_auth")
            .map(RequiredAuthentication::parse)
            .transpose()?,
        required_peer: settings.get("requirepeer").map(str::to_owned),
        session: validate::session_attributes(&settings)?,
        load_balance: validate::load_balance(&settings)?,
        password: PasswordSource {
            given,
            file: Arc::new(passwords),
            prompt: flags.password_prompt,
            prompter: flags
                .prompter
                .clone()
                .unwrap_or_else(|| Arc::new(prompt_on_terminal)),
            typed: Arc::new(Mutex::new(None)),
        },
        user,
        warnings,
    })
}

/// Merges all sources by their precedence.
fn gather(flags: &ConnectionFlags, environment: &Environment) -> Result<Settings> {
    let mut settings = Settings::default();
    let flag = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
    for (name, value) in [
        ("host", &flags.host),
        ("port", &flags.port),
        ("user", &flags.username),
    ] {
        if let Some(value) = flag(value) {
            settings.set(name, value)?;
        }
    }
    // what it says overrides the flags, as in pg_dump
    match flags.dbname.as_deref() {
        Some(dbname) if is_connection_string(dbname) => parse::parse_into(&mut settings, dbname)?,
        Some(dbname) if !dbname.is_empty() => settings.set("dbname", dbname)?,
        _ => {}
    }

    service::apply(&mut settings, environment)?;

    for keyword in settings::KEYWORDS {
        if let Some(value) = keyword
            .variable
            .and_then(|variable| environment.variable(variable))
        {
            settings.set_default(keyword.name, value)?;
        }
    }
    if environment
        .variable("PGREQUIRESSL")
        .is_some_and(|value| value.starts_with('1'))
    {
        settings.set_default("sslmode", "require")?;
    }
    Ok(settings)
}

/// Makes one entry of each host, from the lists `host`, `hostaddr` and `port`.
fn resolve_hosts(settings: &Settings) -> Result<Vec<Host>> {
    let list = |name| {
        settings
            .get(name)
            .map(|text| text.split(',').collect::<Vec<_>>())
    };
    let names = list("host");
    let addresses = list("hostaddr");
    let count = match (&addresses, &names) {
        (Some(addresses), _) => addresses.len(),
        (None, Some(names)) => names.len(),
        (None, None) => 1,
    };
    if let Some(names) = &names
        && names.len() != count
    {
        return Err(Error::usage(format!(
            "could not match {} host names to {count} hostaddr values",
            names.len()
        )));
    }
    let ports = list("port").unwrap_or_default();
    if ports.len() > 1 && ports.len() != count {
        return Err(Error::usage(format!(
            "could not match {} port numbers to {count} hosts",
            ports.len()
        )));
    }

    let item = |list: &Option<Vec<&str>>, index: usize| {
        list.as_ref()
            .and_then(|list| list.get(index).copied())
            .filter(|value| !value.is_empty())
            .map(str::to_owned)
    };
    (0..count)
        .map(|index| {
            let name = item(&names, index);
            let text = ports.get(index).or(ports.first()).copied();
            let port = validate::port(text.unwrap_or_default())?;
            let address = match (item(&addresses, index), name) {
                (Some(address), name) => HostAddress::Address {
                    address: parse_address(&address)?,
                    name,
                },
                (None, Some(name)) if name.starts_with('@') => {
                    return Err(Error::usage(format!(
                        "socket \"{name}\" in the abstract namespace is not supported"
                    )));
                }
                (None, Some(name)) if name.starts_with('/') => {
                    HostAddress::SocketFolders(vec![PathBuf::from(name)])
                }
                (None, Some(name)) => HostAddress::Name(name),
                (None, None) => {
                    HostAddress::SocketFolders(SOCKET_FOLDERS.map(PathBuf::from).to_vec())
                }
            };
            Ok(Host { address, port })
        })
        .collect()
}

fn parse_address(text: &str) -> Result<IpAddr> {
    text.parse().map_err(|_| {
        Error::usage(format!("could not parse network address \"{text}\""))
            .hint("hostaddr takes an IPv4 or IPv6 address; names belong in host")
    })
}
