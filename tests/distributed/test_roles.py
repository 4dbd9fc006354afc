"""A kind of part that is added as a row is launched, fed and mended like the others."""

from __future__ import annotations

import os
import re
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray

from reverie.cluster import supervisor
from reverie.cluster.fleet import Ask, Key, Steps
from reverie.cluster.role import COORDINATOR, LEARNER, Role, Site
from reverie.cluster.roles import ROLES
from reverie.cluster.run import RayRun
from reverie.config import resolve_config
from reverie.env_factory import spaces_of
from reverie.errors import PartLost, WorkerLost
from reverie.wiring import Events
from tests.fakes import tree

COUNTER = Key("counter", 0)


class Counter:
    """Counts up from where it was told to begin."""

    def __init__(self) -> None:
        self._count = 0

    def begin(self, count: int) -> None:
        self._count = count

    def count(self) -> int:
        time.sleep(0.01)
        self._count += 1
        return self._count

    def process(self) -> int:
        return os.getpid()


def counting(counts: list[int]) -> Role:
    def take(site: Site, index: int, result: Any, events: Events) -> None:
        counts.append(result)

    def mend(role: Role, site: Site, index: int) -> Steps:
        yield from site.launch(role, index)
        yield Ask(COUNTER, "begin", (counts[-1] if counts else 0,))

    return Role(
        name=COUNTER.role,
        make=lambda site, index: (Counter, ()),
        work=lambda site, index: None if site.quiet else ("count",),
        take=take,
        mend=mend,
    )


def make(folder: Path, *more: Role, **overrides: Any) -> RayRun:
    config = resolve_config(tree(run__dir=str(folder), run__env_steps=10_000, **overrides))
    return RayRun(config, spaces_of(config.env), folder, roles=(*ROLES, *more))


def process_of(run: RayRun, key: Key) -> int:
    return ray.get(run.fleet.actors[key].__ray_call__.remote(lambda _: os.getpid()))


@pytest.mark.ray
def test_an_added_part_is_fed_mended_and_held_back(tmp_path: Path, ray_local: None) -> None:
    counts: list[int] = []
    run = make(tmp_path / "run", counting(counts))
    while len(counts) < 5:
        run.step()
    killed_at = len(counts)
    os.kill(process_of(run, COUNTER), signal.SIGKILL)
    faults = []
    while not faults:
        faults += run.step().faults
    while len(counts) < killed_at + 5:
        run.step()
    run.quiesce()
    at_rest = len(counts)
    run.counters()
    run.close()
    assert [fault.role for fault in faults] == ["counter"]
    assert counts == [*range(1, len(counts) + 1)]
    assert len(counts) == at_rest


@pytest.mark.ray
def test_parts_that_die_again_while_they_are_mended_come_back(
    tmp_path: Path, ray_local: None
) -> None:
    run = make(tmp_path / "run", env__delay_s=0.002)
    keys = [Key("learner", 0), Key("replay_shard", 0), Key("weight_store", 0)]
    while run.counters().grad_updates + run.counters().trained_steps == 0:
        run.step()
    for key in keys:
        os.kill(process_of(run, key), signal.SIGKILL)
    again, begin = set(keys), time.monotonic()
    faults = []
    while len(faults) < len(keys):
        faults += run.step().faults
        # As soon as a new one stands in for the dead one it dies too, before it was mended.
        for key in [key for key in again if run._site.launches[key] == 2]:
            again.discard(key)
            ray.kill(run.fleet.actors[key])
        assert time.monotonic() - begin < 60
    before = run.counters().trained_steps
    while run.counters().trained_steps == before:
        run.step()
        assert time.monotonic() - begin < 90
    run.close()
    assert sorted(fault.role for fault in faults) == sorted(key.role for key in keys)
    assert all(run.parts._deaths[key] == 2 for key in keys)


@pytest.mark.ray
def test_a_part_that_does_not_return_is_ended_and_replaced(tmp_path: Path, ray_local: None) -> None:
    def sleep_once(site: Site, index: int) -> tuple[str, ...]:
        return ("count",) if counts else ("sleep",)

    class Sleeper(Counter):
        def sleep(self) -> int:
            time.sleep(0 if marker.exists() else marker.touch() or 3600)
            return self.count()

    marker, counts = tmp_path / "slept", []
    role = Role(
        name=COUNTER.role,
        make=lambda site, index: (Sleeper, ()),
        work=sleep_once,
        take=lambda site, index, result, events: counts.append(result),
        hang_after_s=lambda config: 1.0,
    )
    run = make(tmp_path / "run", role)
    faults = []
    while not (faults and counts):
        faults += run.step().faults
    run.close()
    assert [fault.role for fault in faults] == ["counter"]


@pytest.mark.ray
def test_whoever_asks_a_dead_part_is_told_and_may_ask_again(
    tmp_path: Path, ray_local: None
) -> None:
    run = make(tmp_path / "run")
    os.kill(process_of(run, Key("replay_shard", 0)), signal.SIGKILL)
    with pytest.raises(PartLost, match="replay_shard 0 died"):
        run.parts.ask(Key("replay_shard", 0), "stats")
    assert run.parts.ask(Key("replay_shard", 0), "stats")["rows"] >= 0
    assert run.parts.ask(COORDINATOR, "counters").env_steps >= 0
    run.close()


@pytest.mark.ray
def test_nobody_waits_for_a_part_that_was_given_up(tmp_path: Path, ray_local: None) -> None:
    def mend(role: Role, site: Site, index: int) -> Steps:
        yield from site.launch(role, index)
        yield Ask(LEARNER, "publish_first")

    role = Role(name=COUNTER.role, make=lambda site, index: (Counter, ()), mend=mend)
    run = make(tmp_path / "run", role, run__max_actor_restarts=1)
    run.parts._deaths[LEARNER] = 1
    ray.kill(run.fleet.actors[LEARNER])
    with pytest.raises(WorkerLost, match="learner 0 died 2 times"):
        run.parts.ask(LEARNER, "train")
    ray.kill(run.fleet.actors[COUNTER])
    with pytest.raises(PartLost):
        run.parts.ask(COUNTER, "count")
    with pytest.raises(WorkerLost, match="learner 0 died 2 times"):
        run.quiesce()
    run.close()


@pytest.mark.ray
def test_a_part_that_gives_no_sign_of_life_is_named_ended_and_replaced(
    tmp_path: Path, ray_local: None, caplog: pytest.LogCaptureFixture
) -> None:
    roles = [replace(role, silent_after_s=12.0) for role in ROLES]
    config = resolve_config(tree(run__dir=str(tmp_path / "run"), run__env_steps=100_000))
    run = RayRun(config, spaces_of(config.env), tmp_path / "run", roles=roles)
    while not run.counters().trained_steps:
        run.step()
    faults = []
    os.kill(process_of(run, COORDINATOR), signal.SIGKILL)
    while not faults:  # the next coordinator has never heard of anybody
        faults += run.step().faults
    os.kill(process_of(run, LEARNER), signal.SIGSTOP)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supervisor, "NAMED_S", 7.0)
        while len(faults) < 2:
            faults += run.step().faults
    run.close()
    assert [fault.role for fault in faults] == ["coordinator", "learner"]
    assert re.search(r"learner 0 gave no sign of life for \d+ s; replaced after 12 s", caplog.text)
