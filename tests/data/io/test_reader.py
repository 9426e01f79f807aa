"""Reading images of every kind, and files that are no image."""

import multiprocessing
import os
import resource
import struct
import warnings
import zipfile
import zlib

import numpy as np
import pytest
from data_helpers import noise, write_images
from detectron2.data import detection_utils
from PIL import EpsImagePlugin, Image, TiffImagePlugin, features

from pixpro_d2.data.io import archives
from pixpro_d2.data.io.reader import EncodedImage, UnreadableImage, read_bytes, read_image, read_size, restrict_pillow
from pixpro_d2.utils.archives import join_member
from pixpro_d2.utils.retry import may_pass

GREY = noise(0, 6, 5, 0)
RGB = noise(1, 6, 5)


def _read(path):
    image = read_image(str(path))
    assert image.mode == "RGB"
    return np.asarray(image)


def _stored_mode(path):
    with Image.open(path) as image:
        return image.mode


def _write_png16(path, pixels):
    """PNG of 16 bits per sample: (H, W) greyscale or (H, W, 3), which Pillow cannot write."""
    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, 0 if pixels.ndim == 2 else 2, 0, 0, 0)
    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
            length, check = (struct.pack(">I", number) for number in (len(data), zlib.crc32(kind + data)))
            file.write(length + kind + data + check)


def test_rgb_and_greyscale(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "rgb.png")
    np.testing.assert_array_equal(_read(tmp_path / "rgb.png"), RGB)
    Image.fromarray(GREY).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(_read(tmp_path / "grey.png"), np.stack([GREY] * 3, -1))
    Image.fromarray(GREY > 127).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(_read(tmp_path / "bits.png"), np.stack([(GREY > 127) * 255] * 3, -1))


def test_transparency_is_dropped(tmp_path):
    alpha = Image.fromarray(noise(2, 6, 5, 0))
    Image.merge("LA", [Image.fromarray(GREY), alpha]).save(tmp_path / "la.png")
    np.testing.assert_array_equal(_read(tmp_path / "la.png"), np.stack([GREY] * 3, -1))
    rgba = Image.fromarray(RGB)
    rgba.putalpha(alpha)
    rgba.save(tmp_path / "rgba.png")
    np.testing.assert_array_equal(_read(tmp_path / "rgba.png"), RGB)


@pytest.mark.parametrize("transparency", [2, bytes([0, 255, 10, 128])], ids=["one colour", "each colour"])
@pytest.mark.filterwarnings("ignore:Palette images with Transparency")
def test_palette(tmp_path, transparency):
    palette, indices = noise(3, 4, 1), np.arange(30, dtype=np.uint8).reshape(6, 5) % 4
    image = Image.frombytes("P", (5, 6), indices.tobytes())
    image.putpalette(palette.tobytes())
    image.save(tmp_path / "p.png", transparency=transparency)
    assert _stored_mode(tmp_path / "p.png") == "P"
    np.testing.assert_array_equal(_read(tmp_path / "p.png"), palette[indices, 0])


def test_cmyk_jpeg(tmp_path):
    colours = [(200, 30, 40), (20, 180, 60), (30, 40, 210), (240, 240, 240)]
    image = np.repeat(np.repeat(np.array(colours, np.uint8)[None], 16, 1), 16, 0)
    Image.fromarray(image).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=100)
    assert _stored_mode(tmp_path / "cmyk.jpg") == "CMYK"
    assert np.abs(_read(tmp_path / "cmyk.jpg").astype(int) - image).mean() < 3  # what JPEG loses


