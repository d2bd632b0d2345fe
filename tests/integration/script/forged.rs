//! An archive may be anybody's: psql runs no program for it.

use rdump::archive::{
    ArchiveId, ArchiveWriter, BlockBuilder, Codec, Contents, EndRecord, Entry, EntryId, Header,
    Section,
};

use super::psql_command;
use crate::errors::Folder;
use crate::support::{self, Finished, TestDatabase, VERSIONS, run, server};

/// What no archive must do.
const ACT: &str = "\\! touch /tmp/rdump_forged";

fn assert_nothing_ran(database: &TestDatabase, forgery: &str) {
    assert!(!has_run(database), "{forgery}");
}

fn has_run(database: &TestDatabase) -> bool {
    let found = "SELECT (pg_stat_file('/tmp/rdump_forged', true)).size IS NOT NULL";
    database.query_text(found) == "t"
}

fn header() -> Header {
    Header {
        codec: "none".to_owned(),
        database: "shop".into(),
        server_version_num: 150_000,
        server_version: "15.0".to_owned(),
        encoding: "UTF8".to_owned(),
        ..Header::new(ArchiveId([7; 16]))
    }
}

fn entry(kind: &str, name: &str, create: &str, contents: Contents) -> Entry {
    let section = match contents {
        Contents::None => Section::PreData,
        _ => Section::Data,
    };
    Entry {
        schema: Some("public".into()),
        name: name.into(),
        create: create.into(),
        contents,
        ..Entry::new(EntryId(0), kind, section)
    }
}

fn rows(relation: &str, columns: &[&str]) -> Entry {
    let contents = Contents::Rows {
        relation: relation.into(),
        columns: columns.iter().map(|name| (*name).into()).collect(),
        filter: Default::default(),
    };
    entry("TABLE DATA", "t", "", contents)
}

/// Writes an archive of these entries, each with its rows; there are as many as it has line breaks.
fn write(folder: &Folder, header: &Header, entries: &[(Entry, &[u8])]) -> String {
    let path = folder.file("forged.rdump");
    let numbered: Vec<Entry> = (1..)
        .zip(entries)
        .map(|(id, (entry, _))| Entry {
            id: EntryId(id),
            ..entry.clone()
        })
        .collect();
    let file = std::fs::File::create(&path).expect("a new file");
    let mut writer = ArchiveWriter::begin(file, header, Codec::None).expect("begun");
    writer.write_entries(&numbered).expect("entries written");
    let mut block = BlockBuilder::new();
    for (entry, (_, bytes)) in numbered.iter().zip(entries) {
        if entry.contents == Contents::None {
            continue;
        }
        let rows = bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
        if !bytes.is_empty() {
            block.buffer().extend_from_slice(bytes);
            block.end_rows(entry.id, 0, rows).expect("rows");
        }
        let end = EndRecord {
            entry: entry.id,
            rows,
            fingerprint: 0,
            chunks: u32::from(!bytes.is_empty()),
            raw_length: bytes.len() as u64,
        };
        block.end_entry(end).expect("an end");
    }
    if !block.is_empty() {
        let (sealed, _) = block.seal(Codec::None).expect("sealed");
        writer.append(sealed).expect("appended");
    }
    writer.finish().expect("finished");
    path
}

fn table() -> Entry {
    let create = "CREATE TABLE public.t (a text, b text);\n";
    entry("TABLE", "t", create, Contents::None)
}

/// The script must not be written to its end; and what came of it does nothing.
#[track_caller]
fn assert_refused(forged: &str, form: &[&str], expected: &str, database: &TestDatabase) {
    let arguments = [&["sql", "-q", forged], form].concat();
    let finished: Finished = support::rdump(&arguments);
    assert_eq!(finished.code, 1, "{expected}: {}", finished.stderr);
    assert!(
        finished.stderr.contains(expected),
        "{expected}: {}",
        finished.stderr
    );
    // nothing of what it is about has come out
    let script = String::from_utf8_lossy(&finished.stdout);
    assert!(!script.contains("/tmp/rdump_forged"), "{script}");
    // even by somebody who does not stop at errors, in a psql that knows no restricted mode
    let script = script.replace("\\restrict ", "-- ");
    let mut psql = psql_command(database, &["-v", "ON_ERROR_STOP=0"]);
    run(&mut psql, script.as_bytes());
    assert_nothing_ran(database, expected);
}

