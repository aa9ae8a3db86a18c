"""Pictures of tasks: what is fetched, what is refused, what is kept."""

from __future__ import annotations

import base64
import errno
import io
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from loopback import Answer, Asked, Loopback
from PIL import Image

from illume_plugin.errors import ImageError
from illume_plugin.images import ANY_PUBLIC_HOST, ImageStore
from illume_plugin.images.addresses import Addresses
from illume_plugin.images.cache import FileCache
from illume_plugin.types import Task

TOKEN = {"Authorization": "Bearer hush"}


def picture(kind: str = "PNG", size: tuple[int, int] = (24, 16), **options: Any) -> bytes:
    """A picture file with enough in it to be cut in the middle."""
    noise = Image.effect_noise(size, 90).convert("RGB")
    file = io.BytesIO()
    noise.save(file, format=kind, **options)
    return file.getvalue()


def task(image: str, task_id: int = 7) -> Task:
    return Task(project_id=1, task_id=task_id, image=image, question="q", answer="a")


@pytest.fixture
def label_studio() -> Iterator[Loopback]:
    server = Loopback()
    yield server
    server.close()


@pytest.fixture
def elsewhere() -> Iterator[Loopback]:
    server = Loopback()
    yield server
    server.close()


@pytest.fixture
def store(tmp_path: Path, label_studio: Loopback) -> Iterator[ImageStore]:
    store = ImageStore(
        tmp_path / "kept",
        label_studio_url=label_studio.url,
        auth_headers=lambda: TOKEN,
        max_bytes=50_000,
        max_pixels=10_000,
        timeout_s=5,
    )
    yield store
    store.close()


def open_store(tmp_path: Path, label_studio: Loopback, **options: Any) -> ImageStore:
    options = {"timeout_s": 5.0, **options}
    return ImageStore(
        tmp_path / "kept", label_studio_url=label_studio.url, auth_headers=lambda: TOKEN, **options
    )


# -- what is fetched -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_picture_of_label_studio_is_fetched_once_with_our_token(
    store: ImageStore, label_studio: Loopback, kind: str
) -> None:
    content = picture(kind)
    label_studio.answer("GET", "/data/upload/1/a b.png".replace(" ", "%20"), 200, content)
    first = store.fetch(task("/data/upload/1/a b.png"))
    again = store.fetch(task("/data/upload/1/a b.png", task_id=8))
    assert first == again
    assert first.read_bytes() == content
    assert [each.headers["Authorization"] for each in label_studio.requests] == ["Bearer hush"]


def test_the_first_frame_of_an_animation_will_do(store: ImageStore, label_studio: Loopback) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    file = io.BytesIO()
    frames[0].save(file, format="GIF", save_all=True, append_images=frames[1:])
    label_studio.answer("GET", "/data/upload/1/a.gif", 200, file.getvalue())
    with Image.open(store.fetch(task("/data/upload/1/a.gif"))) as kept:
        assert kept.size == (8, 8)


@pytest.mark.parametrize("image", ["/data/upload/1/x.png", "/ls/data/upload/1/x.png"])
def test_label_studio_below_a_path(tmp_path: Path, label_studio: Loopback, image: str) -> None:
    label_studio.answer("GET", "/ls/data/upload/1/x.png", 200, picture())
    store = ImageStore(tmp_path, label_studio_url=f"{label_studio.url}/ls/", auth_headers=None)
    assert store.fetch(task(image)).is_file()
    store.close()


def test_a_local_file_is_named_by_its_query(store: ImageStore, label_studio: Loopback) -> None:
    contents = {name: picture(size=(10 + n, 9)) for n, name in enumerate(("a.png", "b.png"))}
    label_studio.routes["GET", "/data/local-files/"] = lambda asked: Answer(200, contents[asked.query["d"]])
    for name, content in contents.items():
        assert store.fetch(task(f"/data/local-files/?d={name}")).read_bytes() == content


