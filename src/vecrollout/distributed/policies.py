"""Policies on their way to workers."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NamedTuple
from uuid import uuid4

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy

from vecrollout.collecting.policy import AnyPolicy, check_policy
from vecrollout.data.checks import check_function
from vecrollout.distributed._ray import ray
from vecrollout.distributed.order import Policy
from vecrollout.errors import PolicyError, ProtocolError
from vecrollout.recording.environments import AnyEnv

_CURE = "create what cannot be pickled in the worker: PolicyHandle(build=...)"


class PolicyHandle:
    """A policy of which workers get only new weights.

    Each worker builds the policy once. Weights go to Ray's object store, from which every worker reads them once a
    version. Weights that are NumPy arrays are not copied there.

    Args:
        build: Takes the worker's environments, and makes the policy for them: an SB3 algorithm or policy, or a function
            as `policy_to_callable` takes it. It is called in the worker.
        load: Takes the policy and weights, and puts the weights into the policy. It is called in the worker.
    """

    def __init__(self, build: Callable[[Any], AnyPolicy], load: Callable[[Any, Any], object]) -> None:
        check_function("build", build, "environments")
        check_function("load", load, "a policy and weights")
        self._built = Built(uuid4().hex, build, load, None)
        self._version: int | None = None
        self._published: Policy | None = None
        # A copy of weights that were published before Ray was started.
        self._kept: bytes | None = None

    @property
    def version(self) -> int | None:
        """The number of the newest weights, 0 or more; None before the first."""
        return self._version

    def publish(self, weights: Any) -> int:
        """Send weights. Workers take them up at the beginning of a round, or in a stream within `chunk_s` seconds.

        Args:
            weights: What `load` takes, such as a dict of arrays.

        Returns:
            The version's number, one more than that before, which `policy_version` of the trajectories says.

        Raises:
            PolicyError: If the weights cannot be pickled.
        """
        version = 0 if self._version is None else self._version + 1
        if ray.is_initialized():
            self._published, self._kept = self._sent(version, weights), None
        else:
            # The collector starts Ray, as it knows how many workers there are to be.
            self._published, self._kept = None, pickled(weights, "weights")
        self._version = version
        return version

    @property
    def published(self) -> Policy:
        """The newest version."""
        version = _checked_version(self._version)
        if self._published is None:
            self._published = self._sent(version, ray.cloudpickle.loads(self._kept))
        return self._published

    def _sent(self, version: int, weights: Any) -> Policy:
        return Policy(version, [put(self._built._replace(weights=[put(weights, "weights")]), "build, load")])


def check_sendable(policy: AnyPolicy | PolicyHandle, deterministic_policy: bool) -> None:
    """Refuse what cannot act as a policy or cannot be sent, before Ray is started."""
    if isinstance(policy, PolicyHandle):
        _checked_version(policy.version)
    else:
        check_policy(policy, deterministic_policy)
        pickled(packed(policy), "policy")


def _checked_version(version: int | None) -> int:
    if version is None:
        raise ProtocolError("policy: expected a PolicyHandle with weights, got one without; call publish() first")
    return version


class Built(NamedTuple):
    """A policy that the worker builds and that weights are loaded into."""

    name: str
    build: Callable[[Any], AnyPolicy]
    load: Callable[[Any, Any], object]
    weights: Any


class Saved(NamedTuple):
    """An SB3 algorithm or policy, as its `save` makes it: without environments, buffers and devices."""

    cls: Any
    content: bytes


def packed(policy: AnyPolicy) -> Any:
    """A policy as something that Ray can send."""
    if isinstance(policy, BaseAlgorithm | BasePolicy):
        content = io.BytesIO()
        policy.save(content)  # type: ignore[arg-type]
        return Saved(type(policy), content.getvalue())
    return policy


def send_code_of(module: ModuleType) -> None:
    """Send what a module defines as code, where workers cannot import the module."""
    ray.cloudpickle.register_pickle_by_value(module)


def put(value: Any, name: str) -> Any:
    """A reference to a value in Ray's object store."""
    with _pickling(value, name, _CURE):
        return ray.put(value)


def pickled(value: Any, name: str, cure: str = _CURE) -> bytes:
    """A value as bytes that can be sent."""
    with _pickling(value, name, cure):
        content: bytes = ray.cloudpickle.dumps(value)
    return content


def unpickled(content: bytes) -> Any:
    """A value that `pickled` returned."""
    return ray.cloudpickle.loads(content)


@contextmanager
def _pickling(value: Any, name: str, cure: str) -> Iterator[None]:
    """Within, a failure says that a value cannot be pickled."""
    try:
        yield
    except Exception as error:  # cloudpickle raises what the object's own methods raise
        # Ray's own error is a page about the value.
        reason = str(error.__cause__ or error).partition("\n")[0]
        raise PolicyError(
            f"{name}: expected something that can be pickled, as Ray sends it to workers, got {type(value).__name__}: "
            f"{reason}; {cure}"
        ) from error


def unpacked(found: Any) -> AnyPolicy:
    """A policy that `packed` returned."""
    if isinstance(found, Saved):
        return found.cls.load(io.BytesIO(found.content), device="cpu")  # type: ignore[no-any-return]
    return found  # type: ignore[no-any-return]


class Unpacking:
    """The policies that a worker has built so far."""

    def __init__(self) -> None:
        self._policies: dict[str, AnyPolicy] = {}

    def policy(self, version: Policy, env: AnyEnv) -> AnyPolicy:
        """A version of a policy, ready to act in environments."""
        (ref,) = version.ref
        found = ray.get(ref)
        if not isinstance(found, Built):
            return unpacked(found)
        if found.name not in self._policies:
            self._policies[found.name] = found.build(env)
        found.load(self._policies[found.name], ray.get(found.weights[0]))
        return self._policies[found.name]
