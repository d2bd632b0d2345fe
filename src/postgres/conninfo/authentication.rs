//! Which ways of authenticating the user allows the server to ask for.

use crate::error::{Error, Result};

/// A way in which the server lets a client in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// The password in clear.
    Password,
    Md5,
    Gss,
    Sspi,
    ScramSha256,
    OAuth,
}

impl Method {
    const ALL: [Method; 6] = [
        Method::Password,
        Method::Md5,
        Method::Gss,
        Method::Sspi,
        Method::ScramSha256,
        Method::OAuth,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Method::Password => "password",
            Method::Md5 => "md5",
            Method::Gss => "gss",
            Method::Sspi => "sspi",
            Method::ScramSha256 => "scram-sha-256",
            Method::OAuth => "oauth",
        }
    }
}

/// The option `require_auth`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequiredAuthentication {
    allowed: Vec<Method>,
    /// Whether the server may let us in without an exchange, as with "trust".
    none_allowed: bool,
    /// As the user wrote it, for messages.
    text: String,
}

impl RequiredAuthentication {
    /// Parses a list of methods, all of them plain or all of them negated with `!`.
    pub fn parse(text: &str) -> Result<RequiredAuthentication> {
        let negated = text.starts_with('!');
        let mut required = RequiredAuthentication {
            allowed: if negated {
                Method::ALL.to_vec()
            } else {
                Vec::new()
            },
            none_allowed: negated,
            text: text.to_owned(),
        };
        for part in text.split(',') {
            let name = match (part.strip_prefix('!'), negated) {
                (Some(name), true) => name,
                (None, false) => part,
                (Some(_), false) => {
                    return Err(Error::usage(format!(
                        "negative require_auth method \"{part}\" cannot be mixed with \
                         non-negative methods"
                    )));
                }
                (None, true) => {
                    return Err(Error::usage(format!(
                        "require_auth method \"{part}\" cannot be mixed with negative methods"
                    )));
                }
            };
            // A method that is named twice is most likely a slip where slips are dangerous.
            let changed = if name == "none" {
                std::mem::replace(&mut required.none_allowed, !negated) == negated
            } else {
                let method = Method::ALL
                    .into_iter()
                    .find(|method| method.name() == name)
                    .ok_or_else(|| {
                        Error::usage(format!("invalid require_auth value: \"{name}\""))
                    })?;
                let was_allowed = required.allowed.contains(&method);
                if negated {
                    required.allowed.retain(|&other| other != method);
                } else {
                    required.allowed.push(method);
                }
                was_allowed == negated
            };
            if !changed {
                return Err(Error::usage(format!(
                    "require_auth method \"{part}\" is specified more than once"
                )));
            }
        }
        Ok(required)
    }

    pub fn allows(&self, method: Method) -> bool {
        self.allowed.contains(&method)
    }

    pub fn allows_none(&self) -> bool {
        self.none_allowed
    }

    pub fn text(&self) -> &str {
        &self.text
    }
}
