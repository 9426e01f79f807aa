"""The line on the terminal, on a pseudo-terminal whose screen is read."""

import fcntl
import io
import logging
import os
import pty
import re
import signal
import struct
import sys
import termios
import threading

import pytest
from data_helpers import write_images
from detectron2.engine import HookBase, hooks
from detectron2.engine.train_loop import TrainerBase
from detectron2.utils import comm
from detectron2.utils.events import CommonMetricPrinter, EventStorage

import configs
from pixpro_d2.engine import Trainer
from pixpro_d2.engine.terminal import LOGGERS, describe, log_details, progress_line, set_up_logging

WIDTH = 100


class Terminal:
    """A pseudo-terminal; ``file`` is what a process has as stdout."""

    def __init__(self, columns):
        reader, writer = pty.openpty()
        fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 40 if columns else 0, columns, 0, 0))
        self.file = open(writer, "w", encoding="utf-8", buffering=1)  # noqa: SIM115
        self._reader, self._data = reader, bytearray()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        try:
            while chunk := os.read(self._reader, 4096):
                self._data += chunk
        except OSError:  # Linux's way to say that the other end is closed
            pass

    def text(self):
        """All that was printed; ends the terminal."""
        self.file.close()
        self._thread.join(10)
        os.close(self._reader)
        return self._data.decode()

    def screen(self):
        """Lines as they stand in the end, with the one that the cursor is in; ends the terminal."""
        lines = [[]]
        column = 0
        for character in self.text():
            if character == "\n":
                lines.append([])
            elif character == "\r":
                column = 0
            else:
                lines[-1][column : column + 1] = character
                column += 1
        lines = ["".join(line).rstrip() for line in lines]
        assert not [line for line in lines if "images/s" in line and len(line) > WIDTH]
        return lines


@pytest.fixture
def terminal(monkeypatch):
    """Function that makes stdout a terminal and lets the loggers print there, and returns it and what log.txt gets."""
    levels = [logging.getLogger(name).level for name in LOGGERS]

    def begin(columns=WIDTH):
        made = Terminal(columns)
        monkeypatch.setattr(sys, "stdout", made.file)
        log = io.StringIO()
        for name in LOGGERS:
            logger = logging.getLogger(name)
            monkeypatch.setattr(logger, "handlers", [logging.StreamHandler(made.file), logging.StreamHandler(log)])
            logger.setLevel(logging.INFO)
        return made, log

    yield begin
    for name, level in zip(LOGGERS, levels):
        logging.getLogger(name).setLevel(level)


class Counting(TrainerBase):
    """Trains nothing, says something in iteration 3, and may fail in ``fails_at``."""

    def __init__(self, start, end, fails_at=None):
        super().__init__()
        self.start_iter, self.max_iter, self.fails_at = start, end, fails_at
        self.register_hooks([hooks.IterationTimer(), hooks.PeriodicWriter([CommonMetricPrinter(end)], period=2)])

    def run_step(self):
        self.storage.put_scalars(total_loss=0.125, lr=0.5, smoothing_hint=False)
        if self.iter == 3:
            logging.getLogger("pixpro_d2.engine").warning("look here")
        if self.iter == self.fails_at:
            raise FloatingPointError("as asked")

    def run(self):
        with progress_line(self, batch_size=8):
            self.train(self.start_iter, self.max_iter)


def test_one_line_below_the_log(terminal):
    shown, log = terminal()
    before = [list(logging.getLogger(name).handlers) for name in LOGGERS]
    Counting(2, 7).run()
    assert [logging.getLogger(name).handlers for name in LOGGERS] == before
    *above, line, cursor = shown.screen()
    assert cursor == ""
    assert (
        re.fullmatch(r"100% \|█+\| 7/7 \[00:0\d<00:00, loss 0\.1250, lr 0\.5000, [\d.]+ images/s\]", line)
        and line.count("█") >= 20
    )
    assert above[:2] == ["Starting training from iteration 2", "look here"]
    assert not [text for text in above if "iter: " in text or "images/s" in text]
    assert log.getvalue().count("iter: ") == 3
    assert "look here\n" in log.getvalue()


def test_it_begins_where_training_does(terminal):
    shown, _ = terminal()
    Counting(2, 7).run()
    drawn = [int(n) for n in re.findall(r"(\d+)/7 ", shown.text())]
    assert drawn[0] == 2 and drawn[-1] == 7 and drawn == sorted(drawn)


def test_the_time_left_is_that_of_all_iterations(terminal):
    """20 iterations took 10 s, the last of them 5 s: 80 more take 40 s."""
    now = [0.0]
    shown, _ = terminal()
    trainer = Counting(100, 200)
    with progress_line(trainer, batch_size=8), EventStorage(100) as trainer.storage:
        line = trainer._hooks[-1].line
        line._time = lambda: now[0]
        line.start_t = line.last_print_t = 0.0
        for _ in range(19):
            now[0] += 5 / 19
            trainer._hooks[-1].after_step()
        now[0] += 5
        trainer._hooks[-1].after_step()
    drawn = re.findall(r"120/200 \[00:10<(\d\d:\d\d)", shown.text())  # while it goes on, and when it is closed
    assert len(drawn) > 1 and set(drawn) == {"00:40"}


