"""Profiles: `params/<name>.yaml`, the only place for settings, checked before anything runs.

A profile has three parts: `common` values that every notebook with such a parameter receives,
`notebooks` with one section per notebook, and `roles` with `prices` for the models that make data.
With a list `models`, stages 05 to 10 run once for each model, in a build folder of its own.
A key that no notebook declares is an error here; papermill alone would only warn.
"""

from __future__ import annotations

import ast
import itertools
import json
import math
import re
from collections import ChainMap
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn

import yaml
from pydantic import Field, ValidationError, field_validator

from star1lib import policies
from star1lib.errors import UserError, meant
from star1lib.evaluation.benchmarks import REGISTRY
from star1lib.evaluation.seeds import SEED, recipe_of
from star1lib.evaluation.settings import Evaluation
from star1lib.files import parse_record, plain_name
from star1lib.models import pins, roles
from star1lib.records import NonEmpty, Record, first_error
from star1lib.study import claims, stages
from star1lib.training.sft import TrainConfig
from star1lib.training.variants import BASE, PLAIN, Recipe

DERIVED = "profile.yaml"  # in the build folder of a profile that was made from another one
RESERVED = ("profile", "out", "mirror", "roles", "selection", "models")


class StudyModel(Record):
    """One model of a profile's list and what is other for it than in the profile.

    `model` is a hub id or a folder, `name` (its last part, without "DeepSeek-") names its build folder; `common` and
    `notebooks` replace single settings, and of a table such as `variants` single entries. `model_class` and `billions`
    say what the paper's claims compare it with.
    """

    model: NonEmpty
    name: str = ""
    model_class: Literal["reasoning", "plain"] = "reasoning"
    billions: float | None = Field(default=None, gt=0)
    common: dict[str, Any] = Field(default_factory=dict)
    notebooks: dict[str, dict[str, Any]] = Field(default_factory=dict)

    @property
    def folder(self) -> str:
        """The name of its build folder."""
        return self.name or self.model.rstrip("/").rsplit("/")[-1].removeprefix("DeepSeek-")


class Profile(Record):
    """One profile, parsed: see the module's docstring for its parts."""

    name: str
    about: str = Field(min_length=1)
    common: dict[str, Any] = Field(default_factory=dict)
    notebooks: dict[str, dict[str, Any]] = Field(default_factory=dict)
    roles: dict[str, Any] = Field(default_factory=dict)
    prices: dict[str, dict[str, float]] = Field(default_factory=dict)
    offline: bool = True
    policies: str | None = None
    models: list[StudyModel] = Field(default_factory=list)

    @field_validator("models", mode="before")
    @classmethod
    def _names(cls, given: Any) -> Any:
        """A bare name stands for a model without settings of its own."""
        return [{"model": one} if isinstance(one, str) else one for one in given] if isinstance(given, list) else given

    @property
    def file(self) -> Path:
        """The profile's file, relative to the repository."""
        return stages.PARAMS / f"{self.name.split('/')[0]}.yaml"

    def chosen(self, names: Sequence[str] = ()) -> list[str]:
        """The models called `names`, in the profile's order; all without names. A misspelt one is a UserError."""
        known = [one.folder for one in self.models]
        for name in names:
            if name not in known:
                hint = meant(name, known) if known else "its one model is common.base_model"
                raise UserError(f"MODELS: profile '{self.name}' has no model '{name}'; {hint}.")
        return [name for name in known if not names or name in names]

    def builds(self) -> list[Profile]:
        """The profile, then each of its models' own: whatever has a build folder."""
        return [self, *(self.of(name) for name in self.chosen())]

    def each(self, names: Sequence[str] = ()) -> list[Profile]:
        """The profiles that training and evaluation run under: its models' own, of the named ones, else itself."""
        return [self.of(name) for name in self.chosen(names)] or [self]

    def setting(self, stage: str, key: str, default: Any = None) -> Any:
        """What a notebook is given: its own section's value, else the common one, else `default`."""
        return self.notebooks.get(stage, {}).get(key, self.common.get(key, default))

    def recipes(self) -> list[tuple[str, str, dict[str, Any]]]:
        """Every variant of its notebooks: the stage, its name, its recipe as written."""
        return [(stage, name, recipe) for stage, section in self.notebooks.items()
                for name, recipe in section.get("variants", {}).items()]  # fmt: skip

    def of(self, name: str) -> Profile:
        """The profile as one of its models sees it; its name is that of the model's build, `<profile>/<model>`."""
        [own] = [one for one in self.models if one.folder == name]
        both = dict.fromkeys([*self.notebooks, *own.notebooks])
        return self.model_copy(update={
            "name": f"{self.name}/{name}",
            "common": _over({**self.common, "base_model": own.model}, own.common),
            "notebooks": {key: _over(self.notebooks.get(key, {}), own.notebooks.get(key, {})) for key in both},
            "models": [],
        })  # fmt: skip


