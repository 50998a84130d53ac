"""What the benchmarks of training learn: samples of the embedded world, and the blocks that they are packed into."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

TOKENIZER = "smollm2-135m-instruct"


@dataclass(frozen=True)
class Samples:
    """Samples one behind the other: ids and component tags (tokens,), and of each sample its length and block."""

    input_ids: np.ndarray[Any, np.dtype[np.int32]]
    tags: np.ndarray[Any, np.dtype[np.int8]]
    lengths: np.ndarray[Any, np.dtype[np.int64]]
    blocks: np.ndarray[Any, np.dtype[np.int64]]

    def write(self, path: Path) -> None:
        np.savez_compressed(path, **vars(self))

    @classmethod
    def read(cls, path: Path) -> Samples:
        return cls(**np.load(path))

    @property
    def num_blocks(self) -> int:
        return int(self.blocks.max()) + 1

    def each(self) -> list[tuple[int, Any, Any]]:
        """Block, ids and tags of each sample."""
        ends = self.lengths.cumsum()[:-1]
        return list(zip(self.blocks.tolist(), np.split(self.input_ids, ends), np.split(self.tags, ends), strict=True))

    def labelled(self, vocabulary: int) -> list[tuple[list[int], list[int]]]:
        """Ids and labels of each sample, -100 where nothing is learnt; ids beyond a smaller vocabulary are folded."""
        return [
            ((ids % vocabulary).tolist(), np.where(tags >= 0, ids % vocabulary, -100).tolist())
            for _, ids, tags in self.each()
        ]


class PackedBlocks:
    """The samples laid into their blocks, as :class:`agentflan_ray.tokens.blocks.PlannedBlocks` lays them.

    ``num_blocks`` above those that there are begins again with the first; ids beyond a smaller ``vocabulary`` are
    folded into it, which random weights do not mind.
    """

    def __init__(
        self, samples: Samples, block_length: int, *, num_blocks: int | None = None, vocabulary: int | None = None
    ) -> None:
        from agentflan_ray.tokens.block import empty_block

        self._blocks = [empty_block(block_length) for _ in range(samples.num_blocks)]
        self._num_blocks = num_blocks or samples.num_blocks
        ends = [0] * samples.num_blocks
        for number, ids, tags in samples.each():
            block, at = self._blocks[number], ends[number]
            end = ends[number] = at + len(ids)
            block.input_ids[at:end] = ids if vocabulary is None else ids % vocabulary
            block.tags[at:end] = tags
            block.position_ids[at:end] = np.arange(len(ids))
        for block, end in zip(self._blocks, ends, strict=True):
            block.position_ids[end:] = np.arange(block_length - end)
        self._tokens = ends

    def count(self, start: int, stop: int) -> int:
        """Tokens of the samples in some blocks, without padding."""
        return sum(self._tokens[number % len(self._tokens)] for number in range(start, stop))

    @property
    def groups(self) -> Any:
        from agentflan_ray.tokens.block import COMPONENT_GROUPS

        return COMPONENT_GROUPS

    def __len__(self) -> int:
        return self._num_blocks

    def __getitem__(self, number: int) -> Any:
        return self._blocks[number % len(self._blocks)]


def draw_samples(num_blocks: int, block_length: int, num_draws: int) -> Samples:
    """``num_draws`` of the embedded world in every form of Agent-FLAN, packed; the first blocks of the packing.

    Raises ``ValueError`` where the draws fill fewer blocks.
    """
    from agentflan_ray.corpus.derive import derive
    from agentflan_ray.corpus.negatives import catalogue_of
    from agentflan_ray.corpus.recipe import agent_flan
    from agentflan_ray.corpus.similarity import Catalogue
    from agentflan_ray.sample import CAPABILITIES, COMPONENTS, Sample, component_of
    from agentflan_ray.tokens.encode import Encoder
    from agentflan_ray.tokens.pack import pack
    from agentflan_ray.toolbox import draw_chat, draw_trajectory
    from agentflan_ray.train.models import load_tokenizer

    drawn = [draw_trajectory(index) if index % 4 else draw_chat(index) for index in range(num_draws)]
    catalogue = Catalogue.of(catalogue_of([trajectory.tools for trajectory in drawn]))
    made = [each for trajectory in drawn for each in derive(trajectory, agent_flan(), catalogue)]
    encode = Encoder(load_tokenizer(TOKENIZER))
    rows = []
    for sample in made:
        if isinstance(sample, Sample) and len(encoded := encode(sample.turns)) <= block_length:
            components = [COMPONENTS.index(component_of(sample.form, sample.case, name)) for name in CAPABILITIES]
            rows.append((encoded.input_ids, np.array([*components, -1], dtype=np.int8)[encoded.tags]))
    blocks = pack(np.array([len(ids) for ids, _ in rows]), block_length, seed=0)
    if blocks.max() + 1 < num_blocks:
        raise ValueError(
            f"{num_draws} draws fill {blocks.max() + 1} blocks of {block_length} tokens, but {num_blocks} are asked "
            "for; draw more."
        )
    chosen = sorted((block, at) for at, block in enumerate(blocks.tolist()) if block < num_blocks)
    return Samples(
        input_ids=np.concatenate([rows[at][0] for _, at in chosen]),
        tags=np.concatenate([rows[at][1] for _, at in chosen]),
        lengths=np.array([len(rows[at][0]) for _, at in chosen]),
        blocks=np.array([block for block, _ in chosen]),
    )
