"""Final answers out of free text: every odd case that the readers promise, and those of public bug reports."""

from __future__ import annotations

import threading
import time

import pytest

from star1lib.evaluation.benchmarks import equality, extract

BOXED = [
    (r"so \boxed{42}", "42"),
    (r"\boxed{1} then \boxed{2}", "2"),
    (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
    (r"\boxed {\{1, 2\}}", r"\{1, 2\}"),
    (r"\fbox{7}", "7"),
    (r"\boxed{5} and \boxed{6", "5"),
    (r"\boxed{12", None),
    ("42", None),
]
INTEGERS = [
    ("The answer is 8 + 9 = 17 coins.", 17),
    ("The answer is 17 = 8 + 9.", 17),
    ("The answer is 8 + 9", None),
    ("The answer to the riddle of 3 doors is 17. Then 4 + 5 =", 17),
    ("So 17. Next 4 + 5 =", 17),
    ("8 + 9 = 17 coins.\n2. Check it.\n3. Then", 17),
    ("**2.** The total is 17.\n**3.** The end", 17),
    (r"\boxed{12{,}345}", 12345),
    (r"\boxed{12\,345}", 12345),
    (r"\boxed 17 comes from 8 + 9", 17),
    (r"\boxed{x}. The answer is 17.", 17),
    (r"\boxed{8 + 9}", None),
    ("The answer is –17.", -17),
    ("Pages 3–17", 17),
    ("3 + 4 = 7\n#### 17\nThat is 10 more.", 17),
    ("#### Step 2\nThe sum is 17", 17),
    ("The answer is:\n$$17$$\nCheck 5 = 5", 17),
    ("The answer is 17. I hope the answer is clear.", 17),
    ("The answer isn't 5. The answer is 17.", 17),
    ("The answer is 12345678901234567890123.", 12345678901234567890123),
    ("9" * 9_000, None),
    (r"The answer is 11,\! 111,\! 100.", 11111100),
    # plainer ones
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
]  # fmt: skip
LETTERS = [
    # boxes
    (r"The speed is $\boxed{9}$, so the answer is (D).", 4, "D"),
    (r"\boxed{\text{B. nine metres}}", 4, "B"),
    (r"$\boxed{\mathbf{(D)}}$", 4, "D"),
    (r"\boxed{c}", 4, "C"),
    (r"\boxed{A, C}", 4, None),
    (r"The answer is \boxed{A} because heat is lost.", 4, "A"),
    # "the answer is", with what may stand between
    ("So the answer would be D, since it is larger.", 4, "D"),
    ("The right answer, then, is B.", 4, "B"),
    ("The answer to question 3 is most likely option C.", 4, "C"),
    ("Therefore, the correct answer is:\n\n**C) Paris**", 4, "C"),
    ("Final Answer\n\nB\n\nReason: A is too small", 4, "B"),
    ("Answer -> B", 4, "B"),
    ("<answer>B</answer>", 4, "B"),
    ("The answer is（C）。", 4, "C"),
    ("The answer is “B”, or `B` in short.", 4, "B"),
    # options that are named after it, and corrections
    ("Answer: A\n\n- Option B: too slow\n- Option C: too fast", 4, "A"),
    ("The answer is B. Option C is wrong because the answer is not C.", 4, "B"),
    ("The answer is A. Hmm, the answer is not A. The answer is D.", 4, "D"),
    ("The answer is not B but D.", 4, "D"),
    ("The answer is B, and A is wrong.", 4, "B"),
    ("I would pick (b).", 4, "B"),
    ("This corresponds to option C.", 4, "C"),
    ("So (D) is the correct one.", 4, "D"),
    # the article, the pronoun, a letter that is a word's
    ("The answer is A 5 J weight.", 4, "A"),
    ("The answer is I because it fits.", 10, "I"),
    ("Answer: A cell wall has cellulose", 4, None),
    ("The answer is vitamin C.", 4, None),
    ("The answer is C++", 4, None),
    # no claim
    ("The answer is both A and C.", 4, None),
    ("Answer: A/C", 4, None),
    ("I don't think the answer is C.", 4, None),
    ("If the answer is C, the mass is lost.", 4, None),
    ("Is the answer C? No.", 4, None),
    ("I would not choose B.", 4, None),
    ("Answer B is wrong. Answer C is wrong.", 4, None),
    ("B is not correct.", 4, None),
    ("The answer is E.", 4, None),
    # plainer ones
    ("The answer is (C).", 4, "C"),
    ("the answer is (c)", 4, "C"),
    ("The answer is C.", 4, "C"),
    ("**Answer:** C", 4, "C"),
    ("**Answer: A**", 4, "A"),
    (r"The answer is \boxed{C}", 4, "C"),
    (r"\boxed{\text{(b)}}", 4, "B"),
    (r"The answer is $\text{B}$", 4, "B"),
    ("The correct answer is: (D) 12", 4, "D"),
    ("I would choose option B because it fits", 4, "B"),
    ("Option A is wrong. The answer is B, not C.", 4, "B"),
    ("(A) looks right at first.\nB", 4, "B"),
    ("C) The cell wall", 4, "C"),
    ("The answer is a matter of taste.", 4, None),
    ("The answer is I think B", 4, None),
    ("A number of people", 4, None),
    ("The answer is (G).", 4, None),
    (r"\boxed{12}", 4, None),
    ("", 4, None),
    ("The answer is (J).", 10, "J"),
    ("The answer is **I**.", 10, "I"),
]
EXPRESSIONS = [
    ("The final answer is: $\\frac{2}{7}$. I hope it is correct.", r"\frac{2}{7}"),
    ("The answer is:\n\n$$\\frac{2}{7}$$\n", r"\frac{2}{7}"),
    ("The answer is\n\\[\n\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}\n\\]", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}"),
    ("The answer is **\\frac{2}{7}**.", r"\frac{2}{7}"),
    (r"We get \boxed{\sqrt{7}.}", r"\sqrt{7}"),
    (r"$x = \boxed{2}$ or $x = \boxed{7}$", "2, 7"),
    (r"\boxed{2}, \boxed{7}, and \boxed{9}", "2, 7, 9"),
    (r"First \boxed{6}. No: \boxed{7}", "7"),
    ("\\boxed{7}\n\n\\boxed{7}", "7"),
    (r"\boxed{\boxed{7}}", "7"),
    (r"\boxed{\left\{ 1, 2 \right.}", r"\left\{ 1, 2 \right."),
    ("The answer is $2$ or $7$.", "2, 7"),
    ("The answer is $7$ because $2+5=7$.", "7"),
    ("The answer is given by $\\sqrt 7$", r"\sqrt 7"),
    ("The answer is .5, since 1 is too much.", ".5"),
    (r"The answer is **11,\! 111,\! 100**.", r"11,\! 111,\! 100"),
    ("So\n$$x = 7$$", "x = 7"),
    ("x = 7\nThat is all.", None),
    (r"so \boxed{\frac{14}{3}}", r"\frac{14}{3}"),
    ("The final answer is $x+1$.", "x+1"),
    ("I do not know 5", None),
    ("The answer is ", None),
]
EQUAL = [
    (r"\frac{1}{50!}", r"\frac{1}{51!}", False),
    ("2^{100}", "1267650600228229401496703205376", True),
    ("2^{100}", "1267650600228229401496703205377", False),
    (r"\sqrt{2}+\sqrt{3}", r"\sqrt{5+2\sqrt{6}}", True),
    ("32_5", "32_{7}", False),
    ("32_5", "32_{5}", True),
    (r"(2,\infty)", "x>2", True),
    (r"(2,\infty)", r"x \ge 2", False),
    (r"20,\!160", "20160", True),
    ("20160", r"20\,160", True),
    (r"3\text{ kg}", r"3\text{ m}", False),
    (r"3\text{ kg}", "3", True),
    (r"864 \mbox{ inches}^2", "864", True),
    (r"\text{(C)}", "C", True),
    ("50", r"50\%", True),
    (r"\frac{1}{2}", "0.5", True),
    ("x^2+1", "1+x^2", True),
    ("(1,2)", "(1, 2)", True),
    (r"\frac{1}{2}", "2", False),
    ("3", "3.5", False),
    ("5", r"}\frac{", False),
    ("5", "5" * 3_000, False),
]


@pytest.mark.parametrize(("text", "wanted"), BOXED)
def test_boxed(text, wanted):
    assert extract.boxed(text) == wanted


@pytest.mark.parametrize(("text", "wanted"), INTEGERS)
def test_integer(text, wanted):
    assert extract.integer(text) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [(r"\boxed{007}", 7), ("0", 0), ("999", 999), ("1000", None), ("-1", None), ("33.5", None)],
)
def test_aime_is_an_integer_of_0_to_999(text, wanted):
    assert extract.aime(text) == wanted


