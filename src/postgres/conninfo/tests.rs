//! Resolution against made-up surroundings. Expectations are libpq's behaviour, from its manual
//! and source.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::*;

/// Files by path; all others do not exist.
#[derive(Default)]
struct Made {
    files: BTreeMap<PathBuf, File>,
}

impl Files for Made {
    fn read(&self, path: &Path) -> io::Result<File> {
        self.files
            .get(path)
            .cloned()
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }
}

/// Surroundings of a user "osuser" with the home folder /home/osuser.
#[derive(Default)]
struct World {
    variables: Vec<(&'static str, &'static str)>,
    files: Vec<(&'static str, &'static str, u32)>,
}

impl World {
    fn new() -> World {
        World::default()
    }

    fn variable(mut self, name: &'static str, value: &'static str) -> World {
        self.variables.push((name, value));
        self
    }

    fn file(mut self, path: &'static str, contents: &'static str) -> World {
        self.files.push((path, contents, 0o600));
        self
    }

    fn open_file(mut self, path: &'static str, contents: &'static str) -> World {
        self.files.push((path, contents, 0o640));
        self
    }

    fn environment(&self) -> Environment {
        let mut made = Made::default();
        for (path, contents, mode) in &self.files {
            made.files.insert(
                PathBuf::from(path),
                File {
                    contents: contents.as_bytes().to_vec(),
                    is_regular: true,
                    mode: *mode,
                },
            );
        }
        Environment {
            variables: self
                .variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            operating_system_user: Some("osuser".to_owned()),
            home: Some(PathBuf::from("/home/osuser")),
            files: Arc::new(made),
        }
    }

    fn resolve(&self, conninfo: &str) -> Result<ConnectionTarget> {
        resolve(&flags(conninfo), &self.environment())
    }

    /// The password for the first host.
    fn password(&self, conninfo: &str) -> Option<String> {
        let target = self.resolve(conninfo).unwrap();
        password(&target)
    }
}

fn flags(dbname: &str) -> ConnectionFlags {
    ConnectionFlags {
        dbname: Some(dbname.to_owned()),
        password_prompt: PasswordPrompt::Never,
        ..ConnectionFlags::default()
    }
}

fn password(target: &ConnectionTarget) -> Option<String> {
    target
        .password_for(&target.hosts[0])
        .map(|password| String::from_utf8(password.secret.expose().to_vec()).unwrap())
}

/// `user@host[address]:port,.../database`
fn summary(target: &ConnectionTarget) -> String {
    let hosts: Vec<String> = target
        .hosts
        .iter()
        .map(|host| {
            let address = match &host.address {
                HostAddress::Name(name) => name.clone(),
                HostAddress::Address { address, name } => {
                    format!("{}[{address}]", name.clone().unwrap_or_default())
                }
                HostAddress::SocketFolders(folders) => folders
                    .iter()
                    .map(|folder| folder.display().to_string())
                    .collect::<Vec<_>>()
                    .join("|"),
            };
            format!("{address}:{}", host.port)
        })
        .collect();
    format!("{}@{}/{}", target.user, hosts.join(","), target.database)
}

const SOCKETS: &str = "/var/run/postgresql|/tmp:5432";

