"""MineDojo and MineRL as far as `minecraft_child` touches them, with the shapes of the real ones.

Observation and action spaces, layers and attribute names were read off MineDojo 0.1 (commit
2731bc2), MineRL 0.4.4 and MineRL 1.0.2, which import without Java; there, actions of
`minecraft_child` lie in the real action spaces and its arrays fit the real observation spaces.
"""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np

SCRIPT = []
"""What MineDojo shows: (distance of the cow or None, durability of the sword, reward, done)."""
CALLS = []
"""What it was asked."""


def dojo_obs(distance, sword):
    names = np.array(["null"] * 27)
    distances = np.full(27, 99.0)
    names[3], distances[3] = "pig", 1.0
    if distance is not None:
        names[13], distances[13] = "cow", distance
        names[14], distances[14] = "cow", distance + 5
    rgb = np.zeros((3, 256, 256), np.uint8)
    rgb[0, :, ::2] = 100
    durability = np.full(36, -1.0)
    durability[0] = sword
    rays = {"entity_name": names, "entity_distance": distances}
    return {"rgb": rgb, "rays": rays, "inventory": {"cur_durability": durability}}


class Sim:
    """The innermost layer."""

    def __init__(self):
        world = SimpleNamespace(world_seed=0, force_reset=True)
        self._sim_spec = SimpleNamespace(_world_generator_handlers=[world])

    def execute_cmd(self, command):
        CALLS.append(command)

    def set_time(self, time):
        CALLS.append(f"time {time}")

    def set_weather(self, weather):
        CALLS.append(weather)

    def reset(self):
        CALLS.append(f"world {self._sim_spec._world_generator_handlers[0].world_seed}")
        return dojo_obs(*SCRIPT.pop(0)[:2])


class FastReset:
    """Makes a world once and from then on only puts the player back."""

    def __init__(self, env):
        self.env, self._server_start, self._info_prev_reset = env, False, None

    def reset(self):
        if not self._server_start:
            self._server_start = True
            return self.env.reset()
        CALLS.append("back")
        return dojo_obs(*SCRIPT.pop(0)[:2])


class Task:
    """The outer layers; attributes are looked for further in, as gym's wrappers do."""

    def __init__(self, env, **options):
        self.env, self.options, self.is_successful = env, options, False
        self.action_space = SimpleNamespace(nvec=np.array([3, 3, 4, 25, 25, 8, 244, 36]))

    def __getattr__(self, name):
        return getattr(self.env, name)

    @property
    def unwrapped(self):
        return self.env.env

    def reset(self):
        self.is_successful = False
        return self.env.reset()

    def step(self, action):
        CALLS.append(list(action))
        distance, sword, reward, done = SCRIPT.pop(0)
        self.is_successful = reward >= 200
        return dojo_obs(distance, sword), reward, done, {}

    def close(self):
        CALLS.append("close")


def make(name, **options):
    CALLS.append((name, options))
    return Task(FastReset(Sim()))


def install_minedojo(modules):
    dojo, sim, inventory = (
        ModuleType(name) for name in ("minedojo", "minedojo.sim", "minedojo.sim.inventory")
    )
    dojo.make = make
    inventory.InventoryItem = lambda **item: item
    for module in (dojo, sim, inventory):
        modules[module.__name__] = module


class Space(dict):
    """A Dict space: its `spaces`, and the action that does nothing."""

    def __init__(self, spaces, nothing=None):
        super().__init__(spaces)
        self.spaces, self.nothing = spaces, nothing

    def noop(self):
        return dict(self.nothing)


MOVES = dict.fromkeys(
    ("forward", "back", "left", "right", "jump", "sneak", "sprint", "attack"), 0
) | {"camera": np.zeros(2, np.float32)}
CRAFT = dict.fromkeys(("craft", "nearbyCraft", "nearbySmelt", "place", "equip"), "none")
HUMAN = MOVES | dict.fromkeys(
    ("use", "inventory", "drop", *(f"hotbar.{i}" for i in range(1, 10))), 0
)
HELD = ["air", "iron_pickaxe", "other"]


