from report_fixtures import built, fake, whole

__all__ = ("built", "fake", "whole")
