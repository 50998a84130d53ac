"""Build a corpus on Ray Data: sources -> records -> clean -> samples, a file at every arrow.

Every pass runs over parts in parallel (:mod:`agentflan_ray.corpus.parts`), and every folder is named by what decides
its content. So a build that was cut off goes on where it was, a build with a new source reads only that one, and one
with nothing new reads only names and digests. Between passes the driver holds counts, never records.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray
from rich.console import Console

from agentflan_ray import storage
from agentflan_ray.corpus import steps
from agentflan_ray.corpus.card import card
from agentflan_ray.corpus.clean import CONTAMINATED
from agentflan_ray.corpus.clean.contamination import EvaluationGrams
from agentflan_ray.corpus.clean.duplicates import find_duplicates
from agentflan_ray.corpus.clean.evaluation_sets import EvaluationSet, evaluation_files
from agentflan_ray.corpus.clean.recipe import CleanRecipe
from agentflan_ray.corpus.parts import Job, Report, run_jobs
from agentflan_ray.corpus.recipe import CorpusRecipe
from agentflan_ray.corpus.store import REMOVED_SCHEMA, Corpus, count_by, open_corpus, read_table, write_table
from agentflan_ray.corpus.teacher.recipe import TeacherRecipe
from agentflan_ray.corpus.teacher.replies import Teacher
from agentflan_ray.corpus.teacher.rewrite import rewrite
from agentflan_ray.sample import SAMPLE_SCHEMA
from agentflan_ray.sources import SOURCES
from agentflan_ray.sources.files import SourceSpec, plan_slices
from agentflan_ray.sources.ingest import plan_groups

WRITE_CODE = ("corpus/steps.py", "corpus/store.py")
"""The code that cuts every pass's output into files and writes them."""

READ_CODE = ("sources/ingest.py", "sources/files.py", "sources/base.py", "trajectory.py", *WRITE_CODE)
"""The code that all sources share; each one's own module and what it imports come to it."""


DRAW_BYTES = 14_000
"""Drawing a conversation takes as long (2 ms) as reading and cleaning this much JSON."""


@dataclass(frozen=True)
class ToolboxDraw:
    """How many training conversations to draw from the embedded world, by case."""

    tool: int
    chat: int
    missing_argument: int
    seed: int = 0

    @classmethod
    def of_size(cls, num: int, seed: int = 0) -> ToolboxDraw:
        """A draw of ``num`` conversations: half use tools, three eighths are chat, one eighth lacks an argument."""
        missing = num // 8
        chat = 3 * num // 8
        return cls(tool=num - chat - missing, chat=chat, missing_argument=missing, seed=seed)


@dataclass(frozen=True)
class Order:
    """What to build: the sources, what is made of them, what is removed, and what they may not share words with."""

    sources: tuple[SourceSpec | ToolboxDraw, ...]
    recipe: CorpusRecipe = field(default_factory=CorpusRecipe)
    cleaning: CleanRecipe = field(default_factory=CleanRecipe)
    against: tuple[EvaluationSet, ...] = ()
    teacher: TeacherRecipe | None = None
    """Who words the replies of negatives in the place of patterns; None: nobody."""

    def __post_init__(self) -> None:
        if not self.sources:
            raise ValueError("No source is given; name at least one, such as --source toolbox=2000.")
        for source in self.sources:
            if isinstance(source, SourceSpec) and source.source not in SOURCES:
                raise ValueError(
                    f"There is no source {source.source!r}; known sources are {', '.join(sorted(SOURCES))}."
                )


