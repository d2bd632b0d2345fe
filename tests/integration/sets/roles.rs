//! Globals alone; roles and tablespaces that are there already; passwords.

use super::{
    ROLES, ROLES_16, TABLESPACES, assert_same_server, fresh, place, restore, restore_ok, snapshot,
};
use crate::support::{self, Server};

fn with_globals(major: u32) -> Server {
    let server = fresh(major);
    server.sql("postgres", ROLES);
    if major >= 16 {
        server.sql("postgres", ROLES_16);
    }
    server.sql("postgres", TABLESPACES);
    server
}

#[test]
fn globals_alone() {
    for major in support::VERSIONS {
        let source = with_globals(major);
        for (flag, judge) in [
            ("-g", "-g"),
            ("--roles-only", "-r"),
            ("--no-role-passwords", "-g"),
        ] {
            let (_folder, file) = place("globals.rdump");
            let mut flags = vec![flag];
            let mut judged = vec![judge];
            if flag == "--no-role-passwords" {
                flags.push("-g");
                judged.push(flag);
            }
            snapshot(&source, &file, &flags);
            support::rdump_ok(&["verify", "--deep", &file]);
            let target = fresh(major);
            restore_ok(&file, &target, &[]);
            assert_same_server(&source, &target, &judged);
            let conninfo = target.conninfo("postgres");
            support::rdump_ok(&["verify", &file, "--against", &conninfo]);
            // once more: everything is there, and nothing is left to do
            let finished = restore_ok(&file, &target, &[]);
            assert!(
                !finished.stderr.contains("there already"),
                "{}",
                finished.stderr
            );
            assert_same_server(&source, &target, &judged);
        }
        let (_folder, file) = place("tablespaces.rdump");
        snapshot(&source, &file, &["--tablespaces-only"]);
        let target = fresh(major);
        target.sql("postgres", "CREATE ROLE admin; CREATE ROLE team");
        restore_ok(&file, &target, &[]);
        assert_same_server(&source, &target, &["-t"]);
    }
}

#[test]
fn passwords_are_not_shown() {
    let source = with_globals(18);
    let (_folder, file) = place("globals.rdump");
    snapshot(&source, &file, &["-g"]);
    let verifier = source.query_text(
        "postgres",
        "SELECT rolpassword FROM pg_authid WHERE rolname = 'admin'",
    );
    assert!(verifier.starts_with("SCRAM-SHA-256"), "{verifier}");
    let target = fresh(18);
    let mut said = vec![
        restore_ok(&file, &target, &["-v"]),
        support::rdump_ok(&["show", &file]),
        support::rdump_ok(&["show", "--json", &file]),
    ];
    target.sql("postgres", "ALTER ROLE admin PASSWORD 'another'");
    let conninfo = target.conninfo("postgres");
    let different = support::rdump(&["verify", "-v", &file, "--against", &conninfo]);
    assert_eq!(different.code, 3);
    let text = different.text();
    assert!(
        text.contains("ROLE admin: different: its password is another"),
        "{text}"
    );
    target.sql(
        "postgres",
        "ALTER ROLE admin NOCREATEDB; DROP ROLE \"select\"",
    );
    let missing = support::rdump(&["verify", "-v", &file, "--against", &conninfo]);
    assert!(
        missing.text().contains("ROLE select: missing"),
        "{}",
        missing.text()
    );
    assert!(missing.text().contains("NOCREATEDB"), "{}", missing.text());
    // a server that refuses them
    said.extend([different, missing]);
    for finished in said {
        let all = format!("{}{}", finished.text(), finished.stderr);
        assert!(!all.contains("SCRAM"), "{all}");
    }

    let (_folder, file) = place("without.rdump");
    snapshot(&source, &file, &["-g", "--no-role-passwords"]);
    let shown = support::rdump_ok(&["show", &file]).text();
    assert!(
        shown.contains("globals of a server, without passwords"),
        "{shown}"
    );
    let bytes = std::fs::read(&file).expect("the archive");
    let reader = rdump::archive::RandomReader::open(bytes).expect("an archive");
    assert!(reader.header().is_without_passwords());
    for entry in reader.entries().expect("entries") {
        assert!(
            !entry.create.to_string().contains("SCRAM"),
            "{}",
            entry.name
        );
    }
}

/// As on managed services: nobody but the provider reads pg_authid.
#[test]
fn a_role_that_may_not_read_passwords() {
    for major in support::VERSIONS {
        let source = with_globals(major);
        source.sql("postgres", "CREATE ROLE backup LOGIN PASSWORD 'p'");
        let conninfo = source.conninfo("postgres").replace(
            "user=postgres password=test-password",
            "user=backup password=p",
        );
        let (_folder, file) = place("globals.rdump");
        let finished = support::rdump_ok(&["snapshot", "-g", "-d", &conninfo, "-f", &file]);
        assert!(
            finished
                .stderr
                .contains("warning: passwords of roles are not in the archive"),
            "{}",
            finished.stderr
        );
        let target = fresh(major);
        restore_ok(&file, &target, &[]);
        assert_same_server(&source, &target, &["-g", "--no-role-passwords"]);
        let against = target.conninfo("postgres");
        let proof = support::rdump_ok(&["verify", &file, "--against", &against]).text();
        assert!(
            proof.contains("passwords of roles: the archive was made without"),
            "{proof}"
        );
    }
}

