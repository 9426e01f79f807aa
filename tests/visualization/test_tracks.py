"""Points of a video, followed as training follows them, and what is read off them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from motion_helpers import constant, one_motion
from PIL import Image

from pixpro_d2.extras.scenes.video_scene import describe_video, render_video
from pixpro_d2.modeling.pretrain.flow_correspondence import FlowCorrespondence
from pixpro_d2.visualization import tracks
from pixpro_d2.visualization.tracks import Tracks, corner_points, follow, pixel_centers, warp_back

RULE = FlowCorrespondence(0.7)
SIZE = (8, 16)  # (H, W)


def test_points_follow_the_flow_in_continuous_coordinates():
    # A 1/8 grid's vector of (0.25, 0) is 2 pixels; the second point leaves the frame, whose last pixel's centre is at
    # 15.5; the third lies nearer to the edge than the first pixel's centre, (0.5, 0.5), and starts there.
    motion = one_motion(constant(0.25, size=(1, 2)), constant(-0.25, size=(1, 2)), SIZE)
    found = follow(np.float32([[3.5, 4.5], [14.5, 4.5], [0.1, 0]]), motion, RULE)
    np.testing.assert_allclose(found.starts, [[3.5, 4.5], [14.5, 4.5], [0.5, 0.5]], atol=1e-5)
    np.testing.assert_allclose(found.ends, [[5.5, 4.5], [16.5, 4.5], [2.5, 0.5]], atol=1e-5)
    assert found.valid.tolist() == [True, False, True]
    np.testing.assert_allclose(found.lengths, 2, atol=1e-5)
    assert found.end_inside((16, 8)).tolist() == [True, False, True]


@pytest.mark.parametrize("rule, kept", [("pixel", False), ("none", True)])
def test_the_rule_of_the_correspondence_decides(rule, kept):
    # There 3 pixels, back 0: 9 > 0.01 * 9 + 0.5.
    motion = one_motion(constant(3.0, size=SIZE), constant(0.0, size=SIZE), SIZE)
    assert follow(np.float32([[4, 4]]), motion, FlowCorrespondence(0.7, consistency=rule)).valid.tolist() == [kept]


def test_many_points_are_followed_in_parts(monkeypatch):
    flow = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 2, *SIZE))).float()
    motion = one_motion(flow, -flow.flip(0), SIZE)
    points = pixel_centers((16, 8))
    whole = follow(points, motion, RULE)
    assert 0 < whole.valid.mean() < 1
    monkeypatch.setattr(tracks, "CHUNK", 50)
    parts = follow(points, motion, RULE)
    np.testing.assert_array_equal(parts.ends, whole.ends)
    np.testing.assert_array_equal(parts.valid, whole.valid)


def test_exact_flow_of_a_moving_camera_leads_where_the_scene_says():
    video = describe_video(np.random.default_rng(0), 6, 48, 64)
    camera = slice(0, 1)  # of the layers, the background alone: its flow is affine, so interpolation is exact
    video = replace(
        video,
        scene=replace(video.scene, objects=()),
        offsets=video.offsets[:, camera],
        factors=video.factors[:, camera],
    )
    clip = render_video(video)
    motion = one_motion(torch.from_numpy(clip.forward), torch.from_numpy(clip.backward[::-1].copy()), (48, 64))
    found = follow(pixel_centers((64, 48)), motion, RULE)
    ends, _, along = video.track(found.starts, 0, 5)
    assert found.lengths.mean() > 2 and 0.5 < along.mean() < 1
    np.testing.assert_allclose(found.ends[along], ends[along], atol=1e-3)
    # Float32 may differ from the scene's arithmetic for points on the very border.
    assert (found.valid == along).mean() > 0.998


def test_end_on_the_border_is_inside():
    ends = np.float32([[0.5, 0.5], [15.5, 7.5], [0.4, 4], [15.6, 4], [8, 7.6], [8, 0.4]])
    found = Tracks(ends, ends, np.ones(6, dtype=bool))
    assert found.end_inside((16, 8)).tolist() == [True, True, False, False, False, False]


def test_pixel_centers_are_row_major():
    assert pixel_centers((2, 2)).tolist() == [[0.5, 0.5], [1.5, 0.5], [0.5, 1.5], [1.5, 1.5]]


def test_a_corner_in_each_cell():
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[12:40, 8:30] = 255  # its corners: (8, 12) in the left cell, and (30, 12) where the cells meet
    pixels[25:40, 45:60] = 255  # (45, 25) in the right one
    pixels[:, 28:32] = 128
    found = corner_points(Image.fromarray(pixels), (2, 1))
    assert found.shape == (2, 2)
    assert np.abs(found - [[8, 12], [45, 25]]).max() < 4
    plain = corner_points(Image.new("RGB", (6, 4)), (3, 2))
    assert (plain // 2).tolist() == [[0, 0], [1, 0], [2, 0], [0, 1], [1, 1], [2, 1]]  # one in each, for no corner too


def test_warping_back_undoes_the_motion():
    first = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    second = np.roll(first, 2, axis=1)
    starts = pixel_centers((16, 8))
    moved = Tracks(starts, starts + np.float32([2, 0]), np.ones(len(starts), dtype=bool))
    warped = warp_back(Image.fromarray(second), moved)
    np.testing.assert_allclose(warped[:, :14], first[:, :14], atol=0.01)
    np.testing.assert_allclose(warped[:, 14:], np.repeat(second[:, 15:], 2, axis=1), atol=0.01)  # from beyond its edge
