"""Files of the person's machine reach a server by themselves, and come back for a replay."""

from __future__ import annotations

import io
import json
import subprocess
from pathlib import Path

from service.settings import Settings
from tests.e2e.cli_support import SCRIPT, environment, tiny_spec, whichopt, write_spec, write_table
from workers.embedded import embedded


def test_a_table_and_weights_of_this_folder_train_on_a_server(tmp_path: Path) -> None:
    import torch

    here = tmp_path / "elsewhere"
    here.mkdir()
    write_table(here / "t.csv")
    weights = io.BytesIO()
    torch.save({"nothing.fits": torch.ones(2)}, weights)
    (here / "w.pt").write_bytes(weights.getvalue())
    dataset = {"kind": "file", "path": "t.csv", "target": "kind"}
    write_spec(here, tiny_spec(dataset=dataset))
    broken = tiny_spec(dataset=dataset, training={"steps": 40, "fine_tune": {"weights": "w.pt"}})
    write_spec(here, broken, "fine.yaml")
    with embedded(Settings(data_dir=tmp_path / "server"), workers=1) as stack:
        mine = {"WHICHOPT_KEY": stack.key}
        done = whichopt(here, "recommend", "spec.yaml", "--json", "--server", stack.url, env=mine)
        assert done.returncode == 0, done.stderr
        assert "uploading t.csv (" in done.stderr
        answer = json.loads(done.stdout)
        again = whichopt(here, "replay", answer["study"], "--json", "--server", stack.url, env=mine)
        assert again.returncode == 0, again.stderr
        assert json.loads(again.stdout)["reproduced"]
        # A table needs no more than its name and what to predict.
        plain = [str(here / "t.csv"), "--target", "kind", "--steps", "40", "--budget", "2 trials"]
        table = whichopt(here, "recommend", *plain, "--json", "--server", stack.url, "--key", stack.key)
        assert table.returncode == 0, table.stderr
        assert json.loads(table.stdout)["recommended"]["optimizer"]
        # The same bytes lie there once; the weights are read where the study trains.
        refused = whichopt(here, "recommend", "fine.yaml", "--json", "--server", stack.url, env=mine)
        assert refused.returncode == 3, refused.stderr
        assert "uploading w.pt" in refused.stderr
        assert "fits this model" in refused.stdout
        stored = sorted(path.name for path in (tmp_path / "server" / "artifacts").rglob("data.*"))
        assert stored == ["data.csv", "data.pt"]
        piped = subprocess.run(
            [str(SCRIPT), "inspect", "-", "--target", "kind", "--json", "--server", stack.url],
            cwd=here, env=environment(here, **mine), input=(here / "t.csv").read_bytes(), capture_output=True, check=False,
        )  # fmt: skip
        assert piped.returncode == 0, piped.stderr
        assert json.loads(piped.stdout)["target"] == "kind"
        # What does not lie here is the server's own.
        missing = whichopt(here, "inspect", "there.csv", "--target", "kind", "--server", stack.url, env=mine)
        assert (missing.returncode, "uploading" in missing.stderr) == (2, False)
        assert "there is no file there.csv on this machine" in missing.stderr
