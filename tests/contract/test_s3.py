"""What the S3 backend promises beyond the suite: foreign objects, conditions, faults, messages."""

from __future__ import annotations

import json
import logging
import socket
from contextlib import closing
from typing import TYPE_CHECKING, Any, Literal

import pytest

from storefs.backends.contract import Delete, Put
from storefs.errors import AccessDenied, Conflict, Corrupt, Exit, Invalid, Quit, Unavailable
from tests.contract.steps import commit, content, done, failed, put
from tests.scale import scaled
from tests.servers.s3 import KEY, PAGE, SECRET, Bucket
from tests.servers.s3_proxy import KINDS, Kind, Proxy, Reply, Request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from storefs.backends.s3 import S3

pytestmark = pytest.mark.user

A, B, CONFIG = "auths/a.json", "auths/b.json", "config/config.yaml"


@pytest.fixture
def s3(bucket: Bucket) -> Iterator[S3]:
    with closing(bucket.connect()) as backend:
        yield backend


@pytest.fixture
def proxy(moto_url: str) -> Iterator[Proxy]:
    with Proxy(moto_url) as made:
        yield made


def behind(proxy: Proxy, of: Bucket) -> Bucket:
    """The same bucket through the proxy."""
    return Bucket(proxy.url, of.name)


class TestWhatIsStored:
    def test_keys_and_content_types_are_those_of_the_native_store(
        self, s3: S3, bucket: Bucket
    ) -> None:
        put(s3, CONFIG, b"a: 1\n")
        put(s3, "auths/team/a.json", b"{}")
        assert bucket.keys() == ["auths/team/a.json", CONFIG]
        names = [CONFIG, "auths/team/a.json"]
        types = {key: bucket.client.head_object(Bucket=bucket.name, Key=key) for key in names}
        assert {key: head["ContentType"] for key, head in types.items()} == {
            CONFIG: "application/x-yaml",
            "auths/team/a.json": "application/json",
        }
        assert all(head["Metadata"] == {} for head in types.values())

    def test_a_prefix(self, bucket: Bucket) -> None:
        bucket.make().put("auths/foreign.json", b"{}")
        with closing(bucket.connect(env=bucket.env(PREFIX="/machines/one/"))) as s3:
            put(s3, A, b"{}")
            assert set(s3.snapshot()) == {A}
            assert s3.identity == f"s3:{bucket.endpoint}/{bucket.name}/machines/one"
            assert bucket.keys() == ["auths/foreign.json", f"machines/one/{A}"]

    def test_both_spellings_of_the_variables(self, bucket: Bucket) -> None:
        env = {name.lower(): f" {value} " for name, value in bucket.env().items()}
        with closing(bucket.connect(env=dict.fromkeys(bucket.env(), "") | env)) as s3:
            assert s3.snapshot() == {}

    def test_the_probe_leaves_nothing_behind(self, s3: S3, bucket: Bucket) -> None:
        assert s3.traits()["writes"] == "compare-and-swap"
        assert bucket.keys() == []

    def test_nor_in_a_bucket_that_keeps_versions(self, bucket: Bucket) -> None:
        bucket.make().client.put_bucket_versioning(
            Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"}
        )
        bucket.connect().close()
        left = bucket.client.list_object_versions(Bucket=bucket.name)
        assert left.get("Versions", []) == left.get("DeleteMarkers", []) == []

    def test_what_a_killed_probe_left_is_not_shown(self, bucket: Bucket) -> None:
        bucket.make().put("auths/.storefs-probe-0123", b"1")
        with closing(bucket.connect()) as s3:
            assert s3.snapshot() == {}

    def test_a_read_only_mount_makes_nothing(self, bucket: Bucket) -> None:
        with pytest.raises(Unavailable, match="does not exist"):
            bucket.connect(read_only=True)
        with Proxy(bucket.make().endpoint) as proxy:
            behind(proxy, bucket).connect(read_only=True).close()
            assert {str(request).split()[0] for request in proxy.log} == {"LIST"}