class Build:
    """One order in one store, its folders' names worked out: nothing is read but the digests of raw files.

    ``teacher`` answers for ``order.teacher``: where it runs is no part of a corpus's identity.
    """

    def __init__(self, order: Order, out: str, teacher: Teacher | None = None) -> None:
        assert (order.teacher is None) == (teacher is None), "A teacher's recipe and a teacher come together."
        self.order = order
        self.teacher = teacher
        self.store = storage.absolute(out)
        # Every file of a source is read for its digest, so once.
        sources = [_identity(source) for source in order.sources]
        self.records = [self._place("records", source) for source in sources]
        self.cleaning = {
            "recipe": asdict(order.cleaning),
            "against": [_evaluation_identity(each) for each in order.against],
            "code": _code("corpus/clean/__init__.py", "corpus/clean/duplicates.py"),
            "versions": {name: importlib.metadata.version(name) for name in ("rensa", "py3langid")},
        }
        self.deriving = {
            "recipe": asdict(order.recipe),
            "code": _code("corpus/derive.py", "corpus/split.py"),
        }
        self.identity: dict[str, Any] = {
            "sources": sources,
            "cleaning": self.cleaning,
            "deriving": self.deriving,
            "code": storage.code_fingerprint("corpus/build.py"),
        }
        if order.teacher is not None:
            self.identity["teacher_recipe"] = {**asdict(order.teacher), "code": _code("corpus/teacher/rewrite.py")}
        self.fingerprint = storage.fingerprint(self.identity)
        self.uri = storage.join(self.store, f"corpus@{self.fingerprint}")
        self.grams: EvaluationGrams | None = None

    def find(self) -> Corpus | None:
        """The corpus, where it is complete already."""
        return open_corpus(self.uri) if storage.exists(storage.join(self.uri, "manifest.json")) else None

    def run(self, console: Console) -> Corpus:
        """Make what is missing, and open the corpus.

        Raises ``ValueError`` where a path is missing, where no record is left, or where more than
        ``recipe.max_quarantined`` of the records are bad; then ``set_aside/`` says which.
        """
        if (found := self.find()) is not None:
            return found
        if self.order.against:
            # Read first: what is wrong with a set is said at once.
            self.grams = EvaluationGrams.of(self.order.against, self.order.cleaning.ngram)
        grams = None if self.grams is None else ray.put(self.grams)
        read = self._read(grams, console)
        counts = _count(read)
        self._stop_if_too_many_are_bad(counts)
        kept = _files_of(read, "kept")
        if not kept:
            raise ValueError(f"No record is left to build from: {_listed(_all_reasons(counts))}.")
        self._clean(kept, grams, console)
        removed = self._removed(kept)
        counts = _without(counts, removed)
        if not counts["kept"]:
            raise ValueError(f"No record is left to build from: {_listed(_all_reasons(counts))}.")
        samples, reports = self._derive(kept, removed, console)
        taught = None
        if self.order.teacher is not None and self.teacher is not None:
            samples, taught = self._teach(samples, self.order.teacher, self.teacher, console)
        manifest = {
            "fingerprint": self.fingerprint,
            **self.identity,
            "records": counts,
            "samples": _sum(reports, "samples", ("form", "case")),
            "omitted": _sum(reports, "omitted", ("case", "omitted")),
            "overlaps": self._overlaps(counts),
            **({} if taught is None else {"teacher": taught}),
            "parts": {
                "kept": kept,
                "set_aside": _files_of(read, "set_aside"),
                "samples": samples,
            },
        }
        storage.write_bytes(storage.join(self.uri, "README.md"), card(manifest).encode())
        storage.write_json(storage.join(self.uri, "manifest.json"), manifest)
        return open_corpus(self.uri)

    def _place(self, kind: str, identity: Any) -> str:
        return f"{kind}@{storage.fingerprint(identity)}"

    def _read(self, grams: ray.ObjectRef | None, console: Console) -> list[tuple[str, list[Report]]]:
        """Folder by folder the reports of its parts."""
        jobs: list[Job] = []
        # The same source named twice is read once.
        for folder, source in dict(zip(self.records, self.order.sources, strict=True)).items():
            cleaned = self._beside(folder, "clean", self.cleaning)
            clean = {"records": folder, "folder": cleaned, "recipe": self.cleaning["recipe"]}
            for number, (task, weight) in enumerate(_tasks(source)):
                name = f"part-{number:05}"
                jobs.append(Job(storage.join(self.store, folder), name, {**task, "clean": clean}, weight))
        reports = run_jobs("Reading and cleaning", jobs, partial(steps.read, evaluation=grams), console)
        by_folder: dict[str, list[Report]] = {folder: [] for folder in self.records}
        for job, report in zip(jobs, reports, strict=True):
            by_folder[job.folder.rpartition("/")[2]].append(report)
        return list(by_folder.items())

    def _clean(self, kept: Sequence[str], grams: ray.ObjectRef | None, console: Console) -> None:
        """Clean what an earlier build read, which cleaned it by other rules."""
        jobs = []
        for part, (uri, name) in self._cleaned(kept).items():
            task = {
                "part": part,
                "part_uri": storage.join(self.store, part),
                "recipe": self.cleaning["recipe"],
            }
            jobs.append(Job(uri, name, task))
        run_jobs("Cleaning", jobs, partial(steps.clean, evaluation=grams), console)

    def _removed(self, kept: Sequence[str]) -> pa.Table:
        """What cleaning removes, sorted by part and position; made once and then read."""
        uri = storage.join(self.uri, "removed.parquet")
        if not storage.exists(uri):
            places = [storage.join(uri, name) for uri, name in self._cleaned(kept).values()]
            by_rule = read_table([f"{place}.removed.parquet" for place in places])
            repeats = find_duplicates(
                [f"{place}.signatures.parquet" for place in places], self.order.cleaning.near_duplicates
            )
            tools = steps.merge_tools(storage.read_bytes(f"{place}.tools.json") for place in places)
            storage.write_json(storage.join(self.uri, "catalogue.json"), [asdict(tool) for tool in tools])
            removed = pa.concat_tables([by_rule, repeats.select(REMOVED_SCHEMA.names)])
            write_table(uri, removed.sort_by([("part", "ascending"), ("where", "ascending")]))
        return read_table([uri])

    def _derive(self, kept: Sequence[str], removed: pa.Table, console: Console) -> tuple[list[str], list[Report]]:
        """The parts of samples, below the store, and their reports."""
        catalogue = storage.join(self.uri, "catalogue.json")
        deriving = {**self.deriving, "catalogue": hashlib.sha256(storage.read_bytes(catalogue)).hexdigest()}
        wheres: dict[str, list[str]] = {part: [] for part in kept}
        for part, where in zip(removed["part"].to_pylist(), removed["where"].to_pylist(), strict=True):
            wheres[part].append(where)
        by_folder: dict[str, dict[str, list[int]]] = {}
        for part in kept:
            by_folder.setdefault(part.split("/")[0], {})[part] = self._rows_at(part, frozenset(wheres[part]))
        jobs = []
        for folder, rows in by_folder.items():
            # Rows by their numbers: where the raw files lie is no part of what is made of them.
            uri = self._beside(folder, "samples", {**deriving, "removed": list(rows.values())})
            for part, removed_rows in rows.items():
                task = {
                    "part_uri": storage.join(self.store, part),
                    "recipe": self.deriving["recipe"],
                    "catalogue": catalogue,
                    "removed": removed_rows,
                }
                jobs.append(Job(uri, _name_of(part), task))
        reports = run_jobs("Deriving samples", jobs, steps.make_samples, console)
        return [f"{job.folder.rpartition('/')[2]}/{job.name}.parquet" for job in jobs], reports

    def _rows_at(self, part: str, wheres: frozenset[str]) -> list[int]:
        """Numbers of the rows of a kept file that were read at these positions."""
        if not wheres:
            return []
        read_at = read_table([storage.join(self.store, part)], ["where"])["where"].to_pylist()
        return [number for number, where in enumerate(read_at) if where in wheres]

    def _teach(
        self, parts: Sequence[str], recipe: TeacherRecipe, teacher: Teacher, console: Console
    ) -> tuple[list[str], dict[str, Any]]:
        """The parts with the teacher's words in them, and the totals of its report.

        The driver holds the samples that a teacher may reword: what can be paid for fits its memory.
        """
        uris = [storage.join(self.store, part) for part in parts]
        taught = pc.field("case").isin(list(recipe.cases)) & pc.field("omitted").is_null()
        table, report = rewrite(
            read_table(uris, SAMPLE_SCHEMA.names, taught), recipe, teacher, storage.join(self.store, "teacher"), console
        )
        write_table(storage.join(self.uri, "teacher.parquet"), report.rows)
        turns = dict(zip(table["id"].to_pylist(), table["turns"].to_pylist(), strict=True))
        by_teacher = set(report.rows.filter(pc.field("written_by") == "teacher")["id"].to_pylist())
        made = []
        for part, uri in zip(parts, uris, strict=True):
            rows = read_table([uri])
            ids = rows["id"].to_pylist()
            if by_teacher.isdisjoint(ids):
                made.append(part)
                continue
            new = [turns[i] if i in by_teacher else t for i, t in zip(ids, rows["turns"].to_pylist(), strict=True)]
            folder, _, file = part.partition("/")
            reworded = [[i, turns[i]] for i in ids if i in by_teacher]
            place = self._place("samples", {"samples": folder, "file": file, "reworded": reworded})
            column = rows.schema.get_field_index("turns")
            write_table(
                storage.join(self.store, place, file), rows.set_column(column, "turns", pa.array(new, pa.string()))
            )
            made.append(f"{place}/{file}")
        totals = report.totals()
        console.print(f"Teacher: {totals['asked']:,} replies asked for now, {totals['cached']:,} were there already.")
        # What was asked for this time is no part of a corpus, which is the same when it is made again.
        return made, {name: value for name, value in totals.items() if name not in ("asked", "cached", "cost_now")}

    def _overlaps(self, counts: dict[str, Any]) -> list[dict[str, Any]]:
        """What was looked for of each evaluation set, and how many records were removed for its sake."""
        if self.grams is None:
            return []
        removed = counts["reasons"]["dropped"]
        return [
            {**asdict(report), "records": removed.get(f"{CONTAMINATED}{report.name}", 0)}
            for report in self.grams.reports
        ]

    def _cleaned(self, kept: Sequence[str]) -> dict[str, tuple[str, str]]:
        """Folder and name of what cleaning makes of each kept file."""
        uris = {
            folder: self._beside(folder, "clean", self.cleaning) for folder in {each.split("/")[0] for each in kept}
        }
        return {part: (uris[part.split("/")[0]], _name_of(part)) for part in kept}

    def _beside(self, folder: str, kind: str, identity: Any) -> str:
        """The folder of what is made of the kept files of a folder of records."""
        return storage.join(self.store, self._place(kind, {"records": folder, **identity}))

    def _stop_if_too_many_are_bad(self, counts: dict[str, Any]) -> None:
        total = counts["kept"] + counts["dropped"] + counts["quarantined"]
        bad = counts["quarantined"]
        if total and bad / total > self.order.recipe.max_quarantined:
            places = " and ".join(
                storage.join(self.store, folder, "set_aside") for folder in dict.fromkeys(self.records)
            )
            reasons = counts["reasons"]["quarantined"]
            example = counts["examples"][next(iter(reasons))][0]
            raise ValueError(
                f"{bad} of {total} records are bad ({bad / total:.1%}; {self.order.recipe.max_quarantined:.0%} are "
                f"allowed): {_listed(reasons)}. For instance: {example} Look at {places}, mend the data, or allow "
                "more with --max-quarantined."
            )


