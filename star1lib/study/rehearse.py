"""The rehearsal: a profile from end to end, every notebook, model and variant, before a cent is spent.

A rehearsal is a profile made from a profile: the same notebooks, variants, recipe and roles, but tiny random models
under the real chat templates, a handful of generated rows a set, two optimizer steps, answers of a few tokens, and
roles that a server on loopback plays. It is run by make like any other, in `build/<profile>-rehearsal`; no stage knows
of it. Its page says what was touched, what cannot be without GPUs, keys and the hub, and what the real run still lacks
here.
"""

from __future__ import annotations

import logging
import os
import resource
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from star1lib.errors import UserError
from star1lib.evaluation.settings import Evaluation
from star1lib.files import write_json, write_text
from star1lib.models import roles
from star1lib.models.checkpoints import SMOLLM2
from star1lib.study import preflight, profiles, runner, stages, standins, tables
from star1lib.study.display import left_out
from star1lib.study.profiles import Profile

log = logging.getLogger(__name__)
SUFFIX, PAGE = "-rehearsal", "rehearsal.md"
_OPENAI = ("openai", "openai-api")  # providers that take the address of any server with OpenAI's interface
_PORT = 29_600  # of the first launched training
_FEW, _TOKENS = 4, 6
_RECIPE = {"rows": _FEW, "benign": 2, "anchors": 2, "steps": 2}
# At most, in `common` and in a notebook's section; of a stage's own those that stand here without being given.
_MOST = {"limit": 3, "size": 8, "audit_rows": _FEW, "benign_for_training": 3, "save_steps": 1}
_OWN = {"01_sources": ["limit"], "03_deliberation": ["limit"], "04_selection": ["size", "audit_rows"]}
_TRAINING = {"epochs": 1, "batch_size": 2, "micro_batch_size": 1, "max_length": 1024, "launch": None}
_GENERATION = {"answer_tokens": _TOKENS, "thinking_tokens": 2, "reasoning_tokens": _TOKENS}
_LIMITS = {"BenignVariants": 2, "Probe": 2, "Sums": 2}  # benchmarks without a set that could be replaced
_SERVING = {"dtype": "float32", "max_model_len": 4096, "max_num_seqs": 8}


@dataclass(frozen=True)
class Rehearsal:
    """The derived profile, what tiny models took over from those they stand in for, and what trains and answers how."""

    profile: Profile
    models: dict[str, standins.Family]
    launched: list[str]
    served: str | None


def derive(profile: Profile, models: Sequence[str] = (), *, url: str = "", root: Path = Path()) -> Rehearsal:
    """The rehearsal of `profile`: its profile is named `<profile>-rehearsal`, its roles are at `url`.

    Writes the tiny models and the configuration of the launched trainings to its build folder. Training is launched for
    one variant of the first model of each architecture; where vLLM is installed it serves the one with the fewest.
    Raises :class:`UserError` for a model whose template is unknown.
    """
    build = stages.BUILD / (profile.name + SUFFIX)
    made: dict[str, standins.Family] = {}

    def tiny(model: str) -> str:
        folder = build / "tiny" / model.strip("/.").replace("/", "--")
        if model not in made:
            made[model] = standins.tiny_model(model, root / folder)
        return str(folder)

    small = {one.name: _small(one, tiny) for one in profile.builds()}
    chosen = profile.each(models)
    launched: dict[str, str] = {}  # architecture -> build
    for one in chosen:
        if one.common.get("training", {}).get("launch"):
            launched.setdefault(made[str(one.common.get("base_model", SMOLLM2))].model_type, one.name)
    for place, (kind, name) in enumerate(launched.items()):
        _launch(small[name], root, build / f"launch-{kind}.yaml", _PORT + place)
    how, served = Evaluation.model_validate(chosen[0].common.get("evaluation", {})), None
    if how.engine == "vllm" and (root / how.serving.python).exists():
        served = min(chosen, key=lambda one: len(one.recipes())).name
        serving = {**_SERVING, "python": how.serving.python}
        small[served].common["evaluation"] |= {"engine": "vllm", "serving": serving}
    players = roles.models(roles.load(profile.roles, profile.prices)).values()
    prices = {_openai(role.model): role.price.model_dump() for role in players if role.price}
    listed = [
        one.model_copy(update={"model": own.common["base_model"], "name": one.folder, "common": own.common,
                               "notebooks": own.notebooks})
        for one in profile.models for own in [small[f"{profile.name}/{one.folder}"]]
    ]  # fmt: skip
    changes = {
        "name": build.name,
        "about": f"A rehearsal of the profile {profile.name}: tiny random models on generated rows, its figures mean "
                 "nothing.",
        "offline": True,
        "roles": {name: _loopback(name, given, url) for name, given in profile.roles.items()},
        "prices": {**profile.prices, **prices},
        "models": listed,
    }  # fmt: skip
    return Rehearsal(small[profile.name].model_copy(update=changes), made, list(launched.values()), served)


