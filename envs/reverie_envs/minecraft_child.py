"""MineDojo and MineRL as plain arrays; runs in the Python that has those packages.

Only what needs the packages happens here: their observations become arrays, their actions are made
from arrays, their worlds are seeded. Rewards, episodes and action spaces of our own are in
`hunt_cow.py` and `minecraft.py`. Besides the packages this file imports numpy alone.
"""

from __future__ import annotations

import os
import subprocess
from typing import Any

import numpy as np

KEYS = ("forward", "back", "left", "right", "jump", "sneak", "sprint", "attack", "use")
"""Buttons of a MineRL client, each 0 or 1; after them come pitch and yaw in degrees and the
number of a command."""
NOTHING = ("", "")
CRAFTS = (
    NOTHING,
    ("craft", "planks"),
    ("craft", "stick"),
    ("craft", "crafting_table"),
    ("place", "crafting_table"),
    ("nearbyCraft", "wooden_pickaxe"),
    ("nearbyCraft", "stone_pickaxe"),
    ("nearbyCraft", "iron_pickaxe"),
    ("equip", "stone_pickaxe"),
    ("equip", "wooden_pickaxe"),
    ("equip", "iron_pickaxe"),
    ("nearbyCraft", "furnace"),
    ("place", "furnace"),
    ("nearbySmelt", "iron_ingot"),
)
"""What DreamerV3 may make in `obtain_diamond` (source: danijar/dreamerv3@8fa35f8)."""
BUTTONS = (NOTHING, ("inventory", 1), ("drop", 1), *((f"hotbar.{i}", 1) for i in range(1, 10)))
"""What a human has besides moving, for `obtain_diamond_shovel`, which has no crafting commands."""
COMMANDS: dict[str, tuple[tuple[str, Any], ...]] = {
    "obtain_diamond": CRAFTS,
    "obtain_diamond_shovel": BUTTONS,
}
RAYS = [(pitch, yaw) for pitch in np.linspace(0, 30, 3) for yaw in np.linspace(-60, 60, 9)]
"""Directions in degrees in which animals are looked for (source: thuml/HarmonyDream@0a22e33)."""
SPAWN = 7
"""Animals appear within a square of this many blocks: int(10 / sqrt(2))."""
RESET_COMMANDS = ("/kill @e[type=!player]", "/clear", "/kill @e[type=item]")
NOON = 6000


class Box:
    """What is read of a Box of gym."""

    def __init__(self, low: Any, high: Any, shape: tuple[int, ...], dtype: Any) -> None:
        self.low, self.high, self.shape, self.dtype = low, high, shape, np.dtype(dtype)


class MultiDiscrete:
    """What is read of a MultiDiscrete of gym."""

    def __init__(self, nvec: Any) -> None:
        self.nvec = np.array(nvec)


