"""storefs: shared configuration and tokens as ordinary files, with real inotify events."""

__version__ = "0.1.0"
