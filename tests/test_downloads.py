"""Published data sets, fetched from a server on this machine that serves them well and badly."""

import gzip
import hashlib
import http.server
import json
import struct
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from minivae import load_data
from minivae.app.cli import main
from minivae.data import published
from minivae.data.published import PARTS, PUBLISHED, Published

IMAGES = struct.pack(">IIII", 0x803, 4, 2, 3) + bytes(range(24))
INSIDE = dict(zip(PARTS, (IMAGES, IMAGES, struct.pack(">II", 0x801, 4) + bytes(4))))
FILES = {f"{part}.gz": gzip.compress(data, mtime=0) for part, data in INSIDE.items()}
PAGE = b"<!DOCTYPE html><html><body>Please log in</body></html>"


class Handler(http.server.BaseHTTPRequestHandler):
    """The first part of the path says how the server is to behave."""

    def do_GET(self):
        kind, name = self.path.strip("/").split("/")
        self.server.asked.append(self.path)
        data = FILES[name]
        if kind == "page":
            data = PAGE
        elif kind == "tampered":
            data = data[:-1] + bytes([data[-1] ^ 1])
        elif kind == "repacked":
            data = gzip.compress(INSIDE[name.removesuffix(".gz")], compresslevel=1, mtime=7)
        elif kind == "twice":
            data = gzip.compress(data)
        elif kind == "unpacked":
            data = INSIDE[name.removesuffix(".gz")]
        if kind == "slow":
            time.sleep(0.1)                                    # long enough for the others to come
        if kind == "silent":
            time.sleep(3)
            return
        if kind == "half" and name.startswith("t10k"):         # the first file, then no more
            return self.send_error(503)
        if kind == "missing":
            return self.send_error(404)
        if kind == "redirect":
            self.send_response(302)
            self.send_header("Location", f"/good/{name}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        if kind == "headers":                                  # a letter at a time
            for letter in b"HTTP/1.1 200 OK".ljust(40):
                self.wfile.write(bytes([letter]))
                time.sleep(0.05)
            return
        self.send_response(200)
        if kind not in ("endless", "trickle", "drops"):
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if kind == "truncated":
            data = data[:-9]
        elif kind == "endless":
            data = bytes(50_000)
        elif kind == "drops":
            while True:                                        # a byte at a time
                self.wfile.write(b"x")
                self.server.drops += 1
                time.sleep(0.01)
        elif kind == "trickle":
            while True:                                        # until the client hangs up
                self.wfile.write(bytes(1024))
                time.sleep(0.05)
        self.wfile.write(data)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *_):                                # the client hangs up on a bad answer
        pass


@pytest.fixture(scope="module")
def server():
    with Server(("127.0.0.1", 0), Handler) as server:
        server.asked, server.drops = [], 0
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def mirrors(server, tmp_path, monkeypatch):
    """mirrors("good", "missing", ..) makes those the mirrors of mnist, and the files above the published ones."""
    monkeypatch.setattr(published, "cache_folder", lambda name: tmp_path / "cache" / "minivae" / name)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("MINIVAE_DATA", raising=False)
    server.asked.clear()

    def choose(*kinds, inside_known=True):
        urls = tuple(f"http://127.0.0.1:{server.server_port if kind != 'dead' else 9}/{kind}/" for kind in kinds)
        known = {}
        for part, data in INSIDE.items():
            inside = [sha256(data)] if inside_known else []
            known[part] = (sha256(FILES[f"{part}.gz"]), *inside)
        monkeypatch.setitem(PUBLISHED, "mnist", Published(urls, known))
        return server.asked

    return choose


def sha256(data):
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache" / "minivae" / "mnist"


