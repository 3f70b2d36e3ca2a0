"""The door for cells: ``%%skytells_chat``, ``%%skytells_respond`` and ``%skytells``, put into a shell and taken out."""

from __future__ import annotations

from typing import Any

NAME = "SkytellsMagics"


def load(ip: Any) -> None:
    """Register the magics and their completion with an IPython shell; a second time changes nothing."""
    manager = ip.magics_manager
    registered = manager.registry.get(NAME)
    if hasattr(registered, "on_unload"):
        return
    from skytells_nb.magics.completer import install
    from skytells_nb.magics.magics import SkytellsMagics

    found = {kind: dict(named) for kind, named in manager.magics.items()}
    magics = SkytellsMagics(shell=ip)
    manager.register(magics)
    remove_completers = install(ip)

    def undo() -> None:
        remove_completers()
        for kind, added in magics.magics.items():
            for name, function in added.items():
                _put_back(manager.magics[kind], name, function, found[kind].get(name))
        _put_back(manager.registry, NAME, magics, registered)
        ip.configurables[:] = [c for c in ip.configurables if c is not magics]

    magics.on_unload = undo


def unload(ip: Any) -> None:
    """Take out what ``load`` put in, and nothing else; without a ``load`` before it changes nothing."""
    undo = getattr(ip.magics_manager.registry.get(NAME), "on_unload", None)
    if undo is not None:
        undo()


def _put_back(names: dict[str, Any], name: str, ours: Any, before: Any) -> None:
    """Restore one name, unless someone else has taken it since."""
    # Bound methods are made anew on each access, so they compare by value.
    if names.get(name) != ours:
        return
    if before is None:
        del names[name]
    else:
        names[name] = before
