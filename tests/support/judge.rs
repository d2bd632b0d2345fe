//! Comparing databases without rdump: by what pg_dump prints, and by counts and hashes in SQL.

use std::collections::BTreeMap;
use std::process::Command;

use super::command::run;
use super::server::TestDatabase;

/// The only lines that two dumps of equal databases may differ in. A test pins the list.
pub const IGNORED_LINES: [&str; 3] = ["-- Dumped ", "\\restrict", "\\unrestrict"];

/// A dump without the lines that begin with one of [`IGNORED_LINES`].
pub fn normalise_dump(dump: &str) -> String {
    dump.split_inclusive('\n')
        .filter(|line| !IGNORED_LINES.iter().any(|start| line.starts_with(start)))
        .collect()
}

/// Fails unless pg_dump prints the same schema for both. The younger server's pg_dump judges.
pub fn assert_same_schema(expected: &TestDatabase, actual: &TestDatabase) {
    let judge = if expected.server.major >= actual.server.major {
        expected.server
    } else {
        actual.server
    };
    let dump = |database| normalise_dump(&judge.pg_dump(&["--schema-only"], database));
    let (left, right) = (dump(expected), dump(actual));
    assert!(
        left == right,
        "the schemas of {} and {} differ (-expected +actual):\n{}",
        expected.name,
        actual.name,
        difference(&left, &right)
    );
}

/// `diff -u` of two texts, cut after 200 lines; empty where they are equal.
pub fn difference(expected: &str, actual: &str) -> String {
    let folder = tempfile::tempdir().expect("making a folder");
    let (left, right) = (folder.path().join("expected"), folder.path().join("actual"));
    std::fs::write(&left, expected).expect("writing a file");
    std::fs::write(&right, actual).expect("writing a file");
    let output = run(
        Command::new("diff")
            .args(["-u", "-U", "8"])
            .arg(left)
            .arg(right),
        b"",
    )
    .text();
    let lines: Vec<&str> = output.lines().skip(2).collect();
    let cut = lines.len().saturating_sub(200);
    let mut shown = lines[..lines.len() - cut].join("\n");
    if cut > 0 {
        shown.push_str(&format!("\n... and {cut} lines more"));
    }
    shown
}

/// Fails unless both hold the same rows, sequence states and large objects; lists what differs.
pub fn assert_same_rows(expected: &TestDatabase, actual: &TestDatabase) {
    let lines = |database| {
        let all = row_counts_and_hashes(database);
        all.iter()
            .map(|(name, value)| format!("{name}: {value}\n"))
            .collect::<String>()
    };
    let (left, right) = (lines(expected), lines(actual));
    assert!(
        left == right,
        "the rows of {} and {} differ (-expected +actual; count, then two sums of hashes):\n{}",
        expected.name,
        actual.name,
        difference(&left, &right)
    );
}

/// For each table, partition and materialised view `count|hash`, for each sequence its state,
/// for each large object its size and hash. Hashes do not depend on the order of rows, and are
/// computed by the server from the rows' text, with nothing of rdump's own.
///
/// Left out are tables of extensions that are no configuration tables (their rows come with the
/// extension), and hash partitions by an enum, whose rows move when the enum gets new OIDs; the
/// partitioned table counts them all the same.
pub fn row_counts_and_hashes(database: &TestDatabase) -> BTreeMap<String, String> {
    let rows = database.query_text(COUNTS_AND_HASHES);
    rows.lines()
        .map(|line| {
            let (name, value) = line
                .split_once('|')
                .unwrap_or_else(|| panic!("odd line {line:?}"));
            (unescape(name), value.to_owned())
        })
        .collect()
}

/// Names may hold `|` and newlines, so the query writes them as hex.
fn unescape(hex: &str) -> String {
    let bytes: Vec<u8> = (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("a hexadecimal digit"))
        .collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The alias of a row must not be the name of a column, which would hide it. `decode(..., 'escape')`
/// would need doubled backslashes; `convert_to` to the database's own encoding copies the bytes.
const COUNTS_AND_HASHES: &str = r#"
SET timezone = 'UTC'; SET datestyle = 'ISO'; SET intervalstyle = 'postgres';
SET extra_float_digits = 3; SET bytea_output = 'hex'; SET lc_monetary = 'C'; SET search_path = '';
SELECT format(
    CASE WHEN c.relkind = 'S' THEN
        $$SELECT %L, last_value || '|' || is_called FROM %s %s$$
    WHEN c.relkind = 'm' AND NOT c.relispopulated THEN
        $$SELECT %L, 'not populated'$$
    ELSE
        $$SELECT %L, count(*) || '|'
              || coalesce(sum(('x' || left(digest, 16))::bit(64)::bigint::numeric), 0) || '|'
              || coalesce(sum(('x' || right(digest, 16))::bit(64)::bigint::numeric), 0)
          FROM (SELECT md5("rdump: the row"::text) AS digest FROM %s %s AS "rdump: the row") AS digests$$
    END,
    encode(convert_to(
        CASE c.relkind WHEN 'S' THEN 'sequence ' WHEN 'm' THEN 'materialized view ' ELSE 'table ' END
        || quote_ident(n.nspname) || '.' || quote_ident(c.relname), getdatabaseencoding()), 'hex'),
    CASE WHEN c.relkind = 'r' THEN 'ONLY' END,
    quote_ident(n.nspname) || '.' || quote_ident(c.relname))
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE (c.relkind IN ('r', 'm', 'S')
       OR c.relkind = 'p' AND NOT c.relispartition
          -- no foreign server can be asked
          AND NOT EXISTS (SELECT FROM pg_partition_tree(c.oid) AS t
                          JOIN pg_class AS f ON f.oid = t.relid AND f.relkind = 'f'))
  AND NOT EXISTS (
      SELECT FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid
      WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
        AND d.refclassid = 'pg_extension'::regclass AND (c.oid = ANY (e.extconfig)) IS NOT TRUE)
  AND NOT EXISTS (
      SELECT FROM pg_partition_ancestors(c.oid) AS ancestor
      JOIN pg_partitioned_table AS p ON p.partrelid = ancestor AND p.partstrat = 'h'
      JOIN pg_attribute AS a ON a.attrelid = p.partrelid AND a.attnum = ANY (p.partattrs)
      JOIN pg_type AS t ON t.oid = a.atttypid AND t.typtype = 'e'
      WHERE c.relispartition)
  AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\_%'
ORDER BY 1
\gexec
SELECT encode(convert_to('large object ' || oid, 'UTF8'), 'hex'),
    length(lo_get(oid)) || '|' || md5(lo_get(oid))
FROM pg_largeobject_metadata ORDER BY oid;
"#;
