"""Explain in one line each what can go wrong between this machine and the Hugging Face hub."""

from __future__ import annotations

import errno

from tfdistill.errors import UserError, short

_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.ENOTDIR, errno.EEXIST)


class TooManyRestarts(OSError):
    """The download of a file broke off too often."""


def is_away(error: BaseException) -> bool:
    """Return whether the hub cannot be reached or is out of order, so that an earlier download may serve."""
    error = _cause(error)
    if isinstance(error, TooManyRestarts):
        return False
    status = _status(error)
    if status is not None:
        return status == 429 or status >= 500
    return not _is_known(error)


def explain(error: BaseException, name: str, revision: str) -> UserError:
    """Return the error for the user: what is wrong with the repository `name`, and what to do."""
    from huggingface_hub import constants, errors

    error, hub = _cause(error), constants.ENDPOINT
    status = _status(error)
    if isinstance(error, errors.GatedRepoError):
        return UserError(
            f"{name} is gated. Accept its terms at {hub}/{name}, then log in with `hf auth login` or set HF_TOKEN."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return UserError(f"{name} has no revision '{short(revision)}'. Use one of its branches, tags or commits.")
    if isinstance(error, errors.EntryNotFoundError) and status == 404:
        return UserError(
            f"{name} lacks a file that it lists: {_file(error)}. Use another revision, or try again later."
        )
    if isinstance(error, errors.RepositoryNotFoundError) or status in (401, 404):
        # A hub answers 401 for private and gated models, and for names that do not exist.
        return NoRepository(
            f"{hub} has no model {name} that you may read (HTTP {status}). Check the name; for a private or gated model "
            "run `hf auth login` or set HF_TOKEN."
        )
    if status == 403:
        return UserError(f"{hub} refuses access to {name} (HTTP 403). Check HF_TOKEN, or run `hf auth login`.")
    if status == 429:
        return UserError(f"{hub} limits the number of requests (HTTP 429). Wait some minutes, or log in.")
    if status is not None:
        return UserError(f"{hub} answers with HTTP {status} for {name}. Try again later.")
    if isinstance(error, errors.HFValidationError):
        return NoRepository(f"'{short(name)}' is not a name of a model on the hub. Use hf:ORG/NAME or hf:DIR.")
    if isinstance(error, OSError) and error.errno in _UNWRITABLE:
        return UserError(
            f"cannot write to {constants.HF_HUB_CACHE}: {error.strerror}. Set HF_HOME to another directory."
        )
    if isinstance(error, errors.FileMetadataError | ValueError | TypeError):
        return UserError(f"{hub} does not answer for {name} as a hub does. Check HF_ENDPOINT.")
    reason = short(str(error).splitlines()[0] if str(error) else type(error).__name__, 100)
    if isinstance(error, TooManyRestarts) or "onsistency check" in reason or "peer closed" in reason:
        return UserError(f"The download of {name} broke off ({reason}). Run the command again.")
    return UserError(
        f"{hub} cannot be reached for {name} ({reason}). Check the network and HF_ENDPOINT, or use a directory."
    )


class NoRepository(UserError):
    """There is no such repository; a directory may have been meant."""


def _cause(error: BaseException) -> BaseException:
    """Return the error behind huggingface_hub's one about a file that is not in the cache."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    while isinstance(error, LocalEntryNotFoundError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _status(error: BaseException) -> int | None:
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _is_known(error: BaseException) -> bool:
    from huggingface_hub.errors import HFValidationError

    return isinstance(error, HFValidationError) or (isinstance(error, OSError) and error.errno is not None)


def _file(error: BaseException) -> str:
    url = str(getattr(getattr(error, "response", None), "url", ""))
    return short(url.rpartition("/")[2] or "unknown")
