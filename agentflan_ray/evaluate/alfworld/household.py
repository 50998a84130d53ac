"""The household itself: what can be done, what it changes, and what is said.

The rules are those of ALFWorld's PDDL domain (``alfred.pddl``, the same in all of its games) and the texts those of
its grammar (``alfred.twl2``). Beside TextWorld 1.7 and Fast Downward, which play the same files, texts, commands and
endings were the same at every step of random and of planned play (docs/evaluation.md).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from agentflan_ray.evaluate.alfworld.problem import Fact, Problem, holds

_SINKS = ("sinktype", "sinkbasintype")


@dataclass(frozen=True)
class _Move:
    """A command that can be given now."""

    do: Callable[[], str]


class Household:
    """A game being played.

    ``reset`` is the constructor: a household is made anew for each episode. :attr:`first_text` is what the player
    is told first.
    """

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._facts: set[Fact] = set(problem.facts)
        self._removed: set[Fact] = set()
        self._names = _names(problem)
        kinds = problem.objects
        self._receptacles = sorted(name for name in self._names if kinds[name] == "receptacle")
        self._objects = sorted(name for name in self._names if kinds[name] == "object")
        self._agent = next(name for name, kind in kinds.items() if kind == "agent")
        # Objects that no fact speaks of (types without an instance) can fulfil no goal and only slow its search.
        spoken = {argument for fact in problem.facts for argument in fact[1:]}
        self._things = {name: kind for name, kind in kinds.items() if name in spoken}
        self._location_of = {fact[1]: fact[2] for fact in problem.facts if fact[0] == "receptacleatlocation"}
        self._types = {fact[1]: fact[2] for fact in problem.facts if fact[0] in ("receptacletype", "objecttype")}
        self.first_text = f"-= Welcome to TextWorld, ALFRED! =-\n\n{self._look(first=True)}\n\n{problem.task}"
        self._moves = dict(self._all_moves())

    @property
    def commands(self) -> list[str]:
        """Every command that does something now, sorted."""
        return sorted(self._moves)

    @property
    def won(self) -> bool:
        """Whether the task is done."""
        return holds(self._problem.goal, self._facts, self._things)

    def step(self, command: str) -> str:
        """Do a command and return what is said; one that is not among :attr:`commands` does nothing."""
        move = self._moves.get(command.strip())
        if move is None:
            return "Nothing happens."
        text = move.do()
        self._moves = dict(self._all_moves())
        return text

    # ---- what can be done ------------------------------------------------------------------------------------------

    def _all_moves(self) -> Iterator[tuple[str, _Move]]:
        here, held = self._here, self._held
        yield "look", _Move(lambda: self._look(first=False))
        yield "inventory", _Move(self._inventory)
        for place in self._receptacles:
            if self._location_of.get(place, here) != here:
                yield f"go to {self._name(place)}", _Move(lambda place=place: self._go(place))  # type: ignore[misc]
        near = [place for place in self._receptacles if self._location_of.get(place) == here]
        for place in near:
            yield from self._moves_at(place, held)
        if held is not None:
            # The domain means what lies here too, but a comma in its list of variables keeps it from ever holding.
            yield f"examine {self._name(held)}", _Move(lambda: self._examine(held))
            yield from self._slicing(held, here)

    def _moves_at(self, place: str, held: str | None) -> Iterator[tuple[str, _Move]]:
        name = self._name(place)
        yield f"examine {name}", _Move(lambda: self._contents(place))
        if self._is("openable", place):
            if self._is("opened", place):
                yield f"close {name}", _Move(lambda: self._open(place, False))
            else:
                yield f"open {name}", _Move(lambda: self._open(place, True))
        reachable = not self._is("openable", place) or self._is("opened", place)
        for thing in self._inside(place):
            if self._is("toggleable", thing):
                yield f"use {self._name(thing)}", _Move(lambda thing=thing: self._use(thing))  # type: ignore[misc]
            if not reachable:
                continue
            if self._is("pickupable", thing) and held is None:
                take = _Move(lambda thing=thing: self._take(thing, place))  # type: ignore[misc]
                yield f"take {self._name(thing)} from {name}", take
        if held is None:
            return
        kind, held_kind = self._types.get(place, ""), self._types.get(held, "")
        if reachable and ("cancontain", kind, held_kind) in self._facts:
            yield f"put {self._name(held)} in/on {name}", _Move(lambda: self._put(held, place))
        for verb, able, where, added, removed in (
            ("clean", "cleanable", _SINKS, "isclean", None),
            ("heat", "heatable", ("microwavetype",), "ishot", "iscool"),
            ("cool", "coolable", ("fridgetype",), "iscool", "ishot"),
        ):
            if kind in where and self._is(able, held):
                treat = _Move(lambda v=verb, a=added, r=removed: self._treat(held, place, v, a, r))  # type: ignore[misc]
                yield f"{verb} {self._name(held)} with {name}", treat

    def _slicing(self, held: str, here: str) -> Iterator[tuple[str, _Move]]:
        if self._types.get(held) not in ("knifetype", "butterknifetype"):
            return
        for thing in self._objects:
            if self._is("sliceable", thing) and ("objectatlocation", thing, here) in self._facts:
                cut = _Move(lambda thing=thing: self._slice(thing, held))  # type: ignore[misc]
                yield f"slice {self._name(thing)} with {self._name(held)}", cut

    # ---- what it changes and what is said --------------------------------------------------------------------------

    def _go(self, place: str) -> str:
        self._remove("atlocation", self._agent, self._here)
        self._add("atlocation", self._agent, self._location_of[place])
        return f"You arrive at {self._name(self._location_of[place])}. {self._contents(place)}"

    def _open(self, place: str, opens: bool) -> str:
        if not opens:
            self._remove("opened", place)
            return f"You close the {self._name(place)}."
        self._add("opened", place)
        return f"You open the {self._name(place)}. {self._contents(place)}"

    def _take(self, thing: str, place: str) -> str:
        self._remove("inreceptacle", thing, place)
        self._remove("objectatlocation", thing, self._here)
        self._add("holds", self._agent, thing)
        self._add("holdsany", self._agent)
        return f"You pick up the {self._name(thing)} from the {self._name(place)}."

    def _put(self, thing: str, place: str) -> str:
        self._remove("holds", self._agent, thing)
        self._remove("holdsany", self._agent)
        self._add("inreceptacle", thing, place)
        self._add("objectatlocation", thing, self._here)
        return f"You put the {self._name(thing)} in/on the {self._name(place)}."

    def _treat(self, thing: str, place: str, verb: str, added: str, removed: str | None) -> str:
        if removed is not None:
            self._remove(removed, thing)
        self._add(added, thing)
        return f"You {verb} the {self._name(thing)} using the {self._name(place)}."

    def _use(self, thing: str) -> str:
        if self._is("ison", thing):
            self._remove("ison", thing)
        else:
            self._add("ison", thing)
        # The grammar looks at "was toggled once", so that a lamp can only be said to be turned on.
        self._add("istoggled", thing)
        return f"You turn on the {self._name(thing)}."

    def _slice(self, thing: str, knife: str) -> str:
        self._add("issliced", thing)
        return f"You sliced the {self._name(thing)} with the {self._name(knife)}."

    def _inventory(self) -> str:
        held = self._held
        return f"You are carrying: a {self._name(held)}." if held else "You are not carrying anything."

    def _examine(self, thing: str) -> str:
        if self._is("isreceptacleobject", thing):
            inner = [fact[1] for fact in self._facts if fact[0] == "inreceptacleobject" and fact[2] == thing]
            return f"This is a normal {self._name(thing)}. In it, you see {self._listed(sorted(inner))}."
        clean, hot, cool, sliced = (self._is(state, thing) for state in ("isclean", "ishot", "iscool", "issliced"))
        if not sliced and hot and not clean:
            words = ["hot"]
        elif not sliced and cool and not clean:
            words = ["cold"]
        else:
            heat = ["hot"] if hot else ["cool"] if cool else []
            words = [" and ".join([*heat, *(["clean"] if clean else [])])] if heat or clean else []
            # Sliced things have a text of their own only where they can be sliced or are clean, hot or cold as well.
            words += ["sliced"] if sliced and (words or self._is("sliceable", thing)) else []
        if words:
            return f"This is a {' '.join(words)} {self._name(thing)}."
        if self._is("toggleable", thing) and self._is("istoggled", thing):
            return f"This {self._name(thing)} is on."
        return f"There's nothing special about {self._name(thing)}."

    def _contents(self, place: str) -> str:
        if self._is("openable", place):
            if not self._is("opened", place):
                return f"The {self._name(place)} is closed."
            return f"The {self._name(place)} is open. In it, you see {self._listed(self._inside(place))}."
        return f"On the {self._name(place)}, you see {self._listed(self._inside(place))}."

    def _look(self, first: bool) -> str:
        near = [place for place in self._receptacles if self._location_of.get(place) == self._here]
        if near:
            floor = [
                thing
                for thing in self._objects
                for place in near
                if ("objectatlocation", thing, self._here) in self._facts
                and ("inreceptacle", thing, place) in self._removed
            ]
            beside = self._listed(sorted(set(floor)))
            return (
                f"You are facing the {self._joined([self._name(each) for each in near])}. Next to it, you see {beside}."
            )
        # The grammar lists the furniture of "a location": of all at the beginning, later of the one where one stands.
        seen = [place for place in self._receptacles if place in self._location_of] if first else []
        return f"You are in the middle of a room. Looking quickly around you, you see {self._listed(seen)}."

    # ---- small parts -----------------------------------------------------------------------------------------------

    @property
    def _here(self) -> str:
        return next(fact[2] for fact in self._facts if fact[0] == "atlocation" and fact[1] == self._agent)

    @property
    def _held(self) -> str | None:
        return next((fact[2] for fact in self._facts if fact[0] == "holds" and fact[1] == self._agent), None)

    def _inside(self, place: str) -> list[str]:
        return [thing for thing in self._objects if ("inreceptacle", thing, place) in self._facts]

    def _is(self, predicate: str, thing: str) -> bool:
        return (predicate, thing) in self._facts

    def _add(self, *fact: str) -> None:
        self._facts.add(fact)
        self._removed.discard(fact)

    def _remove(self, *fact: str) -> None:
        self._facts.discard(fact)
        self._removed.add(fact)

    def _name(self, thing: str) -> str:
        return self._names[thing]

    def _listed(self, things: list[str]) -> str:
        return self._joined([f"a {self._name(thing)}" for thing in things]) if things else "nothing"

    def _joined(self, names: list[str]) -> str:
        return names[0] if len(names) == 1 else f"{', '.join(names[:-1])}, and {names[-1]}"


def _names(problem: Problem) -> dict[str, str]:
    """``drawer 2`` for each thing that a fact speaks of: numbered within its kind, the last in order being 1."""
    ids = sorted({argument for fact in problem.facts for argument in fact[1:] if argument in problem.objects})
    counts: Counter[str] = Counter()
    names: dict[str, str] = {}
    for each in reversed(ids):
        word, _, rest = each.partition("_bar_")
        if not rest:
            names[each] = f"{each} "
            continue
        word += "basin" if "basin" in each else ""
        counts[word] += 1
        names[each] = f"{word} {counts[word]}"
    return names
