//! Backups in a folder: stored, listed, restored, checked, and what is told of failures.

use std::path::Path;

use crate::errors::{Folder, small_database};
use crate::support::{self, Server, TestDatabase, VERSIONS, row_counts_and_hashes, server};

/// A folder that is a repository, and the JSON lines that commands print of it.
pub struct Place {
    _folder: Folder,
    pub url: String,
}

impl Place {
    pub fn new() -> Place {
        let place = Place::empty();
        support::rdump_ok(&["init", "-q", "--repo", &place.url, "--no-encryption"]);
        place
    }

    /// Nothing is there yet.
    pub fn empty() -> Place {
        let folder = Folder::new();
        let url = folder.file("backups");
        Place {
            _folder: folder,
            url,
        }
    }

    pub fn json(&self, arguments: &[&str]) -> Vec<serde_json::Value> {
        let mut all = arguments.to_vec();
        all.extend(["--json", "--repo", &self.url]);
        let text = support::rdump_ok(&all).text();
        let lines = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"));
        lines.collect()
    }

    pub fn snapshot(&self, database: &TestDatabase) -> String {
        let arguments = ["snapshot", "-d", &database.conninfo(), "--label", "shop"];
        let lines = self.json(&arguments);
        let summary = lines.last().expect("a summary");
        assert_eq!(summary["outcome"], "done", "{summary}");
        let name = &summary["repositories"]["stored"][0]["name"];
        name.as_str().expect("a name").to_owned()
    }

    pub fn archives(&self) -> Vec<serde_json::Value> {
        let mut lines = self.json(&["list"]);
        lines.retain(|line| line["type"] == "archive");
        lines
    }

    pub fn names(&self) -> Vec<String> {
        let archives = self.archives();
        let name =
            |archive: &serde_json::Value| archive["name"].as_str().expect("a name").to_owned();
        archives.iter().map(name).collect()
    }

    pub fn files(&self, below: &str) -> Vec<String> {
        let folder = Path::new(&self.url).join(below);
        let Ok(entries) = std::fs::read_dir(folder) else {
            return Vec::new();
        };
        let mut names: Vec<String> = entries
            .map(|entry| {
                entry
                    .expect("an entry")
                    .file_name()
                    .into_string()
                    .expect("a name")
            })
            .collect();
        names.sort();
        names
    }
}

/// Runs a command that must end with this code and say this among other things.
#[track_caller]
fn expect(arguments: &[&str], code: i32, part: &str) {
    let told = support::rdump(arguments);
    assert!(
        told.code == code && told.stderr.contains(part),
        "exit code {} (expected {code}): {}",
        told.code,
        told.stderr
    );
}

fn id(name: &str) -> &str {
    &name[name.len() - 8..]
}

