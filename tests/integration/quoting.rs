//! The quoting of `sql`, held against the server's own; and nobody quotes by hand.

use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rdump::sql;

use crate::support::{TestDatabase, VERSIONS, server};

/// What identifiers and literals are made of: anything, and what quotes are for.
fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        3 => prop::sample::select(vec![
            "'", "\"", "\\", "$", "$$", "$_$", "--", "/*", ";", "\n", "\r", "\t", " ", "E'", "{}", "%", "",
        ])
        .prop_map(str::to_owned),
        2 => "[a-z_][a-z0-9_$]{0,8}",
        1 => "[A-Z]{1,3}",
        2 => any::<char>()
            .prop_filter("no text has a zero byte", |c| *c != '\0')
            .prop_map(String::from),
    ];
    vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `expression` of each text `t`, as hexadecimal digits.
fn asked(database: &TestDatabase, expression: &str, texts: &[String]) -> Vec<String> {
    let values: Vec<String> = texts
        .iter()
        .enumerate()
        .map(|(number, text)| format!("({number}, '\\x{}'::bytea)", hex(text.as_bytes())))
        .collect();
    let answer = database.query_text(&format!(
        "SELECT encode(convert_to({expression}, 'UTF8'), 'hex')
         FROM (SELECT n, convert_from(b, 'UTF8') AS t FROM (VALUES {}) AS v (n, b)) AS x ORDER BY n",
        values.join(", ")
    ));
    let answers: Vec<String> = answer.split('\n').map(str::to_owned).collect();
    assert_eq!(answers.len(), texts.len());
    answers
}

/// What the server reads each of these expressions as, as hexadecimal digits.
fn read_back(database: &TestDatabase, settings: &str, expressions: &[Vec<u8>]) -> Vec<String> {
    let selects: Vec<String> = expressions
        .iter()
        .map(|text| {
            let text = std::str::from_utf8(text).expect("UTF-8");
            format!("SELECT encode(convert_to({text}, 'UTF8'), 'hex');\n")
        })
        .collect();
    // psql must not put its variables in
    let answer = database.query_text(&format!("{settings}\n{}", selects.concat()));
    answer.split('\n').map(str::to_owned).collect()
}

#[test]
fn quotes_are_the_servers_own() {
    for major in VERSIONS {
        let database = server(major).create_database("quoting");
        let mut runner = TestRunner::new(Config {
            cases: 4,
            failure_persistence: None,
            ..Config::default()
        });
        let outcome = runner.run(&vec(text(), 400), |texts| {
            let own = |quote: fn(&[u8]) -> Vec<u8>| -> Vec<String> {
                let quoted = texts.iter().map(|text| quote(text.as_bytes()));
                quoted.map(|quoted| hex(&quoted)).collect()
            };
            prop_assert_eq!(
                own(|text| sql::identifier(text).into()),
                asked(&database, "quote_ident(t)", &texts)
            );
            prop_assert_eq!(
                own(|text| sql::literal(text).into()),
                asked(&database, "quote_literal(t)", &texts)
            );
            Ok(())
        });
        outcome.unwrap_or_else(|error| panic!("on {major}: {error}"));
    }
}

#[test]
fn literals_are_read_as_what_they_were() {
    let database = server(18).create_database("quoting");
    let mut runner = TestRunner::new(Config {
        cases: 3,
        failure_persistence: None,
        ..Config::default()
    });
    let outcome = runner.run(&vec(text(), 200), |texts| {
        let expected: Vec<String> = texts.iter().map(|text| hex(text.as_bytes())).collect();
        for conforming in ["on", "off"] {
            let settings = format!(
                "SET standard_conforming_strings = {conforming}; SET escape_string_warning = off;"
            );
            let literals: Vec<Vec<u8>> =
                texts.iter().map(|text| sql::literal(text).into()).collect();
            prop_assert_eq!(&expected, &read_back(&database, &settings, &literals));
            let dollars: Vec<Vec<u8>> = texts
                .iter()
                .map(|text| sql::dollar_quoted(text).into())
                .collect();
            prop_assert_eq!(&expected, &read_back(&database, &settings, &dollars));
        }
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}

/// A word that a newer server keeps for itself is quoted for an older one as well.
#[test]
fn every_keyword_is_quoted() {
    for major in VERSIONS {
        let database = server(major).create_database("quoting");
        let answer = database.query_text("SELECT word, quote_ident(word) FROM pg_get_keywords()");
        let mut words = 0;
        for line in answer.lines() {
            let (word, quoted) = line.split_once('|').expect("two columns");
            let ours = sql::identifier(word).to_string();
            let is_quoted = ours != word;
            assert!(is_quoted || quoted == word, "{word} on {major}");
            if major == 18 {
                assert_eq!(ours, quoted, "{word}");
            }
            words += 1;
        }
        assert!(words > 400, "{words} keywords");
    }
}

/// Templates of SQL in which a part stands in quotes that were written by hand.
fn quoted_by_hand(source: &str) -> Vec<String> {
    let code = source.split("#[cfg(test)]").next().unwrap_or_default();
    let mut found = Vec::new();
    for (at, _) in code.match_indices("sql!(") {
        let Some((_, rest)) = code[at..].split_once('"') else {
            continue;
        };
        let mut template = String::new();
        let mut characters = rest.chars();
        while let Some(character) = characters.next() {
            match character {
                '"' => break,
                '\\' => match characters.next() {
                    Some('n') => template.push('\n'),
                    Some(other) => template.push(other),
                    None => break,
                },
                other => template.push(other),
            }
        }
        let by_hand = ["'{}", "{}'", "\"{}", "{}\""];
        if by_hand.iter().any(|form| template.contains(form)) {
            found.push(template);
        }
    }
    found
}

#[test]
fn nobody_quotes_by_hand() {
    fn sources(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("reading src") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                sources(&path, found);
            } else if path.extension().is_some_and(|end| end == "rs") {
                found.push(path);
            }
        }
    }
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    assert!(files.len() > 100, "{} files", files.len());
    let offenders: Vec<String> = files
        .iter()
        .filter(|path| !path.starts_with(src.join("sql")))
        .flat_map(|path| {
            let text = std::fs::read_to_string(path).expect("a source");
            let found = quoted_by_hand(&text);
            found
                .into_iter()
                .map(move |template| format!("{}: {template}", path.display()))
        })
        .collect();
    assert!(
        offenders.is_empty(),
        "use sql::identifier and sql::literal instead of quotes:\n{}",
        offenders.join("\n")
    );
    let example = r#"sql!("COMMENT ON {} IS '{}'", name, text)"#;
    assert_eq!(quoted_by_hand(example), ["COMMENT ON {} IS '{}'"]);
}
