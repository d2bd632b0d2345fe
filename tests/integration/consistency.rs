//! Snapshots of a database that never stands still: what is restored from them must be one moment
//! of it. Money moves between tables, and other sessions truncate, rewrite, drop, rename, attach
//! and detach without a pause.
//!
//! A few snapshots each time; 50 with RDUMP_SOAK set.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rdump::archive::RandomReader;
use rdump::snapshot::{Options, Window};
use rdump::storage::LocalFile;

use crate::errors::{Folder, wait_for};
use crate::hooked;
use crate::support::{self, TestDatabase, server};

const SCHEMA: &str = "
-- many pages, few bytes of text
CREATE TABLE account_1 WITH (fillfactor = 20) AS SELECT i AS id, 1000::bigint AS balance FROM generate_series(1, 20000) i;
CREATE TABLE account_2 (LIKE account_1) WITH (fillfactor = 20);
INSERT INTO account_2 SELECT * FROM account_1;
CREATE TABLE account_3 (LIKE account_1) WITH (fillfactor = 20);
INSERT INTO account_3 SELECT * FROM account_1;
ALTER TABLE account_1 ADD PRIMARY KEY (id);
ALTER TABLE account_2 ADD PRIMARY KEY (id);
ALTER TABLE account_3 ADD PRIMARY KEY (id);
-- written in pairs, in one transaction
CREATE TABLE debit (id bigserial PRIMARY KEY, token uuid, amount int);
CREATE TABLE credit (token uuid, amount int);

CREATE TABLE refilled AS SELECT i, 0 AS round FROM generate_series(1, 4000) i;
CREATE TABLE retyped AS SELECT i, i AS v FROM generate_series(1, 4000) i;
CREATE TABLE compacted AS SELECT i, 0 AS round, repeat('y', 60) AS filler FROM generate_series(1, 4000) i;
CREATE TABLE remade AS SELECT i, 0 AS round FROM generate_series(1, 4000) i;
CREATE TABLE swapped_a AS SELECT i, 'a' AS mark FROM generate_series(1, 3000) i;
CREATE TABLE swapped_b AS SELECT i, 'b' AS mark FROM generate_series(1, 2000) i;
CREATE TABLE swap_state AS SELECT 'a'::text AS mark_of_a;
CREATE TABLE parted (i int, round int) PARTITION BY RANGE (i);
CREATE TABLE part_stays PARTITION OF parted FOR VALUES FROM (0) TO (2000);
CREATE TABLE part_moves PARTITION OF parted FOR VALUES FROM (2000) TO (4000);
INSERT INTO parted SELECT i, 0 FROM generate_series(0, 3999) i;
CREATE TABLE part_state AS SELECT true AS attached;
CREATE TABLE widened AS SELECT i FROM generate_series(1, 4000) i;
CREATE TABLE widen_state AS SELECT 0 AS width;
";

const PGBENCH: &str = "\
\\set from random(1, 20000)
\\set to random(1, 20000)
\\set third random(1, 20000)
\\set amount random(1, 50)
BEGIN;
UPDATE account_1 SET balance = balance - :amount WHERE id = :from;
UPDATE account_2 SET balance = balance + :amount - 1 WHERE id = :to;
UPDATE account_3 SET balance = balance + 1 WHERE id = :third;
WITH made AS (INSERT INTO debit (token, amount) VALUES (gen_random_uuid(), :amount) RETURNING token)
INSERT INTO credit SELECT token, -:amount FROM made;
COMMIT;
";

