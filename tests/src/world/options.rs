//! What a world is made of.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use quotary_common::envelope::Mode;
use quotary_common::limits::defaults;

/// How often things happen, ms.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// One sample.
    pub sample_ms: u64,
    /// One metric window.
    pub window_ms: u64,
    /// One evidence.
    pub evidence_ms: u64,
    /// A nonce's life.
    pub nonce_ms: u64,
    /// How long trust holds.
    pub trust_ms: u64,
    /// A lease.
    pub lease_ms: u64,
    /// What is added before capacity is given on.
    pub lease_margin_ms: u64,
    /// One forecast step.
    pub forecast_step_ms: u64,
    /// A grant's size moves at most this often.
    pub resize_dwell_ms: u64,
    /// Between two evidences that requests of one uid bring forward.
    pub request_interval_ms: u64,
    /// Longest pause of an agent between two tries.
    pub retry_max_ms: u64,
}

impl Timing {
    /// Short, so that a person does not wait (wire.md, settled question 12).
    pub const QUICK: Self = Self {
        sample_ms: 1_000,
        window_ms: 1_000,
        evidence_ms: 2_000,
        nonce_ms: 6_000,
        trust_ms: 8_000,
        lease_ms: 20_000,
        lease_margin_ms: 2_000,
        forecast_step_ms: 5_000,
        resize_dwell_ms: 600_000,
        request_interval_ms: 100,
        retry_max_ms: 1_000,
    };

    /// What is shipped.
    pub const SHIPPED: Self = Self {
        sample_ms: defaults::SAMPLE_MS,
        window_ms: defaults::WINDOW_MS,
        evidence_ms: defaults::EVIDENCE_MS,
        nonce_ms: defaults::NONCE_MS,
        trust_ms: defaults::TRUST_MS,
        lease_ms: defaults::LEASE_MS,
        lease_margin_ms: defaults::LEASE_MARGIN_MS,
        forecast_step_ms: 300_000,
        resize_dwell_ms: 600_000,
        request_interval_ms: 1_000,
        retry_max_ms: 60_000,
    };
}

/// A host to be.
#[derive(Debug, Clone)]
pub struct HostOptions {
    /// Its name within the world.
    pub name: String,
    /// Inventory: CPU.
    pub cpu_millicores: u64,
    /// Inventory: memory.
    pub memory_bytes: u64,
    /// Whether its way to the verifier is a [`super::Road`] that can be turned.
    pub behind_road: bool,
}

impl HostOptions {
    /// A host with four cores and 8 GiB, with a direct way to the verifier.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), cpu_millicores: 4_000, memory_bytes: 8 << 30, behind_road: false }
    }
    /// The same host behind a road.
    #[must_use]
    pub fn behind_road(mut self) -> Self {
        self.behind_road = true;
        self
    }
}

/// An application that the verifier knows by its uid.
#[derive(Debug, Clone)]
pub struct Application {
    /// Its name.
    pub name: String,
    /// Who pays.
    pub tenant: String,
    /// Whose requests are its: any uid's if absent.
    pub uid: Option<u32>,
    /// The strongest class that it may ask for.
    pub class_best: &'static str,
}

impl Application {
    /// An application of one uid that may ask for any class.
    pub fn of_uid(name: &str, tenant: &str, uid: u32) -> Self {
        Self { name: name.to_owned(), tenant: tenant.to_owned(), uid: Some(uid), class_best: "guaranteed" }
    }
}

/// A world to be.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its hosts, enrolled when their agents are first started.
    pub hosts: Vec<HostOptions>,
    /// Which applications the verifier knows.
    pub applications: Vec<Application>,
    /// How often things happen.
    pub timing: Timing,
    /// How far agents are to go.
    pub mode: Mode,
    /// What programs log: a `tracing` filter.
    pub log: String,
    /// Lines added to the verifier's configuration, before its tables.
    pub verifier_extra: String,
    /// What the configuration says of the lowest zone, beside its name.
    pub zone_joined_extra: String,
    /// Who decides about changes from the first day on: roster and quorum rules (TOML); absent: nobody yet.
    pub authority: Option<(String, String)>,
    /// Files beside the verifier's configuration: name and text.
    pub verifier_files: Vec<(String, String)>,
    /// What ends every wait of the world when it is set, for instance by a signal.
    pub interrupted: Arc<AtomicBool>,
}

impl Options {
    /// `hosts` hosts named `host-a`, `host-b`, …, one application for everybody, quick timing, enforcing.
    pub fn quick(hosts: usize) -> Self {
        let names = ('a'..='z').take(hosts).map(|letter| HostOptions::new(&format!("host-{letter}")));
        let any =
            Application { name: "any".to_owned(), tenant: "everybody".to_owned(), uid: None, class_best: "guaranteed" };
        Self {
            hosts: names.collect(),
            applications: vec![any],
            timing: Timing::QUICK,
            mode: Mode::Enforce,
            log: "info".to_owned(),
            verifier_extra: String::new(),
            zone_joined_extra: String::new(),
            authority: None,
            verifier_files: Vec::new(),
            interrupted: Arc::default(),
        }
    }
}
