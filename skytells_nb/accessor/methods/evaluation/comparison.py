"""What ``compare`` returns: variants of a call beside each other on the same rows."""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from skytells_nb.engine.report import Report

if TYPE_CHECKING:
    from skytells_nb.plots.theme import Figure, Theme

SHOWN_ROWS = 10
DISCORDANT_ROWS = 6
"""Rows on which only one of two variants is right that a difference of accuracy needs at least to show at 0.05."""
SUMMARY = ("accuracy", "kappa", "cost_per_1000", "latency_p50", "latency_p95", "safety_rate", "failed")


@dataclass(frozen=True)
class Comparison:
    """Prompts or models on the same rows: how far they agree, how often they are right, and what each costs."""

    column: Any
    n: int
    """Rows that every variant was asked about."""
    n_gold: int
    """How many of them are judged."""
    level: float
    weighted: bool
    """Whether judged rows count in ``accuracy`` by how they were drawn; else each counts the same."""
    frame: pd.DataFrame = field(repr=False)
    """By variant: ``accuracy`` with its limits, its mean ``kappa`` with the others, dollars, seconds, and more."""
    pairs: pd.DataFrame = field(repr=False)
    """By two variants: ``agreement`` (share of rows), ``kappa`` with its limits, and McNemar's test of accuracy."""
    rows: pd.DataFrame = field(repr=False)
    """The rows, those with the most different answers first: the text, ``gold``, and a column for each variant."""
    report: Report = field(repr=False)
    """What all variants together sent and cost."""

    @property
    def kappa(self) -> pd.DataFrame:
        """Cohen's kappa of each variant with each other."""
        names = self.frame.index
        table = pd.DataFrame(np.eye(len(names)), index=names, columns=names.rename(None))
        for pair, value in zip(self.pairs.index.tolist(), self.pairs["kappa"].tolist(), strict=True):
            table.loc[pair[0], pair[1]] = table.loc[pair[1], pair[0]] = value
        return table

    @property
    def differing(self) -> pd.DataFrame:
        """The rows on which the variants differ."""
        return self.rows[self.rows["answers"] > 1]

    def plot(self, *, theme: Theme | None = None, title: str | None = None) -> Figure:
        """Draw how good each variant is against what it costs.

        It is the accuracy with its interval where rows are judged, else the mean agreement with the others; what it
        costs is dollars, or seconds where no price is known.

        Parameters
        ----------
        theme : {"light", "dark"}, optional
            Colors of the background; by default it is transparent.
        title : str, optional
            Title of the figure.

        Returns
        -------
        plotly.graph_objects.Figure
            The figure.
        """
        from skytells_nb.plots.evaluation_charts.variants import draw_variants

        return draw_variants(self.frame, caption=self._headline(), level=self.level, theme=theme, title=title)

    def _headline(self) -> str:
        judged = f", {self.n_gold:,} of them judged" if self.n_gold else ""
        differing = int((self.rows["answers"] > 1).sum())
        return f"{len(self.frame):,} variants on {self.n:,} rows{judged}; they differ on {differing:,}"

    def _summary(self) -> pd.DataFrame:
        shown = [name for name in SUMMARY if name == "failed" or self.frame[name].notna().any()]
        return self.frame[shown].round(4)

    def _notes(self) -> str:
        notes = [f"Limits at {self.level:.0%}."]
        if self.n_gold:
            counted = "weighted as they were drawn" if self.weighted else "each judged row counts the same"
            notes = [f"Limits at {self.level:.0%}; {counted}."]
            discordant = self.pairs["only_first_right"] + self.pairs["only_second_right"]
            if discordant.max() < DISCORDANT_ROWS:
                notes.append(
                    "No difference of accuracy can show: it takes at least "
                    f"{DISCORDANT_ROWS} rows on which only one of two variants is right."
                )
        if self.frame["latency_p50"].isna().any():
            notes.append("Answers from the cache have no latency; fresh=True measures it again.")
        return " ".join(notes)

    def __str__(self) -> str:
        parts = [self._headline(), self._summary().to_string(), self.pairs.round(3).to_string()]
        if len(self.differing):
            parts.append(self.differing.head(SHOWN_ROWS).to_string(max_colwidth=40))
        return "\n\n".join([*parts, self._notes()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        tables = [self._summary(), self.pairs.round(3)]
        shown = "".join(table.to_html(max_rows=60) for table in tables)
        differing = self.differing.head(SHOWN_ROWS).to_html() if len(self.differing) else ""
        return f"<p>{html.escape(self._headline())}</p>{shown}{differing}<p>{html.escape(self._notes())}</p>"