#[test]
fn roles_that_are_there_are_brought_to_what_the_archive_says() {
    for major in support::VERSIONS {
        let source = with_globals(major);
        let (_folder, file) = place("globals.rdump");
        snapshot(&source, &file, &["-g"]);
        let target = fresh(major);
        target.sql(
            "postgres",
            "CREATE ROLE team LOGIN CREATEDB PASSWORD 'old' CONNECTION LIMIT 9;
             CREATE ROLE admin NOLOGIN SUPERUSER PASSWORD 'old';
             CREATE ROLE b1; CREATE ROLE a2; CREATE ROLE other;
             COMMENT ON ROLE b1 IS 'old'; ALTER ROLE team SET work_mem = '1MB';
             GRANT b1 TO a2; GRANT other TO a2; GRANT team TO admin;
             CREATE TABLESPACE \"It's\" OWNER a2 LOCATION '/tablespaces/its place'
                 WITH (seq_page_cost = 3);
             COMMENT ON TABLESPACE \"It's\" IS 'old'",
        );
        let finished = restore_ok(&file, &target, &[]);
        for told in [
            "there already, and brought to what the archive says: role admin, role b1, role team, tablespace",
            "membership b1 TO a2, which the archive does not have, was revoked",
        ] {
            assert!(
                finished.stderr.contains(told),
                "{told}: {}",
                finished.stderr
            );
        }
        // a role that the archive does not have keeps what it is a part of
        let kept = "SELECT count(*) FROM pg_auth_members WHERE roleid = 'other'::regrole";
        assert_eq!(target.query_text("postgres", kept), "1");
        target.sql("postgres", "DROP ROLE other");
        assert_same_server(&source, &target, &["-g"]);
        let conninfo = target.conninfo("postgres");
        support::rdump_ok(&["verify", &file, "--against", &conninfo]);
    }
}

/// A member keeps the right by which it has granted a role to somebody unknown to the archive: the
/// server would be left with a membership that nobody had the right to grant.
#[test]
fn rights_that_others_hang_on() {
    let source = fresh(18);
    source.sql(
        "postgres",
        "CREATE ROLE team; CREATE ROLE lead; CREATE ROLE clerk; GRANT team TO lead; GRANT team TO clerk",
    );
    let (_folder, file) = place("globals.rdump");
    snapshot(&source, &file, &["-g"]);
    let target = fresh(18);
    target.sql(
        "postgres",
        "CREATE ROLE team; CREATE ROLE lead; CREATE ROLE clerk; CREATE ROLE unknown;
         GRANT team TO lead WITH ADMIN TRUE; GRANT team TO clerk WITH ADMIN TRUE;
         GRANT team TO unknown GRANTED BY lead; GRANT team TO lead GRANTED BY clerk",
    );
    let finished = restore(&file, &target, &[]);
    assert_eq!(finished.code, 3, "{}", finished.stderr);
    for told in [
        "error: ROLE MEMBERSHIP team TO lead",
        "the member has granted the role to others, who keep it",
        "membership team TO lead GRANTED BY clerk, which the archive does not have, was revoked",
    ] {
        let stderr = &finished.stderr;
        assert!(stderr.contains(told), "{told}: {stderr}");
    }
    let admins = "SELECT string_agg(member::regrole::text, ' ') FROM pg_auth_members
                  WHERE roleid = 'team'::regrole AND admin_option";
    assert_eq!(target.query_text("postgres", admins), "lead");
    target.sql("postgres", "DROP ROLE unknown");
    restore_ok(&file, &target, &[]);
    assert_same_server(&source, &target, &["-g"]);

    // archives of old servers say nothing of options
    let old = fresh(15);
    old.sql(
        "postgres",
        "CREATE ROLE team; CREATE ROLE lead; CREATE ROLE boss SUPERUSER; GRANT team TO lead GRANTED BY boss",
    );
    let (_folder, file) = place("old.rdump");
    snapshot(&old, &file, &["-g"]);
    for target in [&old, &target] {
        target.sql("postgres", "GRANT team TO lead WITH ADMIN OPTION");
        restore_ok(&file, target, &[]);
        assert_eq!(target.query_text("postgres", admins), "");
    }
}

