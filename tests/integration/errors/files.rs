//! Archives that cannot be written, or are none.

use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use super::{
    Folder, Other, add_noise, assert_says, expect, expect_rdump, on_small_disk, public_copy,
    small_database, snapshot,
};
use crate::support::{self, rdump_command, server};

#[test]
fn a_read_only_folder() {
    let source = small_database(18, "read_only");
    let folder = Folder::new();
    let file = folder.file("archive.rdump");
    let command = rdump_command(&["snapshot", "-d", &source.conninfo(), "-f", &file]);
    let at = folder.path().display();
    let finished = expect(
        &mut on_small_disk(folder.path(), "1m", "mount -o remount,ro \"$0\"", &command),
        1,
        &format!(
            "rdump: error: could not create file \"{file}\": folder \"{at}\" is on a read-only \
             file system\n\
             rdump: hint: choose another folder\n"
        ),
    );
    assert_eq!(finished.text(), "");
}

#[test]
fn a_folder_of_somebody_else() {
    let source = small_database(18, "not_mine");
    let folder = Folder::new();
    let program = public_copy(&folder);
    let theirs = folder.path().join("theirs");
    std::fs::create_dir(&theirs).expect("making a folder");
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o555);
    std::fs::set_permissions(&theirs, permissions).expect("closing the folder");
    let file = theirs.join("archive.rdump");
    let mut command = Command::new(program);
    command.args(["snapshot", "-d", &source.conninfo(), "-f"]);
    command.arg(&file).env("HOME", "/nonexistent");
    if nix::unistd::geteuid().is_root() {
        // permission bits do not bind root
        command.uid(65534).gid(65534);
    }
    expect(
        &mut command,
        1,
        &format!(
            "rdump: error: could not create file \"{}\": no permission to write in folder \"{}\"\n\
             rdump: hint: the file is first written under another name in the same folder, so \
             the folder must be writable\n",
            file.display(),
            theirs.display()
        ),
    );
}

#[test]
fn a_missing_folder() {
    let source = small_database(18, "no_folder");
    let folder = Folder::new();
    let file = folder.file("missing/archive.rdump");
    expect_rdump(
        &["snapshot", "-d", &source.conninfo(), "-f", &file],
        1,
        &format!(
            "rdump: error: could not create file \"{file}\": folder \"{}\" does not exist\n\
             rdump: hint: create it first\n",
            folder.file("missing")
        ),
    );
    assert!(folder.names().is_empty(), "{:?}", folder.names());
}

/// Told before a connection is made, or the archive is read through.
#[test]
fn a_name_that_only_a_folder_may_have() {
    let source = small_database(18, "folder_name");
    let folder = Folder::new();
    let archive = snapshot(&source, &folder);
    let (missing, itself) = (folder.file("missing/"), format!("{archive}/"));
    let conninfo = source.conninfo();
    let take = ["snapshot", "-d", &conninfo, "-f"];
    let script = ["sql", &archive, "-f"];
    for command in [&take[..], &script[..]] {
        expect_rdump(
            &[command, &[&missing]].concat(),
            1,
            &format!(
                "rdump: error: could not create file \"{missing}\": folder \"{}\" does not exist\n\
                 rdump: hint: create it and give the name of a file in it, or leave out the slash \
                 at its end\n",
                folder.file("missing")
            ),
        );
        expect_rdump(
            &[command, &[&itself]].concat(),
            1,
            &format!(
                "rdump: error: could not create file \"{itself}\": \"{archive}\" is not a folder\n\
                 rdump: hint: leave out the slash at its end\n"
            ),
        );
    }
    assert_eq!(folder.names(), ["archive.rdump"]);
    support::rdump_ok(&["verify", "-q", &archive]);
}

