"""Data sets by name, as the commands take them: ``kalantari:DIR`` and ``synthetic:DIR``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from torch.utils.data import Dataset

from hdr._errors import RefusedError
from hdr.data.kalantari import Broken, KalantariDataset
from hdr.data.sample import HdrSample
from hdr.data.synthetic import SceneSettings, SyntheticBrackets
from hdr.settings import Cameras

TRAINING_SCENES = 1_000_000
TRAINING_SIDE = 256
"""Pixels of a training scene, of which a crop is learned from: motion needs room."""
VALIDATION_SCENES = 24
VALIDATION_SIDE = 256
VALIDATION_SEED = 7


def open_scenes(
    data: str,
    split: Literal["train", "validation"],
    crop: int = 128,
    *,
    whole: bool = False,
    skip_broken: bool = False,
    cameras: Cameras | None = None,
) -> Dataset[HdrSample]:
    """Data set for a split.

    Parameters
    ----------
    data
        ``"synthetic:DIR"``, a folder of HDR photographs and panoramas of which two in nine are for validation only; or
        ``"kalantari:DIR"``, a folder of scenes, or one with a folder of scenes for training and another for testing.
    split
        For training, random crops with augmentation; for validation, always the same scenes, whole.
    crop
        Side of the training crops in pixels.
    whole
        Whether training scenes are given whole, large enough for such crops; of ``synthetic:DIR`` only, whose scenes
        are all of one size.
    skip_broken
        Whether broken scenes of ``kalantari:DIR`` are named in a warning and left out, instead of refused.
    cameras
        What is known of the cameras of the validation scenes of ``synthetic:DIR``: what each bracket tells of its own,
        ``"estimated"``, the default; or the true one, ``"misjudged"`` at random. Training scenes have three of the
        first to one of the other.

    Returns
    -------
    Dataset
        Of :class:`hdr.data.sample.HdrSample`.

    Raises
    ------
    ValueError
        If the name or the cameras are not among these, the folder does not hold such data, it cannot be had whole, or
        what is asked for is of other data.
    """
    kind, _, folder = data.partition(":")
    if kind not in ("synthetic", "kalantari") or not folder:
        raise RefusedError(f"data must be synthetic:DIR or kalantari:DIR, got {data!r}")
    if cameras is not None and cameras not in get_args(Cameras):
        raise RefusedError(f"cameras must be one of {', '.join(get_args(Cameras))}, got {cameras!r}")
    refuse_options_of_others(kind, cameras, skip_broken)
    training = split == "train"
    if kind == "kalantari":
        if whole:
            raise RefusedError("crops_per_scene must be 1 for kalantari:DIR, whose scenes are of many sizes")
        broken: Broken = "skip" if skip_broken else "refuse"
        return KalantariDataset.from_split(Path(folder), split, crop if training else None, broken)
    if training:
        side = max(TRAINING_SIDE, crop)
        return SyntheticBrackets(
            folder,
            (side, side),
            TRAINING_SCENES,
            split="train",
            settings=SceneSettings(exposure_error=0.04, estimated=0.75, clean=0.2, colourful=0.25, largest_step=2.8),
            crop=None if whole else crop,
        )
    return SyntheticBrackets(
        folder,
        (VALIDATION_SIDE, VALIDATION_SIDE),
        VALIDATION_SCENES,
        seed=VALIDATION_SEED,
        split="validation",
        # Three exposures, as the papers have: the others are trained on, and measured on real brackets.
        settings=SceneSettings(exposures=(3,), estimated=0.0 if cameras == "misjudged" else 1.0),
    )


def refuse_options_of_others(kind: str, cameras: Cameras | None, skip_broken: bool, shake: int = 0) -> None:
    """Raise ValueError where an option is given that such data knows nothing of."""
    if cameras is not None and kind != "synthetic":
        raise RefusedError(
            f"the cameras (--cameras) of {kind}:DIR are what they are; they are chosen for synthetic:DIR"
        )
    if skip_broken and kind != "kalantari":
        raise RefusedError(f"no scene of {kind}:DIR is left out (--skip-broken); those of kalantari:DIR are")
    if shake and kind != "still":
        raise RefusedError(
            f"the exposures of {kind}:DIR moved as they did; a shake (--shake) is for those of still:DIR"
        )
