//! How a snapshot reads, by its flags; pg_dump is the judge of what is read.

use std::time::Duration;

use rdump::postgres::Session;
use tokio::runtime::Runtime;

use super::errors::Folder;
use super::hooked;
use crate::support::{self, TestDatabase, server};

/// Another session, within whatever it began.
struct Held {
    runtime: Runtime,
    session: Session,
}

impl Held {
    fn begin(database: &TestDatabase, statement: &str) -> Held {
        let runtime = Runtime::new().expect("starting a runtime");
        let session = runtime.block_on(async {
            let connector = hooked::connector(&database.conninfo());
            let mut session = connector.open().await.expect("a session");
            session.execute(statement).await.expect(statement);
            session
        });
        Held { runtime, session }
    }

    fn run(&mut self, statement: &str) {
        let run = self.session.execute(statement);
        self.runtime.block_on(run).expect(statement);
    }

    fn ask(&mut self, query: &str) -> String {
        let asking = async {
            let rows = self.session.query(query).await?;
            rows.only()?.text("answer")
        };
        let answer = self.runtime.block_on(asking).expect(query);
        answer.to_string()
    }
}

fn snapshot(conninfo: &str, file: &str, flags: &[&str]) -> support::Finished {
    support::rdump_ok(&[&["snapshot", "-d", conninfo, "-f", file], flags].concat())
}

/// The rows that a script has of a table.
fn rows_of<'a>(script: &'a str, table: &str) -> Vec<&'a str> {
    let begin = format!("COPY {table} ");
    let rows = script.lines().skip_while(|line| !line.starts_with(&begin));
    rows.skip(1).take_while(|line| *line != "\\.").collect()
}

/// What pg_dump and rdump store of a table with the same flags.
fn same_rows(source: &TestDatabase, conninfo: &str, table: &str, flags: &[&str]) -> Vec<String> {
    let folder = Folder::new();
    let file = folder.file("archive.rdump");
    snapshot(conninfo, &file, flags);
    let script = support::rdump_ok(&["sql", &file]).text();
    let dump = source.server.pg_dump(flags, source);
    let rows = rows_of(&script, table);
    assert_eq!(rows, rows_of(&dump, table), "{flags:?}");
    rows.into_iter().map(str::to_owned).collect()
}

#[test]
fn a_snapshot_of_another_session_is_taken_over() {
    for major in support::VERSIONS {
        let source = server(major).create_database("exported");
        source.sql("CREATE TABLE t (i int); INSERT INTO t VALUES (1), (2)");
        let mut other = Held::begin(&source, "BEGIN ISOLATION LEVEL REPEATABLE READ");
        let id = other.ask("SELECT pg_export_snapshot() AS answer");
        source.sql("INSERT INTO t VALUES (3); CREATE TABLE later (i int)");
        let folder = Folder::new();
        let file = folder.file("archive.rdump");
        let conninfo = source.conninfo();
        snapshot(&conninfo, &file, &["--snapshot", &id, "-j", "3"]);
        let script = support::rdump_ok(&["sql", &file]).text();
        assert_eq!(rows_of(&script, "public.t"), ["1", "2"]);
        assert!(!script.contains("later"), "{script}");
        other.run("COMMIT");
        let gone = ["snapshot", "-d", &conninfo, "-f", &file, "--snapshot", &id];
        let finished = support::rdump(&gone);
        assert_eq!(finished.code, 1, "{}", finished.stderr);
        assert!(finished.stderr.contains(&id), "{}", finished.stderr);
    }
}

/// It waits until no transaction is open that could make it see an order which there never was.
#[test]
fn a_deferrable_snapshot_waits_for_a_safe_moment() {
    let source = server(18).create_database("deferrable");
    source.sql("CREATE TABLE t (i int); INSERT INTO t VALUES (1)");
    let mut writing = Held::begin(
        &source,
        "BEGIN ISOLATION LEVEL SERIALIZABLE; INSERT INTO t SELECT count(*) + 1 FROM t",
    );
    let folder = Folder::new();
    let file = folder.file("archive.rdump");
    let conninfo = source.conninfo();
    let flags = [
        "snapshot",
        "-d",
        &conninfo,
        "-f",
        &file,
        "--serializable-deferrable",
    ];
    let mut waiting = support::rdump_command(&flags).spawn().expect("rdump");
    std::thread::sleep(Duration::from_secs(2));
    assert!(waiting.try_wait().expect("its state").is_none());
    // without the flag nothing is waited for
    snapshot(&conninfo, &folder.file("other.rdump"), &[]);
    writing.run("COMMIT");
    assert!(waiting.wait().expect("its end").success());
    let rows = support::rdump_ok(&["sql", &file]).text();
    assert!(!rows_of(&rows, "public.t").is_empty(), "{rows}");
}

#[test]
fn rows_that_policies_show_are_stored_if_that_is_asked_for() {
    let source = server(18).create_database("row_security");
    let role = format!("{}_reader", source.name);
    source.sql(&format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'secret'; CREATE TABLE t (i int);
         INSERT INTO t SELECT generate_series(1, 10); ALTER TABLE t ENABLE ROW LEVEL SECURITY;
         CREATE POLICY p ON t USING (i > 7); GRANT SELECT ON t TO {role}"
    ));
    let folder = Folder::new();
    let file = folder.file("archive.rdump");
    let own = source.conninfo();
    let as_role = ["snapshot", "-d", &own, "-f", &file, "--role", &role];
    let finished = support::rdump(&as_role);
    assert_eq!(finished.code, 1, "{}", finished.stderr);
    let flags = ["--role", &role, "--enable-row-security"];
    let rows = same_rows(&source, &own, "public.t", &flags);
    assert_eq!(rows, ["8", "9", "10"]);
    source.sql(&format!("REVOKE ALL ON t FROM {role}; DROP ROLE {role}"));
}