#[test]
fn who_restores_is_not_locked_out() {
    let source = fresh(18);
    source.sql(
        "postgres",
        "CREATE ROLE boss NOLOGIN PASSWORD 'new' VALID UNTIL '2001-01-01';
         ALTER ROLE boss SET default_transaction_read_only = on; CREATE DATABASE shop OWNER boss;
         CREATE ROLE team",
    );
    let (_folder, file) = place("set.rdump");
    snapshot(&source, &file, &["--all-databases"]);
    let target = fresh(18);
    target.sql(
        "postgres",
        "CREATE ROLE boss SUPERUSER LOGIN PASSWORD 'old'; COMMENT ON ROLE boss IS 'old';
         ALTER ROLE boss SET work_mem = '1MB'; CREATE ROLE team; GRANT team TO boss",
    );
    let as_boss = |password: &str| {
        target.conninfo("postgres").replace(
            "user=postgres password=test-password",
            &format!("user=boss password={password}"),
        )
    };
    let finished = support::rdump_ok(&["restore", &file, "-d", &as_boss("old")]);
    for told in [
        "role boss, as which this restore is connected, keeps what it needs to connect: SUPERUSER, LOGIN",
        "membership team TO boss, which the archive does not have, is kept",
        "role boss, as which this restore was connected, has the password of the archive from now on",
    ] {
        assert!(
            finished.stderr.contains(told),
            "{told}: {}",
            finished.stderr
        );
    }
    let state =
        "SELECT rolsuper, rolcanlogin, rolvaliduntil IS NULL OR rolvaliduntil > now() FROM pg_roles
                 WHERE rolname = 'boss'";
    assert_eq!(target.query_text("postgres", state), "t|t|t");
    let settings = "SELECT setconfig FROM pg_db_role_setting WHERE setrole = 'boss'::regrole";
    assert_eq!(
        target.query_text("postgres", settings),
        "{default_transaction_read_only=on}"
    );
    // and it comes in with the password of the set
    support::rdump_ok(&[
        "verify",
        &file,
        "--member",
        "shop",
        "--against",
        &as_boss("new").replace("'postgres'", "'shop'"),
    ]);
}

#[test]
fn tablespaces_that_cannot_be() {
    let source = with_globals(18);
    let (_folder, file) = place("globals.rdump");
    snapshot(&source, &file, &["-g"]);

    let target = fresh(18);
    target.sql(
        "postgres",
        "CREATE TABLESPACE \"It's\" LOCATION '/tablespaces/fast'",
    );
    let finished = restore(&file, &target, &[]);
    assert_eq!(finished.code, 1);
    let told = "tablespace \"It's\" exists at \"/tablespaces/fast\", and the archive has it at \"/tablespaces/its place\"";
    assert!(finished.stderr.contains(told), "{}", finished.stderr);
    let roles = "SELECT count(*) FROM pg_roles WHERE rolname = 'team'";
    assert_eq!(target.query_text("postgres", roles), "0");

    target.sql("postgres", "DROP TABLESPACE \"It's\"");
    target.shell("rmdir \"/tablespaces/its place\"");
    let finished = restore(&file, &target, &[]);
    assert_eq!(finished.code, 3, "{}", finished.stderr);
    for told in [
        "error: TABLESPACE It's",
        "make the folder on the server, empty and owned by the server's operating system user",
        "1 of",
    ] {
        assert!(
            finished.stderr.contains(told),
            "{told}: {}",
            finished.stderr
        );
    }
    assert_eq!(target.query_text("postgres", roles), "1");

    let target = fresh(18);
    restore_ok(&file, &target, &["--no-tablespaces"]);
    assert_same_server(&source, &target, &["-r"]);
    let none = "SELECT count(*) FROM pg_tablespace WHERE spcname !~ '^pg_'";
    assert_eq!(target.query_text("postgres", none), "0");
    let conninfo = target.conninfo("postgres");
    support::rdump_ok(&["verify", &file, "--no-tablespaces", "--against", &conninfo]);
}

/// On managed services nobody is a superuser: what need not be said is left to those who may say it.
#[test]
fn without_superusers() {
    for major in support::VERSIONS {
        let source = fresh(major);
        source.sql(
            "postgres",
            "CREATE ROLE clerk LOGIN CREATEDB; CREATE ROLE team; GRANT team TO clerk;
             ALTER ROLE clerk SET work_mem = '5MB'; COMMENT ON ROLE team IS 'the team'",
        );
        let (_folder, file) = place("roles.rdump");
        snapshot(&source, &file, &["--roles-only", "--no-role-passwords"]);
        let target = fresh(major);
        target.sql(
            "postgres",
            "CREATE ROLE manager LOGIN CREATEROLE CREATEDB PASSWORD 'p'",
        );
        let conninfo = target.conninfo("postgres").replace(
            "user=postgres password=test-password",
            "user=manager password=p",
        );
        support::rdump_ok(&["restore", &file, "-d", &conninfo]);
        let made = "SELECT rolcreatedb, rolcanlogin, pg_has_role('clerk', 'team', 'MEMBER'),
                           shobj_description('team'::regrole, 'pg_authid')
                    FROM pg_roles WHERE rolname = 'clerk'";
        assert_eq!(target.query_text("postgres", made), "t|t|t|the team");

        // no word that it was done where it was not
        target.sql("postgres", "ALTER ROLE clerk SUPERUSER");
        let finished = support::rdump(&["restore", &file, "-d", &conninfo]);
        assert_eq!(finished.code, 3, "{}", finished.stderr);
        for (words, are_told) in [("error: ROLE clerk", true), ("brought to", false)] {
            let stderr = &finished.stderr;
            assert_eq!(stderr.contains(words), are_told, "{words}: {stderr}");
        }
    }
}
