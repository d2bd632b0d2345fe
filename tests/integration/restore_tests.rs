//! `rdump test`: what passes, what fails and how that is told, what is recorded, and that nothing stays.

use std::process::{Child, Stdio};

use crate::errors::{Folder, small_database, snapshot, wait_for};
use crate::repository::Place;
use crate::support::{self, Server, TestDatabase, server};

/// What a test run came to.
struct Tested {
    code: i32,
    stderr: String,
    /// Null where the test could not be run.
    report: serde_json::Value,
}

impl Tested {
    fn passed(&self) -> bool {
        self.code == 0 && self.report["outcome"] == "passed"
    }

    /// "kind object message" of each.
    fn problems(&self) -> Vec<String> {
        let problems = self.report["problems"].as_array();
        let problems = problems.expect("problems").iter();
        let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
        problems
            .map(|problem| {
                let parts = ["kind", "object", "message"].map(|name| text(&problem[name]));
                parts.join(" ")
            })
            .collect()
    }

    #[track_caller]
    fn failed_with(&self, parts: &[&str]) {
        assert_eq!(self.code, 3, "{}", self.stderr);
        assert_eq!(self.report["outcome"], "failed");
        let problems = self.problems();
        for part in parts {
            assert!(
                problems.iter().any(|problem| problem.contains(part)),
                "nothing of \"{part}\" in {problems:#?}"
            );
        }
    }
}

fn test(arguments: &[&str]) -> Tested {
    let mut all = vec!["test", "--json"];
    all.extend(arguments);
    let finished = support::rdump(&all);
    let text = String::from_utf8(finished.stdout.clone()).expect("text");
    let report = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .find(|line: &serde_json::Value| line["type"] == "summary")
        .unwrap_or_default();
    Tested {
        code: finished.code,
        stderr: finished.stderr,
        report,
    }
}

/// Databases that tests of archives have made on this server. Tests run side by side: only those of
/// this one are looked for.
fn is_there(server: &Server, database: &serde_json::Value) -> bool {
    let name = database.as_str().expect("a database");
    assert!(name.starts_with("rdump_test_"), "{name}");
    let query = format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'");
    server.query_text("postgres", &query) == "1"
}

/// Whether the history has a test that failed with this. Runs of one second are in no order.
fn has_failed_run(place: &Place, part: &str) -> bool {
    let runs = place.json(&["history"]);
    runs.iter().any(|run| {
        let error = run["error"].as_str().unwrap_or_default();
        run["command"] == "test" && run["outcome"] == "failed" && error.contains(part)
    })
}

fn assertions(folder: &Folder, text: &str) -> String {
    let file = folder.file("assertions.sql");
    std::fs::write(&file, text).expect("writing a file");
    file
}

#[test]
fn a_backup_passes_and_that_is_recorded() {
    for (from, to) in support::pairs() {
        let source = server(from).create_database("tested");
        support::load_sample(&source, 1);
        let place = Place::new();
        let name = place.snapshot(&source);
        let folder = Folder::new();
        let file = assertions(
            &folder,
            "-- people want orders\nSELECT count(*) > 0 FROM sales.orders;\nSET work_mem = '1MB';\n\
             DO $$ BEGIN ASSERT (SELECT count(*) FROM sales.orders) > 0; END $$;\nSELECT true WHERE false;",
        );
        let target = server(to).conninfo("postgres");
        let tested = test(&[
            "latest",
            "--repo",
            &place.url,
            "--on",
            &target,
            "--assert",
            &file,
            "--parallel",
            "3",
            "--max-time",
            "2h",
        ]);
        assert!(tested.passed(), "{}\n{:#}", tested.stderr, tested.report);
        let report = &tested.report;
        assert!(
            report["restored"]["rows"].as_u64() > Some(10_000),
            "{report:#}"
        );
        assert!(report["restored"]["rows_per_second"].as_f64() > Some(0.0));
        assert!(report["compared"][0]["compared"]["rows"].as_u64() > Some(10_000));
        assert_eq!(report["assertions"].as_array().expect("a list").len(), 4);
        assert_eq!(report["max_seconds"], 7200.0);
        assert!(!is_there(server(to), &report["databases"][0]));

        let archive = &place.archives()[0];
        assert_eq!(archive["name"], name.as_str());
        assert_eq!(archive["tested"]["good"], true, "{archive:#}");
        let marks = place.files(&format!("marks/{name}"));
        assert_eq!(marks.len(), 1, "{marks:?}");
        let mark = format!("{}/marks/{name}/{}", place.url, marks[0]);
        let mark = std::fs::read_to_string(mark).expect("the mark");
        let mark: serde_json::Value = serde_json::from_str(&mark).expect("JSON");
        assert_eq!(mark, *report);
        let runs = place.json(&["history"]);
        let run = runs.iter().find(|run| run["command"] == "test");
        let run = run.expect("the run");
        assert_eq!(run["outcome"], "done");
        assert_eq!(run["archive"], name.as_str());
        assert_eq!(run["rows"], report["restored"]["rows"]);
    }
}

