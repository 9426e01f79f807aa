"""Every task sees the same picture of a file, whatever the type of its pixels."""

import io
import re
import tracemalloc

import numpy as np
import pytest
from data_helpers import logged, make_cfg, noise, write_tiff
from detectron2.data import DatasetCatalog, DatasetMapper, MetadataCatalog
from detectron2.projects.deeplab import add_deeplab_config
from PIL import Image
from stream_helpers import plain, stream_cfg

from pixpro_d2.data.downstream.classification_mapper import ClassificationMapper
from pixpro_d2.data.downstream.detection_mapper import DetectionMapper
from pixpro_d2.data.downstream.semseg_mapper import SemSegMapper
from pixpro_d2.data.downstream.train_stream import global_generators_seeded
from pixpro_d2.data.inspection import stored_values
from pixpro_d2.data.inspection.stored_values import FileValues, read_values, value_problems, warn_of_lost_values
from pixpro_d2.data.io.reader import UnreadableImage, read_image
from pixpro_d2.data.pretrain.mapper import TwoViewMapper
from pixpro_d2.data.pretrain.video_mapper import VideoMapper
from pixpro_d2.engine.configuration.config_checks import check_pixel_range
from pixpro_d2.extras.scenes.render_dataset import render_dataset
from pixpro_d2.tools import check_data

# (type, value of all pixels, INPUT.PIXEL_RANGE, value of the picture)
PIXELS = [
    ("uint8", 100, [], 100),
    ("uint8", 100, [0, 4095], 100),
    ("uint16", 25700, [], 100),  # 25700 / 257
    ("uint16", 2048, [], 7),
    ("uint16", 2048, [0, 4095], 127),  # 2048 * 255 / 4095 = 127.5
    ("uint16", 5000, [0, 4095], 255),
    ("int32", 25700, [], 100),
    ("int32", 0, [-1024, 3071], 63),  # 1024 * 255 / 4095 = 63.8
    ("int32", -3000, [-1024, 3071], 0),
    ("float32", 0.5, [0.0, 1.0], 127),
]
SIDE = 8


def write_constant(folder, kind, value):
    folder.mkdir()
    path = folder / "a.tif"
    Image.fromarray(np.full((SIDE, SIDE), value, kind)).save(path)
    return path


def pictures(cfg, path):
    """By task, the pixels that its model gets."""
    record = {"file_name": str(path), "category_id": 0}
    video = {"file_name": str(path.parent), "video": "v", "num_frames": 1}
    return {
        "pre-training": TwoViewMapper(cfg)(record)["views"],
        "video": VideoMapper(cfg, num_frames=1)(video)["views"],
        "classification": ClassificationMapper(cfg, True)(record)["image"],
        "segmentation": SemSegMapper(cfg, False)(record)["image"],
        "detection": DetectionMapper(cfg, False)(record)["image"],
        "detection, training": DetectionMapper(cfg, True)(record)["image"],
    }


@pytest.mark.parametrize("kind, value, pixel_range, expected", PIXELS)
def test_every_task_sees_the_same_picture(tmp_path, kind, value, pixel_range, expected):
    cfg = make_cfg(INPUT__PIXPRO__AUG="none", INPUT__PIXEL_RANGE=pixel_range, INPUT__CLASSIFICATION__CROP_SIZE=SIDE)
    add_deeplab_config(cfg)
    for task, pixels in pictures(cfg, write_constant(tmp_path / "images", kind, value)).items():
        assert set(np.asarray(pixels).flat) == {expected}, task


@pytest.mark.parametrize(
    "kind, value, message", [("float32", 0.5, "no defined range"), ("int32", -5, "-5 to -5"), ("int32", 70000, "70000")]
)
def test_pixels_without_a_range_are_refused(tmp_path, kind, value, message):
    path = write_constant(tmp_path / "images", kind, value)
    with pytest.raises(UnreadableImage, match=rf"a\.tif: .*{message}.*set INPUT\.PIXEL_RANGE"):
        read_image(str(path))


@pytest.mark.parametrize("values", [[5], [1, 1], [4095, 0], [0, 1, 2], [0, float("inf")], ["a", "b"]])
def test_impossible_ranges(values):
    check_pixel_range("INPUT.PIXEL_RANGE", [])
    check_pixel_range("INPUT.PIXEL_RANGE", [-1024, 3071.5])
    with pytest.raises(ValueError, match=r"^INPUT.PIXEL_RANGE is \[.*\]; it must be empty, or two numbers"):
        check_pixel_range("INPUT.PIXEL_RANGE", values)


