//! Users: names, bcrypt hashes, and the verification of passwords.
//!
//! Verifying a hash is deliberately slow and takes tens of milliseconds of a core. Therefore one password is verified
//! at a time, on a separate thread. After a wrong password, the next verification is delayed by four times the duration
//! of the last one, which leaves four fifths of that core to runs even under attack. The number of waiting
//! verifications is limited, in total and per address. Correct passwords are cached, so that a client with frequent
//! requests costs only a digest.
//!
//! A request with an unknown user name takes as long as one with a known name: its password is verified against the
//! hash of another user, selected by the name, so that differences in cost between hashes reveal nothing either.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// Maximum cost of a hash: each increment doubles the duration of a verification, and at this value it takes some
/// seconds.
const MAX_COST: u32 = 16;
/// Maximum number of passwords waiting for verification.
const MAX_WAITING: usize = 32;
/// Maximum number of passwords of one address waiting for verification.
const MAX_WAITING_OF_ADDRESS: usize = 4;
/// Maximum number of correct passwords in the cache.
const MAX_REMEMBERED: usize = 256;
/// Factor of the delay after a wrong password, relative to the duration of its verification.
const REST_AFTER_WRONG: u32 = 4;

/// Result of checking the credentials of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// No users are configured: every request is accepted.
    Open,
    /// The request contains the name and the password of a user.
    User,
    /// The request contains no credentials, or wrong ones.
    Denied,
    /// Too many passwords are being verified.
    Busy,
}

/// Password hashes of the users, by name.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Users(BTreeMap<String, String>);

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Users {
    /// Adds a user. The error describes the problem of the hash.
    pub(super) fn add(&mut self, name: &str, hash: &str) -> Result<(), String> {
        // `$2x$` marks hashes of an incorrect implementation.
        let is_known = ["$2a$", "$2b$", "$2y$"].iter().any(|prefix| hash.starts_with(prefix));
        let parts: bcrypt::HashParts = match hash.parse() {
            Ok(parts) if is_known => parts,
            _ => return Err(format!("the password of `{name}` is not a bcrypt hash")),
        };
        let cost = parts.get_cost();
        if !(4..=MAX_COST).contains(&cost) {
            return Err(format!("the cost of this hash is {cost}; it must be from 4 to {MAX_COST}"));
        }
        self.0.insert(name.to_owned(), hash.to_owned());
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the hash to verify a password against, and whether it belongs to the user.
    fn hash_for(&self, name: &str) -> (&str, bool) {
        if let Some(hash) = self.0.get(name) {
            return (hash, true);
        }
        let digest = Sha256::digest(name.as_bytes());
        let at = usize::from(digest[0]) % self.0.len().max(1);
        (self.0.values().nth(at).map_or("", String::as_str), false)
    }
}

/// Verifier of passwords. Clones share the cache and the waiting verifications.
#[derive(Clone)]
pub(super) struct Gatekeeper(Arc<Shared>);

struct Shared {
    /// Random value that makes the digests useless outside this process.
    salt: [u8; 16],
    state: Mutex<State>,
    /// Permit for the verification in progress.
    turn: Arc<Semaphore>,
}

#[derive(Default)]
struct State {
    /// Digests of correct combinations of name, hash and password, oldest first.
    remembered: VecDeque<[u8; 32]>,
    waiting: HashMap<IpAddr, usize>,
}

impl Default for Gatekeeper {
    fn default() -> Self {
        let mut salt = [0; 16];
        // Without randomness the process could not use TLS either.
        let _ = rustls::crypto::ring::default_provider().secure_random.fill(&mut salt);
        Self(Arc::new(Shared { salt, state: Mutex::default(), turn: Arc::new(Semaphore::new(1)) }))
    }
}

impl fmt::Debug for Gatekeeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gatekeeper")
    }
}

impl Gatekeeper {
    /// Checks the credentials of a request.
    pub(super) async fn admit(&self, users: &Users, headers: &HeaderMap, peer: IpAddr) -> Admission {
        let Some((name, password)) = credentials(headers) else { return Admission::Denied };
        let (hash, is_own) = users.hash_for(&name);
        let digest = self.0.digest([&name, hash, &password]);
        if is_own && self.0.state().remembered.contains(&digest) {
            return Admission::User;
        }
        let Some(waiting) = Waiting::begin(&self.0, peer) else { return Admission::Busy };
        let Ok(turn) = Arc::clone(&self.0.turn).acquire_owned().await else { return Admission::Busy };
        // Concurrent requests with the same credentials need only one verification.
        if is_own && self.0.state().remembered.contains(&digest) {
            return Admission::User;
        }
        let (done, verified) = oneshot::channel();
        // The verification continues without the client, so that disconnecting does not shorten the delay after a wrong
        // password.
        tokio::spawn(verify(
            Arc::clone(&self.0),
            turn,
            Candidate { password, hash: hash.to_owned(), is_own, digest },
            done,
        ));
        drop(waiting);
        if verified.await.unwrap_or(false) { Admission::User } else { Admission::Denied }
    }
}

