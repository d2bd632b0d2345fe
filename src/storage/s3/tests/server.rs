//! A store over HTTP on loopback: s3s-fs, behind a server that can misbehave as stores and networks do.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use s3s::auth::SimpleAuth;
use s3s::dto::*;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, HttpRequest, S3, S3Request, S3Response, S3Result, s3_error};
use s3s_fs::FileSystem;
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader,
};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

pub const USER: &str = "AKIDTEST";
pub const PASSWORD: &str = "the-secret-of-the-tests";
pub const BUCKET: &str = "bucket";

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asks {
    Put,
    Get,
    Head,
    List,
    Delete,
    Begin,
    Part,
    Complete,
    Abort,
    Unfinished,
    Other,
}

/// What goes wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Without effect.
    InternalError,
    SlowDown,
    /// An error in the body of a success, as CompleteMultipartUpload may answer.
    ErrorAfterSuccess,
    Reset,
    Stall,
    /// It has taken effect.
    LostReply,
    /// It has taken effect, and the reply breaks off in its body.
    CutReply,
    Denied,
}

pub struct Server {
    pub url: String,
    store: Arc<Store>,
    faults: Arc<Mutex<Vec<(Asks, Fault, usize)>>>,
    requests: Arc<Mutex<Vec<Asks>>>,
    _folder: tempfile::TempDir,
}

impl Server {
    /// With a bucket.
    pub async fn start() -> Server {
        let server = Server::without_bucket().await;
        std::fs::create_dir(server.store.root.join(BUCKET)).unwrap();
        server
    }

    /// With TLS, and the certificate that it has.
    pub async fn with_tls() -> (Server, String) {
        let name = "localhost".to_owned();
        let certified = rcgen::generate_simple_self_signed([name]).unwrap();
        let key = certified.signing_key.serialize_der().try_into().unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certified.cert.der().clone()], key)
            .unwrap();
        let server = Server::listen(Some(TlsAcceptor::from(Arc::new(config))));
        std::fs::create_dir(server.store.root.join(BUCKET)).unwrap();
        (server, certified.cert.pem())
    }

    pub async fn without_bucket() -> Server {
        Server::listen(None)
    }

    fn listen(tls: Option<TlsAcceptor>) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store {
            files: FileSystem::new(folder.path()).unwrap(),
            root: folder.path().to_owned(),
            uploads: Mutex::default(),
            conditional: tokio::sync::Mutex::default(),
            ignores_conditions: AtomicBool::new(false),
        });
        let mut builder = S3ServiceBuilder::new(Shared(store.clone()));
        builder.set_auth(SimpleAuth::from_single(USER, PASSWORD));
        let service = builder.build();
        let (faults, requests) = (Arc::default(), Arc::default());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let url = match tls {
            None => format!("http://{address}"),
            Some(_) => format!("https://localhost:{}", address.port()),
        };
        let server = Server {
            url,
            store,
            faults,
            requests,
            _folder: folder,
        };
        let (faults, requests) = (server.faults.clone(), server.requests.clone());
        // also for tests that block their own runtime
        crate::storage::runtime::handle()
            .unwrap()
            .spawn(async move {
                let listener = TcpListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    let (service, faults, requests) =
                        (service.clone(), faults.clone(), requests.clone());
                    let tls = tls.clone();
                    tokio::spawn(async move {
                        // clients that go away
                        let _ = match tls {
                            None => serve(stream, &service, &faults, &requests).await,
                            Some(tls) => match tls.accept(stream).await {
                                Ok(stream) => serve(stream, &service, &faults, &requests).await,
                                Err(error) => Err(error),
                            },
                        };
                    });
                }
            });
        server
    }

    /// The next requests of this kind go wrong, so many of them.
    pub fn fail(&self, asks: Asks, fault: Fault, times: usize) {
        self.faults.lock().unwrap().push((asks, fault, times));
    }

    pub fn no_faults(&self) {
        self.faults.lock().unwrap().clear();
    }

    pub fn ignore_conditions(&self) {
        self.store.ignores_conditions.store(true, Ordering::SeqCst);
    }

    pub fn uploads(&self) -> usize {
        self.store.uploads.lock().unwrap().len()
    }

    pub fn count(&self, asks: Asks) -> usize {
        let requests = self.requests.lock().unwrap();
        requests.iter().filter(|one| **one == asks).count()
    }

    /// Past all that may go wrong.
    pub fn contents(&self, key: &str) -> Option<Vec<u8>> {
        std::fs::read(self.store.root.join(BUCKET).join(key)).ok()
    }
}

