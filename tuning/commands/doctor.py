"""`panda-tune doctor`: what would stop a search, before hours are spent."""

import sys
from dataclasses import asdict

import typer

from tuning.commands.options import SERIALISERS, Address, File, Form, Overrides, Wait, next_step
from tuning.layout import terminal_width


def doctor(
    file: File, override: Overrides, address: Address = None, wait_for_nodes: Wait = 0, form: Form = "table"
) -> None:
    """Look for what would stop a search, here and on every node of the cluster; exit code 1 if something would."""
    from tuning.doctor.examine import examine
    from tuning.doctor.findings import table
    from tuning.experiment.loading import load
    from tuning.run.progress import Progress

    with Progress() as progress:
        findings = examine(load(file, override), address, wait_for_nodes, progress.doing)
    if form == "table":
        print(table(findings, terminal_width()))
    else:
        print(SERIALISERS[form]([asdict(finding) for finding in findings]))
    if any(finding.state == "failed" for finding in findings):
        print("mend what failed and run the doctor again", file=sys.stderr)
        raise typer.Exit(1)
    next_step(f"panda-tune search {file}{f' --address {address}' if address else ''}")
