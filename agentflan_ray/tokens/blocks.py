"""From a plan to packed blocks on a training worker: what ``train`` reads, by number, in any order."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from agentflan_ray import storage
from agentflan_ray.corpus.store import write_table
from agentflan_ray.mixture import Mixture, Plan, make_plan
from agentflan_ray.randomness import stable_hash
from agentflan_ray.sample import CAPABILITIES, CHAT_FORMS, COMPONENTS, component_of
from agentflan_ray.tokens.block import PIECES, Block, Group, empty_block
from agentflan_ray.tokens.pack import pack
from agentflan_ray.tokens.tokenise import TokenStore, to_index

PLAN_SCHEMA = pa.schema(
    [
        ("block", pa.int32()),
        ("id", pa.string()),
        ("source", pa.string()),
        ("shard", pa.string()),
        ("row", pa.int32()),
        ("mask", pa.uint8()),
    ]
)


@dataclass(frozen=True)
class Packing:
    """How full a plan's blocks are."""

    num_blocks: int
    efficiency: float
    """Tokens over room, between 0 and 1."""
    ends: tuple[int, ...]
    """Blocks up to the end of each phase; no block holds rows of two."""


def write_plan(plan: Plan, index: pa.Table, block_length: int, seed: int, uri: str) -> Packing:
    """Pack a plan's rows and write them as a Parquet file of some kilobytes, in block order.

    Each phase of the plan is packed by itself and its blocks stand before those of the next.
    """
    chosen = index.take(pa.array(plan.rows))
    lengths = chosen["num_tokens"].to_numpy().astype(np.int64)
    blocks = np.zeros(len(lengths), dtype=np.int64)
    num_blocks, ends = 0, []
    for phase in range(len(plan.by_phase)):
        rows = np.flatnonzero(plan.phases == phase)
        if len(rows):
            packed = pack(lengths[rows], block_length, stable_hash(seed, phase))
            blocks[rows] = num_blocks + packed
            num_blocks += int(packed.max()) + 1
        ends.append(num_blocks)
    table = pa.table(
        [
            pa.array(blocks, pa.int32()),
            chosen["id"],
            chosen["source"].cast(pa.string()),
            chosen["shard"].cast(pa.string()),
            chosen["row"],
            pa.array(plan.masks, pa.uint8()),
        ],
        schema=PLAN_SCHEMA,
    ).sort_by([("block", "ascending"), ("id", "ascending")])
    write_table(uri, table)
    return Packing(num_blocks, float(lengths.sum()) / (num_blocks * block_length), tuple(ends))


def write_validation_plan(tokens: TokenStore, budget: int, block_length: int, uri: str) -> Packing:
    """Choose the held-out text that trainings are measured on, ``budget`` tokens: equal supervised tokens of each
    component."""
    table = tokens.index_table(validation=True)
    index = to_index(table)
    present = [name for name, count in zip(COMPONENTS, index.supervised.sum(axis=0), strict=True) if count]
    mixture = Mixture(dict.fromkeys(present, 1 / len(present)), budget, max_repeats=1, when_short="cap")
    return write_plan(make_plan(index, mixture), table, block_length, 0, uri)


class PlannedBlocks:
    """The blocks of a written plan, from token files that are mapped into memory; remote ones are copied here first.

    ``shards_uri`` is the store that the plan's shards lie below (``TokenStore.shards_uri``).
    """

    def __init__(self, plan_uri: str, shards_uri: str, block_length: int, pad_token_id: int) -> None:
        filesystem, path = storage.locate(plan_uri)
        self._plan = pq.read_table(path, filesystem=filesystem, schema=PLAN_SCHEMA)
        self._shards_uri = shards_uri
        self._block_length = block_length
        self._pad_token_id = pad_token_id
        blocks = self._plan["block"].to_numpy()
        self._bounds = np.searchsorted(blocks, np.arange(int(blocks.max()) + 2 if len(blocks) else 1))
        sources = sorted(pc.unique(self._plan["source"]).to_pylist())
        self._sources = pc.index_in(self._plan["source"], pa.array(sources, pa.string())).to_numpy()
        self.groups = tuple(Group(c, source, piece) for source in sources for piece in PIECES for c in COMPONENTS)  # type: ignore[arg-type]
        self._shards: dict[str, pa.Table] = {}

    def __len__(self) -> int:
        return len(self._bounds) - 1

    def __getitem__(self, number: int) -> Block:
        if not 0 <= number < len(self):
            raise IndexError(number)
        block = empty_block(self._block_length, self._pad_token_id)
        at = 0
        for row in range(self._bounds[number], self._bounds[number + 1]):
            shard = self._shard(self._plan["shard"][row].as_py())
            place = self._plan["row"][row].as_py()
            ids = shard["input_ids"][place].values.to_numpy()
            end = at + len(ids)
            block.input_ids[at:end] = ids
            block.position_ids[at:end] = np.arange(len(ids))
            lookup = _group_tags(
                shard["form"][place].as_py(), shard["case"][place].as_py(), self._plan["mask"][row].as_py()
            )
            tags = lookup[shard["tags"][place].values.to_numpy()]
            first = self._sources[row] * len(PIECES) * len(COMPONENTS)
            block.tags[at:end] = np.where(tags < 0, -1, first + tags)
            at = end
        # Padding goes on as a sample of its own, so that nothing attends to it and it attends to nothing.
        block.position_ids[at:] = np.arange(self._block_length - at)
        return block

    def _shard(self, name: str) -> pa.Table:
        if name not in self._shards:
            uri = storage.join(self._shards_uri, name)
            local = storage.locate(uri)[1] if storage.is_local(uri) else _kept_here(uri, name)
            self._shards[name] = pa.ipc.open_file(pa.memory_map(local)).read_all()
        return self._shards[name]


def _kept_here(uri: str, name: str) -> str:
    """A copy of a remote token file in this machine's temporary folder, for all workers and trials that run here.

    Its name holds the fingerprints of all that decides its content, so one that is there is the right one.
    """
    local = Path(tempfile.gettempdir(), "agentflan-ray", name)
    if not local.exists():
        storage.write_bytes(local, storage.read_bytes(uri))
    return str(local)


def _group_tags(form: str, case: str, mask: int) -> np.ndarray[Any, np.dtype[np.int16]]:
    """Capability tag to group among those of one source, -1 where the component is not learnt; the last entry serves
    the tag -1. In an explicit format what carries no other capability is the format's own."""
    tags = []
    for capability in CAPABILITIES:
        component = COMPONENTS.index(component_of(form, case, capability))
        explicit = "format" if capability == "instruction" else "content"
        piece = PIECES.index("" if form in CHAT_FORMS else explicit)
        tags.append(piece * len(COMPONENTS) + component if mask >> component & 1 else -1)
    return np.array([*tags, -1], dtype=np.int16)


@dataclass(frozen=True)
class OpenBlocks:
    """Opens a plan's blocks where it is called: what travels to a training worker in their stead."""

    plan_uri: str
    shards_uri: str
    block_length: int
    pad_token_id: int

    def __call__(self) -> PlannedBlocks:
        """The blocks."""
        return PlannedBlocks(self.plan_uri, self.shards_uri, self.block_length, self.pad_token_id)
