//! Services that a run may use.

use std::sync::Arc;

use super::baseline::BaselineStore;
use super::check;
use super::connectivity::ConnectivityMonitor;
use super::footprints::Footprints;
use super::http::Tokens;
use crate::browser;
use crate::clock::ClockWatch;
use crate::scenario::Lookup;
use crate::store::evidence::EvidenceFolder;
use crate::wire::limits::Limits;
use crate::wire::{self, tls};

/// Services that a run may use.
#[derive(Clone)]
pub struct RunServices {
    /// TLS settings shared by requests and probes.
    pub tls: tls::Trusted,
    /// Opens connections and limits where they may lead: ports of this agent are excluded by [`wire::ClosedPorts`].
    pub dialer: wire::Dialer,
    /// Limits on the resources of this process that all runs share.
    pub limits: Limits,
    /// Pool of browser sessions. `None` if no scenario may need one.
    pub browsers: Option<browser::BrowserPool>,
    /// The environment and files that scenarios may use.
    pub lookup: Arc<dyn Lookup>,
    /// Folder where evidence is stored.
    pub evidence: EvidenceFolder,
    /// Received check-ins. `None` where check-ins cannot be received.
    pub beats: Option<check::CheckIns>,
    /// Duration baselines that runs are compared with. `None` if there is no history.
    pub baseline: Option<BaselineStore>,
    /// Footprints of good runs, which failed runs are compared with. `None` if runs are not compared.
    pub footprints: Option<Footprints>,
    /// OAuth 2.0 access tokens of client credentials, reused across runs.
    pub tokens: Tokens,
    /// Connectivity check, which may show that a failure is an agent fault.
    pub line: ConnectivityMonitor,
    /// Detects that the agent was suspended. `None` if that is not monitored.
    pub clock: Option<ClockWatch>,
    /// Location this agent runs from.
    pub location: String,
}