#[test]
fn connection_strings_resolve_as_in_libpq() {
    let sockets = |user: &str, database: &str| format!("{user}@{SOCKETS}/{database}");
    for (conninfo, expected) in [
        // Plain names, and the defaults.
        ("", sockets("osuser", "osuser")),
        ("sales", sockets("osuser", "sales")),
        ("user=ann", sockets("ann", "ann")),
        ("user=ann dbname=sales", sockets("ann", "sales")),
        ("dbname=", sockets("osuser", "osuser")),
        // Lists of pairs: blanks, quotes, escapes.
        (
            "host = db  port\t=\n6000 ",
            "osuser@db:6000/osuser".to_owned(),
        ),
        (
            "host='db' dbname='two words'",
            "osuser@db:5432/two words".to_owned(),
        ),
        (r"host=db dbname='it\'s'", "osuser@db:5432/it's".to_owned()),
        (r"host=db dbname=a\ b", "osuser@db:5432/a b".to_owned()),
        (
            r"host=db dbname=back\\slash",
            r"osuser@db:5432/back\slash".to_owned(),
        ),
        ("host=db dbname=''", "osuser@db:5432/osuser".to_owned()),
        ("host=''user=ann", sockets("ann", "ann")),
        ("host=a host=b", "osuser@b:5432/osuser".to_owned()),
        ("host=db dbname=größe", "osuser@db:5432/größe".to_owned()),
        ("host=db port=''", "osuser@db:5432/osuser".to_owned()),
        ("host=db port=' 6000 '", "osuser@db:6000/osuser".to_owned()),
        // Sockets.
        (
            "host=/run/pg port=6000",
            "osuser@/run/pg:6000/osuser".to_owned(),
        ),
        // Addresses beside names.
        (
            "hostaddr=10.0.0.5",
            "osuser@[10.0.0.5]:5432/osuser".to_owned(),
        ),
        (
            "host=db hostaddr=10.0.0.5",
            "osuser@db[10.0.0.5]:5432/osuser".to_owned(),
        ),
        (
            "host=db hostaddr=::1",
            "osuser@db[::1]:5432/osuser".to_owned(),
        ),
        // Several hosts.
        ("host=a,b", "osuser@a:5432,b:5432/osuser".to_owned()),
        (
            "host=a,b port=6000",
            "osuser@a:6000,b:6000/osuser".to_owned(),
        ),
        (
            "host=a,b port=6000,6001",
            "osuser@a:6000,b:6001/osuser".to_owned(),
        ),
        (
            "host=a,b port=6000,",
            "osuser@a:6000,b:5432/osuser".to_owned(),
        ),
        (
            "host=a,,/c",
            "osuser@a:5432,/var/run/postgresql|/tmp:5432,/c:5432/osuser".to_owned(),
        ),
        (
            "host=a,b hostaddr=10.0.0.1,10.0.0.2",
            "osuser@a[10.0.0.1]:5432,b[10.0.0.2]:5432/osuser".to_owned(),
        ),
        (
            "host=a,b hostaddr=,10.0.0.2",
            "osuser@a:5432,b[10.0.0.2]:5432/osuser".to_owned(),
        ),
        // URIs.
        ("postgresql://", sockets("osuser", "osuser")),
        ("postgres://", sockets("osuser", "osuser")),
        ("postgresql:///sales", sockets("osuser", "sales")),
        ("postgresql://db", "osuser@db:5432/osuser".to_owned()),
        ("postgresql://db/", "osuser@db:5432/osuser".to_owned()),
        (
            "postgresql://db:6000/sales",
            "osuser@db:6000/sales".to_owned(),
        ),
        ("postgresql://db:/sales", "osuser@db:5432/sales".to_owned()),
        ("postgresql://ann@db/sales", "ann@db:5432/sales".to_owned()),
        ("postgresql://ann@", sockets("ann", "ann")),
        ("postgresql://@db", "osuser@db:5432/osuser".to_owned()),
        (
            "postgresql://ann:secret@db:6000/sales",
            "ann@db:6000/sales".to_owned(),
        ),
        ("postgresql://ann:secret@/sales", sockets("ann", "sales")),
        (
            "postgresql://db/sales?user=ann&port=6000",
            "ann@db:6000/sales".to_owned(),
        ),
        ("postgresql://db?user=ann", "ann@db:5432/ann".to_owned()),
        ("postgresql://db?", "osuser@db:5432/osuser".to_owned()),
        ("postgresql://ann@db?user=bob", "bob@db:5432/bob".to_owned()),
        (
            "postgresql://db?  user = ann & port = 6000 ",
            "ann@db:6000/ann".to_owned(),
        ),
        (
            "postgresql://%64b/s%61les",
            "osuser@db:5432/sales".to_owned(),
        ),
        (
            "postgresql://a%3Ann@db/%2Fsales",
            "a:nn@db:5432//sales".to_owned(),
        ),
        (
            "postgresql://a%40b@db/gr%C3%B6%C3%9Fe",
            "a@b@db:5432/größe".to_owned(),
        ),
        (
            "postgresql://[::1]:6000/sales",
            "osuser@::1:6000/sales".to_owned(),
        ),
        (
            "postgresql://[2001:db8::1]",
            "osuser@2001:db8::1:5432/osuser".to_owned(),
        ),
        ("postgresql://[::1]?user=ann", "ann@::1:5432/ann".to_owned()),
        (
            "postgresql://a,b:6001,[::1]:6002/sales",
            "osuser@a:5432,b:6001,::1:6002/sales".to_owned(),
        ),
        (
            "postgresql://a:6000,b/sales",
            "osuser@a:6000,b:5432/sales".to_owned(),
        ),
        (
            "postgresql://%2Frun%2Fpg/sales",
            "osuser@/run/pg:5432/sales".to_owned(),
        ),
        (
            "postgresql:///sales?host=/run/pg",
            "osuser@/run/pg:5432/sales".to_owned(),
        ),
        (
            "postgresql://:6000/sales?host=/run/pg",
            "osuser@/run/pg:6000/sales".to_owned(),
        ),
        (
            "postgresql://?hostaddr=10.0.0.5",
            "osuser@[10.0.0.5]:5432/osuser".to_owned(),
        ),
        ("postgresql://db/a/b", "osuser@db:5432/a/b".to_owned()),
    ] {
        let target = World::new()
            .resolve(conninfo)
            .unwrap_or_else(|error| panic!("{conninfo:?}: {error}"));
        assert_eq!(summary(&target), expected, "{conninfo:?}");
    }
}

