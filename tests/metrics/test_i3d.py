"I3D without its weights: names, shapes, padding, and the same numbers from an independent float64 version."
import math

import pytest
import torch
import torch.nn.functional as F

from ccvs.metrics.frechet.i3d import I3D, FoldedI3D, FoldedInception, FoldedPool, FoldedUnit, I3DUnit, Inception, SamePool, pad_same, same_padding

CHANNELS = {   # (a; b1, b2; c1, c2; d) of every Inception block, I3D spec, section 3
    'Mixed_3b': (64, 96, 128, 16, 32, 32), 'Mixed_3c': (128, 128, 192, 32, 96, 64), 'Mixed_4b': (192, 96, 208, 16, 48, 64),
    'Mixed_4c': (160, 112, 224, 24, 64, 64), 'Mixed_4d': (128, 128, 256, 24, 64, 64), 'Mixed_4e': (112, 144, 288, 32, 64, 64),
    'Mixed_4f': (256, 160, 320, 32, 128, 128), 'Mixed_5b': (256, 160, 320, 32, 128, 128), 'Mixed_5c': (384, 192, 384, 48, 128, 128)}
SHAPES = {     # channels and, for T = 16 and T = 10, time; then the side of the map
    'Conv3d_1a_7x7': (64, 8, 5, 112), 'MaxPool3d_2a_3x3': (64, 8, 5, 56), 'Conv3d_2b_1x1': (64, 8, 5, 56), 'Conv3d_2c_3x3': (192, 8, 5, 56),
    'MaxPool3d_3a_3x3': (192, 8, 5, 28), 'Mixed_3b': (256, 8, 5, 28), 'Mixed_3c': (480, 8, 5, 28), 'MaxPool3d_4a_3x3': (480, 4, 3, 14),
    'Mixed_4b': (512, 4, 3, 14), 'Mixed_4c': (512, 4, 3, 14), 'Mixed_4d': (512, 4, 3, 14), 'Mixed_4e': (528, 4, 3, 14), 'Mixed_4f': (832, 4, 3, 14),
    'MaxPool3d_5a_2x2': (832, 2, 2, 7), 'Mixed_5b': (832, 2, 2, 7), 'Mixed_5c': (1024, 2, 2, 7)}


def randomised(module, seed=0):
    "He weights, means that are not 0, variances that are not 1."
    g = torch.Generator().manual_seed(seed)
    for part in module.modules():
        if isinstance(part, torch.nn.Conv3d): torch.nn.init.kaiming_normal_(part.weight, generator=g)
        if isinstance(part, torch.nn.BatchNorm3d):
            part.weight.data.uniform_(0.5, 1.5, generator=g)
            part.bias.data.normal_(0, 0.3, generator=g)
            part.running_mean.normal_(0, 0.3, generator=g)
            part.running_var.uniform_(0.4, 1.6, generator=g)
    return module.eval().requires_grad_(False)


@pytest.fixture(scope='module')
def net():
    return randomised(I3D())


@pytest.fixture(scope='module')
def fast(net):
    return FoldedI3D(net)