class TestForeignObjects:
    @pytest.mark.parametrize(
        "key",
        [
            "auths/folder/",
            "auths//twice.json",
            "auths/../up.json",
            "auths/./dot.json",
            "auths/\x01.json",
            "auths/" + "n" * 300 + ".json",
        ],
    )
    def test_a_name_that_cannot_be_shown_is_skipped_once(
        self, bucket: Bucket, caplog: pytest.LogCaptureFixture, key: str
    ) -> None:
        bucket.make().put(key, b"{}")
        bucket.put(A, b"{}")
        with closing(bucket.connect()) as s3:
            assert set(s3.snapshot()) == set(s3.snapshot()) == {A}
        lines = [line for line in caplog.messages if "is left out" in line]
        assert len(lines) == (0 if "/." in key else 1)
        assert all("\n" not in line and "\x01" not in line for line in lines)

    def test_a_key_of_1024_bytes(self, bucket: Bucket) -> None:
        longest = "auths/" + "/".join(["d" * 200] * 5)
        longest += "x" * (1024 - len(longest))
        bucket.make().put(longest, b"{}")
        with closing(bucket.connect()) as s3:
            assert content(s3, longest) == b"{}"
            put(s3, longest, b'{"a": 1}', s3.snapshot()[longest].revision)
            failed(commit(s3, Put(longest + "y", b"{}", None)), Invalid)

    def test_other_content_types_and_multipart_etags(self, bucket: Bucket) -> None:
        bucket.make().put("auths/page.json", b"<html>", ContentType="text/html")
        bucket.put("auths/packed.json", b"\x1f\x8b", ContentEncoding="gzip")
        self._multipart(bucket, A)
        with closing(bucket.connect()) as s3:
            assert content(s3, "auths/page.json") == b"<html>"
            assert content(s3, "auths/packed.json") == b"\x1f\x8b"
            revision = s3.snapshot()[A].revision
            assert revision.endswith("-1")
            second = put(s3, A, b"{}", revision)
            done(commit(s3, Delete(A, second)))

    def _multipart(self, bucket: Bucket, key: str) -> None:
        words: dict[str, Any] = {"Bucket": bucket.name, "Key": key}
        upload = bucket.client.create_multipart_upload(**words)["UploadId"]
        part = bucket.client.upload_part(**words, UploadId=upload, PartNumber=1, Body=b"{ }")
        bucket.client.complete_multipart_upload(
            **words,
            UploadId=upload,
            MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
        )

    def test_what_is_too_large_is_listed_and_never_downloaded(
        self, bucket: Bucket, proxy: Proxy, caplog: pytest.LogCaptureFixture
    ) -> None:
        size = 100 << 20
        bucket.make().put(A, bytes(size))
        bucket.put(B, b"{}")
        with closing(behind(proxy, bucket).connect(max_file_size=1000)) as s3:
            assert s3.snapshot()[A].size == size
            assert [path for path, _ in s3.read([A, B])] == [B]
            failed(commit(s3, Put(A, b"{}", s3.snapshot()[B].revision)), Corrupt)
            assert list(s3.read([A])) == []
            assert proxy.sent < size / 4
        assert len([line for line in caplog.messages if "never downloaded" in line]) == 1

    def test_many_objects(self, bucket: Bucket, proxy: Proxy) -> None:
        count = scaled(5000, 4 * PAGE)
        bucket.make()
        with closing(behind(proxy, bucket).connect()) as s3:
            names = [f"auths/{number:05d}.json" for number in range(count)]
            outcomes = s3.commit([[Put(name, name.encode(), None)] for name in names], 600)
            assert all(name in done(outcome) for name, outcome in zip(names, outcomes, strict=True))
            proxy.forget()
            assert sorted(s3.snapshot()) == names
            assert len(proxy.log) == 2 + (count - 1) // PAGE
            read = {path: blob.data for path, blob in s3.read(names) if blob}
            assert read == {name: name.encode() for name in names}


