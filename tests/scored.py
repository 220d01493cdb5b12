"""Answers to a benchmark, judged by its Inspect scorers as in an evaluation."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from inspect_ai.model import ModelName, ModelOutput
from inspect_ai.scorer import Target
from inspect_ai.solver import TaskState

from star1lib.evaluation import benchmarks
from star1lib.evaluation.benchmarks import tasks

VALUES = {"C": True, "I": False, "N": None}


class Grade(NamedTuple):
    metric: str
    value: bool | None
    label: str
    judge: str
    outcome: str


def scored(name, questions, texts, judges, *, opened=False, cut_off=False):
    """The grades of each text, in the order of the benchmark's measures."""
    benchmark = benchmarks.benchmark(name)
    task = tasks.build(benchmark, questions, judges, opened=opened)

    def state(sample, text):
        output = ModelOutput.from_content("m", text, stop_reason="max_tokens" if cut_off else "stop")
        return TaskState(
            ModelName("mockllm/model"), sample.id, 1, sample.input, [], output=output, metadata=sample.metadata
        )

    async def every():
        return [
            await asyncio.gather(
                *(one(state(sample, text), Target("")) for sample, text in zip(task.dataset, texts, strict=True))
            )
            for one in task.scorer
        ]

    metrics = [measure.metric for measure in benchmark.measures if any(map(measure.of, questions))]
    columns = asyncio.run(every())
    return [
        [
            Grade(metric, VALUES[score.value], score.answer, score.metadata["judge"], score.metadata["outcome"])
            for metric, score in zip(metrics, row, strict=True)
            if score is not None
        ]
        for row in zip(*columns, strict=True)
    ]
