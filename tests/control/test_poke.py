"""Pokes from motion, from key points and by hand (iPOKE spec 6); the recorded draws are in tests/parity."""
import pytest
import torch

from ccvs.control.hand import centre_square, fan, official_fan, pokes_by_hand
from ccvs.control.poke import (PokeCfg, draw_count, draw_keypoints, idle_pokes, moving_places, paint_pokes, pokes_from_keypoints,
                               pokes_from_motion, resize_motion)
from ccvs.core.seed import torch_rng
from ccvs.data.worlds import render

MARKED = PokeCfg(5, 3, marked=True, still=2)


def motion_of(seed=3, world='plant'): return torch.from_numpy(render(world, seed, 16).motion_last[0])


@pytest.mark.parametrize('cfg', [PokeCfg(), PokeCfg(3, 1), MARKED], ids=['five', 'one', 'marked'])
def test_a_drawn_poke_carries_the_motion_at_its_centre(cfg):
    motion, border = motion_of(), cfg.size
    for i in range(20):
        pokes = pokes_from_motion(motion, cfg, torch_rng(i))
        rows = pokes.centres[pokes.centres[:, 0] >= 0]
        assert 1 <= len(rows) <= cfg.most + cfg.still and pokes.centres.shape == (cfg.most + cfg.still, 2)
        assert ((rows >= border) & (rows < 64 - border)).all()
        row, column = rows[-1].tolist()                                  # the last one lies on top
        assert pokes.map[:2, row, column].equal(motion[:, row, column])
        assert not pokes.map[:, :border - 2].any()


def test_draws_repeat_and_differ():
    motion = motion_of()
    one, two, other = (pokes_from_motion(motion, PokeCfg(), torch_rng(0, i)) for i in (0, 0, 1))
    assert one.map.equal(two.map) and not one.map.equal(other.map)


def test_marked_pokes_of_no_length_say_so():
    motion, seen = motion_of(), 0
    for i in range(20):
        shown = pokes_from_motion(motion, MARKED, torch_rng(i)).map
        assert set(shown[2].unique().tolist()) <= {0., 1.} and not shown[:2, shown[2] == 0].any()
        seen += ((shown[2] == 1) & ~shown[:2].any(0)).any().item()
    assert seen > 5


def test_idle_pokes_stand_on_the_background():
    motion = motion_of()
    for i in range(5):
        pokes = idle_pokes(motion, PokeCfg(), torch_rng(i))
        rows = pokes.centres[pokes.centres[:, 0] >= 0]
        assert not motion[:, rows[:, 0], rows[:, 1]].any() and pokes.map[:, rows[:, 0], rows[:, 1]].norm(dim=0).min() > 1


def test_nothing_moves():
    assert pokes_from_motion(torch.zeros(2, 32, 32), PokeCfg(), torch_rng(0)) is None
    assert idle_pokes(torch.zeros(2, 32, 32), PokeCfg(), torch_rng(0)) is None


def test_the_mask_keeps_pokes_on_the_foreground():
    motion = motion_of()
    left = torch.zeros(64, 64); left[:, :32] = 1
    assert (moving_places(motion, 5, left).rows[:, 1] < 32).all() and (moving_places(motion, 5).rows[:, 1] >= 32).any()


def test_resized_motion_is_in_pixels_of_the_model():
    motion = torch.full((2, 256, 256), 8.)
    assert (resize_motion(motion, 64) - 2).abs().max() < 1e-5 and (resize_motion(motion, 64, rescale=False) - 8).abs().max() < 1e-5


def test_counts():
    counts = [draw_count(100, PokeCfg(), torch_rng(0, i)) for i in range(300)]
    assert set(counts) == {1, 2, 3, 4, 5}
    assert draw_count(100, PokeCfg(most=4, always=True), torch_rng(0)) == 4
    official = [len(draw_keypoints(16, PokeCfg(), torch_rng(0, i), official=True)) for i in range(200)]
    assert set(official) == {1, 2, 3, 4} and max(len(draw_keypoints(16, PokeCfg(), torch_rng(0, i))) for i in range(200)) == 5


def test_key_points_near_the_edge_count_but_show_nothing():
    joints = torch.tensor([[.5, .5], [.01, .5]])
    pokes = pokes_from_keypoints(joints, joints + .1, torch.tensor([1, 0]), 64, PokeCfg(most=2))
    assert pokes.centres.tolist() == [[32, 0], [32, 32]] and pokes.map[:, 32, 32].tolist() == pytest.approx([6.4, 6.4], abs=1e-4)
    assert not pokes.map[..., :20].any()


def test_later_windows_lie_over_earlier_ones_and_are_cut_at_the_edge():
    pokes = paint_pokes(torch.tensor([[1., 0.], [2., 0.]]), torch.tensor([[0, 0], [0, 2]]), 16, PokeCfg(most=2))
    assert pokes.map[0, 0, :5].tolist() == [2., 2., 2., 2., 2.] and pokes.map[0, 3:].sum() == 0


@pytest.mark.parametrize('poke, words', [
    (((70, 10), (80, 10)), 'outside the image'),
    (((-1, 10), (80, 10)), 'outside the image'),
    (((5, 10), (80, 10)), 'outside the square'),
    ((5, 10), 'is not'),
    (((30, float('nan')), (3, 4)), 'is not'),
])
def test_pokes_that_cannot_be(poke, words):
    with pytest.raises(ValueError, match=words): pokes_by_hand([poke], (32, 64), 64, PokeCfg())


def test_no_pokes():
    with pytest.raises(ValueError, match='there is no poke'): pokes_by_hand([], (64, 64), 64, PokeCfg())


def test_points_follow_the_cut_and_the_scale():
    assert centre_square(100, 160) == (30, 0, 100)
    pokes = pokes_by_hand([((30, 0), (50, 20))], (100, 160), 50, PokeCfg(marked=True))
    assert pokes.centres[0].tolist() == [0, 0] and pokes.map[:, 0, 0].tolist() == [10., 10., 1.]
    assert pokes_by_hand([((129, 99), (129, 99))], (100, 160), 50, PokeCfg(marked=True)).centres[0].tolist() == [49, 49]


def test_a_poke_of_no_length_is_seen_only_when_marked():
    with pytest.warns(UserWarning, match='cannot see a poke of no length'): pokes_by_hand([((5, 5), (5, 5))], (64, 64), 64, PokeCfg())
    assert pokes_by_hand([((5, 5), (5, 5))], (64, 64), 64, MARKED).map[:, 5, 5].tolist() == [0., 0., 1.]


def test_fans():
    assert [poke[1] for poke in fan((8, 8), [(1, 2)])] == [(9, 10)]
    ends = torch.tensor([poke[1] for poke in fan((0, 0), 8, 5.)])
    assert ends.norm(dim=1).tolist() == pytest.approx([5.] * 8, abs=1e-5) and ends.sum(0).abs().max() < 1e-5
    maps = official_fan(motion_of(), torch.tensor([30, 30]), torch.tensor([0, 5]), torch.tensor([0., .5]), PokeCfg())
    assert maps[0, 1].abs().max() < 1e-5 < maps[0, 0, 30, 30] and maps[1, 0].abs().max() < 1e-5 < maps[1, 1, 30, 30]
