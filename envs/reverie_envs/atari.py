"""Atari 100K: 26 games from 64x64 colour pixels, four raw frames per decision.

Protocol of SimPLe and of the DreamerV3 line (danijar/dreamerv3 embodied/envs/atari.py): no
sticky actions, the minimal action set, 0 to 29 no-ops at the start, lives unused, rewards as the
game gives them, 100 evaluation episodes with sampled actions.

`env.resize` and `env.noops` turn it into the protocol of danijar/dreamerv3@e3f0224.

Differs from the paper's code: the cap of 108,000 raw frames is a time-out, so its row is last
but not terminal; their code calls it terminal, which teaches that a long life ends in nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import gymnasium
import numpy as np
from gymnasium import spaces

from reverie.extras import load_extra
from reverie.protocols import EvalProtocol, Suite
from reverie.ranges import Count, CountOrNone, Few, Pixels, ShareBelow1
from reverie.types import STRICT, Array, Rows
from reverie_envs.suites import installed, pip_line, protocol_id, unknown_task

SCORES: dict[str, tuple[float, float]] = {
    "alien": (227.8, 7127.7),
    "amidar": (5.8, 1719.5),
    "assault": (222.4, 742.0),
    "asterix": (210.0, 8503.3),
    "bank_heist": (14.2, 753.1),
    "battle_zone": (2360.0, 37187.5),
    "boxing": (0.1, 12.1),
    "breakout": (1.7, 30.5),
    "chopper_command": (811.0, 7387.8),
    "crazy_climber": (10780.5, 35829.4),
    "demon_attack": (152.1, 1971.0),
    "freeway": (0.0, 29.6),
    "frostbite": (65.2, 4334.7),
    "gopher": (257.6, 2412.5),
    "hero": (1027.0, 30826.4),
    "jamesbond": (29.0, 302.8),
    "kangaroo": (52.0, 3035.0),
    "krull": (1598.0, 2665.5),
    "kung_fu_master": (258.5, 22736.3),
    "ms_pacman": (307.3, 6951.6),
    "pong": (-20.7, 14.6),
    "private_eye": (24.9, 69571.3),
    "qbert": (163.9, 13455.0),
    "road_runner": (11.5, 7845.0),
    "seaquest": (68.4, 42054.7),
    "up_n_down": (533.4, 11693.2),
}
"""Game -> score of random play, score of a human."""
ALIASES = {"james_bond": "jamesbond"}
NOOP = 0
PILLOW_BILINEAR = 2
"""`PIL.Image.Resampling.BILINEAR`."""
REMEDY = pip_line("atari100k", "ale-py", "atari")


@dataclass(frozen=True, kw_only=True, slots=True)
class AtariConfig:
    """How the games are shown and played."""

    __pydantic_config__: ClassVar[Any] = STRICT
    size: Pixels = 64
    """Height and width of the image in pixels (source: danijar/dreamerv3@8fa35f8)."""
    repeat: Few = 4
    """Raw frames per decision (source: danijar/dreamerv3@8fa35f8)."""
    resize: Literal["area", "bilinear"] = "area"
    """How frames shrink: `area` is OpenCV's mean over areas, as in danijar/dreamerv3@8fa35f8;
    `bilinear` is Pillow's, as in danijar/dreamerv3@e3f0224."""
    noops: CountOrNone = 30
    """Episodes start with a random number of no-op frames below this; 0 and 1 mean none
    (source: danijar/dreamerv3@8fa35f8; 31 in danijar/dreamerv3@e3f0224)."""
    sticky: ShareBelow1 = 0.0
    """Chance per raw frame that the console repeats the last action instead
    (source: danijar/dreamerv3@8fa35f8)."""
    frame_cap: Count = 108_000
    """Raw frames of play after which an episode is cut off; HarmonyDream's runs of Chopper
    Command used 5,400 (source: danijar/dreamerv3@8fa35f8)."""