#[test]
fn a_row_that_was_altered_fails_the_test_and_names_its_table() {
    let source = small_database(18, "altered");
    let place = Place::new();
    let name = place.snapshot(&source);
    let target = server(18).conninfo("postgres");
    for (change, named) in [
        (
            "UPDATE sales.orders SET item = 'another' WHERE id = 500",
            "difference rows of sales.orders",
        ),
        (
            "DELETE FROM customers WHERE id = 1",
            "difference rows of public.customers",
        ),
        ("DROP VIEW many", "difference VIEW public.many"),
        ("SELECT nextval('customers_id_seq')", "customers_id_seq"),
    ] {
        let hook = ["--hook-after-restore", change];
        let mut arguments = vec![name.as_str(), "--repo", &place.url, "--on", &target];
        arguments.extend(hook);
        let tested = test(&arguments);
        tested.failed_with(&[named]);
        assert_eq!(tested.problems().len(), 1, "{:?}", tested.problems());
        let told = named.rsplit(' ').next().expect("a word");
        assert!(tested.stderr.contains(told), "{}", tested.stderr);
        assert!(!is_there(server(18), &tested.report["databases"][0]));
        assert_eq!(place.archives()[0]["tested"]["good"], false);
        assert!(has_failed_run(&place, told), "{change}");
    }
    // and without a change it passes
    let tested = test(&[&name, "--repo", &place.url, "--on", &target]);
    assert!(tested.passed(), "{}", tested.stderr);
    assert_eq!(place.archives()[0]["tested"]["good"], true);
}

/// A server that has an extension which no other has, and a database with it.
fn with_extension() -> (&'static Server, TestDatabase) {
    let server: &'static Server = Box::leak(Box::new(Server::start(18, &[])));
    let folder = server.query_text(
        "postgres",
        "SELECT setting || '/extension' FROM pg_config() WHERE name = 'SHAREDIR'",
    );
    server.shell(&format!(
        "cd '{folder}' && echo \"default_version = '1'\" >rdump_only.control && \
         echo 'CREATE DOMAIN mood AS text;' >rdump_only--1.sql && \
         echo \"default_version = '1'\" >rdump_preloaded.control && \
         echo 'SELECT 1 / (current_database() NOT LIKE $$rdump_test_%$$)::int;' >rdump_preloaded--1.sql"
    ));
    let database = server.create_database("extended");
    database.sql(
        "CREATE EXTENSION rdump_only;
         CREATE TABLE plain (i int); INSERT INTO plain VALUES (1);
         CREATE TABLE moody (m mood, i int PRIMARY KEY); INSERT INTO moody VALUES ('good', 1);",
    );
    (server, database)
}

#[test]
fn an_extension_that_the_server_lacks_fails_the_test_unless_it_is_skipped() {
    let (own, source) = with_extension();
    let place = Place::new();
    let name = place.snapshot(&source);
    let target = server(18).conninfo("postgres");
    let on = [
        name.as_str(),
        "--repo",
        place.url.as_str(),
        "--on",
        target.as_str(),
    ];

    let tested = test(&on);
    tested.failed_with(&["missing_extension extension \"rdump_only\""]);
    assert!(tested.stderr.contains("rdump_only"), "{}", tested.stderr);
    assert!(tested.report["restored"].is_null());
    // the server lacks it, and the archive may be good
    assert!(place.archives()[0]["tested"].is_null());
    assert!(has_failed_run(&place, "rdump_only"));

    let mut skipping = on.to_vec();
    skipping.extend(["--skip-extension", "rdump_only"]);
    let tested = test(&skipping);
    assert!(tested.passed(), "{}\n{:#}", tested.stderr, tested.report);
    let skipped = tested.report["skipped"].to_string();
    for part in ["EXTENSION rdump_only", "TABLE public.moody", "moody_pkey"] {
        assert!(skipped.contains(part), "{skipped}");
    }
    assert!(!skipped.contains("plain"), "{skipped}");
    // what was not skipped is proved all the same
    skipping.extend(["--hook-after-restore", "DELETE FROM plain"]);
    test(&skipping).failed_with(&["rows of public.plain"]);
    // a server that has it
    let there = own.conninfo("postgres");
    let tested = test(&[&name, "--repo", &place.url, "--on", &there]);
    assert!(tested.passed(), "{}", tested.stderr);

    let wrong = test(&[
        &name,
        "--repo",
        &place.url,
        "--on",
        &target,
        "--skip-extension",
        "x",
    ]);
    assert_eq!(wrong.code, 2, "{}", wrong.stderr);
}

