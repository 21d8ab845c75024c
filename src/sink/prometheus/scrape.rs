//! Scrape: a snapshot of all exported values, written piece by piece.
//!
//! The state of a scenario is shared, not copied: a run that ends in the meantime copies only the state of its own
//! scenario. A scrape therefore holds no lock while it writes, and its memory use does not depend on the number of
//! series.

use std::sync::Arc;

use prometheus::proto::MetricFamily;
use tokio::sync::OwnedSemaphorePermit;

use crate::scenario::Scenario;

use super::catalog::Catalog;
use super::encoder::{Encoder, Format};
use super::families::{FAMILIES, Subject, head, write_own};
use super::scrapers::Scrapers;
use super::selection::Selection;
use super::state::State;

/// Size of a piece, in bytes.
const PIECE_BYTES: usize = 32 << 10;

/// Request of a scraper.
#[derive(Debug, Clone)]
pub struct ScrapeRequest {
    /// Requested format.
    pub format: Format,
    /// Requested part of the series.
    pub selection: Selection,
    /// Identifier of the scraper and the requested part.
    pub scraper: u64,
}

/// Scrape in progress.
pub struct Scrape {
    pub(super) number: u32,
    pub(super) scraper: u64,
    pub(super) seen: Option<u32>,
    pub(super) location: Arc<str>,
    pub(super) catalog: Arc<Catalog>,
    pub(super) subjects: Vec<Shown>,
    /// Families of the agent's own metrics.
    pub(super) own: std::vec::IntoIter<MetricFamily>,
    pub(super) encoder: Encoder,
    pub(super) progress: Progress,
    pub(super) scrapers: Arc<Scrapers>,
    pub(super) _place: OwnedSemaphorePermit,
}

/// Scenario in the state at the beginning of the scrape.
pub(super) struct Shown {
    pub scenario: Arc<Scenario>,
    pub state: Arc<State>,
    pub appeared: (u32, f64),
}

/// Part to write next.
pub(super) enum Progress {
    /// Position of a family of scenarios, and of a scenario in it.
    Scenarios(usize, usize),
    Own,
    Done,
}

impl Scrape {
    /// Writes the next piece. Returns `None` if the scrape is complete.
    pub fn next_piece(&mut self) -> Option<Vec<u8>> {
        while self.encoder.ready() < PIECE_BYTES {
            match self.progress {
                Progress::Scenarios(family, position) => self.progress = self.write_scenario(family, position),
                Progress::Own => match self.own.next() {
                    Some(family) => write_own(&family, &mut self.encoder),
                    None => {
                        self.encoder.end();
                        self.progress = Progress::Done;
                    }
                },
                Progress::Done => break,
            }
        }
        if self.encoder.ready() > 0 {
            return Some(self.encoder.take(PIECE_BYTES + PIECE_BYTES / 8));
        }
        self.scrapers.completed(self.scraper, self.number);
        None
    }

    fn write_scenario(&mut self, family: usize, position: usize) -> Progress {
        let Some((metric, write)) = FAMILIES.get(family) else { return Progress::Own };
        if position == 0 {
            self.encoder.begin(head(metric));
        }
        let Some(shown) = self.subjects.get(position) else { return Progress::Scenarios(family + 1, 0) };
        let subject = Subject {
            scenario: &shown.scenario,
            state: &shown.state,
            location: &self.location,
            detail: self.catalog.rules.detail,
            tags: &self.catalog.tags,
            appeared: shown.appeared,
            seen: self.seen,
        };
        write(&subject, &mut self.encoder);
        Progress::Scenarios(family, position + 1)
    }
}
