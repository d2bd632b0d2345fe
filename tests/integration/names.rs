//! Hostile names: whatever objects are called, a restore does the same and nothing else.

use std::collections::BTreeMap;

use super::errors::Folder;
use super::kinds::{self, Found};
use crate::support::{self, Server, TestDatabase, fixture};

/// What a name is made of. All begin with the plain name, so that they sort alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Plain,
    /// What ends a name, a literal, a statement or a line, or begins a comment or a variable.
    Quotes,
    /// A character of each of Unicode's planes in turn, assigned or not.
    Planes,
    /// As long as a name can be.
    Longest,
    /// A reserved word and nothing else.
    Keyword,
}

const QUOTES: [&str; 6] = [
    " \"'\\\n;$$--/*",
    "\"\";DROP TABLE x;'",
    "\\\"\r\n\\.\n\t'",
    "$n$ $1 %s {} \u{85}\u{2028}'\"",
    "')); SELECT 1/0 --\\",
    "\u{1}\u{7f} `id` */ E'\\'' \"",
];

/// Reserved everywhere, so that each must be quoted wherever it stands.
const KEYWORDS: &str = "all analyse analyze and any array as asc asymmetric both case cast check collate column \
     constraint create current_catalog current_date current_role current_time current_timestamp current_user \
     default deferrable desc distinct do else end except false fetch for foreign from grant group having in \
     initially intersect into lateral leading limit localtime localtimestamp not null offset on only or order \
     placing primary references returning select session_user some symmetric system_user table then to trailing \
     true union unique user using variadic when where window with authorization binary collation concurrently \
     cross current_schema freeze full ilike inner is isnull join left like natural notnull outer overlaps right \
     similar tablesample verbose between bigint bit boolean char coalesce dec decimal exists extract float greatest \
     grouping inout int integer interval json_array json_object least merge_action national nchar none normalize \
     nullif numeric out overlay position precision real row setof smallint substring time timestamp treat trim \
     values varchar xmlattributes";

impl Style {
    const ALL: [Style; 5] = [
        Style::Plain,
        Style::Quotes,
        Style::Planes,
        Style::Longest,
        Style::Keyword,
    ];

    /// The name that stands for `plain`, which is the `position`th of all.
    fn name(self, plain: &str, position: usize) -> String {
        let name = match self {
            Style::Plain => plain.to_owned(),
            Style::Quotes => format!("{plain}{}", QUOTES[position % QUOTES.len()]),
            Style::Planes => {
                let planes = (0..8).map(|turn| {
                    let plane = (8 * position + turn) % 17;
                    let code = 0x10000 * plane as u32 + 0xFE10 + position as u32;
                    char::from_u32(code).expect("a code point")
                });
                format!("{plain}{}", planes.collect::<String>())
            }
            Style::Longest => {
                let rest = 63 - plain.len();
                format!("{plain}{}{}", "Ö".repeat(rest / 2), "\"".repeat(rest % 2))
            }
            Style::Keyword => {
                let word = KEYWORDS.split_whitespace().nth(position);
                word.expect("a keyword for each name").to_owned()
            }
        };
        assert!(name.len() <= 63, "{name} has {} bytes", name.len());
        name
    }
}

/// None is the beginning of another.
fn plain_name(name: &str) -> String {
    format!("n_{name}0")
}

/// The names of the template, in the order of their first use, with what stands for each.
fn names(style: Style) -> BTreeMap<String, String> {
    let template = template();
    let mut plain: Vec<&str> = vec!["database", "role"];
    for piece in template.split('{').skip(1) {
        if let Some((name, _)) = piece.split_once('}')
            && !plain.contains(&name)
        {
            plain.push(name);
        }
    }
    plain
        .iter()
        .enumerate()
        .map(|(position, name)| ((*name).to_owned(), style.name(&plain_name(name), position)))
        .collect()
}

