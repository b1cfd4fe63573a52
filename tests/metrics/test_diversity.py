"Diversity of samples: against loops over pairs, over batches, and rising as futures drift apart."
import pytest
import torch

from ccvs.core.seed import torch_rng
from ccvs.metrics.pairs.diversity import lpips_diversity, mse_diversity, vgg_similarity_channels, vgg_similarity_time
from ccvs.metrics.pairs.lpips import random_lpips

pytestmark = [pytest.mark.usefixtures('one_thread')]


def noise(*shape, seed=0):
    return torch.rand(*shape, generator=torch_rng(seed)) * 2 - 1


@pytest.fixture(scope='module')
def alex():
    return random_lpips('alex')


@pytest.fixture(scope='module')
def vgg():
    "A stand-in with VGG's name: a few channels after each of two layers, so that no large trunk is needed."
    class Narrow(torch.nn.Module):
        pnet_type, name = 'vgg', 'narrow'
        network = property(lambda self: self)
        def __init__(self):
            super().__init__()
            draw = torch_rng(4)
            self.weights = [torch.randn(4, 3, 3, 3, generator=draw), torch.randn(5, 4, 3, 3, generator=draw)]
        def maps(self, frames):
            x, found = frames, []
            for w in self.weights: found.append(x := torch.relu(torch.nn.functional.conv2d(x, w, stride=2)))
            return found
    return Narrow()


def pairs(S):
    return [(j, k) for j in range(S) for k in range(S) if j != k]  # ordered, as the official code counts


def test_mse_is_the_mean_over_ordered_pairs():
    v = noise(2, 4, 3, 3, 5, 6).double()
    expected = torch.stack([(v[:, j] - v[:, k]).square().mean((2, 3, 4)) for j, k in pairs(4)]).mean(0)
    torch.testing.assert_close(mse_diversity(v), expected, rtol=1e-12, atol=0)
    small = torch.randint(0, 256, v.shape, generator=torch_rng(1), dtype=torch.uint8)
    torch.testing.assert_close(mse_diversity(small), mse_diversity(small.double() / 127.5 - 1), rtol=1e-12, atol=0)


def test_lpips_is_the_mean_over_ordered_pairs(alex):
    v = noise(1, 3, 2, 3, 32, 32)
    expected = torch.stack([alex(v[:, j], v[:, k]) for j, k in pairs(3)]).mean(0)
    torch.testing.assert_close(lpips_diversity(v, alex), expected, rtol=1e-5, atol=1e-7)  # another batch size


def cosine_over_pairs(v, vgg, axis):
    "The definition, spelled out: unit vectors along an axis of (T, D, h, w), multiplied and averaged."
    out = []
    for one in v:
        unit = [[m / (m.square().sum(axis, keepdim=True).sqrt() + 1e-10) for m in vgg.maps(clip)] for clip in one]
        out.append([torch.stack([(a * b).sum(axis).flatten(1 if axis else 0).mean(-1) for a, b in zip(unit[j], unit[k])]).mean(0)
                    for j, k in pairs(len(one))])
    return torch.stack([torch.stack(rows).mean(0) for rows in out])


@pytest.mark.parametrize('measure, axis', [(vgg_similarity_time, 0), (vgg_similarity_channels, 1)])
def test_cosines_against_the_definition(vgg, measure, axis):
    v = noise(2, 3, 4, 3, 17, 19)
    found = measure(v, vgg)
    assert found.shape == ((2,) if axis == 0 else (2, 4))
    torch.testing.assert_close(found, cosine_over_pairs(v, vgg, axis), rtol=1e-4, atol=1e-5)  # float32, other orders


def test_time_axis_is_blind_to_stills_and_the_corrected_is_not(vgg):
    pictures = noise(3, 3, 17, 17)
    stills = pictures[None, :, None].expand(-1, -1, 4, -1, -1, -1)
    # constants over time all point the same way: what is left is how often both features of a pair fire at all
    fires = [m > 0 for m in vgg.maps(pictures)]
    expected = torch.stack([torch.stack([(f[j] & f[k]).float().mean() for j, k in pairs(3)]).mean() for f in fires]).mean()
    torch.testing.assert_close(vgg_similarity_time(stills, vgg), expected[None], rtol=1e-4, atol=1e-4)
    same = stills[:, :1].expand(-1, 3, -1, -1, -1, -1)
    assert vgg_similarity_channels(stills, vgg).mean() < vgg_similarity_channels(same, vgg).mean() - 0.1


def drifting(level, T=3):
    "(1, 3, T, 3, 32, 32): three futures that differ by more noise at every level."
    return noise(1, 1, T, 3, 32, 32) + level * noise(1, 3, T, 3, 32, 32, seed=9)


def test_every_level_of_difference_shows(alex, vgg):
    levels = torch.linspace(0.05, 0.8, 8)
    for rises in (lambda v: mse_diversity(v), lambda v: lpips_diversity(v, alex), lambda v: -vgg_similarity_time(v, vgg),
                  lambda v: -vgg_similarity_channels(v, vgg)):
        assert torch.stack([rises(drifting(level)).double().mean() for level in levels]).diff().min() > 0
    assert mse_diversity(drifting(0)).max() < 1e-12 and lpips_diversity(drifting(0), alex).max() < 1e-9


@pytest.mark.parametrize('measure', [mse_diversity, vgg_similarity_time, vgg_similarity_channels, lpips_diversity])
def test_same_score_in_any_batch_and_order(measure, alex, vgg):
    count = 4 if measure is lpips_diversity else 64
    v = noise(count, 3, 2, 3, 32, 32) if measure is lpips_diversity else noise(count, 3, 2, 3, 9, 9)
    score = measure if measure is mse_diversity else lambda x: measure(x, alex if measure is lpips_diversity else vgg)
    whole = score(v)
    for size in (1, 7): assert torch.equal(torch.cat([score(part) for part in v[:7].split(size)]), whole[:7])
    order = torch.randperm(count, generator=torch_rng(5))
    assert torch.equal(score(v[order]), whole[order])


@pytest.mark.parametrize('measure', [mse_diversity, lpips_diversity, vgg_similarity_time, vgg_similarity_channels])
def test_a_single_sample_has_no_diversity(measure, alex, vgg):
    args = () if measure is mse_diversity else (alex if measure is lpips_diversity else vgg,)
    with pytest.raises(ValueError, match='at least two samples'): measure(noise(2, 1, 2, 3, 32, 32), *args)


def test_another_trunk_is_refused(alex):
    for measure in (vgg_similarity_time, vgg_similarity_channels):
        with pytest.raises(ValueError, match='VGG-16'): measure(noise(1, 2, 1, 3, 32, 32), alex)
