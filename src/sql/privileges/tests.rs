use super::*;

fn table(acl: &str, base: &str) -> String {
    of("TABLE", "public.t", acl, base)
}

fn of(object_type: &str, name: &str, acl: &str, base: &str) -> String {
    let target = PrivilegeTargetSql {
        object_type,
        name: BStr::new(name),
        column: None,
    };
    let text = statements(&target, acl.into(), base.into(), "own".into()).unwrap();
    text.to_string()
}

const BASE: &str = "{own=arwdDxtm/own}";

#[test]
fn items_of_roles_that_are_gone_are_left_out() {
    let gone = HashSet::from([BString::from("16384")]);
    let without = acl_without(
        r#"{own=r/own,16384=r*/own,"\"a \\\\ \"\"b\"=r/own",bob=r/16384,16385=r/own}"#.into(),
        &gone,
    );
    let without = without.unwrap();
    assert_eq!(
        without,
        r#"{"own=r/own","\"a \\\\ \"\"b\"=r/own","16385=r/own"}"#
    );
    assert_eq!(acl_without(without.as_bstr(), &gone).unwrap(), without);
    assert_eq!(acl_without("{}".into(), &gone).unwrap(), "{}");
}

#[test]
fn equal_acls_need_nothing() {
    assert_eq!(table(BASE, BASE), "");
    assert_eq!(
        of(
            "FUNCTION",
            "f()",
            "{=X/own,own=X/own}",
            "{=X/own,own=X/own}"
        ),
        ""
    );
    assert_eq!(table("{}", "{}"), "");
}

#[test]
fn grants_follow_in_order() {
    assert_eq!(
        table("{own=arwdDxtm/own,bob=r/own,=r/own,alice=rw*/own}", BASE),
        "GRANT SELECT ON TABLE public.t TO bob;\n\
         GRANT SELECT ON TABLE public.t TO PUBLIC;\n\
         GRANT SELECT ON TABLE public.t TO alice;\n\
         GRANT UPDATE ON TABLE public.t TO alice WITH GRANT OPTION;\n"
    );
}

#[test]
fn all_means_all_of_the_newest_server() {
    assert_eq!(
        table(
            "{own=arwdDxtm/own,a=arwdDxtm/own,b=arwdDxt/own,c=a*r*w*d*D*x*t*m*/own}",
            BASE
        ),
        "GRANT ALL ON TABLE public.t TO a;\n\
         GRANT SELECT,INSERT,REFERENCES,DELETE,TRIGGER,TRUNCATE,UPDATE ON TABLE public.t TO b;\n\
         GRANT ALL ON TABLE public.t TO c WITH GRANT OPTION;\n"
    );
}

#[test]
fn default_rights_are_revoked_first() {
    assert_eq!(
        of(
            "FUNCTION",
            "f()",
            "{own=X/own,a=X/own}",
            "{=X/own,own=X/own}"
        ),
        "REVOKE ALL ON FUNCTION f() FROM PUBLIC;\nGRANT ALL ON FUNCTION f() TO a;\n"
    );
    assert_eq!(
        table("{}", BASE),
        "REVOKE ALL ON TABLE public.t FROM own;\n"
    );
    assert_eq!(
        table("{own=r/own}", BASE),
        "REVOKE ALL ON TABLE public.t FROM own;\nGRANT SELECT ON TABLE public.t TO own;\n"
    );
}

#[test]
fn items_out_of_the_default_order_are_granted_anew() {
    assert_eq!(
        table("{bob=r/own,own=arwdDxtm/own}", BASE),
        "REVOKE ALL ON TABLE public.t FROM own;\n\
         GRANT SELECT ON TABLE public.t TO bob;\n\
         GRANT ALL ON TABLE public.t TO own;\n"
    );
    assert_eq!(
        of("TYPE", "y", "{own=U/own,=U/own}", "{=U/own,own=U/own}"),
        "REVOKE ALL ON TYPE y FROM PUBLIC;\nGRANT ALL ON TYPE y TO PUBLIC;\n"
    );
}

