"""Pictures of rewards: both doors, who sees them where, and what is refused with nothing written."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import IntegrityError, connection, transaction
from django.test import Client
from django.test.client import BOUNDARY, MULTIPART_CONTENT, encode_multipart
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from PIL import Image

from customers.models import Customer
from lifecycle_crm import verify
from lifecycle_crm.accounts.models import ApiKey, Role
from lifecycle_crm.lib import images
from lifecycle_crm.lib.errors import InvalidInput, NotFound
from loyalty import pictures, rewards, wallet
from loyalty.errors import WrongState
from loyalty.models import Programme, Reward, RewardPicture
from tests.drawings import BLUE, GREEN, RED, file, halves, is_near, opened, saved
from tests.factories import UserFactory
from tests.loyalty.factories import CustomerFactory, give
from tests.loyalty.test_pages import text
from tests.loyalty.test_races import at_once
from tests.loyalty.test_rewards_pages import signed_in

pytestmark = pytest.mark.django_db


@pytest.fixture
def mug() -> Reward:
    programme = Programme.current()
    assert programme is not None
    return rewards.create(programme=programme, name="Mug", points=300, stock=5)


@pytest.fixture
def ada() -> Customer:
    customer = CustomerFactory(name="Ada Example", language="en")
    give(customer, 1000)
    return customer


@pytest.fixture
def secret() -> str:
    return ApiKey.issue(name="Till", scopes=["rewards:write", "wallets:read"])[1]


def uploaded(data: bytes, name: str = "mug.png") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, data, content_type="image/png")


def shown(reward: Reward, color: Any = RED, alt: str = "A red mug") -> RewardPicture:
    return pictures.put(reward=reward, file=uploaded(file(color=color)), alt=alt, actor=None)


def send(client: Client, reward: Reward, data: bytes | None, alt: str = "A red mug", **more: str) -> Any:
    form: dict[str, Any] = {"picture-alt": alt, **more}
    if data is not None:
        form["picture-file"] = uploaded(data)
    return client.post(reverse("loyalty:reward-picture", args=[reward.pk]), form)


def put(secret: str, reward: int, data: bytes | None, alt: str | None = "A red mug") -> Any:
    given: dict[str, Any] = {"alt": alt} if alt is not None else {}
    if data is not None:
        given["file"] = uploaded(data)
    return Client().put(
        f"/api/v1/rewards/{reward}/picture/",
        encode_multipart(BOUNDARY, given),
        content_type=MULTIPART_CONTENT,
        headers={"Authorization": f"Bearer {secret}"},
    )


def call(secret: str, method: str, path: str, **more: Any) -> Any:
    return getattr(Client(), method)(f"/api/v1/{path}", headers={"Authorization": f"Bearer {secret}"}, **more)


# --- On the pages -----------------------------------------------------------------------------------------------------


def test_it_is_put_there_described_anew_replaced_and_removed(mug: Reward) -> None:
    ola = signed_in()
    page = reverse("loyalty:reward", args=[mug.pk])
    answer = send(ola, mug, file("JPEG", (1200, 800)), "  A  red mug ")
    assert (answer.status_code, answer.headers["Location"]) == (302, page)
    first = RewardPicture.objects.get()
    assert (first.reward, first.alt, first.width, first.height) == (mug, "A red mug", 960, 640)
    assert first.changed_by is not None
    assert first.changed_by.name == "Ola"
    body = ola.get(page).content.decode()
    assert f'src="{first.path}" alt="A red mug" width="960" height="640" loading="lazy"' in body

    assert send(ola, mug, None, "A mug, red", **{"picture-seen": first.sha256}).status_code == 302
    same = RewardPicture.objects.get()
    assert (same.alt, same.sha256) == ("A mug, red", first.sha256)

    assert send(ola, mug, file(color=BLUE), "A blue mug").status_code == 302
    second = RewardPicture.objects.get()
    assert second.alt == "A blue mug"
    assert second.sha256 != first.sha256
    assert Client().get(first.path).status_code == 404
    assert is_near(opened(Client().get(second.path).content).getpixel((10, 10)), BLUE)

    gone = ola.post(reverse("loyalty:reward-picture-remove", args=[mug.pk]), {"seen": second.sha256})
    assert gone.headers["Location"] == page
    assert not RewardPicture.objects.exists()
    assert "no picture now" in text(ola.get(page))
    assert Client().get(second.path).status_code == 404
    # A second press is no mistake.
    assert ola.post(reverse("loyalty:reward-picture-remove", args=[mug.pk])).status_code == 302


def test_a_reward_that_is_not_offered_yet_can_have_one_first(mug: Reward) -> None:
    rewards.change(reward=mug, is_active=False)
    assert send(signed_in(), mug, file()).status_code == 302
    assert "thumb" in signed_in().get(reverse("loyalty:rewards") + "?shows=past").content.decode()


WRONG = [
    (b"", "A mug", 422, "picture_empty", "The file is empty."),
    (b"<html>", "A mug", 422, "not_a_picture", "The file is not a picture, whatever its name says."),
    (b"<svg/>", "A mug", 422, "picture_type", "A file of the type SVG cannot be used."),
    (file()[:300], "A mug", 422, "picture_damaged", "The picture is cut short or damaged."),
    (file(size=(60, 60)), "A mug", 422, "picture_too_small", "smaller than 64 pixels"),
    (b"\xff" * (images.MOST_BYTES + 1), "A mug", 413, "picture_too_large", "larger than 8 MB"),
    (file(), " \t ", 422, "alt_required", "Describe the picture for those who do not see it."),
    (file(), "w" * 201, 422, "alt_too_long", "at most 200 characters"),
]
NAMES = [case[3] for case in WRONG]


@pytest.mark.parametrize("data, alt, status, code, words", WRONG, ids=NAMES)
def test_the_page_refuses_with_one_sentence_and_the_one_before_stays(
    mug: Reward, data: bytes, alt: str, status: int, code: str, words: str
) -> None:
    before = shown(mug, alt="Before")
    page = send(signed_in(), mug, data, alt)
    assert page.status_code == status
    assert words in text(page)
    assert list(RewardPicture.objects.values_list("sha256", "alt")) == [(before.sha256, "Before")]


@pytest.mark.parametrize("data, alt, status, code, words", WRONG, ids=NAMES)
def test_the_api_refuses_the_same_with_the_same_sentence(
    secret: str, mug: Reward, data: bytes, alt: str, status: int, code: str, words: str
) -> None:
    before = shown(mug, alt="Before")
    answer = put(secret, mug.pk, data, alt)
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code)
    assert words in problem["title"]
    assert list(RewardPicture.objects.values_list("sha256", "alt")) == [(before.sha256, "Before")]


def test_the_page_asks_for_a_picture_where_there_is_none(mug: Reward) -> None:
    page = send(signed_in(), mug, None)
    assert page.status_code == 422
    assert "Choose a picture." in text(page)
    assert not RewardPicture.objects.exists()


def test_words_for_a_picture_that_is_another_by_now_are_refused_and_can_be_said_again(mug: Reward) -> None:
    ola, first = signed_in(), shown(mug)
    second = shown(mug, BLUE, "A blue mug")
    page = send(ola, mug, None, "A mug, red", **{"picture-seen": first.sha256})
    assert page.status_code == 409
    assert "Somebody changed the picture meanwhile." in text(page)
    assert RewardPicture.objects.get().alt == "A blue mug"
    found = re.search(r'name="picture-seen" value="(\w+)"', page.content.decode())
    assert found is not None
    assert found[1] == second.sha256
    assert send(ola, mug, None, "A mug, blue", **{"picture-seen": found[1]}).status_code == 302
    # And who wanted the first one away does not take the second.
    ola.post(reverse("loyalty:reward-picture-remove", args=[mug.pk]), {"seen": first.sha256})
    assert RewardPicture.objects.get().alt == "A mug, blue"


@pytest.mark.parametrize("role", [Role.SUPPORT, Role.VIEWER])
def test_those_who_do_not_set_up_see_it_and_do_not_change_it(mug: Reward, role: str) -> None:
    kept, bo = shown(mug), signed_in(role)
    page = bo.get(reverse("loyalty:reward", args=[mug.pk])).content.decode()
    assert f'src="{kept.path}"' in page
    assert 'type="file"' not in page
    assert send(bo, mug, file(color=BLUE)).status_code == 403
    assert bo.post(reverse("loyalty:reward-picture-remove", args=[mug.pk])).status_code == 403
    path = f"/api/v1/rewards/{mug.pk}/picture/"
    assert bo.put(path, encode_multipart(BOUNDARY, {}), content_type=MULTIPART_CONTENT).status_code == 403
    assert bo.delete(path).status_code == 403
    assert RewardPicture.objects.get().sha256 == kept.sha256


def test_unknown_rewards_and_strangers_are_sent_away(mug: Reward) -> None:
    assert signed_in().post(reverse("loyalty:reward-picture", args=[10**9])).status_code == 404
    assert signed_in().post(reverse("loyalty:reward-picture-remove", args=[2**63])).status_code == 404
    assert "/sign-in/" in send(Client(), mug, file()).headers["Location"]
    assert not RewardPicture.objects.exists()


# --- Through the API --------------------------------------------------------------------------------------------------


def test_the_api_puts_tells_describes_and_removes(secret: str, mug: Reward, settings: Any) -> None:
    assert call(secret, "get", f"rewards/{mug.pk}/").json()["picture"] is None
    made = put(secret, mug.pk, saved(halves(), "WEBP"))
    assert made.status_code == 200
    told = made.json()
    assert (told["alt"], told["width"], told["height"]) == ("A red mug", 400, 200)
    assert told["url"] == f"{settings.SITE_URL}/p/pictures/{told['sha256']}/large.webp"
    assert told["small_url"].endswith(f"/p/pictures/{told['sha256']}/small.webp")
    assert call(secret, "get", f"rewards/{mug.pk}/").json()["picture"] == told
    assert [one["picture"] for one in call(secret, "get", "rewards/").json()["results"]] == [told]

    path = f"rewards/{mug.pk}/picture/"
    words = {"alt": "A mug, red", "sha256": told["sha256"]}
    changed = call(secret, "patch", path, data=words, content_type="application/json")
    assert (changed.status_code, changed.json()["alt"]) == (200, "A mug, red")
    other = call(secret, "patch", path, data={**words, "sha256": "0" * 64}, content_type="application/json")
    assert (other.status_code, other.json()["code"]) == (409, "wrong_state")

    assert call(secret, "delete", path).status_code == 204
    assert call(secret, "delete", path).status_code == 204
    assert not RewardPicture.objects.exists()
    none = call(secret, "patch", path, data=words, content_type="application/json")
    assert (none.status_code, none.json()["code"]) == (404, "no_picture")


def test_the_api_says_which_field_is_missing(secret: str, mug: Reward) -> None:
    for answer, field in (
        (put(secret, mug.pk, None), "file"),
        (put(secret, mug.pk, file(), None), "alt"),
        (call(secret, "put", f"rewards/{mug.pk}/picture/", data={"alt": "x"}, content_type="application/json"), "file"),
    ):
        assert answer.status_code == 400
        assert list(answer.json()["errors"]) == [field]
    assert put(secret, 10**9, file()).status_code == 404
    reader = ApiKey.issue(name="Screen", scopes=["rewards:read"])[1]
    assert put(reader, mug.pk, file()).status_code == 403
    assert not RewardPicture.objects.exists()


def test_the_wallet_tells_what_it_offers_with_its_picture(secret: str, ada: Customer, mug: Reward) -> None:
    programme = mug.programme
    rewards.create(programme=programme, name="Bicycle", points=90_000)
    kept = shown(mug)
    offers = call(secret, "get", f"wallets/{ada.pk}/").json()["rewards"]
    assert [(one["name"], one["points"], one["lacks"], one["may_redeem"]) for one in offers] == [
        ("Mug", 300, 0, True),
        ("Bicycle", 90_000, 89_000, False),
    ]
    assert offers[0]["picture"]["alt"] == "A red mug"
    assert offers[0]["picture"]["sha256"] == kept.sha256
    assert offers[1]["picture"] is None


# --- Where it is seen -------------------------------------------------------------------------------------------------


def test_customers_see_it_where_they_choose_and_where_they_redeem(ada: Customer, mug: Reward) -> None:
    kept = shown(mug, alt='A "red" <mug>')
    home, said = wallet.path(wallet.card(ada)), 'alt="A &quot;red&quot; &lt;mug&gt;"'
    for page, address in (
        (home, kept.small_path),
        (f"{home}rewards/{mug.pk}/", kept.path),
        (reverse("loyalty:programme-public", args=[mug.programme.key]), kept.small_path),
    ):
        body = Client().get(page).content.decode()
        assert f'src="{address}" {said}' in body
    # Beside the name in a list of the staff it says nothing more.
    for page in (reverse("loyalty:rewards"), reverse("loyalty:counter", args=[ada.pk])):
        assert f'src="{kept.small_path}" alt=""' in signed_in().get(page).content.decode()


def test_lists_without_a_picture_look_as_before_and_with_one_have_a_place_for_each(ada: Customer, mug: Reward) -> None:
    programme = mug.programme
    rewards.create(programme=programme, name="Cap", points=5)
    pages = (
        reverse("loyalty:rewards"),
        reverse("loyalty:counter", args=[ada.pk]),
        wallet.path(wallet.card(ada)),
        reverse("loyalty:programme-public", args=[programme.key]),
    )
    ola = signed_in()
    assert [ola.get(page).content.decode().count('class="thumb"') for page in pages] == [0, 0, 0, 0]
    shown(mug)
    assert [ola.get(page).content.decode().count('class="thumb"') for page in pages] == [2, 2, 2, 2]
    assert [ola.get(page).content.decode().count('<img class="thumb"') for page in pages] == [1, 1, 1, 1]


def test_lists_read_no_bytes_and_cost_the_same_however_many_there_are(secret: str, ada: Customer, mug: Reward) -> None:
    programme, home = mug.programme, wallet.path(wallet.card(ada))
    ola = signed_in()

    def counted(client: Client, path: str, **more: Any) -> int:
        client.get(path, **more)
        with CaptureQueriesContext(
            connection,
        ) as seen:
            assert client.get(path, **more).status_code == 200
        read = [one["sql"] for one in seen.captured_queries if "loyalty_rewardpicture" in one["sql"]]
        assert len(read) == 1
        assert not re.search(r'"loyalty_rewardpicture"\."(large|small)"', read[0])
        return len(seen.captured_queries)

    key = {"headers": {"Authorization": f"Bearer {secret}"}}
    visits: list[tuple[Client, str, dict[str, Any]]] = [
        (ola, reverse("loyalty:rewards"), {}),
        (ola, reverse("loyalty:counter", args=[ada.pk]), {}),
        (Client(), home, {}),
        (Client(), reverse("loyalty:programme-public", args=[programme.key]), {}),
        (Client(), "/api/v1/rewards/", key),
        (Client(), f"/api/v1/wallets/{ada.pk}/", key),
    ]
    shown(mug)
    few = [counted(client, path, **more) for client, path, more in visits]
    for n in range(5):
        shown(rewards.create(programme=programme, name=f"Cap {n}", points=5), GREEN, f"Cap {n}")
    assert [counted(client, path, **more) for client, path, more in visits] == few


def test_a_public_address_is_kept_for_ever_and_tells_nobody_who_asks(mug: Reward) -> None:
    kept = shown(mug)
    customer = signed_in()
    for address, side in ((kept.path, 300), (kept.small_path, 240)):
        answer = customer.get(address)
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == "image/webp"
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "cookie" not in answer.headers.get("Vary", "").lower()
        assert not answer.cookies
        assert opened(answer.content).size[0] == side
        again = Client().get(address, headers={"If-None-Match": answer.headers["ETag"]})
        assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", answer.headers["ETag"])
        assert again.headers["Cache-Control"] == answer.headers["Cache-Control"]
        assert Client().head(address).status_code == 200
    with CaptureQueriesContext(connection) as seen:
        customer.get(kept.path)
    assert len(seen.captured_queries) == 1  # No session, nobody signed in: the picture and nothing else.
    for address in (
        f"/p/pictures/{'0' * 64}/large.webp",
        f"/p/pictures/{kept.sha256}/huge.webp",
        f"/p/pictures/{kept.sha256}/reward_id.webp",
        f"/p/pictures/{kept.sha256[:-1]}/large.webp",
    ):
        missed = Client().get(address)
        assert (missed.status_code, missed.headers["Cache-Control"]) == (404, "no-store")
    assert Client().post(kept.path).status_code == 405


def test_two_rewards_may_show_the_same_and_one_of_them_lose_it(mug: Reward) -> None:
    cap = rewards.create(programme=mug.programme, name="Cap", points=5)
    one, other = shown(mug), shown(cap)
    assert one.path == other.path
    pictures.remove(reward=mug)
    assert Client().get(one.path).status_code == 200


def test_the_admin_shows_it_and_changes_nothing(mug: Reward) -> None:
    kept, client = shown(mug), Client()
    client.force_login(UserFactory(role=Role.OWNER, is_staff=True, is_superuser=True))
    address = reverse("admin:loyalty_rewardpicture_change", args=[RewardPicture.objects.get().pk])
    for path in (reverse("admin:loyalty_rewardpicture_changelist"), address):
        assert f'<img src="{kept.small_path}" alt="A red mug" height="72">' in client.get(path).content.decode()
    assert client.post(address, {"alt": "Other"}).status_code == 403
    assert RewardPicture.objects.get().alt == "A red mug"


# --- The row ----------------------------------------------------------------------------------------------------------


def test_what_was_uploaded_is_not_in_the_row(mug: Reward) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "Secret Camera"
    given = saved(halves(), "JPEG", exif=exif) + b"<script>alert(1)</script>"
    kept = pictures.put(reward=mug, file=uploaded(given), alt="Halves", actor=None)
    assert (kept.width, kept.height) == (200, 400)
    large, small = RewardPicture.objects.values_list("large", "small").get()
    for data in (bytes(large), bytes(small)):
        assert b"Secret" not in data
        assert b"script" not in data
        assert given[:100] not in data


def test_verify_finds_bytes_that_changed(mug: Reward) -> None:
    shown(mug)
    named = dict(verify.CHECKS)
    check = named["pictures of rewards are what was stored"]
    assert list(check()) == []
    RewardPicture.objects.update(small=file("WEBP"))
    assert list(check()) == ["The picture of “Mug” is not what was stored. Upload it again."]


def test_the_table_refuses_a_picture_without_words(mug: Reward) -> None:
    shown(mug)
    with pytest.raises(IntegrityError), transaction.atomic():
        RewardPicture.objects.update(alt="")


def test_the_verbs_say_what_is_wrong(mug: Reward) -> None:
    with pytest.raises(NotFound):
        pictures.describe(reward=mug, alt="A mug", seen="", actor=None)
    with pytest.raises(InvalidInput):
        pictures.describe(reward=mug, alt="", seen="", actor=None)
    first = shown(mug)
    shown(mug, BLUE)
    with pytest.raises(WrongState):
        pictures.remove(reward=mug, seen=first.sha256)
    assert RewardPicture.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_of_many_who_upload_at_once_one_wins_wholly() -> None:
    programme = Programme.current()
    assert programme is not None
    mug = rewards.create(programme=programme, name="Mug", points=300)
    colors = {f"picture {n}": (20 * n, 255 - 20 * n, 30) for n in range(8)}
    files = {alt: file(color=color) for alt, color in colors.items()}
    sums = {alt: images.draw(uploaded(data)).sha256 for alt, data in files.items()}  # type: ignore[arg-type]

    def work(n: int) -> None:
        alt = f"picture {n}"
        pictures.put(reward=Reward.objects.get(pk=mug.pk), file=uploaded(files[alt]), alt=alt, actor=None)  # type: ignore[arg-type]

    assert at_once(8, work) == {"done": 8}
    kept = RewardPicture.objects.get()
    assert kept.sha256 == sums[kept.alt]
    assert pictures.problems() == []
    assert is_near(opened(Client().get(kept.path).content).getpixel((9, 9)), colors[kept.alt])
