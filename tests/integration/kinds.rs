//! The list of kinds, held against pg_dump's; and what each registered kind must come with.

use std::collections::BTreeSet;

use rdump::catalog::{self, Scope};

use super::errors::{Folder, snapshot};
use super::hooked;
use crate::support::{self, TestDatabase, server};

/// An object as the catalogs have it.
#[derive(Debug)]
pub struct Found {
    /// One of `kinds::NAMES`.
    pub kind: &'static str,
    pub name: String,
    pub natural_key: String,
}

/// All objects of a database.
pub fn read(database: &TestDatabase) -> Vec<Found> {
    let connector = hooked::connector(&database.conninfo());
    let read = async {
        let mut session = connector.open().await?;
        session.execute("SET search_path = ''").await?;
        let mut scope = Scope::default();
        scope.parts.no_statistics = false;
        let mut reader = catalog::Reader::new(&mut session, &scope).await?;
        catalog::kinds::read_all(&mut reader).await
    };
    let objects = tokio::runtime::Runtime::new()
        .expect("starting a runtime")
        .block_on(read)
        .expect("reading the catalogs");
    let found = |object: &catalog::Object| {
        let kind = object.kind();
        let object = object.as_catalog_object();
        Found {
            kind,
            name: object.identity().name.to_string(),
            natural_key: object.natural_key().to_string(),
        }
    };
    objects.iter().map(found).collect()
}

/// All fixtures in one database.
fn together(major: u32) -> TestDatabase {
    let database = server(major).create_database("kinds_together");
    for kind in support::kinds() {
        // what default privileges say holds for all that is made after them
        if kind != "default_privileges" {
            support::load_kind(&database, &kind);
        }
    }
    support::load_kind(&database, "default_privileges");
    database
}

/// The database itself is made by `restore -C`: the tests of hostile names compare its properties, those
/// of `errors::creating` its locale. Statistics are taken only where asked for, as `statistics` does.
const WITHOUT_CHECK: [&str; 2] = ["Database", "StatisticsData"];

/// Hostile names are held against the registry by `names`.
#[test]
fn every_registered_kind_has_a_fixture_and_a_check() {
    let registered: BTreeSet<&str> = catalog::kinds::NAMES.iter().copied().collect();
    let objects = read(&together(18));
    let with_fixture: BTreeSet<&str> = objects.iter().map(|object| object.kind).collect();
    let without: Vec<_> = registered.difference(&with_fixture).collect();
    assert!(
        without.is_empty(),
        "no fixture makes an object of {without:?}"
    );

    let checked = support::checked_kinds();
    let unknown: Vec<_> = checked
        .iter()
        .filter(|kind| !registered.contains(kind.as_str()))
        .collect();
    assert!(
        unknown.is_empty(),
        "checks of no registered kind: {unknown:?}"
    );
    let unchecked: Vec<_> = registered
        .iter()
        .filter(|kind| !checked.contains(**kind) && !WITHOUT_CHECK.contains(kind))
        .collect();
    assert!(
        unchecked.is_empty(),
        "no fixtures/kinds/*.check.sql says \"-- KIND: ...\" for {unchecked:?}"
    );
    for fixture in support::kinds() {
        let file = format!("kinds/{fixture}.check.sql");
        assert!(support::fixture_path(&file).exists(), "no {file}");
    }
}

/// What becomes of each descriptor that pg_dump 18 can give an entry of its archives (the
/// `.description`s of pg_dump.c), and why some are not needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    /// By the kind of this name, or these.
    By(&'static [&'static str]),
    /// By no kind: for the given reason.
    Otherwise(&'static str),
}

use Kept::{By, Otherwise};

