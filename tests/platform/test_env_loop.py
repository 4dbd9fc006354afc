"""Rows, chunks and counts of one worker's environments, with a real agent and real suites."""

from __future__ import annotations

import itertools
import pickle
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from reverie.agent_actor import AgentActor
from reverie.config import resolve_config
from reverie.env_factory import EnvFault, spaces_of
from reverie.env_loop import RANDOM_VERSION, EnvLoop, act_where
from reverie.errors import EnvFailed
from reverie.links import Acted
from reverie.policy import make_agent
from reverie.replay.coordinator import StreamTicket
from reverie.types import Array, Rows, StreamId, Version
from tests.fakes import EPISODE, Counting, CountingEnv, tree

NUMBERS = itertools.count()


class LeavingEnv(CountingEnv):
    """Calls `sys.exit` where others raise, and cannot be closed."""

    def _break(self, obs: Any) -> Any:
        sys.exit(3)

    def close(self) -> None:
        raise OSError("the window would not close")


class Leaving(Counting):
    """Suite of `LeavingEnv`s."""

    def make(self, task: str, config: Any) -> Any:
        return LeavingEnv(fault=config.fault, at=config.at)


class Logging(Counting):
    """The counting environment, which also reports what it counts."""

    def make(self, task: str, config: Any) -> Any:
        class LoggingEnv(CountingEnv):
            def step(self, action: Any) -> Any:
                *row, _ = super().step(action)
                return *row, {"log/count": float(self._steps)}

        return LoggingEnv(config.length)


def make_loop(
    envs: int = 3, first: int = 0, suite: str = "Counting", chunk_length: int = 6, **env: Any
) -> EnvLoop:
    config = resolve_config(tree(suite=suite, env=env) if env else tree(suite=suite))
    agent = make_agent(config, spaces_of(config.env), seed=0, training=False)
    lives = itertools.count()

    def tickets() -> list[StreamTicket]:
        life = next(lives)
        return [StreamTicket(StreamId(0, env, life), next(NUMBERS), env % 2) for env in range(envs)]

    return EnvLoop(
        config.env,
        AgentActor(agent, "train", version=Version(0, 5)),
        tickets,
        chunk_length=chunk_length,
        first_index=first,
        seed=config.seed,
        max_restarts=3,
    )


def collect(loop: EnvLoop, *quotas: int, random: bool = False) -> list[Any]:
    return [loop.run(quota, random=random) for quota in quotas]


def streams(found: list[Any]) -> dict[StreamId, Rows]:
    """All rows of each stream, in the order of their chunks."""
    chunks = [chunk for part in found for _, chunk in part.chunks]
    lists: dict[StreamId, list[Any]] = {}
    for chunk in chunks:
        lists.setdefault(chunk.stream, []).append(chunk)
    return {
        stream: {key: np.concatenate([c.data[key] for c in own]) for key in own[0].data}
        for stream, own in lists.items()
    }


def assert_unbroken(rows: Rows) -> None:
    """The environment's own counters show that no row is missing and none is there twice."""
    first, last, total = rows["is_first"], rows["is_last"], rows["count"][:, 1]
    assert first[0]
    np.testing.assert_array_equal(first[1:], last[:-1])
    np.testing.assert_array_equal(np.diff(total), ~first[1:])
    np.testing.assert_array_equal(last, rows["count"][:, 0] == EPISODE)


@pytest.mark.parametrize("quotas", [(1,), (2, 1, 5), (3,), (50,), (7, 7, 20, 1)])
def test_quotas_are_met_exactly_even_below_the_number_of_environments(
    quotas: tuple[int, ...],
) -> None:
    found = collect(make_loop(envs=3), *quotas)
    for quota, part in zip(quotas, found, strict=True):
        assert part.env_steps == quota
        assert sum(chunk.num_env_steps for _, chunk in part.chunks) == quota


