//! Objects in S3, AWS's or another's.
//!
//! Each object and upload has a random token in its metadata. Where a reply was lost, or the SDK's retry met
//! what its own first attempt had made, the token says whose the object is that stands there.

mod client;
mod config;
mod errors;
mod upload;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::{BucketLocationConstraint, ChecksumAlgorithm, CreateBucketConfiguration};
use bytes::{Bytes, BytesMut};

use super::object::{Created, Key, Limits, Object, Page, Storage, Unfinished, Upload};
use super::runtime::on_own;
use crate::error::{Error, Result};
use config::{Checksum, Config};
use errors::Failure;
use upload::S3Upload;

/// Metadata of what this program wrote.
const TOKEN: &str = "rdump-token";
/// What S3 allows.
const PARTS: u32 = 10_000;

/// A bucket, or what is under a prefix of its keys.
#[derive(Debug, Clone)]
pub struct S3(Arc<Inner>);

struct Inner {
    client: Client,
    config: Config,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // not the client, which has credentials
        f.debug_struct("S3")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// An object, and who wrote it.
#[derive(Debug)]
struct Found {
    object: Object,
    token: Option<String>,
}

impl S3 {
    /// Opens `s3://BUCKET[/PREFIX][?PARAMETER=VALUE&...]` (`docs/s3.md`). Nothing is asked of the store, but for
    /// `create-bucket=true`.
    pub async fn open(url: &str) -> Result<S3> {
        S3::with_config(Config::parse(url)?).await
    }

    async fn with_config(config: Config) -> Result<S3> {
        on_own(async move {
            let client = client::client(&config).await?;
            let inner = Inner { client, config };
            if inner.config.create_bucket {
                inner.create_bucket().await?;
            }
            Ok(S3(Arc::new(inner)))
        })
        .await
    }
}

/// For a request's errors: what the SDK's type of error is depends on the operation.
trait Refusal: ProvideErrorMetadata + std::error::Error + 'static {}
impl<E: ProvideErrorMetadata + std::error::Error + 'static> Refusal for E {}

impl Inner {
    fn limits(&self) -> Limits {
        Limits {
            part_size: self.config.part_size,
            parts: PARTS,
            concurrency: self.config.concurrency,
        }
    }

    fn full(&self, key: &Key) -> String {
        format!("{}{key}", self.config.prefix)
    }

    fn name(&self, key: &Key) -> String {
        format!("s3://{}/{}{key}", self.config.bucket, self.config.prefix)
    }

    fn failed<E: Refusal>(&self, doing: &str, key: &Key, error: &SdkError<E>) -> Error {
        Failure::new(error).error(doing, &self.name(key))
    }

    fn taken(&self, key: &Key) -> Error {
        Error::new(format!("{} exists already", self.name(key)))
    }

    async fn create_bucket(&self) -> Result<()> {
        let bucket = &self.config.bucket;
        let name = format!("bucket \"{bucket}\"");
        match self.client.head_bucket().bucket(bucket).send().await {
            Ok(_) => return Ok(()),
            Err(error) => {
                let failure = Failure::new(&error);
                if !failure.is_absent() && !failure.says_that_a_bucket_is_missing() {
                    return Err(failure.error("look for", &name));
                }
            }
        }
        // the one region that must not be named
        let region = self.client.config().region().map(ToString::to_string);
        let place = region.filter(|region| region != "us-east-1").map(|region| {
            CreateBucketConfiguration::builder()
                .location_constraint(BucketLocationConstraint::from(region.as_str()))
                .build()
        });
        let created = self
            .client
            .create_bucket()
            .bucket(bucket)
            .set_create_bucket_configuration(place)
            .set_object_lock_enabled_for_bucket(self.config.object_lock.as_ref().map(|_| true))
            .send()
            .await;
        match created {
            Ok(_) => Ok(()),
            Err(error) => {
                let failure = Failure::new(&error);
                match failure.code.as_str() {
                    // somebody else with the same thought, or a lost reply
                    "BucketAlreadyOwnedByYou" => Ok(()),
                    _ => Err(failure.error("create", &name)),
                }
            }
        }
    }

    fn put_request(&self, key: &Key, bytes: Bytes) -> Result<PutObjectFluentBuilder> {
        let config = &self.config;
        Ok(self
            .client
            .put_object()
            .bucket(&config.bucket)
            .key(self.full(key))
            .set_checksum_algorithm(config.part_checksum().and_then(algorithm))
            .set_server_side_encryption(upload::encryption(config))
            .set_ssekms_key_id(config.sse_kms_key_id.clone())
            .body(ByteStream::from(bytes)))
    }

