"""Profiles: `params/<name>.yaml`, the only place for settings, checked before anything runs.

A profile has three parts: `common` values that every notebook with such a parameter receives,
`notebooks` with one section per notebook, and `roles` with `prices` for the models that make data.
A key that no notebook declares is an error here; papermill alone would only warn.
"""

from __future__ import annotations

import ast
import difflib
import json
import math
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from star1lib import policies
from star1lib.errors import UserError
from star1lib.evaluation.benchmarks import REGISTRY
from star1lib.evaluation.settings import Evaluation
from star1lib.files import parse_record, plain_name
from star1lib.models import roles
from star1lib.records import Record, first_error
from star1lib.study import stages
from star1lib.training.sft import TrainConfig
from star1lib.training.variants import BASE, Recipe

RESERVED = ("profile", "out", "mirror", "roles")


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


class _OnceLoader(yaml.SafeLoader):
    """YAML's safe loader, which refuses a key that is given twice."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """A mapping, each key once."""
        seen: dict[Any, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.YAMLError(f"'{key.value}' is given twice, in lines {seen[key.value]} and {line}")
            seen[key.value] = line
        return super().construct_mapping(node, deep)


def load(name: str, root: Path = Path()) -> Profile:
    """Read `params/<name>.yaml`; a missing, misspelt or malformed profile is a :class:`UserError`."""
    path = root / stages.PARAMS / f"{plain_name(name, 'profile')}.yaml"
    if not path.exists():
        known = sorted(file.stem for file in (root / stages.PARAMS).glob("*.yaml"))
        raise UserError(f"profile '{name}': {path} does not exist; {_meant(name, known)}")
    try:
        value = yaml.load(path.read_text(encoding="utf-8"), Loader=_OnceLoader)  # a safe loader
    except (yaml.YAMLError, UnicodeDecodeError) as err:
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
    for cell in cells:
        if "parameters" in cell.get("metadata", {}).get("tags", []):
            return _assignments("".join(cell["source"]), notebook)
    raise UserError(f"{notebook}: no cell is tagged 'parameters'; tag the cell that holds the defaults.")


def _assignments(source: str, notebook: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            try:
                found[node.target.id] = ast.literal_eval(node.value)
            except ValueError as err:
                raise UserError(f"{notebook}: parameter '{node.target.id}': its default must be a literal.") from err
    return found


def check(profile: Profile, root: Path = Path()) -> None:
    """Raise :class:`UserError` for any section, key or value type that the notebooks do not know."""
    where = root / stages.PARAMS / f"{profile.name}.yaml"
    roles.load(profile.roles, profile.prices)
    if profile.policies:
        own = policies.load(root / profile.policies)
        rows = [(root / profile.policies).parent / "corpus" / f"{one.slug}.jsonl" for one in own.policies if one.slug]
        if missing := [path for path in rows if not path.exists()]:
            raise UserError(f"{missing[0]}: not there; write its rows beside the policies or take out the `slug`.")
    declared = {stage.name: declared_parameters(root / stage.notebook) for stage in stages.STAGES}
    for name, section in profile.notebooks.items():
        if name not in declared:
            raise UserError(f"{where}: notebooks.{name}: no such notebook; {_meant(name, list(declared))}")
        for key, value in section.items():
            if key not in declared[name]:
                raise UserError(
                    f"{where}: notebooks.{name}.{key}: the notebook has no such parameter; "
                    f"{_meant(key, list(declared[name]))}"
                )
            _check_type(value, declared[name][key], f"{where}: notebooks.{name}.{key}")
    for section in (profile.common, *profile.notebooks.values()):
        for key, value in section.items():
            _check_value(key, value, where)
    everywhere = {key for parameters in declared.values() for key in parameters}
    for key, value in profile.common.items():
        owners = [parameters for parameters in declared.values() if key in parameters]
        if not owners:
            raise UserError(f"{where}: common.{key}: no notebook has it; {_meant(key, sorted(everywhere))}")
        _check_type(value, owners[0][key], f"{where}: common.{key}")


def _check_type(value: Any, default: Any, where: str) -> None:
    if default is None or value is None or isinstance(value, type(default)):
        return
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return
    raise UserError(f"{where}: {type(default).__name__} expected, {type(value).__name__} found; correct the value.")


def _check_value(key: str, value: Any, where: Path) -> None:
    """What a nested or bounded setting may be: known fields, known names, possible numbers."""
    if key in RESERVED:
        raise UserError(f"{where}: '{key}' is set by the runner; remove it.")
    place = f"{where}: {key}"
    if key == "training":
        parse_record(value, TrainConfig, place)
    elif key == "variants":
        for name, recipe in value.items():
            if plain_name(str(name), f"{place}: variant") == BASE:
                _refuse(place, f"'{BASE}' is the model before training; choose another name")
            parse_record(recipe if isinstance(recipe, dict) else {"recipe": recipe}, Recipe, f"{place}.{name}")
    elif key == "evaluation":
        for name in parse_record(value, Evaluation, place).limits:
            if name not in REGISTRY:
                _refuse(place, f"no benchmark '{name}'; {_meant(name, sorted(REGISTRY))}")
    elif key.endswith("_sets") and key not in ("train_sets", "test_sets"):
        for name in value:
            if name not in REGISTRY:
                _refuse(place, f"no benchmark '{name}'; {_meant(str(name), sorted(REGISTRY))}")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value) or value < 0:
            _refuse(place, f"{value} given; a number from 0 on is needed")
        if "threshold" in key and value > 1:
            _refuse(place, f"{value} given; a threshold lies between 0 and 1")


def _refuse(place: str, reason: str) -> None:
    raise UserError(f"{place}: {reason}.")


def parameters(profile: Profile, stage_name: str, *, mirror: str | None = None, root: Path = Path()) -> dict[str, Any]:
    """What papermill injects into one notebook: reserved values, then `common`, then its own section."""
    declared = declared_parameters(root / stages.stage(stage_name).notebook)
    values: dict[str, Any] = {
        "profile": profile.name,
        "out": str(stages.BUILD / profile.name),
        "mirror": mirror or None,
        "roles": _priced(profile),
    }
    values.update(profile.common)
    values = {key: value for key, value in values.items() if key in declared}
    values.update(profile.notebooks.get(stage_name, {}))
    return values


def _priced(profile: Profile) -> dict[str, Any]:
    """The roles, each model with its price, so that a notebook is handed all it needs."""
    played = roles.load(profile.roles, profile.prices)
    priced = {name: {"price": role.price.model_dump()} for name, role in roles.models(played).items() if role.price}
    return {name: {**player, **priced[name]} if name in priced else player for name, player in profile.roles.items()}


def _meant(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"{hint}known: {', '.join(known)}."
