"""Where same-step vector environments keep the last observations and infos of episodes that ended."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from vecrollout._typing import Info
from vecrollout.errors import MissingTerminalObservationError, OptionError

MissingFinalObs: TypeAlias = Literal["raise", "drop", "mark"]

FINAL_OBS = "final_observation"
"""Key of the last observation in Gymnasium 0.29."""
FINAL_INFO = "final_info"
"""Key of the last step's info."""

OBS_KEYS = ("final_obs", FINAL_OBS)
"""Keys of the last observation: in Gymnasium 1.1 and later, and in 0.29."""
_ALL_KEYS = frozenset(prefix + key for key in (*OBS_KEYS, FINAL_INFO) for prefix in ("", "_"))
# `RecordEpisodeStatistics` puts this about the episode that ended among the infos of the reset that followed.
_EPISODE_KEY = "episode"


def without_finals(infos: Info) -> Info:
    """The infos without what they say about the last steps of episodes."""
    return {key: value for key, value in infos.items() if key not in _ALL_KEYS}


def with_statistics(info: Info, own: Info) -> Info:
    """The info of an episode's last step with the statistics that stand in that of the reset that followed."""
    return {_EPISODE_KEY: own[_EPISODE_KEY], **info} if _has_statistics(own) else info


def without_statistics(own: Info) -> Info:
    """The info of a reset without statistics of the episode before."""
    return {key: value for key, value in own.items() if key != _EPISODE_KEY} if _has_statistics(own) else own


def _has_statistics(info: Info) -> bool:
    # A reset's own info may have such a key, too.
    value = info.get(_EPISODE_KEY)
    return isinstance(value, dict) and {"r", "l"} <= value.keys()


def checked_missing(option: Any) -> MissingFinalObs:
    """The option `missing_final_obs`, checked."""
    if option not in ("raise", "drop", "mark"):
        raise OptionError(f'missing_final_obs: expected "raise", "drop" or "mark", got {option!r}')
    return option  # type: ignore[no-any-return]


def missing_final_obs(env: int, step: int) -> MissingTerminalObservationError:
    """The error that says what is missing and what can be done."""
    return MissingTerminalObservationError(
        f"environment {env}, step {step} of its episode: expected the episode's last observation in "
        'infos["final_obs"], got none. If the environment keeps it elsewhere, pass final_obs_fn=; if it does not keep '
        'it, pass missing_final_obs="drop" or "mark"; if it does not reset in the same step, pass autoreset_mode='
    )
