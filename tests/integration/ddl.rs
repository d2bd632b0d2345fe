//! DDL in each window of a snapshot.

use rdump::snapshot::{Options, Window};

use crate::errors::{Folder, wait_for};
use crate::hooked::{self, Background, restored};
use crate::support::{self, Server, TestDatabase, VERSIONS, server};

/// Says what a table is and holds, also of one that is not there: `kind|partition|rows|sum of i|sum of v|type of v`.
const STATE: &str = "
CREATE FUNCTION state(relation text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE answer text;
BEGIN
    IF to_regclass('public.' || relation) IS NULL THEN RETURN 'gone'; END IF;
    EXECUTE format('SELECT concat_ws(''|'', (SELECT relkind::text || relispartition FROM pg_catalog.pg_class
                                             WHERE oid = %L::regclass),
                                     count(*), sum(i), sum(v), min(pg_typeof(v)::text)) FROM public.%I',
                   'public.' || relation, relation) INTO answer;
    RETURN answer;
END $$;
CREATE TABLE journal (entry text);
";

struct Case {
    name: &'static str,
    /// Makes the tables that the DDL is about.
    make: &'static str,
    /// One transaction, which also writes the name into the journal; VACUUM has none.
    ddl: &'static str,
    tables: &'static [&'static str],
    /// Whether a lock on each of the tables holds it up.
    waits: bool,
}

const CASES: &[Case] = &[
    Case {
        name: "truncate",
        make: "CREATE TABLE truncated AS SELECT i, i AS v FROM generate_series(1, 3000) i",
        ddl: "TRUNCATE truncated; INSERT INTO truncated SELECT i, 7 FROM generate_series(1, 500) i",
        tables: &["truncated"],
        waits: true,
    },
    Case {
        name: "rewrite",
        make: "CREATE TABLE rewritten AS SELECT i, i AS v FROM generate_series(1, 3000) i",
        ddl: "ALTER TABLE rewritten ALTER v TYPE bigint USING v * 2",
        tables: &["rewritten"],
        waits: true,
    },
    Case {
        name: "vacuum",
        make: "CREATE TABLE vacuumed AS SELECT i, i AS v FROM generate_series(1, 3000) i;
               DELETE FROM vacuumed WHERE i % 3 = 0",
        ddl: "VACUUM FULL vacuumed",
        tables: &["vacuumed"],
        waits: true,
    },
    Case {
        name: "drop",
        make: "CREATE TABLE dropped AS SELECT i, i AS v FROM generate_series(1, 3000) i",
        ddl: "DROP TABLE dropped",
        tables: &["dropped"],
        waits: true,
    },
    Case {
        name: "create",
        make: "",
        ddl: "CREATE TABLE created AS SELECT i, i AS v FROM generate_series(1, 3000) i",
        tables: &["created"],
        waits: false,
    },
    Case {
        name: "replace",
        make: "CREATE TABLE replaced AS SELECT i, i AS v FROM generate_series(1, 3000) i",
        ddl: "DROP TABLE replaced;
              CREATE TABLE replaced AS SELECT 5 AS more, i, i::numeric AS v FROM generate_series(1, 70) i",
        tables: &["replaced"],
        waits: true,
    },
    Case {
        name: "swap",
        make: "CREATE TABLE swapped AS SELECT i, i AS v FROM generate_series(1, 3000) i;
               CREATE TABLE swapped_new AS SELECT i, 1 AS v FROM generate_series(1, 2000) i",
        ddl: "ALTER TABLE swapped RENAME TO swapped_old; ALTER TABLE swapped_new RENAME TO swapped;
              ALTER TABLE swapped_old RENAME TO swapped_new",
        tables: &["swapped", "swapped_new"],
        waits: true,
    },
    Case {
        name: "attach",
        make: "CREATE TABLE gaining (i int, v int) PARTITION BY RANGE (i);
               CREATE TABLE gained (i int, v int);
               INSERT INTO gained SELECT i, i FROM generate_series(1, 3000) i",
        ddl: "ALTER TABLE gaining ATTACH PARTITION gained FOR VALUES FROM (0) TO (10000)",
        tables: &["gaining", "gained"],
        waits: true,
    },
    Case {
        name: "detach",
        make: "CREATE TABLE losing (i int, v int) PARTITION BY RANGE (i);
               CREATE TABLE lost PARTITION OF losing FOR VALUES FROM (0) TO (10000);
               INSERT INTO losing SELECT i, i FROM generate_series(1, 3000) i",
        ddl: "ALTER TABLE losing DETACH PARTITION lost",
        tables: &["losing", "lost"],
        waits: true,
    },
    Case {
        name: "columns",
        make: "CREATE TABLE turned AS SELECT i, 1 AS v FROM generate_series(1, 3000) i",
        ddl: "ALTER TABLE turned RENAME i TO w; ALTER TABLE turned RENAME v TO i;
              ALTER TABLE turned RENAME w TO v",
        tables: &["turned"],
        waits: true,
    },
];

