"""Recognise, by their first bytes, files that are no weights."""

import zipfile

_NOT_THE_FILE = "instead of the file itself: run `{}` in its repository"
_COMPRESSED = "a compressed file: unpack it, and name the file of weights in it"
_PAGE = "a web page or an error message instead of weights: delete it, and download the file from its direct address"
_ARRAYS = "of NumPy arrays: save the weights as a dictionary of tensors by torch.save"
_TEXTS = {
    b"version https://git-lfs": f"a Git LFS pointer {_NOT_THE_FILE.format('git lfs pull')}",
    b"/annex/objects/": f"a git-annex pointer {_NOT_THE_FILE.format('git annex get')}",
    b"<": _PAGE,
    b'{"': _PAGE,
}
_BINARIES = {
    b"\x1f\x8b": _COMPRESSED,
    b"BZh": _COMPRESSED,
    b"\xfd7zXZ": _COMPRESSED,
    b"\x28\xb5\x2f\xfd": _COMPRESSED,
    b"7z\xbc\xaf": _COMPRESSED,
    b"\x93NUMPY": f"a file {_ARRAYS}",
    b"\x89HDF": "an HDF5 file, as of Keras: save its weights as a PyTorch state dict",
}
_EMPTY = "an empty file: fetch or write it anew"
_ARCHIVE = "an archive: unpack it, and name the file of weights in it"
_PROGRAM = (
    "a {0} program instead of weights: save `torch.{1}.load({2!r}).state_dict()` by torch.save, and name that file"
)
_TAR = slice(257, 262)  # position of the marker of a tar archive


def describe_mistaken(path: str) -> str | None:
    """Describe a file that is no weights, and the remedy; return None if the file may hold weights."""
    with open(path, "rb") as file:
        start = file.read(_TAR.stop)
    if not start:
        return _EMPTY
    if start[_TAR] == b"ustar":
        return _ARCHIVE
    if start.startswith(b"PK\x03\x04"):
        return _describe_zip(path)
    if 0 not in start[:8]:  # safetensors start with a length of 8 bytes; its first byte may be any character
        text = start.lstrip(b"\xef\xbb\xbf \t\r\n")
        found = next((what for first, what in _TEXTS.items() if text.startswith(first)), None)
        if found:
            return found
    return next((what for first, what in _BINARIES.items() if start.startswith(first)), None)


def _describe_zip(path: str) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            paths = archive.namelist()
    except zipfile.BadZipFile:
        return None  # a damaged checkpoint
    names = {path.partition("/")[2] for path in paths}
    if paths and all(path.endswith(".npy") for path in paths):
        return f"an archive {_ARRAYS}"
    if "constants.pkl" in names:
        return _PROGRAM.format("TorchScript", "jit", path)
    if "models/model.json" in names:
        return _PROGRAM.format("torch.export", "export", path)
    return None if "data.pkl" in names else _ARCHIVE
