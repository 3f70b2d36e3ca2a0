"""What a service is known to accept: learned once, kept for other processes, tried again after a while."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from skytells_nb.engine.service.profile import (
    INPUTS,
    MAX_FACTS,
    RECENT_ANSWERS,
    VALID_S,
    ServiceProfile,
    forget_profiles,
    profile_for,
)
from skytells_nb.engine.service.profile_file import LOCK_TIMEOUT_S, MAX_BYTES, MAX_PROFILES, ProfileFile, profiles_path
from skytells_nb.errors import BadRequestError, ServerError, SkytellsError

ORIGIN = "https://api.example/v1"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return profiles_path(tmp_path / "answers.sqlite")


def test_a_fact_holds_for_a_while_and_is_then_tried_again() -> None:
    now = [1000.0]
    profile = ServiceProfile(clock=lambda: now[0])
    profile.set_fact(INPUTS, 64)
    now[0] += VALID_S - 1
    assert profile.get_fact(INPUTS) == 64
    now[0] += 2
    assert profile.get_fact(INPUTS) is None
    assert profile.level(INPUTS) == 0


def test_a_clock_that_was_set_back_makes_no_fact_eternal() -> None:
    now = [1e9]
    profile = ServiceProfile(clock=lambda: now[0])
    profile.set_fact(INPUTS, 64)
    now[0] = 1e8
    assert profile.get_fact(INPUTS) is None


def test_what_one_process_learned_another_knows(path: Path) -> None:
    profile_for(path, ORIGIN, "m").set_fact(INPUTS, 64)
    profile_for(path, ORIGIN, "other").set_fact(INPUTS, 25)
    forget_profiles()
    assert profile_for(path, ORIGIN, "m").get_fact(INPUTS) == 64
    assert profile_for(path, ORIGIN, "other").get_fact(INPUTS) == 25
    assert profile_for(path, "https://elsewhere", "m").get_fact(INPUTS) is None


def test_what_is_learned_elsewhere_meanwhile_is_known_at_the_next_call(path: Path) -> None:
    here = profile_for(path, ORIGIN, "m")
    there = "import sys, pathlib; from skytells_nb.engine.service.profile import profile_for; "
    there += f"profile_for(pathlib.Path(sys.argv[1]), {ORIGIN!r}, 'm').set_fact('temperature', 1)"
    subprocess.run([sys.executable, "-c", there, str(path)], check=True, timeout=60)
    assert here.get_fact("temperature") is None
    assert profile_for(path, ORIGIN, "m").get_fact("temperature") == 1


def test_processes_that_write_at_once_lose_nothing(path: Path) -> None:
    learn = "import sys, pathlib; from skytells_nb.engine.service import profile_file\n"
    learn += "from skytells_nb.engine.service.profile import profile_for\n"
    learn += "profile_file.LOCK_TIMEOUT_S = 60.0  # a disk that stalls must not make one of them do without the lock\n"
    learn += (
        f"for n in range(12): profile_for(pathlib.Path(sys.argv[1]), {ORIGIN!r}, sys.argv[2] + str(n)).set_fact('a', n)"
    )
    running = [subprocess.Popen([sys.executable, "-c", learn, str(path), name]) for name in ("x", "y")]
    assert [process.wait(60) for process in running] == [0, 0]
    known = [profile_for(path, ORIGIN, f"{name}{n}").get_fact("a") for name in ("x", "y") for n in range(12)]
    assert known == [*range(12), *range(12)]


OURS = b'{"format":"skytells-nb service profiles 1","profiles":{"https://x m":{"facts":{"inputs":[5,1]}}}}'


@given(st.integers(0, len(OURS)), st.binary(max_size=100))
def test_a_damaged_file_of_ours_counts_as_empty_and_is_replaced(tmp_path_factory: Any, cut: int, noise: bytes) -> None:
    path = profiles_path(tmp_path_factory.mktemp("damaged") / "answers.sqlite")
    path.write_bytes(OURS[:cut] + (noise if cut > 60 else b""))
    forget_profiles()
    profile = profile_for(path, ORIGIN, "m")
    assert profile.get_fact(INPUTS) is None
    profile.set_fact(INPUTS, 7)
    forget_profiles()
    assert profile_for(path, ORIGIN, "m").get_fact(INPUTS) == 7


@given(st.binary(min_size=1, max_size=200) | st.text(min_size=1, max_size=100).map(str.encode))
@example(b"[" + b"1," * 800_000 + b"1]")
@example(b'{"format": "other"}')
def test_a_file_of_another_program_is_left_as_it_is(tmp_path_factory: Any, content: bytes) -> None:
    """Whether or not it is JSON, and however large it is."""
    assume(not OURS.startswith(content))
    path = profiles_path(tmp_path_factory.mktemp("other") / "answers.sqlite")
    path.write_bytes(content)
    forget_profiles()
    profile = profile_for(path, ORIGIN, "m")
    assert profile.get_fact(INPUTS) is None
    profile.set_fact(INPUTS, 7)
    forget_profiles()
    assert path.read_bytes() == content


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(["facts", "tokens", "saved", "x"]), _JSON), _JSON)
def test_a_record_of_other_values_is_passed_over(record: dict[str, Any], fact: Any) -> None:
    profile = ServiceProfile()
    profile.restore(record)
    profile.restore({"facts": {INPUTS: fact, "bytes": [fact, fact], "temperature": [-3, 1e12]}})
    assert all(type(value) is int and value >= 0 for value, _ in profile.to_dict()["facts"].values())
    assert profile.get_fact("temperature") is None
    assert (profile.get_fact(INPUTS) or 1) >= 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_a_pipe_a_folder_or_a_link_in_the_place_of_the_file_is_left_alone(path: Path, tmp_path: Path) -> None:
    os.mkfifo(path)
    profile_for(path, ORIGIN, "m").set_fact(INPUTS, 7)
    assert path.is_fifo()
    path.unlink()
    path.mkdir()
    forget_profiles()
    profile_for(path, ORIGIN, "m").set_fact(INPUTS, 7)
    assert path.is_dir()
    path.rmdir()
    target = tmp_path / "somebody's"
    target.write_text("precious")
    path.symlink_to(target)
    forget_profiles()
    profile_for(path, ORIGIN, "m").set_fact(INPUTS, 7)
    assert target.read_text() == "precious"
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".")] == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_no_error(path: Path) -> None:
    path.parent.chmod(0o500)
    try:
        profile_for(path, ORIGIN, "m").set_fact(INPUTS, 7)
    finally:
        path.parent.chmod(0o700)
    assert profile_for(path, ORIGIN, "m").get_fact(INPUTS) == 7


def test_a_folder_that_does_not_exist_is_not_made(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "answers.profiles.json"
    profile_for(path, ORIGIN, "m").set_fact(INPUTS, 7)
    assert not path.parent.exists()


def test_the_file_stays_small(path: Path) -> None:
    file = ProfileFile(path)
    for n in range(MAX_PROFILES + 5):
        file.update(f"m{n}", {"facts": {}})
    assert file.get("m0") is None
    assert file.get(f"m{MAX_PROFILES + 4}") is not None
    profile = ServiceProfile()
    profile.set_fact(INPUTS, 7)
    for n in range(MAX_FACTS + 5):
        profile.set_fact(f"format {n}", 1)
    assert len(profile.to_dict()["facts"]) == MAX_FACTS
    assert profile.get_fact(INPUTS) == 7
    assert path.stat().st_size < MAX_BYTES


def test_a_file_that_grew_beyond_reason_is_not_read(path: Path) -> None:
    path.write_bytes(b" " * (MAX_BYTES + 1) + b"{}")
    assert ProfileFile(path).get("m") is None


def test_counts_are_kept_for_other_processes(path: Path) -> None:
    profile = profile_for(path, ORIGIN, "m")
    profile.tokens.observe(100.0, 250, beyond=380)
    profile.save_counts()
    forget_profiles()
    tokens = profile_for(path, ORIGIN, "m").tokens
    assert tokens.factor == pytest.approx(2.5)
    assert (tokens.most_beyond, tokens.most_counted) == (380, 2.5)


def test_counts_that_say_nothing_new_are_not_written_again(path: Path) -> None:
    profile = profile_for(path, ORIGIN, "m")
    for _ in range(10):
        profile.tokens.observe(100.0, 250)
    profile.save_counts()
    written = path.stat().st_mtime_ns
    profile.tokens.observe(100.0, 250)
    profile.save_counts()
    assert path.stat().st_mtime_ns == written


def refused(words: str) -> BadRequestError:
    return BadRequestError(words, status=400)


def downgrade(problem: SkytellsError, levels: Mapping[str, int]) -> tuple[str, int] | None:
    return ("a", levels["a"] + 1) if isinstance(problem, BadRequestError) and levels["a"] < 2 else None


def test_a_form_that_helps_is_remembered() -> None:
    profile, sent = ServiceProfile(), []

    def attempt(levels: Mapping[str, int]) -> str:
        sent.append(levels["a"])
        if levels["a"] < 2:
            raise refused("no")
        return "done"

    assert [profile.send(["a"], attempt, downgrade) for _ in range(3)] == ["done"] * 3
    assert sent == [0, 1, 2, 2, 2]
    assert profile.get_fact("a") == 2


def test_forms_that_do_not_help_are_as_before() -> None:
    profile = ServiceProfile()

    def attempt(levels: Mapping[str, int]) -> str:
        raise refused("no")

    with pytest.raises(BadRequestError):
        profile.send(["a"], attempt, downgrade)
    assert profile.level("a") == 0
    assert profile.get_fact("a") is None


def test_a_service_that_is_down_teaches_nothing() -> None:
    profile = ServiceProfile()

    def attempt(levels: Mapping[str, int]) -> str:
        raise ServerError("down", status=503)

    with pytest.raises(ServerError):
        profile.send(["a"], attempt, downgrade)
    assert profile.get_fact("a") is None


def test_a_thread_that_probes_and_fails_leaves_the_others_free() -> None:
    profile, results = ServiceProfile(), []
    start = threading.Barrier(4)

    def attempt(levels: Mapping[str, int]) -> int:
        return levels["a"]

    def work() -> None:
        start.wait(20)
        results.append(profile.send(["a"], attempt, downgrade))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert results == [0] * 4


def test_output_beyond_its_limit_is_forgotten_once_answers_keep_to_it(path: Path) -> None:
    """What one call with much reasoning took must not make every later one expensive."""
    now = [1e9]
    profile = ServiceProfile(clock=lambda: now[0])
    profile.tokens.observe(100.0, 100, beyond=5000)
    for _ in range(RECENT_ANSWERS - 1):
        profile.tokens.observe(100.0, 100)
    profile.tokens.observe(100.0, 100, beyond=300)
    assert profile.tokens.most_beyond == 5000
    for _ in range(RECENT_ANSWERS):
        profile.tokens.observe(100.0, 100, beyond=-20)
    assert profile.tokens.most_beyond == 300
    for _ in range(RECENT_ANSWERS):
        profile.tokens.observe(100.0, 100)
    assert profile.tokens.most_beyond == 0


def test_output_beyond_its_limit_is_forgotten_after_a_while() -> None:
    now = [1e9]
    profile = ServiceProfile(clock=lambda: now[0])
    profile.tokens.observe(100.0, 100, beyond=5000)
    now[0] += VALID_S - 1
    later = ServiceProfile(clock=lambda: now[0])
    later.restore({**profile.to_dict(), "saved": now[0]})
    assert later.tokens.most_beyond == profile.tokens.most_beyond == 5000
    now[0] += 2
    assert later.tokens.most_beyond == profile.tokens.most_beyond == 0
    again = ServiceProfile(clock=lambda: now[0])
    again.restore({**later.to_dict(), "saved": now[0]})
    assert (again.tokens.most_beyond, again.tokens.most_counted) == (0, 1)


def test_a_limit_that_one_rejection_shows_is_not_believed_when_it_is_small() -> None:
    profile = ServiceProfile()
    profile.learn_limit(INPUTS, 1, rejections=1, inputs=1)
    assert profile.get_fact(INPUTS) is None
    profile.learn_limit(INPUTS, 6, rejections=1, inputs=6)
    assert profile.get_fact(INPUTS) is None
    profile.learn_limit(INPUTS, 5, rejections=1, inputs=5)
    assert profile.get_fact(INPUTS) == 6


def test_a_limit_is_believed_at_once_where_it_is_large_or_was_met_twice() -> None:
    large, twice = ServiceProfile(), ServiceProfile()
    large.learn_limit(INPUTS, 512, rejections=1, inputs=512)
    twice.learn_limit(INPUTS, 1, rejections=2, inputs=1)
    assert (large.get_fact(INPUTS), twice.get_fact(INPUTS)) == (512, 1)


def test_a_file_that_another_process_locks_is_not_waited_for_long(path: Path) -> None:
    fcntl = pytest.importorskip("fcntl", reason="locks of files are those of POSIX")
    handle = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        profile = profile_for(path, ORIGIN, "m")
        writer = threading.Thread(target=profile.set_fact, args=(INPUTS, 64), daemon=True)
        writer.start()
        writer.join(60)
        assert not writer.is_alive()
    finally:
        os.close(handle)
    assert LOCK_TIMEOUT_S <= 0.3
    forget_profiles()
    assert profile_for(path, ORIGIN, "m").get_fact(INPUTS) == 64
