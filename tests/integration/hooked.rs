//! Snapshots taken through the library, with something done in their windows, and forged ones.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdump::archive::{ArchiveWriter, Codec, Contents, Entry, EntryId, RandomReader, Section};
use rdump::catalog::Scope;
use rdump::postgres::Connector;
use rdump::postgres::conninfo::{ConnectionFlags, Environment, resolve};
use rdump::report::Progress;
use rdump::snapshot::{self, Options, Output, Window, WindowHook};
use rdump::storage::LocalFile;

use crate::errors::wait_for;
use crate::support::{self, Server, TestDatabase};

pub fn connector(conninfo: &str) -> Connector {
    let flags = ConnectionFlags {
        dbname: Some(conninfo.to_owned()),
        ..ConnectionFlags::default()
    };
    let environment = Environment {
        variables: Default::default(),
        home: None,
        ..Environment::of_process()
    };
    Connector::new(resolve(&flags, &environment).expect("a conninfo string"))
}

/// What a run does unless a test wants it otherwise.
pub fn options(file: &str, hook: Option<WindowHook>) -> Options {
    Options {
        output: Output::File(file.into()),
        jobs: 2,
        codec: Codec::default(),
        encryption: None,
        lock_wait: Duration::from_secs(30),
        sync: false,
        scope: Scope::default(),
        reading: Default::default(),
        least_slice: rdump::snapshot::LEAST_SLICE,
        window_hook: hook,
    }
}

pub fn run(conninfo: &str, options: &Options) -> rdump::Result<snapshot::Report> {
    tokio::runtime::Runtime::new()
        .expect("starting a runtime")
        .block_on(snapshot::run(
            connector(conninfo),
            options,
            Arc::new(Progress::default()),
        ))
}

/// Writes an archive without rows again with other texts: of the first entry of each kind named, its
/// `create`.
pub fn forge(from: &str, to: &str, texts: &[(&str, &str)]) {
    let reader = RandomReader::open(LocalFile::open(from).expect("a file")).expect("an archive");
    let mut entries: Vec<Entry> = reader.entries().expect("entries");
    assert!(entries.iter().all(|entry| entry.contents == Contents::None));
    for (kind, text) in texts {
        let entry = entries.iter_mut().find(|entry| entry.kind == *kind);
        entry.expect("an entry to forge").create = (*text).into();
    }
    let file = std::fs::File::create(to).expect("a new file");
    let mut writer = ArchiveWriter::begin(file, reader.header(), Codec::default()).expect("begun");
    writer.write_entries(&entries).expect("entries written");
    writer.finish().expect("finished");
}

/// Writes an archive again without the entries that have contents, and these optional flags.
pub fn forge_without_data(from: &str, to: &str, optional_flags: u32) {
    let reader = RandomReader::open(LocalFile::open(from).expect("a file")).expect("an archive");
    let mut entries = reader.entries().expect("entries");
    entries.retain(|entry| entry.contents == Contents::None && entry.section != Section::Data);
    let numbers: std::collections::HashMap<EntryId, EntryId> = (1..)
        .map(EntryId)
        .zip(&entries)
        .map(|(new, entry)| (entry.id, new))
        .collect();
    for entry in &mut entries {
        entry.id = numbers[&entry.id];
        let needed = entry.dependencies.iter();
        entry.dependencies = needed.filter_map(|id| numbers.get(id).copied()).collect();
    }
    let mut header = reader.header().clone();
    header.optional_flags = optional_flags;
    let file = std::fs::File::create(to).expect("a new file");
    let mut writer = ArchiveWriter::begin(file, &header, Codec::default()).expect("begun");
    writer.write_entries(&entries).expect("entries written");
    writer.finish().expect("finished");
}

/// A hook that does something the first time that a window comes, and how many tries there were.
pub fn at(window: Window, action: impl Fn() + Send + Sync + 'static) -> (WindowHook, Tries) {
    at_each(move |now| {
        if now == window {
            action();
        }
    })
}

/// Calls `action` the first time that each window comes.
pub fn at_each(action: impl Fn(Window) + Send + Sync + 'static) -> (WindowHook, Tries) {
    let seen: Arc<[AtomicU32; 4]> = Arc::default();
    let tries = Tries(Arc::clone(&seen));
    let action = Arc::new(action);
    let hook: WindowHook = Arc::new(move |window| {
        let first = seen[window as usize].fetch_add(1, Ordering::SeqCst) == 0;
        let action = Arc::clone(&action);
        Box::pin(async move {
            if first {
                tokio::task::spawn_blocking(move || action(window))
                    .await
                    .expect("the action of a window");
            }
        })
    });
    (hook, tries)
}

