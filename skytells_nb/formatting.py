"""Amounts as text: US dollars, counts in few characters, durations."""

from __future__ import annotations


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


_SPACES = "".join(map(chr, (*range(0x09, 0x0E), *range(0x1C, 0x21), 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B))))
_WIDE_SPACES = "\u2028\u2029\u202f\u205f\u3000"
_WITHOUT_WIDTH = "\xad\u034f\u115f\u1160\u180e\u200b\u200c\u200d\u200e\u200f\u2060\u2800\u3164\ufeff\uffa0"
BLANK = _SPACES + _WIDE_SPACES + _WITHOUT_WIDTH
"""Characters that show nothing: white space, and those without width or ink."""
