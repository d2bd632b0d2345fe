//! Reading certificates and keys, with libpq's defaults and permission checks (initialize_SSL in
//! fe-secure-openssl.c).

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use webpki::{CertRevocationList, OwnedCertRevocationList};

use super::TlsFailure;
use super::verifier::Trust;
use crate::postgres::connect::plain;
use crate::postgres::conninfo::{
    ClientCertificateMode, OptionalFile, RootCertificates, SslMode, TlsOptions,
};

/// Larger files are no certificates.
const LARGEST_FILE: u64 = 16 << 20;

/// The certificates to verify the server against; `None` if it need not be verified. A root file
/// that exists is used even where the mode does not ask for verification, as in libpq.
pub fn load_trust(options: &TlsOptions) -> Result<Option<Trust>, TlsFailure> {
    // Where a file is named and TLS required, libpq goes on unverified if only "require" is asked
    // for; who names a root wants it used, so that is an error here.
    let may_be_missing = match options.roots {
        RootCertificates::File(_) => options.mode < SslMode::Require,
        _ => options.mode < SslMode::VerifyCa,
    };
    let certificates = match &options.roots {
        RootCertificates::System => system_certificates()?,
        RootCertificates::File(path) | RootCertificates::DefaultFile(path) => match read(path) {
            Ok(contents) => parse_certificates(&contents)
                .ok()
                .filter(|certificates| !certificates.is_empty())
                .ok_or_else(|| {
                    TlsFailure::new(format!(
                        "could not read root certificate file \"{}\": no certificate in PEM \
                             form found",
                        path.display()
                    ))
                })?,
            Err(error) if is_missing(&error) && may_be_missing => return Ok(None),
            Err(error) if is_missing(&error) => {
                return Err(TlsFailure::new(format!(
                    "root certificate file \"{}\" does not exist",
                    path.display()
                ))
                .hint(
                    "name the root certificate of the server with sslrootcert, or use the \
                         system's trusted roots with sslrootcert=system",
                ));
            }
            Err(error) => {
                return Err(TlsFailure::new(format!(
                    "could not read root certificate file \"{}\": {}",
                    path.display(),
                    plain(&error)
                )));
            }
        },
        RootCertificates::Unknown if options.mode < SslMode::VerifyCa => return Ok(None),
        RootCertificates::Unknown => {
            return Err(TlsFailure::new(
                "could not get home directory to locate root certificate file",
            )
            .hint("name the root certificate of the server with sslrootcert"));
        }
    };
    let mut roots = RootCertStore::empty();
    // Certificates that cannot be used as anchors may still be the server's own.
    roots.add_parsable_certificates(certificates.iter().cloned());
    Ok(Some(Trust {
        roots,
        certificates,
        revocation_lists: load_revocation_lists(options)?,
    }))
}

fn system_certificates() -> Result<Vec<CertificateDer<'static>>, TlsFailure> {
    let loaded = rustls_native_certs::load_native_certs();
    if loaded.certs.is_empty() {
        let reason = loaded
            .errors
            .first()
            .map_or_else(|| "none found".to_owned(), ToString::to_string);
        return Err(
            TlsFailure::new(format!("could not load system root certificates: {reason}"))
                .hint("install the system's package of CA certificates, or set SSL_CERT_FILE"),
        );
    }
    Ok(loaded.certs)
}

fn load_revocation_lists(
    options: &TlsOptions,
) -> Result<Vec<CertRevocationList<'static>>, TlsFailure> {
    let Some(OptionalFile { path, named }) = &options.revocation_list else {
        return Ok(Vec::new());
    };
    let failed = |reason: String| {
        TlsFailure::new(format!(
            "could not read certificate revocation list \"{}\": {reason}",
            path.display()
        ))
    };
    let contents = match read(path) {
        Ok(contents) => contents,
        // libpq goes on without the list; a list that was asked for must be there.
        Err(error) if is_missing(&error) && !named => return Ok(Vec::new()),
        Err(error) => return Err(failed(plain(&error))),
    };
    let lists = CertificateRevocationListDer::pem_slice_iter(&contents)
        .map(|list| {
            let list = list.map_err(|error| failed(error.to_string()))?;
            OwnedCertRevocationList::from_der(&list)
                .map(CertRevocationList::from)
                .map_err(|error| failed(error.to_string()))
        })
        .collect::<Result<Vec<_>, _>>()?;
    if lists.is_empty() {
        return Err(failed("no list in PEM form found".to_owned()));
    }
    Ok(lists)
}