def test_an_episode_of_n_decisions_has_n_plus_1_rows_and_nothing_is_lost_between_runs() -> None:
    found = collect(make_loop(envs=2), 11, 1, 2, 30, 16)
    rows = streams(found)
    assert len(rows) == 2
    for own in rows.values():
        assert_unbroken(own)
    ended = sum(int(own["is_last"].sum()) for own in rows.values())
    assert ended == sum(len(part.episodes) for part in found) == 60 // EPISODE
    assert sum(len(own["is_last"]) for own in rows.values()) == 60 + ended
    assert {episode.length for part in found for episode in part.episodes} == {EPISODE}


def test_returns_are_the_sums_of_the_rewards_in_the_rows() -> None:
    found = collect(make_loop(envs=1), 4 * EPISODE)
    (rows,) = streams(found).values()
    wanted = [part.sum() for part in np.split(rows["reward"], np.flatnonzero(rows["is_first"])[1:])]
    assert [episode.ret for episode in found[0].episodes] == wanted
    assert 0 < sum(wanted) < 4 * EPISODE


def test_last_rows_carry_a_zero_action_and_no_version() -> None:
    for rows in streams(collect(make_loop(), 60)).values():
        last = rows["is_last"]
        assert not rows["action"][last].any()
        assert set(rows["policy_version"][last]) == {RANDOM_VERSION}
        assert set(rows["policy_version"][~last]) == {5}
        assert rows["action"][~last].any()


def test_random_steps_carry_version_minus_one_and_spread_over_all_actions() -> None:
    for rows in streams(collect(make_loop(), 90, random=True)).values():
        assert set(rows["policy_version"]) == {-1}
        assert set(rows["action"][~rows["is_last"]]) == {0, 1, 2}


def test_actions_and_rewards_belong_together() -> None:
    (rows,) = streams(collect(make_loop(envs=1), 60)).values()
    followers = ~rows["is_first"][1:]
    paid = (rows["action"][:-1] == 1).astype(np.float32)
    np.testing.assert_array_equal(rows["reward"][1:][followers], paid[followers])
    assert not rows["reward"][rows["is_first"]].any()


def test_chunks_are_contiguous_numbered_and_at_most_chunk_length_long() -> None:
    found = collect(make_loop(envs=2, chunk_length=6), 25, 8)
    own: dict[StreamId, list[Any]] = {}
    for part in found:
        for shard, chunk in part.chunks:
            assert shard == chunk.stream.env % 2
            assert 1 <= chunk.num_rows <= 6
            own.setdefault(chunk.stream, []).append(chunk)
    for chunks in own.values():
        assert [chunk.sequence for chunk in chunks] == list(range(len(chunks)))
        starts = np.cumsum([0, *(chunk.num_rows for chunk in chunks)])
        assert [chunk.start_row for chunk in chunks] == list(starts[:-1])
        assert max(chunk.num_rows for chunk in chunks) == 6


def test_after_random_actions_the_recurrent_state_starts_anew() -> None:
    loop = make_loop(envs=2)
    seen = []
    for random, steps in ((False, 6), (True, 4), (False, 4)):
        collect(loop, steps, random=random)
        seen.append(None if loop._carry is None else list(loop._carry["seen"]))
    assert seen == [[3, 3], None, [2, 2]]


def test_the_agent_is_told_of_a_start_after_random_actions_and_the_rows_are_not() -> None:
    loop = make_loop(envs=2)
    collect(loop, 4, random=True)
    told, act = [], loop._actor.act

    def noting(rows: Rows, carry: Any) -> Any:
        told.append(rows["is_first"].tolist())
        return act(rows, carry)

    loop._actor.act = noting  # type: ignore[method-assign]
    found = collect(loop, 4)
    assert told == [[True, True], [False, False]]
    assert not any(rows["is_first"].any() for rows in streams(found).values())


