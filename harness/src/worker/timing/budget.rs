//! How many samples of what length a case is given.

/// The limits of a case's timing. With 25 configs of which 8 survive the short round a case takes about 0.4 s of a GPU with
/// [`FULL`] and 0.15 s with [`QUICK`] where a launch is short; launches of milliseconds are bounded by `round_us`.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Samples of the short round, after one to warm up.
    pub short_samples: usize,
    /// A config slower than the best by more than this factor in the short round is dropped.
    pub prune_ratio: f64,
    /// One whose very first replay is behind the best so far by more than this is not sampled again.
    pub hopeless_ratio: f64,
    /// Samples of each of a peer's algorithms near its fastest.
    pub warm_samples: usize,
    /// Samples of the main round.
    pub main_samples: usize,
    /// Samples of the final round.
    pub final_samples: usize,
    /// Fewest samples of either, however long they take.
    pub least_samples: usize,
    /// Configs within this factor of the best are timed again in the final round.
    pub final_ratio: f64,
    /// At most so many of them.
    pub max_finalists: usize,
    /// A replay should take about this long, so that the events' own cost (about a microsecond) does not show.
    pub replay_us: f64,
    /// Nodes of a graph at most, but for a whole turn over the copies.
    pub max_launches: usize,
    /// Device time of a round: it gets fewer samples where they would take longer, but not fewer than `least_samples`.
    pub round_us: f64,
    /// Cold launches of each finalist and peer.
    pub cold_samples: usize,
    /// Repeats of a round in which the device was throttled.
    pub retries: u32,
}

/// What a sweep takes unless told otherwise.
pub const FULL: Budget = Budget {
    short_samples: 3,
    prune_ratio: 1.3,
    hopeless_ratio: 2.0,
    warm_samples: 5,
    main_samples: 15,
    final_samples: 21,
    least_samples: 7,
    final_ratio: 1.05,
    max_finalists: 4,
    replay_us: 400.0,
    max_launches: 256,
    round_us: 200_000.0,
    cold_samples: 21,
    retries: 2,
};

/// For thousands of cases.
pub const QUICK: Budget = Budget {
    short_samples: 2,
    prune_ratio: 1.2,
    warm_samples: 3,
    main_samples: 9,
    final_samples: 11,
    max_finalists: 3,
    replay_us: 200.0,
    round_us: 80_000.0,
    retries: 1,
    ..FULL
};

impl Budget {
    /// The limits asked for.
    pub fn of(quick: bool) -> &'static Budget {
        if quick { &QUICK } else { &FULL }
    }

    /// Launches of a replay for a launch of `us`: whole turns over the copies, for a replay begins with the first copy, which
    /// must not have been among the last of the replay before.
    pub fn launches(&self, us: f64, copies: usize) -> usize {
        let wanted = (self.replay_us / us.max(1e-3)).ceil().max(1.0) as usize;
        let most = (self.max_launches / copies).max(1);
        wanted.div_ceil(copies).min(most) * copies
    }

    /// Samples of a round that should have `wanted`, when one sample of each candidate takes `turn_us`.
    pub fn samples(&self, wanted: usize, turn_us: f64) -> usize {
        let fits = (self.round_us / turn_us.max(1.0)) as usize;
        wanted.min(fits.max(self.least_samples))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_is_whole_turns_over_the_copies() {
        for copies in [1, 3, 7, 70, 256, 600] {
            for us in [0.0, 0.5, 1.4, 2.0, 16.0, 3000.0] {
                let n = FULL.launches(us, copies);
                assert!(n > 0 && n.is_multiple_of(copies), "{n} launches over {copies} copies");
                assert!(n <= FULL.max_launches.max(copies), "{n} launches");
            }
        }
        assert_eq!(FULL.launches(16.0, 3), 27);
        assert_eq!(FULL.launches(1.4, 70), 210);
        assert_eq!(QUICK.launches(16.0, 2), 14);
    }

    #[test]
    fn a_round_of_long_replays_has_fewer_samples() {
        assert_eq!(FULL.samples(15, 9.0 * 400.0), 15);
        assert_eq!(FULL.samples(21, 5.0 * 4000.0), 10);
        assert_eq!(FULL.samples(21, 1e9), 7);
        assert_eq!(FULL.samples(5, 1e9), 5);
    }
}
