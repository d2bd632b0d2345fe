use std::path::PathBuf;

use crate::storage::s3::S3;
use crate::storage::s3::config::{Checksum, Config, ObjectLock, PARAMETERS};

fn error(url: &str) -> crate::Error {
    Config::parse(url).unwrap_err()
}

#[test]
fn a_url_says_all_that_matters() {
    let plain = Config::parse("s3://bucket").unwrap();
    assert_eq!(
        (plain.bucket.as_str(), plain.prefix.as_str()),
        ("bucket", "")
    );
    assert_eq!((plain.part_size, plain.concurrency), (8 << 20, 4));
    assert_eq!((plain.create_bucket, plain.part_checksum()), (false, None));

    let all = Config::parse(
        "s3://my.bucket/some/prefix/?endpoint=https%3A%2F%2Fminio.example:9000&region=eu-1&path-style=false\
         &profile=backup&ca=/etc/ca%20of%20ours.pem&storage-class=STANDARD_IA&sse=aws:kms&sse-kms-key-id=arn:aws:kms:x\
         &object-lock-mode=governance&object-lock-days=30&checksum=crc32c&part-size=16MiB&concurrency=8\
         &create-bucket=true",
    )
    .unwrap();
    assert_eq!(
        (all.bucket.as_str(), all.prefix.as_str()),
        ("my.bucket", "some/prefix/")
    );
    assert_eq!(all.endpoint.as_deref(), Some("https://minio.example:9000"));
    assert_eq!(all.region.as_deref(), Some("eu-1"));
    assert_eq!(all.path_style, Some(false));
    assert_eq!(all.profile.as_deref(), Some("backup"));
    assert_eq!(all.ca, Some(PathBuf::from("/etc/ca of ours.pem")));
    assert_eq!(all.storage_class.as_deref(), Some("STANDARD_IA"));
    assert_eq!(all.sse.as_deref(), Some("aws:kms"));
    assert_eq!(all.sse_kms_key_id.as_deref(), Some("arn:aws:kms:x"));
    let lock = ObjectLock {
        mode: "GOVERNANCE".to_owned(),
        days: 30,
    };
    assert_eq!(all.object_lock, Some(lock));
    assert_eq!(all.part_checksum(), Some(Checksum::Crc32c));
    assert_eq!((all.part_size, all.concurrency), (16 << 20, 8));
    assert!(all.create_bucket);
}

#[test]
fn a_lock_brings_a_checksum() {
    let locked = "s3://bucket?object-lock-mode=COMPLIANCE&object-lock-days=1";
    let of = |url: &str| Config::parse(url).unwrap().part_checksum();
    assert_eq!(of(locked), Some(Checksum::Crc32));
    assert_eq!(
        of(&format!("{locked}&checksum=sha256")),
        Some(Checksum::Sha256)
    );
    assert_eq!(of(&format!("{locked}&checksum=none")), None);
}

#[test]
fn an_unknown_parameter_lists_those_there_are() {
    let error = error("s3://bucket?path_style=true");
    assert_eq!(
        error.to_string(),
        "unknown parameter \"path_style\" in the URL of the store"
    );
    assert_eq!(error.exit_code(), 2);
    assert_eq!(
        error.hint_text(),
        Some(
            "the parameters are endpoint, region, path-style, profile, ca, storage-class, sse, sse-kms-key-id, \
             object-lock-mode, object-lock-days, checksum, part-size, concurrency, create-bucket"
        )
    );
}

#[test]
fn wrong_values_are_usage_errors() {
    for url in [
        "s3://",
        "s3:///prefix",
        "s3://b",
        "s3://bucket with spaces",
        "s3://bucket/a//b",
        "s3://bucket/../x",
        &format!("s3://bucket/{}", "abcd/".repeat(103)),
        "s3://bucket?region=",
        "s3://bucket?region",
        "s3://bucket?region=a&region=b",
        "s3://bucket?endpoint=minio:9000",
        "s3://bucket?endpoint=ftp://minio",
        "s3://bucket?endpoint=https://",
        "s3://bucket?path-style=yes",
        "s3://bucket?create-bucket=1",
        "s3://bucket?sse=rot13",
        "s3://bucket?sse-kms-key-id=x",
        "s3://bucket?sse=AES256&sse-kms-key-id=x",
        "s3://bucket?object-lock-mode=GOVERNANCE",
        "s3://bucket?object-lock-days=3",
        "s3://bucket?object-lock-mode=soft&object-lock-days=3",
        "s3://bucket?object-lock-mode=GOVERNANCE&object-lock-days=0",
        "s3://bucket?checksum=md5",
        "s3://bucket?part-size=1MiB",
        "s3://bucket?part-size=8MB",
        "s3://bucket?part-size=99999999999999999999MiB",
        "s3://bucket?part-size=18446744073709551615MiB",
        "s3://bucket?concurrency=0",
        "s3://bucket?concurrency=65",
        "s3://bucket?region=%4",
        "s3://bucket?region=%zz",
        "s3://bucket?region=%ff",
    ] {
        assert_eq!(error(url).exit_code(), 2, "{url}");
    }
}

#[test]
fn secrets_are_refused_and_not_repeated() {
    for url in [
        "s3://AKID:canary@bucket/prefix",
        "s3://canary@bucket",
        "s3://AKID:canary@host/bucket?x=y",
        "s3://bucket?endpoint=https://AKID:canary@host",
        "s3://bucket?endpoint=https%3A%2F%2FAKID%3Acanary%40host",
    ] {
        let error = error(url);
        assert!(
            error.hint_text().unwrap().contains("AWS_SECRET_ACCESS_KEY"),
            "{url}"
        );
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
    }
    let error = error("s3://bucket?secret-access-key=canary");
    assert!(!format!("{error:?}").contains("canary"), "{error:?}");
}

#[tokio::test]
async fn certificates_are_read_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let open = async |name: &str, contents: Option<&[u8]>| {
        let path = folder.path().join(name);
        if let Some(contents) = contents {
            std::fs::write(&path, contents).unwrap();
        }
        let url = format!(
            "s3://bucket?endpoint=https://x.example&ca={}",
            path.display()
        );
        let problem = S3::open(&url).await.map_err(|error| error.to_string());
        problem.map_err(|text| text.replace(&folder.path().display().to_string(), ""))
    };
    let certified = rcgen::generate_simple_self_signed(["x.example".to_owned()]).unwrap();
    open("ca.pem", Some(certified.cert.pem().as_bytes()))
        .await
        .unwrap();
    for (name, contents, problem) in [
        ("missing", None, "No such file or directory"),
        ("empty", Some(&b""[..]), "it holds none in the PEM format"),
        (
            "text",
            Some(b"certificate"),
            "it holds none in the PEM format",
        ),
    ] {
        assert_eq!(
            open(name, contents).await.unwrap_err(),
            format!("could not read certificates from file \"/{name}\": {problem}")
        );
    }
    let broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(open("broken", Some(broken)).await.is_err());
}

#[test]
fn the_documentation_has_every_parameter() {
    let page = include_str!("../../../../docs/s3.md");
    for name in PARAMETERS {
        assert!(page.contains(&format!("| `{name}` |")), "{name}");
    }
}
