"""Which chat templates do nothing with what is said but print it: those need not be run for every conversation."""

from __future__ import annotations

from typing import Literal

from jinja2 import Environment, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser

Kind = Literal["plain", "text", "mixed", "message", "messages", "namespace"]
"""What an expression may hold: nothing of what is said, one turn's text as it is, texts among other words, a turn,
several turns, or a namespace, whose attributes are followed each by itself."""

_Name = str | tuple[str, str]  # a variable, or a namespace and its attribute

_OF_LOOP = {"first", "last", "index", "index0", "revindex", "revindex0", "length"}
_OF_TYPE = {"string", "defined", "undefined", "none", "mapping", "sequence", "iterable", "number"}


class _Generation(Extension):
    """``{% generation %}``, with which transformers marks what a model says: its body is rendered as it stands."""

    tags = {"generation"}  # noqa: RUF012  # as jinja declares it

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        """The body in the place of the block."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _UsedOtherwise(Exception):
    """The template does something with a text that could make a difference."""


def only_prints_texts(chat_template: str) -> bool:
    """Whether a template only prints what is said, so that a row of roles decides all that it renders besides.

    A text may be trimmed, joined to other words, kept in a variable and printed; whether it is a string may be asked.
    Where it is compared, searched, split, counted or handed on to a filter, macro or function, the answer is no; so it
    is for whatever is not known here. All named templates and SmolLM2's only print; Llama 2's as published, which tests
    the system text, and one that cuts thoughts out of a text do more.
    """
    tree = Environment(extensions=[_Generation, "jinja2.ext.loopcontrols"]).parse(chat_template)
    names: dict[_Name, Kind] = {"messages": "messages"}
    known = 0
    try:
        while known != (known := len(names)):  # what a variable holds may be learnt after its first use
            _follow(tree.body, names)
    except _UsedOtherwise:
        return False
    return True


def _follow(statements: list[nodes.Node], names: dict[_Name, Kind]) -> None:
    for node in statements:
        match node:
            case nodes.Output():
                for printed in node.nodes:
                    _demand(_kind(printed, names) in ("plain", "text", "mixed"))
            case nodes.If():
                _demand(_kind(node.test, names) == "plain")
                _follow([*node.body, *node.elif_, *node.else_], names)
            case nodes.For():
                over = _kind(node.iter, names)
                _demand(over in ("plain", "messages") and not node.recursive)
                if over == "messages":
                    _name(node.target, "message", names)
                _demand(node.test is None or _kind(node.test, names) == "plain")
                _follow([*node.body, *node.else_], names)
            case nodes.Assign():
                kind = _kind(node.node, names)
                _demand(kind != "namespace" or isinstance(node.node, nodes.Call))  # one namespace, one name
                if kind != "plain":
                    _name(node.target, kind, names)
            case nodes.Break() | nodes.Continue():
                pass
            case _:
                raise _UsedOtherwise


def _name(target: nodes.Node, kind: Kind, names: dict[_Name, Kind]) -> None:
    if isinstance(target, nodes.NSRef):
        _demand(names.get(target.name) == "namespace" and kind != "namespace")
        name: _Name = (target.name, target.attr)
    elif isinstance(target, nodes.Name):
        name = target.name
    else:
        raise _UsedOtherwise
    _demand(names.setdefault(name, kind) == kind)


def _demand(holds: bool) -> None:
    if not holds:
        raise _UsedOtherwise


def _kind(node: nodes.Node, names: dict[_Name, Kind]) -> Kind:
    match node:
        case nodes.Name():
            _demand(node.name != "loop")
            return names.get(node.name, "plain")
        case nodes.Getattr(node=nodes.Name(name="loop"), attr=attribute):
            _demand(attribute in _OF_LOOP)
            return "plain"
        case nodes.Getattr(node=nodes.Name(name=name), attr=attribute) if names.get(name) == "namespace":
            return names.get((name, attribute), "plain")
        case nodes.Call(node=nodes.Name(name="namespace")):
            _demand(all(_kind(child, names) == "plain" for child in node.iter_child_nodes()))
            return "namespace"
        case nodes.Getattr() | nodes.Getitem():
            return _kind_of_member(node, names)
        case nodes.Call(node=nodes.Getattr(node=inner, attr="strip"), args=[], kwargs=[], dyn_args=None):
            kind = _kind(inner, names)
            _demand(kind in ("plain", "text"))
            return kind
        case nodes.Filter(name="trim", node=inner, args=[], kwargs=[]) if inner is not None:
            kind = _kind(inner, names)
            _demand(kind in ("plain", "text"))  # blanks at the ends of other words may go or stay with a text
            return kind
        case nodes.Filter(name="length" | "count", node=nodes.Name(name=name)) if names.get(name) == "messages":
            return "plain"
        case nodes.Test(name=name) if name in _OF_TYPE:
            _demand(_kind(node.node, names) != "namespace")
            return "plain"
        case nodes.Add() | nodes.Concat() | nodes.CondExpr():
            if isinstance(node, nodes.CondExpr):
                _demand(_kind(node.test, names) == "plain")
                parts: list[nodes.Node] = [each for each in (node.expr1, node.expr2) if each is not None]
            else:
                parts = list(node.iter_child_nodes())
            kinds = {_kind(part, names) for part in parts}
            _demand(kinds <= {"plain", "text", "mixed"})
            return "plain" if kinds == {"plain"} else "mixed"
        case _:
            _demand(all(_kind(child, names) == "plain" for child in node.iter_child_nodes()))
            return "plain"


def _kind_of_member(node: nodes.Getattr | nodes.Getitem, names: dict[_Name, Kind]) -> Kind:
    of = _kind(node.node, names)
    if isinstance(node, nodes.Getitem):
        _demand(_kind(node.arg, names) == "plain")
    if of == "messages":
        _demand(isinstance(node, nodes.Getitem))
        return "messages" if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice) else "message"
    if of == "message":
        key = node.attr if isinstance(node, nodes.Getattr) else getattr(node.arg, "value", None)
        _demand(isinstance(key, str) and not hasattr(dict, key))
        return "text" if key == "content" else "plain"
    _demand(of == "plain")
    return "plain"