class TestRequests:
    """How many requests an operation takes."""

    def test_of_each_change(self, bucket: Bucket, proxy: Proxy) -> None:
        with closing(behind(proxy, bucket).connect()) as s3:
            proxy.forget()
            first = put(s3, A, b"1")
            second = put(s3, A, b"2", first)
            assert proxy.counted() == [f"PUT {A}"] * 2
            assert not proxy.log[0].expects
            proxy.forget()
            moved = done(commit(s3, Delete(A, second), Put(B, b"2", None)))[B]
            assert proxy.counted() == [f"HEAD {A}", f"PUT {B}", f"DELETE {A}"]
            proxy.forget()
            done(commit(s3, Delete(B, moved.revision)))
            assert proxy.counted() == [f"DELETE {B}"]
            proxy.forget()
            s3.snapshot()
            assert sorted(proxy.counted()) == ["LIST auths/", "LIST config/"]

    def test_of_each_change_without_conditions(self, blind_bucket: Bucket) -> None:
        with (
            Proxy(blind_bucket.endpoint) as proxy,
            closing(behind(proxy, blind_bucket).connect()) as s3,
        ):
            assert s3.traits()["writes"] == "last-writer-wins"
            assert s3.traits()["not conditional"] == "create, replace, delete"
            proxy.forget()
            first = put(s3, A, b"1")
            assert proxy.counted() == [f"HEAD {A}", f"PUT {A}", f"GET {A}"]
            proxy.forget()
            done(commit(s3, Delete(A, first)))
            assert proxy.counted() == [f"HEAD {A}", f"DELETE {A}"]


def test_who_is_overwritten_without_conditions_is_told(
    blind_bucket: Bucket,
) -> None:
    with (
        Proxy(blind_bucket.endpoint) as proxy,
        closing(behind(proxy, blind_bucket).connect()) as s3,
    ):
        first = put(s3, A, b"1")
        proxy.forget()

        def interfere(request: Request) -> None:
            if str(request) == f"GET {A}" and len(proxy.log) == 3:
                blind_bucket.put(A, b"theirs")

        proxy.rule = interfere
        failed(commit(s3, Put(A, b"mine", first)), Conflict)
        assert blind_bucket.get(A) == b"theirs"


@pytest.mark.parametrize("method", ["PUT", "HEAD", "GET"])
def test_an_etag_that_is_not_told_is_asked_for(bucket: Bucket, proxy: Proxy, method: str) -> None:
    """As of an object that is just being overwritten, on `rclone serve s3`."""
    with closing(behind(proxy, bucket.make()).connect()) as s3:
        first = put(s3, A, b"1")
        told: list[str] = []

        def hide(request: Request) -> Literal["untagged"] | None:
            told.append(request.method)
            return "untagged" if request.method == method and told.count(method) == 1 else None

        proxy.rule = hide
        second = put(s3, A, b"2", first)
        failed(commit(s3, Put(A, b"3", first)), Conflict)
        assert content(s3, A) == b"2"
        assert s3.snapshot()[A].revision == second
        assert told.count(method) > 1 or method == "PUT"


def test_the_etag_of_another_writer_is_never_taken_for_ones_own(
    bucket: Bucket, proxy: Proxy
) -> None:
    """Else this machine would show its bytes at that revision, and never look again."""
    with closing(behind(proxy, bucket.make()).connect()) as s3:
        first = put(s3, A, b"1")

        def interfere(request: Request) -> Literal["untagged"] | None:
            if request.method == "GET":
                bucket.put(A, b"theirs")
            return "untagged" if request.method == "PUT" else None

        proxy.rule = interfere
        failed(commit(s3, Put(A, b"mine", first)), Conflict)
        assert bucket.get(A) == b"theirs"


