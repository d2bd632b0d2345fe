//! Snapshot and restore against pg_dump and pg_restore, in one run: `cargo bench`.
//!
//! Runs the programs as a user would, in turn (A B B A ...), on a private local server, and prints
//! the ratios pair by pair: wall time, CPU of the client, peak memory, size on disk. Needs local
//! server programs (RDUMP_BENCH_BIN names their folder); RDUMP_BENCH_SCALE, RDUMP_BENCH_TABLES and
//! RDUMP_BENCH_PAIRS set pgbench's scale, the tables of the comparison of definitions, and the
//! number of pairs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use rdump::postgres::disposable::DisposableServer;

/// One run of one program.
#[derive(Debug, Clone, Copy)]
struct Figures {
    wall: f64,
    cpu: f64,
    peak_megabytes: f64,
    size_megabytes: f64,
}

fn main() {
    // `cargo test --benches` only wants to know that it starts
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let scale = number("RDUMP_BENCH_SCALE", 20);
    let pairs = number("RDUMP_BENCH_PAIRS", 5);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let server = runtime
        .block_on(DisposableServer::start(None, &mut |message| {
            println!("{message}")
        }))
        .unwrap_or_else(|error| panic!("{error}"));
    let folder = tempfile::tempdir().expect("a temporary folder");
    println!(
        "server: {}; pgbench scale {scale}; {pairs} pairs",
        server.origin()
    );

    let programs = programs(server.origin());
    let tool = |name: &str| programs.join(name).display().to_string();
    run(
        &tool("psql"),
        &[
            "-qX",
            "-d",
            &server.conninfo(),
            "-c",
            "CREATE DATABASE bench",
        ],
    );
    let bench = server.conninfo_of("bench");
    run(
        &tool("pgbench"),
        &["-i", "-q", "-s", &scale.to_string(), "-d", &bench],
    );
    // as others fill it: pgbench's own filler is empty
    run(
        &tool("psql"),
        &[
            "-qX",
            "-d",
            &bench,
            "-c",
            "UPDATE pgbench_accounts SET filler = md5(aid::text) || md5((aid * 7)::text)",
            "-c",
            "VACUUM (FULL, ANALYZE)",
        ],
    );

    let rdump = env!("CARGO_BIN_EXE_rdump");
    let archive = folder.path().join("bench.rdump");
    let directory = folder.path().join("bench.dir");
    let archive_name = archive.display().to_string();
    let directory_name = directory.display().to_string();

    compare_schemas(&server, &tool, pairs);
    compare(
        "snapshot -j2 -Z zstd:1 / pg_dump -Fd -j2 -Z zstd:1",
        pairs,
        |ours| {
            if ours {
                measure(
                    rdump,
                    &[
                        "snapshot",
                        "-q",
                        "-d",
                        &bench,
                        "-f",
                        &archive_name,
                        "-j2",
                        "-Z",
                        "zstd:1",
                    ],
                    &archive,
                )
            } else {
                let _ = fs::remove_dir_all(&directory);
                measure(
                    &tool("pg_dump"),
                    &[
                        "-Fd",
                        "-j2",
                        &format!("-Z{}", pg_dump_codec(&tool("pg_dump"))),
                        "-d",
                        &bench,
                        "-f",
                        &directory_name,
                    ],
                    &directory,
                )
            }
        },
    );
    compare("restore --parallel 2 / pg_restore -j2", pairs, |ours| {
        run(
            &tool("psql"),
            &[
                "-qX",
                "-d",
                &server.conninfo(),
                "-c",
                "DROP DATABASE IF EXISTS target",
                "-c",
                "CREATE DATABASE target TEMPLATE template0",
            ],
        );
        let target = server.conninfo_of("target");
        if ours {
            measure(
                rdump,
                &[
                    "restore",
                    "-q",
                    "-d",
                    &target,
                    &archive_name,
                    "--parallel",
                    "2",
                ],
                &archive,
            )
        } else {
            measure(
                &tool("pg_restore"),
                &["-j2", "-d", &target, &directory_name],
                &directory,
            )
        }
    });
}

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

/// Definitions alone, of many tables: what reading the catalogs costs.
fn compare_schemas(server: &DisposableServer, tool: &dyn Fn(&str) -> String, pairs: usize) {
    let tables = number("RDUMP_BENCH_TABLES", 10_000);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let psql = |conninfo: &str, sql: &str| {
        fs::write(path("script"), sql).expect("writing a script");
        run(
            &tool("psql"),
            &["-qX", "-d", conninfo, "-f", &path("script")],
        );
    };
    psql(&server.conninfo(), "CREATE DATABASE tables");
    let conninfo = server.conninfo_of("tables");
    psql(
        &conninfo,
        &format!(
            "SELECT format('CREATE TABLE t%s (id int PRIMARY KEY, name text, parent int REFERENCES t%s); \
                            CREATE INDEX ON t%s (name); CREATE INDEX ON t%s (parent); \
                            COMMENT ON TABLE t%s IS ''number %s''', i, greatest(i - 1, 1), i, i, i, i)
             FROM generate_series(1, {tables}) i
             \\gexec\n\
             VACUUM ANALYZE;"
        ),
    );
    let (ours_name, theirs_name) = (path("ours"), path("theirs"));
    compare(
        &format!("snapshot -s / pg_dump -Fc -s, {tables} tables"),
        pairs,
        |ours| match ours {
            true => measure(
                env!("CARGO_BIN_EXE_rdump"),
                &["snapshot", "-q", "-s", "-d", &conninfo, "-f", &ours_name],
                Path::new(&ours_name),
            ),
            false => measure(
                &tool("pg_dump"),
                &["-Fc", "-s", "-d", &conninfo, "-f", &theirs_name],
                Path::new(&theirs_name),
            ),
        },
    );
}

