//! One command on a schedule: everything by the environment, and whoever watches is told.

mod hook;

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use hook::Hook;
use nix::libc;

use crate::errors::{Folder, Other, server_query, small_database, wait_for};
use crate::repository::Place;
use crate::support::{self, Finished, TestDatabase, VERSIONS, rdump_command, server};

/// In every place that takes a secret.
const CANARY: &str = "canary-8c1f";

/// All that a schedule gives: a role of the source and one of the table of runs, neither a superuser.
struct Schedule {
    source: TestDatabase,
    history: TestDatabase,
    role: String,
    hook: Hook,
    folder: Folder,
}

impl Schedule {
    fn new(name: &str) -> Schedule {
        let source = small_database(VERSIONS[0], name);
        let history = server(VERSIONS[0]).create_database(&format!("{name}_history"));
        let role = format!("{}_role", source.name);
        source.sql(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD '{CANARY}';
             GRANT pg_read_all_data TO {role}"
        ));
        history.sql(&format!(
            "CREATE SCHEMA runs AUTHORIZATION {role};
             REVOKE ALL ON SCHEMA public FROM PUBLIC"
        ));
        Schedule {
            source,
            history,
            role,
            hook: Hook::start(),
            folder: Folder::new(),
        }
    }

    fn metrics(&self) -> String {
        self.folder.file("shop.prom")
    }

    fn conninfo(&self) -> String {
        let Schedule { history, role, .. } = self;
        let host = &history.server.host;
        let port = history.server.port;
        format!(
            "postgresql://{role}:{CANARY}@{host}:{port}/{}",
            history.name
        )
    }

    /// `rdump snapshot`, and nothing else in its arguments.
    fn command(&self, repositories: &[&str]) -> Command {
        let mut command = rdump_command(&["snapshot"]);
        let server = self.source.server;
        command.envs([
            ("PGHOST", server.host.as_str()),
            ("PGPORT", &server.port.to_string()),
            ("PGDATABASE", &self.source.name),
            ("PGUSER", &self.role),
            ("PGPASSWORD", CANARY),
            ("RDUMP_REPO", &repositories.join("\n")),
            ("RDUMP_LABEL", "shop"),
            ("RDUMP_KEEP_LAST", "2"),
            ("RDUMP_WEBHOOK_URL", &self.hook.url(CANARY)),
            ("RDUMP_WEBHOOK_ON", "always"),
            ("RDUMP_METRICS_FILE", &self.metrics()),
            ("RDUMP_HISTORY_DB", &self.conninfo()),
            ("RDUMP_HISTORY_SCHEMA", "runs"),
        ]);
        command
    }

    /// Runs it, and finds no secret in what it says and leaves.
    #[track_caller]
    fn run(&self, command: &mut Command, code: i32) -> (Finished, serde_json::Value) {
        let told = support::run(command, b"");
        assert_eq!(told.code, code, "{}{}", told.stderr, told.text());
        let mut bodies = self.hook.take();
        assert_eq!(bodies.len(), 1, "{bodies:?}");
        let body = bodies.remove(0);
        for text in [
            &told.stderr,
            &told.text(),
            &body.to_string(),
            &std::fs::read_to_string(self.metrics()).expect("metrics"),
            &self.rows("*"),
        ] {
            assert!(!text.contains(CANARY), "{text}");
        }
        (told, body)
    }

    /// Of all runs, the oldest first.
    fn rows(&self, columns: &str) -> String {
        self.history.query_text(&format!(
            "SELECT {columns} FROM runs.backup_history ORDER BY finished"
        ))
    }

    fn metric(&self, name: &str) -> Option<f64> {
        let text = std::fs::read_to_string(self.metrics()).expect("metrics");
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.rsplit(' ').next()?.parse().ok()
    }
}

