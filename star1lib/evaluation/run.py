"""Evaluation on Inspect: generate once per model, benchmark and settings; judge as often as judges change.

An evaluation is named by the hash of everything that shapes its responses. Its transcript is an
Inspect log that the viewer opens; a changed judge grades that transcript again and generates nothing.
Until the transcript is whole, each response is kept as it comes, so a killed evaluation goes on from there.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from star1lib.errors import UserError
from star1lib.evaluation import benchmarks as tasks
from star1lib.evaluation.benchmarks.common import Answer, Benchmark, Grade
from star1lib.evaluation.judges import Judges
from star1lib.evaluation.settings import Protocol
from star1lib.files import fingerprint, read_manifest, read_records, write_jsonl, write_manifest
from star1lib.models import chat, checkpoints
from star1lib.records import ItemResult, Question
from star1lib.safeguards import refusal_snippet, sexualizes_minor

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog, EvalSample

log = logging.getLogger(__name__)
FORMAT = 1
_SERVED = ("openai-api/", "openai/", "vllm/", "azureai/", "anthropic/", "google/", "together/")


@dataclass(frozen=True)
class Subject:
    """A model under evaluation: the arm's name, a checkpoint (or an Inspect model of a server), thinking or not."""

    variant: str
    model: str
    thinking: bool = False

    @property
    def served(self) -> bool:
        """True when the model is behind a server and has no weights here."""
        return self.model.startswith(_SERVED)


def evaluate(
    subject: Subject,
    benchmarks: Sequence[str],
    *,
    folder: Path,
    protocol: Protocol,
    limits: Mapping[str, int],
    seed: int,
    mirror: Path | None,
    judges: Judges,
    extra: Mapping[str, Sequence[Question]] | None = None,
) -> list[ItemResult]:
    """Judged items of `subject` on each benchmark, in that order; written under `folder`.

    `limits` caps questions by a seeded sample; `extra` holds the questions of benchmarks that come
    from the run itself. Raises :class:`UserError` when a benchmark's data is missing or an evaluation fails.
    """
    items: list[ItemResult] = []
    for name in benchmarks:
        benchmark = tasks.benchmark(name)
        given = (extra or {}).get(name)
        questions = benchmark.prepare(list(given) if given else benchmark.load(mirror), seed)
        asked, withheld = choose(questions, limits.get(name), seed)
        run = _Run(subject, benchmark, asked, withheld, folder, protocol, seed, judges)
        items += run.results()
    return items


def choose(questions: Sequence[Question], limit: int | None, seed: int) -> tuple[list[Question], list[str]]:
    """At most `limit` questions, a seeded sample in the original order, and the ids that may not be sent.

    Questions that a benchmark has put in turns of kinds keep equal shares: their head is taken.
    """
    import random

    withheld = [question.id for question in questions if sexualizes_minor(question.text)]
    usable = list({question.id: question for question in questions if question.id not in set(withheld)}.values())
    if limit is None or limit >= len(usable):
        return usable, withheld
    if all("kind" in question.meta for question in usable):
        return usable[:limit], withheld
    chosen = sorted(random.Random(seed).sample(range(len(usable)), limit))
    return [usable[index] for index in chosen], withheld