def test_sixteen_bits_are_scaled(tmp_path):
    # 257 is 65535 / 255; clipped rather than scaled, nearly all of these would be white.
    grey = (257 * np.arange(256)).reshape(16, 16)
    _write_png16(tmp_path / "grey.png", grey)
    assert _stored_mode(tmp_path / "grey.png").startswith("I")
    np.testing.assert_array_equal(_read(tmp_path / "grey.png"), np.stack([grey // 257] * 3, -1))
    between = np.random.default_rng(0).integers(0, 65536, (16, 16))
    _write_png16(tmp_path / "between.png", between)
    assert np.abs(_read(tmp_path / "between.png")[..., 1] - between / 257).max() < 1
    colour = np.random.default_rng(0).integers(0, 65536, (6, 5, 3))
    _write_png16(tmp_path / "colour.png", colour)
    assert np.abs(_read(tmp_path / "colour.png") - colour / 257).max() < 1


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I"])
def test_sixteen_bits_in_tiff(tmp_path, mode):
    grey = (257 * np.arange(30)).reshape(6, 5)
    raw = grey.astype({"I;16": "<u2", "I;16B": ">u2", "I": "=i4"}[mode])
    Image.frombytes(mode, (5, 6), raw.tobytes()).save(tmp_path / "grey.tif")
    np.testing.assert_array_equal(_read(tmp_path / "grey.tif"), np.stack([grey // 257] * 3, -1))


def test_white_is_zero(tmp_path):
    """TIFF's tag 262 is 0: the lowest value is white, with 8 and with 16 bits."""
    grey = np.arange(30).reshape(6, 5)
    for name, values in (("8", grey.astype(np.uint8)), ("16", (257 * grey).astype(np.uint16))):
        path = tmp_path / f"{name}.tif"
        Image.fromarray(values).save(path)
        tag, changed = (struct.pack("<HHIH", 262, 3, 1, value) for value in (1, 0))
        content = path.read_bytes()
        assert content.count(tag) == 1
        path.write_bytes(content.replace(tag, changed))
        np.testing.assert_array_equal(_read(tmp_path / f"{name}.tif"), np.stack([255 - grey] * 3, -1))


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda a: a),
        (2, lambda a: a[:, ::-1]),
        (3, lambda a: a[::-1, ::-1]),
        (4, lambda a: a[::-1]),
        (5, lambda a: a.transpose(1, 0, 2)),
        (6, lambda a: a[::-1].transpose(1, 0, 2)),  # a quarter turn clockwise
        (7, lambda a: a[::-1, ::-1].transpose(1, 0, 2)),
        (8, lambda a: a[:, ::-1].transpose(1, 0, 2)),  # a quarter turn anticlockwise
    ],
)
@pytest.mark.parametrize("extension", ["png", "jpg"])
def test_orientation(tmp_path, orientation, upright, extension):
    # Smooth, so that JPEG keeps it; told apart in all eight orientations.
    stored = np.zeros((16, 24, 3), np.uint8)
    stored[..., 0], stored[..., 1] = 10 * np.arange(24), 15 * np.arange(16)[:, None]
    image = Image.fromarray(stored)
    exif = image.getexif()
    exif[0x0112] = orientation
    path = tmp_path / f"image.{extension}"
    image.save(path, exif=exif, **({} if extension == "png" else {"quality": 100, "subsampling": 0}))
    shown, expected = _read(path), upright(stored)
    assert shown.shape == expected.shape
    assert np.abs(shown.astype(int) - expected).max() <= (0 if extension == "png" else 6)


FORMATS = [
    ("jpg", {"quality": 100, "subsampling": 0}),
    ("png", {}),
    ("webp", {"lossless": True}),
    ("tif", {}),
    ("tif", {"compression": "tiff_lzw"}),
    ("tif", {"compression": "jpeg", "quality": 100}),
    ("mpo", {"quality": 100, "subsampling": 0}),
    pytest.param("avif", {"quality": 100}, marks=pytest.mark.skipif(not features.check("avif"), reason="no AVIF")),
]


CORNERS = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}


@pytest.mark.parametrize(("extension", "options"), FORMATS)
def test_the_size_in_the_header_is_the_size_of_the_decoded_image(tmp_path, extension, options):
    path = str(tmp_path / f"image.{extension}")
    stored = np.zeros((20, 40, 3), np.uint8)
    stored[:5, :10] = 255  # one corner
    for orientation, corner in CORNERS.items():
        image = Image.fromarray(stored)
        exif = image.getexif()
        exif[0x0112] = orientation
        image.save(path, exif=exif, **options)
        size = (40, 20) if orientation < 5 else (20, 40)
        assert read_size(path) == EncodedImage(path).size == size, orientation
        shown = _read(path)[..., 0] > 127
        assert shown.shape == size[::-1] and shown.sum() == 50 and shown[corner], orientation


def test_the_size_of_a_tiff_file_that_pillow_turns_late(tmp_path):
    # Older versions of Pillow leave the size of a TIFF file as stored. So do newer versions for a tag in XMP.
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[700], tags.tagtype[700] = xmp, 1
    Image.new("RGB", (40, 20)).save(tmp_path / "image.tif", tiffinfo=tags)
    with Image.open(tmp_path / "image.tif") as image:
        assert image.size == (40, 20)
    assert read_size(str(tmp_path / "image.tif")) == read_image(str(tmp_path / "image.tif")).size == (20, 40)


@pytest.mark.parametrize("size", [(1, 9), (9, 1), (1, 1)])
def test_a_side_of_one_pixel_is_refused(tmp_path, size):
    Image.new("RGB", size).save(tmp_path / "line.png")
    with pytest.raises(UnreadableImage, match=rf"line\.png.*{size[0]} x {size[1]}"):
        read_image(str(tmp_path / "line.png"))
    Image.new("RGB", (2, 2)).save(tmp_path / "small.png")
    assert _read(tmp_path / "small.png").shape == (2, 2, 3)


def _damage(folder, kind):
    if kind == "truncated.jpg":
        Image.fromarray(noise(4, 64, 64)).save(folder / kind)
        content = (folder / kind).read_bytes()
        (folder / kind).write_bytes(content[: len(content) // 2])
    elif kind == "cut.png":
        Image.fromarray(noise(4, 64, 64)).save(folder / kind)
        (folder / kind).write_bytes((folder / kind).read_bytes()[:500])
    elif kind == "empty.jpg":
        (folder / kind).touch()
    elif kind == "text.jpg":
        (folder / kind).write_text("This is no picture.")
    elif kind == "folder.jpg":
        (folder / kind).mkdir()
    elif kind == "float.tif":
        Image.fromarray(np.linspace(0, 1, 30, dtype=np.float32).reshape(6, 5)).save(folder / kind)


@pytest.mark.parametrize(
    "kind", ["truncated.jpg", "cut.png", "empty.jpg", "text.jpg", "missing.jpg", "folder.jpg", "float.tif"]
)
def test_an_unreadable_file_is_named(tmp_path, kind):
    _damage(tmp_path, kind)
    messages = set()
    for _ in range(3):
        with pytest.raises(UnreadableImage) as caught:
            read_image(str(tmp_path / kind))
        messages.add(str(caught.value))
    (message,) = messages  # the same every time: no address of a buffer in it
    assert message.startswith(str(tmp_path / kind)) and len(message) > len(str(tmp_path / kind)) + 10
    assert "0x" not in message and "\n" not in message


@pytest.mark.filterwarnings("ignore:image file could not be identified because AVIF support not installed")
def test_avif_without_its_decoder(tmp_path, monkeypatch):
    pytest.importorskip("PIL.AvifImagePlugin")
    (tmp_path / "a.avif").write_bytes(b"\0\0\0\x20ftypavif\0\0\0\0avifmif1miaf" + bytes(100))
    monkeypatch.setattr("PIL.AvifImagePlugin.SUPPORTED", False, raising=False)
    with pytest.raises(UnreadableImage, match=r"/a\.avif: not an image in a format that Pillow knows$"):
        read_image(str(tmp_path / "a.avif"))


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (4, 3), colour) for colour in ("red", "lime")]
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    assert (_read(tmp_path / "film.gif") == [255, 0, 0]).all()


@pytest.fixture
def archive(tmp_path):
    """Zip file in a folder with an awkward name, and the content of its members."""
    paths = write_images(tmp_path / "images", 40)
    path = tmp_path / "a @zip: ä" / "train.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as file:
        for image in paths:
            file.write(image, f"n01/ä {image.name}")
        file.writestr("n01/broken.png", b"no picture")
    return str(path), {f"n01/ä {image.name}": image.read_bytes() for image in paths}


def test_zip_members(archive):
    path, contents = archive
    for i, (member, content) in enumerate(contents.items()):
        assert read_bytes(join_member(path, member)) == content
        np.testing.assert_array_equal(_read(join_member(path, member)), noise(i, 12, 16))
    for member, reason in [("n01/none.png", "no item named"), ("n01/broken.png", "format")]:
        with pytest.raises(UnreadableImage, match=reason) as caught:
            read_image(join_member(path, member))
        assert path in str(caught.value) and member in str(caught.value)
    with pytest.raises(UnreadableImage, match="nowhere.zip"):
        read_image(join_member(path.replace("train.zip", "nowhere.zip"), "a.png"))


def test_zip_members_in_forked_workers(archive):
    path, contents = archive
    names = [join_member(path, member) for member in contents]
    assert read_bytes(names[0]) == next(iter(contents.values()))  # opened here, before the fork
    with multiprocessing.get_context("fork").Pool(3) as pool:
        tasks = pool.map_async(read_bytes, names * 20, chunksize=4)
        here = [read_bytes(name) for name in names * 10]
        there = tasks.get(timeout=60)
    assert here == list(contents.values()) * 10
    assert there == list(contents.values()) * 20


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"])
def test_a_bad_member_leaves_the_others_readable(tmp_path, method):
    paths, archive = write_images(tmp_path / "images", 3), str(tmp_path / "a.zip")
    with zipfile.ZipFile(archive, "w", method) as file:
        for path in paths:
            file.write(path, path.name)
    with zipfile.ZipFile(archive) as file:
        place = file.getinfo("001.png").header_offset + 30 + len("001.png") + 60  # behind the header, within the data
    with open(archive, "rb+") as file:
        file.seek(place)
        flipped = bytes(255 - byte for byte in file.read(8))
        file.seek(place)
        file.write(flipped)
    for i, path in enumerate(paths):
        if i == 1:
            with pytest.raises(UnreadableImage, match=r"a\.zip@/001\.png: (BadZipFile|error)") as caught:
                read_image(join_member(archive, path.name))
            assert not may_pass(caught.value)
        else:
            np.testing.assert_array_equal(_read(join_member(archive, path.name)), noise(i, 12, 16))


def test_a_zip_file_that_was_away_is_opened_anew(archive):
    path, contents = archive
    names = [join_member(path, member) for member in contents]
    read_bytes(names[0])
    with open(os.devnull, "wb") as unreadable:  # as a mount that goes away makes the files that were opened on it
        os.dup2(unreadable.fileno(), archives._open_zip(path, os.getpid()).fp.fileno())
    with pytest.raises(UnreadableImage) as caught:
        read_image(names[20])  # far from what is buffered
    assert may_pass(caught.value)
    assert read_bytes(names[20]) == list(contents.values())[20]


@pytest.fixture
def pillow():
    """Pillow as it was, afterwards."""
    before = Image.MAX_IMAGE_PIXELS, EpsImagePlugin.gs_binary
    with warnings.catch_warnings():
        yield
    Image.MAX_IMAGE_PIXELS, EpsImagePlugin.gs_binary = before


@pytest.mark.parametrize("extension", ["png", "jpg", "tif", "bmp", "gif"])
def test_images_of_too_many_pixels_are_refused_by_their_headers(tmp_path, pillow, extension):
    path = tmp_path / f"image.{extension}"
    Image.fromarray(noise(0, 30, 40)).save(path)
    restrict_pillow(1200)
    with warnings.catch_warnings():
        warnings.simplefilter("error", Warning)
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        assert _read(path).shape == (30, 40, 3)  # at the limit, without Pillow's own warning
    restrict_pillow(1199)
    with pytest.raises(UnreadableImage, match=rf"image\.{extension}: more pixels than DATALOADER\.MAX_IMAGE_PIXELS"):
        read_image(str(path))
    with pytest.raises(Image.DecompressionBombError):  # elsewhere too
        detection_utils.read_image(str(path))


def test_a_bomb_is_refused_before_memory_is_taken(tmp_path, pillow):
    # 50 000 x 50 000 pixels by its header, in a file of a hundred bytes.
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    with open(tmp_path / "bomb.png", "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b"")):
            length, check = (struct.pack(">I", number) for number in (len(data), zlib.crc32(kind + data)))
            file.write(length + kind + data + check)
    restrict_pillow(178956970)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UnreadableImage, match=r"bomb\.png: more pixels .*2500000000 pixels"):
        read_image(str(tmp_path / "bomb.png"))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # of 7 GB


def test_no_program_is_started_for_an_image(tmp_path, pillow, monkeypatch):
    # Pillow hands an EPS file, whatever its name, to Ghostscript; here to one that leaves a trace.
    trace, program = tmp_path / "trace", tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch '{trace}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    (tmp_path / "photo.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\n%%EOF\n")
    EpsImagePlugin.gs_binary = None
    with pytest.raises(UnreadableImage):
        read_image(str(tmp_path / "photo.jpg"))
    assert trace.exists()  # so it would be
    trace.unlink()
    restrict_pillow(10**6)
    with pytest.raises(UnreadableImage, match="photo.jpg: "):
        read_image(str(tmp_path / "photo.jpg"))
    assert not trace.exists()
