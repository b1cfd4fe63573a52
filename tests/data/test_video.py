"One frame number, one picture: every kind of file, with and without decord."
from fractions import Fraction

import av
import numpy as np
import pytest
import torch

from ccvs.data.video import scan
from ccvs.data.video import VideoError, fit, frame_times, probe, read_sound, read_video, reader_name, write_video


def numbered(frames=40, height=32, width=48):
    "Frame t carries t in binary, as 6 vertical stripes of black or white."
    bits = (np.arange(frames)[:, None] >> np.arange(6)) & 1
    rows = np.repeat(bits * 255, width // 6, 1)
    return torch.from_numpy(np.broadcast_to(rows[:, None, None], (frames, 3, height, width)).astype(np.uint8).copy())


def numbers_in(clip):
    "Read the stripes back."
    width = clip.shape[-1] // 6
    bits = clip.float().mean((1, 2)).unflatten(1, (6, width)).mean(2) > 128
    return (bits.long() * 2 ** torch.arange(6)).sum(1).tolist()


def encode(path, clip, stamps=None, rotation=0, container=None, frames_between=2):
    "A file of another kind than `write_video` makes: B-frames, uneven stamps, rotation, other containers."
    with av.open(str(path), 'w', format=container) as file:
        stream = file.add_stream('h264', rate=25, options=dict(crf='10', g='12', bf=str(frames_between), threads='1'))
        stream.height, stream.width, stream.pix_fmt = *clip.shape[2:], 'yuv420p'
        if rotation: stream.set_display_rotation(rotation)
        for n, picture in enumerate(clip.permute(0, 2, 3, 1).numpy()):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format='rgb24')
            if stamps is not None: frame.pts, frame.time_base = stamps[n], Fraction(1, 25)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))


def cut_without_decoding(source, target, seconds):
    "What a lossless cutter does: copy packets from the keyframe before, and hide the surplus with an edit list."
    with av.open(str(source)) as old, av.open(str(target), 'w') as new:
        track = old.streams.video[0]
        copy, shift = new.add_stream_from_template(track), int(seconds / track.time_base)
        old.seek(shift, stream=track)
        for packet in old.demux(track):
            if packet.dts is None: continue
            packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, copy
            new.mux(packet)


@pytest.fixture(params=['decord', 'PyAV'])
def reader(request, monkeypatch):
    "Every test runs with decord, and again as on a machine without it."
    if request.param == 'PyAV': monkeypatch.setattr(scan, 'decord_module', lambda: None)
    elif scan.decord_module() is None: pytest.skip('decord does not install here')
    scan._scan_once.cache_clear()
    yield request.param
    scan._scan_once.cache_clear()


@pytest.mark.parametrize('kind', ['plain', 'b_frames', 'mkv', 'avi', 'mpegts', 'uneven', 'edit_list'])
def test_every_frame_number_means_its_frame(tmp_path, reader, kind):
    clip, first = numbered(), 0
    path = tmp_path / f"x.{dict(mkv='mkv', avi='avi', mpegts='ts').get(kind, 'mp4')}"
    if kind == 'plain': write_video(path, clip, fps=25)
    elif kind == 'uneven': encode(path, clip, stamps=np.cumsum([0] + [1, 3, 1, 5] * 10)[:40].tolist())
    elif kind == 'edit_list':
        encode(tmp_path / 'whole.mp4', clip)
        cut_without_decoding(tmp_path / 'whole.mp4', path, seconds=15 / 25)
        first = 15
        with av.open(str(path)) as file: packets = [p.is_discard for p in file.demux(video=0) if p.size]
        assert any(packets), 'the file must have hidden frames, else this tests nothing'
    else: encode(path, clip, frames_between=0 if kind == 'avi' else 2)

    info = probe(path)
    assert info.frames == 40 - first
    assert info.reader == ('PyAV' if kind in ('mpegts', 'edit_list') else reader)
    assert numbers_in(read_video(path)) == list(range(first, 40))
    for start, count, step in [(0, 1, 1), (1, 3, 1), (11, 4, 1), (12, 2, 5), (23, 1, 1), (5, 3, 9), (info.frames - 1, 1, 1)]:
        wanted = [first + start + i * step for i in range(count)]
        if wanted[-1] < 40: assert numbers_in(read_video(path, start, count, step)) == wanted


def test_rotated_files_come_upright_from_both_readers(tmp_path, reader):
    picture = torch.zeros(3, 3, 32, 48, dtype=torch.uint8)
    picture[:, 0, :16, :24] = 255                                     # red, top left
    write_video(tmp_path / 'r.mp4', picture)
    for angle, corner in [(90, (0, -1)), (180, (-1, -1)), (270, (-1, 0))]:   # where red must be after turning clockwise
        path = tmp_path / f'{angle}.mp4'
        encode(path, picture, rotation=-angle)
        clip = read_video(path)
        assert probe(path).rotation == angle
        assert tuple(clip.shape[2:]) == (probe(path).height, probe(path).width) == ((48, 32) if angle % 180 else (32, 48))
        y, x = (8 if corner[0] == 0 else -8), (8 if corner[1] == 0 else -8)
        red = clip[0, 0, :, :] > 128
        assert red[y, x] and red.float().mean() == pytest.approx(.25, abs=.05)