def test_rows_that_do_not_act_keep_their_recurrent_state() -> None:
    loop = make_loop(envs=3)
    collect(loop, 6)
    assert list(loop._carry["seen"]) == [2, 2, 2]
    collect(loop, 2)
    assert list(loop._carry["seen"]) == [3, 3, 2]


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_acting_for_some_changes_neither_the_others_nor_the_old_carry(kind: str) -> None:
    import torch

    class Adding:
        def initial_carry(self, count: int) -> Any:
            raise NotImplementedError

        def act(self, rows: Rows, carry: Any) -> Acted:
            side = {"twice": rows["x"] * 2}
            carry = {"sum": carry["sum"] + 1}
            return Acted(action=rows["x"] * 10, carry=carry, version=7, side=side)

    carry = {"sum": torch.zeros(3) if kind == "torch" else np.zeros(3)}
    mask = np.array([True, False, True])
    rows: Rows = {"x": np.arange(3)}
    acted = act_where(Adding(), rows, carry, mask)
    assert list(acted.action) == [0, 20]
    assert acted.carry["sum"].tolist() == [1, 0, 1]
    assert (acted.version, acted.side["twice"].tolist()) == (7, [0, 4])
    assert carry["sum"].tolist() == [0, 0, 0]


def test_side_columns_go_to_the_rows_that_were_decided_and_to_their_shards() -> None:
    class Noting(AgentActor):
        def act(self, rows: Rows, carry: Any) -> Acted:
            acted = super().act(rows, carry)
            return replace(acted, side={"count": rows["count"].copy()})

    loop = make_loop(envs=3)
    loop._actor = Noting(loop._actor.agent, "train")
    found = [*collect(loop, 31, 8), *collect(loop, 6, random=True)]
    assert found[2].side == []
    rows = {}
    for shard, chunk in (pair for part in found[:2] for pair in part.chunks):
        for row in np.flatnonzero(~chunk.data["is_last"]):
            at = (chunk.number << 32) + chunk.start_row + int(row)
            rows[shard, at] = chunk.data["count"][row].tolist()
    told = {
        (side.shard, int(at)): value.tolist()
        for part in found
        for side in part.side
        for at, value in zip(side.step_ids, side.values["count"], strict=True)
    }
    assert told == rows


def test_log_keys_reach_the_episode_results_and_stay_in_the_rows() -> None:
    suite = f"{__name__}:Logging" if __name__.startswith("tests.") else ""
    assert suite, "this module must be importable for the registry"
    config = resolve_config(tree() | {"env": {"suite": suite, "task": "count"}})
    agent = make_agent(config, spaces_of(config.env), seed=0, training=False)
    loop = EnvLoop(
        config.env,
        AgentActor(agent, "train"),
        lambda: [StreamTicket(StreamId(0, 0, 0), 0, 0)],
        chunk_length=8,
        first_index=0,
        seed=0,
        max_restarts=0,
    )
    episodes = collect(loop, 3 * EPISODE)[0].episodes
    total = EPISODE * (EPISODE + 1) / 2
    assert [episode.logs for episode in episodes] == [
        {"count_sum": total, "count_max": float(EPISODE)}
    ] * 3


def starts(envs: int, first: int) -> dict[int, Array]:
    """First images of each environment's episodes, by its index in the whole run."""
    rows = streams(collect(make_loop(envs, first), envs * 2 * (EPISODE + 1)))
    return {first + stream.env: own["image"][own["is_first"]] for stream, own in rows.items()}


def test_episodes_do_not_depend_on_how_environments_are_spread_over_workers() -> None:
    together, apart = starts(4, 0), starts(2, 0) | starts(2, 2)
    assert together.keys() == apart.keys() == {0, 1, 2, 3}
    for index, images in together.items():
        assert len(images) >= 2
        np.testing.assert_array_equal(images, apart[index])
    assert not np.array_equal(together[0][0], together[0][1])
    assert not np.array_equal(together[0][0], together[1][0])


@pytest.mark.parametrize("fault", ["raise", "nan"])
def test_rows_before_a_fault_are_handed_over_and_the_rest_of_the_quota_is_not_taken(
    fault: str,
) -> None:
    loop = make_loop(envs=2, fault=fault, at=20)
    (part,) = collect(loop, 100)
    assert part.fault is not None
    assert part.env_steps == sum(chunk.num_env_steps for _, chunk in part.chunks) == 40
    for rows in streams([part]).values():
        assert_unbroken(rows)
        assert rows["count"][-1, 1] == 19
    assert loop.restarts == 1


