"""What a pickle describes, without loading it: nothing that it names is imported or called."""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Name:
    """A class or function that a pickle refers to, such as `numpy.dtype`."""

    name: str


@dataclass(eq=False)
class Call:
    """An object that a pickle makes by a call: what it calls, with which arguments, and the object's state."""

    name: str
    args: tuple[Any, ...]
    state: Any = None


# Old protocols have the names of Python 2.
_NEW_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg"}

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], Any]] = {
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": set,
    "MARK": object,
}
_VALUES = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}


def described(content: bytes) -> Any:
    """Lists, dicts, numbers and text of a pickle, with `Name` and `Call` in the place of all other objects.

    Raises:
        ValueError: If the content is no pickle, or one of objects of other kinds.
    """
    machine = _Machine()
    for operation, argument, _ in pickletools.genops(content):
        machine.run(operation.name, argument)
    return machine.pop()


class _Machine:
    """The stack and the memo of a pickle."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def pop(self) -> Any:
        return self._stack.pop()

    def _pop_to_mark(self) -> list[Any]:
        mark = self._marks.pop()
        items = self._stack[mark + 1 :]
        del self._stack[mark:]
        return items

    def run(self, operation: str, argument: Any) -> None:
        stack, pop = self._stack, self._stack.pop
        if operation == "MARK":
            self._marks.append(len(stack))
        match operation:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append(_CONSTANTS[operation])
            case _ if operation in _EMPTY:
                stack.append(_EMPTY[operation]())
            case _ if operation in _VALUES:
                stack.append(argument)
            case "POP":
                pop()
            case "POP_MARK":
                self._pop_to_mark()
            case "DUP":
                stack.append(stack[-1])
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self._memo[int(argument)] = stack[-1]
            case "MEMOIZE":
                self._memo[len(self._memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(self._memo[int(argument)])
            case "LIST":
                stack.append(self._pop_to_mark())
            case "TUPLE":
                stack.append(tuple(self._pop_to_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(operation[-1])
                stack[-count:] = [tuple(stack[-count:])]
            case "FROZENSET":
                stack.append(frozenset(self._pop_to_mark()))
            case "DICT":
                items = self._pop_to_mark()
                stack.append(dict(zip(items[::2], items[1::2], strict=True)))
            case "APPEND":
                _checked(stack[-2], list).append(pop())
            case "APPENDS":
                items = self._pop_to_mark()
                _checked(stack[-1], list).extend(items)
            case "ADDITEMS":
                items = self._pop_to_mark()
                _checked(stack[-1], set).update(items)
            case "SETITEM":
                value, key = pop(), pop()
                _checked(stack[-1], dict)[key] = value
            case "SETITEMS":
                items = self._pop_to_mark()
                _checked(stack[-1], dict).update(zip(items[::2], items[1::2], strict=True))
            case "GLOBAL":
                stack.append(_name(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                name, module = pop(), pop()
                stack.append(_name(module, name))
            case "REDUCE" | "NEWOBJ":
                args, called = pop(), pop()
                stack.append(_call(_checked(called, Name), _checked(args, tuple)))
            case "BUILD":
                state = pop()
                _checked(stack[-1], Call).state = state
            case _:
                raise ValueError(f"it has the operation {operation}, which trajectories do not need")


def _name(module: Any, name: Any) -> Name:
    return Name(f"{_NEW_MODULES.get(module, module)}.{name}")


def _call(called: Name, args: tuple[Any, ...]) -> Call:
    # Old protocols make an instance of a class by a function that is called with the class.
    if called.name == "copyreg._reconstructor":
        return Call(_checked(args[0], Name).name, ())
    return Call(called.name, args)


def _checked(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"expected a {kind.__name__}, got a {type(value).__name__}")
    return value
