//! What stands in a folder before, during and after writing.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::*;
use crate::error::Error;

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn written(path: &Path) -> LocalTarget {
    let mut target = LocalTarget::create(path).unwrap();
    target.write_all(b"new").unwrap();
    target
}

fn folder_and_path() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.rdump");
    (folder, path)
}

#[test]
fn a_file_appears_when_committed() {
    for sync in [true, false] {
        let (folder, path) = folder_and_path();
        let target = written(&path);
        let temporary = target.temporary_path().file_name().unwrap().to_owned();
        let temporary = temporary.into_string().unwrap();
        assert!(
            temporary.contains("shop.rdump") && temporary.contains(&std::process::id().to_string()),
            "{temporary}"
        );
        assert_eq!(names(folder.path()), [temporary]);
        let check = |file: &LocalFile| {
            let mut bytes = [0; 3];
            file.read_exact_at(0, &mut bytes)?;
            assert_eq!((file.size()?, &bytes), (3, b"new"));
            Ok(())
        };
        target.commit(Replace::No, sync, check).unwrap();
        assert_eq!(names(folder.path()), ["shop.rdump"]);
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }
}

#[test]
fn nothing_is_left_of_what_was_not_committed() {
    let (folder, path) = folder_and_path();
    fs::write(&path, "old").unwrap();
    drop(written(&path));
    let error = written(&path)
        .commit(Replace::Yes, true, |_| Err(Error::new("bad")))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("rereading \"{}\": bad", path.display())
    );
    assert_eq!(names(folder.path()), ["shop.rdump"]);
    assert_eq!(fs::read(&path).unwrap(), b"old");
}

#[test]
fn an_existing_file_gives_way_only_if_told_to() {
    let (folder, path) = folder_and_path();
    fs::write(&path, "old").unwrap();
    let error = written(&path)
        .commit(Replace::No, true, |_| Ok(()))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("file \"{}\" exists already", path.display())
    );
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(names(folder.path()), ["shop.rdump"]);
    written(&path)
        .commit(Replace::Yes, true, |_| Ok(()))
        .unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert_eq!(names(folder.path()), ["shop.rdump"]);
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn an_archive_is_as_private_as_the_one_it_replaces() {
    let (folder, path) = folder_and_path();
    // a new one is what any new file is
    written(&path)
        .commit(Replace::Yes, false, |_| Ok(()))
        .unwrap();
    let plain = folder.path().join("plain");
    fs::write(&plain, "").unwrap();
    assert_eq!(mode(&path), mode(&plain));
    let root = nix::unistd::geteuid().is_root();
    for wanted in [0o600, 0o640, 0o604, 0o666, 0o400] {
        fs::set_permissions(&path, fs::Permissions::from_mode(wanted)).unwrap();
        if root {
            std::os::unix::fs::chown(&path, Some(4711), Some(4712)).unwrap();
        }
        let target = written(&path);
        assert_eq!(mode(target.temporary_path()), 0o600);
        let temporary = target.temporary_path().to_owned();
        let check = |_: &LocalFile| {
            assert_eq!(mode(&temporary), wanted);
            Ok(())
        };
        target.commit(Replace::Yes, true, check).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(mode(&path), wanted);
        let metadata = fs::metadata(&path).unwrap();
        if root {
            assert_eq!((metadata.uid(), metadata.gid()), (4711, 4712));
        }
    }
}

#[test]
fn two_writers_of_one_name_do_not_meet() {
    let (folder, path) = folder_and_path();
    let (one, two) = (written(&path), written(&path));
    assert_ne!(one.temporary_path(), two.temporary_path());
    one.commit(Replace::Yes, false, |_| Ok(())).unwrap();
    two.commit(Replace::Yes, false, |_| Ok(())).unwrap();
    assert_eq!(names(folder.path()), ["shop.rdump"]);
}

#[test]
fn what_cannot_be_created_says_why() {
    let (folder, path) = folder_and_path();
    let message = |path: &Path| LocalTarget::create(path).unwrap_err().to_string();
    let missing = folder.path().join("missing/shop.rdump");
    assert_eq!(
        message(&missing),
        format!(
            "could not create file \"{}\": folder \"{}\" does not exist",
            missing.display(),
            folder.path().join("missing").display()
        )
    );
    assert_eq!(
        message(folder.path()),
        format!(
            "could not create file \"{}\": it is a directory",
            folder.path().display()
        )
    );
    fs::write(&path, "").unwrap();
    let below = path.join("x");
    assert_eq!(
        message(&below),
        format!(
            "could not create file \"{}\": \"{}\" is not a folder",
            below.display(),
            path.display()
        )
    );
}

