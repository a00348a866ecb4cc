//! Every bound of the forms, in one place, so that a reader sees how they relate.
//!
//! A form that is larger, longer or deeper than these is refused before it is parsed.

/// Largest envelope in bytes (wire.md, Forms).
pub const ENVELOPE_BYTES_MAX: usize = 256 * 1024;
/// Largest boot event log that evidence carries, in bytes (real ones have 30 to 80 KiB).
pub const BOOT_LOG_BYTES_MAX: usize = 256 * 1024;
/// Largest part of an IMA list that one evidence carries, in bytes; a longer list takes several.
pub const IMA_INCREMENT_BYTES_MAX: usize = 256 * 1024;
/// Largest measure log that evidence carries, in bytes: systemd writes some tens of records of under 1 KiB per boot.
pub const MEASURE_LOG_BYTES_MAX: usize = 128 * 1024;
/// Largest evidence in bytes: an envelope, a quote, its signature, PCR values, and logs.
pub const EVIDENCE_BYTES_MAX: usize =
    ENVELOPE_BYTES_MAX + 16 * 1024 + BOOT_LOG_BYTES_MAX + IMA_INCREMENT_BYTES_MAX + MEASURE_LOG_BYTES_MAX;
/// Most applications in one envelope.
pub const APPLICATIONS_MAX: usize = 512;
/// Most metric windows of the host, or of one application, in one envelope.
pub const WINDOWS_MAX: usize = 512;
/// Most events in one envelope.
pub const EVENTS_MAX: usize = 512;
/// Most enforcement writes in one envelope.
pub const WRITES_MAX: usize = 1024;
/// Most pending requests in one envelope.
pub const REQUESTS_MAX: usize = 256;
/// Most controllers named in one envelope.
pub const CONTROLLERS_MAX: usize = 32;
/// Longest cgroup path, in bytes (the kernel's `PATH_MAX` is 4096; deeper trees are not reported).
pub const CGROUP_PATH_BYTES_MAX: usize = 512;
/// Longest name (unit, label, application, tenant, zone, device), in bytes.
pub const NAME_BYTES_MAX: usize = 128;
/// Longest kernel control value kept as text, in bytes.
pub const CONTROL_VALUE_BYTES_MAX: usize = 128;
/// Longest explanation sent beside a reason code, in bytes.
pub const DETAIL_BYTES_MAX: usize = 512;

/// Largest `TPMS_ATTEST` accepted, in bytes (a quote of 24 PCRs in one bank is under 200).
pub const ATTEST_BYTES_MAX: usize = 1024;
/// Largest `TPMT_SIGNATURE` accepted, in bytes (RSA-4096 needs 518).
pub const SIGNATURE_BYTES_MAX: usize = 1024;
/// Largest `TPMT_PUBLIC` accepted, in bytes.
pub const TPM_PUBLIC_BYTES_MAX: usize = 1024;
/// Most PCR banks in one selection (`TPML_PCR_SELECTION`, implementation limit 16).
pub const PCR_BANKS_MAX: usize = 16;
/// Most PCRs of a TPM (PC Client profile).
pub const PCR_COUNT: usize = 24;
/// Most certificates in an EK chain.
pub const EK_CHAIN_MAX: usize = 8;
/// Largest certificate in bytes.
pub const CERTIFICATE_BYTES_MAX: usize = 8 * 1024;

/// Most grants in one grant set.
pub const GRANTS_MAX: usize = APPLICATIONS_MAX;
/// Most plans of one host.
pub const PLANS_MAX: usize = 512;
/// Most controls that one plan moves.
pub const COURSES_MAX: usize = 16;
/// Most setpoints of one control in one plan.
pub const SETPOINTS_MAX: usize = 4096;
/// Largest signed grant set or plan in bytes.
pub const SIGNED_BYTES_MAX: usize = 512 * 1024;

/// Largest policy, roster or rules document, in bytes.
pub const DOCUMENT_BYTES_MAX: usize = 48 * 1024;
/// Most faults told of one document; what follows is counted only.
pub const FAULTS_MAX: usize = 100;
/// Largest amount that a document may state, in any unit: a 63-bit whole number, as TOML has them.
pub const DOCUMENT_AMOUNT_MAX: u64 = i64::MAX.unsigned_abs();

