"""The one error that means: the input cannot be used, and this is what to change."""

from typing import Any


class BadInput(ValueError):
    """Input that cannot be used: the field, what is wrong with it, and the remedy, in one line.

    >>> try:
    ...     gpsense.Sensing(dim=0)
    ... except gpsense.BadInput as error:
    ...     print(error.field, "|", error.remedy)
    dim | use a whole number 1 or more
    """

    def __init__(self, field: str, problem: str, remedy: str):
        self.field, self.problem, self.remedy = field, problem, remedy
        super().__init__(f"{field}: {problem}; {remedy}")

    def __reduce__(self) -> tuple[Any, ...]:  # whole in another process
        return type(self), (self.field, self.problem, self.remedy)