@pytest.mark.parametrize(("text", "options", "wanted"), LETTERS)
def test_letter(text, options, wanted):
    assert extract.letter(text, options) == wanted


@pytest.mark.parametrize(("text", "wanted"), EXPRESSIONS)
def test_math_text(text, wanted):
    assert extract.math_text(text) == wanted


@pytest.mark.parametrize(("gold", "said", "wanted"), EQUAL)
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


PIECES = [r"\boxed{", r"\boxed{1} or ", "answer is ", "answer to ", "the answer is $1$ and ", "A ", "so it is A, ",
          "1,", "1 + ", "=", "$", r"\(", r"\frac{", "{", " ", "\n", "- ", "1"]  # fmt: skip


def cpu(work, text):
    def once():
        begun = time.process_time()
        work(text)
        return time.process_time() - begun

    return min(once() for _ in range(2))


@pytest.mark.parametrize("reader", [lambda t: extract.letter(t, 10), extract.integer, extract.math_text, extract.boxed])
@pytest.mark.attack("long answers")
def test_time_grows_with_the_length(reader):
    for piece in PIECES:
        short, long = (piece * (length // len(piece)) for length in (4_000, 32_000))
        # Eight times the length: 8 when linear, 64 when quadratic.
        assert cpu(reader, long) < 25 * cpu(reader, short) + 0.05, piece