/// Most names in one list of a policy, and most labels in its selector.
pub const POLICY_NAMES_MAX: usize = 64;
/// Most thresholds of one policy.
pub const POLICY_THRESHOLDS_MAX: usize = 32;
/// Most stages of one policy's roll-out.
pub const POLICY_ROLLOUT_STAGES_MAX: usize = 16;

/// Largest change text, in bytes: a document, what it covers, and its frame.
pub const CHANGE_BYTES_MAX: usize = 64 * 1024;
/// Most lines of a change text before its document.
pub const CHANGE_LINES_MAX: usize = 512;
/// Longest line of a change text before its document, in bytes.
pub const CHANGE_LINE_BYTES_MAX: usize = 2048;
/// Most targets that one change covers.
pub const COVERS_MAX: usize = 256;
/// Most provisioning inputs that one change names.
pub const INPUTS_MAX: usize = 64;
/// Most people of a roster.
pub const PEOPLE_MAX: usize = 256;
/// Most keys of one person.
pub const KEYS_MAX: usize = 8;
/// Most roles of one person, or in one list of a rule.
pub const ROLES_MAX: usize = 16;
/// Longest name of a person or a role, in bytes.
pub const PERSON_BYTES_MAX: usize = 64;
/// Longest SSH public key as text, in bytes (RSA of 8192 bits takes 1400).
pub const SSH_KEY_BYTES_MAX: usize = 2048;
/// Largest SSH signature, in bytes without its armour: it brings its key along (RSA of 8192 bits: 2.2 KiB).
pub const SSH_SIGNATURE_BYTES_MAX: usize = 3 * 1024;
/// Most approvals that a rule may ask for.
pub const APPROVALS_MAX: u64 = 16;
/// Most steps of escalation of one rule.
pub const ESCALATIONS_MAX: usize = 8;
/// Longest time that a rule may name, seconds: a year.
pub const RULE_SECONDS_MAX: u64 = 366 * 24 * 3_600;
/// Most votes kept of one change, those for its earlier texts included.
pub const BALLOT_VOTES_MAX: usize = 512;
/// Most votes that one key may cast of the same kind on the same text: a security key's every signature is another one.
pub const VOTES_OF_KEY_MAX: usize = 4;
/// Most votes that one person may cast of the same kind on the same text, with all keys together.
pub const VOTES_OF_PERSON_MAX: usize = 8;
/// Most votes that travel with one decision.
pub const DECISION_VOTES_MAX: usize = 64;
/// Largest quorum decision that travels in a plan, in bytes.
pub const DECISION_BYTES_MAX: usize =
    CHANGE_BYTES_MAX + 4 * DOCUMENT_BYTES_MAX + DECISION_VOTES_MAX * (SSH_SIGNATURE_BYTES_MAX / 4) + 4 * 1024;
/// Most signature checks that are remembered.
pub const SIGNATURE_CACHE_MAX: usize = 8_192;

/// Largest leaf in bytes: a C2SP entry bundle prefixes each entry with a 16-bit length.
pub const LEAF_BYTES_MAX: usize = 65_535;
/// Most verdicts that share one batch leaf; each takes under 120 bytes.
pub const BATCH_VERDICTS_MAX: usize = 256;
/// Most reason codes in one leaf or reply.
pub const REASONS_MAX: usize = 32;

/// Most changes of roster and rules since genesis: a host that is new walks them all.
pub const LINKS_MAX: usize = 1_024;

/// Most policies in force: a host keeps what may reach it, and has room for as much again that is to come.
pub const POLICIES_MAX: usize = 256;
/// Most quorum decisions that a host keeps: of each policy that may reach it the one in force, and those to come.
pub const DECISIONS_KEPT_MAX: usize = 512;
/// Most bytes that they take together: some hundred with the rosters and rules that come with them.
pub const DECISIONS_KEPT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Longest body of a request that proposes a change: a document as JSON, with what is escaped in it.
pub const CHANGE_BODY_BYTES_MAX: usize = 2 * DOCUMENT_BYTES_MAX + 65_536;