@pytest.fixture(scope='module')
def clip():
    return torch.rand(1, 3, 9, 224, 224, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture(scope='module')
def meta():
    with torch.device('meta'): return I3D()


# 1. structure

def expected_shapes():
    "The 344 names of spelling A with their shapes, from the tables of the specification."
    def unit(name, C_in, C_out, k):
        vector = dict.fromkeys(('bn.weight', 'bn.bias', 'bn.running_mean', 'bn.running_var'), (C_out,))
        return {f'{name}.{key}': shape for key, shape in ({'conv3d.weight': (C_out, C_in, k, k, k)} | vector | {'bn.num_batches_tracked': ()}).items()}
    found = unit('Conv3d_1a_7x7', 3, 64, 7) | unit('Conv3d_2b_1x1', 64, 64, 1) | unit('Conv3d_2c_3x3', 64, 192, 3)
    C = 192
    for name, (a, b1, b2, c1, c2, d) in CHANNELS.items():
        found |= unit(f'{name}.b0', C, a, 1) | unit(f'{name}.b1a', C, b1, 1) | unit(f'{name}.b1b', b1, b2, 3)
        found |= unit(f'{name}.b2a', C, c1, 1) | unit(f'{name}.b2b', c1, c2, 3) | unit(f'{name}.b3b', C, d, 1)
        C = a + b2 + c2 + d
    return found | {'logits.conv3d.weight': (400, 1024, 1, 1, 1), 'logits.conv3d.bias': (400,)}


def test_names_and_shapes(meta):
    found = {name: tuple(x.shape) for name, x in meta.state_dict().items()}
    assert len(found) == 344 and found == expected_shapes()
    assert sum(p.numel() for p in meta.parameters()) == 12_697_264


@pytest.mark.parametrize('column, T', [(1, 16), (2, 10)])
def test_layer_outputs(meta, column, T):
    x, layers = torch.empty(1, 3, T, 224, 224, device='meta'), dict(meta.named_children())
    assert list(layers) == [*SHAPES, 'logits']
    for name, row in SHAPES.items():
        x = layers[name](x)
        assert x.shape == (1, row[0], row[column], row[3], row[3]), name


@pytest.mark.parametrize('T, positions', [(9, 1), (10, 1), (11, 1), (16, 1), (17, 2), (30, 3), (45, 5)])
def test_time(meta, T, positions):
    x = torch.empty(2, 3, T, 224, 224, device='meta')
    assert meta(x).shape == (2, 400)
    for layer in list(meta.children())[:-1]: x = layer(x)
    assert x.shape[2] - 1 == positions


def test_inputs_it_refuses(meta, fast):
    for network in (meta, fast):
        with pytest.raises(ValueError, match='9 frames or more, found 8'): network(torch.empty(1, 3, 8, 224, 224, device='meta'))
        for shape in ((1, 3, 16, 192, 192), (1, 3, 16, 256, 256), (1, 16, 3, 224, 224), (3, 16, 224, 224)):
            with pytest.raises(ValueError, match='224, 224'): network(torch.empty(shape, device='meta'))


def test_eps_is_everywhere(meta):
    with torch.device('meta'): other = I3D(eps=1e-5)
    for network, eps in ((meta, 1e-3), (other, 1e-5)):
        found = [part.eps for part in network.modules() if isinstance(part, torch.nn.BatchNorm3d)]
        assert found == [eps] * 57


# 2. padding

CASES = [(n, k, s) for n in range(1, 41) for k in range(1, 8) for s in range(1, 4)]


def window(n, k, s, i):
    "The inputs under output i, straight from the rule; None outside."
    out = math.ceil(n / s)
    front = max((out - 1) * s + k - n, 0) // 2
    return [j if 0 <= j < n else None for j in range(i * s - front, i * s - front + k)]


def test_padding_against_a_slow_direct_version():
    g = torch.Generator().manual_seed(0)
    for case, (n, k, s) in enumerate(CASES):
        axis = case % 3
        def shaped(x): return x.view([1, 1, *(x.numel() if a == axis else 1 for a in range(3))])
        kernel, stride = (tuple(v if a == axis else 1 for a in range(3)) for v in (k, s))
        row, weight = -1 - 9 * torch.rand(n, generator=g, dtype=torch.float64), torch.randn(k, generator=g, dtype=torch.float64)
        taps = [window(n, k, s, i) for i in range(math.ceil(n / s))]
        convolved = [sum(weight[t].item() * row[j].item() for t, j in enumerate(js) if j is not None) for js in taps]
        highest = [max(row[j].item() for j in js if j is not None) for js in taps]     # all negative: a zero outside would win
        found = F.conv3d(pad_same(shaped(row), kernel, stride), shaped(weight), stride=stride).flatten()
        torch.testing.assert_close(found, torch.tensor(convolved, dtype=torch.float64), rtol=0, atol=1e-12)     # sums of 7 in float64
        pool = SamePool(kernel, stride)
        assert pool(shaped(row)).flatten().tolist() == highest and FoldedPool(pool)(shaped(row)).flatten().tolist() == highest, (n, k, s)


@pytest.mark.parametrize('n, k, s, expected', [(224, 7, 2, (2, 3)), (16, 7, 2, (2, 3)), (17, 7, 2, (3, 3)), (112, 3, 2, (0, 1)), (56, 3, 2, (0, 1)),
                                               (28, 3, 2, (0, 1)), (8, 3, 2, (0, 1)), (5, 3, 2, (1, 1)), (14, 2, 2, (0, 0)), (4, 2, 2, (0, 0)),
                                               (3, 2, 2, (0, 1)), (9, 3, 1, (1, 1)), (8, 3, 1, (1, 1)), (6, 1, 1, (0, 0))])
def test_padding_table(n, k, s, expected):
    assert same_padding(n, k, s) == expected     # I3D spec, section 2


# 3. an independent version in float64

def slow_unit(weights, name, x, stride=(1, 1, 1), eps=1e-3):
    weight = weights[f'{name}.conv3d.weight']
    sides = []
    for n, k, s in zip(reversed(x.shape[2:]), reversed(weight.shape[2:]), reversed(stride)):
        total = max((math.ceil(n / s) - 1) * s + k - n, 0)
        sides += [total // 2, total - total // 2]
    y = F.conv3d(F.pad(x, sides), weight, stride=stride)
    scale, shift, mean, var = (weights[f'{name}.bn.{key}'].view(-1, 1, 1, 1) for key in ('weight', 'bias', 'running_mean', 'running_var'))
    return ((y - mean) / torch.sqrt(var + eps) * scale + shift).clamp(min=0)


def slow_pool(x, kernel, stride):
    for axis, k, s in zip((2, 3, 4), kernel, stride):
        taps = [window(x.shape[axis], k, s, i) for i in range(math.ceil(x.shape[axis] / s))]
        x = torch.stack([x.index_select(axis, torch.tensor([j for j in js if j is not None])).amax(axis) for js in taps], axis)
    return x


def slow_i3d(weights, x):
    "Plain functions, float64, nothing shared with the module but the names of the weights."
    x = slow_unit(weights, 'Conv3d_1a_7x7', x, (2, 2, 2))
    x = slow_pool(x, (1, 3, 3), (1, 2, 2))
    x = slow_unit(weights, 'Conv3d_2c_3x3', slow_unit(weights, 'Conv3d_2b_1x1', x))
    x = slow_pool(x, (1, 3, 3), (1, 2, 2))
    for name in CHANNELS:
        if name == 'Mixed_4b': x = slow_pool(x, (3, 3, 3), (2, 2, 2))
        if name == 'Mixed_5b': x = slow_pool(x, (2, 2, 2), (2, 2, 2))
        two, three = (slow_unit(weights, f'{name}.b{b}b', slow_unit(weights, f'{name}.b{b}a', x)) for b in (1, 2))
        four = slow_unit(weights, f'{name}.b3b', slow_pool(x, (3, 3, 3), (1, 1, 1)))
        x = torch.cat([slow_unit(weights, f'{name}.b0', x), two, three, four], 1)
    pairs = torch.stack([x[:, :, t:t + 2].mean((2, 3, 4)) for t in range(x.shape[2] - 1)])
    return (pairs @ weights['logits.conv3d.weight'].flatten(1).T + weights['logits.conv3d.bias']).mean(0)


@torch.inference_mode()
def test_agrees_with_an_independent_float64_version(net, fast, clip):
    weights = {name: x.double() for name, x in net.state_dict().items()}
    expected = slow_i3d(weights, clip.double())
    assert expected.std() > 0.01     # signals reach the end
    for network in (net, fast):
        error = (network(clip).double() - expected).abs().max() / expected.abs().max()
        assert error < 1e-5          # I3D spec, section 6: float32 sums of up to 20,000 terms, 57 times


# 4. the faster form

@torch.inference_mode()
def test_same_bits_in_any_batch(fast):
    clips = torch.rand(3, 3, 9, 224, 224, generator=torch.Generator().manual_seed(2)) * 2 - 1
    whole = fast(clips)
    assert torch.equal(fast(clips[1:2]), whole[1:2]) and torch.equal(fast(clips.flip(0)[:2]), whole.flip(0)[:2])
    assert not torch.equal(whole[0], whole[1])


@torch.inference_mode()
@pytest.mark.parametrize('packed', [True, False])
@pytest.mark.parametrize('size', [(4, 6, 7), (3, 9, 8)])
def test_parts_equal_their_plain_forms(packed, size, monkeypatch):
    if not packed: monkeypatch.setattr('ccvs.metrics.frechet.i3d._packs', lambda device: False)
    x = torch.randn(2, 20, *size, generator=torch.Generator().manual_seed(3))
    units = [randomised(I3DUnit(20, C, (1, 1, 1), (1, 1, 1), 1e-3), C) for C in (5, 9)]
    block, stem = randomised(Inception(20, 6, 7, 8, 9, 10, 11, 1e-3)), randomised(I3DUnit(20, 12, (7, 7, 7), (2, 2, 2), 1e-2))
    pairs = [(FoldedUnit(units), torch.cat([unit(x) for unit in units], 1)), (FoldedUnit([stem]), stem(x)), (FoldedInception(block), block(x))]
    for part, expected in pairs:
        for layout in (torch.contiguous_format, torch.channels_last_3d):
            torch.testing.assert_close(part(x.contiguous(memory_format=layout)), expected, rtol=1e-5, atol=1e-5)   # float32 sums of 7,000 terms


def test_folding_leaves_the_network_alone(net, clip):
    before = {name: x.clone() for name, x in net.state_dict().items()}
    x = clip.clone()
    FoldedI3D(net)(x)
    assert torch.equal(x, clip) and all(torch.equal(x, before[name]) for name, x in net.state_dict().items())