#[test]
fn what_is_stored_is_listed_checked_and_restored() {
    for (from, to) in support::pairs() {
        let source = server(from).create_database("stored");
        support::load_sample(&source, 1);
        let place = Place::new();
        let first = place.snapshot(&source);
        source.sql("CREATE TABLE later (i int); INSERT INTO later VALUES (1)");
        let second = place.snapshot(&source);
        assert_eq!(place.names(), [first.clone(), second.clone()]);
        assert!(first.starts_with("shop-000001-") && second.starts_with("shop-000002-"));
        // nothing but two archives is there
        assert_eq!(place.files("archives").len(), 2);
        assert_eq!(place.files("writers"), Vec::<String>::new());

        // the volume is the file that -f would have written
        let file = format!("{}/archives/{first}.rdump", place.url);
        support::rdump_ok(&["verify", "--deep", &file]);

        let repo = ["--repo", place.url.as_str()];
        let with_repo = |arguments: &[&str]| -> Vec<String> {
            let all = arguments.iter().chain(&repo);
            all.map(|argument| (*argument).to_owned()).collect()
        };
        support::rdump_ok(&with_repo(&["verify", id(&first)]));
        let listed = place.archives();
        assert_eq!(listed[0]["verified"]["good"], true);
        assert!(listed[1]["verified"].is_null());
        let shown = support::rdump_ok(&with_repo(&["show", "latest"])).text();
        assert!(shown.contains("TABLE public later"), "{shown}");
        let script = support::rdump_ok(&with_repo(&["sql", id(&first), "-s"])).text();
        assert!(script.contains("-- rdump: complete") && !script.contains("public.later"));

        for (archive, has_later) in [(first.as_str(), "f"), ("latest", "t")] {
            let restored = server(to).create_database_with("restored", "TEMPLATE template0");
            let conninfo = restored.conninfo();
            let told = support::rdump_ok(&with_repo(&[
                "restore", archive, "-d", &conninfo, "-j", "4",
            ]));
            assert!(told.stderr.contains(": snapshot of 20"), "{}", told.stderr);
            support::rdump_ok(&with_repo(&["verify", archive, "--against", &conninfo]));
            assert_eq!(
                restored.query_text("SELECT to_regclass('public.later') IS NOT NULL"),
                has_later
            );
            if has_later == "t" {
                assert_eq!(
                    row_counts_and_hashes(&source),
                    row_counts_and_hashes(&restored)
                );
            }
        }
        let runs = place.json(&["history"]);
        let commands = runs.iter().filter(|run| run["type"] == "run");
        let outcomes: Vec<_> = commands.map(|run| run["outcome"].clone()).collect();
        assert_eq!(outcomes, ["done", "done"]);
    }
}

#[test]
fn a_point_in_time_is_chosen() {
    let source = small_database(VERSIONS[0], "point");
    let place = Place::new();
    let first = place.snapshot(&source);
    let restored = server(VERSIONS[0]).create_database("point_restored");
    let restore = |at: &str| {
        let conninfo = restored.conninfo();
        let arguments = [
            "restore", "--at", at, "-d", &conninfo, "-l", "--repo", &place.url,
        ];
        support::rdump(&arguments)
    };
    let told = restore("2020-01-01 00:00Z");
    assert_eq!(told.code, 1, "{}", told.stderr);
    assert!(
        told.stderr
            .contains("no archive has a snapshot of 2020-01-01T00:00:00Z or before")
    );
    assert!(told.stderr.contains("the oldest archive is of"));
    assert_eq!(restore("tomorrow").code, 2);
    assert_eq!(restore("2120-01-01 00:00Z").code, 0);
    let conninfo = restored.conninfo();
    let arguments = [
        "restore",
        "--at",
        "2120-01-01 00:00+02:00",
        "-d",
        &conninfo,
        "--repo",
        &place.url,
    ];
    let told = support::rdump_ok(&arguments).stderr;
    assert!(told.contains(&first) && told.contains(" d "), "{told}");
    assert!(told.contains("changes in between are not in it"), "{told}");
}

#[test]
fn no_run_writes_where_no_repository_is() {
    let source = small_database(VERSIONS[0], "nowhere");
    let folder = Folder::new();
    let (empty, missing) = (folder.file("empty"), folder.file("missing"));
    std::fs::create_dir(&empty).expect("a folder");
    for (url, problem) in [
        (&empty, "there is no repository in"),
        (&missing, "is the volume mounted"),
    ] {
        for command in ["snapshot", "list"] {
            let conninfo = source.conninfo();
            let mut arguments = vec![command, "--repo", url];
            if command == "snapshot" {
                arguments.extend(["-d", &conninfo]);
            }
            let told = support::rdump(&arguments);
            assert_eq!(told.code, 10, "{}", told.stderr);
            assert!(told.stderr.contains(problem), "{}", told.stderr);
        }
    }
    assert!(!Path::new(&missing).exists());
    assert_eq!(std::fs::read_dir(&empty).expect("a folder").count(), 0);
    // how it is encrypted is to be said; and it is made once
    expect(
        &["init", "--repo", &missing],
        2,
        "how archives are encrypted is to be chosen",
    );
    support::rdump_ok(&["init", "--repo", &missing, "--no-encryption"]);
    expect(
        &["init", "--repo", &missing, "--no-encryption"],
        1,
        "already",
    );
}

