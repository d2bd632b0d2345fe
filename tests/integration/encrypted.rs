//! Encrypted archives through the program: with a key all works as without encryption, and without one
//! nothing but verification does.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::errors::Folder;
use crate::support::{
    self, Finished, Server, TestDatabase, assert_same_rows, assert_same_schema, server,
};

const PASSPHRASE: &str = "correct horse battery staple";
const RECIPIENT: &str = "age1";

type Way = (Vec<String>, Option<(&'static str, String)>);

/// A folder with an identity, another one, and a passphrase.
struct Keys {
    folder: Folder,
    recipient: String,
}

impl Keys {
    fn new() -> Keys {
        let folder = Folder::new();
        let keygen = |name: &str| {
            let made = support::rdump_ok(&["keygen", "-o", &folder.file(name)]);
            assert!(
                made.stderr.contains("without it nobody can"),
                "{}",
                made.stderr
            );
            made.text().trim().to_owned()
        };
        let recipient = keygen("identity");
        assert!(recipient.starts_with(RECIPIENT), "{recipient}");
        keygen("other");
        std::fs::write(folder.file("passphrase"), format!("{PASSPHRASE}\n")).expect("written");
        std::fs::write(folder.file("wrong"), "incorrect\n").expect("written");
        Keys { folder, recipient }
    }

    fn file(&self, name: &str) -> String {
        self.folder.file(name)
    }

    /// Flags that open the archive, and the same by variables.
    fn ways(&self) -> [Way; 5] {
        let flag = |flag: &str, file: &str| vec![flag.to_owned(), self.file(file)];
        [
            (flag("-i", "identity"), None),
            (flag("--passphrase-file", "passphrase"), None),
            (vec![], Some(("RDUMP_IDENTITY_FILE", self.file("identity")))),
            (vec![], Some(("RDUMP_PASSPHRASE", PASSPHRASE.to_owned()))),
            (
                vec![],
                Some(("RDUMP_PASSPHRASE_FILE", self.file("passphrase"))),
            ),
        ]
    }
}

fn shop(major: u32) -> TestDatabase {
    let source = server(major).create_database("encrypted");
    support::load_sample(&source, 1);
    source
}

/// Names and rows of the sample.
fn secrets(source: &TestDatabase) -> BTreeSet<Vec<u8>> {
    let names = source.query_text(
        "SELECT string_agg(DISTINCT name, E'\\n') FROM (
            SELECT relname::text AS name FROM pg_class WHERE relnamespace IN
                (SELECT oid FROM pg_namespace WHERE nspname IN ('catalog', 'sales', 'stock'))
            UNION ALL SELECT attname::text FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid WHERE relnamespace IN
                (SELECT oid FROM pg_namespace WHERE nspname IN ('catalog', 'sales', 'stock'))
            UNION ALL SELECT rolname::text FROM pg_roles WHERE rolname LIKE 'shop%'
            UNION ALL SELECT email::text FROM sales.customer) AS names
         WHERE length(name) >= 6",
    );
    let mut secrets: BTreeSet<Vec<u8>> = names.lines().map(|line| line.into()).collect();
    secrets.insert(source.name.as_bytes().to_vec());
    secrets
}

fn found_in<'a>(bytes: &[u8], secrets: &'a BTreeSet<Vec<u8>>) -> Vec<&'a [u8]> {
    // by their first bytes, lest each be looked for everywhere
    let mut starts: std::collections::HashMap<&[u8], Vec<&'a [u8]>> = Default::default();
    for secret in secrets {
        starts.entry(&secret[..6]).or_default().push(secret);
    }
    let mut found = BTreeSet::new();
    for (at, window) in bytes.windows(6).enumerate() {
        let here = starts.get(window).into_iter().flatten();
        found.extend(here.filter(|secret| bytes[at..].starts_with(secret)));
    }
    found.into_iter().collect()
}

fn snapshot(source: &TestDatabase, to: &str, more: &[&str]) -> Finished {
    let conninfo = source.conninfo();
    let arguments = [&["snapshot", "-d", &conninfo, "-f", to], more].concat();
    support::rdump_ok(&arguments)
}

