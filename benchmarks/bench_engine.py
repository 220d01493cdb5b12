"""Throughput and memory of the engine: 2,000 calls of 200 ms at concurrency 64 against the ideal time.

Usage: `python benchmarks/bench_engine.py [--calls 2000] [--runs 3]`. The server runs in a process of its
own on this machine and shares its cores. The ideal is calls x delay / concurrency. Memory is the
resident set of the engine's process, sampled every 100 calls; growth compares the last fifth of a run
with its second fifth, answers kept for the caller included. Writes results/engine.csv beside this file.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from star1lib.models.api import engine, progress
from star1lib.models.api.backends import Request
from star1lib.models.roles import Price, Role

HERE = Path(__file__).parent
BAR = 1.15


def one_run(calls: int, delay: float, concurrency: int) -> dict[str, float | int | str]:
    """One measured run on a fresh server and a fresh journal."""
    server = subprocess.Popen(
        [sys.executable, str(HERE.parent / "tests" / "faultserver.py"), "--delay", str(delay)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout and server.stdin
    port = int(server.stdout.readline())
    role = Role(
        name="bench",
        backend="openai",
        model="m",
        base_url=f"http://127.0.0.1:{port}/v1",
        concurrency=concurrency,
        price=Price(input=1, output=2),
        rpm=10_000_000,
        tpm=10_000_000_000,
        max_cost_usd=1000,
    )
    text = "Tell me in a sentence what this number is about. " * 12
    requests = [Request(str(n), [{"role": "user", "content": f"{text}{n}"}]) for n in range(calls)]
    memory = MemoryMeter()
    original, engine.Meter = engine.Meter, memory.meter
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        cpu, start = time.process_time(), time.perf_counter()
        replies = engine.run(role, requests, Path(folder) / "j.jsonl")
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    engine.Meter = original
    assert all(reply.outcome == "ok" for reply in replies)
    received, most = server.communicate()[0].split()
    ideal = calls * delay / concurrency
    return {
        "calls": calls,
        "delay_s": delay,
        "concurrency": concurrency,
        "seconds": round(wall, 3),
        "ideal_s": ideal,
        "ratio": round(wall / ideal, 3),
        "cpu_s": round(cpu, 2),
        "most_in_flight": int(most),
        "received": int(received),
        "rss_early_mib": memory.mean(0.2, 0.4),
        "rss_late_mib": memory.mean(0.8, 1.0),
        "load_before": round(load, 2),
    }


class MemoryMeter:
    """Samples the resident set through the engine's own progress meter."""

    def __init__(self) -> None:
        self.samples: list[float] = []
        self._process = psutil.Process()

    def meter(self, *arguments: object) -> progress.Meter:
        """The engine's meter, with a sample of memory at every hundredth call."""
        outer = self

        class Sampling(progress.Meter):
            seen = 0

            def done(self, outcome: str, spent: float) -> None:
                super().done(outcome, spent)
                self.seen += 1
                if self.seen % 100 == 0:
                    outer.samples.append(outer._process.memory_info().rss / 2**20)

        return Sampling(*arguments)  # type: ignore[arg-type]

    def mean(self, low: float, high: float) -> float:
        """Mean of the samples between two shares of the run, MiB."""
        count = len(self.samples)
        return round(statistics.mean(self.samples[int(low * count) : max(int(high * count), 1)]), 1)


def main() -> None:
    """Run, print and write the table; the exit status says whether the bar was met by the median."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--calls", type=int, default=2000)
    options.add_argument("--delay", type=float, default=0.2)
    options.add_argument("--concurrency", type=int, default=64)
    options.add_argument("--runs", type=int, default=3)
    options.add_argument("--out", type=Path, default=HERE / "results" / "engine.csv")
    given = options.parse_args()
    # The SDK's import is paid once per process and not per call.
    one_run(4 * given.concurrency, 0.01, given.concurrency)
    rows = []
    for number in range(1, given.runs + 1):
        row = {"run": number, **one_run(given.calls, given.delay, given.concurrency)}
        row |= {"cores": os.cpu_count() or 0, "python": platform.python_version()}
        row |= {"date": datetime.date.today().isoformat()}
        rows.append(row)
        print(row)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    with given.out.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    median = statistics.median(float(str(row["ratio"])) for row in rows)
    print(f"median {median:.3f} of the ideal time, bar {BAR}: {'met' if median <= BAR else 'missed'}")
    sys.exit(median > BAR)


if __name__ == "__main__":
    main()
