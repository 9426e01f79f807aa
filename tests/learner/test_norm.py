import pytest
import torch
from torch import nn

from pixpro_d2.learner.norm import BatchNorm, head_norm
from pixpro_d2.modeling.pretrain.projector import norm_layer


def test_it_is_a_batch_norm():
    ours, theirs = BatchNorm(3), nn.BatchNorm2d(3)
    for x in (torch.rand(2, 3, 1, 1), torch.rand(1, 3, 2, 1)):
        torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.running_var, theirs.running_var)
    torch.testing.assert_close(ours.eval()(x[:, :, :1]), theirs.eval()(x[:, :, :1]))


def test_one_value_takes_the_running_statistics():
    norm = BatchNorm(2)
    norm.running_mean.copy_(torch.tensor([1.0, 2.0]))
    norm.running_var.copy_(torch.tensor([4.0, 9.0]))
    x = torch.tensor([3.0, 8.0]).view(1, 2, 1, 1)
    with pytest.raises(ValueError):
        nn.BatchNorm2d(2)(x)
    torch.testing.assert_close(norm(x).flatten(), torch.tensor([1.0, 2.0]), atol=1e-5, rtol=0)
    assert norm.running_mean.tolist() == [1, 2] and norm.num_batches_tracked == 0


def test_heads_take_it_for_bn_only():
    assert type(norm_layer(head_norm("BN"), 4)) is BatchNorm
    assert isinstance(norm_layer(head_norm("GN"), 32), nn.GroupNorm)
    assert isinstance(norm_layer(head_norm(""), 4), nn.Identity)
    heads = nn.SyncBatchNorm.convert_sync_batchnorm(nn.Sequential(BatchNorm(4)))
    assert isinstance(heads[0], nn.SyncBatchNorm)