def build(order: Order, out: str, console: Console | None = None) -> Corpus:
    """Build a corpus in the store ``out`` and return it; one that is complete there is returned as it is."""
    return Build(order, out).run(console or Console(quiet=True))


def _name_of(part: str) -> str:
    return part.rpartition("/")[2].removesuffix(".parquet")


def _files_of(read: Sequence[tuple[str, Sequence[Report]]], kind: str) -> list[str]:
    return [
        f"{folder}/{kind}/{file}.parquet" for folder, reports in read for report in reports for file in report[kind]
    ]


def _tasks(source: SourceSpec | ToolboxDraw) -> Iterator[tuple[dict[str, Any], int]]:
    """What :func:`steps.read` has to do for each part of a source, and the bytes that it has to read for it."""
    if isinstance(source, SourceSpec):
        for group in plan_groups([source]):
            yield {"slices": [asdict(piece) for piece in group]}, sum(piece.num_bytes for piece in group)
        return
    for case in steps.DRAWS:
        total = getattr(source, case)
        for start in range(0, total, steps.DRAWS_PER_PART):
            stop = min(start + steps.DRAWS_PER_PART, total)
            yield {"case": case, "start": start, "stop": stop, "seed": source.seed}, (stop - start) * DRAW_BYTES


def _count(read: Sequence[tuple[str, Sequence[Report]]]) -> dict[str, Any]:
    """Rows by status, reason and source."""
    by_source: Counter[tuple[str, str, str]] = Counter()
    examples: dict[str, list[str]] = {}
    for _, reports in read:
        for report in reports:
            for status, reason, origin, number in report["counts"]:
                by_source[origin, status, reason] += number
            for reason, sentences in report["examples"].items():
                examples[reason] = [*examples.get(reason, []), *sentences][: steps.EXAMPLES]
    return _totals(by_source, examples, sum(report["records"] for _, reports in read for report in reports))


