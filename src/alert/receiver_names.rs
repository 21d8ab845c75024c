//! Lists of names of receivers. Pure.

/// Replaces a name in a list without duplicates.
pub(super) fn rename_in(names: &mut Vec<String>, old: &str, new: &str) {
    if names.iter().any(|name| name == new) {
        names.retain(|name| name != old);
    } else if let Some(name) = names.iter_mut().find(|name| *name == old) {
        new.clone_into(name);
    }
}
