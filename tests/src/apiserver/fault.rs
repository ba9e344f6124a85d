use std::time::Duration;

/// What goes wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The answer takes this much longer.
    Slow(Duration),
    /// No answer ever comes, and the connection stays.
    Silent,
    /// 401: the credentials are not known.
    Unauthorized,
    /// 403: the user may not do it.
    Forbidden,
    /// 409: another client changed the object.
    Conflict,
    /// 429 with `Retry-After` in seconds.
    Busy(u64),
    /// Another status, such as 500 or 503, with the error object of Kubernetes.
    Status(u16),
    /// The connection is closed in place of an answer.
    Broken,
    /// The connection is closed in the middle of the answer.
    CutOff,
    /// 200 with a body that is no JSON.
    Garbage,
}

/// A fault, the requests that it meets, and how many of them.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) times: usize,
    pub(super) fault: Fault,
}

/// Takes one occurrence of the first fault that is planned for this request.
pub(super) fn take(planned: &mut Vec<Planned>, method: &str, path: &str) -> Option<Fault> {
    let at = planned.iter().position(|fault| {
        (fault.method.is_empty() || fault.method == method) && path.contains(&fault.path)
    })?;
    let fault = planned[at].fault.clone();
    planned[at].times = planned[at].times.saturating_sub(1);
    if planned[at].times == 0 {
        planned.remove(at);
    }
    Some(fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_meets_its_requests_and_only_so_many() {
        let mut planned = vec![Planned {
            method: "GET".to_owned(),
            path: "/pods/".to_owned(),
            times: 2,
            fault: Fault::Conflict,
        }];
        assert_eq!(take(&mut planned, "PUT", "/api/v1/namespaces/a/pods/b"), None);
        assert_eq!(take(&mut planned, "GET", "/api/v1/pods"), None);
        for _ in 0..2 {
            assert_eq!(take(&mut planned, "GET", "/api/v1/namespaces/a/pods/b"), Some(Fault::Conflict));
        }
        assert_eq!(take(&mut planned, "GET", "/api/v1/namespaces/a/pods/b"), None);
    }
}
