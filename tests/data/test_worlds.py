"""Every world: same bits from a seed, exact motion, any even size, sound extras. `python -m tests.data.test_worlds` prints new pins."""
import ast
import json
import os
import subprocess
import sys
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from ccvs.data.worlds import WORLDS, render
from ccvs.data.worlds.plant import plant

PINS = Path(__file__).with_name('worlds_sha256.json')
PINNED = [(world, seed, size) for world in WORLDS for seed in (0, 1) for size in (32, 64)]
every_world = pytest.mark.parametrize('world', WORLDS)


@lru_cache(None)
def clip_of(world, seed=0, frames=20, size=64):
    return render(world, seed, frames, size)


def digest(clip):
    "SHA-256 of everything in a clip; a NaN is a NaN, whatever its bits."
    total = sha256()
    for name, array in sorted({**clip._asdict(), **clip.extras}.items()):
        if name == 'extras':
            continue
        array = np.ascontiguousarray(array)
        if array.dtype.kind == 'f':
            array = np.where(np.isnan(array), np.array(np.nan, array.dtype), array)
        total.update(f'{name} {array.dtype.str} {array.shape}'.encode() + array.tobytes())
    return total.hexdigest()


def pins():
    return {f'{world} seed {seed} size {size}': digest(clip_of(world, seed, 20, size)) for world, seed, size in PINNED}


@pytest.mark.parametrize('world, seed, size', PINNED)
def test_pinned_bits(world, seed, size):
    name = f'{world} seed {seed} size {size}'
    found = digest(clip_of(world, seed, 20, size))
    assert found == json.loads(PINS.read_text()).get(name), f'{name} has changed: models trained on it will notice'


def test_same_bits_in_a_fresh_process_on_an_older_processor():
    code = 'import json; from tests.data.test_worlds import pins; print(json.dumps(pins()))'
    features = np._core._multiarray_umath  # numpy is told to do without its fast paths for this processor
    fast = [name for name in features.__cpu_dispatch__ if features.__cpu_features__[name]]
    env = os.environ | {'PYTHONHASHSEED': '7', 'OMP_NUM_THREADS': '1', 'NPY_DISABLE_CPU_FEATURES': ' '.join(fast)}
    done = subprocess.run([sys.executable, '-c', code], cwd=Path(__file__).parents[2], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == pins()


def test_only_exactly_defined_arithmetic():
    "Sines, powers, matrix products and numpy's other random numbers may differ between machines."
    allowed = set('''abs add append arange argsort array asarray ascontiguousarray bincount broadcast_arrays ceil clip concatenate
        cumsum diff empty empty_like flatnonzero float32 floor full inf maximum minimum multiply nan nonzero ones pi random repeat
        sqrt stack subtract uint8 where zeros'''.split())
    for path in sorted(Path(WORLDS['pusher'].__code__.co_filename).parent.glob('*.py')):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and getattr(node.value, 'id', '') == 'np':
                assert node.attr in allowed, f'{path.name}: np.{node.attr}'
            if isinstance(node, ast.Attribute) and getattr(node.value, 'id', '') == 'random':
                assert node.attr == 'random', f'{path.name}: random.{node.attr}'
            if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Pow, ast.MatMult)):  # squares are products
                known = isinstance(node.left, ast.Constant) or getattr(node.right, 'value', None) == 2
                assert known, f'{path.name}: a power or a matrix product'
            if isinstance(node, ast.ImportFrom) and node.module == 'math':
                assert {name.name for name in node.names} <= {'sqrt', 'floor', 'ceil', 'pi'}, path.name


