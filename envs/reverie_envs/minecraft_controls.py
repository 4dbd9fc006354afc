"""From five or six choices to what a Minecraft client is sent, and images to their size.

The choices, MultiDiscrete [3, 3, 4, 5, 3] (source: thuml/HarmonyDream@0a22e33):
none, forward, back | none, left, right | none, jump, sneak, sprint |
none, look up, look down, look left, look right by 15 degrees | none, use, attack.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from reverie.extras import load_extra
from reverie.types import Array
from reverie_envs.minecraft_child import KEYS

NVEC = [3, 3, 4, 5, 3]
WALK = ("", "forward", "back"), ("", "left", "right"), ("", "jump", "sneak", "sprint")
HAND = ("", "use", "attack")
CAMERA_DEGREES = 15
CAMERA = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))
"""Choice -> (pitch, yaw) in units of 15 degrees; positive pitch looks down, positive yaw right."""
PITCH, YAW, COMMAND = len(KEYS), len(KEYS) + 1, len(KEYS) + 2
MIDDLE = 12
"""MineDojo's camera has 25 steps of 15 degrees; this one does not turn."""


class Controls:
    """Actions of one episode -> float32 [12] in the order of `minecraft_child.KEYS`, then pitch
    and yaw in degrees and the number of a command.

    Args:
        sticky_attack, sticky_jump: decisions for which an attack (without jumping) or a jump
            (forward) goes on once begun, as in danijar/dreamerv3@8fa35f8; 0 for none.
        pitch_limit: degrees from the horizon beyond which looks up and down are ignored; 0 for
            none. The pitch is counted from 0 at the start of the episode.
    """

    def __init__(self, sticky_attack: int = 0, sticky_jump: int = 0, pitch_limit: int = 0) -> None:
        self._sticky_attack, self._sticky_jump = sticky_attack, sticky_jump
        self._pitch_limit = pitch_limit
        self.reset()

    def reset(self) -> None:
        """Begin an episode."""
        self._attacks = self._jumps = self._pitch = 0

    def __call__(self, action: Any) -> Array:
        choices = [int(choice) for choice in action]
        pressed = {names[i] for names, i in zip(WALK, choices[:3], strict=True)}
        pressed.add(HAND[choices[4]])
        self._stick(pressed)
        sent = np.zeros(len(KEYS) + 3, np.float32)
        sent[: len(KEYS)] = [key in pressed for key in KEYS]
        sent[PITCH], sent[YAW] = self._look(*CAMERA[choices[3]])
        sent[COMMAND] = choices[5] if len(choices) > 5 else 0
        return sent

    def _stick(self, pressed: set[str]) -> None:
        if self._sticky_attack and "attack" in pressed:
            self._attacks = self._sticky_attack
        if self._attacks:
            pressed.add("attack")
            pressed -= {"jump", "use"}
            self._attacks -= 1
        if self._sticky_jump and "jump" in pressed:
            self._jumps = self._sticky_jump
        if self._jumps:
            pressed |= {"jump", "forward"}
            pressed -= {"back", "sneak"}
            self._jumps -= 1

    def _look(self, down: int, right: int) -> tuple[int, int]:
        pitch, yaw = CAMERA_DEGREES * down, CAMERA_DEGREES * right
        if self._pitch_limit and abs(self._pitch + pitch) > self._pitch_limit:
            pitch = 0
        self._pitch += pitch
        return pitch, yaw


def to_minedojo(sent: Array) -> Array:
    """What `Controls` sends -> MineDojo's own action, int64 [8]."""
    on = dict(zip(KEYS, sent.astype(bool), strict=False))
    return np.array(
        [
            1 if on["forward"] else 2 if on["back"] else 0,
            1 if on["left"] else 2 if on["right"] else 0,
            1 if on["jump"] else 2 if on["sneak"] else 3 if on["sprint"] else 0,
            MIDDLE + round(float(sent[PITCH]) / CAMERA_DEGREES),
            MIDDLE + round(float(sent[YAW]) / CAMERA_DEGREES),
            3 if on["attack"] else 1 if on["use"] else 0,
            0,
            0,
        ],
        np.int64,
    )


def shrink(image: Array, size: int) -> Array:
    """Resize uint8 [H, W, 3] to [size, size, 3]; halving averages squares of four pixels."""
    if image.shape[:2] == (size, size):
        return image
    cv2 = load_extra("cv2", "resizing frames of Minecraft", "video")
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
