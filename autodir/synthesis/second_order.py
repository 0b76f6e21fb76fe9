"""Blur, resize, noise and JPEG twice in a row: the chains that super-resolution models train on.

Apart from the operators, which do one thing each: a chain is drawn as a whole, from a table of
published ranges.

`RECIPES` holds Real-ESRGAN's (arXiv:2107.10833; DiffBIR 2.1 trains on the same), StableSR's milder
variant (arXiv:2305.07015), the mild one that ResShift is tested on (arXiv:2307.12348), which has
nothing of a second pass but its file, and the wide single pass in CodeFormer's manner that
DiffBIR's stage 1 and its first versions train on (arXiv:2308.15070).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from autodir.errors import ConfigError
from autodir.imaging.convolution import convolve
from autodir.options import suggestion
from autodir.synthesis.codec import jpeg
from autodir.synthesis.draws import Parameters
from autodir.synthesis.enlargement import ENLARGEMENTS, enlarged

Range = tuple[float, float]

KERNELS = {
    "iso": 0.45, "aniso": 0.25, "generalized_iso": 0.12, "generalized_aniso": 0.03,
    "plateau_iso": 0.12, "plateau_aniso": 0.03,
}  # fmt: skip
_MODES = ("area", "bilinear", "bicubic")


@dataclass(frozen=True, kw_only=True)
class Pass:
    """The ranges of one pass of blur, resize, noise and JPEG.

    Attributes:
        blur: probability of any blur.
        kernels: weights of the kinds of kernel.
        sizes: smallest and largest odd side of a kernel.
        sigma: deviation along each axis, in pixels.
        beta_generalized, beta_plateau: exponents of those kinds.
        sinc: probability of a sinc kernel instead.
        resize: probabilities of enlarging, shrinking and keeping the size.
        factor: least and greatest factor.
        divides: the factor is one over a number drawn evenly.
        gaussian: probability of Gaussian instead of Poisson noise.
        noise: deviation in 8-bit units.
        poisson: scale of the Poisson noise.
        gray: probability that all channels share their noise.
        quality: of the JPEG at its end; a second pass ends with the `SecondOrder.file`.
    """

    blur: float = 1.0
    kernels: tuple[tuple[str, float], ...] = tuple(KERNELS.items())
    sizes: tuple[int, int] = (7, 21)
    sigma: Range = (0.2, 3.0)
    beta_generalized: Range = (0.5, 4.0)
    beta_plateau: Range = (1.0, 2.0)
    sinc: float = 0.1
    resize: tuple[float, float, float] = (0.2, 0.7, 0.1)
    factor: Range = (0.15, 1.5)
    divides: bool = False
    gaussian: float = 0.5
    noise: Range = (1.0, 30.0)
    poisson: Range = (0.05, 3.0)
    gray: float = 0.4
    quality: tuple[int, int] = (30, 95)


@dataclass(frozen=True, kw_only=True)
class SecondOrder:
    """A whole chain.

    Attributes:
        first, second: the passes; there may be no second one.
        file: quality of the JPEG at the end, before or after the last reduction; None for no such.
        final_sinc: probability of a sinc filter at the end.
        scale: the low-resolution size is one over this of the photo's.
        clean: probability of no degradation but the reduction.
    """

    first: Pass
    second: Pass | None = None
    file: tuple[int, int] | None = None
    final_sinc: float = 0.8
    scale: float = 4.0
    clean: float = 0.0


RECIPES: dict[str, SecondOrder] = {
    "realesrgan": SecondOrder(
        first=Pass(),
        second=Pass(
            blur=0.8, sigma=(0.2, 1.5), resize=(0.3, 0.4, 0.3), factor=(0.3, 1.2),
            noise=(1, 25), poisson=(0.05, 2.5),
        ),
        file=(30, 95),
    ),
    "stablesr": SecondOrder(
        first=Pass(
            sigma=(0.2, 1.5), beta_generalized=(0.5, 2), beta_plateau=(1, 1.5), factor=(0.3, 1.5),
            noise=(1, 15), poisson=(0.05, 2), quality=(60, 95),
        ),
        second=Pass(
            blur=0.5, sizes=(7, 11), sigma=(0.2, 1.0), beta_generalized=(0.5, 2),
            beta_plateau=(1, 1.5), resize=(0.3, 0.4, 0.3), factor=(0.6, 1.2), noise=(1, 12),
            poisson=(0.05, 1),
        ),
        file=(60, 100),
        clean=0.01,
    ),
    "resshift": SecondOrder(
        first=Pass(
            kernels=(("iso", 0.6), ("aniso", 0.4)), sizes=(13, 13), sigma=(0.2, 0.8),
            factor=(0.5, 1.5), noise=(1, 15), poisson=(0.05, 0.3), quality=(70, 95),
        ),
        file=(80, 100),
        final_sinc=0.2,
    ),
    "codeformer": SecondOrder(
        first=Pass(
            kernels=(("iso", 0.5), ("aniso", 0.5)), sizes=(41, 41), sigma=(0.1, 12), sinc=0,
            resize=(0, 1, 0), factor=(1, 12), divides=True, gaussian=1, noise=(0, 15), gray=0,
            quality=(30, 100),
        ),
        final_sinc=0, scale=1,
    ),
}  # fmt: skip


def degrade_second_order(
    clean: Tensor, generator: torch.Generator, recipe: str = "realesrgan"
) -> tuple[Tensor, Parameters]:
    """Degrade each photo by a chain of its own.

    Args:
        clean: (B, 3, H, W) in [0, 1], sRGB-encoded.
        generator: source of all randomness, on the CPU.
        recipe: a key of `RECIPES`.

    Returns:
        The degraded photos, of the same size and on 8-bit levels, and what was drawn for each.

    Raises:
        ConfigError: no such recipe.
    """
    if recipe not in RECIPES:
        raise ConfigError(f"no recipe {recipe!r}", suggestion(recipe, list(RECIPES)))
    chains = [_Chain(RECIPES[recipe], generator, tuple(p.shape[-2:])) for p in clean]
    results = [chain.run(photo[None]) for chain, photo in zip(chains, clean, strict=True)]
    parameters: Parameters = [{"recipe": recipe, **chain.drawn} for chain in chains]
    return (torch.cat(results) if results else clean), parameters


def kernel(kind: str, size: int, sigma: Range, angle: float, beta: float) -> Tensor:
    """A blur kernel (size, size) that sums to 1, of the family of `KERNELS`.

    With q = xᵀ Σ⁻¹ x: exp(−q / 2), generalized exp(−qᵝ / 2), plateau 1 / (1 + qᵝ).

    Args:
        kind: a key of `KERNELS`; an "iso" one takes the first of ``sigma`` for both axes.
        size: odd side.
        sigma: deviations along the two axes in pixels.
        angle: of the first axis, in radians.
        beta: exponent; plain Gaussians ignore it.
    """
    y, x = _grid(size)
    along = x * math.cos(angle) + y * math.sin(angle)
    across = y * math.cos(angle) - x * math.sin(angle)
    other = sigma[0] if kind.endswith("iso") and not kind.endswith("aniso") else sigma[1]
    q = (along / sigma[0]).square() + (across / other).square()
    if kind.startswith("plateau"):
        values = 1 / (1 + q**beta)
    else:
        values = torch.exp(-0.5 * (q**beta if kind.startswith("generalized") else q))
    return values / values.sum()


def sinc_kernel(cutoff: float, size: int) -> Tensor:
    """The circular low-pass ω J₁(ω ρ) / (2π ρ) of (size, size), normalized to pass DC."""
    y, x = _grid(size)
    radius = (x.square() + y.square()).sqrt()
    values: Tensor = cutoff * torch.special.bessel_j1(cutoff * radius) / (2 * math.pi * radius)
    values[size // 2, size // 2] = cutoff**2 / (4 * math.pi)
    return values / values.sum()


class _Chain:
    """The draws of one photo, and what was drawn."""

    def __init__(
        self, recipe: SecondOrder, generator: torch.Generator, size: tuple[int, ...]
    ) -> None:
        self.recipe, self.generator = recipe, generator
        self.height, self.width = size[0], size[1]
        self.drawn: dict[str, object] = {}

    def run(self, photo: Tensor) -> Tensor:
        recipe = self.recipe
        small = (
            max(1, round(self.height / recipe.scale)),
            max(1, round(self.width / recipe.scale)),
        )
        if self.uniform(0, 1) < recipe.clean:
            self.drawn["clean"] = True
            return self._finish(self._resized(photo, small))
        image = self._pass("first", recipe.first, photo, (self.height, self.width), ends=True)
        if recipe.second is not None:
            image = self._pass("second", recipe.second, image, small, ends=False)
        if recipe.file is not None:
            image = self._filed(image, small, recipe.file)
        return self._finish(image)

    def _filed(self, image: Tensor, size: tuple[int, int], qualities: tuple[int, int]) -> Tensor:
        """The file at the end, written before or after the last reduction."""
        last = self.uniform(0, 1) < 0.5
        quality = self._quality("second", qualities)
        self.drawn["jpeg_last"] = last
        if last:
            return jpeg(self._filtered(self._resized(image, size))[0], quality)[None]
        encoded = jpeg(image[0], quality)[None]
        return self._filtered(self._resized(encoded, size))

    def _pass(
        self, name: str, ranges: Pass, image: Tensor, size: tuple[int, int], *, ends: bool
    ) -> Tensor:
        """Blur, resize relative to ``size``, noise, and JPEG where the pass ``ends`` with it."""
        if self.uniform(0, 1) < ranges.blur:
            image = convolve(image, self._kernel(name, ranges).to(image)[None])
        direction = ("up", "down", "keep")[self.choose(ranges.resize)]
        low, high = ranges.factor
        if ranges.divides:
            factor = 1 / self.uniform(low, high)
        else:
            factor = {"up": self.uniform(1, high), "down": self.uniform(low, 1), "keep": 1.0}[
                direction
            ]
        # The first pass of the published chains asks for a factor: what its rounded size leaves
        # over of the photo, less than a pixel, is lost at the right and lower border.
        if ends:
            image = self._resized(image, factor=factor)
        else:
            image = self._resized(image, tuple(max(1, round(side * factor)) for side in size))
        image = self._noisy(name, ranges, image)
        self.drawn |= {f"{name}_resize": direction, f"{name}_factor": factor}
        if ends:
            image = jpeg(image[0], self._quality(name, ranges.quality))[None]
        return image

    def _kernel(self, name: str, ranges: Pass) -> Tensor:
        low, high = ranges.sizes
        size = low + 2 * self.integer((high - low) // 2 + 1)
        if self.uniform(0, 1) < ranges.sinc:
            cutoff = self.uniform(math.pi / (3 if size < 13 else 5), math.pi)
            self.drawn[f"{name}_kernel"] = "sinc"
            return sinc_kernel(cutoff, size)
        kind = ranges.kernels[self.choose(tuple(weight for _, weight in ranges.kernels))][0]
        sigma = (self.uniform(*ranges.sigma), self.uniform(*ranges.sigma))
        low_beta, high_beta = (
            ranges.beta_plateau if kind.startswith("plateau") else ranges.beta_generalized
        )
        below = self.uniform(0, 1) < 0.5
        beta = self.uniform(low_beta, 1) if below else self.uniform(1, high_beta)
        self.drawn |= {f"{name}_kernel": kind, f"{name}_sigma": sigma[0]}
        return kernel(kind, size, sigma, self.uniform(-math.pi, math.pi), beta)

    def _noisy(self, name: str, ranges: Pass, image: Tensor) -> Tensor:
        is_gray = self.uniform(0, 1) < ranges.gray
        if self.uniform(0, 1) < ranges.gaussian:
            shape = (1, 1 if is_gray else 3, *image.shape[-2:])
            deviation = self.uniform(*ranges.noise)
            self.drawn[f"{name}_noise"] = deviation
            noise = torch.randn(shape, generator=self.generator) * (deviation / 255)
        else:
            scale = self.uniform(*ranges.poisson)
            self.drawn[f"{name}_poisson"] = scale
            seen = image.mean(1, keepdim=True) if is_gray else image
            noise = scale * poisson_noise(seen, self.generator)
        return (image + noise.to(image)).clamp(0, 1)

    def _filtered(self, image: Tensor) -> Tensor:
        """The final sinc filter, or the picture itself."""
        if self.uniform(0, 1) >= self.recipe.final_sinc:
            return image
        size = 7 + 2 * self.integer(8)
        cutoff = self.uniform(math.pi / 3, math.pi)
        self.drawn["final_sinc"] = cutoff
        return convolve(image, sinc_kernel(cutoff, size).to(image)[None]).clamp(0, 1)

    def _quality(self, name: str, qualities: tuple[int, int]) -> int:
        low, high = qualities
        quality = low + self.integer(high - low + 1)
        self.drawn[f"{name}_quality"] = quality
        return quality

    def _resized(
        self, image: Tensor, size: tuple[int, ...] | None = None, factor: float | None = None
    ) -> Tensor:
        """To a size, or by a factor, which leaves alone what it would make nothing of."""
        mode = _MODES[self.integer(len(_MODES))]
        sides = tuple(image.shape[-2:])
        if sides == size or (factor is not None and (factor == 1 or min(sides) * factor < 1)):
            return image
        resized: Tensor = functional.interpolate(
            image, size, factor, mode, align_corners=None if mode == "area" else False
        )
        return resized.clamp(0, 1)

    def _finish(self, image: Tensor) -> Tensor:
        """Back to the photo's size as one of `ENLARGEMENTS`, and to 8 bits."""
        size = (self.height, self.width)
        kind = list(ENLARGEMENTS)[self.choose(tuple(ENLARGEMENTS.values()))]
        image = (image.clamp(0, 1) * 255).round() / 255
        if tuple(image.shape[-2:]) != size:
            self.drawn["enlargement"] = kind
            image = (enlarged(image, size, kind) * 255).round() / 255
        return image

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=self.generator))

    def integer(self, count: int) -> int:
        return int(torch.randint(count, (), generator=self.generator))

    def choose(self, weights: tuple[float, ...]) -> int:
        return int(torch.multinomial(torch.tensor(weights).float(), 1, generator=self.generator))


def poisson_noise(image: Tensor, generator: torch.Generator) -> Tensor:
    """Poisson(x·V) / V − x of an 8-bit picture, V the power of two above its number of levels."""
    seen = (image.clamp(0, 1) * 255).round().cpu() / 255
    levels = 2.0 ** math.ceil(math.log2(max(len(seen.unique()), 1)))
    return torch.poisson(seen * levels, generator=generator) / levels - seen


def _grid(size: int) -> tuple[Tensor, Tensor]:
    axis = torch.arange(size, dtype=torch.float32) - size // 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return y, x
