//! Where a store is and how it is spoken to: the URL, and what the environment adds.

use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::storage::object::{Key, MAX_KEY};

/// Longest key that S3 takes.
const MAX_S3_KEY: usize = 1_024;
const MIB: usize = 1 << 20;
/// What S3 demands of all parts but the last.
const LEAST_PART: usize = 5 * MIB;
const MOST_PART: usize = 512 * MIB;
const MOST_CONCURRENCY: usize = 64;

/// Sums that the store checks parts by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Checksum {
    Crc32,
    Crc32c,
    Sha256,
    None,
}

/// How long things may take, and how often they are tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Patience {
    pub connect: Duration,
    /// Until the first byte of a reply.
    pub read: Duration,
    pub attempt: Duration,
    pub attempts: u32,
    /// Before the second attempt; doubled for each that follows.
    pub backoff: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Config {
    pub bucket: String,
    /// Empty, or ends with a slash.
    pub prefix: String,
    pub endpoint: Option<String>,
    pub region: Option<String>,
    pub path_style: Option<bool>,
    pub profile: Option<String>,
    pub ca: Option<PathBuf>,
    pub storage_class: Option<String>,
    pub sse: Option<String>,
    pub sse_kms_key_id: Option<String>,
    pub object_lock: Option<ObjectLock>,
    pub checksum: Option<Checksum>,
    pub part_size: usize,
    pub concurrency: usize,
    pub create_bucket: bool,
    pub patience: Patience,
    /// Objects in a page of a listing.
    pub page: i32,
}

/// For how long nobody may delete an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ObjectLock {
    pub mode: String,
    pub days: u32,
}

/// All parameters, for the message about another.
pub(super) const PARAMETERS: [&str; 14] = [
    "endpoint",
    "region",
    "path-style",
    "profile",
    "ca",
    "storage-class",
    "sse",
    "sse-kms-key-id",
    "object-lock-mode",
    "object-lock-days",
    "checksum",
    "part-size",
    "concurrency",
    "create-bucket",
];

impl Config {
    /// Reads `s3://BUCKET[/PREFIX][?PARAMETER=VALUE&...]`. Messages do not repeat it: somebody may have
    /// put a secret in.
    pub fn parse(url: &str) -> Result<Config> {
        let rest = url
            .strip_prefix("s3://")
            .ok_or_else(|| Error::usage("a URL of S3 begins with s3://"))?;
        let (place, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        if bucket.contains('@') || bucket.contains(':') {
            return Err(secret("the URL of the store"));
        }
        let is_plain = |c: u8| c.is_ascii_alphanumeric() || b".-_".contains(&c);
        if !(3..=255).contains(&bucket.len()) || !bucket.bytes().all(is_plain) {
            return Err(Error::usage(format!("not the name of a bucket: \"{bucket}\""))
                .hint("write s3://BUCKET/PREFIX, and the address of the store as ?endpoint=https://HOST"));
        }
        let mut config = Config {
            bucket: bucket.to_owned(),
            prefix: parse_prefix(prefix)?,
            endpoint: None,
            region: None,
            path_style: None,
            profile: None,
            ca: None,
            storage_class: None,
            sse: None,
            sse_kms_key_id: None,
            object_lock: None,
            checksum: None,
            part_size: 8 * MIB,
            concurrency: 4,
            create_bucket: false,
            patience: Patience {
                connect: Duration::from_secs(10),
                read: Duration::from_secs(60),
                attempt: Duration::from_secs(300),
                attempts: 10,
                backoff: Duration::from_secs(1),
            },
            page: 1_000,
        };
        let (mut lock_mode, mut lock_days) = (None, None);
        let mut seen = Vec::new();
        for pair in parameters.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if seen.contains(&name) {
                return Err(Error::usage(format!(
                    "parameter {name} stands twice in the URL of the store"
                )));
            }
            seen.push(name);
            let value = decode(name, value)?;
            if value.is_empty() {
                return Err(wrong(name, "it has no value"));
            }
            match name {
                "endpoint" => config.endpoint = Some(parse_endpoint(value)?),
                "region" => config.region = Some(value),
                "path-style" => config.path_style = Some(parse_bool(name, &value)?),
                "profile" => config.profile = Some(value),
                "ca" => config.ca = Some(value.into()),
                "storage-class" => config.storage_class = Some(value),
                "sse" => match value.as_str() {
                    "AES256" | "aws:kms" | "aws:kms:dsse" => config.sse = Some(value),
                    _ => return Err(wrong(name, "it is AES256, aws:kms or aws:kms:dsse")),
                },
                "sse-kms-key-id" => config.sse_kms_key_id = Some(value),
                "object-lock-mode" => match value.to_ascii_uppercase().as_str() {
                    mode @ ("GOVERNANCE" | "COMPLIANCE") => lock_mode = Some(mode.to_owned()),
                    _ => return Err(wrong(name, "it is GOVERNANCE or COMPLIANCE")),
                },
                "object-lock-days" => lock_days = Some(parse_number(name, &value, 1..=36_500)?),
                "checksum" => config.checksum = Some(parse_checksum(&value)?),
                "part-size" => config.part_size = parse_size(name, &value)?,
                "concurrency" => {
                    config.concurrency = parse_number(name, &value, 1..=MOST_CONCURRENCY)?;
                }
                "create-bucket" => config.create_bucket = parse_bool(name, &value)?,
                _ => {
                    return Err(Error::usage(format!(
                        "unknown parameter \"{name}\" in the URL of the store"
                    ))
                    .hint(format!("the parameters are {}", PARAMETERS.join(", "))));
                }
            }
        }
        // at 32 KiB a second a large part takes longer than that
        let slow = Duration::from_secs((config.part_size >> 15) as u64);
        config.patience.attempt = config.patience.attempt.max(slow);
        config.object_lock = match (lock_mode, lock_days) {
            (None, None) => None,
            (Some(mode), Some(days)) => Some(ObjectLock { mode, days }),
            _ => {
                return Err(Error::usage(
                    "object-lock-mode and object-lock-days are given together, or neither",
                ));
            }
        };
        if config.sse_kms_key_id.is_some()
            && !config
                .sse
                .as_deref()
                .is_some_and(|sse| sse.starts_with("aws:kms"))
        {
            return Err(Error::usage("sse-kms-key-id needs sse=aws:kms"));
        }
        Ok(config)
    }

