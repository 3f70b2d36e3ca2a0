"""``python -m skytells_nb``."""

from __future__ import annotations

from skytells_nb.cli.main import main

raise SystemExit(main())
