//! Values of single options: parsed, checked, and refused where rdump cannot honour them.
//!
//! An option that protects the user is supported or refused, never ignored.

use std::path::PathBuf;
use std::time::Duration;

use super::DEFAULT_PORT;
use super::environment::Environment;
use super::settings::Settings;
use super::target::{
    ChannelBinding, ClientCertificateMode, Keepalives, OptionalFile, RootCertificates,
    SessionAttributes, SslMode, SslNegotiation, TlsOptions, TlsVersion,
};
use crate::error::{Error, Result};

/// Refuses options whose effect rdump cannot give.
///
/// Accepted without effect: client_encoding (rdump always works in the database's own encoding),
/// sslcompression (TLS compression does not exist any more), gsslib, krbsrvname, gssdelegation and
/// the oauth options (they say how to authenticate in ways that fail clearly if asked for).
pub fn refuse_unsupported(settings: &Settings) -> Result<()> {
    if settings.get("sslcrldir").is_some() {
        return Err(Error::usage("sslcrldir is not supported")
            .hint("put the revocation lists into one file and name it with sslcrl"));
    }
    if settings.get("sslpassword").is_some() {
        return Err(Error::usage(
            "sslpassword is not supported: encrypted private keys cannot be read",
        )
        .hint("decrypt the key with: openssl pkey -in KEY -out NEWKEY"));
    }
    for name in ["scram_client_key", "scram_server_key", "sslkeylogfile"] {
        if settings.get(name).is_some() {
            return Err(Error::usage(format!(
                "connection option \"{name}\" is not supported"
            )));
        }
    }
    if settings
        .get("replication")
        .is_some_and(|value| !matches!(value, "false" | "off" | "no" | "0"))
    {
        return Err(
            Error::usage("a replication connection cannot be used to dump or restore")
                .hint("leave out the connection option \"replication\""),
        );
    }
    match settings.get("gssencmode") {
        None | Some("disable" | "prefer") => {}
        Some("require") => {
            return Err(Error::usage(
                "gssencmode=require is not supported: rdump does not speak GSSAPI",
            )
            .hint("encrypt with TLS: sslmode=verify-full"));
        }
        Some(value) => return Err(invalid("gssencmode", value)),
    }
    for name in ["min_protocol_version", "max_protocol_version"] {
        match settings.get(name) {
            None | Some("3.0") => {}
            Some("3.2" | "latest") if name == "max_protocol_version" => {}
            Some("3.2" | "latest") => {
                return Err(Error::usage(
                    "min_protocol_version above 3.0 is not supported: rdump speaks protocol 3.0",
                ));
            }
            Some(value) => return Err(invalid(name, value)),
        }
    }
    Ok(())
}

fn invalid(name: &str, value: &str) -> Error {
    Error::usage(format!("invalid {name} value: \"{value}\""))
}

pub fn port(text: &str) -> Result<u16> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(DEFAULT_PORT);
    }
    text.parse()
        .ok()
        .filter(|&port| port != 0)
        .ok_or_else(|| Error::usage(format!("invalid port number: \"{text}\"")))
}

pub fn connect_timeout(settings: &Settings) -> Result<Option<Duration>> {
    Ok(settings.integer("connect_timeout")?.and_then(seconds))
}

/// Zero and negative numbers mean the system's default.
fn seconds(value: i32) -> Option<Duration> {
    u64::try_from(value)
        .ok()
        .filter(|&seconds| seconds > 0)
        .map(Duration::from_secs)
}

pub fn keepalives(settings: &Settings) -> Result<Keepalives> {
    Ok(Keepalives {
        enabled: settings.integer("keepalives")?.unwrap_or(1) != 0,
        idle: settings.integer("keepalives_idle")?.and_then(seconds),
        interval: settings.integer("keepalives_interval")?.and_then(seconds),
        count: settings
            .integer("keepalives_count")?
            .and_then(|count| u32::try_from(count).ok())
            .filter(|&count| count > 0),
        user_timeout: settings
            .integer("tcp_user_timeout")?
            .and_then(|milliseconds| u64::try_from(milliseconds).ok())
            .filter(|&milliseconds| milliseconds > 0)
            .map(Duration::from_millis),
    })
}

pub fn channel_binding(settings: &Settings) -> Result<ChannelBinding> {
    match settings.get("channel_binding") {
        None | Some("prefer") => Ok(ChannelBinding::Prefer),
        Some("disable") => Ok(ChannelBinding::Disable),
        Some("require") => Ok(ChannelBinding::Require),
        Some(value) => Err(invalid("channel_binding", value)),
    }
}

