from report_fixtures import built, fake, page, whole

__all__ = ("built", "fake", "page", "whole")
