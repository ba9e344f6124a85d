//! The parser of this crate, for the fuzz targets alone.

use cni_core::request::Request;

use crate::config::Config;

/// Reads a configuration.
pub fn config(request: &Request) {
    let _ = Config::parse(request);
}
