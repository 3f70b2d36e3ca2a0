"""The magics ``%%skytells_chat``, ``%%skytells_respond`` and ``%skytells``: load them into a shell and unload them."""

from __future__ import annotations

from typing import Any

NAME = "SkytellsMagics"


def load(ip: Any) -> None:
    """Register the magics and their completion with an IPython shell. Idempotent."""
    manager = ip.magics_manager
    registered = manager.registry.get(NAME)
    if hasattr(registered, "on_unload"):
        return
    from skytells_nb.magics.completer import install
    from skytells_nb.magics.magics import SkytellsMagics, read_single_lines

    previous = {kind: dict(functions) for kind, functions in manager.magics.items()}
    magics = SkytellsMagics(shell=ip)
    manager.register(magics)
    remove_completers = install(ip)
    remove_transform = read_single_lines(ip)

    def undo() -> None:
        remove_completers()
        remove_transform()
        for kind, functions in magics.magics.items():
            for name, function in functions.items():
                _restore(manager.magics[kind], name, function, previous[kind].get(name))
        _restore(manager.registry, NAME, magics, registered)
        ip.configurables[:] = [c for c in ip.configurables if c is not magics]

    magics.on_unload = undo


def unload(ip: Any) -> None:
    """Remove what ``load`` registered, and nothing else; without a ``load`` before, do nothing."""
    undo = getattr(ip.magics_manager.registry.get(NAME), "on_unload", None)
    if undo is not None:
        undo()


def _restore(names: dict[str, Any], name: str, own: Any, previous: Any) -> None:
    """Restore one name, unless another extension has replaced it since."""
    # Each access creates a new bound method, so they are compared by value.
    if names.get(name) != own:
        return
    if previous is None:
        del names[name]
    else:
        names[name] = previous
