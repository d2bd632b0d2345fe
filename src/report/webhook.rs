//! Telling a web server what came of a run (`docs/webhook.md`).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder, Retryable};
use reqwest::{Client, StatusCode, Url, redirect};
use rustls::{ClientConfig, RootCertStore};

use super::Account;
use crate::error::{Error, Result};

/// Of the JSON object, which may get more members without a new one.
const VERSION: u32 = 1;

/// How often it is tried, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    pub tries: usize,
    pub timeout: Duration,
    /// Before the second try; each further wait is twice as long.
    pub first_wait: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            tries: 3,
            timeout: Duration::from_secs(10),
            first_wait: Duration::from_secs(1),
        }
    }
}

/// Where to. Its path, query and user may be what lets one in, and are shown to nobody.
#[derive(Clone)]
pub struct Webhook {
    url: Url,
    patience: Patience,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Webhook({})", self.host())
    }
}

/// Why a try failed.
struct Refused {
    reason: String,
    /// Whether the next one may do better.
    may_pass: bool,
}

impl Webhook {
    /// The error says nothing of the text.
    pub fn new(url: &str) -> Result<Webhook> {
        let hint = "for example https://alerts.example.org/hook; the URL itself is not shown, since it may hold a secret";
        let url = Url::parse(url.trim())
            .map_err(|error| Error::usage(format!("the URL of the webhook is not valid: {error}")))
            .map_err(|error| error.hint(hint))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(
                Error::usage("the URL of the webhook is not one of http or https").hint(hint),
            );
        }
        Ok(Webhook {
            url,
            patience: Patience::default(),
        })
    }

    pub fn with_patience(self, patience: Patience) -> Webhook {
        Webhook { patience, ..self }
    }

    pub fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    /// Posts the account. Tries again where the server may take it later.
    pub async fn send(&self, account: &Account) -> Result<()> {
        let failed = |reason: &str| {
            Error::new(format!(
                "the webhook at {} was not told: {reason}",
                self.host()
            ))
        };
        let body = body(account).map_err(|error| failed(&error.to_string()))?;
        let client = self.client().map_err(|error| failed(error.message()))?;
        // with jitter each wait is up to twice as long
        let waits = ExponentialBuilder::default()
            .with_min_delay(self.patience.first_wait)
            .with_factor(2.0)
            .with_jitter()
            .with_max_times(self.patience.tries.saturating_sub(1));
        let sending = || self.try_once(&client, body.clone());
        let sent = sending
            .retry(waits.build())
            .when(|refused: &Refused| refused.may_pass)
            .await;
        sent.map_err(|refused| match refused.may_pass {
            true => failed(&format!(
                "{} ({} tries)",
                refused.reason, self.patience.tries
            )),
            false => failed(&refused.reason),
        })
    }

    fn client(&self) -> Result<Client> {
        let builder = Client::builder()
            .user_agent(concat!("rdump/", env!("CARGO_PKG_VERSION")))
            .timeout(self.patience.timeout)
            // elsewhere, the secret in the path is somebody else's business
            .redirect(redirect::Policy::none())
            .tls_backend_preconfigured(tls(self.url.scheme() == "https")?);
        builder
            .build()
            .map_err(|error| Error::new(format!("no HTTP client: {}", cause(error))))
    }

    async fn try_once(&self, client: &Client, body: Vec<u8>) -> Result<(), Refused> {
        let request = client
            .post(self.url.clone())
            .header("content-type", "application/json")
            .body(body);
        let status = match request.send().await {
            Ok(answer) => answer.status(),
            Err(error) => {
                let reason = match error.is_timeout() {
                    true => format!("no answer within {} s", self.patience.timeout.as_secs_f64()),
                    false => cause(error),
                };
                return Err(Refused {
                    reason,
                    may_pass: true,
                });
            }
        };
        match status.is_success() {
            true => Ok(()),
            false => Err(Refused {
                reason: format!("it answered {status}"),
                may_pass: status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS,
            }),
        }
    }
}

/// What is posted.
fn body(account: &Account) -> Result<Vec<u8>, serde_json::Error> {
    let mut object = serde_json::to_value(account)?;
    if let Some(members) = object.as_object_mut() {
        members.insert("version".to_owned(), VERSION.into());
        members.insert("seconds".to_owned(), account.seconds().into());
        members.insert("text".to_owned(), account.line().into());
    }
    serde_json::to_vec(&object)
}

/// Trusts what this machine trusts, or `SSL_CERT_FILE` and `SSL_CERT_DIR`.
fn tls(is_needed: bool) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let loaded = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(loaded.certs);
    if is_needed && roots.is_empty() {
        let reason = loaded.errors.first();
        let reason = reason.map_or("none found".to_owned(), ToString::to_string);
        return Err(Error::new(format!(
            "could not load system root certificates: {reason}"
        )));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::new(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// The innermost cause: the outer ones say no more than that a request failed, and to which URL.
fn cause(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut innermost: &dyn std::error::Error = &error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests;
