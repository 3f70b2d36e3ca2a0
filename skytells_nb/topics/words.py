"""The words that set groups of texts apart: names of topics without a model.

Class TF-IDF (Grootendorst, 2022, BERTopic): a word weighs more for a group the more of its texts have it, and less the
more common it is in all groups.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np

SAMPLE_TEXTS = 4_000
TEXT_CHARACTERS = 1_000
MIN_CHARACTERS, MAX_CHARACTERS = 2, 28
MIN_TEXTS_OF_PHRASE = 3
PHRASE_SHARE = 0.4
"""A phrase of two words stands for them if at least this share of the texts with its rarer word have it."""
LEAST_OF_PHRASE = 0.25
"""Of the words of a phrase none weighs less than this fraction of the other."""
FEW_TEXTS = 8
"""In a group of this many texts or more, a word of a single one is no word of the group."""
COMMON_SHARE = 0.5
"""A word in a larger share of the texts of most groups sets none of them apart."""
# Scripts without spaces between words; pairs of their characters stand for words.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_WORD = re.compile(rf"[{_UNSPACED}]+|[^\W_{_UNSPACED}][^\W{_UNSPACED}]*(?:[-'\u2019+#.][^\W_{_UNSPACED}]+)*")
_STARTS_UNSPACED = re.compile(f"[{_UNSPACED}]")
_NUMBER = re.compile(r"[\d.,x-]+")
_STOP_WORDS = """
    a about above after again all almost also although always am among an and another any anyone anything are around
    as at away back be became because become been before being below between both but by came can cannot come could
    did do does doing done don't down during each easily easy either enough etc even ever every everyone everything
    few find first for from further get gets getting give given go goes going gone good got had has have having he
    hello help helps her here hers herself hi him himself his how however i i'd i'll i'm i've if in instead into is
    isn't it it's its itself just keep know last least less let lets like likely little long look lot made mainly make
    makes making many may maybe me mine more most mostly much must my myself near need needs never new next no none
    nor not nothing now of off often on once one only onto or other others our ours ourselves out over own part per
    please put quite rather really said same say see seem seems she should show simple simply since so some someone
    something soon still such take than thank thanks that that's the their theirs them themselves then there there's
    these they they're thing things this those though three through thus to together too toward try two under until up
    upon us use used useful user uses using various very via want was way we well went were what when where whether
    which while who whole whom whose why will with within without won't would yes yet you you're your yours yourself
    aber als am an auch auf aus bei bin bis da das dass dem den der des die doch du ein eine einem einen einer er es
    für haben hat ich ihr im in ist ja kann kein keine man mehr mein mit nach nicht noch nur oder sehr sein sich sie
    sind so über um und uns von war was wenn wie wir wird zu zum zur au aux avec ce ces cette dans de des du elle en
    est et il ils je la le les leur mais me même mes ne nous on ou par pas plus pour qu que qui sa sans se ses son
    sont sur très tu un une vous al como con cuando del desde donde el ella ellos entre era esta este esto hay la las
    le lo los más me mi muy ni no nos o para pero por porque que se ser si sin sobre su sus también te todo una uno y
    ya
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())


def distinctive_words(
    texts: Sequence[str | None], groups: Any, n_groups: int, *, words: int = 3, distinct: bool = True
) -> list[list[str]]:
    """Return for each group the words and phrases that set its texts apart from those of the others, the best first.

    ``groups`` (n,) has the group of each text from 0, negative for none. Lists are of different words where
    ``distinct``, also if that takes more of them; that of a group without any word is empty.

    >>> texts = ["cats purr", "a cat naps", "stocks fell", "the stock rose"]
    >>> distinctive_words(texts, [0, 0, 1, 1], 2, words=1)
    [['cats'], ['stocks']]
    """
    groups = np.asarray(groups, dtype=np.int64)
    rows = np.flatnonzero((groups >= 0) & np.array([isinstance(text, str) for text in texts], dtype=np.bool_))
    if len(rows) > SAMPLE_TEXTS:
        rows = np.sort(np.random.default_rng(0).choice(rows, SAMPLE_TEXTS, replace=False))
    counts: list[Counter[str]] = [Counter() for _ in range(n_groups)]
    sizes = np.zeros(n_groups)
    forms: dict[str, Counter[str]] = {}
    for row in rows.tolist():
        stems = _stems(str(texts[row]), forms)
        group = int(groups[row])
        sizes[group] += 1
        # A word counts once for a text: what one of them repeats is not what they have in common.
        counts[group].update(set(stems))
        counts[group].update({f"{a} {b}" for a, b in pairwise(stems) if a and b and a != b})
    weights = _weights(counts, sizes)
    lists = [_choose(scored, counts[group], words, forms) for group, scored in enumerate(weights)]
    if distinct:
        _tell_apart(lists, weights, counts, forms)
    return lists


def join_words(words: Sequence[str]) -> str:
    """A name from words: ``django, admin, models``."""
    return ", ".join(words)


def has_word_of(name: str, texts: Sequence[str]) -> bool:
    """Whether a name has a word of the texts, in any form of it.

    >>> has_word_of("Sleeping cats", ["a cat naps"]), has_word_of("Finance", ["a cat naps"])
    (True, False)
    """
    forms: dict[str, Counter[str]] = {}
    own = set(_stems(name, forms)) - {""}
    return any(not own.isdisjoint(_stems(text, forms)) for text in texts)