@dataclass
class _Run:
    """One model on one benchmark."""

    subject: Subject
    benchmark: Benchmark
    questions: list[Question]
    withheld: list[str]
    folder: Path
    protocol: Protocol
    seed: int
    judges: Judges

    def results(self) -> list[ItemResult]:
        target = self.folder / self.subject.variant / self.benchmark.name
        key = self._key()
        judged = fingerprint([key, self.judges.version(), FORMAT])
        manifest = read_manifest(target)
        transcript = self.folder / "logs" / manifest["log"] if manifest and manifest["key"] == key else None
        if transcript is not None and not transcript.exists():
            transcript = None
        if manifest and manifest["judged"] == judged and transcript is not None:
            return read_records(target / "items.jsonl", ItemResult)
        fresh = transcript is None
        evaluated = self._generate() if transcript is None else _read_log(transcript)
        # A server's template may open the thinking; our own provider has split it off already.
        opened = self.subject.served and self.subject.thinking
        answers = [_answer(sample, question, opened) for sample, question in self._paired(evaluated)]
        graded = self.benchmark.grade(answers, self.judges)
        name = self._write_scores(evaluated, graded)
        items = [self._item(a, grade) for a, grades in zip(answers, graded, strict=True) for grade in grades]
        items.sort(key=lambda item: item.metric)
        write_jsonl(target / "items.jsonl", items)
        write_manifest(target, [target / "items.jsonl"], **self._facts(key, judged, name))
        if fresh and manifest and manifest["log"] != name:
            (self.folder / "logs" / manifest["log"]).unlink(missing_ok=True)
        return items

    def _key(self) -> str:
        weights = self.subject.model if self.subject.served else checkpoints.weights_fingerprint(self.subject.model)
        asked = [[question.id, self.benchmark.ask(question)] for question in self.questions]
        return fingerprint([FORMAT, weights, self.subject.thinking, asked, self._generation()])

    def _generation(self) -> dict[str, Any]:
        settings = self.protocol.settings(self.benchmark.name, self.benchmark.kind, self.subject.thinking)
        return {"max_tokens": settings.max_new_tokens, "repetition_penalty": settings.repetition_penalty}

    def _facts(self, key: str, judged: str, log_name: str) -> dict[str, Any]:
        return {
            "key": key,
            "judged": judged,
            "log": log_name,
            "variant": self.subject.variant,
            "benchmark": self.benchmark.name,
            "questions": len(self.questions),
            "sample_seed": self.seed,
            "withheld_ids": self.withheld,
            "protocol": self.protocol.name,
            "generation": self._generation(),
            "judges": self.judges.names(),
        }

    def _generate(self) -> EvalLog:
        """Run the Inspect task; raises :class:`UserError` for any end but success."""
        from inspect_ai import Task
        from inspect_ai import eval as run_inspect
        from inspect_ai.dataset import MemoryDataset, Sample
        from inspect_ai.model import CachePolicy
        from inspect_ai.solver import generate

        settings = self._generation()
        # A parameter of vLLM and of our own provider: servers that do not know it refuse it, so only when it acts.
        extra = (
            None if settings["repetition_penalty"] == 1.0 else {"repetition_penalty": settings["repetition_penalty"]}
        )
        samples = [Sample(id=question.id, input=self.benchmark.ask(question)) for question in self.questions]
        task = Task(
            name=f"{self.subject.variant}-{self.benchmark.name}",
            dataset=MemoryDataset(samples, name=self.benchmark.name),
            solver=generate(cache=CachePolicy(expiry=None)),
        )
        kept = self.folder / "unfinished" / self._key()
        with _responses_kept(kept):
            [done] = run_inspect(
                task,
                model=self._model(),
                log_dir=str(self.folder / "logs"),
                display="none",
                score=False,
                max_samples=len(samples) if not self.subject.served else 32,
                max_tokens=settings["max_tokens"],
                temperature=0.0,
                extra_body=extra,
                log_level="warning",
            )
        if done.status != "success" or not done.samples or len(done.samples) != len(samples):
            reason = done.error.message if done.error else f"status {done.status}"
            raise UserError(
                f"{self.subject.variant} on {self.benchmark.name}: the evaluation did not succeed ({reason}); "
                "mend the cause and run the same command again, what was generated is kept."
            )
        shutil.rmtree(kept, ignore_errors=True)
        return done

    def _model(self) -> Any:
        from inspect_ai._util.error import PrerequisiteError
        from inspect_ai.model import get_model

        from star1lib.models import provider

        if self.subject.served:
            try:
                return get_model(self.subject.model, memoize=False)
            except PrerequisiteError as err:
                reason = " ".join(re.sub(r"\[/?[a-z]+\]", "", str(err.message)).split())
                raise UserError(f"{self.subject.model}: {reason} Set the variables that `make serve` names.") from err
        return provider.local_model(self.subject.variant, self.subject.model, self.subject.thinking)

    def _paired(self, evaluated: EvalLog) -> list[tuple[EvalSample, Question]]:
        samples = {str(sample.id): sample for sample in evaluated.samples or []}
        return [(samples[question.id], question) for question in self.questions]

    def _write_scores(self, evaluated: EvalLog, graded: Sequence[Sequence[Grade]]) -> str:
        """Put the grades into the transcript as Inspect scores and write it; return the log's file name."""
        from inspect_ai import score
        from inspect_ai.log import write_eval_log

        # Scoring a transcript looks its model up; a process that only judges has not registered ours yet.
        from star1lib.models import provider  # noqa: F401

        location = evaluated.location
        by_id = {question.id: grades for question, grades in zip(self.questions, graded, strict=True)}
        metrics = list(dict.fromkeys(grade.metric for grades in graded for grade in grades))
        scored = score(
            evaluated, [_lookup(metric, by_id) for metric in metrics], action="overwrite", display="none", copy=False
        )
        write_eval_log(scored, location)
        return Path(str(location).removeprefix("file://")).name

    def _item(self, answer: Answer, grade: Grade) -> ItemResult:
        return ItemResult(
            benchmark=self.benchmark.name,
            variant=self.subject.variant,
            item_id=answer.question.id,
            metric=grade.metric,
            value=grade.value,
            label=grade.label,
            outcome=grade.outcome,
            judge=grade.judge,
            prompt_tokens=answer.prompt_tokens,
            output_tokens=answer.output_tokens,
            response_chars=len(answer.thought.answer),
            snippet=refusal_snippet(answer.thought.answer) if answer.thought.answer else "",
        )


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


def _lookup(metric: str, grades: Mapping[str, Sequence[Grade]]) -> Any:
    """An Inspect scorer that hands over grades that were given in one batch."""
    from inspect_ai.scorer import CORRECT, INCORRECT, NOANSWER, Score, accuracy, scorer

    @scorer(metrics=[accuracy()], name=metric)
    def graded() -> Any:
        async def give(state: Any, target: Any) -> Score | None:
            for grade in grades[str(state.sample_id)]:
                if grade.metric == metric:
                    value = {True: CORRECT, False: INCORRECT, None: NOANSWER}[grade.value]
                    facts = {"judge": grade.judge, "outcome": grade.outcome}
                    return Score(value=value, answer=grade.label, metadata=facts)
            return None

        return give

    return graded()


def _read_log(path: Path) -> EvalLog:
    from inspect_ai.log import read_eval_log

    return read_eval_log(str(path))


def _answer(sample: EvalSample, question: Question, opened: bool = False) -> Answer:
    """The response in a transcript: thinking from its own content part, or split off the text."""
    output = sample.output
    message = output.message if output.choices else None
    parts: list[Any] = message.content if message and isinstance(message.content, list) else []
    thinking = "\n".join(part.reasoning for part in parts if part.type == "reasoning")
    text = message.text if message else ""
    cut_off = output.stop_reason in ("max_tokens", "model_length")
    thought = chat.split_thinking(text, opened)
    if thinking or (parts and parts[0].type == "reasoning"):
        ended = bool(text.strip()) or (output.metadata or {}).get("thinking") == "closed"
        thought = chat.Thought(thinking.strip(), text.strip(), "closed" if ended else "open")
    usage = output.usage
    return Answer(
        question,
        thought,
        cut_off,
        usage.input_tokens if usage else 0,
        usage.output_tokens if usage else 0,
    )