@every_world
def test_a_clip_has_its_shapes_and_moves(world):
    clip = clip_of(world)
    assert clip.frames.shape == (20, 3, 64, 64) and clip.frames.dtype == np.uint8
    for motion in (clip.motion_next, clip.motion_last):
        assert motion.shape == (20, 2, 64, 64) and motion.dtype == np.float32
        assert np.isfinite(motion).all() and np.abs(motion[-1]).max() == 0
    for occluded in (clip.occluded_next, clip.occluded_last):
        assert occluded.shape == (20, 64, 64) and occluded.dtype == bool and not occluded[-1].any()
    assert np.array_equal(clip.motion_next[-2], clip.motion_last[-2])
    assert np.abs(clip.motion_next).max() > 1, 'nothing moves'
    assert clip.frames.std() > 10, 'there is nothing to see'


@every_world
def test_extras_are_numbers(world):
    for name, value in clip_of(world).extras.items():
        assert isinstance(value, np.ndarray) and value.dtype.kind in 'fiub', name
        if value.dtype.kind == 'f':
            assert not np.isinf(value).any() and not np.isnan(value).all(), name


@pytest.mark.parametrize('world, name', [('pusher', 'objects'), ('plant', 'nodes')])
def test_padding_is_the_same_in_all_frames(world, name):
    absent = np.isnan(clip_of(world).extras[name])
    assert absent.any() and np.array_equal(absent.all((0, 2)), absent.any((0, 2)))


@every_world
def test_seeds_differ(world):
    heads = {clip_of(world, seed, 2, 32).frames.tobytes() for seed in range(12)}
    assert len(heads) == 12


@every_world
def test_even_sizes(world):
    for size in (32, 34, 50, 98, 162, 254, 256):
        clip = render(world, 1, 2, size)
        assert clip.frames.shape == (2, 3, size, size) and clip.motion_next.shape == (2, 2, size, size)


@every_world
def test_every_size_shows_the_same_clip(world):
    small, large = clip_of(world, 1).frames.astype(float), clip_of(world, 1, 20, 128).frames.astype(float)
    halved = large.reshape(20, 3, 64, 2, 64, 2).mean((3, 5))
    wrong = np.abs(halved - np.roll(small, 1, 0)).mean()
    assert np.abs(halved - small).mean() < 8  # of 255; grain finer than a pixel differs
    assert np.abs(halved - small).mean() < wrong


def sampled(frame, x, y):
    "Bilinear samples of a (3, S, S) frame."
    last = frame.shape[1] - 1.001
    x, y = x.clip(0, last), y.clip(0, last)
    i, j = x.astype(int), y.astype(int)
    fx, fy = x - i, y - j
    upper = frame[:, j, i] * (1 - fx) + frame[:, j, i + 1] * fx
    lower = frame[:, j + 1, i] * (1 - fx) + frame[:, j + 1, i + 1] * fx
    return upper * (1 - fy) + lower * fy


def inside(motion, occluded):
    "Moving pixels away from borders: they and their neighbours stay visible and move alike."
    shifts = [np.s_[..., 1 + dy:len(occluded) - 1 + dy, 1 + dx:len(occluded) - 1 + dx] for dx in (-1, 0, 1) for dy in (-1, 0, 1)]
    middle = motion[:, 1:-1, 1:-1]
    alike = np.abs([motion[shift] - middle for shift in shifts]).max((0, 1)) < .6
    good = np.zeros(occluded.shape, bool)
    good[1:-1, 1:-1] = alike & ~np.any([occluded[shift] for shift in shifts], 0) & (np.abs(middle).max(0) > .5)
    return good


def warp_errors(clip, motions, occlusions, targets):
    "Errors on inner moving pixels: warped, and as it stands."
    y, x = np.mgrid[:clip.frames.shape[2], :clip.frames.shape[3]]
    warped, still = [], []
    for t, target in enumerate(targets):
        mask = inside(motions[t], occlusions[t])
        now, then = clip.frames[t].astype(float), clip.frames[target].astype(float)
        guess = sampled(then, x + motions[t, 0], y + motions[t, 1])
        warped.append(np.abs(guess - now).mean(0)[mask])
        still.append(np.abs(then - now).mean(0)[mask])
    return np.concatenate(warped), np.concatenate(still)


