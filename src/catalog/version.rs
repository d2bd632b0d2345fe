//! What a definition of an older server must say on a newer one to mean the same.

use bstr::BString;

use crate::archive::Entry;
use crate::postgres::ServerVersion;

/// Changes a definition that was read from a server of version `from` for one of version `to`.
pub fn adapt(entry: &mut Entry, from: ServerVersion, to: ServerVersion) {
    if entry.kind == "SUBSCRIPTION" && !from.at_least(16) && to.at_least(16) {
        // changes were always applied as the owner; since 16, as the owner of each table
        if let Some(start) = entry.create.strip_suffix(b");\n") {
            let mut create = BString::from(start);
            create.extend_from_slice(b", run_as_owner = true);\n");
            entry.create = create;
        }
    }
}
