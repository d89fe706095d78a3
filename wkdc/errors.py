"""Every error that wkdc raises on purpose.

    WkdcError                  what `wkdc` prints as one line before it exits with 1
    ├── OptionError            a value that an option or argument does not allow (exits with 2)
    ├── TargetError            a compression target that this network cannot reach
    ├── CheckpointError        a weight file that cannot be read, or is no generator wkdc knows
    ├── ImageError             an image, or a folder of images, that cannot be used
    ├── DatasetError           a data set that cannot be found, fetched or trusted
    ├── PackageError           a package of npm that cannot be found, fetched or trusted
    ├── DeviceError            a device that was asked for and is not there
    ├── MetricError            a measurement that cannot be made
    ├── MissingExtraError      a package that is not installed with wkdc itself
    ├── OutputError            a file that cannot be written, or must not be overwritten
    ├── DivergedError          a training run whose loss is no longer finite
    └── ParityError            an exported model whose images differ from its source's

The message of each says what was given, what is allowed, and what to try.
"""


class WkdcError(Exception):
    """Base class of every error that wkdc raises on purpose."""


class OptionError(WkdcError):
    """A value that an option or argument does not allow."""


class TargetError(WkdcError):
    """A compression target that this network cannot reach."""


class CheckpointError(WkdcError):
    """A weight file that cannot be read, or is no generator that wkdc knows."""


class ImageError(WkdcError):
    """An image, or a folder of images, that cannot be used."""


class DatasetError(WkdcError):
    """A data set that cannot be found, fetched or trusted."""


class PackageError(WkdcError):
    """A package of npm that cannot be found, fetched or trusted."""


class DeviceError(WkdcError):
    """A device that was asked for and is not there."""


class MetricError(WkdcError):
    """A measurement that cannot be made."""


class MissingExtraError(WkdcError):
    """A package that is not installed with wkdc itself."""


class OutputError(WkdcError):
    """A file that cannot be written, or must not be overwritten."""


class DivergedError(WkdcError):
    """A training run whose loss is no longer finite."""


class ParityError(WkdcError):
    """An exported model whose images differ from its source's."""


def one_line(said: object) -> str:
    """What somebody else said, such as a server or a decoder, as a message of ours can show it."""
    line = " ".join(str(said).split()) or type(said).__name__
    return "".join(char if char.isprintable() else "?" for char in line[:200])
