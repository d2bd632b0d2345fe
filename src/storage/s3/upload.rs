//! Multipart uploads.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::{
    CompletedMultipartUpload, CompletedPart, ObjectLockMode, ServerSideEncryption, StorageClass,
};
use bytes::Bytes;

use super::config::Config;
use super::errors::Failure;
use super::{Inner, TOKEN, algorithm, token};
use crate::error::{Error, Result};
use crate::storage::object::{Key, Upload};
use crate::storage::runtime::on_own;

#[derive(Debug)]
pub(super) struct S3Upload {
    store: Arc<Inner>,
    key: Key,
    id: String,
    /// Marks the object as this upload's.
    token: String,
    /// With the bytes of each.
    parts: Arc<Mutex<BTreeMap<u32, (CompletedPart, usize)>>>,
}

impl S3Upload {
    pub async fn begin(store: Arc<Inner>, key: Key) -> Result<S3Upload> {
        if store.head(&key).await?.is_some() {
            return Err(store.taken(&key));
        }
        let token = token();
        let config = &store.config;
        let begun = store
            .client
            .create_multipart_upload()
            .bucket(&config.bucket)
            .key(store.full(&key))
            .metadata(TOKEN, &token)
            .set_checksum_algorithm(config.part_checksum().and_then(algorithm))
            .set_storage_class(storage_class(config))
            .set_server_side_encryption(encryption(config))
            .set_ssekms_key_id(config.sse_kms_key_id.clone())
            .set_object_lock_mode(lock_mode(config))
            .set_object_lock_retain_until_date(lock_end(config)?)
            .send()
            .await
            .map_err(|error| store.failed("begin to upload", &key, &error))?;
        let id = begun.upload_id().map(str::to_owned).ok_or_else(|| {
            Error::new(format!(
                "could not begin to upload {}: the store gave no name to the upload",
                store.name(&key)
            ))
        })?;
        Ok(S3Upload {
            store,
            key,
            id,
            token,
            parts: Arc::default(),
        })
    }

    async fn complete_now(self, size: u64) -> Result<()> {
        let (store, key) = (&self.store, &self.key);
        let parts = self.check(size)?;
        // for stores that ignore the condition below
        if store.head(key).await?.is_some() {
            return Err(store.taken(key));
        }
        let parts = CompletedMultipartUpload::builder()
            .set_parts(Some(parts))
            .build();
        let completed = store
            .client
            .complete_multipart_upload()
            .bucket(&store.config.bucket)
            .key(store.full(key))
            .upload_id(&self.id)
            .multipart_upload(parts)
            .if_none_match("*")
            .send()
            .await;
        // A reply may be lost, and an answer wrong: what is there decides.
        let found = store.find(key).await;
        let is_ours = |found: &super::Found| found.token.as_deref() == Some(&self.token);
        match (completed, found) {
            (_, Ok(Some(found))) if is_ours(&found) && found.object.size == size => Ok(()),
            (_, Ok(Some(found))) if is_ours(&found) => Err(Error::new(format!(
                "could not complete {}: the store has {} bytes of {size}",
                store.name(key),
                found.object.size
            ))),
            (_, Ok(Some(_))) => Err(store.taken(key)),
            (Ok(_), Ok(None)) => Err(Error::new(format!(
                "could not complete {}: the store says that it is complete, and does not have it",
                store.name(key)
            ))),
            (Ok(_), Err(error)) => Err(error.context("looking whether the upload is complete")),
            (Err(error), _) => {
                let failure = Failure::new(&error);
                match failure.is_taken() {
                    true => Err(store.taken(key)),
                    false => Err(failure.error("complete", &store.name(key))),
                }
            }
        }
    }

    /// The parts, if they are dense and sum up.
    fn check(&self, size: u64) -> Result<Vec<CompletedPart>> {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let last = parts.len().saturating_sub(1);
        let is_dense = parts.iter().enumerate().all(|(at, (number, (_, length)))| {
            at == *number as usize && (at == last || *length == self.store.config.part_size)
        });
        let sent: u64 = parts.values().map(|(_, length)| *length as u64).sum();
        match is_dense && sent == size && size > 0 {
            true => Ok(parts.values().map(|(part, _)| part.clone()).collect()),
            false => Err(Error::new(format!(
                "could not complete {}: {} parts with {sent} bytes of {size} were uploaded",
                self.store.name(&self.key),
                parts.len()
            ))),
        }
    }
}

#[async_trait]
impl Upload for S3Upload {
    async fn part(&self, number: u32, bytes: Bytes) -> Result<()> {
        let length = bytes.len();
        let limits = self.store.limits();
        if length == 0 || length > limits.part_size || number >= limits.parts {
            return Err(Error::new(format!(
                "part {number} of {} has {length} bytes, and {} parts of up to {} are possible",
                self.store.name(&self.key),
                limits.parts,
                limits.part_size
            )));
        }
        let (store, key, id) = (self.store.clone(), self.key.clone(), self.id.clone());
        let parts = self.parts.clone();
        on_own(async move {
            // from 1, there
            let there = i32::try_from(number + 1).unwrap_or(i32::MAX);
            let sent = store
                .client
                .upload_part()
                .bucket(&store.config.bucket)
                .key(store.full(&key))
                .upload_id(id)
                .part_number(there)
                .set_checksum_algorithm(store.config.part_checksum().and_then(algorithm))
                .body(ByteStream::from(bytes))
                .send()
                .await
                .map_err(|error| store.failed(&format!("upload part {there} of"), &key, &error))?;
            let part = CompletedPart::builder()
                .part_number(there)
                .set_e_tag(sent.e_tag)
                .set_checksum_crc32(sent.checksum_crc32)
                .set_checksum_crc32_c(sent.checksum_crc32_c)
                .set_checksum_sha256(sent.checksum_sha256)
                .build();
            let mut parts = parts.lock().unwrap_or_else(PoisonError::into_inner);
            parts.insert(number, (part, length));
            Ok(())
        })
        .await
    }

    async fn complete(self: Box<Self>, size: u64) -> Result<()> {
        on_own(self.complete_now(size)).await
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        on_own(async move { self.store.abort(&self.key, &self.id).await }).await
    }
}

pub(super) fn storage_class(config: &Config) -> Option<StorageClass> {
    config.storage_class.as_deref().map(StorageClass::from)
}

pub(super) fn encryption(config: &Config) -> Option<ServerSideEncryption> {
    config.sse.as_deref().map(ServerSideEncryption::from)
}

pub(super) fn lock_mode(config: &Config) -> Option<ObjectLockMode> {
    let lock = config.object_lock.as_ref()?;
    Some(ObjectLockMode::from(lock.mode.as_str()))
}

pub(super) fn lock_end(config: &Config) -> Result<Option<DateTime>> {
    let Some(lock) = &config.object_lock else {
        return Ok(None);
    };
    let length = Duration::from_secs(u64::from(lock.days) * 24 * 60 * 60);
    match SystemTime::now().checked_add(length) {
        Some(end) => Ok(Some(DateTime::from(end))),
        None => Err(Error::new("object-lock-days is too large")),
    }
}