/// One of two repositories is full, or not there: the other has the archive, and the exit code says
/// that not all is well.
#[test]
fn a_repository_that_fails_fails_alone() {
    let source = small_database(VERSIONS[0], "alone");
    let (good, gone) = (Place::new(), Place::new());
    std::fs::remove_dir_all(&gone.url).expect("removed");
    let conninfo = source.conninfo();
    let arguments = [
        "snapshot", "-d", &conninfo, "--repo", &gone.url, "--repo", &good.url,
    ];
    let told = support::rdump(&arguments);
    assert_eq!(told.code, 3, "{}", told.stderr);
    assert!(
        told.stderr
            .contains("the archive is in 1 of 2 repositories, with 1 failure"),
        "{}",
        told.stderr
    );
    assert!(told.stderr.contains(&gone.url), "{}", told.stderr);
    assert_eq!(good.archives().len(), 1);
    let told = support::rdump(&["snapshot", "-d", &conninfo, "--repo", &gone.url]);
    assert_eq!(told.code, 10, "{}", told.stderr);
    // both
    let other = Place::new();
    let arguments = [
        "snapshot", "-q", "-d", &conninfo, "--repo", &other.url, "--repo", &good.url,
    ];
    support::rdump_ok(&arguments);
    assert_eq!((good.archives().len(), other.archives().len()), (2, 1));
    assert_eq!(
        good.archives()[1]["root_hash"],
        other.archives()[0]["root_hash"]
    );
}

#[test]
fn failed_runs_are_in_the_history() {
    let source = small_database(VERSIONS[0], "failing");
    let place = Place::new();
    let conninfo = format!("{} dbname=not_there", source.conninfo());
    let arguments = ["snapshot", "-d", &conninfo, "--repo", &place.url];
    let told = support::rdump(&arguments);
    assert_eq!(told.code, 1, "{}", told.stderr);
    let runs = place.json(&["history"]);
    assert_eq!(runs[0]["outcome"], "failed", "{runs:?}");
    let error = runs[0]["error"].as_str().expect("an error");
    assert!(error.contains("not_there"), "{error}");
    assert!(!error.contains("password"), "{error}");
    assert_eq!(place.archives().len(), 0);
    assert_eq!(place.files("archives"), Vec::<String>::new());
    assert_eq!(place.files("writers"), Vec::<String>::new());
}

#[test]
fn pins_and_tags_are_shown() {
    let source = small_database(VERSIONS[0], "marked");
    let place = Place::new();
    let name = place.snapshot(&source);
    let repo = ["--repo", place.url.as_str()];
    let run = |arguments: &[&str]| {
        let all: Vec<&str> = arguments.iter().chain(&repo).copied().collect();
        support::rdump_ok(&all)
    };
    run(&["pin", "latest"]);
    run(&["tag", &name, "release=1.2", "why=before the move"]);
    let archive = &place.archives()[0];
    assert_eq!(archive["pinned"], true);
    assert_eq!(archive["tags"]["why"], "before the move");
    let table = run(&["list"]).text();
    assert!(
        table.contains("pinned release=1.2 why=before the move"),
        "{table}"
    );
    run(&["unpin", id(&name)]);
    run(&["tag", &name, "--remove", "why"]);
    let archive = &place.archives()[0];
    assert_eq!(archive["pinned"], false);
    assert!(archive["tags"]["why"].is_null());
    let other = [
        "tag", "latest", "nothing=", "--repo", &place.url, "--label", "blog",
    ];
    expect(&other, 1, "the repository has no archive");
}

/// A damaged volume is found, the archive marked, and not taken for the latest any more.
#[test]
fn damage_is_marked() {
    let source = small_database(VERSIONS[0], "damaged");
    let place = Place::new();
    let good = place.snapshot(&source);
    let bad = place.snapshot(&source);
    let file = format!("{}/archives/{bad}.rdump", place.url);
    let mut bytes = std::fs::read(&file).expect("a volume");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).expect("written");
    let told = support::rdump(&["verify", "latest", "--repo", &place.url]);
    assert_eq!(told.code, 3, "{}", told.stderr);
    assert_eq!(place.archives()[1]["verified"]["good"], false);
    let shown = support::rdump_ok(&["show", "latest", "--json", "--repo", &place.url]).text();
    let header: serde_json::Value =
        serde_json::from_str(shown.lines().next().expect("a line")).expect("JSON");
    assert_eq!(header["id"], place.archives()[0]["archive_id"]);
    assert!(place.archives()[0]["name"] == good.as_str());
    let table = support::rdump_ok(&["list", "--repo", &place.url]).text();
    assert!(table.contains("verified: BAD"), "{table}");
}