class TestHalfConditions:
    """Servers that honour some conditions only: made of a whole one that never sees the rest."""

    def _check(self, proxy: Proxy, bucket: Bucket, lacks: str) -> None:
        with closing(behind(proxy, bucket).connect()) as s3:
            assert s3.traits()["writes"] == "last-writer-wins"
            assert s3.traits()["not conditional"] == lacks
            assert bucket.keys() == []
            first = put(s3, A, b"1")
            failed(commit(s3, Put(A, b"2", None)), Conflict)
            second = put(s3, A, b"2", first)
            failed(commit(s3, Put(A, b"3", first)), Conflict)
            failed(commit(s3, Delete(A, first)), Conflict)
            failed(commit(s3, Put(B, b"3", first)), Conflict)
            done(commit(s3, Delete(A, second)))
            assert bucket.keys() == []

    @pytest.mark.parametrize(
        ("method", "header", "lacks"),
        [
            ("PUT", "if-none-match", "create"),
            ("PUT", "if-match", "replace"),
            ("DELETE", "if-match", "delete"),
        ],
    )
    def test_a_condition_that_is_ignored(
        self, bucket: Bucket, proxy: Proxy, method: str, header: str, lacks: str
    ) -> None:
        proxy.drop = lambda request: header if request.method == method else ""
        self._check(proxy, bucket, lacks)

    def test_a_replace_that_makes_what_is_absent(self, bucket: Bucket, proxy: Proxy) -> None:
        def drop(request: Request) -> str:
            absent = request.method == "PUT" and request.key and not bucket.get(request.key)
            return "if-match" if absent else ""

        proxy.drop = drop
        self._check(proxy, bucket, "replace only what exists")

    def test_a_condition_that_is_not_implemented(self, bucket: Bucket, proxy: Proxy) -> None:
        def rule(request: Request) -> Reply | None:
            return Reply(501, "NotImplemented") if request.conditional == "DELETE" else None

        proxy.rule = rule
        self._check(proxy, bucket, "delete")


