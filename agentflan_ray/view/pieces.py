"""A sample's tokens as text with their tags, for eyes: the very ids and tags that training reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from tokenizers.decoders import DecodeStream

from agentflan_ray.sample import Turn
from agentflan_ray.tokens.encode import Encoder
from agentflan_ray.view.cards import Card, SampleTokens, TokenPiece


def with_tokens(card: Card, tokenizer: Any) -> Card:
    """The card with the tokens of each sample, by a tokenizer of ``tokens.tokenizer.load_tokenizer``."""
    encoder = Encoder(tokenizer)
    return replace(card, tokens=tuple(_tokens_of(sample.turns, tokenizer, encoder) for sample in card.samples))


def token_pieces(turns: Sequence[Turn], tokenizer: Any, encoder: Encoder) -> Iterator[TokenPiece]:
    """The pieces of the rendered conversation, in order; joined they are its text.

    Tokens that decode to no text of their own (parts of a character) are merged with those after them, and take the
    tag of the last. Raises ``ValueError`` where the chat template can't render the turns.
    """
    encoded = encoder(turns)
    stream = DecodeStream(skip_special_tokens=False)
    pending: list[int] = []
    tag = -1
    for token, tag in zip(encoded.input_ids.tolist(), encoded.tags.tolist(), strict=True):
        pending.append(token)
        text = stream.step(tokenizer.backend_tokenizer, token)
        if text is not None:
            yield TokenPiece(text, tag, len(pending))
            pending = []
    if pending:  # a conversation that ends within a character
        yield TokenPiece(tokenizer.backend_tokenizer.decode(pending, skip_special_tokens=False), tag, len(pending))


def _tokens_of(turns: Sequence[Turn], tokenizer: Any, encoder: Encoder) -> SampleTokens:
    try:
        return SampleTokens(tuple(token_pieces(turns, tokenizer, encoder)))
    except ValueError as error:
        return SampleTokens(fault=str(error))
