//! The delivery to one receiver: what is owed, in the order that [`Pace`] gives, until each notice is taken or surely
//! never will be.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::courier::Metrics;
use super::pace::{Next, Pace};
use super::{Notifier, Receiver, Tried, masker};
use crate::incident::{Event, Notice};
use crate::store::{Delivery, Store};

/// A notice that nobody took for so long is given up: it would only confuse.
const GIVE_UP: chrono::TimeDelta = chrono::TimeDelta::days(2);
/// How many notices are read at once, beside those that are held back.
const READ: u32 = 100;
/// How often what is told again and again is remembered anew.
const REFRESH: chrono::TimeDelta = chrono::TimeDelta::days(1);
/// How long to wait for a store that does not answer.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// The delivery to one receiver.
pub(super) struct Delivering {
    pub(super) receiver: Receiver,
    pub(super) notifier: Box<dyn Notifier>,
    pub(super) store: Arc<dyn Store>,
    pub(super) metrics: Metrics,
    pub(super) wake: watch::Receiver<u64>,
    pub(super) stop: CancellationToken,
    /// What the pauses' jitter comes from.
    pub(super) seed: u64,
}

impl Delivering {
    /// Delivers until it is stopped.
    pub(super) async fn run(mut self) {
        let begun = Instant::now();
        let mut pace = Pace::new(self.seed, self.notifier.gap());
        let mut refreshed = Utc::now();
        let mut resends = self.notifier.resends_every().map(tokio::time::interval);
        loop {
            self.wake.mark_unchanged();
            let wait = self.deliver(&mut pace, begun).await;
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = tick(resends.as_mut()) => self.resend(&mut refreshed).await,
                () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {}
                changed = self.wake.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Delivers what is owed and not held back. Gives how long to wait; none: for something new.
    async fn deliver(&self, pace: &mut Pace, begun: Instant) -> Option<Duration> {
        loop {
            let limit = READ.saturating_add(u32::try_from(pace.held()).unwrap_or(u32::MAX).saturating_mul(READ));
            let mut owed = match self.store.owed(&self.receiver.name, limit).await {
                Ok(owed) => owed,
                Err(error) => {
                    tracing::error!(receiver = self.receiver.name, %error, "what is owed could not be read");
                    return Some(STORE_PAUSE);
                }
            };
            if owed.len() < limit as usize {
                pace.retain(owed.iter().map(|notice| notice.key.as_str()));
            }
            if owed.is_empty() {
                return None;
            }
            loop {
                if self.stop.is_cancelled() {
                    return None;
                }
                let next = pace.next(owed.iter().map(|notice| notice.key.as_str()), begun.elapsed());
                let at = match next {
                    Next::Try(at) => at,
                    Next::Wait(Some(wait)) => return Some(wait),
                    // All of it is done; there may be more.
                    Next::Wait(None) => break,
                };
                let Some(tried) = self.try_one(&owed[at]).await else { return Some(STORE_PAUSE) };
                let key = owed[at].key.clone();
                match tried.delivery {
                    Delivery::Sent | Delivery::Failed(_) => {
                        pace.done(&key, begun.elapsed());
                        owed.remove(at);
                    }
                    Delivery::Refused(_) | Delivery::Unsure(_) => {
                        pace.failed(&key, tried.holds_all, tried.wait, begun.elapsed());
                        // What was noted of the try belongs to the next one.
                        owed[at].repeat |= matches!(tried.delivery, Delivery::Unsure(_));
                    }
                }
            }
        }
    }

    /// One try, noted before and after; none when the store does not answer.
    async fn try_one(&self, notice: &Notice) -> Option<Tried> {
        let receiver = &self.receiver.name;
        if let Err(error) = self.store.trying(&notice.id).await {
            tracing::error!(receiver, %error, "a try could not be noted");
            return None;
        }
        let mut memo = None;
        if self.notifier.remembers() {
            match self.store.memo(receiver, &notice.key).await {
                Ok(found) => memo = found,
                Err(error) => tracing::error!(receiver, %error, "what is remembered could not be read"),
            }
        }
        let mut tried = self.notifier.notify(notice, memo.as_ref()).await;
        let too_old = Utc::now() - notice.owed_at > GIVE_UP;
        if let (true, Delivery::Refused(problem) | Delivery::Unsure(problem)) = (too_old, &tried.delivery) {
            tried.delivery = Delivery::Failed(format!("given up after two days: {problem}"));
        }
        if tried.delivery != Delivery::Sent {
            tried = tried.masked(&masker(&self.receiver));
        }
        match &tried.delivery {
            Delivery::Sent => self.metrics.sent.with_label_values(&[receiver]).inc(),
            Delivery::Failed(problem) | Delivery::Refused(problem) | Delivery::Unsure(problem) => {
                self.metrics.failed.with_label_values(&[receiver]).inc();
                tracing::warn!(receiver, notice = notice.id, problem, "a notice was not delivered");
            }
        }
        // Before it is marked: a crash in between then finds the message again instead of writing a second one.
        let forgotten = notice.event == Event::Resolved && matches!(tried.delivery, Delivery::Failed(_));
        if self.notifier.remembers() && (tried.memo.is_some() || forgotten) {
            let kept = self.store.keep_memo(receiver, &notice.key, tried.memo.as_ref(), Utc::now()).await;
            if let Err(error) = kept {
                tracing::error!(receiver, %error, "what the receiver said could not be kept");
            }
        }
        // Marked in any case; while the store is away, the same notice is not sent over and over.
        while let Err(error) = self.store.delivered(&notice.id, &tried.delivery, Utc::now()).await {
            tracing::error!(receiver, %error, "the end of a try could not be noted");
            tokio::select! {
                () = self.stop.cancelled() => return None,
                () = tokio::time::sleep(STORE_PAUSE) => {}
            }
        }
        if tried.delivery == Delivery::Sent {
            self.notifier.embellish(notice, tried.memo.as_ref().or(memo.as_ref())).await;
        }
        Some(tried)
    }

    /// Tells the receiver again of all that is remembered for it.
    async fn resend(&self, refreshed: &mut DateTime<Utc>) {
        let receiver = &self.receiver.name;
        let memos = match self.store.memos(receiver).await {
            Ok(memos) if memos.is_empty() => return,
            Ok(memos) => memos,
            Err(error) => return tracing::error!(receiver, %error, "what is remembered could not be read"),
        };
        let now = Utc::now();
        let over = self.notifier.resend(&memos, now).await;
        // The store forgets what nobody has needed for long; this is needed.
        if now - *refreshed > REFRESH {
            *refreshed = now;
            for (key, memo) in memos.iter().filter(|(key, _)| !over.contains(key)) {
                if let Err(error) = self.store.keep_memo(receiver, key, Some(memo), now).await {
                    tracing::error!(receiver, %error, "what is open could not be remembered anew");
                }
            }
        }
        for key in over {
            if let Err(error) = self.store.keep_memo(receiver, &key, None, Utc::now()).await {
                tracing::error!(receiver, %error, "what is over could not be forgotten");
            }
        }
    }
}

/// The next tick of an interval; never without one.
async fn tick(interval: Option<&mut tokio::time::Interval>) {
    match interval {
        Some(interval) => {
            interval.tick().await;
        }
        None => std::future::pending().await,
    }
}
