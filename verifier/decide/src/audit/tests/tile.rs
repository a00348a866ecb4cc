//! Paths and bundles in the very form of C2SP tlog-tiles.

use proptest::prelude::*;

use crate::audit::{Bundle, Tile, TilePath};

#[test]
fn paths_are_those_of_the_specification() {
    for (path, level, index, width) in [
        ("tile/0/000", 0, 0, 256),
        ("tile/0/000.p/1", 0, 0, 1),
        ("tile/1/067.p/255", 1, 67, 255),
        ("tile/0/x001/x234/067", 0, 1_234_067, 256),
        ("tile/0/x001/x234/067.p/112", 0, 1_234_067, 112),
        ("tile/7/x001/000", 7, 1000, 256),
    ] {
        let Ok(TilePath::Tile(tile)) = TilePath::parse(path) else { unreachable!("{path}") };
        assert_eq!((tile.level(), tile.index(), tile.width()), (level, index, width), "{path}");
    }
    let bundle = Bundle::in_tree(1_234_067, 1_234_067 * 256 + 8).unwrap();
    assert_eq!(bundle.path(), "tile/entries/x001/x234/067.p/8");
    assert_eq!(bundle.full().path(), "tile/entries/x001/x234/067");
    assert_eq!(TilePath::parse("tile/entries/x001/x234/067.p/8"), Ok(TilePath::Bundle(bundle)));
}

#[test]
fn every_other_spelling_is_refused() {
    for path in [
        "",
        "tile",
        "tile/",
        "tile/0",
        "tile/0/",
        "/tile/0/000",
        "tile/0/0",
        "tile/0/00",
        "tile/0/0000",
        "tile/0/x000",
        "tile/0/x000/001",
        "tile/0/001/002",
        "tile/0/x001/x002",
        "tile/00/000",
        "tile/8/000",
        "tile/64/000",
        "tile/-1/000",
        "tile/+1/000",
        "tile/0/+01",
        "tile/0/000.p",
        "tile/0/000.p/",
        "tile/0/000.p/0",
        "tile/0/000.p/01",
        "tile/0/000.p/256",
        "tile/0/000.p/1/",
        "tile/0/000.p/1.p/1",
        "tile/0/000 ",
        "tile/0/../../etc/passwd",
        "tile/0/X001/000",
        "tile/data/000",
        "tile/Entries/000",
        "tile/0/x999/x999/x999/x999/x999/x999/999",
        "tile/0/xx01/000",
        "tile/0/x1/000",
    ] {
        assert!(TilePath::parse(path).is_err(), "{path}");
    }
    let long = format!("tile/0/{}000", "x001/".repeat(10_000));
    assert!(TilePath::parse(&long).unwrap_err().to_string().len() < 300);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn a_path_reads_back_as_what_it_names(level in 0_u8..8, size in 1_u64.., place in any::<u64>()) {
        let count = size >> (8 * u32::from(level));
        if count > 0 {
            let index = place % count.div_ceil(256);
            let tile = Tile::in_tree(level, index, size).unwrap();
            prop_assert_eq!(TilePath::parse(&tile.path()), Ok(TilePath::Tile(tile)));
            prop_assert!(Tile::in_tree(level, count.div_ceil(256), size).is_none());
        }
        let bundle = Bundle::in_tree(place % size.div_ceil(256), size).unwrap();
        prop_assert_eq!(TilePath::parse(&bundle.path()), Ok(TilePath::Bundle(bundle)));
    }

    #[test]
    fn reading_a_path_is_total_and_strict(path in "tile/(entries|[0-9]{1,2})/[x0-9/.p]{0,20}") {
        if let Ok(found) = TilePath::parse(&path) {
            prop_assert_eq!(found.path(), path);
        }
    }

    #[test]
    fn a_bundle_reads_back_and_no_cut_or_longer_one_does(
        leaves in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..=256), cut in any::<usize>(),
    ) {
        let bytes = Bundle::encode(&leaves).unwrap();
        let bundle = Bundle::in_tree(3, 3 * 256 + leaves.len() as u64).unwrap();
        prop_assert_eq!(bundle.parse(&bytes).unwrap(), leaves);
        prop_assert!(bundle.parse(&bytes[..cut % bytes.len()]).is_err());
        prop_assert!(bundle.parse(&[bytes.as_slice(), &[0, 0]].concat()).is_err());
        prop_assert!(bundle.width() == 256 || bundle.full().parse(&bytes).is_err());
    }

    #[test]
    fn reading_a_bundle_is_total(bytes in prop::collection::vec(any::<u8>(), 0..2000), width in 1_u64..=256) {
        let _any = Bundle::in_tree(0, width).unwrap().parse(&bytes);
    }
}

#[test]
fn the_longest_leaf_fits_and_a_longer_one_does_not() {
    let bundle = Bundle::in_tree(0, 1).unwrap();
    let longest = vec![7; 65_535];
    assert_eq!(bundle.parse(&Bundle::encode(&[&longest]).unwrap()).unwrap(), [&longest]);
    assert!(Bundle::encode(&[vec![7; 65_536]]).is_err());
}