@every_world
@pytest.mark.parametrize('last', [False, True], ids=['next', 'last'])
def test_warping_by_the_motion_reproduces_the_frame(world, last):
    clips = [clip_of(world, seed, 20, 128) for seed in range(4)]
    errors = [warp_errors(clip, clip.motion_last, clip.occluded_last, [19] * 19) if last else
              warp_errors(clip, clip.motion_next, clip.occluded_next, range(1, 20)) for clip in clips]
    warped, still = (np.concatenate(part) for part in zip(*errors))
    assert len(warped) > 200, 'too little moves to judge'
    warped, still = warped.mean(), still.mean()
    print(f'{world}: {warped:.1f} warped, {still:.1f} as it stands')
    assert warped < 6 and warped < still / 4  # of 255; what is left is the blur of sampling and the texture of single pixels


@pytest.mark.parametrize('changes, words', [
    (dict(world='pony'), 'pusher, plant'), (dict(seed=-1), 'seed is between'), (dict(seed=.5), 'whole number'),
    (dict(frames=1), 'at least 2'), (dict(size=63), 'even'), (dict(size=30), '32 to 256'), (dict(size=258), '32 to 256')])
def test_wrong_arguments_are_refused_with_a_sentence(changes, words):
    with pytest.raises(ValueError, match=words):
        render(**{**dict(world='plant', seed=0, frames=2, size=32), **changes})


def at_points(motion, points):
    "Motion (T, 2, S, S) at the pixels nearest to points (T, K, 2): (T, K, 2)."
    column, row = np.floor(points + .5).astype(int).clip(0, motion.shape[-1] - 1).transpose(2, 0, 1)
    return motion[np.arange(len(points))[:, None], :, row, column]


def test_visible_keypoints_move_with_their_pixels():
    for seed in range(5):
        clip = clip_of('dancer', seed)
        points, seen = clip.extras['keypoints'], clip.extras['visible']
        away = np.abs(at_points(clip.motion_next, points)[:-1] - np.diff(points, axis=0)).max(-1)[seen[:-1]]
        assert np.median(away) < .2 and (away < 1.5).mean() > .9, f'seed {seed}'  # a pixel off the joint may lie on the next bone


def test_hidden_and_visible_keypoints_both_occur():
    seen = np.stack([clip_of('dancer', seed).extras['visible'] for seed in range(8)])
    assert .4 < seen.mean() < .97 and seen.any((0, 1)).all() and (~seen).any((0, 1)).all()


def test_a_plant_rests_is_pulled_and_comes_to_rest():
    for seed in range(4):
        clip = render('plant', seed, 60, 64)
        nodes, (x, y, dx, dy, start, end) = clip.extras['nodes'], clip.extras['poke']
        nodes = nodes[:, np.isfinite(nodes[0, :, 0])]
        away = np.sqrt(((nodes - nodes[0]) ** 2).sum(-1))
        held = np.sqrt(((nodes[int(start)] - (x, y)) ** 2).sum(-1)).argmin()
        pulled = (nodes[int(end), held] - nodes[int(start), held]) @ (dx, dy) / (dx * dx + dy * dy)
        assert away[:int(start) + 1].max() < 1e-6          # nothing moves before the poke (rounding aside)
        assert .5 < pulled < 1.3                           # the hand takes the joint along
        assert away.max() > 4 and away[-10:].max() < .25 * away.max()


def test_wind_moves_a_plant_all_along():
    calm, windy = plant(1), plant(1, wind=1.)
    assert np.abs(windy.motion_next[:1]).max() > .2 > np.abs(calm.motion_next[:1]).max()


if __name__ == '__main__':
    PINS.write_text(json.dumps(pins(), indent=1) + '\n')
    print(f'{len(PINNED)} pins written to {PINS.name}')
