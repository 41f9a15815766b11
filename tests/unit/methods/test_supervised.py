import torch
from torchvision.models import resnet18

from ssl_pkg.methods.supervised import Supervised
from ssl_pkg.models.encoder import build_encoder


def test_loss_and_accuracy_equal_torchvisions_classifier_with_the_same_weights() -> None:
    torch.manual_seed(0)
    method = Supervised(build_encoder(), 10)
    classifier = resnet18(num_classes=10)
    classifier.load_state_dict(method.classifier())
    images, labels = torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 3])
    with torch.no_grad():
        loss, metrics = method.loss([images], labels)
        logits = classifier(images)
    torch.testing.assert_close(loss, -logits.log_softmax(dim=1)[torch.arange(4), labels].mean())
    assert float(metrics["accuracy"]) == float((logits.argmax(dim=1) == labels).float().mean())
