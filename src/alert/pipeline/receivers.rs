//! Renamed receivers: open incidents continue under the new name.

use std::collections::BTreeMap;

use super::{Pipeline, RECEIVERS};
use crate::incident::Notification;
use crate::notify::renamed;

/// Returns a notification with the new name of its receiver.
pub(in crate::alert) fn readdressed(notification: Notification, old: &str, new: &str) -> Notification {
    let id = notification.id.strip_suffix(old).map_or_else(|| notification.id.clone(), |id| format!("{id}{new}"));
    Notification { id, receiver: new.to_owned(), ..notification }
}

impl Pipeline {
    /// Sets the receivers, each with a hash that identifies its address. Returns the renamed ones as (old name, new
    /// name): sent, suppressed and open notifications of the old name are moved to the new one.
    pub fn set_receivers(&mut self, addresses: BTreeMap<String, String>) -> Vec<(String, String)> {
        if self.addresses == addresses {
            return Vec::new();
        }
        let renames = renamed(&self.addresses, &addresses);
        self.addresses = addresses;
        self.context.touched.insert(RECEIVERS.to_owned());
        for (old, new) in &renames {
            self.rename_receiver(old, new);
        }
        renames
    }

    fn rename_receiver(&mut self, old: &str, new: &str) {
        self.groups.rename_receiver(old, new);
        self.limits.rename_receiver(old, new);
        let effects = &mut self.context.effects;
        self.states.rename_receiver(old, new, effects);
        for notifications in [&mut effects.before_limit, &mut effects.notifications] {
            for notification in notifications.iter_mut().filter(|notification| notification.receiver == old) {
                *notification = readdressed(notification.clone(), old, new);
            }
        }
    }
}