    /// S3 takes objects under a lock only with a checksum.
    pub fn part_checksum(&self) -> Option<Checksum> {
        match (self.checksum, &self.object_lock) {
            (Some(Checksum::None), _) | (None, None) => None,
            (Some(checksum), _) => Some(checksum),
            (None, Some(_)) => Some(Checksum::Crc32),
        }
    }
}

fn secret(place: &str) -> Error {
    Error::usage(format!("{place} must not hold a user name or password")).hint(
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give profile=NAME: command lines are seen by other users",
    )
}

fn wrong(name: &str, problem: &str) -> Error {
    Error::usage(format!(
        "parameter {name} in the URL of the store: {problem}"
    ))
}

fn parse_prefix(text: &str) -> Result<String> {
    let prefix = text.strip_suffix('/').unwrap_or(text);
    if prefix.is_empty() {
        return Ok(String::new());
    }
    let key = Key::new(prefix).map_err(|_| {
        Error::usage(format!("not a prefix of keys: \"{prefix}\"")).hint(
            "it has segments of ASCII letters, digits and . _ = - + % @ joined by /, none of which begins with a dot",
        )
    })?;
    if prefix.len() + 1 + MAX_KEY > MAX_S3_KEY {
        return Err(Error::usage(format!(
            "the prefix of the store is too long: {} bytes, and up to {} are possible",
            prefix.len(),
            MAX_S3_KEY - MAX_KEY - 1
        )));
    }
    Ok(format!("{key}/"))
}

fn parse_endpoint(text: String) -> Result<String> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(wrong("endpoint", "it begins with https:// or http://"));
    };
    if !matches!(scheme, "http" | "https") {
        return Err(wrong("endpoint", "it begins with https:// or http://"));
    }
    let host = rest.split('/').next().unwrap_or_default();
    match host {
        "" => Err(wrong("endpoint", "it has no host")),
        _ if host.contains('@') => Err(secret("the endpoint")),
        _ => Ok(text),
    }
}

fn parse_bool(name: &str, value: &str) -> Result<bool> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(wrong(name, "it is true or false")),
    }
}

fn parse_number<N>(name: &str, value: &str, range: std::ops::RangeInclusive<N>) -> Result<N>
where
    N: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    let number = value.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| {
        let problem = format!("it is a number from {} to {}", range.start(), range.end());
        wrong(name, &problem)
    })
}

fn parse_checksum(value: &str) -> Result<Checksum> {
    match value {
        "crc32" => Ok(Checksum::Crc32),
        "crc32c" => Ok(Checksum::Crc32c),
        "sha256" => Ok(Checksum::Sha256),
        "none" => Ok(Checksum::None),
        _ => Err(wrong("checksum", "it is crc32, crc32c, sha256 or none")),
    }
}

/// Bytes, or with a unit: `8MiB`.
fn parse_size(name: &str, value: &str) -> Result<usize> {
    let end = value
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(value.len());
    let (number, unit) = value.split_at(end);
    let unit = match unit {
        "" | "B" => Some(1),
        "KiB" => Some(1 << 10),
        "MiB" => Some(MIB),
        _ => None,
    };
    let size = number.parse::<usize>().ok().zip(unit);
    size.and_then(|(number, unit)| number.checked_mul(unit))
        .filter(|size| (LEAST_PART..=MOST_PART).contains(size))
        .ok_or_else(|| wrong(name, "it is a size from 5MiB to 512MiB"))
}

/// `%2F` and the like; a plus is a plus.
fn decode(name: &str, value: &str) -> Result<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        match (digit(rest.next()), digit(rest.next())) {
            (Some(high), Some(low)) => bytes.push((high * 16 + low) as u8),
            _ => return Err(wrong(name, "a % must have two hexadecimal digits after it")),
        }
    }
    String::from_utf8(bytes).map_err(|_| wrong(name, "it is not UTF-8"))
}
