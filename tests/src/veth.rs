use crate::{Container, Host};

impl Host {
    /// A veth pair: `name` on this host, up, and `eth0` in a new namespace `peer`, up and with these
    /// addresses. It stands for a network interface and a machine on the same network.
    pub fn veth_pair(&self, name: &str, peer: &str, addresses: &[&str]) -> Container<'_> {
        let far = self.named_container(peer);
        self.ip(&format!("link add name {name} type veth peer name eth0 netns {peer}; link set {name} up"));
        let mut commands = "link set lo up; link set eth0 up".to_owned();
        for address in addresses {
            let nodad = if address.contains(':') { "nodad" } else { "" };
            commands.push_str(&format!("; addr add {address} dev eth0 {nodad}"));
        }
        far.ip(&commands);
        far
    }
}
