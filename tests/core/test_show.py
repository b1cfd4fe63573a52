"Pictures: sizes, colours and text are what they should be; nothing reaches outside of the page."
import base64
import io
import json
import re

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile

from ccvs.core.show import Picture, as_uint8, curve, film_strip, motion_image, player, save_strip


def clip(T=4, H=8, W=12, seed=0):
    return torch.randint(0, 256, (T, 3, H, W), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def test_bytes_and_floats_agree():
    x = clip()
    floats = x.float() / 127.5 - 1
    assert (as_uint8(x) == as_uint8(floats)).all() and (as_uint8(x) == as_uint8(floats.numpy().astype(np.float64))).all()
    assert (as_uint8(x) == x.permute(0, 2, 3, 1).numpy()).all()
    assert (as_uint8(floats.requires_grad_().bfloat16().float()) >= 0).all()


def test_grey_and_wild_values():
    x = torch.tensor([float('nan'), -7.0, 0.5, float('inf')]).view(4, 1, 1, 1)
    assert as_uint8(x).shape == (4, 1, 1, 3) and as_uint8(x)[:, 0, 0, 0].tolist() == [0, 0, 191, 255]  # what is not a number is black


@pytest.mark.parametrize('shape', [(3, 8, 8), (2, 4, 3, 8, 8), (4, 8, 8, 3)])
def test_shapes_that_are_refused(shape):
    with pytest.raises(ValueError, match='a clip is'): as_uint8(torch.zeros(shape))


def test_strip_holds_the_frames_where_they_belong():
    clips = [clip(seed=1), clip(T=3, seed=2)]
    image = np.asarray(film_strip(clips, every=2, scale=3).image)
    assert image.shape == (2 * 24 + 2, 2 * 36 + 2, 3)
    assert (image[26:, 38:] == as_uint8(clips[1])[2].repeat(3, 0).repeat(3, 1)).all()
    assert (image[24:26] == 255).all() and (image[:, 36:38] == 255).all()
    assert film_strip(torch.stack([clip(), clip()])).size == film_strip([clip(), clip()]).size


def test_titles_take_room_and_must_fit():
    plain, named = film_strip([clip()]), film_strip([clip()], titles=['a name'])
    assert named.size[0] > plain.size[0] + 20 and named.size[1] == plain.size[1]
    assert np.asarray(named.image)[:, :named.size[0] - plain.size[0]].min() < 128  # black ink
    with pytest.raises(ValueError, match='as many titles'): film_strip([clip()], titles=['a', 'b'])


@pytest.mark.parametrize('arguments', [dict(every=0), dict(scale=0), dict(scale=1.5)])
def test_strip_numbers(arguments):
    with pytest.raises(ValueError, match='whole numbers'): film_strip([clip()], **arguments)
    with pytest.raises(ValueError, match='at least one clip'): film_strip([])


def test_saved_strip_is_exact(tmp_path):
    path = save_strip(tmp_path/'a'/'strip.png', clip())
    assert (np.asarray(Image.open(path))[:, :12] == as_uint8(clip())[0]).all() and len(list(path.parent.iterdir())) == 1


@pytest.mark.parametrize('quality', [88, 95])
def test_noise_is_shown_like_anything_else(quality, monkeypatch):
    "An optimised JPEG has to fit in Pillow's buffer, which was made for pictures of something."
    monkeypatch.setattr(ImageFile, 'MAXBLOCK', 65536)
    noise = np.random.default_rng(0).integers(0, 256, (128, 650, 3), np.uint8)
    assert Image.open(io.BytesIO(Picture(Image.fromarray(noise)).jpeg(quality))).size == (650, 128)


def test_picture_shows_one_jpeg():
    picture = Picture(Image.new('RGB', (20, 10), 'red'))
    assert Image.open(io.BytesIO(picture._repr_jpeg_())).size == (20, 10) and not hasattr(picture, '_repr_png_')


def test_pictures_that_are_all_noise():
    noise = (clip(72, 32, 32) > 127).to(torch.uint8) * 255
    jpeg = film_strip(list(noise.split(9))).jpeg()        # more bytes than pixels: too many for Pillow's optimiser
    picture = Image.open(io.BytesIO(jpeg))
    assert len(jpeg) > np.prod(picture.size) and picture.size == film_strip(list(noise.split(9))).size


def test_single_pixels_keep_their_colour():
    stripes = np.zeros((16, 16, 3), np.uint8)
    stripes[:, ::2, 0], stripes[:, 1::2, 2] = 255, 255  # red, blue, red, ...: subsampled colour would turn purple
    shown = np.asarray(Image.open(io.BytesIO(Picture(Image.fromarray(stripes)).jpeg())))
    assert abs(shown.astype(int) - stripes).max() < 60


@pytest.mark.parametrize('dx, dy, colour', [(1, 0, (255, 0, 0)), (-1, 0, (0, 255, 255)), (0, 0, (255, 255, 255)), (0.5, 0, (255, 128, 128))])
def test_wheel(dx, dy, colour):
    motion = torch.tensor([dx, dy], dtype=torch.float32).view(2, 1, 1)
    assert motion_image(motion, largest=1).flatten().tolist() == list(colour)
    assert motion_image(motion).dtype == torch.uint8


def test_wheel_turns_and_saturates():
    down, up = (motion_image(np.array([0.0, s]).reshape(2, 1, 1), 1).flatten().tolist() for s in (1, -1))
    assert down == [128, 255, 0] and up == [128, 0, 255]
    assert motion_image(np.array([9.0, 0]).reshape(2, 1, 1), 1).flatten().tolist() == [255, 0, 0]
    with pytest.raises(ValueError, match=r'motion is \(2, H, W\)'): motion_image(np.zeros((3, 4, 4)))


def test_player_is_one_closed_page():
    page = player({'</script><i>': clip(5), 'b': clip(3, seed=3)}, fps=12.5)
    assert 'http' not in page and '<i>' not in page and 'data-fps="12.5"' in page and 'max="4"' in page
    pages = json.loads(re.search(r'<script type="application/json">(.*?)</script>', page)[1])
    assert [len(p) for p in pages] == [5, 3]
    frame = Image.open(io.BytesIO(base64.b64decode(pages[1][0].split(',')[1])))
    assert frame.size == (12, 8)
    assert page._repr_html_() == page and player(dict(a=clip())) == player(dict(a=clip()))


def test_player_errors():
    with pytest.raises(ValueError, match='at least one clip'): player({})
    with pytest.raises(ValueError, match='fps'): player(dict(a=clip()), fps=0)
    with pytest.raises(ValueError, match='at least one frame'): player(dict(a=clip()[:0]))


def test_curve_is_small_and_carries_a_still():
    x = np.arange(50)
    figure = curve(dict(model=(x, x**0.5, x**0.5 - 1, x**0.5 + 1), copy=(x, torch.ones(50))), 'T', 'x', 'y')
    bundle = figure._repr_mimebundle_()
    assert len(json.dumps(bundle['application/vnd.plotly.v1+json'])) < 6000
    assert Image.open(io.BytesIO(base64.b64decode(bundle['image/png']))).size == (432, 230)
    assert [t.name for t in figure.data] == [None, 'model', 'copy'] and tuple(figure.data[2].y) == (1.0,) * 50
    assert bundle['image/png'] == figure._repr_mimebundle_()['image/png']
    with pytest.raises(ValueError, match='of one length'): curve(dict(a=([1, 2], [1])))
    with pytest.raises(ValueError, match='of one length'): curve(dict(a=([1, 2], [1, 2], [1, 2])))
