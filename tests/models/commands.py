"""The command `run`, for tests."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from recbole_llm.cli import main


def run_main(argv: Sequence[str]) -> object:
    """Run the command and return its exit status."""
    with pytest.raises(SystemExit) as ended:
        main(["run", *argv])
    return ended.value.code