#[test]
fn everything_is_given_by_the_environment() {
    let schedule = Schedule::new("scheduled");
    let place = Place::new();
    for _ in 0..3 {
        let mut command = schedule.command(&[&place.url]);
        // as files for containers have them
        for empty in [
            "RDUMP_KEEP_DAILY",
            "RDUMP_KEEP_WITHIN",
            "RDUMP_KEEP_TAG",
            "RDUMP_KEEP_TIME_ZONE",
            "RDUMP_SHRINK_ROWS",
            "RDUMP_WEBHOOK_URL_FILE",
        ] {
            command.env(empty, "");
        }
        let (told, body) = schedule.run(&mut command, 0);
        let lines: Vec<&str> = told.stderr.lines().collect();
        assert!(
            lines.iter().all(|line| !line.contains("warning")),
            "{lines:?}"
        );
        assert_eq!(body["outcome"], "done");
        assert_eq!(body["label"], "shop");
        assert_eq!(body["rows"], 1101);
        assert!(body["error"].is_null(), "{body}");
        let stored = &body["repositories"][0];
        assert_eq!(stored["repository"], place.url.as_str());
        assert!(
            told.stderr
                .contains(stored["archive"].as_str().expect("a name"))
        );
    }
    assert_eq!(place.archives().len(), 2);
    let file = std::fs::metadata(schedule.metrics()).expect("metrics");
    assert_eq!(file.permissions().mode() & 0o777, 0o644);
    let at_success = schedule.metric("rdump_snapshot_last_success_timestamp_seconds");
    for (name, value) in [
        ("rdump_snapshot_last_run_success", 1.0),
        ("rdump_snapshot_rows", 1101.0),
        ("rdump_repository_archives", 2.0),
        ("rdump_repository_up", 1.0),
    ] {
        assert_eq!(schedule.metric(name), Some(value), "{name}");
    }
    check_by_promtool(&schedule.metrics());
    let newest = place.archives()[1]["name"].clone();
    let expected = format!("done|0|{}|1101|true", newest.as_str().expect("a name"));
    let rows = schedule.rows(
        "outcome, exit_code, archive, rows, size > 0 AND raw_size > 0 AND finished >= started",
    );
    let rows = rows.replace("|t", "|true");
    assert_eq!(rows.lines().count(), 3);
    assert_eq!(rows.lines().last(), Some(expected.as_str()));

    // the database is gone
    let mut command = schedule.command(&[&place.url]);
    command
        .env("PGDATABASE", "not_there")
        .env("RDUMP_WEBHOOK_ON", "");
    let (told, body) = schedule.run(&mut command, 1);
    assert!(told.stderr.contains("not_there"), "{}", told.stderr);
    assert_eq!(body["outcome"], "failed");
    assert_eq!(body["exit_code"], 1);
    assert!(
        body["error"]
            .as_str()
            .expect("an error")
            .contains("not_there")
    );
    assert!(body["repositories"][0]["archive"].is_null());
    for (name, value) in [
        ("rdump_snapshot_last_run_success", Some(0.0)),
        ("rdump_snapshot_last_run_exit_code", Some(1.0)),
        ("rdump_snapshot_last_success_timestamp_seconds", at_success),
        ("rdump_snapshot_rows", None),
        ("rdump_repository_archives", Some(2.0)),
    ] {
        assert_eq!(schedule.metric(name), value, "{name}");
    }
    check_by_promtool(&schedule.metrics());
    let rows = schedule.rows("outcome, error, archive");
    let last = rows.lines().last().expect("a row");
    assert!(
        last.starts_with("failed|") && last.contains("not_there"),
        "{rows}"
    );

    // on a new machine, the repository knows of the last success
    std::fs::remove_file(schedule.metrics()).expect("removed");
    schedule.run(&mut command, 1);
    let again = schedule.metric("rdump_snapshot_last_success_timestamp_seconds");
    let apart = again.expect("a time") - at_success.expect("a time");
    assert!(apart <= 0.0 && apart > -30.0, "{apart}");
}