class Atari100k(Suite):
    """26 Atari games, RGB 64x64, 4 frames per decision, no sticky actions, sampled evaluation."""

    Config = AtariConfig
    extra = "atari"
    deterministic = True

    def tasks(self) -> tuple[str, ...]:
        return tuple(SCORES)

    def knows(self, task: str) -> bool:
        """Whether `task` is a game's name or another spelling of one."""
        return ALIASES.get(task, task) in SCORES

    def missing(self) -> str | None:
        """What has to be done before it can be used."""
        return None if installed("ale_py") else REMEDY

    def rendering(self) -> str:
        return "emulator"

    def action_repeat(self, config: AtariConfig) -> int:
        return config.repeat

    def protocol(self, task: str, config: AtariConfig) -> EvalProtocol:
        """100 episodes, actions sampled. Raises: KeyError."""
        random_score, human_score = SCORES[_game(task)]
        return EvalProtocol(
            protocol_id("atari100k-v1", config),
            mode="sample",
            episodes=100,
            random_score=random_score,
            human_score=human_score,
            max_steps=-(-config.frame_cap // config.repeat),
        )

    def assets(self, task: str) -> dict[str, str]:
        """SHA-256 of the game's ROM, for the run manifest. Raises: KeyError; ImportError."""
        rom = _import_ale().roms.get_rom_path(_game(task))
        assert rom is not None, f"ale-py ships no ROM of {task}"
        return {rom.name: hashlib.sha256(rom.read_bytes()).hexdigest()}

    def make(self, task: str, config: AtariConfig) -> gymnasium.Env[Rows, Any]:
        """Raises: KeyError; ImportError where ale-py is missing, with the `pip` line."""
        return AtariEnv(_game(task), config)


def _game(task: str) -> str:
    game = ALIASES.get(task, task)
    if game not in SCORES:
        raise unknown_task(task, "atari100k", SCORES)
    return game


class AtariEnv(gymnasium.Env[Rows, Any]):
    """One game. An image is the pixel-wise maximum of the last two raw frames of a decision.

    A decision that the game's end cuts short shows the very last raw frame alone.
    """

    render_mode = "rgb_array"

    def __init__(self, game: str, config: AtariConfig) -> None:
        self._config = config
        fps = max(1, round(60 / config.repeat))
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": fps}
        self._ale = _console(game)
        self._actions = self._ale.getMinimalActionSet()
        self._power_on = self._ale.cloneSystemState()
        self._screen = self._ale.getScreenRGB()
        self._earlier = np.empty_like(self._screen)
        self._first_screen = self._screen.copy()
        self._frames = 0
        self._sent = NOOP
        image = spaces.Box(0, 255, (config.size, config.size, 3), np.uint8)
        self.observation_space = spaces.Dict({"image": image})
        self.action_space = spaces.Discrete(len(self._actions))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Rows, dict[str, Any]]:
        """Switch the console on and wait for a random number of frames, drawn from `seed`."""
        super().reset(seed=seed)
        self._switch_on()
        noops = int(self.np_random.integers(max(self._config.noops, 1)))
        for _ in range(noops):
            self._ale.act(self._actions[NOOP])
            if self._ale.game_over():
                self._switch_on()
        if self._ale.getEpisodeFrameNumber() > self._frames_at_start:
            self._ale.getScreenRGB(self._screen)
        return self._obs(), {}

    def step(self, action: Any) -> tuple[Rows, float, bool, bool, dict[str, Any]]:
        """Press one button for `repeat` raw frames."""
        reward, over, left = 0, False, self._config.repeat
        pools = left > 1
        while left and not over:
            if left == 1 and pools:
                self._ale.getScreenRGB(self._earlier)
            reward += self._ale.act(self._pressed(int(action)))
            over = self._ale.game_over()
            left -= 1
        self._frames += self._config.repeat - left
        self._ale.getScreenRGB(self._screen)
        if pools and left == 0:
            np.maximum(self._screen, self._earlier, out=self._screen)
        timed_out = not over and self._frames >= self._config.frame_cap
        return self._obs(), float(reward), over, timed_out, {}

    def render(self) -> Array:
        """Return the image as it is before it shrinks, uint8 [210, 160, 3]."""
        return self._screen.copy()

    def _switch_on(self) -> None:
        # reset_game alone lets the last episode shine through in seven games (Boxing, Freeway,
        # ...), restoring alone in two (Amidar, Qbert); loading the ROM again takes 0.1 s.
        self._ale.reset_game()
        self._ale.restoreSystemState(self._power_on)
        self._frames_at_start = self._ale.getEpisodeFrameNumber()
        np.copyto(self._screen, self._first_screen)
        self._frames = 0
        self._sent = NOOP

    def _pressed(self, action: int) -> Any:
        sticky = self._config.sticky
        if not sticky or self.np_random.random() >= sticky:
            self._sent = action
        return self._actions[self._sent]

    def _obs(self) -> Rows:
        size = (self._config.size, self._config.size)
        if self._config.resize == "bilinear":
            image = load_extra("PIL.Image", "env.resize=bilinear", "atari").fromarray(self._screen)
            return {"image": np.array(image.resize(size, resample=PILLOW_BILINEAR))}
        cv2 = load_extra("cv2", "the suite 'atari100k'", "atari")
        return {"image": cv2.resize(self._screen, size, interpolation=cv2.INTER_AREA)}


def _console(game: str) -> Any:
    ale_py = _import_ale()
    ale = ale_py.ALEInterface()
    ale.setFloat("repeat_action_probability", 0.0)
    ale.setInt("random_seed", 0)
    ale.loadROM(str(ale_py.roms.get_rom_path(game)))
    return ale


def _import_ale() -> Any:
    try:
        import ale_py
        import ale_py.roms
    except ImportError as error:
        raise ImportError(REMEDY) from error
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    return ale_py
