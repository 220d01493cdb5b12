"""`python -m star1lib COMMAND`: what the Makefile calls.

Every command ends in one sentence when something is wrong with the input, and with exit code 2.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence

from star1lib.errors import UserError, plain

log = logging.getLogger("star1lib")


def _check(args: argparse.Namespace) -> None:
    from star1lib.study import profiles

    profiles.check(profiles.load(args.profile))
    log.info("profile '%s': every setting is known to its notebook", args.profile)


def _graph(args: argparse.Namespace) -> None:
    from star1lib.models import roles
    from star1lib.study import preflight, profiles, room, runner

    loaded = profiles.load(args.profile)
    profiles.check(loaded)
    names = _names(args.models)
    if roles.models(roles.load(loaded.roles, loaded.prices)) or loaded.models:
        preflight.check(loaded, names, mirror=_mirror())  # before the first step that is paid for; asks for room too
    else:
        room.check(loaded, models=names)
    runner.write_graph(loaded, mirror=_mirror(), models=names)


def _run(args: argparse.Namespace) -> None:
    from star1lib.study import profiles
    from star1lib.study import runner as run

    name, _, model = args.profile.partition("/")
    loaded = profiles.load(name)
    run.run_stage(loaded.of(*loaded.chosen([model])) if model else loaded, args.stage)


def _figures(args: argparse.Namespace) -> None:
    from star1lib.study import figures, profiles

    for build in profiles.load(args.profile).builds():
        for path in figures.draw_all(build.name):
            log.info("%s", path)


def _report(args: argparse.Namespace) -> None:
    from star1lib.study import profiles, report

    page = report.build(profiles.load(args.profile))
    log.info("report:  %s", page)
    log.info("figures: %s", page.parent.parent / "figures")


def _publish(args: argparse.Namespace) -> None:
    from star1lib.study import publish

    for path in publish.publish(args.profile):
        log.info("%s", path)


def _cost(args: argparse.Namespace) -> None:
    from star1lib.study import cost, profiles

    log.info("%s", cost.table(profiles.load(args.profile), mirror=_mirror()))


def _plan(args: argparse.Namespace) -> None:
    from star1lib.study import plan, profiles

    card = plan.card(args.gpu)
    plans = plan.of_profile(profiles.load(args.profile), card, args.gpus, _names(args.models))
    log.info("%s", plan.table(plans, card, args.gpus, args.usd))
    plan.refuse(plans)


def _slurm(args: argparse.Namespace) -> None:
    from star1lib.study import profiles, slurm

    models = _names(args.models)
    path = slurm.write(profiles.load(args.profile), models, nodes=args.nodes, gpus=args.gpus, hours=args.hours)
    log.info("%s; submit it with: sbatch %s", path, path)


def _rehearse(args: argparse.Namespace) -> None:
    from star1lib.study import profiles, rehearse

    profile = profiles.load(args.profile)
    profiles.check(profile)
    page = rehearse.run(profile, _names(args.models), mirror=_mirror())
    log.info("%s\n%s", page.read_text(encoding="utf-8"), page)


def _preflight(args: argparse.Namespace) -> None:
    from star1lib.study import preflight, profiles

    profile = profiles.load(args.profile)
    profiles.check(profile)
    preflight.check(profile, _names(args.models), mirror=_mirror())
    log.info("profile '%s': nothing missing before the first paid step", args.profile)


def _export(args: argparse.Namespace) -> None:
    from pathlib import Path

    from star1lib.files import read_records
    from star1lib.records import Example
    from star1lib.selection import export
    from star1lib.study import profiles, stages

    out = stages.BUILD / profiles.load(args.profile).name
    rows = read_records(out / "04_selection" / "selected.jsonl", Example)
    log.info("%s", export.write(Path(args.out or out / "dataset"), rows, {"profile": args.profile}))


def _pin(args: argparse.Namespace) -> None:
    from star1lib.collection import download, sources

    pin = download.record_pin(sources.source(args.name), args.files)
    for file, sha256 in pin.files.items():
        log.info("%s pinned at revision %s: %s, sha256 %s", args.name, pin.revision, file, sha256)


def _pin_model(args: argparse.Namespace) -> None:
    from star1lib.models import pins

    pin = pins.record_model(args.name)
    log.info("%s pinned at revision %s: %d files", args.name, pin.revision, len(pin.files))


def _pins(args: argparse.Namespace) -> None:
    from star1lib.models import pins
    from star1lib.study import profiles

    for name in profiles.hub_models(profiles.load(args.profile)):
        pin = pins.record_model(name)
        log.info("%s pinned at revision %s: %d files", name, pin.revision, len(pin.files))


def _clean(args: argparse.Namespace) -> None:
    from star1lib.study import clean

    clean.clean(args.profile, assume_yes=args.yes)


def _subsets(args: argparse.Namespace) -> None:
    from pathlib import Path

    from star1lib.collection import subsets

    for path in subsets.export_subsets(Path(args.out)):
        log.info("%s", path)


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if text.strip() and not names:
        raise UserError(f"MODELS: '{text}' names no model; give names with commas between, or leave it out for all.")
    return names


def _mirror() -> str | None:
    return os.environ.get("STAR1_DATA") or None


def parser() -> argparse.ArgumentParser:
    """The command line; building it loads nothing heavy."""
    top = argparse.ArgumentParser(prog="star1lib", description=__doc__.split("\n")[0] if __doc__ else None)
    commands = top.add_subparsers(dest="command", required=True)

    def add(name: str, function: Callable[[argparse.Namespace], None], about: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=about, description=about)
        command.set_defaults(function=function)
        command.add_argument("--profile", default="mini", help="a file of params/, without .yaml (default: mini)")
        return command

    add("check", _check, "check a profile against the notebooks")
    graph = add("graph", _graph, "write the make graph of a profile")
    graph.add_argument("--models", default="", help="names with commas between (default: all of the profile)")
    add("run", _run, "run one notebook").add_argument("stage", help="for instance 05_sft")
    add("figures", _figures, "draw every figure again: the printed numbers, and ours where a run is there")
    add("report", _report, "write the linked HTML report")
    add("publish", _publish, "copy the small tables and figures of a run to figures/ and show them in the README")
    add("cost", _cost, "print what making the data would cost, before any call")
    planned = add("plan", _plan, "print memory, GPU hours and disk of each model, and refuse what cannot fit")
    planned.add_argument("--gpu", default="H100-80", help="a card: A100-80, H100-80, ... (default: H100-80)")
    planned.add_argument("--gpus", type=int, default=8, help="how many of them (default: 8)")
    planned.add_argument("--models", default="", help="names with commas between (default: the profile's)")
    planned.add_argument("--usd", type=float, help="price of one GPU for an hour (default: an assumed one, printed)")
    clustered = add("slurm", _slurm, "write the Slurm job file of a profile")
    clustered.add_argument("--models", default="", help="names with commas between (default: all of the profile)")
    clustered.add_argument("--nodes", type=int, default=1, help="how many machines (default: 1)")
    clustered.add_argument("--gpus", type=int, default=8, help="GPUs of each (default: 8)")
    clustered.add_argument("--hours", type=float, default=24, help="the job's limit (default: 24)")
    looked = add("preflight", _preflight, "look for what is missing before the first paid step")
    looked.add_argument("--models", default="", help="names with commas between (default: all of the profile)")
    rehearsed = add("rehearse", _rehearse, "run every notebook and variant with tiny models and roles on loopback")
    rehearsed.add_argument("--models", default="", help="names with commas between (default: all of the profile)")
    add("export", _export, "write the selected rows as a dataset in the released schema").add_argument(
        "--out", default="", help="folder to write to (default: build/PROFILE/dataset)"
    )
    add("clean", _clean, "remove a profile's build; asks before trained models or paid-for responses go").add_argument(
        "--yes", action="store_true", help="do not ask"
    )
    pin = add("pin", _pin, "record revision and hashes of a hub dataset from your own access")
    pin.add_argument("name", help="a name of star1lib.collection.sources.SOURCES")
    pin.add_argument("files", nargs="+", help="files inside the hub dataset, or patterns in quotes")
    add("pin-model", _pin_model, "record revision and hashes of a hub model from your own access").add_argument(
        "name", help="owner/model"
    )
    add("pins", _pins, "record revision and hashes of every hub model that a profile names")
    add("export-subsets", _subsets, "write the WildChat and WildJailbreak subsets from your own access").add_argument(
        "--out", default="build/subsets", help="folder to write to"
    )
    return top


class _Plain(logging.Formatter):
    """The message alone; what foreign text in it would tell a terminal to do is shown and not done."""

    def format(self, record: logging.LogRecord) -> str:
        return plain(super().format(record))


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return 0, or 2 after one clear sentence on standard error."""
    args = parser().parse_args(argv)
    handler = logging.StreamHandler()
    handler.setFormatter(_Plain())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    # papermill warns of parameters typed `str | None`, which it cannot read; profile.check has checked them all.
    for noisy in ("httpx", "papermill", "traitlets", "fontTools", "matplotlib"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    try:
        args.function(args)
    except UserError as err:
        log.error("%s", err)
        return 2
    except OSError as err:
        log.error("%s: %s; correct that and run the same command again.", err.filename or "file system", err.strerror)
        return 2
    except KeyboardInterrupt:
        log.error("interrupted; the same command goes on from the last finished stage.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
