//! What may go wrong: kills, hangs, leaks, neighbours.

use tss_esapi::attributes::ObjectAttributesBuilder;
use tss_esapi::constants::StartupType;
use tss_esapi::constants::tss::{TPM2_RH_NULL, TPM2_ST_HASHCHECK};
use tss_esapi::interface_types::algorithm::{HashingAlgorithm, PublicAlgorithm};
use tss_esapi::interface_types::ecc::EccCurve;
use tss_esapi::interface_types::session_handles::AuthSession;
use tss_esapi::structures::{
    Auth, EccPoint, EccScheme, HashScheme, HashcheckTicket, KeyDerivationFunctionScheme, PublicBuilder,
    PublicEccParametersBuilder, SignatureScheme, SymmetricDefinitionObject,
};
use tss_esapi::tss2_esys::{TPM2B_DIGEST, TPMT_TK_HASHCHECK};

use super::*;
#[tokio::test]
async fn four_kills_of_the_tpm_stop_no_quote() {
    for ek in [EkAlgorithm::Rsa2048, EkAlgorithm::EccP384] {
        let mut world = World::new();
        let handle = world.start(ek).await;
        let before = handle.identity().await.unwrap();
        for round in 0..4 {
            handle.quote([round; 32], &boot_pcrs()).await.unwrap();
            let pid = handle.software_child_pid().unwrap();
            signal(pid, Signal::KILL);
            handle.quote([round; 32], &boot_pcrs()).await.unwrap();
            assert_ne!(handle.software_child_pid(), Some(pid), "{ek:?}");
        }
        assert_eq!(handle.identity().await.unwrap(), before);
        let status = handle.status().await.unwrap();
        assert!(!status.in_lockout, "{ek:?}: {status:?}");
        assert_eq!(status.manufacturer, "IBM");
        assert_eq!(status.software_child_pid, handle.software_child_pid());
        activate(&handle).await;
    }
}

/// Puts the TPM of this directory into dictionary-attack lockout: somebody tries passwords on a key.
fn lock_out(state_dir: &Path) {
    let mut tpm = SoftwareTpm::new(state_dir.to_owned(), None, ChildSlot::default());
    let device = tpm.ensure_running().unwrap();
    let mut context = Context::new(device_tcti(&device).unwrap()).unwrap();
    let attributes = ObjectAttributesBuilder::new()
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .with_sensitive_data_origin(true)
        .with_user_with_auth(true)
        .with_sign_encrypt(true)
        .build()
        .unwrap();
    let scheme = EccScheme::EcDsa(HashScheme::new(HashingAlgorithm::Sha256));
    let parameters = PublicEccParametersBuilder::new()
        .with_symmetric(SymmetricDefinitionObject::Null)
        .with_ecc_scheme(scheme)
        .with_curve(EccCurve::NistP256)
        .with_key_derivation_function_scheme(KeyDerivationFunctionScheme::Null)
        .with_is_signing_key(true)
        .build()
        .unwrap();
    let template = PublicBuilder::new()
        .with_public_algorithm(PublicAlgorithm::Ecc)
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(attributes)
        .with_ecc_parameters(parameters)
        .with_ecc_unique_identifier(EccPoint::default())
        .build()
        .unwrap();
    context.set_sessions((Some(AuthSession::Password), None, None));
    let password = Auth::try_from(&b"right"[..]).unwrap();
    let key = context.create_primary(Hierarchy::Owner, template, Some(password), None, None, None).unwrap().key_handle;
    let wrong = Auth::try_from(&b"wrong"[..]).unwrap();
    context.tr_set_auth(key.into(), wrong).unwrap();
    let anything = Digest::try_from(&[1; 32][..]).unwrap();
    for _ in 0..5 {
        let ticket = HashcheckTicket::try_from(TPMT_TK_HASHCHECK {
            tag: TPM2_ST_HASHCHECK,
            hierarchy: TPM2_RH_NULL,
            digest: TPM2B_DIGEST::default(),
        });
        let signed = context.sign(key, anything.clone(), SignatureScheme::Null, ticket.unwrap());
        assert!(signed.is_err());
    }
    context.clear_sessions();
    context.flush_context(key.into()).unwrap();
    context.shutdown(StartupType::Clear).unwrap();
    drop(context);
    tpm.stop();
}

#[tokio::test]
async fn lockout_is_told_and_stops_neither_start_nor_quote_nor_activation() {
    for ek in [EkAlgorithm::Rsa2048, EkAlgorithm::EccP256, EkAlgorithm::EccP384] {
        let mut world = World::new();
        lock_out(&world.dir.path().join("tpm"));
        let handle = world.start(ek).await;
        assert!(handle.status().await.unwrap().in_lockout, "{ek:?}");
        handle.quote([1; 32], &boot_pcrs()).await.unwrap();
        activate(&handle).await;
    }
}

