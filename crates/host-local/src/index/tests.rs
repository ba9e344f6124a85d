use std::collections::{BTreeMap, BTreeSet};

use cni_core::spec::Attachment;
use proptest::prelude::*;

use super::*;

const TIME: Timestamp = Timestamp { sec: 7, nsec: 1 };

fn owner(n: u32) -> Owner {
    Owner::of(&Attachment { container_id: format!("c{n}").parse().unwrap(), ifname: "eth0".parse().unwrap() })
}

fn v4(n: u32) -> IpAddr {
    address([0, 0, 0, 0].into(), 0x0a00_0000 + u128::from(n))
}

fn v6(n: u32) -> IpAddr {
    address([0; 16].into(), (0xfd00 << 112) + u128::from(n))
}

/// An index in a folder of its own.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        Place(tempfile::tempdir().unwrap())
    }

    fn index(&self) -> Index {
        Index::open(Some(Folder::open(self.0.path()).unwrap()), Path::new("/data"))
    }

    /// The index as the next process finds it.
    fn reopened(&self, mut index: Index) -> Index {
        index.begin();
        index.finish(TIME).unwrap();
        let index = self.index();
        assert!(index.agrees_with(TIME));
        index
    }

    fn files(&self) -> usize {
        std::fs::read_dir(self.0.path()).unwrap().count()
    }
}

#[test]
fn it_grows_and_shrinks_and_survives_the_process() {
    let place = Place::new();
    let mut index = place.index();
    for n in 0..3000 {
        index.insert(Entry::new(v4(n), &owner(n))).unwrap();
    }
    let mut index = place.reopened(index);
    let grown = place.files();
    assert!(grown > 20, "{grown} files");
    assert_eq!(index.first_free(v4(0), v4(5000), v4(3000)).unwrap(), Some(v4(3001)));
    for n in (0..3000).filter(|n| n % 3 != 0) {
        index.remove(Entry::new(v4(n), &owner(n))).unwrap();
    }
    let mut index = place.reopened(index);
    for n in 0..3000 {
        let expected = if n % 3 == 0 { vec![v4(n)] } else { Vec::new() };
        assert_eq!(index.held_by(&owner(n)).unwrap(), expected);
    }
    assert_eq!(index.first_free(v4(0), v4(2999), v4(1)).unwrap(), Some(v4(2)));
    index.fill(&[Entry::new(v4(1), &owner(1))]);
    let mut index = place.reopened(index);
    assert_eq!(index.held_by(&owner(1)).unwrap(), [v4(1)]);
    assert!(place.files() < grown);
}

#[test]
fn an_owner_of_thousands_of_addresses_is_no_special_case() {
    let mut index = Index::open(None, Path::new("/data"));
    index.fill(&(0..20_000).map(|n| Entry::new(v6(n), &owner(1))).collect::<Vec<_>>());
    index.insert(Entry::new(v4(1), &owner(2))).unwrap();
    assert_eq!(index.held_by(&owner(1)).unwrap().len(), 20_000);
    for n in (0..20_000).rev() {
        index.remove(Entry::new(v6(n), &owner(1))).unwrap();
    }
    assert!(index.held_by(&owner(1)).unwrap().is_empty());
    assert_eq!(index.held_by(&owner(2)).unwrap(), [v4(1)]);
    assert_eq!(index.state.entries, 1);
}

#[test]
fn a_change_that_was_not_finished_invalidates_it() {
    let place = Place::new();
    let mut index = place.reopened(place.index());
    index.begin();
    assert!(!place.index().agrees_with(TIME));
}

#[test]
fn a_damaged_file_is_refused() {
    let place = Place::new();
    let mut index = place.index();
    index.fill(&(0..10).map(|n| Entry::new(v4(n), &owner(n))).collect::<Vec<_>>());
    place.reopened(index);
    let bucket = place.0.path().join("0");
    let bytes = std::fs::read(&bucket).unwrap();
    let mut damaged = vec![Vec::new(), bytes[..bytes.len() - 48].to_vec(), [&bytes[..], &[0; 48]].concat()];
    damaged.extend((0..bytes.len()).map(|at| {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1;
        bytes
    }));
    for bytes in damaged {
        std::fs::write(&bucket, bytes).unwrap();
        let mut index = place.index();
        assert!(index.held_by(&owner(1)).is_err());
        assert!(index.first_free(v4(0), v4(9), v4(0)).is_err());
    }
    std::fs::remove_file(&bucket).unwrap();
    assert!(place.index().held_by(&owner(1)).is_err());
    std::fs::write(&bucket, &bytes).unwrap();
    assert_eq!(place.index().held_by(&owner(1)).unwrap(), [v4(1)]);
}

proptest! {
    #[test]
    fn it_agrees_with_a_map(steps in proptest::collection::vec((0u32..5, 0u32..700, any::<bool>()), 0..300), from in 0u32..700, to in 0u32..700, reopen in 0usize..300) {
        let place = Place::new();
        let mut index = place.index();
        let mut held: BTreeMap<IpAddr, u32> = BTreeMap::new();
        for (i, (id, n, is_v4)) in steps.into_iter().enumerate() {
            let ip = if is_v4 { v4(n) } else { v6(n) };
            match held.remove(&ip) {
                Some(id) => index.remove(Entry::new(ip, &owner(id))).unwrap(),
                None => {
                    index.insert(Entry::new(ip, &owner(id))).unwrap();
                    held.insert(ip, id);
                }
            }
            if i == reopen {
                index = place.reopened(index);
            }
        }
        for id in 0..5 {
            let expected: BTreeSet<IpAddr> = held.iter().filter(|(_, holder)| **holder == id).map(|(ip, _)| *ip).collect();
            let found: BTreeSet<IpAddr> = index.held_by(&owner(id)).unwrap().into_iter().collect();
            prop_assert_eq!(found, expected);
        }
        for ip in [v4, v6] {
            let gateway = ip(from + 1);
            let free = (from..=to).map(ip).find(|ip| *ip != gateway && !held.contains_key(ip));
            prop_assert_eq!(index.first_free(ip(from), ip(to), gateway).unwrap(), free);
        }
    }
}
