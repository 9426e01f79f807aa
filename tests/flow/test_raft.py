"""RAFT as an estimator: what its network is given, what becomes of its flow, and its weights."""

import pickle

import pytest
import torch
from flow_helpers import Payload
from torch import nn
from torchvision.models.optical_flow import Raft_Small_Weights, raft_small

from pixpro_d2.flow.raft import RAFT, load_raft
from pixpro_d2.utils.errors import UsageError


class Recorder(nn.Module):
    """Network that keeps its inputs and returns two predictions.

    The last has the mean difference of the frames as x, and the column of each pixel as y.
    """

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 1, 1)
        self.dropout = nn.Dropout(0.5)
        self.calls = []

    def forward(self, first, second):
        computed = self.layer(first)
        self.calls.append((first, second, torch.is_grad_enabled(), self.training, computed.dtype))
        x = (second - first).mean(dim=(1, 2, 3))[:, None, None].expand_as(first[:, 0])
        y = torch.arange(first.shape[-1], dtype=torch.float32).expand_as(x)
        return [torch.full_like(first[:, :2], torch.nan), torch.stack((x, y), dim=1)]


def frames(count, height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator)


def test_what_the_network_is_given():
    network = Recorder().train()
    first, second = frames(5, 128, 136, 0), frames(5, 128, 136, 1)
    first[0, 0, 0, 0], first[0, 0, 0, 1] = 0, 255
    with torch.autocast("cpu", dtype=torch.bfloat16):
        flow = RAFT(network, "stub", sub_batch=2)(first, second)
    assert [len(call[0]) for call in network.calls] == [2, 2, 1]
    given = [torch.cat([call[i] for call in network.calls]) for i in (0, 1)]
    torch.testing.assert_close(given[0], first / 127.5 - 1, rtol=0, atol=1e-6)  # in order, not swapped
    torch.testing.assert_close(given[1], second / 127.5 - 1, rtol=0, atol=1e-6)
    assert given[0].min() == -1 and given[0].max() == 1
    for call in network.calls:
        assert call[2:] == (False, False, torch.float32)  # no gradient, no training, no autocast
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert flow.dtype == torch.float32 and not flow.requires_grad


def test_parts_of_a_batch_are_the_whole():
    first, second = frames(5, 128, 136, 0), frames(5, 128, 136, 1)
    whole, parts = (RAFT(Recorder(), "stub", sub_batch=size)(first, second) for size in (5, 2))
    assert whole.shape == (5, 2, 16, 17)
    torch.testing.assert_close(whole, parts, rtol=1e-5, atol=1e-5)  # interpolation of other batches rounds otherwise
    assert whole[:, 0, 0, 0].unique().numel() == 5


@pytest.mark.parametrize(
    ("size", "given"),
    [((128, 136), (128, 136)), ((130, 161), (136, 168)), ((120, 160), (128, 160)), ((9, 9), (128, 128))],
)
def test_frames_are_padded_and_the_flow_is_cut(size, given):
    network = Recorder()
    first = frames(1, *size)
    flow = RAFT(network, "stub")(first, first)
    seen = network.calls[0][0]
    assert seen.shape[2:] == given
    assert torch.equal(seen[..., size[0] - 1 :, : size[1]], seen[..., size[0] - 1 : size[0], : size[1]].expand(
        -1, -1, given[0] - size[0] + 1, -1))  # fmt: skip
    h, w = -(-size[0] // 8), -(-size[1] // 8)
    assert flow.shape == (1, 2, h, w)
    # The y of the flow is the column: 0 to W - 1 from the first to the last point, times h / H.
    columns = torch.linspace(0, size[1] - 1, w) * (h / size[0])
    torch.testing.assert_close(flow[0, 1], columns.expand(h, w), atol=1e-3, rtol=0)


@pytest.mark.parametrize(("size", "expected"), [((130, 160), (17, 20)), ((120, 160), (15, 20))])
def test_torchvisions_network_runs_on_sizes_it_refuses(size, expected):
    network, name = load_raft("small", "random")
    first, second = frames(1, *size, 0), frames(1, *size, 1)
    with pytest.raises(ValueError, match="divisible by 8|too small"):
        network(first.float(), second.float())
    flow = RAFT(network, f"raft_small ({name})", scale=8)(first, second)
    assert flow.shape == (1, 2, *expected) and flow.isfinite().all()
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_the_grid_has_what_the_network_computed_at_an_eighth():
    # raft_small enlarges its flow by 8; on sizes that need no padding, the grid takes that back. What is left is the
    # interpolation between the two pixels next to a point, where the enlarged flow has a kink.
    torch.manual_seed(0)
    network = load_raft("small", "random")[0]
    steps = []
    network.update_block.register_forward_hook(lambda module, inputs, output: steps.append(output[1]))
    flow = RAFT(network, "raft_small")(frames(1, 128, 160, 0), frames(1, 128, 160, 1))
    low = sum(steps)
    assert len(steps) == 12
    assert (flow - low).abs().max() < 0.1 * (low.max() - low.min())
    assert (flow - low).abs().mean() < 0.05 * low.std()


def test_weights_of_a_file(tmp_path):
    torch.manual_seed(1)
    state = raft_small(weights=None).state_dict()
    torch.save(state, tmp_path / "mine.pth")
    network, name = load_raft("small", str(tmp_path / "mine.pth"))
    assert name == "mine"
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


def test_weights_of_the_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *args, **kwargs: pytest.fail("downloads"))
    with pytest.raises(UsageError, match=r"no weights of RAFT at .*checkpoints/raft_small_C_T_V2.*fetch https.*dis"):
        load_raft("small", "cache")
    with pytest.raises(UsageError, match="raft_large_C_T_SKHT_V2"):
        load_raft("large")
    (tmp_path / "checkpoints").mkdir()
    cached = tmp_path / "checkpoints" / Raft_Small_Weights.DEFAULT.url.rpartition("/")[2]
    torch.save(raft_small(weights=None).state_dict(), cached)
    assert load_raft("small", "cache")[1] == cached.stem


def test_wrong_weights_are_named(tmp_path):
    path = tmp_path / "weights.pth"
    state = raft_small(weights=None).state_dict()
    some = dict(list(state.items())[:-1])
    for content in (some, {"model": state}, {key: [1] for key in state}, {**state, next(iter(state)): torch.zeros(1)}):
        torch.save(content, path)
        with pytest.raises(UsageError, match=r"weights\.pth does not fit torchvision's raft_small"):
            load_raft("small", str(path))
    with pytest.raises(UsageError, match=r"no checkpoint .*nowhere\.pth"):
        load_raft("small", str(tmp_path / "nowhere.pth"))
    with pytest.raises(UsageError, match="size of RAFT is 'huge'"):
        load_raft("huge")


def test_malicious_weights_are_refused(tmp_path):
    path, trap = tmp_path / "weights.pth", tmp_path / "trap"
    for write in (lambda: torch.save(Payload(trap), path), lambda: path.write_bytes(pickle.dumps(Payload(trap)))):
        write()
        with pytest.raises(UsageError, match=r"weights\.pth was refused"):
            load_raft("small", str(path))
    assert not trap.exists()
