"""Colors under transparency."""

import torch

from autodir.imaging.alpha import fill_hidden


def test_what_is_hidden_takes_the_color_of_what_is_seen():
    pixels = torch.zeros(3, 9, 13)
    pixels[0] = 0.8
    alpha = torch.ones(9, 13)
    alpha[2:7, 3:10] = 0
    pixels[:, 2:7, 3:10] = torch.tensor([0.0, 1.0, 0.0]).view(3, 1, 1)
    filled = fill_hidden(pixels, alpha)
    assert torch.allclose(filled[0], torch.full((9, 13), 0.8))
    assert filled[1:].abs().max() == 0


def test_visible_pixels_are_not_touched_however_faint():
    pixels = torch.rand(3, 31, 18, generator=torch.Generator().manual_seed(0))
    alpha = (torch.rand(31, 18, generator=torch.Generator().manual_seed(1)) > 0.7).float() / 255
    filled = fill_hidden(pixels, alpha)
    seen = alpha > 0
    assert torch.equal(filled[:, seen], pixels[:, seen])
    assert not torch.equal(filled, pixels)
    assert filled.min() >= 0
    assert filled.max() <= 1


def test_the_nearer_side_decides():
    pixels = torch.zeros(3, 4, 64)
    pixels[:, :, 32:] = 1
    alpha = torch.ones(4, 64)
    alpha[:, 8:56] = 0
    filled = fill_hidden(pixels, alpha)[0, 1]
    assert filled[10] < 0.2
    assert filled[53] > 0.8


def test_a_photo_without_hidden_or_without_visible_pixels_is_left_alone():
    pixels = torch.rand(3, 5, 6)
    for alpha in (torch.full((5, 6), 0.01), torch.zeros(5, 6)):
        assert fill_hidden(pixels, alpha) is pixels


def test_one_visible_pixel_fills_all():
    pixels = torch.rand(3, 5, 1)
    alpha = torch.zeros(5, 1)
    alpha[3] = 1
    assert torch.allclose(fill_hidden(pixels, alpha), pixels[:, 3:4].expand(3, 5, 1))
