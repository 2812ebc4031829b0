"""Every sentence of an answer and of the way to it, for command line, pages and JSON alike. Numbers in, plain text out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from optim_core.recommend.enough import Tried
from optim_core.recommend.evidence import Confirmed, Evidence
from optim_core.recommend.interval import Difference
from optim_core.recommend.verdict import Judgement, may_catch_up, outlasts
from optim_core.spec.metrics import IMBALANCED, OF_IMBALANCED, SHORT_METRICS
from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.spec.problem import sign_of
from optim_core.spec.recommendation import Decide, GoingOn, RateCost, ReferenceModel, TimeToTarget

MINUS = "\N{MINUS SIGN}"
# So many names are listed, the others counted.
MOST_NAMES = 6


def headline(judged: Judgement, tried: Mapping[str, Tried]) -> str:
    """The verdict in a few words."""
    title = title_of(judged.recommended)
    if judged.lost:
        return f"Use {title} for now: every run of AdamW diverged."
    if judged.learnt == "no" and judged.verdict != "better":
        return "Nothing is learnt here: no confirmed setting does better than answering without a model."
    if judged.learnt == "open" and judged.verdict != "better":
        what = "too little was tried to" if judged.reason == "not_enough_search" else f"these {judged.each}s do not"
        return f"Use {_kept(judged)} for now: {what} show that anything is learnt."
    if judged.verdict == "better":
        return f"Use {title}: it beats AdamW at its best."
    if judged.verdict == "no_difference":
        if judged.recommended.optimizer != "adamw":
            return f"Use {title}: equal to AdamW at its best, and cheaper."
        kept = _kept(judged).removesuffix(",")
        return f"Keep {kept}: nothing that was compared beats it." if len(tried) > 1 else f"{kept}."
    if judged.reason == "not_enough_search":
        return f"Use {_kept(judged)} for now: too little was tried for a verdict."
    return f"Use {_kept(judged)} for now: the evidence does not decide."


def _kept(judged: Judgement) -> str:
    return "AdamW at its defaults" if judged.recommended is judged.default else "AdamW, tuned,"


def summary(
    judged: Judgement,
    found: Evidence,
    tried: Mapping[str, Tried],
    decide: Decide | None,
    *,
    minority: float | None = None,
    early: bool = False,
) -> str:
    """What tuning brings, then what the comparison with tuned AdamW says and what would decide it. ``minority``: the share of
    the rarest class, null for regression. ``early``: a person ended the search.
    """
    if judged.learnt == "no" and judged.verdict != "better" and judged.trivial is not None:
        name, best = metric_name(found.called), judged.effect.rival
        return (
            f"Always answering {_always(minority)} has {name} {number(judged.trivial)}, {title_of(judged.recommended)} at its "
            f"best {number(best)}: the choice of an optimizer does not matter here."
        )
    return f"{gain_sentence(judged, found, tried)} {_verdict_sentence(judged, found, tried, decide, early)}"


def gain_sentence(judged: Judgement, found: Evidence, tried: Mapping[str, Tried]) -> str:
    """The gain over default AdamW: what the person has already won, whatever the verdict."""
    name, gain = metric_name(found.called), judged.gain
    if judged.lost:
        return (
            f"{title_of(judged.recommended)} has {name} {number(gain.rival)}. All {found.runs} confirmation runs of AdamW "
            "diverged, at its defaults and as it was tuned, so nobody can say by how much that is better."
        )
    if judged.recommended is judged.default:
        if tried["adamw"].enough:
            return f"AdamW is at its best at its defaults here ({name} {number(gain.base)})."
        others = tried["adamw"].trials > 1
        what = "Nothing that was tried of AdamW did better than" if others else "Of AdamW nothing was tried but"
        return f"{what} its defaults ({name} {number(gain.base)})."
    what = "tuning AdamW" if judged.recommended.optimizer == "adamw" else f"{title_of(judged.recommended)}, tuned,"
    change = f"{name} {number(gain.base)} → {number(gain.rival)}, {effect(gain, found.metric)}"
    if not gain.claimable:
        runs = "one run" if found.runs == 1 else f"{found.runs} runs"
        scores = f"{name} {number(gain.base)} → {number(gain.rival)}, {runs} each"
        return f"{what[0].upper()}{what[1:]} looks better than AdamW at its defaults ({scores})."
    if gain.low > 0:
        return f"{what[0].upper()}{what[1:]} gains over AdamW at its defaults: {change}."
    return f"{what[0].upper()}{what[1:]} is not shown to gain over AdamW at its defaults: {change}."


def _verdict_sentence(
    judged: Judgement, found: Evidence, tried: Mapping[str, Tried], decide: Decide | None, early: bool
) -> str:
    leader, name = judged.leader, metric_name(found.called)
    if judged.reason == "not_enough_search":
        return _not_enough(judged, found, tried, decide, early)
    if judged.reason == "metric_degenerate":
        return f"No verdict by {name}: a class has too few {found.each}s, or some runs never answer with it; AUROC would do."
    if leader is None:
        return "No rival was asked for."
    rival, lead = leader
    if judged.verdict == "better":
        return (
            f"It beats AdamW at its best by {effect(judged.effect, found.metric)} {name}, for {_new(found)}; "
            f"probability {probability(judged.effect.probability)}."
        )
    compared = [one for one, _ in judged.against_tuned if tried[one.optimizer].enough]
    if judged.verdict == "no_difference":
        return f"No rival beats AdamW at its best by more than {number(judged.margin)} {name}: {listed(compared)} compared."
    if lead.mean <= 0:
        return (
            f"No rival is ahead of AdamW at its best, but that {title_of(rival)} could not be better by more than "
            f"{number(judged.margin)} {name} is not shown: {effect(lead, found.metric)}. {_decided_by(decide, found.each)}"
        )
    small = "by more than chance" if lead.low <= 0 else f"by more than the {number(judged.margin)} that matter"
    return (
        f"{title_of(rival)} is ahead of AdamW at its best by {effect(lead, found.metric)} {name}, but not {small}. "
        f"{_decided_by(decide, found.each)}"
    )


def _not_enough(
    judged: Judgement, found: Evidence, tried: Mapping[str, Tried], decide: Decide | None, early: bool
) -> str:
    baseline, leader = tried["adamw"], judged.leader
    if judged.lost:
        return (
            "No verdict: nothing of AdamW is left to compare with; lower learning rates or clip_norm may keep it alive."
        )
    if early:
        why = "the search was ended early"
    elif not baseline.enough:
        why = f"of AdamW, {baseline.lacks}"
    elif leader is None and not any(row.trials for name, row in tried.items() if name != "adamw"):
        why = "the budget is too small to confirm one, so all of it went into tuning AdamW"
    elif leader is None or not found.whole or any(not d.claimable for _, d in judged.against_tuned):
        why = "the budget did not allow a whole confirmation"
    elif leader is not None and tried[leader[0].optimizer].full > baseline.full:
        why = f"AdamW had {baseline.full} full-length trials, {title_of(leader[0])} {tried[leader[0].optimizer].full}"
    elif judged.stuck and leader is not None and leader[1].excludes_zero:
        why = "AdamW, as it was searched, is not shown to beat one answer for every row, so it is hardly at its best"
    elif leader is not None and leader[1].excludes_zero and not outlasts(leader[1], judged.misjudged):
        why = (
            f"what the search chose for AdamW did worse than its defaults on fresh runs and {found.each}s by "
            f"{number(judged.misjudged)}, so its best is hardly found, and {title_of(leader[0])} is surely ahead by no more "
            f"than {number(leader[1].low)}"
        )
    elif leader is not None and leader[1].low > 0 and may_catch_up(leader[1], baseline):
        why = (
            f"AdamW's search has not come to rest: its second half brought {number(baseline.growth)}, and "
            f"{title_of(leader[0])} is surely ahead by {number(leader[1].low)}"
        )
    else:
        why = "no rival's learning rate was bracketed"
    ahead = ""
    if leader is not None and leader[1].mean > 0:
        ahead = f" So far {title_of(leader[0])} is ahead by {number(leader[1].mean)} {metric_name(found.called)}."
    elif leader is None:
        ahead = _ahead_in_search(found, tried)
    known = decide is not None and (decide.seconds is not None or decide.trials is not None)
    enough = _decided_by(decide, found.each) if known else ""
    return f"No verdict on other optimizers: {why}.{ahead} {enough}".rstrip()


def _ahead_in_search(found: Evidence, tried: Mapping[str, Tried]) -> str:
    """Who looked better than AdamW on the validation split after equally long runs, when no rival was confirmed."""
    sign, base = sign_of(found.metric), tried["adamw"]
    if base.value is None:
        return ""
    rivals = [row for row in tried.values() if row.value is not None and row.horizon == base.horizon]
    best = max(rivals, key=lambda row: sign * (row.value or 0.0))
    if best.value is None or sign * (best.value - base.value) <= 0:
        return ""
    return (
        f" In the search {OPTIMIZERS[best.optimizer].title} looked better ({number(best.value)} against {number(base.value)}, "
        "validation); that is not confirmed."
    )


def _decided_by(decide: Decide | None, each: str) -> str:
    """``About 5,000 rows would decide.``, or that nothing that anybody would do does."""
    if decide is None:
        return ""
    if decide.seconds is not None:
        return f"A budget of about {duration(decide.seconds)} on this machine would suffice."
    if decide.trials is not None:
        return f"A budget of about {decide.trials:,} trials would suffice."
    if decide.seeds is not None:
        return f"{decide.seeds} seeds for each (budget.seeds) would decide."
    if decide.rows is not None:
        return f"About {decide.rows:,} {each}s would decide; more seeds would not."
    return f"What is left open is too small for any reasonable number of seeds or {each}s to show."


def notes(
    judged: Judgement, found: Evidence, tried: Mapping[str, Tried], minority: float | None, epochs: float | None
) -> list[str]:
    """What a person should know besides: whom no claim is about, how good nothing would be, what the numbers speak of."""
    name, said = metric_name(found.called), []
    if short := [name for name in judged.unclaimed if name != "adamw"]:
        names = [OPTIMIZERS[name].title for name in short]
        said.append(f"Not tried enough, so nothing is claimed about {_names(names)}.")
    winner = tried[judged.recommended.optimizer]
    if judged.verdict == "better" and winner.edge is not None:
        side, beyond = ("lowest", "lower") if winner.edge == "low" else ("highest", "higher")
        said.append(
            f"The best learning rate of {title_of(judged.recommended)} is the {side} tried: {beyond} ones may do better still."
        )
    if any(row.plateau for row in tried.values() if row.optimizer == "adamw"):
        said.append(f"All trials of AdamW scored the same {name}: a plateau. They were ranked by loss.")
    trivial = judged.trivial
    if trivial is not None and judged.learnt == "open":
        said.append(
            f"It is not shown to beat always answering {_always(minority)} ({name} {number(trivial)}, on the same "
            f"{found.each}s)."
        )
    if found.metric == "accuracy" and trivial is not None and trivial >= IMBALANCED:
        said.append(
            f"Accuracy of always saying the most frequent class: {number(trivial)}, so it says little here; consider the "
            f"metric {' or '.join(OF_IMBALANCED)}."
        )
    if epochs is not None and epochs < 1:
        said.append(
            f"A run saw {percent(epochs)} of its training {found.each}s, and none of them twice: give training.epochs or "
            "training.steps to train for longer."
        )
    unlike = [d for _, d in judged.against_tuned if d.floor > judged.margin]
    if unlike and judged.verdict == "inconclusive":
        said.append(
            f"{found.rows:,} {found.each}s cannot show a difference as small as {number(judged.margin)} {name}: their "
            f"resolution is {number(unlike[0].floor)}."
        )
    broken = [(one, one.diverged_n) for one in found.confirmed if one.diverged_n]
    said += [
        f"{title_of(one)} diverged in {n} of its {found.runs} confirmation runs, which count as the worst."
        for one, n in broken
    ]
    if not found.rows and all(len(set(one.metrics.tolist())) == 1 for one in found.confirmed):
        said.append(
            "All seeds scored alike: does your loop use the seed of its trial? If not, the intervals mean nothing."
        )
    said.append(_speaks_of(found))
    return said


def _always(minority: float | None) -> str:
    return "the mean" if minority is None else "the most frequent class"


def trained(
    steps: int, batch_size: int, epochs: float, rows: int, parameters: int, network: str, each: str = "row"
) -> str:
    """``1,320 steps of 32 rows, 40 epochs of 1,079 rows; 9,098 weights: Linear 64→64, ReLU, Linear 64→10``."""
    shown = f"{epochs:.0f} epochs" if epochs >= 1.5 else "1 epoch" if epochs >= 0.95 else f"{epochs:.2g} epochs"
    many = f"{each}s"
    return f"{steps:,} steps of {batch_size:,} {many}, {shown} of {rows:,} {many}; {parameters:,} weights: {network}"


def loop_trained(steps: int, batch_size: int | None, parameters: int | None) -> str:
    """``2,000 steps of your own loop, of 64 rows each; 124,000,000 weights``."""
    rows = "" if batch_size is None else f", of {batch_size:,} rows each"
    weights = "" if parameters is None else f"; {parameters:,} weights"
    return f"{steps:,} steps of your own loop{rows}{weights}"


def _new(found: Evidence) -> str:
    return f"new runs and new {found.each}s" if found.rows else "new runs on the same data"


def _speaks_of(found: Evidence) -> str:
    groups = 0 if found.groups is None else sum(len(np.unique(fold)) for fold in found.groups)
    alike = f" {found.each.capitalize()}s that belong together count as one: {groups:,} groups." if groups else ""
    return _said_of_rows(found) + alike


def _said_of_rows(found: Evidence) -> str:
    if found.whole and not found.rows:
        return (
            f"Intervals are for new training runs on the same data, over {len(found.seeds)} seeds: one score a run says "
            f"nothing of other test {found.each}s (trial.tell(value, rows=…) tells what each row scored)."
        )
    if found.fold_n > 1 and found.whole:
        return (
            f"Intervals are for new training runs and new {found.each}s from the same source: {found.fold_n} folds, "
            f"{len(found.seeds)} seeds, {found.rows:,} {found.each}s. Search and screening chose by some of them, alike for "
            "every optimizer."
        )
    if found.whole:
        return (
            f"Intervals are for new training runs and new {found.each}s like the {found.rows:,} of the given test split; "
            f"one split cannot say what another choice of training {found.each}s would have given."
        )
    runs = "one confirmation run" if found.runs == 1 else f"{found.runs} confirmation runs"
    return f"Only {runs} each: intervals are rough, and nothing is claimed from them."


def loop_margin(margin: float, called: str, share: float) -> str:
    """What counts as no difference for a loop's metric when nobody said it. ``share``: of the metric's value."""
    return (
        f"Differences of up to {number(margin)} {metric_name(called)} count as none: {percent(share)} of it, or less where the "
        "search's trials or what is missing to a perfect score differ by little. Say what matters to you with absolute_margin."
    )


def practice(
    judged: Judgement, called: str, cost: RateCost | None, going_on: GoingOn | None, sooner: TimeToTarget | None
) -> list[str]:
    """What matters in use: how soon it is there, how exact its learning rate has to be, whether more search may pay.

    ``called``: the metric's name. ``cost``: of a wrong learning rate, around the recommended one.
    """
    name, said = metric_name(called), []
    if judged.learnt == "no" and judged.verdict != "better":
        return said
    if sooner is not None and sooner.steps < sooner.of:
        said.append(
            f"It reaches after about {sooner.steps:,} steps what AdamW at its defaults has after {sooner.of:,} "
            f"({name} {number(sooner.target)}, mean of the curves)."
        )
    sides = [] if cost is None else [("higher", cost.higher), ("lower", cost.lower)]
    parts = [f"three times {way} {_costs(lost, name)}" for way, lost in sides if lost is not None]
    if parts:
        said.append(
            f"A learning rate {', '.join(parts)} (search, validation, one seed); up to {number(judged.margin)} does not matter."
        )
    unknown = [way for way, lost in sides if lost is None]
    if unknown:
        said.append(f"No learning rate about three times {' or '.join(unknown)} was tried at this length.")
    if going_on is not None and (going_on.worth or judged.reason != "not_enough_search"):
        brought = f"The second half of the search brought {number(going_on.late_gain)} {name} (validation)"
        said.append(
            f"{brought}: a longer one may improve the score."
            if going_on.worth
            else f"{brought}, within the {number(judged.margin)} that do not matter: a longer one is unlikely to help."
        )
    return said


def reference(models: Sequence[ReferenceModel], metric: str, network: float, train_rows: int) -> str:
    """Whether something else than a network would do, from the best of ``models`` (best first); empty without any."""
    if not models:
        return ""
    best, name = models[0], metric_name(metric)
    title = best.title[0].upper() + best.title[1:]
    verb = "reach" if best.title.endswith("s") else "reaches"
    others = "".join(f", {one.title} {number(one.mean)}" for one in models[1:])
    fewer = (
        "" if best.train_rows >= train_rows else f", fitted to {best.train_rows:,} of the {train_rows:,} training rows"
    )
    ends = f"{number(best.difference_ci95[0])}, {number(best.difference_ci95[1])}"
    apart = f"{'+' if best.difference > 0 else ''}{number(best.difference)} [{ends}]"
    what = {
        "better": "better than any network here"
        if best.than_any_network
        else "better than the network recommended here",
        "worse": "not as good as the network",
        "same": "about the same as the network",
        "not_told_apart": "these rows do not tell it from the network",
    }[best.than_network]
    score = f"{title} {verb} {name} {number(best.mean)} on the same rows without tuning{others}{fewer}"
    return f"{score}: {what} ({number(network)}), {apart}."


def _costs(lost: float, name: str) -> str:
    return f"costs {number(lost)} {name}" if lost > 0 else "showed no cost"


def saves(one: Confirmed, tuned: Confirmed, judged_effect: Difference, metric: str, called: str) -> str:
    """``half the state, −0.2 [−1.1, 0.7] accuracy``: what an equivalent saves against tuned AdamW, and what it may cost; of one
    that saves nothing only that.
    """
    row, base = OPTIMIZERS[one.optimizer], OPTIMIZERS[tuned.optimizer]
    parts = []
    if row.state_bytes_per_parameter < base.state_bytes_per_parameter:
        share = row.state_bytes_per_parameter / base.state_bytes_per_parameter
        parts.append("no state" if share == 0 else "half the state" if share == 0.5 else f"{share:.0%} of the state")
    elif row.state_bytes_per_parameter > base.state_bytes_per_parameter:
        parts.append(f"{row.state_bytes_per_parameter / base.state_bytes_per_parameter:.1f} times the state")
    if row.step_cost < base.step_cost:
        parts.append(f"{1 - row.step_cost / base.step_cost:.0%} less arithmetic a step")
    if "adamw_default" in one.roles:
        parts.append("no tuning")
    return ", ".join([*parts, f"{effect(judged_effect, metric)} {metric_name(called)}"])


# -- on the way ------------------------------------------------------------------------------------------------------


def standing_sentence(metric: str, called: str, default: float, best: float, optimizer: str) -> str:
    """``so far Muon has accuracy 0.982, AdamW at its defaults 0.909 (validation, not confirmed)``."""
    title = OPTIMIZERS[optimizer].title
    if sign_of(metric) * (best - default) <= 0:
        return f"so far nothing beats AdamW at its defaults ({metric_name(called)} {number(default)}, validation)"
    return (
        f"so far {title} has {metric_name(called)} {number(best)}, AdamW at its defaults {number(default)} "
        "(validation, not confirmed)"
    )


def forecast_sentence(trainings: float, needed_s: float | None, needed_trials: int | None, *, enough: bool) -> str:
    """What the budget buys, said before training."""
    buys = f"the budget buys about {_round(trainings)} full trainings"
    if needed_trials is not None:
        needs = f"about {needed_trials:,} trials"
    else:
        needs = f"about {duration(needed_s or 0.0)} on this machine"
    if enough:
        return f"{buys}; a verdict needs {needs}"
    return f"{buys}: too few for a verdict, which needs {needs}"


# -- words and numbers -----------------------------------------------------------------------------------------------


def title_of(confirmed: Confirmed) -> str:
    """``AdamW``."""
    return OPTIMIZERS[confirmed.optimizer].title


def metric_name(metric: str) -> str:
    """As people write it."""
    return SHORT_METRICS.get(metric, metric)


def number(value: float) -> str:
    """Four significant digits and a true minus sign."""
    return f"{value:.4g}".replace("-", MINUS)


def effect(found: Difference, metric: str) -> str:
    """``−0.0012 [−0.0031, 0.0007]`` in the metric's own direction."""
    sign = sign_of(metric)
    low, high = sorted((sign * found.low, sign * found.high))
    mean = sign * found.mean
    return f"{'+' if mean > 0 else ''}{number(mean + 0.0)} [{number(low)}, {number(high)}]"


