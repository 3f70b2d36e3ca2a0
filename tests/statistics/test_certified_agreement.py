"""Which confidence of a proxy is certified, and how often wrongly."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from skytells_nb.statistics.certified_agreement import (
    CascadeSample,
    cascade_sample,
    certify,
    most_disagreements,
    rows_to_certify,
    texts_for_cascade,
)


@pytest.mark.parametrize(("wrong", "tested", "rest"), [(0, 45, 300), (2, 100, 100), (7, 60, 1000), (5, 5, 40)])
def test_the_limit_is_the_largest_number_that_the_sample_does_not_rule_out(wrong: int, tested: int, rest: int) -> None:
    """By scipy's hypergeometric distribution."""
    most = most_disagreements(wrong, tested, rest, 0.1)

    def probability(among_rest: int) -> float:
        return float(scipy.stats.hypergeom.cdf(wrong, tested + rest, wrong + among_rest, tested))

    assert most == rest or probability(most + 1) <= 0.1
    assert most == 0 or probability(most) > 0.1


def test_of_many_rows_it_is_the_limit_of_clopper_and_pearson() -> None:
    low = 1 - most_disagreements(3, 200, 1_000_000, 0.1) / 1_000_000

    expected = scipy.stats.binomtest(197, 200, alternative="greater").proportion_ci(0.9, method="exact").low
    assert low == pytest.approx(expected, abs=1e-4)


def test_nothing_is_left_of_a_census() -> None:
    assert most_disagreements(3, 10, 0, 0.1) == 0


@pytest.mark.parametrize(("agree", "rows"), [(0.95, 45), (0.9, 22), (0.99, 230)])
def test_so_many_rows_must_agree_at_least(agree: float, rows: int) -> None:
    """ln(0.1) / ln(agree), rounded up."""
    assert rows_to_certify(agree, 0.9, 1) == rows


def test_samples_grow_with_the_agreement_and_are_a_part_of_the_texts() -> None:
    assert cascade_sample(10_000, 0.95, 0.9) == CascadeSample(200, 300)
    assert cascade_sample(10_000, 0.99, 0.9).test > 800
    assert cascade_sample(500, 0.95, 0.9) == CascadeSample(62, 100)
    assert cascade_sample(200, 0.95, 0.9) is None
    least = texts_for_cascade(0.95, 0.9)
    assert cascade_sample(least, 0.95, 0.9) is not None
    assert cascade_sample(least - 5, 0.95, 0.9) is None


def draw(seed: int, agreement: float) -> tuple[bool, bool]:
    """Whether something was certified, and wrongly: a proxy whose confidence says little."""
    random = np.random.default_rng(seed)
    confidence = random.random(800)
    agrees = random.random(800) < agreement + 0.04 * (confidence - 0.5)
    tested = np.zeros(800, dtype=bool)
    tested[random.choice(800, 250, replace=False)] = True
    found = certify(confidence, tested, agrees, 0.9, 0.9)
    if found is None:
        return False, False
    left = (confidence >= found.threshold) & ~tested
    return True, bool(agrees[left].mean() < 0.9)


@pytest.mark.parametrize("agreement", [0.87, 0.9, 0.93])
def test_what_is_certified_is_wrong_at_most_as_often_as_was_allowed(agreement: float) -> None:
    """Where the agreement is just below and just above what is wanted, and the confidence does not help."""
    outcomes = [draw(seed, agreement) for seed in range(300)]

    assert np.mean([wrong for _, wrong in outcomes]) <= 0.1


def test_a_good_proxy_is_certified_and_a_bad_one_is_not() -> None:
    assert all(draw(seed, 0.98)[0] for seed in range(20))
    assert not any(draw(seed, 0.6)[0] for seed in range(20))


def test_the_lowest_confidence_that_holds_is_taken() -> None:
    """Rows below a half always disagree, those above always agree."""
    confidence = np.linspace(0, 1, 1000)
    tested = np.arange(1000) % 3 == 0

    found = certify(confidence, tested, confidence > 0.5, 0.95, 0.9)

    assert found is not None
    assert 0.45 < found.threshold <= 0.51
    assert found.low >= 0.95
