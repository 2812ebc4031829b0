"""Answers as a real study gives them: one for each verdict and each reason to have none."""

from __future__ import annotations

import random
from typing import Any

from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.spec.recommendation import Recommendation
from tests.web.web_samples import SEARCHED, SNIPPET, configuration

LEADERS = ["nesterov", "momentum", "nadamw", "adamw"]
CONFIRMED_N = 4
FULL_STEPS, SHORT_STEPS = 680, 340
HASH = "ab" * 32

# AdamW at its defaults and at its best; the best rival.
DEFAULT, TUNED, RIVAL = 0.9581, 0.9669, 0.9762
# verdict, or the reason to have none → (headline, summary without the gain)
SENTENCES = {
    "better": (
        "Use Nesterov momentum: it beats AdamW at its best.",
        "It beats AdamW at its best by +0.0093 [0.0041, 0.0143] accuracy, for new runs and new rows; probability 99.9 %.",
    ),
    "no_difference": (
        "Keep AdamW, tuned: nothing that was compared beats it.",
        "No rival beats AdamW at its best by more than 0.006618 accuracy: Nesterov momentum, momentum and NAdamW were "
        "compared.",
    ),
    "not_enough_search": (
        "Use AdamW, tuned, for now: too little was tried for a verdict.",
        "No verdict on other optimizers: of AdamW, only 5 learning rates over 1.0 decades, 8 over 2 decades are needed. "
        "A budget of about 2 min on this machine would suffice.",
    ),
    "noise": (
        "Use AdamW, tuned, for now: the evidence does not decide.",
        "Nesterov momentum is ahead of AdamW at its best by +0.0051 [−0.0031, 0.0133] accuracy, but not by more than "
        "chance. 7 seeds for each (budget.seeds) would decide.",
    ),
    "metric_degenerate": (
        "Use AdamW, tuned, for now: the evidence does not decide.",
        "No verdict by accuracy: a class has too few rows, or some runs never answer with it. AUROC would carry one.",
    ),
}  # fmt: skip
BESIDE = (
    "Gradient-boosted trees reach accuracy 0.9721 on the same rows without tuning, logistic regression 0.9402: these rows "
    "do not tell it from the network (0.9762), −0.0041 [−0.0101, 0.0019]."
)
DECIDE = {"not_enough_search": {"seconds": 120.0}, "noise": {"seeds": 7}}
LACKS = ["only 2 of 3 learning rates", "the best learning rate, 0.5, is the highest tried: a larger one may be better"]


def sample_recommendation(
    study_id: str, kind: str = "better", optimizers: list[str] | None = None, trivial_beaten: bool = True
) -> Recommendation:
    """``kind``: a verdict, or a reason for "inconclusive". ``optimizers``: the league from the best down; the first four
    are confirmed, and the first is recommended where it is better than AdamW.
    """
    rng = random.Random(5)
    names = optimizers or [*LEADERS, *[n for n in SEARCHED if n not in (*LEADERS, "sgd")]]
    untried = names[-len(LACKS) :]
    winner = configuration(names[0], rng).model_dump()
    tuned = baseline(TUNED, rng, configuration("adamw", rng).hyperparameters)
    default = baseline(DEFAULT, rng, OPTIMIZERS["adamw"].defaults())
    wins = kind == "better"
    chosen = winner if wins else {**winner, "optimizer": "adamw", "hyperparameters": tuned["hyperparameters"],
                                  "schedule": tuned["schedule"]}  # fmt: skip
    own = RIVAL if wins else TUNED
    gain = own - DEFAULT
    difference, ends = (0.0093, (0.0041, 0.0143)) if wins else (0.0, (-0.0008, 0.0008))
    headline, summary = SENTENCES[kind]
    return Recommendation.model_validate(
        {
            "schema": "whichopt.recommendation/1", "study": study_id,
            "verdict": kind if kind in ("better", "no_difference") else "inconclusive",
            "reason": None if kind in ("better", "no_difference") else kind,
            "headline": headline,
            "summary": f"Tuning gains over AdamW at its defaults: accuracy {DEFAULT} → {own}, +{gain:.4f} "
            f"[{gain - 0.006:.4f}, {gain + 0.006:.4f}]. {summary}",
            "notes": [
                BESIDE,
                f"Not tried enough, so nothing is claimed about {' and '.join(OPTIMIZERS[n].title for n in untried)}.",
                "Intervals are for new training runs and new rows from the same source: 5 folds, 2 seeds, 1,797 rows. The "
                "search chose by one fold of them, alike for every optimizer.",
            ],
            "recommended": {**chosen, "techniques": {}, "parameter_groups": [{"match": "all", "weight_decay": 0.0004}]},
            "metric": {"name": "accuracy", "direction": "maximize", "split": "test"},
            "score": score(own),
            "baselines": {"adamw_tuned": tuned, "adamw_default": default},
            "gain": effect("adamw_default", gain, (gain - 0.006, gain + 0.006), 0.9999),
            "effect": effect("adamw_tuned", difference, ends, 0.9996 if wins else 0.5),
            "decide": DECIDE.get(kind),
            "equivalent": [equivalent(name, 0.9661, rng) for name in ("rmsprop", "nadamw") if not wins],
            "not_tried": untried,
            "trivial": {"score": 0.101, "beaten": trivial_beaten},
            "reference": {"models": [beside("trees", 0.9721, "not_told_apart"), beside("linear", 0.9402, "worse")],
                          "sentence": BESIDE},
            "league": league(names, rng, short=kind == "not_enough_search"),
            "cost": {"trials": 360, "confirmation_runs": 76, "train_steps": 31280, "seconds": 41.7, "device": "cpu",
                     "packs": 9, "mean_pack_size": 6.7},
            "dataset": {"report": ["1,797 rows were split into 1,077 for training, 360 for validation and 360 for the test.",
                                   "64 numeric columns were standardised with the training rows' mean and deviation."],
                        "hash": HASH, "rows": {"train": 1077, "validation": 360, "test": 360}},
            "engine": "batched", "snippet": SNIPPET,
            "replay": {"command": f"whichopt replay {study_id}", "seeds": [11, 12], "folds": 5, "wide": True, "data_hash": HASH,
                       "versions": {"torch": "2.10"}},
        },
        strict=False,
    )  # fmt: skip


