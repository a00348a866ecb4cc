//! The configuration files of a world.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use quotary_common::envelope::Mode;

use super::options::Options;
use super::site_ca::SiteCa;

/// The best zone: it asks for an EK certificate, which the site CA has given.
pub const ZONE_MEASURED: &str = "measured";
/// The zone of hosts that nobody certified.
pub const ZONE_JOINED: &str = "joined";

/// The verifier's configuration.
pub(super) fn verifier_toml(options: &Options, ca: &SiteCa, data_dir: &Path, listen: SocketAddr) -> String {
    let t = &options.timing;
    let mut text = format!(
        "name = \"verifier\"\ndata_dir = {data_dir:?}\nlisten = \"{listen}\"\nurl = \"https://{listen}\"\n{extra}\n\
         [timing]\nwindow_ms = {}\nevidence_ms = {}\nnonce_ms = {}\ntrust_ms = {}\nlease_ms = {}\n\
         lease_margin_ms = {}\nforecast_step_ms = {}\nresize_dwell_ms = {}\n\
         [[ek_authority]]\nfile = {ca:?}\ntpm = \"software\"\n\
         [[zone]]\nname = \"{ZONE_MEASURED}\"\nrequire_ek_certificate = true\n[[zone]]\nname = \"{ZONE_JOINED}\"\n{joined}\n",
        t.window_ms,
        t.evidence_ms,
        t.nonce_ms,
        t.trust_ms,
        t.lease_ms,
        t.lease_margin_ms,
        t.forecast_step_ms,
        t.resize_dwell_ms,
        extra = options.verifier_extra,
        ca = ca.bundle(),
        joined = options.zone_joined_extra,
    );
    let mut tenants: Vec<&str> = options.applications.iter().map(|application| application.tenant.as_str()).collect();
    tenants.sort_unstable();
    tenants.dedup();
    for tenant in tenants {
        let _ = writeln!(text, "[[tenant]]\nname = \"{tenant}\"");
    }
    for application in &options.applications {
        let super::Application { name, tenant, uid, class_best } = application;
        let _ =
            writeln!(text, "[[application]]\nname = \"{name}\"\ntenant = \"{tenant}\"\nclass_best = \"{class_best}\"");
        if let Some(uid) = uid {
            let _ = writeln!(text, "uid = {uid}");
        }
    }
    text
}

/// What an agent's configuration says beside the options.
#[derive(Debug)]
pub(super) struct AgentPlace<'a> {
    pub(super) state_dir: &'a Path,
    pub(super) runtime_dir: &'a Path,
    pub(super) join_token: &'a Path,
    pub(super) cgroup: &'a str,
}

/// An agent's configuration.
pub(super) fn agent_toml(options: &Options, ca: &SiteCa, place: &AgentPlace<'_>) -> String {
    let AgentPlace { state_dir, runtime_dir, join_token, cgroup } = place;
    let mode = match options.mode {
        Mode::Observe => "observe",
        Mode::DryRun => "dry-run",
        Mode::Enforce => "enforce",
    };
    let t = &options.timing;
    format!(
        "state_dir = {state_dir:?}\nruntime_dir = {runtime_dir:?}\njoin_token_file = {join_token:?}\n\
         mode = \"{mode}\"\nsample_ms = {}\nwindow_ms = {}\nevidence_ms = {}\n\
         request_evidence_min_interval_ms = {}\nretry_max_ms = {}\ndelegated_parent = \"{cgroup}\"\nlog = \"{}\"\n\
         [tpm]\naccess = \"software\"\nsoftware_setup_config = {:?}\n",
        t.sample_ms,
        t.window_ms,
        t.evidence_ms,
        t.request_interval_ms,
        t.retry_max_ms,
        options.log,
        ca.setup_config(),
    )
}

/// First and last port that are tried: below those that the kernel gives to outgoing connections.
const PORTS: (u16, u16) = (20_000, 32_000);

/// An address on this machine that nobody listens on. It stays free unless somebody else chooses the same.
///
/// # Errors
/// When the source of randomness fails, or no port is free.
pub fn free_address() -> Result<SocketAddr> {
    use ring::rand::SecureRandom as _;
    let random = ring::rand::SystemRandom::new();
    for _ in 0..200 {
        let mut bytes = [0; 2];
        random.fill(&mut bytes).ok().context("the source of randomness failed")?;
        let port = PORTS.0 + u16::from_be_bytes(bytes) % (PORTS.1 - PORTS.0);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    bail!("no free port between {} and {}", PORTS.0, PORTS.1)
}