def test_a_cloud_address_is_signed_by_label_studio_and_read_without_our_token(
    tmp_path: Path, label_studio: Loopback, elsewhere: Loopback
) -> None:
    signed = f"http://localhost:{elsewhere.port}/bucket/x.png?signature=s"
    label_studio.answer("GET", "/tasks/7/presign/", 303, b"", headers={"Location": signed})
    elsewhere.answer("GET", "/bucket/x.png", 200, picture())
    store = open_store(tmp_path, label_studio, allowed_hosts=["localhost"])
    assert store.fetch(task("s3://bucket/ü x.png")).is_file()
    store.close()
    (asked,) = label_studio.requests
    assert base64.urlsafe_b64decode(asked.query["fileuri"]).decode() == "s3://bucket/ü x.png"
    assert asked.headers["Authorization"] == "Bearer hush"
    (asked,) = elsewhere.requests
    assert asked.query == {"signature": "s"}
    assert "Authorization" not in asked.headers


def test_an_allowed_host_gets_no_token_and_cookies_stay_home(
    tmp_path: Path, label_studio: Loopback, elsewhere: Loopback
) -> None:
    label_studio.answer("GET", "/data/1.png", 200, picture(), headers={"Set-Cookie": "sessionid=1; Path=/"})
    elsewhere.answer("GET", "/2.png", 200, picture())
    store = open_store(tmp_path, label_studio, allowed_hosts=["127.0.0.1"])
    store.fetch(task("/data/1.png"))
    store.fetch(task(f"{elsewhere.url}/2.png"))
    store.close()
    (asked,) = elsewhere.requests
    assert not {"Authorization", "Cookie"} & set(asked.headers)


# -- what is refused -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "says"),
    [
        ("", "is refused"),
        ("photo.png", "is refused"),
        ("file:///etc/passwd", "is refused"),
        ("data:image/png;base64,AAAA", "is refused"),
        ("ftp://host/x.png", "is refused"),
        ("//evil.example/x.png", "is refused"),
        ("http://", "is refused"),
        ("http://evil.example/x.png", "'evil.example' is not allowed"),
        ("http://user:pw@evil.example/x.png", "user name or password"),
        ("/api/projects/", "serves no pictures under '/api/projects/'"),
        ("/data/../api/projects/", "serves no pictures under '/api/projects/'"),
        ("/data/%2e%2e/api/projects/", "serves no pictures"),
        ("http://host:port/x", "does not lead to a picture"),
        ("/data/\x00", "does not lead to a picture"),
    ],
)
def test_an_address_is_refused_before_anything_is_sent(
    store: ImageStore, label_studio: Loopback, image: str, says: str
) -> None:
    with pytest.raises(ImageError, match=says) as caught:
        store.fetch(task(image))
    assert "pw" not in str(caught.value)
    assert label_studio.requests == []


def test_an_absolute_address_of_label_studio_is_held_to_the_same_paths(
    store: ImageStore, label_studio: Loopback
) -> None:
    with pytest.raises(ImageError, match="serves no pictures"):
        store.fetch(task(f"{label_studio.url}/api/projects/"))
    assert label_studio.requests == []


def test_without_label_studio_its_paths_lead_nowhere(tmp_path: Path) -> None:
    store = ImageStore(tmp_path, label_studio_url=None, auth_headers=None)
    with pytest.raises(ImageError, match="no Label Studio is connected"):
        store.fetch(task("/data/upload/1/x.png"))
    with pytest.raises(ImageError, match="no Label Studio is connected"):
        store.fetch(task("s3://bucket/x.png"))
    store.close()