class Cow:
    """MineDojo's combat task with one cow to kill (source: thuml/HarmonyDream@0a22e33,
    wmlib-torch/wmlib/envs/minedojo_utils/hunt_cow.py).

    `reset(options={"hard": True})` makes a new world from the seed; otherwise the player is put
    back into the old one. The first reset is always hard.
    """

    def __init__(self, size: int) -> None:
        import minedojo  # pyright: ignore[reportMissingImports]
        from minedojo.sim.inventory import InventoryItem  # pyright: ignore[reportMissingImports]

        sword = InventoryItem(slot=0, name="diamond_sword", variant=None, quantity=1)
        self._env: Any = minedojo.make(
            "Combat",
            target_names=["cow"],
            target_quantities=1,
            reward_weights={"cow": 200},
            initial_inventory=[sword],
            initial_mobs=["cow", "pig", "sheep"],
            initial_mob_spawn_range_low=(-SPAWN, 1, -SPAWN),
            initial_mob_spawn_range_high=(SPAWN, 1, SPAWN),
            image_size=(size, size),
            world_seed=0,
            specified_biome="sunflower_plains",
            fast_reset=True,
            fast_reset_random_teleport_range=None,
            use_voxel=True,
            use_lidar=True,
            lidar_rays=[(np.deg2rad(pitch), np.deg2rad(yaw), 9999) for pitch, yaw in RAYS],
        )
        self._started = False
        self.action_space = MultiDiscrete(self._env.action_space.nvec)
        self.observation_space = {
            "image": Box(0, 255, (size, size, 3), np.uint8),
            "cow": Box(0, 1, (len(RAYS),), np.int8),
            "distance": Box(-1, np.inf, (len(RAYS),), np.float32),
            "sword": Box(-1, np.inf, (), np.float32),
        }

    def reset(self, seed: Any = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        if self._started:
            for command in RESET_COMMANDS:
                self._env.unwrapped.execute_cmd(command)
            self._env.unwrapped.set_time(NOON)
            self._env.unwrapped.set_weather("clear")
        if not self._started or (options or {}).get("hard"):
            self._renew_world(seed)
        self._started = True
        return self._obs(self._env.reset()), {}

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, bool]]:
        obs, reward, done, _ = self._env.step(list(action))
        return self._obs(obs), float(reward), bool(done), False, {"success": self._succeeded()}

    def close(self) -> None:
        self._env.close()

    def _succeeded(self) -> bool:
        return bool(self._env.is_successful)

    def _renew_world(self, seed: Any) -> None:
        """Make the next reset a full one: MineDojo itself never leaves its first world."""
        layer = self._env
        while not hasattr(layer, "_server_start") or "_server_start" not in vars(layer):
            layer = layer.env
        layer._server_start, layer._info_prev_reset = False, None
        world = self._env.unwrapped._sim_spec._world_generator_handlers[0]
        world.world_seed = 0 if seed is None else seed % 1_000_000

    def _obs(self, obs: Any) -> dict[str, Any]:
        rays = obs["rays"]
        return {
            "image": np.ascontiguousarray(obs["rgb"].transpose(1, 2, 0)),
            "cow": np.array([name == "cow" for name in rays["entity_name"]], np.int8),
            "distance": np.asarray(rays["entity_distance"], np.float32),
            "sword": np.asarray(obs["inventory"]["cur_durability"][0], np.float32),
        }