def percent(share: float) -> str:
    """``80 %``, and ``99.8 %`` where whole percents would say all or nothing."""
    text = f"{share:.0%}" if 0.01 <= share <= 0.99 else f"{100 * share:.2g}%" if share < 0.01 else f"{share:.1%}"
    return text.replace("%", " %")


def probability(value: float) -> str:
    """A share in percent, never quite certain."""
    return "> 99.9 %" if value > 0.999 else "< 0.1 %" if value < 0.001 else f"{value:.1%}".replace("%", " %")


def typed(seconds: float) -> float:
    """Seconds, rounded up to a budget that one would type: whole seconds to ten, then fives, minutes, tenths of an hour."""
    unit = next((unit for end, unit in ((10, 1), (90, 5), (5400, 60)) if seconds <= end), 360)
    return float(unit * max(1, math.ceil(seconds / unit)))


def duration(seconds: float) -> str:
    """``40 s``, ``5 min``, ``2.5 h``: ``typed`` in words."""
    whole = typed(seconds)
    if whole <= 90:
        return f"{whole:.0f} s"
    return f"{whole / 60:.0f} min" if whole <= 5400 else f"{whole / 3600:.1f} h"


def listed(confirmed: Sequence[Confirmed]) -> str:
    """``Muon, RMSProp and Adam were``."""
    names = list(dict.fromkeys(title_of(one) for one in confirmed))
    return f"{_names(names)} {'was' if len(names) == 1 else 'were'}"


def _names(names: Sequence[str]) -> str:
    if len(names) > MOST_NAMES:
        return f"{', '.join(names[: MOST_NAMES - 1])} and {len(names) - MOST_NAMES + 1} others"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _round(count: float) -> str:
    return f"{count:.1f}" if count < 10 else f"{float(f'{count:.2g}'):,.0f}"
