import torch
from torchvision.models import resnet18

from ssl_pkg.models.encoder import build_encoder, without_classifier
from ssl_pkg.models.pooling import MaxPoolReLU


def test_encoder_is_resnet18_with_its_stem() -> None:
    encoder = build_encoder()
    assert (encoder.conv1.kernel_size, encoder.conv1.stride) == ((7, 7), (2, 2))
    assert isinstance(encoder.maxpool, MaxPoolReLU)
    assert encoder(torch.randn(2, 3, 96, 96)).shape == (2, 512)


def test_without_classifier_returns_the_last_layers_input() -> None:
    classifier = resnet18(num_classes=10).eval()
    images = torch.randn(2, 3, 48, 48)
    torch.testing.assert_close(classifier.fc(without_classifier(classifier)(images)), classifier(images))
    assert classifier.fc.out_features == 10
