"""Which odd environments no agent learns from, why, and the words that say it."""

from __future__ import annotations

from collections.abc import Mapping

from tests.contract.zoo import ENVS

TAKEN = "observation key .* is taken by Reverie; rename it"
CHANNELS = "looks channel-first; expected .H, W, C."
OBSERVATION = "is not supported; expected Box, Discrete, MultiDiscrete, MultiBinary or a Dict"
ACTION = "the action space .* is not supported; supported: Box"
REFUSED: Mapping[str, str] = {
    "dict_nothing_at_all": "holds no numbers",
    "dict_empty_dict": "holds no numbers",
    "dict_joined_twice": "two observations are called 'a_b'",
    **{name: TAKEN for name in ENVS if name.startswith("dict_taken")},
    **{name: CHANNELS for name in ENVS if name.endswith("channel_first")},
    "picture_stack_of_grey": CHANNELS,
    "picture_stack_of_rgb": "give each camera a key and do not stack frames",
    **{name: OBSERVATION for name in ENVS if name.startswith("unsupported")},
    **{f"action_{kind}": ACTION for kind in ("none", "dict", "tuple", "text", "sequence")},
    "call_no_spaces": OBSERVATION,
    "call_not_an_env": "expected a gymnasium.Env",
    "call_no_env_at_all": "expected a gymnasium.Env",
    "call_wants_arguments": "missing a required argument: 'level'.* env.kwargs gives them",
    "call_no_seed": "write def reset.self, .*super.*seed=seed",
    "call_no_options": "write def reset.self, .*super.*seed=seed",
    "call_step_with_two": "write def step.self, action.",
}
"""What no agent can learn from, since it has no arrays of numbers, or says too little: the words
with which it is refused before its first step."""
DEPTH = {
    *("picture_depth_in_mm", "picture_depth_of_one_channel", "picture_depth_in_m"),
    *("picture_depth_without_end", "picture_colour_and_depth"),
}
"""What every agent refuses, with what to do: how far the far end is, nobody knows."""
ENDS: Mapping[str, str] = {
    "reward_array": "reward is array.* expected one finite number",
    "reward_list": "reward is .0.5., expected one finite number",
    "reward_text": "reward is '0.5', expected one finite number",
    "reward_none": "reward is None, expected one finite number",
    "reward_complex": "reward is 1j, expected one finite number",
    "reward_nan": "reward is nan, expected one finite number",
    "reward_inf": "reward is -inf, expected one finite number",
    "reward_beyond_float32": "reward is 1e.39, expected one finite number of float32",
    "info_logged_text": "info.'log/name'. is 'abc', expected one number",
    "info_logged_array": "info.'log/speed'. is array.*expected one number",
    "info_logged_none": "info.'log/speed'. is None, expected one number",
    "info_none": "info is a NoneType, expected a dict",
    "info_list": "info is a list, expected a dict",
    "call_old_step": "step returned 4 values, .*split .done. of old gym",
    "call_six_values": "step returned 6 values, expected",
    "call_list_of_values": "step returned list, expected",
    "call_old_reset": "reset returned dict, expected .observation, info.",
    "call_flags_of_int": "terminated is 0, expected a bool",
    "call_flags_in_arrays": "terminated is array.False., expected a bool",
    "return_as_list": "'arm' is a list, its space says an array",
    "return_as_float64": "'arm' has dtype float64, its space says float32",
    "return_big_endian": "'arm' has dtype >f4, its space says float32",
    "return_as_objects": "'arm' has dtype object, its space says float32",
    "return_another_shape": "'arm' has shape .2,., its space says .3,.",
    "return_growing": "'arm' has shape .4,., its space says .3,.",
    "return_key_missing": "'arm' is missing; returned: .'camera'.",
    "return_changing_space": "'arm' has shape .4,., its space says .3,.",
    "return_nan": "'arm' is not finite",
    "return_none": "'arm' is missing; returned: NoneType",
    "return_place_outside": "is np.int64.3., its space says Discrete.3.",
    "fault_raises_at_build": "OSError: no licence server",
    "fault_raises_at_reset": "OSError: no licence server",
    "fault_raises_at_step": "ZeroDivisionError: physics",
    "fault_raises_in_lines": "ValueError: one\ntwo %s {three}",
    "fault_raises_nothing_said": "AssertionError",
    "fault_raises_what_cannot_be_shown": "Unprintable",
    "fault_stops_iteration": "StopIteration: no more levels",
    "fault_exits": "SystemExit: 3",
    "fault_interrupts": "KeyboardInterrupt",
    "fault_lacks_a_package": "ImportError: No module pybullet",
    "fault_hangs_at_reset": "no answer within",
}
"""What breaks its word, or down, as it runs: what the message says of it."""
FAILS_CHECK = {
    *("return_shared", "return_out_of_range", "reward_nan_once", "fault_raises_once"),
    *("fault_raises_at_times", "fault_raises_at_close", "fault_hangs_once"),
}
"""What trains, although `check-env` rightly finds a breach."""
