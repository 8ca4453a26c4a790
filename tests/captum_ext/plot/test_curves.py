"""Figures of measurements: they show what was measured, and close to nothing else."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch

from captum_ext.metrics.bootstrap import bootstrap_band
from captum_ext.plot import completeness_figure, information_curves_figure, score_curves_figure
from captum_ext.plot.curves import means_figure


def scores(n: int = 8, power: float = 1.0) -> torch.Tensor:
    """Normalised curves of examples, the last of which has none because its whole score is zero."""
    curves = torch.linspace(0, 1, 21, dtype=torch.float64).repeat(n, 1) ** power
    curves[:, 10] += 0.1 * torch.rand(n)
    curves[-1] = torch.nan
    return curves


def information(n: int = 6) -> torch.Tensor:
    """Curves of which the first does not qualify."""
    curves = torch.linspace(0, 1, 1001, dtype=torch.float64) ** torch.arange(1, n + 1)[:, None]
    curves[0] = torch.nan
    return curves


def area(curve: torch.Tensor) -> float:
    return float(torch.trapezoid(curve, dx=1 / (len(curve) - 1)))


def is_png(figure) -> bool:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue().startswith(b"\x89PNG")


def test_score_curves_are_the_mean_of_the_normalised_ones_with_their_band():
    score = scores()
    figure = score_curves_figure(
        {"IDGI": score, "IG": scores(power=2.0).tolist()}, title="Insertion", n_resamples=50, seed=3
    )
    (axes,) = figure.axes
    normalised = score[:-1]
    np.testing.assert_allclose(axes.lines[0].get_ydata(), normalised.mean(0))
    lower, upper = bootstrap_band(normalised, n_resamples=50, seed=3)
    drawn = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert drawn.min() == pytest.approx(lower.min())
    assert drawn.max() == pytest.approx(upper.max())
    assert axes.get_title() == "Insertion"
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts[0] == f"IDGI: {area(normalised.mean(0)):.3f}"
    assert is_png(figure)


def test_median_of_scores():
    score = scores()
    figure = score_curves_figure({"IDGI": score}, how="median", n_resamples=10)
    expected = score[:-1].quantile(0.5, dim=0)
    np.testing.assert_allclose(figure.axes[0].lines[0].get_ydata(), expected)


@pytest.mark.parametrize("which", ["softmax", "accuracy"])
@pytest.mark.parametrize("how", ["median", "mean"])
def test_information_curves_show_their_areas(which, how):
    curves = information()
    figure = information_curves_figure({"IDGI": curves}, which, how, n_resamples=20)
    expected = curves[1:].quantile(0.5, dim=0) if how == "median" else curves[1:].mean(0)
    assert figure.legends[0].get_texts()[0].get_text() == f"IDGI: {area(expected):.3f}"
    assert {"softmax": "probability", "accuracy": "recognised"}[which] in figure.axes[0].get_ylabel()
    line = figure.axes[0].lines[0]
    np.testing.assert_allclose(np.interp(line.get_xdata(), np.linspace(0, 1, 1001), expected), line.get_ydata(), 1e-6)
    assert is_png(figure)


def test_no_two_methods_in_one_panel_look_the_same():
    figure = score_curves_figure({f"method {k}": scores(power=1 + k) for k in range(6)}, n_resamples=2)
    (axes,) = figure.axes
    assert len({(line.get_color(), str(line._dash_pattern)) for line in axes.lines}) == 6


def test_each_of_many_methods_has_a_panel_with_its_band():
    methods = {f"method {k}": scores(power=1 + k) for k in range(9)}
    figure = score_curves_figure(methods, title="Insertion", n_resamples=50, seed=3)
    assert len(figure.axes) == len(methods)
    for axes, (name, score) in zip(figure.axes, methods.items(), strict=True):
        normalised = score[:-1]
        assert axes.get_title() == f"{name}: {area(normalised.mean(0)):.3f}"
        np.testing.assert_allclose(axes.lines[-1].get_ydata(), normalised.mean(0))
        lower, upper = bootstrap_band(normalised, n_resamples=50, seed=3)
        drawn = axes.collections[0].get_paths()[0].vertices[:, 1]
        assert (drawn.min(), drawn.max()) == pytest.approx((lower.min(), upper.max()))
        assert len(axes.lines) == len(methods) + 1
    assert figure.get_suptitle() == "Insertion, area under each curve"
    assert is_png(figure)


def test_completeness_shows_every_example_and_the_median():
    relative = torch.tensor([0.0, 1e-3, 1e-2, 1e-1, 1.0])
    figure = completeness_figure({"IG": relative, "IDGI": relative.numpy()})
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["IG: 0.01", "IDGI: 0.01"]
    np.testing.assert_allclose(axes.lines[0].get_xdata(), relative.clamp(min=1e-12), rtol=1e-6)
    assert axes.get_xscale() == "log"
    assert is_png(figure)


@pytest.mark.parametrize("count", [2, 9], ids=["one panel", "a panel each"])
@pytest.mark.parametrize("name", ["a $\\frac$ b", "$x", "_hidden", "_$_"])
def test_any_name_is_drawn_as_it_is(name, count):
    methods = {f"{name}{k}": scores() for k in range(count)}
    escaped = name.replace("$", r"\$")
    figure = score_curves_figure(methods, n_resamples=2)
    titles = [axes.get_title() for axes in figure.axes]
    drawn = [text.get_text() for text in figure.legends[0].get_texts()] if count == 2 else titles
    assert [text.split(":")[0] for text in drawn] == [f"{escaped}{k}" for k in range(count)]
    assert is_png(figure)
    relative = torch.tensor([1e-3, 1e-2])
    figure = completeness_figure({name: relative}, n_resamples=2)
    assert figure.axes[0].get_yticklabels()[0].get_text().startswith(f"{escaped}:")
    assert is_png(figure)
    figure = means_figure([name], {name: np.array([[0.5, 0.4, 0.6]])}, {name: True})
    assert is_png(figure)
    assert figure.axes[0].get_title() == figure.axes[0].get_yticklabels()[0].get_text() == escaped
    for draw in (score_curves_figure, information_curves_figure):
        assert is_png(draw({f"{k}": scores() for k in range(count)}, title=name, n_resamples=2))
    assert is_png(completeness_figure({"IG": relative}, name, n_resamples=2))


@pytest.mark.parametrize(
    ("draw", "results", "message"),
    [
        (score_curves_figure, {}, "at least one method"),
        (information_curves_figure, {}, "at least one method"),
        (completeness_figure, {}, "at least one method"),
        (information_curves_figure, {"IG": information(1)}, "no example of 'IG'"),
        (score_curves_figure, {"IG": scores(1)}, "no example of 'IG'"),
        (score_curves_figure, {"IG": torch.zeros(3)}, r"shape \(3,\): give \(N, P\)"),
        (score_curves_figure, {"IG": torch.zeros(3, 1)}, "of 2 points or more"),
        (completeness_figure, {"IG": torch.tensor([0.1, -0.1])}, "a delta of 'IG' is negative"),
    ],
)
def test_refusals(draw, results, message):
    with pytest.raises(ValueError, match=message):
        draw(results)