@pytest.mark.parametrize(
    ("resolved", "allowed"),
    [
        (["93.184.215.14"], True),
        (["2606:4700::1111"], True),
        (["127.0.0.1"], False),
        (["10.1.2.3"], False),
        (["169.254.169.254"], False),
        (["::1"], False),
        (["fe80::1"], False),
        (["::ffff:127.0.0.1"], False),
        (["0.0.0.0"], False),
        (["93.184.215.14", "192.168.0.1"], False),
    ],
)
def test_any_public_host_means_public_addresses(
    monkeypatch: pytest.MonkeyPatch, resolved: list[str], allowed: bool
) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in resolved]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    addresses = Addresses("http://ls.example", None, [ANY_PUBLIC_HOST])
    if allowed:
        assert addresses.first(task("https://pictures.example/x.png")).address == resolved[0]
    else:
        with pytest.raises(ImageError, match="has the private address"):
            addresses.first(task("https://pictures.example/x.png"))


def test_the_checked_address_is_the_one_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, label_studio: Loopback, elsewhere: Loopback
) -> None:
    """A name that changes its address between check and connection (DNS rebinding) gains nothing."""
    from illume_plugin.images import addresses

    monkeypatch.setattr(addresses, "_public_address", lambda *_: "127.0.0.1")
    elsewhere.answer("GET", "/x.png", 200, picture())
    store = open_store(tmp_path, label_studio, allowed_hosts=[ANY_PUBLIC_HOST])
    name = f"no-such-host.invalid:{elsewhere.port}"
    assert store.fetch(task(f"http://{name}/x.png")).is_file()
    store.close()
    assert [each.headers["Host"] for each in elsewhere.requests] == [name]


def test_label_studio_may_send_us_to_public_storage_only(store: ImageStore, label_studio: Loopback) -> None:
    label_studio.answer(
        "GET", "/tasks/7/presign/", 303, b"", headers={"Location": "http://169.254.169.254/latest/"}
    )
    with pytest.raises(ImageError, match=r"has the private address 169\.254\.169\.254"):
        store.fetch(task("s3://bucket/x.png"))


@pytest.mark.parametrize(
    ("location", "says"),
    [
        ("file:///etc/passwd", "'file' address: refused"),
        ("http://evil.example/x.png", "is not allowed"),
        ("{label_studio}/api/projects/", "serves no pictures"),
        ("http://host:port/", "Invalid URL"),
        ("/loop.png", "more than 5 times"),
    ],
)
def test_a_redirect_is_judged_like_a_new_address(
    tmp_path: Path, label_studio: Loopback, elsewhere: Loopback, location: str, says: str
) -> None:
    location = location.format(label_studio=label_studio.url)
    elsewhere.answer("GET", "/loop.png", 302, b"", headers={"Location": location})
    store = open_store(tmp_path, label_studio, allowed_hosts=["127.0.0.1"])
    with pytest.raises(ImageError, match=says):
        store.fetch(task(f"{elsewhere.url}/loop.png"))
    store.close()
    assert label_studio.requests == []
    assert len(elsewhere.requests) <= 6


@given(st.text())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
def test_no_address_asks_a_stranger(image: str) -> None:
    addresses = Addresses("http://ls.example:8080", lambda: TOKEN, ["friend.example"])
    try:
        visit = addresses.first(task(image))
    except ImageError:
        return
    assert visit.url.host in ("ls.example", "friend.example")
    assert (visit.url.host == "ls.example") == (visit.headers == TOKEN)


