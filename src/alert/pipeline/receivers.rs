//! Receivers that are called otherwise from now on: what is open goes on under the new name.

use std::collections::BTreeMap;

use super::{Pipeline, RECEIVERS};
use crate::incident::{Incident, Notice};
use crate::notify::renamed;

/// Replaces a name in a list, in which each name stands once.
pub(in crate::alert) fn rename_in(names: &mut Vec<String>, old: &str, new: &str) {
    if names.iter().any(|name| name == new) {
        names.retain(|name| name != old);
    } else if let Some(name) = names.iter_mut().find(|name| *name == old) {
        new.clone_into(name);
    }
}

/// Returns a notice as it is for the new name of its receiver.
pub(in crate::alert) fn readdressed(notice: Notice, old: &str, new: &str) -> Notice {
    let id = notice.id.strip_suffix(old).map_or_else(|| notice.id.clone(), |id| format!("{id}{new}"));
    Notice { id, receiver: new.to_owned(), ..notice }
}

impl Pipeline {
    /// These receivers are there from now on, each with what stands for its address. Returns those that were renamed, as
    /// (old name, new name): whatever was told, is held back or is open for the old name is so for the new one.
    pub fn receivers(&mut self, addresses: BTreeMap<String, String>) -> Vec<(String, String)> {
        if self.addresses == addresses {
            return Vec::new();
        }
        let renames = renamed(&self.addresses, &addresses);
        self.addresses = addresses;
        self.touched.insert(RECEIVERS.to_owned());
        for (old, new) in &renames {
            self.rename_receiver(old, new);
        }
        renames
    }

    fn rename_receiver(&mut self, old: &str, new: &str) {
        self.groups.rename_receiver(old, new);
        self.limits.rename_receiver(old, new);
        let watches = self.watches.values_mut().map(|watch| &mut watch.open);
        let budgets = self.budgets.watches.values_mut().map(|watch| &mut watch.open);
        let open = watches.chain(budgets).chain([&mut self.agent.open]).filter_map(Option::as_mut);
        for incident in open.filter(|incident: &&mut Incident| incident.receivers.iter().any(|name| name == old)) {
            rename_in(&mut incident.receivers, old, new);
            self.effects.watches.insert(incident.subject.clone());
        }
        for notices in [&mut self.effects.told, &mut self.effects.notices] {
            for notice in notices.iter_mut().filter(|notice| notice.receiver == old) {
                *notice = readdressed(notice.clone(), old, new);
            }
        }
    }
}
