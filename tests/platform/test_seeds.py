"""Seeds by path: the same ones in every version, since a run's numbers hang on them."""

from __future__ import annotations

import itertools

from reverie.seeds import EVAL_ENVS, LEARNING, SHARES, derive_seed, make_rng


def test_numbers_never_move() -> None:
    assert derive_seed(0, LEARNING) == 1306511473
    assert derive_seed(7, EVAL_ENVS, 2) == 1425809106
    assert make_rng(0, SHARES, 5).integers(0, 1 << 31, 3).tolist() == [
        1676029077,
        513302742,
        10804777,
    ]
    assert make_rng(4).integers(0, 1 << 31) == 1560023975


def test_each_part_of_the_path_changes_the_seed() -> None:
    """Run seed, index in the run, incarnation, episode."""
    paths = list(itertools.product(range(3), repeat=4))
    assert len({derive_seed(*path) for path in paths}) == len(paths)
    assert len({make_rng(*path).random() for path in paths}) == len(paths)
