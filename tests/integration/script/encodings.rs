//! Databases in other encodings than UTF-8: the same bytes come back.

use super::{FORMS, psql_command, script, snapshot};
use crate::encodings::{ENCODINGS, assert_same_dump, filled, sql_bytes};
use crate::errors::Folder;
use crate::support::{self, VERSIONS, run_ok, server};

#[test]
fn bytes_stay_what_they_are() {
    for major in VERSIONS {
        let utf8: (&str, &[u8]) = ("UTF8", "ä🐘".as_bytes());
        for (encoding, letters) in ENCODINGS.into_iter().chain([utf8]) {
            let options = format!("TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'");
            let prefix = format!("script_{}", encoding.to_lowercase());
            let source = server(major).create_database_with(&prefix, &options);
            sql_bytes(&source, &filled(encoding, letters));
            let folder = Folder::new();
            let archive = snapshot(&source, &folder);
            for form in [FORMS[0], FORMS[2]] {
                let target = server(major).create_database_with(&prefix, &options);
                run_ok(&mut psql_command(&target, &[]), &script(&archive, form));
                assert_same_dump(&source, &target, &[]);
                support::assert_same_rows(&source, &target);
            }
        }
    }
}

/// The script says which encoding it is in, so a database in UTF-8 converts.
#[test]
fn into_a_database_in_utf8() {
    for (encoding, letters) in &ENCODINGS[1..] {
        let options = format!("TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'");
        let source = server(15).create_database_with("script_to_utf8", &options);
        sql_bytes(&source, &filled(encoding, letters));
        let folder = Folder::new();
        let archive = snapshot(&source, &folder);
        let utf8 = "TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'";
        for form in &FORMS[..2] {
            let target = server(15).create_database_with("script_utf8", utf8);
            // whatever psql itself believes to speak
            let mut psql = psql_command(&target, &["-v", "ENCODING=SJIS"]);
            run_ok(&mut psql, &script(&archive, form));
            assert_same_dump(&source, &target, &[&format!("--encoding={encoding}")]);
        }
    }
}