/// What other sessions do over and over; each string is sent as one.
const CHURN: &[&[&str]] = &[
    &["BEGIN; TRUNCATE refilled;
       INSERT INTO refilled SELECT i, (random() * 1000000)::int FROM generate_series(1, 2000) i;
       INSERT INTO refilled SELECT i + 2000, r.round FROM generate_series(1, 2000) i,
           (SELECT min(round) AS round FROM refilled) r;
       UPDATE refilled SET round = (SELECT min(round) FROM refilled); COMMIT"],
    &[
        "ALTER TABLE retyped ALTER v TYPE bigint",
        "ALTER TABLE retyped ALTER v TYPE numeric",
        "ALTER TABLE retyped ALTER v TYPE int",
    ],
    &[
        "UPDATE compacted SET round = round + 1",
        "VACUUM FULL compacted",
        "VACUUM FULL account_3",
        "REINDEX TABLE account_2",
    ],
    &["BEGIN; DROP TABLE remade;
       CREATE TABLE remade AS SELECT i, r.round FROM generate_series(1, 4000) i,
           (SELECT (random() * 1000000)::int AS round) r; COMMIT"],
    &["BEGIN; ALTER TABLE swapped_a RENAME TO swapped_c; ALTER TABLE swapped_b RENAME TO swapped_a;
       ALTER TABLE swapped_c RENAME TO swapped_b;
       UPDATE swap_state SET mark_of_a = CASE mark_of_a WHEN 'a' THEN 'b' ELSE 'a' END; COMMIT"],
    &[
        "BEGIN; ALTER TABLE parted DETACH PARTITION part_moves;
         UPDATE part_state SET attached = false; COMMIT",
        "UPDATE part_moves SET round = round + 1",
        "BEGIN; ALTER TABLE parted ATTACH PARTITION part_moves FOR VALUES FROM (2000) TO (4000);
         UPDATE part_state SET attached = true; COMMIT",
    ],
    &[
        "BEGIN; ALTER TABLE widened ADD COLUMN x int DEFAULT 7; UPDATE widen_state SET width = 1; COMMIT",
        "BEGIN; ALTER TABLE widened DROP COLUMN x; UPDATE widen_state SET width = 0; COMMIT",
        // a dropped column counts among the 1600 that a table can have
        "BEGIN; DROP TABLE widened; CREATE TABLE widened AS SELECT i FROM generate_series(1, 4000) i; COMMIT",
    ],
    &[
        "CREATE TABLE passing_1 AS SELECT i FROM generate_series(1, 1000) i",
        "CREATE TABLE passing_2 AS SELECT i FROM generate_series(1, 1000) i; DROP TABLE passing_1",
        "DROP TABLE passing_2",
    ],
];

/// Each gives one row, "t".
const INVARIANTS: &[(&str, &str)] = &[
    (
        "money neither appears nor vanishes",
        "SELECT count(*) = 60000 AND sum(balance) = 60000000 FROM
         (SELECT * FROM account_1 UNION ALL SELECT * FROM account_2 UNION ALL SELECT * FROM account_3) a",
    ),
    (
        "the books agree with the accounts",
        "SELECT (SELECT sum(1000 - balance) FROM account_1) = (SELECT coalesce(sum(amount), 0) FROM debit)
            AND (SELECT sum(balance - 1000) FROM account_3) = (SELECT count(*) FROM credit)",
    ),
    (
        "debit and credit agree",
        "SELECT count(*) > 0 AND count(*) = count(d.token) AND count(*) = count(c.token)
                AND sum(d.amount) + sum(c.amount) = 0
         FROM debit d FULL JOIN credit c USING (token)",
    ),
    (
        "no key was handed out twice",
        "SELECT nextval('debit_id_seq') > (SELECT max(id) FROM debit)",
    ),
    (
        "what is refilled in one transaction is full",
        "SELECT count(*) = 4000 AND min(round) = max(round) AND count(DISTINCT i) = 4000 FROM refilled",
    ),
    (
        "what is rewritten is whole",
        "SELECT count(*) = 4000 AND sum(v) = 8002000 FROM retyped",
    ),
    (
        "what is compacted is whole",
        "SELECT count(*) = 4000 AND min(round) = max(round) FROM compacted",
    ),
    (
        "what is dropped and made again is whole",
        "SELECT count(*) = 4000 AND min(round) = max(round) FROM remade",
    ),
    (
        "tables that change names keep their rows",
        "SELECT (SELECT count(*) || min(mark) || max(mark) FROM swapped_a)
                 = CASE mark_of_a WHEN 'a' THEN '3000aa' ELSE '2000bb' END
            AND (SELECT count(*) || min(mark) || max(mark) FROM swapped_b)
                 = CASE mark_of_a WHEN 'b' THEN '3000aa' ELSE '2000bb' END FROM swap_state",
    ),
    (
        "a partition is attached or not, and whole",
        "SELECT (SELECT count(*) FROM parted) = CASE WHEN attached THEN 4000 ELSE 2000 END
            AND (SELECT relispartition FROM pg_class WHERE relname = 'part_moves') = attached
            AND (SELECT count(*) = 2000 AND min(round) = max(round) FROM part_moves) FROM part_state",
    ),
    (
        "a column is there or not",
        "SELECT (SELECT count(*) FROM pg_attribute
                 WHERE attrelid = 'widened'::regclass AND attname = 'x' AND NOT attisdropped) = width
            AND (SELECT count(*) = 4000 AND coalesce(min(to_jsonb(w)->>'x'), '7') = '7'
                        AND coalesce(max(to_jsonb(w)->>'x'), '7') = '7' FROM widened w)
         FROM widen_state",
    ),
    (
        "a table that comes and goes is whole while it is there",
        "SELECT coalesce(bool_and(
             (xpath('/row/c/text()', query_to_xml(format('SELECT count(*) AS c FROM %s', oid::regclass),
                                                  false, true, '')))[1]::text = '1000'), true)
         FROM pg_class WHERE relname LIKE 'passing%' AND relkind = 'r'",
    ),
];

