//! Memberships: which role is a member of which, with what options, and by whose grant.

use std::collections::HashSet;

use bstr::BString;

use super::{Global, Reader};
use crate::error::Result;
use crate::sql;

#[derive(Debug, Clone)]
pub struct Membership {
    pub role: BString,
    pub member: BString,
    /// None: the superuser that initdb made, whatever it is called.
    pub grantor: Option<BString>,
    pub admin: bool,
    /// INHERIT and SET; None where the server does not know them.
    options: Option<(bool, bool)>,
}

impl Membership {
    /// What its entry is called.
    pub fn tag(&self) -> BString {
        let (role, member) = (&self.role, &self.member);
        let mut tag = sql!("{} TO {}", sql::identifier(role), sql::identifier(member));
        if let Some(grantor) = &self.grantor {
            tag.extend_from_slice(&sql!(" GRANTED BY {}", sql::identifier(grantor)));
        }
        tag
    }

    /// The statement that takes it away, or `what` of it: "ADMIN OPTION FOR ".
    pub fn revoke(&self, what: &str) -> BString {
        let (role, member) = (&self.role, &self.member);
        let mut revoke = sql!(
            "REVOKE {}{} FROM {}",
            what,
            sql::identifier(role),
            sql::identifier(member)
        );
        if let Some(grantor) = &self.grantor {
            revoke.extend_from_slice(&sql!(" GRANTED BY {}", sql::identifier(grantor)));
        }
        revoke
    }

    /// As servers before 16 have it.
    pub fn without_grantor(&self) -> Membership {
        Membership {
            grantor: None,
            ..self.clone()
        }
    }
}

pub(super) async fn read(reader: &mut Reader<'_>) -> Result<Vec<Global>> {
    let all = list(reader).await?;
    let (ordered, stuck) = match reader.server.at_least(16) {
        true => in_order(all),
        false => (all, Vec::new()),
    };
    for membership in &stuck {
        reader.warnings.push(format!(
            "the grantor of a membership has itself no right to grant it, so that a restore may refuse it: {}",
            membership.tag()
        ));
    }
    Ok(ordered.iter().chain(&stuck).map(rendered).collect())
}

/// All memberships but those among predefined roles.
pub(super) async fn list(reader: &mut Reader<'_>) -> Result<Vec<Membership>> {
    let has_options = reader.version.at_least(16);
    // before 16 each has one grantor, which may be gone, and counts for nothing
    let query = match (has_options, reader.server.at_least(16)) {
        (true, _) => {
            "SELECT r.rolname AS role, m.rolname AS member,
                    CASE WHEN a.grantor <> 10 THEN g.rolname END AS grantor,
                    a.admin_option, a.inherit_option, a.set_option
             FROM pg_auth_members a
             JOIN pg_roles r ON r.oid = a.roleid
             JOIN pg_roles m ON m.oid = a.member
             LEFT JOIN pg_roles g ON g.oid = a.grantor
             WHERE NOT (r.rolname ~ '^pg_' AND m.rolname ~ '^pg_')
             ORDER BY r.rolname COLLATE \"C\", m.rolname COLLATE \"C\",
                      a.grantor <> 10, g.rolname COLLATE \"C\""
        }
        (false, false) => {
            "SELECT r.rolname AS role, m.rolname AS member,
                    CASE WHEN a.grantor <> 10 THEN g.rolname END AS grantor, a.admin_option
             FROM pg_auth_members a
             JOIN pg_roles r ON r.oid = a.roleid
             JOIN pg_roles m ON m.oid = a.member
             LEFT JOIN pg_roles g ON g.oid = a.grantor
             WHERE NOT (r.rolname ~ '^pg_' AND m.rolname ~ '^pg_')
             ORDER BY r.rolname COLLATE \"C\", m.rolname COLLATE \"C\""
        }
        (false, true) => {
            "SELECT r.rolname AS role, m.rolname AS member, NULL AS grantor,
                    bool_or(a.admin_option) AS admin_option
             FROM pg_auth_members a
             JOIN pg_roles r ON r.oid = a.roleid
             JOIN pg_roles m ON m.oid = a.member
             WHERE NOT (r.rolname ~ '^pg_' AND m.rolname ~ '^pg_')
             GROUP BY r.rolname, m.rolname
             ORDER BY r.rolname COLLATE \"C\", m.rolname COLLATE \"C\""
        }
    };
    let rows = reader.query("memberships", query).await?;
    let mut all = Vec::new();
    for row in &rows {
        all.push(Membership {
            role: row.text("role")?,
            member: row.text("member")?,
            grantor: row.optional_text("grantor")?,
            admin: row.bool("admin_option")?,
            options: match has_options {
                true => Some((row.bool("inherit_option")?, row.bool("set_option")?)),
                false => None,
            },
        });
    }
    Ok(all)
}

