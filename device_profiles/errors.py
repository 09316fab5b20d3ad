"""The one exception tree of Edgewright.

Every error that reaches a user derives from :class:`EdgewrightError`.  A message says what was
given, what was expected, what is available and the next step.  It lives in the lowest layer
so that every layer can raise it; users import it from ``sdk``.
"""

from __future__ import annotations

from collections.abc import Sequence

from .finding import Finding

MAX_LINES = 10


class EdgewrightError(Exception):
    """Root of all errors.

    Args:
        message: One or a few lines; the first one is what the command line prints.
        findings: The places in the user's model that are at fault, all of them at once.
    """

    def __init__(self, message: str, findings: Sequence[Finding] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.findings = tuple(findings)

    def __str__(self) -> str:
        lines = self.message.splitlines()
        for position, finding in enumerate(self.findings):
            block = finding.lines()
            left = len(self.findings) - position
            if len(lines) + len(block) + (left > 1) > MAX_LINES:
                lines.append(f"  ... and {left} more; error.findings lists all {len(self.findings)}")
                break
            lines += block
        return "\n".join(lines)


class OptionError(EdgewrightError):
    """An argument is wrong or two arguments contradict each other."""


class DeviceError(EdgewrightError):
    """A device, engine or accelerator is unknown, or cannot do what was asked."""


class DependencyError(EdgewrightError):
    """A package that the chosen format needs is not installed."""


class CaptureError(EdgewrightError):
    """The model cannot be turned into a graph."""


class MethodError(EdgewrightError):
    """An edge method is unknown or cannot be applied to this model or target."""


class LoweringError(EdgewrightError):
    """The captured graph cannot be written in the target's format."""


class ParityError(EdgewrightError):
    """The lowered files do not compute what the module computes."""


class BudgetError(EdgewrightError):
    """A ``max_*`` limit is not met, or cannot be judged."""


class OutputError(EdgewrightError):
    """The output path cannot be written."""


class BundleError(EdgewrightError):
    """A bundle is damaged, incomplete, foreign or newer than this runtime."""


class InputError(EdgewrightError):
    """What was passed to a session does not fit its inputs."""


class RuntimeFailure(EdgewrightError):
    """An engine refused to open or to run a model."""