/// The sessions that write, until stopped.
struct Churn {
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
    /// How often each did its work.
    rounds: Arc<Vec<AtomicU64>>,
}

impl Churn {
    fn start(database: &TestDatabase) -> Churn {
        let stop = Arc::new(AtomicBool::new(false));
        let rounds: Arc<Vec<AtomicU64>> =
            Arc::new((0..=CHURN.len()).map(|_| AtomicU64::new(0)).collect());
        let mut threads = Vec::new();
        for (number, statements) in CHURN.iter().enumerate() {
            let (stop, rounds) = (Arc::clone(&stop), Arc::clone(&rounds));
            let conninfo = database.conninfo();
            threads.push(std::thread::spawn(move || {
                churn(&conninfo, statements, &stop, &rounds[number]);
            }));
        }
        let (server, name) = (database.server, database.name.clone());
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&rounds));
        threads.push(std::thread::spawn(move || {
            while !stopped.load(Ordering::SeqCst) {
                let mut command = server.program("pgbench");
                command
                    .args(["-n", "-c", "3", "-T", "3", "-f", "-", "-U", "postgres"])
                    .arg(&name);
                let finished = support::run(&mut command, PGBENCH.as_bytes());
                assert_eq!(finished.code, 0, "pgbench: {}", finished.stderr);
                counted[CHURN.len()].fetch_add(1, Ordering::SeqCst);
            }
        }));
        Churn {
            stop,
            threads,
            rounds,
        }
    }

    /// Until each has done its work so often.
    fn wait(&self, rounds: u64) {
        let before: Vec<u64> = self.counts();
        wait_for("every session gets on with its work", 120, || {
            self.threads
                .iter()
                .any(std::thread::JoinHandle::is_finished)
                || self.counts()[..CHURN.len()]
                    .iter()
                    .zip(&before)
                    .all(|(now, before)| now - before >= rounds)
        });
        assert!(
            !self
                .threads
                .iter()
                .any(std::thread::JoinHandle::is_finished),
            "a session has ended"
        );
    }

    fn counts(&self) -> Vec<u64> {
        self.rounds
            .iter()
            .map(|count| count.load(Ordering::SeqCst))
            .collect()
    }

    fn finish(self) {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads {
            thread.join().expect("a session that writes");
        }
    }
}

