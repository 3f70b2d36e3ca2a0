"""The finding of a safety chart in one sentence for each source: what was withheld, flagged and not checked."""

from __future__ import annotations

import numpy as np

from skytells_nb.plots.safety_charts.findings import ALL_CATEGORIES, SOURCES, Findings, Mask
from skytells_nb.plots.safety_charts.severity import DETECTED, HIGH, SAFE, UNCHECKED
from skytells_nb.plots.theme import format_count, plain_text

NAMED_CATEGORIES = 3


def headline(findings: Findings) -> str:
    """Say what was found: how many prompts and completions were withheld and for what, or flagged, or not checked.

    Empty for no findings. The sentences are lines.
    """
    return "\n".join(_sentence(findings, source) for source in range(len(SOURCES)) if (findings.source == source).any())


def _sentence(findings: Findings, source: int) -> str:
    noun = SOURCES[source]
    in_source = findings.source == source
    rows = np.unique(findings.row[in_source])
    total = format_count(len(rows), noun)
    unchecked = np.unique(findings.row[in_source & (findings.level == UNCHECKED)])
    flagged_findings = in_source & (findings.level != SAFE) & (findings.level != UNCHECKED)
    flagged = np.unique(findings.row[flagged_findings])
    withheld = np.unique(findings.row[in_source & findings.filtered])
    parts = []
    if len(withheld):
        reasons = _categories(findings, in_source & findings.filtered, len(withheld))
        parts.append(f"{len(withheld):,} of {total} {_were(len(withheld))} withheld{reasons}")
        more = np.setdiff1d(flagged, withheld)
        if len(more):
            parts.append(f"{len(more):,} more {_were(len(more))} flagged")
    elif len(flagged):
        severe = len(np.unique(findings.row[flagged_findings & (findings.level >= HIGH)]))
        words = {HIGH: "high", DETECTED: "detected"}
        levels = [words[level] for level in words if (findings.level[in_source] == level).any()]
        of_them = f", {severe:,} of them {' or '.join(levels)}" if severe else ""
        reasons = _categories(findings, flagged_findings, len(flagged))
        parts.append(f"{len(flagged):,} of {total} {_were(len(flagged))} flagged{reasons}{of_them}; none was withheld")
    elif len(unchecked) < len(rows):
        parts.append(f"Nothing was found in {format_count(len(rows) - len(unchecked), f'checked {noun}')}")
    if len(unchecked):
        of = f" of {total}" if not parts else f" {noun}{'s' * (len(unchecked) != 1)}"
        parts.append(f"{len(unchecked):,}{of} {_were(len(unchecked))} not checked")
    return "; ".join(parts) + "."


def _were(n: int) -> str:
    return "was" if n == 1 else "were"


def _categories(findings: Findings, selected: Mask, rows: int) -> str:
    """The categories of the selected findings by their number of rows, the most frequent first."""
    counts = np.bincount(findings.category[selected], minlength=len(findings.categories))
    names = findings.categories
    known = [index for index in np.flatnonzero(counts).tolist() if names[index] != ALL_CATEGORIES]
    known.sort(key=lambda index: (-int(counts[index]), names[index]))
    if not known:
        return " without a reason"
    texts = [plain_text(names[index].replace("_", " "), 40) for index in known]
    first = int(counts[known[0]])
    if len(known) == 1:
        return f", all for {texts[0]}" if first == rows > 1 else f" for {texts[0]}"
    listed = [f"{text} ({counts[index]:,})" for text, index in zip(texts, known, strict=True)][:NAMED_CATEGORIES]
    rest = len(known) - len(listed)
    if rest:
        return f" for {', '.join(listed)} and {rest} more {'category' if rest == 1 else 'categories'}"
    return f" for {', '.join(listed[:-1])} and {listed[-1]}"
