"""What optimizers do to the weights of a pack. See ``updater.Updater``."""
