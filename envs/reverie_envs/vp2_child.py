"""RoboDesk and robosuite as VP2 shows them; runs in the Python that has those packages.

Source of the settings: s-tian/vp2@b0eb69d, vp2/envs/robodesk_env.py and robosuite_env.py. Besides
them this file imports numpy and pillow alone, and nothing of Reverie; see `isolated_child.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image


class Box:
    """What is read of a Box of gym; robosuite brings no gym."""

    def __init__(self, low: Any, high: Any, shape: tuple[int, ...], dtype: Any) -> None:
        self.low, self.high, self.shape, self.dtype = low, high, shape, np.dtype(dtype)


class Desk:
    """RoboDesk 1.0.0 with VP2's two repairs: blocks know where they began, `qpos_objects` is qpos.

    `repeat` raw steps per decision; ends by time-out after `length` decisions.
    """

    BLOCKS = ("ball", "upright_block", "flat_block")
    VECTORS = ("qpos_robot", "qvel_robot", "end_effector", "qpos_objects", "qvel_objects")

    def __init__(
        self, task: str, size: int, repeat: int, length: int, reward: str, state: bool
    ) -> None:
        from robodesk import RoboDesk  # pyright: ignore[reportMissingImports]

        if not hasattr(Image, "ANTIALIAS"):  # what RoboDesk resizes with was renamed in pillow 10
            Image.ANTIALIAS = Image.Resampling.LANCZOS  # type: ignore[attr-defined]
        self._env = RoboDesk(task, reward, repeat, episode_length=0, image_size=size)
        self._length, self._count = length, 0
        self._keys = ("image", *(self.VECTORS if state else ()))
        self.action_space = Box(-1, 1, (5,), np.float32)
        shown = self._obs(self._env.reset())
        self.observation_space = {"image": Box(0, 255, shown["image"].shape, np.uint8)}
        for key in self._keys[1:]:
            self.observation_space[key] = Box(-np.inf, np.inf, shown[key].shape, np.float32)

    def reset(self, seed: Any = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        """RoboDesk draws from numpy's global generator, which the server has seeded."""
        self._count = 0
        obs = self._env.reset()
        for block in self.BLOCKS:  # RoboDesk keeps views here, which move with the blocks
            self._env.original_pos[block] = self._env.physics.named.data.xpos[block].copy()
        return self._obs(obs), {}

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, float]]:
        self._count += 1
        obs, reward, _, _ = self._env.step(action)
        success = bool(np.any(self._env._get_task_reward(self._env.task, "success")))
        timed_out = self._count == self._length
        return self._obs(obs), float(reward), False, timed_out, {"log/success": float(success)}

    def close(self) -> None:
        self._env.physics.free()
        self._env.physics_copy.free()

    def _obs(self, obs: dict[str, Any]) -> dict[str, Any]:
        physics = self._env.physics
        obs = {**obs, "qpos_objects": physics.data.qpos[self._env.num_joints :]}
        kinds = {key: np.uint8 if key == "image" else np.float32 for key in self._keys}
        return {key: np.array(obs[key], kind) for key, kind in kinds.items()}


class Arm:
    """A task of robosuite 1.5 with one Panda arm, drawn at 256 pixels and shrunk as VP2 does."""

    SCREEN = 256

    def __init__(
        self, task: str, size: int, camera: str, controller: str, length: int, shaped: bool
    ) -> None:
        import robosuite  # pyright: ignore[reportMissingImports]
        from robosuite import controllers  # pyright: ignore[reportMissingImports]

        config = controllers.load_composite_controller_config(robot="Panda")
        arm = config["body_parts"]["right"]
        if controller == "OSC_POSITION":  # a VP2 action moves the hand and does not turn it
            arm["output_max"], arm["output_min"] = arm["output_max"][:3], arm["output_min"][:3]
        arm["type"] = controller
        self._env = robosuite.make(
            task,
            robots="Panda",
            controller_configs=config,
            has_renderer=False,
            has_offscreen_renderer=True,
            use_camera_obs=True,
            use_object_obs=False,
            camera_names=camera,
            camera_heights=self.SCREEN,
            camera_widths=self.SCREEN,
            reward_shaping=shaped,
            horizon=length,
            hard_reset=False,  # else EGL loses its context: all frames but the first are noise
            seed=0,
        )
        self._key, self._size = f"{camera}_image", (size, size)
        low, high = self._env.action_spec
        self.action_space = Box(low, high, low.shape, np.float32)
        self.observation_space = {"image": Box(0, 255, (size, size, 3), np.uint8)}

    def reset(self, seed: Any = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        if seed is not None:  # in place: what samples positions shares this generator
            fresh = np.random.default_rng(seed)
            self._env.rng.bit_generator.state = fresh.bit_generator.state
        return self._obs(self._env.reset()), {}

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, float]]:
        obs, reward, done, _ = self._env.step(action)
        success = float(bool(self._env._check_success()))
        return self._obs(obs), float(reward), False, bool(done), {"log/success": success}

    def close(self) -> None:
        self._env.close()

    def _obs(self, obs: dict[str, Any]) -> dict[str, Any]:
        upright = Image.fromarray(obs[self._key][::-1])  # rows come as OpenGL has them
        small = upright.resize(self._size, Image.Resampling.BILINEAR)
        return {"image": np.asarray(small).copy()}
