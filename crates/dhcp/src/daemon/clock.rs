//! The time, and one timer for all that waits for it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use dhcp_client::Time;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::unix::AsyncFd;

use super::watch::watch;

/// The clock that counts on while the machine is suspended, as the clocks of servers do. (The
/// timers of tokio stand still then.)
pub(crate) struct Clock {
    timer: TimerFd,
    /// The same timer, for the event loop.
    events: AsyncFd<OwnedFd>,
    waiting: RefCell<BTreeMap<(Time, u64), Waker>>,
    next: Cell<u64>,
    armed: Cell<Option<Time>>,
}

impl Clock {
    /// A clock; [`Clock::drive`] has to run for anything to be woken.
    ///
    /// # Errors
    /// Those of timerfd_create(2).
    pub(crate) fn new() -> io::Result<Rc<Clock>> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, flags)?;
        let fd = std::os::fd::AsFd::as_fd(&timer).try_clone_to_owned()?;
        let events = watch(fd)?;
        let waiting = RefCell::default();
        Ok(Rc::new(Clock { timer, events, waiting, next: Cell::new(0), armed: Cell::new(None) }))
    }

    /// The time.
    pub(crate) fn now(&self) -> Time {
        now()
    }

    /// Waits until a time; for ever where there is none.
    pub(crate) async fn until(self: &Rc<Clock>, at: Option<Time>) {
        match at {
            Some(at) => Until { clock: self.clone(), at, number: None }.await,
            None => std::future::pending().await,
        }
    }

    /// Waits for so many milliseconds.
    pub(crate) async fn sleep(self: &Rc<Clock>, milliseconds: u64) {
        self.until(Some(self.now().after(milliseconds))).await;
    }

    /// Wakes what waits; does not end.
    pub(crate) async fn drive(self: Rc<Clock>) {
        while let Ok(mut ready) = self.events.readable().await {
            ready.clear_ready();
            // Reads how often it has expired; EAGAIN where it was set anew meanwhile.
            let _ = nix::unistd::read(self.events.get_ref(), &mut [0; 8]);
            self.armed.set(None);
            let now = self.now();
            let later = self.waiting.borrow_mut().split_off(&(now.after(1), 0));
            let due = self.waiting.replace(later);
            due.into_values().for_each(Waker::wake);
            self.arm();
        }
    }

    /// Sets the timer to the first time that is waited for.
    fn arm(&self) {
        let first = self.waiting.borrow().keys().next().map(|(at, _)| *at);
        if first == self.armed.get() {
            return;
        }
        self.armed.set(first);
        let set = match first {
            // A time of zero would disarm it (timerfd_settime(2)).
            Some(at) => self.timer.set(
                Expiration::OneShot(Duration::from_millis(at.0.max(1)).into()),
                TimerSetTimeFlags::TFD_TIMER_ABSTIME,
            ),
            None => self.timer.unset(),
        };
        debug_assert!(set.is_ok(), "{set:?}");
    }
}

/// The time of the clock.
pub(crate) fn now() -> Time {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME);
    // Cannot fail for a clock that exists (clock_gettime(2)).
    now.map_or(Time(0), |now| Time(Duration::from(now).as_millis() as u64))
}

/// A wait that takes itself off the list when it is dropped.
struct Until {
    clock: Rc<Clock>,
    at: Time,
    number: Option<u64>,
}

impl Future for Until {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.clock.now() >= self.at {
            return Poll::Ready(());
        }
        let number = self.number.unwrap_or_else(|| {
            let number = self.clock.next.get();
            self.clock.next.set(number + 1);
            number
        });
        self.number = Some(number);
        self.clock.waiting.borrow_mut().insert((self.at, number), context.waker().clone());
        self.clock.arm();
        Poll::Pending
    }
}

impl Drop for Until {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.clock.waiting.borrow_mut().remove(&(self.at, number));
            self.clock.arm();
        }
    }
}
