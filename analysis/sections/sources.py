"""The works that the study rests on: the papers of its methods and stages, and those that every study uses."""

from typing import Final

from analysis.blocks import Section
from analysis.study import Study
from analysis.words import _

SOURCES: Final = (
    "Y. You, I. Gitman, B. Ginsburg: Large Batch Training of Convolutional Networks (LARS), 2017. arXiv 1708.03888",
    "K. He, X. Zhang, S. Ren, J. Sun: Deep Residual Learning for Image Recognition (ResNet), 2015. arXiv 1512.03385",
    "H. Touvron, A. Vedaldi, M. Douze, H. Jégou: Fixing the Train-Test Resolution Discrepancy, 2019. arXiv 1906.06423",
    "C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger: On Calibration of Modern Neural Networks, 2017. arXiv 1706.04599",
    "A. Coates, H. Lee, A. Y. Ng: An Analysis of Single-Layer Networks in Unsupervised Feature Learning (STL-10). "
    "AISTATS 2011",
    "A. Krizhevsky: Learning Multiple Layers of Features from Tiny Images (CIFAR-10). Technical report, 2009",
    "E. B. Wilson: Probable Inference, the Law of Succession, and Statistical Inference. JASA 22, 1927",
    "R. G. Newcombe: Interval Estimation for the Difference between Independent Proportions. Statistics in "
    "Medicine 17, 1998",
    "S. L. Hillis: A Comparison of Denominator Degrees of Freedom Methods for Multiple Observer ROC Analysis. "
    "Statistics in Medicine 26, 2007",
    "D. G. Bonett, R. M. Price: Adjusted Wald Confidence Interval for a Difference of Binomial Proportions Based on "
    "Paired Data. Journal of Educational and Behavioral Statistics 37, 2012",
    "W. G. Cochran, G. M. Cox: Experimental Designs (approximate test with two variances). Second edition, Wiley, 1957",
    "F. E. Satterthwaite: An Approximate Distribution of Estimates of Variance Components. Biometrics Bulletin 2, 1946",
    "S. Holm: A Simple Sequentially Rejective Multiple Test Procedure. Scandinavian Journal of Statistics 6, 1979",
    "Q. McNemar: Note on the Sampling Error of the Difference between Correlated Proportions or Percentages. "
    "Psychometrika 12, 1947",
    "R. Roelofs, N. Cain, J. Shlens, M. C. Mozer: Mitigating Bias in Calibration Error Estimation, 2020. "
    "arXiv 2012.08668",
)


def section(study: Study) -> Section:
    """The list of sources."""
    made = Section(_("Sources"))
    made.items([*study.papers, *SOURCES], size=8.5)
    return made
