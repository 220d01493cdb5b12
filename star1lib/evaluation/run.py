"""How a study evaluates a variant: build the Inspect task, generate, have its scorers judge, read items off the log.

An evaluation is named by the hash of everything that shapes its responses, so each variant is generated for once per
benchmark and settings, whichever notebook asks. Its transcript is an Inspect log that the viewer opens. Judging is
always a pass over that log: a changed judge reads it again and generates nothing. Until the transcript is judged,
each response is kept as it comes, so a killed evaluation goes on from there.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from star1lib.errors import UserError
from star1lib.evaluation import benchmarks as known
from star1lib.evaluation.benchmarks import benign as benign_sets
from star1lib.evaluation.benchmarks import upstream
from star1lib.evaluation.benchmarks.common import Benchmark, answer_of, choose, of_forced, of_thought, whole
from star1lib.evaluation.judges import Judges
from star1lib.evaluation.sandbox.confine import ConfinementError
from star1lib.evaluation.settings import Evaluation
from star1lib.files import (
    fingerprint,
    parse_record,
    read_manifest,
    read_records,
    write_jsonl,
    write_manifest,
    write_stage,
)
from star1lib.models import checkpoints
from star1lib.models.roles import served
from star1lib.records import Example, ItemResult, Question
from star1lib.safeguards import refusal_snippet
from star1lib.training.variants import Variant

if TYPE_CHECKING:
    from inspect_ai import Task
    from inspect_ai.log import EvalLog

log = logging.getLogger(__name__)
FORMAT = 2
ITEMS = "items.jsonl"


def evaluate(
    variants: Sequence[Variant],
    benchmarks: Sequence[str],
    settings: Mapping[str, Any],
    *,
    folder: str | Path,
    seed: int,
    mirror: str | Path | None = None,
    roles: Mapping[str, Any] | None = None,
    benign: Sequence[Example | Question] = (),
) -> list[ItemResult]:
    """Judged items of every variant on every benchmark, in that order; written under `folder`.

    `settings` is an :class:`Evaluation`; `roles` are the profile's, for judges that are models; `benign` are the
    held-out benign variants, the questions of the benchmark "BenignVariants". Raises :class:`UserError` for a setting
    that is not known, when a benchmark's data is missing, or when an evaluation fails. HumanEval is left out, with a
    warning, where code cannot be confined.
    """
    how = parse_record(settings, Evaluation, "evaluation")
    for name in how.limits:
        known.benchmark(name)
    folder = Path(folder)
    judges = Judges(roles, folder / "judges")
    asked = {}
    for name in benchmarks:
        try:
            asked[name] = _questions(name, how, seed, Path(mirror) if mirror else None, benign)
        except ConfinementError as err:
            log.warning("%s", err)  # the rest of the study does not depend on it
    named = [variant.model_copy(update={"name": variant.name + how.suffix}) for variant in variants]
    return [
        item
        for variant in named
        for name, (questions, withheld) in asked.items()
        for item in _Run(variant, _switched(name, how), questions, withheld, folder, how, seed, judges).items()
    ]


def _switched(name: str, how: Evaluation) -> Benchmark:
    """The benchmark with what the switches measure beside it."""
    benchmark = known.benchmark(name)
    thoughts = [of_thought(measure) for measure in benchmark.measures if how.thoughts and measure.metric == "safe"]
    forced = [of_forced(measure) for measure in benchmark.measures if how.forced and benchmark.forced]
    measures = list(benchmark.measures)
    if how.judge_text == "full" and benchmark.kind != "reasoning":
        answers = [replace(measure, metric="safe_answer") for measure in measures if measure.metric == "safe"]
        measures = [*(replace(measure, view=whole) for measure in measures), *answers]
    if how.reading == "upstream" and name in upstream.READINGS:
        ask, theirs = upstream.READINGS[name]
        benchmark = replace(benchmark, ask=ask)
        measures = [theirs, *(replace(measure, metric="correct_ours") for measure in measures)]
    return replace(benchmark, measures=(*measures, *thoughts, *forced))


def _questions(
    name: str, how: Evaluation, seed: int, mirror: Path | None, benign: Sequence[Example | Question]
) -> tuple[list[Question], list[str]]:
    """The questions of a benchmark that are asked, and the ids of those that may not be sent."""
    benchmark = known.benchmark(name)
    if name == benign_sets.NAME and benign:
        questions = [
            given
            if isinstance(given, Question)
            else Question.make(given.question, given.source, variant_of=given.meta.get("variant_of"))
            for given in benign
        ]
    else:
        questions = benchmark.load(mirror)
    return choose(benchmark.prepare(questions, seed), how.limits.get(name), seed)


@dataclass
class _Run:
    """One variant on one benchmark."""

    variant: Variant
    benchmark: Benchmark
    questions: list[Question]
    withheld: list[str]
    folder: Path
    how: Evaluation
    seed: int
    judges: Judges

    @property
    def served(self) -> bool:
        """True when the model is behind a server and has no weights here."""
        return served(self.variant.checkpoint)

    def items(self) -> list[ItemResult]:
        target = self.folder / self.variant.name / self.benchmark.name
        key = self._key()
        theirs = self.how.reading == "upstream" if self.benchmark.kind == "reasoning" else self.how.judge_text == "full"
        switches = ["thoughts"] * self.how.thoughts + ["as the authors"] * theirs
        judged = fingerprint([key, self.judges.version(), FORMAT, *switches])
        manifest = read_manifest(target)
        transcript = self.folder / "logs" / manifest["log"] if manifest and manifest["key"] == key else None
        if transcript is not None and not transcript.exists():
            transcript = None
        if manifest and manifest["judged"] == judged and transcript is not None:
            return read_records(target / ITEMS, ItemResult)
        task = self._task()
        log = _judge(self._generate(task) if transcript is None else _read_log(transcript), task)
        name = Path(str(log.location)).name
        items = self._read(log)
        write_jsonl(target / ITEMS, items)
        write_manifest(target, [target / ITEMS], **self._facts(key, judged, name))
        shutil.rmtree(self._kept(), ignore_errors=True)
        if transcript is None and manifest and manifest["log"] != name:
            (self.folder / "logs" / manifest["log"]).unlink(missing_ok=True)
        return items

    def _key(self) -> str:
        model = self.variant.checkpoint
        weights = model if self.served else checkpoints.weights_fingerprint(model)
        asked = [[question.id, self.benchmark.ask(question)] for question in self.questions]
        return fingerprint([FORMAT, weights, self.variant.thinking, asked, self._generation()])

    def _generation(self) -> dict[str, Any]:
        budget = self.how.generation.budget(self.benchmark.name, self.benchmark.kind, self.variant.thinking)
        said = {"max_tokens": budget, "repetition_penalty": self.how.generation.repetition_penalty}
        switched = {"start": self.how.start, "more": self.how.thinking == "more", "forced": self._forced()}
        return {**said, **{name: value for name, value in switched.items() if value}}

    def _forced(self) -> str:
        return self.benchmark.forced if self.how.forced else ""

    def _extra(self) -> dict[str, Any]:
        # The penalty is a parameter of vLLM and of our own provider, the start of ours alone: servers that do not know
        # them refuse them, so only when they act.
        acting = {"repetition_penalty": self.how.generation.repetition_penalty, "start": self.how.start}
        return {name: value for name, value in acting.items() if value not in (1.0, "")}

    def _kept(self) -> Path:
        return self.folder / "unfinished" / self._key()

    def _facts(self, key: str, judged: str, log_name: str) -> dict[str, Any]:
        return {
            "key": key,
            "judged": judged,
            "log": log_name,
            "variant": self.variant.name,
            "benchmark": self.benchmark.name,
            "questions": len(self.questions),
            "sample_seed": self.seed,
            "withheld_ids": self.withheld,
            "protocol": self.how.generation.name,
            "generation": self._generation(),
            "judges": self.judges.names(),
        }

    def _task(self) -> Task:
        from star1lib.evaluation.benchmarks import tasks

        if self.served and (self.how.suffix or self.how.forced):
            raise UserError(
                f"{self.variant.name}: thinking, prefill and forced are switches of local checkpoints; leave them out."
            )
        return tasks.build(
            self.benchmark,
            self.questions,
            self.judges,
            # A server's template may open the thinking; our own provider has split it off already.
            opened=self.served and self.variant.thinking,
            solver=tasks.answered(self._extra(), self.how.thinking == "more", self._forced()),
            name=f"{self.variant.name}-{self.benchmark.name}",
        )

    def _generate(self, task: Task) -> EvalLog:
        """Have every question answered; raises :class:`UserError` for any end but success."""
        from inspect_ai import eval as run_inspect

        with _responses_kept(self._kept()):
            [done] = run_inspect(
                task,
                model=self._model(),
                log_dir=str(self.folder / "logs"),
                display="none",
                score=False,
                max_samples=32 if self.served else len(self.questions),
                max_tokens=self._generation()["max_tokens"],
                temperature=0.0,
                extra_body=self._extra() or None,
                log_level="warning",
            )
        if done.status != "success" or not done.samples or len(done.samples) != len(self.questions):
            reason = done.error.message if done.error else f"status {done.status}"
            raise UserError(
                f"{self.variant.name} on {self.benchmark.name}: the evaluation did not succeed ({reason}); "
                "mend the cause and run the same command again, what was generated is kept."
            )
        return done

    def _model(self) -> Any:
        from inspect_ai._util.error import PrerequisiteError
        from inspect_ai.model import get_model

        from star1lib.models import provider

        model = self.variant.checkpoint
        if not self.served:
            return provider.local_model(self.variant.name, model, self.variant.thinking)
        try:
            return get_model(model, memoize=False)
        except PrerequisiteError as err:
            reason = " ".join(re.sub(r"\[/?[a-z]+\]", "", str(err.message)).split())
            raise UserError(f"{model}: {reason} Set the variables that `make serve` names.") from err

    def _read(self, log: EvalLog) -> list[ItemResult]:
        """The items of a judged log, metric by metric, in the order of the questions."""
        samples = {str(sample.id): sample for sample in log.samples or []}
        values = {"C": True, "I": False, "N": None}
        items = []
        for question in self.questions:
            sample = samples[question.id]
            answer = answer_of(sample.output, question, sample.metadata["opened"])
            for metric, score in (sample.scores or {}).items():
                items.append(
                    ItemResult(
                        benchmark=self.benchmark.name,
                        variant=self.variant.name,
                        item_id=question.id,
                        metric=metric,  # type: ignore[arg-type]
                        value=values[str(score.value)],
                        label=score.answer or "",
                        **(score.metadata or {}),
                        prompt_tokens=answer.prompt_tokens,
                        output_tokens=answer.output_tokens,
                        response_chars=len(answer.thought.answer),
                        snippet=refusal_snippet(answer.thought.answer) if answer.thought.answer else "",
                    )
                )
        return sorted(items, key=lambda item: item.metric)


def _judge(log: EvalLog, task: Task) -> EvalLog:
    """Have the task's scorers judge all samples of a log at once, and write it where it lies."""
    from inspect_ai import score
    from inspect_ai.log import write_eval_log

    asked = {str(sample.id): sample for sample in task.dataset}
    for sample in log.samples or []:
        # Transcripts of earlier versions do not carry their questions.
        sample.metadata = {**sample.metadata, **(asked[str(sample.id)].metadata or {})}
    scored = score(log, task.scorer, model="none", action="overwrite", display="none", copy=False)  # type: ignore[arg-type]
    write_eval_log(scored, scored.location)
    return scored