#[test]
fn a_set_is_stored_as_one_archive() {
    let place = Place::new();
    let server = Server::start(VERSIONS[0], &[]);
    server.sql("postgres", "CREATE ROLE keeper; CREATE TABLE kept (i int)");
    let conninfo = server.conninfo("postgres");
    let arguments = [
        "snapshot",
        "--all-databases",
        "-q",
        "-d",
        &conninfo,
        "--repo",
        &place.url,
    ];
    support::rdump_ok(&arguments);
    let archive = &place.archives()[0];
    let described = (archive["content"].as_str(), archive["label"].as_str());
    assert_eq!(described, (Some("set"), Some("server")));
    support::rdump_ok(&["verify", "latest", "--repo", &place.url]);
    let arguments = [
        "show", "latest", "--member", "postgres", "--repo", &place.url,
    ];
    let shown = support::rdump_ok(&arguments).text();
    assert!(shown.contains("TABLE public kept"), "{shown}");
    let shown = support::rdump_ok(&["show", "latest", "-g", "--repo", &place.url]).text();
    assert!(shown.contains("ROLE - keeper"), "{shown}");
    support::rdump_ok(&[
        "snapshot", "-g", "-q", "-d", &conninfo, "--repo", &place.url,
    ]);
    assert_eq!(place.archives()[1]["content"], "globals");
}

/// One run that backs up, prunes and records; what the rules do not keep goes, what is pinned stays.
#[test]
fn rules_remove_what_they_do_not_keep() {
    let source = small_database(VERSIONS[0], "pruned");
    let place = Place::new();
    let first = place.snapshot(&source);
    let _second = place.snapshot(&source);
    let third = place.snapshot(&source);
    let repo = ["--repo", place.url.as_str()];
    let run = |arguments: &[&str]| {
        let all: Vec<&str> = arguments.iter().chain(&repo).copied().collect();
        support::rdump(&all)
    };
    assert_eq!(run(&["pin", &first]).code, 0);
    let told = run(&["prune", "--keep-last", "1"]);
    assert_eq!(told.code, 2, "{}", told.stderr);
    assert_eq!(run(&["prune"]).code, 2);
    let told = run(&["prune", "--keep-last", "1", "--dry-run"]);
    assert_eq!(told.code, 0, "{}", told.stderr);
    let plan = told.text();
    assert_eq!(
        plan.lines()
            .filter(|line| line.starts_with("remove"))
            .count(),
        1,
        "{plan}"
    );
    assert!(plan.contains("pinned"), "{plan}");
    assert_eq!(place.archives().len(), 3);
    let told = run(&["prune", "--keep-last", "1", "--yes"]);
    assert_eq!(told.code, 0, "{}", told.stderr);
    let names = |place: &Place| -> Vec<String> {
        let names = place.archives();
        let names = names
            .iter()
            .map(|archive| archive["name"].as_str().expect("a name").to_owned());
        names.collect()
    };
    assert_eq!(names(&place), [first.clone(), third]);
    assert_eq!(place.files("archives").len(), 2);

    // in one run, with the rule in the environment
    let conninfo = source.conninfo();
    let arguments = ["snapshot", "-d", &conninfo, "--label", "shop"];
    let mut command = support::rdump_command(&arguments);
    command
        .env("RDUMP_REPO", &place.url)
        .env("RDUMP_KEEP_LAST", "1");
    let told = support::run_ok(&mut command, b"");
    assert!(
        told.stderr.contains("1 older archive removed by rule"),
        "{}",
        told.stderr
    );
    let left = place.names();
    assert_eq!((left.len(), left[0].as_str()), (2, first.as_str()));
    let runs = place.json(&["history"]);
    let commands: Vec<&str> = runs
        .iter()
        .filter_map(|run| run["command"].as_str())
        .collect();
    assert_eq!(
        commands
            .iter()
            .filter(|command| **command == "prune")
            .count(),
        2,
        "{runs:?}"
    );

    // one that lost most of its rows holds up the removal of those that have them
    source.sql("TRUNCATE sales.orders, customers");
    let arguments = [
        "snapshot",
        "-d",
        &conninfo,
        "--label",
        "shop",
        "--keep-last",
        "1",
    ];
    let told = run(&arguments);
    assert_eq!(told.code, 0, "{}", told.stderr);
    assert!(
        told.stderr.contains("nothing of shop is removed"),
        "{}",
        told.stderr
    );
    assert_eq!(place.archives().len(), 3);
    let told = run(&["prune", "--keep-last", "1", "--yes", "--force"]);
    assert_eq!(told.code, 0, "{}", told.stderr);
    assert_eq!(place.archives().len(), 2);
}

