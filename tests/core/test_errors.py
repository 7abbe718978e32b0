"""Messages for what is not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from recbole_llm.core.errors import absent, needing
from recbole_llm.features.table import TableError


def test_a_file_that_is_not_there_has_the_near_names_of_its_folder() -> None:
    Path("tables").mkdir()
    Path("tables/orders.csv").touch()
    said = str(absent("config file", "tables/ordes.csv"))
    assert said == "config file 'tables/ordes.csv' does not exist; did you mean 'orders.csv'?"
    assert str(absent("the file", "tables")) == "the file 'tables' is no file"
    assert str(absent("the file", "nowhere/x.csv")) == "the file 'nowhere/x.csv' does not exist"


def test_a_missing_package_is_named_with_the_command_that_installs_it() -> None:
    said = r"^export needs the package 'not_there': pip install 'recbole-llm\[serving\]'$"
    with (
        pytest.raises(TableError, match=said),
        needing("export", "'recbole-llm[serving]'", TableError),
    ):
        import not_there  # type: ignore[import-not-found]  # noqa: F401