const DESCRIPTORS: &[(&str, Kept)] = &[
    ("ACCESS METHOD", By(&["AccessMethod"])),
    ("ACL", Otherwise("with each object, from its own catalog")),
    ("AGGREGATE", By(&["Aggregate"])),
    ("BLOB METADATA", By(&["LargeObjects"])),
    ("BLOBS", By(&["LargeObjects"])),
    ("CAST", By(&["Cast"])),
    (
        "CHECK CONSTRAINT",
        By(&["CheckConstraint", "DomainConstraint"]),
    ),
    ("COLLATION", By(&["Collation"])),
    (
        "COMMENT",
        Otherwise("with each object, from pg_description"),
    ),
    ("CONSTRAINT", By(&["Constraint", "CheckConstraint"])),
    ("CONVERSION", By(&["Conversion"])),
    ("DATABASE", By(&["Database"])),
    ("DATABASE PROPERTIES", By(&["Database"])),
    ("DEFAULT", By(&["ColumnDefault"])),
    ("DEFAULT ACL", By(&["DefaultPrivileges"])),
    ("DOMAIN", By(&["Domain"])),
    ("ENCODING", Otherwise("in the header of the archive")),
    ("EVENT TRIGGER", By(&["EventTrigger"])),
    ("EXTENSION", By(&["Extension"])),
    ("FK CONSTRAINT", By(&["ForeignKey"])),
    ("FOREIGN DATA WRAPPER", By(&["ForeignDataWrapper"])),
    ("FOREIGN TABLE", By(&["Table"])),
    ("FUNCTION", By(&["Function"])),
    ("INDEX", By(&["Index"])),
    ("INDEX ATTACH", By(&["IndexAttach"])),
    ("MATERIALIZED VIEW", By(&["MaterializedView"])),
    ("MATERIALIZED VIEW DATA", By(&["Refresh"])),
    ("OPERATOR", By(&["Operator"])),
    ("OPERATOR CLASS", By(&["OperatorClass"])),
    ("OPERATOR FAMILY", By(&["OperatorFamily"])),
    ("POLICY", By(&["Policy"])),
    ("PROCEDURAL LANGUAGE", By(&["ProceduralLanguage"])),
    ("PROCEDURE", By(&["Function"])),
    ("PUBLICATION", By(&["Publication"])),
    ("PUBLICATION TABLE", By(&["PublicationTable"])),
    ("PUBLICATION TABLES IN SCHEMA", By(&["PublicationSchema"])),
    ("ROW SECURITY", By(&["RowSecurity"])),
    ("RULE", By(&["Rule", "ViewQuery"])),
    ("SCHEMA", By(&["Schema"])),
    ("SEARCHPATH", Otherwise("always empty while rdump restores")),
    (
        "SECURITY LABEL",
        Otherwise("with each object, from pg_seclabel"),
    ),
    ("SEQUENCE", By(&["Sequence"])),
    ("SEQUENCE OWNED BY", By(&["SequenceOwnedBy"])),
    ("SEQUENCE SET", By(&["SequenceValue"])),
    ("SERVER", By(&["ForeignServer"])),
    ("SHELL TYPE", By(&["ShellType"])),
    ("STATISTICS", By(&["ExtendedStatistics"])),
    ("STATISTICS DATA", By(&["StatisticsData"])),
    ("STDSTRINGS", Otherwise("always on while rdump restores")),
    ("SUBSCRIPTION", By(&["Subscription"])),
    ("SUBSCRIPTION TABLE", Otherwise("only for pg_upgrade")),
    ("TABLE", By(&["Table"])),
    ("TABLE ATTACH", By(&["TableAttach"])),
    ("TABLE DATA", By(&["TableData"])),
    (
        "TEXT SEARCH CONFIGURATION",
        By(&["TextSearchConfiguration"]),
    ),
    ("TEXT SEARCH DICTIONARY", By(&["TextSearchDictionary"])),
    ("TEXT SEARCH PARSER", By(&["TextSearchParser"])),
    ("TEXT SEARCH TEMPLATE", By(&["TextSearchTemplate"])),
    ("TRANSFORM", By(&["Transform"])),
    ("TRIGGER", By(&["Trigger"])),
    (
        "TYPE",
        By(&["BaseType", "EnumType", "CompositeType", "RangeType"]),
    ),
    ("USER MAPPING", By(&["UserMapping"])),
    ("VIEW", By(&["View"])),
    ("pg_largeobject", Otherwise("only for pg_upgrade")),
];

/// What pg_restore -l or rdump show says of an entry: its descriptor, and the rest of the line.
fn descriptor(line: &str) -> &'static str {
    let known = DESCRIPTORS.iter().map(|(descriptor, _)| *descriptor);
    known
        .filter(|known| {
            line.strip_prefix(known)
                .is_some_and(|rest| rest.starts_with(' '))
        })
        .max_by_key(|known| known.len())
        .unwrap_or_else(|| panic!("no known descriptor: {line}"))
}

/// The lines of `pg_restore -l FLAGS` over pg_dump 18's archive at `file` in the container.
fn pg_restore_list(file: &str, flags: &[&str]) -> Vec<String> {
    let mut program = server(18).program("pg_restore");
    program.arg("-l").args(flags).arg(file);
    lines(&support::run_ok(&mut program, b"").text(), 3)
}

