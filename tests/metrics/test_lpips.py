"LPIPS: equal to the package on saved random trunks, per frame, in any batch, falling with damage, and never online."
import hashlib
import sys

import pytest
import torch
import torch.nn.functional as F

from ccvs.core.seed import torch_rng
from ccvs.metrics.pairs import lpips as module
from ccvs.metrics.pairs.lpips import TRUNKS, ccvs_lpips, load_lpips, random_lpips, random_trunk

pytestmark = [pytest.mark.usefixtures('one_thread', 'no_network'), pytest.mark.filterwarnings('ignore::UserWarning')]


@pytest.fixture
def no_network(monkeypatch):
    "Nothing may open a connection."
    def refuse(*args, **options): raise AssertionError(f'a connection to {args[1:]} was tried')
    monkeypatch.setattr('socket.socket.connect', refuse)
    monkeypatch.setattr('torch.hub.download_url_to_file', refuse)


@pytest.fixture(scope='module')
def alex():
    return random_lpips('alex')


def noise(*shape, seed=0):
    return torch.rand(*shape, generator=torch_rng(seed)) * 2 - 1


def saved_trunk(net, folder, monkeypatch):
    """A random trunk saved where `load_lpips` looks, and registered with its checksum. Small: all weights are overlapping
    windows into one row of numbers, of which the file holds one copy."""
    row = torch.randn(2**14, generator=torch_rng(3, net))
    trunk = {key: row.as_strided(like.shape, (7, 5, 3, 1)[:like.ndim], 1) if like.ndim > 1 else 0.1 * row[:len(like)]
             for key, like in random_trunk(net).items()}
    file = folder / TRUNKS[net].file
    torch.save(trunk | {'classifier.0.weight': torch.zeros(1)}, file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    monkeypatch.setitem(TRUNKS, net, TRUNKS[net]._replace(sha256=digest))
    return file, trunk


def of_the_package(net, trunk):
    "The package's own object, its random trunk overwritten."
    import lpips
    theirs = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    theirs.net.load_state_dict({key: trunk[f'features.{key.split(".", 1)[1]}'] for key in theirs.net.state_dict()})
    return theirs


@pytest.mark.parametrize('net', ['alex', 'squeeze', pytest.param('vgg', marks=pytest.mark.slow)])
def test_agrees_with_the_package(net, tmp_path, monkeypatch):
    file, trunk = saved_trunk(net, tmp_path, monkeypatch)
    assert file.stat().st_size < 2**18
    ours, theirs = load_lpips(net, tmp_path), of_the_package(net, trunk)
    a, b = noise(3, 3, 33, 40), noise(3, 3, 33, 40, seed=1)
    with torch.no_grad(): expected = theirs(a, b).view(3)
    torch.testing.assert_close(ours(a, b), expected, rtol=1e-5, atol=1e-7)  # convolutions of another batch size
    assert expected.min() > 1e-3
    assert net in ours.name and 'v0.1' in ours.name and 'lpips 0.' in ours.name and 'RANDOM' not in ours.name


def test_random_trunks_say_so(alex):
    assert 'RANDOM' in alex.name and 'alex' in alex.name
    assert not alex.training and not any(p.requires_grad or p.is_meta for p in alex.parameters())
    with pytest.raises(KeyError, match='features.2.weight'): module.lpips_network('vgg', random_trunk('alex'))


@pytest.mark.parametrize('kind', ['noise', 'blur'])
def test_rises_with_every_level(alex, kind):
    frame = F.interpolate(noise(1, 3, 12, 12), size=(48, 48), mode='bicubic')[0] * 0.5
    if kind == 'noise': damaged = frame + torch.linspace(0, 0.4, 9).view(-1, 1, 1, 1) * noise(3, 48, 48, seed=7)
    else:
        steps = [frame[None]]
        for _ in range(8): steps.append(F.avg_pool2d(F.pad(steps[-1], (1, 1, 1, 1), mode='replicate'), 3, 1))
        damaged = torch.cat(steps)
    scores = alex(damaged, frame)
    assert scores[0] == 0 and scores.diff().min() > 0


def test_same_score_in_any_batch_and_order(alex):
    a, b = noise(64, 3, 32, 32), noise(64, 3, 32, 32, seed=1)
    whole = alex(a, b)
    for size in (1, 7):
        assert torch.equal(torch.cat([alex(a[i:i + size], b[i:i + size]) for i in range(0, 14, size)]), whole[:14])
    order = torch.randperm(64, generator=torch_rng(5))
    assert torch.equal(alex(a[order], b[order]), whole[order])


def test_one_number_per_frame_and_bytes(alex):
    real = torch.randint(0, 256, (2, 1, 2, 3, 31, 33), generator=torch_rng(2), dtype=torch.uint8)
    fake = torch.randint(0, 256, (2, 2, 2, 3, 31, 33), generator=torch_rng(3), dtype=torch.uint8)
    scores = alex(real, fake)
    assert scores.shape == (2, 2, 2)
    assert torch.equal(scores[1, 1, 0], alex(real[1, 0, 0], fake[1, 1, 0]))
    assert torch.equal(scores, alex(real.float() / 127.5 - 1, fake))  # a side of floats, a side of bytes
    assert alex(real[:0], fake[:0]).shape == (0, 2, 2)


def test_errors(alex):
    x = torch.zeros(3, 31, 31)
    assert alex(x, x) == 0
    with pytest.raises(ValueError, match='31 pixels or more'): alex(x[:, 1:], x[:, 1:])
    with pytest.raises(ValueError, match='of one size'): alex(x, x[:, 1:])
    with pytest.raises(ValueError, match='alex, vgg, squeeze'): load_lpips('resnet')
    with pytest.raises(ValueError, match='vgg trunk'): ccvs_lpips(alex, x, x)


def test_channels_are_swapped_for_the_ccvs_tool(alex, monkeypatch):
    monkeypatch.setattr(alex.network, 'pnet_type', 'vgg')  # a stand-in: only the order of channels is looked at
    monkeypatch.setitem(TRUNKS, 'vgg', TRUNKS['alex'])
    a, b = noise(3, 32, 32), noise(3, 32, 32, seed=1)
    assert torch.equal(ccvs_lpips(alex, a, b), alex(a[[2, 1, 0]], b[[2, 1, 0]])) and ccvs_lpips(alex, a, b) != alex(a, b)


@pytest.mark.parametrize('net', TRUNKS)
def test_absent_weights_give_one_message(net, tmp_path, monkeypatch):
    monkeypatch.delenv('CCVS_WEIGHTS', raising=False)
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    with pytest.raises(FileNotFoundError) as error: load_lpips(net)
    known = TRUNKS[net]
    for part in (f'https://download.pytorch.org/models/{known.file}', known.sha256, str(tmp_path / 'hub/checkpoints' / known.file)):
        assert part in str(error.value)
    assert '\n' not in str(error.value)


def test_a_file_of_another_checksum_is_refused(tmp_path):
    (tmp_path / TRUNKS['alex'].file).write_bytes(b'something else')
    with pytest.raises(ValueError, match='should have SHA-256 7be5be79'): load_lpips('alex', tmp_path)


def test_a_torchvision_that_does_not_fit(monkeypatch):
    "A torch without its torchvision breaks the package at import; the message says what to do."
    monkeypatch.setitem(sys.modules, 'lpips', None)
    with pytest.raises(ImportError, match='torchvision made for the installed torch'): random_trunk('alex')
