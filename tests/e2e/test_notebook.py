"""A notebook asks with a closure and tensors, shows the answer, builds its optimizer and trains with it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat

CELLS = [
    """
import torch
from torch import nn
import whichopt

draw = torch.Generator().manual_seed(0)
x = torch.randn(200, 6, generator=draw)
y = (x[:, :3] + x[:, 3:]).argmax(1)
width = 12
""",
    """
answer = whichopt.recommend(
    lambda: nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Linear(width, 3)), (x, y),
    budget="8 trials", optimizers=["momentum"], training={"steps": 12, "batch_size": 16},
)
answer
""",
    """
model = nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Linear(width, 3))
optimizer, scheduler = answer.optimizer(model, total_steps=5)
for _ in range(5):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    scheduler.step()
print("trained", bool(loss.isfinite()))
""",
    """
def broken():
    return nn.Linear(width, nothing)

try:
    whichopt.recommend(broken, (x, y), budget="8 trials", progress=False)
except whichopt.StudyFailed as failed:
    print(failed.code, str(failed).splitlines()[0])
""",
]


def outputs(cell: Any, kind: str) -> str:
    """All that a cell wrote to a stream, or shows in a format."""
    parts = []
    for output in cell.outputs:
        if output.output_type == "stream" and output.name == kind:
            parts.append(output.text)
        if output.output_type in ("execute_result", "display_data"):
            parts.append(output.data.get(kind, ""))
    return "".join(parts)


# In a process of its own: what these packages leave open would be warned of in whichever test comes later.
RUN = """
import sys
import nbformat
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient

path, folder = sys.argv[1:]
# A kernel of this interpreter, whatever else is installed for the user.
manager = KernelManager(kernel_name="python3")
manager.kernel_spec.argv[0] = sys.executable
notebook = nbformat.read(path, as_version=4)
NotebookClient(
    notebook, km=manager, timeout=200, startup_timeout=200, resources={"metadata": {"path": folder}}
).execute()
nbformat.write(notebook, path)
"""


def test_a_notebook_from_the_question_to_training(tmp_path: Path) -> None:
    path = tmp_path / "asked.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell.strip()) for cell in CELLS]), path)
    places = (str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH"))
    own = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(place for place in places if place)}
    for name in ("JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "IPYTHONDIR"):
        own[name] = str(tmp_path / name.lower())
    command = [sys.executable, "-c", RUN, str(path), str(tmp_path)]
    done = subprocess.run(command, env={**os.environ, **own}, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    notebook = nbformat.read(path, as_version=4)
    _, asked, trained, failed = notebook.cells
    html = outputs(asked, "text/html")
    assert html.startswith("<pre ")
    assert "League of optimizers" in html
    assert "<Answer: " in outputs(asked, "text/plain")
    assert "measuring" in outputs(asked, "stderr")
    assert outputs(asked, "stdout") == ""
    assert outputs(trained, "stdout") == "trained True\n"
    assert (
        outputs(failed, "stdout")
        == "user_code_error your notebook, line 2, in broken: NameError: name 'nothing' is not defined\n"
    )
