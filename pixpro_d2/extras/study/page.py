"""Write the page about a study: tables and plots of the results, inside text that a person wrote."""

import functools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from ...utils.errors import UsageError
from ...utils.files import write_file
from .comparison import Row, cannot_judge, counts, deviation, estimate, init_title, parts_with_results, pretrainings
from .experiments import pretraining_name
from .methods import LEAST_GAIN, METHODS, RANDOM, TASKS, Part, Task
from .plot import plot_rows

BEGIN, END = "<!-- results: made by python -m pixpro_d2.tools.study -->", "<!-- end of results -->"
HEADER = "# Study: does pre-training help, at the scale of one machine?\n\n"
NOTE = f"""In per cent. Fine-tunings are nested in pre-trainings: "3 x 3" are three pre-trainings and three fine-tunings
of each. The fine-tunings of a pre-training are averaged first. Mean ± standard error are over these averages. "Spread"
is the standard deviation of all single fine-tunings. "Gain" is the difference to random weights, the first line of each
kind. A fine-tuning has a seed of its own, which is the same for every initialisation. The seed draws the new weights,
the order of the data and, of cells, the few labelled images. The control is trained with the labels of the photographs.
Where the control gains less than {LEAST_GAIN:g} points, the task cannot judge.
"""


def write_page(path: str | Path, results: dict) -> list[str]:
    """Write the page, and its plots ``NAME_PART.png`` beside it; keep the text outside the two marks of results.

    Args:
        path: path of the page.
        results: result by name, see :mod:`.running`.

    Returns:
        Paths of the files.

    Raises:
        UsageError: if there are no results of fine-tuning, or ``path`` is a page without these marks.
    """
    path = Path(path)
    parts = parts_with_results(results)
    if not parts:
        raise UsageError("There is no result of fine-tuning to report on yet: run the study first.")
    before, after = _around(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    written, sections = [], [NOTE, _overview(parts)]
    for key, part, rows in parts:
        task = TASKS[part.task]
        picture = path.with_name(f"{path.stem}_{key}.png")
        image = plot_rows(part.title, f"{task.unit} in %", rows)
        written.append(write_file(str(picture), functools.partial(image.save, format="PNG")))
        sections.append(_part_section(part, rows, task, picture.name))
    sections += [_pretraining_section(results), _command_section(results)]
    page = f"{before}{BEGIN}\n\n" + "\n".join(filter(None, sections)) + f"\n{END}{after}"
    return [write_file(str(path), lambda partial: Path(partial).write_text(page, encoding="utf-8")), *written]


def _around(path: Path) -> tuple[str, str]:
    """Return the text before and after the results on the page; a header and a newline if there is no page."""
    if not path.exists():
        return HEADER, "\n"
    before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise UsageError(f"{path} lacks the lines `{BEGIN}` and `{END}`: put them where the results belong.")
    return before, after


def _overview(parts: list[tuple[str, Part, list[Row]]]) -> str:
    """Return the section with a table of initialisations and tasks: means of random weights, gains of other weights."""
    columns = {
        f"{part.title}, {variant} ({TASKS[part.task].unit})": {row.init: row for row in rows if row.variant == variant}
        for _, part, rows in parts
        for variant in dict.fromkeys(row.variant for row in rows)
    }
    inits = [init_title(init) for init in (RANDOM, *METHODS)]
    inits = [init for init in inits if any(init in column for column in columns.values())]
    cells = [(title, *(_gain_or_mean(column.get(init)) for init in inits)) for title, column in columns.items()]
    table = _markdown(cells, ("task", *inits))
    return f"## All tasks\n\nThe means of random weights, and the gains of the others.\n\n{table}\n"


def _gain_or_mean(row: Row | None) -> str:
    if row is None:
        return ""
    return estimate(row.gains, "+") if row.gains else estimate(row.values)


def _part_section(part: Part, rows: list[Row], task: Task, picture: str) -> str:
    verdicts = "".join(
        f"**{variant[0].upper()}{variant[1:]}: this task cannot judge.** The control gains {gain:z.1f} {task.unit} "
        f"over random weights, less than {LEAST_GAIN:g}.\n\n"
        for variant, gain in cannot_judge(rows)
    )
    return f"## {part.title}\n\n{part.note}\n\n{verdicts}![{part.title}]({picture})\n\n{_table(rows, task)}\n"


def _table(rows: list[Row], task: Task) -> str:
    cells = [
        (
            row.variant, row.init, estimate(row.values), deviation(row.values), estimate(row.gains, "+"),
            counts(row.values),
        )
        for row in rows
    ]  # fmt: skip
    return _markdown(cells, (task.kind, "from", task.unit, "spread", "gain", "seeds"))


def _pretraining_section(results: dict[str, Any]) -> str:
    found = pretrainings(results)
    if not found:
        return ""
    cells = [
        (
            title,
            ", ".join(f"{result['metrics'].get('total_loss', float('nan')):.3f}" for result in of_seeds),
        )
        for title, of_seeds in found
    ]
    return f"## Pre-trainings\n\n{_markdown(cells, ('method', 'last loss, by seed'))}\n"


def _command_section(results: dict[str, Any]) -> str:
    seconds = sum(result["seconds"] for result in results.values())
    machines = "; ".join(sorted({result["machine"] for result in results.values()}))
    names = [min((n for n in results if n.startswith(pretraining_name(key, ""))), default="") for key in METHODS]
    names += [max((n for n in results if n.startswith(f"{task}-")), default="") for task in TASKS]
    commands = "\n".join(results[name]["command"] for name in names if name in results)
    return f"""## Commands

{len(results)} runs, {seconds / 3600:.1f} hours in all, on {machines}. Runs of one task differ in SEED,
labelled images, weights, and whether the backbone is frozen; `results` in the folder of the study has all commands.

<details><summary>A pre-training of each method, and one fine-tuning of each task</summary>

```
{commands}
```

</details>
"""


def _markdown(cells: Iterable[Sequence[Any]], headers: Sequence[str]) -> str:
    return tabulate(cells, headers, tablefmt="github", disable_numparse=True)
