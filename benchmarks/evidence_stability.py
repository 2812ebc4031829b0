"""Stability: the same real table asked again with other seeds, splits included. Do the answers agree?"""

from __future__ import annotations

from collections import Counter
from typing import Any

from benchmarks.evidence_claims import claims_of, contradictions, opposed
from benchmarks.evidence_play import Trainer, play
from benchmarks.evidence_tables import TABLES, spec_of

SEEDS, TRIALS, LEAST_SAME = 20, 50, 0.8
QUICK = (("iris", "diabetes"), 3, 24)


def stability(quick: bool, seed: int) -> dict[str, Any]:
    """Goals: no claim that another seed contradicts; the same recommended optimizer in at least 80 % of the seeds."""
    names, seeds, trials = QUICK if quick else (tuple(TABLES), SEEDS, TRIALS)
    print(f"\nStability: {seeds} seeds a table, split included; {trials} search trials of AdamW and its rivals")
    print(f"{'table':16}{'recommended':36}{'verdicts':44}{'contradictions':>14}{'opposed':>9}")
    tables, missed = {}, []
    for name in names:
        studies = []
        for place in range(seeds):
            spec = spec_of(name, 1000 * seed + place + 1, trials)
            trainer = Trainer(spec)
            studies.append(claims_of(play(spec, trainer.probe(), trainer)))
        against = contradictions(studies)
        recommended = Counter(study.recommended for study in studies)
        verdicts = Counter(study.reason or study.verdict for study in studies)
        print(
            f"{name:16}{_counts(recommended):36}{_counts(verdicts):44}{len(against):14}{opposed(studies):9}", flush=True
        )
        share = recommended.most_common(1)[0][1] / seeds
        tables[name] = {
            "same": share,
            "contradictions": against,
            "opposed": opposed(studies),
            "studies": [study.document() for study in studies],
        }
        missed += [f"{name}: seed {i} calls {who} better, seed {j} contradicts it" for i, j, who in against]
        if share < LEAST_SAME and not quick:
            missed.append(f"{name}: the same recommendation in {share:.0%} of {seeds} seeds")
    return {"tables": tables, "missed": missed}


def _counts(found: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in found.most_common())