impl Case {
    fn transaction(&self) -> String {
        if self.ddl.starts_with("VACUUM") {
            return self.ddl.to_owned();
        }
        format!(
            "BEGIN; {}; INSERT INTO journal VALUES ('{}'); COMMIT",
            self.ddl, self.name
        )
    }

    fn state(&self, database: &TestDatabase) -> String {
        let states: Vec<String> = self
            .tables
            .iter()
            .map(|table| format!("state('{table}')"))
            .collect();
        let states = states.join(", ");
        hooked::ask(
            &database.conninfo(),
            &format!("SELECT concat_ws(' ', {states})"),
        )
    }
}

/// What every case leaves when it has happened, and when it has not.
fn expected(server: &'static Server) -> Vec<[String; 2]> {
    let database = server.create_database("ddl_expected");
    database.sql(STATE);
    CASES
        .iter()
        .map(|case| {
            hooked::sql(&database.conninfo(), case.make);
            let before = case.state(&database);
            hooked::sql(&database.conninfo(), &case.transaction());
            [before, case.state(&database)]
        })
        .collect()
}

fn splitting(file: &str, hook: rdump::snapshot::WindowHook) -> Options {
    Options {
        jobs: 4,
        // a page: every table is split
        reading: Default::default(),
        least_slice: 8192,
        ..hooked::options(file, Some(hook))
    }
}

/// The journal says what had happened at the moment of the snapshot, and the tables must agree.
fn assert_agrees(
    source: &TestDatabase,
    file: &str,
    expected: &[[String; 2]],
    what: &str,
) -> Vec<String> {
    let target = restored(source, file);
    let journal = target.query_text("SELECT entry FROM journal ORDER BY 1");
    let journal: Vec<String> = journal.lines().map(str::to_owned).collect();
    for (case, states) in CASES.iter().zip(expected) {
        let happened = journal.iter().any(|entry| entry == case.name);
        assert_eq!(
            case.state(&target),
            states[usize::from(happened)],
            "{what}: {} on PostgreSQL {}, which {}",
            case.name,
            source.server.major,
            if happened {
                "had happened"
            } else {
                "had not happened"
            }
        );
    }
    journal
}

