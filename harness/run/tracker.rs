//! What has become of one expectation: a pure function of the observations and of time.

use std::time::Duration;

use crate::event::{Measured, Outcome};
use crate::scenario::Timing;

/// An observation that is waited for (nobody observes any more, or one does not end) is given up this
/// long after it should have been there.
const CONFIRM: Duration = Duration::from_mins(1);

/// One observation as the machine takes it; times since the run began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Whether the condition held.
    pub holds: bool,
    /// What was seen, in words.
    pub saw: String,
    /// When the observation began.
    pub began: Duration,
    /// When its result was known.
    pub ended: Duration,
    /// Whether it was told as it happened: its resolution is not the time since the one before.
    pub watched: bool,
}

/// How an expectation was met, before it is known when its cause was proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirstHeld {
    /// When it first held for good.
    pub at: Duration,
    /// The time since the observation before it began; zero if it was watched.
    pub resolution: Duration,
}

#[derive(Debug, Clone, PartialEq)]
enum State {
    /// Its cause was not issued yet.
    Unarmed,
    /// It must begin to hold.
    Within { from: Duration, held: Option<FirstHeld> },
    /// It must hold in this window.
    Throughout { opens: Duration, closes: Duration, seen: usize },
    /// It held as it must.
    Met(Option<FirstHeld>),
    /// It did not; why, in words.
    Failed(String),
    /// It was given up.
    Dropped,
}

/// The state of one expectation.
#[derive(Debug, Clone)]
pub struct Tracker {
    timing: Timing,
    news: bool,
    wanted: String,
    state: State,
    /// When the last observation began.
    previous: Option<Duration>,
    /// What it was judged by.
    last: Option<(bool, String)>,
    /// When the observation that it was judged by ended.
    last_ended: Option<Duration>,
    /// What was seen last, also after its end.
    latest: Option<(bool, String)>,
    /// What the longest observation so far took.
    longest: Duration,
}

impl Tracker {
    /// An expectation whose cause was not issued yet. `news`: each observation tells only what is new since
    /// the one before, so that what an observation found which was under way when the cause was issued, or
    /// when the window opened, is not told again; it counts as found after.
    pub fn new(timing: Timing, news: bool, wanted: String) -> Self {
        let state = State::Unarmed;
        let (previous, last, last_ended, latest) = (None, None, None, None);
        let longest = Duration::ZERO;
        Self { timing, news, wanted, state, previous, last, last_ended, latest, longest }
    }

    /// Whether time runs in a window that opens with the step rather than with the cause.
    pub fn is_throughout(&self) -> bool {
        matches!(self.timing, Timing::Throughout { .. })
    }

    /// Its time counts from here: the issue of its cause, or the start of its step.
    pub fn arm(&mut self, from: Duration) {
        self.state = match self.timing {
            Timing::Within { .. } => State::Within { from, held: None },
            Timing::Throughout { after, window } => {
                let opens = from + after;
                State::Throughout { opens, closes: opens + window, seen: 0 }
            }
        };
    }

    /// Whether it still waits for its cause.
    pub fn is_unarmed(&self) -> bool {
        self.state == State::Unarmed
    }

