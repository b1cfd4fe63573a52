"The loops of iPOKE's first-stage networks learn, repeat themselves, and do not notice that they were stopped."
from itertools import cycle, islice

import numpy as np
import pytest
import torch

from ccvs.codec.image import PRESETS as IMAGE_SIZES, build_image_encoder
from ccvs.codec.poke import PRESETS as POKE_SIZES, build_poke_encoder
from ccvs.codec.video import PRESETS as VIDEO_SIZES, build_video_codec
from ccvs.core.config import override
from ccvs.core.seed import torch_rng
from ccvs.data.clips import ArrayClips, batches
from ccvs.data.worlds.plant import plant
from ccvs.nn.video.critics import ImageCritic, PatchCritic, TemporalCritic
from ccvs.train.pieces import latest_checkpoint, load_checkpoint, restore_parts, run_parts, save_checkpoint
from ccvs.train.poke import image_encoder, poke_encoder, video_codec
from ccvs.train.poke.video_codec import Joined, VideoLoopCfg, draw_choices, rate_at

pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.fixture(scope='module')
def clips():
    return ArrayClips(np.stack([plant(seed, frames=5, size=32).frames for seed in range(4)]))


@pytest.fixture(scope='module')
def pokes():
    "One batch: start frames, motion to the last frame, and a window of it where it is largest."
    scenes = [plant(seed, frames=16, size=32) for seed in range(4)]
    motion = torch.from_numpy(np.stack([scene.motion_last[0] for scene in scenes]))
    poke = torch.zeros_like(motion)
    for mark, moves in zip(poke, motion):
        row, column = divmod(moves[:, 2:-2, 2:-2].square().sum(0).argmax().item(), 28)
        mark[:, row:row + 5, column:column + 5] = moves[:, row + 2:row + 3, column + 2:column + 3]
    return dict(start=torch.from_numpy(np.stack([scene.frames[0] for scene in scenes])), poke=poke, motion=motion)


def fresh_video(cfg):
    torch.manual_seed(0)
    patch, clip = video_codec.CRITICS['tiny']
    return video_codec.start_video_run(build_video_codec(VIDEO_SIZES['tiny']), TemporalCritic(clip), PatchCritic(patch), cfg)


def fresh_image(cfg):
    torch.manual_seed(0)
    return image_encoder.start_image_run(build_image_encoder(IMAGE_SIZES['tiny']), ImageCritic(image_encoder.CRITICS['tiny']), cfg)


def fresh_poke(cfg):
    torch.manual_seed(0)
    return poke_encoder.start_poke_run(build_poke_encoder(POKE_SIZES['tiny']), cfg)


def ends(rows, name):
    return (np.mean([row[name] for row in part]) for part in (rows[:3], rows[-3:]))


def test_video_codec_learns_a_batch_by_heart(clips):
    cfg = override(video_codec.PRESETS['tiny'], steps=50, clip_from=40, patch_from=40)
    batch = next(batches(clips, 2, seed=0))
    rows = list(video_codec.train_video_codec(fresh_video(cfg), iter([batch] * 50), cfg))
    first, last = ends(rows, 'l1')
    assert last < .4 * first
    assert 'clip_hinge' in rows[-1] and 'clip_hinge' not in rows[0]


def test_image_encoder_learns_a_batch_by_heart(clips):
    cfg = override(image_encoder.PRESETS['tiny'], steps=50, critic_from=45)
    batch = dict(clip=next(batches(clips, 4, seed=0))['clip'][:, :1])
    rows = list(image_encoder.train_image_encoder(fresh_image(cfg), iter([batch] * 50), cfg))
    first, last = ends(rows, 'rec')
    assert last < .4 * first and rows[-1]['weight'] > 0


def test_poke_encoder_learns_a_batch_by_heart(pokes):
    cfg = override(poke_encoder.PRESETS['tiny'], steps=80)
    rows = list(poke_encoder.train_poke_encoder(fresh_poke(cfg), iter([pokes] * 80), cfg))
    first, last = ends(rows, 'rec')
    assert last < .4 * first and rows[-1]['logvar'] < 0 == round(rows[0]['logvar'])


SHORT = override(video_codec.PRESETS['tiny'], steps=6, clip_from=2, patch_from=3)
LOOPS = {
    'video': (fresh_video, SHORT, video_codec.train_video_codec),
    'image': (fresh_image, override(image_encoder.PRESETS['tiny'], steps=6, critic_from=2), image_encoder.train_image_encoder),
    'poke': (fresh_poke, override(poke_encoder.PRESETS['tiny'], steps=6), poke_encoder.train_poke_encoder)}


@pytest.mark.parametrize('name', LOOPS)
def test_stopping_changes_nothing_and_a_seed_gives_one_run(clips, pokes, name, tmp_path):
    "The whole run twice; then once more with everything thrown away in the middle but the checkpoint."
    fresh, cfg, loop = LOOPS[name]
    feed = lambda start: cycle([pokes]) if name == 'poke' else batches(clips, 2, seed=0, start_step=start)
    rows, again = (list(loop(fresh(cfg), feed(0), cfg)) for _ in range(2))
    assert rows == again and len(rows) == 6
    run = fresh(cfg)
    pieces = list(islice(loop(run, feed(0), cfg), 3))
    save_checkpoint(tmp_path, 3, run_parts(run))
    saved, run = load_checkpoint(latest_checkpoint(tmp_path)), fresh(cfg)
    restore_parts(run, saved.parts)
    assert pieces + list(loop(run, feed(3), cfg, start=3)) == rows


def test_another_seed_gives_another_run(clips):
    first, other = (list(video_codec.train_video_codec(fresh_video(SHORT), batches(clips, 2, seed=0), override(SHORT, steps=2), seed=seed)) for seed in (0, 1))
    assert first[1] != other[1]


def test_the_judged_stretch_reaches_the_last_frame_unless_published():
    codec = build_video_codec(VIDEO_SIZES['tiny'])
    def offsets(**more): return {draw_choices(1, codec, VideoLoopCfg(**more), torch_rng(0, step)).offset for step in range(40)}
    assert offsets(judge_last=False) == {0} and offsets() == {0, 1} and offsets(judged=2) == {0, 1, 2, 3}


def test_a_critic_that_is_not_there_does_not_move(clips):
    run = fresh_video(SHORT)
    before = [p.clone() for p in run.clip_critic.parameters()]
    frames, choices = next(batches(clips, 2, seed=0))['clip'].float() / 127.5 - 1, draw_choices(2, run.codec, SHORT, torch_rng(0))
    terms = video_codec.video_step(run, frames, choices, SHORT, joined=Joined(clip=False))
    assert all(torch.equal(a, b) for a, b in zip(before, run.clip_critic.parameters()))
    assert 'fooled_patch' in terms and 'fooled_clip' not in terms


def test_the_codec_turn_leaves_no_gradient_in_the_critics(clips):
    run = fresh_video(SHORT)
    played = run.codec(next(batches(clips, 2, seed=0))['clip'].float() / 127.5 - 1).frames
    video_codec._descend(run.codec_steps, -run.patch_critic(played.flatten(0, 1)).score.mean(), 1.)
    assert all(p.grad is None for p in run.patch_critic.parameters()) and run.codec.motion_bias.grad is not None


def test_rates():
    cfg = VideoLoopCfg(steps=100, decay=.5, epoch=10, anneal=.5)
    assert [rate_at(step, cfg) for step in (0, 9, 10, 50)] == [1, 1, .5, .5**5] and rate_at(75, cfg) == .5**7 * .5
