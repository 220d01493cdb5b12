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

from star1lib.models import calls
from star1lib.models.calls import Request
from star1lib.models.roles import Role

COUNT, OPEN, KILLS = 160, 8, 10
PROMPTS = [f"question {n} " + "x" * 2000 for n in range(COUNT)]


def work(url: str, folder: str, logged: bool = True) -> None:
    """The run that is killed; in a process of its own."""
    role = Role(name="teacher", model="openai-api/test/m", base_url=url, max_connections=OPEN)
    asked = [Request(f"id{n}", [{"role": "user", "content": prompt}]) for n, prompt in enumerate(PROMPTS)]
    assert len(list(calls.run(role, asked, Path(folder), logged=logged))) == COUNT


def wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 3600
    while not until():
        assert time.monotonic() < deadline, "the run does not move"
        time.sleep(0.003)


def answered(folder: Path) -> set[str]:
    """The prompts with a whole line in the folder."""
    ids = set()
    for line in (folder / "answers.jsonl").read_bytes().split(b"\n"):
        try:
            ids.add(PROMPTS[int(json.loads(line)["id"][2:])])
        except ValueError:
            continue
    return ids


def content(folder: Path) -> list[bytes]:
    return sorted((folder / "answers.jsonl").read_bytes().splitlines())


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL and fork servers are POSIX")
@pytest.mark.attack("kills")
def test_ten_kills_change_neither_the_answers_nor_the_number_of_calls(tmp_path: Path) -> None:
    """Every other run writes logs for the viewer too."""
    dice = random.Random(20)
    context = multiprocessing.get_context("forkserver")
    # What a run imports on its way, the tasks because Inspect looks for them, so that a fork has it.
    context.set_forkserver_preload([
        "star1lib.models.calls", "star1lib.evaluation.benchmarks.tasks", "openai.resources.chat", "tqdm.auto",
        "inspect_ai.model._providers.openai_compatible", "anyio._backends._asyncio", "fastapi", "acp",
    ])  # fmt: skip
    killed = tmp_path / "killed"
    with FaultServer(delay=0.02) as server:
        lost: Counter[str] = Counter()
        asked: Counter[str] = Counter()
        for kill in range(KILLS):
            goal = server.received + dice.randint(1, COUNT // KILLS - 2)
            process = context.Process(target=work, args=(server.url, str(killed), kill % 2 == 0))
            process.start()
            wait(lambda goal=goal: server.received >= goal)  # type: ignore[misc]
            time.sleep(dice.random() * 0.02)
            process.kill()
            process.join()
            wait(lambda: server.stats.open_connections == 0)
            now = Counter(call.prompt for call in server.calls)
            in_flight = [prompt for prompt in now - asked if prompt not in answered(killed)]
            assert len(in_flight) <= OPEN
            lost.update(in_flight)
            asked = now
        work(server.url, str(killed))
        final = Counter(call.prompt for call in server.calls)
        calm = tmp_path / "calm"
        work(server.url, str(calm), logged=False)
    assert lost, "no kill hit a call in flight: the test tests nothing"
    # Calls made = calls needed + those in flight at each kill, for every single request.
    assert final == Counter(PROMPTS) + lost
    assert content(killed) == content(calm)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Interrupts raise here too when the tests run in the background, where a shell has them ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("in_notebook", [False, True])
@pytest.mark.attack("kills")
def test_an_interrupt_keeps_what_has_arrived_and_frees_the_folder(tmp_path: Path, in_notebook: bool) -> None:
    with FaultServer(delay=0.02) as server:

        def interrupt() -> None:
            wait(lambda: server.received >= 3 * OPEN)
            os.kill(os.getpid(), signal.SIGINT)

        async def cell() -> None:
            work(server.url, str(tmp_path))

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
                work(server.url, str(tmp_path))
        interrupter.join()
        kept = len(answered(tmp_path))
        assert OPEN <= kept < COUNT and server.received <= kept + OPEN
        before = server.received
        work(server.url, str(tmp_path))
        assert server.received - before == COUNT - kept
