"""Quantities: what is read as one number, what is not, and when two agree."""

from __future__ import annotations

import time
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.types import Problem
from verifiers.extract import extractor_for
from verifiers.grade import Graders
from verifiers.numeric import agree, key, quantity


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", "5"),
        ("-3.50", "-3.5"),
        ("+7", "7"),
        ("−2", "-2"),
        (".5", "0.5"),
        ("5.", "5"),
        ("1,234.5", "1234.5"),
        ("1{,}234", "1234"),
        ("12 345 678", "12345678"),
        ("1\u202f234", "1234"),
        ("$1,200", "1200"),
        ("-$5", "-5"),
        ("\\$18.00 a day", "18"),
        ("€ 7", "7"),
        ("6.02e23", "6.02e23"),
        ("6.02E+23", "6.02e23"),
        ("6.02 \\times 10^{23}", "6.02e23"),
        ("$6.02\\cdot 10^{-23}$ mol", "6.02e-23"),
        ("6.02 x 10^23", "6.02e23"),
        ("6.02*10**23", "6.02e23"),
        ("6.02 × 10^{23} \\text{ atoms}", "6.02e23"),
        ("10^5", "1e5"),
        ("-10^{-3}", "-0.001"),
        ("3/4", "0.75"),
        ("-\\frac{3}{4}", "-0.75"),
        ("\\dfrac{1}{8} cup", "0.125"),
        ("9.8 m/s^2", "9.8"),
        ("$9.8\\ \\mathrm{m/s^2}$", "9.8"),
        ("12 square miles", "12"),
        ("15\\text{ cm}^2", "15"),
        ("30°", "30"),
        ("5 km.", "5"),
        ("x = 5", "5"),
        ("v_0 ≈ 5.1", "5.1"),
        ("about 40 feet", "40"),
        ("**12**", "12"),
    ],
)
def test_a_number_is_read_however_it_is_written(text: str, value: str) -> None:
    found = quantity(text)
    assert found is not None
    assert (found.value, found.percent) == (Decimal(value), False)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "5 apples and 3 pears",
        "1-2",
        "3+4",
        "5x2",
        "1/0",
        "2^5",
        "1,23",
        "1.2.3",
        "5 of the 8",
        "1e1000",
        "9" * 61,
        "5!",
        "-",
        "10^{10^{10}}",
        "five",
        "3, 4",
        "(1,2)",
        "5 a b c d e f",
    ],
)
def test_what_is_not_one_number_is_not_guessed(text: str) -> None:
    assert quantity(text) is None
    assert key(text) is None


@pytest.mark.parametrize(
    ("forms", "wanted"),
    [
        (("1,200 m", "1.2e3", "1200.0", "$1200$"), "1200"),
        (("5%", "5 percent", "5.0\\%"), "5%"),
        (("0", "-0", "0.00", "0 m"), "0"),
        (("6e23", "6.0 \\times 10^{23}"), "6E+23"),
    ],
)
def test_one_quantity_has_one_key_to_vote_with(forms: tuple[str, ...], wanted: str) -> None:
    assert {key(form) for form in forms} == {wanted}
    assert {extractor_for({"grader": "numeric"})(f"The answer is \\boxed{{{form}}}").key for form in forms} == {wanted}


@pytest.mark.parametrize(
    ("gold", "answer", "room", "verdict"),
    [
        ("9.81", "9.8", {"tolerance": 0.02}, "correct"),
        ("9.81", "9.78", {"tolerance": 0.02}, "wrong"),
        ("9.81", "9.79", {"tolerance": 0.02}, "correct"),  # on the edge, which binary floats miss
        ("200", "202", {"relative": 0.01}, "correct"),
        ("200", "202.1", {"relative": 0.01}, "wrong"),
        ("-200", "-198", {"relative": 0.01}, "correct"),
        ("0", "0.5", {"relative": 0.01, "tolerance": 1.0}, "correct"),
        ("0", "0.001", {"relative": 0.5}, "wrong"),
        ("1000000", "1000001", {}, "correct"),
        ("1000000", "1000002", {}, "wrong"),
        ("1000000", "1000001", {"tolerance": 0}, "wrong"),
        ("6.02e23 per mol", "6.02 \\times 10^{23}", {}, "correct"),
        ("5 km", "5 m", {}, "correct"),  # units are dropped, and neither compared nor converted
        ("5", "about five", {}, "unparsed"),
        ("5", "9^{9^{9}}", {}, "unparsed"),
        ("five", "5", {}, "error"),
    ],
)
def test_numbers_are_compared_within_the_problems_tolerance(
    gold: str, answer: str, room: dict[str, float], verdict: str
) -> None:
    with Graders() as graders:
        assert graders.grade(Problem("p", "", gold, "", {"grader": "numeric", **room}), answer) == verdict
        assert graders.pool.starts == 0


@pytest.mark.parametrize(
    ("gold", "answer", "same"),
    [
        ("25%", "25%", True),
        ("25", "25%", True),
        ("0.25", "25%", True),
        ("25%", "25", True),
        ("25%", "0.25", True),
        ("25", "0.25", False),
        ("25%", "0.25%", False),
        ("25%", "2500", False),
    ],
)
def test_a_percent_sign_on_one_side_only_may_mean_hundredths(gold: str, answer: str, same: bool) -> None:
    wanted, given = quantity(gold), quantity(answer)
    assert wanted is not None
    assert given is not None
    assert agree(wanted, given) is same


@given(st.decimals(-(10**12), 10**12, places=3), st.decimals(0, 10, places=3))
def test_agreement_is_the_distance_and_nothing_else(value: Decimal, room: Decimal) -> None:
    given_value = value + room
    wanted, given = quantity(f"{value:f}"), quantity(f"{given_value:f}")
    assert wanted is not None
    assert given is not None
    assert agree(wanted, given, room)
    assert not agree(wanted, given, room - Decimal("0.001")) or room == 0


@given(st.text(alphabet="0123456789.,eE+-*^{}/\\frac $%xm ", max_size=40))
def test_reading_never_raises(text: str) -> None:
    assert (quantity(text) is None) == (key(text) is None)


@pytest.mark.parametrize(
    "text", ["1" * 2000, "1,234" * 400, "1 " * 1000, "5 " + "a" * 1990, "5 " + "m/" * 900, " " * 2000, "\\frac{" * 300]
)
def test_reading_is_quick_whatever_the_text(text: str) -> None:
    start = time.process_time()
    quantity(text)
    assert time.process_time() - start < 0.5
