"""``html_report`` and ``to_excel``: a frame as one file for others."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from skytells_nb.accessor.base import FrameMethods
from skytells_nb.accessor.lineage.lookup import lineage_frame
from skytells_nb.errors import InputError
from skytells_nb.plots.maps.projection import Method


class SharingMethods(FrameMethods):
    """The ``html_report`` and ``to_excel`` methods."""

    def html_report(
        self,
        path: str | Path,
        *,
        title: str | None = None,
        embedding: Any = None,
        method: Method = "umap",
        progress: bool = True,
    ) -> Path:
        """Write one HTML file with the rows, a map, safety results, costs, how each column was made, and errors.

        The file loads nothing and runs no script but its own, so it can be sent to anyone: the first 10,000 rows as a
        table to search, sort and save as CSV; a map where the frame has vectors; what the safety filter found; dollars
        and tokens of each call; models, prompts, parameters, versions and times (``lineage``); the rows that failed.
        It holds the texts of the frame, and no key. Nothing is sent.

        Parameters
        ----------
        path : str or pathlib.Path
            The file, ending in ``.html``; one that exists is replaced.
        title : str, optional
            Heading of the report.
        embedding : hashable, optional
            The column of vectors to draw; by default the first one.
        method : {"umap", "pca"}, default "umap"
            Layout of the map; PCA where umap-learn is not installed.
        progress : bool, default True
            Whether to show progress during a long layout.

        Returns
        -------
        pathlib.Path
            The file.

        Raises
        ------
        InputError
            If the path is not one of an HTML file, or ``embedding`` is not a column of vectors.

        Examples
        --------
        >>> import tempfile
        >>> df = pd.DataFrame({"text": ["a cat", "a dog"]}).skytells.embed("text", progress=False)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     df.skytells.html_report(f"{folder}/report.html", method="pca").name
        'report.html'
        """
        from skytells_nb.accessor.methods.sharing.report_page import report_page

        target = _target(path, ".html")
        page = report_page(self._frame, title=title, embedding=embedding, method=method, progress=progress)
        return _write(target, page.encode("utf-8", "replace"))

    def to_excel(self, path: str | Path) -> Path:
        """Write an Excel workbook in which no text is a formula, and vectors are only named.

        The first sheet has the rows, the second how each column was made (``lineage``). Texts stay texts whatever they
        begin with; a vector is "vector of 512 numbers"; whole numbers of more than 15 digits, and times with a zone,
        are texts, since Excel would change them. Texts are cut to the 32,767 characters that a cell holds. Nothing is
        sent, and no other package is needed.

        Parameters
        ----------
        path : str or pathlib.Path
            The file, ending in ``.xlsx``; one that exists is replaced.

        Returns
        -------
        pathlib.Path
            The file.

        Raises
        ------
        InputError
            If the path is not one of a workbook, or the frame is larger than a sheet of Excel.

        Examples
        --------
        >>> import tempfile
        >>> df = pd.DataFrame({"text": ["=1+1"], "embedding": [[0.5, 0.25]]})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     df.skytells.to_excel(f"{folder}/rows.xlsx").name
        'rows.xlsx'
        """
        from skytells_nb.accessor.methods.sharing.workbook import workbook

        target = _target(path, ".xlsx")
        sheets = {"rows": self._frame}
        made = lineage_frame(self._frame)
        if len(made):
            sheets["how it was made"] = made
        return _write(target, workbook(sheets))


def _target(path: Any, suffix: str) -> Path:
    if not isinstance(path, (str, Path)):
        raise InputError(f"path must be the path of a {suffix} file, got {path!r}.")
    target = Path(path).expanduser()
    if target.suffix.lower() != suffix or target.is_dir():
        raise InputError(f"path must be that of a file that ends in {suffix}, got {target.name!r}.")
    if not target.absolute().parent.is_dir():
        raise InputError(f"path must be in a folder that exists, got {str(target.parent)!r}.")
    return target


def _write(target: Path, content: bytes) -> Path:
    """Write a file that appears complete or not at all."""
    handle, part = tempfile.mkstemp(dir=target.absolute().parent, prefix=f".{target.name[:40]}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(part, 0o666 & ~umask)
        os.replace(part, target)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise
    return target