fn template() -> String {
    fixture("names/every_kind.sql")
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Makes the role and the database of this style, and all that the template has.
fn load(server: &'static Server, style: Style) -> (TestDatabase, BTreeMap<String, String>) {
    let names = names(style);
    let role = quoted(&names["role"]);
    let source = TestDatabase {
        name: names["database"].clone(),
        server,
    };
    server.sql(
        "postgres",
        &format!(
            "DO $do$ BEGIN CREATE ROLE {role}; EXCEPTION WHEN duplicate_object THEN NULL; END $do$;
             CREATE DATABASE {};",
            quoted(&source.name)
        ),
    );
    let mut sql = template();
    for (plain, name) in &names {
        sql = sql.replace(&format!("{{{plain}}}"), &quoted(name));
    }
    source.sql(&sql);
    (source, names)
}

/// Gives a database another name.
fn move_away(database: &TestDatabase) -> TestDatabase {
    let moved = TestDatabase::reserve(database.server, "names_moved");
    let (from, to) = (quoted(&database.name), quoted(&moved.name));
    let rename = format!("ALTER DATABASE {from} RENAME TO {to}");
    database.server.sql("postgres", &rename);
    moved
}

/// Moves the source out of the way and restores its archive with -C, over one connection. The
/// source, what was restored, and what the server was asked for that.
fn restore(source: &TestDatabase, archive: &str) -> (TestDatabase, TestDatabase, Vec<String>) {
    let moved = move_away(source);
    let restored = TestDatabase {
        name: source.name.clone(),
        server: source.server,
    };
    let postgres = source.server.conninfo("postgres");
    let from = log(source.server).len();
    support::rdump_ok(&["restore", archive, "-C", "-d", &postgres, "-j", "1"]);
    let asked = statements(source.server, from, "rdump");
    support::rdump_ok(&["verify", archive, "--against", &restored.conninfo()]);
    (moved, restored, asked)
}

/// Lets psql make the database of what `rdump sql` prints; what the server was asked for that.
fn through_psql(archive: &str, database: &TestDatabase) -> Vec<String> {
    let script = support::rdump_ok(&["sql", "-q", archive, "-C"]).stdout;
    let from = log(database.server).len();
    let mut psql = super::script::psql_on(database.server, "postgres", &[]);
    support::run_ok(&mut psql, &script);
    statements(database.server, from, "psql")
}

/// What the server was asked since its log was this long, on connections of this program.
fn statements(server: &Server, from: usize, program: &str) -> Vec<String> {
    log(server)[from..]
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .filter(|line: &serde_json::Value| line["application_name"] == program)
        .filter_map(|line| line["message"].as_str().map(str::to_owned))
        .filter(|message| message.starts_with("statement: ") || message.starts_with("execute "))
        .collect()
}

fn log(server: &Server) -> String {
    let mut cat = std::process::Command::new("docker");
    cat.args(["exec", &server.container, "cat", "/tmp/rdump-log/log.json"]);
    support::run_ok(&mut cat, b"").text()
}

/// The text with each name as the plain schema has it: as an identifier, in a literal, as it is. The
/// forms of literals and dollar quotes depend on what is in them.
fn mapped(statement: &str, style: Style, names: &BTreeMap<String, String>) -> String {
    let escaped = |text: &str| text.replace('\\', "\\\\").replace('\'', "''");
    let mut text = statement.to_owned();
    // the longest first: one may be part of another
    let mut names: Vec<_> = names.iter().collect();
    names.sort_by_key(|(_, name)| std::cmp::Reverse(name.len()));
    for (plain, name) in names {
        let identifier = quoted(name);
        // as rdump writes literals, and as the server does
        let deparsed = identifier.replace('\'', "''");
        let mut forms = vec![escaped(&identifier), deparsed, identifier];
        if style != Style::Plain {
            forms.extend([escaped(name), name.clone()]);
        }
        for form in forms {
            text = text.replace(&form, &plain_name(plain));
        }
    }
    for before in [" ", "(", ",", "=", "[", "\n", "\t"] {
        text = text.replace(&format!("{before}E'"), &format!("{before}'"));
    }
    for tag in ["$_$", "$_x$", "$_xx$"] {
        text = text.replace(tag, "$$");
    }
    text
}

fn check(major: u32) {
    const LOGGING: [&str; 7] = [
        "logging_collector=on",
        "log_destination=jsonlog",
        "log_directory=/tmp/rdump-log",
        "log_filename=log",
        "log_rotation_size=0",
        "log_statement=all",
        "log_min_messages=log",
    ];
    let options: Vec<&str> = LOGGING.iter().flat_map(|option| ["-c", option]).collect();
    let server: &'static Server = Box::leak(Box::new(Server::start(major, &options)));
    let mut plain: [Vec<String>; 2] = Default::default();
    for style in Style::ALL {
        let (source, names) = load(server, style);
        if style == Style::Quotes {
            assert_all_are_hostile(&kinds::read(&source));
        }
        let folder = Folder::new();
        let archive = super::errors::snapshot(&source, &folder);
        let (moved, restored, by_restore) = restore(&source, &archive);
        let compare = || {
            support::assert_same_schema(&moved, &restored);
            support::assert_same_rows(&moved, &restored);
            assert_eq!(properties(&moved), properties(&restored), "{style:?}");
        };
        compare();
        assert_eq!(properties(&moved), properties(&restored), "{style:?}");
        move_away(&restored);
        let by_psql = through_psql(&archive, &restored);
        compare();
        for (plain, asked) in plain.iter_mut().zip([by_restore, by_psql]) {
            compare_statements(major, style, &names, plain, &asked);
        }
    }
}

fn compare_statements(
    major: u32,
    style: Style,
    names: &BTreeMap<String, String>,
    plain: &mut Vec<String>,
    asked: &[String],
) {
    let asked: Vec<String> = asked
        .iter()
        .map(|text| mapped(text, style, names))
        .collect();
    match style {
        Style::Plain => {
            assert!(asked.len() > 100, "only {} statements", asked.len());
            *plain = asked;
        }
        // they sort in their own way, and mean themselves elsewhere in a statement
        Style::Keyword => {}
        _ => {
            let (left, right) = (plain.join("\n;;\n"), asked.join("\n;;\n"));
            assert!(
                left == right,
                "{style:?} on {major}: other statements (-plain +hostile):\n{}",
                support::difference(&left, &right)
            );
        }
    }
}

/// What is set for a database, granted on it and said of it.
fn properties(database: &TestDatabase) -> String {
    let properties = database.query_text(
        "SELECT datconnlimit, datacl, shobj_description(oid, 'pg_database'),
                (SELECT string_agg(provider || ' ' || label, ', ') FROM pg_shseclabel
                 WHERE classoid = 'pg_database'::regclass AND objoid = d.oid),
                (SELECT string_agg(setrole::regrole || ' ' || setconfig::text, ', ' ORDER BY setrole)
                 FROM pg_db_role_setting WHERE setdatabase = d.oid)
         FROM pg_database AS d WHERE datname = current_database()",
    );
    assert!(
        properties.starts_with("40|{")
            && properties.contains("a database|Odd \"provider\" a database|"),
        "{properties}"
    );
    properties
}

/// Every kind of object has a name of the template, but for those whose names are not free.
fn assert_all_are_hostile(found: &[Found]) {
    // what an extension is called its files say, and large objects have numbers
    const EXCEPT: [&str; 2] = ["Extension", "LargeObjects"];
    let is_hostile = |text: &str| {
        QUOTES
            .iter()
            .any(|end| text.contains(end) || text.contains(&end.replace('"', "\"\"")))
    };
    let tame: Vec<&str> = rdump::catalog::kinds::NAMES
        .iter()
        .copied()
        .filter(|kind| {
            !found.iter().any(|object| {
                object.kind == *kind
                    && (EXCEPT.contains(kind)
                        || is_hostile(&object.name)
                        || is_hostile(&object.natural_key))
            })
        })
        .collect();
    assert!(
        tame.is_empty(),
        "fixtures/names/every_kind.sql has no object of these kinds, or none with a name of its own: {tame:?}"
    );
}

#[test]
fn hostile_names_do_what_plain_ones_do_on_15() {
    check(15);
}

#[test]
fn hostile_names_do_what_plain_ones_do_on_18() {
    check(18);
}
