"Controls are measured so that obedience scores, disobedience does not, and a stopped run ends with the same numbers."
from dataclasses import replace

import numpy as np
import pytest
import torch

from ccvs.codec.frame import PRESETS as CODECS, build_frame_codec
from ccvs.codec.sound import SoundCodecCfg, build_sound_codec
from ccvs.data.sound import SliceCfg
from ccvs.data.worlds.acts import ACTIONS
from ccvs.data.worlds.drummer import drummer
from ccvs.data.worlds.pusher import pusher
from ccvs.metrics.control.ends import end_rows
from ccvs.metrics.control.hits import count_hits, hit_shares, kit_look
from ccvs.metrics.control.naming import NamerCfg
from ccvs.metrics.control.paths import DRAWN, arm_look, drawn_path, followed
from ccvs.metrics.obeyed import asking, judging
from ccvs.metrics.obeyed.asking import AskCfg, ask_ends, ask_hits, ask_labels, ask_paths, ready_namer
from ccvs.metrics.obeyed.judging import MEASURED, check_asked, judge, number_lines
from ccvs.prior.pose import PoseCfg, build_pose
from ccvs.prior.transformer import TransformerCfg, build_transformer
from ccvs.synth.load import load
from ccvs.synth.pipeline import PRESETS, Predictor

pytestmark = pytest.mark.usefixtures('one_thread')

CFG = AskCfg(given=2, length=4, batch=2, namer=NamerCfg(widths=(8, 8, 8), clips=6, steps=2, batch=4))


def toy(pose=False, sound=False, ends=False, labels=0):
    torch.manual_seed(0)
    codec, grid = build_frame_codec(CODECS['tiny']), CODECS['tiny'].grid
    eye = build_pose(PoseCfg(grid, CODECS['tiny'].latent_width, 8, 16)) if pose else None
    ear = build_sound_codec(SoundCodecCfg(SliceCfg(rows=16, columns=8), width=4, latent_width=4, codes=16)) if sound else None
    told = dict(control_vocab=16, control_tokens=eye.cfg.axes if pose else ear.cfg.tokens) if pose or sound else {}
    sizes = TransformerCfg(vocab=32, layers=1, heads=2, width=16, grid=grid, frames=8, capacity=200, labels=labels, **told)
    return Predictor(codec, build_transformer(sizes), replace(PRESETS['tiny'], given=2, ends=ends, fps=10.), eye, ear)


KINDS = dict(trajectory=dict(pose=True), sound=dict(sound=True), end_frame=dict(ends=True), label=dict(labels=len(ACTIONS)))


def perfect(cfg, seeds):
    "Answers with what really happens when the wish comes true."
    def answer(model, real, wishes, cfg, first=0):
        new = real[:, cfg.given:]
        if wishes.trajectory is not None and len(wishes.trajectory):
            return torch.stack([torch.from_numpy(pusher(seed, cfg.span, 32, path.numpy()).frames[cfg.given:])
                                for seed, path in zip(seeds, wishes.trajectory)])
        if wishes == type(wishes)(): return real[:, cfg.given - 1, None].expand_as(new)  # not told: stands still
        return new
    return answer


@pytest.mark.parametrize('name', KINDS)
def test_a_model_without_a_control_says_so_in_one_sentence(name):
    with pytest.raises(ValueError, match=f'cannot be asked for {MEASURED[name].wish}=') as problem: check_asked(toy(), name)
    assert '\n' not in str(problem.value)
    assert check_asked(toy(**KINDS[name]), name) is MEASURED[name]


@pytest.mark.parametrize('name', KINDS)
def test_each_control_is_measured_resumed_and_told(name, tmp_path, monkeypatch):
    model, plain = toy(**KINDS[name]), toy() if name == 'end_frame' else None
    if name == 'label': monkeypatch.setattr(asking, 'NAMER_SEEDS', 50)
    asked, real = [], MEASURED[name].ask
    counted = MEASURED[name]._replace(ask=lambda model, seeds, *more: asked.append(seeds) or real(model, seeds, *more))
    monkeypatch.setitem(MEASURED, name, counted)
    judge(model, name, 2, CFG, tmp_path, plain)
    resumed = judge(model, name, 3, CFG, tmp_path, plain)
    assert asked == [range(0, 2), range(2, 3)]
    numbers = MEASURED[name].numbers(resumed, 32)
    assert set(map(type, MEASURED[name].verdicts(numbers).values())) == {bool}
    assert len(number_lines(name, numbers)) == len(MEASURED[name].words)
    assert all(len(values) == 3 for values in resumed.values())


