"""What a run would only find out after hours or dollars, looked for before its first paid step.

Sets that are not at hand, models without a usable chat template or pin, keys that are not set, benign variants that can
never come, averages over nothing, engines that are not installed, a machine that is too small. Nothing is paid for.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from star1lib.collection import sources
from star1lib.errors import UserError
from star1lib.evaluation.benchmarks import benchmark
from star1lib.evaluation.benchmarks.prompts import VARIANTS as BENIGN
from star1lib.evaluation.sandbox.confine import ConfinementError
from star1lib.evaluation.settings import Evaluation
from star1lib.files import read_json
from star1lib.models import chat, checkpoints, pins, roles
from star1lib.study import claims, room
from star1lib.study.profiles import Profile
from star1lib.training.sft import TrainConfig
from star1lib.training.variants import BASE, Recipe

_NEEDED = {"06_safety": "safety_sets", "07_reasoning": "reasoning_sets", "10_over_refusal": "over_refusal_sets"}
_OTHER_KEYS = {"bedrock", "sagemaker", "hf"}  # their credentials are not one variable


def check(profile: Profile, models: Sequence[str] = (), *, mirror: str | None = None) -> None:
    """Raise :class:`UserError` that lists everything missing, a clause each; silent where nothing is."""
    if wanting := [*faults(profile, models), *lacking(profile, models, mirror=mirror)]:
        raise refusal(profile, wanting)


def refusal(profile: Profile, wanting: Sequence[str]) -> UserError:
    """All of `wanting` in one sentence."""
    return UserError(f"{profile.file}: the profile cannot run to its end: {'; '.join(w.rstrip('.') for w in wanting)}.")


def faults(profile: Profile, models: Sequence[str] = ()) -> list[str]:
    """What is wrong with the profile itself, wherever it runs, each with its field and a remedy."""
    builds = profile.each(models)
    return list(dict.fromkeys([*_unknown(builds[0]), *_averages(profile, builds), *_benign(builds)]))


def lacking(
    profile: Profile, models: Sequence[str] = (), *, mirror: str | None = None, fetch: bool = True
) -> list[str]:
    """What a run lacks on this machine, each with a remedy; without `fetch` nothing is looked for on a network."""
    builds = profile.each(models)
    return list(dict.fromkeys([
        *_keys(profile), *_sets(builds, Path(mirror) if mirror else None, fetch), *_templates(builds),
        *_engines(builds), *_said(room.check, profile, models=models),
    ]))  # fmt: skip


def _said(look: Callable[..., Any], *given: Any, **options: Any) -> Iterator[str]:
    """What `look` complains about."""
    try:
        look(*given, **options)
    except UserError as err:
        yield str(err)


def _keys(profile: Profile) -> Iterator[str]:
    for name, role in roles.models(roles.load(profile.roles, profile.prices)).items():
        service = role.model.split("/")[1] if role.provider == "openai-api" else role.provider
        variable = role.api_key_env or f"{service.upper().replace('-', '_')}_API_KEY"
        local = role.provider in roles.LOCAL | _OTHER_KEYS or roles.is_loopback(role.base_url)
        if not local and not os.environ.get(variable, "").strip():
            yield f"roles.{name}: the environment variable {variable} is not set, export your key in it"


def _recipes(build: Profile) -> list[tuple[str, str, Recipe]]:
    return [(stage, name, Recipe.model_validate(raw)) for stage, name, raw in build.recipes()]


def _unknown(build: Profile) -> Iterator[str]:
    """Training sets that no run could load; unlike the others, one that is not at hand is left out by the run."""
    for name in build.setting("01_sources", "train_sets", []):
        for said in _said(sources.source, name):
            yield f"notebooks.01_sources.train_sets: {said}"


def _sets(builds: Sequence[Profile], mirror: Path | None, fetch: bool) -> Iterator[str]:
    asked: dict[str, str] = {}  # set -> the first field that names it
    held: dict[str, str] = {}
    for build in builds:
        for stage, section in build.notebooks.items():
            for kind in (*_NEEDED.values(), "first_sets"):
                asked |= {name: f"notebooks.{stage}.{kind}" for name in section.get(kind, []) if name not in asked}
        for stage, title, recipe in _recipes(build):
            for pool in () if recipe.checkpoint else (recipe.pool, recipe.benign_pool):
                if pool in sources.SOURCES:
                    held.setdefault(pool, f"notebooks.{stage}.variants.{title}")
    held |= dict.fromkeys(builds[0].setting("01_sources", "test_sets", []), "notebooks.01_sources.test_sets")
    for name, field in {**held, **asked}.items():
        source = sources.SOURCES.get(name)
        local = bool(mirror and source and source.mirror and (mirror / source.mirror).exists())
        if name == BENIGN or (not fetch and source and source.url and not local):
            continue
        look = benchmark(name).load if name in asked else partial(sources.load, name)
        with suppress(ConfinementError):  # what cannot be confined here is left out, as the run says
            for said in _said(look, mirror):
                yield f"{field}: {said}"


def _averages(profile: Profile, builds: Sequence[Profile]) -> Iterator[str]:
    """Notebooks that ask nothing, and roles of a claim about safety that are asked no benchmark in common."""
    for build in builds:
        for stage, kind in _NEEDED.items():
            if build.setting(stage, kind) == []:
                yield f"notebooks.{stage}.{kind}: empty, an average over nothing, name a benchmark"

    ledger, by_kind = claims.load(), profile.setting("11_figures", "claim_roles", {})
    of_model = {f"{profile.name}/{one.folder}": one.model_class for one in profile.models}
    for build, kind in itertools.product(builds, by_kind):
        if of_model.get(build.name, kind) != kind:
            continue
        played, asked = by_kind[kind], _asked(build)
        for claim in ledger.claims:
            pair = [[name for name in played.get(role, []) if name in asked] for role in (claim.first, claim.second)]
            if claim.metric == "safe" and kind in claim.printed and all(pair):
                common = set.intersection(*(asked[name] for names in pair for name in names))
                if not ledger.averaged("safe", sorted(common)):
                    sides = f"{claim.first} and {claim.second}"
                    yield (f"notebooks.11_figures.claim_roles.{kind}: claim {claim.number}: {sides} share no "
                           "benchmark, an average over nothing, ask both the same safety_sets")  # fmt: skip


def _asked(build: Profile) -> dict[str, set[str]]:
    """Variant -> the benchmarks of harmful prompts that it is asked, without those left to defaults."""
    where = {"05_first": "06_safety", "05_sft": "06_safety", "08_data_quality": "08_data_quality",
             "10_over_refusal": "10_over_refusal"}  # fmt: skip
    pairs = [(BASE, stage) for stage in where.values()]
    pairs += [(name, where[stage]) for stage, name, _ in build.recipes() if stage in where]
    pairs += [(name, "08_data_quality") for name in build.setting("08_data_quality", "beside", [])]
    asked: dict[str, set[str]] = defaultdict(set)
    for name, stage in pairs:
        asked[name].update(build.setting(stage, "safety_sets", []))
    return {name: found for name, found in asked.items() if found}


def _benign(builds: Sequence[Profile]) -> Iterator[str]:
    for build in builds:
        for stage, name, recipe in _recipes(build):
            most = min(build.setting(stage, "benign_for_training", 0), build.setting("04_selection", "size", 1000))
            if recipe.benign_pool == "own" and recipe.benign > most:
                yield (f"notebooks.{stage}.variants.{name}: {recipe.benign} benign variants asked for, at most "
                       f"{most} can come, ask for fewer or raise benign_for_training and size")  # fmt: skip


def _templates(builds: Sequence[Profile]) -> Iterator[str]:
    for build in builds:
        base = str(build.common.get("base_model", checkpoints.SMOLLM2))
        for name in dict.fromkeys([base, *(one.checkpoint for _, _, one in _recipes(build) if one.checkpoint)]):
            if not roles.served(name):
                yield from _said(_template, name)


def _template(name: str) -> None:
    """The model's tokenizer and architecture, without its weights, and whether its template renders a conversation."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    folder = str(pins.model_folder(name, weights=False)) if pins.is_hub_model(name) else name
    tokenizer = checkpoints.load_tokenizer(folder)
    kind = str(read_json(Path(checkpoints.resolve(folder)) / "config.json").get("model_type"))
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise UserError(f"model '{name}': its architecture, {kind}, is no causal language model; name another model")
    opened = chat.opens_thinking(tokenizer)
    tokens = chat.prompt_tokens(tokenizer, [{"role": "user", "content": "How are you?"}], opened)
    text = tokenizer.decode(tokens)
    if "How are you?" not in text or text.rstrip().endswith("How are you?"):
        raise UserError(f"model '{name}': its chat template is of an unknown kind, it opens no turn of the assistant; "
                        "correct the template or name another model")  # fmt: skip


def _engines(builds: Sequence[Profile]) -> Iterator[str]:
    for build in builds:
        how = Evaluation.model_validate(build.common.get("evaluation", {}))
        if how.engine == "vllm" and not Path(how.serving.python).exists():
            yield f"serving.python: {how.serving.python} does not exist, run `make serve` once or name another"
        config = TrainConfig.model_validate(build.common.get("training", {}))
        if config.launch and not Path(config.launch).exists():
            yield f"training.launch: {config.launch} does not exist, name a file of params/accelerate/"
        elif config.launch and not shutil.which("nvidia-smi"):
            yield ("training.launch: there is no GPU here to share the training out to, run it where there are some; "
                   "`make plan` says how many")  # fmt: skip
