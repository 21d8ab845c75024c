//! Expectations on events of the pages: console, requests, downloads.

use crate::bounded;
use crate::names::Reason;
use crate::outcome::Failure;
use crate::scenario::{PageFact, SentRequest};
use crate::values::Values;
use crate::values::expect::{Actual, ResolvedMatcher, cut};

use super::event_tracker::EventTracker;
use super::observe::{Download, DownloadStatus, Observed};

/// Maximum number of findings that are listed; the first ones.
const NAMED: usize = 5;

/// Maximum size of a download whose content is checked, in bytes.
const LARGEST: u64 = 64 << 20;

/// An expectation with resolved names.
pub(super) enum EventExpectation {
    /// No errors on the console.
    Console,
    /// No failed requests except the ones that match this list.
    Requests(Vec<Sent>),
    /// A request was sent and got a response.
    Request(Sent),
    /// A file was downloaded.
    Download { name: Option<ResolvedMatcher>, size: Option<ResolvedMatcher>, contains: Option<String> },
}

impl EventExpectation {
    /// Creates the expectation. Returns `None` if the fact concerns the page itself.
    pub(super) fn new(fact: &PageFact, values: &Values) -> Result<Option<Self>, Failure> {
        let filled = |matcher: &Option<_>| matcher.as_ref().map(|one| ResolvedMatcher::new(one, values)).transpose();
        Ok(Some(match fact {
            PageFact::Console => Self::Console,
            PageFact::Requests { except } => {
                Self::Requests(except.iter().map(|one| Sent::new(one, values)).collect::<Result<_, _>>()?)
            }
            PageFact::Request(sent) => Self::Request(Sent::new(sent, values)?),
            PageFact::Download { name, size, contains } => Self::Download {
                name: filled(name)?,
                size: filled(size)?,
                contains: contains.as_ref().map(|text| values.fill(text)).transpose()?,
            },
            _ => return Ok(None),
        }))
    }

    /// Checks whether the expectation holds now.
    pub(super) fn check(&self, watch: &EventTracker) -> Result<(), Failure> {
        match self {
            Self::Console => none_of(Reason::Console, "errors on the console", &watch.observed().console_errors()),
            Self::Requests(except) => {
                let mut failed = watch.observed().failed_requests();
                failed.retain(|one| !except.iter().any(|may| may.fits(&one.method, &one.url, one.status)));
                none_of(Reason::Requests, "failed requests", &failed)
            }
            Self::Request(sent) => sent.was_sent(&watch.observed()),
            Self::Download { name, size, contains } => {
                download(watch, name.as_ref(), size.as_ref(), contains.as_deref())
            }
        }
    }
}

/// Conditions on a request with resolved names.
pub(super) struct Sent {
    method: Option<String>,
    url: Option<ResolvedMatcher>,
    status: Option<ResolvedMatcher>,
}

impl Sent {
    fn new(sent: &SentRequest, values: &Values) -> Result<Self, Failure> {
        let filled = |matcher: &Option<_>| matcher.as_ref().map(|one| ResolvedMatcher::new(one, values)).transpose();
        Ok(Self { method: sent.method.clone(), url: filled(&sent.url)?, status: filled(&sent.status)? })
    }

    fn is_to(&self, method: &str, url: &str) -> bool {
        self.method.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(method))
            && self.url.as_ref().is_none_or(|wanted| wanted.holds(&Actual::text(url)))
    }

    fn fits(&self, method: &str, url: &str, status: Option<u16>) -> bool {
        let seen = status.map_or(Actual::Nothing, |status| Actual::One(status.into()));
        self.is_to(method, url) && self.status.as_ref().is_none_or(|wanted| wanted.holds(&seen))
    }

    /// Fails unless a page has sent the request and got the expected status, or one below 400 if there is no
    /// expectation.
    fn was_sent(&self, observed: &Observed) -> Result<(), Failure> {
        let good = |status: Option<u16>| self.status.is_some() || status.is_some_and(|status| status < 400);
        let mut seen = Vec::new();
        for one in observed.asked() {
            if self.fits(one.method, one.url, one.status) && good(one.status) {
                return Ok(());
            }
            if self.is_to(one.method, one.url) {
                let answer = one.status.map_or_else(|| "no response".into(), |status| format!("status {status}"));
                seen.push(format!("{} {}: {answer}", one.method, cut(one.url, 200)));
            }
        }
        let mut expected: Vec<String> = self.method.iter().cloned().collect();
        expected.extend(self.url.as_ref().map(|url| format!("to {}", url.show())));
        expected.push(
            self.status
                .as_ref()
                .map_or_else(|| "a status below 400".into(), |status| format!("status {}", status.show())),
        );
        let (message, seen) = if seen.is_empty() {
            ("no such request was sent", "none".to_owned())
        } else {
            ("the response of the request does not match", seen[seen.len().saturating_sub(NAMED)..].join("; "))
        };
        Err(Failure::new(Reason::Assertion, message).compared(expected.join(" "), seen))
    }
}

