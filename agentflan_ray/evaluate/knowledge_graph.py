"""AgentBench's seven tools over a knowledge graph, as SPARQL.

A variable is a query that is not run yet: sets of millions ("all people") are never fetched, only what is asked about
them. Freebase's layout is assumed: relations are IRIs below one namespace, ``domain.type.property``, each with
``type.property.expected_type``. Only outgoing relations are listed, as AgentBench does: Freebase states the inverse of
a relation as a relation of its own.
"""

from __future__ import annotations

import itertools
import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from agentflan_ray.evaluate.benchmark import EnvironmentDied

NAMESPACE = "http://rdf.freebase.com/ns/"
_XSD = "http://www.w3.org/2001/XMLSchema#"
_ORDERED = ("integer", "int", "float", "double", "decimal", "date", "dateTime", "gYear", "gYearMonth")
_BOOKKEEPING = ("type.", "common.", "freebase.", "kg.", "user.", "dataworld.", "pipeline.")
"""Relations of Freebase's own making, which AgentBench's vocabulary leaves out too."""

_ENTITY = re.compile(r"[mg]\.\w+")
_RELATION = re.compile(r"\w+(?:\.\w+)+")
_MAX_LISTED = 300
_MAX_ANSWERS = 10_000


class Refused(ValueError):
    """A tool call that can't be executed; the text is what the model is told."""


class Endpoint(Protocol):
    """Answers SPARQL SELECT queries."""

    def select(self, query: str) -> list[dict[str, str]]:
        """Rows of values by variable. Raises :class:`EnvironmentDied` where the endpoint fails."""


@dataclass(frozen=True)
class HttpEndpoint:
    """A SPARQL endpoint by its URL, for instance Virtuoso's ``http://host:8890/sparql``."""

    url: str
    seconds: float = 60.0

    def select(self, query: str) -> list[dict[str, str]]:
        """See :class:`Endpoint`."""
        body = urllib.parse.urlencode({"query": query, "format": "application/sparql-results+json"}).encode()
        request = urllib.request.Request(self.url, body, {"Accept": "application/sparql-results+json"})
        try:
            with urllib.request.urlopen(request, timeout=self.seconds) as answer:
                return rows_of(answer.read())
        except (OSError, ValueError, KeyError) as error:
            detail = error.read(300).decode(errors="replace") if isinstance(error, urllib.error.HTTPError) else error
            raise EnvironmentDied(f"The SPARQL endpoint {self.url} failed: {detail}") from error


class FileEndpoint:
    """A graph in an N-Triples or Turtle file, held in memory (package ``pyoxigraph``)."""

    def __init__(self, path: str) -> None:
        import pyoxigraph

        self._store = pyoxigraph.Store()
        self._store.bulk_load(path=path)

    def select(self, query: str) -> list[dict[str, str]]:
        """See :class:`Endpoint`."""
        import pyoxigraph

        results = self._store.query(query)
        assert isinstance(results, pyoxigraph.QuerySolutions)
        return rows_of(results.serialize(format=pyoxigraph.QueryResultsFormat.JSON) or b"")


def rows_of(answer: bytes) -> list[dict[str, str]]:
    """The rows of SPARQL results in JSON (W3C's SPARQL 1.1 Query Results JSON Format)."""
    found: list[dict[str, Any]] = json.loads(answer)["results"]["bindings"]
    return [{name: str(cell["value"]) for name, cell in row.items()} for row in found]


@dataclass(frozen=True)
class Variable:
    """A set of entities as a graph pattern, or a number. ``type`` is the entities' type."""

    type: str
    kind: str
    """entity, neighbours, intersection, argmax, argmin or count."""
    of: tuple[Variable, ...] = ()
    name: str = ""
    """The entity, relation or attribute."""

    def pattern(self, target: str, fresh: Iterator[str]) -> str:
        """SPARQL that binds ``target`` to each entity of the set."""
        if self.kind == "entity":
            return f"VALUES {target} {{ <{NAMESPACE}{self.name}> }}"
        if self.kind == "neighbours":
            before = next(fresh)
            return f"{self.of[0].pattern(before, fresh)} {before} <{NAMESPACE}{self.name}> {target} ."
        if self.kind == "intersection":
            return " ".join(each.pattern(target, fresh) for each in self.of)
        assert self.kind in ("argmax", "argmin"), self.kind
        # Every entity with the extreme value, as the s-expression's ARGMAX means it.
        other, value, extreme = next(fresh), next(fresh), next(fresh)
        function = "MAX" if self.kind == "argmax" else "MIN"
        attribute = f"<{NAMESPACE}{self.name}>"
        inner = f"{self.of[0].pattern(other, fresh)} {other} {attribute} {value} ."
        best = f"{{ SELECT ({function}({value}) AS {extreme}) WHERE {{ {inner} }} }}"
        return f"{best} {self.of[0].pattern(target, fresh)} {target} {attribute} {extreme} ."


