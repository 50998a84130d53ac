"""Reading a game: a PDDL problem's objects, first facts and goal, and the goal's truth.

Only what ALFWorld's problems use: typed objects, atoms, and goals of ``and``, ``or``, ``not``, ``exists``, ``forall``,
``imply`` and ``=``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

Fact = tuple[str, ...]
"""A predicate and its arguments, in lower case: PDDL does not tell cases apart."""

Expression = str | list["Expression"]

_TOKEN = re.compile(r"[()]|[^\s()]+")


@dataclass(frozen=True)
class Problem:
    """A game as written: objects by name with their type, facts that hold at first, the goal, and the task's text."""

    objects: Mapping[str, str]
    facts: frozenset[Fact]
    goal: Expression
    task: str


def read_problem(pddl: str, grammar: str) -> Problem:
    """The problem of a game file's ``pddl_problem`` and ``grammar``.

    Raises ``ValueError`` where they are not what ALFWorld writes.
    """
    tree = _parse(re.sub(r";[^\n]*", "", pddl).lower())
    parts = {part[0]: part for part in tree if isinstance(part, list) and part and isinstance(part[0], str)}
    if not {":objects", ":init", ":goal"} <= parts.keys():
        raise ValueError(f"A PDDL problem needs :objects, :init and :goal, but this has {', '.join(map(str, parts))}.")
    objects = dict(_typed(parts[":objects"][1:]))
    facts = frozenset(
        tuple(map(str, fact)) for fact in parts[":init"][1:] if isinstance(fact, list) and fact[0] not in ("=", "not")
    )
    task = re.search(r'"task"\s*:\s*\[\s*\{\s*"rhs"\s*:\s*("(?:[^"\\]|\\.)*")', grammar)
    if task is None:
        raise ValueError("The grammar of the game has no task.")
    return Problem(objects, facts, parts[":goal"][1], json.loads(task[1]))


def holds(
    expression: Expression, facts: Collection[Fact], objects: Mapping[str, str], bound: Mapping[str, str] | None = None
) -> bool:
    """Whether a condition is true of the facts. ``objects`` are those that quantifiers run over."""
    bound = bound or {}
    assert isinstance(expression, list), expression
    operator, *rest = expression
    if operator == "and":
        return all(holds(part, facts, objects, bound) for part in rest)
    if operator == "or":
        return any(holds(part, facts, objects, bound) for part in rest)
    if operator == "not":
        return not holds(rest[0], facts, objects, bound)
    if operator == "imply":
        return not holds(rest[0], facts, objects, bound) or holds(rest[1], facts, objects, bound)
    if operator in ("exists", "forall"):
        assert isinstance(rest[0], list)
        variables = list(_typed(rest[0]))
        found = (holds(rest[1], facts, objects, each) for each in _bindings(variables, rest[1], facts, objects, bound))
        return any(found) if operator == "exists" else all(found)
    values = [bound.get(str(argument), str(argument)) for argument in rest]
    return values[0] == values[1] if operator == "=" else (str(operator), *values) in facts


def _bindings(
    variables: list[tuple[str, str]],
    body: Expression,
    facts: Collection[Fact],
    objects: Mapping[str, str],
    bound: Mapping[str, str],
) -> Iterator[dict[str, str]]:
    """Every way to fill the variables; those that the first conditions of a conjunction rule out are skipped early."""
    if not variables:
        yield dict(bound)
        return
    (name, kind), *others = variables
    sure = [part for part in body[1:] if _is_atom(part)] if isinstance(body, list) and body[0] == "and" else []
    about = [part for part in sure if name in part[1:]]
    # What the facts say of the variable's first atom is far less than all objects of its type.
    values = _told_of(name, about[0], facts, bound) if about else objects
    for value in values:
        if objects.get(value) != kind:
            continue
        filled = {**bound, name: value}
        # An atom of a conjunction whose variables are all filled must hold, else no filling of the rest can help.
        ready = [part for part in about if all(not str(a).startswith("?") or a in filled for a in part[1:])]
        if all(holds(part, facts, objects, filled) for part in ready):
            yield from _bindings(others, body, facts, objects, filled)


def _told_of(name: str, atom: Expression, facts: Collection[Fact], bound: Mapping[str, str]) -> set[str]:
    """Values of a variable with which the facts can make an atom true."""
    assert isinstance(atom, list)
    place = atom.index(name)
    wanted = [bound.get(str(argument), str(argument)) for argument in atom]
    return {
        fact[place]
        for fact in facts
        if len(fact) == len(wanted)
        and all(want.startswith("?") or want == said for want, said in zip(wanted, fact, strict=True))
    }


def _is_atom(part: Expression) -> bool:
    connectives = ("and", "or", "not", "imply", "exists", "forall")
    return isinstance(part, list) and part[0] not in connectives and not any(isinstance(a, list) for a in part)


def _parse(text: str) -> list[Expression]:
    stack: list[list[Expression]] = [[]]
    for token in _TOKEN.findall(text):
        if token == "(":
            stack.append([])
        elif token == ")":
            if len(stack) == 1:
                raise ValueError("The PDDL problem closes a bracket that it has not opened.")
            done = stack.pop()
            stack[-1].append(done)
        else:
            stack[-1].append(token)
    if len(stack) != 1 or len(stack[0]) != 1 or not isinstance(stack[0][0], list):
        raise ValueError("The PDDL problem is not one bracketed expression.")
    return stack[0][0]


def _typed(parts: list[Expression]) -> Iterator[tuple[str, str]]:
    """Names with their types, of ``a b - kind c - other``."""
    waiting: list[str] = []
    tokens = iter([str(part).rstrip(",") for part in parts])
    for token in tokens:
        if token == "-":
            kind = next(tokens, "")
            yield from ((name, kind) for name in waiting)
            waiting = []
        else:
            waiting.append(token)
