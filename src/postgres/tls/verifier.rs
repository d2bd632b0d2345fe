//! Verifying a server's certificate as libpq with OpenSSL does.
//!
//! Paths and signatures are webpki's work. Three things that OpenSSL accepts, and that servers set
//! up by PostgreSQL's own manual need, are added around it:
//!
//! - a self-signed certificate that is itself the configured root (webpki refuses it as a CA used
//!   as an end entity): trusted if it is byte for byte a configured root, and valid now;
//! - X.509 version 1 certificates, which `openssl x509 -req` makes without an extensions file:
//!   trusted if a configured root signed them directly;
//! - the common name as host name (in `certificate`).
//!
//! The handshake's signature is always verified, even where the certificate is not: channel
//! binding relies on the server owning the key of the certificate that it showed.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, PeerMisbehaved, RootCertStore,
    SignatureScheme,
};
use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, RawPublicKeyEntity,
    RevocationCheckDepth, RevocationOptionsBuilder, UnknownStatusPolicy,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::time::ASN1Time;
use x509_parser::x509::X509Version;

use super::certificate;

/// The certificates that vouch for a server.
#[derive(Debug)]
pub struct Trust {
    pub roots: RootCertStore,
    /// The roots as they were configured.
    pub certificates: Vec<CertificateDer<'static>>,
    /// If there are any, everything on the path must be known not to be revoked.
    pub revocation_lists: Vec<CertRevocationList<'static>>,
}

/// Why a certificate was not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejection {
    NotTrusted(String),
    WrongName(String),
}

pub struct ServerVerifier {
    algorithms: WebPkiSupportedAlgorithms,
    /// `None`: any certificate will do.
    trust: Option<Trust>,
    /// With sslmode=verify-full, the host that the certificate must be for.
    host: Option<String>,
    rejection: Mutex<Option<Rejection>>,
}

impl ServerVerifier {
    pub fn new(
        algorithms: WebPkiSupportedAlgorithms,
        trust: Option<Trust>,
        host: Option<String>,
    ) -> ServerVerifier {
        ServerVerifier {
            algorithms,
            trust,
            host,
            rejection: Mutex::new(None),
        }
    }

    /// Why the certificate was rejected, if that is why the handshake failed.
    pub fn rejection(&self) -> Option<Rejection> {
        self.rejection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Rejection> {
        let Some(trust) = &self.trust else {
            return Ok(());
        };
        trust
            .verify(&self.algorithms, end_entity, intermediates, now)
            .map_err(Rejection::NotTrusted)?;
        let Some(host) = &self.host else {
            return Ok(());
        };
        certificate::parse(end_entity)
            .and_then(|parsed| certificate::verify_name(&parsed, host))
            .map_err(Rejection::WrongName)
    }

    /// Verifies with the key of the certificate; version 1 certificates have keys too.
    fn verify_handshake(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
        candidates: usize,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = self
            .algorithms
            .mapping
            .iter()
            .find(|(scheme, _)| *scheme == signed.scheme)
            .map(|(_, algorithms)| *algorithms)
            .ok_or(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)?;
        let parsed = certificate::parse(certificate).map_err(|_| CertificateError::BadEncoding)?;
        let key = SubjectPublicKeyInfoDer::from(parsed.public_key().raw);
        let key = RawPublicKeyEntity::try_from(&key).map_err(|_| CertificateError::BadEncoding)?;
        algorithms
            .iter()
            .take(candidates)
            .any(|algorithm| {
                key.verify_signature(*algorithm, message, signed.signature())
                    .is_ok()
            })
            .then(HandshakeSignatureValid::assertion)
            .ok_or(Error::InvalidCertificate(CertificateError::BadSignature))
    }
}

impl Trust {
    fn verify(
        &self,
        algorithms: &WebPkiSupportedAlgorithms,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), String> {
        if self.revocation_lists.is_empty() {
            let parsed = certificate::parse(end_entity)?;
            if self
                .certificates
                .iter()
                .any(|configured| configured.as_ref() == end_entity.as_ref())
            {
                return check_validity(&parsed, now);
            }
            if parsed.version() == X509Version::V1 {
                return self.verify_version_1(algorithms, &parsed, now);
            }
        }
        let lists: Vec<&CertRevocationList<'_>> = self.revocation_lists.iter().collect();
        // No lists make the builder fail: then nothing is checked.
        let revocation = RevocationOptionsBuilder::new(&lists).ok().map(|builder| {
            builder
                .with_depth(RevocationCheckDepth::Chain)
                .with_status_policy(UnknownStatusPolicy::Deny)
                .with_expiration_policy(ExpirationPolicy::Enforce)
                .build()
        });
        EndEntityCert::try_from(end_entity)
            .and_then(|parsed| {
                parsed
                    .verify_for_usage(
                        algorithms.all,
                        &self.roots.roots,
                        intermediates,
                        now,
                        KeyUsage::server_auth(),
                        revocation,
                        None,
                    )
                    .map(|_| ())
            })
            .map_err(|error| describe(&error))
    }

