use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

/// What does not come within this time does not come.
const HANGING: Duration = Duration::from_secs(60);

/// A request as it came, and how it was answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Such as `GET`.
    pub method: String,
    /// Without the query.
    pub path: String,
    /// The part behind the `?`; empty without one.
    pub query: String,
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub protocol: String,
    /// For whom it was made, if not for the user who logged in: the user, and groups.
    pub on_behalf_of: Vec<String>,
    /// Which connection it came over: 1, 2, ….
    pub connection: usize,
    /// Its body; `null` when it is absent or not JSON.
    pub body: Value,
    /// The status of the answer; `None` before it was sent.
    pub answered: Option<u16>,
}

/// All requests, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Journal {
    requests: Mutex<Vec<Request>>,
    changed: Condvar,
}

impl Journal {
    fn lock(&self) -> MutexGuard<'_, Vec<Request>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn came(&self, request: Request) -> usize {
        let mut requests = self.lock();
        requests.push(request);
        self.changed.notify_all();
        requests.len() - 1
    }

    /// An answer to a request that was cleared meanwhile is ignored.
    pub(super) fn answered(&self, at: usize, status: u16) {
        if let Some(request) = self.lock().get_mut(at) {
            request.answered = Some(status);
        }
        self.changed.notify_all();
    }

    pub(super) fn all(&self) -> Vec<Request> {
        self.lock().clone()
    }

    pub(super) fn forget(&self) {
        self.lock().clear();
    }

    /// Waits until so many requests fit; false where they do not come.
    pub(super) fn wait(&self, times: usize, fits: impl Fn(&Request) -> bool) -> bool {
        let until = Instant::now() + HANGING;
        let mut requests = self.lock();
        while requests.iter().filter(|request| fits(request)).count() < times {
            let Some(left) = until.checked_duration_since(Instant::now()) else { return false };
            requests = self.changed.wait_timeout(requests, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}