class MineRL:
    """One of MineRL's own tasks. `fake` takes the package's imitation of a client, for trials."""

    def __init__(
        self, task: str, size: int, dense: bool, break_speed: float, fake: bool = False
    ) -> None:
        if not fake:
            ensure_display()
        self._env: Any = make_minerl(task, size, dense, break_speed, fake)
        self._commands = COMMANDS.get(task, (NOTHING,))
        self._groups = item_groups(self._env)
        self._inventory = "inventory" in self._env.observation_space.spaces
        self.action_space = Box(-180, 180, (len(KEYS) + 3,), np.float32)
        self.observation_space = self._spaces(self._env.observation_space.spaces)

    def reset(self, seed: Any = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        if seed is not None:
            self._env.seed(int(seed))
        if hasattr(self._env, "num_steps"):  # MineRL 1.0 counts on over all episodes
            self._env.num_steps = 0
        return self._obs(self._env.reset()), {}

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        obs, reward, done, info = self._env.step(self._native(action))
        if "error" in info:  # MineRL ends the episode where its client died
            raise RuntimeError(f"the Minecraft client failed: {info['error']}")
        return self._obs(obs), float(reward), bool(done), False, {}

    def close(self) -> None:
        self._env.close()

    def _native(self, action: Any) -> Any:
        *buttons, pitch, yaw, number = action
        native = self._env.action_space.noop()
        for index, key in enumerate(KEYS):
            if key in native:
                native[key] = int(buttons[index])
        if "use" not in native and "place" in native and buttons[-1]:
            native["place"] = "dirt"
        native["camera"] = np.array([pitch, yaw], np.float32)
        key, value = self._commands[int(number)]
        if key:
            native[key] = value
        return native

    def _spaces(self, spaces: Any) -> dict[str, Any]:
        found: dict[str, Any] = {"image": Box(0, 255, spaces["pov"].shape, np.uint8)}
        if "compass" in spaces:
            found["compass"] = Box(-1, 1, (1,), np.float32)
        if self._inventory:
            found["inventory"] = Box(0, np.inf, (len(self._groups),), np.float32)
        if "equipped_items" in spaces:
            self._held = list(spaces["equipped_items"].spaces["mainhand"].spaces["type"].values)
            found["equipped"] = Box(0, 1, (len(self._held),), np.float32)
        return found

    def _obs(self, obs: Any) -> dict[str, Any]:
        found: dict[str, Any] = {"image": np.array(obs["pov"], np.uint8)}
        if "compass" in self.observation_space:
            found["compass"] = np.array([obs["compass"]["angle"]], np.float32) / 180
        if self._inventory:
            counts = [sum(obs["inventory"][item] for item in group) for group in self._groups]
            found["inventory"] = np.array(counts, np.float32)
        if "equipped" in self.observation_space:
            held = str(obs["equipped_items"]["mainhand"]["type"])
            found["equipped"] = np.array([held == name for name in self._held], np.float32)
        return found


def make_minerl(task: str, size: int, dense: bool, break_speed: float, fake: bool) -> Any:
    """Build a task from MineRL's own specification of it, with blocks that break faster."""
    from minerl.herobraine.env_specs import (  # pyright: ignore[reportMissingImports]
        navigate_specs,
        obtain_specs,
        treechop_specs,
    )
    from minerl.herobraine.hero import handlers  # pyright: ignore[reportMissingImports]

    kinds: dict[str, tuple[Any, dict[str, Any]]] = {
        "treechop": (treechop_specs.Treechop, {"resolution": (size, size)}),
        "navigate": (
            navigate_specs.Navigate,
            {"dense": dense, "extreme": False, "resolution": (size, size)},
        ),
    }
    if hasattr(obtain_specs, "ObtainDiamond"):
        options = {"dense": dense, "resolution": (size, size)}
        kinds["obtain_diamond"] = (obtain_specs.ObtainDiamond, options)
    else:
        kinds["obtain_diamond_shovel"] = (obtain_specs.ObtainDiamondShovelEnvSpec, {})
    if task not in kinds:
        raise ValueError(f"this version of MineRL has no {task!r}; it has {sorted(kinds)}")
    kind, options = kinds[task]

    class Spec(kind):  # type: ignore[misc, valid-type]
        def create_agent_start(self) -> Any:
            start = super().create_agent_start()
            if break_speed != 1:
                start = [*start, handlers.AgentStartBreakSpeedMultiplier(break_speed)]
            return start

    spec = Spec(**options)
    if task == "obtain_diamond_shovel":  # its rewards are in a wrapper
        return obtain_specs._obtain_diamond_shovel_gym_entrypoint(spec, fake)
    return spec.make(fake=fake)


def item_groups(env: Any) -> list[list[str]]:
    """The counts an observation holds: every item, or where these are hundreds the rewarded ones,
    kinds of wood together.
    """
    if hasattr(env, "rewarded_items"):
        return [list(items) for items, _ in env.rewarded_items]
    spaces = env.observation_space.spaces
    names = spaces["inventory"].spaces if "inventory" in spaces else ()
    return [[name] for name in sorted(names)]


def ensure_display() -> None:
    """Start an X server without a screen if there is no display; it ends with this process."""
    if os.environ.get("DISPLAY"):
        return
    read, write = os.pipe()
    command = ["Xvfb", "-displayfd", str(write), "-screen", "0", "1024x768x24", "-nolisten", "tcp"]
    try:
        subprocess.Popen(command, pass_fds=[write], stdin=subprocess.DEVNULL)
    except FileNotFoundError:
        raise RuntimeError("MineRL draws to a display: apt-get install xvfb") from None
    os.close(write)
    number = os.read(read, 16).decode().strip()
    os.close(read)
    if not number:
        raise RuntimeError("Xvfb did not start")
    os.environ["DISPLAY"] = f":{number}"
