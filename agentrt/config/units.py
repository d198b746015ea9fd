"""Durations and sizes as people write them."""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction

from agentrt.config.problems import Invalid, shown
from agentrt.config.scalars import Duration, Size

_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_DURATION = re.compile("".join(rf"(?:(?P<{unit}>{_NUMBER}){unit})?" for unit in ("d", "h", "m", "s", "ms")))
_SIZE = re.compile(rf"(?P<number>{_NUMBER})(?P<unit>[A-Za-z]*)")
_SECONDS = {"d": Fraction(86400), "h": Fraction(3600), "m": Fraction(60), "s": Fraction(1), "ms": Fraction(1, 1000)}
_BYTES = {
    "TiB": 1024**4,
    "TB": 1000**4,
    "GiB": 1024**3,
    "GB": 1000**3,
    "MiB": 1024**2,
    "MB": 1000**2,
    "KiB": 1024,
    "kB": 1000,
    "B": 1,
}
# 64 bits hold it, and so do the counters of every system that this is handed to.
_MAX_SIZE = 2**63 - 1
_DURATION_HINT = 'write numbers with the units d, h, m, s or ms, the largest first, like "30s" or "1h30m"'
_SIZE_HINT = f'write a number of bytes, or one with a unit ({", ".join(reversed(_BYTES))}), like "64MiB"'


def parse_duration(text: str) -> Duration:
    """Read ``"30s"``, ``"5m"``, ``"1h30m"``, ``"250ms"``, ``"1d"`` or ``"1.5s"`` as seconds.

    Raises:
        Invalid: It is something else; a number without a unit is, too.
    """
    if re.fullmatch(_NUMBER, text):
        raise Invalid(f"a duration needs a unit, got {shown(text)}", f"write {shown(text + 's')} for seconds")
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise Invalid(f"not a duration: {shown(text)}", _DURATION_HINT)
    seconds = sum(Fraction(number) * _SECONDS[unit] for unit, number in match.groupdict().items() if number)
    try:
        return Duration(float(seconds))
    except OverflowError:
        raise Invalid(f"too long a duration: {shown(text)}", _DURATION_HINT) from None


def format_duration(seconds: float) -> str:
    """Write seconds (finite, not negative) so that :func:`parse_duration` reads the same number again."""
    whole, _, fraction = format(Decimal(repr(seconds)), "f").partition(".")
    minutes, rest = divmod(int(whole), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    # The digits are moved as text: a binary fraction would not come back as the same number.
    fraction = fraction.rstrip("0")
    milliseconds = str(int(fraction[:3].ljust(3, "0")))
    if fraction[3:]:
        milliseconds += f".{fraction[3:]}"
    parts = {"d": str(days), "h": str(hours), "m": str(minutes), "s": str(rest), "ms": milliseconds}
    return "".join(f"{number}{unit}" for unit, number in parts.items() if number != "0") or "0s"


def parse_size(text: str) -> Size:
    """Read ``"64MiB"``, ``"100MB"`` or ``"4096"`` as bytes.

    Raises:
        Invalid: It is something else, not a whole number of bytes, or more than 64 bits hold.
    """
    match = _SIZE.fullmatch(text)
    factor = _BYTES.get(match["unit"] or "B") if match else None
    if match is None or factor is None:
        raise Invalid(f"not a size: {shown(text)}", _SIZE_HINT)
    size = Fraction(match["number"]) * factor
    if size.denominator != 1 or size > _MAX_SIZE:
        raise Invalid(f"not a whole number of bytes that 64 bits hold: {shown(text)}", _SIZE_HINT)
    return Size(int(size))


def format_size(size: int) -> str:
    """Write bytes (not negative) with the largest unit that divides them."""
    unit, factor = next(((unit, factor) for unit, factor in _BYTES.items() if size % factor == 0 and size), ("B", 1))
    return f"{size // factor}{unit}"