def _small(build: Profile, tiny: Callable[[str], str]) -> Profile:
    """A build with each of its settings as small as it goes; `tiny` gives the folder of a model's stand-in."""
    base = {} if build.models else {"base_model": SMOLLM2}
    common = _settings({**base, "training": {}, "evaluation": {}, **build.common}, tiny)
    sections = {stage: {**dict.fromkeys(_OWN.get(stage, [])), **build.notebooks.get(stage, {})}
                for stage in dict.fromkeys([*_OWN, *build.notebooks])}  # fmt: skip
    notebooks = {stage: _settings(section, tiny) for stage, section in sections.items()}
    return build.model_copy(update={"common": common, "notebooks": notebooks})


def _settings(given: Mapping[str, Any], tiny: Callable[[str], str]) -> dict[str, Any]:
    """Settings of `common` or of a notebook."""
    made = dict(given)
    for key, value in given.items():
        if key in _MOST:
            made[key] = _MOST[key] if value is None else min(value, _MOST[key])
        elif key == "base_model":
            made[key] = tiny(value)
        elif key == "training":
            made[key] = {**value, **_TRAINING}
        elif key == "evaluation":
            generation = {**value.get("generation", {}), **_GENERATION}
            made[key] = {**value, "generation": generation, "limits": _LIMITS, "engine": "transformers", "serving": {}}
        elif key == "variants":
            made[key] = {name: _recipe(recipe, tiny) for name, recipe in value.items()}
        elif key == "stage0" and value:
            made[key] = {**value, "arithmetic": 6, "own": 4}
        elif key == "seeds":
            made[key] = value[:1]
    return made


def _recipe(recipe: Mapping[str, Any], tiny: Callable[[str], str]) -> dict[str, Any]:
    if recipe.get("checkpoint"):
        return {"checkpoint": tiny(recipe["checkpoint"])}
    less: dict[str, Any] = {key: min(value, recipe[key]) for key, value in _RECIPE.items() if recipe.get(key)}
    if recipe.get("training"):
        less["training"] = {**recipe["training"], **_TRAINING}
    return {"rows": _FEW, **recipe, **less}


def _launch(build: Profile, root: Path, path: Path, port: int) -> None:
    """Have a model's first trained variant launched on two processes of this CPU by the committed configuration."""
    given = yaml.safe_load((root / stages.PARAMS / "accelerate" / "fsdp2.yaml").read_text(encoding="utf-8"))
    own = {"num_processes": 2, "use_cpu": True, "main_process_port": port}
    write_text(root / path, yaml.safe_dump({**given, **own}))
    variants = build.notebooks["05_sft"]["variants"]
    if first := next((name for name, recipe in variants.items() if not recipe.get("checkpoint")), None):
        variants[first] = {**variants[first], "training": {**variants[first].get("training", {}), "launch": str(path)}}


def _openai(model: str) -> str:
    return model if model.split("/")[0] in _OPENAI else f"openai-api/rehearsal/{model}"


def _loopback(name: str, given: Any, url: str) -> Any:
    """A role as the profile has it, at the address of its player; without a key and in our own prompts."""
    if not isinstance(given, Mapping):
        return given
    kept = {key: value for key, value in given.items() if key not in ("api_key_env", "prompts", "upstream")}
    return {**kept, "model": _openai(str(given["model"])), "base_url": f"{url}/{name}/v1"}


