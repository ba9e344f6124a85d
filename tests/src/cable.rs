use crate::{Container, Host};

impl Host {
    /// A link `name` of this host, up, whose other end is `eth0` of a new namespace `peer` with
    /// these addresses: a machine on the same cable, as an interface's master has one.
    pub fn cable(&self, name: &str, peer: &str, addresses: &[&str]) -> Container<'_> {
        let far = self.named_container(peer);
        self.sh(&format!(
            "ip link add name {name} type veth peer name eth0 netns {peer}; ip link set {name} up"
        ));
        let mut script = "ip link set lo up; ip link set eth0 up".to_owned();
        for address in addresses {
            let nodad = if address.contains(':') { "nodad" } else { "" };
            script.push_str(&format!("; ip addr add {address} dev eth0 {nodad}"));
        }
        far.sh(&script);
        far
    }
}
