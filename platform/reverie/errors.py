"""Errors that a caller can act on. The command line turns each of them into exit code 2."""

from __future__ import annotations

import traceback


class RunError(RuntimeError):
    """A run that has to stop, for a reason its user can fix."""


class ConfigError(ValueError):
    """A configuration that cannot be run; the message has one line per fault."""


class DocumentError(RunError, ValueError):
    """A JSON document of a run that does not hold what belongs there; the message says where."""


class EvaluationStopped(RuntimeError):
    """An evaluation was told to stop; its weights stay pinned, and it may begin anew."""


class ContractBroken(ValueError):
    """An environment that does not do what its spaces or its interface say."""

    will_repeat = False
    """Whether it would be the same after a rebuild: it lies in the code, not in what happened."""


class EnvFailed(RunError):
    """An environment raised, hung or broke its contract more often than is allowed.

    With `will_repeat` it was not tried again, because it would be the same.
    """

    def __init__(self, message: str, will_repeat: bool = False) -> None:
        super().__init__(message)
        self.will_repeat = will_repeat


class NonFiniteLoss(RunError):
    """A loss became NaN or infinite; the message names it."""


class PlacementError(ConfigError):
    """The cluster or placement group can never hold what the configuration asks for."""


class WorkerLost(RunError):
    """An actor died more often than is allowed."""


class ClusterLost(RunError):
    """What keeps all actors of a run is gone: they cannot be asked, replaced or saved any more."""


class PartLost(RuntimeError):
    """A part died while its state was being saved; it is replaced, and the save may be repeated."""


class ReplayLost(RuntimeError):
    """A replay shard did not answer; the request may be repeated once it is back."""


def is_refusal(error: Exception, owner: type) -> bool:
    """Whether the package of class `owner` itself raised `error`, in words meant for its user."""
    if not isinstance(error, KeyError | ValueError | TypeError):
        return False
    package = owner.__module__.partition(".")[0]
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return frame.f_globals["__name__"].partition(".")[0] == package
