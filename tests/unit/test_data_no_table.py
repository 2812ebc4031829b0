"""What an error says of a file that is no table: nothing of what is in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from optim_core.data import understand
from optim_core.spec.errors import SpecError
from optim_core.spec.problem import CatalogueModel, FileDataset, StudySpec

SECRET = "hunter2"
FILES = {
    "passwd": f"root:{SECRET}:0:0:root:/root:/bin/sh\ndaemon:{SECRET}:1:1:x:/:/bin/false\n" * 3,
    "id_key": f"-----BEGIN {SECRET} KEY-----\nb3BlbnNzaC1r\n-----END KEY-----\n",
    ".env": f"PASSWORD={SECRET}\nOTHER=1\n",
    "token.txt": f"{SECRET}\n",
    "netrc.txt": f"machine h login me password {SECRET}\n",
    "settings.txt": f"password={SECRET};user=me\na=b;c=d\na=b;c=d\n",
    "settings.json": '{"' + SECRET + '": 1, "b": {"c": 2}}',
    "quoted.csv": f'# {SECRET}\n"{SECRET};more\n',
    "strange.arff": f"@relation x\n@attribute {SECRET} {SECRET}\n@data\n{SECRET}\n",
    "noise.csv": f"\x00\x01{SECRET}\x02\r\r\n" * 5,
}


@pytest.mark.parametrize("fmt", ["csv", "json", "arff", "parquet", "arrow", "xlsx", "npz"])
@pytest.mark.parametrize("name", FILES)
def test_no_error_shows_what_is_in_a_file_that_is_no_table(tmp_path: Path, name: str, fmt: str) -> None:
    (tmp_path / name).write_bytes(FILES[name].encode("latin-1"))
    for sep in (None, ":", ";") if fmt == "csv" else (None,):
        dataset = FileDataset(path=str(tmp_path / name), format=fmt, target="y", sep=sep)  # type: ignore[arg-type]
        with pytest.raises(SpecError) as caught:
            understand(StudySpec(model=CatalogueModel(name="mlp"), dataset=dataset))
        assert SECRET not in str(caught.value)


def test_of_a_table_the_columns_are_shown(tmp_path: Path) -> None:
    (tmp_path / "t.csv.gz").write_text("price,size\n1,2\n3,4\n")
    dataset = FileDataset(path=str(tmp_path / "t.csv.gz"), target="y")
    with pytest.raises(SpecError, match="the columns are 'price', 'size'"):
        understand(StudySpec(model=CatalogueModel(name="mlp"), dataset=dataset))
