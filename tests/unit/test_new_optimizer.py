"""A row and a function are all that a new optimizer needs: ``toy_optimizer`` adds one, and the generic tests find it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.transforms.registry import BUILDERS
from tests.unit import test_transforms, toy_optimizer
from tests.unit.oracles import CASES

ROOT = Path(__file__).parents[2]
# File → the generic tests that have to run for the new row, and tests that look at the whole catalogue at once.
EXPECTED = {
    "unit/test_transforms.py": {
        "registry_and_catalogue_have_the_same_rows": 1,
        "capabilities_are_as_the_catalogue_says": 1,
        "every_step_equals_the_reference": 2,
        "seven_trials_at_once_equal_seven_single_runs": 1,
        "a_diverged_trial_leaves_its_neighbours_bit_identical": 1,
        "absurd_hyperparameters_of_one_trial_leave_its_neighbours_bit_identical": 3,
        "nothing_that_is_passed_in_changes": 2,
        "memory_is_what_the_catalogue_says": 2,
        "state_saved_and_loaded_mid_run_changes_nothing": 1,
        "scalars_and_kernels_are_weights_like_any_other": 1,
        "float32_keeps_the_digits_of_one_minus_beta": 1,
        "groups_have_hyperparameters_of_their_own": 1,
    },
    "unit/test_torch_face.py": {
        "the_torch_face_survives_save_and_load_mid_run": 1,
        "the_torch_face_takes_the_same_steps_as_the_pure_functions": 2,
        "training_with_a_scheduler_continues_bit_for_bit": 2,
    },
    "unit/test_engine.py": {
        "batched_equals_sequential_for_every_optimizer_and_schedule": 1,
        "the_probe_reports_what_planning_needs": 1,
    },
    "unit/test_space.py": {
        "spaces_grow_with_the_budget": 1,
        "defaults_lie_inside_their_own_ranges": 1,
        "how_many_hyperparameters_are_searched_at_which_budget": 1,
        "the_catalogue_row_is_consistent": 1,
    },
    "unit/test_snippet.py": {
        "the_snippet_runs_as_printed_and_follows_the_schedule": 10,
        "torch_is_enough_where_it_has_the_method": 1,
        "what_the_rate_depends_on_stands_in_the_snippet": 1,
        "every_number_reads_back_as_it_was": 1,
        "the_model_is_all_that_a_snippet_needs": 2,
    },
    "unit/test_trace.py": {"every_optimizer_draws_a_path": 1, "no_optimizer_breaks_at_absurd_rates": 1},
    "web/test_web_catalogue.py": {
        "every_optimizer_is_in_one_group": 1,
        "no_statement_of_a_formula_is_lost": 1,
        "a_detail_page_tells_everything": 1,
    },
    "api/test_api_catalogue.py": {"every_optimizer_is_served_with_what_a_person_asks_for": 1},
    "e2e/test_cli_catalogue.py": {"the_list_fits_and_nothing_is_cut": 2, "a_detail_fits_and_is_complete": 2},
}
WHOLE = ["registry_and", "the_probe_reports", "is_in_one_group", "no_statement_of", "is_served_with", "the_list_fits"]


@pytest.mark.slow
def test_a_row_and_a_function_switch_on_every_generic_test() -> None:
    command = [sys.executable, "-m", "pytest", "-p", "tests.unit.toy_optimizer", "-p", "no:cacheprovider", "-rA", "-q"]
    command += ["-m", "not service and not slow", "-k", " or ".join(["toy", *WHOLE])]
    # This may itself run under a plugin that speaks to its children through such variables.
    own = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    done = subprocess.run(
        [*command, *(f"tests/{file}" for file in EXPECTED)],
        cwd=ROOT,
        env={**own, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    found = {file: dict.fromkeys(tests, 0) for file, tests in EXPECTED.items()}
    passed = re.findall(r"^PASSED tests/(\S+)::test_(\w+)", done.stdout, re.MULTILINE)
    for file, name in passed:
        found[file][name] = found[file].get(name, 0) + 1
    assert found == EXPECTED, (done.stdout + done.stderr)[-4000:]
    # Nothing failed, was skipped or could not be collected.
    assert re.search(rf"^{len(passed)} passed, \d+ deselected in", done.stdout, re.MULTILINE), done.stdout[-4000:]


def test_a_row_without_a_function_or_without_a_reference_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OPTIMIZERS._rows, "toy", toy_optimizer.ROW)
    with pytest.raises(AssertionError, match="toy"):
        test_transforms.test_registry_and_catalogue_have_the_same_rows()
    monkeypatch.setitem(BUILDERS, "toy", toy_optimizer.RULE)
    with pytest.raises(AssertionError, match="toy"):
        test_transforms.test_registry_and_catalogue_have_the_same_rows()
    monkeypatch.setitem(CASES, "toy", toy_optimizer.REFERENCE)
    test_transforms.test_registry_and_catalogue_have_the_same_rows()