def run(profile: Profile, models: Sequence[str] = (), *, mirror: str | None = None, root: Path = Path()) -> Path:
    """Rehearse `profile` (of its list the named `models`) and return the page with what was touched and what was not.

    Begins with the preflight: what is wrong with the profile itself ends it at once, what the real run lacks on this
    machine (keys, pins, sets, GPUs) is said and written down. Raises :class:`UserError` for that, for a notebook that
    fails, and for a figure that the paper prints and the run has no row for.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"  # nothing is fetched, whoever asks
    started = time.monotonic()
    if wrong := preflight.faults(profile, models):
        raise preflight.refusal(profile, wrong)
    lacking = preflight.lacking(profile, models, mirror=mirror, fetch=False)
    for sentence in lacking:
        log.warning("the real run lacks: %s", sentence)
    name = profile.name + SUFFIX
    build, rows = root / stages.BUILD / name, stages.BUILD / name / "sets"
    played = roles.models(roles.load(profile.roles, profile.prices))
    with standins.players(played, 20_000 + zlib.crc32(name.encode()) % 20_000) as server:
        made = derive(profile, models, url=server.url, root=root)
        standins.write_rows(root / rows)
        write_json(build / profiles.DERIVED, made.profile.model_dump(exclude={"name"}))  # JSON is YAML
        profiles.check(made.profile, root)
        preflight.check(made.profile, models, mirror=str(root / rows))
        graph = runner.write_graph(made.profile, mirror=str(rows), root=root, models=models)
        _make(graph, root, build / "site")
    steps = stages.steps(name, made.profile.chosen(models))
    _check_rows(made.profile, build)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    minutes = [(used.ru_utime + used.ru_stime) / 60, (time.monotonic() - started) / 60]
    return write_text(build / PAGE, _page(profile, made, steps, server.calls, lacking, minutes))


def _make(graph: Path, root: Path, site: Path) -> None:
    """Run the graph on all cores; a launched training finds FSDP for CPUs in `site`."""
    write_text(site / "sitecustomize.py", standins.FSDP_ON_CPU)
    kept = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    paths = [str(site.resolve()), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {"OMP_NUM_THREADS": "1", **kept, "PYTHONPATH": os.pathsep.join(paths)}
    command = ["make", "--no-print-directory", f"-j{os.cpu_count() or 1}", "-f", str(graph.relative_to(root)),
               f"PYTHON={sys.executable}", "all"]  # fmt: skip
    if subprocess.run(command, cwd=root, env=environment, check=False).returncode:
        raise UserError("rehearsal: a notebook did not run to its end, its sentence stands above; mend that and "
                        "rehearse again, it goes on from there.")  # fmt: skip


def _check_rows(profile: Profile, build: Path) -> None:
    """Every printed number of the models has a figure of ours, but for what could not be asked here."""
    missing = left_out(build)
    if profile.models:
        for row in tables.read(build, "printed").to_dict("records"):
            if not row["n"] and row["benchmark"] not in missing and not str(row["benchmark"]).startswith("average"):
                raise UserError(f"rehearsal: {row['model']}, {row['label']}, {row['benchmark']}: the paper prints a "
                                "number that no variant has one for; name it in 11_figures.claim_roles.")  # fmt: skip


def _page(
    profile: Profile, made: Rehearsal, steps: Sequence[stages.Step], calls: Mapping[str, int], lacking: Sequence[str],
    minutes: Sequence[float],
) -> str:  # fmt: skip
    import pandas as pd

    builds = {step.build for step in steps if step.stage.per_model}
    recipes = [recipe for one in made.profile.each() if one.name in builds for _, _, recipe in one.recipes()]
    trained = sum(not recipe.get("checkpoint") for recipe in recipes)
    own = sorted(name for name, kin in made.models.items() if kin.own)
    kinds = sorted({kin.model_type for kin in made.models.values()})
    launched = ", ".join(name.split("/")[-1] for name in made.launched) or "no model: the profile names no launch"
    engine = f"vLLM's CPU build for {made.served.split('/')[-1]}, " if made.served else "no vLLM is installed here; "
    rows = [
        ("notebooks", f"{len(steps)}, from {steps[0].stage.name} to {steps[-1].stage.name}, by make", ""),
        ("models", f"{len(builds)}, each as two layers of random weights ({' and '.join(kinds)})",
         "the weights, their tokenizers, what fits into memory"),
        ("templates", f"of {len(made.models)} models; the model's own from your folders: {', '.join(own) or 'none'}",
         "the published templates of the others: ours have their shape"),
        ("variants", f"{trained} trained, {len(recipes) - trained} released checkpoints asked",
         "what any of them learns"),
        ("training", f"two processes under FSDP2 (gloo): {launched}; one process: the others",
         "GPU kernels, NCCL, DeepSpeed, several machines, batches of 128, resuming after a kill"),
        ("generation", f"{engine}transformers for the others" if made.served else f"{engine}transformers",
         "vLLM on GPUs, split over them, and at the paper's lengths" if made.served else "vLLM"),
        ("roles", ", ".join(f"{role} {count} calls" for role, count in sorted(calls.items())) or "none is a model",
         "the real models, their keys, prices and limits; prompts: upstream"),
        ("data", "a handful of generated rows for each set", "the sets themselves, their pins, counts and readers"),
        ("this took", f"{minutes[0]:.1f} minutes of a CPU's time, {minutes[1]:.1f} on the clock", ""),
    ]  # fmt: skip
    table = tables.markdown(pd.DataFrame(rows, columns=["part", "touched", "not touched"]))
    wanting = [f"- {sentence}" for sentence in lacking] or ["Nothing that could be looked for without the network."]
    return "\n".join([f"# Rehearsal of the profile `{profile.name}`", "", *table, "",
                      "## What the real run lacks on this machine", "", *wanting, ""])  # fmt: skip
