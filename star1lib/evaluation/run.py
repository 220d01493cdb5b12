"""How a study evaluates a variant: build the Inspect task, generate, have its scorers judge, read items off the log.

An evaluation is named by the hash of everything that shapes its responses, so each variant is generated for once per
benchmark and settings, whichever notebook asks. Its transcript is an Inspect log that the viewer opens. Judging is
always a pass over that log: a changed judge reads it again and generates nothing. Until the transcript is judged,
each response is kept as it comes, so a killed evaluation goes on from there.
"""

from __future__ import annotations

import logging
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from star1lib import files
from star1lib.errors import UserError, shorten
from star1lib.evaluation import benchmarks as known
from star1lib.evaluation.benchmarks import prompts, upstream
from star1lib.evaluation.benchmarks.common import Answer, Benchmark, answer_of, choose, of_forced, of_thought, whole
from star1lib.evaluation.judges import Judges
from star1lib.evaluation.sandbox.confine import ConfinementError
from star1lib.evaluation.settings import Evaluation
from star1lib.files import MANIFEST, fingerprint, parse_record, read_json, read_manifest, read_records, verify_manifest
from star1lib.models import checkpoints
from star1lib.models.clients import environment, guarded, without_key
from star1lib.models.roles import is_loopback, models, served
from star1lib.models.roles import load as load_roles
from star1lib.models.serving import Server, serve
from star1lib.records import Example, ItemResult, Question
from star1lib.safeguards import refusal_snippet, short_prompt
from star1lib.training.variants import Variant

if TYPE_CHECKING:
    from inspect_ai import Task
    from inspect_ai.log import EvalLog, EvalSample

