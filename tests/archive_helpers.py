"""Zip and tar files of the files of a folder, for the tests of archives."""

import tarfile
import zipfile


def write_zip(path, folder, names=None, method=zipfile.ZIP_STORED):
    """Write the files ``names`` of ``folder``, by default all of them in sorted order, to a zip file."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name in names or names_below(folder):
            archive.write(folder / name, name)
    return path


def write_tar(path, folder, names=None, **options):
    """Write the files ``names`` of ``folder``, by default all of them in sorted order, to a tar file."""
    with tarfile.open(path, "w", **options) as archive:
        for name in names or names_below(folder):
            archive.add(folder / name, name)
    return path


WRITERS = {"zip": write_zip, "tar": write_tar}


def names_below(folder):
    """Sorted paths of all files below ``folder``, relative to it."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def write_shards(folder, images, count):
    """Write the files of the folder ``images`` to ``folder``/00.tar, ..., one after the other; return the pattern."""
    folder.mkdir(parents=True, exist_ok=True)
    names = names_below(images)
    for shard in range(count):
        part = names[shard * len(names) // count : (shard + 1) * len(names) // count]
        write_tar(folder / f"{shard:02d}.tar", images, part)
    return f"{folder}/{{00..{count - 1:02d}}}.tar"
