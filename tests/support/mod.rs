//! What every integration test stands on: real servers, databases of one's own, and judges.
//!
//! ```ignore
//! for major in support::VERSIONS {
//!     let source = support::server(major).create_database("orders");
//!     source.sql("CREATE TABLE t (i int); INSERT INTO t VALUES (1)");
//!     support::rdump_ok(&["snapshot", "-d", &source.conninfo(), "-f", file]);
//!     ...
//!     support::assert_same_schema(&source, &target);
//!     support::assert_same_rows(&source, &target);
//! }
//! ```
//!
//! Everything here is synchronous and panics with the reason when it fails.
#![allow(dead_code, unused_imports)]

mod checks;
mod command;
mod judge;
mod server;

pub use checks::{check_kind, checked_kinds};
pub use command::{Finished, heed_signals, rdump, rdump_command, rdump_ok, run, run_ok};
pub use judge::{
    IGNORED_LINES, assert_same_rows, assert_same_schema, difference, normalise_dump,
    row_counts_and_hashes,
};
pub use server::{SMALL_DISK, Server, TestDatabase, extensions_image, quote_identifier, server};

/// The servers that every test runs on.
pub const VERSIONS: [u32; 2] = [15, 18];

/// The servers that round trips are tested on: [`VERSIONS`], with 17 where its image is on this
/// machine, or those that `RDUMP_TEST_MAJORS` lists ("15,17,18").
pub fn majors() -> &'static [u32] {
    static MAJORS: std::sync::OnceLock<Vec<u32>> = std::sync::OnceLock::new();
    MAJORS.get_or_init(|| {
        if let Ok(list) = std::env::var("RDUMP_TEST_MAJORS") {
            let mut majors: Vec<u32> = list
                .split(',')
                .map(|major| major.trim().parse())
                .collect::<Result<_, _>>()
                .expect("RDUMP_TEST_MAJORS lists major versions, as 15,17,18");
            majors.sort_unstable();
            majors.dedup();
            return majors;
        }
        let mut majors = VERSIONS.to_vec();
        let mut inspect = std::process::Command::new("docker");
        inspect.args(["image", "inspect", "--format", "{{.Id}}", "postgres:17"]);
        if run(&mut inspect, b"").code == 0 {
            majors.insert(1, 17);
        }
        majors
    })
}

/// From, to: every round trip on each server of [`majors`], the upgrades to the next of them, and the
/// one from the oldest to the newest.
pub fn pairs() -> Vec<(u32, u32)> {
    let majors = majors();
    let mut pairs: Vec<(u32, u32)> = majors.iter().map(|major| (*major, *major)).collect();
    pairs.extend(majors.windows(2).map(|two| (two[0], two[1])));
    if majors.len() > 2 {
        pairs.push((majors[0], majors[majors.len() - 1]));
    }
    pairs
}

/// A file of `fixtures/`, as text.
pub fn fixture(path: &str) -> String {
    let path = fixture_path(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub fn fixture_path(path: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(path)
}

/// Loads `fixtures/sample/shop.sql` with `scale` times its usual rows.
pub fn load_sample(database: &TestDatabase, scale: u32) {
    database.sql(&format!(
        "SET shop.scale = {scale};\n{}",
        fixture("sample/shop.sql")
    ));
}

/// The names of `fixtures/kinds/NAME.sql`, without those of one version and checks.
pub fn kinds() -> std::collections::BTreeSet<String> {
    std::fs::read_dir(fixture_path("kinds"))
        .expect("reading fixtures/kinds")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("a plain name")
        })
        .filter_map(|file| file.strip_suffix(".sql").map(str::to_owned))
        .filter(|name| {
            !name.starts_with('_') && !name.ends_with(".18") && !name.ends_with(".check")
        })
        .collect()
}

/// Loads a kind's fixture, with what is only for this version or a newer one.
pub fn load_kind(database: &TestDatabase, name: &str) {
    database.server.ensure_roles();
    database.sql(&fixture(&format!("kinds/{name}.sql")));
    let newer = format!("kinds/{name}.18.sql");
    if database.server.major >= 18 && fixture_path(&newer).exists() {
        database.sql(&fixture(&newer));
    }
}

/// Whether the long variants are wanted: `just soak`.
pub fn soak() -> bool {
    std::env::var_os("RDUMP_SOAK").is_some()
}

/// A program that a test needs beside PostgreSQL's own, installed from its Debian package where it
/// is missing.
pub fn ensure_program(name: &str, package: &str) {
    const SCRIPT: &str = r#"set -e
        command -v "$1" >/dev/null && exit
        as_root=
        [ "$(id -u)" -eq 0 ] || as_root='sudo -n'
        $as_root apt-get update -q
        $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "$2""#;
    static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _turn = ONE_AT_A_TIME
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut install = std::process::Command::new("sh");
    install.args(["-c", SCRIPT, "sh", name, package]);
    let finished = run(&mut install, b"");
    assert_eq!(
        finished.code, 0,
        "no program {name} here, and package {package} could not be installed:\n{}",
        finished.stderr
    );
}