# -- what arrives --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (Answer(200, b""), "is an empty file"),
        (Answer(200, b"<!doctype html><title>Log in</title>"), "is not a picture: it begins with '<!doctype"),
        (Answer(200, {}), "is not a picture: it begins with '{}'"),
        (Answer(200, b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), "is not a picture"),
        (Answer(200, picture("PNG", (60, 60))[:-4000]), "is damaged"),
        (Answer(200, picture("JPEG", (60, 60))[:-900]), "is damaged"),
        (Answer(200, picture("PNG", (101, 100))), "101 x 100 pixels; at most 10000"),
        (Answer(200, b"\0" * 50_001), "more than 50000 bytes"),
        (Answer(200, picture(), announce=1_000_000), "cannot be reached"),
        (Answer(401, {}), "answered 401 .* token"),
        (Answer(403, {}), "answered 403 .* token"),
        (Answer(404, {}), "answered 404 .* gone"),
        (Answer(500, {}), "answered 500"),
        (Answer(204, b""), "answered 204"),
    ],
)
def test_what_is_no_usable_picture_is_not_kept(
    store: ImageStore, label_studio: Loopback, tmp_path: Path, answer: Answer, says: str
) -> None:
    label_studio.routes["GET", "/data/x.png"] = lambda _asked: answer
    with pytest.raises(ImageError, match=says):
        store.fetch(task("/data/x.png"))
    assert list((tmp_path / "kept").iterdir()) == []
    label_studio.answer("GET", "/data/x.png", 200, picture())
    assert store.fetch(task("/data/x.png")).is_file(), "the failure was not kept"


def test_a_decompression_bomb_is_refused(store: ImageStore, label_studio: Loopback) -> None:
    bomb = io.BytesIO()
    Image.new("1", (14_000, 14_000)).save(bomb, format="PNG")
    label_studio.answer("GET", "/data/bomb.png", 200, bomb.getvalue())
    with pytest.raises(ImageError, match="pixels"):
        store.fetch(task("/data/bomb.png"))


def test_a_server_that_never_ends_is_given_up(tmp_path: Path, label_studio: Loopback) -> None:
    def hang(_: Asked) -> Answer:
        label_studio.closing.wait()
        return Answer()

    label_studio.routes["GET", "/data/x.png"] = hang
    store = open_store(tmp_path, label_studio, timeout_s=0.2)
    with pytest.raises(ImageError, match=r"within 0\.2 s"):
        store.fetch(task("/data/x.png"))
    store.close()
    label_studio.closing.set()


def test_a_full_disk_is_told_and_leaves_nothing(
    store: ImageStore, label_studio: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    label_studio.answer("GET", "/data/x.png", 200, picture())

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(FileCache, "keep", full)
        with pytest.raises(ImageError, match="cannot be kept: No space left"):
            store.fetch(task("/data/x.png"))
    assert list((tmp_path / "kept").iterdir()) == []
    assert store.fetch(task("/data/x.png")).is_file()


def test_the_folder_is_kept_below_its_size(tmp_path: Path, label_studio: Loopback) -> None:
    content = picture()
    store = open_store(tmp_path, label_studio, max_kept_bytes=4 * len(content))
    for n in range(12):
        label_studio.answer("GET", f"/data/{n}.png", 200, content)
        kept = store.fetch(task(f"/data/{n}.png"))
        os.utime(kept, (1000 + n, 1000 + n))  # long ago
    left = [path for path in (tmp_path / "kept").iterdir() if not path.name.startswith(".")]
    assert len(left) <= 5
    assert kept in left
    store.fetch(task("/data/0.png"))
    assert [asked.path for asked in label_studio.requests].count("/data/0.png") == 2, "fetched again"
    store.close()


def test_a_kept_file_that_went_bad_is_fetched_anew(store: ImageStore, label_studio: Loopback) -> None:
    content = picture()
    label_studio.answer("GET", "/data/x.png", 200, content)
    kept = store.fetch(task("/data/x.png"))
    for damage in (b"", b"garbage", content[:10]):
        kept.write_bytes(damage)
        assert store.fetch(task("/data/x.png")).read_bytes() == content
    assert len(label_studio.requests) == 4


def test_the_same_path_of_another_label_studio_is_another_picture(
    tmp_path: Path, label_studio: Loopback, elsewhere: Loopback
) -> None:
    contents = {label_studio: picture(size=(9, 9)), elsewhere: picture(size=(10, 10))}
    for server, content in contents.items():
        server.answer("GET", "/data/upload/1/x.png", 200, content)
        store = open_store(tmp_path, server)
        assert store.fetch(task("/data/upload/1/x.png")).read_bytes() == content
        store.close()
