use std::collections::{BTreeMap, BTreeSet};

use cni_core::spec::Attachment;
use proptest::prelude::*;

use super::*;

fn owner(n: u32) -> Owner {
    Owner::of(&Attachment { container_id: format!("c{n}").parse().unwrap(), ifname: "eth0".parse().unwrap() })
}

fn v4(n: u32) -> IpAddr {
    address([0, 0, 0, 0].into(), 0x0a00_0000 + u128::from(n))
}

fn v6(n: u32) -> IpAddr {
    address([0; 16].into(), (0xfd00 << 112) + u128::from(n))
}

/// The index as the next process finds it.
fn reopened(index: &mut Index) -> Index {
    let file = Rc::new(tempfile::tempfile().unwrap());
    index.write_tables(&file).unwrap();
    index.write_header(&file, index.header()).unwrap();
    Index::read(file).unwrap()
}

#[test]
fn it_grows_and_shrinks_and_survives_the_file() {
    let mut index = Index::of([].into_iter()).unwrap();
    for n in 0..3000 {
        index.insert(Entry::new(v4(n), &owner(n))).unwrap();
    }
    let mut index = reopened(&mut index);
    assert_eq!(index.first_free(v4(0), v4(5000), v4(3000)).unwrap(), Some(v4(3001)));
    for n in (0..3000).filter(|n| n % 3 != 0) {
        index.remove(Entry::new(v4(n), &owner(n))).unwrap();
    }
    let mut index = reopened(&mut index);
    for n in 0..3000 {
        let expected = if n % 3 == 0 { vec![v4(n)] } else { Vec::new() };
        assert_eq!(index.held_by(&owner(n)).unwrap(), expected);
    }
    assert_eq!(index.first_free(v4(0), v4(2999), v4(1)).unwrap(), Some(v4(2)));
}

#[test]
fn an_owner_of_thousands_of_addresses_is_no_special_case() {
    let mut index = Index::of((0..20_000).map(|n| Entry::new(v6(n), &owner(1)))).unwrap();
    index.insert(Entry::new(v4(1), &owner(2))).unwrap();
    assert_eq!(index.held_by(&owner(1)).unwrap().len(), 20_000);
    for n in (0..20_000).rev() {
        index.remove(Entry::new(v6(n), &owner(1))).unwrap();
    }
    assert!(index.held_by(&owner(1)).unwrap().is_empty());
    assert_eq!(index.held_by(&owner(2)).unwrap(), [v4(1)]);
    assert_eq!((index.header().owners, index.header().blocks), (1, 1));
}

#[test]
fn a_page_that_was_altered_is_refused() {
    let mut index = Index::of((0..10).map(|n| Entry::new(v4(n), &owner(n)))).unwrap();
    let file = Rc::new(tempfile::tempfile().unwrap());
    index.write_tables(&file).unwrap();
    index.write_header(&file, index.header()).unwrap();
    for page in 1..index.header().pages() {
        std::os::unix::fs::FileExt::write_all_at(&*file, b"x", page * PAGE as u64 + 100).unwrap();
    }
    let mut index = Index::read(file.clone()).unwrap();
    assert!(index.held_by(&owner(1)).is_err());
    assert!(index.first_free(v4(0), v4(9), v4(0)).is_err());
    file.set_len(PAGE as u64).unwrap();
    assert!(Index::read(file).is_err());
}

proptest! {
    #[test]
    fn it_agrees_with_a_map(steps in proptest::collection::vec((0u32..5, 0u32..700, any::<bool>()), 0..300), from in 0u32..700, to in 0u32..700, reopen in 0usize..300) {
        let mut index = Index::of([].into_iter()).unwrap();
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
                index = reopened(&mut index);
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
