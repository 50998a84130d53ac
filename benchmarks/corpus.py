"""How quickly corpora are built and tokenised, in what memory, and how full the blocks get: ratios within one run.

    python benchmarks/corpus.py                     # less than ten minutes on two cores
    python benchmarks/corpus.py --full              # half an hour: so many records that start-up is below a tenth
    python benchmarks/corpus.py --million           # more than a million trajectories, once: half an hour

Data: everything below AGENTFLAN_DATA (train/ and chat/) where it is set, with draws from the embedded world; else draws
alone. All of it is written as JSON lines of OpenAI messages first, so that every contestant reads the same files.

Contestants of the build: our build on Ray; the same parsing, cleaning and deriving in one plain Python process, which
keeps everything in memory and compares no signatures; the same functions in ``datasets.map(num_proc=2)``. Of
tokenising: ours (windows, masks, capability tags, packing); a fast tokenizer on rendered text, in two processes.
Starting Ray is not counted, starting its workers is; a build of ten records shows how long that and the passes' own
costs take (``start_up_overhead_seconds``). Tokenising, of the first store, is one pair.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

CORES = 2
PAIRS = 3
NUM_RECORDS = 40_000
NUM_RECORDS_FULL = 150_000
MODEL = "smollm2-135m-instruct"
SOURCES = (
    ("agentinstruct", "train/agentinstruct"),
    ("agenttraj", "train/agenttraj"),
    ("toolbench", "train/toolbench/v0"),
    ("fireact", "train/fireact/multitask_multimethod.jsonl.gz"),
    ("sharegpt", "train/glaive"),
    ("intercode", "train/intercode"),
    ("openai_messages", "train/sgd"),
    ("think_tags", "train/toolrl"),
    ("openai_messages", "chat"),
)


def main() -> None:
    """Run the contests and print a table, and one line of JSON at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, help=f"trajectories of the contests (default {NUM_RECORDS})")
    parser.add_argument("--full", action="store_true", help=f"contests of {NUM_RECORDS_FULL} trajectories")
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--million", action="store_true", help="build and tokenise more than a million trajectories")
    parser.add_argument("--work", type=Path, help="folder for the files (default: a temporary one)")
    parser.add_argument("--contestant", nargs=3, metavar=("NAME", "INPUT", "OUTPUT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contestant:
        name, source, target = arguments.contestant
        if name in ON_RAY:
            _connect()
        print(_seconds(lambda: CONTESTANTS[name](Path(source), Path(target))))  # noqa: T201  # read by the contest
        return
    with tempfile.TemporaryDirectory(prefix="agentflan-bench-") as folder:
        work = arguments.work or Path(folder)
        num_records = arguments.records or (NUM_RECORDS_FULL if arguments.full else NUM_RECORDS)
        results = million(work) if arguments.million else contests(work, num_records, arguments.pairs)
    print(json.dumps(results))  # noqa: T201  # the line that programs read


def contests(work: Path, num_records: int, pairs: int) -> dict[str, float]:
    """All ratios, larger is better unless the name says memory."""
    console = Console()
    raw = write_raw(work / "raw", num_records)
    small = write_raw(work / "small", num_records // 10)
    seconds: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    peaks: dict[str, int] = {}
    for number in range(pairs):
        for name in ("build on Ray", "build in plain Python", "build with datasets"):
            took, peaks[name] = _contest(name, raw, work / f"{name}-{number}")
            seconds[name].append(took)
    _, peak_of_tenth = _contest("build on Ray", small, work / "small-store")
    start_up, _ = _contest("build on Ray", write_raw(work / "ten", 10), work / "ten-store")
    for name in ("tokenise and pack", "tokenise bare"):
        took, peaks[name] = _contest(name, work / "build on Ray-0", work / name)
        seconds[name].append(took)
    _connect()
    efficiency = {length: packing_efficiency(work / "build on Ray-0", length) for length in (2048, 4096)}
    ratios = {
        "vs_plain_python": _ratio(seconds["build in plain Python"], seconds["build on Ray"]),
        "vs_datasets_map": _ratio(seconds["build with datasets"], seconds["build on Ray"]),
        "tokenise_vs_bare": _ratio(seconds["tokenise bare"], seconds["tokenise and pack"]),
        "start_up_overhead_seconds": start_up,
        "memory_ratio_10x": peaks["build on Ray"] / peak_of_tenth,
        "packing_efficiency": efficiency[2048],
        "packing_efficiency_4096": efficiency[4096],
    }
    table = Table(title=f"{num_records:,} trajectories · {_machine()}", title_justify="left")
    for column in ("what", "seconds", "median", "records per second and core", "peak memory, GiB"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for name, each in seconds.items():
        median = statistics.median(each)
        per_core = num_records / median / (1 if "plain" in name else CORES)
        all_seconds = ", ".join(f"{took:.1f}" for took in each)
        table.add_row(name, all_seconds, f"{median:.1f}", f"{per_core:,.0f}", f"{peaks[name] / 2**30:.2f}")
    console.print(table)
    for name, value in ratios.items():
        console.print(f"{name}: {value:.3f}")
    return {name: round(value, 4) for name, value in ratios.items()}


def write_raw(folder: Path, num_records: int) -> Path:
    """JSON lines of OpenAI messages: real trajectories in turn with drawn ones, eight files."""
    from collections import Counter

    from agentflan_ray.corpus.export.records import openai_trajectory

    folder.mkdir(parents=True)
    files = [(folder / f"part-{number}.jsonl").open("w", encoding="utf-8") for number in range(8)]
    notes: Counter[str] = Counter()
    for number, trajectory in enumerate(itertools.islice(_trajectories(), num_records)):
        record = openai_trajectory(trajectory, notes)
        files[number % 8].write(json.dumps({**record, "id": f"{record['id']}-{number}"}, ensure_ascii=False) + "\n")
    for file in files:
        file.close()
    return folder


def _trajectories() -> Iterator[Any]:
    from agentflan_ray.toolbox import draw_trajectory

    drawn = (draw_trajectory(index, 0, "train") for index in itertools.count())
    data = os.environ.get("AGENTFLAN_DATA")
    if data is None:
        yield from drawn
        return
    real = [_real(name, Path(data, place)) for name, place in SOURCES]
    while real:
        # A source after the other gives one, a draw after each round, until the sources are empty.
        for source in list(real):
            trajectory = next(source, None)
            if trajectory is None:
                real.remove(source)
            else:
                yield trajectory
        yield next(drawn)
    yield from drawn


def _real(name: str, place: Path) -> Iterator[Any]:
    from agentflan_ray.sources.files import SourceSpec, plan_slices
    from agentflan_ray.sources.ingest import read_slices

    for _, trajectory in read_slices(plan_slices([SourceSpec(name, str(place))])):
        if trajectory is not None:
            yield trajectory


def build_on_ray(raw: Path, store: Path) -> None:
    """Our build."""
    from agentflan_ray.corpus.build import Order, build
    from agentflan_ray.sources.files import SourceSpec

    build(Order((SourceSpec("openai_messages", str(raw)),)), str(store))


def build_plainly(raw: Path, out: Path) -> None:
    """The same parsing, rules, signatures and derivation in a loop, everything in memory, two files at the end."""
    from agentflan_ray.corpus.clean import CleanRecipe, examine
    from agentflan_ray.corpus.clean.duplicates import signature_columns
    from agentflan_ray.corpus.derive import derive
    from agentflan_ray.corpus.negatives import catalogue_of
    from agentflan_ray.corpus.recipe import CorpusRecipe
    from agentflan_ray.corpus.similarity import Catalogue
    from agentflan_ray.corpus.split import group_of
    from agentflan_ray.sample import SAMPLE_SCHEMA, Sample
    from agentflan_ray.sources import SOURCES as FORMATS
    from agentflan_ray.sources import MalformedRecord, Where
    from agentflan_ray.trajectory import TRAJECTORY_SCHEMA, Trajectory, validate

    source, cleaning, recipe = FORMATS["openai_messages"], CleanRecipe(), CorpusRecipe()
    kept: list[Trajectory] = []
    for path in sorted(raw.iterdir()):
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    outcomes = list(source.parse(json.loads(line), Where(str(path), number)))
                except MalformedRecord:
                    continue
                for outcome in outcomes:
                    if (
                        isinstance(outcome, Trajectory)
                        and not validate(outcome)
                        and not examine(outcome, cleaning, None)
                    ):
                        kept.append(outcome)
    signatures = signature_columns(kept)
    catalogue = Catalogue.of(catalogue_of([trajectory.tools for trajectory in kept]))
    made = [
        {**each.to_row(), "group": group}
        for trajectory, group in zip(kept, map(group_of, kept), strict=True)
        for each in derive(trajectory, recipe, catalogue)
        if isinstance(each, Sample)
    ]
    out.mkdir()
    records = pa.Table.from_pylist([trajectory.to_row() for trajectory in kept], TRAJECTORY_SCHEMA)
    samples = pa.Table.from_pylist(made, SAMPLE_SCHEMA)
    for name, table in (("signatures", signatures), ("records", records), ("samples", samples)):
        pq.write_table(table, out / f"{name}.parquet", compression="zstd", compression_level=1)


def build_with_datasets(raw: Path, out: Path) -> None:
    """The same functions in ``datasets``: a map for records and rules, a map for samples, two processes each."""
    import datasets

    datasets.disable_progress_bars()
    out.mkdir()
    lines = datasets.load_dataset(
        "text", data_files=sorted(map(str, raw.iterdir())), split="train", cache_dir=str(out / "cache")
    )
    records = lines.map(_datasets_records, batched=True, num_proc=CORES, remove_columns=["text"])
    records.to_parquet(str(out / "records.parquet"))
    tools = sorted(set(records.unique("tools")))
    (out / "tools.json").write_text(json.dumps(tools))
    samples = records.map(
        _datasets_samples,
        batched=True,
        num_proc=CORES,
        remove_columns=records.column_names,
        fn_kwargs={"tools": str(out / "tools.json")},
    )
    samples.to_parquet(str(out / "samples.parquet"))


def _datasets_records(batch: dict[str, list[str]]) -> dict[str, list[Any]]:
    from agentflan_ray.corpus.clean import CleanRecipe, examine
    from agentflan_ray.corpus.clean.duplicates import signature_columns
    from agentflan_ray.sources import SOURCES as FORMATS
    from agentflan_ray.sources import MalformedRecord, Where
    from agentflan_ray.trajectory import Trajectory, validate

    kept: list[Trajectory] = []
    cleaning = CleanRecipe()
    for number, line in enumerate(batch["text"], start=1):
        try:
            outcomes = list(FORMATS["openai_messages"].parse(json.loads(line), Where("batch", number)))
        except MalformedRecord:
            continue
        for outcome in outcomes:
            if isinstance(outcome, Trajectory) and not validate(outcome) and not examine(outcome, cleaning, None):
                kept.append(outcome)
    rows = [trajectory.to_row() for trajectory in kept]
    columns: dict[str, list[Any]] = {name: [row[name] for row in rows] for name in rows[0]}
    return {**columns, **signature_columns(kept).to_pydict()}


_catalogues: dict[str, Any] = {}


def _datasets_samples(batch: dict[str, list[str]], tools: str) -> dict[str, list[str]]:
    from agentflan_ray.corpus.derive import derive
    from agentflan_ray.corpus.recipe import CorpusRecipe
    from agentflan_ray.corpus.similarity import Catalogue
    from agentflan_ray.corpus.split import group_of
    from agentflan_ray.corpus.steps import merge_tools
    from agentflan_ray.sample import SAMPLE_SCHEMA, Sample
    from agentflan_ray.trajectory import TRAJECTORY_SCHEMA, Trajectory

    if tools not in _catalogues:
        _catalogues[tools] = Catalogue.of(merge_tools(json.loads(Path(tools).read_text())))
    rows = []
    for values in zip(*(batch[name] for name in TRAJECTORY_SCHEMA.names), strict=True):
        trajectory = Trajectory.from_row(dict(zip(TRAJECTORY_SCHEMA.names, values, strict=True)))
        group = group_of(trajectory)
        made = derive(trajectory, CorpusRecipe(), _catalogues[tools])
        rows += [{**each.to_row(), "group": group} for each in made if isinstance(each, Sample)]
    return {name: [row[name] for row in rows] for name in SAMPLE_SCHEMA.names}


def _corpus(store: Path) -> Any:
    from agentflan_ray.corpus.store import open_corpus

    return open_corpus(str(next(store.glob("corpus@*"))))


def _tokenizer_path() -> str:
    from agentflan_ray.train.models import resolve

    return resolve(MODEL)


def tokenise_and_pack(store: Path, _out: Path) -> None:
    """Ours, with windows of 2,048 tokens, masks and tags; all of it packed."""
    packing_efficiency(store, 2048)


def tokenise_bare(store: Path, out: Path) -> None:
    """A fast tokenizer on the rendered conversations, a thousand at a time, in two processes; ids are written."""
    out.mkdir()
    with multiprocessing.get_context("spawn").Pool(CORES) as pool:
        tasks = [(part, _tokenizer_path(), str(out)) for part in _corpus(store).sample_parts]
        pool.map(_tokenise_part, tasks, chunksize=1)


def _tokenise_part(task: tuple[str, str, str]) -> int:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    from transformers import AutoTokenizer

    part, path, out = task
    tokenizer = AutoTokenizer.from_pretrained(path)
    ids: list[list[int]] = []
    turns = [text for text in pq.read_table(part, columns=["turns"])["turns"].to_pylist() if text is not None]
    for start in range(0, len(turns), 1000):
        rendered = [
            tokenizer.apply_chat_template(
                [{"role": role, "content": "".join(p[0] for p in parts)} for role, parts in json.loads(text)],
                tokenize=False,
            )
            for text in turns[start : start + 1000]
        ]
        ids += tokenizer(rendered, add_special_tokens=False)["input_ids"]
    name = part.rpartition("@")[2].replace("/", "-")
    pq.write_table(pa.table({"input_ids": pa.array(ids, pa.list_(pa.int32()))}), f"{out}/{name}")
    return sum(map(len, ids))


def packing_efficiency(store: Path, length: int) -> float:
    """Tokens over room, of all training text of the corpus in windows of this length."""
    from agentflan_ray.tokens.pack import pack
    from agentflan_ray.tokens.tokenise import tokenise

    index = tokenise(_corpus(store), _tokenizer_path(), length).index_table(validation=False)
    lengths = index["num_tokens"].to_numpy().astype(np.int64)
    return float(lengths.sum() / ((int(pack(lengths, length, seed=0).max()) + 1) * length))


def million(work: Path) -> dict[str, float]:
    """More than a million trajectories through the build and the tokenizer, once.

    With --work an interrupted call is gone on with; its seconds are then those of the rest.
    """
    from agentflan_ray.corpus.build import Order, build
    from agentflan_ray.corpus.clean.recipe import CleanRecipe
    from agentflan_ray.corpus.recipe import agent_flan
    from agentflan_ray.sources.files import SourceSpec
    from agentflan_ray.tokens.tokenise import tokenise

    console = Console()
    started = time.perf_counter()
    work.mkdir(parents=True, exist_ok=True)
    raw = write_replicated(work / "million", 1_000_000)
    written = time.perf_counter()
    _connect()
    with _Watch() as watch:
        begin = time.perf_counter()
        order = Order((SourceSpec("openai_messages", str(raw)),), agent_flan(), CleanRecipe())
        corpus = build(order, str(work / "store"), console)
        built = time.perf_counter()
        tokens = tokenise(corpus, _tokenizer_path(), 2048, console=console)
        done = time.perf_counter()
    num_tokens = sum(pc.sum(tokens.index_table(validation)["num_tokens"]).as_py() for validation in (False, True))
    records = corpus.manifest["records"]
    console.print(f"{records}")
    return {
        "records": records["records"],
        "kept": records["kept"],
        "raw_seconds": round(written - started, 1),
        "build_seconds": round(built - begin, 1),
        "tokenise_seconds": round(done - built, 1),
        "records_per_second_and_core": round(records["records"] / (built - begin) / CORES, 1),
        "tokens_per_second_and_core": round(num_tokens / (done - built) / CORES, 1),
        "tokens": num_tokens,
        "peak_memory_gib": round(watch.peak / 2**30, 2),
    }


def write_replicated(folder: Path, num_records: int) -> Path:
    """Real and drawn trajectories again and again; from the second time on with an id of its own and, so that none is
    an exact repeat, a case number behind the first user turn. What an earlier call wrote is taken."""
    if folder.exists():
        return folder
    base = write_raw(Path(tempfile.mkdtemp(dir=folder.parent)) / "base", 60_000)
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    lines = [line for path in sorted(base.iterdir()) for line in path.read_text(encoding="utf-8").splitlines()]
    number = 0
    for part in range(64):
        with (partial / f"part-{part:02}.jsonl").open("w", encoding="utf-8") as file:
            for _ in range(num_records // 64 + 1):
                record = json.loads(lines[number % len(lines)])
                if number >= len(lines):
                    record["id"] = f"{record['id']}-{number}"
                    first = next(message for message in record["messages"] if message["role"] == "user")
                    first["content"] = f"{first['content']} (case {number})"
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
                number += 1
    return partial.rename(folder)


class _Watch:
    """The peak of the private and shared memory of this process and all its descendants, looked at every second."""

    def __init__(self, root: int | None = None) -> None:
        self.peak = 0
        self._root = root or os.getpid()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(0.5):
            self.peak = max(self.peak, sum(map(_proportional_memory, _descendants(self._root))))


def _descendants(root: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(int(path.parent.name))
    found, ahead = [], [root]
    while ahead:
        found.append(ahead.pop())
        ahead += parents.get(found[-1], [])
    return found


def _proportional_memory(process: int) -> int:
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:")), 0)


CONTESTANTS: dict[str, Callable[[Path, Path], None]] = {
    "build on Ray": build_on_ray,
    "build in plain Python": build_plainly,
    "build with datasets": build_with_datasets,
    "tokenise and pack": tokenise_and_pack,
    "tokenise bare": tokenise_bare,
}
ON_RAY = ("build on Ray", "tokenise and pack")


def _contest(name: str, source: Path, target: Path) -> tuple[float, int]:
    """Seconds of one contestant in a process of its own, and the peak memory of it and its children in bytes."""
    process = subprocess.Popen(
        [sys.executable, __file__, "--contestant", name, str(source), str(target)], stdout=subprocess.PIPE, text=True
    )
    with _Watch(process.pid) as watch:
        said, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{name} of {source} ended with status {process.returncode}.")
    return float(said.strip().splitlines()[-1]), watch.peak


def _connect() -> None:
    import logging

    import ray

    ray.init("local", num_cpus=CORES, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)


def _seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _ratio(theirs: list[float], ours: list[float]) -> float:
    """Median over the pairs of how many times longer they took."""
    return statistics.median(their / our for their, our in zip(theirs, ours, strict=True))


def _machine() -> str:
    import importlib.metadata

    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("ray", "datasets", "transformers"))
    return f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}, {versions}"


if __name__ == "__main__":
    main()