class TestFaults:
    @pytest.mark.parametrize("kind", ["500", "503", "cut", "cut after", "truncated"])
    def test_a_passing_fault_is_not_seen(self, bucket: Bucket, proxy: Proxy, kind: Kind) -> None:
        with closing(behind(proxy, bucket).connect()) as s3:
            revision = None
            for step in range(scaled(20, 2)):
                proxy.forget()
                proxy.break_nth(1, kind)
                revision = put(s3, A, b"%d" % step, revision)
                proxy.forget()
                proxy.break_nth(1 + step % 2, kind)
                assert s3.snapshot()[A].revision == revision
                proxy.forget()
                proxy.break_nth(1, kind)
                assert content(s3, A) == b"%d" % step
            proxy.forget()
            proxy.break_nth(1, kind)
            assert revision is not None
            assert done(commit(s3, Delete(A, revision))) == {}
            assert bucket.keys() == []

    @pytest.mark.parametrize("kind", ["500", "503", "403", "cut", "cut after", "truncated"])
    def test_a_start_with_any_one_request_broken(
        self, bucket: Bucket, proxy: Proxy, kind: Kind
    ) -> None:
        """It ends well or with an error, it never doubts the conditions, and leaves nothing."""
        bucket.make().put(A, b"{}")
        made = behind(proxy, bucket)
        made.connect().close()
        offset = KINDS.index(kind) % 3
        every = 1 if scaled(100) == 100 else 3
        for number in range(1 + offset, len(proxy.log) + 1, every):
            proxy.forget()
            proxy.break_nth(number, kind)
            try:
                s3 = made.connect()
            except AccessDenied:
                assert kind == "403"
            else:
                assert s3.traits()["writes"] == "compare-and-swap"
                assert not s3.read_only
                s3.close()
            assert bucket.content() == {A: b"{}"}, f"request {number}"

    def test_an_own_put_whose_answer_is_lost_is_no_conflict(
        self, bucket: Bucket, proxy: Proxy
    ) -> None:
        with closing(behind(proxy, bucket).connect()) as s3:
            proxy.forget()
            proxy.break_nth(1, "cut after")
            first = put(s3, A, b"mine")
            assert bucket.get(A) == b"mine"
            proxy.forget()
            proxy.break_nth(1, "cut after")
            put(s3, A, b"again", first)

    def test_but_another_one_in_its_place_is(self, bucket: Bucket, proxy: Proxy) -> None:
        with closing(behind(proxy, bucket).connect()) as s3:
            first = put(s3, A, b"1")
            proxy.forget()

            def rule(request: Request) -> Reply | None:
                if len(proxy.log) == 1:
                    bucket.put(A, b"theirs")
                    return Reply(503, "SlowDown")
                return None

            proxy.rule = rule
            failed(commit(s3, Put(A, b"mine", first)), Conflict)
            assert bucket.get(A) == b"theirs"

    def test_the_deadline_ends_the_tries(self, bucket: Bucket, proxy: Proxy) -> None:
        with closing(behind(proxy, bucket).connect()) as s3:
            proxy.forget()
            proxy.rule = lambda request: Reply(503, "SlowDown", (("Retry-After", "3600"),))
            failed(commit(s3, Put(A, b"{}", None)), Unavailable)
            assert len(proxy.log) == 1

    def test_a_server_that_asks_for_a_pause_gets_it(self, bucket: Bucket, proxy: Proxy) -> None:
        def rule(request: Request) -> Reply | None:
            busy = Reply(503, "SlowDown", (("Retry-After", "1"),))
            return busy if request.number == 1 else None

        with closing(behind(proxy, bucket).connect()) as s3:
            proxy.forget()
            proxy.rule = rule
            put(s3, A, b"{}")
            first, second = proxy.log
            assert second.at - first.at >= 1

    def test_a_page_that_is_no_listing_is_no_empty_store(
        self, bucket: Bucket, proxy: Proxy
    ) -> None:
        class Page(Reply):
            body = b"<html><body>Sign in</body></html>"

        with closing(behind(proxy, bucket).connect()) as s3:
            proxy.rule = lambda request: Page(200, "") if request.is_listing else None
            with pytest.raises(Unavailable, match="no S3 server"):
                s3.snapshot()

    def test_a_gateways_404_is_no_absence(self, bucket: Bucket, proxy: Proxy) -> None:
        with closing(behind(proxy, bucket).connect()) as s3:
            put(s3, A, b"{}")
            proxy.rule = lambda request: Reply(404, "NotFoundHere")
            with pytest.raises(Unavailable):
                list(s3.read([A]))
            with pytest.raises(Unavailable):
                s3.snapshot()