class _OnceLoader(yaml.SafeLoader):
    """YAML's safe loader, which refuses aliases, and a key that is given twice."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Any node but an alias, by which a value could hold itself."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError(f"line {self.peek_event().start_mark.line + 1}: write the value out, not an alias")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """A mapping, each key once."""
        seen: dict[Any, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.YAMLError(f"line {line}: a key must be a word")
            if key.value in seen:
                raise yaml.YAMLError(f"'{key.value}' is given twice, in lines {seen[key.value]} and {line}")
            seen[key.value] = line
        return super().construct_mapping(node, deep)


def load(name: str, root: Path = Path()) -> Profile:
    """Read `params/<name>.yaml`; a missing, misspelt or malformed profile is a :class:`UserError`."""
    path = root / stages.PARAMS / f"{plain_name(name, 'profile')}.yaml"
    if not path.exists() and (derived := root / stages.BUILD / name / DERIVED).exists():
        path = derived
    if not path.exists():
        known = sorted(file.stem for file in (root / stages.PARAMS).glob("*.yaml"))
        raise UserError(f"profile '{name}': {path} does not exist; {meant(name, known)}.")
    try:
        value = yaml.load(path.read_text(encoding="utf-8"), Loader=_OnceLoader)  # a safe loader
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as err:
        raise UserError(f"{path}: not valid YAML ({' '.join(str(err).split())[:160]}); correct that line.") from err
    if not isinstance(value, dict):
        raise UserError(f"{path}: a mapping with `about`, `common` and `notebooks` was expected; see params/mini.yaml.")
    try:
        return Profile.model_validate({"name": name, **value})
    except ValidationError as err:
        raise UserError(f"{path}: {first_error(err)}; correct it.") from err


def declared_parameters(notebook: Path) -> dict[str, Any]:
    """The parameters of a notebook with their defaults, from the cell tagged `parameters`.

    Defaults are read as literals, never run. Raises :class:`UserError` when there is no such cell.
    """
    try:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    except FileNotFoundError as err:
        raise UserError(f"{notebook}: the notebook is missing; restore it from the repository.") from err
    except (json.JSONDecodeError, KeyError) as err:
        raise UserError(f"{notebook}: not a notebook ({err}); restore it from the repository.") from err
    tagged = [cell for cell in cells if "parameters" in cell.get("metadata", {}).get("tags", [])]
    if not tagged:
        raise UserError(f"{notebook}: no cell is tagged 'parameters'; tag the cell that holds the defaults.")
    found: dict[str, Any] = {}
    for node in ast.parse("".join(tagged[0]["source"])).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            try:
                found[node.target.id] = ast.literal_eval(node.value)
            except ValueError as err:
                raise UserError(f"{notebook}: parameter '{node.target.id}': its default must be a literal.") from err
    return found


def check(profile: Profile, root: Path = Path()) -> None:
    """Raise :class:`UserError` for any section, key or value type that the notebooks do not know."""
    where = root / profile.file
    if "/" not in profile.name:
        _check_models(profile, where)
    for name in profile.chosen():
        check(profile.of(name), root)
    roles.load(profile.roles, profile.prices)
    if profile.policies:
        own = policies.load(root / profile.policies)
        rows = [(root / profile.policies).parent / "corpus" / f"{one.slug}.jsonl" for one in own.policies if one.slug]
        if missing := [path for path in rows if not path.exists()]:
            raise UserError(f"{missing[0]}: not there; write its rows beside the policies or take out the `slug`.")
    declared = {stage.name: declared_parameters(root / stage.notebook) for stage in stages.STAGES}
    everywhere = dict(sorted(ChainMap(*declared.values()).items()))
    sections = [profile.common, *profile.notebooks.values()]
    if reserved := [key for section in sections for key in section if key in RESERVED]:
        _refuse(str(where), f"'{reserved[0]}' is set by the runner; remove it")
    for name, section in profile.notebooks.items():
        if name not in declared:
            _refuse(f"{where}: notebooks.{name}", f"no such notebook; {meant(name, declared)}")
        _check_section(section, declared[name], f"{where}: notebooks.{name}", "the notebook has no such parameter")
    _check_section(profile.common, everywhere, f"{where}: common", "no notebook has it")
    for key, value in itertools.chain(*(section.items() for section in sections)):
        _check_value(key, value, f"{where}: {key}")
    if not profile.models:
        _check_compared(profile, declared, where)


def _check_section(given: Mapping[str, Any], declared: Mapping[str, Any], place: str, unknown: str) -> None:
    """Keys that a notebook has, with values of the types of its defaults."""
    for key, value in given.items():
        if key not in declared:
            _refuse(f"{place}.{key}", f"{unknown}; {meant(key, declared)}")
        _check_type(value, declared[key], f"{place}.{key}")


def _check_type(value: Any, default: Any, where: str) -> None:
    if default is None or value is None or isinstance(value, type(default)):
        return
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return
    _refuse(where, f"{type(default).__name__} expected, {type(value).__name__} found; correct the value")


def _check_value(key: str, value: Any, place: str) -> None:
    """What a nested or bounded setting may be: known fields, known names, possible numbers."""
    asked: Iterable[str] = ()
    if key == "training":
        parse_record(value, TrainConfig, place)
    elif key == "variants":
        for name, recipe in value.items():
            if plain_name(str(name), f"{place}: variant") == BASE:
                _refuse(place, f"'{BASE}' is the model before training; choose another name")
            if re.search(SEED, name):
                _refuse(f"{place}.{name}", "a variant of another seed is called so; choose another name")
            parse_record(recipe if isinstance(recipe, dict) else {"recipe": recipe}, Recipe, f"{place}.{name}")
    elif key == "evaluation":
        asked = parse_record(value, Evaluation, place).limits
    elif key.endswith("_sets") and key not in ("train_sets", "test_sets"):
        asked = value
    elif isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value) or value < 0:
            _refuse(place, f"{value} given; a number from 0 on is needed")
        if "threshold" in key and value > 1:
            _refuse(place, f"{value} given; a threshold lies between 0 and 1")
    for name in asked:
        if name not in REGISTRY:
            _refuse(place, f"no benchmark '{name}'; {meant(str(name), sorted(REGISTRY))}")


def _refuse(place: str, reason: str) -> NoReturn:
    raise UserError(f"{place}: {reason}.")


def parameters(
    profile: Profile, stage_name: str, *, mirror: str | None = None, root: Path = Path(), models: Sequence[str] = ()
) -> dict[str, Any]:
    """What papermill injects into one notebook: reserved values, then `common`, then its own section.

    A model's notebooks get those of `profile.of(model)`; the last one gets the facts of `models`.
    """
    declared = declared_parameters(root / stages.stage(stage_name).notebook)
    facts = {one.folder: {"out": str(stages.BUILD / profile.name / one.folder), "model_class": one.model_class,
                          "billions": one.billions} for one in profile.models}  # fmt: skip
    values: dict[str, Any] = {
        "profile": profile.name,
        "out": str(stages.BUILD / profile.name),
        "mirror": mirror or None,
        "roles": _priced(profile),
        "selection": str(stages.BUILD / profile.name.split("/")[0] / "04_selection"),
        "models": {name: facts[name] for name in models},
        **profile.common,
    }
    given = {key: value for key, value in values.items() if key in declared}
    return given | profile.notebooks.get(stage_name, {})


def _over(settings: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """`settings` with `own` in their place; of tables single entries."""
    tables = {key for key, value in own.items() if isinstance(value, dict) and isinstance(settings.get(key), dict)}
    return {**settings, **own, **{key: {**settings[key], **own[key]} for key in tables}}


def hub_models(profile: Profile) -> list[str]:
    """Every hub model that a profile names: what is trained, and checkpoints that are evaluated alone."""
    found = []
    for build in profile.builds():
        found.append(str(build.common.get("base_model", "")))
        found += [str(recipe["checkpoint"]) for _, _, recipe in build.recipes() if recipe.get("checkpoint")]
    return [name for name in dict.fromkeys(found) if pins.is_hub_model(name)]


def _check_models(profile: Profile, where: Path) -> None:
    """Model names that can be folders, each once, and claims about variants that somebody trains."""
    taken = {*stages.BY_NAME, "notebooks", "params", "tables", "figures", "report", "evaluations", "models", "calls"}
    for name in profile.chosen():
        if plain_name(name, f"{where}: model") in taken:
            _refuse(f"{where}: models: {name}", "the name is taken in a build folder, or given twice; give a `name`")
        taken.add(name)
    declared = {BASE, PLAIN}
    for build in profile.builds():
        declared |= set(_variants(build, where))
    known, by_kind = claims.load().roles(), profile.setting("11_figures", "claim_roles", {})
    fields = {f"claim_roles.{kind}": played for kind, played in by_kind.items()}
    fields["printed_roles"] = profile.setting("11_figures", "printed_roles", {})
    for field, played in fields.items():
        for role, names in played.items():
            if role not in known:
                _refuse(f"{where}: {field}", f"no role '{role}'; {meant(role, known)}")
            _check_made(names, declared, f"{where}: {field}")


def _variants(build: Profile, where: Path) -> dict[str, Any]:
    """The recipes of a build by variant; a name that stands for two recipes would hide one of them."""
    found: dict[str, Any] = {}
    for stage, name, recipe in build.recipes():
        if found.setdefault(name, recipe) != recipe:
            place = f"{where}: notebooks.{stage}.variants.{name}"
            _refuse(place, "another notebook has a variant of that name and another recipe; choose another name")
    return found


def _check_made(names: Iterable[str], made: Collection[str], place: str) -> None:
    """Whether somebody makes the named variants, of whatever seed and with whatever switch (`star1_seed1+zero`)."""
    for name in names:
        if recipe_of(name.partition("+")[0]) not in made:
            _refuse(place, f"no variant '{name}'; {meant(name, sorted(made))}")


def _check_compared(profile: Profile, declared: Mapping[str, Mapping[str, Any]], where: Path) -> None:
    """Variants that a notebook compares are ones that the profile makes, its notebooks' defaults included."""
    trained = [profile.setting(stage, "variants", declared[stage].get("variants", [])) for stage in declared]
    made = {BASE, PLAIN, *itertools.chain(*trained)}
    pairs = profile.setting("09_thinking", "pairs", declared["09_thinking"]["pairs"])
    _check_made(itertools.chain(*pairs), made, f"{where}: 09_thinking.pairs ({profile.name})")
    beside = profile.setting("08_data_quality", "beside", declared["08_data_quality"]["beside"])
    _check_made(beside, made, f"{where}: 08_data_quality.beside ({profile.name})")


def _priced(profile: Profile) -> dict[str, Any]:
    """The roles, each model with its price, so that a notebook is handed all it needs."""
    played = roles.load(profile.roles, profile.prices)
    priced = {name: {"price": role.price.model_dump()} for name, role in roles.models(played).items() if role.price}
    return {name: {**player, **priced[name]} if name in priced else player for name, player in profile.roles.items()}