@pytest.mark.parametrize("kind", ["good", "redirect", "repacked", "unpacked"])
def test_a_good_mirror_is_used_once_and_then_the_cache(mirrors, kind, cache, capsys):
    asked = mirrors(kind)
    first = load_data("mnist")
    first_asked = [path for path in asked if not (kind == "redirect" and "/good/" in path)]
    assert [path.split("/")[-1] for path in first_asked] == [f"{part}.gz" for part in PARTS]
    assert "fetching mnist from 127.0.0.1" in capsys.readouterr().err
    asked.clear()
    second = load_data("mnist")
    assert asked == [] and capsys.readouterr().err == ""
    for data in (first, second):
        np.testing.assert_array_equal(data.x_train.ravel(), np.arange(24))
        assert data.image_shape == (2, 3) and str(cache) in data.note and "not recognised" not in data.note
    assert {path.name for path in cache.iterdir()} == set(FILES)


def test_a_repacked_file_is_refused_where_only_the_hash_of_the_packed_one_is_known(mirrors):
    mirrors("repacked", inside_known=False)
    with pytest.raises(ValueError, match="bytes that are not the published ones"):
        load_data("mnist")


BAD = {"missing": "answer 404 for train-images-idx3-ubyte.gz",
       "page": "bytes that are not the published ones: a web page",
       "truncated": "broken off", "tampered": "bytes that are not the published ones",
       "twice": "bytes that are not the published ones", "headers": "timed out, no answer in 0.2 seconds",
       "silent": "timed out",
       "endless": "is longer than 40000 bytes",
       "trickle": "timed out, train-images-idx3-ubyte.gz was not whole after 0.2 seconds",
       "dead": "no connection"}


@pytest.fixture
def impatient(kind, monkeypatch):
    """Narrow bounds, for the bad mirror only: the good one is never late, however busy the machine."""
    bounds = {"silent": ("SILENCE", 0.2), "trickle": ("DEADLINE", 0.2), "headers": ("DEADLINE", 0.2),
              "endless": ("LIMIT", 40_000)}
    stream = published._stream

    def bounded(name, url, path, _):
        with monkeypatch.context() as patch:
            if f"/{kind}/" in url and kind in bounds:
                patch.setattr(published, *bounds[kind])
            stream(name, url, path, _)

    monkeypatch.setattr(published, "_stream", bounded)


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_mirror_gets_one_line_that_says_why_and_what_to_do_and_leaves_nothing(mirrors, kind, cache, impatient):
    mirrors(kind)
    with pytest.raises(ValueError, match=BAD[kind]) as caught:
        load_data("mnist")
    message = str(caught.value)
    assert "\n" not in message and "--data mnist: not found here" in message and "127.0.0.1" in message
    assert all(f"{part}.gz" in message for part in PARTS)
    assert "in DIR/mnist/ and say --data-dir DIR or MINIVAE_DATA=DIR" in message
    assert list(cache.iterdir()) == []


def test_a_server_of_single_bytes_is_given_up_before_a_kilobyte_has_come(mirrors, server, monkeypatch):
    """The clock was looked at once in 1,024 bytes: at a byte a second, 17 minutes late."""
    mirrors("drops")
    monkeypatch.setattr(published, "DEADLINE", 0.1)
    with pytest.raises(ValueError, match="was not whole after 0.1 seconds"):
        load_data("mnist")
    assert 0 < server.drops < 1024


EIGHT = """
import json, os, sys
from pathlib import Path
import pooch, requests                                     # loaded before the children begin
from minivae import load_data
from minivae.app.cli import main
from minivae.data import published
port, folder, known = json.loads(sys.argv[1])
published.cache_folder = lambda name: Path(folder) / name
published.PUBLISHED["mnist"] = published.Published((f"http://127.0.0.1:{port}/slow/",), known)
gate, opener = os.pipe()
children = []
for _ in range(8):
    child = os.fork()
    if child == 0:
        os.close(opener)
        os.read(gate, 1)                                   # all begin when the parent closes the pipe
        try:
            os._exit(len(load_data("mnist").x_train))
        except BaseException as error:
            print(error, file=sys.stderr, flush=True)
            os._exit(1)
    children.append(child)
os.close(opener)
print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
"""