def test_an_obedient_arm_passes_and_a_frozen_one_does_not(monkeypatch):
    cfg, seeds = replace(CFG, length=10), range(3)
    monkeypatch.setattr(asking, 'answer', perfect(cfg, seeds))
    monkeypatch.setattr(asking, '_decoded', lambda model, real, cfg: real[:, cfg.given:])
    numbers = judging.path_numbers(ask_paths(toy(pose=True), seeds, cfg).rows, 32)
    assert all(judging.path_verdicts(numbers).values()), numbers
    assert numbers['untold']['mean'] > 4 and numbers['drawn_untold']['mean'] > 6


def test_an_end_frame_that_is_met_passes(monkeypatch):
    cfg, seeds = replace(CFG, length=10), range(3)
    monkeypatch.setattr(asking, 'answer', perfect(cfg, seeds))
    numbers = judging.end_numbers(ask_ends(toy(ends=True), seeds, cfg).rows, 32)
    assert all(judging.end_verdicts(numbers).values()) and numbers['gain_last']['mean'] > 20
    monkeypatch.setattr(asking, 'answer', lambda model, real, wishes, cfg, first=0: real[:, cfg.given - 1, None].expand(-1, cfg.length, -1, -1, -1))
    assert not any(judging.end_verdicts(judging.end_numbers(ask_ends(toy(ends=True), seeds, cfg).rows, 32)).values())


def test_a_model_that_needs_its_end_frame_needs_a_plain_one_beside_it():
    with pytest.raises(ValueError, match='--set plain='): ask_ends(toy(ends=True), range(1), CFG)


@pytest.mark.parametrize('name', DRAWN)
def test_drawn_paths_begin_at_the_arm_and_stay_in_the_picture(name):
    for size, start in ((32, (5., 26.)), (64, (50., 9.))):
        path = drawn_path(name, start, 40, size)
        assert path.shape == (40, 2) and (path > .1 * size - .5).all() and (path < .9 * size - .5).all()
        assert np.linalg.norm(path[0] - start) < .16 * size


def test_the_finder_is_right_on_a_drawn_path_and_sees_a_frozen_arm():
    clip = pusher(4, 12, 32)
    arm, look = clip.extras['arm'], arm_look(clip.frames, clip.extras['arm'])
    path = drawn_path('circle', arm[3], 8, 32)
    made = pusher(4, 12, 32, np.concatenate([arm[:4], path])).frames[4:]
    assert followed(made, clip.frames[3], look, arm[3], path).mean() < 1
    assert followed(clip.frames[[3] * 8], clip.frames[3], look, arm[3], path).mean() > 2


def test_hits_on_a_real_clip_count_and_those_of_a_frozen_one_do_not():
    clip, look = drummer(100), kit_look(100, 20, 64)
    own = count_hits(clip.frames, look, clip.extras['onset_frame'], 2)
    assert hit_shares([own])['f1'] > .8
    assert count_hits(clip.frames[[0] * 20], look, clip.extras['onset_frame'], 2).pairs <= 1
    late = count_hits(clip.frames, look, clip.extras['onset_frame'], 10)        # what was given does not count
    assert late.heard == len(np.unique(clip.extras['onset_frame'][clip.extras['onset_frame'] >= 10])) < own.heard and late.seen < own.seen


def test_end_rows_tell_a_cheat_from_a_perfect_model():
    real = torch.from_numpy(pusher(1, 8, 32).frames)[None]
    frozen = real[:, 1:2].expand(-1, 6, -1, -1, -1)
    rows = end_rows(torch.cat([frozen[:, 1:], real[:, -1:]], 1), frozen, real)
    assert rows['told_last'][0] > 60 and rows['untold_last'][0] == rows['copy_last'][0] < 40
    assert rows['told_before'][0] == rows['untold_before'][0] == rows['copy_before'][0]


def test_the_judge_of_labels_is_kept_and_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr(asking, 'NAMER_SEEDS', 50)
    first = ready_namer(CFG, tmp_path)
    monkeypatch.setattr(asking, 'train_namer', None)
    again = ready_namer(CFG, tmp_path)
    clips = torch.randint(256, (2, 5, 3, 32, 32), dtype=torch.uint8)
    assert torch.equal(first(clips), again(clips))


def test_sound_at_another_rate_is_refused():
    model = toy(sound=True)
    model.cfg = replace(model.cfg, fps=30.)
    with pytest.raises(ValueError, match='frames per second'): ask_hits(model, range(1), CFG)


def test_labels_of_another_world_are_refused():
    with pytest.raises(ValueError, match='classes'): ask_labels(toy(labels=3), range(1), CFG, None)


def test_the_shipped_model_goes_where_it_is_told():
    "What its card says, on three clips and six frames: with its path far nearer than without."
    asked = ask_paths(load('worlds/pusher32'), range(1, 4), replace(CFG, given=1, length=6, batch=3)).rows
    assert asked['told'].mean() < .6 * asked['untold'].mean() and asked['drawn'].mean() < .6 * asked['drawn_untold'].mean(), {name: rows.mean() for name, rows in asked.items()}
