"""Final answers out of free text: every odd case that the readers promise to handle."""

from __future__ import annotations

import threading
import time

import pytest

from star1lib.evaluation.benchmarks import equality, extract


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (r"so \boxed{42}", "42"),
        (r"\boxed{1} then \boxed{2}", "2"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed {\{1, 2\}}", r"\{1, 2\}"),
        (r"\fbox{7}", "7"),
        (r"\boxed{5} and \boxed{6", "5"),
        (r"\boxed{12", None),
        ("42", None),
    ],
)
def test_boxed(text, wanted):
    assert extract.boxed(text) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("3.5", None),
        (r"\boxed{3.5}", None),
        ("The answer is 3.5.", None),
        ("5.0", 5),
        ("5.", 5),
        ("-7", -7),
        ("x = −3", -3),
        ("10 - 5 = 5", 5),
        ("1,234", 1234),
        ("$1,000", 1000),
        ("1,234.5", None),
        ("12 + 5 = 17.", 17),
        ("5+7=12", 12),
        ("The answer is **12**.", 12),
        ("Answer: 12 apples, since 5+7 is that", 12),
        ("The answer is 4.\nNo, the answer is 9, because 3 times 3", 9),
        ("The answer: let me see.\nIt is 4", 4),
        ("7 of 9. The answer is 1/2.", None),
        (r"The answer is $\frac{1}{2}$", None),
        (r"\boxed{\frac{1}{2}}", None),
        (r"\boxed{042}", 42),
        (r"It is 8, so \boxed{7\,000}", 7000),
        (r"\boxed{3, 4}", None),
        ("the 5th", None),
        ("1e5", None),
        ("version 1.2.3", None),
        ("No number.", None),
        ("", None),
    ],
)
def test_integer(text, wanted):
    assert extract.integer(text) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [(r"\boxed{007}", 7), ("0", 0), ("999", 999), ("1000", None), ("-1", None), ("33.5", None)],
)
def test_aime_is_an_integer_of_0_to_999(text, wanted):
    assert extract.aime(text) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("The answer is (C).", "C"),
        ("the answer is (c)", "C"),
        ("The answer is C.", "C"),
        ("**Answer:** C", "C"),
        ("**Answer: A**", "A"),
        (r"The answer is \boxed{C}", "C"),
        (r"\boxed{\text{(b)}}", "B"),
        (r"The answer is $\text{B}$", "B"),
        ("The correct answer is: (D) 12", "D"),
        ("I would choose option B because it fits", "B"),
        ("Option A is wrong. The answer is B, not C.", "B"),
        ("(A) looks right at first.\nB", "B"),
        ("C) The cell wall", "C"),
        ("The answer is a matter of taste.", None),
        ("The answer is I think B", None),
        ("A number of people", None),
        ("The answer is (G).", None),
        (r"\boxed{12}", None),
        ("", None),
    ],
)
def test_letter_of_four(text, wanted):
    assert extract.letter(text, 4) == wanted


def test_letter_of_ten():
    assert extract.letter("The answer is (J).", 10) == "J"
    assert extract.letter("The answer is **I**.", 10) == "I"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (r"so \boxed{\frac{14}{3}}", r"\frac{14}{3}"),
        ("The final answer is $x+1$.", "x+1"),
        ("I do not know 5", None),
        ("The answer is ", None),
    ],
)
def test_math_text(text, wanted):
    assert extract.math_text(text) == wanted


@pytest.mark.parametrize(
    ("gold", "said", "wanted"),
    [
        (r"\frac{1}{2}", "0.5", True),
        ("x^2+1", "1+x^2", True),
        ("(1,2)", "(1, 2)", True),
        (r"\frac{1}{2}", "2", False),
        ("3", "3.5", False),
        ("5", r"}\frac{", False),
        ("5", "5" * 3_000, False),
    ],
)
def test_equality_of_expressions(gold, said, wanted):
    assert equality.same_math(gold, said) is wanted


def test_a_tower_of_powers_is_stopped_and_the_next_pair_is_judged(caplog):
    begun = time.monotonic()
    assert not equality.same_math("1", "9^{9^{9^9}}", seconds=0.5)
    assert time.monotonic() - begun < 60
    assert "counts as unequal" in caplog.text
    assert equality.same_math("2", r"\frac{4}{2}")


def test_equality_works_outside_the_main_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append(equality.same_math("2", r"\frac{6}{3}")))
    thread.start()
    thread.join(120)
    assert found == [True]