fn ddl_in(window: Window) {
    for major in VERSIONS {
        let server = server(major);
        let expected = expected(server);
        let source = server.create_database("ddl");
        source.sql(STATE);
        for case in CASES {
            source.sql(case.make);
        }
        let background = Background::default();
        let (hook, tries) = {
            let (background, name) = (background.clone(), source.name.clone());
            hooked::at(window, move || {
                for case in CASES {
                    background.start(server, &name, case.transaction());
                }
                background.settle(server, &name);
            })
        };
        let folder = Folder::new();
        let file = folder.file("archive.rdump");
        let outcome = hooked::run(&source.conninfo(), &splitting(&file, hook));
        let waited = background.finish();
        outcome.expect("a snapshot");
        let journal = assert_agrees(&source, &file, &expected, &format!("{window:?}"));

        // nothing of it is a reason to begin again: it came before all locks, or waited for them
        assert_eq!(tries.count(), 1, "{window:?} on {major}");
        let held_up = CASES.iter().filter(|case| case.waits).count() as u32;
        let mut all: Vec<&str> = CASES.iter().map(|case| case.name).collect();
        all.retain(|name| *name != "vacuum");
        all.sort_unstable();
        match window {
            Window::Listed => {
                assert_eq!(waited, 0);
                assert_eq!(journal, all);
            }
            Window::Locked => {
                assert_eq!(waited, held_up);
                assert_eq!(journal, ["create"]);
            }
            Window::SnapshotTaken | Window::Copying => {
                assert_eq!(waited, held_up);
                assert!(journal.is_empty(), "{journal:?}");
            }
        }
    }
}

#[test]
fn ddl_between_list_and_locks() {
    ddl_in(Window::Listed);
}

#[test]
fn ddl_between_locks_and_snapshot() {
    ddl_in(Window::Locked);
}

#[test]
fn ddl_after_the_snapshot() {
    ddl_in(Window::SnapshotTaken);
}

#[test]
fn ddl_while_rows_are_copied() {
    ddl_in(Window::Copying);
}

/// Tables made after the list are not locked when the snapshot is taken: what happens to them next
/// happens before they are.
#[test]
fn ddl_on_tables_that_are_new() {
    for major in VERSIONS {
        let server = server(major);
        let expected = expected(server);
        for (case, states) in CASES.iter().zip(&expected) {
            let source = server.create_database("ddl_new");
            source.sql(STATE);
            let name = source.name.clone();
            let (hook, tries) = hooked::at_each(move |window| match window {
                Window::Locked => hooked::sql(&server.conninfo(&name), case.make),
                Window::SnapshotTaken => {
                    hooked::sql(&server.conninfo(&name), &case.transaction());
                }
                Window::Listed | Window::Copying => {}
            });
            let folder = Folder::new();
            let file = folder.file("archive.rdump");
            hooked::run(&source.conninfo(), &splitting(&file, hook)).expect("a snapshot");
            let target = restored(&source, &file);
            let again = tries.count() > 1;
            assert_eq!(
                case.state(&target),
                states[usize::from(again)],
                "{} on {major}, {} tries",
                case.name,
                tries.count()
            );
            // what the first snapshot shows can still be read, or cannot
            let readable = matches!(case.name, "create" | "attach" | "detach");
            assert_eq!(!again, readable, "{} on {major}", case.name);
            let journal = target.query_text("SELECT count(*) FROM journal");
            let expected = if again && case.name != "vacuum" {
                "1"
            } else {
                "0"
            };
            assert_eq!(journal, expected, "{} on {major}", case.name);
        }
    }
}

