"""Does an environment keep its promises? Every promise is tried, and every breach reported.

Used by the contract tests and by `reverie check-env my_file:make_env`. Calls into the environment
run in one thread of their own, so that one that hangs is reported and not waited for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from reverie.call_thread import CallThread
from reverie.types import Rows
from reverie_envs.guarded import CallFailed, CallHung, Guarded, ask
from reverie_envs.vector import SyncVectorEnv
from reverie_envs.wrappers import ContractError, NormalActions, spaces_of, standardise

Env = gymnasium.Env[Any, Any]
Make = Callable[[], Env]
COMPARED_STEPS = 100
"""Decisions of an episode that are compared with a second run of it."""
SEED = 7
BUILD_S = 10.0
"""Seconds that building one may take at least, whatever the limit of a call."""
CLOSE_GRACE_S = 3.0
"""Seconds that child processes may take to end after `close`."""


class CheckResult(NamedTuple):
    """What one check found; a message that begins with `warning:` belongs to a passed check."""

    name: str
    ok: bool
    message: str


class Moment(NamedTuple):
    """What one reset or step showed."""

    obs: Rows
    reward: float
    terminated: bool
    truncated: bool


@dataclass(kw_only=True)
class Session:
    """What the checks share: how to build the environment, and what the episodes showed."""

    make: Make
    episodes: int
    deterministic: bool
    max_steps: int
    thread: CallThread
    built: list[Env] = field(default_factory=list)
    """Every environment built so far; the first one plays the episodes."""
    faults: dict[str, str] = field(default_factory=dict)
    """First breach found while playing, by the name of the check that reports it."""
    steps: int = 0
    ended: int = 0

    def build(self) -> Env:
        """Build the environment, guarded and standardised."""
        env = ask(self.thread, "make", self.make, BUILD_S)
        if not isinstance(env, gymnasium.Env):
            raise ContractError(f"make returned {type(env).__name__}, expected a gymnasium.Env")
        self.built.append(standardise(Guarded(env, self.thread)))
        return self.built[-1]


def check_env(
    make: Make,
    *,
    episodes: int = 2,
    deterministic: bool = True,
    max_steps: int = 2000,
    limit_s: float = 60.0,
) -> list[CheckResult]:
    """Try everything that the platform relies on; nothing the environment does raises here.

    Waits at most `limit_s` seconds for each call into the environment, for building it at least
    `BUILD_S`.

    Args:
        make: Builds the environment; called several times.
        episodes: Episodes played with random actions.
        deterministic: Whether the same seed and actions must show the same.
        max_steps: Decisions after which an episode that does not end is given up, with a warning.
        limit_s: Seconds that one call may take; 0 sets no limit.
    """
    thread = CallThread(limit_s)
    children = set(_children())
    results: list[CheckResult] = []
    session = Session(
        make=make,
        episodes=episodes,
        deterministic=deterministic,
        max_steps=max_steps,
        thread=thread,
    )
    for name, check in CHECKS.items():
        results.append(_run(name, check, session))
        if thread.is_lost or (name in ("build", "play") and not results[-1].ok):
            break
    if session.built and not thread.is_lost:
        sound = all(result.ok for result in results)
        results.append(_run("close", partial(_check_close, children, sound), session))
    thread.stop()
    return results


def _run(name: str, check: Callable[[Session], str], session: Session) -> CheckResult:
    try:
        return CheckResult(name, True, check(session))
    except (ValueError, CallFailed, CallHung) as error:
        return CheckResult(name, False, str(error))


# The checks: each returns what it found, or raises with what is wrong


def _check_build(session: Session) -> str:
    spaces = spaces_of(session.build())
    obs = ", ".join(f"{key} {spec.dtype}{list(spec.shape)}" for key, spec in spaces.obs.items())
    action = spaces.action
    return f"{obs}; action {action.kind} {list(action.num) or action.width}"


def _check_actions(session: Session) -> str:
    """What random actions and the ends of the range become is what the environment takes."""
    env = session.built[0]
    assert isinstance(env, NormalActions), env
    spec, space = env.spec_of_action, env.env.action_space
    actions = list(spec.sample(np.random.default_rng(SEED), COMPARED_STEPS))
    if spec.kind == "box":
        actions += [np.full(spec.shape, end, np.float32) for end in (-1, 0, 1)]
    for action in actions:
        native = env.convert(action)
        if not ask(session.thread, "action_space.contains", partial(space.contains, native)):
            raise ContractError(
                f"the action {native!r} ({native.dtype}) is not in the action space {space}, which"
                " declares its bounds; mend its contains"
            )
    return f"{len(actions)} actions within {space}"


def _check_play(session: Session) -> str:
    """Types, shapes and finite values; `DictObservations` looks at them at every step."""
    for episode in range(session.episodes):
        for _ in _watch(_play(session.built[0], episode, session.max_steps), session):
            pass
    return f"{session.steps} steps in {session.episodes} episodes"


def _watch(moments: Iterator[Moment], session: Session) -> Iterator[Moment]:
    """Pass on the moments of an episode, noting faults that need no second run."""
    kept: Rows = {}
    copies: Rows = {}
    moment = None
    for moment in moments:
        _note_overwritten(kept, copies, session)
        _note_out_of_range(moment.obs, session)
        kept, copies = moment.obs, {key: value.copy() for key, value in moment.obs.items()}
        session.steps += 1
        yield moment
    session.ended += bool(moment and (moment.terminated or moment.truncated))


def _note_overwritten(kept: Rows, copies: Rows, session: Session) -> None:
    for key, value in kept.items():
        if not np.array_equal(value, copies[key]):
            session.faults.setdefault(
                "kept rows",
                f"observation {key!r} was overwritten by the following step; return a fresh"
                " array each time (.copy())",
            )


def _note_out_of_range(obs: Rows, session: Session) -> None:
    space = session.built[0].observation_space
    assert isinstance(space, gymnasium.spaces.Dict), space
    for key, value in obs.items():
        box: Any = space[key]
        outside = (value < box.low) | (value > box.high)
        if outside.any():
            where = tuple(int(i) for i in np.argwhere(outside)[0])
            session.faults.setdefault(
                "range",
                f"observation {key!r} is {value[where]} at index {where}, its space says"
                f" {box.low[where]} to {box.high[where]}",
            )


def _reported(name: str, fine: str) -> Callable[[Session], str]:
    def check(session: Session) -> str:
        if name in session.faults:
            raise ContractError(session.faults[name])
        return fine

    return check


def _check_ends(session: Session) -> str:
    if session.ended:
        return f"{session.ended} of {session.episodes} episodes ended"
    return (
        f"warning: no episode ended within {session.max_steps} steps; put a"
        " gymnasium.wrappers.TimeLimit around it if none ever does"
    )


def _check_seeding(session: Session) -> str:
    """Two fresh environments show the same, and so does the one that has played."""
    if not session.deterministic:
        return "not tried: declared not deterministic"
    steps = min(session.max_steps, COMPARED_STEPS)
    first, second = _record(session.build(), steps), _record(session.build(), steps)
    _compare(first, second, "two environments with the same seed and actions differ")
    played = _record(session.built[0], steps)
    _compare(first, played, "reset(seed=...) does not begin anew after an earlier episode")
    return f"same over {len(first)} rows, in fresh environments and in one that had played"


def _check_rows(session: Session) -> str:
    """Flags and rewards as the vector environment gives them."""
    env = SyncVectorEnv([lambda: session.built[0]], lambda _, episode: episode)
    rng, mask, last = np.random.default_rng(SEED), np.ones(1, bool), True
    for count in range(min(session.max_steps, COMPARED_STEPS)):
        rows = env.step(env.spaces.action.sample(rng, 1), mask)
        first, terminal, reward = (rows[key][0] for key in ("is_first", "is_terminal", "reward"))
        if first != last or (first and (reward != 0 or rows["is_last"][0])):
            raise ContractError(f"row {count}: is_first={first} after is_last={last}")
        last = rows["is_last"][0]
        if terminal and not last:
            raise ContractError(f"row {count}: is_terminal without is_last")
    return "flags and first rewards fit"


def _check_close(children_before: set[int], sound: bool, session: Session) -> str:
    """Close and, if all was sound so far, build again and close: nothing is left behind."""
    for env in session.built:
        env.close()
    if sound:
        again = session.build()
        list(_play(again, SEED, 3))
        again.close()
    deadline = time.monotonic() + CLOSE_GRACE_S
    while (left := set(_children()) - children_before) and time.monotonic() < deadline:
        time.sleep(0.05)
    if left:
        raise ContractError(f"close left child processes behind: {sorted(left)}")
    return "built again after close; no child process left" if sound else "no child process left"


CHECKS: dict[str, Callable[[Session], str]] = {
    "build": _check_build,
    "actions": _check_actions,
    "play": _check_play,
    "range": _reported("range", "every value within its space"),
    "kept rows": _reported("kept rows", "returned arrays stay as they were"),
    "ends": _check_ends,
    "seeding": _check_seeding,
    "rows": _check_rows,
}


# Playing


def _play(env: Env, seed: int, max_steps: int) -> Iterator[Moment]:
    """Play one episode with random actions drawn from `seed`."""
    rng = np.random.default_rng(seed)
    action_spec = spaces_of(env).action
    obs, _ = env.reset(seed=seed)
    yield Moment(obs, 0.0, False, False)
    for _ in range(max_steps):
        obs, reward, terminated, truncated, _ = env.step(action_spec.sample(rng, 1)[0])
        yield Moment(obs, float(reward), terminated, truncated)
        if terminated or truncated:
            return


def _record(env: Env, steps: int) -> list[Moment]:
    return [
        moment._replace(obs={key: value.copy() for key, value in moment.obs.items()})
        for moment in _play(env, SEED, steps)
    ]


def _compare(first: list[Moment], second: list[Moment], what: str) -> None:
    for index, (a, b) in enumerate(zip(first, second, strict=False)):
        for key in a.obs:
            if not np.array_equal(a.obs[key], b.obs[key]):
                raise ContractError(f"{what}: observation {key!r} of row {index}")
        if a[1:] != b[1:]:
            raise ContractError(
                f"{what}: row {index} has (reward, terminated, truncated) {a[1:]} and {b[1:]}"
            )
    if len(first) != len(second):
        raise ContractError(f"{what}: episodes of {len(first)} and {len(second)} rows")


def _children() -> Iterator[int]:
    """Yield the living child processes of this one (Linux; nothing elsewhere)."""
    for path in Path("/proc/self/task").glob("*/children"):
        for pid in path.read_text().split():
            stat = Path(f"/proc/{pid}/stat")
            if stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z":
                yield int(pid)
