"""Which trajectories a command is for: conditions as text, and numbers."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from vecrollout.errors import OptionError
from vecrollout.storage.dataset import TraceDataset

_HOW = 'expected a condition on the columns of the table, such as "return_ > 100 and length < 500"'

_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def chosen(traces: TraceDataset, condition: str | None, numbers: str | None) -> TraceDataset:
    """The trajectories that fulfill a condition and have one of the numbers; None: all.

    Numbers are those of the data set that is given.
    """
    selected = traces
    if numbers is not None:
        selected = traces[numbers_of(numbers, len(traces))]
    return selected if condition is None else selected.filter(expression(condition))


def numbers_of(text: str, count: int) -> npt.NDArray[np.int64]:
    """Numbers such as `1,5,9-12`, each once and in order; a range includes its end."""
    numbers: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        try:
            begin, end = int(first), int(last) if dash else int(first)
        except ValueError:
            raise OptionError(f"episodes: expected numbers such as 1,5,9-12, got {part.strip()!r}") from None
        if not 0 <= begin <= end < count:
            raise OptionError(f"episodes: expected numbers from 0 to {count - 1}, got {part.strip()}")
        numbers.update(range(begin, end + 1))
    return np.array(sorted(numbers), np.int64)


def expression(text: str) -> Any:
    """A condition as an expression of `pyarrow.compute`. Nothing of the text is evaluated by Python."""
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise OptionError(f"{_HOW}, got {text!r}: {getattr(error, 'msg', error)}") from error
    try:
        return _of(tree.body)
    except _UnknownSyntaxError as error:
        raise OptionError(f"{_HOW}, got {ast.unparse(error.node)!r} in {text!r}; {error}") from None
    except RecursionError as error:
        raise OptionError(f"{_HOW}, got one that is nested too deeply") from error


class _UnknownSyntaxError(Exception):
    def __init__(self, node: ast.AST, told: str = "use columns, numbers, text, comparisons, and, or, not, in") -> None:
        super().__init__(told)
        self.node = node


def _of(node: ast.expr) -> Any:
    import pyarrow.compute as pc

    match node:
        case ast.BoolOp(op=op, values=[first, *others]):
            found = _of(first)
            for each in others:
                found = found & _of(each) if isinstance(op, ast.And) else found | _of(each)
            return found
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return ~_of(operand)
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return pc.scalar(-value)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
            return _ARITHMETIC[type(op)](_of(left), _of(right))
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            operands = [left, *comparators]
            steps = [_compared(*each) for each in zip(operands, ops, comparators, strict=False)]
            found = steps[0]
            for each in steps[1:]:
                found = found & each
            return found
        case ast.Constant(value=bool() | int() | float() | str() as value):
            return pc.scalar(value)
    return pc.field(_column(node))


def _compared(left: ast.expr, op: ast.cmpop, right: ast.expr) -> Any:
    if isinstance(op, ast.Is | ast.IsNot) or (isinstance(right, ast.Constant) and right.value is None):
        if not (isinstance(right, ast.Constant) and right.value is None):
            raise _UnknownSyntaxError(right, "`is` and `is not` are for None")
        if isinstance(op, ast.Is | ast.Eq):
            return _of(left).is_null()
        return ~_of(left).is_null()
    if isinstance(op, ast.In | ast.NotIn):
        if not isinstance(right, ast.List | ast.Tuple | ast.Set):
            raise _UnknownSyntaxError(right, "`in` needs a list, such as env in [0, 3]")
        among = _of(left).isin([_value(each) for each in right.elts])
        return among if isinstance(op, ast.In) else ~among
    return _COMPARISONS[type(op)](_of(left), _of(right))


def _value(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=bool() | int() | float() | str() as value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
    raise _UnknownSyntaxError(node, "a list has numbers and text only")


def _column(node: ast.expr) -> str:
    """The name of a column: `length`, `metadata.seed`, or `column("any name")`."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=name):
            return f"{_column(value)}.{name}"
        case ast.Call(func=ast.Name(id="column"), args=[ast.Constant(value=str() as name)], keywords=[]):
            return name
    raise _UnknownSyntaxError(node)