/// Many tables come and go all the time; only few of them come between snapshot and locks.
#[test]
fn tables_that_come_and_go() {
    for major in VERSIONS {
        let server = server(major);
        let source = server.create_database("come_and_go");
        source.sql(
            "CREATE TABLE stays AS SELECT i FROM generate_series(1, 1000) i;
             CREATE PROCEDURE churn(worker int) LANGUAGE plpgsql AS $$
             BEGIN
                 FOR n IN 1 .. 1000000 LOOP
                     EXECUTE format('CREATE TABLE short_%s_%s AS SELECT generate_series(1, 100) AS i', worker, n);
                     COMMIT;
                     IF n > 20 THEN
                         EXECUTE format('DROP TABLE short_%s_%s', worker, n - 20);
                         COMMIT;
                     END IF;
                     EXIT WHEN EXISTS (SELECT FROM pg_catalog.pg_class WHERE relname = 'enough');
                 END LOOP;
             END $$;",
        );
        let churning: Vec<_> = (0..3)
            .map(|worker| {
                let name = source.name.clone();
                std::thread::spawn(move || {
                    hooked::sql(&server.conninfo(&name), &format!("CALL churn({worker})"));
                })
            })
            .collect();
        wait_for("the tables come and go", 30, || {
            source.query_text(
                "SELECT count(*) > 50 FROM pg_class WHERE relname LIKE 'short%' AND relkind = 'r'",
            ) == "t"
        });
        let folder = Folder::new();
        let mut tries = Vec::new();
        let mut outcomes = Vec::new();
        for run in 0..3 {
            let file = folder.file(&format!("{run}.rdump"));
            let (hook, tried) = hooked::at(Window::Copying, || {});
            let options = Options {
                jobs: 4,
                ..hooked::options(&file, Some(hook))
            };
            outcomes.push(hooked::run(&source.conninfo(), &options).map(|_| file));
            tries.push(tried.count());
        }
        source.sql("CREATE TABLE enough ()");
        for thread in churning {
            thread.join().expect("the churn ends");
        }
        println!("tables that come and go on {major}: tries {tries:?}");
        for outcome in outcomes {
            let target = restored(&source, &outcome.expect("a snapshot"));
            let found = target.query_text(
                "SELECT count(*) > 30, bool_and(
                     (xpath('/row/c/text()', query_to_xml(format('SELECT count(*) AS c FROM %s', oid::regclass),
                                                          false, true, '')))[1]::text = '100')
                 FROM pg_class WHERE relname LIKE 'short%' AND relkind = 'r'",
            );
            assert_eq!(found, "t|t");
        }
    }
}

/// No lock keeps the name of a schema: rows that were perhaps read under a wrong name are noticed.
#[test]
fn schemas_that_change_places() {
    for major in VERSIONS {
        let server = server(major);
        let source = server.create_database("schemas");
        source.sql(
            "CREATE SCHEMA one; CREATE SCHEMA two;
             CREATE TABLE one.t AS SELECT 1 AS i; CREATE TABLE two.t AS SELECT 2 AS i;",
        );
        let folder = Folder::new();
        let file = folder.file("archive.rdump");
        const SWAP: &str = "ALTER SCHEMA one RENAME TO three; ALTER SCHEMA two RENAME TO one;
                            ALTER SCHEMA three RENAME TO two";
        let name = source.name.clone();
        let (hook, _) = hooked::at(Window::Copying, move || {
            hooked::sql(&server.conninfo(&name), SWAP)
        });
        let error = hooked::run(&source.conninfo(), &hooked::options(&file, Some(hook)))
            .expect_err("rows under wrong names");
        assert_eq!(
            error.to_string(),
            "table one.t was dropped or renamed while rows were read"
        );
        assert!(folder.names().is_empty(), "{:?}", folder.names());

        // before, it is no danger, or a reason to begin again
        for window in [Window::Listed, Window::Locked, Window::SnapshotTaken] {
            let name = source.name.clone();
            let (hook, _) = hooked::at(window, move || hooked::sql(&server.conninfo(&name), SWAP));
            hooked::run(&source.conninfo(), &hooked::options(&file, Some(hook)))
                .expect("a snapshot");
            let target = restored(&source, &file);
            support::assert_same_rows(&source, &target);
        }
    }
}

