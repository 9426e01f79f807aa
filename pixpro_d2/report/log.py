"""What the log of a run tells that is recorded nowhere else."""

import ast
import re
import shlex
from dataclasses import dataclass, field

from ..launch_arguments import argument_parser
from .curves import append

_ENTRY = re.compile(r"\[\d\d/\d\d \d\d:\d\d:\d\d\] \S+ (DEBUG|INFO|WARNING|ERROR|CRITICAL): (.*)")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_MEMORY = re.compile(r"\biter: (\d+)\b.*\bmax_mem: (\d+)M")
_SKIPPED = re.compile(r"(\d+) of the \d+ steps from iteration (\d+) to \d+ were left out")
_STARTED = re.compile(r"Starting training from iteration (\d+)")
_ARGUMENTS = "Command line arguments: "


@dataclass
class Log:
    """What was found in a log."""

    #: name -> value, of the last start of the run
    environment: dict = field(default_factory=dict)
    #: one for each start of the run
    commands: list = field(default_factory=list)
    #: what it said above INFO: message without its numbers -> [first message of the kind, how many there were]
    warnings: dict = field(default_factory=dict)
    #: curve of the steps that were left out because their gradients were not finite, each count at the first iteration
    #: that it is of
    skipped: list = field(default_factory=list)
    #: curve of the highest GPU memory so far, MiB
    memory: list = field(default_factory=list)

    @property
    def skipped_steps(self):
        """Number of all of them."""
        return sum(count for _, count in self.skipped)


def read_log(path):
    """Read a ``log.txt`` of detectron2's.

    Args:
        path (Path): of the file.

    Returns:
        Log:
    """
    log = Log()
    with open(path, encoding="utf-8", errors="replace") as file:
        lines = (_COLOUR.sub("", line.rstrip("\n")) for line in file)
        for line in lines:
            entry = _ENTRY.match(line)
            if not entry:
                continue
            level, message = entry.groups()
            if message.startswith("Environment info:"):
                log.environment = _read_table(lines) or log.environment
            elif message.startswith(_ARGUMENTS):
                log.commands.append(command_of(message.removeprefix(_ARGUMENTS)))
            elif level not in ("DEBUG", "INFO"):
                log.warnings.setdefault(re.sub(r"\d+(\.\d+)?", "#", message), [message, 0])[1] += 1
            if started := _STARTED.search(message):  # what a resumed run repeats counts once
                log.skipped = [point for point in log.skipped if point[0] < int(started[1])]
            if skipped := _SKIPPED.search(message):
                append(log.skipped, int(skipped[2]), int(skipped[1]))
            if memory := _MEMORY.search(message):
                append(log.memory, int(memory[1]), float(memory[2]))
    return log


def _read_table(lines):
    """Rows of the table of two columns between lines of dashes that comes next in ``lines``."""
    rule = next(lines, "")
    if not re.fullmatch(r"-+ +-+", rule):
        return {}
    start = rule.index("-", rule.index(" "))
    rows = {}
    for line in lines:
        if line == rule:
            break
        rows[line[:start].strip()] = line[start:].strip()
    return rows


def command_of(arguments):
    """The command line of train_net.py that gave ``arguments``, the text of a Namespace; that text if it is none."""
    try:
        call = ast.parse(arguments, mode="eval").body
        values = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError, AttributeError):
        return arguments
    parser, words = argument_parser(), ["python", "train_net.py"]
    for name, value in values.items():
        if name == "opts" or value == parser.get_default(name):
            continue
        words.append("--" + name.replace("_", "-"))
        words += [] if value is True else [str(value)]
    return " ".join(map(_quote, [*words, *map(str, values.get("opts") or ())]))


def _quote(word):
    """A word as a shell takes it; Python's tuples of strings in double quotes, which are easier to read."""
    return f'"{word}"' if "'" in word and not re.search(r'["$`\\!]', word) else shlex.quote(word)