/// Debian's package prometheus has promtool; without it this is not checked.
fn check_by_promtool(file: &str) {
    let text = std::fs::read(file).expect("metrics");
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]);
    let is_there = Command::new("promtool")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if is_there.is_err() {
        eprintln!("promtool is not installed: the metrics were not checked by it");
        return;
    }
    let told = support::run_ok(&mut promtool, &text);
    assert_eq!((told.text().as_str(), told.stderr.as_str()), ("", ""));
}

#[test]
fn repositories_that_fail_are_told() {
    let schedule = Schedule::new("scheduled_partly");
    let (good, gone) = (Place::new(), Place::new());
    std::fs::remove_dir_all(&gone.url).expect("removed");
    let (_, body) = schedule.run(&mut schedule.command(&[&gone.url, &good.url]), 3);
    assert_eq!(body["outcome"], "partial");
    assert_eq!(body["exit_code"], 3);
    let error = body["error"].as_str().expect("an error");
    assert!(error.contains("in 1 of 2 repositories"), "{error}");
    let [first, second] = [&body["repositories"][0], &body["repositories"][1]];
    assert!(
        first["archive"].is_null() && first["error"].is_string(),
        "{body}"
    );
    assert!(
        second["archive"].is_string() && second["error"].is_null(),
        "{body}"
    );
    for (url, up) in [(&gone.url, 0.0), (&good.url, 1.0)] {
        let name = format!("rdump_repository_up{{label=\"shop\",repository=\"{url}\"}}");
        assert_eq!(schedule.metric(&name), Some(up));
    }
    assert_eq!(
        schedule.metric("rdump_snapshot_last_run_success"),
        Some(0.0)
    );
    assert_eq!(schedule.metric("rdump_snapshot_rows"), Some(1101.0));
    assert_eq!(
        schedule.metric("rdump_snapshot_last_success_timestamp_seconds"),
        None
    );
    // it cannot even begin
    let (_, body) = schedule.run(&mut schedule.command(&[&gone.url]), 10);
    assert_eq!(body["outcome"], "failed");
    assert_eq!(body["exit_code"], 10);
    assert_eq!(body["label"], "shop");
    assert_eq!(
        schedule.rows("outcome, exit_code, repositories->0->>'archive' IS NULL"),
        "partial|3|t\nfailed|10|t"
    );
}