#[test]
fn an_archive_may_have_another_encoding() {
    let source = server(18).create_database("encoded");
    source.sql(
        "CREATE TABLE größe (über text DEFAULT 'ä'); INSERT INTO größe VALUES ('ö'), ('ÿ');
         COMMENT ON TABLE größe IS 'Maß'",
    );
    let folder = Folder::new();
    let file = folder.file("archive.rdump");
    let conninfo = source.conninfo();
    for flag in [&["-E", "LATIN1"][..], &["--encoding=latin1"]] {
        snapshot(&conninfo, &file, flag);
        let script = support::rdump_ok(&["sql", &file]).stdout;
        let has = |bytes: &[u8]| script.windows(bytes.len()).any(|part| part == bytes);
        assert!(has(b"COPY public.\"gr\xf6\xdfe\" (\"\xfcber\")"));
        assert!(has(b"\n\xf6\n\xff\n"), "rows");
        let target = server(18).create_database_with("encoded", "TEMPLATE template0");
        support::rdump_ok(&["restore", &file, "-d", &target.conninfo()]);
        support::assert_same_schema(&source, &target);
        support::assert_same_rows(&source, &target);
    }
    source.sql("INSERT INTO größe VALUES ('日本')");
    for (encoding, said) in [("LATIN1", "has no equivalent"), ("NOPE", "NOPE")] {
        let finished = support::rdump(&["snapshot", "-d", &conninfo, "-f", &file, "-E", encoding]);
        assert_eq!(finished.code, 1, "{}", finished.stderr);
        assert!(finished.stderr.contains(said), "{}", finished.stderr);
    }
}

#[test]
fn digits_of_numbers_are_those_asked_for() {
    let source = server(18).create_database("digits");
    source.sql(
        "CREATE TABLE t (d float8, r real); INSERT INTO t VALUES (0.1::float8 + 0.2, 1.0 / 3)",
    );
    let conninfo = source.conninfo();
    let rows = |flags: &[&str]| same_rows(&source, &conninfo, "public.t", flags);
    let usual = rows(&[]);
    assert_eq!(usual, ["0.30000000000000004\t0.33333334"]);
    assert_eq!(rows(&["--extra-float-digits=3"]), usual);
    assert_eq!(rows(&["--extra-float-digits=0"]), ["0.3\t0.333333"]);
    assert_ne!(rows(&["--extra-float-digits=-10"]), usual);
}

/// Through a wrapper that works, to another database of the same server.
#[test]
fn rows_of_foreign_tables_are_stored_if_their_server_is_named() {
    for major in support::VERSIONS {
        let far = server(major).create_database("far");
        far.sql(
            "CREATE TABLE kept (i int, t text); INSERT INTO kept VALUES (1, 'far'), (2, 'away')",
        );
        let source = server(major).create_database("near");
        source.sql(&format!(
            "CREATE EXTENSION postgres_fdw;
             CREATE SERVER there FOREIGN DATA WRAPPER postgres_fdw OPTIONS (dbname '{}');
             CREATE SERVER nowhere FOREIGN DATA WRAPPER postgres_fdw OPTIONS (dbname 'no such');
             CREATE USER MAPPING FOR PUBLIC SERVER there OPTIONS (user 'postgres');
             CREATE FOREIGN TABLE seen (i int, t text) SERVER there OPTIONS (table_name 'kept');
             CREATE FOREIGN TABLE unseen (i int) SERVER nowhere;
             CREATE TABLE own (i int); INSERT INTO own VALUES (5)",
            far.name
        ));
        let conninfo = source.conninfo();
        let rows = |flags: &[&str]| same_rows(&source, &conninfo, "public.seen", flags);
        assert_eq!(rows(&[]), [""; 0]);
        assert_eq!(
            rows(&["--include-foreign-data=there"]),
            ["1\tfar", "2\taway"]
        );
        assert_eq!(rows(&["--include-foreign-data=th*", "-t", "seen"]).len(), 2);
        assert_eq!(
            rows(&["--include-foreign-data=there", "-t", "own"]),
            [""; 0]
        );
    }
}

/// Of every kind of object; what is restored of it is the same as ever.
#[test]
fn every_name_is_quoted_on_request() {
    for major in support::VERSIONS {
        server(major).ensure_roles();
        let source = server(major).create_database("quoted");
        let is_last = |kind: &String| kind == "default_privileges";
        let (last, kinds): (Vec<_>, Vec<_>) = support::kinds().into_iter().partition(is_last);
        for kind in kinds.iter().chain(&last) {
            support::load_kind(&source, kind);
        }
        let folder = Folder::new();
        let file = folder.file("archive.rdump");
        snapshot(&source.conninfo(), &file, &["--quote-all-identifiers"]);
        let target = server(major).create_database_with("quoted", "TEMPLATE template0");
        support::rdump_ok(&["restore", &file, "-d", &target.conninfo()]);
        support::assert_same_schema(&source, &target);
        support::rdump_ok(&["verify", &file, "--against", &target.conninfo()]);

        let script = support::rdump_ok(&["sql", "-s", &file]).text();
        let mut quoted = 0;
        for line in script.lines() {
            for begin in ["CREATE TABLE ", "ALTER TABLE ONLY ", "COMMENT ON TABLE "] {
                if let Some(name) = line.strip_prefix(begin) {
                    assert!(name.starts_with('"'), "{line}");
                    quoted += 1;
                }
            }
        }
        assert!(quoted > 100, "{quoted}");
    }
}
