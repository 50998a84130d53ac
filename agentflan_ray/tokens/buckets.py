"""Which parts of a corpus a trial has learnt from, and whether they are still what they were.

A *bucket* is what one source gives to one component of the mixture in one form and case; its name is
``component/form/case/source``. A row of the index is in a bucket for each component that it has supervised tokens of.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from agentflan_ray import storage
from agentflan_ray.mixture import Plan
from agentflan_ray.sample import CAPABILITIES, COMPONENTS
from agentflan_ray.tokens.tokenise import TokenStore, to_index

_FILE = "buckets.json"

_IDENTITY = ("code", "tokenizer", "max_tokens")
"""Of the store's manifest: what else decides the tokens of a sample."""


def fingerprints(tokens: TokenStore) -> dict[str, str]:
    """A fingerprint of each bucket of the training rows, by its name; made once for each token store.

    It covers the ids of the rows, their order, and their numbers of tokens and of supervised tokens by capability,
    beside tokenizer, template and window length: no text is read. A text that changes so that all of these stay the
    same goes unnoticed.
    """
    uri = storage.join(tokens.uri, _FILE)
    if storage.exists(uri):
        return dict(storage.read_json(uri))
    table = tokens.index_table(validation=False)
    identity = storage.fingerprint([tokens.manifest[name] for name in _IDENTITY])
    numbers = np.stack(
        [table[name].to_numpy().astype(np.int64) for name in ("key", "num_tokens", *CAPABILITIES)], axis=1
    )
    ids = table["id"].to_pandas().to_numpy(dtype=object)
    found = {}
    for name, rows in _rows_of(table).items():
        digest = hashlib.sha256(identity.encode())
        digest.update(np.ascontiguousarray(numbers[rows]).tobytes())
        digest.update("\0".join(ids[rows]).encode())
        found[name] = digest.hexdigest()[:12]
    storage.write_json(uri, found)
    return found


def learnt_from(table: pa.Table, plan: Plan) -> dict[str, int]:
    """Supervised tokens that a plan learns of each bucket, repeats counted; ``table`` is what it was made from."""
    masks = (plan.masks[:, None] >> np.arange(len(COMPONENTS))) & 1
    learnt = np.zeros((len(table), len(COMPONENTS)), dtype=np.int64)
    np.add.at(learnt, plan.rows, masks)
    learnt *= to_index(table).supervised
    counts = {}
    for name, rows in _rows_of(table).items():
        if count := int(learnt[rows, COMPONENTS.index(name.split("/")[0])].sum()):
            counts[name] = count
    return counts


def _rows_of(table: pa.Table) -> dict[str, npt.NDArray[np.int64]]:
    """The rows of each bucket, in the index's order."""
    supervised = to_index(table).supervised
    groups = table.select(["form", "case", "source"]).to_pandas().groupby(["form", "case", "source"], observed=True)
    found = {}
    for key, rows in sorted(groups.indices.items()):
        rows = np.sort(rows)
        for number, component in enumerate(COMPONENTS):
            if len(held := rows[supervised[rows, number] > 0]):
                found["/".join((component, *key))] = held
    return found