#[test]
fn who_cannot_be_told_changes_nothing_but_a_warning() {
    let schedule = Schedule::new("scheduled_alone");
    let place = Place::new();
    // nobody listens there any more
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    drop(listener);
    let unreachable = |command: &mut Command| {
        let url = format!("http://{CANARY}@127.0.0.1:{port}/{CANARY}");
        let conninfo = format!("host=127.0.0.1 port={port} password={CANARY}");
        command
            .env("RDUMP_WEBHOOK_URL", url)
            .env("RDUMP_HISTORY_DB", conninfo)
            .env("RDUMP_METRICS_FILE", schedule.folder.file("no/shop.prom"));
    };
    let mut command = schedule.command(&[&place.url]);
    unreachable(&mut command);
    let told = support::run(&mut command, b"");
    assert_eq!(told.code, 0, "{}", told.stderr);
    for part in [
        "warning: the webhook at 127.0.0.1 was not told: ",
        "warning: the history database: ",
        "warning: could not create file ",
    ] {
        assert!(told.stderr.contains(part), "{part}: {}", told.stderr);
    }
    assert!(!told.stderr.contains(CANARY), "{}", told.stderr);
    let last = told.stderr.lines().last().expect("a line");
    assert!(last.starts_with("rdump: stored as shop-"), "{last}");
    // a run that fails, fails as it would have
    command.env("PGDATABASE", "not_there");
    let told = support::run(&mut command, b"");
    assert_eq!(told.code, 1, "{}", told.stderr);
    assert!(told.stderr.contains("warning: the webhook at 127.0.0.1"));
    let last = told.stderr.lines().last().expect("a line");
    assert!(!last.contains("warning"), "{last}");

    // one of three that is told is told; and programs hear of it
    let mut command = schedule.command(&[&place.url]);
    command.args(["--json"]).env(
        "RDUMP_HISTORY_DB",
        format!("{} port={port}", "host=127.0.0.1"),
    );
    command.env("RDUMP_WEBHOOK_ON", "failure");
    let told = support::run_ok(&mut command, b"");
    let lines: Vec<serde_json::Value> = told
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let summary = lines.last().expect("a summary");
    assert_eq!(summary["type"], "summary");
    assert_eq!(
        summary["notified"],
        serde_json::json!({"webhook": null, "metrics": "written", "history": "failed"})
    );
    assert!(schedule.hook.take().is_empty());
    assert_eq!(place.archives().len(), 2);
    // what is not understood ends the run before it begins, and is not shown
    for (variable, value) in [
        ("RDUMP_WEBHOOK_URL", format!("ftp://{CANARY}/")),
        ("RDUMP_HISTORY_DB", format!("postgresql://u:{CANARY}@h:x/d")),
        ("RDUMP_WEBHOOK_ON", "sometimes".to_owned()),
    ] {
        let mut command = schedule.command(&[&place.url]);
        let told = support::run(command.env(variable, value), b"");
        assert_eq!(told.code, 2, "{}", told.stderr);
        assert!(!told.stderr.contains(CANARY), "{}", told.stderr);
    }
    assert!(schedule.hook.take().is_empty());
    let help = support::run_ok(schedule.command(&[&place.url]).arg("--help"), b"");
    assert!(help.text().contains("--webhook-url") && !help.text().contains(CANARY));
}

/// The search for the canary finds one.
#[test]
#[should_panic(expected = "canary")]
fn a_secret_that_is_shown_is_found() {
    let schedule = Schedule::new("scheduled_canary");
    let place = Place::new();
    let mut command = schedule.command(&[&place.url]);
    schedule.run(command.env("RDUMP_LABEL", CANARY), 0);
}

#[test]
fn a_signal_is_told() {
    let schedule = Schedule::new("scheduled_signal");
    let place = Place::new();
    let mut other = Other::new(&schedule.source);
    other.run("BEGIN; LOCK TABLE sales.orders");
    let child = schedule
        .command(&[&place.url])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("starting rdump");
    let waiting = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND wait_event_type = 'Lock'",
        schedule.source.name
    );
    wait_for("rdump waits for the lock", 30, || {
        server_query(&schedule.source, &waiting) == "1"
    });
    // SAFETY: kill() touches no memory; the child has not been waited for, so the id is its own.
    assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGTERM) }, 0);
    let ended = child.wait_with_output().expect("waiting for rdump");
    assert_eq!(ended.status.code(), Some(143));
    let bodies = schedule.hook.take();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    assert_eq!(bodies[0]["exit_code"], 143);
    assert_eq!(bodies[0]["error"], "cancelled by a signal");
    assert_eq!(schedule.rows("outcome, exit_code"), "failed|143");
    assert_eq!(
        schedule.metric("rdump_snapshot_last_run_exit_code"),
        Some(143.0)
    );
}

/// Whoever ends a run that has its archive does not wait for a server that says nothing.
#[test]
fn a_signal_ends_the_telling() {
    let schedule = Schedule::new("scheduled_silent");
    let place = Place::new();
    let hook = Hook::start_silent();
    let child = schedule
        .command(&[&place.url])
        .env("RDUMP_WEBHOOK_URL", hook.url(CANARY))
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starting rdump");
    let mut posted = Vec::new();
    wait_for("rdump posts", 30, || {
        posted.extend(hook.take());
        !posted.is_empty()
    });
    // SAFETY: as above.
    assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGTERM) }, 0);
    let ended = child.wait_with_output().expect("waiting for rdump");
    let stderr = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(0), "{stderr}");
    let warning = "warning: the webhook at 127.0.0.1 was not told: given up at a signal\n";
    assert!(stderr.contains(warning), "{stderr}");
    assert_eq!(place.archives().len(), 1);
}

