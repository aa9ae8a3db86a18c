"""Label Studio as a whole: whether it is there, lets us in, keeps our time, and would call us."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from backend.doctor.checks import Check, found, good, of_error
from backend.doctor.containers import in_container, is_this_machine
from backend.doctor.findings import BOTH_VARIABLES, Finding
from backend.doctor.releases import label_studio_release
from illume_plugin.errors import LabelStudioError
from illume_plugin.labelstudio import LabelStudio, TokenRefusedError
from illume_plugin.labelstudio.server_facts import Greeting

#: Half of what its tokens and our rereading leave room for (60 s each), seconds.
CLOCKS_DIFFER_S = 30.0


def answers(label_studio: LabelStudio) -> Iterator[Check]:
    """Whether Label Studio is there, of which version, and what time it is there."""
    name = "label studio"
    try:
        greeting = label_studio.greeting()
    except LabelStudioError as error:
        yield _away(label_studio.url, error)
        return
    yield good(name, f"version {greeting.release or 'unknown'} at {label_studio.url}")
    yield from label_studio_release(greeting.release)
    yield from _clock(greeting)


def token_accepted(label_studio: LabelStudio) -> Check:
    """Whose token ours is, or why it is none."""
    try:
        return good("token", f"belongs to {label_studio.current_user().email}")
    except TokenRefusedError as error:
        return refused(error)
    except LabelStudioError as error:
        return of_error("token", Finding.LABEL_STUDIO_OTHER, error)


def refused(error: TokenRefusedError) -> Check:
    """Why Label Studio, or we already, do not take the token."""
    legacy = "legacy" in f"{error.what} {error.why}".lower()
    finding = Finding.TOKEN_LEGACY if legacy else Finding.TOKEN_REFUSED
    # not with the error's own advice, which knows nothing of the setting that the token came from
    return found("token", finding, " ".join(part for part in (error.what, error.why) if part))


def calls_us(label_studio: LabelStudio, url: str) -> Check:
    """Whether Label Studio would call our address, as a backend and as a webhook; nothing is made for it."""
    name = "our address"
    try:
        judgement = label_studio.judgement(url)
    except LabelStudioError as error:
        return of_error(name, Finding.LABEL_STUDIO_OTHER, error)
    if judgement.unresolved:
        words = judgement.backend or judgement.webhook
        return found(name, Finding.ADDRESS_UNRESOLVED, f"{url}: {words}")
    blocking = {"ML_BLOCK_LOCAL_IP": judgement.backend, "SSRF_PROTECTION_ENABLED": judgement.webhook}
    on = [variable for variable, words in blocking.items() if words]
    if not on:
        return good(name, f"Label Studio would call {url}")
    what = " and ".join(("its backend", "its webhook")[list(blocking).index(each)] for each in on)
    detail = f"Label Studio refuses to call {url} ({what}), by {' and '.join(on)}"
    return found(name, Finding.ADDRESS_BLOCKED, f"{detail}; wanted are {BOTH_VARIABLES}")


def _away(url: str, error: LabelStudioError) -> Check:
    """What kind of absence an error tells of."""
    name = "label studio"
    if "cannot be reached" not in error.what and "did not answer" not in error.what:
        return of_error(name, Finding.LABEL_STUDIO_OTHER, error)
    if in_container() and is_this_machine(url):
        mend = Finding.LOCALHOST_IN_CONTAINER.mend.replace("PORT", str(urlsplit(url).port or 8080))
        return found(name, Finding.LOCALHOST_IN_CONTAINER, error.what, todo=mend)
    return found(name, Finding.LABEL_STUDIO_AWAY, error.what)


def _clock(greeting: Greeting) -> Iterator[Check]:
    if greeting.clock is None:
        return
    ahead = greeting.asked_at - greeting.clock
    if abs(ahead) >= CLOCKS_DIFFER_S:
        detail = f"this machine's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} its"
        yield found("label studio's clock", Finding.CLOCK_LABEL_STUDIO, detail)
    else:
        yield good("label studio's clock", f"{abs(ahead):.0f} s apart from ours")
