"""What each method does: its idea and the loss that `ssl_pkg/methods/` computes. `docs/methods.md` says the same.

Equations are in typst's math notation. A method without an entry is described by its paper and its settings alone.
"""

# ruff: noqa: RUF001 (texts for people have Greek letters, dashes and minus signs)

from dataclasses import dataclass
from typing import Final

from analysis.words import N_


@dataclass(frozen=True)
class Explanation:
    """The idea of a method, its equations, and their symbols; {field} stands for a field of `method.model` as run.

    The texts are translated where they are used.
    """

    idea: str
    equations: tuple[str, ...]
    symbols: str
    exchanged: str = ""  # follows the symbols if `symmetric` is true


SELF_SUPERVISED: Final = {
    "simclr": Explanation(
        N_(
            "The projections of two views of one image are pulled together, and pushed away from those of all other "
            "images in the batch. The loss is a classification: which of the other 2N − 1 projections is the other "
            "view? It needs no labels, no second network and no memory, but many images in a batch, because these are "
            "the negatives."
        ),
        (
            "L = - 1/(2 N) sum_(i=1)^(2 N) log frac(exp(s_(i, p(i)) \\/ tau), "
            "sum_(k != i) exp(s_(i, k) \\/ tau)), quad s_(i, k) = frac(z_i^top z_k, norm(z_i) norm(z_k))",
        ),
        N_(
            "z = g(f(x)): the projection of a view x, with D = {projector_out} values; g: a head of two layers with "
            "{projector_hidden} hidden values; N: the batch size; p(i): the other view of the image of view i; τ = "
            "{temperature}: the temperature."
        ),
    ),
    "byol": Explanation(
        N_(
            "An online network predicts, from one view, the projection that a target network gives to the other view. "
            "The target is an exponential moving average of the online network and gets no gradient. There are no "
            "negatives; the predictor and the slow target keep the projections from collapsing to one point, which "
            "would also minimise the loss. Therefore the standard deviation of z is logged and drawn with the loss."
        ),
        (
            "L = 1/N sum_(i=1)^N norm(frac(q(z_i), norm(q(z_i))) - frac(z'_i, norm(z'_i)))^2 + "
            "(x arrow.l.r x'), quad z = g(f(x)), quad z' = g_xi (f_xi (x'))",
            "xi arrow.l tau_k xi + (1 - tau_k) theta, quad tau_k = 1 - (1 - tau_0) (cos(pi k \\/ K) + 1) \\/ 2",
        ),
        N_(
            "x, x′: the two views of image i; the second term has them exchanged; f, g, q: encoder, projector and "
            "predictor (the last two with {hidden} hidden and D = {out} output values), with weights θ; ξ: the weights "
            "of the target network; N: the batch size; k of K: the step; τ₀ = {target_decay}. The learning rate of q "
            "has the factor {predictor_rate}."
        ),
    ),
    "moco": Explanation(
        N_(
            "A query from one view must find its key, from the other view, among a queue of keys of earlier images. "
            "Keys come from a second network, an exponential moving average of the first, so that the keys in the "
            "queue are consistent. The queue provides many negatives without large batches. At first it holds random "
            "vectors, which are easy to tell from the key, so the loss rises while the queue fills."
        ),
        (
            "L = - 1/N sum_(i=1)^N log frac(exp(q_i^top k_i \\/ tau), exp(q_i^top k_i \\/ tau) + "
            "sum_(j=1)^K exp(q_i^top c_j \\/ tau)), quad theta' arrow.l m theta' + (1 - m) theta",
        ),
        N_(
            "q = g(f(x)) and k = g′(f′(x′)): the query and the key of an image with views x and x′, with unit length "
            "and D = {projector_out} values; g: a head of two layers with {projector_hidden} hidden values; θ, θ′: the "
            "weights of the two networks; c: the queue of K = {queue_size} keys; N: the batch size; τ = {temperature}: "
            "the temperature; m = {key_momentum}. Batch normalisation has separate statistics for each of {bn_splits} "
            "groups of a batch, and keys are shuffled between the groups."
        ),
        exchanged=N_(" The loss with exchanged views is added."),
    ),
}  # fmt: skip
BASELINE: Final = N_(
    " The supervised baseline is the same training, with the same candidates for its settings, holdout split and "
    "epochs, but from random weights. The difference between the two is therefore that of pretraining."
)
LABELLED: Final = Explanation(
    N_("Fine-tuning trains a pretrained encoder together with a linear layer on the labelled images."),
    ('L = - 1/N sum_(i=1)^N log "softmax"(W f(x_i) + b)_(y_i)',),
    N_("f: the encoder; W, b: the last layer; x, y: a randomly cropped image and its label; N: the batch size."),
)
PROBE: Final = Explanation(
    N_(
        "A linear probe is a logistic regression on the embeddings of a frozen encoder, in eval mode, on whole images. "
        "It shows how well a linear layer can separate the classes by what the encoder has learned without labels."
    ),
    ('min_(W, b) quad - 1/n sum_(i=1)^n log "softmax"(W f(x_i) + b)_(y_i) + lambda/2 norm(W)^2',),
    N_("f(x): the 512 values of the average pool, standardised; n: the images of labelled train; λ: the l2 penalty."),
)
