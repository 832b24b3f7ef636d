"""Where readings come from: one file per family of sensor, a registry that picks, one sampler thread."""