def test_a_failure_leaves_the_line_and_a_fresh_one(terminal):
    shown, _ = terminal()
    with pytest.raises(FloatingPointError):
        Counting(0, 7, fails_at=5).run()
    assert not isinstance(logging.getLogger("detectron2").handlers[0].stream, io.StringIO)
    print("error: as asked", file=sys.stdout)
    *above, line, error, cursor = shown.screen()
    assert "| 5/7 [" in line and (error, cursor) == ("error: as asked", "")
    assert "Training ended: as asked" in above and not any("Traceback" in text for text in above)


def test_a_terminal_that_does_not_tell_its_size(terminal):
    shown, _ = terminal(columns=0)
    Counting(0, 5).run()
    line = shown.screen()[-2]
    assert "5/5 [" in line and 60 < len(line) <= 80


def test_plain_lines_in_a_file(terminal, monkeypatch):
    terminal()
    file = io.StringIO()
    monkeypatch.setattr(sys, "stdout", file)
    monkeypatch.setattr(logging.getLogger("detectron2"), "handlers", [logging.StreamHandler(file)])
    trainer = Counting(0, 7)
    trainer.run()
    assert file.getvalue().count("iter: ") == 4 and "\r" not in file.getvalue()
    assert len(trainer._hooks) == 2


def test_nothing_in_other_processes(terminal, monkeypatch):
    shown, _ = terminal()
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    with progress_line(Counting(0, 7), batch_size=8):
        pass
    assert shown.text() == ""


def test_values_as_far_as_there_are():
    storage = EventStorage()
    assert describe(storage, 8) == ""
    storage.put_scalar("lr", 0.01234567)
    assert describe(storage, 8) == "lr 0.01235"
    for seconds in [9.0] * 5 + [0.0625, 0.1875] * 10:  # the mean of the last 20 is an eighth of a second
        storage.put_scalar("time", seconds)
    storage.put_scalar("total_loss", -3.0)
    assert describe(storage, 8) == "loss -3.000, lr 0.01235, 64.0 images/s"
    assert describe(storage, 8192).endswith(", 65536.0 images/s")


class Stop(HookBase):
    """Asks the run to stop in iteration 1."""

    def before_step(self):
        if self.trainer.iter == 1:
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_run_that_is_stopped_and_resumed(terminal, tmp_path):
    write_images(tmp_path / "images", 4, size=(60, 80))
    opts = ["DATASETS.TRAIN", (f"images:{tmp_path / 'images'}",), "OUTPUT_DIR", str(tmp_path / "run")]
    screens = []
    for hook in (Stop(), HookBase()):
        shown, _ = terminal()
        trainer = Trainer(configs.tiny(*opts))
        trainer.register_hooks([hook])
        trainer.resume_or_load(resume=True)  # the first time, from an empty folder
        try:
            trainer.train()
        except SystemExit as end:
            screens.append(end.code)
        screens.append(shown.screen())
    code, stopped, resumed = screens
    assert code == os.EX_TEMPFAIL and stopped[-1] == "" and "| 1/4 [" in stopped[-2]
    assert any(line.startswith("Asked to stop: the run ends after iteration 1") for line in stopped)
    assert resumed[-1] == "" and "| 4/4 [" in resumed[-2] and "loss " in resumed[-2]
    assert "Starting training from iteration 2" in resumed
    nothing = f"{tmp_path / 'run'} has no checkpoint to resume from: the run starts at iteration 0."
    assert nothing in stopped and nothing not in resumed


def test_details_are_for_the_log_alone(tmp_path, capsys, monkeypatch):
    """The environment, the whole config and the model."""
    for name in LOGGERS:
        monkeypatch.setattr(logging.getLogger(name), "handlers", [])
    set_up_logging(str(tmp_path))
    cfg = configs.tiny()
    log_details(cfg, "python train_net.py --flag")
    logging.getLogger("pixpro_d2.engine").info("for everybody")
    logging.getLogger("detectron2.engine.defaults").info("Model:\nlayers")
    logging.getLogger("detectron2.data.common").info("\x1b[1;36mSerializing\x1b[0m 4 elements")
    logging.getLogger("detectron2.data.common").warning("a warning of any logger")
    log = (tmp_path / "log.txt").read_text()
    for text in (
        "python train_net.py --flag",
        "PyTorch",
        "META_ARCHITECTURE: PixPro",
        "Model:",
        "INFO: Serializing 4",
        "for everybody",
    ):
        assert text in log
    assert "\x1b" not in log
    printed = capsys.readouterr().out
    assert "for everybody" in printed and "a warning of" in printed and len(printed.splitlines()) == 2


def test_a_second_run_in_a_process_has_its_own_log(tmp_path, capsys, monkeypatch):
    for name in LOGGERS:
        monkeypatch.setattr(logging.getLogger(name), "handlers", [])
    for i, name in enumerate(("a", "b", "a")):
        set_up_logging(str(tmp_path / name))
        logging.getLogger("pixpro_d2.engine").info(f"run {i}")
    found = [re.findall(r"run \d", (tmp_path / name / "log.txt").read_text()) for name in ("a", "b")]
    assert found == [["run 0", "run 2"], ["run 1"]]
    assert re.findall(r"run \d", capsys.readouterr().out) == ["run 0", "run 1", "run 2"]
