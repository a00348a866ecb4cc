//! The shipped bundle: all of it reads, and every intermediate leads to an authority or says why not.

use super::super::ManufacturerRoots;

#[test]
fn a19_every_shipped_certificate_reads_as_it_came() {
    let shipped = ManufacturerRoots::built_in().unwrap();
    assert_eq!((shipped.authorities(), shipped.intermediates()), (26, 143));
}
