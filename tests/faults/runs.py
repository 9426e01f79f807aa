"""The small runs that faults are injected into, and what they give where nothing happens."""

import itertools
import shutil
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path

import torch

from configs import TINY, TINY_DETECTOR
from pixpro_d2.extras.scenes.render_dataset import render_dataset

from .commands import Command, here
from .injected import PROGRAM, injected, variables

# A RegNet of four blocks: an iteration takes hundredths of a second, a checkpoint less than a megabyte.
NETWORK = [
    *("MODEL.BACKBONE.NAME", "build_regnet_fpn_backbone", "MODEL.FPN.IN_FEATURES", "('s2', 's3', 's4')"),
    *("MODEL.REGNETS.OUT_FEATURES", "('s2', 's3', 's4')", "MODEL.REGNETS.DEPTH", 4, "MODEL.REGNETS.STEM_WIDTH", 8),
    *("MODEL.REGNETS.W_0", 8, "MODEL.REGNETS.W_A", 12.8, "MODEL.REGNETS.W_M", 2.0, "MODEL.REGNETS.GROUP_WIDTH", 8),
]
# 14 images are 3 batches of 4 an epoch: no checkpoint is at the end of one.
LAST, PERIOD = 29, 4
LENGTH = ["SOLVER.MAX_ITER", LAST + 1, "SOLVER.CHECKPOINT_PERIOD", PERIOD, "SOLVER.METRICS_PERIOD", 2]
PRETRAINING = ["--config-file", "configs/pretrain/quickstart.yaml", *TINY, *NETWORK, *LENGTH]
DETECTION = [
    *("--config-file", "configs/voc/faster_rcnn_R_18_FPN_small.yaml", *TINY_DETECTOR, *NETWORK, *LENGTH),
    *("INPUT.MIN_SIZE_TRAIN", "(64, 80)", "INPUT.MIN_SIZE_TEST", 64, "MODEL.ROI_HEADS.NUM_CLASSES", 5),
    *("SOLVER.BASE_LR", 0.001, "TEST.EVAL_PERIOD", 6),
]


class Runs:
    """Folders, data and commands for faults; what several of them need is made once."""

    def __init__(self, folder, in_process=False):
        """
        Args:
            folder (Path): for all that is written.
            in_process (bool): whether :meth:`train` trains in this process, instead of one of its own, and processes
                are forked.
        """
        self.folder = Path(folder).resolve()
        self.in_process = in_process
        self._commands = []
        self._numbers = itertools.count()

    def new(self, name="run"):
        """A path below the folder where nothing is yet."""
        return self.folder / f"{next(self._numbers):03d}_{name}"

    @cached_property
    def scenes(self):
        """A rendered data set of 12 images to train on and 2 to test on."""
        render_dataset(self.folder / "scenes", train=12, test=2, size=64)
        return self.folder / "scenes"

    def images(self):
        """A copy of the data set's images to do harm to: the folder, and its files in order."""
        folder = shutil.copytree(self.scenes / "JPEGImages", self.new("images"))
        return folder, sorted(folder.iterdir())

    def pretraining(self, images=None):
        """Arguments of a pre-training run on a folder of images, by default the data set's."""
        return [*PRETRAINING, "DATASETS.TRAIN", f"('images:{images or self.scenes / 'JPEGImages'}',)"]

    def detection(self):
        """Arguments of the training of a detector."""
        names = "DATASETS.TRAIN", f"('voc:{self.scenes}@train',)", "DATASETS.TEST", f"('voc:{self.scenes}@test',)"
        return [*DETECTION, *names]

    @cached_property
    def straight(self):
        """Folder of a pre-training run that nothing happened to."""
        return self._finished(*self.pretraining())

    @cached_property
    def straight_detector(self):
        return self._finished(*self.detection())

    @cached_property
    def straight_pair(self):
        """The same of two processes."""
        folder = self.new("straight_pair")
        ended = self.start("--num-gpus", 2, *self.pretraining(), "OUTPUT_DIR", folder).end()
        assert ended.code == 0, ended
        return folder

    def _finished(self, *words):
        folder = self.new("straight")
        ended = self.train(*words, "OUTPUT_DIR", folder)
        assert ended.code == 0 and (folder / "model_final.pth").is_file(), ended
        return folder

    def train(self, *words, inject=None, at=None, **options):
        """Run train_net.py to its end.

        Args:
            words: its arguments.
            inject (str or None): a fault of :mod:`.injected`, in iteration ``at`` (None: in all).
            options: of a :class:`Command`, which then it is anyway.

        Returns:
            Ended: how it ended.
        """
        if self.in_process and not options:
            with injected(inject, at) if inject else nullcontext():
                return here(*words)
        return self.start(*words, inject=inject, at=at, **options).end()

    def start(self, *words, inject=None, at=None, rank=None, env=(), **options):
        """A :class:`Command` that writes to a file below the folder; with a fault as in :meth:`train`, in ``rank``."""
        if inject:
            options["program"], env = PROGRAM, {**dict(env), **variables(inject, at, rank)}
        self._commands.append(Command(*words, log=self.new("output.txt"), env=env, fork=self.in_process, **options))
        return self._commands[-1]

    def close(self):
        """Kill what a fault that failed has left running."""
        while self._commands:
            self._commands.pop().close()

    def cut_off(self, after):
        """Folder as a run leaves it that is killed after its checkpoint of the iteration ``after``."""
        folder = self.new("cut_off")
        folder.mkdir()
        for path in self.straight.glob("model_0*.pth"):
            if path.name <= numbered(after):
                shutil.copy(path, folder)
        (folder / "last_checkpoint").write_text(numbered(after))
        return folder


def numbered(iteration):
    """Name of a checkpoint."""
    return f"model_{iteration:07d}.pth"


def resumed_after(ended):
    """The iteration whose checkpoint a run went on from; checks that it says so, and ended well."""
    assert ended.code == 0, ended
    _, found, rest = ended.output.partition("written after iteration ")
    assert found, ended
    return int(rest.partition(".")[0])


def final(folder):
    """What the last checkpoint of a run that is complete holds."""
    return torch.load(folder / "model_final.pth", weights_only=True)


def assert_same(folder, other):
    """Check that two runs ended with the same, to the bit, in all that a checkpoint holds."""
    compare(final(folder), final(other))


def compare(ours, theirs, name=""):
    """Check that two values, such as dicts of tensors, are the same to the bit; ``name`` is for the message."""
    assert type(ours) is type(theirs), name
    if isinstance(ours, torch.Tensor):
        assert torch.equal(ours, theirs), name
    elif isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), name
        for key, value in ours.items():
            compare(value, theirs[key], f"{name}/{key}")
    elif isinstance(ours, (list, tuple)):
        assert len(ours) == len(theirs), name
        for i, pair in enumerate(zip(ours, theirs)):
            compare(*pair, f"{name}/{i}")
    else:
        assert ours == theirs, name
