//! Faults seeded into ours on purpose: each must be found, or the comparison is blind.

use oxcni_tests::{Call, Host, Plugins};

use crate::case::Family;

/// A plugin that does wrong: a script in the place of ours, which calls ours.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    pub(crate) family: Family,
    /// Which plugin has the fault.
    plugin: &'static str,
    /// A shell script; `ours` runs our plugin, `$CNI_COMMAND` and the others are set.
    script: &'static str,
}

impl Fault {
    /// Puts the script where the host finds it.
    pub(crate) fn install(&self, host: &Host) {
        let ours = Plugins::Multicall.dir().canonicalize().expect("the plugins are built");
        let ours = ours.join(self.plugin);
        let inside = "in_container() { nsenter --net=\"$CNI_NETNS\" \"$@\"; }";
        let script = format!("#!/bin/sh\nours() {{ {}; }}\n{inside}\n{}\n", ours.display(), self.script);
        host.install_script(&format!("/run/faulty/{}", self.plugin), &script);
    }

    /// The same call, of the faulty plugin.
    pub(crate) fn behind<'h>(&self, call: Call<'h>) -> Call<'h> {
        call.program(format!("/run/faulty/{}", self.plugin))
    }
}

pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        name: "the result lacks gateways",
        family: Family::Bridge,
        plugin: "bridge",
        script: "ours | sed 's/\"gateway\":\"[^\"]*\",*//'",
    },
    Fault {
        name: "the result lacks a route",
        family: Family::HostLocal,
        plugin: "host-local",
        script: "ours | sed 's/{\"dst\":\"172[^}]*},*//'",
    },
    Fault {
        name: "the container's MTU is one too small",
        family: Family::Bridge,
        plugin: "bridge",
        script: "out=$(ours); code=$?; echo \"$out\"; \
            [ $CNI_COMMAND$code != ADD0 ] || in_container ip link set eth0 mtu 1499; exit $code",
    },
    Fault {
        name: "the port on the host is in hairpin mode",
        family: Family::Bridge,
        plugin: "bridge",
        script: "out=$(ours); code=$?; echo \"$out\"; \
            [ $CNI_COMMAND$code != ADD0 ] || for port in /sys/class/net/*/brport/hairpin_mode; do echo 1 > $port; done; exit $code",
    },
    Fault {
        name: "a route is missing in the container",
        family: Family::Bridge,
        plugin: "bridge",
        script: "out=$(ours); code=$?; echo \"$out\"; \
            [ $CNI_COMMAND$code != ADD0 ] || in_container ip route del 172.30.0.0/16 2>/dev/null; exit $code",
    },
    Fault {
        name: "CHECK succeeds whatever there is",
        family: Family::Bridge,
        plugin: "bridge",
        script: "[ $CNI_COMMAND != CHECK ] || exit 0; ours",
    },
    Fault {
        name: "CHECK fails whatever there is",
        family: Family::HostLocal,
        plugin: "host-local",
        script: "[ $CNI_COMMAND != CHECK ] || { echo '{\"code\":100,\"msg\":\"no\"}'; exit 1; }; ours",
    },
    Fault {
        name: "DEL keeps the address",
        family: Family::HostLocal,
        plugin: "host-local",
        script: "[ $CNI_COMMAND != DEL ] || exit 0; ours",
    },
    Fault {
        name: "DEL keeps the interface",
        family: Family::Bridge,
        plugin: "bridge",
        script: "[ $CNI_COMMAND != DEL ] || in_container ip link set eth0 name kept 2>/dev/null; ours",
    },
    Fault {
        name: "a reservation ends in a line break",
        family: Family::HostLocal,
        plugin: "host-local",
        script: "ours; code=$?; for file in /var/lib/cni/networks/net/10.*; do [ ! -f $file ] || echo >> $file; done; exit $code",
    },
    Fault {
        name: "an invalid configuration is accepted",
        family: Family::Static,
        plugin: "static",
        script: "out=$(ours) && { echo \"$out\"; exit; }; echo '{\"cniVersion\":\"1.0.0\"}'",
    },
    Fault {
        name: "a valid configuration is refused",
        family: Family::Static,
        plugin: "static",
        script: "out=$(ours) || { echo \"$out\"; exit 1; }; case $out in *gateway*) echo '{\"code\":7,\"msg\":\"no\"}'; exit 1;; esac; echo \"$out\"",
    },
    Fault {
        name: "the error has another code",
        family: Family::Static,
        plugin: "static",
        script: "out=$(ours) && { echo \"$out\"; exit; }; echo \"$out\" | sed 's/\"code\":[0-9]*/\"code\":3/'; exit 1",
    },
    Fault {
        name: "the loopback interface is down",
        family: Family::Loopback,
        plugin: "loopback",
        script: "out=$(ours); code=$?; echo \"$out\"; in_container ip link set lo down; exit $code",
    },
];