/// The keys that a repository was made with are those that each run must be given; without one of
/// them its archives can be listed, checked and pruned, and not restored.
#[test]
fn an_encrypted_repository_takes_and_gives_nothing_in_clear() {
    let source = small_database(VERSIONS[0], "sealed");
    let folder = Folder::new();
    let (key, other) = (folder.file("key.txt"), folder.file("other.txt"));
    let public = |file: &str| {
        let told = support::rdump_ok(&["keygen", "-o", file]);
        let text = format!("{}{}", told.text(), told.stderr);
        let start = text.find("age1").expect("a public key");
        let key = text[start..].split(|c: char| !c.is_ascii_alphanumeric());
        key.map(str::to_owned).next().expect("a public key")
    };
    let (one, two) = (public(&key), public(&other));
    let place = Place::empty();
    support::rdump_ok(&[
        "init",
        "-q",
        "--repo",
        &place.url,
        "--recipient",
        &one,
        "--recipient",
        &two,
    ]);
    let conninfo = source.conninfo();
    let snapshot = [
        "snapshot", "-d", &conninfo, "--label", "shop", "--repo", &place.url,
    ];
    let with = |more: &[&str]| {
        let all: Vec<&str> = snapshot.iter().chain(more).copied().collect();
        support::rdump(&all)
    };
    for (keys, problem) in [
        (&[][..], "no key was given to encrypt for"),
        (&["--recipient", &one], "made for other keys"),
    ] {
        let told = with(keys);
        assert_eq!(told.code, 1, "{}", told.stderr);
        assert!(told.stderr.contains(problem), "{}", told.stderr);
    }
    assert_eq!(place.files("archives"), Vec::<String>::new());
    let told = with(&["--recipient", &two, "--recipient", &one]);
    assert_eq!(told.code, 0, "{}", told.stderr);
    let archive = &place.archives()[0];
    assert_eq!(archive["encrypted"], true);
    for folder in ["archives", "manifests", "runs"] {
        for name in place.files(folder) {
            let bytes = std::fs::read(format!("{}/{folder}/{name}", place.url)).expect("a file");
            for word in ["customers", "sales", "customer 7"] {
                let found = bytes
                    .windows(word.len())
                    .any(|part| part == word.as_bytes());
                assert!(!found, "{word} in {folder}/{name}");
            }
        }
    }
    expect(&["verify", "latest", "--repo", &place.url], 0, "");
    assert_eq!(place.archives()[0]["verified"]["good"], true);
    expect(&["show", "latest", "--repo", &place.url], 12, "");
    expect(
        &[
            "prune",
            "--keep-last",
            "1",
            "--dry-run",
            "--repo",
            &place.url,
        ],
        0,
        "",
    );
    for key in [&key, &other] {
        let restored = server(VERSIONS[0]).create_database("sealed_restored");
        let conninfo = restored.conninfo();
        let arguments = [
            "restore", "latest", "-i", key, "-d", &conninfo, "--repo", &place.url,
        ];
        support::rdump_ok(&arguments);
        assert_eq!(
            row_counts_and_hashes(&source),
            row_counts_and_hashes(&restored)
        );
    }
    // what was made without encryption takes none
    let clear = Place::new();
    let arguments = [
        "snapshot",
        "-d",
        &conninfo,
        "--recipient",
        &one,
        "--repo",
        &clear.url,
    ];
    expect(&arguments, 1, "made for other keys");
}

