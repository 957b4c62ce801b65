"""Rules of a policy: expressions over columns, compiled once and evaluated on whole batches.

The text is parsed into Python's AST, and a closed list of nodes is translated into numpy calls;
nothing is ever passed to `eval`. Anything else is refused when the policy is loaded.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from schemas.errors import ConfigurationError
from schemas.records import Action
from scorer.policy.addresses import Addresses

Column = npt.NDArray[Any]
Columns = Mapping[str, Column]
Node = Callable[[Columns], Any]

MAX_LENGTH: Final = 1000
ADDRESS_FIELD: Final = "ip"
"""The text field whose constants are addresses and networks instead of texts."""
_COMPARE: Final[dict[type[ast.cmpop], Callable[[Any, Any], Any]]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_ARITHMETIC: Final[dict[type[ast.operator], Callable[[Any, Any], Any]]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.true_divide,
}


@dataclass(frozen=True, slots=True)
class Rule:
    """A compiled rule: `action` applies to the rows for which `hits` is true."""

    rule_id: str
    action: Action
    text: str
    condition: Node

    def hits(self, columns: Columns, rows: int) -> npt.NDArray[np.bool_]:
        """Return bool[rows]; any comparison with a missing value (NaN) is false, even `!=`."""
        with np.errstate(divide="ignore", invalid="ignore"):
            result = np.asarray(self.condition(columns), np.bool_)
        return np.broadcast_to(result, (rows,))


def compile_rule(
    rule_id: str, action: Action, expression: str, text: str, names: Collection[str]
) -> Rule:
    """Compile `expression`, which may use the columns `names`.

    Raises:
        ConfigurationError: the text is not an expression, is not a condition, or uses an unknown
            name or syntax outside the closed list.

    >>> rule = compile_rule("r1", "REVIEW", "amount > 100", "a large amount", {"amount"})
    >>> rule.hits({"amount": np.array([50.0, 200.0, np.nan])}, 3).tolist()
    [False, True, False]
    """
    try:
        if len(expression) > MAX_LENGTH:
            raise ValueError(f"longer than {MAX_LENGTH} characters")
        tree = ast.parse(expression, mode="eval").body
        condition = _condition(tree, names)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ConfigurationError(f"rule {rule_id!r}: {expression[:200]!r}: {error}") from error
    return Rule(rule_id, action, text, condition)


def _condition(node: ast.expr, names: Collection[str]) -> Node:
    match node:
        case ast.BoolOp(op=op, values=values):
            parts = [_condition(value, names) for value in values]
            join = np.logical_and if isinstance(op, ast.And) else np.logical_or
            return lambda columns: join.reduce(
                np.broadcast_arrays(*(part(columns) for part in parts))
            )
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            inner = _condition(operand, names)
            return lambda columns: np.logical_not(inner(columns))
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            if ADDRESS_FIELD in names and (found := _addresses(left, op, right)) is not None:
                return found
            if type(op) in (ast.In, ast.NotIn):
                return _membership(left, right, isinstance(op, ast.NotIn), names)
            if type(op) not in _COMPARE:
                raise ValueError(f"{type(op).__name__} is not allowed")
            return _comparison(_COMPARE[type(op)], _value(left, names), _value(right, names))
    raise ValueError(f"{ast.unparse(node)!r} is not a condition: compare something")


def _addresses(left: ast.expr, op: ast.cmpop, right: ast.expr) -> Node | None:
    """Return the condition of `ip == "…"` and `ip in […]`, None of anything else."""
    match left, op, right:
        case (ast.Name(id=name), ast.Eq() | ast.NotEq(), ast.Constant(value=str(value))) | (
            ast.Constant(value=str(value)),
            ast.Eq() | ast.NotEq(),
            ast.Name(id=name),
        ):
            texts = [value]
        case (
            ast.Name(id=name),
            ast.In() | ast.NotIn(),
            ast.Tuple(elts=items) | ast.List(elts=items),
        ):
            texts = [
                item.value
                for item in items
                if isinstance(item, ast.Constant) and isinstance(item.value, str)
            ]
            if not texts or len(texts) < len(items):
                return None
        case _:
            return None
    if name != ADDRESS_FIELD:
        return None
    addresses, negated = Addresses(texts), isinstance(op, ast.NotEq | ast.NotIn)
    return lambda columns: addresses.among(columns[ADDRESS_FIELD]) ^ negated


def _comparison(compare: Callable[[Any, Any], Any], a: Node, b: Node) -> Node:
    def run(columns: Columns) -> Any:
        x, y = a(columns), b(columns)
        return np.asarray(compare(x, y), np.bool_) & _known(x) & _known(y)

    return run


def _membership(left: ast.expr, right: ast.expr, negated: bool, names: Collection[str]) -> Node:
    if not isinstance(right, ast.Tuple | ast.List) or not right.elts:
        raise ValueError("`in` needs a non-empty list of constants")
    members = [_constant(item) for item in right.elts]
    if len({isinstance(member, str) for member in members}) > 1:
        raise ValueError("a list holds either texts or numbers, not both")
    value = _value(left, names)

    def run(columns: Columns) -> Any:
        x = value(columns)
        return np.isin(x, members, invert=negated) & _known(x)

    return run


def _known(value: Any) -> Any:
    return ~np.isnan(value) if np.asarray(value).dtype.kind == "f" else True


def _value(node: ast.expr, names: Collection[str]) -> Node:
    match node:
        case ast.Name(id=name):
            if name not in names:
                raise ValueError(f"unknown name {name!r}")
            return lambda columns: columns[name]
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
            a, b, apply = _value(left, names), _value(right, names), _ARITHMETIC[type(op)]
            return lambda columns: apply(a(columns), b(columns))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            inner = _value(operand, names)
            return lambda columns: np.negative(inner(columns))
    constant = _constant(node)
    return lambda columns: constant


def _constant(node: ast.expr) -> str | float | int:
    if isinstance(node, ast.Constant) and type(node.value) in (str, int, float):
        value: str | float | int = node.value  # type: ignore[assignment]
        return value
    raise ValueError(f"{ast.unparse(node)!r} is not allowed")