#[test]
fn mistakes_are_named() {
    for (conninfo, message) in [
        ("hostt=db", "invalid connection option \"hostt\""),
        (
            "host=db dbname",
            "missing \"=\" after \"dbname\" in connection info string",
        ),
        (
            "host='db",
            "unterminated quoted string in connection info string",
        ),
        (
            "host=a,b port=1,2,3",
            "could not match 3 port numbers to 2 hosts",
        ),
        (
            "host=a,b,c hostaddr=10.0.0.1,10.0.0.2",
            "could not match 3 host names to 2 hostaddr values",
        ),
        ("host=db port=0", "invalid port number: \"0\""),
        ("host=db port=65536", "invalid port number: \"65536\""),
        ("host=db port=x", "invalid port number: \"x\""),
        ("hostaddr=db", "could not parse network address \"db\""),
        (
            "host=@abstract",
            "socket \"@abstract\" in the abstract namespace is not supported",
        ),
        ("sslmode=maybe", "invalid sslmode value: \"maybe\""),
        (
            "sslmode=prefer sslnegotiation=direct",
            "weak sslmode \"prefer\" may not be used with sslnegotiation=direct",
        ),
        (
            "sslnegotiation=none",
            "invalid sslnegotiation value: \"none\"",
        ),
        (
            "sslrootcert=system sslmode=require",
            "weak sslmode \"require\" may not be used with sslrootcert=system",
        ),
        ("sslcrldir=/crl", "sslcrldir is not supported"),
        (
            "sslpassword=sesame",
            "sslpassword is not supported: encrypted private keys cannot be read",
        ),
        ("sslcertmode=some", "invalid sslcertmode value: \"some\""),
        (
            "ssl_min_protocol_version=SSLv3",
            "invalid ssl_min_protocol_version value: \"SSLv3\"",
        ),
        (
            "ssl_min_protocol_version=TLSv1.3 ssl_max_protocol_version=TLSv1.2",
            "invalid SSL protocol version range",
        ),
        (
            "ssl_max_protocol_version=TLSv1.1",
            "ssl_max_protocol_version \"TLSv1.1\" is not supported: rdump speaks TLS 1.2 and 1.3",
        ),
        (
            "gssencmode=require",
            "gssencmode=require is not supported: rdump does not speak GSSAPI",
        ),
        ("gssencmode=some", "invalid gssencmode value: \"some\""),
        (
            "channel_binding=some",
            "invalid channel_binding value: \"some\"",
        ),
        (
            "target_session_attrs=some",
            "invalid target_session_attrs value: \"some\"",
        ),
        (
            "load_balance_hosts=some",
            "invalid load_balance_hosts value: \"some\"",
        ),
        (
            "connect_timeout=soon",
            "invalid integer value \"soon\" for connection option \"connect_timeout\"",
        ),
        (
            "keepalives_idle=9999999999",
            "invalid integer value \"9999999999\" for connection option \"keepalives_idle\"",
        ),
        (
            "require_auth=magic",
            "invalid require_auth value: \"magic\"",
        ),
        (
            "require_auth=md5,!none",
            "negative require_auth method \"!none\" cannot be mixed with non-negative methods",
        ),
        (
            "require_auth=!md5,none",
            "require_auth method \"none\" cannot be mixed with negative methods",
        ),
        (
            "require_auth=md5,md5",
            "require_auth method \"md5\" is specified more than once",
        ),
        (
            "require_auth=!none,!none",
            "require_auth method \"!none\" is specified more than once",
        ),
        (
            "require_auth=none,none",
            "require_auth method \"none\" is specified more than once",
        ),
        (
            "min_protocol_version=3.2",
            "min_protocol_version above 3.0 is not supported: rdump speaks protocol 3.0",
        ),
        (
            "replication=database",
            "a replication connection cannot be used to dump or restore",
        ),
        (
            "scram_client_key=abc",
            "connection option \"scram_client_key\" is not supported",
        ),
        (
            "postgresql://[::1",
            "end of string reached when looking for matching \"]\" in IPv6 host address in the connection URI",
        ),
        (
            "postgresql://[]",
            "IPv6 host address may not be empty in the connection URI",
        ),
        (
            "postgresql://[::1]z",
            "unexpected character \"z\" after the IPv6 host address in the connection URI (expected \":\" or \"/\")",
        ),
        (
            "postgresql://db?user",
            "missing key/value separator \"=\" in a query parameter of the connection URI",
        ),
        (
            "postgresql://db?user=a=b",
            "extra key/value separator \"=\" in query parameter \"user\" of the connection URI",
        ),
        (
            "postgresql://db?uzer=a",
            "invalid URI query parameter: \"uzer\"",
        ),
        (
            "postgresql://d%zz",
            "invalid percent-encoded token in the host of the connection URI",
        ),
        (
            "postgresql://d%0",
            "invalid percent-encoded token in the host of the connection URI",
        ),
        (
            "postgresql://db/%00",
            "forbidden value %00 in percent-encoded value in the database name of the connection URI",
        ),
        (
            "postgresql://db/%ff",
            "the database name of the connection URI is not valid UTF-8",
        ),
        (
            "postgresql://db/a b",
            "unexpected spaces found in the database name of the connection URI",
        ),
    ] {
        let error = World::new().resolve(conninfo).expect_err(conninfo);
        assert_eq!(error.message(), message, "{conninfo:?}");
        assert_eq!(error.exit_code(), 2, "{conninfo:?}");
    }
}