#[test]
fn other_grantors_grant_themselves_once_they_can() {
    assert_eq!(
        table("{own=arwdDxtm/own,bob=r/alice,alice=r*/own}", BASE),
        "GRANT SELECT ON TABLE public.t TO alice WITH GRANT OPTION;\n\
         SET ROLE alice;\nGRANT SELECT ON TABLE public.t TO bob;\nRESET ROLE;\n"
    );
    // revoked from the end: bob's stands on alice's
    assert_eq!(
        table(
            "{own=arwdDxtm/own}",
            "{own=arwdDxtm/own,alice=r*/own,bob=r/alice}"
        ),
        "SET ROLE alice;\nREVOKE SELECT ON TABLE public.t FROM bob;\nRESET ROLE;\n\
         REVOKE SELECT ON TABLE public.t FROM alice;\n"
    );
}

#[test]
fn a_grantor_who_never_could_is_left_to_the_server() {
    assert_eq!(
        table("{own=arwdDxtm/own,bob=r/carol}", BASE),
        "SET ROLE carol;\nGRANT SELECT ON TABLE public.t TO bob;\nRESET ROLE;\n"
    );
}

#[test]
fn names_are_read_and_quoted() {
    assert_eq!(
        table(
            r#"{own=arwdDxtm/own,"\"a b\"=r/own","\"q\"\"u=/\"=r/own","naïve=r/own",Bob=r/own}"#,
            BASE
        ),
        "GRANT SELECT ON TABLE public.t TO \"a b\";\n\
         GRANT SELECT ON TABLE public.t TO \"q\"\"u=/\";\n\
         GRANT SELECT ON TABLE public.t TO \"naïve\";\n\
         GRANT SELECT ON TABLE public.t TO \"Bob\";\n"
    );
}

#[test]
fn columns_carry_their_name_in_every_privilege() {
    let target = PrivilegeTargetSql {
        object_type: "TABLE",
        name: BStr::new("public.t"),
        column: Some(BStr::new("a b")),
    };
    let text = statements(
        &target,
        "{x=rw/own,y=arwx/own}".into(),
        "{}".into(),
        "own".into(),
    );
    assert_eq!(
        text.unwrap(),
        "GRANT SELECT(\"a b\"),UPDATE(\"a b\") ON TABLE public.t TO x;\n\
         GRANT ALL(\"a b\") ON TABLE public.t TO y;\n"
    );
}

#[test]
fn every_type_knows_its_letters() {
    for (object_type, letters) in [
        ("TABLE", "arwdDxtm"),
        ("SEQUENCE", "rwU"),
        ("FUNCTION", "X"),
        ("PROCEDURE", "X"),
        ("LANGUAGE", "U"),
        ("TYPE", "U"),
        ("FOREIGN DATA WRAPPER", "U"),
        ("FOREIGN SERVER", "U"),
        ("SCHEMA", "UC"),
        ("DATABASE", "CTc"),
        ("TABLESPACE", "C"),
        ("PARAMETER", "sA"),
        ("LARGE OBJECT", "rw"),
    ] {
        assert_eq!(
            of(object_type, "x", &format!("{{a={letters}/own}}"), "{}"),
            format!("GRANT ALL ON {object_type} x TO a;\n")
        );
    }
}

#[test]
fn default_privileges_name_role_and_schema() {
    let text = default_privileges(
        "TABLES",
        Some("s".into()),
        "{a=r/own}".into(),
        "{}".into(),
        "own".into(),
    );
    assert_eq!(
        text.unwrap(),
        "ALTER DEFAULT PRIVILEGES FOR ROLE own IN SCHEMA s GRANT SELECT ON TABLES TO a;\n"
    );
    let text = default_privileges(
        "FUNCTIONS",
        None,
        "{own=X/own,b=X/own,a=X/own}".into(),
        "{=X/own,own=X/own}".into(),
        "own".into(),
    );
    assert_eq!(
        text.unwrap(),
        "ALTER DEFAULT PRIVILEGES FOR ROLE own REVOKE ALL ON FUNCTIONS FROM PUBLIC;\n\
         ALTER DEFAULT PRIVILEGES FOR ROLE own GRANT ALL ON FUNCTIONS TO a;\n\
         ALTER DEFAULT PRIVILEGES FOR ROLE own GRANT ALL ON FUNCTIONS TO b;\n"
    );
}

#[test]
fn malformed_items_are_errors() {
    for item in ["a", "a=r", "a=*/o", "\\\"a=r/o", "a=r/o=x", "a=r-/o"] {
        let target = PrivilegeTargetSql {
            object_type: "TABLE",
            name: BStr::new("t"),
            column: None,
        };
        let acl = format!("{{\"{item}\"}}");
        assert!(
            statements(&target, acl.as_str().into(), "{}".into(), "o".into()).is_err(),
            "{item}"
        );
    }
}
