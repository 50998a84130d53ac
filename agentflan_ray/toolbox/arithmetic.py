"""Arithmetic on text, read as a syntax tree and worked out node by node: no ``eval``, and every size has a limit."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable

from agentflan_ray.toolbox.tool import ToolFault

MAX_CHARACTERS = 120
MAX_EXPONENT = 64
MAX_VALUE = 1e15
"""Beyond it a double no longer holds every whole number."""

_OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.Mod: operator.mod,
    ast.FloorDiv: operator.floordiv,
}


def evaluate(expression: str) -> float:
    """The value of an expression of numbers, ``+ - * / // % **``, signs and brackets.

    Raises:
        ToolFault: a sentence, for anything else, division by zero, or a value beyond :data:`MAX_VALUE`.
    """
    if len(expression) > MAX_CHARACTERS:
        raise ToolFault(f"An expression has at most {MAX_CHARACTERS} characters.")
    try:
        tree = ast.parse(expression.strip(), mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise ToolFault(f"The expression '{expression}' cannot be read.") from None
    return _value(tree.body)


def plain_number(value: float) -> str:
    """A number as a person writes it: whole numbers without a point, others with at most four decimals."""
    text = f"{value:.4f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _value(node: ast.expr) -> float:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        return _checked(node.value)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        value = _value(node.operand)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        left, right = _value(node.left), _value(node.right)
        if isinstance(node.op, ast.Pow) and (abs(right) > MAX_EXPONENT or (left < 0 and right != int(right))):
            raise ToolFault(f"An exponent is at most {MAX_EXPONENT}, and whole for a negative base.")
        try:
            return _checked(_OPERATORS[type(node.op)](left, right))
        except ZeroDivisionError:
            raise ToolFault("The expression divides by zero.") from None
        except OverflowError:
            raise ToolFault("The result is too large.") from None
    raise ToolFault("Only numbers, + - * / // % ** and brackets can be worked out.")


def _checked(value: float) -> float:
    if not -MAX_VALUE <= value <= MAX_VALUE:
        raise ToolFault("The result is too large.")
    return value
