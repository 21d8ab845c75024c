//! The shop's state: products, carts, orders, faults.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Fault;

/// The customer's e-mail address.
pub const USER: &str = "anna@example.com";
/// The customer's password. It guards nothing but this shop.
pub const PASSWORD: &str = "garden-gate-4-anna";

/// Something to buy.
pub(super) struct Product {
    pub(super) slug: &'static str,
    pub(super) sku: &'static str,
    pub(super) name: &'static str,
    cents: u32,
}

pub(super) const PRODUCTS: &[Product] = &[
    Product { slug: "blue-mug", sku: "BLUE-MUG", name: "Blue mug", cents: 1200 },
    Product { slug: "tea-pot", sku: "TEA-POT", name: "Tea pot", cents: 3450 },
    Product { slug: "spoon", sku: "SPOON", name: "Spoon", cents: 480 },
];

/// The shop's state.
#[derive(Default)]
pub struct Shop {
    faults: Mutex<HashSet<Fault>>,
    sessions: Mutex<HashMap<String, Session>>,
    orders: Mutex<BTreeMap<u64, Order>>,
    next: AtomicU64,
    health_asked: AtomicU64,
}

#[derive(Default, Clone)]
pub(super) struct Session {
    pub(super) user: Option<String>,
    pub(super) cart: Vec<&'static str>,
}

#[derive(Clone)]
pub(super) struct Order {
    pub(super) sku: String,
    pub(super) quantity: u64,
    pub(super) reference: String,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shop {
    /// Switches a fault on or off.
    pub fn set(&self, fault: Fault, on: bool) {
        let mut faults = lock(&self.faults);
        if on {
            faults.insert(fault);
        } else {
            faults.remove(&fault);
        }
    }

    /// Whether a fault is on.
    pub fn has(&self, fault: Fault) -> bool {
        lock(&self.faults).contains(&fault)
    }

    /// How many orders are stored: what tests leave behind shows here.
    pub fn orders(&self) -> usize {
        lock(&self.orders).len()
    }

    pub(super) fn price(&self, product: &Product) -> String {
        let cents = if product.slug == "blue-mug" && self.has(Fault::WrongPrice) { 2100 } else { product.cents };
        format!("{}.{:02}", cents / 100, cents % 100)
    }

    /// Whether the health endpoint is well this time.
    pub(super) fn healthy(&self) -> bool {
        !self.has(Fault::Flapping) || self.health_asked.fetch_add(1, Ordering::Relaxed) % 2 == 1
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Changes the session of this cookie, or of a new one; gives the cookie.
    pub(super) fn session(&self, cookie: Option<&str>, change: impl FnOnce(&mut Session)) -> String {
        let mut sessions = lock(&self.sessions);
        let key = match cookie {
            Some(cookie) if sessions.contains_key(cookie) => cookie.to_owned(),
            _ => uuid::Uuid::now_v7().simple().to_string(),
        };
        // A demo that runs for days must not grow for ever; the oldest visitors are forgotten.
        if sessions.len() > 1000 {
            let mut keys: Vec<_> = sessions.keys().cloned().collect();
            keys.sort();
            for old in keys.into_iter().take(500) {
                sessions.remove(&old);
            }
        }
        change(sessions.entry(key.clone()).or_default());
        key
    }

    pub(super) fn visitor(&self, cookie: Option<&str>) -> Session {
        cookie.and_then(|cookie| lock(&self.sessions).get(cookie).cloned()).unwrap_or_default()
    }

    pub(super) fn place(&self, order: Order) -> u64 {
        let number = self.number();
        let mut orders = lock(&self.orders);
        orders.insert(number, order);
        while orders.len() > 1000 {
            orders.pop_first();
        }
        number
    }

    pub(super) fn order(&self, number: u64) -> Option<Order> {
        lock(&self.orders).get(&number).cloned()
    }

    pub(super) fn cancel(&self, number: u64) -> bool {
        lock(&self.orders).remove(&number).is_some()
    }
}
