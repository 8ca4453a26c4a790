from pathlib import Path

import hdr.weights
from hdr.data import SyntheticBrackets
from hdr.metrics import psnr_l, psnr_mu
from hdr.radiometry import exposure_stack, inverse_mu_law, ldr_to_linear
from hdr.weights import load_generator
from tests.hdr.panoramas import write_panoramas

LARGEST_FILE = 4 * 1024**2


def test_bundled_weights_beat_the_reference_on_scenes_unlike_any_panorama(tmp_path: Path) -> None:
    generator = load_generator("small", preset="small")
    scenes = SyntheticBrackets(write_panoramas(tmp_path, 3), (96, 96), 8)
    gains = []
    for scene in (scenes[index] for index in range(8)):
        merged = inverse_mu_law(generator(exposure_stack(scene["ldr"], scene["exposures"])[None])[0].clamp_min(0))
        reference = ldr_to_linear(scene["ldr"][1], float(scene["exposures"][1]))
        gains.append([float(m(merged, scene["target"]) - m(reference, scene["target"])) for m in (psnr_mu, psnr_l)])
    mean_mu, mean_l = (sum(gain) / len(gain) for gain in zip(*gains, strict=True))
    assert mean_mu > 1.0
    assert mean_l > 1.0


def test_bundled_weights_are_small_and_have_a_card() -> None:
    folder = Path(hdr.weights.__file__).parent
    files = list(folder.glob("*.safetensors"))
    assert files
    assert all(file.stat().st_size <= LARGEST_FILE for file in files)
    card = (folder / "MODEL_CARD.md").read_text()
    assert all(file.name in card for file in files)