/// s3s-fs, and what it lacks: listing of uploads; conditions that hold between requests at once; that a
/// folder is no object; the code of AWS for an unknown upload.
struct Store {
    files: FileSystem,
    root: PathBuf,
    uploads: Mutex<BTreeMap<(String, String), SystemTime>>,
    conditional: tokio::sync::Mutex<()>,
    ignores_conditions: AtomicBool,
}

struct Shared(Arc<Store>);

impl Store {
    fn is_folder(&self, bucket: &str, key: &str) -> bool {
        self.root.join(bucket).join(key).is_dir()
    }

    fn check_upload(&self, key: &str, upload: &str) -> S3Result<()> {
        let uploads = self.uploads.lock().unwrap();
        match uploads.contains_key(&(key.to_owned(), upload.to_owned())) {
            true => Ok(()),
            false => Err(s3_error!(NoSuchUpload)),
        }
    }

    fn forget(&self, key: &str, upload: &str) {
        let at = (key.to_owned(), upload.to_owned());
        self.uploads.lock().unwrap().remove(&at);
    }
}

type Answer<T> = S3Result<S3Response<T>>;

#[async_trait::async_trait]
impl S3 for Shared {
    async fn create_bucket(
        &self,
        request: S3Request<CreateBucketInput>,
    ) -> Answer<CreateBucketOutput> {
        self.0.files.create_bucket(request).await
    }

    async fn head_bucket(&self, request: S3Request<HeadBucketInput>) -> Answer<HeadBucketOutput> {
        self.0.files.head_bucket(request).await
    }

