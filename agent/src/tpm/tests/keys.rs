//! EK, AK, quotes and credentials.

use super::*;

/// The public key bytes of an EK, as they stand in a certificate's key.
fn key_numbers(public: &[u8]) -> Vec<Vec<u8>> {
    match Public::unmarshall(public).unwrap() {
        Public::Rsa { unique, .. } => vec![unique.value().to_vec()],
        Public::Ecc { unique, .. } => {
            vec![unique.x().value().to_vec(), unique.y().value().to_vec()]
        }
        other => panic!("an EK of an odd kind: {other:?}"),
    }
}

fn certified_numbers(certificate: &[u8]) -> Vec<Vec<u8>> {
    let (rest, certificate) = X509Certificate::from_der(certificate).unwrap();
    assert!(rest.is_empty());
    match certificate.public_key().parsed().unwrap() {
        PublicKey::RSA(key) => vec![key.modulus.strip_prefix(&[0]).unwrap_or(key.modulus).to_vec()],
        PublicKey::EC(point) => {
            let (x, y) = point.data()[1..].split_at(point.data().len() / 2);
            vec![x.to_vec(), y.to_vec()]
        }
        other => panic!("a certificate for an odd kind of key: {other:?}"),
    }
}

#[tokio::test]
async fn the_certificate_is_the_eks_for_every_kind_that_has_one() {
    for (wanted, bytes) in [(EkAlgorithm::Auto, 256), (EkAlgorithm::Rsa2048, 256), (EkAlgorithm::EccP384, 48)] {
        let mut world = World::new();
        let identity = world.start(wanted).await.identity().await.unwrap();
        assert_eq!(identity.ek_certificates.len(), 1, "{wanted:?}");
        let numbers = key_numbers(&identity.ek_public);
        assert_eq!(numbers[0].len(), bytes, "{wanted:?}");
        assert_eq!(certified_numbers(&identity.ek_certificates[0]), numbers, "{wanted:?}");
    }
}

#[tokio::test]
async fn an_ek_without_certificate_says_so() {
    let mut world = World::new();
    let identity = world.start(EkAlgorithm::EccP256).await.identity().await.unwrap();
    assert!(identity.ek_certificates.is_empty());
    assert_eq!(key_numbers(&identity.ek_public)[0].len(), 32);
}

