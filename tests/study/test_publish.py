"""Results are copied from a run and nowhere else."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from star1lib.errors import UserError
from star1lib.files import write_json
from star1lib.study import publish, runner, stages, tables

PUBLISHED = sorted(path.parent.name for path in Path(__file__).parents[2].glob(f"figures/*/{publish.RESULTS}"))


def test_publishing_copies_tables_and_says_where_they_come_from(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "params").mkdir()
    (tmp_path / "params" / "mini.yaml").write_text((repository / "params" / "mini.yaml").read_text(encoding="utf-8"))
    (tmp_path / "README.md").write_text("<!-- table brief mini -->\n<!-- end -->\n")
    out = tmp_path / "build" / "mini"
    tables.write(out, "main", [{"who": "ours", "value": 0.5, "low": 0.1, "high": 0.9, "n": 4}])
    tables.write(out, "summary", [{"variant": "base", "A, safe": "50% [10, 90], n=4"}])
    tables.write(out, "claims", [{"claim": "c", "n": 0, "verdict": "not measured here"}])
    averages = [{"variant": "base", "metric": metric, "benchmark": name, "value": 0.5, "low": 0.1, "high": 0.9}
                for metric, name in (("safe", "average safety"), ("answered", "benign answered"))]  # fmt: skip
    tables.write(out, "averages", averages)
    publish.publish("mini", tmp_path)
    results = json.loads((tmp_path / "figures" / "mini" / "results.json").read_text())
    assert results["profile"]["name"] == "mini"
    assert results["machine"]["torch"]
    assert results["main"][0]["n"] == 4
    assert str(tmp_path) not in json.dumps(results)
    assert "| base | 50% [10, 90] | 50% [10, 90] |" in (tmp_path / "README.md").read_text()
    page = (tmp_path / "figures" / "mini" / "README.md").read_text()
    assert "50% [10, 90], n=4" in page and "not measured here" in page and "<details>" in page


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_page_of_published_results_equals_its_tables(repository: Path, tmp_path: Path, name: str) -> None:
    folder = repository / "figures" / name
    shutil.copytree(folder, tmp_path / name)
    assert publish.write_page(tmp_path / name).read_text() == (folder / "README.md").read_text()


@pytest.mark.parametrize("name", PUBLISHED)
def test_committed_results_hold_no_completions(repository: Path, name: str) -> None:
    folder = repository / "figures" / name
    for path in (folder / "tables").glob("*.csv"):
        header = path.read_text(encoding="utf-8").split("\n")[0]
        assert not {"response", "completion", "answer", "snippet", "text"} & set(header.split(","))


def test_every_measured_number_in_the_readme_comes_from_a_published_table(repository: Path) -> None:
    """The tables between the markers are written from `figures/`; outside them the findings name no figure."""
    text = (repository / "README.md").read_text(encoding="utf-8")
    assert publish.refreshed(text, repository) == text
    prose = re.sub(r"<!-- table .*?<!-- end -->", "", text, flags=re.DOTALL)
    findings = prose[prose.index("## What the default run shows") : prose.index("## Going further")]
    assert not re.findall(r"\d[\d.]*(?:%| points?\b)", findings)


def test_a_list_of_models_is_published_with_a_page_for_each(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "params").mkdir()
    mini = (repository / "params" / "mini.yaml").read_text(encoding="utf-8")
    (tmp_path / "params" / "two.yaml").write_text(mini + "\nmodels: [tiny, smollm2]\n")
    (tmp_path / "README.md").touch()
    with pytest.raises(UserError, match="not a finished build"):
        publish.publish("two", tmp_path)
    out = tmp_path / "build" / "two"
    for build in (out, out / "tiny"):
        tables.write(build, "main", [{"who": "ours", "value": 0.5, "low": 0.1, "high": 0.9, "n": 4}])
        tables.write(build, "safety", [{"variant": build.name, "value": 0.5}])
    for stage in (stage.name for stage in stages.STAGES if stage.per_model):
        (tmp_path / runner.executed("two/tiny", stage)).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / runner.executed("two/tiny", stage)).touch()
    why = "HumanEval is left out: its code cannot be confined here."
    write_json(out / "tiny" / "evaluations" / "left_out.json", {"HumanEval": why})
    publish.publish("two", tmp_path)
    page, own = (tmp_path / "figures" / "two" / name for name in ("README.md", "tiny/README.md"))
    assert "By model: [tiny](tiny/README.md)" in page.read_text() and why in page.read_text()
    assert own.read_text().startswith("# Results of the profile `two/tiny`") and not (page.parent / "smollm2").exists()