/// As those that must be preloaded: the server has it, and cannot create it.
#[test]
fn an_extension_that_cannot_be_created_says_nothing_of_the_archive() {
    let (own, _) = with_extension();
    let source = own.create_database("preloaded");
    source.sql("CREATE EXTENSION rdump_preloaded");
    let place = Place::new();
    place.snapshot(&source);
    let target = own.conninfo("postgres");
    let tested = test(&["--repo", &place.url, "--on", &target]);
    tested.failed_with(&[
        "missing_extension EXTENSION rdump_preloaded creating it: division by zero",
    ]);
    assert!(place.archives()[0]["tested"].is_null());
}

#[test]
fn assertions_that_do_not_hold_fail_the_test_and_are_named() {
    let source = small_database(15, "asserted");
    let folder = Folder::new();
    let file = snapshot(&source, &folder);
    let text = "SELECT count(*) = 1000 FROM sales.orders;
SELECT count(*) > 1000
FROM sales.orders;
SELECT NULL::bool;
SELECT id > 1 FROM sales.orders;
SELECT count(*) FROM sales.orders;
SELECT true, true;
SELECT nonsense;
DO $$ BEGIN ASSERT false, 'as told'; END $$;
SELECT true FROM customers;";
    let asserted = assertions(&folder, text);
    let target = server(15).conninfo("postgres");
    let tested = test(&[&file, "--on", &target, "--assert", &asserted]);
    tested.failed_with(&[]);
    let expected = [
        ":2 it is false: SELECT count(*) > 1000",
        ":4 it is null: SELECT NULL::bool;",
        ":5 it is false: SELECT id > 1 FROM sales.orders;",
        ":6 what it returns is not true or false: SELECT count(*) FROM sales.orders;",
        ":7 it returns several columns, not one that is true or false: SELECT true, true;",
        ":8 column \"nonsense\" does not exist: SELECT nonsense;",
        ":9 as told [PL/pgSQL function inline_code_block line 1 at ASSERT]: DO $$ BEGIN ASSERT false, 'as told'; END $$;",
    ];
    let expected: Vec<String> = expected
        .iter()
        .map(|rest| format!("assertion {asserted}{rest}"))
        .collect();
    assert_eq!(tested.problems(), expected);
    assert!(!is_there(server(15), &tested.report["databases"][0]));

    let empty = assertions(&folder, "-- SELECT true;");
    let refused = test(&[&file, "--on", &target, "--assert", &empty]);
    assert!(
        refused.code == 1 && refused.stderr.contains("holds no statement"),
        "{}",
        refused.stderr
    );
}

#[test]
fn a_restore_that_takes_too_long_fails_and_says_nothing_of_the_archive() {
    let source = small_database(18, "slow");
    let place = Place::new();
    place.snapshot(&source);
    let target = server(18).conninfo("postgres");
    let tested = test(&["--repo", &place.url, "--on", &target, "--max-time", "1us"]);
    tested.failed_with(&["too_slow the restore took"]);
    // the proof was made all the same
    assert!(tested.report["compared"][0]["compared"]["rows"].as_u64() > Some(1000));
    assert!(place.archives()[0]["tested"].is_null());
}

#[test]
fn what_could_not_be_run_is_no_failure_of_the_archive() {
    let source = small_database(18, "not_run");
    let place = Place::new();
    place.snapshot(&source);
    let tested = test(&["--repo", &place.url, "--on", "host=127.0.0.1 port=1 user=x"]);
    assert_eq!(tested.code, 1, "{}", tested.stderr);
    assert!(place.archives()[0]["tested"].is_null());
    assert!(has_failed_run(&place, "127.0.0.1"));
    assert_eq!(test(&["-"]).code, 2);
}