log = logging.getLogger(__name__)
T = TypeVar("T")
FORMAT = 2
ITEMS_FORMAT = 2  # 1 kept whole completions when the switch was set
ITEMS = "items.jsonl"
LEFT_OUT = "left_out.json"
_RETRIES = 6  # of a call to a served model
_PATIENCE_S, _SLOWEST = 600, 5  # what an attempt may take: so many seconds, and one more for so many tokens


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
    that is not known, when a benchmark's data is missing, or when an evaluation fails. HumanEval is left out where code
    cannot be confined; a warning says so, and :func:`left_out`.
    """
    how = parse_record(settings, Evaluation, "evaluation")
    for name in how.limits:
        known.benchmark(name)
    folder = Path(folder)
    judges = Judges(roles, folder / "judges")
    asked, missing = {}, {}
    for name in benchmarks:
        try:
            asked[name] = _questions(name, how, seed, Path(mirror) if mirror else None, benign)
        except ConfinementError as err:
            log.warning("%s", err)  # the rest of the study does not depend on it
            missing[name] = str(err)
    before = left_out(folder)
    if (now := {name: why for name, why in before.items() if name not in asked} | missing) != before:
        files.write_json(folder / LEFT_OUT, now)
    _sweep(folder)
    named = [variant.model_copy(update={"name": variant.name + how.suffix}) for variant in variants]
    runs = [
        _Run(variant, _switched(name, how), questions, withheld, folder, how, seed, judges)
        for variant in named
        for name, (questions, withheld) in asked.items()
    ]
    if how.engine == "vllm":
        _generate_served(runs, how)
    with _guard(runs, how, roles or {}):
        return [item for run in runs for item in run.items()]


def _generate_served(runs: Sequence[_Run], how: Evaluation) -> None:
    """Have each checkpoint that still has to answer served, and its answers generated, one after another."""
    for name in dict.fromkeys(run.variant.name for run in runs):
        here = [run for run in runs if run.variant.name == name and not run.remote]
        waiting = [run for run in here if not run.judged() and run.answers() is None]
        if waiting:
            with _serve(waiting[0].variant.checkpoint, how, name=name) as server:
                for run in waiting:
                    run.generate(server)


def _serve(checkpoint: str, how: Evaluation, **more: Any) -> AbstractContextManager[Server]:
    settings = how.serving.model_dump(exclude={"guard", "python"})
    return serve(Path(checkpoints.resolve(checkpoint)), python=Path(how.serving.python), **settings, **more)


@contextmanager
def _guard(runs: Sequence[_Run], how: Evaluation, players: Mapping[str, Any]) -> Iterator[None]:
    """A server of the harm judge for as long as there is something for it to judge, where the settings ask for one."""
    role = models(load_roles(players)).get("harm_judge")
    waiting = any(measure.metric == "safe" for run in runs if not run.judged() for measure in run.benchmark.measures)
    if role is None or not how.serving.guard or not is_loopback(role.base_url) or not waiting:
        yield
        return
    service, name = role.model.split("/", 2)[1:]
    variable = role.api_key_env or f"{service.upper()}_API_KEY"
    port = urlsplit(role.base_url or "").port
    serving = _serve(name, how, name=name, port=port, key_variable=variable)
    with serving as server, environment({variable: server.api_key}):
        yield


def left_out(folder: str | Path) -> dict[str, str]:
    """The benchmarks that could not be asked under `folder`, each with the sentence that says why."""
    path = Path(folder) / LEFT_OUT
    return _or_none(read_json, path) or {} if path.exists() else {}


def _or_none(read: Callable[[Path], T], path: Path) -> T | None:
    """What `read` makes of `path`; None, with a warning, when it is damaged: it can be made again."""
    try:
        return read(path)
    except UserError as err:
        log.warning("%s (it is made again)", err)
        return None


def _sweep(folder: Path) -> None:
    """Remove the logs of evaluations that were killed: what was answered is kept apart until a log is judged."""
    manifests = (_or_none(read_manifest, path.parent) for path in folder.glob(f"*/*/{MANIFEST}"))
    named = {manifest.get("log") for manifest in manifests if manifest}
    for path in (folder / "logs").glob("*.eval"):
        if path.name not in named:
            found = _read_log(path, header_only=True)
            if found is None or found.status != "success":
                path.unlink(missing_ok=True)


def _switched(name: str, how: Evaluation) -> Benchmark:
    """The benchmark with what the switches measure beside it."""
    benchmark = known.benchmark(name)
    measures = list(benchmark.measures)
    safe = [measure for measure in measures if measure.metric == "safe"]
    thoughts = [of_thought(measure) for measure in safe if how.thoughts]
    forced = [of_forced(measure) for measure in measures if how.forced and benchmark.forced]
    if how.judge_text == "full" and benchmark.kind != "reasoning":
        answers = [replace(measure, metric="safe_answer") for measure in safe]
        measures = [*(replace(measure, view=whole) for measure in measures), *answers]
    if how.reading == "upstream" and name in upstream.READINGS:
        ask, theirs = upstream.READINGS[name]
        benchmark = replace(benchmark, ask=ask)
        measures = [theirs, *(replace(measure, metric="correct_ours") for measure in measures)]
    words = benchmark.forced if how.forced else ""
    return replace(benchmark, measures=(*measures, *thoughts, *forced), forced=words)


def _questions(
    name: str, how: Evaluation, seed: int, mirror: Path | None, benign: Sequence[Example | Question]
) -> tuple[list[Question], list[str]]:
    """The questions of a benchmark that are asked, and the ids of those that may not be sent."""
    benchmark = known.benchmark(name)
    if name == prompts.VARIANTS and benign:
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
    made: EvalLog | None = None

    @property
    def remote(self) -> bool:
        """True when the model has no weights here."""
        return served(self.variant.checkpoint)

    @property
    def served(self) -> bool:
        """True when the model is behind a server, ours or another."""
        return self.remote or self.how.engine == "vllm"

    @cached_property
    def key(self) -> str:
        """Changes with everything that shapes the answers."""
        model = self.variant.checkpoint
        weights = model if self.remote else checkpoints.weights_fingerprint(model)
        asked = [[question.id, self.benchmark.ask(question)] for question in self.questions]
        return fingerprint([FORMAT, weights, self.variant.thinking, asked, self._generation()])

    @property
    def target(self) -> Path:
        """The folder of its items."""
        return self.folder / self.variant.name / self.benchmark.name

    def _transcribed(self) -> bool:
        """True where the answers were all given and their log is there."""
        return self._manifest().get("key") == self.key and self._place().exists()

    def answers(self) -> EvalLog | None:
        """The answers, where they were all given and can be read, be it under another name."""
        return _read_log(self._place()) if self._transcribed() else self._namesake()

    def _namesake(self) -> EvalLog | None:
        """The answers of a variant that is the same model by another name, asked the same, as a log of its own."""
        for path in sorted(self.folder.glob(f"*/{self.benchmark.name}/{MANIFEST}")):
            manifest = _or_none(read_manifest, path.parent) or {}
            place = self.folder / "logs" / Path(str(manifest.get("log"))).name
            if manifest.get("key") == self.key and place.is_file() and (found := _read_log(place)):
                found.location = str(place.with_name(f"{place.stem}-as-{self.variant.name}.eval"))
                return found
        return None

    def _manifest(self) -> dict[str, Any]:
        return _or_none(read_manifest, self.target) or {}

    def _place(self) -> Path:
        """The log that the manifest names, perhaps of other settings."""
        return self.folder / "logs" / Path(str(self._manifest().get("log"))).name

    def _judged(self) -> str:
        theirs = self.how.reading == "upstream" if self.benchmark.kind == "reasoning" else self.how.judge_text == "full"
        switches = ["thoughts"] * self.how.thoughts + ["as the authors"] * theirs
        return fingerprint([self.key, self.judges.version(), FORMAT, ITEMS_FORMAT, *switches])

    def judged(self) -> bool:
        """True when there is nothing left to do."""
        done = self._manifest().get("judged") == self._judged() and self._transcribed()
        return done and _or_none(verify_manifest, self.target) is not None

    def generate(self, server: Server) -> None:
        """Have the questions answered by `server`; :meth:`items` judges the answers."""
        self.made = self._generate(self._task(), server)

    def items(self) -> list[ItemResult]:
        """The judged items; generates and judges what is not there."""
        target, judged, place = self.target, self._judged(), self._place()
        if self.judged():
            return read_records(target / ITEMS, ItemResult)
        task = self._task()
        log = _judge(self.made or self.answers() or self._generate(task), task)
        name = Path(str(log.location)).name
        items = self._read(log)
        files.write_jsonl(target / ITEMS, items)
        files.write_manifest(
            target,
            [target / ITEMS],
            key=self.key,
            judged=judged,
            log=name,
            variant=self.variant.name,
            benchmark=self.benchmark.name,
            questions=len(self.questions),
            sample_seed=self.seed,
            withheld_ids=self.withheld,
            protocol=self.how.generation.name,
            generation=self._generation(),
            judges=self.judges.names(),
        )
        shutil.rmtree(self._kept(), ignore_errors=True)
        if place.is_file() and place.name != name:
            place.unlink()
        return items

    def _generation(self) -> dict[str, Any]:
        budget = self.how.generation.budget(self.benchmark.name, self.benchmark.kind, self.variant.thinking)
        said = {"max_tokens": budget, "repetition_penalty": self.how.generation.repetition_penalty}
        dtype = self._dtype()
        engine = "" if self.remote or self.how.engine == "transformers" else self.how.engine
        switched = {
            "engine": engine,
            "start": self.how.start,
            "more": self.how.thinking == "more",
            "forced": self.benchmark.forced,
            "close": self._close(),
            "dtype": "" if self.served or dtype == "float32" else dtype,
        }
        return {**said, **{name: value for name, value in switched.items() if value}}

    def _dtype(self) -> str:
        return checkpoints.dtype_here(self.how.generation.dtype)

    def _close(self) -> int:
        """The tokens for the answer to a thinking that is closed at its budget; 0 for none."""
        how = self.how.generation
        if not (how.close_thinking and self.variant.thinking):
            return 0
        return how.budget(self.benchmark.name, self.benchmark.kind, thinking=False)

    def _extra(self) -> dict[str, Any]:
        # The penalty is a parameter of vLLM and of our own provider, the start of ours alone: servers that do not know
        # them refuse them, so only when they act.
        acting = {"repetition_penalty": self.how.generation.repetition_penalty, "start": self.how.start}
        return {name: value for name, value in acting.items() if value not in (1.0, "")}

    def _kept(self) -> Path:
        return self.folder / "unfinished" / self.key

    def _task(self) -> Task:
        from star1lib.evaluation.benchmarks import tasks

        if self.served and (self.how.suffix or self.how.forced or self._close()):
            raise UserError(
                f"{self.variant.name}: thinking, prefill, forced and close_thinking are switches of local checkpoints; "
                "leave them out."
            )
        return tasks.build(
            self.benchmark,
            self.questions,
            self.judges,
            # A server's template may open the thinking; our own provider has split it off already.
            opened=self.served and self.variant.thinking,
            solver=tasks.answered(self._extra(), self.how.thinking == "more", self.benchmark.forced, self._close()),
            name=f"{self.variant.name}-{self.benchmark.name}",
        )

    def _generate(self, task: Task, server: Server | None = None) -> EvalLog:
        """Have every question answered; raises :class:`UserError` for any end but success."""
        from inspect_ai import eval as run_inspect

        model, tokens = self._model(server), self._generation()["max_tokens"]
        # A server may hang or fail for ever; a model of this machine is only slow.
        retries = 2 if server else _RETRIES  # a server of ours that does not answer is dead
        limits = {"max_retries": retries, "attempt_timeout": _PATIENCE_S + tokens // _SLOWEST} if self.served else {}
        if server:  # Inspect would start with few calls at once and feel its way up
            limits["max_connections"] = self.how.serving.max_num_seqs
        # Inspect caches responses in a folder that belongs to this evaluation and to nothing else.
        with environment({"INSPECT_CACHE_DIR": str(self._kept())}):
            [done] = run_inspect(
                task, model=model, log_dir=str(self.folder / "logs"), display="none", score=False,
                max_samples=self._at_once(), max_tokens=tokens, temperature=0.0, extra_body=self._extra() or None,
                log_level="warning", **limits,  # type: ignore[arg-type]
            )  # fmt: skip
        if done.status != "success" or not done.samples or len(done.samples) != len(self.questions):
            # A server's complaint about a key may repeat a part of it.
            Path(done.location.removeprefix("file://")).unlink(missing_ok=True)
            reason = without_key(done.error.message if done.error else f"status {done.status}", model)
            raise UserError(
                f"{self.variant.name} on {self.benchmark.name}: the evaluation did not succeed ({reason}); "
                "mend the cause and run the same command again, what was generated is kept."
            )
        return done

    def _at_once(self) -> int:
        if self.remote:
            return 32
        return self.how.serving.max_num_seqs if self.served else len(self.questions)

    def _model(self, server: Server | None) -> Any:
        from inspect_ai._util.error import PrerequisiteError
        from inspect_ai.model import get_model

        from star1lib.models import provider

        model = self.variant.checkpoint
        if server is not None:
            return guarded(get_model(server.model, base_url=server.base_url, api_key=server.api_key, memoize=False))
        if not self.remote:
            return provider.local_model(self.variant.name, model, self.variant.thinking, self._dtype())
        try:
            return guarded(get_model(model, memoize=False))
        except PrerequisiteError as err:
            reason = " ".join(re.sub(r"\[/?[a-z]+\]", "", str(err.message)).split())
            raise UserError(f"{model}: {reason} Set the variables that `make serve` names.") from err

    def _read(self, log: EvalLog) -> list[ItemResult]:
        """The items of a judged log, metric by metric, in the order of the questions."""
        samples = {str(sample.id): sample for sample in log.samples or []}
        values = {"C": True, "I": False, "N": None}
        items = []
        for question in self.questions:
            answer = _answer(samples[question.id])
            said = answer.thought.answer
            items += [
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
                    response_chars=len(said),
                    snippet=refusal_snippet(said) if said else "",
                )
                for metric, score in (samples[question.id].scores or {}).items()
            ]
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


def _read_log(path: Path, header_only: bool = False) -> EvalLog | None:
    from inspect_ai.log import read_eval_log

    try:
        return read_eval_log(str(path), header_only=header_only)
    except Exception as err:  # whatever the readers of zip and JSON raise
        log.warning("%s: damaged (%s), so the questions are asked again", path, type(err).__name__)
        return None


def _answer(sample: EvalSample) -> Answer:
    """The response in a sample to the question that it carries."""
    question = Question.model_validate(sample.metadata["question"])
    return answer_of(sample.output, question, sample.metadata["opened"])


def labels_only(folder: str | Path, target: str | Path) -> int:
    """Copy the judged transcripts under `folder` to `target`, without what the models said; returns how many.

    Left are the prompts, shortened, the labels, the lengths of thinking and answer, and the opening of a refusal.
    """
    from inspect_ai.log import write_eval_log

    copied = 0
    for path in sorted((Path(folder) / "logs").glob("*.eval")):
        if (found := _read_log(path)) and found.status == "success" and found.samples:
            named = found.eval.model_copy(update={"model_args": {}})
            samples = list(map(_bare, found.samples))
            bare = found.model_copy(update={"eval": named, "samples": samples, "reductions": None})
            write_eval_log(bare, str(Path(target) / path.name))
            copied += 1
    return copied


def _bare(sample: EvalSample) -> EvalSample:
    """A sample made anew from what may be shown, so that no field of it can be forgotten."""
    from inspect_ai.log import EvalSample
    from inspect_ai.model import ModelOutput
    from inspect_ai.scorer import Score

    answer = _answer(sample)
    said, thinking = answer.thought.answer, len(answer.thought.thinking)
    text = f"{len(said)} characters: {refusal_snippet(said)}" + (f" (thinking: {thinking})" if thinking else "")
    scores = {
        name: Score(value=score.value, answer=shorten(score.answer or ""))
        for name, score in (sample.scores or {}).items()
    }
    output = ModelOutput.from_content(sample.output.model, text)
    return EvalSample(
        id=sample.id, epoch=sample.epoch, input=short_prompt(answer.question.text), target="", output=output,
        scores=scores,
    )  # fmt: skip


def write(folder: str | Path, items: Sequence[ItemResult]) -> None:
    """Write the judged items of a stage, manifest last; no completion is among them."""
    files.write_stage(Path(folder), {ITEMS: items}, items=len(items))


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
    thought = _answer(sample).thought
    return {
        "asked": str(sample.input),
        "thinking": thought.thinking,
        "answer": thought.answer,
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
