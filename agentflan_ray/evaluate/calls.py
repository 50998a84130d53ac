"""Tool calls read from a reply in whatever form a model writes them. Nothing is executed, nothing is evaluated.

Forms, in the order in which they are tried; the first that has a call is taken as the reply's form:

- ``react``: ``Action:`` and ``Action Input:`` lines.
- ``tags``: ``<tool_call>``, ``<function=name>`` and the like round JSON or parameters.
- ``json``: an object that names a tool and gives arguments, under any of the usual keys.
- ``code``: ``name(argument=value)`` of a listed tool anywhere, or of any name where the reply is nothing else.

A reply of any length and content is read in bounded time: the first :data:`MAX_CHARACTERS` count.
"""

from __future__ import annotations

import ast
import itertools
import json
import operator
import re
import threading
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from agentflan_ray.forms import parse_react

Form = Literal["react", "tags", "json", "code"]

MAX_CHARACTERS = 20_000
"""Characters of a reply that are read. Replies of 512 new tokens have about 2,000."""

MAX_TRIES = 100
"""Places of a reply at which JSON or a call is tried."""

_MAX_DEPTH = 40
_NO_TOOL = frozenset({"", "none", "null", "n/a", "na", "no", "no action", "no tool", "none needed", "nothing"})
_NAME_KEYS = ("name", "function", "tool", "tool_name", "action", "api", "api_name", "function_name")
_ARGUMENT_KEYS = ("arguments", "args", "parameters", "params", "action_input", "input", "tool_input", "kwargs")
_TAG = re.compile(
    r"<(?:tool_call|function_?call|functioncall|tool|toolcall|tool_use|invoke)\b|<function=|\[TOOL_CALLS\]|"
    r"<\|python_tag\|>|<\|tool_call",
    re.IGNORECASE,
)
_FUNCTION_TAG = re.compile(r"<function=([^>\s]{1,200})>")
_PARAMETER_TAG = re.compile(r"<parameter=([^>\s]{1,200})>([^<]{0,4000})</parameter>")
_FENCE = re.compile(r"^```[a-zA-Z_]*\n?|```$")
_PARSING = threading.Lock()
_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


@dataclass(frozen=True, slots=True)
class FoundCall:
    """A call: the tool's name as written, its arguments (None where they can't be read), and the form."""

    name: str
    arguments: dict[str, Any] | None
    form: Form


def read_calls(reply: str, tool_names: Collection[str] = ()) -> tuple[FoundCall, ...]:
    """The calls of a reply, in the order in which they stand; ``tool_names`` are those that were listed."""
    text = reply[:MAX_CHARACTERS]
    calls = _react_calls(text)
    if not calls and _TAG.search(text):
        calls = _tagged_calls(text, tool_names)
    if not calls:
        calls = [FoundCall(name, arguments, "json") for name, arguments in _json_calls(text, tool_names)]
    if not calls:
        calls = _code_calls(text, tool_names)
    return tuple(calls)


WORDS: Mapping[str, Any] = {"true": True, "false": False, "null": None}
"""Names that stand for values in JSON and are none in Python."""


def call_expressions(text: str, words: Mapping[str, Any] = WORDS) -> list[tuple[str, dict[str, Any]]]:
    """The calls of a text that is a Python call or a list of calls and nothing else, such as ``[f(x=1), g(y="a")]``.

    Positional arguments get the names ``"0"``, ``"1"`` …; ``words`` are names that stand for values, any other name
    stands as its text. Raises ``ValueError`` for any other text.
    """
    body = _parsed(text)
    elements = body.elts if isinstance(body, ast.List | ast.Tuple) else [body]
    if not all(isinstance(element, ast.Call) for element in elements):
        raise ValueError("The text is no call and no list of calls.")
    return [_call(element, words) for element in elements if isinstance(element, ast.Call)]