/// A grant behind the one that gives its grantor ADMIN on the same role; and those of which no order
/// can be found.
fn in_order(mut rest: Vec<Membership>) -> (Vec<Membership>, Vec<Membership>) {
    let mut ordered = Vec::with_capacity(rest.len());
    let mut admins: HashSet<(BString, BString)> = HashSet::new();
    loop {
        let before = ordered.len();
        let mut later = Vec::new();
        for membership in rest {
            let possible = match &membership.grantor {
                None => true,
                Some(grantor) => admins.contains(&(membership.role.clone(), grantor.clone())),
            };
            if !possible {
                later.push(membership);
                continue;
            }
            if membership.admin {
                admins.insert((membership.role.clone(), membership.member.clone()));
            }
            ordered.push(membership);
        }
        rest = later;
        if rest.is_empty() || ordered.len() == before {
            return (ordered, rest);
        }
    }
}

fn rendered(membership: &Membership) -> Global {
    let (role, member) = (&membership.role, &membership.member);
    let mut create = sql!(
        "GRANT {} TO {}",
        sql::identifier(role),
        sql::identifier(member)
    );
    let word = |value: bool| if value { "TRUE" } else { "FALSE" };
    match membership.options {
        // all of them, so that a grant that is there already comes to mean the same
        Some((inherit, set)) => create.extend_from_slice(&sql!(
            " WITH ADMIN {}, INHERIT {}, SET {}",
            word(membership.admin),
            word(inherit),
            word(set)
        )),
        None if membership.admin => create.extend_from_slice(b" WITH ADMIN OPTION"),
        None => {}
    }
    if let Some(grantor) = &membership.grantor {
        create.extend_from_slice(&sql!(" GRANTED BY {}", sql::identifier(grantor)));
    }
    create.extend_from_slice(b";\n");
    Global {
        descriptor: "ROLE MEMBERSHIP",
        tag: membership.tag(),
        create,
        roles: [Some(role), Some(member), membership.grantor.as_ref()]
            .into_iter()
            .flatten()
            .cloned()
            .collect(),
        ..Global::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn membership(role: &str, member: &str, grantor: Option<&str>, admin: bool) -> Membership {
        Membership {
            role: role.into(),
            member: member.into(),
            grantor: grantor.map(BString::from),
            admin,
            options: Some((true, false)),
        }
    }

    #[test]
    fn a_grantor_has_its_own_grant_first() {
        let (ordered, stuck) = in_order(vec![
            membership("r", "a", Some("b"), false),
            membership("r", "b", Some("c"), true),
            membership("r", "c", None, true),
            // ADMIN on another role does not count
            membership("s", "a", Some("c"), false),
        ]);
        let members: Vec<String> = ordered.iter().map(|m| m.member.to_string()).collect();
        assert_eq!(members, ["c", "b", "a"]);
        assert_eq!(stuck[0].tag(), "s TO a GRANTED BY c");
        assert_eq!(
            rendered(&ordered[1]).create,
            "GRANT r TO b WITH ADMIN TRUE, INHERIT TRUE, SET FALSE GRANTED BY c;\n"
        );
    }
}
