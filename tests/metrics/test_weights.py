"I3D's weight files: three spellings read back to the same bits, every broken entry named, no program run unasked."
import hashlib

import numpy as np
import pytest
import torch

from ccvs.metrics.frechet.i3d import I3D
from ccvs.metrics.frechet.weights import I3D_FILE, is_scripted, load_i3d, read_tensors, translate

MIXED = [f'Mixed_{name}' for name in ('3b', '3c', '4b', '4c', '4d', '4e', '4f', '5b', '5c')]
UNITS = {    # ours -> (B, C); written out from I3D spec, section 4, sharing nothing with the module
    'Conv3d_1a_7x7': ('conv3d_1a_7x7', 'Conv3d_1a_7x7'), 'Conv3d_2b_1x1': ('conv3d_2b_1x1', 'Conv3d_2b_1x1'),
    'Conv3d_2c_3x3': ('conv3d_2c_3x3', 'Conv3d_2c_3x3'), 'logits': ('conv3d_0c_1x1', 'Logits/Conv3d_0c_1x1')}
for block in MIXED:
    for ours, b, c in (('b0', 'branch_0', 'Branch_0/Conv3d_0a_1x1'), ('b1a', 'branch_1.0', 'Branch_1/Conv3d_0a_1x1'),
                       ('b1b', 'branch_1.1', 'Branch_1/Conv3d_0b_3x3'), ('b2a', 'branch_2.0', 'Branch_2/Conv3d_0a_1x1'),
                       ('b2b', 'branch_2.1', 'Branch_2/Conv3d_0b_3x3'), ('b3b', 'branch_3.1', 'Branch_3/Conv3d_0b_1x1')):
        if (block, ours) == ('Mixed_5b', 'b2b'): c = 'Branch_2/Conv3d_0a_3x3'
        UNITS[f'{block}.{ours}'] = (f'm{block[1:]}.{b}', f'{block}/{c}')


def in_b(weights):
    found = {}
    for name, x in weights.items():
        unit, part, entry = name.rsplit('.', 2)
        found[f'{UNITS[unit][0]}.{dict(bn="batch3d").get(part, part)}.{entry}'] = x
    return found


def in_c(weights):
    found = {}
    for name, x in weights.items():
        unit, part, entry = name.rsplit('.', 2)
        path = f'RGB/inception_i3d/{UNITS[unit][1]}'
        if (part, entry) == ('conv3d', 'weight'): found[f'{path}/conv_3d/w'] = x.permute(2, 3, 4, 1, 0).contiguous()
        if (part, entry) == ('conv3d', 'bias'): found[f'{path}/conv_3d/b'] = x
        variable = dict(bias='beta', running_mean='moving_mean', running_var='moving_variance').get(entry)
        if part == 'bn' and variable: found[f'{path}/batch_norm/{variable}'] = x.view(1, 1, 1, 1, -1)
    return found


SPELL = {'pytorch-i3d': dict, 'kinetics_i3d_pytorch': in_b, 'tensorflow': in_c}


@pytest.fixture(scope='module')
def ours():
    "A random network without scales, as converted TensorFlow weights are."
    g = torch.Generator().manual_seed(0)
    weights = I3D().state_dict()
    for name, x in weights.items():
        if name.endswith('running_var'): x.uniform_(0.5, 1.5, generator=g)
        elif name.endswith(('bn.bias', 'running_mean', 'logits.conv3d.bias')): x.normal_(0, 0.2, generator=g)
    return weights


@pytest.mark.parametrize('spelling, entries', [('pytorch-i3d', 344), ('kinetics_i3d_pytorch', 344), ('tensorflow', 230)])
def test_reads_back_to_the_same_bits(ours, spelling, entries):
    theirs = SPELL[spelling](ours)
    assert len(theirs) == entries
    read = translate(theirs)
    assert read.spelling == spelling and read.weights.keys() == ours.keys()
    assert all(torch.equal(read.weights[name], x) and read.weights[name].dtype == x.dtype for name, x in ours.items())
    I3D().load_state_dict(read.weights, strict=True)


def test_outputs_are_bit_identical(ours, tmp_path):
    "From files, in three spellings."
    torch.save(ours, tmp_path / 'a.pt')
    torch.save(in_b(ours), tmp_path / 'b.pt')
    np.savez(tmp_path / 'c.npz', **{name: x.numpy() for name, x in in_c(ours).items()})
    clip = torch.rand(1, 3, 9, 224, 224, generator=torch.Generator().manual_seed(1)) * 2 - 1
    loaded = {file: load_i3d(tmp_path / file) for file in ('a.pt', 'b.pt', 'c.npz')}
    scores = {file: found.net(clip) for file, found in loaded.items()}
    assert torch.equal(scores['a.pt'], scores['b.pt']) and torch.equal(scores['a.pt'], scores['c.npz'])
    assert [found.spelling for found in loaded.values()] == list(SPELL)
    assert loaded['a.pt'].checksum == hashlib.sha256((tmp_path / 'a.pt').read_bytes()).hexdigest() != loaded['b.pt'].checksum