/// Volumes that are gone, or another archive's, and manifests that cannot be read.
#[test]
fn what_is_stored_is_held_against_its_manifest() {
    let source = small_database(VERSIONS[0], "held");
    let place = Place::new();
    let first = place.snapshot(&source);
    let second = place.snapshot(&source);
    let third = place.snapshot(&source);
    let repo = ["--repo", place.url.as_str()];
    let file = |folder: &str, name: &str| format!("{}/{folder}/{name}", place.url);
    let volume = |name: &str| file("archives", &format!("{name}.rdump"));
    std::fs::copy(volume(&first), volume(&second)).expect("copied");
    std::fs::remove_file(volume(&third)).expect("removed");
    let run = |arguments: &[&str], code: i32, part: &str| {
        let all: Vec<&str> = arguments.iter().chain(&repo).copied().collect();
        expect(&all, code, part);
    };
    run(&["verify", &second], 3, "is another archive");
    run(&["verify", &third], 3, "is gone");
    let archives = place.archives();
    let verdicts: Vec<_> = archives
        .iter()
        .map(|archive| archive["verified"]["good"].clone())
        .collect();
    assert_eq!(
        verdicts,
        [serde_json::Value::Null, false.into(), false.into()]
    );
    let restored = server(VERSIONS[0]).create_database("held_restored");
    let conninfo = restored.conninfo();
    run(
        &["restore", &second, "-d", &conninfo],
        3,
        "is another archive",
    );
    // the variable alone chooses nothing
    run(&["restore", "-d", &conninfo], 2, "no archive is given");
    assert_eq!(
        restored.query_text("SELECT count(*) FROM pg_class WHERE relname = 'customers'"),
        "0"
    );

    // what is damaged is named, and not passed over in silence
    std::fs::write(file("manifests", &format!("{third}.json")), "{").expect("written");
    run(&["list"], 3, "1 manifest could not be read");
    run(&["show", "latest"], 1, "the newest archive may be");
    run(&["show", &first], 0, "");
    run(
        &["prune", "--keep-last", "1", "--yes"],
        3,
        "nothing of shop is removed",
    );
    let conninfo = source.conninfo();
    let arguments = [
        "snapshot",
        "-d",
        &conninfo,
        "--label",
        "shop",
        "--keep-last",
        "1",
    ];
    run(&arguments, 3, "1 manifest could not be read");
    assert_eq!(place.files("archives").len(), 3);

    // several are for snapshots, each once
    let twice = format!("{0}\n{0}\n", place.url);
    expect(
        &["list", "--repo", &twice],
        2,
        "several repositories are given",
    );
    let arguments = ["snapshot", "-d", &conninfo, "--repo", &twice];
    expect(&arguments, 3, "it is given twice");
}

/// Archives that leave something out do not take the place of whole ones.
#[test]
fn whole_archives_stay_beside_partial_ones() {
    let source = small_database(VERSIONS[0], "partial");
    let place = Place::new();
    let whole = place.snapshot(&source);
    let conninfo = source.conninfo();
    for flags in [&["-s"][..], &["-B"], &["-t", "customers"], &["-s"], &["-B"]] {
        let mut arguments = vec![
            "snapshot", "-q", "-d", &conninfo, "--label", "shop", "--repo", &place.url,
        ];
        arguments.extend(flags);
        support::rdump_ok(&arguments);
    }
    support::rdump_ok(&[
        "prune",
        "--keep-last",
        "1",
        "--yes",
        "--force",
        "--repo",
        &place.url,
    ]);
    assert!(place.names().contains(&whole));
    assert!(place.archives().len() < 6, "{:?}", place.names());
}