/// `ulimit -f`: the signal that comes with it does not end the process.
#[test]
fn a_limit_of_the_length_of_files() {
    let source = small_database(18, "file_limit");
    add_noise(&source, 1);
    let folder = Folder::new();
    let archive = snapshot(&source, &folder);
    let conninfo = source.conninfo();
    let out = folder.file("out");
    let take = ["snapshot", "-q", "-Z", "none", "-d", &conninfo];
    let script = ["sql", "-q", &archive];
    for command in [&take[..], &script[..]] {
        let rdump = rdump_command(command);
        let limited = |file: &str| {
            let mut sh = Command::new("sh");
            // blocks of 512 bytes, or in some shells of 1024
            sh.args(["-c", "ulimit -f 100 && exec \"$@\"", "sh"]);
            sh.arg(rdump.get_program()).args(rdump.get_args());
            sh.args(["-f", file]).env("HOME", "/nonexistent");
            support::heed_signals(&mut sh);
            sh
        };
        std::fs::write(&out, "before").expect("writing a file");
        let finished = support::run(&mut limited(&out), b"");
        let what = format!("could not write to file \"{out}\" after ");
        let end = " bytes: File too large\n\
                   rdump: hint: the file system or a limit of the process does not allow larger files\n";
        assert_eq!(finished.code, 1, "{}", finished.stderr);
        assert!(
            finished.stderr.contains(&what) && finished.stderr.ends_with(end),
            "{}",
            finished.stderr
        );
        assert_eq!(folder.names(), ["archive.rdump", "out"]);
        assert_eq!(std::fs::read(&out).expect("the file"), b"before");

        // standard output is a file too
        let mut to_stdout = limited("-");
        to_stdout.stdout(std::fs::File::create(&out).expect("making a file"));
        let output = to_stdout.output().expect("running rdump");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(": File too large\n"), "{stderr}");
    }
}

/// The disk fills up in the definitions, in the rows, or at the very end; what was there stays.
#[test]
fn a_full_disk() {
    let source = small_database(18, "full_disk");
    add_noise(&source, 3);
    let folder = Folder::new();
    let complete = folder.file("complete");
    support::rdump_ok(&[
        "snapshot",
        "-q",
        "-Z",
        "none",
        "-d",
        &source.conninfo(),
        "-f",
        &complete,
    ]);
    let needed = std::fs::metadata(&complete).expect("the archive").len() / 4096 + 1;
    let disk = folder.path().join("disk");
    std::fs::create_dir(&disk).expect("making a folder");
    let file = disk.join("archive.rdump");
    let file = file.to_str().expect("a plain path");
    // pages of the disk; one holds the file that was there
    for pages in [1, 2, 100, needed - 1, needed] {
        let mut command = rdump_command(&["snapshot", "-q", "-Z", "none", "-d"]);
        command.arg(source.conninfo()).args(["-f", file]);
        let finished = support::run(
            &mut on_small_disk(
                &disk,
                &format!("{}k", pages * 4),
                "echo before > archive.rdump",
                &command,
            ),
            b"",
        );
        let mut lines = finished.stderr.lines();
        let error = lines.next().unwrap_or_default();
        let hint = lines.next().unwrap_or_default();
        assert_eq!(finished.code, 1, "{pages} pages: {}", finished.stderr);
        assert!(
            error.starts_with(&format!(
                "rdump: error: could not write to file \"{file}\" after "
            )) && error.ends_with(" bytes: No space left on device"),
            "{pages} pages: {error}"
        );
        assert_eq!(
            hint,
            "rdump: hint: free some space or choose another place; nothing was left behind"
        );
        assert_eq!(lines.next(), None);
        assert_eq!(finished.text(), "archive.rdump\n", "{pages} pages");
    }
    // and with one page more it fits, beside the file that it then replaces
    let mut command = rdump_command(&["snapshot", "-q", "-Z", "none", "-d"]);
    command.arg(source.conninfo()).args(["-f", file]);
    support::run_ok(
        &mut on_small_disk(
            &disk,
            &format!("{}k", (needed + 20) * 4),
            "echo before > archive.rdump",
            &command,
        ),
        b"",
    );
}

