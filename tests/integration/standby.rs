//! Snapshots of a hot standby: the rows of its primary, what cannot be read there, and what
//! happens when replay needs what a snapshot holds.

use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use rdump::snapshot::{Options, Window};

use crate::errors::{Folder, add_noise, small_database_on, wait_for};
use crate::hooked;
use crate::support::{self, Server, TestDatabase};

const PORT: u16 = 5433;

/// A primary, and its standby in the same container.
struct Pair {
    primary: &'static Server,
    /// Replay is the whole server's: what one test makes it do would end another's snapshot.
    alone: Mutex<()>,
}

/// Replay waits this long for a snapshot, then ends it.
const PATIENCE: &str = "300ms";

fn pair(major: u32) -> &'static Pair {
    static PAIRS: [(u32, OnceLock<Pair>); 2] = [(15, OnceLock::new()), (18, OnceLock::new())];
    let (_, slot) = PAIRS
        .iter()
        .find(|(known, _)| *known == major)
        .expect("a version that is tested");
    slot.get_or_init(|| start(major))
}

fn start(major: u32) -> Pair {
    // for the whole process, as the shared servers
    let primary: &'static Server =
        Box::leak(Box::new(Server::start(major, &["-c", "wal_level=replica"])));
    // settings of the primary's that a standby must not have less of
    let script = format!(
        "set -e
         cd /tmp
         bin=/usr/lib/postgresql/{major}/bin
         $bin/pg_basebackup -D /tmp/standby -U postgres -R -X stream -c fast --no-sync
         chmod 0700 /tmp/standby
         $bin/pg_ctl start -w -D /tmp/standby -l /tmp/standby.log -o '-p {PORT} -c fsync=off \
             -c max_connections=200 -c max_locks_per_transaction=256 -c max_prepared_transactions=20 \
             -c max_standby_streaming_delay={PATIENCE} -c listen_addresses=*' >/dev/null
         $bin/psql -X -A -t -p {PORT} -U postgres -c 'SELECT pg_is_in_recovery()'"
    );
    let mut command = Command::new("docker");
    command
        .args(["exec", "-u", "postgres", &primary.container, "bash", "-c"])
        .arg(script);
    let answer = support::run_ok(&mut command, b"").text();
    assert_eq!(answer.trim(), "t", "it is a standby");
    Pair {
        primary,
        alone: Mutex::new(()),
    }
}

impl Pair {
    /// For one test at a time; another one that failed is no reason to fail.
    fn alone(&self) -> MutexGuard<'_, ()> {
        self.alone
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn standby(&self, database: &TestDatabase) -> String {
        self.primary.conninfo_of_neighbour(PORT, &database.name)
    }

    /// Until the standby has replayed all that the primary has committed.
    fn catch_up(&self) {
        let primary = self.primary.conninfo("postgres");
        let standby = self.primary.conninfo_of_neighbour(PORT, "postgres");
        let written = hooked::ask(&primary, "SELECT pg_current_wal_insert_lsn()");
        wait_for("the standby catches up", 60, || {
            hooked::ask(
                &standby,
                &format!("SELECT pg_last_wal_replay_lsn() >= '{written}'"),
            ) == "t"
        });
    }

    /// Until replay stands before the removal of deleted rows, and has told whoever reads them. A
    /// server that waits for its client counts no conflict before it need not wait any more, and
    /// the startup process shows what it waits for only as long as it is patient: so it is known by
    /// WAL that is there and is not replayed.
    fn hold_up_replay(&self, database: &TestDatabase) {
        let standby = self.primary.conninfo_of_neighbour(PORT, "postgres");
        for _ in 0..150 {
            // leaves rows that another session, such as autovacuum's ANALYZE, might still see
            hooked::sql(&database.conninfo(), "VACUUM sales.orders");
            let written = hooked::ask(
                &self.primary.conninfo("postgres"),
                "SELECT pg_current_wal_insert_lsn()",
            );
            let places = || {
                hooked::ask(
                    &standby,
                    &format!(
                        "SELECT concat_ws(' ', pg_last_wal_receive_lsn() >= '{written}',
                                          pg_last_wal_replay_lsn())"
                    ),
                )
            };
            let replayed = || {
                let query = format!("SELECT pg_last_wal_replay_lsn() >= '{written}'");
                hooked::ask(&standby, &query) == "t"
            };
            wait_for("the standby receives WAL", 60, || {
                replayed() || places().starts_with("t ")
            });
            // in one place for much longer than its patience
            let (mut place, mut since) = (places(), Instant::now());
            while !replayed() {
                if since.elapsed() > Duration::from_secs(3) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(100));
                let now = places();
                if now != place {
                    (place, since) = (now, Instant::now());
                }
            }
            // a session that did not wait for its client just then has failed at once; it counts
            // the conflict only when its transaction is over
            if self.conflicts(&database.name) > 0 || self.failed_transactions(&database.name) {
                return;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        panic!("replay is never held up");
    }