/// Servers of their own: 15 may come from this machine's programs, 18 from Docker.
#[test]
fn a_server_of_its_own_reaches_nothing_and_has_the_roles_that_are_named() {
    for major in support::VERSIONS {
        let own = server(major);
        own.sql(
            "postgres",
            &format!(
                "CREATE ROLE rdump_owner_{major}; CREATE ROLE rdump_reader_{major};
                 CREATE ROLE \"Rdump policy {major}\"",
            ),
        );
        let source = own.create_database("isolated");
        source.sql(&format!(
            "CREATE TABLE t (i int); INSERT INTO t VALUES (1);
             ALTER TABLE t OWNER TO rdump_owner_{major};
             GRANT SELECT ON t TO rdump_reader_{major};
             CREATE POLICY p ON t TO \"Rdump policy {major}\" USING (true);
             CREATE EXTENSION dblink;
             COMMENT ON DATABASE {} IS 'of its own'",
            source.name
        ));
        let folder = Folder::new();
        let file = snapshot(&source, &folder);
        // the very server that the archive is of, which answers whoever reaches it
        let reached = assertions(
            &folder,
            &format!(
                "DO $$ BEGIN
                     PERFORM dblink_connect($c${} connect_timeout=5$c$);
                     RAISE EXCEPTION 'reached';
                 EXCEPTION WHEN sqlclient_unable_to_establish_sqlconnection THEN
                 END $$;
                 SELECT has_table_privilege('rdump_reader_{major}', 't', 'SELECT');",
                source.conninfo()
            ),
        );
        let tested = test(&[&file]);
        assert!(tested.passed(), "{}\n{:#}", tested.stderr, tested.report);
        if tested.report["server"]["network"] == "none" {
            let tested = test(&[&file, "--assert", &reached]);
            assert!(tested.passed(), "{}\n{:#}", tested.stderr, tested.report);
        }
        let docker = test(&[&file, "--server", "docker", "--assert", &reached]);
        assert!(docker.passed(), "{}\n{:#}", docker.stderr, docker.report);
        assert_eq!(docker.report["server"]["network"], "none");
        assert_eq!(docker.report["databases"][0], source.name.as_str());
        let compared = docker.report["compared"][0].to_string();
        assert!(!compared.contains("database itself"), "{compared}");
        drop(source);
        own.sql(
            "postgres",
            &format!(
                "DROP ROLE rdump_owner_{major}, rdump_reader_{major}, \"Rdump policy {major}\""
            ),
        );
    }
}

/// On 15 with this machine's programs, if it has them, which may lack the locale of the databases.
#[test]
fn a_set_is_restored_whole_into_a_server_of_its_own() {
    for major in support::VERSIONS {
        set_is_restored(Box::leak(Box::new(Server::start(major, &[]))));
    }
}

fn set_is_restored(own: &'static Server) {
    own.sql(
        "postgres",
        "CREATE ROLE keeper LOGIN PASSWORD 'x'; CREATE TABLE in_postgres (i int)",
    );
    let one = own.create_database("one");
    one.sql("CREATE TABLE t (i int); INSERT INTO t VALUES (1); ALTER TABLE t OWNER TO keeper");
    let folder = Folder::new();
    let file = folder.file("set.rdump");
    support::rdump_ok(&[
        "snapshot",
        "-q",
        "--all-databases",
        "-d",
        &own.conninfo("postgres"),
        "-f",
        &file,
    ]);
    let tested = test(&[&file]);
    assert!(tested.passed(), "{}\n{:#}", tested.stderr, tested.report);
    assert_eq!(
        tested.report["compared"].as_array().expect("a list").len(),
        4
    );
    let hook = "DO $$ BEGIN IF to_regclass('t') IS NOT NULL THEN DELETE FROM t; END IF; END $$";
    let tested = test(&[&file, "--hook-after-restore", hook]);
    tested.failed_with(&["rows of public.t"]);
    assert_eq!(
        tested.report["problems"][0]["member"],
        format!("database {}", one.name)
    );

    let own_names = ["database postgres", "database template1"];
    for compared in tested.report["compared"].as_array().expect("a list") {
        // what is set for those as well, if the server has their locale
        let is_own = own_names.iter().any(|name| compared["member"] == *name);
        let says = compared.to_string();
        let warned = tested.report["warnings"].to_string().contains("locale C");
        assert!(
            !is_own || warned || !says.contains("database itself"),
            "{says}"
        );
    }
    let target = server(own.major).conninfo("postgres");
    let refused = test(&[&file, "--on", &target]);
    assert!(
        refused.code == 2 && refused.stderr.contains("--member"),
        "{}",
        refused.stderr
    );
    let member = ["--on", target.as_str(), "--member", "postgres"];
    let tested = test(&[&[file.as_str()], member.as_slice()].concat());
    assert!(tested.passed(), "{}\n{:#}", tested.stderr, tested.report);
}

