"""Turn videos into folders of frames, several at a time."""

import os
import shutil
import sys
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ...utils.errors import UsageError
from ...utils.files import write_json
from ...utils.folders import is_hidden, walk
from . import EXTENSIONS
from .decoding import RECORD, VideoError, extract_frames, partial_folder, read_record

NOT_READ = (".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".flv", ".3gp")  # named, because only other files are read
MIN_RATE_SHARE = 0.9  # least share of --fps in the average rate of a video that is not named
MAX_STEP_TICKS = 3  # longest step of a video that is not named, in ticks of --fps


def find_videos(source: str | Path) -> dict[str, Path]:
    """Find the videos at ``source``, a file or a folder; skip hidden files and folders.

    Returns:
        Path of each video by the name of its folder of frames, sorted.

    Raises:
        UsageError: if there is no video, two videos would have the same name, or a folder cannot be listed.
    """
    source = Path(source)
    if source.is_file():
        return {source.stem: source}
    if not source.is_dir():
        raise UsageError(f"There is no file or folder {source}.")
    found: dict[str, Path] = {}
    others = 0
    for path in sorted(_files_below(source)):
        if path.suffix.lower() in EXTENSIONS and path.is_file():
            name = "_".join(path.relative_to(source).with_suffix("").parts)
            if name in found:
                raise UsageError(f"{found[name]} and {path} would both become {name}: rename one of them.")
            found[name] = path
        others += path.suffix.lower() in NOT_READ
    if others:
        print(f"Skipped {others} files that are not read ({', '.join(NOT_READ)}).", file=sys.stderr)
    if not found:
        raise UsageError(f"No video ({', '.join(EXTENSIONS)}) below the folder {source}.")
    return found


def _files_below(source: Path) -> Iterator[Path]:
    """Yield the files below a folder, also in folders that links lead to, without hidden files and folders.

    A link to a folder below ``source`` is not followed, so that each video keeps its own name. A folder without the
    permission to list it is skipped with a line.

    Raises:
        UsageError: if a folder cannot be listed for another reason.
    """

    root = os.path.realpath(source)

    def on_denied(folder: str) -> None:
        print(f"Skipped the folder {folder}: no permission to list it.", file=sys.stderr)

    def is_followed(folder: str) -> bool:
        leads_back = (os.path.realpath(folder) + os.sep).startswith(root + os.sep)
        return not (os.path.islink(folder) and leads_back)

    for folder, files in walk(str(source), on_denied, is_followed):
        yield from (Path(folder, name) for name in files if not is_hidden(name))


def is_finished(path: Path, folder: Path, asked: dict[str, Any]) -> bool:
    """Return whether ``folder`` holds the frames of the video ``path``; print a line if the video has changed since.

    A video that was moved keeps its frames: it has the name and the size of the recorded source, which is gone. A
    video at the path of the recorded source, but of another size, has changed.

    Raises:
        UsageError: if ``folder`` holds frames of another video, of other settings, or of another tool.
    """
    record = read_record(folder)
    if record is None:
        if folder.is_dir() and any(folder.iterdir()) and not (folder / RECORD).exists():  # a damaged record is replaced
            raise UsageError(f"{folder} was not made by this command: remove it, or choose another DST.")
        return False
    before, has_changed = record["source"], record["source_bytes"] != path.stat().st_size
    is_moved = not os.path.exists(before) and Path(before).name == path.name and not has_changed
    if not is_moved and not (os.path.exists(before) and os.path.samefile(before, path)):
        raise UsageError(f"{folder} has the frames of {before}, not of {path}: choose another DST.")
    if record["asked"] != asked:
        before, now = (", ".join(f"{key} {value}" for key, value in x.items()) for x in (record["asked"], asked))
        raise UsageError(f"{folder} was made with {before}, not {now}: remove it, or choose another DST.")
    if has_changed:
        print(f"{path} has changed: makes new frames.", file=sys.stderr)
    return not has_changed


def run_apart(
    function: Callable[..., Any], calls: dict[str, dict[str, Any]], workers: int
) -> Generator[tuple[str, Future], None, None]:
    """Call a function in several processes; a process that dies loses only its own call.

    Args:
        function: importable by another process.
        calls: keyword arguments of each call by the name of the call.
        workers: number of processes.

    Yields:
        Name of a finished call, and its future. The future's exception is BrokenProcessPool if the process died.
    """
    waiting = list(calls.items())[::-1]
    running: dict[Future, tuple[str, ProcessPoolExecutor]] = {}
    idle = [ProcessPoolExecutor(1) for _ in range(min(workers, len(calls)))]  # a dead process breaks its whole pool
    try:
        while waiting or running:
            while waiting and idle:
                (name, options), pool = waiting.pop(), idle.pop()
                running[pool.submit(function, **options)] = name, pool
            for job in wait(running, return_when=FIRST_COMPLETED).done:
                name, pool = running.pop(job)
                if isinstance(job.exception(), BrokenProcessPool):
                    pool.shutdown()
                    pool = ProcessPoolExecutor(1)
                idle.append(pool)
                yield name, job
    finally:
        for pool in [*idle, *(pool for _, pool in running.values())]:
            pool.shutdown()


def prepare(
    videos: dict[str, Path], target: Path, asked: dict[str, Any], workers: int
) -> tuple[list[dict[str, Any]], list[str]]:
    """Extract the frames of all unfinished ``videos``, and list the contents of ``target`` in its manifest.

    Args:
        videos: result of :func:`find_videos`.
        target: folder for the folders of frames.
        asked: ``fps``, ``short_side`` and ``quality`` of :func:`extract_frames`.
        workers: number of processes.

    Returns:
        Records of the extracted videos, and the reasons for the skipped videos.

    Raises:
        UsageError: see :func:`is_finished`; or if frames cannot be written.
    """
    pending = {name: path for name, path in videos.items() if not is_finished(path, target / name, asked)}
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"The folder {target} cannot be made ({error.strerror}): choose another DST.") from error
    records, failures = [], []
    calls = {name: {"source": str(path), "folder": str(target / name), **asked} for name, path in pending.items()}
    try:
        with closing(run_apart(extract_frames, calls, workers)) as finished:
            for name, job in tqdm(finished, total=len(calls), desc="prepare", unit="video"):
                try:
                    records.append(_result(job, pending[name]))
                except VideoError as error:
                    failures.append(str(error))
                    tqdm.write(f"skipped {error}", file=sys.stderr)
                    shutil.rmtree(partial_folder(target / name), ignore_errors=True)  # left by a dead process
                    continue
                line = describe_steps(records[-1])
                if line:
                    tqdm.write(f"{pending[name]}: {line}", file=sys.stderr)
    finally:
        write_manifest(target)
    return records, failures


def describe_steps(record: dict[str, Any]) -> str | None:
    """Describe the steps between the frames of a video, if the frames are few on average or the video pauses."""
    fps, longest, asked = record["fps"], record["longest_step"], record["asked"]["fps"]
    if fps >= MIN_RATE_SHARE * asked and longest <= MAX_STEP_TICKS / asked:
        return None
    return f"{fps:g} frames a second on average for --fps {asked:g}, longest step {longest:g} s"


def _result(job: Future, path: Path) -> dict[str, Any]:
    """Return the result of the finished future ``job`` of a video; raise VideoError if its process died."""
    try:
        return job.result()
    except BrokenProcessPool as error:
        raise VideoError(f"{path}: decoding it killed its process, perhaps for lack of memory") from error


def write_manifest(target: Path) -> None:
    """Write ``manifest.json``: the records of all videos in the folder ``target`` by their names."""
    records = {folder.name: read_record(folder) for folder in sorted(target.iterdir())}
    manifest = {"videos": {name: record for name, record in records.items() if record is not None}}
    write_json(target / "manifest.json", manifest, indent=1)