    /// Whether it came to an end.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Met(_) | State::Failed(_) | State::Dropped)
    }

    /// Whether it failed.
    pub fn has_failed(&self) -> bool {
        matches!(self.state, State::Failed(_))
    }

    /// When a `within` first held, once it is met.
    pub fn met(&self) -> Option<FirstHeld> {
        match self.state {
            State::Met(held) => held,
            _ => None,
        }
    }

    /// Whether it held when it was last observed, also after its end.
    pub fn holds(&self) -> bool {
        self.latest.as_ref().is_some_and(|(holds, _)| *holds)
    }

    /// What was seen last, also after its end, in words.
    pub fn saw_latest(&self) -> String {
        self.latest.as_ref().map_or_else(|| "nothing yet".to_owned(), |(_, saw)| saw.clone())
    }

    /// The time from its arming in which it must have ended, if it is observed often enough.
    pub fn limit(&self) -> Duration {
        match self.timing {
            Timing::Within { deadline, stable_for } => deadline + stable_for,
            Timing::Throughout { after, window } => after + window,
        }
    }

    /// Gives it up, if it has not ended.
    pub fn give_up(&mut self) {
        if !self.is_over() {
            self.state = State::Dropped;
        }
    }

    /// What was seen last, in words.
    pub fn saw(&self) -> String {
        self.last.as_ref().map_or_else(|| "nothing yet".to_owned(), |(_, saw)| saw.clone())
    }

    /// What was seen last, and how long before `end` if that is worth a word.
    fn saw_before(&self, end: Duration) -> String {
        match self.last_ended.map(|ended| end.saturating_sub(ended)) {
            Some(age) if age > Duration::from_secs(1) => {
                format!("{} ({:.1} s before the deadline)", self.saw(), age.as_secs_f64())
            }
            _ => self.saw(),
        }
    }

    /// How it ended; `after` is the measured time of a `within` that was met.
    pub fn outcome(&self, after: Option<Measured>) -> Option<Outcome> {
        match &self.state {
            State::Met(_) => Some(Outcome::Met { after, saw: self.saw() }),
            State::Failed(why) => {
                let wanted = format!("{}, {}", self.wanted, super::plan::timing_words(self.timing));
                Some(Outcome::Failed { wanted, saw: why.clone() })
            }
            State::Dropped => Some(Outcome::Dropped),
            _ => None,
        }
    }

    /// Takes an observation in; whether what is seen differs from what was seen before.
    pub fn see(&mut self, seen: &Seen) -> bool {
        // Time that has passed meanwhile counts first: what comes after the end is too late.
        self.pass(seen.ended.saturating_sub(Duration::from_nanos(1)));
        let previous = self.previous.replace(seen.began);
        self.longest = self.longest.max(seen.ended.saturating_sub(seen.began));
        let now = Some((seen.holds, seen.saw.clone()));
        let changed = self.latest != now;
        self.latest.clone_from(&now);
        if !self.is_over() {
            self.last = now;
            self.last_ended = Some(seen.ended);
        }
        match (&mut self.state, self.timing) {
            (State::Within { from, held }, Timing::Within { deadline, stable_for }) => {
                let found = self.news && seen.holds && seen.ended >= *from;
                if seen.began < *from && !found {
                    return changed; // It does not speak of the time after the cause.
                }
                if !seen.holds {
                    *held = None;
                } else if held.is_none() && seen.ended <= *from + deadline {
                    let since = previous.unwrap_or(*from);
                    let resolution = seen.ended.saturating_sub(since);
                    let resolution = if seen.watched { Duration::ZERO } else { resolution };
                    *held = Some(FirstHeld { at: seen.ended, resolution });
                }
                if let Some(held) = *held
                    && seen.ended >= held.at + stable_for
                {
                    self.state = State::Met(Some(held));
                }
            }
            (State::Throughout { opens, closes, seen: count }, _) => {
                // What began in the window and does not hold speaks of it, whenever it ended.
                let found = self.news && !seen.holds && seen.ended >= *opens;
                let speaks = (seen.began >= *opens || found)
                    && seen.began <= *closes
                    && (seen.ended <= *closes || !seen.holds);
                *count += usize::from(speaks);
                if speaks && !seen.holds {
                    self.state = State::Failed(seen.saw.clone());
                } else if seen.ended > *closes {
                    self.state = match *count {
                        0 => State::Failed(format!(
                            "no observation began and ended in the window; last: {}",
                            self.saw()
                        )),
                        _ => State::Met(None),
                    };
                }
            }
            _ => {}
        }
        changed
    }

    /// Lets time pass. Call it after every observation that ended by then was taken in.
    pub fn pass(&mut self, now: Duration) {
        let Some(end) = self.wake() else { return };
        if now < end {
            return;
        }
        self.state = match &self.state {
            State::Within { held: Some(held), .. } => State::Failed(format!(
                "{}, but no observation confirmed it after {:?}",
                self.saw(),
                now.saturating_sub(held.at)
            )),
            State::Throughout { closes, .. } => State::Failed(format!(
                "{}, and no observation ended within {:?} after the window",
                self.saw(),
                now.saturating_sub(*closes)
            )),
            _ => State::Failed(self.saw_before(end)),
        };
    }

    /// When its window opens, or opened.
    pub fn opens(&self) -> Option<Duration> {
        match self.state {
            State::Throughout { opens, .. } => Some(opens),
            _ => None,
        }
    }

    /// When time alone will end it.
    pub fn wake(&self) -> Option<Duration> {
        match (&self.state, self.timing) {
            (State::Within { held: Some(held), .. }, Timing::Within { stable_for, .. }) => {
                Some(held.at + stable_for + CONFIRM)
            }
            // Just past the deadline: an observation that ends on it is in time.
            (State::Within { from, .. }, Timing::Within { deadline, .. }) => {
                Some(*from + deadline + Duration::from_nanos(1))
            }
            // One that is under way when the window closes must come to its end.
            (State::Throughout { closes, .. }, _) => Some(*closes + self.longest + CONFIRM),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn within(deadline: u64, stable_for: u64) -> Tracker {
        let timing = Timing::Within { deadline: secs(deadline), stable_for: secs(stable_for) };
        Tracker::new(timing, false, "it".into())
    }

    fn throughout(after: u64, window: u64) -> Tracker {
        let timing = Timing::Throughout { after: secs(after), window: secs(window) };
        Tracker::new(timing, false, "it".into())
    }

    /// An observation that took a second, ending at the given one.
    fn seen(holds: bool, ended: u64) -> Seen {
        let (began, ended) = (secs(ended - 1), secs(ended));
        Seen { holds, saw: format!("{holds} at {ended:?}"), began, ended, watched: false }
    }

    /// Arms at 100 s, lets it see, then lets time pass; returns the tracker.
    fn after(mut tracker: Tracker, all: &[(bool, u64)], now: u64) -> Tracker {
        tracker.arm(secs(100));
        for (holds, ended) in all {
            tracker.see(&seen(*holds, *ended));
        }
        tracker.pass(secs(now));
        tracker
    }

    #[test]
    fn within_is_met_by_an_observation_between_cause_and_deadline() {
        for (all, met, failed) in [
            (&[(false, 102), (true, 104)][..], true, false),
            (&[(true, 110)], true, false),
            (&[(true, 111)], false, true),
            (&[(true, 100)], false, true), // It began before the cause.
            (&[(false, 105)], false, true),
            (&[], false, true),
        ] {
            let tracker = after(within(10, 0), all, 111);
            assert_eq!(tracker.met().is_some(), met, "{all:?}");
            assert_eq!(tracker.has_failed(), failed, "{all:?}");
        }
        assert!(!after(within(10, 0), &[], 110).is_over(), "the deadline itself is in time");
    }

    #[test]
    fn the_resolution_is_the_time_since_the_observation_before_began() {
        let held = after(within(10, 0), &[(false, 102), (true, 106)], 106).met().unwrap();
        assert_eq!((held.at, held.resolution), (secs(106), secs(5)));
        let mut watched = within(10, 0);
        watched.arm(secs(100));
        watched.see(&seen(false, 102));
        watched.see(&Seen { watched: true, began: secs(106), ..seen(true, 106) });
        assert_eq!(watched.met().unwrap().resolution, Duration::ZERO);
    }

    #[test]
    fn stable_for_starts_again_after_a_break_and_the_deadline_of_the_first_hold_stays() {
        let met = |all, now| after(within(10, 3), all, now).met().map(|held| held.at);
        assert_eq!(met(&[(true, 104), (true, 106)], 200), None, "not long enough");
        assert_eq!(met(&[(true, 104), (true, 107)], 107), Some(secs(104)));
        assert_eq!(
            met(&[(true, 104), (false, 106), (true, 107), (true, 110)], 110),
            Some(secs(107))
        );
        assert_eq!(met(&[(true, 109), (true, 112)], 112), Some(secs(109)), "held in time");
        assert_eq!(met(&[(true, 109), (false, 112), (true, 113), (true, 116)], 120), None);
    }

    #[test]
    fn a_hold_that_nobody_confirms_ends_as_failed() {
        let tracker = after(within(10, 3), &[(true, 104)], 104 + 3 + 60);
        assert!(tracker.has_failed());
    }

    #[test]
    fn throughout_needs_an_observation_and_holds_at_each() {
        for (all, over, failed) in [
            (&[(true, 107), (true, 109), (true, 117)][..], true, false),
            (&[(true, 107)], false, false),
            (&[(true, 107), (false, 109)], true, true),
            (&[(false, 105), (true, 107), (true, 117)], true, false), // Before the window.
            (&[(false, 118)], true, true),                            // None was inside.
            (&[], false, false),
        ] {
            let tracker = after(throughout(5, 10), all, 118);
            assert_eq!((tracker.is_over(), tracker.has_failed()), (over, failed), "{all:?}");
        }
    }

    #[test]
    fn what_is_under_way_when_the_window_closes_is_waited_for() {
        let open = || after(throughout(5, 10), &[(true, 107)], 116);
        let last = |began, holds| Seen { began: secs(began), ..seen(holds, 130) };
        for (began, holds, failed) in [(108, false, true), (108, true, false), (116, false, false)]
        {
            let mut tracker = open();
            assert!(!tracker.is_over());
            tracker.see(&last(began, holds));
            assert_eq!((tracker.is_over(), tracker.has_failed()), (true, failed), "{began}");
        }
        let mut tracker = open();
        tracker.pass(secs(115 + 60));
        assert!(!tracker.is_over(), "the longest so far took a second");
        tracker.pass(secs(115 + 60 + 1));
        assert!(tracker.has_failed(), "it does not end");
    }

    #[test]
    fn news_that_was_found_while_the_cause_was_issued_is_not_lost() {
        let news = |tracker: Tracker| Tracker { news: true, ..tracker };
        let straddling = |holds| Seen { began: secs(99), ..seen(holds, 101) };
        let after = |mut tracker: Tracker, first: &Seen, ended: u64| {
            tracker.arm(secs(100));
            tracker.see(first);
            tracker.see(&seen(!first.holds, ended));
            tracker
        };
        assert_eq!(after(news(within(10, 0)), &straddling(true), 103).met().unwrap().at, secs(101));
        assert!(after(within(10, 0), &straddling(true), 103).met().is_none());
        assert!(after(news(throughout(0, 10)), &straddling(false), 111).has_failed());
        assert!(!after(throughout(0, 10), &straddling(false), 109).has_failed());
        // What was found before says nothing.
        assert!(after(news(within(10, 0)), &seen(true, 99), 103).met().is_none());
        assert!(!after(news(throughout(0, 10)), &seen(false, 99), 109).has_failed());
    }

    #[test]
    fn a_failure_keeps_what_was_wanted_and_last_seen() {
        let Some(Outcome::Failed { wanted, saw }) =
            after(within(10, 0), &[(false, 102), (false, 105)], 111).outcome(None)
        else {
            panic!("it did not fail");
        };
        let seen = "false at 105s (5.0 s before the deadline)";
        assert_eq!((wanted.as_str(), saw.as_str()), ("it, within 10s", seen));
    }

    #[test]
    fn only_a_change_of_what_is_seen_is_told() {
        let mut tracker = within(10, 0);
        let first = seen(false, 50);
        assert!(tracker.see(&first));
        assert!(!tracker.see(&Seen { began: secs(50), ended: secs(51), ..first.clone() }));
        assert!(tracker.see(&Seen { holds: true, ..first }));
    }
}