@pytest.mark.parametrize("image_format", ["RGB", "BGR", "L"])
@pytest.mark.parametrize("is_train", [True, False])
def test_images_of_8_bits_are_as_in_detectron2(tmp_path, image_format, is_train):
    render_dataset(tmp_path / "scenes", train=2, test=0, size=64, layouts=["coco"])
    root = tmp_path / "scenes"
    name = f"coco:{root}/annotations/train.json@{root}/JPEGImages"
    cfg = stream_cfg(name, INPUT__FORMAT=image_format, INPUT__MASK_FORMAT="bitmask", MODEL__MASK_ON=True)
    for record in DatasetCatalog.get(name):
        samples = []
        for mapper in (DetectionMapper(cfg, is_train), DatasetMapper(cfg, is_train)):
            with global_generators_seeded(7):
                samples.append(plain(mapper(record)))
        np.testing.assert_equal(*samples)
    assert MetadataCatalog.get(name).thing_classes


def check(capsys, *argv):
    with pytest.raises(SystemExit) as caught:
        check_data.main([str(arg) for arg in argv])
    return caught.value.code, capsys.readouterr().out


def test_a_sliver_of_the_range_is_a_problem(tmp_path, capsys):
    """12 bits in files of 16: 16 grey levels, until the range is given."""
    values = np.random.default_rng(0).integers(0, 4096, (64, 64)).astype(np.uint16)
    values[0, 0], values[0, 1] = 0, 4095
    for name in ("a.png", "b.tif"):
        Image.fromarray(values).save(tmp_path / name)
    code, printed = check(capsys, f"images:{tmp_path}")
    assert code == 1 and "in 2 files of more than 8 bits, 6 % of the range 0 to 65535" in printed
    assert "become 16 of 256 grey levels: set INPUT.PIXEL_RANGE " in printed
    code, printed = check(capsys, f"images:{tmp_path}", "--pixel-range", 0, 4095, "--pictures", tmp_path / "pictures")
    assert code == 0 and "100 % of the range 0 to 4095" in printed and printed.endswith("no problems found\n")
    shown = np.asarray(Image.open(tmp_path / "pictures" / "0_a.png"))
    assert len(np.unique(shown)) > 200
    with pytest.raises(SystemExit, match="--pixel-range is .5.0, 5.0.; it must be"):
        check_data.main([f"images:{tmp_path}", "--pixel-range", "5", "5"])


def test_channels_and_pages_that_are_not_read(tmp_path, capsys):
    Image.fromarray(noise(0, 6, 5)).save(tmp_path / "rgb.jpg")
    Image.fromarray(noise(0, 6, 5)).save(tmp_path / "rgb.tif")
    Image.fromarray(noise(1, 6, 5, 4)).save(tmp_path / "alpha.png")
    Image.fromarray(noise(1, 6, 5, 4)).save(tmp_path / "infrared.tif")
    Image.fromarray(noise(1, 6, 5, 4), "CMYK").save(tmp_path / "print.tif")  # whose four channels are all read
    frames = [Image.fromarray(noise(i, 6, 5)) for i in range(3)]
    frames[0].save(tmp_path / "pages.tif", save_all=True, append_images=frames[1:])
    code, printed = check(capsys, f"images:{tmp_path}")
    assert code == 0 and "  channels: 2 files have more than grey or RGB" in printed
    assert "  pages: 1 files have several pages" in printed and "  values:" not in printed


def test_outliers_do_not_hide_a_sliver():
    values = np.full((100, 100), 1000, np.uint16)
    values[50:] = 1001
    values[0, :5] = 65535  # labels that are burnt in
    file = io.BytesIO()
    Image.fromarray(values).save(file, "png")
    found = read_values(file, ())
    assert (found.lowest, found.highest) == (1000, 1001) and len(value_problems([found], ())) == 1


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([-32768] * 10 + list(range(-1000, 3000)), (-32768, -996, 2995)),  # 4 outliers at either end
        ([65535] * 10 + list(range(4000)), (65535, 4, 3995)),
        ([0] * 10 + list(range(20000, 24000)), (0, 20004, 23995)),
        ([65535] * 4 + list(range(4000)), (None, 4, 3999)),  # outliers
        ([65535] * 10 + list(range(0, 64000, 16)), (None, 64, 65535)),  # overexposed
        ([0] * 90 + [65535] * 10, (None, 0, 65535)),  # black and white
    ],
)
def test_missing_pixels_do_not_hide_a_sliver(values, expected):
    found = read_values(tiff(values), ())
    assert (found.nodata, found.lowest, found.highest) == expected


def test_missing_pixels_are_named(tmp_path, capsys):
    (tmp_path / "a.tif").write_bytes(tiff([65535] * 10 + list(range(4000))).getvalue())
    code, printed = check(capsys, f"images:{tmp_path}")
    assert code == 1 and "  values: 4 to 3995 (without 65535, no data) in 1 files" in printed
    assert 'set INPUT.PIXEL_RANGE "[4, 3995]"' in printed


