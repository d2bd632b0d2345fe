//! What users see when something is wrong: the very words on stderr, and the exit code.

mod connecting;
mod creating;
mod fake_server;
mod files;
mod restoring;
mod signals;
mod snapshotting;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{self, Finished, Server, TestDatabase};

/// Runs a command that must end with this code and say just this on stderr.
#[track_caller]
pub fn expect(command: &mut Command, code: i32, stderr: &str) -> Finished {
    let finished = support::run(command, b"");
    assert_says(&finished, code, stderr);
    finished
}

/// As [`expect`], for `rdump ARGUMENTS`.
#[track_caller]
pub fn expect_rdump(arguments: &[&str], code: i32, stderr: &str) -> Finished {
    expect(&mut support::rdump_command(arguments), code, stderr)
}

#[track_caller]
pub fn assert_says(finished: &Finished, code: i32, stderr: &str) {
    assert!(
        finished.code == code && finished.stderr == stderr,
        "exit code {} (expected {code}), stderr (-expected +actual):\n{}\n--- actual:\n{}",
        finished.code,
        support::difference(stderr, &finished.stderr),
        finished.stderr
    );
}

/// A folder of one test, and the archives in it.
pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn new() -> Folder {
        Folder(tempfile::tempdir().expect("making a folder"))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn file(&self, name: &str) -> String {
        let path = self.0.path().join(name);
        path.into_os_string().into_string().expect("a plain path")
    }

    /// Names of all that is in it, hidden files too.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.path())
            .expect("reading the folder")
            .map(|entry| entry.expect("an entry").file_name())
            .map(|name| name.into_string().expect("a plain name"))
            .collect();
        names.sort();
        names
    }
}

/// Takes a snapshot into `folder`.
pub fn snapshot(database: &TestDatabase, folder: &Folder) -> String {
    let file = folder.file("archive.rdump");
    support::rdump_ok(&["snapshot", "-q", "-d", &database.conninfo(), "-f", &file]);
    file
}

/// A database with a table or two, a view and a function.
pub fn small_database(major: u32, prefix: &str) -> TestDatabase {
    small_database_on(support::server(major), prefix)
}

pub fn small_database_on(server: &'static Server, prefix: &str) -> TestDatabase {
    let database = server.create_database(prefix);
    database.sql(
        "CREATE SCHEMA sales;
         CREATE TABLE sales.orders (id int PRIMARY KEY, item text NOT NULL);
         INSERT INTO sales.orders SELECT i, 'item ' || i FROM generate_series(1, 1000) AS i;
         CREATE TABLE customers (id serial PRIMARY KEY, name text UNIQUE);
         INSERT INTO customers (name) SELECT 'customer ' || i FROM generate_series(1, 100) AS i;
         CREATE VIEW many AS SELECT * FROM sales.orders WHERE id > 10;
         CREATE FUNCTION twice(i int) RETURNS int LANGUAGE sql AS 'SELECT 2 * i';",
    );
    database
}

/// Bytes that do not compress, as a large object.
pub fn add_noise(database: &TestDatabase, megabytes: u32) {
    database.sql(&format!(
        "CREATE TABLE noise (line text);
         ALTER TABLE noise ALTER line SET STORAGE EXTERNAL;
         INSERT INTO noise SELECT (SELECT string_agg(md5(i || '/' || j), '')
                                   FROM generate_series(1, 32) AS j)
         FROM generate_series(1, {megabytes} * 1000) AS i",
    ));
}

/// An open session of another user of the database. It ends when dropped.
pub struct Other {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Other {
    pub fn new(database: &TestDatabase) -> Other {
        let mut child = database
            .server
            .program("psql")
            .args(["-X", "-q", "-A", "-t", "-U", "postgres", "-d"])
            .arg(&database.name)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starting psql");
        let output = BufReader::new(child.stdout.take().expect("stdout is piped"));
        Other { child, output }
    }

    /// Runs SQL, and returns the backend's process id once it is done.
    pub fn run(&mut self, sql: &str) -> u32 {
        let stdin = self.child.stdin.as_mut().expect("stdin is piped");
        writeln!(stdin, "SELECT pg_backend_pid();\n{sql};\n\\echo done").expect("writing to psql");
        let mut pid = None;
        loop {
            let mut line = String::new();
            let length = self.output.read_line(&mut line).expect("reading from psql");
            assert!(length > 0, "psql ended");
            match line.trim() {
                "done" => return pid.expect("a process id"),
                text => pid = pid.or_else(|| text.parse().ok()),
            }
        }
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Without the moments at which others began something.
pub fn without_since(text: &str) -> String {
    let mut parts = text.split(" since ");
    let mut stripped = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (moment, rest) = part.split_once(" UTC").expect("a moment in UTC");
        assert_eq!(moment.len(), "2000-01-01 00:00:00".len(), "{moment}");
        stripped.push_str(" since … UTC");
        stripped.push_str(rest);
    }
    stripped
}

/// Waits until a condition holds; panics with `what` after some seconds.
#[track_caller]
pub fn wait_for(what: &str, seconds: u64, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(
            started.elapsed() < Duration::from_secs(seconds),
            "{what} within {seconds} s"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// rdump's sessions in this database.
pub fn sessions_in(database: &TestDatabase) -> String {
    let name = database.name.replace('\'', "''");
    server_query(
        database,
        &format!(
            "SELECT count(*) FROM pg_stat_activity
             WHERE datname = '{name}' AND application_name LIKE 'rdump%'"
        ),
    )
}

/// Asks the server, from another database.
pub fn server_query(database: &TestDatabase, sql: &str) -> String {
    let mut command = database.server.program("psql");
    command.args([
        "-X", "-A", "-t", "-U", "postgres", "-d", "postgres", "-c", sql,
    ]);
    support::run_ok(&mut command, b"").text().trim().to_owned()
}

/// A command in a mount namespace of its own, where `folder` is a small disk of this size. After
/// it, what is in the folder is printed.
pub fn on_small_disk(folder: &Path, size: &str, prepare: &str, command: &Command) -> Command {
    let script = format!(
        "mount -t tmpfs -o size={size} small \"$0\" || exit 99
         ( cd \"$0\" && {prepare} ) || exit 98
         \"$@\"; code=$?; ls -A \"$0\"; exit $code"
    );
    let mut unshare = Command::new("unshare");
    // a user namespace lends the right to mount to those who have it not
    unshare.arg(if nix::unistd::geteuid().is_root() {
        "-m"
    } else {
        "-rm"
    });
    unshare.args(["sh", "-c", &script]).arg(folder);
    unshare.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => unshare.env(name, value),
            None => unshare.env_remove(name),
        };
    }
    unshare
}

/// rdump where any user may run it.
pub fn public_copy(folder: &Folder) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let copy = folder.path().join("rdump");
    // by a process of its own: what this one has open for writing, a child that another test is just
    // starting has too, and such a program cannot be run ("text file busy")
    let mut program = Command::new("cp");
    program.arg(env!("CARGO_BIN_EXE_rdump")).arg(&copy);
    support::run_ok(&mut program, b"");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))
        .expect("opening the folder");
    copy
}