    async fn create(&self, key: &Key, bytes: Bytes) -> Result<Created> {
        let token = token();
        let sent = self
            .put_request(key, bytes)?
            .metadata(TOKEN, &token)
            .set_object_lock_mode(upload::lock_mode(&self.config))
            .set_object_lock_retain_until_date(upload::lock_end(&self.config)?)
            .if_none_match("*")
            .send()
            .await;
        let Err(error) = sent else {
            return Ok(Created::New);
        };
        let failure = Failure::new(&error);
        match self.find(key).await {
            Ok(Some(found)) if found.token.as_deref() == Some(&token) => Ok(Created::New),
            Ok(Some(_)) if failure.is_taken() || failure.status == Some(409) => Ok(Created::Exists),
            Err(error) if failure.is_taken() => {
                Err(error.context("looking who created the object"))
            }
            _ => Err(failure.error("create", &self.name(key))),
        }
    }

    async fn put(&self, key: &Key, bytes: Bytes) -> Result<()> {
        match self.put_request(key, bytes)?.send().await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.failed("write", key, &error)),
        }
    }

    async fn get(&self, key: &Key, limit: u64) -> Result<Option<Bytes>> {
        let too_long = |size: u64| {
            Error::new(format!(
                "{} has {size} bytes, more than the {limit} it may have",
                self.name(key)
            ))
        };
        self.receive(key, None, |output| {
            let size = output
                .content_length()
                .and_then(|size| u64::try_from(size).ok());
            match size {
                Some(size) if size > limit => Err(too_long(size)),
                Some(size) => Ok(size),
                None => Err(self.nonsense(key, "no length")),
            }
        })
        .await
    }

    async fn read(&self, key: &Key, range: Range<u64>) -> Result<Bytes> {
        let (Some(length), false) = (range.end.checked_sub(range.start), range.is_empty()) else {
            return Ok(Bytes::new());
        };
        let wrong = |problem: &str| {
            Error::new(format!(
                "could not read bytes {} to {} of {}: {problem}",
                range.start,
                range.end,
                self.name(key)
            ))
        };
        let header = format!("bytes={}-{}", range.start, range.end - 1);
        let received = self
            .receive(key, Some(header), |output| {
                let size = output
                    .content_length()
                    .and_then(|size| u64::try_from(size).ok());
                // where the object ends before, there is less
                match size {
                    Some(size) if size == length => Ok(size),
                    _ => Err(wrong("the store sent another range")),
                }
            })
            .await;
        match received {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Err(wrong("there is no such object")),
            Err(error) => match self.head(key).await {
                Ok(Some(object)) if object.size < range.end => {
                    Err(wrong(&format!("it has {} bytes", object.size)))
                }
                _ => Err(error),
            },
        }
    }

    /// The SDK does not try again where a body breaks off; this does.
    async fn receive(
        &self,
        key: &Key,
        range: Option<String>,
        length: impl Fn(&GetObjectOutput) -> Result<u64>,
    ) -> Result<Option<Bytes>> {
        let mut attempt = 1;
        loop {
            let sent = self
                .client
                .get_object()
                .bucket(&self.config.bucket)
                .key(self.full(key))
                .set_range(range.clone())
                .send()
                .await;
            let mut output = match sent {
                Ok(output) => output,
                Err(error) => {
                    let failure = Failure::new(&error);
                    return match failure.is_absent() {
                        true => Ok(None),
                        false => Err(failure.error("read", &self.name(key))),
                    };
                }
            };
            let length = length(&output)?;
            let problem = match collect(&mut output.body, length).await {
                Ok(bytes) => return Ok(Some(bytes)),
                Err(problem) => problem,
            };
            if attempt >= self.config.patience.attempts {
                return Err(Error::new(format!(
                    "could not read {}: the transfer broke off {attempt} times: {problem}",
                    self.name(key)
                )));
            }
            attempt += 1;
        }
    }

    async fn find(&self, key: &Key) -> Result<Option<Found>> {
        let sent = self
            .client
            .head_object()
            .bucket(&self.config.bucket)
            .key(self.full(key))
            .send()
            .await;
        let output = match sent {
            Ok(output) => output,
            Err(error) => {
                let failure = Failure::new(&error);
                return match failure.is_absent() {
                    true => Ok(None),
                    false => Err(failure.error("look at", &self.name(key))),
                };
            }
        };
        let token = output.metadata().and_then(|metadata| metadata.get(TOKEN));
        Ok(Some(Found {
            object: Object {
                key: key.clone(),
                size: self.size(key, output.content_length())?,
                modified: self.time(key, output.last_modified())?,
            },
            token: token.cloned(),
        }))
    }

    async fn head(&self, key: &Key) -> Result<Option<Object>> {
        Ok(self.find(key).await?.map(|found| found.object))
    }

    async fn list(&self, prefix: &str, after: Option<&Key>) -> Result<Page> {
        let config = &self.config;
        let place = format!("s3://{}/{}{prefix}", config.bucket, config.prefix);
        let mut page = Page::default();
        let mut continuation: Option<String> = None;
        // a page of names that are no keys is not the last
        while page.objects.is_empty() && !page.is_last {
            let listed = self
                .client
                .list_objects_v2()
                .bucket(&config.bucket)
                .prefix(format!("{}{prefix}", config.prefix))
                .max_keys(config.page)
                .set_start_after(after.map(|after| self.full(after)))
                .set_continuation_token(continuation.take())
                .send()
                .await
                .map_err(|error| Failure::new(&error).error("list", &place))?;
            for object in listed.contents() {
                let Some(key) = self.key(object.key()) else {
                    continue;
                };
                // some stores begin at the beginning
                if after.is_some_and(|after| key <= *after) {
                    continue;
                }
                if page.objects.last().is_some_and(|last| last.key >= key) {
                    return Err(Error::new(format!(
                        "could not list {place}: the store does not list keys in their order"
                    )));
                }
                page.objects.push(Object {
                    size: self.size(&key, object.size())?,
                    modified: self.time(&key, object.last_modified())?,
                    key,
                });
            }
            page.is_last = !listed.is_truncated().unwrap_or(false);
            continuation = listed.next_continuation_token;
            if !page.is_last && continuation.is_none() {
                return Err(Error::new(format!(
                    "could not list {place}: the store says that more is to come, and not where"
                )));
            }
        }
        Ok(page)
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        let sent = self
            .client
            .delete_object()
            .bucket(&self.config.bucket)
            .key(self.full(key))
            .send()
            .await;
        match sent.map_err(|error| Failure::new(&error)) {
            Ok(_) => Ok(()),
            Err(failure) if failure.is_absent() => Ok(()),
            Err(failure) => Err(failure.error("delete", &self.name(key))),
        }
    }

    async fn unfinished(&self, prefix: &str) -> Result<Vec<Unfinished>> {
        let config = &self.config;
        let place = format!("s3://{}/{}{prefix}", config.bucket, config.prefix);
        let mut found = Vec::new();
        let (mut key_marker, mut upload_marker) = (None, None);
        loop {
            let listed = self
                .client
                .list_multipart_uploads()
                .bucket(&config.bucket)
                .prefix(format!("{}{prefix}", config.prefix))
                .max_uploads(config.page)
                .set_key_marker(key_marker.take())
                .set_upload_id_marker(upload_marker.take())
                .send()
                .await
                .map_err(|error| Failure::new(&error).error("list uploads under", &place))?;
            for upload in listed.uploads() {
                let (Some(key), Some(id)) = (self.key(upload.key()), upload.upload_id()) else {
                    continue;
                };
                found.push(Unfinished {
                    begun: self.time(&key, upload.initiated())?,
                    upload: id.to_owned(),
                    key,
                });
            }
            if !listed.is_truncated().unwrap_or(false) {
                return Ok(found);
            }
            if listed.next_key_marker.is_none() {
                return Err(Error::new(format!(
                    "could not list uploads under {place}: the store says that more is to come, and not where"
                )));
            }
            key_marker = listed.next_key_marker;
            upload_marker = listed.next_upload_id_marker;
        }
    }

    async fn abort(&self, key: &Key, upload: &str) -> Result<()> {
        let sent = self
            .client
            .abort_multipart_upload()
            .bucket(&self.config.bucket)
            .key(self.full(key))
            .upload_id(upload)
            .send()
            .await;
        match sent.map_err(|error| Failure::new(&error)) {
            Ok(_) => Ok(()),
            Err(failure) if failure.is_absent() => Ok(()),
            Err(failure) => Err(failure.error("give up the upload of", &self.name(key))),
        }
    }

    /// None: it is no key of ours.
    fn key(&self, full: Option<&str>) -> Option<Key> {
        let key = full?.strip_prefix(&self.config.prefix)?;
        Key::new(key).ok()
    }

    fn size(&self, key: &Key, size: Option<i64>) -> Result<u64> {
        size.and_then(|size| u64::try_from(size).ok())
            .ok_or_else(|| self.nonsense(key, "no size"))
    }

    fn time(&self, key: &Key, time: Option<&DateTime>) -> Result<SystemTime> {
        time.and_then(|time| SystemTime::try_from(*time).ok())
            .ok_or_else(|| self.nonsense(key, "no time"))
    }

    fn nonsense(&self, key: &Key, what: &str) -> Error {
        Error::new(format!(
            "the store gave {what} for {}: does it speak the protocol of S3?",
            self.name(key)
        ))
    }
}