/// How often each window came.
pub struct Tries(Arc<[AtomicU32; 4]>);

impl Tries {
    /// How often the snapshot listed tables, from the beginning.
    pub fn count(&self) -> u32 {
        self.of(Window::Listed)
    }

    pub fn of(&self, window: Window) -> u32 {
        self.0[window as usize].load(Ordering::SeqCst)
    }
}

/// Runs SQL over a connection of its own, without a program for it; panics where it fails.
pub fn sql(conninfo: &str, sql: &str) {
    ask_all(conninfo, sql);
}

/// The first column of the last row of a query, as text.
pub fn ask(conninfo: &str, sql: &str) -> String {
    ask_all(conninfo, sql).pop().expect("a row")
}

/// The first column of each row.
pub fn ask_all(conninfo: &str, sql: &str) -> Vec<String> {
    try_all(conninfo, sql)
        .unwrap_or_else(|error| panic!("{sql}: {error}: {:?}", error.as_db_error()))
}

pub fn try_all(conninfo: &str, sql: &str) -> Result<Vec<String>, tokio_postgres::Error> {
    let run = async {
        let (client, connection) = tokio_postgres::connect(conninfo, tokio_postgres::NoTls).await?;
        let connection = tokio::spawn(connection);
        let messages = client.simple_query(sql).await?;
        drop(client);
        let _ = connection.await;
        Ok(messages
            .iter()
            .filter_map(|message| match message {
                tokio_postgres::SimpleQueryMessage::Row(row) => {
                    Some(row.get(0).unwrap_or_default().to_owned())
                }
                _ => None,
            })
            .collect())
    };
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("starting a runtime")
        .block_on(run)
}

/// DDL that runs or waits, each in a session of its own.
#[derive(Clone, Default)]
pub struct Background {
    threads: Arc<Mutex<Vec<std::thread::JoinHandle<()>>>>,
    ended: Arc<AtomicU32>,
    /// How many waited for a lock when all had ended or waited.
    waiting: Arc<AtomicU32>,
}

impl Background {
    pub fn start(&self, server: &'static Server, database: &str, statements: String) {
        let (database, ended) = (database.to_owned(), Arc::clone(&self.ended));
        let thread = std::thread::spawn(move || {
            sql(&server.conninfo(&database), &statements);
            ended.fetch_add(1, Ordering::SeqCst);
        });
        self.threads.lock().expect("threads").push(thread);
    }

    /// Waits until each has ended or waits for a lock.
    pub fn settle(&self, server: &'static Server, database: &str) {
        let all = self.threads.lock().expect("threads").len() as u32;
        wait_for("each session ends or waits for a lock", 60, || {
            let ended = self.ended.load(Ordering::SeqCst);
            let waiting = waiting_for_locks(server, database);
            self.waiting.store(waiting, Ordering::SeqCst);
            ended + waiting == all
        });
    }

    pub fn finish(&self) -> u32 {
        for thread in self.threads.lock().expect("threads").drain(..) {
            thread.join().expect("DDL runs once it need not wait");
        }
        self.waiting.load(Ordering::SeqCst)
    }
}

pub fn waiting_for_locks(server: &'static Server, database: &str) -> u32 {
    count(
        server,
        &format!("datname = '{database}' AND wait_event_type = 'Lock'"),
    )
}

/// Sessions of which this holds.
pub fn count(server: &'static Server, condition: &str) -> u32 {
    let query = format!("SELECT count(*) FROM pg_stat_activity WHERE {condition}");
    let answer = ask(&server.conninfo("postgres"), &query);
    answer.parse().expect("a number")
}

pub fn restored(source: &TestDatabase, file: &str) -> TestDatabase {
    let target = source
        .server
        .create_database_with("ddl_target", "TEMPLATE template0");
    support::rdump_ok(&["restore", file, "-d", &target.conninfo()]);
    target
}

/// A restore from a file through the library.
pub fn restore(
    conninfo: &str,
    file: &str,
    options: rdump::restore::Options,
) -> rdump::restore::Report {
    let input = rdump::restore::Input::File(file.into());
    let progress = Arc::new(Progress::default());
    tokio::runtime::Runtime::new()
        .expect("starting a runtime")
        .block_on(rdump::restore::run(
            connector(conninfo),
            input,
            options,
            progress,
        ))
        .expect("a restore that runs to its end")
}