    fn failed_transactions(&self, database: &str) -> bool {
        let standby = self.primary.conninfo_of_neighbour(PORT, "postgres");
        let query = format!(
            "SELECT count(*) FROM pg_stat_activity
             WHERE datname = '{database}' AND state = 'idle in transaction (aborted)'"
        );
        hooked::ask(&standby, &query) != "0"
    }

    /// How often replay has ended what somebody did in the database.
    fn conflicts(&self, database: &str) -> u32 {
        let standby = self.primary.conninfo_of_neighbour(PORT, "postgres");
        let query = format!(
            "SELECT confl_lock + confl_snapshot FROM pg_stat_database_conflicts WHERE datname = '{database}'"
        );
        hooked::ask(&standby, &query).parse().expect("a number")
    }
}

fn the_rows_of_the_primary(major: u32) {
    let pair = pair(major);
    let _alone = pair.alone();
    let source = small_database_on(pair.primary, "followed");
    source.sql(
        "CREATE TABLE large AS SELECT i, repeat(md5(i::text), 4) AS filler FROM generate_series(1, 30000) i;
         CREATE SEQUENCE tickets START 100 INCREMENT 5;
         SELECT nextval('tickets'), nextval('tickets');
         CREATE UNLOGGED TABLE cached (id serial, t text);
         INSERT INTO cached (t) VALUES ('soon lost');
         SELECT lo_from_bytea(4711, '\\x00ff'), lo_from_bytea(4712, '\\x01');",
    );
    pair.catch_up();
    let folder = Folder::new();
    let file = folder.file("archive.rdump");
    let mut warnings = vec![
        "public.cached: rows of unlogged tables cannot be read on a standby".to_owned(),
        "public.cached_id_seq: values of unlogged sequences cannot be read on a standby".to_owned(),
    ];
    let finished =
        support::rdump_ok(&["snapshot", "-j4", "-d", &pair.standby(&source), "-f", &file]);
    for warning in &warnings {
        let line = format!("rdump: warning: {warning}\n");
        assert!(finished.stderr.contains(&line), "{}", finished.stderr);
    }
    // what sessions prefer to be is not what ours are
    let serializable = format!(
        "{} options='-c default_transaction_isolation=serializable -c default_transaction_deferrable=on'",
        pair.standby(&source)
    );
    support::rdump_ok(&["snapshot", "-d", &serializable, "-f", &file]);
    let split = folder.file("split.rdump");
    let options = Options {
        jobs: 4,
        least_slice: 8192,
        ..hooked::options(&split, None)
    };
    let mut report = hooked::run(&pair.standby(&source), &options).expect("a snapshot");
    assert_eq!(report.connections, 4);
    report.warnings.sort();
    warnings.sort();
    assert_eq!(report.warnings, warnings);

    for file in [&file, &split] {
        let target = pair
            .primary
            .create_database_with("followed_target", "TEMPLATE template0");
        support::rdump_ok(&["restore", file, "-j2", "-d", &target.conninfo()]);
        support::assert_same_schema(&source, &target);
        let mut expected = support::row_counts_and_hashes(&source);
        let mut actual = support::row_counts_and_hashes(&target);
        let unread = ["table public.cached", "sequence public.cached_id_seq"];
        for name in unread {
            assert!(expected.remove(name).is_some(), "{name}");
        }
        assert!(
            actual
                .remove(unread[0])
                .expect("its definition")
                .starts_with("0|")
        );
        assert_eq!(actual.remove(unread[1]).expect("its definition"), "1|false");
        // WAL is written for many values of a sequence at once, and a standby is ahead by those
        for name in ["tickets", "customers_id_seq"] {
            let sequence = format!("sequence public.{name}");
            let query = format!("SELECT concat_ws('|', last_value, is_called::text) FROM {name}");
            let value = hooked::ask(&pair.standby(&source), &query);
            assert_eq!(actual.get(&sequence), Some(&value));
            let ahead = format!(
                "SELECT (SELECT last_value FROM {name}) <= {}",
                value.replace("|true", "")
            );
            assert_eq!(hooked::ask(&source.conninfo(), &ahead), "t", "{sequence}");
            expected.insert(sequence, value);
        }
        assert_eq!(expected, actual);
    }

    // a standby is proved equal as well, but for what cannot be read there
    pair.catch_up();
    let finished = support::rdump(&["verify", &file, "--against", &pair.standby(&source)]);
    assert!(
        matches!(finished.code, 0 | 3) && !finished.text().contains("sales.orders"),
        "{}: {}{}",
        finished.code,
        finished.text(),
        finished.stderr
    );
}