fn assert_locked(finished: &Finished, hint: &str, what: &str) {
    assert_eq!(finished.code, 12, "{what}: {}", finished.stderr);
    let told = "encrypted, and no key was given";
    assert!(
        finished.stderr.contains(told),
        "{what}: {}",
        finished.stderr
    );
    assert!(
        finished.stderr.contains(hint),
        "{what}: {}",
        finished.stderr
    );
}

#[test]
fn an_encrypted_snapshot_is_restored_with_each_of_its_keys() {
    for (major, ways) in [(15, 2), (18, 5)] {
        let keys = Keys::new();
        let source = shop(major);
        let archive = keys.file("archive");
        let to_both = [
            "--recipient",
            &keys.recipient,
            "--passphrase-file",
            &keys.file("passphrase"),
            "-j",
            "3",
        ];
        let told = snapshot(&source, &archive, &to_both).stderr;
        assert!(told.contains("encrypted snapshot of"), "{told}");

        let bytes = std::fs::read(&archive).expect("the archive");
        let secrets = secrets(&source);
        assert!(secrets.len() > 500, "{}", secrets.len());
        assert_eq!(found_in(&bytes, &secrets), Vec::<&[u8]>::new());
        // the search finds what is there
        let clear = keys.file("clear");
        snapshot(&source, &clear, &["-Z", "none"]);
        let clear = std::fs::read(&clear).expect("the archive");
        let found = found_in(&clear, &secrets).len();
        // what the server names by itself (columns of every table, of indexes) is in no definition
        assert!(found > 500 && found + 10 > secrets.len(), "{found}");

        for (number, (flags, variable)) in keys.ways().into_iter().take(ways).enumerate() {
            let target = server(major).create_database_with("opened", "TEMPLATE template0");
            let conninfo = target.conninfo();
            let from_stdin = number % 2 == 1;
            let from = if from_stdin { "-" } else { archive.as_str() };
            let run = |arguments: &[&str], input: &[u8]| {
                let flags = flags.iter().map(String::as_str);
                let arguments: Vec<&str> = arguments.iter().copied().chain(flags).collect();
                let mut command = support::rdump_command(&arguments);
                if let Some((name, value)) = &variable {
                    command.env(name, value);
                }
                support::run_ok(&mut command, input)
            };
            let input = if from_stdin { &bytes[..] } else { b"" };
            run(&["restore", from, "-d", &conninfo], input);
            run(&["verify", "--deep", &archive, "--against", &conninfo], b"");
            assert_same_schema(&source, &target);
            assert_same_rows(&source, &target);
            let shown = run(&["show", &archive], b"").text();
            assert!(
                shown.contains("encrypted; opened by age identities, or a passphrase"),
                "{shown}"
            );
            let script = run(&["sql", from], input).text();
            assert!(script.ends_with("-- rdump: complete\n"));
        }
    }
}

#[test]
fn without_the_key_an_archive_can_be_verified_and_nothing_else() {
    let keys = Keys::new();
    let source = shop(18);
    let archive = keys.file("archive");
    snapshot(&source, &archive, &["--recipient", &keys.recipient]);
    let verified = support::rdump_ok(&["verify", &archive]).stderr;
    let told = "checksums verified; contents not read: no key was given";
    assert!(verified.contains(told), "{verified}");
    let json = support::rdump_ok(&["verify", "--json", &archive]).text();
    assert!(json.contains("\"contents_unread\":true"), "{json}");

    let target = server(18).create_database_with("locked", "TEMPLATE template0");
    let conninfo = target.conninfo();
    for arguments in [
        &["restore", &archive, "-d", &conninfo][..],
        &["restore", "-l", &archive],
        &["sql", &archive],
        &["show", &archive],
        &["verify", "--deep", &archive],
        &["verify", &archive, "--against", &conninfo],
    ] {
        let what = arguments.join(" ");
        assert_locked(&support::rdump(arguments), "--identity", &what);
        let (wrong, passphrase) = (keys.file("other"), keys.file("wrong"));
        let with_wrong = [arguments, &["-i", &wrong, "--passphrase-file", &passphrase]].concat();
        let finished = support::rdump(&with_wrong);
        assert_eq!(finished.code, 12, "{what}: {}", finished.stderr);
        let told = "none of the 2 keys given opens the archive";
        assert!(
            finished.stderr.contains(told),
            "{what}: {}",
            finished.stderr
        );
        assert!(
            !finished.stderr.contains("incorrect"),
            "{}",
            finished.stderr
        );
    }
    let bytes = std::fs::read(&archive).expect("the archive");
    let mut command = support::rdump_command(&["restore", "-", "-d", &conninfo]);
    assert_locked(&support::run(&mut command, &bytes), "--identity", "stdin");
    let tables = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace";
    assert_eq!(target.query_text(tables), "0");

    // damage is found without the key, and named with it
    let mut damaged = bytes.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    std::fs::write(&archive, &damaged).expect("written");
    let finished = support::rdump(&["verify", &archive]);
    assert_eq!(finished.code, 3, "{}", finished.stderr);
    assert!(
        finished.stderr.contains("with the key"),
        "{}",
        finished.stderr
    );
    assert!(!finished.text().contains("affects"), "{}", finished.text());
    let finished = support::rdump(&["verify", &archive, "-i", &keys.file("identity")]);
    assert_eq!(finished.code, 3, "{}", finished.stderr);
    assert!(finished.text().contains("affects"), "{}", finished.text());
}

