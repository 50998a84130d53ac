"""Small tokenizers without any download, of the two kinds that models have, with every named chat template.

``bytes``: byte-level BPE, as GPT-2, Llama 3, Qwen and SmolLM2 have. ``metaspace``: BPE over characters with a mark for
the blank, put before the text and after every special token, as the SentencePiece models of Llama 2 and Mistral have.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Literal

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from agentflan_ray.sample import Turn
from agentflan_ray.tokens.templates import TEMPLATES, apply_template


def messages_of(turns: Sequence[Turn]) -> list[dict[str, str]]:
    """Turns as the messages that a chat template takes."""
    return [{"role": turn.role, "content": turn.text} for turn in turns]


Kind = Literal["bytes", "trained_bytes", "metaspace"]
KINDS: tuple[Kind, ...] = ("bytes", "trained_bytes", "metaspace")

# As Meta published it with Llama-2-chat: it strips texts, repeats <s> and puts blanks round what the assistant says.
LLAMA2_AS_PUBLISHED = (
    "{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{% set sys = messages[0]['content'] %}"
    "{% else %}{% set rest = messages %}{% set sys = false %}{% endif %}"
    "{% for m in rest %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
    "{% if loop.index0 == 0 and sys %}{% set text = '<<SYS>>\n' + sys + '\n<</SYS>>\n\n' + m['content'] %}"
    "{% else %}{% set text = m['content'] %}{% endif %}"
    "{% if m['role'] == 'user' %}{{ '<s>' + '[INST] ' + text.strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'].strip() + ' ' + '</s>' }}{% endif %}{% endfor %}"
)
# The system text stands in the last user turn, as in Mistral's templates of 2024; a plain mark ends a turn.
SYSTEM_LAST = (
    "{% for m in messages %}{% if m['role'] == 'user' %}USER: "
    "{% if messages[0]['role'] == 'system' and loop.index0 >= messages | length - 2 %}{{ messages[0]['content'] }}\n"
    "{% endif %}{{ m['content'] }}\n"
    "{% elif m['role'] == 'assistant' %}REPLY:\n{{ m['content'] }}\n###\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}REPLY:\n{% endif %}"
)
OTHER_TEMPLATES = {"llama2_as_published": LLAMA2_AS_PUBLISHED, "system_last": SYSTEM_LAST}
NAMES = (*TEMPLATES, *OTHER_TEMPLATES)

SPECIAL = ("<pad>", "<s>", "</s>", *dict.fromkeys(token for each in TEMPLATES.values() for token in each.tokens))

_TEXT = (
    "The assistant looks up the weather in Paris and says: it is raining. Observation: 12 °C. <|Human|>\u0d46\n",
) * 3


@functools.cache
def _backend(kind: Kind) -> str:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    if kind == "metaspace":
        characters = {chr(i) for i in range(32, 127)} - {" "}
        pieces = ["<unk>", "\u2581", *(f"<0x{i:02X}>" for i in range(256)), *sorted(characters)]
        tokenizer = Tokenizer(
            models.BPE(
                vocab={piece: i for i, piece in enumerate([*pieces, "\u2581t", "\u2581th", "th", "an", "\u2581an"])},
                merges=[("\u2581", "t"), ("\u2581t", "h"), ("t", "h"), ("a", "n"), ("\u2581", "an")],
                byte_fallback=True,
                unk_token="<unk>",
                fuse_unk=True,
            )
        )
        # Llama 2's rules in its tokenizer.json: no pre-tokenizer, blanks are marked by normalising.
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
    else:
        tokenizer = Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(alphabet)}, merges=[]))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        if kind == "trained_bytes":
            trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
            tokenizer.train_from_iterator(_TEXT, trainer)
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL])
    return str(tokenizer.to_str())


def small_tokenizer(template: str = "chatml", kind: Kind = "bytes") -> Any:
    """A tokenizer with the marks of all templates, one of :data:`NAMES` applied."""
    tokenizer = bare_tokenizer(kind)
    if template in TEMPLATES:
        apply_template(tokenizer, template, "small")
    else:
        tokenizer.chat_template = OTHER_TEMPLATES[template]
    return tokenizer


def bare_tokenizer(kind: Kind = "bytes") -> Any:
    """The tokenizer of a base model: without a chat template."""
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_backend(kind)), bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
