"""One update or one acting step of a peer's own code, in a process of its own.

    PEERS=~/peers python benchmarks/peers.py r2dreamer --batch 8 --length 32

`PEERS` is the folder that holds the peers' checkouts under their own names: r2dreamer and
dreamerv3-torch (NM512), HarmonyDream (thuml), drqv2 (facebookresearch). The interpreter needs what
they import: torch, torchrl, tensordict, hydra-core, gymnasium, ruamel.yaml, dm_control, psutil.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import sys
import types
from collections.abc import Callable
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import Work, add_options, examine, serve, settle


def checkout(name: str, inner: str = "") -> Path:
    """Put a peer's folder on the import path.

    Raises:
        ValueError: there is none.
    """
    path = Path(os.environ.get("PEERS", ".")) / name / inner
    if not path.is_dir():
        raise ValueError(f"{path}: no such checkout; PEERS names the folder that holds {name}")
    sys.path.insert(0, str(path))
    return path


def rows(batch: int, length: int, options: Any) -> dict[str, np.ndarray]:
    """Random rows [batch, length, ...]; every sequence begins an episode and none ends."""
    rng, shape = np.random.default_rng(0), (batch, length)
    side = options.image
    flags = {name: np.zeros(shape, bool) for name in ("is_first", "is_last", "is_terminal")}
    flags["is_first"][:, 0] = True
    return {
        "image": rng.integers(0, 256, (*shape, side, side, 3), dtype=np.uint8),
        "action": rng.uniform(-1, 1, (*shape, options.actions)).astype(np.float32),
        "reward": rng.normal(size=shape).astype(np.float32),
        **flags,
    }


def spaces(options: Any) -> tuple[Any, Any]:
    """Observation and action space as gymnasium has them."""
    gym = importlib.import_module("gymnasium")
    side = options.image
    image = gym.spaces.Box(0, 255, (side, side, 3), np.uint8)
    return gym.spaces.Dict(image=image), gym.spaces.Box(-1, 1, (options.actions,), np.float32)


def num_parameters(*modules: Any) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


R2_SIZES = {f"{count}m": f"size{count}M" for count in (12, 25, 50, 100, 200, 400)}
"""Our names of sizes -> r2dreamer's files under configs/model."""


def r2dreamer(options: Any) -> Work:
    """With a decoder; compiled in float16 on CUDA, as it comes; eager on a CPU."""
    path = checkout("r2dreamer")
    peer: Any = importlib.import_module("dreamer")
    hydra: Any = importlib.import_module("hydra")
    tensordict = importlib.import_module("tensordict").TensorDict
    on_cpu, autocast = options.device == "cpu", peer.autocast
    if on_cpu and options.precision == "float32":
        peer.autocast = lambda **_: contextlib.nullcontext()
    elif on_cpu:  # float16 is hard-coded, and slow on a CPU
        peer.autocast = lambda device_type, dtype: autocast(device_type, dtype=torch.bfloat16)
    with hydra.initialize_config_dir(str((path / "configs").resolve()), version_base=None):
        words = [f"device={options.device}", f"model={R2_SIZES[options.size]}", "logdir=unused"]
        words += ["model.rep_loss=dreamer", f"model.compile={not on_cpu}"]
        config = hydra.compose("configs", words)
    agent = peer.Dreamer(config.model, *spaces(options))
    params = sum(p.numel() for p in agent._named_params.values())
    if options.act:
        given = rows(options.act, 1, options)
        state = [agent.get_initial_state(options.act)]

        def act() -> None:
            image = torch.as_tensor(given["image"][:, 0], device=options.device)
            first = torch.zeros(options.act, dtype=torch.bool, device=options.device)
            seen = tensordict({"image": image, "is_first": first}, batch_size=(options.act,))
            action, state[0] = agent.act(seen, state[0])
            action.cpu()

        return Work(act, params)
    given = rows(options.batch, options.length, options)
    data = {k: torch.as_tensor(v, device=options.device) for k, v in given.items()}
    for name in ("reward", "is_last", "is_terminal"):
        data[name] = data[name].unsqueeze(-1)

    class Replay:
        def sample(self) -> Any:
            drawn = tensordict(dict(data), batch_size=(options.batch, options.length))
            return drawn, None, agent.rssm.initial(options.batch)

        def update(self, *_: Any) -> None: ...

    replay = Replay()
    return Work(lambda: agent.update(replay), params)


def dreamerv3_torch(options: Any) -> Work:
    """Its defaults with the settings of its vision tasks."""
    path = checkout("dreamerv3-torch")
    os.environ.setdefault("MUJOCO_GL", "disable")
    yaml, models = importlib.import_module("ruamel.yaml"), importlib.import_module("models")
    tree = yaml.YAML(typ="safe").load(path / "configs.yaml")
    values = dict(tree["defaults"])
    for key, value in tree["dmc_vision"].items():
        values[key] = values[key] | value if isinstance(value, dict) else value
    values = _numbers(values) | {"device": options.device, "num_actions": options.actions}
    config = types.SimpleNamespace(
        **values | {"batch_size": options.batch, "batch_length": options.length}
    )
    model = models.WorldModel(*spaces(options), 0, config).to(options.device)
    behavior = models.ImagBehavior(config, model).to(options.device)
    params = num_parameters(model, behavior.actor, behavior.value)
    model.requires_grad_(False)  # its optimizers switch gradients on where they need them
    behavior.requires_grad_(False)
    data = rows(options.batch, options.length, options)

    def reward(_: Any, state: Any, __: Any) -> Any:
        return model.heads["reward"](model.dynamics.get_feat(state)).mode()

    def step() -> None:
        posterior, *_ = model._train(dict(data))
        behavior._train(posterior, reward)

    return Work(step, params)


