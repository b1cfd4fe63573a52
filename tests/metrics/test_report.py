"A report is one file: nothing in it is fetched, its videos play, and no name in it becomes markup."
import base64
import re

import pytest
import torch

from ccvs.data.video import read_video
from ccvs.metrics.report import GIVEN_COLOUR, LATER_COLOUR, bullets, clip_group, framed, plot, table, words, write_report


def clip(frames=5, height=32, width=24):
    return torch.randint(0, 256, (frames, 3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_the_page_fetches_nothing_and_its_videos_play(tmp_path):
    pieces = [words('a'), table(['', 'x'], [['row', 1]]), plot({'line': ([1, 2], [3., 4.], [2., 3.], [4., 5.])}, 'Title', 'x', 'y'),
              clip_group('Group', {'real': clip(), 'future': clip()}, 2)]
    page = write_report(tmp_path/'report.html', 'Title', pieces).read_text(encoding='utf-8')
    assert not re.search(r'https?:|//\w+\.\w|<link|@import|url\(', re.sub(r'base64,[^"]+', '', page))
    assert all(address.startswith('data:video/mp4;base64,') for address in re.findall(r'src="([^"]+)"', page))
    addresses = re.findall(r'<video src="data:video/mp4;base64,([^"]+)"[^>]* autoplay loop muted playsinline aria', page)
    assert len(addresses) == 2
    (tmp_path/'taken.mp4').write_bytes(base64.b64decode(addresses[0]))
    video = read_video(tmp_path/'taken.mp4')
    assert video.shape == (5, 3, 204, 156)                  # 6 x 32 + 12 of border
    errors = (video[:, :, 6:-6:6, 6:-6:6].float() - framed(clip(), 2)[:, :, 6:-6:6, 6:-6:6].float()).abs()
    assert errors.mean() < 40                               # noise is the worst case for colours at half resolution


def test_borders_tell_given_frames_from_later_ones():
    big = framed(clip(height=64, width=64), 2)
    assert big.shape == (5, 3, 204, 204)
    assert [tuple(frame[:, 0, 0].tolist()) for frame in big] == [GIVEN_COLOUR] * 2 + [LATER_COLOUR] * 3
    assert torch.equal(big[:, :, 6:-6:3, 6:-6:3], clip(height=64, width=64))


def test_names_are_text_not_markup():
    for piece in (words('<script>'), table(['<script>'], [['<script>']]), plot({'<script>': ([1], [1.])}, '<script>', '<script>', '<script>'),
                  clip_group('<script>', {'<script>"': clip()}, 1)):
        assert '<script>' not in piece and '&lt;script&gt;' in piece


def test_a_flat_line_and_a_single_point_can_be_drawn():
    for lines in ({'flat': ([1, 2, 3], [0., 0., 0.])}, {'point': ([4], [7.])}):
        page = plot(lines, 't', 'x', 'y')
        assert not re.search(r'\b(nan|inf)\b', page)
    with pytest.raises(ValueError, match='at least one line'):
        plot({}, 't', 'x', 'y')


def test_code_is_code_and_a_list_of_marks_has_no_bullets():
    assert words('run `ccvs <x>`') == '<p>run <code>ccvs &lt;x&gt;</code></p>' and words("it's `") == '<p>it&#x27;s `</p>'
    assert bullets(['✓ good', '✗ bad']).startswith('<ul class="marks">') and bullets(['✓ good', 'so so']).startswith('<ul><li>')


def test_a_line_keeps_its_colour_from_plot_to_plot():
    line = ([1, 2], [3., 4.])
    pages = [plot(lines, 't', 'x', 'y', dict(shared='#123456')) for lines in (dict(shared=line), dict(first=line, second=line, shared=line))]
    assert [page.count('stroke="#123456"') for page in pages] == [1, 1]
    assert len({*re.findall(r'stroke="(#[0-9a-f]{6})"', pages[1])}) == 3
