"""How long nothing was heard of trials: told once and again later, and hanging where that was asked for."""

from tuning.engine.silence import TOLD_AFTER_S, Silence


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def watched(silence: Silence, clock: Clock, seconds: float, *trials: str) -> None:
    """Looks at trials every second, as Tune's loop does."""
    end = clock.now + seconds
    while clock.now < end:
        clock.now += 1
        silence.watch(trials)


def test_a_silence_is_told_after_a_while_and_again_after_twice_as_long() -> None:
    clock = Clock()
    silence = Silence(clock=clock)
    told = []
    for _ in range(int(5 * TOLD_AFTER_S)):
        watched(silence, clock, 1, "a")
        told += [seconds for _, seconds in silence.to_tell()]
    assert told == [TOLD_AFTER_S, 2 * TOLD_AFTER_S, 4 * TOLD_AFTER_S]
    assert silence.hanging() == []


def test_a_result_ends_a_silence_and_a_trial_that_ended_is_forgotten() -> None:
    clock = Clock()
    silence = Silence(30, clock)
    watched(silence, clock, 25, "a", "b")
    silence.hear("a")
    watched(silence, clock, 10, "a", "b")
    assert [trial for trial, _ in silence.hanging()] == ["b"]
    watched(silence, clock, 40, "a")
    assert [trial for trial, _ in silence.hanging()] == ["a"]
    watched(silence, clock, 1)
    watched(silence, clock, 20, "a")  # begun again
    assert silence.hanging() == []


def test_time_in_which_nobody_looked_does_not_count() -> None:
    clock = Clock()
    silence = Silence(30, clock)
    watched(silence, clock, 10, "a")
    clock.now += 3600
    watched(silence, clock, 5, "a")
    assert silence.hanging() == []
    watched(silence, clock, 30, "a")
    assert [trial for trial, _ in silence.hanging()] == ["a"]
