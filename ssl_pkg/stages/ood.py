"""Out-of-distribution evaluation of a final model on CIFAR-10's test set, or on the images in the folder `ood`."""

from functools import partial

from ssl_pkg.catalogue import PREDICTIONS
from ssl_pkg.config.schema import Config
from ssl_pkg.data.dataset import data_root
from ssl_pkg.data.ood import open_ood
from ssl_pkg.errors import BadInput
from ssl_pkg.evaluation.accuracy import classification, shared_classes
from ssl_pkg.evaluation.forward import outputs
from ssl_pkg.hardware.prepare import prepare
from ssl_pkg.layout import OOD
from ssl_pkg.models.encoder import to_device
from ssl_pkg.run.directory import write_atomic
from ssl_pkg.run.session import Session
from ssl_pkg.run.signals import InterruptFlag
from ssl_pkg.stages.artifacts import finish_evaluation, npz, source_classifier, write_contact_sheet


def run(config: Config, interrupt_flag: InterruptFlag) -> None:
    """Predicts every image. A class that the model does not have counts as a substitute class (frog as monkey)."""
    hardware = prepare(config)
    classifier, source = source_classifier(config)
    classes = tuple(source["classes"])
    ood = open_ood(data_root(config.data), classes)
    if ood is None:
        raise BadInput(
            f"data.root={config.data.root} has no out-of-distribution set: put CIFAR-10's test set or a packed folder "
            f"called {OOD} there"
        )
    to_device(classifier, hardware.device)
    with Session(config, hardware, interrupt_flag, ood.manifest) as session:
        write_contact_sheet(session, [ood.test], None, classes)
        logits = outputs(
            classifier,
            ood.test,
            source["resolution"],
            hardware.device,
            partial(session.report_or_stop, "predict"),
        )
        labels = ood.test.labels
        write_atomic(session.file(PREDICTIONS.file), npz(logits=logits, labels=labels))
        rows = [
            *classification("ood", logits, labels, classes),
            *shared_classes("ood", logits, labels, ood.shared),
        ]
        finish_evaluation(session, source, rows, substituted=[classes[label] for label in ood.substituted])