#[test]
fn links_are_followed_and_devices_left_alone() {
    let (folder, path) = folder_and_path();
    let elsewhere = folder.path().join("elsewhere.rdump");
    fs::write(&elsewhere, "old").unwrap();
    std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
    written(&path)
        .commit(Replace::Yes, true, |_| Ok(()))
        .unwrap();
    assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
    assert_eq!(fs::read(&elsewhere).unwrap(), b"new");
    assert_eq!(
        LocalTarget::create("/dev/null").unwrap_err().to_string(),
        "could not create file \"/dev/null\": it is not a regular file"
    );
}

#[test]
fn what_cannot_be_opened_says_why() {
    let (folder, path) = folder_and_path();
    let message = |path: &Path| LocalFile::open(path).unwrap_err().to_string();
    assert_eq!(
        message(&path),
        format!(
            "could not open file \"{}\": No such file or directory",
            path.display()
        )
    );
    assert!(message(folder.path()).ends_with("it is a directory"));
    assert!(message(Path::new("/dev/null")).ends_with("it is not a regular file"));
}

/// A link may lead to where no file is yet, also over others.
#[test]
fn links_to_nothing_are_followed() {
    let (folder, path) = folder_and_path();
    let to = folder.path().join("elsewhere");
    fs::create_dir(&to).unwrap();
    std::os::unix::fs::symlink("elsewhere/next", &path).unwrap();
    std::os::unix::fs::symlink("file", to.join("next")).unwrap();
    let target = written(&path);
    target.commit(Replace::Yes, false, |_| Ok(())).unwrap();
    assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
    assert_eq!(fs::read(to.join("file")).unwrap(), b"new");
    assert_eq!(names(&to), ["file", "next"]);

    // in circles, or to no folder
    fs::remove_file(to.join("file")).unwrap();
    std::os::unix::fs::symlink("next", to.join("file")).unwrap();
    let error = LocalTarget::create(&path).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with(": Too many levels of symbolic links"),
        "{error}"
    );
    fs::remove_file(to.join("file")).unwrap();
    std::os::unix::fs::symlink("missing/file", to.join("file")).unwrap();
    let error = LocalTarget::create(&path).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "could not create file \"{0}/missing/file\": folder \"{0}/missing\" does not exist",
            to.display()
        )
    );
}

/// A name as long as the system takes is one that the file gets; a longer one is told at once.
#[test]
fn long_names() {
    let (folder, _) = folder_and_path();
    for name in ["n".repeat(255), "\u{fc}".repeat(127), "\u{20ac}".repeat(85)] {
        let target = written(&folder.path().join(&name));
        let temporary = target.temporary_path().file_name().unwrap().to_owned();
        assert!(temporary.into_string().unwrap().ends_with(".0.partial"));
        target.commit(Replace::No, false, |_| Ok(())).unwrap();
        assert_eq!(names(folder.path()), [name.as_str()]);
        fs::remove_file(folder.path().join(&name)).unwrap();
    }
    let error = LocalTarget::create(folder.path().join("n".repeat(256))).unwrap_err();
    assert!(
        error.to_string().ends_with("\": File name too long"),
        "{error}"
    );
    assert_eq!(
        error.hint_text(),
        Some("give a shorter one: most file systems take names of up to 255 bytes")
    );
    assert!(names(folder.path()).is_empty());
}

/// Where the system takes no longer name, the temporary one is no longer than the final one. The
/// limit here is that of the whole path.
#[test]
fn long_paths() {
    const PATH_MAX: usize = 4095;
    let (root, _) = folder_and_path();
    let mut folder = root.path().to_owned();
    let left = |folder: &Path| PATH_MAX - folder.as_os_str().len() - 1;
    while left(&folder) > 400 {
        folder.push("f".repeat(200));
    }
    fs::create_dir_all(&folder).unwrap();
    let name = "n".repeat(left(&folder) - 200);
    folder.push(&name);
    fs::create_dir(&folder).unwrap();
    let longest = left(&folder);
    for length in [longest, longest - 10] {
        let name = "n".repeat(length);
        let target = written(&folder.join(&name));
        let temporary = target.temporary_path().file_name().unwrap().to_owned();
        let temporary = temporary.into_string().unwrap();
        assert_eq!(temporary.len(), length);
        assert!(
            temporary.starts_with(".nnn") && temporary.ends_with(".0.partial"),
            "{temporary}"
        );
        target.commit(Replace::No, false, |_| Ok(())).unwrap();
        assert_eq!(names(&folder), [name.as_str()]);
        fs::remove_file(folder.join(&name)).unwrap();
    }
}