@pytest.mark.parametrize(("highest", "is_deep"), [(255, False), (200, False), (65535, True)])
def test_colours_of_ppm_files(tmp_path, highest, is_deep):
    """The values 0 to 99, which are all black in 16 bits."""
    colours = np.arange(300).reshape(10, 10, 3) % 100
    header = f"P6 10 10 {highest}\n".encode()
    (tmp_path / "a.ppm").write_bytes(header + colours.astype(">u2" if is_deep else "u1").tobytes())
    found = read_values(str(tmp_path / "a.ppm"), ())
    assert (found.deep, found.coloured) == (is_deep, is_deep)
    (tmp_path / "bits.pbm").write_bytes(b"P1 2 2\n0 1 1 0\n")
    assert not read_values(str(tmp_path / "bits.pbm"), ()).deep


def test_values_of_a_large_image_need_little_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(stored_values, "MAX_PIXELS", 10_000)
    colours = np.random.default_rng(0).integers(0, 4096, (600, 600, 3)).astype(np.uint16)
    write_tiff(tmp_path / "a.tif", [colours])
    tracemalloc.start()
    found = read_values(str(tmp_path / "a.tif"), ())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12 * 600 * 600  # bytes, the copy of the pixels included; a sorted copy of all would need 40 more
    assert (found.lowest, found.highest) == (0, 15 * 257)  # of the upper 8 bits


def test_pixels_outside_the_range_are_counted(tmp_path, capsys):
    """A quarter of the values 0 to 4095 is at most 1023, and less than a tenth at most 400."""
    (tmp_path / "a.tif").write_bytes(tiff(range(4096), 64).getvalue())
    code, printed = check(capsys, f"images:{tmp_path}", "--pixel-range", 0, 1023)
    assert code == 0 and "100 % of the range 0 to 1023; 75.0 % of the pixels are outside and become black" in printed
    code, printed = check(capsys, f"images:{tmp_path}", "--pixel-range", 0, 400)
    assert code == 1 and "are outside the range 0 to 400 and become black or white: check INPUT" in printed


def test_a_run_warns_of_lost_values_when_it_starts(tmp_path, monkeypatch):
    for i in range(3):
        (tmp_path / f"{i}.tif").write_bytes(tiff(range(4096), 64).getvalue())
    (tmp_path / "3.tif").write_bytes(b"no image")
    name = "pixpro_d2.data.inspection.stored_values"
    records = [{"file_name": str(tmp_path / f"{i}.tif")} for i in range(4)] * 10
    with logged(name) as messages:
        warn_of_lost_values(records, ())
    assert messages and all("become 16 of 256 grey levels: set INPUT.PIXEL_RANGE" in message for message in messages)
    with logged(name) as messages:
        warn_of_lost_values(records, (0, 4095))
        warn_of_lost_values([{"file_name": str(tmp_path), "num_frames": 4}], (0, 4095))
        warn_of_lost_values([], ())
        monkeypatch.setattr("detectron2.utils.comm.is_main_process", lambda: False)
        warn_of_lost_values(records, ())
    assert not messages


def tiff(values, width=2):
    """A binary file with the values in columns of 16 bits, unsigned if they can be."""
    file, values = io.BytesIO(), np.array(values)
    Image.fromarray(values.reshape(-1, width).astype(np.uint16 if values.min() >= 0 else np.int32)).save(file, "tiff")
    file.seek(0)
    return file


def deep(low, high, coloured=False):
    return FileValues(True, coloured, low, high, False, False)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ([deep(0, 65535)], []),
        (
            9 * [deep(0, 4095)] + [deep(0, 65535)],
            ["of 9 of 10 grey files .* 16 of 256 .*: convert all grey files to one"],
        ),
        (4 * [deep(0, 4095)] + 6 * [deep(0, 65535)], []),  # some dark images
        ([deep(7, 7), deep(0, 65535)], []),  # an empty slice
        ([deep(0, 4095), deep(60000, 65535)], []),  # little contrast, but the values need the range
        ([deep(0, 3855, True)], ["of 1 of 1 coloured files .*: convert them to colours of 8 bits"]),
        (
            [deep(0, 3855, True), deep(10, 1023)],
            ['10 to 1023 of 1 of 1 grey .* 4 of 256 .* INPUT.PIXEL_RANGE "\\[10, 1023\\]"', "coloured"],
        ),
    ],
)
def test_each_file_counts_by_its_own_range(files, expected):
    found = value_problems(files, ())
    assert len(found) == len(expected)
    for sentence, pattern in zip(found, expected):
        assert re.search(pattern, sentence), sentence
