"""A camera: radiance in, LDR images out, with noise, clipping, colours, a tone curve, a number of levels and JPEG.

The one camera of the package: training scenes, validation scenes and the demo's scene are photographed by it.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hdr._extras import extras_named
from hdr.data.draws import integer, log_uniform, normal, uniform
from hdr.geometry import transformed
from hdr.mixing import ColourMatrix
from hdr.response import Response

with extras_named():
    import cv2

_CURVE_ENTRIES = 1021


@dataclass(frozen=True)
class Camera:
    """How a camera sees.

    Attributes
    ----------
    response
        Light of every LDR value, up to the white level.
    white_level
        LDR value at which channels clip; some cameras clip at 248 of 255.
    full_well
        Electrons at saturation: shot noise has the variance 1 / ``full_well`` of linear light.
    read_noise
        Standard deviation of the read noise, in linear light.
    grain
        Noise in proportion to the light, as film has it: standard deviation over light.
    levels
        Largest level of the files: 255 or 65535.
    jpeg_quality
        Of 8-bit files that are compressed; None for lossless ones.
    colours
        Rows of a matrix from the sensor's colours to those of the file, each of sum 1, so that white stays white: what
        clips in one channel of the sensor is wrong in all of the file. None where the file has the sensor's own.

    Examples
    --------
    >>> camera = Camera(Response.gamma(2.2))
    >>> ldr = camera.photograph(torch.Generator(), torch.full((2, 3, 16, 16), 0.1), torch.tensor([1.0, 4.0]))
    >>> ldr.shape, bool(ldr[0].mean() < ldr[1].mean())
    (torch.Size([2, 3, 16, 16]), True)
    """

    response: Response
    white_level: float = 1.0
    full_well: float = 8000.0
    read_noise: float = 5e-4
    grain: float = 0.0
    levels: int = 255
    jpeg_quality: int | None = None
    colours: ColourMatrix | None = None

    def photograph(self, generator: torch.Generator, radiance: Tensor, exposures: Tensor) -> Tensor:
        """Take one image for each exposure.

        Parameters
        ----------
        generator
            The noise comes from here.
        radiance
            Shape (N, 3, H, W): the scene at each instant; the shortest exposure saturates at 1.
        exposures
            Shape (N,), relative to the shortest.

        Returns
        -------
        Tensor
            Shape (N, 3, H, W), LDR values in [0, 1].
        """
        light = radiance * exposures.to(radiance).view(-1, 1, 1, 1)
        matrix = None if self.colours is None else torch.tensor(self.colours).to(light)
        if matrix is not None:
            light = transformed(torch.linalg.inv(matrix), light)
        # The well overflows at 1 whatever is above; before that, a bound keeps the noise of a sun finite.
        light = light.clamp(0, 4)
        deviation = (light / self.full_well + self.read_noise**2 + (self.grain * light) ** 2).sqrt()
        noise = normal(generator, *light.shape).to(light)
        light = (light + deviation * noise).clamp(0, 1)
        if matrix is not None:
            light = transformed(matrix, light).clamp(0, 1)
        encoded = self.response.to_ldr(light) * self.white_level
        levels = (encoded * self.levels).round()
        if self.jpeg_quality is not None:
            levels = torch.stack([self._compressed(image) for image in levels])
        return levels / self.levels

    def _compressed(self, levels: Tensor) -> Tensor:
        assert self.jpeg_quality is not None
        # OpenCV has blue first; which channel is which matters, for JPEG keeps less of blue and red.
        pixels = levels.flip(0).permute(1, 2, 0).to("cpu", torch.uint8).numpy()
        _, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, self.jpeg_quality])
        decoded = torch.from_numpy(cv2.imdecode(data, cv2.IMREAD_COLOR))
        return decoded.permute(2, 0, 1).flip(0).to(levels)


def draw_camera(generator: torch.Generator, clean: float = 0.0) -> Camera:
    """A camera as one meets them: a tone curve between gamma 1.8 and 2.6 with an S of its own, phone to full frame.

    Most have a sensor of other colours than the file; the others stand for files in the sensor's own.

    Parameters
    ----------
    generator
        Drawn from.
    clean
        How often the camera has little noise, as a good one at base ISO, and files that are not compressed.
    """
    # Nothing is drawn for 0, so that scenes without clean cameras stay what they were.
    if clean > 0 and uniform(generator, 0, 1) < clean:
        return Camera(
            response=_draw_response(generator),
            full_well=log_uniform(generator, 2e4, 2e5),
            read_noise=log_uniform(generator, 2e-5, 3e-4),
            levels=65535 if uniform(generator, 0, 1) < 0.7 else 255,
            colours=_draw_colours(generator) if uniform(generator, 0, 1) < 0.4 else None,
        )
    jpeg = uniform(generator, 0, 1) < 0.5
    deep = not jpeg and uniform(generator, 0, 1) < 0.4
    return Camera(
        response=_draw_response(generator),
        # The response is scaled with the white level where it is estimated; here it stands for a clipping unknown.
        white_level=uniform(generator, 0.965, 1.0) if uniform(generator, 0, 1) < 0.1 else 1.0,
        full_well=log_uniform(generator, 1e3, 3e4),
        read_noise=log_uniform(generator, 1e-4, 2e-3),
        grain=log_uniform(generator, 0.01, 0.08) if uniform(generator, 0, 1) < 0.25 else 0.0,
        levels=65535 if deep else 255,
        jpeg_quality=integer(generator, 80, 98) if jpeg else None,
        colours=_draw_colours(generator) if uniform(generator, 0, 1) < 0.6 else None,
    )


def misjudged(generator: torch.Generator, camera: Camera) -> Camera:
    """The camera as an estimate from a bracket sees it: the tone curve a few per cent off, the noise up to a half.

    Half of the curves are known exactly; of the others half are wrong in their toe, of which little is known. Grain is
    never known of, and of ten cameras that clip below the largest level nine are found out.
    """
    noise_factor = math.exp(0.3 * float(normal(generator, 1)))
    curve_known, clipping_known = uniform(generator, 0, 1) < 0.5, uniform(generator, 0, 1) < 0.9
    white_level = camera.white_level if clipping_known else 1.0
    ldr = torch.linspace(0, 1, _CURVE_ENTRIES, dtype=torch.float64)
    seen = (ldr / white_level).clamp_max(1.0)
    light = camera.response.to_linear(seen)
    if not curve_known:
        power = 1 + 0.02 * float(normal(generator, 1))
        bump = 0.03 * float(normal(generator, 1))
        toe = 0.1 * float(normal(generator, 1)) if uniform(generator, 0, 1) < 0.5 else 0.0
        light = light ** (power + toe * torch.exp(-seen / 0.08)) * torch.exp(bump * torch.sin(math.pi * seen))
    return dataclasses.replace(
        camera,
        response=_as_response(light),
        white_level=white_level,
        full_well=camera.full_well * noise_factor,
        read_noise=camera.read_noise / noise_factor,
        grain=0.0,
    )


def _draw_colours(generator: torch.Generator) -> ColourMatrix:
    """A matrix as cameras have: green is in red and in blue, and a little of each in green. Its inverse is positive."""
    rows = []
    for channel, others in enumerate((((0.3, 0.7), (0.0, 0.15)), ((0.1, 0.3), (0.1, 0.5)), ((0.0, 0.05), (0.2, 0.6)))):
        row = [-uniform(generator, *bounds) for bounds in others]
        row.insert(channel, 1.0 - sum(row))
        rows.append((row[0], row[1], row[2]))
    red, green, blue = rows
    return red, green, blue


def _draw_response(generator: torch.Generator) -> Response:
    kind = integer(generator, 0, 3)
    if kind == 0:
        return Response.srgb()
    if kind == 1:
        return Response.gamma(2.2)
    # Gamma, and an S-curve before it: shadows and highlights are compressed, as pictures "out of the camera" are.
    gamma, contrast = uniform(generator, 1.8, 2.6), uniform(generator, -0.1, 0.45)
    ldr = torch.linspace(0, 1, _CURVE_ENTRIES, dtype=torch.float64)
    bent = ldr + contrast * torch.sin(2 * math.pi * ldr) / (2 * math.pi)
    return _as_response(bent**gamma)


def _as_response(light: Tensor) -> Response:
    """A response from a curve that rises but for rounding, and is 1 from the white level on."""
    light = torch.cummax(light, dim=0).values
    below = light < light[-1]
    # Equal values would stand for no light of their own.
    light = light + torch.linspace(0, 1e-9, len(light), dtype=light.dtype) * below
    return Response.table(torch.where(below, light.clamp_max(1 - 1e-12), 1.0))
