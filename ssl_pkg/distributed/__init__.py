"""The process group of one training: launch, rendezvous, watchdog, collective operations."""
