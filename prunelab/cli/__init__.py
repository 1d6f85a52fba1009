"""The command line: prunelab lab | prune | replay | sweep | report | export.

A file for each command; options: what several of them take.
"""

import typer

from prunelab.cli import export, lab, prune, replay, report, sweep

app = typer.Typer(
    help="Study and prune the filters of convolutional networks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(lab.lab)
app.command()(prune.prune)
app.command()(replay.replay)
app.command()(sweep.sweep)
app.command()(report.report)
app.command()(export.export)


def main() -> None:
    """The `prunelab` command: what goes wrong is said in one sentence."""
    try:
        app()
    except (ValueError, OSError) as error:
        raise SystemExit(f"prunelab: {error}") from None
