"""Kill -9 in mid-run, ten times at random points: nothing is lost, nothing answered is asked again."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from faultserver import FaultServer
from test_engine import requests_of

from star1lib.models.api import engine
from star1lib.models.api.journal import Journal
from star1lib.models.roles import Role

CALLS, CONCURRENCY, KILLS = 160, 8, 10
PROMPTS = [f"question {n} " + "x" * 2000 for n in range(CALLS)]


def work(url: str, journal: str) -> None:
    """The run that is killed; in a process of its own."""
    role = Role(name="teacher", backend="openai", model="m", base_url=url, concurrency=CONCURRENCY, backoff_s=0.01)
    engine.run(role, requests_of(*PROMPTS), Path(journal), progress=False)


def wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not until():
        assert time.monotonic() < deadline, "the run does not move"
        time.sleep(0.003)


def answered(journal: Path) -> set[str]:
    """The prompts with a whole line in the journal."""
    ids = set()
    for line in journal.read_bytes().split(b"\n"):
        try:
            ids.add(PROMPTS[int(json.loads(line)["id"][2:])])
        except ValueError:
            continue
    return ids


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL and fork servers are POSIX")
def test_ten_kills_change_neither_the_journal_nor_the_number_of_calls(tmp_path: Path) -> None:
    dice = random.Random(20)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["star1lib.models.api.engine", "star1lib.models.api.served", "openai", "aiohttp", "httpx2", "tqdm.auto"]
    )
    journal, calm = tmp_path / "killed.jsonl", tmp_path / "calm.jsonl"
    with FaultServer(delay=0.01) as server:
        work(server.url, str(calm))
    lost: Counter[str] = Counter()
    with FaultServer(delay=0.02) as server:
        asked: Counter[str] = Counter()
        for _ in range(KILLS):
            goal = server.received + dice.randint(1, CALLS // KILLS - 2)
            process = context.Process(target=work, args=(server.url, str(journal)))
            process.start()
            wait(lambda goal=goal: server.received >= goal)  # type: ignore[misc]
            time.sleep(dice.random() * 0.02)
            process.kill()
            process.join()
            wait(lambda: server.stats.open_connections == 0)
            now = Counter(call.prompt for call in server.calls)
            in_flight = [prompt for prompt in now - asked if prompt not in answered(journal)]
            assert len(in_flight) <= CONCURRENCY
            lost.update(in_flight)
            asked = now
        work(server.url, str(journal))
        final = Counter(call.prompt for call in server.calls)
    assert lost, "no kill hit a call in flight: the test tests nothing"
    # Calls made = calls needed + those in flight at each kill, for every single request.
    assert final == Counter(PROMPTS) + lost
    assert len(server.calls) == CALLS + lost.total()
    assert sorted(journal.read_bytes().splitlines()) == sorted(calm.read_bytes().splitlines())
    with Journal(journal) as book:
        assert len(book) == CALLS and not book.damaged and not list(book.errors())


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Interrupts raise here too when the tests run in the background, where a shell has them ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("in_notebook", [False, True])
def test_an_interrupt_keeps_what_has_arrived_and_frees_the_journal(tmp_path: Path, in_notebook: bool) -> None:
    journal = tmp_path / "j.jsonl"
    with FaultServer(delay=0.02) as server:

        def interrupt() -> None:
            wait(lambda: server.received >= 3 * CONCURRENCY)
            os.kill(os.getpid(), signal.SIGINT)

        async def cell() -> None:
            work(server.url, str(journal))

        interrupter = threading.Thread(target=interrupt)
        interrupter.start()
        with pytest.raises(KeyboardInterrupt):
            if in_notebook:
                # A kernel's loop lets the interrupt through to the cell.
                loop = asyncio.new_event_loop()
                try:
                    loop.run_until_complete(cell())
                finally:
                    loop.close()
            else:
                work(server.url, str(journal))
        interrupter.join()
        kept = len(answered(journal))
        assert CONCURRENCY <= kept < CALLS
        assert server.received <= kept + CONCURRENCY
        before = server.received
        work(server.url, str(journal))
        assert server.received - before == CALLS - kept