/// The folder of the server's own programs: "PostgreSQL 15.18 from /usr/lib/postgresql/15/bin".
fn programs(origin: &str) -> PathBuf {
    if let Some(folder) = std::env::var_os("RDUMP_BENCH_BIN") {
        return folder.into();
    }
    match origin.split_once(" from /") {
        Some((_, folder)) => Path::new("/").join(folder),
        None => panic!("{origin}: name the folder of pg_dump and its like in RDUMP_BENCH_BIN"),
    }
}

/// zstd where this pg_dump has it (16 and later), else gzip: 15 knows nothing else.
fn pg_dump_codec(pg_dump: &str) -> &'static str {
    let version = Command::new(pg_dump)
        .arg("--version")
        .output()
        .expect("pg_dump --version");
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let major: u32 = version
        .rsplit(' ')
        .find_map(|word| word.trim().split('.').next()?.parse().ok())
        .or_else(|| {
            version
                .split_whitespace()
                .find_map(|word| word.split('.').next()?.parse().ok())
        })
        .unwrap_or(0);
    if major >= 16 { "zstd:1" } else { "1" }
}

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program)
        .args(arguments)
        .stdout(Stdio::null())
        .status()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(status.success(), "{program} {arguments:?}: {status}");
}

/// Runs a program to its end; the kernel's own account of it and its children.
fn measure(program: &str, arguments: &[&str], result: &Path) -> Figures {
    let started = Instant::now();
    // wait4 below takes its place: only it tells what the process has used
    #[allow(clippy::zombie_processes)]
    let child = Command::new(program)
        .args(arguments)
        .stdout(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let mut status = 0;
    // SAFETY: both pointers are to live values of the right types.
    let (waited, usage) = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        let waited = libc::wait4(child.id() as libc::pid_t, &mut status, 0, &mut usage);
        (waited, usage)
    };
    let wall = started.elapsed().as_secs_f64();
    assert!(
        waited > 0 && libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0,
        "{program} {arguments:?} failed"
    );
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    Figures {
        wall,
        cpu: seconds(usage.ru_utime) + seconds(usage.ru_stime),
        // in kilobytes on Linux; of the largest process
        peak_megabytes: usage.ru_maxrss as f64 / 1e3,
        size_megabytes: size(result) as f64 / 1e6,
    }
}

fn size(path: &Path) -> u64 {
    if path.is_dir() {
        fs::read_dir(path)
            .expect("a folder")
            .map(|entry| size(&entry.expect("an entry").path()))
            .sum()
    } else {
        fs::metadata(path).map_or(0, |data| data.len())
    }
}

/// One warm-up each, then pairs in alternating order; prints medians and the ratios' spread.
fn compare(what: &str, pairs: usize, mut run: impl FnMut(bool) -> Figures) {
    // the peer first, so that both have something to restore
    run(true);
    run(false);
    let mut measured = Vec::new();
    for pair in 0..pairs {
        let (ours, theirs) = if pair % 2 == 0 {
            let ours = run(true);
            (ours, run(false))
        } else {
            let theirs = run(false);
            (run(true), theirs)
        };
        measured.push((ours, theirs));
    }
    println!("\n{what}");
    println!(
        "{:<16}{:>12}{:>12}{:>24}",
        "", "rdump", "peer", "ratio (min median max)"
    );
    type Field = (&'static str, fn(&Figures) -> f64);
    let fields: [Field; 4] = [
        ("wall s", |f| f.wall),
        ("client CPU s", |f| f.cpu),
        ("peak MB", |f| f.peak_megabytes),
        ("size MB", |f| f.size_megabytes),
    ];
    for (name, field) in fields {
        let ours = sorted(measured.iter().map(|(ours, _)| field(ours)));
        let theirs = sorted(measured.iter().map(|(_, theirs)| field(theirs)));
        let ratios = sorted(
            measured
                .iter()
                .map(|(ours, theirs)| field(ours) / field(theirs)),
        );
        println!(
            "{name:<16}{:>12.2}{:>12.2}{:>10.2}{:>7.2}{:>7.2}",
            median(&ours),
            median(&theirs),
            ratios.first().copied().unwrap_or(f64::NAN),
            median(&ratios),
            ratios.last().copied().unwrap_or(f64::NAN),
        );
    }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

fn median(sorted: &[f64]) -> f64 {
    match sorted.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => sorted[count / 2],
        count => (sorted[count / 2 - 1] + sorted[count / 2]) / 2.0,
    }
}
