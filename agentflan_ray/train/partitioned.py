"""Models under ZeRO-3, made and filled piece by piece, so that no process ever holds a whole one.

transformers 5.23 makes a model in partitions, but then rank 0 maps the whole checkpoint before the first weight is
copied. Here rank 0 reads one weight at a time, and every rank keeps its part of it.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import platform
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed
from safetensors import SafetensorError, safe_open

from agentflan_ray.train import models
from agentflan_ray.train.recipe import Precision

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h

_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"


def load_partitioned(name: str, precision: Precision, config: Mapping[str, Any]) -> PreTrainedModel:
    """As :func:`models.load_model`, under ZeRO-3 with this DeepSpeed configuration. All ranks call it.

    The memory of each rank grows by its partition and the largest parameter, that of rank 0 also by the pages of one
    weight file, which the system may take back. Checkpoints that transformers converts while it loads them
    (:func:`is_converted`) are left to it: there rank 0 maps all files.

    Raises ``ValueError`` where the files are damaged, lack a weight or hold it in another shape, and ``OSError`` where
    there are none: on all ranks, before the first weight is read.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig
    from transformers.integrations import HfDeepSpeedConfig

    place = models.resolve(name)
    model_config = AutoConfig.from_pretrained(place, trust_remote_code=False)
    with torch.device("meta"):
        outline = AutoModelForCausalLM.from_config(model_config, trust_remote_code=False)
    with returning_memory():
        partitioned = HfDeepSpeedConfig(dict(config))  # transformers partitions while this object lives
        if is_converted(outline):
            return models.load_model(name, precision)
        model = models.random_model(model_config, precision)
        del partitioned
        if not name.startswith(models.RANDOM):
            _fill(model, place)
            if _file(place, "generation_config.json"):
                model.generation_config = GenerationConfig.from_pretrained(place)
        return model


def is_converted(model: PreTrainedModel) -> bool:
    """Whether transformers does more than copy a checkpoint's weights into this model: it renames or joins them
    (mixtures of experts), or there are buffers among them.
    """
    from transformers.conversion_mapping import get_model_conversion_mapping

    buffers = model.state_dict().keys() & {name for name, _ in model.named_buffers()}
    return bool(buffers or get_model_conversion_mapping(model, add_legacy=False))


@contextlib.contextmanager
def returning_memory() -> Iterator[None]:
    """Make glibc give every large piece of memory back to the system as soon as it is free.

    By itself it keeps freed pieces of up to 32 MiB for later, in a heap where the partitions that stay lie between the
    whole weights that go: a model of 454 MiB over two processes then took 655 MiB of each, not 227 + 62.
    """
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_THRESHOLD, 128 * 1024)  # glibc's value at the start of a process, no longer adapted
    try:
        yield
    finally:
        # What glibc adapts itself to, so that tensors of training are again taken from what is kept.
        libc.mallopt(_M_MMAP_THRESHOLD, 32 * 2**20)
        libc.mallopt(_M_TRIM_THRESHOLD, 64 * 2**20)


def _fill(model: PreTrainedModel, place: str) -> None:
    """Copy the weights of a checkpoint into a partitioned model, one after the other."""
    import deepspeed

    names = defaultdict(list)  # a tied parameter has several, and a checkpoint holds one of them
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names[parameter].append(name)
    reads = torch.distributed.get_rank() == 0
    problem: list[Exception | None] = [None]
    if reads:
        try:
            checkpoint = _Checkpoint(place)
            stored = {parameter: checkpoint.find(aliases, parameter.ds_shape) for parameter, aliases in names.items()}
        except SafetensorError as error:
            problem = [ValueError(f"The weights of {place} are damaged ({error}); get the model again.")]
        except (OSError, ValueError) as error:
            problem = [error]
    torch.distributed.broadcast_object_list(problem)  # so that no rank waits for one that has stopped
    if problem[0] is not None:
        raise problem[0]
    for parameter in names:
        with deepspeed.zero.GatheredParameters([parameter], modifier_rank=0):
            if reads:
                parameter.data.copy_(checkpoint.read(stored[parameter]))


class _Checkpoint:
    """The weights of a checkpoint, read one at a time, with one file open at a time."""

    def __init__(self, place: str) -> None:
        self._place = place
        index, single = _file(place, _INDEX), _file(place, _SINGLE)
        if index is not None:
            with open(index, encoding="utf-8") as file:
                self._file_of: dict[str, str] = json.load(file)["weight_map"]
        elif single is not None:
            with safe_open(single, framework="pt") as weights:
                self._file_of = dict.fromkeys(weights.keys(), _SINGLE)
        else:
            raise OSError(f"{place} holds neither {_SINGLE} nor {_INDEX}; only safetensors weights are read.")
        self._opened: tuple[str, Any] = ("", None)

    def find(self, names: Sequence[str], shape: torch.Size) -> str:
        """The one of these names that is there, in this shape; ``ValueError`` where there is none."""
        name = next((name for name in names if name in self._file_of), None)
        if name is None:
            raise ValueError(f"The checkpoint {self._place} lacks the weight {names[0]}; give a complete one.")
        found = self._open(name).get_slice(name).get_shape()
        if list(shape) != found:
            raise ValueError(
                f"The weight {name} of the checkpoint {self._place} has the shape {found}, but its config.json asks "
                f"for {list(shape)}; give the configuration that it was trained with."
            )
        return name

    def read(self, name: str) -> torch.Tensor:
        tensor: torch.Tensor = self._open(name).get_tensor(name)
        return tensor

    def _open(self, name: str) -> Any:
        file = self._file_of[name]
        if self._opened[0] != file:
            path = _file(self._place, file)
            if path is None:
                raise OSError(f"{self._place} lacks {file}, which its {_INDEX} names.")
            self._opened = (file, safe_open(path, framework="pt"))
        return self._opened[1]


def _file(place: str, name: str) -> str | None:
    """The path of a file of a model's directory, or of a hub id's, downloaded where needed; ``None`` if not there."""
    if os.path.isdir(place):
        path = os.path.join(place, name)
        return path if os.path.isfile(path) else None
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        downloaded: str = hf_hub_download(place, name)
    except EntryNotFoundError:
        return None
    return downloaded
