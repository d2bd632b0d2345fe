//! Restores in one transaction and in several: what they keep, and room for their locks.

use super::errors::{Folder, snapshot};
use crate::support::{self, Server, VERSIONS, server};

#[test]
fn transactions_of_some_entries_give_the_same() {
    for major in VERSIONS {
        let source = server(major).create_database("sized");
        support::load_sample(&source, 1);
        let folder = Folder::new();
        let file = snapshot(&source, &folder);
        for flags in [
            &["--transaction-size=1"][..],
            &["--transaction-size=7"],
            &["--transaction-size=7", "-j3"],
        ] {
            let target = server(major).create_database_with("sized", "TEMPLATE template0");
            let conninfo = target.conninfo();
            let restore = ["restore", "-q", &file, "-d", &conninfo];
            support::rdump_ok(&[&restore[..], flags].concat());
            support::assert_same_schema(&source, &target);
            support::assert_same_rows(&source, &target);
        }
    }
}

#[test]
fn an_error_ends_it_and_takes_back_its_own_transaction() {
    let source = server(18).create_database("sized");
    source.sql("CREATE TABLE a (i int); CREATE TABLE b (i int); CREATE TABLE c (i int); CREATE TABLE d (i int)");
    let folder = Folder::new();
    let file = snapshot(&source, &folder);
    for (size, left) in [
        ("1", "a b c d"),
        ("2", "a b c d"),
        ("3", "a b d"),
        ("5", "d"),
    ] {
        let target = server(18).create_database_with("sized", "TEMPLATE template0");
        target.sql("CREATE TABLE d (j int)");
        let size = format!("--transaction-size={size}");
        let conninfo = target.conninfo();
        let failed = support::rdump(&["restore", "-q", &file, "-d", &conninfo, "--force", &size]);
        assert_eq!(failed.code, 1, "{}", failed.stderr);
        assert!(
            failed.stderr.contains("TABLE public.d"),
            "{}",
            failed.stderr
        );
        // before the tables comes the schema
        assert_eq!(
            target.query_text(
                "SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
            ),
            left,
            "{size}"
        );
    }
    let both = support::rdump(&["restore", &file, "-d", "x", "-1", "--transaction-size=2"]);
    assert_eq!(both.code, 2, "{}", both.stderr);
}

#[test]
fn there_must_be_room_for_the_locks() {
    let small: &'static Server = Box::leak(Box::new(Server::start(
        18,
        &[
            "-c",
            "max_locks_per_transaction=10",
            "-c",
            "max_connections=20",
            "-c",
            "max_prepared_transactions=0",
        ],
    )));
    let source = server(18).create_database("sized");
    source.sql(
        "SELECT format('CREATE TABLE t%s (i int PRIMARY KEY, t text)', i) FROM generate_series(1, 100) i \\gexec",
    );
    let folder = Folder::new();
    let file = snapshot(&source, &folder);
    let half = folder.file("half.rdump");
    let some = [
        "-t", "t?", "-t", "t1?", "-t", "t2?", "-t", "t3?", "-t", "t4?",
    ];
    let of_some = ["snapshot", "-s", "-d", &source.conninfo(), "-f", &half];
    support::rdump_ok(&[&of_some[..], &some].concat());
    let target = small.create_database("sized");
    let conninfo = target.conninfo();
    let restore = |flag: &str| support::rdump(&["restore", "-q", &file, "-d", &conninfo, flag]);
    let refused = restore("-1");
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    assert!(
        refused
            .stderr
            .contains("about 400 locks, and the target has room for 200 ")
            && refused.stderr.contains("--transaction-size"),
        "{}",
        refused.stderr
    );
    let refused = restore("--transaction-size=90");
    assert!(
        refused.stderr.contains("a smaller --transaction-size"),
        "{}",
        refused.stderr
    );
    let done = restore("--transaction-size=20");
    assert_eq!(done.code, 0, "{}", done.stderr);
    support::assert_same_schema(&source, &target);

    // what is dropped takes locks as well
    let restore = |flags: &[&str]| {
        let all = ["restore", "-q", &half, "-d", &conninfo, "-c", "--if-exists"];
        support::rdump(&[&all[..], flags].concat())
    };
    let refused = restore(&["-1"]);
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    let told = "about 392 locks, and the target has room for 200 ";
    assert!(refused.stderr.contains(told), "{}", refused.stderr);
    let done = restore(&["--transaction-size=20"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    support::assert_same_schema(&source, &target);
}
