//! One system call fails, any one of an ADD: what a failed ADD made is taken back before it returns, and
//! what a successful one made goes with DEL.
//!
//! Where the call that fails receives the answer to a request, the kernel has done what was requested.
#![cfg(target_arch = "x86_64")]

use nix::errno::Errno;
use nix::libc;
use oxcni_tests::requirement::{self, Feature};
use oxcni_tests::{Container, Failed, Host, Network, Plugins, fail_close, fail_messages, fail_syscall};
use serde_json::json;

const MASTER: &str = "link add name eth1 type veth peer name far; link set far up; link set eth1 up";

/// What an attachment may leave behind.
fn remains(host: &Host, pod: &Container<'_>) -> Vec<String> {
    let links = host.links().into_iter().filter(|link| !["lo", "eth1", "far"].contains(&link.as_str()));
    let of_pod = pod.state()["links"].as_object().cloned().unwrap_or_default();
    let of_pod = of_pod
        .into_iter()
        .map(|(name, _)| name)
        .filter(|name| name != "lo")
        .map(|link| format!("{link} in the container"));
    let reservations = host.reservations("net").into_keys();
    links.chain(of_pod).chain(host.rules()).chain(reservations).collect()
}

/// System calls that can't fail as they are made to here: brk(2) reports no error numbers. And a
/// thread that can't return from the container's namespace ends the process, see `Netns::enter`.
const LEFT_OUT: [i64; 2] = [libc::SYS_brk, libc::SYS_setns];

/// Has each system call of an ADD fail, one in each ADD.
fn failing_everywhere(host: &Host, net: &Network<'_>) {
    let mut wrong = Vec::new();
    let (mut failed_adds, mut number) = (0, 1);
    loop {
        let errno = [Errno::EIO, Errno::ENOMEM, Errno::ENOSPC][usize::try_from(number % 3).expect("small")];
        let pod = host.container();
        let Failed { made, syscall, status, output } = fail_syscall(&net.call("ADD", &pod), number, errno);
        let Some(syscall) = syscall else {
            assert!(status.success(), "an ADD without a fault fails: {status}");
            assert!(made > 50, "an ADD of {made} system calls");
            break;
        };
        let fault = format!("system call {number} of {made}, of number {syscall}, fails with {errno}");
        failed_adds += u32::from(!status.success());
        let mut left = remains(host, &pod);
        if syscall == libc::SYS_write {
            // Where the result can't be written the attachment is deleted, and that leaves the bridge.
            left.retain(|link| link != "br-fault");
        }
        if !status.success() && !left.is_empty() && !LEFT_OUT.contains(&syscall) {
            wrong.push(format!("{fault}: the failed ADD left {left:?}\n  {output}"));
        }
        net.del(&pod).succeeds();
        drop(host.try_ip("link del br-fault"));
        let left = remains(host, &pod);
        if !left.is_empty() {
            wrong.push(format!("{fault}: DEL left {left:?}"));
        }
        number += 1;
    }
    assert!(failed_adds > 20, "only {failed_adds} ADDs fail");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn met(test: &str, features: &[Feature]) -> bool {
    requirement::met_on_any_kernel(test, features, "what fails is not the kernel")
}

#[test]
fn failed_add_of_bridge_and_host_local_leaves_nothing() {
    if !met("failed_add_of_bridge_and_host_local_leaves_nothing", &[]) {
        return;
    }
    let host = Host::new(Plugins::Multicall);
    let net = host.network(json!({
        "cniVersion": "1.1.0", "name": "net", "type": "bridge", "bridge": "br-fault", "isGateway": true,
        "isDefaultGateway": true, "ipMasq": true,
        "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.1.2.0/24" }], [{ "subnet": "fd00:1::/64" }]] },
    }));
    failing_everywhere(&host, &net);
}

#[test]
fn failed_add_of_macvlan_and_static_leaves_nothing() {
    if !met("failed_add_of_macvlan_and_static_leaves_nothing", &[Feature::Macvlan]) {
        return;
    }
    let host = Host::new(Plugins::Multicall);
    host.ip(MASTER);
    let net = host.network(json!({
        "cniVersion": "1.1.0", "name": "net", "type": "macvlan", "master": "eth1",
        "ipam": { "type": "static", "addresses": [{ "address": "10.1.2.30/24", "gateway": "10.1.2.1" }] },
    }));
    failing_everywhere(&host, &net);
}

/// NFS tells only at the end that there was no space for what was written.
#[test]
fn failed_close_of_a_reservation_is_an_error() {
    if !met("failed_close_of_a_reservation_is_an_error", &[]) {
        return;
    }
    let host = Host::new(Plugins::Multicall);
    let net = host.network(json!({
        "cniVersion": "1.1.0", "name": "net", "type": "host-local",
        "ipam": { "type": "host-local", "subnet": "10.1.2.0/24" },
    }));
    // The reservation, and the address that was reserved last.
    for number in 1..=2 {
        let call = net.call("ADD", &host.container());
        let Failed { syscall, status, output, .. } =
            fail_close(&call, "/cni/networks/net/", number, Errno::ENOSPC);
        assert_eq!(syscall, Some(libc::SYS_close), "file {number}: {output}");
        assert!(!status.success() && output.contains("the file system is full"), "file {number}: {output}");
        assert!(host.reservations("net").is_empty(), "file {number}: {output}");
    }
}

/// Another container could get the address of an interface that is still there.
#[test]
fn undo_releases_no_address_that_an_interface_has() {
    if !met("undo_releases_no_address_that_an_interface_has", &[]) {
        return;
    }
    let host = Host::new(Plugins::Multicall);
    let net = host.network(json!({
        "cniVersion": "1.1.0", "name": "net", "type": "bridge", "bridge": "br-fault", "isGateway": true,
        "ipam": { "type": "host-local", "subnet": "10.1.2.0/24" },
    }));
    let mut addressed = 0;
    for number in 1.. {
        let pod = host.container();
        let Failed { syscall, status, .. } = fail_messages(&net.call("ADD", &pod), number, Errno::ENOBUFS);
        if syscall.is_none() {
            assert!(status.success(), "an ADD without a fault fails: {status}");
            break;
        }
        assert!(!status.success(), "succeeds without message {number}");
        let held: Vec<_> = host.reservations("net").into_keys().collect();
        let has_address = pod.link("eth0")["addr_info"].to_string().contains("10.1.2.");
        assert!(
            !has_address || held.len() == 1,
            "an address is released, from message {number} on: {held:?}"
        );
        addressed += u32::from(has_address);
        net.del(&pod).succeeds();
        drop(host.try_ip("link del br-fault"));
        assert_eq!(remains(&host, &pod), Vec::<String>::new(), "after DEL, from message {number} on");
    }
    assert!(addressed > 0, "no interface was left with its address");
}
