//! How to undo what an ADD did when a later step fails.

use crate::spec::Result;

/// The steps that undo what an ADD did.
///
/// When it is dropped before [`Undo::keep`], by an error or a panic, it runs them from last to
/// first.
///
/// ```
/// use cni_core::undo::Undo;
///
/// let log = std::cell::RefCell::new(Vec::new());
/// {
///     let undo = Undo::new();
///     undo.push("a", || Ok(log.borrow_mut().push("a")));
///     undo.push("b", || Ok(log.borrow_mut().push("b")));
/// }
/// assert_eq!(*log.borrow(), ["b", "a"]);
/// ```
#[derive(Default)]
pub struct Undo<'a> {
    steps: std::cell::RefCell<Vec<Step<'a>>>,
}

struct Step<'a> {
    what: String,
    run: Box<dyn FnOnce() -> Result<()> + 'a>,
}

impl<'a> Undo<'a> {
    /// Without any step.
    pub fn new() -> Undo<'a> {
        Undo::default()
    }

    /// Registers how to undo what was just done; `what` names it in an error.
    pub fn push(&self, what: impl Into<String>, run: impl FnOnce() -> Result<()> + 'a) {
        self.steps.borrow_mut().push(Step { what: what.into(), run: Box::new(run) });
    }

    /// Keeps everything: no step runs.
    pub fn keep(self) {
        self.steps.borrow_mut().clear();
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        while let Some(step) = { self.steps.borrow_mut().pop() } {
            if let Err(err) = (step.run)() {
                // The caller gets the error that led here.
                crate::diagnostics::note(format_args!("oxcni: undoing {} failed: {err}", step.what));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn what_is_kept_is_not_undone() {
        let undone = Cell::new(false);
        let undo = Undo::new();
        undo.push("it", || {
            undone.set(true);
            Ok(())
        });
        undo.keep();
        assert!(!undone.get());
    }

    #[test]
    fn a_panic_undoes_and_a_failing_step_stops_no_other() {
        let undone = Cell::new(0);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let undo = Undo::new();
            undo.push("first", || {
                undone.set(undone.get() + 1);
                Ok(())
            });
            undo.push("second", || Err(crate::spec::Error::invalid_config("no")));
            panic!("on purpose");
        }));
        assert!(panicked.is_err());
        assert_eq!(undone.get(), 1);
    }
}
