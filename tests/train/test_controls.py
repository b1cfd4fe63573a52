"Each stage that leads a model learns one small batch by heart, repeats itself, and does not notice that it was stopped."
from dataclasses import replace
from itertools import islice

import pytest
import torch

from ccvs.codec.frame import PRESETS as CODECS, build_frame_codec
from ccvs.codec.sound import PRESETS as SOUNDS, build_sound_codec
from ccvs.control.end_frame import end_control, end_prefix
from ccvs.control.label import label_control, label_prefix
from ccvs.control.layout import token_control
from ccvs.core.seed import torch_rng
from ccvs.data.sound import sound_slices
from ccvs.data.worlds import render
from ccvs.prior.pose import PRESETS as POSES, build_pose
from ccvs.prior.transformer import PRESETS as TRANSFORMERS, TransformerCfg, build_transformer
from ccvs.synth.sampling import SamplingCfg, generate
from ccvs.train.pieces import latest_checkpoint, load_checkpoint, restore_parts, run_parts, save_checkpoint
from ccvs.train.prior import PriorLoopCfg, held_out_loss, start_prior, train_prior
from ccvs.train.steered.controls import Plan
from ccvs.train.steered.pose import Places, PoseLoopCfg, pose_error, start_pose, train_pose
from ccvs.train.steered.sound import SoundLoopCfg, sample_slices, sound_error, start_sound, train_sound

pytestmark = pytest.mark.usefixtures('one_thread')


def toy_codec():
    torch.manual_seed(0)
    codec = build_frame_codec(CODECS['tiny']).eval().requires_grad_(False)
    codec.quantizer.embedding.weight.normal_(generator=torch_rng(0))
    return codec


def places(count):
    "Frames of random codes at random places: nothing to understand, only to remember."
    return Places(torch.randint(32, (count, 4, 4), generator=torch_rng(1)).short(), torch.rand(count, 2, generator=torch_rng(2)))


def fresh_pose(cfg):
    torch.manual_seed(0)
    return start_pose(build_pose(POSES['tiny']), cfg)


def test_places_are_learnt_by_heart():
    codec, known, cfg = toy_codec(), places(16), PoseLoopCfg(200, batch=16, check_every=50)
    run = fresh_pose(cfg)
    rows = list(train_pose(run, codec, known, known, cfg))
    assert rows[-1]['recon'] < .1 * rows[0]['recon']
    checks = [row['held_out'] for row in rows if 'held_out' in row]
    assert len(checks) == 4 and pose_error(run.best, codec, known) == pytest.approx(min(checks)) and min(checks) < .01


def toy_slices(clips=3):
    return torch.stack([sound_slices(render('drummer', seed, 8, 32).extras['sound'], 10, 8, SOUNDS['tiny'].slices) for seed in range(clips)])


def fresh_sound(cfg, slices):
    torch.manual_seed(0)
    return start_sound(build_sound_codec(SOUNDS['tiny']), slices, cfg)


def test_sounds_are_learnt_by_heart():
    slices, cfg = toy_slices(), SoundLoopCfg(180, batch=3, frames=8, max_stride=1, lr=.01, from_data=True, check_every=50)
    run = fresh_sound(cfg, slices)
    rows = list(train_sound(run, slices, slices, cfg))
    assert rows[-1]['recon'] < .5 * rows[0]['recon'] and sound_error(run.best, slices) < .6 * slices.var()
    assert sound_error(run.best, slices) == pytest.approx(min(row['held_out'] for row in rows if 'held_out' in row), rel=1e-5)


def test_windows_of_sound_keep_their_stride_and_stay_in_the_clip():
    count = torch.arange(90.).view(1, 90, 1, 1, 1)
    frames = torch.cat([sample_slices(count, SoundLoopCfg(batch=64), torch_rng(step))[..., 0, 0, 0] for step in range(4)])
    steps = frames[:, 1:] - frames[:, :-1]
    assert frames.shape == (256, 16) and (steps == steps[:, :1]).all() and set(steps[:, 0].tolist()) == {1, 2, 3, 4, 5}
    assert frames.min() >= 0 and frames.max() <= 89


@pytest.mark.parametrize('kind', ['pose', 'sound'])
def test_stopping_changes_nothing_and_another_seed_does(kind, tmp_path):
    codec, known, slices = toy_codec(), places(8), toy_slices(2)
    cfg = PoseLoopCfg(9, batch=4, check_every=3) if kind == 'pose' else SoundLoopCfg(9, batch=2, frames=4, max_stride=2, check_every=3)
    fresh = lambda: fresh_pose(cfg) if kind == 'pose' else fresh_sound(cfg, slices)
    loop = lambda run, **more: train_pose(run, codec, known, known, cfg, **more) if kind == 'pose' else train_sound(run, slices, slices, cfg, **more)
    whole = fresh()
    rows, run, found = list(loop(whole)), fresh(), []
    found += islice(loop(run), 5)
    save_checkpoint(tmp_path, 5, run_parts(run))
    run, saved = fresh(), load_checkpoint(latest_checkpoint(tmp_path))
    restore_parts(run, saved.parts)
    found += loop(run, start=5, best=min(row['held_out'] for row in found if 'held_out' in row))
    assert found == rows and rows != list(loop(fresh(), seed=1))
    for a, b in zip((run.net, run.best), (whole.net, whole.best)): assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values()))


SIZES = dict(vocab=16, layers=2, heads=2, width=32, grid=(2, 2), frames=8)
LOOP = PriorLoopCfg(steps=250, batch=8, lr=5e-3, warmup=10, weight_decay=0., decay=True, ema=.9)
GREEDY = SamplingCfg(greedy=True)


