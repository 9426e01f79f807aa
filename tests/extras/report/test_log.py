"""What is read from log.txt."""

import subprocess

from report_helpers import LOG

from pixpro_d2.extras.report.log import Log, command_of, read_log


def read(tmp_path, text):
    (tmp_path / "log.txt").write_text(text)
    return read_log(tmp_path / "log.txt")


def test_what_a_log_tells(tmp_path):
    log = read(tmp_path, LOG)
    assert log.environment == {"sys.platform": "linux", "PyTorch": "2.6.0 @/somewhere"}
    assert log.commands == [
        "python train_net.py --config-file configs/a.yaml --num-gpus 2 DATASETS.TRAIN \"('images:photos',)\" SEED 0"
    ]
    assert [count for _, count in log.warnings.values()] == [2, 1]
    assert list(log.warnings.values())[0][0] == "Skipped an unreadable image (1 so far): a.jpg"
    assert log.skipped_steps == 3 and log.memory == [(19, 512.0), (39, 2048.0)]


def test_a_resumed_run_has_two_commands_and_its_last_environment(tmp_path):
    log = read(tmp_path, LOG + LOG.replace("2.6.0", "2.7.0").replace("resume=False", "resume=True"))
    assert log.environment["PyTorch"].startswith("2.7.0")
    assert len(log.commands) == 2 and "--resume" in log.commands[1] and log.memory == [(19, 512.0), (39, 2048.0)]


def skipped(count, first, last):
    return (
        f"[11/21 18:41:03] pixpro_d2.engine.loop WARNING: {count} of the 20 steps from iteration {first} to {last} "
        "were left out, because their gradients were infinite or NaN.\n"
    )


def started(iteration):
    return f"[11/21 18:41:00] d2.engine.train_loop INFO: Starting training from iteration {iteration}\n"


def test_steps_that_a_resumed_run_repeats_count_once(tmp_path):
    before = started(0) + skipped(1, 0, 19) + skipped(2, 40, 59) + skipped(4, 80, 99)
    assert read(tmp_path, before).skipped_steps == 7
    assert read(tmp_path, before + started(40) + skipped(2, 40, 59) + skipped(8, 100, 119)).skipped_steps == 11
    assert read(tmp_path, before + started(60)).skipped_steps == 3  # those from 80 on are not left out this time
    assert read(tmp_path, before + started(100) + skipped(8, 100, 119)).skipped_steps == 15


def test_colours_are_left_out_and_text_that_is_no_log_is_nothing(tmp_path):
    log = read(tmp_path, "\x1b[32m[11/21 18:40:50] d2 WARNING: \x1b[0mhot\nWARNING: not a log line\n")
    assert log.warnings == {"hot": ["hot", 1]}
    assert read(tmp_path, "") == Log()


def test_a_command_can_be_run_as_it_stands():
    opts = ["A.B", "('x y',)", "C", "it's $HOME \"`", "D", ""]
    command = command_of(f"Namespace(config_file='a b.yaml', eval_only=True, opts={opts!r})")
    shell = command.replace("python train_net.py", "printf '%s\\n'", 1)
    words = subprocess.run(["sh", "-c", shell], capture_output=True, text=True).stdout.split("\n")[:-1]
    assert words == ["--config-file", "a b.yaml", "--eval-only", *opts]


def test_arguments_that_are_not_understood_are_shown_as_they_are():
    assert command_of("Namespace(device=<object at 0x1>)") == "Namespace(device=<object at 0x1>)"