/// Password and the hash to verify it against.
struct Candidate {
    password: String,
    hash: String,
    is_own: bool,
    digest: [u8; 32],
}

/// Verifies a password on a separate thread, and releases the permit after a delay if the password is wrong.
async fn verify(shared: Arc<Shared>, turn: OwnedSemaphorePermit, candidate: Candidate, done: oneshot::Sender<bool>) {
    let Candidate { password, hash, is_own, digest } = candidate;
    let verified = tokio::task::spawn_blocking(move || {
        let began = std::time::Instant::now();
        (bcrypt::verify(password.as_bytes(), &hash).unwrap_or(false) && is_own, began.elapsed())
    });
    let (is_right, took) = verified.await.unwrap_or_default();
    if is_right {
        shared.remember(digest);
    }
    let _ = done.send(is_right);
    if !is_right {
        tokio::time::sleep(took * REST_AFTER_WRONG).await;
    }
    drop(turn);
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn digest(&self, parts: [&str; 3]) -> [u8; 32] {
        let mut digest = Sha256::new();
        digest.update(self.salt);
        for part in parts {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        digest.finalize().into()
    }

    fn remember(&self, digest: [u8; 32]) {
        let mut state = self.state();
        if !state.remembered.contains(&digest) {
            if state.remembered.len() >= MAX_REMEMBERED {
                state.remembered.pop_front();
            }
            state.remembered.push_back(digest);
        }
    }
}

/// Password waiting for verification.
struct Waiting {
    shared: Arc<Shared>,
    peer: IpAddr,
}

impl Waiting {
    /// Reserves a place among the waiting verifications. Returns `None` if there are too many.
    fn begin(shared: &Arc<Shared>, peer: IpAddr) -> Option<Self> {
        let mut state = shared.state();
        let all: usize = state.waiting.values().sum();
        let own = state.waiting.entry(peer).or_default();
        if all >= MAX_WAITING || *own >= MAX_WAITING_OF_ADDRESS {
            if *own == 0 {
                state.waiting.remove(&peer);
            }
            return None;
        }
        *own += 1;
        Some(Self { shared: Arc::clone(shared), peer })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        if let Some(own) = state.waiting.get_mut(&self.peer) {
            *own -= 1;
            if *own == 0 {
                state.waiting.remove(&self.peer);
            }
        }
    }
}

/// Returns the name and password of `Authorization: Basic` (RFC 7617).
fn credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, rest) = value.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?;
    let (name, password) = text.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn users(all: &[(&str, &str)]) -> Users {
        let mut users = Users::default();
        for (name, password) in all {
            users.add(name, &bcrypt::hash(password, 4).unwrap()).unwrap();
        }
        users
    }

    fn headers(name: &str, password: &str) -> HeaderMap {
        let value = format!("Basic {}", STANDARD.encode(format!("{name}:{password}")));
        HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_str(&value).unwrap())])
    }

    #[test]
    fn hashes_are_those_of_bcrypt_at_a_cost_that_ends() {
        let mut users = Users::default();
        // One of the test vectors of the original implementation.
        let hash = "$2a$06$DCq7YPn5Rq63x1Lad4cll.TV4S6ytwfsfvkgY8jIucDrjc8deX1s.";
        for prefix in ["$2a$", "$2b$", "$2y$"] {
            assert_eq!(users.add("alice", &hash.replacen("$2a$", prefix, 1)), Ok(()));
        }
        assert!(bcrypt::verify("", users.hash_for("alice").0).unwrap());
        for (wrong, why) in [
            ("hunter2", "the password of `bob` is not a bcrypt hash"),
            ("", "the password of `bob` is not a bcrypt hash"),
            (&hash.replacen("$2a$", "$2x$", 1), "the password of `bob` is not a bcrypt hash"),
            (&hash[..59], "the password of `bob` is not a bcrypt hash"),
            (&hash.replacen("$06$", "$03$", 1), "the cost of this hash is 3; it must be from 4 to 16"),
            (&hash.replacen("$06$", "$31$", 1), "the cost of this hash is 31; it must be from 4 to 16"),
        ] {
            assert_eq!(users.add("bob", wrong), Err(why.into()), "{wrong}");
        }
        assert_eq!(format!("{users:?}"), "{\"alice\"}");
    }

    #[tokio::test]
    async fn unknown_names_are_held_against_a_hash_and_never_let_in() {
        let users = users(&[("alice", "open sesame"), ("bob", "other words")]);
        let gatekeeper = Gatekeeper::default();
        for name in ["mallory", "", "Alice", "alice ", "trent", "peggy", "victor", "walter"] {
            let (hash, is_own) = users.hash_for(name);
            assert!(hash.starts_with("$2b$04$") && !is_own, "{name}");
            for password in ["open sesame", "other words"] {
                assert_eq!(gatekeeper.admit(&users, &headers(name, password), HERE).await, Admission::Denied, "{name}");
            }
        }
        assert!(gatekeeper.0.state().remembered.is_empty());
        // The hash is always the same for one name, and not the same for all names.
        let chosen = |name: &str| users.hash_for(name).0.to_owned();
        assert_eq!(chosen("mallory"), chosen("mallory"));
        let all: std::collections::BTreeSet<String> = (0..64).map(|number| chosen(&number.to_string())).collect();
        assert_eq!(all.len(), 2);
    }

    #[tokio::test]
    async fn a_flood_of_passwords_waits_and_known_ones_do_not() {
        let users = users(&[("alice", "open sesame"), ("bob", "other words")]);
        let gatekeeper = Gatekeeper::default();
        assert_eq!(gatekeeper.admit(&users, &headers("alice", "open sesame"), HERE).await, Admission::User);
        // The password of another user is being verified all the time.
        let turn = Arc::clone(&gatekeeper.0.turn).acquire_owned().await.unwrap();
        let spawn = |name: &'static str, password: String, peer: IpAddr| {
            let (gatekeeper, users) = (gatekeeper.clone(), users.clone());
            tokio::spawn(async move { gatekeeper.admit(&users, &headers(name, &password), peer).await })
        };
        let mut waiting: Vec<_> =
            (0..MAX_WAITING_OF_ADDRESS).map(|number| spawn("bob", format!("wrong {number}"), HERE)).collect();
        let counted = || gatekeeper.0.state().waiting.values().sum::<usize>();
        while counted() < MAX_WAITING_OF_ADDRESS {
            tokio::task::yield_now().await;
        }
        assert_eq!(gatekeeper.admit(&users, &headers("bob", "wrong"), HERE).await, Admission::Busy);
        assert_eq!(gatekeeper.admit(&users, &headers("alice", "open sesame"), HERE).await, Admission::User);
        // Other addresses have separate places, but not without limit.
        for last in 1..=u8::MAX {
            waiting.push(spawn("bob", "other words".into(), IpAddr::from([192, 0, 2, last])));
        }
        while waiting.iter().filter(|task| task.is_finished()).count() < waiting.len() - MAX_WAITING {
            tokio::task::yield_now().await;
        }
        assert_eq!(counted(), MAX_WAITING);
        drop(turn);
        let mut ends = HashMap::<String, usize>::new();
        for task in waiting {
            *ends.entry(format!("{:?}", task.await.unwrap())).or_default() += 1;
        }
        let places = MAX_WAITING - MAX_WAITING_OF_ADDRESS;
        assert_eq!((ends["Denied"], ends["User"], ends["Busy"]), (MAX_WAITING_OF_ADDRESS, places, 255 - places));
        assert!(gatekeeper.0.state().waiting.is_empty());
        // A disconnected client no longer waits, but its verification still causes the delay.
        let turn = Arc::clone(&gatekeeper.0.turn).acquire_owned().await.unwrap();
        let gone = spawn("bob", "wrong".into(), HERE);
        while counted() == 0 {
            tokio::task::yield_now().await;
        }
        gone.abort();
        let _ = gone.await;
        assert_eq!(counted(), 0);
        drop(turn);
    }

    #[tokio::test]
    async fn what_is_remembered_is_bounded_and_ends_with_the_hash() {
        let gatekeeper = Gatekeeper::default();
        for number in 0..=MAX_REMEMBERED {
            gatekeeper.0.remember(
                [u8::try_from(number % 251).unwrap(), u8::try_from(number / 251).unwrap()]
                    .repeat(16)
                    .try_into()
                    .unwrap(),
            );
        }
        assert_eq!(gatekeeper.0.state().remembered.len(), MAX_REMEMBERED);
        let before = users(&[("alice", "open sesame")]);
        let after = users(&[("alice", "new words")]);
        assert_eq!(gatekeeper.admit(&before, &headers("alice", "open sesame"), HERE).await, Admission::User);
        assert_eq!(gatekeeper.admit(&after, &headers("alice", "open sesame"), HERE).await, Admission::Denied);
    }
}