#[test]
fn no_error_and_no_debug_output_shows_a_password() {
    for conninfo in [
        // A password with a blank, an @ or a / in it; a mistyped scheme; a bad escape.
        "host=db password=tr0ub4dor horse",
        "password=x tr0ub4dor=3",
        "password='tr0ub4dor",
        "postgre://ann:tr0ub4dor@db/sales?sslmode=require",
        "postgresql://ann:p@tr0ub4dor@db/sales",
        "postgresql://ann:tr0ub4dor/x@db/sales",
        "postgresql://ann:tr0ub4dor%zz@db/sales",
        "postgresql://ann:tr0ub4dor x@db/sales",
        "postgresql://db/sales?password=tr0ub4dor%zz",
        "postgresql://db/sales?password=tr0ub4dor=",
    ] {
        let Err(error) = World::new().resolve(conninfo) else {
            panic!("{conninfo} was understood");
        };
        let shown = format!("{error} {error:?} {:?}", error.hint_text());
        assert!(!shown.contains("tr0ub4dor"), "{conninfo}: {shown}");
        assert!(!shown.contains("horse"), "{conninfo}: {shown}");
    }

    let world = World::new()
        .variable("PGPASSWORD", "from-variable")
        .file("/home/osuser/.pgpass", "*:*:*:*:from-file\n");
    for conninfo in ["host=db password=from-string", "host=db"] {
        let target = world.resolve(conninfo).unwrap();
        let shown = format!(
            "{target:?} {:?} {:?}",
            world.environment(),
            target.password_for(&target.hosts[0]).unwrap().secret
        );
        for secret in ["from-string", "from-variable", "from-file"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
    let mut settings = Settings::default();
    settings.set("password", "tr0ub4dor").unwrap();
    assert!(!format!("{settings:?}").contains("tr0ub4dor"));
}

#[test]
fn flags_precede_connection_string_service_environment_and_defaults() {
    let world = World::new()
        .variable("PGHOST", "variable")
        .variable("PGPORT", "1001")
        .variable("PGUSER", "variable")
        .variable("PGDATABASE", "variable")
        .variable("PGAPPNAME", "variable")
        .file(
            "/home/osuser/.pg_service.conf",
            "[mine]\nhost=service\nport=1002\nuser=service\napplication_name=service\n",
        );
    let resolve_flags = |flags: &ConnectionFlags| {
        let target = resolve(flags, &world.environment()).unwrap();
        (summary(&target), target.application_name)
    };
    assert_eq!(
        resolve_flags(&ConnectionFlags::default()),
        (
            "variable@variable:1001/variable".to_owned(),
            "variable".to_owned()
        )
    );
    assert_eq!(
        resolve_flags(&flags("service=mine")),
        (
            "service@service:1002/variable".to_owned(),
            "service".to_owned()
        )
    );
    assert_eq!(
        resolve_flags(&flags("service=mine host=string application_name=string")),
        (
            "service@string:1002/variable".to_owned(),
            "string".to_owned()
        )
    );
    assert_eq!(
        resolve_flags(&ConnectionFlags {
            host: Some("flag".to_owned()),
            username: Some("flag".to_owned()),
            ..flags("service=mine host=string user=string dbname=string")
        }),
        ("flag@flag:1002/string".to_owned(), "service".to_owned())
    );
    // A plain name is only the database.
    assert_eq!(
        resolve_flags(&ConnectionFlags {
            port: Some("7,8".to_owned()),
            host: Some("a,b".to_owned()),
            ..flags("plain")
        })
        .0,
        "variable@a:7,b:8/plain"
    );
    // The address of a host that -h replaces does not stay behind.
    assert_eq!(
        resolve_flags(&ConnectionFlags {
            host: Some("flag".to_owned()),
            ..flags("host=string hostaddr=10.0.0.5")
        })
        .0,
        "variable@flag:1001/variable"
    );
    // Empty in the connection string means the default, not the variable; an empty flag is none.
    assert_eq!(
        resolve_flags(&flags("host='' port='' user='' dbname=''")).0,
        format!("osuser@{SOCKETS}/osuser")
    );
    assert_eq!(
        resolve_flags(&ConnectionFlags {
            host: Some(String::new()),
            port: Some(String::new()),
            username: Some(String::new()),
            ..flags("")
        })
        .0,
        "variable@variable:1001/variable"
    );
}

#[test]
fn services_are_found_where_libpq_looks() {
    let mine = "# comment\n\n[other]\nhost=other\n\n  [mine]  \n  host=db\nuser=ann \n[mine]\nhost=second\n";
    let in_home = World::new().file("/home/osuser/.pg_service.conf", mine);
    let by_variable = World::new()
        .variable("PGSERVICEFILE", "/etc/mine.conf")
        .file("/etc/mine.conf", mine);
    let in_system = World::new()
        .variable("PGSYSCONFDIR", "/usr/etc")
        .file("/home/osuser/.pg_service.conf", "[other]\nhost=other\n")
        .file("/usr/etc/pg_service.conf", mine);
    let debian = World::new().file("/etc/postgresql-common/pg_service.conf", mine);
    for world in [in_home, by_variable, in_system, debian] {
        for conninfo in ["service=mine", "postgresql://?service=mine"] {
            let target = world.resolve(conninfo).unwrap();
            assert_eq!(summary(&target), "ann@db:5432/ann");
        }
    }
    let by_name = World::new()
        .variable("PGSERVICE", "mine")
        .file("/home/osuser/.pg_service.conf", mine);
    assert_eq!(summary(&by_name.resolve("").unwrap()), "ann@db:5432/ann");

    for (world, message) in [
        (World::new(), "definition of service \"mine\" not found"),
        (
            World::new().variable("PGSERVICEFILE", "/no/such"),
            "service file \"/no/such\" not found",
        ),
        (
            World::new().file("/home/osuser/.pg_service.conf", "[mine]\nhost\n"),
            "syntax error in service file \"/home/osuser/.pg_service.conf\", line 2",
        ),
        (
            World::new().file("/home/osuser/.pg_service.conf", "[mine]\nservice=x\n"),
            "nested service specifications not supported in service file \
             \"/home/osuser/.pg_service.conf\", line 2",
        ),
        (
            World::new().file("/home/osuser/.pg_service.conf", "[mine]\nhostt=x\n"),
            "invalid connection option \"hostt\" in service file \
             \"/home/osuser/.pg_service.conf\", line 2",
        ),
        (
            World::new().file("/home/osuser/.pg_service.conf", "[mine]\nldap://x\n"),
            "LDAP lookup is not supported in service file \
             \"/home/osuser/.pg_service.conf\", line 2",
        ),
    ] {
        let error = world.resolve("service=mine").unwrap_err();
        assert_eq!(error.message(), message);
    }
}

#[test]
fn passwords_come_from_string_variable_or_file() {
    const FILE: &str = "/home/osuser/.pgpass";
    let lines = "#db:*:*:*:comment\r\n\
                 db:6000:sales:ann:exact\n\
                 db:*:sales:*:any user\r\n\
                 localhost:*:*:*:local\n\
                 /run/pg:*:*:*:socket\n\
                 10.0.0.5:*:*:*:address\n\
                 with\\:colon:*:*:*:pass\\:word\\\\:ignored\n\
                 \\:\\:1:*:*:*:six\n\
                 short:*\n\
                 last:*:*:*:";
    let world = World::new().file(FILE, lines);
    for (conninfo, expected) in [
        ("host=db port=6000 dbname=sales user=ann", Some("exact")),
        ("host=db port=6001 dbname=sales user=ann", Some("any user")),
        ("host=db dbname=sales user=bob", Some("any user")),
        ("host=db dbname=other user=ann", None),
        ("host=d dbname=sales", None),
        ("host=dbx dbname=sales", None),
        ("host=localhost", Some("local")),
        ("", Some("local")),
        ("host=/var/run/postgresql", Some("local")),
        ("host=/tmp", Some("local")),
        ("host=/run/pg", Some("socket")),
        ("host=/run/other", None),
        ("hostaddr=10.0.0.5", Some("address")),
        ("host=db dbname=sales hostaddr=10.0.0.5", Some("any user")),
        ("host=with:colon", Some("pass:word\\")),
        ("host=::1", Some("six")),
        ("host=short", None),
        ("host=last", Some("")),
        ("host=db dbname=sales password=given", Some("given")),
        ("postgresql://ann:g%40ven@db/sales", Some("g@ven")),
    ] {
        assert_eq!(
            world.password(conninfo).as_deref(),
            expected,
            "{conninfo:?}"
        );
    }
    let with_variable = World::new()
        .file(FILE, lines)
        .variable("PGPASSWORD", "variable");
    assert_eq!(
        with_variable.password("host=localhost").as_deref(),
        Some("variable")
    );
    assert_eq!(
        with_variable
            .password("host=localhost password=given")
            .as_deref(),
        Some("given")
    );
    let elsewhere = World::new()
        .file("/secrets/pass", "*:*:*:*:elsewhere\n")
        .file(FILE, lines)
        .variable("PGPASSFILE", "/secrets/pass");
    assert_eq!(elsewhere.password("host=db").as_deref(), Some("elsewhere"));
    assert_eq!(
        elsewhere
            .password("host=localhost passfile=/home/osuser/.pgpass")
            .as_deref(),
        Some("local")
    );
    // It depends on the database.
    let target = world.resolve("host=db user=ann dbname=other").unwrap();
    assert_eq!(password(&target), None);
    assert_eq!(
        password(&target.with_database("sales")).as_deref(),
        Some("any user")
    );
}

#[test]
fn password_files_that_others_may_read_are_ignored_with_a_warning() {
    let world = World::new().open_file("/home/osuser/.pgpass", "*:*:*:*:secret\n");
    let target = world.resolve("host=db").unwrap();
    assert_eq!(password(&target), None);
    assert_eq!(
        target.warnings(),
        [
            "password file \"/home/osuser/.pgpass\" has group or world access, so it is ignored; \
             permissions should be u=rw (0600) or less"
        ]
    );
    // Unless it is not needed.
    assert!(
        world
            .resolve("host=db password=x")
            .unwrap()
            .warnings()
            .is_empty()
    );
}

#[test]
fn tls_options_have_libpqs_defaults() {
    let defaults = World::new().resolve("host=db").unwrap().tls;
    let home = |name: &str| PathBuf::from("/home/osuser/.postgresql").join(name);
    assert_eq!(
        defaults,
        TlsOptions {
            mode: SslMode::Prefer,
            negotiation: SslNegotiation::Postgres,
            roots: RootCertificates::DefaultFile(home("root.crt")),
            certificate: Some(OptionalFile {
                path: home("postgresql.crt"),
                named: false
            }),
            key: Some(OptionalFile {
                path: home("postgresql.key"),
                named: false
            }),
            certificate_mode: ClientCertificateMode::Allow,
            revocation_list: Some(OptionalFile {
                path: home("root.crl"),
                named: false
            }),
            server_name_indication: true,
            lowest_version: TlsVersion::V1_2,
            highest_version: TlsVersion::V1_3,
        }
    );
    let mode = |world: &World, conninfo: &str| world.resolve(conninfo).unwrap().tls.mode;
    let plain = World::new();
    for (conninfo, expected) in [
        ("sslmode=disable", SslMode::Disable),
        ("sslmode=allow", SslMode::Allow),
        ("sslmode=prefer", SslMode::Prefer),
        ("sslmode=require", SslMode::Require),
        ("sslmode=verify-ca", SslMode::VerifyCa),
        ("sslmode=verify-full", SslMode::VerifyFull),
        ("sslmode=", SslMode::Prefer),
        ("requiressl=1", SslMode::Require),
        ("requiressl=0", SslMode::Prefer),
        ("postgresql://db?ssl=true", SslMode::Require),
        ("sslrootcert=system", SslMode::VerifyFull),
    ] {
        assert_eq!(mode(&plain, conninfo), expected, "{conninfo}");
    }
    let old = World::new().variable("PGREQUIRESSL", "1");
    assert_eq!(mode(&old, ""), SslMode::Require);
    let both = World::new()
        .variable("PGREQUIRESSL", "1")
        .variable("PGSSLMODE", "disable");
    assert_eq!(mode(&both, ""), SslMode::Disable);
    let system = World::new().variable("PGSSLROOTCERT", "system");
    assert_eq!(mode(&system, ""), SslMode::VerifyFull);
    assert!(system.resolve("sslmode=verify-ca").is_err());
    assert!(
        plain
            .resolve("sslmode=require sslnegotiation=direct sslsni=0 sslcert=/c sslkey=/k")
            .is_ok_and(|target| !target.tls.server_name_indication
                && target.tls.negotiation == SslNegotiation::Direct)
    );
}

#[test]
fn other_options_are_parsed() {
    let target = World::new()
        .resolve(
            "host=db connect_timeout=7 keepalives=0 keepalives_idle=8 keepalives_interval=9 \
             keepalives_count=10 tcp_user_timeout=11 options='-c geqo=off' client_encoding=LATIN1 \
             gssencmode=disable krbsrvname=x sslcompression=1 requirepeer=postgres \
             fallback_application_name=app channel_binding=require",
        )
        .unwrap();
    assert_eq!(target.connect_timeout, Some(Duration::from_secs(7)));
    assert_eq!(
        target.keepalives,
        Keepalives {
            enabled: false,
            idle: Some(Duration::from_secs(8)),
            interval: Some(Duration::from_secs(9)),
            count: Some(10),
            user_timeout: Some(Duration::from_millis(11)),
        }
    );
    assert_eq!(target.options.as_deref(), Some("-c geqo=off"));
    assert_eq!(target.application_name, "app");
    assert_eq!(target.required_peer.as_deref(), Some("postgres"));
    assert_eq!(target.channel_binding, ChannelBinding::Require);

    let defaults = World::new().resolve("host=db connect_timeout=0").unwrap();
    assert_eq!(defaults.connect_timeout, None);
    assert!(defaults.keepalives.enabled);
    assert_eq!(defaults.options, None);
    assert_eq!(defaults.application_name, "rdump");
    assert_eq!(
        World::new()
            .resolve("connect_timeout=-1")
            .unwrap()
            .connect_timeout,
        None
    );
}

#[test]
fn required_authentication_is_a_set() {
    use Method::{Md5, Password, ScramSha256};
    for (text, allowed, refused, none) in [
        (
            "scram-sha-256",
            vec![ScramSha256],
            vec![Md5, Password],
            false,
        ),
        (
            "md5,scram-sha-256",
            vec![Md5, ScramSha256],
            vec![Password],
            false,
        ),
        ("none", vec![], vec![Md5, Password, ScramSha256], true),
        ("none,md5", vec![Md5], vec![Password], true),
        ("!password", vec![Md5, ScramSha256], vec![Password], true),
        (
            "!password,!none",
            vec![Md5, ScramSha256],
            vec![Password],
            false,
        ),
    ] {
        let required = RequiredAuthentication::parse(text).unwrap();
        assert!(
            allowed.iter().all(|&method| required.allows(method)),
            "{text}"
        );
        assert!(
            !refused.iter().any(|&method| required.allows(method)),
            "{text}"
        );
        assert_eq!(required.allows_none(), none, "{text}");
    }
}

#[test]
fn without_an_operating_system_user_one_must_be_given() {
    let environment = Environment {
        operating_system_user: None,
        home: None,
        ..World::new().environment()
    };
    let error = resolve(&flags("host=db"), &environment).unwrap_err();
    assert_eq!(error.hint_text(), Some("give a user name with -U"));
    let target = resolve(&flags("host=db user=ann"), &environment).unwrap();
    assert_eq!(target.tls.roots, RootCertificates::Unknown);
    assert_eq!(target.tls.certificate, None);
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_connection_string_is_understood_or_refused(text in ".{0,80}") {
            let _ = World::new().resolve(&text);
            let _ = World::new().resolve(&format!("postgresql://{text}"));
            let _ = World::new().resolve(&format!("host={text}"));
        }

        #[test]
        fn quoted_values_come_back(value in "[^\0]{1,40}") {
            let quoted = value.replace('\\', r"\\").replace('\'', r"\'");
            let target = World::new().resolve(&format!("user='{quoted}'")).unwrap();
            prop_assert_eq!(&target.user, &value);
            let encoded: String = value.bytes().map(|byte| format!("%{byte:02x}")).collect();
            let target = World::new().resolve(&format!("postgresql://{encoded}@/")).unwrap();
            prop_assert_eq!(&target.user, &value);
        }

        #[test]
        fn password_file_lines_match_what_was_escaped(
            host in "[a-z:\\\\*]{1,12}",
            password in "[ -~]{1,20}",
        ) {
            let escape = |text: &str| text.replace('\\', r"\\").replace(':', r"\:");
            let line = format!("{}:*:*:*:{}\n", escape(&host), escape(&password));
            let mut environment = World::new().environment();
            let mut made = Made::default();
            made.files.insert(
                PathBuf::from("/home/osuser/.pgpass"),
                File { contents: line.into_bytes(), is_regular: true, mode: 0o600 },
            );
            environment.files = Arc::new(made);
            let found = resolve(
                &ConnectionFlags { host: Some(host), ..flags("sales") },
                &environment,
            )
            .map(|target| super::password(&target))
            .unwrap();
            prop_assert_eq!(found, Some(password));
        }
    }
}
