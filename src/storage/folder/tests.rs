use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::Folder;
use crate::error::Kind;
use crate::storage::conformance::{PAGE, Subject, conformance, key};
use crate::storage::object::{Created, Limits, Storage, Unfinished, list_all};

async fn subject() -> Option<Subject> {
    let root = tempfile::tempdir().unwrap();
    let limits = Limits {
        part_size: 64,
        parts: 100,
        concurrency: 3,
    };
    let folder = Folder::new(root.path()).with_limits(limits).with_page(PAGE);
    Some(Subject {
        storage: Arc::new(folder),
        keep: Box::new(root),
    })
}

conformance!(subject());

fn folder() -> (tempfile::TempDir, Folder) {
    let root = tempfile::tempdir().unwrap();
    let folder = Folder::new(root.path());
    (root, folder)
}

async fn listed(folder: &Folder, prefix: &str) -> Vec<String> {
    let objects = list_all(folder, prefix).await.unwrap();
    objects
        .iter()
        .map(|object| object.key.to_string())
        .collect()
}

fn files(root: &Path) -> Vec<String> {
    let names = fs::read_dir(root).unwrap();
    let mut names: Vec<String> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_missing_root_is_named_and_not_made() {
    let (root, _) = folder();
    let missing = root.path().join("mount/repository");
    let folder = Folder::new(&missing);
    let key = key("a/b");
    let bytes = || Bytes::from("x");
    let errors = [
        folder.create(&key, bytes()).await.unwrap_err(),
        folder.put(&key, bytes()).await.unwrap_err(),
        folder.get(&key, 1).await.unwrap_err(),
        folder.read(&key, 0..1).await.unwrap_err(),
        folder.head(&key).await.unwrap_err(),
        folder.list("", None).await.unwrap_err(),
        folder.list("a/b/c", None).await.unwrap_err(),
        folder.delete(&key).await.unwrap_err(),
        folder.begin(&key).await.unwrap_err(),
        folder.unfinished("").await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(
            error.to_string(),
            format!("folder \"{}\" does not exist", missing.display())
        );
        assert_eq!(error.hint_text(), Some("is the volume mounted?"));
    }
    assert!(files(root.path()).is_empty());
    for _ in 0..2 {
        folder.create_root().unwrap();
        assert!(missing.is_dir());
    }
    fs::write(root.path().join("file"), "").unwrap();
    let file = Folder::new(root.path().join("file"));
    assert!(file.create_root().is_err());
    let error = file.list("", None).await.unwrap_err().to_string();
    assert!(error.ends_with("/file\" is not a folder"), "{error}");
}

#[tokio::test]
async fn what_is_no_key_is_passed_over() {
    let (root, folder) = folder();
    let path = root.path();
    folder.put(&key("a/b"), "x".into()).await.unwrap();
    for name in [".hidden", "a/.b.partial", "white space", "a/ä"] {
        fs::write(path.join(name), "x").unwrap();
    }
    for name in ["lost+found", ".snapshot/a", "not a key", "empty"] {
        fs::create_dir_all(path.join(name)).unwrap();
        fs::write(path.join(name).join("c"), "x").unwrap();
    }
    fs::remove_file(path.join("empty/c")).unwrap();
    use std::os::unix::ffi::OsStrExt;
    fs::write(path.join(std::ffi::OsStr::from_bytes(b"\xff")), "x").unwrap();
    assert_eq!(listed(&folder, "").await, ["a/b"]);
    assert_eq!(folder.unfinished("").await.unwrap(), []);
}

#[tokio::test]
async fn a_pipe_is_no_object() {
    let (root, folder) = folder();
    let pipe = root.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(folder.get(&key("pipe"), 9).await.unwrap(), None);
    assert_eq!(folder.head(&key("pipe")).await.unwrap(), None);
    assert_eq!(listed(&folder, "").await, Vec::<String>::new());
}

#[tokio::test]
async fn links_to_files_are_files_and_links_to_folders_are_refused() {
    let (root, folder) = folder();
    let path = root.path();
    folder.put(&key("a/b"), "abc".into()).await.unwrap();
    symlink("a/b", path.join("link")).unwrap();
    symlink("nothing", path.join("dangling")).unwrap();
    assert_eq!(listed(&folder, "").await, ["a/b", "link"]);
    assert_eq!(folder.get(&key("link"), 9).await.unwrap().unwrap(), "abc");
    // the link is replaced, not what it leads to
    folder.put(&key("link"), "new".into()).await.unwrap();
    assert_eq!(folder.get(&key("a/b"), 9).await.unwrap().unwrap(), "abc");
    // also one to nothing takes its key
    let created = folder.create(&key("dangling"), "x".into()).await.unwrap();
    assert_eq!(created, Created::Exists);

    symlink(path, path.join("circle")).unwrap();
    let error = folder.list("", None).await.unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("/circle\" is a symbolic link to a folder"),
        "{error}"
    );
    assert_eq!(listed(&folder, "a/").await, ["a/b"]);
}

