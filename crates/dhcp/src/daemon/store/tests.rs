use cni_core::spec::Attachment;
use proptest::prelude::*;

use super::*;
use crate::protocol::Settings;

fn target(container: &str) -> Target {
    let attachment = Attachment { container_id: container.parse().unwrap(), ifname: "eth0".parse().unwrap() };
    let id = Id { network: "net".parse().unwrap(), attachment };
    Target { id, netns: "/run/netns/x".into(), settings: Settings::default() }
}

fn place() -> Place {
    serde_json::from_str(
        r#"{"path":"/run/netns/x","dev":4,"ino":5,"index":2,"ifname":"eth0","mac":[2,0,0,0,0,1]}"#,
    )
    .unwrap()
}

fn lease() -> Lease {
    let mut options = Options::default();
    options.set(6, [10, 0, 0, 1]);
    Lease {
        address: [10, 0, 0, 2].into(),
        prefix: 24,
        server: [10, 0, 0, 1].into(),
        start: Time(1000),
        timers: Some(Timers { renew: Time(2000), rebind: Time(3000), expiry: Time(4000) }),
        options,
    }
}

fn ipv6_lease() -> v6::Lease {
    let mut options = v6::Options::default();
    options.push(23, [0xfd; 16]);
    v6::Lease {
        address: "fd00::7".parse().unwrap(),
        server: vec![0, 4, 7],
        start: Time(1000),
        preferred: Some(Time(3500)),
        timers: Some(Timers { renew: Time(2000), rebind: Time(3000), expiry: Time(4000) }),
        options,
    }
}

fn leases(container: &str, ipv4: Option<Lease>, ipv6: Option<v6::Lease>) -> Leases {
    Leases { target: target(container), place: place(), broadcast: true, ipv4, ipv6 }
}

#[test]
fn an_attachment_is_found_again_with_its_leases_or_without() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    store.save(leases("b", Some(lease()), None)).unwrap();
    store.remove(&target("b").id).unwrap();
    for (ipv4, ipv6) in
        [(Some(lease()), Some(ipv6_lease())), (Some(lease()), None), (None, Some(ipv6_lease())), (None, None)]
    {
        store.save(leases("a", ipv4.clone(), ipv6.clone())).unwrap();
        let [found] = &store.load().unwrap()[..] else { panic!("one attachment") };
        assert_eq!((&found.ipv4, &found.ipv6), (&ipv4, &ipv6));
        assert_eq!((&found.target.id, &found.place, found.broadcast), (&target("a").id, &place(), true));
    }
    store.remove(&target("a").id).unwrap();
    store.remove(&target("a").id).unwrap();
    assert!(store.load().unwrap().is_empty());
}

#[test]
fn one_daemon_has_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let held = Store::open(folder.path()).unwrap();
    let error = Store::open(folder.path()).map(drop).unwrap_err();
    assert!(error.to_string().contains("another daemon"), "{error}");
    drop(held);
    Store::open(folder.path()).map(drop).unwrap();
}

#[test]
fn what_is_cut_off_or_of_another_boot_is_dropped_and_others_stay() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    store.save(leases("a", Some(lease()), None)).unwrap();
    let good = std::fs::read_to_string(folder.path().join(file_name(&target("a").id))).unwrap();
    let boot = format!("\"boot\":\"{}\"", store.boot);
    assert!(good.contains(&boot));
    for (name, text) in [
        ("cut.json", good[..good.len() / 2].to_owned()),
        ("empty.json", String::new()),
        ("boot.json", good.replace(&boot, "\"boot\":\"x\"")),
        ("order.json", good.replace("[2000,3000,4000]", "[3000,2000,4000]")),
        ("version.json", good.replace("\"version\":1", "\"version\":9")),
        (".oxcni-1-1-1", good.clone()),
    ] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    assert_eq!(store.load().unwrap().len(), 1);
    let left: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "the lease and the lock: {left:?}");
}

proptest! {
    #[test]
    fn any_bytes_in_a_file_are_read_or_dropped(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        std::fs::write(folder.path().join("x.json"), bytes).unwrap();
        prop_assert_eq!(store.load().unwrap().len(), 0);
    }
}
