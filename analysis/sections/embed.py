"""t-SNE maps of the embeddings with their figures of merit, and how fine-tuning moves them."""

from pathlib import Path

from analysis import names, tables
from analysis.blocks import Section
from analysis.estimates import Estimate, estimate
from analysis.figures import style, tsne
from analysis.number_text import NumberText
from analysis.selection import left_out
from analysis.study import Study
from analysis.words import _, localized


def section(study: Study, figures: Path) -> Section:
    """The t-SNE maps and their figures of merit."""
    made = Section(_("Embeddings"), ("embed",))
    made.figure(
        figures,
        "tsne-finetuning",
        tsne.frames(study),
        _(
            "t-SNE of the same test images during fine-tuning, from before the first step to after the last; first "
            "seed. The frames of a row are aligned and share their axes."
        )
        + left_out(tsne.maps_of(study, *tsne.FRAMES), tsne.ROWS),
        _("follow one colour from left to right: classes that move apart are being separated by the labels."),
    )
    made.figure(
        figures,
        "tsne",
        tsne.maps(study),
        _(
            "t-SNE of the average-pool output (512 values) of train and test images. Each class has a colour and a "
            "marker; of at most {numbered} classes, its number is at its median. First seed; at most 1,000 points of a "
            "panel are drawn. Train and test share one map{perplexity}, which starts from the first two principal "
            "components; all maps have the same seed. The embedding of a probe is that of its frozen encoder.",
            numbered=style.NUMBERED,
            perplexity=_perplexity(study),
        )
        + left_out(tsne.maps_of(study, *tsne.JOINT), tsne.MAPS),
        _(
            "islands of one colour are classes that the embedding separates; the sizes of islands and the distances "
            "between them have little meaning."
        ),
    )
    _merit(made, study)
    return made


def _merit(made: Section, study: Study) -> None:
    """How faithful each map is, beside the accuracy of the same neighbours before the projection."""
    columns = [("knn", "accuracy"), ("tsne", "knn_accuracy"), ("tsne", "trustworthiness")]
    found = {model: [estimate(study, model, *column) for column in columns] for model in study.models}
    spread = ""
    if any(trust is not None and trust.sd is not None for *_numbers, trust in found.values()):
        spread = " " + _("After ±: the standard deviation of the trustworthiness over seeds.")
    made.table(
        "tsne",
        [_("Model"), _("kNN, 512 values (%)"), _("kNN, map (%)"), _("Trustworthiness")],
        [
            [study.model_label(model), tables.percent(knn), tables.percent(on_map), _share(trust)]
            for model, (knn, on_map, trust) in found.items()
            if knn or on_map or trust
        ],
        _(
            "Figures of merit of the maps. kNN: accuracy on test with the train images as neighbours, by all 512 "
            "values and by the two of the map. A map is made with the test images, without labels. Trustworthiness "
            "(Venna and Kaski 2001): 1 if the neighbours of every image on the map are its neighbours by all 512 "
            "values; it describes the map of these images and has no interval. The difference between the two kNN "
            "columns is what the projection loses."
        )
        + spread,
    )


def _share(found: Estimate | None) -> str:
    if found is None or found.sd is None:
        return tables.fixed(found.value if found else None, 3)
    return NumberText(localized(f"{found.value:.3f} ± {found.sd:.3f}"), value=found.value, sd=found.sd)


def _perplexity(study: Study) -> str:
    """The perplexities of the maps, which depend on their numbers of points."""
    rows = study.results
    rows = rows[(rows["evaluation"] == "tsne") & (rows["metric"] == "perplexity")].dropna(subset=["value"])
    values = sorted({f"{value:g}" for value in rows["value"]}, key=float)
    return _(" with perplexity {values}", values=names.listed(map(localized, values))) if values else ""
