"""The run of ``tarn check``: each part is shown as soon as it is there."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from tarn import check, check_report, jars, registered, screen, spark


def run(console: Console, name: str, given: Sequence[Path], *, with_spark: bool, quality: bool, datasets: Path) -> bool:
    """Check dataset ``name`` on ``given`` files or its samples; gives whether no file was refused and no rule failed.

    Raises:
        FolderError: there is no such dataset.
        RegistrationError: its registration, SQL, Python or rules are refused.
        CheckError: there is no sample, or the heavy transform or the judge fails.
        SparkError: Spark cannot be started.
    """
    dataset = registered.read(registered.folder_of(name, datasets))
    files = check.files_of(dataset, given)
    with tempfile.TemporaryDirectory(prefix="tarn-check-") as folder:
        work = Path(folder)
        with console.status(f"light transform of {len(files)} files"):
            made = check.light(dataset, files, work)
        check_report.show_light(console, made)
        staged = [one for one in made if one.staged]
        refused = len(made) - len(staged)
        if not staged:
            return _told(console, refused, check.Judged(not_judged="no file is left"))
        if not with_spark:
            check_report.show_columns(console, "Staged", list(staged[0].columns.items()))
            return _told(console, refused, check.Judged(not_judged="--no-spark"))
        found, missing = _jars(quality)
        with console.status("Spark starts") as progress, spark.session(found) as session:
            progress.update("heavy transform")
            heavy, written = check.heavy(session, dataset, staged, work)
            check_report.show_heavy(console, dataset, heavy)
            progress.update("Deequ judges")
            judged = check.judge(session, dataset, written, work, found) if found else check.Judged(not_judged=missing)
            check_report.show_verdict(console, dataset, judged)
    return _told(console, refused, judged)


def _jars(quality: bool) -> tuple[list[Path], str]:
    """Deequ's jars; without them, why."""
    if not quality:
        return [], "--quality off"
    try:
        return list(jars.fetch().values()), ""
    except jars.JarError as error:
        return [], str(error)


def _told(console: Console, refused: int, judged: check.Judged) -> bool:
    """The last line: what is wrong, or that nothing is."""
    failed = sum(one.outcome != "Passed" for one in judged.verdicts)
    wrong = [
        f"{count} {what}{'' if count == 1 else 's'} {fate}"
        for count, what, fate in ((refused, "file", "refused"), (failed, "rule", "failed"))
        if count
    ]
    if wrong:
        console.print(f"Not fit to deploy: {', '.join(wrong)}.", style=screen.BAD, highlight=False)
    elif judged.not_judged:
        console.print(f"The files pass; quality was not judged ({judged.not_judged}).", style=screen.BUSY, markup=False)
    else:
        console.print(f"Fit to deploy: {len(judged.verdicts)} rules passed.", style=screen.GOOD, highlight=False)
    return not wrong