def _without(counts: dict[str, Any], removed: pa.Table) -> dict[str, Any]:
    """The counts after cleaning: what it removed counts as dropped, no longer as kept."""
    by_source = Counter({(r["origin"], r["status"], r["reason"] or ""): r["count_all"] for r in counts["by_source"]})
    examples = dict(counts["examples"])
    for row in count_by(removed, ["origin", "reason"]):
        by_source[row["origin"], "kept", ""] -= row["count_all"]
        by_source[row["origin"], "dropped", row["reason"]] += row["count_all"]
    for reason in removed["reason"].unique().to_pylist():
        of_reason = removed.filter(pc.equal(removed["reason"], reason))
        examples[reason] = of_reason["sentence"].slice(0, steps.EXAMPLES).to_pylist()
    return _totals(by_source, examples, counts["records"])


def _totals(by_source: Counter[tuple[str, str, str]], examples: dict[str, list[str]], records: int) -> dict[str, Any]:
    totals = dict.fromkeys(("kept", "dropped", "quarantined"), 0)
    reasons: dict[str, Counter[str]] = {"dropped": Counter(), "quarantined": Counter()}
    for (_, status, reason), number in by_source.items():
        totals[status] += number
        if status in reasons:
            reasons[status][reason] += number
    rows = [
        {"origin": origin, "status": status, "reason": reason or None, "count_all": number}
        for (origin, status, reason), number in sorted(by_source.items(), key=lambda item: (-item[1], item[0]))
        if number
    ]
    return {
        "records": records,
        **totals,
        "reasons": {status: dict(counter.most_common()) for status, counter in reasons.items()},
        "by_source": rows,
        "examples": dict(sorted(examples.items())),
    }