def _stems(text: str, forms: dict[str, Counter[str]]) -> list[str]:
    """The words of a text in order, reduced to a common form; empty for words without meaning, which end a phrase."""
    stems: list[str] = []
    for found in _WORD.findall(text[:TEXT_CHARACTERS]):
        if not found.isascii() and _STARTS_UNSPACED.match(found):
            for pair in _pairs(found):
                forms.setdefault(pair, Counter())[pair] += 1
                # Two pairs overlap, so that they make no phrase.
                stems += [pair, ""]
            continue
        stem, form = _stem_and_form(found)
        stems.append(stem)
        if stem:
            seen = forms.get(stem)
            if seen is None:
                seen = forms[stem] = Counter()
            seen[form] += 1
    return stems


@lru_cache(maxsize=100_000)
def _stem_and_form(found: str) -> tuple[str, str]:
    """The common form of a word and the word as a name would have it; empty for one without meaning."""
    word = found.lower()
    if word in STOP_WORDS or not MIN_CHARACTERS <= len(word) <= MAX_CHARACTERS or _NUMBER.fullmatch(word):
        return "", ""
    return _stem(word), word if not (found.isupper() and len(found) <= 5) else found


def _pairs(text: str) -> list[str]:
    """Words of a text without spaces: pairs of its characters, katakana as they are, hiragana (endings) not at all."""
    runs = re.findall("[\u30a0-\u30ff]+|[^\u3040-\u30ff]+", text)
    return [
        pair
        for run in runs
        for pair in ([run] if len(run) < 3 or "\u30a0" <= run[0] <= "\u30ff" else map("".join, pairwise(run)))
    ]


def _stem(word: str) -> str:
    """The word without an English plural ending, which other languages have as a rare coincidence."""
    word = word.removesuffix("'s").removesuffix("\u2019s")
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def _weights(counts: list[Counter[str]], sizes: Any) -> list[dict[str, float]]:
    """The class TF-IDF of each word in each group, times how much more frequent it is than in all texts."""
    totals: Counter[str] = Counter()
    for group in counts:
        totals.update(group)
    filled = sizes > 0
    rows = float(sizes.sum())
    common = Counter(
        word for group, size in zip(counts, sizes, strict=True) for word, n in group.items() if n > COMMON_SHARE * size
    )
    needed = max(2.0, 0.6 * float(filled.sum()))
    return [
        {
            word: n / size * _distinction(n / size, totals[word] / rows)
            for word, n in group.items()
            if word and common[word] < needed and (n > 1 or size < FEW_TEXTS)
        }
        for group, size in zip(counts, sizes, strict=True)
    ]


def _distinction(share: float, overall: float) -> float:
    """How much a word sets a group apart, from its share of the texts of the group and of all texts."""
    return math.log(1 + 1 / overall) * min(max(math.log2(share / overall), 0.0), 3.0)


def _choose(scored: dict[str, float], counts: Counter[str], words: int, forms: dict[str, Counter[str]]) -> list[str]:
    """The best words, of which no two share a part; a phrase in place of its words where they occur together.

    Each word of a phrase sets the group apart by itself: "python client" says no more than "client" where most texts
    are of Python.
    """
    ranked = sorted((word for word in scored if " " not in word), key=lambda word: (-scored[word], word))
    phrases: dict[str, list[str]] = {}
    for phrase in scored:
        parts = phrase.split(" ")
        rarer = min(counts[part] for part in parts)
        apart = len(parts) > 1 and _are_alike([scored.get(part, 0.0) for part in parts])
        if apart and counts[phrase] >= max(MIN_TEXTS_OF_PHRASE, PHRASE_SHARE * rarer):
            for part in parts:
                phrases.setdefault(part, []).append(phrase)
    chosen: list[str] = []
    for word in ranked:
        if len(chosen) == words:
            break
        used = {part for other in chosen for part in other.split(" ")}
        if word in used:
            continue
        fitting = [
            phrase
            for phrase in phrases.get(word, ())
            if used.isdisjoint(phrase.split(" ")) and counts[phrase] >= PHRASE_SHARE * counts[word]
        ]
        chosen.append(max(fitting, key=lambda phrase: (counts[phrase], phrase), default=word))
    return [_shown(word, forms) for word in chosen]


def _are_alike(scores: list[float]) -> bool:
    return min(scores) > LEAST_OF_PHRASE * max(scores)


def _shown(word: str, forms: dict[str, Counter[str]]) -> str:
    """The most frequent form of each part of a word."""
    return " ".join(max(forms[part].items(), key=lambda form: (form[1], form[0]))[0] for part in word.split(" "))


def _tell_apart(
    lists: list[list[str]], weights: list[dict[str, float]], counts: list[Counter[str]], forms: dict[str, Counter[str]]
) -> None:
    """Lengthen equal lists by further words until they differ."""
    seen: set[tuple[str, ...]] = set()
    for group, chosen in enumerate(lists):
        length = len(chosen)
        while chosen and tuple(sorted(chosen)) in seen and length < len(lists) + 8:
            length += 1
            longer = _choose(weights[group], counts[group], length, forms)
            if len(longer) <= len(chosen):
                break
            lists[group] = chosen = longer
        seen.add(tuple(sorted(chosen)))
