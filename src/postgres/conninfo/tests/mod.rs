//! Resolution against made-up surroundings. Expectations are libpq's behaviour, from its manual
//! and source.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::*;

mod properties;
mod strings;

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
fn connection_string_precedes_flags_service_environment_and_defaults() {
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
        ("string@string:1002/string".to_owned(), "service".to_owned())
    );
    assert_eq!(
        resolve_flags(&ConnectionFlags {
            host: Some("flag".to_owned()),
            username: Some("flag".to_owned()),
            ..flags("service=mine host=string")
        }),
        ("flag@string:1002/variable".to_owned(), "service".to_owned())
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