class KnowledgeGraph:
    """The tools of one question. ``entities`` maps names to ids; variables are numbered from #0."""

    def __init__(self, endpoint: Endpoint, entities: dict[str, str]) -> None:
        self._endpoint = endpoint
        self._entities = entities
        self.variables: list[Variable] = []

    def call(self, tool: str, arguments: list[str]) -> str:
        """The observation of a call. Raises :class:`Refused` where it can't be executed."""
        arity = {"get_relations": 1, "get_attributes": 1, "count": 1}.get(tool, 2)
        if len(arguments) != arity:
            raise Refused(f"{tool} takes {arity} argument{'s' * (arity > 1)}, but got {len(arguments)}.")
        first = self._variable(tool, arguments[0])
        if tool == "get_relations":
            return self._listing(self._outgoing(first, "isIRI(?o)"))
        if tool == "get_attributes":
            types = ", ".join(f"<{_XSD}{name}>" for name in _ORDERED)
            return self._listing(self._outgoing(first, f"isLiteral(?o) && datatype(?o) IN ({types})"))
        if tool == "count":
            return self._new(Variable("type.int", "count", (first,)), "which is a number")
        if tool == "intersection":
            second = self._variable(tool, arguments[1])
            if first.type != second.type:
                raise Refused(f"The two variables are not of the same type: {first.type} and {second.type}.")
            made = Variable(first.type, "intersection", (first, second))
        elif tool == "get_neighbors":
            relation = self._relation(tool, arguments[1])
            made = Variable(self._expected_type(relation), "neighbours", (first,), relation)
        else:
            made = Variable(first.type, tool, (first,), self._relation(tool, arguments[1]))
        return self._new(made, f"which are instances of {made.type}")

    def values(self, number: int) -> set[str]:
        """What the variable stands for: ids of entities, literals, or one number. At most 10,000 are fetched."""
        variable = self.variables[number]
        if variable.kind == "count":
            query = f"SELECT (COUNT(DISTINCT ?x) AS ?n) WHERE {{ {variable.of[0].pattern('?x', _fresh())} }}"
            return {row["n"] for row in self._endpoint.select(query)}
        query = f"SELECT DISTINCT ?x WHERE {{ {variable.pattern('?x', _fresh())} }} LIMIT {_MAX_ANSWERS}"
        return {row["x"].removeprefix(NAMESPACE) for row in self._endpoint.select(query)}

    def _new(self, variable: Variable, what: str) -> str:
        self.variables.append(variable)
        return f"variable #{len(self.variables) - 1}, {what}"

    def _listing(self, relations: list[str]) -> str:
        return f"[{', '.join(relations)}]"

    def _outgoing(self, variable: Variable, condition: str) -> list[str]:
        query = (
            f"SELECT DISTINCT ?p WHERE {{ {variable.pattern('?x', _fresh())} ?x ?p ?o . "
            f'FILTER({condition} && STRSTARTS(STR(?p), "{NAMESPACE}")) }} LIMIT {_MAX_LISTED}'
        )
        found = (row["p"].removeprefix(NAMESPACE) for row in self._endpoint.select(query))
        return sorted(relation for relation in found if not relation.startswith(_BOOKKEEPING))

    def _expected_type(self, relation: str) -> str:
        query = f"SELECT ?t WHERE {{ <{NAMESPACE}{relation}> <{NAMESPACE}type.property.expected_type> ?t }} LIMIT 1"
        rows = self._endpoint.select(query)
        if not rows:
            raise Refused(f"There is no relation {relation}.")
        return rows[0]["t"].removeprefix(NAMESPACE)

    def _variable(self, tool: str, argument: str) -> Variable:
        if re.fullmatch(r"#\d{1,4}", argument):
            number = int(argument[1:])
            if number >= len(self.variables):
                raise Refused(f"There is no variable {argument} yet.")
            if self.variables[number].kind == "count":
                raise Refused(f"{argument} is a number; {tool} needs entities.")
            return self.variables[number]
        entity = self._entities.get(argument, argument)
        if not _ENTITY.fullmatch(entity):
            raise Refused(f"{argument!r} is neither a variable nor an entity of the question.")
        return Variable("type.object", "entity", name=entity)

    def _relation(self, tool: str, argument: str) -> str:
        if not _RELATION.fullmatch(argument):
            raise Refused(f"{argument!r} is no relation; {tool} needs one as listed before.")
        return argument


def _fresh() -> Iterator[str]:
    return (f"?v{number}" for number in itertools.count())
