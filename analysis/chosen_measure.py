"""The measure of width that the report draws its conclusion from: formula, computation, reasons and limits."""

from typing import Final

from analysis.blocks import Section
from analysis.measures import chosen
from analysis.study import Study
from analysis.widths import measures_of, setting
from analysis.words import N_, _, localized

_EQUATIONS: Final = (
    "cal(W)(w) = EE_S [max_(abs(delta_i) <= r abs(w_i)) L_S (w + delta) - L_S (w)]",
    'L_S (w) = - 1/abs(S) sum_((x, y) in S) log "softmax"(frac(h_w (x) - overline(h)_w (x), '
    "norm(h_w (x) - overline(h)_w (x))))_y, quad overline(h)_w (x) = 1/C sum_(c=1)^C h_w (x)_c",
)
_REASONS: Final = (
    N_(
        "Invariance. A network computes the same function if the weights of a convolution are multiplied by a number "
        "and those of the next layer are divided by it, because ReLU passes positive factors on (Dinh et al. 2017). A "
        "width should then be the same, because function and accuracy are. Keskar's sharpness and the eigenvalues of "
        "the Hessian can take almost any value in this way. A box that is relative to each weight is rescaled with it, "
        "so the measure does not change (Kwon et al. 2021)."
    ),
    N_(
        "Normalised logits. Scaling the logits changes the loss and its curvature at equal accuracy, and models with "
        "different penalties or lengths of training differ in this scale (Andriushchenko et al. 2023)."
    ),
    N_(
        "The worst case needs no second derivative and has a first-order prediction, which shows whether the radius is "
        "local. The smallest radius is taken, because it is the most likely to be."
    ),
)


def add(made: Section, study: Study) -> None:
    """Adds which measure it is, how it is computed, why it was chosen, and its limits; nothing without it."""
    measure = chosen(measures_of(study))
    if measure is None:
        return
    radius = "r" if measure.radius is None else f"r = {localized(f'{measure.radius:g}')}"
    made.subheading(_("The chosen measure"))
    made.text(
        _(
            "The conclusion is drawn from one measure, fixed in the code, the same for every study and not chosen from "
            "these results: {measure}. It is the largest rise of the loss when each weight changes by at most a "
            "fraction {r} of itself. A small rise means a wide optimum:",
            measure=measure.label,
            r=radius,
        )
    )
    for equation in _EQUATIONS:
        made.equation(equation)
    made.text(
        _(
            "w: all weights of the network, with batch normalisation folded into the convolutions; S: {part}, not "
            "augmented and the same for every model; h: the logits of an image x with label y, C their number. The "
            "maximum is approached by projected gradient ascent{steps}: each step moves every weight along the sign of "
            "its gradient and back into the box; the largest loss on the way counts. The mean is over all parts S.",
            part=_part(study),
            steps=_steps(study),
        )
    )
    made.text(_("Why this measure:"))
    made.items([_(reason) for reason in _REASONS])
    made.text(_("Its limits:"))
    made.items(_limits(study))


def _limits(study: Study) -> list[str]:
    images = [setting(study, name) for name in ("ascent_images", "images")]
    size = "" if None in images else _(" (here about {images})", images=min(images))
    return [
        _(
            "The loss of the normalised logits is not the loss that was trained, so its gradient is not zero at the "
            "optimum. Within a local radius the measure is the norm of this gradient, weighted by the weights, more "
            "than a curvature."
        ),
        _(
            "The ascent finds a lower bound of the maximum. The measure depends on the subset and on the images of "
            "each maximum{size}: fewer images give larger values. Andriushchenko et al. use 128.",
            size=size,
        ),
        _(
            "Andriushchenko et al. find that the correlation of such measures with generalisation is weak and can be "
            "negative. A wide optimum alone therefore does not show that a model generalises better."
        ),
    ]


def _part(study: Study) -> str:
    """The parts of the subset, with their numbers of images if these are recorded."""
    each, every = (setting(study, name) for name in ("ascent_images", "images"))
    if None in (each, every):
        return _("a random part of labelled train")
    if each >= every:
        return _("{subset} images of labelled train, the only part", subset=every)
    return _("each random part of about {part} of {subset} images of labelled train", part=each, subset=every)


def _steps(study: Study) -> str:
    steps = setting(study, "ascent_steps")
    return "" if steps is None else _(" in {steps} steps", steps=steps)
