"""Draw the pictures of the how-to pages anew: ``python docs/draw_how_to.py docs/how-to``."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from captum_ext import IDGI
from captum_ext.attr import BlurPath, StraightPath
from captum_ext.classifiers import ImageBaseline, Probabilities, load_classifier, photographs, seen_image
from captum_ext.plot import attribution_figure
from hdr import Bracket, Merger, Response
from hdr.data.camera import Camera
from hdr.photograph_scene import photograph_scene
from hdr.scene import CAMERA, dynamic_scene
from hdr.tonemap import tonemap, tonemap_mu_law

_GAP = 4  # white pixels between pictures


def interiors() -> Tensor:
    """Three exposures of a room over two tone mappings of the merge."""
    scene = 0.8 * dynamic_scene(288, 432).radiance ** 1.7
    exposures = torch.tensor([1.0, 4.0, 16.0, 64.0])
    bracket = _taken(CAMERA, scene, exposures)
    merged = Merger("small", device="cpu")(bracket)
    shown = [tonemap(merged, "reinhard"), tonemap(merged, "local")]
    return _rows([[_reduced(picture, 288) for picture in bracket.ldr[[0, 1, 3]]], [_reduced(p, 434) for p in shown]])


def night() -> Tensor:
    """A dark square with lamps: three exposures for the lamps alone, three for the walls alone, five for both."""
    city = 5e-4 + 0.3 * photograph_scene().radiance[:, 80:224, 120:336].clamp_max(0.1)
    for row, column in [(20, 30), (60, 90), (50, 150), (90, 60), (110, 190)]:
        city[:, row : row + 4, column : column + 4] = torch.tensor([0.9, 0.7, 0.4]).view(3, 1, 1)
    camera = Camera(Response.gamma(2.2), full_well=2000.0, read_noise=2e-3)
    shown = []
    for exposures in ([1.0, 4.0, 16.0], [16.0, 64.0, 256.0], [1.0, 4.0, 16.0, 64.0, 256.0]):
        times = torch.tensor(exposures) / exposures[0]
        merged = Merger("none", device="cpu")(_taken(camera, city * exposures[0], times), align="off") / exposures[0]
        # One curve for the three: linear light that is bright enough to see the noise of the walls.
        shown.append((merged / 0.012).clamp(0, 1) ** (1 / 2.2))
    return _rows([[_enlarged(picture[:, 20:120, 20:155]) for picture in shown]])


def time_lapse() -> Tensor:
    """Four frames, tone-mapped each by itself, and by one curve."""
    room, exposures = 0.5 * dynamic_scene(96, 144).radiance, torch.tensor([1.0, 4.0, 16.0])
    frames = []
    for lamp in [0.0, 0.9, 0.0, 0.9]:
        glow = (-((torch.arange(96).view(-1, 1) - 55) ** 2 + (torch.arange(144) - 128) ** 2) / 500).exp()
        frames.append(Merger("none", device="cpu")(_taken(CAMERA, room + lamp * glow, exposures), align="off"))
    factor = 0.006 / torch.stack([frame.mean(dim=0).clamp_min(1e-6).log().mean() for frame in frames]).mean().exp()
    return _rows([[tonemap(frame) for frame in frames], [tonemap_mu_law(factor * frame) for frame in frames]])


def baselines() -> Figure:
    """IDGI's map of one photograph from four baselines, and along the blur path."""
    classifier, cat = load_classifier("efficientnet-lite0"), photographs()[0].image
    maps = {}
    for baseline in ImageBaseline:
        seen = seen_image(classifier, cat, baseline, "cpu")
        target = int(classifier.model(seen.inputs).argmax())
        maps[baseline.value] = _explained(IDGI(classifier.model), seen.inputs, seen.baselines, target)
    maps["path='blur'"] = _explained(IDGI(classifier.model, "blur"), seen.inputs, None, target)
    return attribution_figure(seen.image, maps)


def _explained(method: IDGI, inputs: Tensor, start: Tensor | None, target: int) -> Tensor:
    attributions = method.attribute(inputs, start, target, n_steps=32, steps="adaptive", internal_batch_size=8)
    return attributions[0]


def steps() -> Figure:
    """How a network's probability rises on the way to a photograph, and where sixteen steps of either kind begin."""
    classifier, cat = load_classifier("efficientnet-lite0"), photographs()[0].image
    model = Probabilities(classifier.model)
    seen = seen_image(classifier, cat, ImageBaseline.BLACK, "cpu")
    target = int(model(seen.inputs).argmax())
    figure = Figure(figsize=(9, 2.8), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    paths = {"straight path, from black": StraightPath(), "blur path, from 50 pixels": BlurPath()}
    for axes, (title, path) in zip(panels, paths.items(), strict=True):
        start = path.start((seen.inputs,), seen.baselines if isinstance(path, StraightPath) else None)
        _, report = IDGI(model, path).attribute(
            seen.inputs,
            seen.baselines if isinstance(path, StraightPath) else None,
            target,
            n_steps=16,
            steps="adaptive",
            internal_batch_size=8,
            return_steps_report=True,
        )
        chosen = report.fractions[0].tolist()
        fractions = sorted({*chosen, *(j / 128 for j in range(129))})
        with torch.no_grad():
            rises = [model(path.point((seen.inputs,), start, at)[0])[0, target].item() for at in fractions]
        axes.plot(fractions, rises, color="0.4", linewidth=1.2)
        for places, height, name in ((chosen[:-1], -0.06, "adaptive"), ([j / 16 for j in range(16)], -0.12, "equal")):
            axes.plot(places, [height] * 16, "|", markersize=9, label=f"16 {name} steps")
        axes.set(title=title, xlabel="fraction of the path")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set(ylabel="probability", yticks=[0.0, 0.1, 0.2, 0.3, 0.4])
    panels[1].legend(frameon=False, loc="upper left")
    return figure


def _taken(camera: Camera, radiance: Tensor, exposures: Tensor) -> Bracket:
    instants = radiance.expand(len(exposures), -1, -1, -1)
    pictures = camera.photograph(torch.Generator().manual_seed(0), instants, exposures)
    return Bracket.from_images(list(pictures), exposures.tolist(), response=Response.gamma(2.2))


def _reduced(picture: Tensor, width: int) -> Tensor:
    height = round(width * picture.shape[1] / picture.shape[2])
    return torch.nn.functional.interpolate(picture[None], (height, width), mode="area")[0]


def _enlarged(picture: Tensor) -> Tensor:
    return picture.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)  # so that noise stays that of pixels


def _rows(rows: list[list[Tensor]]) -> Tensor:
    """Pictures side by side, row over row."""
    joined = []
    for row in rows:
        gap = torch.ones(3, row[0].shape[1], _GAP)
        joined.append(torch.cat([part for picture in row for part in (picture, gap)][:-1], dim=2))
    width = min(row.shape[2] for row in joined)
    gap = torch.ones(3, _GAP, width)
    return torch.cat([part for row in joined for part in (row[..., :width], gap)][:-1], dim=1)


def main(folder: Path) -> None:
    """Write the pictures into a folder."""
    for name, draw in {"interiors": interiors, "night": night, "time-lapse": time_lapse}.items():
        pixels = draw().clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(folder / f"{name}.jpg", quality=85)
    baselines().savefig(folder / "baselines.jpg", dpi=80, pil_kwargs={"quality": 85})
    steps().savefig(folder / "steps.png", dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
