//! What the running system measures, with a real (software) TPM whose PCRs are extended by a real boot log and by what
//! systemd would measure, and with the agent's own reader of logs: PCR 11 follows from both logs, or the host leaves.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use quotary_agent::link::MeasuredLogs;
use quotary_common::evidence::EvidenceVersion;
use quotary_common::id::Digest;
use quotary_common::wire::{Nothing, ShowAppraisal};
use quotary_decide::eventlog::{Bank, EventLog, secure_boot};
use quotary_tests::host::{DrivenHost, Operator, Rogue};
use quotary_tests::world::{Options, World};

const BOOT_LOG: &[u8] = include_bytes!("../data/attestation/vm/binary_bios_measurements");
const WORDS: &str = "[\"enter-initrd\", \"sysinit\", \"ready\"]";

/// A verifier whose best zone wants the boot log, PCR 11, and these words in it.
fn scene() -> (World, Operator) {
    let mut world = World::new(Options::quick(0)).unwrap();
    let log = EventLog::parse(BOOT_LOG).unwrap();
    let problems = log.problems().into_iter().chain(secure_boot(&log).problems);
    let accept: BTreeSet<&str> = problems.map(|problem| problem.code.code()).collect();
    let accept: Vec<&str> = accept.into_iter().collect();
    let zone = "name = \"measured\"\nrequire_ek_certificate = true\n";
    let asked = format!(
        "{zone}pcrs = \"sha256:0,1,2,3,4,5,6,7,8,9,11\"\n[zone.boot]\naccept = {accept:?}\nuserspace = {WORDS}\n"
    );
    let config = fs::read_to_string(world.verifier_config()).unwrap();
    assert!(config.contains(zone));
    fs::write(world.verifier_config(), config.replace(zone, &asked)).unwrap();
    world.start_verifier().unwrap();
    let operator = Operator::of(&world).unwrap();
    (world, operator)
}

/// A host that has booted, and whose system measures as it goes.
struct Booted {
    host: DrivenHost,
    log: PathBuf,
    records: Vec<u8>,
}

impl Booted {
    async fn new(world: &World, operator: &Operator) -> Self {
        let mut candidate = operator.candidate("booted").await.unwrap();
        candidate.tpm.handle().await.unwrap();
        candidate.tpm.stop().await.unwrap();
        let mut firmware = Rogue::open(&candidate.tpm).unwrap();
        for event in EventLog::parse(BOOT_LOG).unwrap().events() {
            if let (Some(pcr), Some(digest)) = (event.extends(), event.digest(Bank::Sha256)) {
                firmware.extend(pcr, digest).unwrap();
            }
        }
        candidate.tpm.attach(firmware);
        let root = world.path("booted");
        for (path, bytes) in
            [("sys/kernel/security/tpm0/binary_bios_measurements", BOOT_LOG), ("run/log/systemd/tpm2-measure.log", &[])]
        {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        let mut host = candidate.enrol().await.unwrap();
        host.logs = Some(MeasuredLogs::new(&root));
        Self { host, log: root.join("run/log/systemd/tpm2-measure.log"), records: Vec::new() }
    }

    /// The TPM is extended by the words.
    async fn extend(&mut self, words: &str) {
        let mut system = self.host.tpm.detach().await.unwrap();
        system.extend(11, Digest::of(&[words.as_bytes()]).as_bytes()).unwrap();
        self.host.tpm.attach(system);
    }

    /// The log gets its record.
    fn write(&mut self, words: &str) {
        let digest = Digest::of(&[words.as_bytes()]).hex();
        let record = format!(
            "\u{1e}{{\"pcr\":11,\"digests\":[{{\"hashAlg\":\"sha256\",\"digest\":\"{digest}\"}}],\
             \"content_type\":\"systemd\",\"content\":{{\"string\":\"{words}\",\"eventType\":\"phase\"}}}}\n"
        );
        self.records.extend(record.as_bytes());
        fs::write(&self.log, &self.records).unwrap();
    }

    /// The next evidence's form, and the zone that it brings.
    async fn attest(&mut self) -> (EvidenceVersion, String) {
        let (envelope, evidence) = self.host.prepare().await.unwrap();
        let reply = self.host.send(&evidence).await.unwrap();
        self.host.take(&envelope, &reply).unwrap();
        (evidence.version, reply.zone)
    }
}

#[test]
fn pcr_11_follows_from_boot_log_and_measure_log_or_the_host_leaves_the_zone() {
    use EvidenceVersion::{WithMeasureLog, WithoutLogs};
    let (world, operator) = scene();
    world.runtime().block_on(async {
        let mut booted = Booted::new(&world, &operator).await;
        let measured = "measured".to_owned();
        assert_eq!(
            booted.attest().await,
            (WithMeasureLog, measured.clone()),
            "nothing was measured, and nothing logged"
        );
        assert_eq!(booted.attest().await, (WithoutLogs, measured.clone()), "the verifier has all of it");
        booted.extend("enter-initrd").await;
        booted.write("enter-initrd");
        // The record of the next phase is there before a quote carries it: it waits.
        booted.write("sysinit");
        assert_eq!(booted.attest().await, (WithMeasureLog, measured.clone()));
        booted.extend("sysinit").await;
        assert_eq!(booted.attest().await, (WithMeasureLog, measured.clone()));
        assert_eq!(booted.attest().await, (WithoutLogs, measured));
        booted.extend("an odd phase").await;
        booted.write("an odd phase");
        assert_eq!(booted.attest().await, (WithMeasureLog, "joined".to_owned()));
        let view = operator.client.call::<ShowAppraisal>(&[&booted.host.id.hex()], &Nothing {}).await.unwrap();
        let told = view.findings.iter().find(|finding| finding.code == "userspace-unknown").unwrap();
        assert!(told.detail.contains("record 2 (PCR 11)") && told.detail.contains("an odd phase"), "{told:?}");
        // What nobody recorded cannot be explained away, whatever the log says.
        booted.extend("something hidden").await;
        booted.write("ready");
        assert_eq!(booted.attest().await.1, "joined");
        let view = operator.client.call::<ShowAppraisal>(&[&booted.host.id.hex()], &Nothing {}).await.unwrap();
        assert!(view.failed.iter().any(|failed| failed.detail.contains("userspace-mismatch")), "{view:?}");
    });
}
