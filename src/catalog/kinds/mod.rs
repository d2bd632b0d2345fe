//! The kinds of objects, a file each.
//!
//! The order of the registry's lines is the sort priority: where dependencies leave a choice,
//! objects of an earlier line are restored first.

mod registry;

registry::kinds! {
    Schema => schema,
}
