//! Through PgBouncer: in session mode all works; in transaction mode what needs no session of its
//! own, and the rest is refused in one sentence.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Once;

use crate::errors::{Folder, Other, expect_rdump, small_database, wait_for};
use crate::hooked;
use crate::locks::warned;
use crate::support::{self, Server, TestDatabase, VERSIONS};

/// A PgBouncer of one's own in front of a test server, gone when dropped.
struct Pooler {
    process: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Pooler {
    /// `settings`: further lines of its configuration.
    fn start(server: &Server, mode: &str, connections: u32, settings: &str) -> Pooler {
        static INSTALLED: Once = Once::new();
        INSTALLED.call_once(install);
        let folder = tempfile::Builder::new()
            .prefix("rdump-pooler-")
            .tempdir()
            .expect("a temporary folder");
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a free port")
            .port();
        let conninfo = server.conninfo("postgres");
        let (address, _) = conninfo.split_once(" dbname=").expect("a database");
        let file = folder.path().join("pgbouncer.ini");
        // whoever comes is let in, and is the user of the address
        let text = format!(
            "[databases]\n* = {address}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = any\npool_mode = {mode}\ndefault_pool_size = {connections}\n{settings}\n"
        );
        std::fs::write(&file, text).expect("writing pgbouncer.ini");
        open_to_all(folder.path());
        open_to_all(&file);
        let mut command = Command::new("pgbouncer");
        if nix::unistd::geteuid().is_root() {
            // it refuses to be root
            command.args(["-u", "postgres"]);
        }
        let log = std::fs::File::create(folder.path().join("log")).expect("a log");
        let process = command
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("starting pgbouncer");
        let pooler = Pooler {
            process,
            port,
            _folder: folder,
        };
        wait_for("pgbouncer answers", 30, || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        pooler
    }

    fn conninfo(&self, database: &TestDatabase) -> String {
        format!(
            "host=127.0.0.1 port={} user=postgres dbname={}",
            self.port, database.name
        )
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn open_to_all(path: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("permissions");
}

/// Debian's package, where there is none. A test that needs it and cannot have it fails.
fn install() {
    let found = Command::new("pgbouncer").arg("--version").output();
    if found.is_ok_and(|output| output.status.success()) {
        return;
    }
    const SCRIPT: &str = "set -e
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -q
        apt-get install -qy --no-install-recommends pgbouncer";
    let mut command = if nix::unistd::geteuid().is_root() {
        Command::new("sh")
    } else {
        let mut command = Command::new("sudo");
        command.args(["-n", "sh"]);
        command
    };
    support::run_ok(command.args(["-c", SCRIPT]), b"");
}

fn source(major: u32) -> TestDatabase {
    let source = small_database(major, "pooled");
    source.sql(
        "CREATE TABLE large AS SELECT i, repeat(md5(i::text), 4) AS filler FROM generate_series(1, 30000) i;
         SELECT lo_from_bytea(4711, '\\x00ff');",
    );
    source
}

fn empty(source: &TestDatabase) -> TestDatabase {
    source
        .server
        .create_database_with("pooled_target", "TEMPLATE template0")
}

/// What a client of the pool finds set on each of the connections that the pool has now.
fn left_behind(pooler: &Pooler, database: &TestDatabase, connections: usize) -> Vec<String> {
    const LOOK: &str = "SELECT concat_ws(' ', pg_backend_pid() > 0, current_user, current_setting('search_path'),
            current_setting('row_security'), current_setting('client_encoding'), current_setting('DateStyle'),
            current_setting('extra_float_digits'), current_setting('statement_timeout'),
            current_setting('synchronize_seqscans'),
            (SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND mode = 'AccessShareLock'
                 AND relation >= 16384)),
            pg_sleep(0.5)";
    std::thread::scope(|scope| {
        let lookers: Vec<_> = (0..connections)
            .map(|_| scope.spawn(|| hooked::ask(&pooler.conninfo(database), LOOK)))
            .collect();
        let mut seen: Vec<String> = lookers
            .into_iter()
            .map(|looker| looker.join().expect("looking"))
            .collect();
        seen.sort();
        seen.dedup();
        seen
    })
}

const REFUSAL: &str = "needs a session of its own on the server, and this is a connection pooler in transaction mode\n\
     rdump: hint: connect to the server itself, or to a pool in session mode\n";

/// A pool may be called otherwise than its database.
#[test]
fn aliases() {
    let server = support::server(18);
    let source = server.create_database("pooled_as");
    source.sql("CREATE TABLE t AS SELECT 1 AS i");
    let conninfo = server.conninfo(&source.name);
    let (address, _) = conninfo.split_once(" dbname=").expect("a database");
    let alias = format!("[databases]\nalias = {address} dbname={}", source.name);
    let pooler = Pooler::start(server, "transaction", 20, &alias);
    let through = pooler.conninfo(&source).replace(&source.name, "alias");
    let folder = Folder::new();
    let file = folder.file("archive.rdump");
    let finished = support::rdump_ok(&["snapshot", "-d", &through, "-f", &file, "--json"]);
    let name = format!("\"database\":\"{}\"", source.name);
    assert!(finished.text().contains(&name), "{}", finished.text());
    let shown = support::rdump_ok(&["show", &file]).text();
    assert!(
        shown.contains(&source.name) && !shown.contains("alias"),
        "{shown}"
    );
}

#[test]
fn transaction_mode() {
    // which connection a pool hands out next makes it easier or harder to recognise
    const LAST_USED: &str = "server_round_robin = 0";
    const IN_TURN: &str = "server_round_robin = 1";
    for (major, orders) in [(15, &[LAST_USED][..]), (18, &[LAST_USED, IN_TURN])] {
        let source = source(major);
        for order in orders {
            let pooler = Pooler::start(source.server, "transaction", 20, order);
            let through = pooler.conninfo(&source);
            let pristine = left_behind(&pooler, &source, 8);
            assert_eq!(pristine.len(), 1, "{pristine:?}");
            let folder = Folder::new();
            let file = folder.file("archive.rdump");
            let finished = support::rdump_ok(&["snapshot", "-j4", "-d", &through, "-f", &file]);
            assert!(!finished.stderr.contains("warning"), "{}", finished.stderr);
            let options = rdump::snapshot::Options {
                jobs: 4,
                reading: Default::default(),
                least_slice: 8192,
                ..hooked::options(&folder.file("split.rdump"), None)
            };
            let report = hooked::run(&through, &options).expect("a snapshot");
            assert_eq!((report.connections, report.warnings.len()), (4, 0));
            for file in [&file, &folder.file("split.rdump")] {
                let target = empty(&source);
                support::rdump_ok(&["restore", file, "-j2", "-d", &target.conninfo()]);
                support::assert_same_schema(&source, &target);
                support::assert_same_rows(&source, &target);
                // both databases behind the pool
                for database in [&target, &source] {
                    let against = pooler.conninfo(database);
                    support::rdump_ok(&["verify", file, "-j4", "--against", &against]);
                }
            }
            // nothing of ours is left to the next client
            assert_eq!(left_behind(&pooler, &source, 8), pristine);

            let target = empty(&source);
            let against = pooler.conninfo(&target);
            expect_rdump(
                &["restore", &file, "-j4", "-d", &against],
                1,
                &format!("rdump: error: restore {REFUSAL}"),
            );
            assert_eq!(
                target.query_text("SELECT count(*) FROM pg_class WHERE oid >= 16384"),
                "0"
            );
            expect_rdump(
                &[
                    "snapshot",
                    "-d",
                    &through,
                    "-f",
                    &file,
                    "--role",
                    "pg_monitor",
                ],
                1,
                &format!("rdump: error: --role {REFUSAL}"),
            );
            assert_eq!(left_behind(&pooler, &source, 8), pristine);
        }
    }
}

/// A pooler announces other processes than those of the server, which others stand in the way of.
#[test]
fn waits_for_locks_are_told() {
    let source = source(18);
    let folder = Folder::new();
    let file = crate::errors::snapshot(&source, &folder);
    let target = empty(&source);
    support::rdump_ok(&["restore", "-q", &file, "-d", &target.conninfo()]);
    let patience = std::time::Duration::from_millis(300);
    let expected = |process: u32| {
        format!(
            "still waiting for a lock after … s: process {process} (user \"postgres\", application \
             \"psql\") holds an ACCESS EXCLUSIVE lock on table public.large, idle in transaction \
             since … UTC after LOCK TABLE"
        )
    };

    let pooler = Pooler::start(source.server, "transaction", 5, "");
    let (conninfo, archive) = (pooler.conninfo(&target), file.clone());
    let compare = async move |progress| {
        let options = rdump::proof::CompareOptions {
            jobs: 2,
            lock_patience: patience,
            ..rdump::proof::CompareOptions::default()
        };
        let archive = rdump::storage::LocalFile::open(&archive)?;
        let reader = rdump::archive::RandomReader::open(archive)?;
        let connector = hooked::connector(&conninfo);
        let compared = rdump::proof::compare(&reader, connector, &options, progress).await?;
        assert!(compared.is_equal(), "{:?}", compared.findings);
        Ok(())
    };
    let mut other = Other::new(&target);
    let process = other.run("BEGIN; LOCK TABLE large");
    let heard = warned(compare, 1, move || drop(other));
    assert_eq!(heard, [expected(process)]);

    let pooler = Pooler::start(source.server, "session", 5, "");
    target.sql("TRUNCATE large");
    let (conninfo, archive) = (pooler.conninfo(&target), file.clone());
    let load = async move |progress| {
        let mut options = rdump::restore::Options {
            jobs: 2,
            lock_patience: patience,
            ..rdump::restore::Options::default()
        };
        options.selection.parts.no_schema = true;
        options.selection.tables = vec!["large".into()];
        let input = rdump::restore::Input::File(archive.into());
        let connector = hooked::connector(&conninfo);
        let report = rdump::restore::run(connector, input, options, progress).await?;
        assert!(report.failures.is_empty(), "{:?}", report.failures);
        Ok(())
    };
    let mut other = Other::new(&target);
    let process = other.run("BEGIN; LOCK TABLE large");
    let heard = warned(load, 1, move || drop(other));
    assert_eq!(heard, [expected(process)]);
}

/// A pool with fewer connections than asked for: fewer are used, and nobody waits for ever.
#[test]
fn small_pools() {
    let major = 18;
    let source = source(major);
    for mode in ["transaction", "session"] {
        let pooler = Pooler::start(source.server, mode, 3, "");
        let folder = Folder::new();
        let file = folder.file("archive.rdump");
        let through = pooler.conninfo(&source);
        let warning = "rdump: warning: the server has too few free connections: using 3 instead of 6 \
                       (another did not begin a transaction within 5 s)\n";
        let finished = support::rdump_ok(&["snapshot", "-j6", "-d", &through, "-f", &file]);
        assert!(finished.stderr.contains(warning), "{}", finished.stderr);
        let finished = support::rdump_ok(&["verify", &file, "-j6", "--against", &through]);
        assert!(
            finished
                .stderr
                .contains("too few free connections: using 3 instead of 6"),
            "{}",
            finished.stderr
        );
        let target = empty(&source);
        let against = pooler.conninfo(&target);
        if mode == "session" {
            let finished = support::rdump_ok(&["restore", &file, "-j6", "-d", &against]);
            assert!(
                finished
                    .stderr
                    .contains("too few free connections: using 3 instead of 6"),
                "{}",
                finished.stderr
            );
            support::assert_same_rows(&source, &target);
        } else {
            // one connection that all clients share by turns
            let narrow = Pooler::start(source.server, mode, 1, "");
            for pooler in [&pooler, &narrow] {
                expect_rdump(
                    &["restore", &file, "-j6", "-d", &pooler.conninfo(&target)],
                    1,
                    &format!("rdump: error: restore {REFUSAL}"),
                );
            }
            let finished =
                support::rdump_ok(&["snapshot", "-d", &narrow.conninfo(&source), "-f", &file]);
            assert!(
                finished.stderr.contains("using 1 instead of 2"),
                "{}",
                finished.stderr
            );
        }
    }
}

#[test]
fn session_mode() {
    for major in VERSIONS {
        let source = source(major);
        source.server.ensure_roles();
        let pooler = Pooler::start(source.server, "session", 20, "");
        let folder = Folder::new();
        let file = folder.file("archive.rdump");
        let through = pooler.conninfo(&source);
        support::rdump_ok(&["snapshot", "-j4", "-d", &through, "-f", &file]);
        support::rdump_ok(&[
            "snapshot", "-d", &through, "-f", &file, "--role", "postgres",
        ]);
        let target = empty(&source);
        let against = pooler.conninfo(&target);
        support::rdump_ok(&["restore", &file, "-j4", "-d", &against]);
        support::assert_same_schema(&source, &target);
        support::assert_same_rows(&source, &target);
        support::rdump_ok(&["verify", &file, "-j4", "--against", &against]);
    }
}

/// Where there are no transactions, there is no snapshot.
#[test]
fn statement_mode() {
    let source = source(18);
    let pooler = Pooler::start(source.server, "statement", 20, "");
    let folder = Folder::new();
    let file = folder.file("archive.rdump");
    let through = pooler.conninfo(&source);
    expect_rdump(
        &["snapshot", "-j4", "-d", &through, "-f", &file],
        1,
        "rdump: error: transaction blocks not allowed in statement pooling mode\n",
    );
    assert!(folder.names().is_empty(), "{:?}", folder.names());
}
