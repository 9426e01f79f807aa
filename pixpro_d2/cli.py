"""Run the command ``pixpro-d2``: look up the module of a sub-command, and run its program."""

import difflib
import sys
from collections.abc import Sequence
from importlib import import_module

from . import __version__
from .commands.checks import check_config_file, check_detectron2, check_first_word
from .utils.errors import UsageError, exit_once

# name -> (module with the functions build_parser() and main(argv), purpose). No module loads PyTorch for its help.
COMMANDS = {
    "pretrain": (".commands.pretrain", "pre-train on a folder of images, with everything else chosen"),
    "finetune": (".commands.finetune", "train a detector, a segmentation or a classifier from pre-trained weights"),
    "evaluate": (".commands.evaluate", "evaluate the model of a run"),
    "train": (".commands.train", "run any config, with the arguments of train_net.py"),
    "check-data": (".tools.check_data", "check a data set before training on it"),
    "visualize": (".tools.visualize.command_line", "draw what pre-training sees and learns"),
    "measure": (".tools.measure", "measure how well features match, without labels"),
    "report": (".tools.report", "write an HTML page about one run or several"),
    "convert": (".tools.convert", "convert the backbone of a checkpoint between formats"),
    "embed": (".tools.embed", "write the features of images, one row for each image"),
    "publish": (".tools.publish", "strip a checkpoint to its weights and metadata"),
    "prepare-video": (".tools.prepare_video", "turn videos into folders of frames"),
    "extract-flow": (".tools.extract_flow", "write the optical flow of videos"),
    "flow-quality": (".tools.flow_quality", "compare optical flow with the truth, on rendered video"),
    "label-subset": (".tools.label_subset", "draw random subsets of a COCO annotation file"),
    "render": (".tools.render", "render a small data set"),
    "render-video": (".tools.render_video", "render videos with exact optical flow"),
    "demo": (".tools.demo", "pre-train, fine-tune and evaluate on rendered scenes"),
    "study": (".tools.study", "study whether pre-training helps"),
    "benchmark": (".tools.benchmark", "measure speed and memory on this machine"),
    "completion": (".completion", "print a script that completes this command in a shell"),
    "install-detectron2": (".install_detectron2", "install a Python-only detectron2 v0.6"),
}
BEGIN_WITH_A_PATH = ("check-data", "report", "convert", "publish", "prepare-video", "extract-flow", "label-subset")
USAGE = "usage: pixpro-d2 COMMAND ...   (pixpro-d2 COMMAND --help lists its arguments)"


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line ``argv``, by default of this process; a mistake ends the process with one sentence."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(help_text())
        return
    if words[0] == "--version":
        print(__version__)
        return
    try:
        run(words[0], words[1:])
    except UsageError as error:
        exit_once(error)
    except ImportError as error:
        if error.name != "cv2":
            raise
        exit_once(
            UsageError(
                f"OpenCV does not import ({error}): replace it by its build without windows, with `pip uninstall "
                "opencv-python` and `pip install --force-reinstall --no-deps opencv-python-headless`."
            )
        )


def run(name: str, argv: Sequence[str]) -> None:
    """Run a sub-command.

    Raises:
        UsageError: for an unknown sub-command, a mistake in its arguments, or Windows.
    """
    if sys.platform == "win32":
        raise UsageError("pixpro-d2 does not run on Windows itself: install and run it in WSL.")
    if name not in COMMANDS:
        similar = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {similar[0]}?" if similar else "pixpro-d2 --help lists them."
        raise UsageError(f"There is no command '{name}': {hint}")
    module, _ = COMMANDS[name]
    if module.startswith(".tools."):
        check_detectron2()
        check_config_file(argv)
        if name in BEGIN_WITH_A_PATH:
            check_first_word(argv)
    import_module(module, __package__).main(argv)


def help_text() -> str:
    """Return the list of sub-commands."""
    width = max(map(len, COMMANDS))
    rows = [f"  {name:<{width}}  {what}" for name, (_, what) in COMMANDS.items()]
    return "\n".join([USAGE, "", "Pixel-level pre-training for detectron2.", "", "commands:", *rows])
