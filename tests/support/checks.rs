//! Checks of behaviour: `fixtures/kinds/NAME.check.sql` calls the functions, fires the triggers, breaks
//! the constraints of what NAME.sql made, in a transaction that is rolled back.

use super::server::TestDatabase;
use super::{fixture, fixture_path};

/// What the checks say: that a query yields a text, that a command fails with an SQLSTATE, that a
/// plan names an index or partition.
const PROLOGUE: &str = r"
BEGIN;
SET client_min_messages = warning;
CREATE FUNCTION pg_temp.yields(query text, expected text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE found text;
BEGIN
    EXECUTE query INTO found;
    IF found IS DISTINCT FROM expected THEN
        RAISE EXCEPTION E'% yields\n%, not\n%', query, found, expected;
    END IF;
END $$;
CREATE FUNCTION pg_temp.refuses(command text, state text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    BEGIN
        EXECUTE command;
    EXCEPTION WHEN OTHERS THEN
        IF SQLSTATE = state THEN
            RETURN;
        END IF;
        RAISE EXCEPTION '% is refused with %: %', command, SQLSTATE, SQLERRM;
    END;
    RAISE EXCEPTION '% is not refused', command;
END $$;
CREATE FUNCTION pg_temp.plans(query text, name text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE plan text;
BEGIN
    EXECUTE 'EXPLAIN (FORMAT json, COSTS off) ' || query INTO plan;
    IF strpos(plan, to_json(name)::text) = 0 THEN
        RAISE EXCEPTION E'% does not use %:\n%', query, name, plan;
    END IF;
END $$;
\o /dev/null
";

/// The check files of a fixture that was loaded on a server of this major version.
fn files(made_on: u32, name: &str) -> Vec<String> {
    let mut files = vec![format!("kinds/{name}.check.sql")];
    let newer = format!("kinds/{name}.18.check.sql");
    if made_on >= 18 && fixture_path(&newer).exists() {
        files.push(newer);
    }
    files
}

/// Runs the checks of a fixture where it was loaded, or restored. The database is as it was, but for
/// values of sequences.
pub fn check_kind(database: &TestDatabase, made_on: u32, name: &str) {
    for file in files(made_on, name) {
        database.sql(&format!("{PROLOGUE}{}\nROLLBACK;\n", fixture(&file)));
    }
}

/// The kinds of objects that check files say they check: lines `-- Kind: what is checked`, each
/// followed by a statement.
pub fn checked_kinds() -> std::collections::BTreeSet<String> {
    let mut checked = std::collections::BTreeSet::new();
    for entry in std::fs::read_dir(fixture_path("kinds")).expect("reading fixtures/kinds") {
        let path = entry.expect("an entry").path();
        if !path.to_string_lossy().ends_with(".check.sql") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("reading a check");
        let mut kind = None;
        for line in text.lines() {
            match line.strip_prefix("-- ") {
                Some(comment) => kind = comment.split_once(": ").map(|(kind, _)| kind),
                None => checked.extend(kind.take().map(str::to_owned)),
            }
        }
    }
    checked
}
