"""Images that are damaged, vanish, or are too much, and the workers that read them."""

import os
import signal
import time
import zipfile

from PIL import Image

from .commands import children, meanwhile
from .killing import REPEATED, resume
from .registry import NOTHING, fault
from .runs import assert_same

# Four epochs: each image is met.
SHORT = ["SOLVER.MAX_ITER", 12, "SOLVER.CHECKPOINT_PERIOD", 100, "SOLVER.METRICS_PERIOD", 4]


def trains(runs, words, folder, skipped, **options):
    """Train to the end, and check the number of images that are skipped; returns what was logged."""
    ended = runs.train(*words, "DATALOADER.MAX_UNREADABLE", 0.3, "OUTPUT_DIR", folder, **options)
    assert ended.code == 0 and (folder / "model_final.pth").is_file(), ended
    assert ended.output.count("Skipped an unreadable image") == skipped, ended
    return ended.output


@fault("unreadable images", "one cut off, one empty, one of text, among 14", quick=True)
def unreadable(runs):
    folder, files = runs.images()
    os.truncate(files[0], files[0].stat().st_size // 2)
    os.truncate(files[1], 0)
    files[2].write_text("no image")
    output = trains(runs, [*runs.pretraining(folder), *SHORT], runs.new(), skipped=3)
    assert all(str(path) in output for path in files[:3])
    return "each is named once and replaced by the next readable one; the run ends", "3 of 14 images"


@fault("too many unreadable images", "all of 14 cut off, DATALOADER.MAX_UNREADABLE 0.05", quick=True)
def too_many(runs):
    folder, files = runs.images()
    for path in files:
        os.truncate(path, 100)
    error = runs.train(*runs.pretraining(folder), "OUTPUT_DIR", runs.new()).error()
    assert "unreadable" in error and str(folder) in error, error
    return "one sentence with the share and the last file, exit code 1", NOTHING


@fault("image deleted while training", "once the checkpoint of iteration 3 is there", quick=True)
def vanishing(runs):
    (folder, files), out = runs.images(), runs.new()
    with meanwhile((out / "last_checkpoint").is_file, files[0].unlink):
        trains(runs, runs.pretraining(folder), out, skipped=1)
    return "skipped with a warning; the run ends", "1 of 14 images"


@fault("mount gone for a second", "the folder of the images renamed, and back", quick=True)
def away(runs):
    (folder, _), out = runs.images(), runs.new()
    elsewhere = folder.with_name("away")

    def go_and_come_back():
        os.rename(folder, elsewhere)
        time.sleep(1)
        os.rename(elsewhere, folder)

    with meanwhile((out / "last_checkpoint").is_file, go_and_come_back):
        output = trains(runs, runs.pretraining(folder), out, skipped=0)
    assert "trying again in" in output
    assert_same(out, runs.straight)
    return "tried again until it was back; bit-identical", f"{NOTHING} but the second"


@fault("mount gone for good", "the folder of the images renamed, DATALOADER.RETRY_SECONDS 1", quick=True)
def gone(runs):
    (folder, _), out = runs.images(), runs.new()
    words = [*runs.pretraining(folder), "DATALOADER.RETRY_SECONDS", 1.0]
    with meanwhile((out / "last_checkpoint").is_file, lambda: os.rename(folder, folder.with_name("gone"))):
        error = runs.train(*words, "OUTPUT_DIR", out).error()
    assert "unreadable" in error and str(folder) in error, error
    os.rename(folder.with_name("gone"), folder)
    return f"one sentence, exit code 1; when it is back, {resume(runs, words, out, runs.straight)}", REPEATED


def zipped(runs, damage):
    """Arguments and environment of a training on the images in a zip file, on which ``damage`` was called."""
    folder = runs.new("datasets")
    root = folder / "imagenet"
    root.mkdir(parents=True)
    files = sorted((runs.scenes / "JPEGImages").iterdir())
    with zipfile.ZipFile(root / "train.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files:
            archive.write(path, f"n0/{path.name}")
    (root / "train_map.txt").write_text("".join(f"n0/{path.name}\t0\n" for path in files))
    damage(root / "train.zip")
    return [*runs.pretraining(), "DATASETS.TRAIN", "('imagenet_train',)"], {"DETECTRON2_DATASETS": str(folder)}


def _damage_member(path):
    with zipfile.ZipFile(path) as archive:
        info = archive.infolist()[5]
    content = bytearray(path.read_bytes())
    content[info.header_offset + 60 + info.compress_size // 2] ^= 0xFF
    path.write_bytes(content)


@fault("zip with a bad member", "a byte changed in the middle of one of 14", quick=True)
def bad_member(runs):
    words, env = zipped(runs, _damage_member)
    output = trains(runs, [*words, *SHORT], runs.new(), skipped=1, env=env)
    assert "train.zip@/n0/000005.jpg" in output
    return "the member is named and skipped; the run ends", "1 of 14 images"


@fault("zip cut off", "truncated to half its size")
def cut_off_zip(runs):
    words, env = zipped(runs, lambda path: os.truncate(path, path.stat().st_size // 2))
    error = runs.train(*words, "OUTPUT_DIR", runs.new(), env=env).error()
    assert "train.zip" in error and "not a zip file" in error, error
    return "one sentence that names the archive, exit code 1", NOTHING


@fault("names in any script, and in none", "such as ☃.jpg; one that is no UTF-8, cut off", quick=True)
def odd_names(runs):
    folder, files = runs.images()
    for path, name in zip(files, ("ä ö.jpg", "☃ 'quoted'.jpg", "漢字\n.jpg")):
        path.rename(folder / name)
    broken = os.path.join(os.fsencode(folder), b"\xff\xfe.jpg")
    os.rename(files[3], broken)
    os.truncate(broken, 10)
    trains(runs, [*runs.pretraining(folder), *SHORT], runs.new(), skipped=1)
    return "read like all others; the unreadable one is named and skipped", "1 of 14 images"


@fault("decompression bomb", "a PNG of 0.1 MB that holds 900 million pixels", quick=True)
def bomb(runs):
    folder, files = runs.images()
    Image.new("1", (30_000, 30_000)).save(files[0].with_suffix(".png"))
    assert files[0].with_suffix(".png").stat().st_size < 200_000
    output = trains(runs, [*runs.pretraining(folder), *SHORT], runs.new(), skipped=1)
    assert "DATALOADER.MAX_IMAGE_PIXELS" in output
    return "refused by its header and skipped", "1 of 15 images"


@fault("image above a limit of one's own", "DATALOADER.MAX_IMAGE_PIXELS 10000 and an image of 200 x 200", quick=True)
def too_large(runs):
    folder, files = runs.images()
    Image.new("RGB", (200, 200)).save(files[0])
    trains(runs, [*runs.pretraining(folder), *SHORT, "DATALOADER.MAX_IMAGE_PIXELS", 10_000], runs.new(), skipped=1)
    return "refused by its header and skipped", "1 of 14 images"


@fault("data worker killed", "SIGKILL to the data worker, as the system does when memory runs out", quick=True)
def worker(runs):
    out = runs.new()
    words = [*runs.pretraining(), "DATALOADER.NUM_WORKERS", 1]
    command = runs.start(*words, "OUTPUT_DIR", out)
    command.when((out / "last_checkpoint").is_file)
    (pid,) = children(command.pid)
    os.kill(pid, signal.SIGKILL)
    error = command.end().error()
    # PyTorch tells of the signal, unless the process waits for a batch at this moment.
    assert "lower DATALOADER.NUM_WORKERS" in error and ("Killed" in error or "exited unexpectedly" in error), error
    return f"one sentence with the remedy, exit code 1; {resume(runs, words, out, runs.straight)}", REPEATED