#[test]
fn an_encrypted_stream_reads_as_the_file_does() {
    let keys = Keys::new();
    let source = shop(18);
    let recipients = keys.file("recipients");
    let list = format!("# ours\n{}\n", keys.recipient);
    std::fs::write(&recipients, list).expect("written");
    for (flags, variable) in [
        (vec!["--recipients-file", &recipients], None),
        (vec![], Some(("RDUMP_RECIPIENTS", keys.recipient.as_str()))),
        (vec![], Some(("RDUMP_RECIPIENTS_FILE", recipients.as_str()))),
    ] {
        let conninfo = source.conninfo();
        let arguments = [&["snapshot", "-d", &conninfo, "-f", "-"], &flags[..]].concat();
        let mut command = support::rdump_command(&arguments);
        if let Some((name, value)) = variable {
            command.env(name, value);
        }
        let bytes = support::run_ok(&mut command, b"").stdout;
        let target = server(18).create_database_with("streamed", "TEMPLATE template0");
        let conninfo = target.conninfo();
        let identity = keys.file("identity");
        let restore = ["restore", "-", "-d", &conninfo, "-i", &identity];
        support::run_ok(&mut support::rdump_command(&restore), &bytes);
        assert_same_rows(&source, &target);
        let mut locked = support::rdump_command(&["restore", "-", "-d", &conninfo]);
        assert_locked(&support::run(&mut locked, &bytes), "--identity", "stdin");
    }
}

/// Nobody shall believe that an archive is encrypted when it is not.
#[test]
fn a_key_that_cannot_be_used_is_an_error() {
    let keys = Keys::new();
    let source = server(18).create_database("unusable_keys");
    let archive = keys.file("archive");
    let secret = std::fs::read_to_string(keys.file("identity")).expect("a key");
    let secret = secret.lines().last().expect("a secret");
    let empty = keys.file("empty");
    std::fs::write(&empty, "").expect("written");
    let refused = |flags: &[&str], variable: Option<(&str, &str)>, told: &str| {
        let conninfo = source.conninfo();
        let arguments = [&["snapshot", "-d", &conninfo, "-f", &archive], flags].concat();
        let mut command = support::rdump_command(&arguments);
        if let Some((name, value)) = variable {
            command.env(name, value);
        }
        let finished = support::run(&mut command, b"");
        assert!(
            [1, 2].contains(&finished.code),
            "{told}: {}",
            finished.stderr
        );
        assert!(
            finished.stderr.contains(told),
            "{told}: {}",
            finished.stderr
        );
        assert!(
            !finished.stderr.contains(&secret[20..]),
            "{}",
            finished.stderr
        );
        assert!(!std::path::Path::new(&archive).exists(), "{told}");
    };
    refused(&["--recipient", "age1xyz"], None, "not an age public key");
    refused(&["--recipient", secret], None, "this is a secret key");
    refused(&["--recipients-file", &empty], None, "names no recipient");
    refused(&["--recipients-file", "/nonexistent"], None, "/nonexistent");
    refused(&["--passphrase-file", &empty], None, "holds no passphrase");
    for name in [
        "RDUMP_RECIPIENTS",
        "RDUMP_PASSPHRASE",
        "RDUMP_PASSPHRASE_FILE",
    ] {
        refused(&[], Some((name, "")), name);
    }
}

