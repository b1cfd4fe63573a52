"Files that nobody has checked: each ends in one clear sentence, and nothing takes the program down."
import re
import time

import av
import numpy as np
import pytest

from ccvs.data.guard import file_checksum, inspect_video, vet, vet_many
from ccvs.data.video import write_video
from tests.data.broken_checks import misbehave


@pytest.fixture(scope='module')
def good(tmp_path_factory):
    "A file that decodes."
    path = tmp_path_factory.mktemp('good') / 'good.mp4'
    write_video(path, np.random.default_rng(0).integers(0, 255, (20, 3, 32, 48), np.uint8))
    return path


def audio_only(path):
    with av.open(str(path), 'w') as file:
        stream = file.add_stream('aac', rate=16_000, layout='mono')
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format='fltp', layout='mono')
        frame.sample_rate = 16_000
        file.mux(stream.encode(frame)); file.mux(stream.encode(None))


def no_frames(path):
    with av.open(str(path), 'w') as file:
        stream = file.add_stream('rawvideo', rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, 'bgr24'
        file.start_encoding()


def no_size(path):
    "Raw frames whose header says 0x0."
    with av.open(str(path), 'w') as file:
        stream = file.add_stream('rawvideo', rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, 'bgr24'
        picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format='bgr24')
        file.mux(stream.encode(picture)); file.mux(stream.encode(None))
    header = bytearray(path.read_bytes())
    at = header.find(b'strf') + 12                       # width and height of BITMAPINFOHEADER
    header[at:at + 8] = bytes(8)
    path.write_bytes(header)


def scrambled(path, good):
    raw = bytearray(good.read_bytes())
    raw[-6000:] = np.random.default_rng(0).integers(0, 255, 6000, np.uint8).tobytes()
    path.write_bytes(raw)


FAULTS = {
    'text.mp4': (lambda p, good: p.write_text('I was renamed.'), 'not a readable video'),
    'empty.mp4': (lambda p, good: p.touch(), 'empty'),
    'cut_early.mp4': (lambda p, good: p.write_bytes(good.read_bytes()[:300]), 'no video track|not a readable video'),
    'cut_half.mp4': (lambda p, good: p.write_bytes(good.read_bytes()[:good.stat().st_size // 2]), 'cut short'),
    'cut_late.mp4': (lambda p, good: p.write_bytes(good.read_bytes()[:-40]), ''),
    'scrambled.mp4': (scrambled, ''),
    'audio.mp4': (lambda p, good: audio_only(p), 'no video track'),
    'frameless.avi': (lambda p, good: no_frames(p), 'no frames|not a readable'),
    'sizeless.avi': (lambda p, good: no_size(p), '0x0'),
    'folder.mp4': (lambda p, good: p.mkdir(), 'no such file'),
    'absent.mp4': (lambda p, good: None, 'no such file'),
}


@pytest.mark.parametrize('name', FAULTS)
def test_each_fault_is_one_sentence_that_names_the_file(tmp_path, good, name):
    make, words = FAULTS[name]
    make(tmp_path / name, good)
    verdict = inspect_video(str(tmp_path / name))
    assert not verdict.ok and verdict.info is None
    assert name in verdict.reason and '\n' not in verdict.reason and len(verdict.reason) < 250 + len(str(tmp_path))
    assert re.search(words, verdict.reason), verdict.reason


def test_a_good_file_passes_with_its_facts(good):
    verdict = vet(good)
    assert verdict.ok and verdict.reason == '' and verdict.checksum == file_checksum(good)
    assert (verdict.info.frames, verdict.info.height, verdict.info.width) == (20, 32, 48)


def test_a_dead_or_hung_child_is_replaced_and_the_rest_goes_on(tmp_path, good):
    names = ['hangs.mp4', 'dies.mp4', 'raises.mp4', 'talks.mp4', 'c.mp4']
    for name in names: (tmp_path / name).write_bytes(good.read_bytes())
    start = time.monotonic()
    verdicts = {v.path.rpartition('/')[2]: v for v in vet_many([tmp_path / n for n in names], 2, seconds=2, check=misbehave)}
    assert time.monotonic() - start < 60
    assert sorted(verdicts) == sorted(names)
    assert sorted(n for n in names if not verdicts[n].ok) == ['dies.mp4', 'hangs.mp4', 'raises.mp4']
    for name, words in [('hangs.mp4', 'no end after 2 s'), ('dies.mp4', 'SIGKILL'), ('raises.mp4', 'KeyError')]:
        assert name in verdicts[name].reason and words in verdicts[name].reason


@pytest.mark.slow
def test_a_child_that_dies_once_is_forgiven(tmp_path, good):
    (tmp_path / 'once.mp4').write_bytes(good.read_bytes())
    assert [v.ok for v in vet_many([tmp_path / 'once.mp4'], 1, check=misbehave)] == [True]


def test_memory_is_limited(tmp_path, good):
    pytest.importorskip('resource')
    (tmp_path / 'eats.mp4').write_bytes(good.read_bytes())
    (tmp_path / 'ok.mp4').write_bytes(good.read_bytes())
    verdicts = list(vet_many([tmp_path / 'eats.mp4', tmp_path / 'ok.mp4'], 1, seconds=30, memory_mb=512, check=misbehave))
    assert [v.ok for v in verdicts] == [False, True] and 'MemoryError' in verdicts[0].reason


def test_stopping_early_ends_the_children(tmp_path, good):
    checks = vet_many([good] * 6, 1)
    next(checks)
    checks.close()                                       # must return, not wait for ever


def test_no_files_no_verdicts():
    assert list(vet_many([])) == []


def test_a_check_without_a_module_is_refused(good):
    with pytest.raises(RuntimeError, match='does not start'): list(vet_many([good], check=lambda path: None))
