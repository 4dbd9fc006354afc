"""Which methods are compiled, when, and that a compiled agent learns the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from reverie.compiling import compile_agent
from reverie.config import resolve_config
from reverie.env_factory import spaces_of
from reverie.learner import Learner
from reverie.local_run import LocalRun
from reverie.types import ActionSpec
from tests.algorithms.small_2023 import BOX, DISCRETE, nano_agent, update
from tests.distributed.test_lockstep import DREAMER


@pytest.mark.parametrize(
    ("setting", "device", "compiled"),
    [
        ("auto", "cpu", False),
        ("off", "cpu", False),
        ("off", "cuda", False),
        ("on", "cpu", True),
        ("auto", "cuda", True),
    ],
)
def test_auto_compiles_for_cuda_only(setting: Any, device: str, compiled: bool) -> None:
    found = nano_agent()
    before = {name: getattr(found, name) for name in found.COMPILABLE}
    assert before
    # Nothing is compiled before the first call.
    assert compile_agent(found, setting, device) == (compiled and device == "cuda")
    assert all((getattr(found, name) != before[name]) == compiled for name in before)


def losses(compiled: bool, backend: str, action: ActionSpec) -> list[dict[str, float]]:
    agent = nano_agent(action=action, horizon=2)
    if compiled:
        assert not compile_agent(agent, "on", "cpu", backend=backend)
    metrics = [update(agent, seed) for seed in range(3)]
    return [{k: float(v) for k, v in row.items() if k.startswith("loss/")} for row in metrics]


SLOW = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.mark.parametrize(
    ("backend", "action"),
    [
        ("eager", DISCRETE),
        pytest.param("inductor", DISCRETE, marks=SLOW),
        pytest.param("inductor", BOX, marks=SLOW),
    ],
    ids=["eager", "inductor-discrete", "inductor-box"],
)
def test_a_compiled_agent_has_the_same_losses(
    backend: str, action: ActionSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A compilation that was killed leaves broken files where all processes look for kernels.
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    plain, compiled = (losses(on, backend, action) for on in (False, True))
    torch.testing.assert_close(compiled, plain, rtol=1e-4, atol=1e-5)


class TwoLosses:
    """Two losses that come out of one method."""

    COMPILABLE = ("losses",)

    def __init__(self) -> None:
        self.actor, self.critic = (torch.nn.Parameter(torch.eye(4)) for _ in range(2))

    def losses(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = torch.softmax(x @ self.actor, -1)
        return hidden.square().mean(), torch.tanh(hidden.detach() @ self.critic).mean()


def test_a_first_pass_that_frees_its_tensors_leaves_later_ones_the_choice() -> None:
    agent: Any = TwoLosses()
    compile_agent(agent, "on", "cpu", backend="aot_eager")
    _, second = agent.losses(torch.ones(2, 4))
    torch.autograd.grad(second, agent.critic)  # as while the actor is frozen
    first, second = agent.losses(torch.ones(2, 4))
    torch.autograd.grad(first, agent.actor, retain_graph=True)
    torch.autograd.grad(second, agent.critic)


def test_a_learner_compiles_as_its_configuration_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(
        "reverie.learner.compile_agent", lambda *arguments: bool(seen.append(arguments))
    )
    config = resolve_config(DREAMER | {"learner": DREAMER["learner"] | {"compile": "on"}})
    run = LocalRun(config, spaces_of(config.env), tmp_path)
    run.close()
    assert isinstance(run.learner, Learner)
    assert seen == [(run.learner.agent, "on", "cpu")]
