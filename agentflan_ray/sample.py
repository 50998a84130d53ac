"""What training sees: a conversation in one form, each piece of an assistant turn tagged with its capability.

A :class:`Sample` is made from a trajectory by ``corpus`` and read by ``tokens``. A turn is made of parts because in
ReAct or JSON form one assistant turn carries several capabilities at once: the thought is reasoning, the tool name
retrieval, the arguments understanding, and the scaffolding between them instruction following (paper, section 3.1).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal, get_args

import pyarrow as pa

Capability = Literal["reasoning", "retrieval", "understanding", "instruction", "general"]
CAPABILITIES: tuple[str, ...] = get_args(Capability)
"""In the order of the integer tags that ``tokens`` stores."""

Form = Literal["chat", "cot", "react", "json", "string"]
FORMS: tuple[str, ...] = get_args(Form)
CHAT_FORMS: tuple[str, ...] = ("chat", "cot")
"""Natural language: decomposed, or thought and call in one turn. The others are explicit formats."""

Case = Literal[
    "tool",
    "no_tool_request",
    "irrelevant_tool",
    "near_miss",
    "chat_with_tools",
    "missing_argument",
    "tool_error",
    "chat",
]
CASES: tuple[str, ...] = get_args(Case)
NEGATIVE_CASES: tuple[str, ...] = (
    "no_tool_request",
    "irrelevant_tool",
    "near_miss",
    "chat_with_tools",
    "missing_argument",
    "tool_error",
)
"""Cases that teach what not to do: call although no tool is there, none fits, one only seems to fit, none is needed,
or an argument is missing (paper, section 3.4, and beyond); and invent a result although the tool failed."""

Component = Literal["reasoning", "retrieval", "understanding", "instruction", "general", "negative"]
COMPONENTS: tuple[str, ...] = get_args(Component)
"""What a mixture weighs."""

SAMPLE_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("parent", pa.string()),
        ("source", pa.string()),
        ("form", pa.string()),
        ("case", pa.string()),
        ("group", pa.string()),
        ("turns", pa.string()),
    ]
)
"""Arrow schema of a stored sample; ``turns`` holds JSON text."""


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a turn; ``capability`` is None where nothing is learnt."""

    text: str
    capability: Capability | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a sample. Only ``system``, ``user`` and ``assistant``: every chat template knows these."""

    role: Literal["system", "user", "assistant"]
    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        """The whole text of the turn."""
        return "".join(part.text for part in self.parts)


@dataclass(frozen=True, slots=True)
class Sample:
    """A training conversation. ``parent`` is the id of the trajectory it was made from.

    ``group`` names its task, and decides whether it is validation text (``corpus.split``); a corpus fills it in. A
    sample with "" stands with its parent's samples.
    """

    id: str
    parent: str
    source: str
    form: Form
    case: Case
    turns: tuple[Turn, ...]
    group: str = ""

    def component(self, capability: Capability) -> Component:
        """The mixture component that supervised text of this sample counts for.

        Explicit formats (ReAct, JSON, strings) are the instruction-following data of the paper (section 3.2), whatever
        capability a piece of them carries; the negative cases are one component; the rest is its capability.
        """
        return component_of(self.form, self.case, capability)

    def to_row(self) -> dict[str, str]:
        """The row of :data:`SAMPLE_SCHEMA`."""
        turns = [[turn.role, [[part.text, part.capability] for part in turn.parts]] for turn in self.turns]
        return {
            "id": self.id,
            "parent": self.parent,
            "source": self.source,
            "form": self.form,
            "case": self.case,
            "group": self.group,
            "turns": _dump(turns),
        }

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Sample:
        """Inverse of :meth:`to_row`."""
        return cls(
            id=row["id"],
            parent=row["parent"],
            source=row["source"],
            form=row["form"],
            case=row["case"],
            turns=tuple(
                Turn(role, tuple(Part(text, capability) for text, capability in parts))
                for role, parts in json.loads(row["turns"])
            ),
            group=row["group"],
        )


# Made once: json.dumps makes an encoder for every call that has settings.
_dump = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def component_of(form: str, case: str, capability: str) -> Component:
    """The mixture component of a supervised piece, from its sample's form and case and its own capability."""
    if case in NEGATIVE_CASES:
        return "negative"
    if form not in CHAT_FORMS:
        return "instruction"
    return capability  # type: ignore[return-value]  # the first five components are the capabilities
