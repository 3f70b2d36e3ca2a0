"""The trait of an explorer that holds which rows are selected."""

from __future__ import annotations

from typing import Any

import numpy as np
import traitlets

from skytells_nb.widgets.explorer_rows import Positions

NONE: Positions = np.empty(0, dtype=np.int64)


class PositionsTrait(traitlets.TraitType[Positions, Any]):
    """Positions of rows. The same ones again are no change, which numpy's comparison could not tell."""

    def validate(self, explorer: Any, value: Any) -> Positions:
        return explorer._rows.positions(value)  # type: ignore[no-any-return]

    def set(self, explorer: Any, value: Any) -> None:
        name = str(self.name)
        found = self.validate(explorer, value)
        before = explorer._trait_values.get(name, NONE)
        if not np.array_equal(before, found):
            found.flags.writeable = False
            explorer._trait_values[name] = found
            explorer._notify_trait(name, before, found)
