"""What the viewer shows of one record, as plain data: the terminal and the page draw the same cards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from agentflan_ray.forms import thought_of
from agentflan_ray.sample import Capability, Sample
from agentflan_ray.trajectory import Message, Trajectory

Status = Literal["kept", "removed", "dropped", "quarantined"]
"""Kept; kept by its format but removed by cleaning; dropped by the rules of its format; a bad row."""

PieceKind = Literal["thought", "text", "tool", "arguments"]


class NotMade(NamedTuple):
    """A sample that could not be made of a record: its kind, and why."""

    kind: str
    reason: str


class MessagePiece(NamedTuple):
    """A piece of a trajectory's message: what it is, its text, and the capability it teaches (None: nothing)."""

    kind: PieceKind
    text: str
    capability: Capability | None


class TokenPiece(NamedTuple):
    """Tokens that only together are text: mostly one; several where a character is spread over tokens.

    ``tag`` is an index into :data:`~agentflan_ray.sample.CAPABILITIES`, or -1 where nothing is learnt.
    """

    text: str
    tag: int
    num_tokens: int


@dataclass(frozen=True, slots=True)
class SampleTokens:
    """A sample as the model reads it: pieces of the rendered text, or the sentence why it can't be rendered."""

    pieces: tuple[TokenPiece, ...] = ()
    fault: str = ""

    @property
    def num_tokens(self) -> int:
        """Tokens of the whole conversation."""
        return sum(piece.num_tokens for piece in self.pieces)


@dataclass(frozen=True, slots=True)
class Card:
    """One record of a corpus and what became of it.

    ``origin`` names the source it was read as and ``where`` the position ``file:row`` it was read at. ``trajectory``
    is None where the row never became one; then ``raw`` is how it begins. ``reason`` and ``sentence`` say why it is
    not kept. ``tokens`` is empty or holds one entry for each sample.
    """

    status: Status
    origin: str
    where: str
    trajectory: Trajectory | None = None
    reason: str = ""
    sentence: str = ""
    raw: str = ""
    samples: tuple[Sample, ...] = ()
    not_made: tuple[NotMade, ...] = ()
    tokens: tuple[SampleTokens, ...] = ()

    @property
    def key(self) -> str:
        """What the card is found by: the trajectory's id where it is kept (ids are unique there), else its position."""
        return self.trajectory.id if self.trajectory is not None and self.status == "kept" else self.where

    @property
    def source(self) -> str:
        """The source as the trajectory names it, else as it was read."""
        return self.trajectory.source if self.trajectory is not None else self.origin


def kind_of(sample: Sample) -> str:
    """What the sample is among those of its record: the end of its id, such as ``chat`` or ``near_miss``."""
    return sample.id.removeprefix(f"{sample.parent}/")


def pieces_of(trajectory: Trajectory) -> Iterator[tuple[Message, tuple[MessagePiece, ...]]]:
    """Each message with its pieces, tagged as the decomposition tags them (``corpus.align``; paper, section 3.1)."""
    has_called = False
    for message in trajectory.messages:
        yield message, tuple(_pieces(message, has_called))
        has_called = has_called or bool(message.calls)


def _pieces(message: Message, has_called: bool) -> Iterator[MessagePiece]:
    def tag(capability: Capability) -> Capability | None:
        return capability if message.loss else None

    if thought := thought_of(message):
        yield MessagePiece("thought", thought, tag("reasoning"))
    for call in message.calls:
        yield MessagePiece("tool", call.name, tag("retrieval"))
        yield MessagePiece("arguments", call.arguments, tag("understanding"))
    if not message.calls and message.content.strip():
        yield MessagePiece("text", message.content.strip(), tag("reasoning" if has_called else "general"))
