"""Cross-fitting: nobody is judged by a model that has seen his card, and each row is judged."""

from __future__ import annotations

import numpy as np

from trainer.training.out_of_fold import Predict, Rows, out_of_fold


def test_no_row_is_predicted_by_a_model_that_has_learned_from_its_card() -> None:
    card = np.random.default_rng(3).integers(0, 40, 500).astype(np.uint64)
    learned = np.arange(0, 500, 2)
    asked: list[Rows] = []

    def fit(places: Rows) -> Predict:
        seen = set(card[learned[places]].tolist())

        def predict(own: Rows) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
            mine = set(card[own].tolist())
            assert not seen & mine
            assert seen | mine == set(card.tolist())
            asked.append(own)
            return own / 1_000

        return predict

    found = out_of_fold(card, learned, fit, folds=4)
    assert found.tolist() == (np.arange(500) / 1_000).tolist()  # also what none has learned from
    assert len(asked) == 4


def test_one_card_alone_is_predicted_by_a_model_of_nothing() -> None:
    sizes: list[int] = []

    def fit(places: Rows) -> Predict:
        sizes.append(len(places))
        return lambda own: np.full(len(own), 0.5)

    assert out_of_fold(np.zeros(3, np.uint64), np.arange(3), fit).tolist() == [0.5] * 3
    assert sizes == [0]