def pov(height, width):
    return SimpleNamespace(shape=(height, width, 3))


class Rl:
    """An environment of MineRL, which repeats one observation."""

    def __init__(self, spec):
        self.spec, self.sent, self.seeds = spec, [], []
        self.action_space = Space(spec.nothing, spec.nothing)
        self.observation_space = Space(spec.spaces)

    def seed(self, seed):
        self.seeds.append(seed)

    def reset(self):
        return self.spec.shown

    def step(self, action):
        self.sent.append(action)
        return self.spec.shown, 1.0, False, dict(self.spec.info)

    def close(self):
        pass


class Spec:
    def __init__(self, resolution=(64, 64), dense=False, extreme=False):
        self.resolution, self.dense, self.info = resolution, dense, {}
        self.shown = {"pov": np.full((*resolution, 3), 7, np.uint8)}
        self.spaces = {"pov": pov(*resolution)}
        self.nothing = MOVES
        self.fill()

    def fill(self):
        pass

    def create_agent_start(self):
        return ["iron_axe"]

    def make(self, fake=False):
        return Rl(self)


class Navigate(Spec):
    def fill(self):
        self.nothing = MOVES | {"place": "none"}
        self.spaces |= {"compass": None, "inventory": Space({"dirt": None})}
        self.shown |= {"compass": {"angle": np.float32(-90)}, "inventory": {"dirt": np.int32(2)}}


class Diamond(Spec):
    def fill(self):
        self.nothing = MOVES | CRAFT
        hand = Space({"type": SimpleNamespace(values=np.array(HELD))})
        self.spaces |= {
            "inventory": Space({"planks": None, "log": None}),
            "equipped_items": Space({"mainhand": hand}),
        }
        self.shown |= {
            "inventory": {"planks": 4, "log": 1},
            "equipped_items": {"mainhand": {"type": "iron_pickaxe", "damage": 0}},
        }


class Shovel(Spec):
    def fill(self):
        self.nothing = HUMAN
        self.spaces = {"pov": pov(360, 640), "inventory": Space({"oak_log": None, "air": None})}
        self.shown = {
            "pov": np.zeros((360, 640, 3), np.uint8),
            "inventory": {"oak_log": 2, "birch_log": 3, "stick": 1, "air": 9},
        }


def shovel(spec, fake):
    env = Rl(spec)
    env.rewarded_items, env.num_steps = [[["oak_log", "birch_log"], 1], [["stick"], 4]], 17_999
    return env


def install_minerl(modules, version):
    names = ("", ".herobraine", ".herobraine.env_specs", ".herobraine.hero")
    for name in names:
        modules[f"minerl{name}"] = ModuleType(f"minerl{name}")
    specs, hero = modules["minerl.herobraine.env_specs"], modules["minerl.herobraine.hero"]
    specs.treechop_specs = SimpleNamespace(Treechop=Spec)
    specs.navigate_specs = SimpleNamespace(Navigate=Navigate)
    hero.handlers = SimpleNamespace(AgentStartBreakSpeedMultiplier=lambda speed: f"speed {speed}")
    specs.obtain_specs = (
        SimpleNamespace(ObtainDiamond=Diamond)
        if version == "0.4.4"
        else SimpleNamespace(
            ObtainDiamondShovelEnvSpec=Shovel, _obtain_diamond_shovel_gym_entrypoint=shovel
        )
    )


def scripted_cow(script, **kwargs):
    """`minecraft_child.Cow` on the imitation; for a process of its own."""
    install_minedojo(sys.modules)
    from reverie_envs import minecraft_child

    SCRIPT[:] = [tuple(step) for step in script]
    return minecraft_child.Cow(**kwargs)