#[test]
fn a_subscription_is_no_obstacle_and_connects_nowhere() {
    let source = small_database(18, "subscribed");
    source.sql(
        "CREATE SUBSCRIPTION s CONNECTION 'host=127.0.0.1 port=1' PUBLICATION p WITH (connect = false)",
    );
    let folder = Folder::new();
    let file = snapshot(&source, &folder);
    // a database with a subscription cannot be dropped
    source.sql("ALTER SUBSCRIPTION s SET (slot_name = NONE); DROP SUBSCRIPTION s");
    let tested = test(&[&file, "--on", &server(18).conninfo("postgres")]);
    assert!(tested.passed(), "{}\n{:#}", tested.stderr, tested.report);
    assert!(!is_there(server(18), &tested.report["databases"][0]));
}

#[test]
fn the_database_is_kept_only_on_request() {
    let source = small_database(18, "kept");
    let folder = Folder::new();
    let file = snapshot(&source, &folder);
    let target = server(18).conninfo("postgres");
    let tested = test(&[&file, "--on", &target, "--keep"]);
    assert!(tested.passed(), "{}", tested.stderr);
    let name = &tested.report["databases"][0];
    assert!(is_there(server(18), name));
    server(18).sql(
        "postgres",
        &format!("DROP DATABASE {}", name.as_str().expect("a name")),
    );
    assert_eq!(test(&[&file, "--keep"]).code, 2);
}

#[test]
fn reports_are_written_in_each_format_and_names_drive_no_browser() {
    let source = server(18).create_database("reported");
    source.sql("CREATE TABLE \"<script>alert(1)</script>\" (i int)");
    let folder = Folder::new();
    let file = snapshot(&source, &folder);
    let target = server(18).conninfo("postgres");
    let names = ["report.html", "report.json", "report.txt"].map(|name| folder.file(name));
    let mut arguments = vec![file.as_str(), "--on", &target];
    for name in &names {
        arguments.extend(["--report", name]);
    }
    let hook = "INSERT INTO \"<script>alert(1)</script>\" VALUES (1)";
    arguments.extend(["--hook-after-restore", hook]);
    let tested = test(&arguments);
    tested.failed_with(&["<script>"]);
    let [html, json, text] = names.map(|name| std::fs::read_to_string(name).expect("the report"));
    assert!(
        html.contains("&lt;script&gt;alert(1)") && !html.contains("<script"),
        "{html}"
    );
    assert!(
        html.contains("failed") && html.ends_with("</html>\n"),
        "{html}"
    );
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json, tested.report);
    assert!(
        text.starts_with("restore test failed\n") && text.contains("restored in "),
        "{text}"
    );

    let refused = test(&[&file, "--report", &folder.file("report.pdf")]);
    assert_eq!(refused.code, 2);
}

/// Starts a test that waits within its assertions.
fn waiting(file: &str, target: &str, folder: &Folder) -> Child {
    let asserted = assertions(folder, "SELECT pg_sleep(600) IS NULL AS rdump_test_waits");
    let mut command =
        support::rdump_command(&["test", "-q", file, "--on", target, "--assert", &asserted]);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().expect("starting rdump")
}

#[test]
fn a_signal_leaves_no_database() {
    let source = small_database(18, "signalled");
    let folder = Folder::new();
    let file = snapshot(&source, &folder);
    let own: &'static Server = Box::leak(Box::new(Server::start(18, &[])));
    let child = waiting(&file, &own.conninfo("postgres"), &folder);
    let databases = "SELECT count(*) FROM pg_database WHERE datname LIKE 'rdump\\_test\\_%'";
    wait_for("the assertion", 60, || {
        let waits = "SELECT count(*) FROM pg_stat_activity
            WHERE query LIKE '%rdump_test_waits%' AND state = 'active' AND pid <> pg_backend_pid()";
        own.query_text("postgres", waits) == "1"
    });
    assert_eq!(own.query_text("postgres", databases), "1");
    // SAFETY: the child is ours and has not been waited for.
    unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
    let output = child.wait_with_output().expect("waiting");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(143), "{said}");
    assert_eq!(said, "rdump: error: cancelled by a signal\n");
    assert_eq!(own.query_text("postgres", databases), "0");
}