def test_both_readers_give_the_same_pixels(tmp_path, monkeypatch):
    if scan.decord_module() is None: pytest.skip('decord does not install here')
    clip = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (6, 3, 8, 8), np.uint8))
    clip = torch.nn.functional.interpolate(clip.float(), (64, 64), mode='bilinear').to(torch.uint8)
    write_video(tmp_path / 'x.mp4', clip)
    one = read_video(tmp_path / 'x.mp4', size=32)
    monkeypatch.setattr(scan, 'decord_module', lambda: None); scan._scan_once.cache_clear()
    two = read_video(tmp_path / 'x.mp4', size=32)
    scan._scan_once.cache_clear()
    torch.testing.assert_close(one, two, rtol=0, atol=4)              # two colour converters round differently


def test_uneven_frames_are_resampled_by_time(tmp_path, reader):
    encode(tmp_path / 'x.mp4', numbered(4), stamps=[0, 1, 5, 6])      # in 1/25 s
    assert not probe(tmp_path / 'x.mp4').steady
    np.testing.assert_allclose(frame_times(tmp_path / 'x.mp4'), np.array([0, 1, 5, 6]) / 25, atol=1e-6)  # time base
    assert numbers_in(read_video(tmp_path / 'x.mp4', fps=25))[:7] == [0, 1, 1, 1, 1, 2, 3]
    assert numbers_in(read_video(tmp_path / 'x.mp4', start=1, count=2, step=4, fps=25)) == [1, 2]


def test_a_frame_that_is_not_there_is_an_error(tmp_path, reader):
    write_video(tmp_path / 'x.mp4', numbered(10))
    for span in [(8, 3, 1), (-1, 2, 1), (0, 0, 1), (10, None, 1), (0, 2, 0)]:
        with pytest.raises(VideoError, match='x.mp4.*it has 10'): read_video(tmp_path / 'x.mp4', *span)


def test_a_changed_file_is_scanned_again(tmp_path, reader):
    write_video(tmp_path / 'x.mp4', numbered(10)); assert probe(tmp_path / 'x.mp4').frames == 10
    write_video(tmp_path / 'x.mp4', numbered(12)); assert probe(tmp_path / 'x.mp4').frames == 12


@pytest.mark.parametrize('shape,size,want', [((40, 80), 20, (20, 20)), ((40, 80), (20, 10), (20, 10)), ((7, 5), 16, (16, 16))])
def test_fit_cuts_the_centre_and_squeezes_nothing(shape, size, want):
    H, W = shape
    y, x = torch.meshgrid(torch.arange(H) - (H - 1) / 2, torch.arange(W) - (W - 1) / 2, indexing='ij')
    disc = (((x ** 2 + y ** 2) < (min(H, W) / 4) ** 2) * 255).to(torch.uint8).expand(1, 3, H, W)
    small = fit(disc, size)[0, 0] > 128
    assert tuple(small.shape) == want
    tall, wide = small.any(1).sum(), small.any(0).sum()
    assert abs(int(tall) - int(wide)) <= 1 + max(want) // 8            # a disc stays round


def test_odd_sides_are_padded_with_a_copy(tmp_path):
    clip = numbered(3)[..., :31, :47]
    write_video(tmp_path / 'x.mp4', clip)
    back = read_video(tmp_path / 'x.mp4')
    assert back.shape == (3, 3, 32, 48)
    assert (back[..., :31, :47].int() - clip.int()).abs().float().mean() < 6      # crf 18, colour at half size


@pytest.mark.parametrize('channels,rate', [(1, 16_000), (2, 44_100)])
def test_sound_keeps_length_pitch_and_place(tmp_path, channels, rate):
    time = np.arange(int(1.37 * rate)) / rate
    tone = .5 * np.sin(2 * np.pi * 440 * time) * (time > .5)
    write_video(tmp_path / 'x.mp4', numbered(14), fps=10, sound=np.stack([tone] * channels), rate=rate)
    heard, got = read_sound(tmp_path / 'x.mp4')
    assert got == rate and heard.shape == (channels, len(time)) and heard.dtype == np.float32
    peak = np.abs(np.fft.rfft(heard[0])).argmax() * rate / heard.shape[1]
    assert abs(peak - 440) < 1
    onset = (np.abs(heard[0]) > .25).argmax() / rate
    assert abs(onset - .5) < .01                                       # AAC smears an onset by some ms
    slow, got = read_sound(tmp_path / 'x.mp4', rate=8_000)
    assert got == 8_000 and abs(slow.shape[1] - 1.37 * 8_000) <= 32    # a resampler's filter length


def test_a_failed_write_leaves_the_old_file(tmp_path):
    write_video(tmp_path / 'x.mp4', numbered(4))
    before = (tmp_path / 'x.mp4').read_bytes()
    with pytest.raises(VideoError, match='x.mp4'): write_video(tmp_path / 'x.mp4', numbered(4), sound=np.zeros(100), rate=12_345)
    assert (tmp_path / 'x.mp4').read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ['x.mp4']


def test_a_clip_of_any_rate_keeps_it(tmp_path):
    for fps in (4, 12.5, 29.97, 60):
        write_video(tmp_path / 'x.mp4', numbered(8), fps=fps)
        assert probe(tmp_path / 'x.mp4').fps == pytest.approx(fps, rel=1e-4)
        assert probe(tmp_path / 'x.mp4').steady


def test_the_machine_says_which_reader_it_has(monkeypatch):
    assert 'PyAV' in reader_name()
    monkeypatch.setattr(scan, 'decord_module', lambda: None)
    assert 'no decord' in reader_name()
