"""Under any schedule the bound holds after every single event, and the run ends exactly."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import pytest

from reverie.replay.rate_limiter import HeldQuota, RateLimiter


@dataclass
class Schedule:
    """Random events on one limiter, tallied independently of it."""

    limiter: RateLimiter
    ratio: Fraction
    prefill: int
    pretrain: int
    budget: int
    batch: int
    ahead: int
    rng: np.random.Generator
    workers: int
    speeds: np.ndarray
    held: dict[int, HeldQuota] = field(default_factory=dict)
    in_flight: list[int] = field(default_factory=list)
    can_sample: bool = True
    prefilled: int = 0
    counted: int = 0
    uncounted: int = 0
    lost: int = 0
    trained: int = 0

    @property
    def env_steps(self) -> int:
        return self.prefilled + self.counted + self.uncounted

    def check(self) -> None:
        """What the limiter promises, worked out from this tally alone."""
        over = self.prefilled >= self.prefill
        target = self.ratio * self.counted + self.pretrain * self.batch if over else 0
        done = self.trained * self.batch
        still_owed = max(0, self.pretrain * self.batch - done)
        most = self.ratio * self.ahead + (len(self.in_flight) + 1) * self.batch + still_owed
        assert 0 <= target - done <= most
        assert target - done - len(self.in_flight) * self.batch >= 0
        outstanding = sum(quota.steps for quota in self.held.values())
        assert self.env_steps + outstanding <= self.budget
        assert self.limiter.env_steps == self.env_steps
        assert self.limiter.outstanding() == outstanding
        assert self.limiter.target == target
        assert self.limiter.lost_steps == self.lost
        assert self.limiter.uncounted_steps == self.uncounted

    def request(self, worker: int, most: int) -> None:
        if worker in self.held:
            return
        quota = self.limiter.request_steps(worker, most, can_sample=self.can_sample)
        if quota is None:
            return
        assert 1 <= quota.steps <= most
        granted_random = sum(q.steps for q in self.held.values() if q.random)
        assert quota.random == (self.prefilled + granted_random < self.prefill)
        starved = self.prefilled >= self.prefill and not self.can_sample and self.ratio > 0
        assert quota.counted != starved
        self.held[worker] = quota

    def consume(self, worker: int, steps: int) -> None:
        quota = self.held.pop(worker)
        name = "prefilled" if quota.random else "counted" if quota.counted else "uncounted"
        setattr(self, name, getattr(self, name) + steps)

    def report(self, worker: int, failed: bool) -> None:
        if worker in self.held:
            steps = self.held[worker].steps
            steps = int(self.rng.integers(steps + 1)) if failed else steps
            assert self.limiter.report(worker, steps)
            self.consume(worker, steps)

    def kill_worker(self, worker: int) -> None:
        lost = self.limiter.worker_lost(worker)
        assert lost == (self.held[worker].steps if worker in self.held else 0)
        self.lost += lost
        if lost:
            self.consume(worker, lost)

    def train(self) -> None:
        if self.in_flight:
            self.limiter.batch_trained(self.in_flight.pop(0))
            self.trained += 1

    def ask_batch(self) -> None:
        if self.can_sample and self.limiter.may_train():
            self.in_flight.append(self.limiter.grant_batch())
            assert self.in_flight == list(range(self.trained, self.trained + len(self.in_flight)))

    def refund(self, count: int) -> None:
        self.limiter.refund(count)
        del self.in_flight[len(self.in_flight) - count :]

    def event(self) -> None:
        """One event, with faults now and then."""
        worker = int(self.rng.choice(self.workers, p=self.speeds / self.speeds.sum()))
        kind = self.rng.random()
        if kind < 0.3:
            self.request(worker, int(self.rng.integers(1, 2 * self.ahead)))
        elif kind < 0.6:
            self.report(worker, failed=self.rng.random() < 0.1)
        elif kind < 0.75:
            self.ask_batch()
        elif kind < 0.9:
            self.train()
        elif kind < 0.92:
            self.kill_worker(worker)
        elif kind < 0.94:
            self.refund(len(self.in_flight))
        elif kind < 0.96:
            self.refund(min(1, len(self.in_flight)))
        elif kind < 0.98:
            self.can_sample = not self.can_sample

    def round(self, workers: range) -> None:
        """The workers left take what they are granted, then all due batches are trained."""
        for worker in workers:
            self.request(worker, max(1, self.ahead // self.workers))
            self.check()
        for worker in range(self.workers):
            self.report(worker, failed=False)
            self.check()
        while self.in_flight or (self.can_sample and self.limiter.may_train()):
            self.ask_batch()
            self.train()
            self.check()


def limiter_of(ratio, **changes):
    standard = {"prefill": 0, "pretrain_batches": 0, "budget": 12, "batch_steps": 8}
    standard |= {"steps_ahead": 8, "num_streams": 1}
    return RateLimiter(ratio=ratio, **(standard | changes))


def schedule(seed, ratio, prefill, pretrain, budget, workers=4, batch=8, chunk=4):
    limiter = limiter_of(
        ratio,
        prefill=prefill,
        pretrain_batches=pretrain,
        budget=budget,
        batch_steps=batch,
        steps_ahead=chunk,
        num_streams=workers,
    )
    rng = np.random.default_rng(seed)
    speeds = rng.uniform(0.05, 1, workers)
    numbers = (Fraction(str(ratio)), prefill, pretrain, budget, batch, chunk * workers)
    return Schedule(limiter, *numbers, rng, workers, speeds)


CASES = [
    (0.5, 20, 0, 400),
    (0.3, 0, 2, 300),
    (1.0, 7, 1, 300),
    (64.0, 33, 0, 150),
    (0.0, 10, 3, 300),
    (0.0, 0, 0, 300),
    (3.7, 1, 5, 200),
    (2.0, 500, 2, 300),
    (1024.0, 3, 0, 40),
]


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_bound_holds_after_every_event_and_the_run_ends_exactly(case, workers):
    for seed, left in enumerate([workers, 1, workers]):
        one = schedule(seed, *case, workers=workers)
        for _ in range(1500):
            one.event()
            one.check()
        one.can_sample = True
        for _ in range(1000):
            if one.limiter.is_spent() and not one.held and not one.in_flight:
                break
            before = one.env_steps, one.trained
            one.round(range(left))
            assert (one.env_steps, one.trained) != before, "deadlock"
        one.round(range(left))
        assert one.env_steps == one.budget
        assert one.prefilled == min(one.prefill, one.budget)
        assert one.limiter.target - one.trained * one.batch < one.batch


@pytest.mark.parametrize("kill", [False, True])
def test_a_budget_of_100000_is_met_exactly(kill):
    limiter = limiter_of(
        0.5, prefill=1024, budget=100_000, batch_steps=1024, steps_ahead=64, num_streams=3
    )
    sizes = [32, 17, 50]
    while not limiter.is_spent():
        for worker, most in enumerate(sizes):
            quota = limiter.request_steps(worker, most)
            lose = kill and worker == 1 and limiter.env_steps > 50_000
            if lose:
                limiter.worker_lost(worker)
            elif quota:
                limiter.report(worker, quota.steps)
        while limiter.may_train():
            limiter.batch_trained(limiter.grant_batch())
    assert limiter.env_steps == 100_000
    assert (limiter.lost_steps > 0) == kill
    assert limiter.trained_steps == (100_000 - 1024) * 0.5 // 1024 * 1024


def test_a_worker_gets_its_share_whole_or_waits():
    limiter = limiter_of(2, budget=1000, steps_ahead=16, num_streams=2)
    first = [limiter.request_steps(worker, 16) for worker in range(2)]
    assert [quota and quota.steps for quota in first] == [16, 16]
    limiter.report(0, 16)
    # Untrained: 32 of the 36 steps that fit (2 x 32 + 8 trained steps) are out.
    assert limiter.request_steps(0, 16) is None
    assert limiter.request_steps(2, 4) == HeldQuota(steps=4, random=False, counted=True)
    for _ in range(4):
        limiter.batch_trained(limiter.grant_batch())
    assert limiter.request_steps(0, 16) == HeldQuota(steps=16, random=False, counted=True)


def test_a_request_for_more_than_may_be_ahead_is_cut_and_does_not_wait_for_ever():
    limiter = limiter_of(1024, budget=1000, batch_steps=1024)
    assert limiter.request_steps(0, 100) == HeldQuota(steps=8, random=False, counted=True)


def test_the_ratio_is_exact_in_decimal():
    limiter = limiter_of(0.1, budget=10_000, batch_steps=1, steps_ahead=10)
    for _ in range(300):
        limiter.request_steps(0, 10)
        limiter.report(0, 10)
        limiter.batch_trained(limiter.grant_batch())
        assert not limiter.may_train()


def test_prefill_too_short_for_a_window_is_no_deadlock_and_is_not_counted():
    limiter = limiter_of(1024, prefill=4, budget=1000, batch_steps=1024)
    assert limiter.request_steps(0, 100) == HeldQuota(steps=4, random=True, counted=True)
    limiter.report(0, 4)
    for _ in range(20):
        assert limiter.request_steps(0, 8, can_sample=False).counted is False
        limiter.report(0, 8)
    assert (limiter.uncounted_steps, limiter.target) == (160, 0)
    assert limiter.request_steps(0, 8).counted is True


def test_steps_a_failed_worker_did_not_take_go_back_to_the_prefill_and_the_budget():
    limiter = limiter_of(1, prefill=10)
    limiter.request_steps(0, 10)
    limiter.report(0, 3)
    assert limiter.request_steps(0, 10) == HeldQuota(steps=7, random=True, counted=True)
    limiter.report(0, 7)
    assert limiter.request_steps(0, 10) == HeldQuota(steps=2, random=False, counted=True)


def test_a_late_report_of_a_lost_worker_counts_nothing():
    limiter = limiter_of(1)
    limiter.request_steps(0, 8)
    assert limiter.worker_lost(0) == 8
    assert not limiter.report(0, 8)
    assert (limiter.env_steps, limiter.lost_steps) == (8, 8)


@pytest.mark.parametrize(
    ("misuse", "message"),
    [
        (lambda one: one.request_steps(0, 1), "expected a report of 8"),
        (lambda one: one.report(0, 9), "granted 8 env steps, got 9"),
        (lambda one: one.request_steps(1, 0), "most: expected at least 1"),
        (lambda one: one.refund(1), "at most 0"),
        (lambda one: one.batch_trained(0), "batch 0"),
    ],
)
def test_misuse_is_refused(misuse, message):
    limiter = limiter_of(1)
    limiter.request_steps(0, 8)
    with pytest.raises(ValueError, match=message):
        misuse(limiter)
    assert limiter.outstanding() == 8


def test_batches_are_confirmed_in_order():
    limiter = limiter_of(0, pretrain_batches=3)
    assert [limiter.grant_batch() for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="from 0 on"):
        limiter.batch_trained(1)


@pytest.mark.parametrize("ratio", [-1.0, float("nan"), float("inf")])
def test_a_ratio_without_meaning_is_refused(ratio):
    with pytest.raises(ValueError, match="training_ratio"):
        limiter_of(ratio)


def test_a_restored_limiter_counts_on():
    one = schedule(0, 2.0, 20, 1, 300)
    for _ in range(400):
        one.event()
    one.can_sample = True
    for worker in range(one.workers):
        one.report(worker, failed=False)
    one.refund(len(one.in_flight))
    state = one.limiter.state_dict()
    one.limiter = limiter_of(
        2.0, prefill=20, pretrain_batches=1, budget=300, steps_ahead=4, num_streams=4
    )
    one.limiter.load_state_dict(state)
    one.check()
    for _ in range(200):
        one.round(range(4))
    assert one.env_steps == 300
