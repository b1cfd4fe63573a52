"Clip features learn, repeat themselves, do not notice a stop, and see every clip alone."
from itertools import islice

import pytest
import torch
from torch.optim import AdamW

from ccvs.core.config import override
from ccvs.data.worlds import render
from ccvs.metrics.frechet.small import describe, load_features, save_features, small_detector
from ccvs.nn.clip_features import PRESETS as NETS, ClipFeatures
from ccvs.train.features import PRESETS, train_features
from ccvs.train.pieces import load_checkpoint, save_checkpoint

pytestmark = pytest.mark.usefixtures('one_thread')
TINY = override(PRESETS['tiny'], steps=80)


@pytest.fixture(scope='module')
def worlds():
    return [torch.stack([torch.from_numpy(render(name, seed, 10, 32).frames) for seed in range(4)]) for name in ('pusher', 'pegs')]


def fresh():
    torch.manual_seed(0)
    net = ClipFeatures(NETS['tiny'])
    return net, AdamW(net.parameters(), TINY.lr)


def test_it_learns_to_tell_worlds_apart(worlds):
    rows = list(train_features(*fresh(), worlds, TINY))
    assert sum(row['world'] for row in rows[-5:]) / 5 > .9
    assert rows[-1]['loss'] < .8 * rows[0]['loss']


def test_stopping_changes_nothing(worlds, tmp_path):
    cfg = override(TINY, steps=6)
    whole, steps = fresh()
    rows = list(train_features(whole, steps, worlds, cfg))
    half, steps = fresh()
    first = list(islice(train_features(half, steps, worlds, cfg), 3))
    save_checkpoint(tmp_path, 3, dict(net=half.state_dict(), optimizer=steps.state_dict()))
    again, steps = fresh()
    parts = load_checkpoint(tmp_path/'step-00000003').parts
    again.load_state_dict(parts['net'])
    steps.load_state_dict(parts['optimizer'])
    assert first + list(train_features(again, steps, worlds, cfg, start=3)) == rows
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters()))


def test_a_clip_is_described_the_same_in_any_company():
    net = ClipFeatures(NETS['tiny']).eval()
    clips = torch.randint(256, (7, 8, 3, 32, 32), dtype=torch.uint8)
    rows = describe(net, clips)
    order = torch.randperm(7)
    assert torch.equal(describe(net, clips[order]), rows[order])
    assert torch.equal(describe(net, clips[2:3]), rows[2:3])


def test_a_saved_detector_is_named_by_its_weights(tmp_path):
    first, second = (small_detector(save_features(fresh()[0], tmp_path/name)) for name in 'ab')
    assert first.checksum == second.checksum and 'not I3D' in first.name
    other = ClipFeatures(NETS['tiny'])
    assert small_detector(save_features(other, tmp_path/'c')).checksum != first.checksum
    assert load_features(tmp_path/'c').cfg == NETS['tiny']


def test_a_folder_without_features_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match='train_detector'):
        load_features(tmp_path)


def test_too_short_a_clip_is_refused():
    net = ClipFeatures(NETS['tiny'])
    with pytest.raises(ValueError, match='at least 4 frames'):
        net(torch.zeros(1, 3, 3, 32, 32))
