"""One error tree. Every error says what happened (with the value), why it matters and what to do."""

#: An error quotes no more than so many characters of a value.
_QUOTED = 40


def in_words(value: object) -> str:
    """A value as an error names it: short, on one line; of objects and lists only what they are.

    What stands inside them may be a secret, or too deep to be written down.
    """
    if value is None or isinstance(value, bool | float):
        return repr(value)
    if isinstance(value, int):
        return str(value) if abs(value) < 10**20 else "a number of more than 20 digits"
    if isinstance(value, str):
        return ascii(value if len(value) <= _QUOTED else f"{value[:_QUOTED]}...")
    return f"a value of type {type(value).__name__}"


class IllumeError(Exception):
    """An error that a person can act on.

    Args:
        what: what is wrong, with the offending value.
        why: why it matters; may be empty where `what` says it all.
        todo: what to do about it; may be empty.
    """

    #: HTTP status that the web layer answers with.
    status = 500
    #: Short title for problem+json, the same for every instance.
    title = "internal error"

    def __init__(self, what: str, *, why: str = "", todo: str = "") -> None:
        super().__init__(" ".join(part for part in (what, why, todo) if part))
        self.what = what
        self.why = why
        self.todo = todo


class SettingsError(IllumeError):
    """One or more settings are wrong; `what` lists all of them."""

    title = "settings are wrong"


class BadRequestError(IllumeError):
    """The request cannot be understood or asks for something that makes no sense."""

    status = 400
    title = "bad request"


class UnauthorizedError(IllumeError):
    """The secret or the credentials are missing or wrong."""

    status = 401
    title = "unauthorized"


class NotFoundError(IllumeError):
    """The named project, task, run or version does not exist here."""

    status = 404
    title = "not found"


class ConflictError(IllumeError):
    """The state does not allow this now (a run is going on, a version is not publishable)."""

    status = 409
    title = "conflict"


class TooLargeError(IllumeError):
    """More bytes, pixels or tasks than we accept."""

    status = 413
    title = "too large"


class LabelConfigError(BadRequestError):
    """The labelling configuration lacks tags we need."""

    status = 422
    title = "labelling configuration does not fit"


class TaskError(BadRequestError):
    """One task cannot be used: no picture, no question, no answer."""

    status = 422
    title = "task cannot be used"


class ImageError(TaskError):
    """A task's picture cannot be fetched or is not a picture."""

    title = "picture cannot be used"


class LabelStudioError(IllumeError):
    """Label Studio cannot be reached, refuses, or answers nonsense."""

    status = 502
    title = "Label Studio did not do what was asked"


class UnavailableError(IllumeError):
    """Right now this cannot be done; later it can (model loading, deadline passed)."""

    status = 503
    title = "not available now"


class ModelError(IllumeError):
    """The base model or an adapter cannot be loaded or used."""

    title = "model cannot be used"


class RunError(IllumeError):
    """A training run cannot start or has failed; nothing was changed."""

    status = 409
    title = "training run failed"


class RunStoppedError(RunError):
    """A training run was asked to stop before its end; it can go on from its checkpoint."""

    title = "training run stopped"
