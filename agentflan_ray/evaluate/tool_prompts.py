"""Asking with tools: the explicit forms of :mod:`agentflan_ray.forms`, a plain list, or the model's own template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agentflan_ray.evaluate.benchmark import Missing, Request, Unavailable
from agentflan_ray.evaluate.tool_schemas import chat_template_tools
from agentflan_ray.forms import json_system, plain_system, react_system, string_system
from agentflan_ray.trajectory import Tool

FORMS = ("react", "json", "string", "plain", "native")
"""``plain`` lists tools and asks for no form, ``native`` leaves listing them to the model's chat template. The texts of
the others are those that training writes, so that a model is asked as it was taught."""

_SYSTEMS = {"react": react_system, "json": json_system, "string": string_system}


def ask(form: str, tools: tuple[Tool, ...], messages: Sequence[Mapping[str, str]], max_new_tokens: int) -> Request:
    """A request with these tools. Without tools nothing is listed and no form is asked for. A system turn that the
    messages begin with follows the one that lists the tools."""
    if not tools:
        return Request(tuple(messages), max_new_tokens)
    if form == "native":
        return Request(tuple(messages), max_new_tokens, tools=chat_template_tools(tools))
    system = plain_system(tools) if form == "plain" else _SYSTEMS[form](tools)
    first, *rest = messages
    if first["role"] == "system":
        return Request(({"role": "system", "content": f"{system}\n\n{first['content']}"}, *rest), max_new_tokens)
    return Request(({"role": "system", "content": system}, *messages), max_new_tokens)


def form_of(benchmark: str, prompt: str | None, own: str, forms: Sequence[str] = FORMS) -> str:
    """The form that a benchmark asks in: the one named, or its own.

    Raises :class:`~agentflan_ray.evaluate.benchmark.Unavailable` for one that it does not have.
    """
    if prompt is not None and prompt not in forms:
        what = f"It has the prompts {', '.join(forms)}, not {prompt!r}."
        raise Unavailable(benchmark, [Missing(what, "Name one of them, or none for its own.")])
    return prompt or own