class TestMessages:
    """One clear line each, and never a key."""

    @pytest.mark.parametrize(
        ("env", "words"),
        [
            ({"OBJECTSTORE_ACCESS_KEY": "wrong-key"}, "check OBJECTSTORE_ACCESS_KEY"),
            ({"OBJECTSTORE_SECRET_KEY": "wrong-secret"}, "check OBJECTSTORE_SECRET_KEY"),
        ],
    )
    def test_wrong_keys(
        self,
        blind_bucket: Bucket,
        env: dict[str, str],
        words: str,
    ) -> None:
        with pytest.raises(AccessDenied, match=words) as caught:
            blind_bucket.connect(env=env)
        self._check_line(str(caught.value))

    @pytest.mark.parametrize(
        ("reply", "words"),
        [
            (Reply(403, "RequestTimeTooSkewed", (("Date", "Thu, 01 Jan 2026 00:00:00 GMT"),)),
             r"clock .* differs from the server's by \d+ s"),
            (Reply(400, "AuthorizationHeaderMalformed"), "OBJECTSTORE_REGION"),
            (Reply(403, "AccessDenied"), "check the rights"),
            (Reply(404, "Whatever"), "404 Whatever"),
        ],
    )  # fmt: skip
    def test_refusals(self, bucket: Bucket, proxy: Proxy, reply: Reply, words: str) -> None:
        proxy.rule = lambda request: reply
        with pytest.raises((AccessDenied, Unavailable), match=words) as caught:
            behind(proxy, bucket).connect()
        self._check_line(str(caught.value))

    def test_a_missing_bucket_that_may_not_be_made(self, bucket: Bucket, proxy: Proxy) -> None:
        def rule(request: Request) -> Reply | None:
            return Reply(403, "AccessDenied") if str(request).startswith("PUT") else None

        proxy.rule = rule
        with pytest.raises(AccessDenied, match="may not make it: make it, or correct") as caught:
            behind(proxy, bucket).connect()
        self._check_line(str(caught.value))

    def test_a_key_that_may_only_read(self, bucket: Bucket, proxy: Proxy) -> None:
        def rule(request: Request) -> Reply | None:
            denied = str(request).startswith(("PUT", "DELETE"))
            return Reply(403, "AccessDenied") if denied else None

        bucket.make().put(A, b"{}")
        proxy.rule = rule
        with closing(behind(proxy, bucket).connect()) as s3:
            assert s3.read_only
            assert s3.traits()["writes"] == "none"
            assert content(s3, A) == b"{}"

    @pytest.mark.parametrize("scheme", ["http", "https"])
    def test_nobody_listens(self, scheme: str) -> None:
        with socket.socket() as taken:  # bound, but closed to everybody
            taken.bind(("127.0.0.1", 0))
            place = Bucket(f"{scheme}://127.0.0.1:{taken.getsockname()[1]}")
            with pytest.raises(Unavailable, match="check OBJECTSTORE_ENDPOINT") as caught:
                place.connect(deadline=1.0)
        self._check_line(str(caught.value))

    def test_tls_to_a_server_without(self, bucket: Bucket) -> None:
        place = Bucket(bucket.endpoint.replace("http://", "https://"))
        with pytest.raises(Unavailable, match="write http://") as caught:
            place.connect(deadline=1.0)
        self._check_line(str(caught.value))

    @pytest.mark.parametrize(
        ("env", "words"),
        [
            ({"OBJECTSTORE_BUCKET": " "}, "OBJECTSTORE_BUCKET must be set"),
            ({"OBJECTSTORE_SECRET_KEY": ""}, "OBJECTSTORE_SECRET_KEY must be set"),
            ({"OBJECTSTORE_ENDPOINT": "ftp://host"}, "must be a host, or begin with"),
            ({"OBJECTSTORE_ENDPOINT": "https://host/bucket"}, "has a path"),
            ({"OBJECTSTORE_ENDPOINT": f"https://{KEY}:{SECRET}@host"}, "holds a user name"),
            ({"OBJECTSTORE_BUCKET": "a/b"}, "not the name of a bucket"),
            ({"OBJECTSTORE_PREFIX": "a//b"}, "OBJECTSTORE_PREFIX"),
            ({"OBJECTSTORE_BACKUP_PREFIX": "auths"}, "lies among the documents"),
            (
                {"OBJECTSTORE_PREFIX": "backup/auths/x", "OBJECTSTORE_BACKUP_PREFIX": "backup"},
                "lies among the documents",
            ),
        ],
    )
    def test_settings(self, bucket: Bucket, env: dict[str, str], words: str) -> None:
        with pytest.raises(Quit, match=words) as caught:
            bucket.connect(env=env)
        assert caught.value.code == Exit.SETTINGS
        self._check_line(str(caught.value))

    def _check_line(self, line: str) -> None:
        assert "\n" not in line
        assert len(line) < 400
        assert KEY not in line
        assert SECRET not in line


def test_no_log_line_tells_a_secret(
    bucket: Bucket,
    caplog: pytest.LogCaptureFixture,
) -> None:
    token = json.dumps({"access_token": "token-of-nobody"}).encode()
    with caplog.at_level(logging.DEBUG), closing(bucket.connect()) as s3:
        put(s3, A, token)
        assert content(s3, A) == token
        failed(commit(s3, Put(A, b"{}", None)), Conflict)
    for secret in (KEY, SECRET, "token-of-nobody", "Signature="):
        assert secret not in caplog.text
