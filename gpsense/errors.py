"""The one error that means: the input cannot be used, and this is what to change."""


class BadInput(ValueError):
    """Input that cannot be used: the field, what is wrong with it, and the remedy, in one line."""

    def __init__(self, field: str, problem: str, remedy: str):
        self.field, self.problem, self.remedy = field, problem, remedy
        super().__init__(f"{field}: {problem}; {remedy}")
