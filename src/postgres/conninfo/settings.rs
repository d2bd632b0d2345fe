//! The connection options that libpq knows, and the values given for them.

use std::collections::BTreeMap;
use std::fmt;

use crate::error::{Error, Result};

/// One connection option: its name in a conninfo string, and the environment variable behind it.
#[derive(Debug)]
pub struct Keyword {
    pub name: &'static str,
    pub variable: Option<&'static str>,
    /// Its value never appears in a message.
    secret: bool,
}

const fn keyword(name: &'static str, variable: &'static str) -> Keyword {
    Keyword {
        name,
        variable: Some(variable),
        secret: false,
    }
}

const fn without_variable(name: &'static str) -> Keyword {
    Keyword {
        name,
        variable: None,
        secret: false,
    }
}

const fn secret(name: &'static str, variable: Option<&'static str>) -> Keyword {
    Keyword {
        name,
        variable,
        secret: true,
    }
}

/// Every option of libpq 18 (PQconninfoOptions in fe-connect.c), so that a connection string that
/// works with psql is understood here, if only to say that an option is not supported.
pub const KEYWORDS: &[Keyword] = &[
    keyword("service", "PGSERVICE"),
    keyword("user", "PGUSER"),
    secret("password", Some("PGPASSWORD")),
    keyword("passfile", "PGPASSFILE"),
    keyword("channel_binding", "PGCHANNELBINDING"),
    keyword("connect_timeout", "PGCONNECT_TIMEOUT"),
    keyword("dbname", "PGDATABASE"),
    keyword("host", "PGHOST"),
    keyword("hostaddr", "PGHOSTADDR"),
    keyword("port", "PGPORT"),
    keyword("client_encoding", "PGCLIENTENCODING"),
    keyword("options", "PGOPTIONS"),
    keyword("application_name", "PGAPPNAME"),
    without_variable("fallback_application_name"),
    without_variable("keepalives"),
    without_variable("keepalives_idle"),
    without_variable("keepalives_interval"),
    without_variable("keepalives_count"),
    without_variable("tcp_user_timeout"),
    keyword("sslmode", "PGSSLMODE"),
    keyword("sslnegotiation", "PGSSLNEGOTIATION"),
    keyword("sslcompression", "PGSSLCOMPRESSION"),
    keyword("sslcert", "PGSSLCERT"),
    keyword("sslkey", "PGSSLKEY"),
    keyword("sslcertmode", "PGSSLCERTMODE"),
    secret("sslpassword", None),
    keyword("sslrootcert", "PGSSLROOTCERT"),
    keyword("sslcrl", "PGSSLCRL"),
    keyword("sslcrldir", "PGSSLCRLDIR"),
    keyword("sslsni", "PGSSLSNI"),
    keyword("requirepeer", "PGREQUIREPEER"),
    keyword("require_auth", "PGREQUIREAUTH"),
    keyword("min_protocol_version", "PGMINPROTOCOLVERSION"),
    keyword("max_protocol_version", "PGMAXPROTOCOLVERSION"),
    keyword("ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION"),
    keyword("ssl_max_protocol_version", "PGSSLMAXPROTOCOLVERSION"),
    keyword("gssencmode", "PGGSSENCMODE"),
    keyword("krbsrvname", "PGKRBSRVNAME"),
    keyword("gsslib", "PGGSSLIB"),
    keyword("gssdelegation", "PGGSSDELEGATION"),
    without_variable("replication"),
    keyword("target_session_attrs", "PGTARGETSESSIONATTRS"),
    keyword("load_balance_hosts", "PGLOADBALANCEHOSTS"),
    secret("scram_client_key", None),
    secret("scram_server_key", None),
    without_variable("oauth_issuer"),
    without_variable("oauth_client_id"),
    secret("oauth_client_secret", None),
    without_variable("oauth_scope"),
    without_variable("sslkeylogfile"),
];

pub fn find(name: &str) -> Option<&'static Keyword> {
    KEYWORDS.iter().find(|keyword| keyword.name == name)
}

/// Values by option. A value that is set but empty hides those of lower precedence and then means
/// the default, as in libpq.
#[derive(Clone, Default)]
pub struct Settings {
    values: BTreeMap<&'static str, String>,
}

impl Settings {
    /// Stores the value of an option, replacing an earlier one.
    pub fn set(&mut self, name: &str, value: impl Into<String>) -> Result<()> {
        let mut value = value.into();
        let mut name = name;
        if name == "requiressl" {
            // The option of releases before 8.0, still understood by libpq.
            name = "sslmode";
            value = if value.starts_with('1') {
                "require".to_owned()
            } else {
                "prefer".to_owned()
            };
        }
        let keyword = find(name).ok_or_else(|| unknown(name))?;
        self.values.insert(keyword.name, value);
        Ok(())
    }

    /// Stores the value unless a source of higher precedence gave one.
    pub fn set_default(&mut self, name: &str, value: impl Into<String>) -> Result<()> {
        let keyword = find(name).ok_or_else(|| unknown(name))?;
        self.values
            .entry(keyword.name)
            .or_insert_with(|| value.into());
        Ok(())
    }

    /// What was given, even if it was given empty.
    pub fn given(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// What was given, unless it is empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.given(name).filter(|value| !value.is_empty())
    }

    /// An integer in libpq's notation: blanks around it are allowed.
    pub fn integer(&self, name: &str) -> Result<Option<i32>> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        value.trim().parse().map(Some).map_err(|_| {
            Error::usage(format!(
                "invalid integer value \"{value}\" for connection option \"{name}\""
            ))
        })
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for (name, value) in &self.values {
            if find(name).is_some_and(|keyword| keyword.secret) {
                map.entry(name, &"..");
            } else {
                map.entry(name, value);
            }
        }
        map.finish()
    }
}

/// An error that names the unknown option, unless the word may be a piece of a password: a
/// mistyped URI, or a password with a blank in it, reads as a strange option.
pub fn unknown(name: &str) -> Error {
    if looks_like_option(name) {
        Error::usage(format!("invalid connection option \"{name}\""))
    } else {
        Error::usage("invalid connection option in connection string").hint(
            "a connection string is a list of keyword=value, or a URI that begins with \
             postgresql://; values with blanks need single quotes",
        )
    }
}

pub fn looks_like_option(name: &str) -> bool {
    !name.is_empty()
        && name.len() < 64
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

pub fn is_secret(name: &str) -> bool {
    find(name).is_some_and(|keyword| keyword.secret)
}