fn none_of<T: std::fmt::Display>(reason: Reason, what: &str, found: &[T]) -> Result<(), Failure> {
    if found.is_empty() {
        return Ok(());
    }
    let mut shown: Vec<String> = found.iter().take(NAMED).map(ToString::to_string).collect();
    if found.len() > NAMED {
        shown.push(format!("and {} more", found.len() - NAMED));
    }
    Err(Failure::new(reason, format!("{} {what}", found.len())).compared("none", shown.join("; ")))
}

fn download(
    watch: &EventTracker,
    name: Option<&ResolvedMatcher>,
    size: Option<&ResolvedMatcher>,
    contains: Option<&str>,
) -> Result<(), Failure> {
    // Files are read only after the lock is released, so that events are not delayed.
    let all: Vec<Arrived> = {
        let observed = watch.observed();
        let answer = |one: &Download| observed.asked().filter(|asked| asked.url == one.url).last()?.status;
        observed.downloads().iter().map(|one| Arrived { one: one.clone(), status: answer(one) }).collect()
    };
    let mut seen = Vec::new();
    for Arrived { one, status } in &all {
        match fits(watch, one, *status, name, size, contains) {
            Ok(()) => return Ok(()),
            Err(failure) if failure.reason == Reason::Configuration => return Err(failure),
            Err(failure) => seen.push(format!("{} ({})", cut(&one.name, 100), failure.message)),
        }
    }
    let mut expected = Vec::new();
    expected.extend(name.map(|name| format!("name {}", name.show())));
    expected.extend(size.map(|size| format!("size {}", size.show())));
    expected.extend(contains.map(|text| format!("content with {}", Actual::text(text).show())));
    let expected = if expected.is_empty() { "a file".into() } else { format!("a file: {}", expected.join(", ")) };
    let seen = if seen.is_empty() { "none".into() } else { seen.join("; ") };
    Err(Failure::new(Reason::Download, "no such file was downloaded").compared(expected, seen))
}

/// A download with the status of its response.
struct Arrived {
    one: Download,
    status: Option<u16>,
}

fn fits(
    watch: &EventTracker,
    one: &Download,
    status: Option<u16>,
    name: Option<&ResolvedMatcher>,
    size: Option<&ResolvedMatcher>,
    contains: Option<&str>,
) -> Result<(), Failure> {
    let not = |why: &str| Err(Failure::new(Reason::Download, why));
    if name.is_some_and(|name| !name.holds(&Actual::text(&one.name))) {
        return not("another name");
    }
    if let Some(status) = status.filter(|status| *status >= 400) {
        return not(&format!("its request returned status {status}"));
    }
    match one.status {
        DownloadStatus::Complete => {}
        DownloadStatus::Canceled => return not("it was cancelled"),
        DownloadStatus::InProgress => return not("it is still in progress"),
    }
    if size.is_none() && contains.is_none() {
        return Ok(());
    }
    let file = watch.file_of(one).and_then(|path| Some((std::fs::metadata(&path).ok()?.len(), path)));
    let Some((bytes, path)) = file else {
        return Err(Failure::new(
            Reason::Configuration,
            "size and content of a download can only be seen where the browser runs on the agent's machine",
        ));
    };
    if size.is_some_and(|size| !size.holds(&Actual::One(bytes.into()))) {
        return not(&format!("it has {bytes} bytes"));
    }
    let Some(text) = contains else { return Ok(()) };
    if bytes > LARGEST {
        return not("it is too large to be checked");
    }
    let content = bounded::read(&path, LARGEST).unwrap_or_default();
    if String::from_utf8_lossy(&content).contains(text) { Ok(()) } else { not("other content") }
}
