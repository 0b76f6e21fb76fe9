"""The one exception family of autodir; apart so that every layer may raise it. Imports nothing.

AutodirError                                                            exit code (cli/app.py)
├── ConfigError         an option or TOML key is unknown or out of range        2
├── PromptError         prompts/*.toml malformed, or a degradation unknown      2
├── ImageError          an image is unreadable, unsupported or unwritable       3
├── CheckpointError     weights are missing, of another shape or hash, a pickle 4
├── DeviceError         a device is absent or out of memory                     5
├── MissingExtraError   an optional dependency is not installed                 6
└── ContractError       also ValueError: a caller passed a wrong tensor        70
"""


class AutodirError(Exception):
    """Any failure that autodir expects and can explain.

    Args:
        message: what happened, with the offending value.
        hint: what the user can do now; may be empty.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def kind(self) -> str:
        """The class name, as reports and ledgers store it."""
        return type(self).__name__

    def to_dict(self) -> dict[str, str]:
        """The JSON form: ``kind``, ``message``, ``hint``."""
        return {"kind": self.kind, "message": self.message, "hint": self.hint}


class ConfigError(AutodirError):
    """An option or a configuration key is unknown, malformed or out of range."""


class PromptError(AutodirError):
    """The prompt data is malformed, or a text or key names no known degradation."""


class ImageError(AutodirError):
    """An image cannot be read, is not supported, or cannot be written."""


class CheckpointError(AutodirError):
    """A model folder is missing, incomplete, altered, or not in a safe format."""


class DeviceError(AutodirError):
    """A compute device is absent or ran out of memory."""


class MissingExtraError(AutodirError):
    """An optional dependency is needed and not installed."""


class ContractError(AutodirError, ValueError):
    """A caller passed a tensor or value that breaks a documented contract."""
