//! The TPM manufacturers' certificates that are shipped with the product (`verifier/decide/data/ca/README.md`).

use quotary_common::envelope::Name;

use super::certificate::Stored;
use super::pem::{PemBlock, blocks};
use super::roots::{Anchor, RootsError, TpmKind};

const ROOTS: &[u8] = include_bytes!("../../../data/ca/MIRROR.tpm-ca-certificates.pem");
const INTERMEDIATES: &[u8] = include_bytes!("../../../data/ca/MIRROR.tpm-intermediate-ca-certificates.pem");

/// TCG vendor ids (TCG Vendor ID Registry) and who they are.
const VENDORS: [(&str, &str); 7] = [
    ("AMD", "AMD"),
    ("IFX", "Infineon"),
    ("INTC", "Intel"),
    ("MSFT", "Microsoft"),
    ("NSG", "NSING"),
    ("NTC", "Nuvoton"),
    ("STM", "STMicroelectronics"),
];

/// The manufacturers' authorities and intermediates, read once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManufacturerRoots {
    pub(super) anchors: Vec<Anchor>,
    pub(super) intermediates: Vec<Stored>,
}

impl ManufacturerRoots {
    /// The bundle that is compiled in. The bytes of each certificate stay as they came.
    ///
    /// # Errors
    /// [`RootsError`] with the position of a certificate that does not read; a test holds that there is none.
    pub fn built_in() -> Result<Self, RootsError> {
        Self::from_pem(ROOTS, INTERMEDIATES)
    }
    /// A bundle in the form of the shipped one: a comment `# Owner: ID` before a certificate names its manufacturer.
    ///
    /// # Errors
    /// [`RootsError`] with the position of the first that does not read (0: the text as a whole).
    pub fn from_pem(authorities: &[u8], intermediates: &[u8]) -> Result<Self, RootsError> {
        let mut read = Self { anchors: Vec::new(), intermediates: Vec::new() };
        for (i, block) in text(authorities)?.into_iter().enumerate() {
            let manufacturer = Some(manufacturer(&block));
            let certificate = stored(i, block)?;
            read.anchors.push(Anchor { certificate, kind: TpmKind::Hardware, manufacturer });
        }
        for (i, block) in text(intermediates)?.into_iter().enumerate() {
            read.intermediates.push(stored(i, block)?);
        }
        Ok(read)
    }
    /// How many authorities there are.
    pub fn authorities(&self) -> usize {
        self.anchors.len()
    }
    /// How many intermediates there are.
    pub fn intermediates(&self) -> usize {
        self.intermediates.len()
    }
}

fn text(bytes: &[u8]) -> Result<Vec<PemBlock<'_>>, RootsError> {
    blocks(bytes).map_err(|what| RootsError { position: 0, what })
}

fn stored(index: usize, block: PemBlock<'_>) -> Result<Stored, RootsError> {
    let fault = |what| RootsError { position: index + 1, what };
    if block.label != "CERTIFICATE" {
        return Err(fault("a PEM block that is no certificate"));
    }
    Stored::new(block.content).map_err(fault)
}

/// Who made the chips that the certificate answers for; `unknown` where the bundle does not say.
fn manufacturer(block: &PemBlock<'_>) -> Name {
    let owner = block.preamble.lines().filter_map(|line| line.strip_prefix("# Owner:")).next_back().map(str::trim);
    let owner = owner.unwrap_or("unknown");
    let known = VENDORS.iter().find(|(id, _)| *id == owner);
    Name::lossy(known.map_or(owner, |(_, name)| name))
}