def _sum(reports: Sequence[Report], key: str, names: tuple[str, str]) -> list[dict[str, Any]]:
    counts: Counter[tuple[str, str]] = Counter()
    for report in reports:
        for first, second, number in report[key]:
            counts[first, second] += number
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [{names[0]: first, names[1]: second, "count_all": number} for (first, second), number in ordered]


def _all_reasons(counts: dict[str, Any]) -> dict[str, int]:
    return {**counts["reasons"]["dropped"], **counts["reasons"]["quarantined"]}


def _listed(reasons: dict[str, int]) -> str:
    return ", ".join(f"{reason} {number}" for reason, number in reasons.items()) or "none was read"


def _code(*modules: str) -> str:
    """The code of these modules, of all that they import, and of what writes their results."""
    parts = {part for module in modules for part in storage.imported_parts(module)}
    return storage.code_fingerprint(*sorted(parts | set(WRITE_CODE)))


def _identity(source: SourceSpec | ToolboxDraw) -> dict[str, Any]:
    """What a source is: a draw by its literals, files by their names and contents, never by where they lie."""
    if isinstance(source, ToolboxDraw):
        return {"toolbox": asdict(source), "code": storage.code_fingerprint("toolbox", "trajectory.py", *WRITE_CODE)}
    module = SOURCES[source.source].parse.__module__.removeprefix("agentflan_ray.").replace(".", "/")
    code = storage.code_fingerprint(*sorted({*READ_CODE, *storage.imported_parts(f"{module}.py")}))
    return {"source": source.source, "files": _files(source), "code": code}


def _evaluation_identity(evaluation: EvaluationSet) -> dict[str, Any]:
    """A set by its name, its fields and its files' contents."""
    files = [[name.rsplit("/", 1)[-1], hashlib.sha256(data).hexdigest()] for name, data in evaluation_files(evaluation)]
    return {"name": evaluation.name, "fields": evaluation.fields, "files": files}


def _files(source: SourceSpec) -> list[list[str]]:
    """Names and digests of a source's files."""
    filesystem, _ = storage.locate(source.uri)
    paths = sorted({piece.path for piece in plan_slices([source])})
    return [[path.rsplit("/", 1)[-1], _digest(filesystem, path)] for path in paths]


def _digest(filesystem: Any, path: str) -> str:
    digest = hashlib.sha256()
    with filesystem.open_input_stream(path, compression=None) as stream:
        while chunk := stream.read(1 << 22):
            digest.update(chunk)
    return digest.hexdigest()