    /// A version 1 certificate says nothing of its use; it must come from a configured root.
    fn verify_version_1(
        &self,
        algorithms: &WebPkiSupportedAlgorithms,
        end_entity: &X509Certificate<'_>,
        now: UnixTime,
    ) -> Result<(), String> {
        check_validity(end_entity, now)?;
        let signed_by = |root: &X509Certificate<'_>| {
            let key = SubjectPublicKeyInfoDer::from(root.public_key().raw);
            RawPublicKeyEntity::try_from(&key).is_ok_and(|key| {
                algorithms
                    .all
                    .iter()
                    .filter(|algorithm| is_algorithm_of(**algorithm, end_entity))
                    .any(|algorithm| {
                        key.verify_signature(
                            *algorithm,
                            end_entity.tbs_certificate.as_ref(),
                            &end_entity.signature_value.data,
                        )
                        .is_ok()
                    })
            })
        };
        let trusted = self
            .certificates
            .iter()
            .filter_map(|root| certificate::parse(root).ok())
            .filter(|root| root.subject().as_raw() == end_entity.issuer().as_raw())
            .filter(may_sign)
            .any(|root| check_validity(&root, now).is_ok() && signed_by(&root));
        if trusted {
            Ok(())
        } else {
            Err(describe(&webpki::Error::UnknownIssuer))
        }
    }
}

/// Whether a configured root may sign certificates. Version 1 roots carry no restriction.
fn may_sign(root: &X509Certificate<'_>) -> bool {
    if root.version() == X509Version::V1 {
        return true;
    }
    let for_signing = match root.key_usage() {
        Ok(Some(usage)) => usage.value.key_cert_sign(),
        Ok(None) => true,
        Err(_) => false,
    };
    root.is_ca() && for_signing
}

fn is_algorithm_of(
    algorithm: &dyn rustls::pki_types::SignatureVerificationAlgorithm,
    signed: &X509Certificate<'_>,
) -> bool {
    // An AlgorithmIdentifier begins with its object identifier: tag, length, bytes.
    let wanted = signed.signature_algorithm.algorithm.as_bytes();
    let identifier = algorithm.signature_alg_id();
    match identifier.as_ref() {
        [0x06, length, rest @ ..] => {
            usize::from(*length) == wanted.len() && rest.starts_with(wanted)
        }
        _ => false,
    }
}

fn check_validity(parsed: &X509Certificate<'_>, now: UnixTime) -> Result<(), String> {
    let now = i64::try_from(now.as_secs())
        .ok()
        .and_then(|seconds| ASN1Time::from_timestamp(seconds).ok())
        .ok_or("the system clock shows an impossible time")?;
    let validity = parsed.validity();
    if now < validity.not_before {
        Err("certificate is not yet valid".to_owned())
    } else if now > validity.not_after {
        Err("certificate has expired".to_owned())
    } else {
        Ok(())
    }
}

fn describe(error: &webpki::Error) -> String {
    use webpki::Error as E;
    match error {
        E::UnknownIssuer => "certificate is not signed by a trusted root certificate".to_owned(),
        E::CaUsedAsEndEntity => {
            "certificate is that of a certificate authority, and not one of the trusted root \
             certificates itself"
                .to_owned()
        }
        E::CertExpired { .. } => "certificate has expired".to_owned(),
        E::CertNotValidYet { .. } => "certificate is not yet valid".to_owned(),
        E::CertRevoked => "certificate is revoked".to_owned(),
        E::UnknownRevocationStatus => {
            "no certificate revocation list covers the certificate".to_owned()
        }
        E::CrlExpired { .. } => "certificate revocation list has expired".to_owned(),
        E::RequiredEkuNotFoundContext(_) => {
            "certificate is not meant for servers (extended key usage)".to_owned()
        }
        other => format!("certificate verify failed: {other}"),
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.verify(end_entity, intermediates, now) {
            Ok(()) => Ok(ServerCertVerified::assertion()),
            Err(rejection) => {
                let message = format!("{rejection:?}");
                *self
                    .rejection
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner) = Some(rejection);
                Err(
                    CertificateError::Other(OtherError(Arc::new(std::io::Error::other(message))))
                        .into(),
                )
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // In TLS 1.2 a scheme does not fix the curve, so several algorithms are candidates.
        self.verify_handshake(message, certificate, signed, usize::MAX)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // PKCS #1 signatures are not allowed in TLS 1.3.
        if matches!(
            signed.scheme,
            SignatureScheme::RSA_PKCS1_SHA1
                | SignatureScheme::ECDSA_SHA1_Legacy
                | SignatureScheme::RSA_PKCS1_SHA256
                | SignatureScheme::RSA_PKCS1_SHA384
                | SignatureScheme::RSA_PKCS1_SHA512
        ) {
            return Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
        }
        self.verify_handshake(message, certificate, signed, 1)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl fmt::Debug for ServerVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerVerifier")
            .field("verifies", &self.trust.is_some())
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}
