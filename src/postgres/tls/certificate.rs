//! What a server certificate says: its names, and the hash that channel binding uses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256, Sha384, Sha512};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::oid_registry as oids;
use x509_parser::prelude::FromDer;
use x509_parser::signature_algorithm::SignatureAlgorithm;

/// Parses a certificate, refusing trailing bytes.
pub fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, String> {
    match X509Certificate::from_der(certificate) {
        Ok(([], parsed)) => Ok(parsed),
        Ok(_) => Err("certificate has trailing data".to_owned()),
        Err(error) => Err(format!("could not parse certificate: {error}")),
    }
}

/// The tls-server-end-point data of RFC 5929: the certificate hashed with the hash of its own
/// signature, where MD5 and SHA-1 count as SHA-256. `None` for signatures without such a hash
/// (Ed25519), for which channel binding is not defined.
pub fn channel_binding_hash(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let parsed = parse(certificate).ok()?;
    let algorithm = match SignatureAlgorithm::try_from(&parsed.signature_algorithm) {
        Ok(SignatureAlgorithm::RSASSA_PSS(parameters)) => {
            parameters.hash_algorithm_oid().to_id_string()
        }
        _ => parsed.signature_algorithm.algorithm.to_id_string(),
    };
    let is = |candidates: &[oids::Oid<'_>]| {
        candidates
            .iter()
            .any(|candidate| candidate.to_id_string() == algorithm)
    };
    if is(&[
        oids::OID_PKCS1_MD5WITHRSAENC,
        oids::OID_PKCS1_SHA1WITHRSA,
        oids::OID_PKCS1_SHA256WITHRSA,
        oids::OID_SIG_ECDSA_WITH_SHA256,
        oids::OID_HASH_SHA1,
        oids::OID_NIST_HASH_SHA256,
    ]) {
        Some(Sha256::digest(certificate).to_vec())
    } else if is(&[
        oids::OID_PKCS1_SHA384WITHRSA,
        oids::OID_SIG_ECDSA_WITH_SHA384,
        oids::OID_NIST_HASH_SHA384,
    ]) {
        Some(Sha384::digest(certificate).to_vec())
    } else if is(&[
        oids::OID_PKCS1_SHA512WITHRSA,
        oids::OID_SIG_ECDSA_WITH_SHA512,
        oids::OID_NIST_HASH_SHA512,
    ]) {
        Some(Sha512::digest(certificate).to_vec())
    } else {
        None
    }
}

/// Checks that the certificate is for `host`, by libpq's rules (fe-secure-common.c): names and
/// addresses of subjectAltName, and the common name where no alternative name is of the host's
/// kind.
pub fn verify_name(certificate: &X509Certificate<'_>, host: &str) -> Result<(), String> {
    let address: Option<IpAddr> = host.parse().ok();
    let mut names: Vec<String> = Vec::new();
    let mut has_name_of_kind = false;

    let alternatives = certificate
        .subject_alternative_name()
        .map_err(|error| format!("could not read the names of the server certificate: {error}"))?;
    for name in alternatives
        .iter()
        .flat_map(|extension| &extension.value.general_names)
    {
        match name {
            GeneralName::DNSName(name) => {
                has_name_of_kind |= address.is_none();
                if matches_name(name, host)? {
                    return Ok(());
                }
                names.push((*name).to_owned());
            }
            GeneralName::IPAddress(bytes) => {
                has_name_of_kind |= address.is_some();
                let found = match (<[u8; 4]>::try_from(*bytes), <[u8; 16]>::try_from(*bytes)) {
                    (Ok(bytes), _) => IpAddr::from(Ipv4Addr::from(bytes)),
                    (_, Ok(bytes)) => IpAddr::from(Ipv6Addr::from(bytes)),
                    _ => {
                        return Err(format!(
                            "certificate contains IP address with invalid length {}",
                            bytes.len()
                        ));
                    }
                };
                if address == Some(found) {
                    return Ok(());
                }
                names.push(found.to_string());
            }
            _ => {}
        }
    }
    if !has_name_of_kind && let Some(name) = certificate.subject().iter_common_name().next() {
        let name = name
            .as_str()
            .map_err(|error| format!("could not read the common name: {error}"))?;
        if matches_name(name, host)? {
            return Ok(());
        }
        names.push(name.to_owned());
    }
    Err(match names.as_slice() {
        [] => "could not get server's host name from server certificate".to_owned(),
        [only] => format!("server certificate for \"{only}\" does not match host name \"{host}\""),
        [first, others @ ..] => format!(
            "server certificate for \"{first}\" (and {} other name{}) does not match host name \
             \"{host}\"",
            others.len(),
            if others.len() == 1 { "" } else { "s" },
        ),
    })
}

/// A wildcard stands for one leading label; names with NUL bytes are an old attack.
fn matches_name(pattern: &str, host: &str) -> Result<bool, String> {
    if pattern.contains('\0') {
        return Err("SSL certificate's name contains embedded null".to_owned());
    }
    if pattern.eq_ignore_ascii_case(host) {
        return Ok(true);
    }
    let Some(suffix) = pattern.strip_prefix('*').filter(|s| s.starts_with('.')) else {
        return Ok(false);
    };
    let Some(dot) = host.find('.') else {
        return Ok(false);
    };
    let (label, rest) = host.split_at(dot);
    Ok(suffix.len() > 1 && !label.is_empty() && rest.eq_ignore_ascii_case(suffix))
}

#[cfg(test)]
mod tests {
    use super::matches_name;

    #[test]
    fn wildcards_stand_for_one_leading_label() {
        for (pattern, host, expected) in [
            ("db.example.com", "DB.example.COM", true),
            ("*.example.com", "db.example.com", true),
            ("*.example.com", "a.db.example.com", false),
            ("*.example.com", "example.com", false),
            ("*.example.com", ".example.com", false),
            ("db*.example.com", "db1.example.com", false),
            ("*", "db", false),
            ("*.", "db.", false),
        ] {
            assert_eq!(
                matches_name(pattern, host),
                Ok(expected),
                "{pattern} against {host}"
            );
        }
        assert!(matches_name("db\0.evil.com", "db").is_err());
    }
}