def score(mean: float, half: float = 0.0026) -> dict[str, Any]:
    return {"mean": mean, "ci95": (mean - half, mean + half), "seeds": 2, "runs": 10, "rows": 1797}


def beside(name: str, mean: float, than: str) -> dict[str, Any]:
    title = "gradient-boosted trees" if name == "trees" else "logistic regression"
    apart = mean - RIVAL
    return {"name": name, "title": title, "mean": mean, "ci95": (mean - 0.004, mean + 0.004), "difference": apart,
            "difference_ci95": (apart - 0.006, apart + 0.006), "than_network": than, "than_any_network": False,
            "train_rows": 1077}  # fmt: skip


def baseline(mean: float, rng: random.Random, values: dict[str, float | bool]) -> dict[str, Any]:
    return {**score(mean), "hyperparameters": values, "schedule": configuration("adamw", rng).schedule}


def effect(versus: str, difference: float, ends: tuple[float, float], probability: float) -> dict[str, Any]:
    return {"versus": versus, "difference": difference, "ci95": ends, "probability_better": probability,
            "margin": 0.006618}  # fmt: skip


def equivalent(name: str, mean: float, rng: random.Random) -> dict[str, Any]:
    state, base = (OPTIMIZERS[n].state_bytes_per_parameter for n in (name, "adamw"))
    saved = "half the state" if state == base / 2 else "nothing"
    return {
        "configuration": configuration(name, rng).model_dump(),
        "score": score(mean),
        "effect": effect("adamw_tuned", mean - TUNED, (-0.0041, 0.0025), 0.32),
        "state_bytes_per_parameter": state,
        "saves": f"{saved}, −0.0008 [−0.0041, 0.0025] accuracy",
    }


def league(names: list[str], rng: random.Random, short: bool) -> list[dict[str, Any]]:
    """``short``: the later half was never trained at full length. The last two were not tried enough."""
    rows = []
    for i, name in enumerate(names):
        searched, trials, cut = 0.9801 - 0.0031 * i, max(2, 12 - i), short and i >= len(names) // 2
        lacking = i - (len(names) - len(LACKS))
        rows.append(
            {
                "optimizer": name, "searched": searched, "searched_steps": SHORT_STEPS if cut else FULL_STEPS,
                "confirmed": {**score(RIVAL - 0.0031 * i), "roles": ["adamw_tuned" if name == "adamw" else "rival"]}
                if i < CONFIRMED_N else None,
                "trials": trials, "full_trials": 0 if cut else trials - 1,
                "lacks": LACKS[lacking] if lacking >= 0 else None,
                "tuning_curve": [
                    {"n": n, "expected": searched - 0.04 / n, "low": searched - 0.06 / n, "high": searched - 0.02 / n}
                    for n in range(1, trials + 1)
                ],
                "divergence_rate": 0.25 if i == 0 else 0.0,
                "lr_width_decades": round(1.4 - 0.1 * i, 1) if "lr" in OPTIMIZERS[name].defaults() else None,
                "lr_wrong_by_3": {"lower": 0.0041, "higher": 0.0213} if "lr" in OPTIMIZERS[name].defaults() else None,
                "step_s": 0.00031 + 0.00002 * i, "state_bytes_per_parameter": OPTIMIZERS[name].state_bytes_per_parameter,
                "configuration": configuration(name, rng).model_dump(),
            }
        )  # fmt: skip
    return rows