#[test]
fn a_webhook_may_have_a_certificate_of_a_private_authority() {
    let schedule = Schedule::new("scheduled_tls");
    let place = Place::new();
    let (hook, authority) = Hook::start_with_ca(schedule.folder.path());
    let mut command = schedule.command(&[&place.url]);
    command.env("RDUMP_WEBHOOK_URL", hook.url(CANARY));
    let told = support::run_ok(&mut command, b"");
    let warning = "warning: the webhook at 127.0.0.1 was not told: ";
    assert!(told.stderr.contains(warning), "{}", told.stderr);
    assert!(!told.stderr.contains(CANARY), "{}", told.stderr);
    assert!(hook.take().is_empty());
    command.env("SSL_CERT_FILE", authority);
    let told = support::run_ok(&mut command, b"");
    assert!(!told.stderr.contains("warning"), "{}", told.stderr);
    assert_eq!(hook.take().len(), 1);
    // its URL may be in a file
    let file = schedule.folder.file("url");
    std::fs::write(&file, hook.url(CANARY) + "\n").expect("written");
    command
        .env("RDUMP_WEBHOOK_URL", "")
        .env("RDUMP_WEBHOOK_URL_FILE", file);
    support::run_ok(&mut command, b"");
    assert_eq!(hook.take().len(), 1);
}

/// Runs that come at once make the table once.
#[test]
fn the_table_of_runs_is_made_once() {
    let schedule = Schedule::new("scheduled_table");
    let places: Vec<Place> = (0..4).map(|_| Place::new()).collect();
    let children: Vec<_> = places
        .iter()
        .enumerate()
        .map(|(number, place)| {
            schedule
                .command(&[&place.url])
                .env(
                    "RDUMP_METRICS_FILE",
                    schedule.folder.file(&format!("{number}.prom")),
                )
                .stdin(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .expect("starting rdump")
        })
        .collect();
    for child in children {
        let ended = child.wait_with_output().expect("waiting for rdump");
        let stderr = String::from_utf8_lossy(&ended.stderr);
        assert!(
            ended.status.success() && !stderr.contains("warning"),
            "{stderr}"
        );
    }
    assert_eq!(schedule.rows("count(*) OVER ()").lines().count(), 4);
    let versions = "SELECT string_agg(version::text, ',') FROM runs.backup_history_migrations";
    assert_eq!(schedule.history.query_text(versions), "1");

    // whoever may only add rows can do that
    schedule.hook.take();
    let role = &schedule.role;
    schedule.history.sql(&format!(
        "ALTER SCHEMA runs OWNER TO postgres; ALTER TABLE runs.backup_history OWNER TO postgres;
         ALTER TABLE runs.backup_history_migrations OWNER TO postgres;
         GRANT USAGE ON SCHEMA runs TO {role};
         GRANT SELECT ON runs.backup_history_migrations TO {role};
         GRANT INSERT, SELECT ON runs.backup_history TO {role}"
    ));
    let (told, _) = schedule.run(&mut schedule.command(&[&places[0].url]), 0);
    assert!(!told.stderr.contains("warning"), "{}", told.stderr);
    assert_eq!(schedule.rows("run_id").lines().count(), 5);
    // and whoever may not make it is told what is missing
    schedule.history.sql(&format!(
        "CREATE SCHEMA closed; GRANT USAGE ON SCHEMA closed TO {role}"
    ));
    let mut command = schedule.command(&[&places[0].url]);
    let (told, _) = schedule.run(command.env("RDUMP_HISTORY_SCHEMA", "closed"), 0);
    let expected = "permission denied for schema closed; grant CREATE on schema \"closed\"";
    assert!(told.stderr.contains(expected), "{}", told.stderr);
}