/// Largest request body on the verifier's routes, in bytes (base64 of the largest evidence, and its frame).
pub const HTTP_BODY_BYTES_MAX: usize = EVIDENCE_BYTES_MAX * 4 / 3 + 4 * 1024;
/// Largest body of a dry run of zones, which brings its allow-lists along, in bytes.
pub const ZONE_CHECK_BODY_BYTES_MAX: usize = 32 * 1024 * 1024;
/// A model's ONNX file, bytes; it comes as base64, with its manifest.
pub const MODEL_BYTES_MAX: usize = 5 * 1024 * 1024;
/// A model's manifest, bytes.
pub const MANIFEST_BYTES_MAX: usize = 256 * 1024;
/// The body that brings a model, bytes.
pub const MODEL_BODY_BYTES_MAX: usize = (MODEL_BYTES_MAX + MANIFEST_BYTES_MAX) * 4 / 3 + 4 * 1024;
/// Largest request body on the local socket, in bytes.
pub const SOCKET_BODY_BYTES_MAX: usize = 16 * 1024;

/// How long a gauge that an application states stands, ms: one default window. Then it is a gap.
pub const GAUGE_HOLD_MS: u64 = 15_000;
/// An application's statements of gauges may follow each other at this pace in the long run, ms: one each sample.
pub const GAUGE_PACE_MS: u64 = 1_000;
/// So many of them may come at once.
pub const GAUGE_BURST: u64 = 5;

/// Longest lease, ms: a day. A verifier that is gone, or lies, holds a limit no longer.
pub const LEASE_MS_MAX: u64 = 24 * 3_600 * 1_000;

/// Defaults of the timing (design §2); configuration may change them within the same inequalities.
pub mod defaults {
    /// One sample, ms.
    pub const SAMPLE_MS: u64 = 1_000;
    /// One metric window, ms.
    pub const WINDOW_MS: u64 = 15_000;
    /// One evidence, ms.
    pub const EVIDENCE_MS: u64 = 30_000;
    /// A nonce's life, ms.
    pub const NONCE_MS: u64 = 90_000;
    /// How long a host's trust holds after its last accepted evidence, ms.
    pub const TRUST_MS: u64 = 120_000;
    /// A lease, ms.
    pub const LEASE_MS: u64 = 300_000;
    /// What the verifier adds to a lease before it gives the capacity to another, ms.
    pub const LEASE_MARGIN_MS: u64 = 15_000;

    const _: () = assert!(SAMPLE_MS <= WINDOW_MS && WINDOW_MS <= EVIDENCE_MS);
    const _: () = assert!(EVIDENCE_MS < NONCE_MS && NONCE_MS < TRUST_MS && TRUST_MS < LEASE_MS);
    const _: () = assert!(LEASE_MARGIN_MS < LEASE_MS && LEASE_MS <= super::LEASE_MS_MAX);
}

const _: () = assert!(GAUGE_PACE_MS * GAUGE_BURST < GAUGE_HOLD_MS);
const _: () = assert!(BATCH_VERDICTS_MAX * 120 < LEAF_BYTES_MAX);
const _: () = assert!(ENVELOPE_BYTES_MAX < EVIDENCE_BYTES_MAX && EVIDENCE_BYTES_MAX < HTTP_BODY_BYTES_MAX);
const _: () = assert!(DOCUMENT_BYTES_MAX + 8 * CHANGE_LINE_BYTES_MAX <= CHANGE_BYTES_MAX);
const _: () = assert!(CHANGE_BYTES_MAX < LEAF_BYTES_MAX + 2 && DECISION_BYTES_MAX + 128 * 1024 < SIGNED_BYTES_MAX);
const _: () = assert!(COVERS_MAX + INPUTS_MAX + 32 < CHANGE_LINES_MAX && DECISION_VOTES_MAX <= BALLOT_VOTES_MAX);
const _: () = assert!(
    PLANS_MAX <= DECISIONS_KEPT_MAX
        && 2 * POLICIES_MAX <= DECISIONS_KEPT_MAX
        && 32 * DECISION_BYTES_MAX < DECISIONS_KEPT_BYTES_MAX
);
const _: () = assert!(REQUESTS_MAX <= GRANTS_MAX);