#[tokio::test]
async fn the_ak_is_what_enrolment_asks_for() {
    let mut world = World::new();
    let identity = world.start(EkAlgorithm::Auto).await.identity().await.unwrap();
    let public = Public::unmarshall(&identity.ak_public).unwrap();
    let attributes = public.object_attributes();
    assert!(attributes.restricted() && attributes.sign_encrypt() && !attributes.decrypt());
    assert!(attributes.fixed_tpm() && attributes.fixed_parent());
    assert!(attributes.sensitive_data_origin() && attributes.no_da());
    let mut name = SHA256_BANK.to_be_bytes().to_vec();
    name.extend(digest(&SHA256, &identity.ak_public).as_ref());
    assert_eq!(identity.ak_name, name);
    let mode = fs::metadata(world.ak_file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_quote_covers_the_data_the_pcrs_and_the_whole_ancestry_of_the_ak() {
    for ek in [EkAlgorithm::Rsa2048, EkAlgorithm::EccP384] {
        let mut world = World::new();
        let handle = world.start(ek).await;
        let identity = handle.identity().await.unwrap();
        let quote = handle.quote([0x5a; 32], &boot_pcrs()).await.unwrap();
        let attest = Attest::unmarshall(&quote.attest).unwrap();
        assert_eq!(attest.extra_data().value(), [0x5a; 32]);
        let AttestInfo::Quote { info } = attest.attested() else { panic!("no quote") };
        let indices: Vec<u8> = quote.pcr_values.iter().map(|(_, index, _)| *index).collect();
        assert_eq!(indices, (0..=9).collect::<Vec<u8>>());
        let values: Vec<u8> = quote.pcr_values.iter().flat_map(|(_, _, value)| value.clone()).collect();
        assert_eq!(info.pcr_digest().value(), digest(&SHA256, &values).as_ref());
        assert_eq!(quote.signature[..4], [0x00, 0x18, 0x00, 0x0b]);
        // H(H(TPM_RH_ENDORSEMENT ‖ Name(EK)) ‖ Name(AK)), each under its own nameAlg.
        let (algorithm, hash) = match ek {
            EkAlgorithm::EccP384 => (0x000c_u16, &ring::digest::SHA384),
            _ => (SHA256_BANK, &SHA256),
        };
        let name = |of: &[u8]| [&algorithm.to_be_bytes()[..], digest(hash, of).as_ref()].concat();
        let ek_name = name(&identity.ek_public);
        let ek_qualified = name(&[&[0x40, 0, 0, 0x0b], ek_name.as_slice()].concat());
        let mut qualified = SHA256_BANK.to_be_bytes().to_vec();
        qualified.extend(digest(&SHA256, &[ek_qualified, identity.ak_name].concat()).as_ref());
        assert_eq!(attest.qualified_signer().value(), qualified, "{ek:?}");
        // Keys of the endorsement hierarchy show the counters as they are.
        assert!(attest.clock_info().reset_count() < 100);
    }
}

#[tokio::test]
async fn a_pcr_that_does_not_exist_is_told_and_harms_nothing() {
    let mut world = World::new();
    let handle = world.start(EkAlgorithm::Auto).await;
    let pid = handle.software_child_pid();
    // swtpm_setup has switched the other banks off.
    let (hash_alg, pcrs) = (0x000c, vec![3]);
    let sha384 = [PcrSelection { hash_alg, pcrs }];
    match handle.quote([0; 32], &sha384).await {
        Err(TpmError::NoSuchPcr { hash_alg: 0x000c, index: 3 }) => {}
        other => panic!("{other:?}"),
    }
    assert!(matches!(handle.quote([0; 32], &[]).await, Err(TpmError::Input { .. })));
    handle.quote([0; 32], &boot_pcrs()).await.unwrap();
    assert_eq!(handle.software_child_pid(), pid);
}

#[tokio::test]
async fn the_ak_survives_a_restart_and_a_damaged_file_gives_a_new_one() {
    let mut world = World::new();
    let handle = world.start(EkAlgorithm::Auto).await;
    let first = handle.identity().await.unwrap();
    handle.shutdown().await.unwrap();
    assert!(matches!(handle.identity().await, Err(TpmError::Stopped)));
    assert_eq!(handle.software_child_pid(), None);

    let handle = world.start(EkAlgorithm::Auto).await;
    assert_eq!(handle.identity().await.unwrap(), first);
    handle.shutdown().await.unwrap();

    // A private part that this TPM did not wrap.
    let text = fs::read_to_string(world.ak_file()).unwrap();
    let mut file: serde_json::Value = serde_json::from_str(&text).unwrap();
    let private = file["private"].as_str().unwrap().to_owned();
    let mut private = data_encoding::BASE64.decode(private.as_bytes()).unwrap();
    *private.last_mut().unwrap() ^= 1;
    file["private"] = data_encoding::BASE64.encode(&private).into();
    fs::write(world.ak_file(), file.to_string()).unwrap();
    let handle = world.start(EkAlgorithm::Auto).await;
    let other = handle.identity().await.unwrap();
    assert_eq!(other.ek_public, first.ek_public);
    assert_ne!(other.ak_name, first.ak_name);
}

#[tokio::test]
async fn another_ek_gets_another_ak() {
    let mut world = World::new();
    let handle = world.start(EkAlgorithm::Rsa2048).await;
    let rsa = handle.identity().await.unwrap();
    handle.shutdown().await.unwrap();

    let handle = world.start(EkAlgorithm::EccP384).await;
    let ecc = handle.identity().await.unwrap();
    assert_ne!(ecc.ek_public, rsa.ek_public);
    assert_ne!(ecc.ak_name, rsa.ak_name);
    handle.quote([1; 32], &boot_pcrs()).await.unwrap();
    handle.shutdown().await.unwrap();

    // A TPM that was replaced: other seeds, the same kind of EK.
    fs::remove_dir_all(world.dir.path().join("tpm")).unwrap();
    let handle = world.start(EkAlgorithm::EccP384).await;
    let replaced = handle.identity().await.unwrap();
    assert_ne!(replaced.ek_public, ecc.ek_public);
    assert_ne!(replaced.ak_name, ecc.ak_name);
    handle.quote([1; 32], &boot_pcrs()).await.unwrap();
}

#[tokio::test]
async fn a_credential_opens_for_each_kind_of_ek() {
    for ek in [EkAlgorithm::Rsa2048, EkAlgorithm::EccP256, EkAlgorithm::EccP384] {
        let mut world = World::new();
        activate(&world.start(ek).await).await;
    }
}

#[tokio::test]
async fn a_credential_for_other_keys_is_refused_and_harms_nothing() {
    let mut world = World::new();
    let handle = world.start(EkAlgorithm::Auto).await;
    let identity = handle.identity().await.unwrap();
    let pid = handle.software_child_pid();
    let (blob, secret) = make_credential(&identity, &[9; 32]);
    let mut altered = blob.clone();
    *altered.last_mut().unwrap() ^= 1;
    let mut other_ak = identity.clone();
    *other_ak.ak_name.last_mut().unwrap() ^= 1;
    let (for_another, its_secret) = make_credential(&other_ak, &[9; 32]);
    for _ in 0..40 {
        for (blob, secret) in [(&altered, &secret), (&for_another, &its_secret)] {
            let error = handle.activate(blob, secret).await.unwrap_err();
            assert!(matches!(error, TpmError::CredentialRefused { .. }), "{error:?}");
        }
    }
    assert!(matches!(handle.activate(&blob[1..], &secret).await, Err(TpmError::Input { .. })));
    assert!(matches!(handle.activate(&blob, &[0, 1]).await, Err(TpmError::Input { .. })));
    assert_eq!(handle.activate(&blob, &secret).await.unwrap().as_slice(), [9; 32]);
    assert!(!handle.status().await.unwrap().in_lockout);
    assert_eq!(handle.software_child_pid(), pid);
}

#[tokio::test]
async fn a_site_ca_signs_the_ek_certificates() {
    let mut world = World::new();
    let site = world.dir.path().join("site");
    fs::create_dir(&site).unwrap();
    let made = Command::new("swtpm_setup")
        .args(["--create-config-files", "skip-if-exist,root"])
        .env("XDG_CONFIG_HOME", &site)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(made.success());
    let access = TpmAccess::Software {
        state_dir: world.dir.path().join("tpm"),
        setup_config: Some(site.join("swtpm_setup.conf")),
    };
    let config = world.config(access, EkAlgorithm::Auto);
    let identity = world.start_with(config).await.identity().await.unwrap();
    let issuer = fs::read(site.join("var/lib/swtpm-localca/issuercert.pem")).unwrap();
    let (_, issuer) = x509_parser::pem::parse_x509_pem(&issuer).unwrap();
    let issuer = issuer.parse_x509().unwrap();
    let (_, leaf) = X509Certificate::from_der(&identity.ek_certificates[0]).unwrap();
    leaf.verify_signature(Some(issuer.public_key())).unwrap();
}