#[test]
fn the_rows_of_the_primary_on_15() {
    the_rows_of_the_primary(15);
}

#[test]
fn the_rows_of_the_primary_on_18() {
    the_rows_of_the_primary(18);
}

const HINT: &str = "the standby had to replay changes that conflict with the snapshot: raise \
    max_standby_streaming_delay, set hot_standby_feedback = on, or take the snapshot from the primary";

fn replay_ends_a_snapshot(major: u32) {
    let pair = pair(major);
    let _alone = pair.alone();
    // rows that the snapshot sees are removed; a table that it has locked is
    for change in [
        "DELETE FROM sales.orders; VACUUM sales.orders",
        "DROP TABLE customers",
        "TRUNCATE customers",
    ] {
        let source = small_database_on(pair.primary, "conflict");
        add_noise(&source, 20);
        pair.catch_up();
        let folder = Folder::new();
        let file = folder.file("archive.rdump");
        let (hook, tries) = {
            let (name, primary) = (source.name.clone(), pair.primary.conninfo(&source.name));
            hooked::at(Window::Copying, move || {
                // one by one: VACUUM runs in no transaction
                for statement in change.split("; ") {
                    hooked::sql(&primary, statement);
                }
                wait_for("replay has its way", 60, || pair.conflicts(&name) > 0);
            })
        };
        let options = Options {
            jobs: 3,
            ..hooked::options(&file, Some(hook))
        };
        let error = hooked::run(&pair.standby(&source), &options)
            .err()
            .unwrap_or_else(|| panic!("a snapshot in spite of {change}"));
        assert!(
            error.to_string().contains("conflict with recovery"),
            "{change}: {error}"
        );
        assert_eq!(error.hint_text(), Some(HINT), "{change}");
        assert_eq!((error.exit_code(), tries.of(Window::Copying)), (1, 1));
        assert!(folder.names().is_empty(), "{:?}", folder.names());
    }
}

#[test]
fn replay_ends_a_snapshot_on_15() {
    replay_ends_a_snapshot(15);
}

#[test]
fn replay_ends_a_snapshot_on_18() {
    replay_ends_a_snapshot(18);
}

/// The same in the middle of a COPY, as a user sees it.
fn replay_ends_a_copy(major: u32) {
    let pair = pair(major);
    let _alone = pair.alone();
    let source = small_database_on(pair.primary, "conflict_in_copy");
    add_noise(&source, 40);
    pair.catch_up();
    // nobody reads what it writes, and so it waits in the middle of its rows
    let mut child = support::rdump_command(&[
        "snapshot",
        "-Znone",
        "-j2",
        "-d",
        &pair.standby(&source),
        "-f",
        "-",
    ])
    .stdin(Stdio::null())
    .stdout(Stdio::piped())
    .stderr(Stdio::piped())
    .spawn()
    .expect("starting rdump");
    let standby = pair.standby(&source);
    wait_for("rows are copied", 60, || {
        hooked::ask(
            &standby,
            "SELECT count(*) FROM pg_stat_activity
             WHERE datname = current_database() AND query LIKE 'COPY%noise%' AND wait_event = 'ClientWrite'",
        ) != "0"
    });
    hooked::sql(&source.conninfo(), "DELETE FROM sales.orders");
    pair.hold_up_replay(&source);
    let mut archive = Vec::new();
    let mut stdout = child.stdout.take().expect("stdout is piped");
    stdout
        .read_to_end(&mut archive)
        .expect("reading the archive");
    let output = child.wait_with_output().expect("waiting for rdump");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("conflict with recovery"), "{stderr}");
    assert!(
        stderr.ends_with(&format!("rdump: hint: {HINT}\n")),
        "{stderr}"
    );
}

#[test]
fn replay_ends_a_copy_on_15() {
    replay_ends_a_copy(15);
}

#[test]
fn replay_ends_a_copy_on_18() {
    replay_ends_a_copy(18);
}
