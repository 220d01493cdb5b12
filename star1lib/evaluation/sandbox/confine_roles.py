"""What runs inside the confinement: the untrusted program, and the tests that question it.

Program and tests never share a process. Calls and answers cross two pipes as plain data, so code
under test sees neither the tests nor their expected values, and cannot forge a pass: whatever it
prints, exits with or writes to its pipe is at most an answer, and an answer is compared by the tests.
"""

from __future__ import annotations

import builtins
import decimal
import fractions
import importlib.abc
import importlib.util
import json
import os
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

LONGEST_LINE = 16 << 20
REQUEST, REPLY, REPORT = 3, 4, 5


class Gone(BaseException):
    """The program can answer no more calls; not an Exception, so that a test cannot swallow it."""


def encode(value: Any) -> Any:
    """Plain data as JSON that decodes to equal data; anything else by its type's name."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return ["str", str.__str__(value)]
    if isinstance(value, int):
        return ["int", int.__format__(value, "x")]
    if isinstance(value, float):
        return ["float", float.hex(value)]
    if isinstance(value, complex):
        return ["complex", [float.hex(value.real), float.hex(value.imag)]]
    if isinstance(value, bytes | bytearray):
        return ["bytes", bytes(value).hex()]
    if isinstance(value, fractions.Fraction):
        return ["fraction", [value.numerator, value.denominator]]
    if isinstance(value, decimal.Decimal):
        return ["decimal", str(value)]
    for kind in (list, tuple, set, frozenset):
        if isinstance(value, kind):
            return [kind.__name__, [encode(part) for part in value]]
    if isinstance(value, dict):
        return ["dict", [[encode(key), encode(part)] for key, part in value.items()]]
    return ["object", type(value).__name__]


def decode(value: Any) -> Any:
    """The inverse of :func:`encode`; an object that is not plain data comes back equal to nothing."""
    if value is None or isinstance(value, bool):
        return value
    kind, body = value
    simple: dict[str, Callable[[Any], Any]] = {
        "str": str,
        "int": lambda text: int(text, 16),
        "float": float.fromhex,
        "complex": lambda parts: complex(*map(float.fromhex, parts)),
        "bytes": bytes.fromhex,
        "fraction": lambda parts: fractions.Fraction(*parts),
        "decimal": decimal.Decimal,
        "object": lambda name: object(),
        "dict": lambda parts: {decode(key): decode(part) for key, part in parts},
    }
    if kind in simple:
        return simple[kind](body)
    return {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}[kind]([decode(part) for part in body])


class Text(importlib.abc.SourceLoader):
    """Loads a module from a string: there is no file that could be changed or read back."""

    def __init__(self, text: str) -> None:
        self.text = text

    def get_filename(self, fullname: str) -> str:
        """A name for tracebacks."""
        return f"<{fullname}>"

    def get_data(self, path: str) -> bytes:
        """The source."""
        return self.text.encode("utf-8", "surrogatepass")


def load(name: str, text: str) -> Any:
    """`text` as a module of that name."""
    spec = importlib.util.spec_from_loader(name, Text(text))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def play_program(config: dict[str, Any]) -> None:
    """Load the untrusted code, then answer calls of its entry point, one line each."""
    requests, replies = os.fdopen(REQUEST, "rb"), os.fdopen(REPLY, "wb")

    def send(*parts: Any) -> None:
        replies.write(json.dumps(parts).encode() + b"\n")
        replies.flush()

    try:
        function = getattr(load("program", config["program"]), config["entry_point"])
    except BaseException as err:
        send("unloaded", type(err).__name__, str(err)[:200])
        return
    send("loaded")
    for line in requests:
        arguments, named = decode(json.loads(line))
        try:
            answer = encode(function(*arguments, **named))
        except BaseException as err:
            send("raised", type(err).__name__, str(err)[:200])
        else:
            send("returned", answer)


def receive(replies: BinaryIO) -> list[Any]:
    """The program's next line; Gone when there is none or it is nonsense."""
    line = replies.readline(LONGEST_LINE)
    try:
        parts = json.loads(line) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):
        parts = None
    if not isinstance(parts, list) or not parts:
        raise Gone("the program ended before it answered" if not line else "the program's answer cannot be read")
    return parts


def play_checker(config: dict[str, Any]) -> None:
    """Run the tests; the function under test is a stand-in that asks the program's process."""
    requests, replies = os.fdopen(REQUEST, "wb"), os.fdopen(REPLY, "rb")
    lost: list[str] = []

    def candidate(*arguments: Any, **named: Any) -> Any:
        try:
            requests.write(json.dumps(encode((arguments, named))).encode() + b"\n")
            requests.flush()
            kind, *rest = receive(replies)
            if kind == "returned":
                return decode(rest[0])
            name, message = str(rest[0]), str(rest[1])
        except Gone as err:
            lost.append(str(err))
            raise
        except BaseException as err:
            lost.append(f"the program's answer cannot be read ({type(err).__name__})")
            raise Gone(lost[-1]) from None
        known = getattr(builtins, name, None)
        if not (isinstance(known, type) and issubclass(known, Exception)):
            known = RuntimeError
        raise known(message)

    verdict = ("failed", "")
    try:
        first = receive(replies)
        if first[0] != "loaded":
            verdict = ("crashed", f"the program could not be loaded: {': '.join(map(str, first[1:3]))}")
        else:
            module = load("checks", config["program"])
            setattr(module, config["entry_point"], candidate)
            module.check(candidate)
            verdict = ("passed", "")
    except AssertionError as err:
        verdict = ("failed", f"a check failed {err}".strip())
    except Gone as err:
        verdict = ("crashed", str(err))
    except BaseException as err:
        verdict = ("failed", f"{type(err).__name__}: {err}")
    if lost:
        verdict = ("crashed", lost[0])
    os.write(REPORT, json.dumps([verdict[0], verdict[1][:300]]).encode() + b"\n")