@pytest.mark.parametrize('spelling', SPELL)
def test_every_broken_entry_is_named(ours, spelling):
    "Each entry in turn is deleted, renamed, and given another shape."
    whole = SPELL[spelling](ours)
    for name in whole:
        less = {key: x for key, x in whole.items() if key != name}
        with pytest.raises(ValueError) as error: translate(less)
        assert f'missing: {name};' in f'{str(error.value).rsplit(";", 1)[0]};'
        with pytest.raises(ValueError) as error: translate(less | {f'{name}_': whole[name]})
        assert f'missing: {name}; unexpected: {name}_;' in str(error.value)
        for changed in (whole[name].new_zeros(*whole[name].shape, 2), whole[name].new_zeros(3)):
            with pytest.raises(ValueError) as error: translate(whole | {name: changed})
            assert f'misshapen: {name} is {tuple(changed.shape)} where our' in str(error.value)


def test_transposed_weights_are_noticed(ours):
    theirs = in_c(ours)
    name = 'RGB/inception_i3d/Mixed_3b/Branch_1/Conv3d_0b_3x3/conv_3d/w'
    with pytest.raises(ValueError, match='misshapen: ' + name): translate(theirs | {name: theirs[name].permute(4, 3, 0, 1, 2)})


def test_something_else_entirely(tmp_path):
    with pytest.raises(ValueError, match='missing: .* and 336 more; unexpected: features.0.weight'): translate({'features.0.weight': torch.zeros(2)})
    with pytest.raises(ValueError, match='missing'): translate({})
    torch.save(dict(net=dict(a=torch.zeros(1))), tmp_path / 'nested.pt')
    with pytest.raises(ValueError, match='found other things'): read_tensors(tmp_path / 'nested.pt')
    torch.save(print, tmp_path / 'program.pt')                      # a function: weights_only refuses it
    (tmp_path / 'page.pt').write_text('<html>quota exceeded</html>')
    for file in ('program.pt', 'page.pt'):
        with pytest.raises(ValueError, match='cannot be read as one'): read_tensors(tmp_path / file)
    np.savez(tmp_path / 'objects.npz', a=np.array([dict()], dtype=object))
    with pytest.raises(ValueError): read_tensors(tmp_path / 'objects.npz')


def test_absent_weights(tmp_path, monkeypatch):
    monkeypatch.setenv('CCVS_WEIGHTS', str(tmp_path / 'mine'))
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    with pytest.raises(FileNotFoundError) as error: load_i3d()
    said = str(error.value)
    assert I3D_FILE in said and 'https://' in said and f'save it as {tmp_path / "mine" / I3D_FILE}' in said
    assert str(tmp_path / 'torch' / 'hub' / 'checkpoints' / I3D_FILE) in said
    with pytest.raises(FileNotFoundError, match='SHA-256 abcd'): load_i3d(sha256='abcd')


def test_eps_reaches_the_network(ours, tmp_path):
    torch.save(ours, tmp_path / 'a.pt')
    clip = torch.rand(1, 3, 9, 224, 224, generator=torch.Generator().manual_seed(1)) * 2 - 1
    a, b = (load_i3d(tmp_path / 'a.pt', eps).net(clip) for eps in (1e-3, 1e-5))
    difference = ((a - b).abs().max() / a.abs().max()).item()
    assert 1e-6 < difference < 0.05       # small and visible


class Scripted(torch.nn.Module):
    "The calling convention of the scripted detector."
    def forward(self, x, rescale: bool = False, resize: bool = False, return_features: bool = False):
        y = x.mean(dim=[2, 3, 4]).repeat(1, 134)[:, :400]
        if rescale or resize: y = y + 1000
        return y if return_features else y.softmax(1)


@pytest.mark.filterwarnings('ignore')     # scripting is deprecated; reading scripts is what is asked
def test_a_script_runs_only_when_pinned(tmp_path):
    path = tmp_path / 'i3d_torchscript.pt'
    torch.jit.script(Scripted()).save(str(path))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert is_scripted(path)
    for sha256 in (None, digest[:16]):
        with pytest.raises(ValueError, match=f'runs only with its full SHA-256.*{digest}'): load_i3d(path, sha256=sha256)
    with pytest.raises(ValueError, match='should have SHA-256'): load_i3d(path, sha256='0' * 64)
    loaded = load_i3d(path, sha256=digest.upper())
    assert loaded.spelling == 'torchscript' and loaded.checksum == digest
    clips = torch.rand(2, 3, 9, 224, 224) * 2 - 1
    scores = loaded.net(clips)
    torch.testing.assert_close(scores[:, :3], clips.mean((2, 3, 4)), rtol=1e-4, atol=1e-5)    # float32 sums of half a million
    with pytest.raises(ValueError, match='9 frames or more'): loaded.net(clips[:, :, :8])
