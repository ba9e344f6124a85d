//! The parsers of this crate, for the fuzz targets alone.

use cni_core::request::Request;

use crate::config::Config;
use crate::reservation::{self, Owner};

/// Reads a configuration.
pub fn config(request: &Request) {
    let _ = Config::parse(request).and_then(Config::require_ranges).and_then(|config| config.wanted());
}

/// Reads a file of the data folder, by its name and content.
pub fn reservation(name: &str, content: &[u8]) {
    let owner = Owner::parse(content);
    assert_eq!(Owner::parse(&owner.contents()), owner, "an owner does not survive its own file");
    assert!(owner.to_string().len() < 4096, "the description of an owner is too long");
    if let Some(ip) = reservation::address_of(name) {
        assert_eq!(reservation::file_name(ip), name);
    }
}

/// Reads a file of the index, as it is and with the right checksum.
pub fn index(number: u32, buckets: u32, content: &[u8]) {
    crate::index::fuzz_bucket(number, buckets, content);
}

/// Reads a resolv.conf.
pub fn resolv_conf(text: &str) {
    let dns = crate::resolv_conf::parse(text);
    assert!(dns.domain.len() <= text.len());
}
