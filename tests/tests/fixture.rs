//! The fixture itself, on programs that are not ours.

use oxcni_tests::{Host, Plugins, requirement};

#[test]
fn hosts_do_not_meet_each_other_nor_the_machine() {
    if !requirement::met("hosts_do_not_meet_each_other_nor_the_machine", &[]) {
        return;
    }
    let (one, two) = (Host::new(Plugins::Go), Host::new(Plugins::Go));
    one.sh("ip link add name only-here type bridge; touch /run/only-here /var/lib/cni/only-here");
    assert_eq!(one.links(), ["lo", "only-here"]);
    assert_eq!(two.links(), ["lo"]);
    assert!(one.path("/run/only-here").exists());
    for file in ["/run/only-here", "/var/lib/cni/only-here"] {
        assert!(!two.path(file).exists());
        assert!(!std::path::Path::new(file).exists());
    }
    let pod = one.container();
    assert_eq!(pod.netns(), "/run/netns/c1");
    assert!(pod.sh("ip -o link show lo").contains("state DOWN"));
    assert!(one.sh("ip netns list").contains("c1"));
    pod.vanish();
    assert!(!one.path(pod.netns()).exists());
}
