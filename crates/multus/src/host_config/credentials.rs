//! Multus' kubeconfig: when a token is obtained, and when the next one.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use super::options::Options;
use crate::cluster::{kubeconfig, token};
use crate::entrypoint::error::{Context as _, Result};

/// The pause after a failed request; it doubles up to the longest one.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// How often the clock is looked at. A token ends by the time of day, which is set when a board without
/// a battery finds its time server, and goes on while the machine is suspended.
const CLOCK: Duration = Duration::from_secs(60);

/// A kubeconfig with a token, and from what and when it was made.
struct Made {
    text: String,
    source: Vec<u8>,
    at: SystemTime,
    lifetime: Duration,
}

impl Made {
    /// How long it need not be renewed: half of its lifetime. It is too old at once where the clock was
    /// set back, because a token is not valid before the time of its making.
    fn remaining(&self, now: SystemTime) -> Duration {
        match now.duration_since(self.at) {
            Ok(age) => (self.lifetime / 2).saturating_sub(age),
            Err(_) => Duration::ZERO,
        }
    }
}

/// The kubeconfig of multus, and the requests for it.
pub(super) struct Credentials<'o> {
    options: &'o Options,
    made: Option<Made>,
    /// The pause after the last request, which failed, and its end.
    pause: Duration,
    not_before: Option<Instant>,
    /// The administrator's kubeconfig at the last request.
    tried: Vec<u8>,
}

impl<'o> Credentials<'o> {
    pub(super) fn new(options: &'o Options) -> Self {
        Self { options, made: None, pause: FIRST_PAUSE, not_before: None, tried: Vec::new() }
    }

    /// The text of the kubeconfig that multus should have: with another token where one is due.
    ///
    /// # Errors
    /// Why no token could be obtained. It will be asked for again after [`Self::wait`].
    pub(super) fn renew(&mut self) -> Result<()> {
        let path = &self.options.kubeconfig;
        let source = fs::read(path).context(|| format!("can't read {}", path.display()))?;
        let is_due = self
            .made
            .as_ref()
            .is_none_or(|made| made.source != source || made.remaining(SystemTime::now()).is_zero());
        let may_try = source != self.tried || self.not_before.is_none_or(|time| time <= Instant::now());
        if !is_due || !may_try {
            return Ok(());
        }
        self.tried.clone_from(&source);
        match self.request(path) {
            Ok((text, lifetime)) => {
                self.made = Some(Made { text, source, at: SystemTime::now(), lifetime });
                (self.pause, self.not_before) = (FIRST_PAUSE, None);
                Ok(())
            }
            Err(err) => {
                self.not_before = Some(Instant::now() + self.pause);
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                Err(err)
            }
        }
    }

    fn request(&self, path: &Path) -> Result<(String, Duration)> {
        let Options { account, token_lifetime, .. } = self.options;
        let asked = || format!("no token for the service account {account}");
        let token = token::request(path, account, *token_lifetime).context(asked)?;
        Ok((kubeconfig::with_token(path, &token.secret).context(asked)?, token.lifetime))
    }

    /// What multus' kubeconfig should contain; `None` before the first token.
    pub(super) fn text(&self) -> Option<&str> {
        self.made.as_ref().map(|made| made.text.as_str())
    }

    /// How long to wait at most before [`Self::renew`] has something to do.
    pub(super) fn wait(&self) -> Duration {
        let retry = self.not_before.map(|time| time.saturating_duration_since(Instant::now()));
        let renewal = self.made.as_ref().map(|made| made.remaining(SystemTime::now()));
        retry.or(renewal).unwrap_or(CLOCK).min(CLOCK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_renewed_at_half_its_lifetime_and_when_the_clock_was_set_back() {
        let at = SystemTime::now();
        let made = Made { text: String::new(), source: Vec::new(), at, lifetime: Duration::from_secs(100) };
        assert_eq!(made.remaining(at + Duration::from_secs(20)), Duration::from_secs(30));
        assert_eq!(made.remaining(at + Duration::from_secs(51)), Duration::ZERO);
        assert_eq!(made.remaining(at - Duration::from_secs(1)), Duration::ZERO);
    }
}
