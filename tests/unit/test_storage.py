"""Places: local and in a bucket, written whole, copied, and named by what they hold."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyarrow import fs

from agentflan_ray import storage

PORT = 5599


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A bucket of an S3 server on this machine, as a URI."""
    pytest.importorskip("moto.server", reason="moto, the S3 server of this test, is not installed")
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(PORT)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(100):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{PORT}/moto-api/", timeout=1).close()
                break
            except OSError:
                time.sleep(0.2)
        options = f"endpoint_override=127.0.0.1:{PORT}&scheme=http&region=us-east-1&allow_bucket_creation=true"
        uri = f"s3://key:secret@runs/below?{options}"
        filesystem, _ = storage.locate(uri)
        filesystem.create_dir("runs")
        yield uri
    finally:
        server.terminate()
        server.wait()


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path) if request.param == "local" else str(request.getfixturevalue("bucket"))


def test_files_are_written_read_listed_and_removed(place: str) -> None:
    folder = storage.join(place, "a", "b")
    assert not storage.exists(storage.join(folder, "x.json"))
    assert storage.list_names(folder) == []
    storage.write_json(storage.join(folder, "x.json"), {"ä": [1, 2.5, None]})
    storage.write_json(storage.join(folder, "x.json"), {"ä": 2})
    storage.write_bytes(storage.join(folder, "y.bin"), b"\x00\x01")
    assert storage.read_json(storage.join(folder, "x.json")) == {"ä": 2}
    assert storage.read_bytes(storage.join(folder, "y.bin")) == b"\x00\x01"
    assert storage.list_names(folder) == ["x.json", "y.bin"]
    storage.remove_folder(storage.join(place, "a"))
    assert not storage.exists(storage.join(folder, "x.json"))


def test_folders_are_copied_between_places(place: str, tmp_path: Path) -> None:
    storage.write_bytes(tmp_path / "from" / "deep" / "z.txt", b"z")
    storage.copy_folder(tmp_path / "from", storage.join(place, "copied"))
    with storage.as_local_folder(storage.join(place, "copied")) as folder:
        assert Path(folder, "deep", "z.txt").read_bytes() == b"z"
        assert Path(folder).exists()
    assert Path(folder).exists() == storage.is_local(place)


def test_options_of_a_uri_stay_at_its_end() -> None:
    assert storage.join("s3://b/p/?region=x", "/a/", "c.json") == "s3://b/p/a/c.json?region=x"
    assert storage.join("/tmp/a?b", "c") == "/tmp/a?b/c"


def test_a_path_is_local_and_absolute() -> None:
    filesystem, path = storage.locate("folder/file")
    assert isinstance(filesystem, fs.LocalFileSystem)
    assert path == os.path.abspath("folder/file")
    assert storage.absolute("folder") == os.path.abspath("folder")
    assert storage.absolute("s3://b/p") == "s3://b/p"


def test_an_unknown_scheme_is_refused_in_one_sentence() -> None:
    with pytest.raises(ValueError, match=r"Can't open 'ftp://host/file': .* Give a local path, s3://"):
        storage.locate("ftp://host/file")


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "x.json"
    storage.write_json(target, {"old": True})

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        storage.write_json(target, {"new": True})
    assert storage.read_json(target) == {"old": True}


def test_fingerprints_are_of_literals_and_of_code() -> None:
    assert storage.fingerprint({"a": 1, "b": (2,)}) == storage.fingerprint({"b": [2], "a": 1})
    assert storage.fingerprint({"a": 1}) != storage.fingerprint({"a": 2})
    assert storage.code_fingerprint("forms.py") != storage.code_fingerprint("forms.py", "sample.py")
