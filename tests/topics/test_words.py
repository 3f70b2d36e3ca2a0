"""The words that set groups of texts apart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skytells_nb.topics.words import distinctive_words, has_word_of

PETS = ["The cat naps on a warm sofa", "Cats and dogs sleep", "my dog sleeps", "A cat and the dog"]
MONEY = ["Stock prices fell", "the stock market rose", "Stock market news", "bonds and stock market funds"]


def test_words_are_those_that_only_one_group_has() -> None:
    """In the form that is most frequent; plural and singular are one word."""
    pets, money = distinctive_words(PETS + MONEY, [0] * 4 + [1] * 4, 2)
    assert {word.lower() for word in pets} >= {"cat", "dog"}
    assert money[0] == "stock market"
    assert not any("stock" in word for word in money[1:]), "a phrase stands for its words"


def test_common_words_name_nothing() -> None:
    """Words without meaning, numbers, and those that every text has."""
    texts = [f"the python package {n} reads {kind}" for n in range(20) for kind in ("images", "sounds")]
    first, second = distinctive_words(texts, [0, 1] * 20, 2, words=2)
    assert "image" in first[0]
    assert "sound" in second[0]
    assert not {"the", "python", "package", "reads"} & {*first, *second}


def test_rows_without_a_group_or_a_text_count_nothing() -> None:
    assert distinctive_words([*PETS, None, "noise noise"], [0, 0, 1, 1, 0, -1], 3)[2] == []
    assert not any(
        "noise" in word for words in distinctive_words([*PETS, "noise"], [0] * 4 + [-1], 1) for word in words
    )


def test_what_one_text_repeats_is_not_what_all_have_in_common() -> None:
    texts = ["spam " * 50, "green tea leaves", "green tea cup", "black tea", "car", "bus", "train", "car bus"]
    (tea, _) = distinctive_words(texts, [0, 0, 0, 0, 1, 1, 1, 1], 2, words=1)
    assert "tea" in tea[0]


def test_equal_lists_are_told_apart() -> None:
    """Two groups of the same texts but one word get further words."""
    texts = ["red apple", "red apple", "red apple pie", "red apple", "red apple", "red apple tart", "blue sky", "sky"]
    lists = distinctive_words(texts, [0, 0, 0, 1, 1, 1, 2, 2], 3, words=1)
    assert len({tuple(words) for words in lists}) == 3


@pytest.mark.parametrize(
    ("texts", "word"),
    [
        (["株価が下落した", "株価は上昇", "猫が寝る", "猫は好き"], "株価"),
        (["Börse fällt", "die Börse steigt", "Die Katze schläft", "eine Katze"], "börse"),
        (["акции упали", "акции растут", "кошка спит", "кошка ест"], "акции"),
        (["カメラが好き", "カメラを買う", "猫が寝る", "猫は好き"], "カメラ"),
    ],
)
def test_words_of_any_language(texts: list[str], word: str) -> None:
    """Also of scripts without spaces."""
    assert distinctive_words(texts, [0, 0, 1, 1], 2, words=1)[0] == [word]


@given(st.lists(st.tuples(st.text(max_size=60), st.integers(-1, 2)), max_size=12))
def test_any_texts_have_words_of_them(rows: list[tuple[str, int]]) -> None:
    """Every word is in a text of its group, in some case, and no list has a word twice."""
    texts, groups = [text for text, _ in rows], [group for _, group in rows]
    for group, words in enumerate(distinctive_words(texts, groups, 3)):
        assert len(set(words)) == len(words) <= 12
        own = " ".join(text for text, of in rows if of == group).lower()
        assert all(part.lower() in own for word in words for part in word.split(" "))


def test_many_texts_are_sampled() -> None:
    texts = np.array(["blue whale", "red fox"] * 30_000, dtype=object)
    assert distinctive_words(texts, np.arange(60_000) % 2, 2, words=1) == [["blue whale"], ["red fox"]]


@pytest.mark.parametrize(
    ("name", "shares"),
    [("Sleeping cats", True), ("DOG", True), ("Finance", False), ("the of and", False), ("", False)],
)
def test_a_name_shares_a_word_with_the_texts(name: str, shares: bool) -> None:
    """In any form of it; words without meaning do not count."""
    assert has_word_of(name, PETS) is shares


def test_a_phrase_has_no_word_that_all_groups_have() -> None:
    """It would say less in more words."""
    texts = ["a python client"] * 10 + ["a python parser"] * 10
    assert distinctive_words(texts, [0] * 10 + [1] * 10, 2) == [["client"], ["parser"]]
