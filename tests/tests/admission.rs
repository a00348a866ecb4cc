//! What keeps a host in its zone after it has enrolled: who certifies it now, who is listed now, and a list that arrives.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::time::Duration;

use quotary_common::cbor::BoundedBytes;
use quotary_common::evidence::{ImaForm, ImaIncrement};
use quotary_common::reason::Reason;
use quotary_tests::host::{Operator, Rogue, reason_of, request};
use quotary_tests::world::{Options, World, ZONE_JOINED, ZONE_MEASURED};

/// Restarts the verifier with its configuration changed.
fn reconfigured(world: &mut World, change: impl FnOnce(String) -> String) {
    world.stop_verifier().unwrap();
    let path = world.verifier_config();
    let text = change(std::fs::read_to_string(&path).unwrap());
    std::fs::write(&path, text).unwrap();
    world.start_verifier().unwrap();
}

/// The configuration without its `[[ek_authority]]`.
fn without_authority(text: &str) -> String {
    let (before, rest) = text.split_once("[[ek_authority]]").unwrap();
    let (_, after) = rest.split_once("[[zone]]").unwrap();
    format!("{before}[[zone]]{after}")
}

#[test]
fn an_authority_that_is_taken_out_certifies_nobody_any_more() {
    let mut world = World::new(Options::quick(0)).unwrap();
    world.start_verifier().unwrap();
    let runtime = world.runtime().handle().clone();
    let operator = Operator::of(&world).unwrap();
    let mut host = runtime.block_on(async { operator.host("a").await.unwrap() });
    let mut stand = |tpm: &str, zone: &str| {
        runtime.block_on(async {
            host.attest().await.unwrap();
            let view = operator.view(&host.id).await.unwrap();
            assert_eq!((view.tpm.as_str(), view.zone.as_deref()), (tpm, Some(zone)));
        });
    };
    stand("software", ZONE_MEASURED);
    let configured = std::fs::read_to_string(world.verifier_config()).unwrap();
    reconfigured(&mut world, |text| without_authority(&text));
    stand("uncertified", ZONE_JOINED);
    reconfigured(&mut world, |_| configured.clone());
    stand("software", ZONE_MEASURED);
    // The same authority, now said to certify chips.
    reconfigured(&mut world, |text| text.replace("tpm = \"software\"", "tpm = \"hardware\""));
    stand("hardware", ZONE_MEASURED);
}

#[test]
fn a_host_that_is_taken_off_the_list_is_in_no_zone() {
    let mut world = World::new(Options::quick(0)).unwrap();
    world.start_verifier().unwrap();
    let runtime = world.runtime().handle().clone();
    let operator = Operator::of(&world).unwrap();
    let mut host = runtime.block_on(async {
        let mut host = operator.host("a").await.unwrap();
        host.attest().await.unwrap();
        host
    });
    let list = world.path("admitted.txt");
    let admit = |id: &str| std::fs::write(&list, format!("{id}\n")).unwrap();
    admit(&"ab".repeat(32));
    let listed = |list: &Path, text: String| format!("ek_allowlist = {list:?}\n{text}");
    reconfigured(&mut world, |text| listed(&list, text));
    runtime.block_on(async {
        let (_, evidence) = host.prepare().await.unwrap();
        assert_eq!(reason_of(&host.send(&evidence).await), Some(Reason::Zone));
    });
    admit(&host.id.hex());
    reconfigured(&mut world, |text| text);
    runtime.block_on(async {
        host.attest().await.unwrap();
        assert_eq!(operator.view(&host.id).await.unwrap().zone.as_deref(), Some(ZONE_MEASURED));
    });
}

/// An entry as the kernel's binary list has it, of a file that nobody knows.
fn entry() -> Vec<u8> {
    let field = |bytes: &[u8]| [&u32::try_from(bytes.len()).unwrap().to_le_bytes()[..], bytes].concat();
    let data = [field(&[b"sha256:\0".as_slice(), &[7; 32]].concat()), field(b"/usr/bin/nobody\0")].concat();
    let template_hash = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, &data);
    [&10_u32.to_le_bytes()[..], template_hash.as_ref(), &field(b"ima-ng"), &field(&data)].concat()
}

#[test]
fn a_list_that_never_arrives_whole_ends_grants_once_trust_has_aged_out() {
    let mut options = Options::quick(0);
    options.zone_joined_extra = "pcrs = \"sha256:10\"\nima_on_unknown = \"warn\"".to_owned();
    options.verifier_extra = "[ima]\nallow = []\n".to_owned();
    let trust_ms = options.timing.trust_ms;
    let mut world = World::new(options).unwrap();
    // Only the zone that asks for the list.
    let path = world.verifier_config();
    world.start_verifier().unwrap();
    let whole = std::fs::read_to_string(&path).unwrap();
    let best = format!("[[zone]]\nname = \"{ZONE_MEASURED}\"\nrequire_ek_certificate = true\n");
    assert!(whole.contains(&best));
    reconfigured(&mut world, |text| text.replace(&best, "").replace(ZONE_JOINED, ZONE_MEASURED));
    let operator = Operator::of(&world).unwrap();
    world.runtime().block_on(async {
        let mut host = operator.host("a").await.unwrap();
        let part = |bytes: Vec<u8>, has_more| {
            let bytes = BoundedBytes::new(bytes).unwrap();
            Some(ImaIncrement { form: ImaForm::BinarySha1, offset_bytes: 0, bytes, has_more })
        };
        host.requests = vec![request("one", 500, 64 << 20)];
        // Nothing was measured, and PCR 10 says so: the list is whole.
        host.ima = part(Vec::new(), false);
        assert_eq!(host.attest().await.unwrap().2.set().grants.len(), 1);
        host.requests.clear();
        // Something was measured, and from here on there is always more to come.
        host.tpm.stop().await.unwrap();
        let mut rogue = Rogue::open(&host.tpm).unwrap();
        rogue.extend(10, &[0x5a; 32]).unwrap();
        host.tpm.attach(rogue);
        host.ima = part(entry(), true);
        let on_the_way = host.attest().await.unwrap().2;
        assert_eq!(on_the_way.set().grants.len(), 1, "trust goes on ageing, and grants with it");
        assert!(operator.view(&host.id).await.unwrap().trusted);
        tokio::time::sleep(Duration::from_millis(trust_ms + 500)).await;
        let (_, evidence) = host.prepare().await.unwrap();
        let reply = host.send(&evidence).await.unwrap();
        assert_eq!(reply.zone, "", "it is in no zone");
        assert!(operator.grants().await.unwrap().iter().all(|grant| grant.revoked));
        assert!(!operator.view(&host.id).await.unwrap().trusted);
    });
}