/// What has been written to standard output stays there, and is no archive.
#[test]
fn a_full_disk_behind_standard_output() {
    let source = small_database(18, "full_stdout");
    add_noise(&source, 1);
    let folder = Folder::new();
    let disk = folder.path().join("disk");
    std::fs::create_dir(&disk).expect("making a folder");
    let file = disk.join("archive.rdump");
    let kept = folder.file("kept");
    let mut command = Command::new("sh");
    let snapshot = rdump_command(&["snapshot", "-q", "-d", &source.conninfo(), "-f", "-"]);
    command.args([
        "-c",
        "file=$1 kept=$2; shift 2; \"$@\" > \"$file\"; code=$?; cp \"$file\" \"$kept\"; exit $code",
        "-",
    ]);
    command.arg(&file).arg(&kept);
    command
        .arg(snapshot.get_program())
        .args(snapshot.get_args());
    let finished = support::run(&mut on_small_disk(&disk, "100k", "true", &command), b"");
    let (error, hint) = finished.stderr.split_once('\n').unwrap_or_default();
    assert_eq!(finished.code, 1, "{}", finished.stderr);
    assert!(
        error.starts_with("rdump: error: could not write to standard output after ")
            && error.ends_with(" bytes: No space left on device"),
        "{error}"
    );
    assert_eq!(
        hint,
        "rdump: hint: free some space or choose another place; what was written until then is \
         not complete\n"
    );
    assert_eq!(support::rdump(&["show", &kept]).code, 1);
}

#[test]
fn an_existing_file_is_replaced_only_by_a_complete_archive() {
    let source = small_database(18, "replace");
    let folder = Folder::new();
    let file = folder.file("archive.rdump");
    std::fs::write(&file, "what was there before").expect("writing a file");
    let before = std::fs::metadata(&file).expect("the file").ino();

    let mut other = Other::new(&source);
    other.run("BEGIN; LOCK TABLE sales.orders");
    let arguments = ["snapshot", "-q", "-d", &source.conninfo(), "-f", &file];
    let mut failing = rdump_command(&arguments);
    failing.args(["--lock-wait-timeout", "100"]);
    assert_eq!(support::run(&mut failing, b"").code, 1);
    assert_eq!(
        std::fs::read(&file).expect("the file"),
        b"what was there before"
    );
    assert_eq!(folder.names(), ["archive.rdump"]);
    drop(other);

    support::rdump_ok(&arguments);
    assert_ne!(std::fs::metadata(&file).expect("the file").ino(), before);
    assert_eq!(folder.names(), ["archive.rdump"]);
    support::rdump_ok(&["verify", "--deep", &file]);
}

#[test]
fn files_that_are_no_archives() {
    let source = small_database(18, "no_archive");
    let target = server(18).create_database("no_archive_target");
    let folder = Folder::new();
    let plain = source.server.pg_dump(&[], &source);
    let mut pg_dump = source.server.program("pg_dump");
    pg_dump.args(["-U", "postgres", "-Fc", &source.name]);
    let custom = support::run_ok(&mut pg_dump, b"").stdout;
    for (contents, stderr) in [
        (
            b"Dear diary, nothing of note happened today.\n".to_vec(),
            "rdump: error: not an rdump archive\n",
        ),
        (
            custom,
            "rdump: error: not an rdump archive: this is a pg_dump archive\n\
             rdump: hint: restore it with pg_restore\n",
        ),
        (
            plain.into_bytes(),
            "rdump: error: not an rdump archive: this is a plain SQL dump\n\
             rdump: hint: restore it with psql\n",
        ),
        (
            Vec::new(),
            "rdump: error: not an rdump archive: the file is empty\n",
        ),
    ] {
        let file = folder.file("file");
        std::fs::write(&file, &contents).expect("writing a file");
        let restore = ["restore", &file, "-d", &target.conninfo()];
        expect_rdump(&restore, 1, stderr);
        expect_rdump(&["verify", &file], 1, stderr);
        expect_rdump(&["show", &file], 1, stderr);
        let mut from_stdin = rdump_command(&["restore", "-", "-d", &target.conninfo()]);
        assert_says(&support::run(&mut from_stdin, &contents), 1, stderr);
    }
    let missing = folder.file("missing");
    let stderr =
        format!("rdump: error: could not open file \"{missing}\": No such file or directory\n");
    expect_rdump(&["restore", &missing, "-d", &target.conninfo()], 1, &stderr);
    expect_rdump(&["verify", &missing], 1, &stderr);
    let at = folder.path().display().to_string();
    let stderr = format!("rdump: error: could not open file \"{at}\": it is a directory\n");
    expect_rdump(&["verify", &at], 1, &stderr);
    assert_eq!(
        target.query_text("SELECT count(*) FROM pg_class WHERE oid >= 16384"),
        "0"
    );
}

