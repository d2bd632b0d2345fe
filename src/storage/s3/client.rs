//! The client of the SDK, as the configuration wants it.

use std::path::{Path, PathBuf};

use aws_config::BehaviorVersion;
use aws_config::environment::region::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::{ClassifyRetry, RetryAction, RetryConfig};
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    Region, RequestChecksumCalculation, ResponseChecksumValidation, SharedHttpClient,
    interceptors::InterceptorContext,
};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Builder, Connector};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::config::Config;
use crate::error::{Error, Result};
use crate::storage::local::describe;

/// What is assumed of a store that is not AWS's own.
const REGION_OF_OTHERS: &str = "us-east-1";

/// Credentials, and what the URL does not say, come from where all of AWS's programs take them.
pub(super) async fn client(config: &Config) -> Result<Client> {
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .timeout_config(timeouts(config))
        .retry_config(
            RetryConfig::standard()
                .with_max_attempts(config.patience.attempts)
                .with_initial_backoff(config.patience.backoff),
        );
    if let Some(http) = http_client(config)? {
        loader = loader.http_client(http);
    }
    if let Some(profile) = &config.profile {
        loader = loader.profile_name(profile);
    }
    if let Some(region) = &config.region {
        loader = loader.region(Region::new(region.clone()));
    } else if config.endpoint.is_some() {
        // without asking for the region of a machine of AWS's, which this is mostly not
        let mut profile = ProfileFileRegionProvider::builder();
        if let Some(name) = &config.profile {
            profile = profile.profile_name(name);
        }
        loader = loader.region(
            RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
                .or_else(profile.build())
                .or_else(Region::new(REGION_OF_OTHERS)),
        );
    }
    let shared = loader.load().await;
    let has_endpoint = config.endpoint.is_some()
        || shared.endpoint_url().is_some()
        || std::env::var_os("AWS_ENDPOINT_URL_S3").is_some();
    let mut builder = aws_sdk_s3::config::Builder::from(&shared)
        .force_path_style(config.path_style.unwrap_or(has_endpoint))
        // other stores do not know the newer sums; parts have those that the URL asks for
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .retry_classifier(Conflict);
    if let Some(endpoint) = &config.endpoint {
        builder = builder.endpoint_url(endpoint);
    }
    match shared.region() {
        Some(_) => {}
        None if has_endpoint => builder = builder.region(Region::new(REGION_OF_OTHERS)),
        None => {
            return Err(Error::usage(format!(
                "the region of bucket \"{}\" is not known",
                config.bucket
            ))
            .hint("add region=NAME to the URL, or set AWS_REGION; for a store that is not AWS's, add endpoint=URL"));
        }
    }
    Ok(Client::from_conf(builder.build()))
}

fn timeouts(config: &Config) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(config.patience.connect)
        .read_timeout(config.patience.read)
        .operation_attempt_timeout(config.patience.attempt)
        .build()
}

/// Two writers at one key, of which the store has let neither through yet.
#[derive(Debug)]
struct Conflict;

impl ClassifyRetry for Conflict {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        match context
            .response()
            .map(|response| response.status().as_u16())
        {
            Some(409) => RetryAction::transient_error(),
            _ => RetryAction::NoActionIndicated,
        }
    }

    fn name(&self) -> &'static str {
        "conflicts of conditional writes"
    }
}

/// Trusts the system's authorities, and that of `ca=` or `AWS_CA_BUNDLE`. None: the SDK's own client does.
fn http_client(config: &Config) -> Result<Option<SharedHttpClient>> {
    let bundle = std::env::var_os("AWS_CA_BUNDLE").filter(|path| !path.is_empty());
    let own = config.ca.clone().or_else(|| bundle.map(PathBuf::from));
    // the SDK's client takes for granted that there are some, and that each can be read
    let (readable, _) = RootCertStore::empty()
        .add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let mut trusted = TrustStore::empty().with_native_roots(readable > 0);
    match own {
        Some(path) => trusted.add_pem_certificate(read_certificates(&path)?),
        None if readable > 0 => return Ok(None),
        None => &mut trusted,
    };
    let context = TlsContext::builder()
        .with_trust_store(trusted)
        .build()
        .map_err(|error| Error::new(format!("could not set up TLS: {error}")))?;
    let client = Builder::new().build_with_connector_fn(move |settings, components| {
        let mut connector = Connector::builder()
            .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
            .tls_context(context.clone());
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(|components| components.sleep_impl()));
        connector.set_proxy_config(Some(ProxyConfig::from_env()));
        connector.build()
    });
    Ok(Some(client))
}

/// A file of certificates, each of which can be read.
fn read_certificates(path: &Path) -> Result<Vec<u8>> {
    let failed = |problem: &str| {
        Error::new(format!(
            "could not read certificates from file \"{}\": {problem}",
            path.display()
        ))
    };
    let pem = std::fs::read(path).map_err(|error| failed(&describe(&error)))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| failed(&error.to_string()))?;
        let added = roots.add(certificate);
        added.map_err(|error| failed(&error.to_string()))?;
    }
    match roots.is_empty() {
        true => Err(failed("it holds none in the PEM format")),
        false => Ok(pem),
    }
}
