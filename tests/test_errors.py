"""Foreign text in a sentence gives a terminal no orders."""

from __future__ import annotations

import pytest

from star1lib import __main__ as command
from star1lib.errors import UserError, plain, shorten

pytestmark = pytest.mark.attack("injection and what is shown")
HOSTILE = "a\x1b]0;title\x07b\x9b2Jc\rd\u202ee\x00f\x7f"


def test_control_characters_are_shown_and_not_obeyed() -> None:
    assert plain(HOSTILE) == r"a\x1b]0;title\x07b\x9b2Jc\rd\u202ee\x00f\x7f"
    assert plain("é\tü\n日本") == "é\tü\n日本"
    assert "\x1b" not in shorten(HOSTILE)


def test_the_command_line_writes_them_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import logging

    def fail(_: object) -> None:
        raise UserError(HOSTILE)

    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(command, "_check", fail)
    assert command.main(["check"]) == 2
    assert "\x1b" not in (said := capsys.readouterr().err) and r"\x1b]0;title" in said
