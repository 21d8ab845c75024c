//! Numbered outcomes and positions of sinks, read through the buffer.
//!
//! Outcomes are accepted in the order of their numbers, and a change of an incident is accepted before every outcome
//! with a higher number. So any number up to that of the last accepted outcome that is neither in memory nor in the
//! database is lost.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use super::{State, WriteBuffer};
use crate::store::{Batch, Numbered, Positions, Recorded, Result};

/// Returns the records of a range of numbers that are in memory: waiting ones, and written ones that may have to be
/// written again.
fn in_memory(state: &State, from: u64, to: u64) -> BTreeMap<u64, Recorded> {
    let written = || state.unverified.iter().chain(state.in_flight.iter());
    let outcomes = written().flat_map(|batch| &batch.outcomes).chain(&state.pending.outcomes);
    let outcomes = outcomes.filter(|outcome| (from..=to).contains(&outcome.seq));
    let changes = written().flat_map(|batch| &batch.changes).chain(&state.pending.changes);
    let changes = changes.filter(|change| (from..=to).contains(&change.seq));
    let outcomes = outcomes.map(|outcome| Recorded::Outcome(Arc::clone(outcome)));
    let changes = changes.map(|change| Recorded::Change(Arc::clone(change)));
    outcomes.chain(changes).map(|record| (record.seq(), record)).collect()
}

/// Joins stored records with those in memory.
pub(super) fn join(stored: Numbered, mut memory: BTreeMap<u64, Recorded>, from: u64, limit: u32) -> Numbered {
    memory.retain(|seq, _| *seq <= stored.through);
    memory.extend(stored.records.into_iter().map(|record| (record.seq(), record)));
    let limit = limit as usize;
    let is_cut = memory.len() > limit;
    let records: Vec<_> = memory.into_values().take(limit).collect();
    let through = match records.last() {
        Some(last) if is_cut => last.seq(),
        None if is_cut => from.saturating_sub(1),
        _ => stored.through,
    };
    Numbered { records, through }
}

#[async_trait]
impl Positions for WriteBuffer {
    async fn numbered(&self, from: u64, to: u64, limit: u32) -> Result<Numbered> {
        // Memory is read first: records written in between are then in both.
        let (memory, to) = {
            let state = self.shared.state();
            let to = to.min(state.last_seq);
            (in_memory(&state, from, to), to)
        };
        if to < from {
            return Ok(Numbered { records: Vec::new(), through: from.saturating_sub(1) });
        }
        // Numbers have no gaps, so that the records that follow the first one in memory do not require the database.
        let at_hand: Vec<_> =
            memory.values().zip(from..).take_while(|(record, seq)| record.seq() == *seq).take(limit as usize).collect();
        if let Some((_, through)) = at_hand.last() {
            let through = *through;
            let records = at_hand.into_iter().map(|(record, _)| record.clone()).collect();
            return Ok(Numbered { records, through });
        }
        let stored = self.at_hand()?.numbered(from, to, limit).await?;
        Ok(join(stored, memory, from, limit))
    }

    async fn positions(&self) -> Result<BTreeMap<String, u64>> {
        Ok(self.shared.state().outbox.positions())
    }

    async fn last_seq(&self) -> Result<u64> {
        Ok(self.shared.state().last_seq)
    }

    async fn set_positions(&self, positions: BTreeMap<String, Option<u64>>) -> Result<()> {
        self.accept(Batch { positions, ..Batch::default() }).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Outcome;
    use crate::store::buffer::tests::outcome;

    fn numbered(numbers: &[u64]) -> Vec<Recorded> {
        let of = |seq: &u64| Recorded::Outcome(Arc::new(Outcome { seq: *seq, ..Outcome::clone(&outcome(0)) }));
        numbers.iter().map(of).collect()
    }

    #[test]
    fn stored_and_waiting_outcomes_are_joined_in_order() {
        let check = |stored: &[u64], through, memory: &[u64], limit, expected: &[u64], expected_through| {
            let stored = Numbered { records: numbered(stored), through };
            let memory = numbered(memory).into_iter().map(|record| (record.seq(), record)).collect();
            let joined = join(stored, memory, 1, limit);
            let seqs: Vec<u64> = joined.records.iter().map(Recorded::seq).collect();
            assert_eq!((seqs.as_slice(), joined.through), (expected, expected_through));
        };
        // The database was read to its end: waiting records follow, and those in both count once.
        check(&[1, 2, 3], 6, &[3, 5, 6], 10, &[1, 2, 3, 5, 6], 6);
        // The database was not read to its end: waiting records beyond are left for the next call.
        check(&[1, 2, 3], 3, &[3, 5, 6], 3, &[1, 2, 3], 3);
        // Both together exceed the limit.
        check(&[1, 4], 6, &[2, 3, 5], 3, &[1, 2, 3], 3);
        // No records are left in the range.
        check(&[], 6, &[], 3, &[], 6);
    }
}