def learn(cfg, codes, controls, **more):
    run = start_prior(build_transformer(cfg, torch.Generator().manual_seed(0)), LOOP)
    rows = list(train_prior(run, codes, LOOP, controls=controls, **more))
    assert rows[-1]['loss'] < rows[0]['loss']
    return run.averaged.net


def painted(numbers):  # (N, T) -> (N, T, 2, 2): a frame that is one number all over
    return numbers[..., None, None].expand(-1, -1, 2, 2).short()


def test_a_prior_learns_to_obey_control_tokens():
    "Frames repeat their control token, which is random: only a model that looks at it can know the next frame. Then it obeys tokens that it never saw in this order."
    steer = torch.randint(8, (64, 6, 1), generator=torch_rng(5))
    cfg = TransformerCfg(**SIZES, capacity=30, control_vocab=8, control_tokens=1)
    codes = painted(steer[..., 0])
    net = learn(cfg, codes, [token_control(steer)])
    told = torch.randint(8, (16, 12, 1), generator=torch_rng(6))
    made = generate(net, painted(told[:, :1, 0]).flatten(1).long(), 11, cfg=GREEDY, control=told)
    assert (made == painted(told[:, 1:, 0])).float().mean() > .95                      # also beyond the window of six frames


def test_a_prior_learns_to_arrive_at_the_end_frame():
    "Clips count up by 0, 1 or 2: the first frame does not say by how much, the end frame does."
    start, pace = torch.randint(16, (96, 1), generator=torch_rng(7)), torch.randint(3, (96, 1), generator=torch_rng(8))
    codes = painted((start + pace * torch.arange(6)) % 16)
    cfg = TransformerCfg(**SIZES, capacity=24)
    net = learn(cfg, codes, [end_control(cfg)], frames=6)
    made = generate(net, codes[:, 0].flatten(1).long(), 4, cfg=GREEDY, prefix=end_prefix(codes[:, 5].long(), 5, cfg))
    assert (made == codes[:, 1:5]).float().mean() > .9


def test_a_prior_learns_labels():
    "The class says how the clip begins and how it goes on."
    labels = torch.arange(3).repeat(20)
    codes = painted((labels[:, None] * 5 + torch.arange(4) * (labels[:, None] + 1)) % 16)
    cfg = TransformerCfg(**SIZES, capacity=16, labels=3)
    net = learn(cfg, codes, [label_control(labels, cfg)])
    made = generate(net, codes.new_zeros(3, 0).long(), 4, cfg=GREEDY, prefix=label_prefix(torch.arange(3), cfg))
    assert torch.equal(made, codes[:3].long())


def test_held_out_loss_is_the_same_twice_and_leaves_the_random_numbers_alone():
    codes = torch.randint(16, (10, 6, 2, 2), generator=torch_rng(9)).short()
    cfg = TransformerCfg(**SIZES, capacity=24)
    net = build_transformer(cfg, torch_rng(0))
    torch.manual_seed(1)
    one = held_out_loss(net, codes, controls=[end_control(cfg, (3, 5))], frames=6)
    drawn = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), drawn) and held_out_loss(net, codes, controls=[end_control(cfg, (3, 5))], frames=6) == one


def test_known_paths_are_those_of_the_clips_and_of_their_mirror_images(tmp_path):
    "The tokens of clip i at frame t say where its arm is, and those of its mirror image where it is in the mirror."
    from ccvs.control.layout import Windows
    from ccvs.core.networks import save_net
    from ccvs.prior.transformer import PRESETS as TRANSFORMERS
    from ccvs.train.source import open_clips
    from ccvs.train.steered.controls import Material, make_plan
    pose = build_pose(POSES['tiny'])
    with torch.no_grad(): pose.quantizer.embedding.weight.copy_((torch.arange(32.) + .5)[:, None] / 32)
    save_net(pose, tmp_path / 'pose', 'pose')
    clips = open_clips('worlds/pusher', 3, 8, 32, sides=('state',))
    plan = make_plan(TRANSFORMERS['tiny'], 'known_path', Material(tmp_path, toy_codec(), clips, torch.zeros(6, 8, 4, 4).short(), 10))
    windows = Windows(torch.zeros(2, 5, 4, 4, dtype=torch.long), torch.tensor([1, 4]), torch.tensor([2, 2]))
    found = pose.decode(plan.controls[0](windows)[0].control) * 32 - .5
    arm = torch.as_tensor(clips.side(1, 'state'))[2:7].float()
    assert (found[0] - arm).abs().max() <= .5 + 1e-4                                       # half of 32 pixels / 32 bins
    assert (found[1] - torch.stack([31 - arm[:, 0], arm[:, 1]], 1)).abs().max() <= .5 + 1e-4


def test_told_says_what_control_tokens_count():
    steer, cfg = torch.randint(8, (16, 6, 1), generator=torch_rng(5)), TransformerCfg(**SIZES, capacity=30, control_vocab=8, control_tokens=1)
    losses = [next(train_prior(start_prior(build_transformer(cfg, torch.Generator().manual_seed(0)), LOOP), painted(steer[..., 0]), replace(LOOP, told=told),
                               controls=[token_control(steer)]))['loss'] for told in (0., .5, 1.)]
    assert losses[0] < losses[1] < losses[2] and losses[1] == pytest.approx((losses[0] + losses[2]) / 2, rel=1e-5)


def test_a_plan_with_a_path_says_what_its_tokens_stand_for():
    pose = build_pose(POSES['tiny'])
    with torch.no_grad(): pose.quantizer.embedding.weight.copy_(torch.rand(POSES['tiny'].bins, 1))
    assert torch.equal(Plan(TRANSFORMERS['tiny'], pose=pose).places, pose.quantizer.embedding.weight[:, 0]) and Plan(TRANSFORMERS['tiny']).places is None
