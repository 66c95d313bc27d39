"""A quantity in a short answer: a number in the forms people write, whatever unit stands behind it.

Read: signs; thousands by comma or thin space; decimals; fractions `3/4` and `\\frac{3}{4}`; scientific notation `6e23`,
`6.02 x 10^{23}`, `6.02*10**23`, `10^5`; a currency before it; `x =` and "about" before it; after it a percent sign, or a
unit: up to four words or symbols without a digit but an exponent (`9.8 m/s^2`, `12 square miles`). A unit is dropped: it is
neither compared nor converted. An answer with a second number is not read, as nobody knows which of them is meant.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Context, Decimal

from .notation import latex

DIGITS = 60  # of a number, at most
EXPONENT = 999  # of ten, at most
EXACTLY = Context(prec=DIGITS + 20, Emax=10**6, Emin=-(10**6))
RELATIVE = Decimal("1e-6")  # where a problem names no tolerance

PLAIN = r"(?:\d{1,3}(?:[, \u2009\u202f]\d{3})+(?!\d)|\d+)(?:\.\d*)?|\.\d+"
POWER = r"10(?:\^|\*\*)\{?\(?(?P<power>[-+]?\d{1,9})\)?\}?"
BEFORE = re.compile(r"(?:[A-Za-z]\w{0,20} ?(?:=|≈|~|\\approx) ?|(?:about|approximately|roughly|=|≈|~|\\approx) ?)")
QUANTITY = re.compile(
    rf"(?P<sign>[-+−]?)[$€£¥]?(?P<minus>-?)(?:"
    rf"\\frac\{{(?P<top>-?(?:{PLAIN}))\}}\{{(?P<bottom>{PLAIN})\}}|"
    rf"(?P<over>{PLAIN}) ?/ ?(?P<under>{PLAIN})|"
    rf"(?P<mantissa>{PLAIN})(?: ?(?:x|×|\*|·|⋅|\\times ?|\\cdot ?) ?{POWER}|[eE](?P<e>[-+]?\d{{1,9}}))?"
    rf")(?P<rest>.*)",
    re.DOTALL,
)
TEN = re.compile(rf"(?P<sign>[-+−]?){POWER}(?P<rest>.*)", re.DOTALL)
UNIT = re.compile(r"(?:[/*·⋅]? ?(?:\\?[^\W\d_]{1,20}|°|′|″|Ω)(?: ?\^\{?-?\d\}?|[²³])?[/. ]?){0,4}")


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number as it is written, and whether a percent sign stands behind it."""

    value: Decimal
    percent: bool = False


def quantity(answer: str) -> Quantity | None:
    """The quantity that an answer is, or None where it is not one number, or one of over 60 digits or beyond 10^999."""
    plain = latex(answer.replace("\u2009", " ").replace("\u202f", " ").strip().strip("*_`"))
    before = BEFORE.match(plain)
    plain = plain[before.end() :] if before else plain
    found = TEN.fullmatch(plain) or QUANTITY.fullmatch(plain)
    if found is None:
        return None
    rest = found["rest"].strip()
    percent = rest.startswith("%") or rest.lower().startswith("percent")
    if UNIT.fullmatch(rest.removeprefix("%").strip()) is None:
        return None
    value = _value(found.groupdict())
    return None if value is None else Quantity(value, percent)


def _value(parts: dict[str, str | None]) -> Decimal | None:
    top = parts.get("top") or parts.get("over") or parts.get("mantissa") or "1"
    bottom = parts.get("bottom") or parts.get("under") or "1"
    power = int(parts.get("power") or parts.get("e") or 0)
    digits = [re.sub(r"[, ]", "", each) for each in (top, bottom)]
    if abs(power) > EXPONENT or max(map(len, digits)) > DIGITS or not Decimal(digits[1]):
        return None
    value = EXACTLY.scaleb(EXACTLY.divide(Decimal(digits[0]), Decimal(digits[1])), power)
    negative = (parts["sign"] in ("-", "−")) != (parts.get("minus") == "-")
    return EXACTLY.minus(value) if negative else value


def key(answer: str) -> str | None:
    """One way of writing a quantity, to vote with: "1,200 m" and "1.2e3" are "1200", "5%" is "5%"."""
    found = quantity(answer)
    if found is None:
        return None
    plain = f"{found.value.normalize(EXACTLY):f}" if abs(found.value.adjusted()) < 20 else f"{found.value.normalize(EXACTLY)}"
    return ("0" if plain == "-0" else plain) + "%" * found.percent


def agree(wanted: Quantity, given: Quantity, tolerance: Decimal | None = None, relative: Decimal | None = None) -> bool:
    """Whether |given - wanted| <= max(tolerance, relative * |wanted|); a relative one of 1e-6 where neither is named.

    Where one of the two alone has a percent sign, it may be read as written or as hundredths: `25%` agrees with 25 and 0.25.
    """
    readings = [given.value]
    if wanted.percent != given.percent:
        shift = 2 if wanted.percent else -2
        readings.append(EXACTLY.scaleb(given.value, shift))
    if tolerance is None and relative is None:
        relative = RELATIVE
    room = EXACTLY.multiply(relative or Decimal(0), EXACTLY.abs(wanted.value))
    room = max(tolerance or Decimal(0), room)
    return any(EXACTLY.abs(EXACTLY.subtract(reading, wanted.value)) <= room for reading in readings)


__all__ = ["Quantity", "agree", "key", "quantity"]
