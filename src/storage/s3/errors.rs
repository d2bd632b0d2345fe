//! What the SDK says, in our words.

use std::error::Error as _;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use crate::error::{Error, Kind, Outcome};

/// What a store answered, as far as it matters here.
#[derive(Debug)]
pub(super) struct Failure {
    /// None: there was no answer.
    pub status: Option<u16>,
    pub code: String,
    message: String,
}

impl Failure {
    pub fn new<E>(error: &SdkError<E>) -> Failure
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let status = error
            .raw_response()
            .map(|response| response.status().as_u16());
        if let Some(service) = error.as_service_error() {
            return Failure {
                status,
                code: service.code().unwrap_or_default().to_owned(),
                message: service.message().unwrap_or_default().to_owned(),
            };
        }
        let mut message = match error {
            SdkError::TimeoutError(_) => "the store did not answer in time".to_owned(),
            SdkError::DispatchFailure(failure) if failure.is_timeout() => {
                "the store did not answer in time".to_owned()
            }
            SdkError::DispatchFailure(_) => "the request could not be sent".to_owned(),
            SdkError::ResponseError(_) => "the answer could not be read".to_owned(),
            _ => "the request could not be made".to_owned(),
        };
        // the innermost says most: "connection refused", "invalid peer certificate"
        let mut inner = error.source();
        while let Some(next) = inner.and_then(std::error::Error::source) {
            inner = Some(next);
        }
        if let Some(inner) = inner.filter(|_| !matches!(error, SdkError::TimeoutError(_))) {
            message.push_str(": ");
            message.push_str(&inner.to_string());
        }
        Failure {
            status,
            code: String::new(),
            message,
        }
    }

    /// There is no such object, or upload.
    pub fn is_absent(&self) -> bool {
        match self.code.as_str() {
            "NoSuchKey" | "NotFound" | "NoSuchUpload" => true,
            // HEAD has no body
            "" => self.status == Some(404),
            _ => false,
        }
    }

    /// An object stands where there must be none.
    pub fn is_taken(&self) -> bool {
        self.code == "PreconditionFailed" || self.status == Some(412)
    }

    pub fn is_denied(&self) -> bool {
        matches!(self.code.as_str(), "AccessDenied" | "Forbidden")
            || self.code.is_empty() && self.status == Some(403)
    }

    pub fn says_that_a_bucket_is_missing(&self) -> bool {
        self.code == "NoSuchBucket"
    }

    /// `doing` takes `subject` as its object: "read", "s3://bucket/key".
    pub fn error(&self, doing: &str, subject: &str) -> Error {
        let mut text = format!("could not {doing} {subject}: ");
        match (self.code.as_str(), self.message.as_str()) {
            ("", "") => text.push_str("the store refused"),
            (code, "") => text.push_str(code),
            ("", message) => text.push_str(message),
            (code, message) => {
                text.push_str(&format!("{code}: {}", message.trim_end_matches('.')));
            }
        }
        if let Some(status) = self.status {
            text.push_str(&format!(" (HTTP status {status})"));
        }
        let error = Error::new(text);
        let error = match self.is_denied() {
            true => error.with_kind(Kind::Denied),
            false => error,
        };
        let error = match self.says_that_a_bucket_is_missing() {
            true => error.outcome(Outcome::NoRepository),
            false => error,
        };
        match self.hint() {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }

    fn hint(&self) -> Option<&'static str> {
        if self.is_denied() {
            return Some(
                "docs/s3.md lists what a credential must be allowed; without s3:ListBucket also what is absent is denied",
            );
        }
        Some(match self.code.as_str() {
            "NoSuchBucket" => "create the bucket, or add create-bucket=true to the URL",
            "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "NotSignedUp" => {
                "are these the credentials of this store? see AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_PROFILE"
            }
            "ExpiredToken" | "ExpiredTokenException" | "InvalidToken" => {
                "the session of the credentials has ended: renew it"
            }
            "RequestTimeTooSkewed" => "set this machine's clock",
            "PermanentRedirect"
            | "AuthorizationHeaderMalformed"
            | "IllegalLocationConstraintException" => {
                "the bucket is in another region: add region=NAME to the URL"
            }
            "SlowDown" | "ServiceUnavailable" | "TooManyRequests" => {
                "the store is overloaded: try again later, or with a lower concurrency= in the URL"
            }
            "InvalidRequest" => {
                "a bucket with object lock wants checksum=crc32 in the URL; some stores know no checksums, and want checksum=none"
            }
            "NotImplemented" => "docs/s3.md says what a store must be able to do",
            "" if self.message.contains("credentials") => {
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or add profile=NAME to the URL"
            }
            "" if self.message.contains("certificate") => {
                "if the store has an authority of its own, add ca=FILE to the URL"
            }
            _ => return None,
        })
    }
}
