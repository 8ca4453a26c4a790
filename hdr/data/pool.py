"""Scenes that are kept on the device and learned from more than once: a GPU learns faster than a core makes scenes."""

from __future__ import annotations

from collections import deque
from typing import Any, cast

import torch
from torch import Tensor

from hdr.data.sample import HdrSample

_LEARNED_FROM = ("observations", "displacement", "target", "exposures", "mixing")


class ScenePool:
    """The newest whole scenes, and batches of random crops of them, mirrored and turned at random.

    Parameters
    ----------
    kept
        How many scenes of each number of exposures are kept.
    crop
        Side of a crop in pixels.
    batch_size
        Crops in a batch.
    order
        Where the random numbers come from.

    Examples
    --------
    >>> from hdr.bracket import Bracket
    >>> pool = ScenePool(kept=8, crop=32, batch_size=4, order=torch.Generator())
    >>> scenes = {
    ...     "observations": torch.rand(1, 3, 11, 48, 48),
    ...     "displacement": torch.zeros(1, 3, 2, 48, 48),
    ...     "target": torch.rand(1, 3, 48, 48),
    ...     "exposures": torch.tensor([[1.0, 4.0, 16.0]]),
    ...     "mixing": torch.eye(3, 4)[None],
    ... }
    >>> pool.exchange(scenes)["target"].shape
    torch.Size([4, 3, 32, 32])
    """

    def __init__(self, kept: int, crop: int, batch_size: int, order: torch.Generator) -> None:
        self.kept, self.crop, self.batch_size, self.order = kept, crop, batch_size, order
        self._scenes: dict[int, deque[dict[str, Tensor]]] = {}

    def exchange(self, fresh: HdrSample | dict[str, Any]) -> HdrSample:
        """Take whole scenes in, for which the oldest go, and give a batch of crops of scenes with as many exposures.

        Parameters
        ----------
        fresh
            A batch of square scenes, of which nothing is cropped.

        Returns
        -------
        HdrSample
            As :class:`hdr.data.sample.HdrSample` with a batch dimension, without ``name``, ``ldr``, ``light`` and
            ``noise``; ``corner`` stays on the CPU.
        """
        count = fresh["exposures"].shape[1]
        scenes = self._scenes.setdefault(count, deque(maxlen=self.kept))
        for index in range(len(fresh["exposures"])):
            scenes.append({name: fresh[name][index] for name in _LEARNED_FROM})  # type: ignore[literal-required]
        crops = [self._crop(scenes[self._drawn(len(scenes))]) for _ in range(self.batch_size)]
        return cast("HdrSample", {name: torch.stack([crop[name] for crop in crops]) for name in crops[0]})

    def _crop(self, scene: dict[str, Tensor]) -> dict[str, Tensor]:
        side = scene["target"].shape[-1]
        top, left = self._drawn(side - self.crop + 1), self._drawn(side - self.crop + 1)
        turned = mirrored(scene, *(bool(self._drawn(2)) for _ in range(3)))
        inside = (..., slice(top, top + self.crop), slice(left, left + self.crop))
        return {
            # Whole: exposures are read wherever the displacement of the crop points to.
            "observations": turned["observations"],
            "displacement": turned["displacement"][inside],
            "target": turned["target"][inside],
            "exposures": scene["exposures"],
            "mixing": scene["mixing"],
            "corner": torch.tensor([top, left]),
        }

    def _drawn(self, choices: int) -> int:
        return int(torch.randint(choices, (), generator=self.order))


def mirrored(scene: dict[str, Tensor], left_right: bool, up_down: bool, diagonal: bool) -> dict[str, Tensor]:
    """A scene as it is seen in a mirror, or in several: images and the displacement between them.

    Parameters
    ----------
    scene
        ``observations``, ``target`` and ``displacement`` of a square scene, x and y in the last but third dimension.
    left_right, up_down, diagonal
        Which mirrors; the last exchanges rows and columns.
    """
    axes = [axis for axis, mirror in ((-1, left_right), (-2, up_down)) if mirror]
    images = {name: scene[name].flip(axes) for name in ("observations", "target", "displacement")}
    # A mirror turns displacements round along its own axis only.
    x, y = images["displacement"].unbind(dim=-3)
    x, y = -x if left_right else x, -y if up_down else y
    if diagonal:
        images = {name: image.transpose(-1, -2) for name, image in images.items()}
        x, y = y.transpose(-1, -2), x.transpose(-1, -2)
    images["displacement"] = torch.stack([x, y], dim=-3)
    return images
