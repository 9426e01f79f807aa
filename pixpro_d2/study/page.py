"""The page about a study: tables and plots out of the results, around what a person wrote."""

from pathlib import Path

from tabulate import tabulate

from ..checkpoint.writing import write_file
from ..errors import UsageError
from .comparison import parts_with_results, pretrainings, spread
from .experiments import pretraining_name
from .plot import plot_rows
from .recipes import METHODS, TASKS

BEGIN, END = "<!-- results: made by python -m pixpro_d2.tools.study -->", "<!-- end of results -->"
HEADER = "# Study: does pre-training help, at the scale of one machine?\n\n"
NOTE = """Mean ± standard deviation over the seeds, in per cent. A seed draws the labelled images (smaller sets lie
within larger ones, and are the same for every initialisation), the new weights and the order of the data. Each method
is pre-trained once, so its own variation is not in these numbers. "Gain" is the difference to random weights, the first
line of each kind, at the same seeds.
"""


def write_page(path, results):
    """Write the page and its plots, ``NAME_PART.png`` beside it; text outside the two marks of results is kept.

    Args:
        path (str): of the page.
        results (dict): name to result, see :func:`.running.run`.

    Returns:
        list[str]: paths of the files.

    Raises:
        UsageError: if there are no results of fine-tuning, or ``path`` is a page without these marks.
    """
    path = Path(path)
    parts = parts_with_results(results)
    if not parts:
        raise UsageError("There is no result of fine-tuning to report on yet: run the study first.")
    before, after = _around(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    written, sections = [], [NOTE]
    for key, part, rows in parts:
        task = TASKS[part.task]
        picture = path.with_name(f"{path.stem}_{key}.png")
        image = plot_rows(part.title, f"{task.unit} in %", rows)
        written.append(write_file(str(picture), lambda partial, image=image: image.save(partial, format="PNG")))
        sections.append(f"## {part.title}\n\n{part.note}\n\n![{part.title}]({picture.name})\n\n{_table(rows, task)}\n")
    sections += [_pretraining_section(results), _command_section(results)]
    page = f"{before}{BEGIN}\n\n" + "\n".join(filter(None, sections)) + f"\n{END}{after}"
    return [write_file(str(path), lambda partial: Path(partial).write_text(page, encoding="utf-8")), *written]


def _around(path):
    """What stands before and after the results on the page; a header and a newline if there is no page."""
    if not path.exists():
        return HEADER, "\n"
    before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise UsageError(f"{path} lacks the lines `{BEGIN}` and `{END}`: put them where the results belong.")
    return before, after


def _table(rows, task):
    cells = [
        (
            row.variant, row.init, spread(row.values), spread(row.gains, "+"), len(row.values),
            f"{sum(row.seconds) / len(row.seconds):.0f}" if row.seconds else "",
        )
        for row in rows
    ]  # fmt: skip
    return _markdown(
        cells, ("labels" if "bbox" in task.metric else "backbone", "from", task.unit, "gain", "n", "s each")
    )


def _pretraining_section(results):
    found = pretrainings(results)
    if not found:
        return ""
    cells = [
        (title, f"{result['metrics'].get('total_loss', float('nan')):.3f}", f"{result['seconds']:.0f}")
        for title, result in found
    ]
    return f"## Pre-trainings\n\n{_markdown(cells, ('method', 'last loss', 's'))}\n"


def _command_section(results):
    seconds = sum(result["seconds"] for result in results.values())
    machines = "; ".join(sorted({result["machine"] for result in results.values()}))
    names = [pretraining_name(method) for method in METHODS]
    names += [max((name for name in results if name.startswith(task)), default="") for task in TASKS]
    commands = "\n".join(results[name]["command"] for name in names if name in results)
    return f"""## Commands

{len(results)} runs, {seconds / 3600:.1f} hours in all, on {machines}. Those of a task differ in SEED, labelled images,
weights, and whether the backbone is frozen; `results` in the folder of the study has the command of each.

<details><summary>The pre-trainings, and one of each task</summary>

```
{commands}
```

</details>
"""


def _markdown(cells, headers):
    return tabulate(cells, headers, tablefmt="github", disable_numparse=True)
