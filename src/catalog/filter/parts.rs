//! What of a database's objects is wanted, whatever they are called. A snapshot does not store the
//! rest, a restore does not replay it. The rules are those of _tocEntryRequired
//! (src/bin/pg_dump/pg_backup_archiver.c).

use crate::archive::{Entry, Section};

/// All is wanted, unless something says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Parts {
    /// -a: nothing but rows, values of sequences and large objects.
    pub no_schema: bool,
    /// -s: none of these.
    pub no_data: bool,
    /// Nothing of what the planner knows; neither of the two above says anything of that.
    pub no_statistics: bool,
    /// Values of sequences although no data is wanted.
    pub sequence_data: bool,
    /// Empty: all.
    pub sections: Vec<Section>,
    /// -x
    pub no_privileges: bool,
    pub no_comments: bool,
    pub no_policies: bool,
    pub no_publications: bool,
    pub no_subscriptions: bool,
    pub no_security_labels: bool,
}

impl Parts {
    pub fn takes(&self, entry: &Entry) -> bool {
        let is_wanted = if entry.kind == "STATISTICS DATA" {
            !self.no_statistics
        } else if entry.section == Section::Data {
            !self.no_data || (self.sequence_data && entry.kind == "SEQUENCE SET")
        } else {
            !self.no_schema
        };
        self.takes_section(entry.section) && is_wanted && !self.leaves_out(entry)
    }

    /// Whether it leaves out anything that is read at all: statistics are not if they are not wanted.
    pub fn leaves_out_some(&self) -> bool {
        let without_statistics = Parts {
            no_statistics: self.no_statistics,
            ..Parts::default()
        };
        *self != without_statistics
    }

    pub fn takes_rows(&self) -> bool {
        !self.no_data && self.takes_section(Section::Data)
    }

    pub fn takes_sequence_values(&self) -> bool {
        (!self.no_data || self.sequence_data) && self.takes_section(Section::Data)
    }

    /// Whether some sections are left out.
    pub fn is_of_some_sections(&self) -> bool {
        !self.sections.is_empty()
    }

    pub fn takes_section(&self, section: Section) -> bool {
        self.sections.is_empty() || self.sections.contains(&section)
    }

    /// Whether an entry is of a kind that is not wanted.
    fn leaves_out(&self, entry: &Entry) -> bool {
        let of = |kind: &str| entry.name.starts_with(kind.as_bytes());
        match entry.kind.as_str() {
            "ACL" | "DEFAULT ACL" => self.no_privileges,
            "COMMENT" | "SECURITY LABEL" => {
                (entry.kind == "COMMENT" && self.no_comments)
                    || (entry.kind == "SECURITY LABEL" && self.no_security_labels)
                    || (self.no_policies && of("POLICY "))
                    || (self.no_publications && of("PUBLICATION "))
                    || (self.no_subscriptions && of("SUBSCRIPTION "))
            }
            "POLICY" | "ROW SECURITY" => self.no_policies,
            "PUBLICATION" | "PUBLICATION TABLE" | "PUBLICATION TABLES IN SCHEMA" => {
                self.no_publications
            }
            "SUBSCRIPTION" | "SUBSCRIPTION TABLE" => self.no_subscriptions,
            _ => false,
        }
    }
}