fn churn(conninfo: &str, statements: &[&str], stop: &AtomicBool, rounds: &AtomicU64) {
    let run = async {
        let (client, connection) = tokio_postgres::connect(conninfo, tokio_postgres::NoTls)
            .await
            .expect("connecting");
        let connection = tokio::spawn(connection);
        while !stop.load(Ordering::SeqCst) {
            for statement in statements {
                // all of it was undone, and is done again, lest what follows find it half done
                while let Err(error) = client.batch_execute(statement).await {
                    let code = error.code().map(|code| code.code().to_owned());
                    assert_eq!(code.as_deref(), Some("40P01"), "{statement}: {error:?}");
                    client
                        .batch_execute("ROLLBACK")
                        .await
                        .expect("rolling back");
                }
            }
            rounds.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        drop(client);
        let _ = connection.await;
    };
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("starting a runtime")
        .block_on(run);
}

/// What one snapshot got wrong.
fn faults(source: &TestDatabase, file: &str) -> Vec<String> {
    let server = source.server;
    let target = server.create_database_with("moment", "TEMPLATE template0");
    support::rdump_ok(&["restore", file, "-j2", "-d", &target.conninfo()]);
    INVARIANTS
        .iter()
        .filter_map(|(rule, query)| {
            let answer = match hooked::try_all(&target.conninfo(), query) {
                Ok(rows) => rows.join(" "),
                Err(error) => format!("{error:?}"),
            };
            (answer != "t").then(|| format!("{rule}: {answer}"))
        })
        .collect()
}

/// Into how many pieces at least the rows of a table came.
fn chunks(file: &str, relation: &str) -> usize {
    let reader =
        RandomReader::open(LocalFile::open(file).expect("the archive")).expect("an archive");
    let entries = reader.entries().expect("entries");
    let entry = entries
        .iter()
        .find(|entry| {
            entry.kind == "TABLE DATA"
                && entry.relation.as_ref().is_some_and(|name| name == relation)
        })
        .expect("the rows of the table");
    reader.chunks(entry.id).expect("chunks").len()
}

fn snapshots_of_a_moving_database(major: u32) {
    let runs = if std::env::var_os("RDUMP_SOAK").is_some() {
        25
    } else {
        2
    };
    let source = server(major).create_database("moving");
    source.sql(SCHEMA);
    let churn = Churn::start(&source);
    let mut held = 0;
    let mut tries = 0;
    let mut slowest = Duration::ZERO;
    let mut found: Vec<String> = Vec::new();
    for run in 1..=runs {
        churn.wait(2);
        let folder = Folder::new();
        let file = folder.file("archive.rdump");
        let (hook, tried) = hooked::at(Window::Copying, || {});
        let options = Options {
            jobs: 4,
            reading: Default::default(),
            least_slice: 64 << 10,
            ..hooked::options(&file, Some(hook))
        };
        let started = Instant::now();
        let outcome = hooked::run(&source.conninfo(), &options);
        slowest = slowest.max(started.elapsed());
        tries += tried.count();
        let faults = match outcome {
            Err(error) => vec![format!("no snapshot: {error}")],
            Ok(_) => {
                // its 0.3 MB of text would be one chunk, had its pages not been split
                if run == 1 {
                    let pieces = chunks(&file, "account_1");
                    assert!(pieces >= 2, "account_1 came in {pieces} pieces");
                }
                faults(&source, &file)
            }
        };
        if faults.is_empty() {
            held += 1;
        }
        found.extend(faults.iter().map(|fault| format!("run {run}: {fault}")));
    }
    println!(
        "consistency on {major}: {held} of {runs} snapshots held, {tries} tries, the slowest took {:.1} s; \
         the others did their work {:?} times",
        slowest.as_secs_f64(),
        churn.counts()
    );
    churn.finish();
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn a_moving_database_on_15() {
    snapshots_of_a_moving_database(15);
}

#[test]
fn a_moving_database_on_18() {
    snapshots_of_a_moving_database(18);
}

/// The rules themselves: each holds at the beginning, and is broken by what it is to notice.
#[test]
fn broken_moments_are_noticed() {
    const BREAK: &[&str] = &[
        "UPDATE account_2 SET balance = balance + 1 WHERE id = 7",
        "UPDATE account_1 SET balance = balance - 5 WHERE id = 7; UPDATE account_2 SET balance = balance + 5 WHERE id = 7",
        "DELETE FROM credit",
        "SELECT setval('debit_id_seq', 1, false)",
        "TRUNCATE refilled",
        "TRUNCATE retyped",
        "DELETE FROM compacted WHERE i < 10",
        "TRUNCATE remade",
        "TRUNCATE swapped_b",
        "TRUNCATE part_moves",
        "UPDATE widen_state SET width = 1",
        "CREATE TABLE passing_1 (i int)",
    ];
    assert_eq!(BREAK.len(), INVARIANTS.len());
    let database = server(18).create_database("broken_moment");
    let conninfo = database.conninfo();
    hooked::sql(&conninfo, SCHEMA);
    hooked::sql(
        &conninfo,
        "WITH made AS (INSERT INTO debit (token, amount) VALUES (gen_random_uuid(), 9) RETURNING token)
         INSERT INTO credit SELECT token, -9 FROM made;
         UPDATE account_1 SET balance = balance - 9 WHERE id = 1;
         UPDATE account_2 SET balance = balance + 8 WHERE id = 1;
         UPDATE account_3 SET balance = balance + 1 WHERE id = 1;",
    );
    for ((rule, query), damage) in INVARIANTS.iter().zip(BREAK) {
        assert_eq!(hooked::ask(&conninfo, query), "t", "{rule}");
        hooked::sql(&conninfo, damage);
        assert_ne!(hooked::ask(&conninfo, query), "t", "{rule}, after {damage}");
    }
}