#[tokio::test]
async fn folders_that_become_empty_go() {
    let (root, folder) = folder();
    folder.put(&key("a/b/c"), "x".into()).await.unwrap();
    folder.put(&key("a/d"), "x".into()).await.unwrap();
    folder.delete(&key("a/b/c")).await.unwrap();
    assert_eq!(files(&root.path().join("a")), ["d"]);
    folder.delete(&key("a/d")).await.unwrap();
    assert!(files(root.path()).is_empty() && root.path().is_dir());

    let upload = folder.begin(&key("x/y/z")).await.unwrap();
    assert_eq!(files(root.path()), ["x"]);
    upload.abort().await.unwrap();
    assert!(files(root.path()).is_empty());
}

#[tokio::test]
async fn a_folder_in_the_place_of_an_object_is_an_error() {
    let (_root, folder) = folder();
    folder.put(&key("a/b"), "x".into()).await.unwrap();
    for error in [
        folder.create(&key("a"), "x".into()).await.unwrap_err(),
        folder.put(&key("a"), "x".into()).await.unwrap_err(),
        folder.begin(&key("a")).await.unwrap_err(),
        folder.create(&key("a/b/c"), "x".into()).await.unwrap_err(),
    ] {
        assert!(error.to_string().starts_with("could not "), "{error}");
    }
    assert_eq!(listed(&folder, "").await, ["a/b"]);
    assert_eq!(folder.unfinished("").await.unwrap(), []);
}

/// Root may do everything, so only where the tests run as another user.
#[tokio::test]
async fn what_the_user_may_not_do_is_denied() {
    if nix::unistd::geteuid().is_root() {
        return;
    }
    let (root, folder) = folder();
    folder.put(&key("a/b"), "x".into()).await.unwrap();
    let inner = root.path().join("a");
    fs::set_permissions(&inner, fs::Permissions::from_mode(0o555)).unwrap();
    for error in [
        folder.create(&key("a/c"), "x".into()).await.unwrap_err(),
        folder.delete(&key("a/b")).await.unwrap_err(),
        folder.begin(&key("a/c")).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), Kind::Denied, "{error}");
        assert!(error.to_string().contains("Permission denied"), "{error}");
    }
    fs::set_permissions(&inner, fs::Permissions::from_mode(0o000)).unwrap();
    let error = folder.list("", None).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Denied, "{error}");
    fs::set_permissions(&inner, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn errors_of_the_system_are_told_apart() {
    use nix::errno::Errno;
    for (errno, kind, hint) in [
        (
            Errno::EACCES,
            Kind::Denied,
            Some("which user does this run as, and whose are the file and its folders?"),
        ),
        (
            Errno::EPERM,
            Kind::Denied,
            Some("which user does this run as, and whose are the file and its folders?"),
        ),
        (Errno::EROFS, Kind::Denied, None),
        (
            Errno::ENOSPC,
            Kind::Other,
            Some("free some space or choose another place"),
        ),
        (
            Errno::EDQUOT,
            Kind::Other,
            Some("free some space or choose another place"),
        ),
        (Errno::EIO, Kind::Other, None),
    ] {
        let system = std::io::Error::from_raw_os_error(errno as i32);
        let error = super::failed("write to file", Path::new("/x"), &system);
        assert_eq!((error.kind(), error.hint_text()), (kind, hint), "{errno}");
        assert_eq!(
            error.to_string(),
            format!(
                "could not write to file \"/x\": {}",
                crate::storage::local::describe(&system)
            )
        );
    }
}

/// What a listing says is not trusted with a path.
#[tokio::test]
async fn uploads_are_named_by_the_store_alone() {
    let (root, folder) = folder();
    fs::write(root.path().join("a"), "x").unwrap();
    for upload in ["", "../../a", "x", &"0".repeat(33)] {
        let forged = Unfinished {
            key: key("a"),
            upload: upload.to_owned(),
            begun: std::time::SystemTime::UNIX_EPOCH,
        };
        assert!(folder.discard(&forged).await.is_err(), "{upload}");
    }
    assert_eq!(files(root.path()), ["a"]);
}

#[tokio::test]
async fn temporary_files_lie_beside_the_object() {
    let (root, folder) = folder();
    let upload = folder.begin(&key("a/b")).await.unwrap();
    let names = files(&root.path().join("a"));
    let [name] = names.as_slice() else {
        panic!("{names:?}");
    };
    let id = name
        .strip_prefix(".b.")
        .and_then(|name| name.strip_suffix(".partial"));
    let unfinished = folder.unfinished("").await.unwrap();
    assert_eq!(Some(unfinished[0].upload.as_str()), id);
    drop(upload);
    assert!(files(&root.path().join("a")).is_empty());
}
