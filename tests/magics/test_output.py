"""What a cell shows of an answer where there is little or nothing to show."""

from __future__ import annotations

from typing import get_args

import pytest

from skytells_nb.magics.chat_arguments import Format
from skytells_nb.magics.output import CellOutput


@pytest.mark.parametrize("format", get_args(Format))
def test_in_a_terminal_notes_without_a_text_stand_alone(format: Format, capsys: pytest.CaptureFixture[str]) -> None:
    screen = CellOutput(format, "plain")
    screen.close(notes=["Nothing came.", "Ask again."])
    assert capsys.readouterr().out == "[Nothing came.]\n[Ask again.]\n"


def test_in_a_terminal_notes_follow_the_text_on_a_line_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("Hello", "Hello\n"):
        screen = CellOutput("text", "plain")
        screen.write([("text", text)])
        screen.close(notes=["It was cut."])
        assert capsys.readouterr().out == "Hello\n[It was cut.]\n"


def test_in_a_terminal_an_answer_without_text_or_notes_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with CellOutput("markdown", "plain") as screen:
        screen.write([])
    screen.close(notes=["After the end."])
    assert capsys.readouterr().out == ""


def test_in_a_terminal_reasoning_alone_is_quoted_above_the_notes(capsys: pytest.CaptureFixture[str]) -> None:
    screen = CellOutput("text", "plain")
    screen.write([("reasoning", "First this."), ("reasoning paragraph", ""), ("reasoning", "Then that.")])
    screen.close(notes=["Nothing came."])
    assert capsys.readouterr().out == "> Reasoning\n>\n> First this.\n\n> Then that.\n\n[Nothing came.]\n"