#[test]
fn a_corrupt_archive() {
    let source = small_database(18, "corrupt");
    add_noise(&source, 1);
    let folder = Folder::new();
    let file = folder.file("archive.rdump");
    support::rdump_ok(&[
        "snapshot",
        "-q",
        "-Z",
        "none",
        "-d",
        &source.conninfo(),
        "-f",
        &file,
    ]);
    let sound = std::fs::read(&file).expect("the archive");

    // a bit of the rows: said of the table, and of it alone
    let digest = source.query_text("SELECT left(line, 64) FROM noise WHERE ctid = '(20,1)'");
    let at = find(&sound, digest.as_bytes());
    let mut damaged = sound.clone();
    damaged[at] ^= 1;
    std::fs::write(&file, &damaged).expect("writing the archive");
    let finished = support::rdump(&["verify", &file]);
    assert_eq!(finished.code, 3, "{}", finished.stderr);
    let findings = finished.text();
    assert_eq!(findings.lines().count(), 1, "{findings}");
    assert!(findings.contains("public.noise"), "{findings}");
    assert!(
        finished.stderr.ends_with(&format!(
            "rdump: error: {file} is damaged: 1 finding\n\
             rdump: hint: restore from another copy; tables that are not named can still be \
             restored from this one\n"
        )),
        "{}",
        finished.stderr
    );
    let target = server(18).create_database("corrupt_target");
    let finished = support::rdump(&["restore", "-q", &file, "-d", &target.conninfo()]);
    assert_eq!(finished.code, 3, "{}", finished.stderr);
    assert!(
        finished.stderr.starts_with(
            "rdump: error: TABLE DATA public.noise (loading its rows): archive is damaged: "
        ),
        "{}",
        finished.stderr
    );
    assert_eq!(target.query_text("SELECT count(*) FROM noise"), "0");
    assert_eq!(
        target.query_text("SELECT count(*) FROM sales.orders"),
        "1000"
    );

    // the definitions, the end: nothing is begun
    let definitions = find(&sound, b"rdump").max(200);
    for (damaged, words) in [
        (flipped(&sound, definitions), "archive is damaged: "),
        (sound[..sound.len() - 1].to_vec(), "archive is incomplete: "),
        (sound[..sound.len() / 2].to_vec(), "archive is incomplete: "),
    ] {
        std::fs::write(&file, damaged).expect("writing the archive");
        let target = server(18).create_database("corrupt_target");
        let finished = support::rdump(&["restore", &file, "-d", &target.conninfo()]);
        assert_eq!(finished.code, 1, "{}", finished.stderr);
        assert!(
            finished
                .stderr
                .starts_with(&format!("rdump: error: {words}")),
            "{}",
            finished.stderr
        );
        assert_eq!(
            target.query_text("SELECT count(*) FROM pg_class WHERE oid >= 16384"),
            "0"
        );
        let finished = support::rdump(&["verify", &file]);
        assert_eq!(finished.code, 3);
        assert!(
            finished.stderr.ends_with(
                "rdump: hint: restore from another copy: what this one says of its contents is \
                 damaged\n"
            ),
            "{}",
            finished.stderr
        );
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> usize {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
        .expect("the bytes are there")
}

/// Whatever leads to the file, it stays as it is.
#[test]
fn an_output_that_is_an_input() {
    let source = small_database(18, "own_input");
    let folder = Folder::new();
    let archive = snapshot(&source, &folder);
    let before = std::fs::read(&archive).expect("the archive");
    let (symlink, hard_link) = (folder.file("symlink"), folder.file("hard_link"));
    std::os::unix::fs::symlink("archive.rdump", &symlink).expect("making a link");
    std::fs::hard_link(&archive, &hard_link).expect("making a link");
    let otherwise = folder.file("./archive.rdump");
    let refusal = |output: &str, what: &str| {
        format!(
            "rdump: error: file \"{output}\" is {what} itself: it cannot be written to while it is read\n\
             rdump: hint: give another file with -f\n"
        )
    };
    for (input, output) in [
        (&archive, &archive),
        (&archive, &otherwise),
        (&archive, &symlink),
        (&symlink, &archive),
        (&archive, &hard_link),
        (&hard_link, &archive),
    ] {
        let stderr = refusal(output, "the archive");
        expect_rdump(&["sql", input, "-f", output], 2, &stderr);
    }
    let open = || std::fs::File::open(&archive).expect("the archive");
    let appending = || std::fs::File::options().append(true).open(&archive);
    let output = rdump_command(&["sql", "-", "-f", &archive])
        .stdin(open())
        .output()
        .expect("running rdump");
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        refusal(&archive, "the archive")
    );
    for input in [&archive, "-"] {
        let output = rdump_command(&["sql", input])
            .stdin(open())
            .stdout(appending().expect("the archive"))
            .output()
            .expect("running rdump");
        assert_eq!(output.status.code(), Some(2));
        assert_eq!(
            String::from_utf8_lossy(&output.stderr),
            "rdump: error: standard output is the archive itself: it cannot be written to while it \
             is read\n\
             rdump: hint: redirect it to another file\n"
        );
    }
    assert_eq!(std::fs::read(&archive).expect("the archive"), before);

    let list = folder.file("list");
    std::fs::write(&list, "include schema sales\n").expect("writing a file");
    for (flag, what) in [("--filter", "the filter file"), ("-L", "the list of -L")] {
        let script = ["sql", &archive, flag, &list, "-f", &list];
        expect_rdump(&script, 2, &refusal(&list, what));
    }
    let conninfo = source.conninfo();
    let take = ["snapshot", "-d", &conninfo, "--filter", &list, "-f", &list];
    expect_rdump(&take, 2, &refusal(&list, "the filter file"));
    // another file is none of them
    support::rdump_ok(&["sql", "-q", &archive, "-f", &folder.file("script.sql")]);
    assert_eq!(std::fs::read(&archive).expect("the archive"), before);
}

#[test]
fn one_standard_input() {
    let source = small_database(18, "one_stdin");
    let folder = Folder::new();
    let archive = snapshot(&source, &folder);
    for command in ["verify", "show"] {
        expect_rdump(
            &[command, "-"],
            2,
            &format!(
                "rdump: error: {command} needs a file: a stream can be read only once\n\
                 rdump: hint: write the stream to a file first, and give its name\n"
            ),
        );
    }
    let both = |one: &str, other: &str| {
        format!(
            "rdump: error: {one} and {other} both want standard input\n\
             rdump: hint: give one of them as a file\n"
        )
    };
    let restore = ["restore", "-d", "postgres"];
    let (list, filter) = ("the list of -L", "the filter file");
    for (command, more, one, other) in [
        (
            &restore[..],
            &["-", "--filter", "-"][..],
            "the archive",
            filter,
        ),
        (&restore, &["-", "-L", "-"], "the archive", list),
        (&restore, &["a", "-L", "-", "--filter", "-"], list, filter),
        (&["sql"], &["-", "--filter", "-"], "the archive", filter),
        (&["show"], &["a", "-L", "-", "--filter", "-"], list, filter),
        (
            &["snapshot", "-d", "postgres", "-f", "-"],
            &["--filter", "-", "--filter", "-"],
            filter,
            "another filter file",
        ),
    ] {
        expect_rdump(&[command, more].concat(), 2, &both(one, other));
    }

    // a list comes that way too
    let listed = support::rdump_ok(&["show", "-q", &archive]).text();
    let of_view = |line: &&str| line.contains("VIEW") && line.contains("many");
    let line = listed.lines().find(of_view).expect("the view's entry");
    let mut command = rdump_command(&["show", "-q", &archive, "-L", "-"]);
    let chosen = support::run_ok(&mut command, line.as_bytes());
    assert_eq!(chosen.text().trim_end(), line);
}

fn flipped(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 0x10;
    bytes
}

#[test]
fn through_a_pipe() {
    for major in support::VERSIONS {
        let source = small_database(major, "pipe");
        add_noise(&source, 5);
        let target = server(major).create_database_with("pipe_target", "TEMPLATE template0");
        let mut snapshot = rdump_command(&["snapshot", "-q", "-d", &source.conninfo(), "-f", "-"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starting rdump");
        let mut restore = rdump_command(&["restore", "-q", "-", "-d", &target.conninfo()]);
        restore.stdin(snapshot.stdout.take().expect("stdout is piped"));
        let restored = restore.output().expect("running rdump");
        let said = snapshot.wait_with_output().expect("waiting for rdump");
        for output in [&said, &restored] {
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{stderr}");
            assert_eq!(stderr, "");
        }
        support::assert_same_schema(&source, &target);
        support::assert_same_rows(&source, &target);
    }
}

/// The reader of the pipe goes away.
#[test]
fn a_pipe_that_breaks() {
    let source = small_database(18, "broken_pipe");
    add_noise(&source, 5);
    let mut command = rdump_command(&["snapshot", "-q", "-d", &source.conninfo(), "-f", "-"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starting rdump");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("waiting for rdump");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.starts_with("rdump: error: could not write to standard output after ")
            && stderr.ends_with(
                " bytes: Broken pipe\n\
                 rdump: hint: the program reading the output ended early\n"
            ),
        "{stderr}"
    );
}

#[test]
fn command_lines_that_are_not_understood() {
    let folder = Folder::new();
    let file = folder.file("a");
    let snapshot = |more: &[&str]| {
        let mut arguments = vec!["snapshot", "-d", "postgres", "-f", &file];
        arguments.extend(more);
        support::rdump(&arguments)
    };
    for (method, stderr) in [
        (
            "zstd:99",
            "rdump: error: compression level 99 is out of range for zstd",
        ),
        (
            "gzip:9",
            "rdump: error: compression method \"gzip\" is not supported\n\
             rdump: hint: use zstd:1, which is faster and compresses better\n",
        ),
        (
            "brotli",
            "rdump: error: unrecognized compression method \"brotli\"\n\
             rdump: hint: use none, lz4 or zstd[:LEVEL]\n",
        ),
        (
            "none:3",
            "rdump: error: compression method \"none\" takes no level\n",
        ),
    ] {
        let finished = snapshot(&["-Z", method]);
        assert_eq!(finished.code, 2, "{}", finished.stderr);
        assert!(finished.stderr.starts_with(stderr), "{}", finished.stderr);
    }
    assert_says(
        &snapshot(&["--lock-wait-timeout", "soon"]),
        2,
        "rdump: error: not a time: \"soon\"\nrdump: hint: for example 30000, 1.5s or 5min, or 0 for no limit\n",
    );
    for arguments in [
        vec!["snapshot", "--no-such-flag"],
        vec!["snapshot"],
        vec!["nonsense"],
        vec!["restore", "a", "-d", "postgres", "-c", "-a"],
        vec!["restore", "a", "-d", "postgres", "--if-exists"],
        vec!["snapshot", "-d", "postgres", "-f", &file, "-j", "0"],
    ] {
        let finished = support::rdump(&arguments);
        assert_eq!(finished.code, 2, "{arguments:?}: {}", finished.stderr);
        assert!(
            finished.stderr.starts_with("rdump: error: "),
            "{}",
            finished.stderr
        );
        assert_eq!(finished.text(), "");
    }
    expect_rdump(
        &["restore", "a"],
        2,
        "rdump: error: no target database\n\
         rdump: hint: name it with -d; with -C, name any database to connect to first\n",
    );
    expect_rdump(
        &["snapshot", "-d", "postgres", "-f", "-", "--json"],
        2,
        "rdump: error: --json and -f - both want standard output\n\
         rdump: hint: write the archive to a file, or leave out --json\n",
    );
    expect_rdump(
        &["restore", "-l", "-"],
        2,
        "rdump: error: -l needs a file: a stream can be read only once\n\
         rdump: hint: write the stream to a file first, and give its name\n",
    );
    assert_eq!(support::rdump(&["--help"]).code, 0);
    assert!(folder.names().is_empty(), "{:?}", folder.names());
    let _ = snapshot;
}