#[tokio::test]
async fn a_tpm_killed_in_the_middle_of_anything_costs_no_quote() {
    let mut world = World::new();
    let handle = world.start(EkAlgorithm::Auto).await;
    let selection = boot_pcrs();
    for round in 0..30 {
        let pid = handle.software_child_pid().unwrap();
        let kill = async {
            tokio::time::sleep(Duration::from_micros(200 * u64::from(round))).await;
            signal(pid, Signal::KILL);
        };
        let (quote, ()) = tokio::join!(handle.quote([round; 32], &selection), kill);
        let quote = quote.unwrap();
        assert_eq!(Attest::unmarshall(&quote.attest).unwrap().extra_data().value(), [round; 32]);
        // Leaves the TPM running, or finds it dead.
        handle.quote([round; 32], &selection).await.unwrap();
    }
    assert!(!handle.status().await.unwrap().in_lockout);
}

#[tokio::test]
async fn five_hundred_quotes_and_a_hundred_activations_leak_no_session() {
    let mut world = World::new();
    let handle = world.start(EkAlgorithm::EccP384).await;
    let pid = handle.software_child_pid();
    let identity = handle.identity().await.unwrap();
    let (blob, secret) = make_credential(&identity, &[7; 20]);
    for round in 0..500_u16 {
        let mut data = [0; 32];
        data[..2].copy_from_slice(&round.to_be_bytes());
        handle.quote(data, &boot_pcrs()).await.unwrap();
        if round % 5 == 0 {
            handle.activate(&blob, &secret).await.unwrap();
        }
    }
    assert_eq!(handle.software_child_pid(), pid, "the connection was never lost");
}

#[tokio::test]
async fn a_hanging_tpm_costs_a_caller_its_deadline_and_no_more() {
    let mut world = World::new();
    let access = world.software();
    let deadline = Duration::from_millis(400);
    let config = TpmConfig::check(access, EkAlgorithm::Auto, world.ak_file(), deadline, 2).unwrap();
    let handle = world.start_with(config).await;
    let pid = handle.software_child_pid().unwrap();
    signal(pid, Signal::STOP);
    let started = Instant::now();
    let selection = boot_pcrs();
    let (first, second, third, fourth) = tokio::join!(
        handle.quote([1; 32], &selection),
        async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            handle.quote([2; 32], &selection).await
        },
        async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            handle.quote([3; 32], &selection).await
        },
        async {
            tokio::time::sleep(Duration::from_millis(150)).await;
            handle.quote([4; 32], &selection).await
        },
    );
    for late in [first, second, third] {
        assert!(matches!(late, Err(TpmError::Deadline { .. })), "{late:?}");
    }
    assert!(matches!(fourth, Err(TpmError::Busy { capacity: 2 })), "{fourth:?}");
    assert!(started.elapsed() < Duration::from_secs(2));
    signal(pid, Signal::CONT);
    let again = loop {
        match handle.quote([5; 32], &boot_pcrs()).await {
            // Until the thread has dropped what nobody waits for.
            Err(TpmError::Busy { .. }) if started.elapsed() < DEADLINE => {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            again => break again,
        }
    };
    assert!(again.is_ok(), "{again:?}");
    assert_eq!(handle.software_child_pid(), Some(pid));

    signal(pid, Signal::STOP);
    assert!(matches!(handle.shutdown().await, Err(TpmError::Deadline { .. })));
    let end = Instant::now() + Duration::from_secs(5);
    while lives(pid) {
        assert!(Instant::now() < end, "a hanging swtpm was left behind");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn swtpm_is_the_leader_of_a_session_with_the_terminal_as_its_own() {
    let mut world = World::new();
    let pid = world.start(EkAlgorithm::Auto).await.software_child_pid().unwrap();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    assert_eq!(fields[3], pid.to_string(), "session");
    assert_ne!(fields[4], "0", "controlling terminal");
}

#[tokio::test]
async fn a_second_agent_on_the_same_state_is_told_why_it_cannot_start() {
    let mut world = World::new();
    let first = world.start(EkAlgorithm::Auto).await;
    let second = TpmHandle::start(world.config(world.software(), EkAlgorithm::Auto)).await;
    assert!(matches!(second, Err(TpmError::SoftwareStart { .. })), "{second:?}");
    first.quote([0; 32], &boot_pcrs()).await.unwrap();
}

#[tokio::test]
async fn a_missing_device_is_told() {
    let world = World::new();
    let access = TpmAccess::Device(world.dir.path().join("tpm0"));
    let error = TpmHandle::start(world.config(access, EkAlgorithm::Auto)).await.unwrap_err();
    assert!(matches!(error, TpmError::Connect { .. }), "{error:?}");
}
