//! Single flight inside the process: who asks for what is being fetched joins, and all get the one outcome.
//!
//! A flight has no task of its own. It is carried by those who wait for it: when one of them goes, the others
//! carry on; when the last goes, it stops where it is.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, WeakShared};
use samovar_core::Failure;

use crate::error::Error;
use crate::fetch::meter::Meter;
use crate::fetch::progress::{Progress, Watch};

type FlightResult<T> = Result<T, Arc<Crash>>;

/// The flights of a store, by what they are for.
pub(crate) struct Flights<T: Clone> {
    under_way: Mutex<HashMap<String, Flight<T>>>,
}

struct Flight<T: Clone> {
    outcome: WeakShared<BoxFuture<'static, FlightResult<T>>>,
    meter: Arc<Meter>,
}

/// An error that several wait for: one gets it as it is, the others get what it says.
struct Crash {
    first: Mutex<Option<Error>>,
    failure: Failure,
}

impl<T: Clone + Send + 'static> Flights<T> {
    pub(crate) fn new() -> Self {
        Self { under_way: Mutex::new(HashMap::new()) }
    }

    /// Joins the flight of this name, or begins it.
    ///
    /// # Errors
    /// What the flight ends with.
    ///
    /// # Cancel safety
    /// Dropping it leaves the flight to the others who wait; without any, the flight is dropped too.
    pub(crate) async fn join<F>(
        &self,
        name: String,
        watch: Option<Watch>,
        begin: impl FnOnce(Arc<Meter>) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let (outcome, meter) = {
            let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
            under_way.retain(|_, flight| flight.outcome.upgrade().is_some());
            let joined = under_way.get(&name).and_then(|flight| {
                // One that has landed is over: what it found may have changed since.
                let outcome = flight.outcome.upgrade().filter(|outcome| outcome.peek().is_none())?;
                Some((outcome, Arc::clone(&flight.meter)))
            });
            joined.unwrap_or_else(|| {
                let meter = Arc::new(Meter::default());
                let flight = begin(Arc::clone(&meter));
                let outcome = flight.map(|result| result.map_err(Crash::of)).boxed().shared();
                let weak = outcome.downgrade().expect("invariant: a future that was not polled is there");
                under_way.insert(name, Flight { outcome: weak, meter: Arc::clone(&meter) });
                (outcome, meter)
            })
        };
        let _watching = watch.map(|watch| meter.attach(watch));
        outcome.await.map_err(|crash| crash.take())
    }

    /// The flights that have not landed, by name, with how they stand. Asking for them keeps none of them in the air.
    pub(crate) fn under_way(&self) -> Vec<(String, Progress)> {
        let under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let is_flying =
            |flight: &Flight<T>| flight.outcome.upgrade().is_some_and(|outcome| outcome.peek().is_none());
        let flying = under_way.iter().filter(|(_, flight)| is_flying(flight));
        flying
            .map(|(name, flight)| (name.clone(), flight.meter.now().unwrap_or(Progress::Resolving)))
            .collect()
    }
}

impl Crash {
    fn of(error: Error) -> Arc<Self> {
        let failure = Failure::from(&error);
        Arc::new(Self { first: Mutex::new(Some(error)), failure })
    }

    fn take(&self) -> Error {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        first.unwrap_or_else(|| Error::Shared(self.failure.clone()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use super::*;

    #[derive(Default)]
    struct Probe {
        begun: AtomicUsize,
        dropped: AtomicUsize,
        go: Notify,
    }

    struct OnDrop(Arc<Probe>);

    impl Drop for OnDrop {
        fn drop(&mut self) {
            self.0.dropped.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn flight(probe: &Arc<Probe>) -> impl FnOnce(Arc<Meter>) -> BoxFuture<'static, Result<usize, Error>> {
        let probe = Arc::clone(probe);
        move |_| {
            async move {
                let _guard = OnDrop(Arc::clone(&probe));
                let number = probe.begun.fetch_add(1, Ordering::SeqCst);
                probe.go.notified().await;
                Ok(number)
            }
            .boxed()
        }
    }

    #[tokio::test]
    async fn all_who_ask_get_the_one_outcome() {
        let (flights, probe) = (Flights::new(), Arc::new(Probe::default()));
        let (one, other, ()) = tokio::join!(
            flights.join("a".to_owned(), None, flight(&probe)),
            flights.join("a".to_owned(), None, flight(&probe)),
            async { probe.go.notify_one() },
        );
        assert_eq!((one.unwrap(), other.unwrap()), (0, 0));
        assert_eq!(probe.begun.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_flight_goes_on_without_who_began_it_and_ends_with_the_last() {
        let (flights, probe) = (Flights::new(), Arc::new(Probe::default()));
        let mut first = Box::pin(flights.join("a".to_owned(), None, flight(&probe)));
        let mut second = Box::pin(flights.join("a".to_owned(), None, flight(&probe)));
        assert!((&mut first).now_or_never().is_none());
        assert!((&mut second).now_or_never().is_none());
        drop(first);
        assert_eq!(probe.dropped.load(Ordering::SeqCst), 0);
        assert!((&mut second).now_or_never().is_none());
        drop(second);
        assert_eq!((probe.begun.load(Ordering::SeqCst), probe.dropped.load(Ordering::SeqCst)), (1, 1));
        probe.go.notify_one();
        assert_eq!(flights.join("a".to_owned(), None, flight(&probe)).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn what_flies_is_listed_until_it_lands_or_its_last_caller_goes() {
        let (flights, probe) = (Flights::new(), Arc::new(Probe::default()));
        assert!(flights.under_way().is_empty());
        let mut first = Box::pin(flights.join("a".to_owned(), None, flight(&probe)));
        assert!((&mut first).now_or_never().is_none());
        assert_eq!(flights.under_way(), [("a".to_owned(), Progress::Resolving)]);
        drop(first);
        assert!(flights.under_way().is_empty(), "no caller is left");
        assert_eq!(probe.dropped.load(Ordering::SeqCst), 1);
        let second = flights.join("a".to_owned(), None, flight(&probe));
        let (outcome, ()) = tokio::join!(second, async { probe.go.notify_one() });
        assert_eq!(outcome.expect("lands"), 1);
        assert!(flights.under_way().is_empty(), "it has landed");
    }

    #[tokio::test]
    async fn one_gets_the_error_itself_and_the_others_what_it_says() {
        let flights = Flights::<()>::new();
        let fail = |_| async {
            tokio::task::yield_now().await;
            Err(Error::Offline { subject: "x".to_owned() })
        };
        let (one, other) =
            tokio::join!(flights.join("a".to_owned(), None, fail), flights.join("a".to_owned(), None, fail));
        let errors = [one.unwrap_err(), other.unwrap_err()];
        assert_eq!(errors.iter().filter(|error| matches!(error, Error::Offline { .. })).count(), 1);
        assert_eq!(errors.iter().filter(|error| matches!(error, Error::Shared(_))).count(), 1);
        assert_eq!(errors[0].kind(), errors[1].kind());
    }
}
