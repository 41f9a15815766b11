"""The stage catalogue: which stages there are, what each starts from and what it leaves. Imports no torch.

The stages' settings are in `config/stage_settings.py`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NamedTuple

from ssl_pkg.rows import Row, dimensions_of

RANDOM: Final = "random"  # the `source` that stands for the random initialisation, and the method of its models
OOD: Final = "ood"  # the stage that needs an out-of-distribution set, which a data set may lack
SUPERVISED: Final = "supervised"  # the method of the baseline, which `finetune` trains from the random initialisation

_PROBE_GRID: Final = tuple(f"probe.{name}" for name in ("l2_low", "l2_high", "l2_count", "validation_fraction"))

ENCODER_FILE: Final = "encoder.safetensors"
FINAL_MODEL_FILE: Final = "model.safetensors"


class Weights(StrEnum):
    """The weights that a stage starts from, or leaves."""

    NONE = "none"
    ENCODER = "encoder"  # ENCODER_FILE: ResNet-18 without its last layer
    FINAL_MODEL = "final model"  # FINAL_MODEL_FILE: an encoder with a classifier


@dataclass(frozen=True)
class Artifact:
    """An .npz file in the run directory, and the arrays in it that the report reads.

    arrays: the axes of each array, as one character each: a letter stands for a length that is the same throughout the
        file, a digit for a length. optional: the same for arrays that the file may lack.
    """

    file: str
    arrays: Mapping[str, str]
    optional: Mapping[str, str] = field(default_factory=dict)


UNKNOWN: Final = -1  # in arrays of hits: the model has no finite logits for the image
FOLDS: Final = "fold_hits"
PREDICTIONS: Final = Artifact("predictions.npz", {"logits": "nC", "labels": "n"}, optional={FOLDS: "Fn"})
CORRUPTIONS: Final = Artifact("corruptions.npz", {"clean": "n", "hits": "KSn"})
FEW_LABELS: Final = Artifact(  # M models; hits are 1, 0, or -1 for a model that could not be trained
    "few_labels.npz",
    {"hits": "Mn", "labels_per_class": "M", "draw": "M", "finetuned": "M"},
    optional={"ood_hits": "Mo", FOLDS: "Fn"},  # if there is an out-of-distribution set; fine-tunings on folds
)
TSNE: Final = Artifact(
    "tsne.npz",
    {"train": "a2", "train_labels": "a", "test": "b2", "test_labels": "b"},
    optional={"frames": "Kn2", "frame_steps": "K", "frame_labels": "n"},  # only after fine-tuning
)
LANDSCAPE: Final = Artifact("landscape.npz", {"alphas": "A", "loss": "A", "accuracy": "A", "grid": "G", "plane": "GG"})


class Headline(NamedTuple):
    """The number of a result that a status shows, a fraction: the row without dimensions."""

    evaluation: str
    metric: str
    label: str  # for people, after the value


@dataclass(frozen=True)
class Stage:
    """One entry of the catalogue; `ssl_pkg/stages/NAME.py` runs the stage."""

    name: str
    heading: str  # for people
    starts_from: Weights
    leaves: Weights
    label: str = ""  # the last word in the name of a model that the stage leaves: `SimCLR fine-tuned`
    cost: float = 1.0  # duration relative to `ood`, about that in the demo; runs on the costliest chain start first
    also_reads: tuple[str, ...] = ()  # fields of other stages' settings
    artifact: Artifact | None = None
    headline: Headline | None = None
    papers: tuple[str, ...] = ()  # for the report's list of sources

    @property
    def is_adaptation(self) -> bool:
        """Whether the stage makes a final model of an encoder."""
        return self.starts_from is Weights.ENCODER and self.leaves is Weights.FINAL_MODEL

    @property
    def is_evaluation(self) -> bool:
        """Whether the stage only measures the model that it starts from."""
        return self.leaves is Weights.NONE

    def reads(self, key: str) -> bool:
        """Whether the stage reads the field `key`, like `probe.l2_count`.

        A stage reads `method` only if it trains from random weights. Every stage reads the fields
        that are in no stage's section, like `seed`.
        """
        section = key.partition(".")[0]
        if section == "method":
            return self.starts_from is Weights.NONE
        return section not in STAGES or section == self.name or key in self.also_reads


_STAGES: Final = (
    Stage(
        "pretrain",
        "Pretraining: kNN validation",
        starts_from=Weights.NONE,
        leaves=Weights.ENCODER,
        cost=80.0,
        headline=Headline("knn_validation", "accuracy", "kNN on holdout"),
        papers=(
            "Z. Wu, Y. Xiong, S. X. Yu, D. Lin: Unsupervised Feature Learning via Non-Parametric Instance "
            "Discrimination (weighted kNN), 2018. arXiv 1805.01978",
            "T. Wang, P. Isola: Understanding Contrastive Representation Learning through Alignment and Uniformity on "
            "the Hypersphere, 2020. arXiv 2005.10242",
            "O. Roy, M. Vetterli: The Effective Rank: A Measure of Effective Dimensionality. EUSIPCO, 2007",
            "Q. Garrido, R. Balestriero, L. Najman, Y. LeCun: RankMe: Assessing the Downstream Performance of "
            "Pretrained Self-Supervised Representations by Their Rank, 2022. arXiv 2210.02885",
        ),
        also_reads=("probe.validation_fraction",),  # the holdout split has the queries of kNN
    ),
    Stage(
        "probe",
        "Linear probe: the encoder frozen in eval mode, logistic regression on cached features",
        starts_from=Weights.ENCODER,
        leaves=Weights.FINAL_MODEL,
        cost=6.0,
        label="probe",
        artifact=PREDICTIONS,
        headline=Headline("test", "accuracy", "test"),
    ),
    Stage(
        "finetune",
        "Training of all weights, from a pretrained encoder or from random weights",
        starts_from=Weights.ENCODER,
        leaves=Weights.FINAL_MODEL,
        label="fine-tuned",
        cost=30.0,
        also_reads=_PROBE_GRID,  # of the initial head
        papers=(
            "A. Kumar, A. Raghunathan, R. Jones, T. Ma, P. Liang: Fine-Tuning can Distort Pretrained Features and "
            "Underperform Out-of-Distribution (LP-FT), 2022. arXiv 2202.10054",
        ),
        headline=Headline("test", "accuracy", "test"),
        artifact=PREDICTIONS,
    ),
    Stage(
        "few_labels",
        "Few labels",
        starts_from=Weights.ENCODER,
        leaves=Weights.NONE,
        cost=30.0,
        also_reads=(
            *_PROBE_GRID,
            *(f"finetune.{name}" for name in ("batch_size", "warmup_epochs", "crop_area", "flip", "jitter")),
        ),
        artifact=FEW_LABELS,
    ),
    Stage(
        OOD,
        "Out-of-distribution accuracy",
        starts_from=Weights.FINAL_MODEL,
        leaves=Weights.NONE,
        artifact=PREDICTIONS,
        headline=Headline("ood", "accuracy", "OOD"),
        papers=(
            "M. Ghifary, W. B. Kleijn, M. Zhang, D. Balduzzi, W. Li: Deep Reconstruction-Classification Networks for "
            "Unsupervised Domain Adaptation (nine shared classes), 2016. arXiv 1607.03516",
            "G. French, M. Mackiewicz, M. Fisher: Self-ensembling for visual domain adaptation (nine shared classes), "
            "2018. arXiv 1706.05208",
            "R. Taori et al.: Measuring Robustness to Natural Distribution Shifts in Image Classification (effective "
            "robustness), 2020. arXiv 2007.00644",
            "J. P. Miller et al.: Accuracy on the Line: On the Strong Correlation Between Out-of-Distribution and "
            "In-Distribution Generalization, 2021. arXiv 2107.04649",
        ),
    ),
    Stage(
        "corruptions",
        "Accuracy on corrupted images",
        starts_from=Weights.FINAL_MODEL,
        leaves=Weights.NONE,
        cost=2.0,
        artifact=CORRUPTIONS,
        headline=Headline("corruptions", "mean_accuracy", "corrupted"),
        papers=(
            "D. Hendrycks, T. Dietterich: Benchmarking Neural Network Robustness to Common Corruptions and "
            "Perturbations, 2019. arXiv 1903.12261",
        ),
    ),
    Stage(
        "embed",
        "t-SNE",
        starts_from=Weights.FINAL_MODEL,
        leaves=Weights.NONE,
        cost=4.0,
        also_reads=("pretrain.knn_neighbours", "pretrain.knn_temperature"),
        artifact=TSNE,
        headline=Headline("knn", "accuracy", "kNN on test"),
        papers=(
            "L. van der Maaten, G. Hinton: Visualizing Data using t-SNE. Journal of Machine Learning Research 9, 2008",
            "P. G. Poličar, M. Stražar, B. Zupan: openTSNE: A Modular Python Library for t-SNE Dimensionality "
            "Reduction and Embedding. Journal of Statistical Software 109, 2024",
            "D. Kobak, P. Berens: The Art of Using t-SNE for Single-Cell Transcriptomics (perplexity). Nature "
            "Communications 10, 2019",
            "J. Venna, S. Kaski: Neighborhood Preservation in Nonlinear Projection Methods: An Experimental Study "
            "(trustworthiness). ICANN, 2001",
        ),
    ),
    Stage(
        "width",
        "Width of the optimum",
        starts_from=Weights.FINAL_MODEL,
        leaves=Weights.NONE,
        cost=8.0,
        artifact=LANDSCAPE,
        papers=(
            "N. S. Keskar et al.: On Large-Batch Training for Deep Learning: Generalization Gap and Sharp Minima, "
            "2016. arXiv 1609.04836",
            "Y. Jiang et al.: Fantastic Generalization Measures and Where to Find Them, 2019. arXiv 1912.02178",
            "L. Dinh, R. Pascanu, S. Bengio, Y. Bengio: Sharp Minima Can Generalize for Deep Nets, 2017. "
            "arXiv 1703.04933",
            "J. Kwon, J. Kim, H. Park, I. K. Choi: ASAM: Adaptive Sharpness-Aware Minimization, 2021. arXiv 2102.11600",
            "M. Andriushchenko et al.: A Modern Look at the Relationship between Sharpness and Generalization, 2023. "
            "arXiv 2302.07011",
            "P. Foret, A. Kleiner, H. Mobahi, B. Neyshabur: Sharpness-Aware Minimization for Efficiently Improving "
            "Generalization (m-sharpness), 2020. arXiv 2010.01412",
            "B. N. Parlett: The Symmetric Eigenvalue Problem (residual bounds of Ritz values). SIAM, 1998",
            "D. G. Bonett, T. A. Wright: Sample Size Requirements for Estimating Pearson, Kendall and Spearman "
            "Correlations (variance of Fisher's z). Psychometrika 65, 2000",
            "H. Li, Z. Xu, G. Taylor, C. Studer, T. Goldstein: Visualizing the Loss Landscape of Neural Nets (filter "
            "normalization), 2017. arXiv 1712.09913",
        ),
    ),
)
STAGES: Final = {stage.name: stage for stage in _STAGES}  # in the order of the report
ADAPTATIONS: Final = tuple(stage.name for stage in _STAGES if stage.is_adaptation)
EVALUATIONS: Final = tuple(stage.name for stage in _STAGES if stage.is_evaluation)


def adapted(method: str, stage: str) -> tuple[str, str | None]:
    """The method and the adaptation of the final model that `stage` makes of the encoder of `method`.

    The training of all weights from the random initialisation is the supervised baseline, which has no adaptation.
    """
    return (SUPERVISED, None) if (method, stage) == (RANDOM, "finetune") else (method, stage)


def headline_of(stage: str, rows: Iterable[Row]) -> dict[str, Any] | None:
    """The `label` and the `value` of the stage's headline among the rows of a result; None if it has none."""
    headline = STAGES[stage].headline
    for entry in rows:
        if headline and (entry["evaluation"], entry["metric"]) == headline[:2] and not dimensions_of(entry):
            return {"label": headline.label, "value": entry["value"]}
    return None
