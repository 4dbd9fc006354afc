"""Where every seed and generator of a run comes from: its `seed` and a path of numbers.

A path names who draws (index of a part, its incarnation) and, as its last number, what for or
which time (an episode, a batch). Changing a path or a number here changes every run of that seed.
"""

from __future__ import annotations

import numpy as np

RANDOM_ACTIONS, ACTING, LEARNING, EVALUATING, SCORING = 1, 2, 3, 4, 5
"""Last number of a path: the prefill, the agents of worker, learner, evaluator, `reverie eval`."""
SHARES = 7919
"""In the path of draws over the shards: keeps them apart from those of the shards themselves."""
EVAL_ENVS = 1 << 20
"""Index of the first environment of an evaluation: no training environment reaches it."""


def derive_seed(*path: int) -> int:
    """Mix non-negative integers into one 31-bit seed; different paths give unrelated seeds."""
    return int(np.random.SeedSequence(path).generate_state(1)[0] >> 1)


def make_rng(*path: int) -> np.random.Generator:
    """Make the generator of a path; different paths draw independently."""
    return np.random.default_rng(path)