def test_of_eight_first_downloads_at_once_one_fetches_and_all_get_the_images(mirrors, server, tmp_path):
    asked = mirrors("slow")
    known = {part: [sha256(FILES[f"{part}.gz"])] for part in PARTS}
    argument = json.dumps([server.server_port, str(tmp_path / "cache"), known])
    done = subprocess.run([sys.executable, "-c", EIGHT, argument], capture_output=True, text=True)
    assert json.loads(done.stdout) == [4] * 8, done.stderr     # each found four images
    assert asked == [f"/slow/{part}.gz" for part in PARTS] and done.stderr.count("fetching mnist") == 1
    assert {path.name for path in (tmp_path / "cache" / "mnist").iterdir()} == set(FILES)


@pytest.mark.parametrize("kind", BAD)
def test_after_a_bad_mirror_comes_the_next(mirrors, kind, impatient):
    mirrors(kind, "good")
    assert len(load_data("mnist").x_train) == 4


def test_a_mirror_that_fails_half_way_is_completed_from_the_next(mirrors, cache):
    asked = mirrors("half", "good")
    load_data("mnist")
    assert asked == [f"/half/{PARTS[0]}.gz", f"/half/{PARTS[1]}.gz", f"/good/{PARTS[1]}.gz", f"/good/{PARTS[2]}.gz"]


@pytest.mark.parametrize("damage", [
    lambda data: data[:-5], lambda data: b"", lambda data: PAGE, lambda data: data[:-1] + b"?"],
    ids=["cut", "empty", "page", "bit"])
def test_a_cached_file_that_no_longer_fits_is_fetched_again_with_a_word(mirrors, cache, damage, capsys):
    asked = mirrors("good")
    load_data("mnist")
    path = cache / f"{PARTS[1]}.gz"
    path.write_bytes(damage(path.read_bytes()))
    asked.clear(), capsys.readouterr()
    assert len(load_data("mnist").x_test) == 4
    assert asked == [f"/good/{PARTS[1]}.gz"] and path.read_bytes() == FILES[path.name]
    assert f"{path} is no longer what was downloaded: fetching it again" in capsys.readouterr().err


def test_an_unpacked_file_in_the_cache_does_not_go_before_the_one_that_was_compared(mirrors, cache, capsys):
    mirrors("good")
    load_data("mnist")
    (cache / PARTS[0]).write_bytes(INSIDE[PARTS[0]][:-1] + b"?")
    data = load_data("mnist")
    np.testing.assert_array_equal(data.x_train.ravel(), np.arange(24))
    assert "not recognised" not in data.note
    assert main(["doctor"]) == 0 and capsys.readouterr().out.count("as published") == len(PARTS)


def test_a_gzip_bomb_is_no_published_file_and_is_never_unpacked_whole(mirrors, monkeypatch):
    mirrors("good")
    monkeypatch.setattr(published, "LIMIT", 1000)
    bomb = gzip.compress(bytes(10**6))
    seen = []
    unpack = published.unpack
    monkeypatch.setattr(published, "unpack", lambda *args: seen.append(len(data := unpack(*args))) or data)
    assert not published.is_published("mnist", PARTS[0], bomb) and seen == [1000]


def test_a_cache_folder_that_cannot_be_made_gets_one_line(mirrors, tmp_path):
    mirrors("good")
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(ValueError, match="not to be had from 127.0.0.1") as caught:
        load_data("mnist")
    assert "\n" not in str(caught.value)


# --- folders of the user's --------------------------------------------------------------------------


def write(folder, files):
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)


@pytest.mark.parametrize("files", [FILES, INSIDE], ids=["packed", "unpacked"])
@pytest.mark.parametrize("where", ["data/mnist", "data"])
def test_a_folder_of_the_users_is_taken_before_any_download(mirrors, tmp_path, files, where):
    asked = mirrors("good")
    write(tmp_path / where, files)
    data = load_data("mnist", tmp_path / "data")
    assert asked == [] and str(tmp_path / where) in data.note and "not recognised" not in data.note