/// The rename at the end would be the first to fail.
#[test]
fn names_of_folders() {
    let (folder, path) = folder_and_path();
    fs::write(&path, "old").unwrap();
    let link = folder.path().join("link");
    std::os::unix::fs::symlink("missing/", &link).unwrap();
    let at = folder.path().display();
    let missing = format!("folder \"{at}/missing\" does not exist");
    let hint = "create it and give the name of a file in it, or leave out the slash at its end";
    for (given, created, problem, hint) in [
        ("missing/", "missing/", missing.as_str(), hint),
        ("missing/.", "missing/.", &missing, hint),
        ("missing//", "missing//", &missing, hint),
        ("link", "missing/", &missing, hint),
        (
            "shop.rdump/",
            "shop.rdump/",
            &format!("\"{at}/shop.rdump\" is not a folder"),
            "leave out the slash at its end",
        ),
        ("", "", "it is a directory", "give the name of a file"),
    ] {
        let error = LocalTarget::create(format!("{at}/{given}")).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("could not create file \"{at}/{created}\": {problem}")
        );
        assert_eq!(error.hint_text(), Some(hint));
    }
    assert_eq!(names(folder.path()), ["link", "shop.rdump"]);
    assert_eq!(fs::read(&path).unwrap(), b"old");
}

/// /dev/full is a disk that is always full.
#[test]
fn a_full_disk_is_named_with_what_was_written() {
    let (_folder, path) = folder_and_path();
    let mut target = written(&path);
    target.divert(
        fs::OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .unwrap(),
    );
    let error = write_error(target.write_all(b"more").unwrap_err());
    assert_eq!(
        error.to_string(),
        format!(
            "could not write to file \"{}\" after 3 bytes: No space left on device",
            path.display()
        )
    );
    assert_eq!(
        error.hint_text(),
        Some("free some space or choose another place; nothing was left behind")
    );
}

#[test]
fn a_file_that_becomes_shorter_says_so() {
    let (_folder, path) = folder_and_path();
    fs::write(&path, "abcdef").unwrap();
    let file = LocalFile::open(&path).unwrap();
    let read = || file.read_exact_at(2, &mut [0; 3]);
    read().unwrap();
    let writer = fs::OpenOptions::new().write(true).open(&path).unwrap();
    writer.set_len(4).unwrap();
    let error = read().unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "could not read 3 bytes at offset 2 of file \"{}\": it has become shorter: 4 bytes of 6",
            path.display()
        )
    );
    assert_eq!(
        error.hint_text(),
        Some("another program has cut it or writes to it: see which, or use another copy")
    );
}

#[test]
fn reads_past_the_end_fail() {
    let (_folder, path) = folder_and_path();
    fs::write(&path, "abc").unwrap();
    let file = LocalFile::open(&path).unwrap();
    let mut bytes = [0; 2];
    for source in [&file as &dyn ReadAt, &b"abc".to_vec()] {
        source.read_exact_at(1, &mut bytes).unwrap();
        assert_eq!(&bytes, b"bc");
        assert!(source.read_exact_at(2, &mut bytes).is_err());
        assert!(source.read_exact_at(u64::MAX, &mut bytes).is_err());
    }
}

#[test]
fn no_way_of_renaming_replaces() {
    use super::target::{create_and_rename, rename_without_links, rename_without_replacing};
    for rename in [
        rename_without_replacing,
        rename_without_links,
        create_and_rename,
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::write(&from, "new").unwrap();
        fs::write(&to, "old").unwrap();
        let error = rename(&from, &to).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&to).unwrap(), b"old");
        fs::remove_file(&to).unwrap();
        rename(&from, &to).unwrap();
        assert_eq!(names(folder.path()), ["to"]);
        assert_eq!(fs::read(&to).unwrap(), b"new");
        // without one to rename, nothing is made
        let gone = folder.path().join("gone");
        assert!(rename(&from, &gone).is_err());
        assert_eq!(names(folder.path()), ["to"]);
    }
}
