//! TLS to a server, by libpq's options, with rustls.

mod certificate;
mod files;
mod verifier;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, SignatureScheme};
use tokio_rustls::TlsConnector;

use super::connect::Transport;
use super::conninfo::{RootCertificates, SslMode, SslNegotiation, TlsOptions, TlsVersion};
use verifier::{Rejection, ServerVerifier};

/// What servers from 17 on call the protocol; direct negotiation needs it.
const PROTOCOL_NAME: &[u8] = b"postgresql";

/// An encrypted connection, ready for the startup message.
pub struct Encrypted {
    pub transport: Box<dyn Transport>,
    /// The tls-server-end-point data for SCRAM, where the certificate has any.
    pub channel_binding: Option<Vec<u8>>,
    pub client_certificate: Arc<ClientCertificate>,
}

/// A failed handshake, with what could be done about it.
#[derive(Debug)]
pub struct TlsFailure {
    pub message: String,
    pub hint: Option<String>,
}

impl TlsFailure {
    fn new(message: impl Into<String>) -> TlsFailure {
        TlsFailure {
            message: message.into(),
            hint: None,
        }
    }

    fn hint(mut self, hint: impl Into<String>) -> TlsFailure {
        self.hint = Some(hint.into());
        self
    }
}

/// Makes the TLS handshake, after an SSLRequest was granted or right away.
///
/// `host` is the name that the certificate must be for, and that is indicated to the server.
pub async fn handshake(
    transport: Box<dyn Transport>,
    options: &TlsOptions,
    host: Option<&str>,
) -> Result<Encrypted, TlsFailure> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let trust = files::load_trust(options)?;
    let verified_host = if options.mode == SslMode::VerifyFull {
        Some(host.map(str::to_owned).ok_or_else(|| {
            TlsFailure::new("host name must be specified for a verified SSL connection")
                .hint("give the name in the server's certificate as host, beside hostaddr")
        })?)
    } else {
        None
    };
    let verifier = Arc::new(ServerVerifier::new(
        provider.signature_verification_algorithms,
        trust,
        verified_host,
    ));
    let client_certificate = Arc::new(ClientCertificate::new(files::load_client_key(
        options, &provider,
    )?));
    let config = configure(
        options,
        provider,
        Arc::clone(&verifier),
        Arc::clone(&client_certificate),
    )?;

    let stream = TlsConnector::from(Arc::new(config))
        .connect(server_name(host), transport)
        .await
        .map_err(|error| match verifier.rejection() {
            Some(rejection) => explain(rejection, options),
            None => TlsFailure::new(format!("SSL error: {error}")),
        })?;

    let (_, session) = stream.get_ref();
    if options.negotiation == SslNegotiation::Direct
        && session.alpn_protocol() != Some(PROTOCOL_NAME)
    {
        return Err(TlsFailure::new(
            "direct SSL connection was established without ALPN protocol negotiation extension",
        ));
    }
    let channel_binding = session
        .peer_certificates()
        .and_then(<[_]>::first)
        .and_then(certificate::channel_binding_hash);
    Ok(Encrypted {
        transport: Box::new(stream),
        channel_binding,
        client_certificate,
    })
}

fn configure(
    options: &TlsOptions,
    provider: Arc<CryptoProvider>,
    verifier: Arc<ServerVerifier>,
    client_certificate: Arc<ClientCertificate>,
) -> Result<ClientConfig, TlsFailure> {
    let versions: Vec<_> = [
        (TlsVersion::V1_3, &rustls::version::TLS13),
        (TlsVersion::V1_2, &rustls::version::TLS12),
    ]
    .into_iter()
    .filter(|(version, _)| (options.lowest_version..=options.highest_version).contains(version))
    .map(|(_, version)| version)
    .collect();
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)
        .map_err(|error| TlsFailure::new(format!("could not set up TLS: {error}")))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(client_certificate);
    config.alpn_protocols = vec![PROTOCOL_NAME.to_vec()];
    config.enable_sni = options.server_name_indication;
    // Each connection is verified anew.
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// For Server Name Indication only: the verifier has the host itself. Addresses are not indicated,
/// nor are names that are none.
fn server_name(host: Option<&str>) -> ServerName<'static> {
    host.and_then(|host| ServerName::try_from(host.to_owned()).ok())
        .unwrap_or_else(|| ServerName::from(IpAddr::from(Ipv4Addr::UNSPECIFIED)))
}

fn explain(rejection: Rejection, options: &TlsOptions) -> TlsFailure {
    match rejection {
        Rejection::NotTrusted(reason) => {
            let hint = match &options.roots {
                RootCertificates::System => {
                    "the server's certificate must come from an authority that this system \
                     trusts; for a certificate of your own, name its root with sslrootcert"
                        .to_owned()
                }
                RootCertificates::File(path) => format!(
                    "set sslrootcert to the root certificate of the server; it is now \"{}\"",
                    path.display()
                ),
                RootCertificates::DefaultFile(path) => format!(
                    "the server's certificate is verified because \"{}\" exists; set sslrootcert \
                     to the root certificate of the server",
                    path.display()
                ),
                RootCertificates::Unknown => "set sslrootcert".to_owned(),
            };
            TlsFailure::new(format!("server certificate not accepted: {reason}")).hint(hint)
        }
        Rejection::WrongName(reason) => TlsFailure::new(reason).hint(
            "connect with a host name that the certificate is for; sslmode=verify-ca leaves the \
             name unchecked",
        ),
    }
}

/// The client's certificate, if there is one, and what became of it.
#[derive(Debug)]
pub struct ClientCertificate {
    key: Option<Arc<CertifiedKey>>,
    requested: AtomicBool,
}

impl ClientCertificate {
    fn new(key: Option<CertifiedKey>) -> ClientCertificate {
        ClientCertificate {
            key: key.map(Arc::new),
            requested: AtomicBool::new(false),
        }
    }

    /// Whether the server asked for a certificate.
    pub fn was_requested(&self) -> bool {
        self.requested.load(Ordering::Acquire)
    }

    /// Whether it was given one.
    pub fn was_sent(&self) -> bool {
        self.was_requested() && self.key.is_some()
    }
}

impl ResolvesClientCert for ClientCertificate {
    fn resolve(
        &self,
        _root_hint_subjects: &[&[u8]],
        _schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        self.requested.store(true, Ordering::Release);
        self.key.clone()
    }

    fn has_certs(&self) -> bool {
        true
    }
}
