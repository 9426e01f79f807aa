"""Half precision by device."""

import pytest
import torch

from pixpro_d2.utils.precision import half_precision


@pytest.mark.parametrize("supported, expected", [(True, torch.bfloat16), (False, torch.float16)])
def test_a_gpu(monkeypatch, supported, expected):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: supported)
    assert half_precision(torch.device("cuda", 0)) is expected


@pytest.mark.parametrize("found, expected", [({"amx_bf16": True}, torch.bfloat16), ({"avx512_f": True}, None)])
def test_a_processor(monkeypatch, found, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)
    assert half_precision(torch.device("cpu")) is expected
    assert half_precision(torch.device("meta")) is None
