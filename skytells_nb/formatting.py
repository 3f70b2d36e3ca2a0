"""Amounts as text: US dollars, counts in few characters, durations; and what shows nothing."""

from __future__ import annotations

from decimal import Decimal
from operator import itemgetter


def format_dollars(amount: float | None, *, unknown: str = "no price known") -> str:
    """Format US dollars; amounts below a cent get more decimals, and ``None`` is ``unknown``.

    >>> format_dollars(12.3), format_dollars(0.00042), format_dollars(None)
    ('$12.30', '$0.00042', 'no price known')
    """
    if amount is None:
        return unknown
    if amount == 0 or abs(amount) >= 0.00995:
        return f"${amount:,.2f}"
    return f"${amount:.6f}".rstrip("0") if abs(amount) >= 0.000001 else "under $0.000001"


def format_digits(amount: float, digits: int = 4) -> str:
    """Format a number with so many digits and without an exponent, so that two of them can be compared.

    >>> format_digits(0.0000123456), format_digits(12.5), format_digits(1234567)
    ('0.00001235', '12.5', '1234567')
    """
    return f"{amount:.0f}" if abs(amount) >= 10**digits else f"{Decimal(f'{amount:.{digits}g}'):f}"


def format_cost(amount: float | None, missing_usage: int, *, unknown: str = "no price known") -> str:
    """Format US dollars, to which those of so many answers are missing, because the service reported no usage.

    >>> format_cost(0.25, 0), format_cost(0.25, 3), format_cost(None, 3)
    ('$0.25', '$0.25, plus 3 answers of unknown cost (no usage reported)', 'unknown: no usage was reported')
    """
    if not missing_usage:
        return format_dollars(amount, unknown=unknown)
    if not amount:
        return "unknown: no usage was reported"
    answers = f"{missing_usage:,} answer{'s' if missing_usage > 1 else ''}"
    return f"{format_dollars(amount)}, plus {answers} of unknown cost (no usage reported)"


def format_compact(number: float) -> str:
    """Format a count in few characters: 950, 1.2k, 34k, 1.5M.

    >>> format_compact(34_100)
    '34k'
    """
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        # Compared after rounding, so that 999,999 is 1M and not 1000k.
        if number >= 0.9995 * size:
            scaled = number / size
            return f"{scaled:.1f}".removesuffix(".0") + letter if scaled < 9.95 else f"{scaled:.0f}{letter}"
    return f"{number:,.0f}"


def format_duration(seconds: float) -> str:
    """Format a duration: 0.4 s, 46 s, 3 min, 1 h 12 min.

    >>> format_duration(4_320)
    '1 h 12 min'
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 119.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _characters(*ranges: tuple[int, int]) -> str:
    return "".join(chr(code) for first, last in ranges for code in range(first, last + 1))


_CONTROLS = _characters((0x00, 0x20), (0x7F, 0xA0))
_WIDE_SPACES = _characters((0x1680, 0x1680), (0x2000, 0x200A), (0x2028, 0x2029), (0x202F, 0x202F), (0x205F, 0x205F))
_WITHOUT_INK = "\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u2800\u3000\u3164\ufeff\uffa0"
_INVISIBLE = _characters(
    *((0x180B, 0x180F), (0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0xFE00, 0xFE0F), (0xFFF0, 0xFFFB)),
    *((0x1D173, 0x1D17A), (0xE0000, 0xE007F), (0xE0100, 0xE01EF)),
)
BLANK = _CONTROLS + _WIDE_SPACES + _WITHOUT_INK + _INVISIBLE
"""Characters that show nothing: white space, controls, and those without width or ink."""
BLANK_BEGINNINGS = frozenset((*BLANK, ""))
"""How a text begins, white space aside, in which there may be nothing to see."""
first_character = itemgetter(slice(0, 1))
