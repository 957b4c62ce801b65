"""Search for hyper-parameters by Optuna, within a time budget.

Trials are judged on the newest quarter of the training part, so that the winner is the one that
does best on later weeks. Its rounds are those at which the validation was best; the caller fits it
again on everything.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import optuna
import xgboost

Metric = Literal["aucpr", "auc"]
VALIDATION_SHARE: Final = 0.25
PATIENCE: Final = 30
"""Rounds without a gain after which a trial, or an early stopped fit, ends."""
FIRST_TRIALS: Final = 8
"""Trials that are never pruned: random ones, from which TPE begins to learn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOptions:
    """`seconds` bounds the search by the clock; with `trials` it is the same on every machine."""

    seconds: float
    trials: int | None = None
    metric: Metric = "aucpr"


@dataclass(frozen=True, slots=True)
class BestParameters:
    """The best parameters (to be put over the defaults), their rounds, and how they were found."""

    parameters: dict[str, float | int]
    rounds: int
    value: float
    trials: int
    pruned: int


@dataclass(frozen=True, slots=True)
class Examples:
    """Rows float32[n, k] in event order, labels bool[n] and weights float32[n]."""

    matrix: npt.NDArray[np.float32]
    fraud: npt.NDArray[np.bool_]
    weight: npt.NDArray[np.float32]

    def halves(self) -> tuple[Examples, Examples]:
        """Return what to fit and what to validate on: older and newer rows."""
        border = len(self.fraud) - round(len(self.fraud) * VALIDATION_SHARE)
        older, newer = slice(None, border), slice(border, None)
        return (
            Examples(self.matrix[older], self.fraud[older], self.weight[older]),
            Examples(self.matrix[newer], self.fraud[newer], self.weight[newer]),
        )

    def quantised(self, reference: xgboost.DMatrix | None = None) -> xgboost.DMatrix:
        """Return them as XGBoost takes them; validation is cut into the bins of `reference`."""
        return xgboost.QuantileDMatrix(
            self.matrix, self.fraud, weight=self.weight, nthread=1, ref=reference
        )


def best_rounds(examples: Examples, parameters: dict[str, Any], rounds: int) -> int:
    """Return the number of rounds, at most `rounds`, at which the validation is best."""
    fit, validation = examples.halves()
    train = fit.quantised()
    booster = xgboost.train(
        parameters,
        train,
        rounds,
        evals=[(validation.quantised(train), "validation")],
        early_stopping_rounds=PATIENCE,
        verbose_eval=False,
    )
    return int(booster.best_iteration) + 1


def search(
    examples: Examples,
    defaults: dict[str, Any],
    rounds: int,
    options: SearchOptions,
    *,
    seed: int,
    clock: Callable[[], float] = time.monotonic,
    progress: Callable[[float], None] | None = None,
) -> BestParameters:
    """Return the best setting found; the first trial is the defaults, so none is worse than they.

    After each trial `progress` gets the share of the budget that is spent.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    began = clock()
    fit, validation = examples.halves()
    train = fit.quantised()
    evaluated = validation.quantised(train)
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=seed),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=FIRST_TRIALS, n_warmup_steps=20),
    )

    def late() -> bool:
        return clock() - began > options.seconds

    def objective(trial: optuna.Trial) -> float:
        report = _Report(trial, options.metric, late if trial.number > 0 else lambda: False)
        booster = xgboost.train(
            {**defaults, **_suggest(trial), "eval_metric": options.metric},
            train,
            rounds,
            evals=[(evaluated, "validation")],
            early_stopping_rounds=PATIENCE,
            verbose_eval=False,
            callbacks=[report],
        )
        if report.cut:
            raise optuna.TrialPruned
        trial.set_user_attr("rounds", int(booster.best_iteration) + 1)
        return float(booster.best_score)

    def after(running: optuna.Study, _: optuna.trial.FrozenTrial) -> None:
        if progress is not None:
            progress(min((clock() - began) / options.seconds, 1.0))
        if late():
            running.stop()

    study.enqueue_trial({name: defaults.get(name, value) for name, value in _NEUTRAL.items()})
    study.optimize(objective, n_trials=options.trials, callbacks=[after])
    best = study.best_trial
    pruned = sum(trial.state == optuna.trial.TrialState.PRUNED for trial in study.trials)
    return BestParameters(
        dict(best.params), best.user_attrs["rounds"], float(study.best_value),
        len(study.trials), pruned,
    )  # fmt: skip


_NEUTRAL: Final = {
    "max_depth": 6,
    "eta": 0.1,
    "min_child_weight": 1.0,
    "subsample": 1.0,
    "colsample_bytree": 1.0,
    "lambda": 1.0,
    "gamma": 0.0,
}
"""XGBoost's own defaults of the searched parameters."""


def _suggest(trial: optuna.Trial) -> dict[str, float | int]:
    return {
        "max_depth": trial.suggest_int("max_depth", 3, 10),
        "eta": trial.suggest_float("eta", 0.02, 0.3, log=True),
        "min_child_weight": trial.suggest_float("min_child_weight", 1.0, 50.0, log=True),
        "subsample": trial.suggest_float("subsample", 0.5, 1.0),
        "colsample_bytree": trial.suggest_float("colsample_bytree", 0.4, 1.0),
        "lambda": trial.suggest_float("lambda", 0.1, 30.0, log=True),
        "gamma": trial.suggest_float("gamma", 0.0, 5.0),
    }


class _Report(xgboost.callback.TrainingCallback):  # type: ignore[misc]
    """Reports each round's value to Optuna, and ends a trial that is hopeless or out of time."""

    def __init__(self, trial: optuna.Trial, metric: Metric, late: Callable[[], bool]) -> None:
        super().__init__()
        self._trial = trial
        self._metric = metric
        self._late = late
        self.cut = False

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        """Return whether to stop here."""
        self._trial.report(float(evals_log["validation"][self._metric][-1]), epoch)
        self.cut = self._late() or self._trial.should_prune()
        return self.cut