def json_values(text: str) -> Iterator[Any]:
    """The JSON objects and lists that stand in a text, outermost only, wherever one begins."""
    decoder = json.JSONDecoder()
    tries = 0
    position = _next_bracket(text, 0)
    while position >= 0 and tries < MAX_TRIES:
        tries += 1
        try:
            value, end = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            position = _next_bracket(text, position + 1)
            continue
        yield value
        position = _next_bracket(text, end)


def _next_bracket(text: str, start: int) -> int:
    places = [place for place in (text.find("{", start), text.find("[", start)) if place >= 0]
    return min(places, default=-1)


def _react_calls(text: str) -> list[FoundCall]:
    step = parse_react(text)
    if step is None:
        return []
    return [
        FoundCall(_unquoted(call.name), _object(call.arguments), "react")
        for call in step.calls
        if _unquoted(call.name).casefold().rstrip(".") not in _NO_TOOL
    ]


def _unquoted(name: str) -> str:
    """A name without the quotes, brackets and further lines that models put round it."""
    return name.strip().partition("\n")[0].strip().strip("`\"'[]<>*").strip()


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(_FENCE.sub("", text.strip()))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _tagged_calls(text: str, tool_names: Collection[str]) -> list[FoundCall]:
    named = list(_FUNCTION_TAG.finditer(text))
    calls = []
    for tag, following in itertools.zip_longest(named, named[1:]):
        inside = text[tag.end() : following.start() if following else len(text)]
        given = dict(_PARAMETER_TAG.findall(inside))
        first = next(json_values(inside), None)
        arguments = {key: _value(value) for key, value in given.items()} if given else first
        calls.append(FoundCall(tag.group(1), arguments if isinstance(arguments, dict) else None, "tags"))
    calls = calls or [FoundCall(name, arguments, "tags") for name, arguments in _json_calls(text, tool_names)]
    calls = calls or [FoundCall(call.name, call.arguments, "tags") for call in _code_calls(text, tool_names)]
    # A tag without anything readable in it is a call that failed, not a plain reply.
    return calls or [FoundCall("", None, "tags")]


def _value(text: str) -> Any:
    text = text.strip()
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _json_calls(text: str, tool_names: Collection[str]) -> list[tuple[str, dict[str, Any] | None]]:
    found: list[tuple[str, dict[str, Any] | None]] = []
    for value in json_values(text):
        _collect(value, tool_names, found, depth=0)
    return found


def _collect(
    value: Any, tool_names: Collection[str], found: list[tuple[str, dict[str, Any] | None]], depth: int
) -> None:
    """Calls in a JSON value: itself, the elements of a list, what ``tool_calls`` or ``function`` hold."""
    if depth > 4:
        return
    if isinstance(value, list):
        for element in value[:MAX_TRIES]:
            _collect(element, tool_names, found, depth + 1)
        return
    if not isinstance(value, dict):
        return
    for key in ("tool_calls", "function_call", "calls", "function", "tool_call"):
        if isinstance(value.get(key), dict | list):
            _collect(value[key], tool_names, found, depth + 1)
            return
    name = next((value[key] for key in _NAME_KEYS if isinstance(value.get(key), str)), None)
    if name is None or name.strip().casefold() in _NO_TOOL:
        return
    given = next((value[key] for key in _ARGUMENT_KEYS if key in value), None)
    if given is None and name not in tool_names:
        return  # an object that merely has a name: a person, a product
    arguments = _object(given) if isinstance(given, str) else {} if given is None else given
    found.append((name.strip(), arguments if isinstance(arguments, dict) else None))


def _code_calls(text: str, tool_names: Collection[str]) -> list[FoundCall]:
    whole = _FENCE.sub("", text.strip()).strip().strip("`").strip()
    try:
        calls = call_expressions(whole)
    except ValueError:
        calls = []
    named = {name for name in tool_names if name}
    if calls and all(name in named or (given and "0" not in given) for name, given in calls):
        return [FoundCall(name, arguments, "code") for name, arguments in calls]
    if not named:
        return []
    found = []
    pattern = "|".join(re.escape(name) for name in sorted(named, key=len, reverse=True))
    end = 0
    for number, match in enumerate(re.finditer(rf"(?<![\w.])(?<!def )(?:{pattern})\(", text)):
        if number >= MAX_TRIES:
            break
        if match.start() < end:
            continue
        end = _closing(text, match.end()) or match.end()
        try:
            [(name, arguments)] = call_expressions(text[match.start() : end])
        except ValueError:
            found.append(FoundCall(match.group()[:-1], None, "code"))
        else:
            found.append(FoundCall(name, arguments, "code"))
    return found