/// The client's certificate with its key, if there is one.
pub fn load_client_key(
    options: &TlsOptions,
    provider: &CryptoProvider,
) -> Result<Option<CertifiedKey>, TlsFailure> {
    let Some(certificate) = options
        .certificate
        .as_ref()
        .filter(|_| options.certificate_mode != ClientCertificateMode::Disable)
    else {
        return Ok(None);
    };
    let failed = |reason: String| {
        TlsFailure::new(format!(
            "could not read certificate file \"{}\": {reason}",
            certificate.path.display()
        ))
    };
    let chain = match read(&certificate.path) {
        Ok(contents) => parse_certificates(&contents).map_err(failed)?,
        // Even if it was named: naming a file that does not exist is how people turn the default
        // certificate off.
        Err(error) if is_missing(&error) => return Ok(None),
        Err(error) => return Err(failed(plain(&error))),
    };
    if chain.is_empty() {
        return Err(failed("no certificate in PEM form found".to_owned()));
    }
    let Some(OptionalFile { path, .. }) = &options.key else {
        return Err(
            TlsFailure::new("certificate present, but no private key file is known")
                .hint("name it with sslkey"),
        );
    };
    let key = provider
        .key_provider
        .load_private_key(read_private_key(path)?)
        .map_err(|error| {
            TlsFailure::new(format!(
                "could not load private key file \"{}\": {error}",
                path.display()
            ))
        })?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) => {
            Err(TlsFailure::new(format!(
                "certificate \"{}\" does not match private key file \"{}\"",
                certificate.path.display(),
                path.display()
            )))
        }
        // Whether they match may be unknown: then the server will tell.
        _ => Ok(Some(certified)),
    }
}

/// Reads a private key that others cannot read: as libpq, 0600 or less, or 0640 if root owns it.
fn read_private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsFailure> {
    let metadata = std::fs::metadata(path).map_err(|error| {
        if is_missing(&error) {
            TlsFailure::new(format!(
                "certificate present, but not private key file \"{}\"",
                path.display()
            ))
        } else {
            TlsFailure::new(format!(
                "could not stat private key file \"{}\": {}",
                path.display(),
                plain(&error)
            ))
        }
    })?;
    if !metadata.is_file() {
        return Err(TlsFailure::new(format!(
            "private key file \"{}\" is not a regular file",
            path.display()
        )));
    }
    let forbidden = if metadata.uid() == 0 { 0o037 } else { 0o077 };
    if metadata.mode() & forbidden != 0 {
        return Err(TlsFailure::new(format!(
            "private key file \"{}\" has group or world access",
            path.display()
        ))
        .hint(
            "file must have permissions u=rw (0600) or less if owned by the current user, or \
             permissions u=rw,g=r (0640) or less if owned by root",
        ));
    }
    let contents = read(path).map_err(|error| {
        TlsFailure::new(format!(
            "could not load private key file \"{}\": {}",
            path.display(),
            plain(&error)
        ))
    })?;
    PrivateKeyDer::from_pem_slice(&contents)
        .ok()
        .or_else(|| PrivateKeyDer::try_from(contents.clone()).ok())
        .ok_or_else(|| {
            if contents.windows(9).any(|window| window == b"ENCRYPTED") {
                TlsFailure::new(format!(
                    "private key file \"{}\" is encrypted, which is not supported",
                    path.display()
                ))
                .hint("decrypt the key with: openssl pkey -in KEY -out NEWKEY")
            } else {
                TlsFailure::new(format!(
                    "could not load private key file \"{}\": no private key found",
                    path.display()
                ))
            }
        })
}

fn parse_certificates(contents: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_slice_iter(contents)
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    if metadata.len() > LARGEST_FILE {
        return Err(io::Error::other("file too large"));
    }
    std::fs::read(path)
}

fn is_missing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}