pub fn session_attributes(settings: &Settings) -> Result<SessionAttributes> {
    match settings.get("target_session_attrs") {
        None | Some("any") => Ok(SessionAttributes::Any),
        Some("read-write") => Ok(SessionAttributes::ReadWrite),
        Some("read-only") => Ok(SessionAttributes::ReadOnly),
        Some("primary") => Ok(SessionAttributes::Primary),
        Some("standby") => Ok(SessionAttributes::Standby),
        Some("prefer-standby") => Ok(SessionAttributes::PreferStandby),
        Some(value) => Err(invalid("target_session_attrs", value)),
    }
}

pub fn load_balance(settings: &Settings) -> Result<bool> {
    match settings.get("load_balance_hosts") {
        None | Some("disable") => Ok(false),
        Some("random") => Ok(true),
        Some(value) => Err(invalid("load_balance_hosts", value)),
    }
}

pub fn tls(settings: &Settings, environment: &Environment) -> Result<TlsOptions> {
    let default_file = |name: &str| {
        environment
            .home
            .as_ref()
            .map(|home| home.join(".postgresql").join(name))
    };
    let file = |option: &str, default: &str| match settings.get(option) {
        Some(path) => Some(OptionalFile {
            path: PathBuf::from(path),
            named: true,
        }),
        None => default_file(default).map(|path| OptionalFile { path, named: false }),
    };
    let roots = match settings.get("sslrootcert") {
        Some("system") => RootCertificates::System,
        Some(path) => RootCertificates::File(PathBuf::from(path)),
        None => match default_file("root.crt") {
            Some(path) => RootCertificates::DefaultFile(path),
            None => RootCertificates::Unknown,
        },
    };
    let mode = match settings.get("sslmode") {
        // The system's certificates vouch for half of the internet: only the name tells.
        None if roots == RootCertificates::System => SslMode::VerifyFull,
        None | Some("prefer") => SslMode::Prefer,
        Some("disable") => SslMode::Disable,
        Some("allow") => SslMode::Allow,
        Some("require") => SslMode::Require,
        Some("verify-ca") => SslMode::VerifyCa,
        Some("verify-full") => SslMode::VerifyFull,
        Some(value) => return Err(invalid("sslmode", value)),
    };
    let negotiation = match settings.get("sslnegotiation") {
        None | Some("postgres") => SslNegotiation::Postgres,
        Some("direct") => SslNegotiation::Direct,
        Some(value) => return Err(invalid("sslnegotiation", value)),
    };
    if negotiation == SslNegotiation::Direct && mode < SslMode::Require {
        return Err(Error::usage(format!(
            "weak sslmode \"{}\" may not be used with sslnegotiation=direct",
            mode.name()
        ))
        .hint("use sslmode=require, verify-ca or verify-full"));
    }
    if roots == RootCertificates::System && mode != SslMode::VerifyFull {
        return Err(Error::usage(format!(
            "weak sslmode \"{}\" may not be used with sslrootcert=system",
            mode.name()
        ))
        .hint("use sslmode=verify-full"));
    }

    let certificate_mode = match settings.get("sslcertmode") {
        None | Some("allow") => ClientCertificateMode::Allow,
        Some("disable") => ClientCertificateMode::Disable,
        Some("require") => ClientCertificateMode::Require,
        Some(value) => return Err(invalid("sslcertmode", value)),
    };
    let (lowest_version, highest_version) = tls_versions(settings)?;
    Ok(TlsOptions {
        mode,
        negotiation,
        roots,
        certificate: file("sslcert", "postgresql.crt"),
        key: file("sslkey", "postgresql.key"),
        certificate_mode,
        revocation_list: file("sslcrl", "root.crl"),
        server_name_indication: settings.get("sslsni").unwrap_or("1") == "1",
        lowest_version,
        highest_version,
    })
}

fn tls_versions(settings: &Settings) -> Result<(TlsVersion, TlsVersion)> {
    let lowest = match settings.get("ssl_min_protocol_version") {
        // Versions before 1.2 are allowed by these, and never spoken by rdump.
        None | Some("TLSv1" | "TLSv1.1" | "TLSv1.2") => TlsVersion::V1_2,
        Some("TLSv1.3") => TlsVersion::V1_3,
        Some(value) => return Err(invalid("ssl_min_protocol_version", value)),
    };
    let highest = match settings.get("ssl_max_protocol_version") {
        None | Some("TLSv1.3") => TlsVersion::V1_3,
        Some("TLSv1.2") => TlsVersion::V1_2,
        Some(value @ ("TLSv1" | "TLSv1.1")) => {
            return Err(Error::usage(format!(
                "ssl_max_protocol_version \"{value}\" is not supported: rdump speaks TLS 1.2 and \
                 1.3"
            )));
        }
        Some(value) => return Err(invalid("ssl_max_protocol_version", value)),
    };
    if lowest > highest {
        return Err(Error::usage("invalid SSL protocol version range"));
    }
    Ok((lowest, highest))
}
