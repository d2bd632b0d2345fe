//! The number of catalog queries does not depend on the number of objects.

use std::collections::BTreeMap;
use std::process::Command;

use crate::errors::{Folder, expect_rdump};
use crate::support::{self, Server, VERSIONS};

/// Tables with 3 columns, a primary key, two indexes, a foreign key and a comment each.
fn tables(number: u32) -> String {
    format!(
        "SELECT format('CREATE TABLE t%s (id int PRIMARY KEY, name text, parent int REFERENCES t%s); \
                        CREATE INDEX ON t%s (name); CREATE INDEX ON t%s (parent); \
                        COMMENT ON TABLE t%s IS ''number %s''', i, greatest(i - 1, 1), i, i, i, i)
         FROM generate_series(1, {number}) i
         \\gexec"
    )
}

/// What the server was sent, by its first word; `LOCK` comes with its savepoint.
fn statements(server: &Server, database: &str) -> BTreeMap<String, usize> {
    let log = support::run_ok(
        Command::new("docker").args(["logs", &server.container]),
        b"",
    );
    let marker = format!("[{database} rdump]");
    let mut found = BTreeMap::new();
    for line in log.stderr.lines().chain(log.text().lines()) {
        let Some((_, said)) = line.split_once(&marker) else {
            continue;
        };
        if let Some((_, sql)) = said.split_once("statement: ") {
            let word = match sql.contains("LOCK TABLE ") {
                true => "LOCK",
                false => sql.split_whitespace().next().unwrap_or_default(),
            };
            *found.entry(word.to_uppercase()).or_default() += 1;
        }
    }
    found
}

#[test]
fn queries_do_not_grow_with_tables() {
    let numbers = if support::soak() {
        [100, 10_000]
    } else {
        [50, 1000]
    };
    for major in VERSIONS {
        let options = [
            "-c",
            "log_statement=all",
            "-c",
            "log_line_prefix=[%d %a] ",
            "-c",
            "max_locks_per_transaction=1024",
        ];
        // its log is read, so it is nobody else's
        let server: &'static Server = Box::leak(Box::new(Server::start(major, &options)));
        let mut counted = Vec::new();
        for number in numbers {
            let source = server.create_database("scale");
            source.sql(&format!("SET log_statement = 'none';\n{}", tables(number)));
            let folder = Folder::new();
            let file = folder.file("archive.rdump");
            let conninfo = format!("{} application_name=rdump", source.conninfo());
            let snapshot = ["snapshot", "-q", "-d", &conninfo, "-s", "-f", &file];
            expect_rdump(&snapshot, 0, "");
            let listed = support::rdump_ok(&["show", &file]).text();
            let of_tables = |kind: &str| {
                let lines = listed.lines();
                lines
                    .filter(|line| line.contains(&format!("; {kind} public ")))
                    .count()
            };
            for kind in ["TABLE", "CONSTRAINT", "FK CONSTRAINT", "COMMENT"] {
                assert_eq!(of_tables(kind), number as usize, "{kind}");
            }
            let mut sent = statements(server, &source.name);
            // many tables in a statement, but not all in one
            let locks = sent.remove("LOCK").unwrap_or_default();
            assert!(locks > 0, "{sent:?}");
            assert!(locks <= 2 + number as usize / 100, "{locks} for {number}");
            counted.push(sent);
        }
        assert!(
            counted[0].get("SELECT").is_some_and(|count| *count > 40),
            "{counted:?}"
        );
        assert_eq!(counted[0], counted[1], "of {numbers:?} tables on {major}");
    }
}
