"""A comparison as one self-contained HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from recbole_llm.core.checkpoints.served import can_recommend
from recbole_llm.core.errors import extra_install_command, is_installed
from recbole_llm.core.files import OTHER_FOLDER, write_whole
from recbole_llm.core.keys.evaluation import RecBoleEvaluation
from recbole_llm.data.settings import EngineSettings
from recbole_llm.features.attach import reads_items
from recbole_llm.tasks.compare.catalogue import Catalogue, describe_users
from recbole_llm.tasks.compare.cells import Cell
from recbole_llm.tasks.compare.checkpoint_figures import item_maps, model_figures
from recbole_llm.tasks.compare.figures import summary_figures
from recbole_llm.tasks.compare.summary import Summary
from recbole_llm.tasks.compare.tables import sentences, table_rows

_TEMPLATE = Path(__file__).with_name("page.html.jinja")


def write_page(summary: Summary, cells: Sequence[Cell], root: Path) -> str:
    """Write ``page.html``; returns its path, or a message if a package is missing."""
    if not is_installed("plotly"):
        return f"no page.html, for which plotly is missing: {extra_install_command('compare')}"
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    first = _first_runs(cells)
    catalogue = Catalogue(
        next((c for c in first if reads_items(c.seeded.config)), first[0]).seeded.config
    )
    figures, ranked = [*summary_figures(summary), *model_figures(first)], []
    if EngineSettings.of(catalogue.config).interactions == "memory":  # else there are no histories
        # Histories of ready-made lists are not among the interactions.
        listed = [cell for cell in first if can_recommend(cell.seeded.config)]
        ranked = [cell for cell in listed if cell.users["shown_users"].size]
        figures += item_maps(first, catalogue)
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(
        _TEMPLATE.read_text(encoding="utf-8")
    )
    html = template.render(
        summary=summary,
        sentences=list(sentences(summary)),
        table=table_rows(summary, Markup("<b>{}</b>").format, Markup("<u>{}</u>").format),
        figures=figures,
        today=datetime.now(UTC).date().isoformat(),
        users=describe_users(ranked, catalogue) if ranked else [],
        sampled=RecBoleEvaluation.of(catalogue.config).eval_args.modes()[1] != "full",
        plotly=get_plotlyjs(),
    )
    write_whole(root / "page.html", html.encode("utf-8"), OTHER_FOLDER)
    return f"{root}/page.html"


def _first_runs(cells: Sequence[Cell]) -> list[Cell]:
    """The first run of each model that ended well."""
    first: dict[str, Cell] = {}
    for cell in cells:
        if cell.is_done:
            first.setdefault(cell.entry.label, cell)
    return list(first.values())
