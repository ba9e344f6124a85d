//! How deep plugins call plugins, so that a configuration that leads back to its own plugin ends.
//!
//! Within a process the depth is counted on the thread; a process gets that of its caller in the
//! environment.

use std::cell::Cell;

use crate::spec::{Error, PluginType, Result};

/// The variable with the depth at which a process was executed.
pub(super) const VARIABLE: &str = "OXCNI_DELEGATION_DEPTH";

/// The deepest chain of calls. A runtime calls multus, which calls an interface plugin, which calls
/// its IPAM plugin: that is a depth of 2.
const MAX: u32 = 8;

thread_local! {
    static DEPTH: Cell<Option<u32>> = const { Cell::new(None) };
}

/// Calls `work` one level deeper.
///
/// # Errors
/// Those of `work`, and [`crate::spec::Code::INVALID_CONFIG`] when it would be too deep.
pub(super) fn deeper<T>(plugin_type: &PluginType, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let outer = current();
    if outer >= MAX {
        let msg = format!("plugin {plugin_type} would be called at a depth of more than {MAX} plugins");
        return Err(Error::invalid_config(msg)
            .details("does a configuration have its own plugin as \"ipam\" or as delegate?"));
    }
    let _restored = Restore(DEPTH.replace(Some(outer + 1)));
    work()
}

/// The depth of a process that is executed now.
pub(super) fn of_delegate() -> u32 {
    current()
}

fn current() -> u32 {
    // An invalid value can only come from another program that uses the name: it counts as 0.
    DEPTH.get().unwrap_or_else(|| {
        std::env::var(VARIABLE).ok().and_then(|depth| depth.parse().ok()).unwrap_or_default()
    })
}

struct Restore(Option<u32>);

impl Drop for Restore {
    fn drop(&mut self) {
        DEPTH.set(self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_end_at_the_maximum_and_the_depth_is_restored() {
        fn recurse(levels: &Cell<u32>) -> Result<()> {
            deeper(&"again".parse()?, || {
                levels.set(levels.get() + 1);
                recurse(levels)
            })
        }
        let levels = Cell::new(0);
        for _ in 0..2 {
            levels.set(0);
            let error = recurse(&levels).unwrap_err();
            assert!(error.msg().contains("plugin again"), "{error}");
            assert_eq!(levels.get(), MAX);
        }
    }
}