def _closing(text: str, start: int) -> int | None:
    """The place behind the bracket that closes the one before ``start``, quotes heeded; None where there is none."""
    marks = outer_marks(text[: start + 2000], start, quotes="\"'")
    return next((place + 1 for place, mark in marks if mark != ","), None)


def outer_marks(text: str, start: int, quotes: str) -> Iterator[tuple[int, str]]:
    """Places of the commas within the bracket that opens before ``start``, but not in quotes or brackets within it, and
    of the bracket that closes it, which is the last; without that one, it isn't closed."""
    depth, quote, place = 0, "", start
    while place < len(text):
        character = text[place]
        if quote:
            if character == "\\":
                place += 1
            elif character == quote:
                quote = ""
        elif character in quotes:
            quote = character
        elif character in "([{":
            depth += 1
        elif character in ")]}":
            if depth == 0:
                yield place, character
                return
            depth -= 1
        elif character == "," and depth == 0:
            yield place, character
        place += 1


def _parsed(text: str) -> ast.expr:
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"The text has {len(text)} characters; at most {MAX_CHARACTERS} are read as calls.")
    try:
        # Odd escapes in a model's strings make the parser warn; the filters are the whole process's, hence the lock.
        with _PARSING, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f"The text is no Python expression: {type(error).__name__}.") from None


def _call(node: ast.Call, words: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    arguments = {str(place): _literal(value, 0, words) for place, value in enumerate(node.args)}
    for keyword in node.keywords:
        if keyword.arg is None:
            inside = _literal(keyword.value, 0, words)
            arguments.update(inside if isinstance(inside, dict) else {})
        else:
            arguments[keyword.arg] = _literal(keyword.value, 0, words)
    return _dotted(node.func), arguments


def _dotted(node: ast.expr) -> str:
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        raise ValueError("What is called has no name.")
    return ".".join([node.id, *reversed(parts)])


def _literal(node: ast.expr, depth: int, words: Mapping[str, Any]) -> Any:
    """The value of a literal; a name or an expression that is none stands as its text."""
    if depth > _MAX_DEPTH:
        raise ValueError(f"Values are nested deeper than {_MAX_DEPTH}.")
    match node:
        case ast.Constant(value=value):
            return "..." if value is Ellipsis else value
        case ast.Name(id=name):
            return words.get(name, name)
        case ast.List(elts=elements) | ast.Set(elts=elements):
            return [_literal(element, depth + 1, words) for element in elements]
        case ast.Tuple(elts=elements):
            return tuple(_literal(element, depth + 1, words) for element in elements)
        case ast.Dict(keys=keys, values=values):
            return {
                str(_literal(key, depth + 1, words)): _literal(value, depth + 1, words)
                for key, value in zip(keys, values, strict=True)
                if key is not None
            }
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            value = _literal(operand, depth + 1, words)
            return -value if isinstance(value, int | float) else f"-{value}"
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _OPERATORS:
            first, second = _literal(left, depth + 1, words), _literal(right, depth + 1, words)
            if all(isinstance(side, int | float) and abs(side) < 1e15 for side in (first, second)) and not (
                isinstance(sign, ast.Div) and second == 0
            ):
                return _OPERATORS[type(sign)](first, second)
            if isinstance(sign, ast.Add) and isinstance(first, str) and isinstance(second, str):
                return first + second
    try:
        return ast.unparse(node)
    except RecursionError:
        raise ValueError("An expression is nested too deep.") from None
