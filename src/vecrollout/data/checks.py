"""Checks of arguments: numbers, functions, generators, directories."""

from __future__ import annotations

import math
import operator
import os
from pathlib import Path
from typing import Any

import numpy as np

from vecrollout.errors import ArgumentTypeError, OptionError


def whole_number(name: str, value: Any, least: int | None = None) -> int:
    """An integer of any type, at least `least`."""
    try:
        number = operator.index(value)
    except TypeError as error:
        raise ArgumentTypeError(f"{name}: expected an integer, got {value!r}") from error
    if least is not None and number < least:
        raise OptionError(f"{name}: expected at least {least}, got {number}")
    return number


def positive_number(name: str, value: Any) -> float:
    """A finite number above 0, of any type."""
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise ArgumentTypeError(f"{name}: expected a number, got {value!r}") from error
    if not 0 < number < math.inf:
        raise OptionError(f"{name}: expected a finite number above 0, got {number}")
    return number


def check_function(name: str, value: object, takes: str) -> None:
    """Refuse an argument that is no function."""
    if not callable(value):
        raise ArgumentTypeError(f"{name}: expected a function of {takes}, got {type(value).__name__}")


def check_generator(rng: object) -> None:
    """Refuse another source of randomness than a `Generator`."""
    if not isinstance(rng, np.random.Generator):
        raise ArgumentTypeError(
            f"rng: expected a NumPy Generator, such as np.random.default_rng(0), got {type(rng).__name__}"
        )


def local_path(text: str) -> Path:
    """The absolute path that a text names now; `~` is the home directory."""
    return Path(os.path.abspath(os.path.expanduser(text)))


def directory_text(path: object) -> str:
    """The text of a path or a URL."""
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else None
    if not isinstance(text, str):
        raise ArgumentTypeError(f"directory: expected a path or a URL, as text or a Path, got {type(path).__name__}")
    if not text:
        raise OptionError("directory: expected a path or a URL, got empty text; '.' is the current directory")
    return text