fn rdump_list(file: &str, flags: &[&str]) -> Vec<String> {
    let arguments = [&["restore", "-l", file], flags].concat();
    lines(&support::rdump_ok(&arguments).text(), 1)
}

/// Lines of entries without their numbers, which are so many words.
fn lines(list: &str, numbers: usize) -> Vec<String> {
    list.lines()
        .filter(|line| !line.starts_with(';') && !line.is_empty())
        .map(|line| {
            let words = line.splitn(numbers + 1, ' ');
            words.last().unwrap_or_default().to_owned()
        })
        .collect()
}

/// rdump's list says where rows are; names may be followed by spaces.
fn without_sizes(line: &str) -> &str {
    match line.rfind(" (") {
        Some(at) if line.ends_with(" bytes)") => &line[..at],
        _ => line,
    }
}

/// A line in the form that both have in common. In tags of comments, privileges and labels pg_dump
/// quotes names, and rdump has the schema; both show line breaks as spaces.
fn common(line: &str, schemas: &[String]) -> String {
    let descriptor = descriptor(line);
    let mut text = on_one_line(without_sizes(line));
    if matches!(descriptor, "COMMENT" | "ACL" | "SECURITY LABEL") {
        text = text.replace('"', "");
        for schema in schemas {
            text = text.replace(&format!(" {schema}."), " ");
        }
    }
    text.trim_end().trim_end_matches(" -").to_owned()
}

fn on_one_line(text: &str) -> String {
    let shown = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    shown.collect()
}

/// What `common` takes out of tags, the longest first.
fn schemas(database: &TestDatabase) -> Vec<String> {
    let names = database.query_text(
        "SELECT replace(replace(nspname, E'\\n', ' '), '\"', '') FROM pg_namespace
         ORDER BY length(nspname) DESC",
    );
    names.lines().map(str::to_owned).collect()
}

/// Every descriptor of the list is one that pg_dump has; what its archives hold is in the list; and
/// what is kept by a kind is made of a fixture by both.
#[test]
fn the_kinds_are_those_of_pg_dump() {
    let database = together(18);
    let registered: BTreeSet<&str> = catalog::kinds::NAMES.iter().copied().collect();
    let named: BTreeSet<&str> = DESCRIPTORS
        .iter()
        .flat_map(|(_, kept)| match kept {
            By(kinds) => kinds.iter().copied(),
            Otherwise(_) => [].iter().copied(),
        })
        .collect();
    assert_eq!(registered, named, "kinds of the registry, and of the list");

    let mut strings = std::process::Command::new("docker");
    strings.args(["exec", &database.server.container, "sh", "-c"]);
    strings.arg("tr '\\0' '\\n' < /usr/lib/postgresql/18/bin/pg_dump | LC_ALL=C grep -a -E '^[[:print:]]+$'");
    let program = support::run_ok(&mut strings, b"").text();
    for (descriptor, _) in DESCRIPTORS {
        assert!(
            program.lines().any(|string| string.ends_with(descriptor)),
            "pg_dump 18 does not know {descriptor}"
        );
    }

    let dump = format!("/tmp/{}.dump", database.name);
    database
        .server
        .pg_dump(&["-Fc", "-C", "--statistics", "-f", &dump], &database);
    let of_pg_dump: BTreeSet<&str> = pg_restore_list(&dump, &["-C"])
        .iter()
        .map(|line| descriptor(line))
        .collect();
    let folder = Folder::new();
    let archive = folder.file("archive.rdump");
    let conninfo = database.conninfo();
    support::rdump_ok(&["snapshot", "--statistics", "-d", &conninfo, "-f", &archive]);
    let ours: BTreeSet<&str> = rdump_list(&archive, &["-C"])
        .iter()
        .map(|line| descriptor(line))
        .collect();
    for (descriptor, kept) in DESCRIPTORS {
        let is_ours = ours.contains(descriptor);
        let is_theirs = of_pg_dump.contains(descriptor);
        match kept {
            // DATABASE PROPERTIES only where there are any
            By(_) => assert!(
                is_ours && is_theirs || *descriptor == "DATABASE PROPERTIES",
                "{descriptor}: in rdump's archive {is_ours}, in pg_dump's {is_theirs}"
            ),
            Otherwise(why) => assert!(
                is_theirs || !is_ours,
                "{descriptor} is only in rdump's archive, and the list says: {why}"
            ),
        }
    }
}

