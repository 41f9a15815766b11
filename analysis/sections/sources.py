"""The works that the study rests on."""

from typing import Final

from analysis.blocks import Section

SOURCES: Final = (
    "T. Chen, S. Kornblith, M. Norouzi, G. Hinton: A Simple Framework for Contrastive Learning of Visual "
    "Representations (SimCLR), 2020. arXiv 2002.05709",
    "J.-B. Grill et al.: Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning (BYOL), 2020. "
    "arXiv 2006.07733",
    "K. He, H. Fan, Y. Wu, S. Xie, R. Girshick: Momentum Contrast for Unsupervised Visual Representation Learning "
    "(MoCo), 2019. arXiv 1911.05722",
    "X. Chen, H. Fan, R. Girshick, K. He: Improved Baselines with Momentum Contrastive Learning (MoCo v2), 2020. "
    "arXiv 2003.04297",
    "Y. You, I. Gitman, B. Ginsburg: Large Batch Training of Convolutional Networks (LARS), 2017. arXiv 1708.03888",
    "K. He, X. Zhang, S. Ren, J. Sun: Deep Residual Learning for Image Recognition (ResNet), 2015. arXiv 1512.03385",
    "Z. Wu, Y. Xiong, S. X. Yu, D. Lin: Unsupervised Feature Learning via Non-Parametric Instance Discrimination "
    "(weighted kNN), 2018. arXiv 1805.01978",
    "N. S. Keskar et al.: On Large-Batch Training for Deep Learning: Generalization Gap and Sharp Minima, 2016. "
    "arXiv 1609.04836",
    "Y. Jiang et al.: Fantastic Generalization Measures and Where to Find Them, 2019. arXiv 1912.02178",
    "L. Dinh, R. Pascanu, S. Bengio, Y. Bengio: Sharp Minima Can Generalize for Deep Nets, 2017. arXiv 1703.04933",
    "J. Kwon, J. Kim, H. Park, I. K. Choi: ASAM: Adaptive Sharpness-Aware Minimization, 2021. arXiv 2102.11600",
    "M. Andriushchenko et al.: A Modern Look at the Relationship between Sharpness and Generalization, 2023. "
    "arXiv 2302.07011",
    "H. Li, Z. Xu, G. Taylor, C. Studer, T. Goldstein: Visualizing the Loss Landscape of Neural Nets (filter "
    "normalization), 2017. arXiv 1712.09913",
    "H. Touvron, A. Vedaldi, M. Douze, H. Jégou: Fixing the Train-Test Resolution Discrepancy, 2019. arXiv 1906.06423",
    "C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger: On Calibration of Modern Neural Networks, 2017. arXiv 1706.04599",
    "L. van der Maaten, G. Hinton: Visualizing Data using t-SNE. Journal of Machine Learning Research 9, 2008",
    "A. Coates, H. Lee, A. Y. Ng: An Analysis of Single-Layer Networks in Unsupervised Feature Learning (STL-10). "
    "AISTATS 2011",
    "A. Krizhevsky: Learning Multiple Layers of Features from Tiny Images (CIFAR-10). Technical report, 2009",
    "E. B. Wilson: Probable Inference, the Law of Succession, and Statistical Inference. JASA 22, 1927",
    "R. G. Newcombe: Interval Estimation for the Difference between Independent Proportions. Statistics in "
    "Medicine 17, 1998",
)


def section() -> Section:
    """The list of sources."""
    made = Section("Sources")
    made.items(SOURCES, size=8.5)
    return made
