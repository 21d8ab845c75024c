//! Last complete scrape of each scraper.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Maximum number of scrapers whose last scrape is recorded.
const MAX_SCRAPERS: usize = 64;

/// Last complete scrape of each scraper. Prometheus servers that scrape in parallel are distinguished by address and
/// user agent. Those with both in common count as one scraper, and only the first of them receives the initial value of
/// a counter.
#[derive(Default)]
pub(super) struct Scrapers(Mutex<Vec<(u64, u32)>>);

impl Scrapers {
    fn known(&self) -> MutexGuard<'_, Vec<(u64, u32)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn last(&self, scraper: u64) -> Option<u32> {
        self.known().iter().find(|(known, _)| *known == scraper).map(|(_, number)| *number)
    }

    pub(super) fn completed(&self, scraper: u64, number: u32) {
        let mut known = self.known();
        // Of two concurrent scrapes, the earlier one may end last.
        let before = known.iter().position(|(known, _)| *known == scraper).map(|at| known.remove(at).1);
        known.push((scraper, before.map_or(number, |before| before.max(number))));
        if known.len() > MAX_SCRAPERS {
            known.remove(0);
        }
    }
}
