"""Sphinx's settings, and the table of hyper-parameters, which comes from the registry."""

from dg_batchformer import ALGORITHMS, __version__, get_algorithm_class
from dg_batchformer.hparams import shared_hyperparameters
from dg_batchformer.registry import split_name

project = "dg-batchformer"
copyright = "the dg-batchformer developers"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinxarg.ext"]
html_theme = "furo"
html_title = f"dg-batchformer {version}"
myst_enable_extensions = ["substitution"]
myst_heading_anchors = 3
suppress_warnings = ["myst.domains"]  # of sphinx-argparse, whose names no page refers to
autodoc_typehints = "description"
autodoc_member_order = "bysource"


def table(rows):
    """Rows of Markdown below a header."""
    lines = ["| Hyper-parameter | Default |", "|---|---|"]
    return "\n".join([*lines, *(f"| `{name}` | `{default!r}` |" for name, default in rows)])


def hyperparameters():
    """For each objective and modifier the hyper-parameters of its own, then those of all algorithms."""
    parts = {part: None for name in ALGORITHMS for part in (split_name(name)[0], *split_name(name)[1])}
    own = {part: [(one.name, one.default) for one in get_algorithm_class(part).hyperparameters] for part in parts}
    titled = [f"**{part}**\n\n{table(rows)}" for part, rows in own.items() if rows]
    shared = table((one.name, one.default) for one in shared_hyperparameters("PACS"))
    return "\n\n".join([*titled, f"**All algorithms** (on PACS)\n\n{shared}"])


myst_substitutions = {"hyperparameters": hyperparameters()}
