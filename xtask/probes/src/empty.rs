//! Does nothing: what starting and reaping a small static process costs.

fn main() {}