#[test]
fn what_psql_would_read_otherwise_is_refused() {
    let target = server(18).create_database("script_forged");
    let folder = Folder::new();
    for (text, flaw) in [
        (
            format!("SELECT 1;\n{ACT}\n"),
            "has a backslash outside of quotes",
        ),
        (
            format!("SELECT 1 {ACT}\n;"),
            "has a backslash outside of quotes",
        ),
        (
            format!("SELECT '\\';\n{ACT}\n--';"),
            "has a backslash outside of quotes",
        ),
        ("SELECT 'open;\n".to_owned(), "ends within quotes"),
        (
            "COMMENT ON TABLE t IS $a$ b;".to_owned(),
            "ends within quotes",
        ),
        ("SELECT 1 /* open\n".to_owned(), "ends within a comment"),
        ("SELECT (1;\n".to_owned(), "does not end with its statement"),
        ("SELECT 1\n".to_owned(), "does not end with its statement"),
    ] {
        let evil = entry("FUNCTION", "f()", &text, Contents::None);
        let path = write(&folder, &header(), &[(evil.clone(), b""), (table(), b"")]);
        let expected = format!("FUNCTION public.f(): its SQL {flaw}");
        assert_refused(&path, &[], &expected, &target);

        let handed_over = Entry {
            create: "".into(),
            owner: Some("o".into()),
            owner_target: Some(format!("TABLE t; {text} (").into()),
            ..evil.clone()
        };
        let path = write(&folder, &header(), &[(handed_over, b"")]);
        assert_refused(&path, &[], "FUNCTION public.f(): its SQL ", &target);

        let dropped = Entry {
            drop: text.clone().into(),
            drop_if_exists: text.into(),
            ..evil
        };
        let path = write(&folder, &header(), &[(dropped, b"")]);
        for clean in [&["-c"][..], &["-c", "--if-exists"]] {
            assert_refused(&path, clean, &expected, &target);
        }
    }
}

#[test]
fn rows_that_copy_would_not_write_are_refused() {
    let target = server(18).create_database("script_forged");
    let folder = Folder::new();
    let act = format!("a\tb\n\\.\n{ACT}\n");
    let late = format!("a\tb\\.\n{ACT}\tx\n");
    let forgeries: [&[u8]; 10] = [
        act.as_bytes(),
        late.as_bytes(),
        b"\\.\tb\n",
        b"a\n",
        b"a\tb\tc\n",
        b"a\t\\x41\n",
        b"a\tb\r\n",
        b"a\t\\Nb\n",
        b"a\t\0\n",
        b"a\tb\nc\t",
    ];
    for form in [super::FORMS[0], super::FORMS[2]] {
        for bytes in forgeries {
            let data = rows("public.t", &["a", "b"]);
            let path = write(&folder, &header(), &[(table(), b""), (data, bytes)]);
            assert_refused(&path, form, "TABLE DATA public.t: ", &target);
        }
        for relation in [
            "public.t FROM stdin; --",
            "public.t (a) TO stdout;\n",
            "public.t\n\\! touch /tmp/rdump_forged\n",
            "",
        ] {
            let data = rows(relation, &["a", "b"]);
            let path = write(&folder, &header(), &[(table(), b""), (data, b"a\tb\n")]);
            let expected = "its rows belong to what is not the name of a table";
            assert_refused(&path, form, expected, &target);
        }
    }
    let evil = format!("1\tt\n{ACT}\n");
    let sequence = Contents::SequenceValue {
        sequence: "public.s".into(),
    };
    let pages: [&[u8]; 4] = [
        b"1\t0\tabc\n",
        b"1\t0\t\\\\x0\n",
        b"-1\t0\t\\\\x00\n",
        b"1\t0\t\\N\n",
    ];
    let objects = pages.map(|page| (Contents::LargeObjects, page));
    for (contents, bytes) in objects.into_iter().chain([(sequence, evil.as_bytes())]) {
        let path = write(
            &folder,
            &header(),
            &[(entry("DATA", "d", "", contents), bytes)],
        );
        assert_refused(&path, &[], "DATA public.d: the archive holds ", &target);
    }
}