def _numbers(value: Any) -> Any:
    """Its YAML holds numbers such as 1e-4, which the loader leaves as text."""
    if isinstance(value, dict):
        return {key: _numbers(inner) for key, inner in value.items()}
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            return float(value)
    return value


def harmonydream(options: Any) -> Work:
    """DreamerV2 with HarmonyDream's losses: the torch code, without what only envs need."""
    path = checkout("HarmonyDream", "wmlib-torch")
    _stand_in("torchtyping", TensorType=_Anything, patch_typeguard=lambda: None)
    _stand_in("typeguard", typechecked=lambda function: function)
    sys.modules.setdefault("gym", importlib.import_module("gymnasium"))
    yaml, utils = importlib.import_module("ruamel.yaml"), importlib.import_module("wmlib.utils")
    agents = importlib.import_module("wmlib.agents")
    tree = yaml.YAML(typ="safe").load(path / "configs" / "dreamerv2.yaml")
    config = utils.Config(tree["defaults"]).update(tree.get("dmc_vision", {}))
    config = config.update({"precision": 32, "task": "dmc_walker_walk", "harmony": True})
    seen, action = spaces(options)
    agent = agents.DreamerV2(config, dict(seen), {"action": action}, utils.Counter(0))
    agent.init_optimizers()
    given = rows(options.batch, options.length, options)
    agent.to(options.device)
    data = {k: torch.as_tensor(v, device=options.device).float() for k, v in given.items()}
    data["image"] = data["image"].permute(0, 1, 4, 2, 3).contiguous()
    step = lambda: agent.train({key: value.clone() for key, value in data.items()})  # noqa: E731
    behavior = agent._task_behavior
    return Work(step, num_parameters(agent.wm, behavior.actor, behavior.critic))


class _Anything:
    def __class_getitem__(cls, _: Any) -> type:
        return cls


def _stand_in(name: str, **members: Any) -> None:
    module = types.ModuleType(name)
    vars(module).update(members)
    sys.modules[name] = module


def drqv2(options: Any) -> Work:
    """Its medium settings: stacks of three frames, 50 features, 1,024 hidden units."""
    checkout("drqv2")
    peer = importlib.import_module("drqv2")
    shape, count = (9, options.image, options.image), options.batch
    agent = peer.DrQV2Agent(
        obs_shape=shape,
        action_shape=(options.actions,),
        device=options.device,
        lr=1e-4,
        feature_dim=50,
        hidden_dim=1024,
        critic_target_tau=0.01,
        num_expl_steps=2000,
        update_every_steps=2,
        stddev_schedule="linear(1.0,0.1,500000)",
        stddev_clip=0.3,
        use_tb=False,
    )
    rng = np.random.default_rng(0)
    image, later = rng.integers(0, 256, (2, count, *shape), dtype=np.uint8)
    action = rng.uniform(-1, 1, (count, options.actions)).astype(np.float32)
    reward = rng.normal(size=(count, 1)).astype(np.float32)
    discount = np.full((count, 1), 0.99, np.float32)
    drawn = tuple(torch.as_tensor(x) for x in (image, action, reward, discount, later))
    replay = repeat(drawn)
    params = num_parameters(agent.encoder, agent.actor, agent.critic)
    return Work(lambda: agent.update(replay, 0), params)


PEERS: dict[str, Callable[[Any], Work]] = {
    "r2dreamer": r2dreamer,
    "dreamerv3-torch": dreamerv3_torch,
    "harmonydream": harmonydream,
    "drqv2": drqv2,
}


SIZES: dict[str, tuple[str, ...]] = {
    "r2dreamer": tuple(R2_SIZES),
    "dreamerv3-torch": ("small",),
    "harmonydream": ("200",),
    "drqv2": ("medium", "easy"),
}
"""Sizes that a peer can be built in, by our names, what it takes unless told first: networks of
the same widths. DrQ-v2's easy and medium tasks differ in exploration only."""


def check_size(peer: str, size: str) -> None:
    """Raise `ValueError` where a peer has no networks of this size."""
    if size not in SIZES[peer]:
        raise ValueError(f"--size: {peer} comes as {', '.join(SIZES[peer])}, ours would be {size}")


def main() -> None:
    parser = argparse.ArgumentParser(description="One update or one acting step of a peer")
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("--size", help="by our names; the peer's usual one unless given")
    add_options(parser)
    options = parser.parse_args()
    settle(options)
    options.size = options.size or SIZES[options.peer][0]
    check_size(options.peer, options.size)
    work = PEERS[options.peer](options)
    if options.serve:
        serve(work, options)
    else:
        print(json.dumps(examine(work, options, 5)))


if __name__ == "__main__":
    main()
