"""Equal input, equal tables: byte for byte, whatever order Python's hashes give to a set."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import sys
from types import SimpleNamespace
from star1lib import stats
from star1lib.deliberation import stage as deliberation, taggers
from star1lib.evaluation import run
from star1lib.policies import CATEGORIES
from star1lib.records import Example, ItemResult, Scores, Tagged
from star1lib.selection import balance, stage as selection
from star1lib.study import compare, tables

out, names = sys.argv[1], [*CATEGORIES, "Other"]
tagged = [Tagged(id=str(n), question=f"q{n}", source=f"s{n % 3}", category=[name]) for n, name in enumerate(names)]
gold = {row.id: [names[-1 - int(row.id)]] for row in tagged}
made = deliberation.Deliberation({}, tagged, [], gold, [], [], [])
tables.write(out, "categories", deliberation.categories_table(made))
tables.write(out, "tagger_audit", taggers.tagger_table(list(gold.values()), [list(row.category) for row in tagged]))
ten = Scores(compliance=10, relevancy=10, accuracy=10)
rows = [Example(id=row.id, question=row.question, source=row.source, category=row.category, thinking="t", answer="a",
                teacher="x", score=ten) for row in tagged]
chosen = SimpleNamespace(scored=rows, chosen=balance.select(rows, 4))
tables.write(out, "selection", selection.selection_table(chosen))
tables.write(out, "scores", selection.scores_table(chosen))
tables.write(out, "balance", selection.balance_table(chosen))
items = [ItemResult(benchmark=b, variant=v, item_id=str(n), metric=m, value=bool((n * len(v) + len(b)) % 3), label="",
                    outcome="complete", judge="j", prompt_tokens=1, output_tokens=1, response_chars=1)
         for v in ("base", "star1", "star1_no_thinking") for b in ("Probe", "Sums", "DoNotAnswer", "XSTest")
         for m in ("safe", "refused", "correct", "answered") for n in range(6)]
tables.write(out, "rates", stats.rates_table(items))
tables.write(out, "differences", stats.differences_table(items, "base", 0))
tables.write(out, "averages", compare.averages(items, 0))
tables.write(out, "main", compare.main_table(items, "R1-Distill-Qwen-1.5B", 0))
tables.write(out, "summary", compare.summary(items))
tables.write(out, "crossed", run.crossed(items))
"""


def test_tables_are_equal_whatever_the_hash_seed(tmp_path: Path) -> None:
    made = []
    for seed in ("1", "2"):
        out = tmp_path / seed
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", SCRIPT, str(out)], check=True, env=environment)
        made.append({path.name: path.read_bytes() for path in (out / "tables").iterdir()})
    assert len(made[0]) == 11 and all(made[0].values())
    assert made[0] == made[1]