/// Exactly so many bytes. The error is a text, since another attempt follows.
async fn collect(body: &mut ByteStream, length: u64) -> Result<Bytes, String> {
    let length = usize::try_from(length).map_err(|_| "it is too large".to_owned())?;
    // no more than has come: the length is the store's
    let mut bytes = BytesMut::with_capacity(length.min(64 << 20));
    while let Some(piece) = body.next().await {
        bytes.extend_from_slice(&piece.map_err(|error| error.to_string())?);
        if bytes.len() > length {
            break;
        }
    }
    match bytes.len() == length {
        true => Ok(bytes.freeze()),
        false => Err(format!("{} bytes of {length} came", bytes.len())),
    }
}

fn token() -> String {
    format!("{:032x}", rand::random::<u128>())
}

fn algorithm(checksum: Checksum) -> Option<ChecksumAlgorithm> {
    match checksum {
        Checksum::Crc32 => Some(ChecksumAlgorithm::Crc32),
        Checksum::Crc32c => Some(ChecksumAlgorithm::Crc32C),
        Checksum::Sha256 => Some(ChecksumAlgorithm::Sha256),
        Checksum::None => None,
    }
}

impl fmt::Display for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let config = &self.0.config;
        let place = format!("{}/{}", config.bucket, config.prefix);
        write!(f, "s3://{}", place.trim_end_matches('/'))
    }
}