    async fn put_object(&self, mut request: S3Request<PutObjectInput>) -> Answer<PutObjectOutput> {
        let _turn = self.0.conditional.lock().await;
        if !self.0.root.join(&request.input.bucket).exists() {
            return Err(s3_error!(NoSuchBucket));
        }
        if self.0.ignores_conditions.load(Ordering::SeqCst) {
            request.input.if_none_match = None;
        }
        self.0.files.put_object(request).await
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> Answer<GetObjectOutput> {
        if !self.0.root.join(&request.input.bucket).exists() {
            return Err(s3_error!(NoSuchBucket));
        }
        match self.0.is_folder(&request.input.bucket, &request.input.key) {
            true => Err(s3_error!(NoSuchKey)),
            false => self.0.files.get_object(request).await,
        }
    }

    async fn head_object(&self, request: S3Request<HeadObjectInput>) -> Answer<HeadObjectOutput> {
        match self.0.is_folder(&request.input.bucket, &request.input.key) {
            true => Err(s3_error!(NoSuchKey)),
            false => self.0.files.head_object(request).await,
        }
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> Answer<ListObjectsV2Output> {
        self.0.files.list_objects_v2(request).await
    }

    async fn delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> Answer<DeleteObjectOutput> {
        match self.0.is_folder(&request.input.bucket, &request.input.key) {
            true => Ok(S3Response::new(DeleteObjectOutput::default())),
            false => self.0.files.delete_object(request).await,
        }
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> Answer<CreateMultipartUploadOutput> {
        let key = request.input.key.clone();
        let begun = self.0.files.create_multipart_upload(request).await?;
        let id = begun.output.upload_id.clone().unwrap();
        let mut uploads = self.0.uploads.lock().unwrap();
        uploads.insert((key, id), SystemTime::now());
        Ok(begun)
    }

    async fn upload_part(&self, request: S3Request<UploadPartInput>) -> Answer<UploadPartOutput> {
        let input = &request.input;
        self.0.check_upload(&input.key, &input.upload_id)?;
        self.0.files.upload_part(request).await
    }

    async fn complete_multipart_upload(
        &self,
        mut request: S3Request<CompleteMultipartUploadInput>,
    ) -> Answer<CompleteMultipartUploadOutput> {
        let _turn = self.0.conditional.lock().await;
        let (key, id) = (request.input.key.clone(), request.input.upload_id.clone());
        self.0.check_upload(&key, &id)?;
        if self.0.ignores_conditions.load(Ordering::SeqCst) {
            request.input.if_none_match = None;
        }
        let completed = self.0.files.complete_multipart_upload(request).await?;
        self.0.forget(&key, &id);
        Ok(completed)
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> Answer<AbortMultipartUploadOutput> {
        let (key, id) = (request.input.key.clone(), request.input.upload_id.clone());
        self.0.check_upload(&key, &id)?;
        let aborted = self.0.files.abort_multipart_upload(request).await?;
        self.0.forget(&key, &id);
        Ok(aborted)
    }

    async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> Answer<ListMultipartUploadsOutput> {
        let input = request.input;
        let prefix = input.prefix.unwrap_or_default();
        let after = (
            input.key_marker.unwrap_or_default(),
            input.upload_id_marker.unwrap_or_default(),
        );
        let uploads = self.0.uploads.lock().unwrap();
        let mut found = uploads
            .iter()
            .filter(|(at, _)| at.0.starts_with(&prefix) && **at > after)
            .map(|((key, id), begun)| MultipartUpload {
                key: Some(key.clone()),
                upload_id: Some(id.clone()),
                initiated: Some(Timestamp::from(*begun)),
                ..Default::default()
            });
        let page = usize::try_from(input.max_uploads.unwrap_or(1000)).unwrap();
        let listed: Vec<MultipartUpload> = found.by_ref().take(page).collect();
        let is_truncated = found.next().is_some();
        Ok(S3Response::new(ListMultipartUploadsOutput {
            next_key_marker: listed.last().and_then(|last| last.key.clone()),
            next_upload_id_marker: listed.last().and_then(|last| last.upload_id.clone()),
            uploads: Some(listed),
            is_truncated: Some(is_truncated),
            ..Default::default()
        }))
    }
}

/// The requests of one connection, one after the other.
async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    service: &S3Service,
    faults: &Mutex<Vec<(Asks, Fault, usize)>>,
    requests: &Mutex<Vec<Asks>>,
) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            match line.trim_end() {
                "" => break,
                line => lines.push(line.to_owned()),
            }
        }
        let mut words = lines[0].split(' ');
        let (method, target) = (words.next().unwrap(), words.next().unwrap());
        let headers: Vec<(&str, &str)> = lines[1..]
            .iter()
            .map(|line| line.split_once(':').unwrap())
            .map(|(name, value)| (name, value.trim()))
            .collect();
        let header = |wanted: &str| {
            let mut all = headers.iter();
            all.find(|(name, _)| name.eq_ignore_ascii_case(wanted))
                .map(|(_, value)| *value)
        };
        if header("expect").is_some() {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        let body = match (header("content-length"), header("transfer-encoding")) {
            (Some(length), _) => {
                let mut body = vec![0; length.parse().unwrap()];
                stream.read_exact(&mut body).await?;
                body
            }
            (None, Some(_)) => read_chunks(&mut stream).await?,
            (None, None) => Vec::new(),
        };
        let asks = what_is_asked(method, target);
        requests.lock().unwrap().push(asks);
        let fault = take(faults, asks);
        let answer = match fault {
            Some(Fault::Reset) => return Ok(()),
            Some(Fault::Stall) => {
                // until the client has had enough, which ends the connection
                let _ = tokio::time::timeout(Duration::from_secs(60), stream.read_u8()).await;
                return Ok(());
            }
            Some(Fault::InternalError) => Some(refusal(500, "InternalError")),
            Some(Fault::SlowDown) => Some(refusal(503, "SlowDown")),
            Some(Fault::ErrorAfterSuccess) => Some(refusal(200, "InternalError")),
            Some(Fault::Denied) => Some(refusal(403, "AccessDenied")),
            Some(Fault::LostReply | Fault::CutReply) | None => None,
        };
        if let Some((status, body)) = answer {
            let head = format!(
                "HTTP/1.1 {status} x\r\ncontent-type: application/xml\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            stream.write_all(head.as_bytes()).await?;
            if method != "HEAD" {
                stream.write_all(body.as_bytes()).await?;
            }
            stream.flush().await?;
            continue;
        }
        let mut request = HttpRequest::<()>::builder().method(method).uri(target);
        for (name, value) in &headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(Bytes::from(body))).unwrap();
        let response = service
            .call(request)
            .await
            .map_err(|_| io::ErrorKind::Other)?;
        let (parts, mut body) = response.into_parts();
        let collected = body.store_all_limited(1 << 30).await;
        let body = collected.map_err(|_| io::ErrorKind::Other)?;
        if fault == Some(Fault::LostReply) {
            return Ok(());
        }
        let mut head = format!("HTTP/1.1 {} x\r\n", parts.status.as_u16());
        for (name, value) in &parts.headers {
            let is_framing = matches!(name.as_str(), "transfer-encoding" | "connection")
                || name == "content-length" && method != "HEAD";
            if !is_framing {
                head.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
            }
        }
        if method != "HEAD" {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        if fault == Some(Fault::CutReply) {
            match body.is_empty() || method == "HEAD" {
                true => head.truncate(head.len() / 2),
                false => head.push('<'),
            }
            stream.write_all(head.as_bytes()).await?;
            return Ok(());
        }
        stream.write_all(head.as_bytes()).await?;
        if method != "HEAD" {
            stream.write_all(&body).await?;
        }
        stream.flush().await?;
    }
}

async fn read_chunks(stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let length = usize::from_str_radix(line.trim_end(), 16).unwrap();
        let from = body.len();
        body.resize(from + length, 0);
        stream.read_exact(&mut body[from..]).await?;
        line.clear();
        stream.read_line(&mut line).await?;
        if length == 0 {
            return Ok(body);
        }
    }
}

fn refusal(status: u16, code: &str) -> (u16, String) {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>As the test wants \
         it.</Message></Error>"
    );
    (status, body)
}

fn take(faults: &Mutex<Vec<(Asks, Fault, usize)>>, asks: Asks) -> Option<Fault> {
    let mut faults = faults.lock().unwrap();
    let (_, fault, times) = faults
        .iter_mut()
        .find(|(which, _, times)| *which == asks && *times > 0)?;
    *times -= 1;
    Some(*fault)
}

fn what_is_asked(method: &str, target: &str) -> Asks {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let has = |name: &str| {
        query
            .split('&')
            .any(|pair| pair.split('=').next() == Some(name))
    };
    let is_object = path.trim_matches('/').contains('/');
    match method {
        "PUT" if has("partNumber") => Asks::Part,
        "PUT" if is_object => Asks::Put,
        "POST" if has("uploads") => Asks::Begin,
        "POST" if has("uploadId") => Asks::Complete,
        "DELETE" if has("uploadId") => Asks::Abort,
        "DELETE" => Asks::Delete,
        "GET" if has("uploads") => Asks::Unfinished,
        "GET" if has("list-type") => Asks::List,
        "GET" => Asks::Get,
        "HEAD" if is_object => Asks::Head,
        _ => Asks::Other,
    }
}
