//! Connection strings, right and wrong.

use super::*;

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
