"""The process group of one training, its watchdog and its collectives."""