/// Each operation runs on storage's own threads, where the connections are.
#[async_trait]
impl Storage for S3 {
    fn limits(&self) -> Limits {
        self.0.limits()
    }

    async fn create(&self, key: &Key, bytes: Bytes) -> Result<Created> {
        let (store, key) = (self.0.clone(), key.clone());
        on_own(async move { store.create(&key, bytes).await }).await
    }

    async fn put(&self, key: &Key, bytes: Bytes) -> Result<()> {
        let (store, key) = (self.0.clone(), key.clone());
        on_own(async move { store.put(&key, bytes).await }).await
    }

    async fn get(&self, key: &Key, limit: u64) -> Result<Option<Bytes>> {
        let (store, key) = (self.0.clone(), key.clone());
        on_own(async move { store.get(&key, limit).await }).await
    }

    async fn read(&self, key: &Key, range: Range<u64>) -> Result<Bytes> {
        let (store, key) = (self.0.clone(), key.clone());
        on_own(async move { store.read(&key, range).await }).await
    }

    async fn head(&self, key: &Key) -> Result<Option<Object>> {
        let (store, key) = (self.0.clone(), key.clone());
        on_own(async move { store.head(&key).await }).await
    }

    async fn list(&self, prefix: &str, after: Option<&Key>) -> Result<Page> {
        let (store, prefix, after) = (self.0.clone(), prefix.to_owned(), after.cloned());
        on_own(async move { store.list(&prefix, after.as_ref()).await }).await
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        let (store, key) = (self.0.clone(), key.clone());
        on_own(async move { store.delete(&key).await }).await
    }

    async fn begin(&self, key: &Key) -> Result<Box<dyn Upload>> {
        let begun = on_own(S3Upload::begin(self.0.clone(), key.clone())).await?;
        Ok(Box::new(begun))
    }

    async fn unfinished(&self, prefix: &str) -> Result<Vec<Unfinished>> {
        let (store, prefix) = (self.0.clone(), prefix.to_owned());
        on_own(async move { store.unfinished(&prefix).await }).await
    }

    async fn discard(&self, unfinished: &Unfinished) -> Result<()> {
        let (store, unfinished) = (self.0.clone(), unfinished.clone());
        on_own(async move { store.abort(&unfinished.key, &unfinished.upload).await }).await
    }
}

#[cfg(test)]
mod tests;
