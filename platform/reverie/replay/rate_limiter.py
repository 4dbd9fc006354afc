"""The one limiter of a run: how many env steps and trained steps are allowed, by pure counting.

    target = ratio x counted env steps beyond the prefill + pretrain_batches x batch_steps,
             0 until the prefill is over

At every moment, with `batch` short for batch_steps:

    0 <= target - trained <= ratio x steps_ahead x num_streams + batch + (pretraining still owed)

and once everything granted has arrived and no batch is due, target - trained < batch. Granted
batches and granted env steps are counted ahead, so that no order of events leaves the bound.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldQuota:
    """Env steps granted to one worker and not reported yet."""

    steps: int
    random: bool
    """Part of the prefill."""
    counted: bool
    """Counts towards the target when it is not part of the prefill."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Granted:
    """What was handed out and is not back yet."""

    held: Mapping[int, HeldQuota] = field(default_factory=dict[int, HeldQuota])
    """By worker."""
    in_flight: int = 0
    """Batches."""


COUNTS = (
    *("random_steps", "counted_steps", "uncounted_steps", "lost_steps"),
    *("trained_steps", "trained_batches"),
)


class RateLimiter:
    """Grants env steps to workers and batches to learners; never waits.

    Args:
        ratio: trained steps per env step beyond the prefill; 0 collects without training.
        prefill: first env steps, taken at random.
        pretrain_batches: batches owed at once when the prefill is over.
        budget: env steps of the run, prefill included; met exactly.
        batch_steps: trained steps per batch.
        steps_ahead, num_streams: their product is how many env steps workers may be ahead.

    Raises:
        ValueError: a count below its minimum, or a ratio that is negative or not finite.
    """

    def __init__(
        self,
        *,
        ratio: float,
        prefill: int,
        pretrain_batches: int,
        budget: int,
        batch_steps: int,
        steps_ahead: int,
        num_streams: int,
    ) -> None:
        _check_least(0, prefill=prefill, pretrain_batches=pretrain_batches, budget=budget)
        _check_least(1, batch_steps=batch_steps, steps_ahead=steps_ahead, num_streams=num_streams)
        if not (math.isfinite(ratio) and ratio >= 0):
            raise ValueError(f"training_ratio: expected a finite number from 0 on, got {ratio}")
        # Through its decimal form, so that 0.3 is three tenths and sums are exact.
        self.ratio = Fraction(str(ratio))
        self.prefill, self.budget, self.batch_steps = prefill, budget, batch_steps
        self.pretrain_steps = pretrain_batches * batch_steps
        self.most_ahead = steps_ahead * num_streams
        """Env steps that may be ahead of training."""
        self.random_steps = self.counted_steps = self.uncounted_steps = self.lost_steps = 0
        self.trained_steps = self.trained_batches = self.in_flight = 0
        self._held: dict[int, HeldQuota] = {}

    @property
    def env_steps(self) -> int:
        """Decisions reported or lost."""
        return self.random_steps + self.counted_steps + self.uncounted_steps

    @property
    def prefill_is_over(self) -> bool:
        return self.random_steps >= self.prefill

    @property
    def target(self) -> Fraction:
        """Trained steps owed so far, done ones included."""
        return self._target_at(self.counted_steps) if self.prefill_is_over else Fraction(0)

    @property
    def next_batch(self) -> int:
        """Number of the batch that would be granted next."""
        return self.trained_batches + self.in_flight

    def held_by(self, worker: int) -> HeldQuota | None:
        """What a worker was granted and has not reported."""
        return self._held.get(worker)

    def outstanding(self) -> int:
        """Env steps granted and not reported."""
        return sum(held.steps for held in self._held.values())

    def request_steps(self, worker: int, most: int, *, can_sample: bool = True) -> HeldQuota | None:
        """Grant `worker` up to `most` env steps, or None where it has to wait or the budget is out.

        Random steps fill the prefill exactly. After it a quota is granted whole or not at all, so
        that chunks do not shrink when the learner is the slower side; only the budget and what may
        be ahead (`most_ahead`) cut it. Where nothing can be sampled, steps are granted without
        regard to training and never counted into the target: no deadlock, no violated bound.

        Raises:
            ValueError: `most` below 1, or the worker still holds a quota.
        """
        _check_least(1, most=most)
        if worker in self._held:
            raise ValueError(
                f"worker {worker}: expected a report of {self._held[worker].steps} granted steps,"
                " got another request; a replaced worker has to be declared lost first"
            )
        quota = self._next_quota(most, can_sample)
        if quota is not None:
            self._held[worker] = quota
        return quota

    def report(self, worker: int, env_steps: int) -> bool:
        """Take the steps of the worker's quota; what it did not use goes back to the budget.

        Returns False, and counts nothing, where the worker holds no quota: it was declared lost
        before its report arrived.

        Raises:
            ValueError: more steps than were granted.
        """
        held = self._held.get(worker)
        if held is None:
            return False
        if not 0 <= env_steps <= held.steps:
            raise ValueError(f"worker {worker}: granted {held.steps} env steps, got {env_steps}")
        del self._held[worker]
        self._consume(held, env_steps)
        return True

    def worker_lost(self, worker: int) -> int:
        """Count the worker's quota as taken and lost; returns its env steps."""
        held = self._held.pop(worker, None)
        if held is None:
            return 0
        self._consume(held, held.steps)
        self.lost_steps += held.steps
        return held.steps

    def may_train(self) -> bool:
        """Whether one more batch is due beyond those granted."""
        return self.trained_steps + (self.in_flight + 1) * self.batch_steps <= self.target

    def grant_batch(self) -> int:
        """Grant the batch that `may_train` allowed; returns its number."""
        assert self.may_train(), (self.trained_steps, self.in_flight, self.target)
        self.in_flight += 1
        return self.next_batch - 1

    def batch_trained(self, number: int) -> None:
        """Confirm the oldest granted batch.

        Raises:
            ValueError: `number` is another batch, e.g. from a learner that was replaced.
        """
        if not self.in_flight or number != self.trained_batches:
            raise ValueError(
                f"batch {number}: expected one of {self.in_flight} granted ones, from"
                f" {self.trained_batches} on and in order"
            )
        self.in_flight -= 1
        self.trained_batches += 1
        self.trained_steps += self.batch_steps

    def refund(self, count: int) -> None:
        """Take the newest `count` granted batches back.

        Raises:
            ValueError: fewer are in flight.
        """
        if not 0 <= count <= self.in_flight:
            raise ValueError(f"refund: expected at most {self.in_flight} batches, got {count}")
        self.in_flight -= count

    def is_spent(self) -> bool:
        """Whether every env step of the budget was taken or lost."""
        return self.env_steps >= self.budget

    def state_dict(self) -> dict[str, int]:
        """The counts, JSON-able. Outstanding quotas and batches in flight count as not granted."""
        return {name: getattr(self, name) for name in COUNTS}

    def granted(self) -> Granted:
        """What a copy of this limiter needs beside `state_dict`."""
        return Granted(held=dict(self._held), in_flight=self.in_flight)

    def load_state_dict(self, state: Mapping[str, int], granted: Granted | None = None) -> None:
        """Go on from `state`, with what was handed out then; by default nothing was."""
        for name in COUNTS:
            setattr(self, name, int(state[name]))
        granted = granted or Granted()
        self.in_flight, self._held = granted.in_flight, dict(granted.held)

    def _next_quota(self, most: int, can_sample: bool) -> HeldQuota | None:
        most = min(most, self.budget - self.env_steps - self.outstanding())
        random = self.prefill - self.random_steps - self._outstanding(random=True)
        if most <= 0:
            return None
        if random > 0:
            return HeldQuota(steps=min(most, random), random=True, counted=True)
        if self.prefill_is_over and not can_sample:
            # At ratio 0 there is no target that these steps could be missing from.
            return HeldQuota(steps=most, random=False, counted=self.ratio == 0)
        most = min(most, self.most_ahead)
        return HeldQuota(steps=most, random=False, counted=True) if self._fits(most) else None

    def _fits(self, steps: int) -> bool:
        """Whether the bound holds when all granted steps and `steps` more have been reported."""
        counted = self.counted_steps + self._outstanding(random=False) + steps
        room = self.ratio * self.most_ahead + self.batch_steps
        return self._target_at(counted) - self.trained_steps <= room

    def _outstanding(self, *, random: bool) -> int:
        """Granted and unreported steps that count: those of the prefill, or those beyond it."""
        held = self._held.values()
        return sum(quota.steps for quota in held if quota.counted and quota.random == random)

    def _target_at(self, counted_steps: int) -> Fraction:
        return self.ratio * counted_steps + self.pretrain_steps

    def _consume(self, held: HeldQuota, steps: int) -> None:
        if held.random:
            self.random_steps += steps
        elif held.counted:
            self.counted_steps += steps
        else:
            self.uncounted_steps += steps


def _check_least(least: int, **counts: int) -> None:
    for name, count in counts.items():
        if count < least:
            raise ValueError(f"{name}: expected at least {least}, got {count}")
