"""Every agent's work runs whole on torch's meta device, which has shapes and no values.

A value that is read back to the host raises there, and so does, here, a tensor that was left on
the CPU: what a GPU would wait for, or refuse.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from reverie import registry
from reverie.compiling import compile_agent
from reverie.config import resolve_algorithm
from reverie.config_tree import read_yaml
from reverie.presets import preset_files
from reverie.protocols import AgentContext
from reverie.types import ActionSpec, ArraySpec, Counters, Spaces
from tests.contract.cases import (
    ACTORS,
    BATCH_LENGTH,
    EXAMPLE,
    EXPRESSED,
    STUBS,
    batches,
    make,
    observe,
)

DISCRETE_SUITES = ("atari100k", "crafter", "gym", "minecraft", "toy")
"""Suites of the presets whose actions are discrete."""
CASES = [(name, spaces) for name, found in EXPRESSED.items() for spaces in found]
CASES.append((EXAMPLE, STUBS[EXAMPLE]))
every_agent = pytest.mark.parametrize(
    ("name", "spaces"), CASES, ids=[f"{n}-{s.action.kind}-{'+'.join(s.obs)}" for n, s in CASES]
)
ACTING = [case for case in CASES if case[0] in ACTORS or case[0] == EXAMPLE]
every_actor = pytest.mark.parametrize(
    ("name", "spaces"), ACTING, ids=[f"{n}-{s.action.kind}-{'+'.join(s.obs)}" for n, s in ACTING]
)


class OneDevice(TorchDispatchMode):
    """Refuses operations on meta and CPU tensors together, also where torch would allow them.

    Torch lets a CPU scalar meet a CUDA tensor, but a graph with one in it is not captured.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        found = {x.device.type for x in tree_leaves((args, kwargs)) if torch.is_tensor(x)}
        if len(found) > 1 and func is not torch.ops.aten.copy_.default:
            raise AssertionError(f"{func}: tensors on {sorted(found)}")
        return func(*args, **kwargs)


@pytest.fixture(autouse=True)
def _stand_ins(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What the meta device lacks: generators, autocast, and values that the host may ask for."""

    def draw_on_meta(function: Any) -> Any:
        def draw(*args: Any, generator: Any = None, device: Any = None, **kwargs: Any) -> Any:
            return function(*args, device="meta", **kwargs)

        return draw

    for name in ("rand", "randn", "randint"):
        monkeypatch.setattr(torch, name, draw_on_meta(getattr(torch, name)))
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *_: False)
    yield
    torch.compiler.reset()


def answer_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `.cpu()` give zeros, where actions or pictures are what is asked for."""
    zeros = lambda x: torch.zeros(x.shape, dtype=x.dtype, device="cpu")  # noqa: E731
    monkeypatch.setattr(torch.Tensor, "cpu", zeros)


def on_meta(name: str, spaces: Spaces, training: bool = True) -> Any:
    length = BATCH_LENGTH.get(name, 3)
    with torch.device("meta"):
        return make(name, spaces, training, device="meta", batch_length=length)


def all_on_meta(tensors: dict[str, Any]) -> bool:
    return all(tensor.device.type == "meta" for tensor in tensors.values())


def update(agent: Any, spaces: Spaces) -> None:
    metrics, feedback = agent.update(batches(agent, spaces, 0, "meta"), Counters())
    assert all_on_meta(metrics)
    assert all_on_meta(feedback)


@every_agent
def test_an_update_reads_nothing_back_and_leaves_no_tensor_on_the_cpu(
    name: str, spaces: Spaces
) -> None:
    agent = on_meta(name, spaces)
    with OneDevice():
        update(agent, spaces)


@every_actor
def test_acting_asks_for_the_actions_only(
    name: str, spaces: Spaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = on_meta(name, spaces, training=False)
    asked: list[tuple[int, ...]] = []

    def note(x: torch.Tensor) -> torch.Tensor:
        asked.append(tuple(x.shape))
        return torch.zeros(x.shape, dtype=x.dtype, device="cpu")

    monkeypatch.setattr(torch.Tensor, "cpu", note)
    carry = agent.initial_carry(2)
    for step, mode in enumerate(("train", "sample", "mode")):
        rows = observe(spaces, 2, step, first=step == 0)
        with OneDevice():
            _, carry = agent.act(rows, carry, mode, Counters())
        assert all_on_meta(carry)
    assert asked == [(2, *spaces.action.shape)] * 3


@every_agent
def test_a_report_asks_for_its_pictures_only(
    name: str, spaces: Spaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_the_host(monkeypatch)
    agent = on_meta(name, spaces)
    videos, metrics = agent.report(batches(agent, spaces, 0, "meta"))
    assert bool(videos) == any(spec.is_image for spec in spaces.obs.values())
    assert all_on_meta(metrics)


@pytest.mark.parametrize("name", EXPRESSED)
@pytest.mark.parametrize(
    "most",
    [1, pytest.param(9, marks=[pytest.mark.slow, pytest.mark.timeout(600)])],
    ids=["last", "all"],
)
def test_an_update_goes_backward_through_compiled_methods(name: str, most: int) -> None:
    """Off the CPU they have no graph break. One backward pass serves a whole method, so that
    losses which come out of one method cannot free its tensors one after the other.
    """
    spaces = EXPRESSED[name][0]
    agent = on_meta(name, spaces)
    assert agent.COMPILABLE
    # The last one holds the losses that are stepped on together; others have the time loops.
    agent.COMPILABLE = agent.COMPILABLE[-most:]
    compile_agent(agent, "on", "meta", backend="aot_eager")
    update(agent, spaces)


def presets() -> dict[str, tuple[dict[str, Any], str]]:
    """Settings of the algorithm and suite, by the first preset at full size that has them."""
    found: dict[str, tuple[dict[str, Any], str]] = {}
    for path in sorted(preset_files().values()):
        tree = read_yaml(path)
        found_env = tree.get("env", "")  # none where video is learned from
        env = found_env if isinstance(found_env, str) else str(found_env.get("suite"))
        settings = tree["algorithm"], env.partition("/")[0]
        if not path.stem.endswith("_cpu") and settings not in found.values():
            found[f"{path.parent.name}/{path.stem}"] = settings
    return found


PRESETS = presets()


@pytest.mark.parametrize("preset", PRESETS)
def test_an_update_of_a_preset_runs_at_its_full_size(preset: str) -> None:
    raw, suite = PRESETS[preset]
    discrete = suite in DISCRETE_SUITES and raw["name"] != "drqv2"
    action = ActionSpec("discrete", (18,)) if discrete else ActionSpec("box", (), 6)
    spaces = Spaces({"image": ArraySpec((64, 64, 3), "uint8")}, action)
    length = BATCH_LENGTH.get(raw["name"], 3)
    context = AgentContext(batch_size=2, batch_length=length, seed=0, device="meta")
    with torch.device("meta"):
        agent = registry.algorithm(raw["name"], raw.get("dialect"))(
            resolve_algorithm(raw), spaces, context
        )
    with OneDevice():
        update(agent, spaces)