/// Deliberate differences: lines of only one list, by how they begin.
const ONLY_PG_DUMP: &[(&str, &str)] = &[
    (
        "BLOBS - ",
        "an entry for the contents of each batch of large objects; rdump has one for all",
    ),
    (
        "ACL pg_catalog COLUMN ",
        "rdump grants columns with their table",
    ),
    ("ACL names a.'b' \\c ; $x$ -- COLUMN ", "the same"),
    ("ACL abroad COLUMN ", "the same"),
    ("ACL privileges COLUMN ", "the same"),
    ("ACL views COLUMN ", "the same"),
    (
        "ACL pg_catalog FUNCTION pg_ls_waldir(OUT ",
        "its tag has the names of arguments",
    ),
    ("ACL procedures PROCEDURE plain(IN what text)", "the same"),
    (
        "DEFAULT inheritance child name ",
        "rdump sets it to null with the table",
    ),
];
const ONLY_RDUMP: &[(&str, &str)] = &[
    ("BLOBS - BLOBS", "see above"),
    ("ACL pg_catalog FUNCTION pg_ls_waldir()", "see above"),
    ("ACL procedures PROCEDURE plain(text)", "see above"),
    (
        "ACL pg_catalog TABLE pg_subscription ",
        "it has privileges on columns alone",
    ),
    ("ACL privileges TABLE view ", "the same"),
    ("ACL views TABLE plain ", "the same"),
    ("DATABASE - ", "listed without -C as well"),
    (
        "ACL extensions FUNCTION hs",
        "with -N, privileges of members go with their extension",
    ),
    ("ACL extensions TYPE ", "the same"),
    ("ACL rdump_settings ", "the same"),
    (
        "COMMENT checks CONSTRAINT some_day ON subpartition ",
        "with -N, pg_restore looks for what this is about in vain",
    ),
    (
        "COMMENT not_null CONSTRAINT b_some_day ON named_parted_2 ",
        "the same",
    ),
    (
        "COMMENT dependencies CONSTRAINT below ON checked_below_1 ",
        "the same",
    ),
    (
        "CHECK CONSTRAINT dependencies few few_check ",
        "it needs a key, by a function",
    ),
];

/// Under each set of options the same entries are listed.
#[test]
fn lists_of_entries_are_those_of_pg_restore() {
    const OPTIONS: [&[&str]; 9] = [
        &[],
        &["-s"],
        &["-a"],
        &["-x"],
        &["--no-comments"],
        &["--no-security-labels"],
        &["-s", "-x", "--no-comments"],
        &["-n", "tables"],
        &["-N", "tables", "-N", "triggers"],
    ];
    let mut used: BTreeSet<String> = BTreeSet::new();
    for major in [15, 18] {
        let database = together(major);
        let schemas = schemas(&database);
        let dump = format!("/tmp/{}.dump", database.name);
        server(18).pg_dump(&["-Fc", "-f", &dump], &database);
        let folder = Folder::new();
        let archive = snapshot(&database, &folder);
        for flags in OPTIONS {
            let set = |lines: Vec<String>| -> BTreeSet<String> {
                lines.iter().map(|line| common(line, &schemas)).collect()
            };
            let theirs = set(pg_restore_list(&dump, flags));
            let ours = set(rdump_list(&archive, flags));
            let only = |left: &BTreeSet<String>,
                        right: &BTreeSet<String>,
                        deliberate: &[(&str, &str)]|
             -> Vec<String> {
                let is_deliberate = |line: &&String| {
                    let mut starts = deliberate.iter();
                    starts.any(|(start, _)| line.starts_with(start))
                };
                let lines = left.difference(right);
                lines.filter(|line| !is_deliberate(line)).cloned().collect()
            };
            let only_theirs = only(&theirs, &ours, ONLY_PG_DUMP);
            let only_ours = only(&ours, &theirs, ONLY_RDUMP);
            assert!(
                only_theirs.is_empty() && only_ours.is_empty(),
                "{flags:?} on {major}\nonly in pg_dump's:\n{}\nonly in rdump's:\n{}",
                only_theirs.join("\n"),
                only_ours.join("\n")
            );
            used.extend(theirs.difference(&ours).cloned());
            used.extend(ours.difference(&theirs).cloned());
        }
    }
    for (start, _) in ONLY_PG_DUMP.iter().chain(ONLY_RDUMP) {
        assert!(
            used.iter().any(|line| line.starts_with(start)),
            "no difference begins with {start:?} any more"
        );
    }
}
