"""Report what is installed and configured on this machine, and whether a first call could work."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from skytells_nb import __version__, session
from skytells_nb.cache import SqliteStore, open_store
from skytells_nb.cache.replay import is_replay
from skytells_nb.cache.sqlite.database import foreign_access
from skytells_nb.client.transport.auth import KEY_VARIABLE, resolve_api_key
from skytells_nb.client.transport.base_url import resolve_base_url
from skytells_nb.errors import ConfigurationError, MissingExtraError, SkytellsError

DISTRIBUTION = "skytells-nb"
LOCAL = "local"
MEGABYTE = 1_000_000
FILES_OF_A_NOTEBOOK = 160
"""Files that a kernel, its libraries and caches have open beside connections: 60 to 120 were seen."""


@dataclass(slots=True)
class Diagnosis:
    """The report, in sections of names and descriptions. Contains no key."""

    sections: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    """Reasons why a first call would fail, with what to do."""

    @property
    def ready(self) -> bool:
        """Whether a first call could work."""
        return not self.problems

    def __str__(self) -> str:
        blocks = []
        for title, lines in self.sections.items():
            width = max(len(name) for name, _ in lines)
            blocks.append("\n".join([title, *(f"  {name:<{width}}  {text}".rstrip() for name, text in lines)]))
        end = "Ready." if self.ready else "\n".join(f"Not ready: {problem}" for problem in self.problems)
        return "\n\n".join([*blocks, end])


def examine(url: str | None = None) -> Diagnosis:
    """Examine the installation, the settings, the cache and the local models; with ``url`` try that service too.

    Without one, no request is made.

    >>> examine().ready  # doctest: +SKIP
    True
    """
    diagnosis = Diagnosis()
    _installation(diagnosis)
    try:
        settings = session.settings()
    except ConfigurationError as problem:
        diagnosis.problems.append(str(problem))
        return diagnosis
    _open_files(diagnosis, settings.max_in_flight)
    base_url = url or settings.base_url
    local = (base_url or "").lower() == LOCAL
    recorded = is_replay(settings.cache) and url is None
    _connection(diagnosis, base_url, local=local, recorded=recorded)
    if url is not None and diagnosis.ready:
        _service(diagnosis, url)
    diagnosis.sections["default models"] = [("text", settings.model), ("embeddings", settings.embedding_model)]
    _cache(diagnosis, settings.cache, settings.cache_dir)
    _local_models(diagnosis, needed=local and not recorded)
    return diagnosis


def _installation(diagnosis: Diagnosis) -> None:
    python = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    needed = [(name, _version(name) or "missing") for name in _requirements().get("", ())]
    diagnosis.sections[f"{DISTRIBUTION} {__version__}"] = [("python", python), *needed]
    diagnosis.sections["extras"] = list(_extras())


def _open_files(diagnosis: Diagnosis, max_in_flight: int) -> None:
    """Each request in flight holds a connection open."""
    if sys.platform == "win32":
        return
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = max_in_flight + FILES_OF_A_NOTEBOOK
    if limit in (-1, resource.RLIM_INFINITY):
        text = "no limit"
    elif limit < needed:
        text = f"{limit:,} at most, too few for {max_in_flight} requests in flight: ulimit -n {2 * needed}"
    else:
        text = f"{limit:,} at most, enough for {max_in_flight} requests in flight"
    diagnosis.sections[f"{DISTRIBUTION} {__version__}"].append(("open files", text))


def _service(diagnosis: Diagnosis, url: str) -> None:
    from skytells_nb.cli.service_checks import check_service

    lines = []
    for check in check_service(url):
        lines.append((check.name, f"{check.result}. {check.advice}" if check.advice else check.result))
        if check.is_fatal:
            diagnosis.problems.append(check.advice)
    diagnosis.sections["service"] = lines


def _connection(diagnosis: Diagnosis, base_url: str | None, *, local: bool, recorded: bool) -> None:
    if recorded:
        address, key = "none: responses come from a recording", f"{_key_source()} (not needed)"
    elif local:
        address, key = "local: small models on this machine", f"{_key_source()} (not needed)"
    else:
        address, key = "cannot be used", _key_source()
        try:
            address = resolve_base_url(base_url)
            resolve_api_key(None)
        except ConfigurationError as problem:
            diagnosis.problems.append(str(problem))
    diagnosis.sections["connection"] = [("address", address), ("key", key)]


def _cache(diagnosis: Diagnosis, spec: str | None, default_dir: Path) -> None:
    try:
        with closing(open_store(spec, default_dir=default_dir)) as store:
            stats = store.stats()
            contents = f"{stats.entries:,} responses, {stats.bytes / MEGABYTE:,.1f} MB"
            access = foreign_access(store.path) if isinstance(store, SqliteStore) else None
            if access is not None:
                contents += f"; it {access}: set SKYTELLS_CACHE to a file of your own, or chown it and chmod 600"
            diagnosis.sections["cache"] = [(store.url, contents)]
    except SkytellsError as problem:
        diagnosis.sections["cache"] = [("cannot be used", "")]
        diagnosis.problems.append(str(problem))


def _local_models(diagnosis: Diagnosis, *, needed: bool) -> None:
    try:
        models = session.local_models()
    except MissingExtraError as problem:
        models = {"none": str(problem)}
        if needed:
            diagnosis.problems.append(str(problem))
    diagnosis.sections["local models"] = [(name, missing or "ready") for name, missing in models.items()]


def _key_source() -> str:
    """Return where the key comes from, without the key."""
    if os.environ.get(KEY_VARIABLE):
        return f"from the environment ({KEY_VARIABLE})"
    try:
        resolve_api_key(None)
    except ConfigurationError:
        return "none"
    return "from the system keyring"


def _extras() -> Iterator[tuple[str, str]]:
    needed = {extra: set(names) for extra, names in _requirements().items() if extra}
    for extra, names in needed.items():
        # An extra that consists of others, such as "all", is reported by those.
        own = names.difference(*(others for others in needed.values() if others < names))
        versions = {name: _version(name) for name in sorted(own)}
        missing = [name for name, version in versions.items() if version is None]
        if missing:
            yield extra, f"{', '.join(missing)} missing: pip install '{DISTRIBUTION}[{extra}]'"
        elif own:
            yield extra, ", ".join(f"{name} {version}" for name, version in versions.items())


def _requirements() -> dict[str, list[str]]:
    """Return the required distributions by extra, ``""`` for those that are always needed."""
    required: dict[str, list[str]] = {}
    for line in metadata.requires(DISTRIBUTION) or ():
        requirement, _, marker = line.partition(";")
        name = re.match(r"[\w.-]+", requirement)
        extra = re.search(r"""extra\s*==\s*['"]([\w-]+)['"]""", marker)
        if name and name[0] != DISTRIBUTION:
            required.setdefault(extra[1] if extra else "", []).append(name[0])
    return required


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