#[test]
fn a_whole_server_is_encrypted_member_by_member() {
    let keys = Keys::new();
    let source = Server::start(18, &[]);
    source.sql("postgres", "CREATE ROLE very_secret_clerk");
    for database in ["hidden_shop", "hidden_stock"] {
        source.sql(
            "postgres",
            &format!("CREATE DATABASE {database} OWNER very_secret_clerk"),
        );
        source.sql(
            database,
            "CREATE TABLE secret_table AS SELECT i, 'secret row ' || i AS t FROM generate_series(1, 1000) i",
        );
    }
    let set = keys.file("set");
    let conninfo = source.conninfo("postgres");
    support::rdump_ok(&[
        "snapshot",
        "--all-databases",
        "-d",
        &conninfo,
        "-f",
        &set,
        "-Z",
        "none",
        "--recipient",
        &keys.recipient,
        "--passphrase-file",
        &keys.file("passphrase"),
    ]);
    let bytes = std::fs::read(&set).expect("the set");
    for secret in [
        "very_secret",
        "hidden_",
        "secret_table",
        "secret row",
        "postgres",
    ] {
        let is_there = bytes.windows(secret.len()).any(|w| w == secret.as_bytes());
        assert!(!is_there, "{secret}");
    }
    let verified = support::rdump_ok(&["verify", &set]).stderr;
    let told = "checksums verified; contents not read: no key was given";
    assert_eq!(verified.matches(told).count(), 5, "{verified}");
    let target = Server::start(18, &[]);
    let conninfo = target.conninfo("postgres");
    for arguments in [
        &["show", &set][..],
        &["show", &set, "--member", "hidden_shop"],
        &["verify", &set, "--member", "hidden_shop"],
        &["restore", &set, "-d", &conninfo],
        &["restore", &set, "-d", &conninfo, "-g"],
    ] {
        assert_locked(
            &support::rdump(arguments),
            "--identity",
            &arguments.join(" "),
        );
    }
    let mut locked = support::rdump_command(&["restore", "-", "-d", &conninfo]);
    assert_locked(&support::run(&mut locked, &bytes), "--identity", "stdin");
    let (identity, passphrase) = (keys.file("identity"), keys.file("passphrase"));
    let shown = support::rdump_ok(&["show", &set, "-i", &identity]).text();
    assert!(shown.contains("database hidden_shop ("), "{shown}");
    support::rdump_ok(&["restore", &set, "-d", &conninfo, "-i", &identity]);
    support::rdump_ok(&[
        "verify",
        "--deep",
        &set,
        "--against",
        &conninfo,
        "-i",
        &identity,
    ]);
    // as a stream, with the passphrase, one member
    target.sql("postgres", "DROP DATABASE hidden_stock");
    let mut restore = support::rdump_command(&[
        "restore",
        "-",
        "-d",
        &conninfo,
        "-C",
        "--member",
        "hidden_stock",
        "--passphrase-file",
        &passphrase,
    ]);
    support::run_ok(&mut restore, &bytes);
    let rows = target.query_text("hidden_stock", "SELECT count(*) FROM secret_table");
    assert_eq!(rows, "1000");
    let wrong = support::rdump(&["restore", &set, "-d", &conninfo, "-i", &keys.file("other")]);
    assert_eq!(wrong.code, 12, "{}", wrong.stderr);
}

#[test]
fn keys_are_those_of_age() {
    let keys = Keys::new();
    let identity = keys.file("identity");
    let mode = std::fs::metadata(&identity).expect("a file").permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    let again = support::rdump(&["keygen", "-o", &identity]);
    assert_eq!(again.code, 1, "{}", again.stderr);
    assert!(again.stderr.contains("exists already"), "{}", again.stderr);
    let printed = support::rdump_ok(&["keygen"]).text();
    assert!(printed.contains("AGE-SECRET-KEY-1"), "{printed}");
    match Command::new("age-keygen").arg("-y").arg(&identity).output() {
        // past what the test harness keeps to itself
        Err(_) => writeln!(
            std::io::stderr(),
            "NOT TESTED: the program age-keygen is not installed (Debian: apt-get install age)"
        )
        .expect("standard error"),
        Ok(output) => {
            let told = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{told}");
            let public = String::from_utf8_lossy(&output.stdout);
            assert_eq!(public.trim(), keys.recipient);
        }
    }
}