def test_a_fault_comes_with_the_environment_s_own_traceback_only() -> None:
    (part,) = collect(make_loop(envs=1, fault="raise", at=3), 10)
    assert part.fault.endswith("ZeroDivisionError: the simulator fell over\n")
    assert "fakes.py" in part.fault
    assert "env_loop.py" not in part.fault


def test_rebuilt_environments_write_into_fresh_streams_with_other_episodes() -> None:
    loop = make_loop(envs=2, fault="raise", at=20)
    before, after = collect(loop, 100, 30)
    assert {chunk.stream.incarnation for _, chunk in before.chunks} == {0}
    assert {chunk.stream.incarnation for _, chunk in after.chunks} == {1}
    old, new = streams([before]), streams([after])
    for stream, rows in new.items():
        assert_unbroken(rows)
        earlier = old[stream._replace(incarnation=0)]
        assert not np.array_equal(rows["image"][0], earlier["image"][0])
    numbers = [{chunk.number for _, chunk in part.chunks} for part in (before, after)]
    assert not numbers[0] & numbers[1]


def test_a_breach_of_the_spaces_is_told_in_one_line() -> None:
    (part,) = collect(make_loop(envs=1, fault="nan", at=3), 10)
    (line,) = part.fault.splitlines()
    assert "observation 'count'" in line


def test_a_breach_that_will_repeat_is_not_tried_again() -> None:
    loop = make_loop(envs=1, fault="shape", at=3)
    with pytest.raises(EnvFailed, match=r"same again.*\n.*'count' has shape \(3,\)") as error:
        collect(loop, 10)
    assert (loop.restarts, error.value.will_repeat) == (0, True)
    again = pickle.loads(pickle.dumps(error.value))
    assert (str(again), again.will_repeat) == (str(error.value), True)


def leaving(**env: Any) -> EnvLoop:
    """A loop of one `LeavingEnv`, whose spaces are those of the counting one."""
    loop = make_loop(envs=1, **env)
    loop._config = replace(loop._config, suite=f"{__name__}:Leaving")
    loop._rebuild(EnvFault(""))
    return loop


def test_an_environment_that_calls_exit_is_counted_and_replaced() -> None:
    loop = leaving(fault="exit", at=3)
    first, second = collect(loop, 10, 2)
    assert first.fault.endswith("sys.exit(3)\nSystemExit: 3\n")
    assert (first.env_steps, second.env_steps, second.fault) == (3, 2, None)


def test_an_environment_that_cannot_be_closed_does_not_spoil_the_end(caplog: Any) -> None:
    loop = leaving(fault="exit", at=30)
    (part,) = collect(loop, 4)
    loop.close()
    assert part.env_steps == 4
    assert "Leaving/count failed as it was closed" in caplog.text
    assert "OSError: the window would not close" in caplog.text


def test_an_environment_that_hangs_is_left_behind_and_replaced() -> None:
    loop = make_loop(envs=1, fault="hang", at=4, step_timeout_s=0.3)
    first, second = collect(loop, 10, 2)
    assert "time.sleep(3600)" in first.fault
    assert (first.env_steps, second.env_steps, second.fault) == (4, 2, None)


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ("gym/NoSuchEnv-v0", "NoSuchEnv-v0"),
        ({"factory": "tests.fakes:CountingEnv.nothing"}, "no function 'CountingEnv.nothing'"),
    ],
)
def test_an_environment_that_cannot_be_built_stops_at_once(env: Any, message: str) -> None:
    config = resolve_config(tree() | {"env": env})
    agent_config = resolve_config(tree())
    agent = make_agent(agent_config, spaces_of(agent_config.env), seed=0, training=False)
    tickets = [StreamTicket(StreamId(0, 0, 0), 0, 0)]
    settings = {"chunk_length": 8, "first_index": 0, "seed": 0, "max_restarts": 3}
    with pytest.raises(EnvFailed, match="cannot be built") as error:
        EnvLoop(config.env, AgentActor(agent, "train"), lambda: tickets, **settings)
    assert message in str(error.value)