#[test]
fn headers_are_not_believed() {
    let folder = Folder::new();
    let target = server(18).create_database("script_forged");
    // in it, a byte may hide the quote behind it
    for encoding in [
        "SJIS",
        "GB18030",
        "utf8'; SELECT 1; --",
        "",
        "WIN1259",
        "LATIN0",
    ] {
        let forged = Header {
            encoding: encoding.to_owned(),
            ..header()
        };
        let path = write(&folder, &forged, &[(table(), b"")]);
        assert_refused(
            &path,
            &[],
            "the archive has an encoding that no database has",
            &target,
        );
    }
    let forged = Header {
        settings: vec![("session_replication_role".to_owned(), "replica".to_owned())],
        ..header()
    };
    let path = write(&folder, &forged, &[(table(), b"")]);
    assert_refused(
        &path,
        &[],
        "under a setting that this version does not know",
        &target,
    );
}

/// Every name that comes into a comment.
#[test]
fn comments_hold_no_line_breaks() {
    for major in VERSIONS {
        let target = server(major).create_database("script_comments");
        let folder = Folder::new();
        for line_break in ["\n", "\r", "\r\n"] {
            let evil = format!(
                "x{line_break}{ACT}{line_break}CREATE TABLE evil ();{line_break}-- {line_break}"
            );
            let forged = Header {
                database: evil.as_str().into(),
                server_version: evil.clone(),
                rdump_version: evil.clone(),
                ..header()
            };
            let mut entries = vec![
                (table(), &b""[..]),
                (rows("public.t", &["a", "b"]), b"a\tb\n"),
            ];
            for (entry, _) in &mut entries {
                entry.name = evil.as_str().into();
                entry.schema = Some(evil.as_str().into());
                entry.owner = Some(evil.as_str().into());
                entry.kind.push_str(&evil);
            }
            let path = write(&folder, &forged, &entries);
            let script = super::script(&path, &[]);
            let lines = script.split(|byte| matches!(byte, b'\n' | b'\r'));
            let lines: Vec<&[u8]> = lines.filter(|line| !line.starts_with(b"--")).collect();
            let text = String::from_utf8_lossy(&lines.join(&b'\n')).into_owned();
            assert!(!text.contains("evil") && !text.contains("forged"), "{text}");
            support::run_ok(&mut psql_command(&target, &[]), &script);
            assert_nothing_ran(&target, &evil);
            assert_eq!(target.query_text("SELECT * FROM t"), "a|b");
            target.sql("DROP TABLE t");
            assert_eq!(target.query_text("SELECT to_regclass('evil') IS NULL"), "t");
        }
    }
}

/// Where COPY fails, psql takes rows for input of its own: `\restrict` keeps it from running them.
/// Without it, this row would run.
#[test]
fn rows_after_a_failed_copy() {
    for major in VERSIONS {
        let target = server(major).create_database("script_failed_copy");
        let folder = Folder::new();
        let data = rows("public.missing", &["a"]);
        let row = b"\\t `touch /tmp/rdump_failed_copy`\n";
        let path = write(&folder, &header(), &[(data, row)]);
        let script = super::script(&path, &[]);
        let has_run = || {
            target.query_text(
                "SELECT (pg_stat_file('/tmp/rdump_failed_copy', true)).size IS NOT NULL",
            ) == "t"
        };
        let through_psql = |script: &[u8]| {
            let mut psql = psql_command(&target, &["-v", "ON_ERROR_STOP=0"]);
            let finished = run(&mut psql, script);
            assert!(
                finished
                    .stderr
                    .contains("relation \"public.missing\" does not exist"),
                "{}",
                finished.stderr
            );
        };
        through_psql(&script);
        assert!(!has_run(), "on {major}");
        let text = String::from_utf8(script).expect("UTF-8");
        let unguarded = text
            .replace("\\restrict ", "-- ")
            .replace("\\unrestrict ", "-- ");
        through_psql(unguarded.as_bytes());
        // psql 18 passes over the rows by itself
        assert_eq!(has_run(), major < 18, "on {major}");
        target.sql("\\! rm -f /tmp/rdump_failed_copy");
    }
}