/// No lock keeps functions, views, statistics or constraints of domains: where the server's
/// functions find them gone when they are read, all begins again.
#[test]
fn objects_that_are_dropped_before_they_are_read() {
    for major in VERSIONS {
        let server = server(major);
        for (make, drop) in [
            (
                "CREATE FUNCTION gone(a int) RETURNS int LANGUAGE sql RETURN a + 1",
                "DROP FUNCTION gone",
            ),
            (
                "CREATE AGGREGATE gone(int) (SFUNC = int4pl, STYPE = int)",
                "DROP AGGREGATE gone(int)",
            ),
            ("CREATE VIEW gone AS SELECT i FROM t", "DROP VIEW gone"),
            (
                "CREATE STATISTICS gone ON i, j FROM t",
                "DROP STATISTICS gone",
            ),
            (
                "CREATE DOMAIN d AS int CONSTRAINT gone CHECK (value > 0)",
                "ALTER DOMAIN d DROP CONSTRAINT gone",
            ),
        ] {
            let source = server.create_database("gone");
            source.sql("CREATE TABLE t AS SELECT 1 AS i, 2 AS j");
            source.sql(make);
            let folder = Folder::new();
            let file = folder.file("archive.rdump");
            let name = source.name.clone();
            let (hook, _) = hooked::at(Window::SnapshotTaken, move || {
                hooked::sql(&server.conninfo(&name), drop);
            });
            hooked::run(&source.conninfo(), &hooked::options(&file, Some(hook)))
                .unwrap_or_else(|error| panic!("{drop} on {major}: {error}"));
            // what only catalogs tell, such as a view, is still there
            let target = restored(&source, &file);
            assert_eq!(target.query_text("SELECT i + j FROM t"), "3", "{drop}");
        }
    }
}

/// A row shows the label of the moment when it is read.
#[test]
fn a_label_that_is_renamed_while_rows_are_read() {
    for major in VERSIONS {
        let server = server(major);
        let source = server.create_database("labels");
        source.sql(
            "CREATE TYPE mood AS ENUM ('sad', 'glad');
             CREATE TABLE t AS SELECT 'sad'::mood AS m",
        );
        let folder = Folder::new();
        let file = folder.file("archive.rdump");
        let name = source.name.clone();
        let (hook, _) = hooked::at(Window::Copying, move || {
            let rename =
                "ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'; ALTER TYPE mood ADD VALUE 'new'";
            for statement in rename.split("; ") {
                hooked::sql(&server.conninfo(&name), statement);
            }
        });
        let error = hooked::run(&source.conninfo(), &hooked::options(&file, Some(hook)))
            .expect_err("rows with labels that their type does not have");
        assert_eq!(
            error.to_string(),
            "a label of type public.mood changed from \"sad\" to \"blue\" while the snapshot was taken"
        );
        assert!(folder.names().is_empty(), "{:?}", folder.names());
    }
}

/// What the server's functions print has the names of the moment.
#[test]
fn names_that_change_while_they_are_read() {
    const MAKE: &str =
        "CREATE TYPE pair AS (a int, b text); CREATE DOMAIN whole AS int CHECK (value > 0);
        CREATE FUNCTION one() RETURNS int LANGUAGE sql RETURN 1;
        CREATE TABLE t AS SELECT (1, 'x')::pair AS p, 1::whole AS w;
        ALTER TABLE t ADD n int DEFAULT one()";
    for major in VERSIONS {
        let server = server(major);
        for (change, expected) in [
            (
                "ALTER TYPE pair DROP ATTRIBUTE b, ADD ATTRIBUTE c text",
                "attributes of a type changed from \"public.pair(a integer, b text)\" to \
                 \"public.pair(a integer, c text)\"",
            ),
            (
                "ALTER DOMAIN whole RENAME TO positive",
                "type changed from \"public.whole\" to \"public.positive\"",
            ),
            (
                "ALTER FUNCTION one RENAME TO two",
                "function changed from \"public.one\" to \"public.two\"",
            ),
        ] {
            for window in [Window::SnapshotTaken, Window::Copying] {
                let source = server.create_database("names");
                source.sql(MAKE);
                let folder = Folder::new();
                let name = source.name.clone();
                let (hook, _) = hooked::at(window, move || {
                    hooked::sql(&server.conninfo(&name), change);
                });
                let options = hooked::options(&folder.file("archive.rdump"), Some(hook));
                let error = hooked::run(&source.conninfo(), &options)
                    .expect_err("an archive that does not fit together");
                let expected = format!("{expected} while the snapshot was taken");
                assert_eq!(error.to_string(), expected, "{window:?} on {major}");
                assert!(folder.names().is_empty(), "{:?}", folder.names());
            }
        }
    }
}