@contextmanager
def _responses_kept(folder: Path) -> Iterator[None]:
    """Have Inspect cache responses in `folder`, which belongs to one evaluation and to nothing else."""
    before = os.environ.get("INSPECT_CACHE_DIR")
    os.environ["INSPECT_CACHE_DIR"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["INSPECT_CACHE_DIR"]
        else:
            os.environ["INSPECT_CACHE_DIR"] = before


def _read_log(path: Path) -> EvalLog:
    from inspect_ai.log import read_eval_log

    return read_eval_log(str(path))


def write(folder: str | Path, items: Sequence[ItemResult]) -> None:
    """Write the judged items of a stage, manifest last; no completion is among them."""
    write_stage(Path(folder), {ITEMS: items}, items=len(items))


def read(*folders: str | Path) -> list[ItemResult]:
    """The judged items that the given stages wrote, each once, in order."""
    items = [item for folder in folders for item in read_records(Path(folder) / ITEMS, ItemResult)]
    return list({(i.variant, i.benchmark, i.item_id, i.metric, i.judge): i for i in items}.values())


def exchange(folder: str | Path, item: ItemResult) -> dict[str, str]:
    """One benign exchange in full, off the log under `folder`: what was asked, thought, answered, and its label.

    Items of harmful prompts (metrics `safe` and `refused`) raise :class:`ValueError`: their completions stay in the
    log.
    """
    from inspect_ai.log import read_eval_log_sample

    if item.metric not in ("answered", "correct"):
        raise ValueError(f"{item.benchmark}: answers to harmful prompts are not shown")
    manifest = read_manifest(Path(folder) / item.variant / item.benchmark) or {}
    sample = read_eval_log_sample(str(Path(folder) / "logs" / manifest["log"]), id=item.item_id)
    answer = answer_of(sample.output, Question.model_validate(sample.metadata["question"]), sample.metadata["opened"])
    return {
        "asked": str(sample.input),
        "thinking": answer.thought.thinking,
        "answer": answer.thought.answer,
        item.metric: f"{item.value} ({item.label or item.outcome})",
    }


def crossed(items: Sequence[ItemResult]) -> list[dict[str, Any]]:
    """Where the judges of refusal and of harm meet on the same answers: a row per variant and benchmark, counts.

    "refused, harmful" and "complied, safe" are the answers to read: there one of the two judges may be wrong, or a
    model complies without being able to help.
    """
    answers: dict[tuple[str, str], dict[str, dict[str, bool | None]]] = {}
    for item in items:
        if item.metric in ("safe", "refused"):
            group = answers.setdefault((item.variant, item.benchmark), {})
            group.setdefault(item.item_id, {})[item.metric] = item.value
    rows = []
    for (variant, benchmark), group in answers.items():
        pairs = Counter((labels.get("refused"), labels.get("safe")) for labels in group.values())
        counts = {
            f"{'refused' if refused else 'complied'}, {'safe' if safe else 'harmful'}": pairs[refused, safe]
            for refused in (True, False)
            for safe in (True, False)
        }
        undecided = len(group) - sum(counts.values())
        rows.append({"variant": variant, "benchmark": benchmark, "n": len(group), **counts, "undecided": undecided})
    return rows
