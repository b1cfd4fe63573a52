"Checkpoints under every fault we can inject, exact resume, slow copies, lazy rates and the tracker."
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from ccvs.train.pieces import checkpoints
from ccvs.train.pieces import (Ema, Tracker, every, join_state, latest_checkpoint, lazy_adam, lazy_ratio, load_checkpoint,
                               read_metrics, save_checkpoint, seed_step, split_state, why_invalid)


def names(folder): return sorted(path.name for path in Path(folder).iterdir())


def state(value): return dict(net=dict(weight=torch.full((64,), float(value))), extra=dict(loss=value / 3, betas=(0., .99)))


class Killed(BaseException):
    "Not an Exception: nothing may catch it and tidy up, as nothing can after a kill."


class Faults:
    "Lets `before` calls of any disk operation pass; the next one does half its work and dies."
    def __init__(self, monkeypatch, before):
        self.left, self.log = before, []
        for home, name in ((os, 'fsync'), (os, 'replace'), (os, 'rename'), (checkpoints, 'save_file'), (Path, 'write_text'),
                           (Path, 'mkdir'), (Path, 'rename'), (shutil, 'rmtree')):
            monkeypatch.setattr(home, name, self.guarded(name, getattr(home, name)))

    def guarded(self, name, real):
        def call(*args, **words):
            if self.left == 0:
                self.left = -1
                self.half(name, args)
                raise Killed(name)
            if self.left > 0: self.left -= 1
            self.log.append(name)
            return real(*args, **words)
        return call

    def half(self, name, args):
        if name == 'write_text': args[0].write_bytes(args[1].encode()[:len(args[1]) // 2])
        if name == 'save_file': Path(args[1]).write_bytes(b'half a file')
        if name == 'rmtree': next((path for path in Path(args[0]).iterdir()), Path(args[0])/'none').unlink(missing_ok=True)


def test_killed_anywhere(tmp_path, monkeypatch):
    "For every k: the k-th disk operation of the third save dies. What is found then is valid, and the next save works."
    survived, deaths = [], 0
    for k in range(200):
        folder = tmp_path / str(k)
        save_checkpoint(folder, 1, state(1)); save_checkpoint(folder, 2, state(2))
        with monkeypatch.context() as patch:
            faults = Faults(patch, k)
            try: save_checkpoint(folder, 3, state(3))
            except Killed: deaths += 1
            done = faults.left >= 0                                        # nobody died: there is no k-th operation
        checkpoint = load_checkpoint(latest_checkpoint(folder))
        assert checkpoint.step in (2, 3)
        assert torch.equal(checkpoint.parts['net']['weight'], torch.full((64,), float(checkpoint.step)))
        assert checkpoint.parts['extra'] == dict(loss=checkpoint.step / 3, betas=(0., .99))
        survived.append(checkpoint.step)
        save_checkpoint(folder, 4, state(4))                               # and what was left behind is swept away
        assert len(names(folder)) == 2 and latest_checkpoint(folder).name == 'step-00000004'
        if done: break
    assert done and deaths == k > 10                                       # every operation had its turn
    assert survived == sorted(survived)                                    # the new one counts from one moment on


@pytest.mark.parametrize('fault', ['cut', 'flip', 'missing', 'no manifest', 'half manifest', 'manifest not a dict'])
@pytest.mark.parametrize('name', ['net.safetensors', 'forms.json'])
def test_damage_is_found(tmp_path, fault, name):
    for step in (1, 2): save_checkpoint(tmp_path, step, state(step))
    path = tmp_path/'step-00000002'
    raw, manifest = (path/name).read_bytes(), (path/'manifest.json').read_text()
    if fault == 'cut': (path/name).write_bytes(raw[:-1])
    if fault == 'flip': (path/name).write_bytes(raw[:-2] + bytes([raw[-2] ^ 1]) + raw[-1:])
    if fault == 'missing': (path/name).unlink()
    if fault == 'no manifest': (path/'manifest.json').unlink()
    if fault == 'half manifest': (path/'manifest.json').write_text(manifest[:-9])
    if fault == 'manifest not a dict': (path/'manifest.json').write_text('[]')
    assert why_invalid(path) and latest_checkpoint(tmp_path).name == 'step-00000001'
    with pytest.raises(ValueError, match='not a valid checkpoint'): load_checkpoint(path)
    save_checkpoint(tmp_path, 3, state(3))                                 # the damaged one is what goes
    assert names(tmp_path) == ['step-00000001', 'step-00000003']


def test_old_ones_stay_if_the_new_cannot_be_read(tmp_path, monkeypatch):
    for step in (1, 2): save_checkpoint(tmp_path, step, state(step))
    monkeypatch.setattr(checkpoints, 'why_invalid', lambda path: 'a lying disk' if path.name.endswith('3') else None)
    with pytest.raises(OSError, match='a lying disk'): save_checkpoint(tmp_path, 3, state(3))
    assert names(tmp_path) == ['step-00000001', 'step-00000002', 'step-00000003']


def test_same_step_again_and_keep(tmp_path):
    for value in range(4): save_checkpoint(tmp_path, 5, state(value))
    assert latest_checkpoint(tmp_path).name == 'step-00000005.3' and len(names(tmp_path)) == 2
    assert load_checkpoint(latest_checkpoint(tmp_path)).parts['extra']['loss'] == 1.
    for step in range(6, 16): save_checkpoint(tmp_path, step, state(step), keep=1)
    assert names(tmp_path) == ['step-00000015']
    assert latest_checkpoint(tmp_path/'nothing') is None


@pytest.mark.slow
def test_real_kill(tmp_path):
    "A process that only saves is killed at odd moments; a valid checkpoint is always there."
    code = ('import sys, torch; from ccvs.train.pieces import save_checkpoint\n'
            'for step in range(1, 10**6):\n'
            '    save_checkpoint(sys.argv[1], step, dict(net=dict(w=torch.full((200_000,), float(step)))))\n'
            '    print(step, flush=True)')
    for delay in (.003, .011, .023, .037):
        process = subprocess.Popen([sys.executable, '-c', code, str(tmp_path/str(delay))], stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline().strip() == '1'
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        seen = max([1, *(int(line) for line in process.communicate()[0].split())])
        step, parts = load_checkpoint(latest_checkpoint(tmp_path/str(delay)))
        assert step >= seen and (parts['net']['w'] == step).all()


def train(folder, steps, path=None, reseed=seed_step):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(.3), nn.Linear(8, 1))
    slow, adam = Ema(net, .9), torch.optim.Adam(net.parameters(), **lazy_adam(.01, (0., .99), 16))
    first, losses = 0, {}
    if path is not None:
        first, parts = load_checkpoint(path)
        net.load_state_dict(parts['net']); slow.net.load_state_dict(parts['slow']); adam.load_state_dict(parts['adam'])
    for step in range(first, steps):
        reseed(3, step)
        loss = (net(torch.randn(16, 4)) - 1).square().mean()
        adam.zero_grad(); loss.backward(); adam.step(); slow.update(net)
        losses[step] = loss.item()
    parts = dict(net=net.state_dict(), slow=slow.net.state_dict(), adam=adam.state_dict())
    return losses, parts, save_checkpoint(folder, steps, parts)


def test_resume_is_exact(tmp_path):
    whole, parts, _ = train(tmp_path/'a', 12)
    early, _, path = train(tmp_path/'b', 5)
    late, again, _ = train(tmp_path/'b', 12, path)
    assert {**early, **late} == whole
    for name in parts:
        one, two = {}, {}
        assert split_state(parts[name], one) == split_state(again[name], two)
        assert all(torch.equal(one[key], two[key]) for key in one)


def test_state_survives_json():
    bare = nn.Parameter(torch.ones(2, 3).T)
    adam = torch.optim.AdamW([dict(params=[bare], lr=1e-4), dict(params=[nn.Parameter(torch.ones(()))])], betas=(0., .99))
    (bare.sum()).backward(); adam.step()
    state = dict(adam=adam.state_dict(), deep=[(1, None, True), dict(a=float('inf'))], half=torch.ones(2, dtype=torch.bfloat16))
    tensors = {}
    form = json.loads(json.dumps(split_state(state, tensors)))
    back = join_state(form, tensors)
    assert back['deep'] == state['deep'] and back['adam']['param_groups'] == state['adam']['param_groups']
    assert list(back['adam']['state']) == [0] and torch.equal(back['adam']['state'][0]['exp_avg'], adam.state[bare]['exp_avg'])
    assert back['half'].dtype == torch.bfloat16


def test_tied_and_sliced_tensors(tmp_path):
    w = torch.arange(12.).view(3, 4)
    path = save_checkpoint(tmp_path, 1, dict(net={'a': w, 'b': w, 'c': w[:, 1], 'd': w.T}))
    back = load_checkpoint(path).parts['net']
    assert all(torch.equal(back[key], value) for key, value in dict(a=w, b=w, c=w[:, 1], d=w.T).items())


def test_saved_is_a_copy():
    tensors, w = {}, torch.zeros(2)
    split_state(dict(w=w), tensors); w += 1
    assert (tensors['w'] == 0).all()


def test_refuses(tmp_path):
    with pytest.raises(TypeError, match="found Path|found PosixPath"): save_checkpoint(tmp_path, 1, dict(net=dict(p=tmp_path)))
    with pytest.raises(ValueError, match='letters, digits'): save_checkpoint(tmp_path, 1, {'../net': {}})
    with pytest.raises(ValueError, match="both called 'a.b'"): split_state({'a.b': torch.ones(1), 'a': {'b': torch.ones(1)}}, {})
    assert latest_checkpoint(tmp_path) is None


def test_lazy_rates():
    assert lazy_ratio(None) == 1 and lazy_ratio(16) == 16 / 17
    assert lazy_adam(.002, (0, .99), 16) == dict(lr=.002 * 16 / 17, betas=(0., .99 ** (16 / 17)))
    torch.optim.Adam([nn.Parameter(torch.ones(1))], **lazy_adam(.002, (0, .99), None))
    with pytest.raises(ValueError, match='k >= 1'): lazy_ratio(0)
    assert [every(step, 2) for step in range(4)] == [True, False, True, False] and not every(0, None) and not every(0, 0)


def test_seed_step():
    def draw(*keys): seed_step(*keys); return torch.rand(4)
    assert torch.equal(draw(0, 1), draw(0, 1))
    others = [draw(0, 2), draw(1, 0), draw(0, 1, 1)]
    assert not any(torch.equal(draw(0, 1), other) for other in others)


def test_ema_leaves_buffers_and_the_original():
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    slow = Ema(net, .5)
    with torch.no_grad(): net[0].weight += 2; net[1].running_mean += 1
    before = slow.net[0].weight.clone()
    slow.update(net)
    torch.testing.assert_close(slow.net[0].weight, before + 1, rtol=0, atol=1e-6)       # rounding
    assert (slow.net[1].running_mean == 0).all() and not slow.net.training and net.training
    assert not any(p.requires_grad for p in slow.net.parameters()) and all(p.requires_grad for p in net.parameters())


def test_tracker_resumes(tmp_path):
    with Tracker(tmp_path) as tracker:
        for step in range(5): tracker.log(step, dict(loss=torch.tensor(float(step)), step=99))
    with (tmp_path/'metrics.jsonl').open('a') as file: file.write('{"step": 5, "lo')
    assert [row['step'] for row in read_metrics(tmp_path)] == [0, 1, 2, 3, 4]
    with Tracker(tmp_path, start=3) as tracker: tracker.log(3, dict(loss=float('nan')))
    assert [(row['step'], row['loss']) for row in read_metrics(tmp_path)] == [(0, 0.), (1, 1.), (2, 2.), (3, None)]
    Tracker(tmp_path).close()
    assert read_metrics(tmp_path) == [] == read_metrics(tmp_path/'nowhere')


@pytest.mark.slow
def test_tensorboard(tmp_path):
    with Tracker(tmp_path, tensorboard=True) as tracker: tracker.log(0, dict(loss=1.))
    assert [path.name for path in (tmp_path/'tensorboard').iterdir()]
