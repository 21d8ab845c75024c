//! State of the shop: products, carts, orders, faults.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Fault;

/// E-mail address of the customer.
pub const USER: &str = "anna@example.com";
/// Password of the customer. It protects nothing except this shop.
pub const PASSWORD: &str = "garden-gate-4-anna";

/// Product of the shop.
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

/// State of the shop.
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

    /// Returns whether a fault is on.
    pub fn has(&self, fault: Fault) -> bool {
        lock(&self.faults).contains(&fault)
    }

    /// Returns the number of stored orders, which shows what tests have left behind.
    pub fn orders(&self) -> usize {
        lock(&self.orders).len()
    }

    pub(super) fn price(&self, product: &Product) -> String {
        let cents = if product.slug == "blue-mug" && self.has(Fault::WrongPrice) { 2100 } else { product.cents };
        format!("{}.{:02}", cents / 100, cents % 100)
    }

    /// Returns whether the health endpoint reports success this time.
    pub(super) fn healthy(&self) -> bool {
        !self.has(Fault::Flapping) || self.health_asked.fetch_add(1, Ordering::Relaxed) % 2 == 1
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Changes the session of this cookie, or of a new one, and returns the cookie.
    pub(super) fn session(&self, cookie: Option<&str>, change: impl FnOnce(&mut Session)) -> String {
        let mut sessions = lock(&self.sessions);
        let key = match cookie {
            Some(cookie) if sessions.contains_key(cookie) => cookie.to_owned(),
            _ => uuid::Uuid::now_v7().simple().to_string(),
        };
        // The oldest sessions are removed, so that a demo that runs for days does not grow without limit.
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