def test_the_folders_are_looked_at_in_order(mirrors, tmp_path, cache, monkeypatch):
    mirrors("good")
    empty = tmp_path / "empty"
    empty.mkdir()
    write(tmp_path / "named" / "mnist", FILES)
    write(tmp_path / "environment" / "mnist", FILES)
    monkeypatch.setenv("MINIVAE_DATA", str(tmp_path / "environment"))
    assert str(tmp_path / "named") in load_data("mnist", tmp_path / "named").note
    assert str(tmp_path / "environment") in load_data("mnist").note
    assert str(tmp_path / "environment") in load_data("mnist", empty).note
    monkeypatch.delenv("MINIVAE_DATA")
    assert str(cache) in load_data("mnist", empty).note


def test_files_of_other_bytes_are_taken_and_that_is_said(mirrors, tmp_path):
    mirrors("good")
    other = IMAGES[:-1] + b"!"
    write(tmp_path / "mine" / "mnist", INSIDE | {PARTS[1]: other})
    data = load_data("mnist", tmp_path / "mine")
    assert data.x_test.max() == ord("!") and f"(not recognised as the published mnist: {PARTS[1]})" in data.note


def test_another_set_in_the_folder_itself_is_not_taken_for_the_wanted_one(mirrors, tmp_path):
    """All three sets have the same file names."""
    mirrors("good")
    write(tmp_path / "mnist", FILES)
    assert published.find_folder("fashion-mnist", tmp_path / "mnist") is None
    write(tmp_path / "fashion-mnist", FILES)
    assert published.find_folder("fashion-mnist", tmp_path / "fashion-mnist") == tmp_path / "fashion-mnist"
    assert "of which only the .gz files are known" in load_data("fashion-mnist", tmp_path).note


@pytest.mark.parametrize("data, message", [(IMAGES[:-1], "and 23 follow"), (PAGE, "no IDX file of images"),
                                           (FILES[f"{PARTS[0]}.gz"][:-5], "cannot be read")])
def test_a_damaged_file_of_the_users_is_refused_not_replaced(mirrors, tmp_path, data, message):
    asked = mirrors("good")
    write(tmp_path / "mine" / "mnist", INSIDE | {PARTS[0]: data})
    with pytest.raises(ValueError, match=message):
        load_data("mnist", tmp_path / "mine")
    assert asked == []


def test_an_incomplete_folder_of_the_users_is_refused(mirrors, tmp_path):
    mirrors("good")
    write(tmp_path / "mine", {PARTS[0]: IMAGES})
    with pytest.raises(ValueError, match=f"lacks {PARTS[1]} .or {PARTS[1]}.gz.: put it there"):
        load_data("mnist", tmp_path / "mine")


def test_a_data_dir_that_does_not_exist_is_refused_before_any_download(mirrors, tmp_path):
    asked = mirrors("good")
    with pytest.raises(ValueError, match="nowhere: no such folder"):
        load_data("mnist", tmp_path / "nowhere")
    assert asked == []


@pytest.mark.mnist
def test_the_real_mnist_is_recognised_however_it_is_packed(mnist_dir):
    assert "not recognised" not in load_data("mnist", mnist_dir).note


def test_every_set_has_mirrors_and_a_hash_for_every_part():
    everything = []
    for name, known in PUBLISHED.items():
        assert all(url.startswith("http") and url.endswith("/") for url in known.mirrors) and known.mirrors, name
        assert tuple(known.sha256) == PARTS, name
        digests = [digest for of_part in known.sha256.values() for digest in of_part]
        assert all(len(digest) == 64 for digest in digests), name
        everything += digests
    assert len(set(everything)) == 12
