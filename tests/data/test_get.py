"""Benchmarks from archives and from a local server."""

import gzip
import http.server
import io
import re
import tarfile
import threading
import zipfile

import pytest
from factories import image_tree, mnist_files

from dg_batchformer import cli
from dg_batchformer.data import find_benchmark, get, load_dataset
from dg_batchformer.errors import InputError

OFFICE = ("Art", "Clipart", "Product", "Real World")


def packed(folder, archive):
    """An archive of the files in a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as opened:
            for path in files:
                opened.write(path, path.relative_to(folder))
    else:
        with tarfile.open(archive, "w:gz" if archive.suffix == ".gz" else "w") as opened:
            for path in files:
                opened.add(path, path.relative_to(folder))
    return archive


@pytest.fixture
def data(tmp_path):
    return tmp_path / "DATA"


@pytest.mark.parametrize("suffix", ["zip", "tar", "tar.gz"])
@pytest.mark.parametrize("inner", ["", "OfficeHomeDataset_10072016/kfold/"])
def test_an_archive_is_unpacked_into_the_expected_folders(tmp_path, data, capsys, suffix, inner):
    image_tree(tmp_path / "made" / inner, ("Art", "clip_art", "Product", "Real_World"))
    (tmp_path / "made" / "ImageInfo.csv").write_text("a,b")
    archive = packed(tmp_path / "made", tmp_path / f"archive.{suffix}")
    assert cli.main(["data", "get", "OfficeHome", "--from", str(archive), "--data_dir", str(data)]) == 0
    assert "WARNING: 32 images (A 8, C 8, P 8, R 8): not the published OfficeHome of 15,588" in capsys.readouterr().out
    assert sorted(path.name for path in data.iterdir()) == ["office_home"]
    assert load_dataset("OfficeHome", str(data)).sizes == [8] * 4


def test_an_archive_for_each_environment_and_inner_folders(tmp_path, data):
    archives = []
    for name in OFFICE:
        image_tree(tmp_path / name / name, ("images",))
        archives.append(str(packed(tmp_path / name, tmp_path / f"{name}.zip")))
    get.get(find_benchmark("OfficeHome"), archives[:3] + archives[3:], str(data))
    assert load_dataset("OfficeHome", str(data)).classes == ("cat", "dog")


def test_environments_that_are_there_stay(tmp_path, data):
    image_tree(data / "office_home", OFFICE[:3])
    image_tree(tmp_path / "made", OFFICE, n=1)
    archive = str(packed(tmp_path / "made", tmp_path / "archive.zip"))
    get.get(find_benchmark("OfficeHome"), [archive], str(data))
    assert load_dataset("OfficeHome", str(data)).sizes == [8, 8, 8, 2]
    with pytest.raises(InputError, match=r"office_home has all environments of OfficeHome: remove it to get it again"):
        get.get(find_benchmark("OfficeHome"), [archive], str(data))


def test_mnist(tmp_path, data):
    raw = mnist_files(tmp_path, train=60000, test=10000) / "MNIST" / "raw"
    archives = []
    for path in raw.iterdir():
        archives.append(str(tmp_path / f"{path.name}.gz"))
        with gzip.open(archives[-1], "wb", compresslevel=1) as file:
            file.write(path.read_bytes())
    with pytest.raises(InputError, match="have 3 of the four files of MNIST"):
        get.get(find_benchmark("RotatedMNIST"), archives[:3], str(data))
    get.get(find_benchmark("RotatedMNIST"), archives, str(data))
    for path in raw.iterdir():
        assert (data / "MNIST" / "raw" / path.name).read_bytes() == path.read_bytes()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `files`; with `breaks` it ends the first answer in the middle."""

    def do_GET(self):
        content = self.server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        start = int(re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "bytes=0-"))[1])
        self.server.starts.append(start)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        broken, self.server.breaks = self.server.breaks, False
        self.wfile.write(content[start : len(content) // 2 if broken else None])

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        made.files, made.starts, made.breaks = {}, [], False
        thread = threading.Thread(target=made.serve_forever, daemon=True)
        thread.start()
        made.url = f"http://127.0.0.1:{made.server_port}"
        yield made
        made.shutdown()
        thread.join()


def test_a_download_continues_where_it_ended(tmp_path, data, server):
    image_tree(tmp_path / "made", OFFICE)
    server.files["/archive.zip"] = packed(tmp_path / "made", tmp_path / "archive.zip").read_bytes()
    server.breaks = True
    link = f"{server.url}/archive.zip"
    with pytest.raises(InputError, match=r"archive\.zip cannot be downloaded \(.*"):
        get.get(find_benchmark("OfficeHome"), [link], str(data))
    assert not (data / "office_home").exists()
    get.get(find_benchmark("OfficeHome"), [link], str(data))
    assert server.starts == [0, len(server.files["/archive.zip"]) // 2]
    assert load_dataset("OfficeHome", str(data)).sizes == [8] * 4


def test_published_links(tmp_path, data, server, monkeypatch):
    """All of a benchmark are taken; a dead one is named beside the others, and a wrong content by its MD5."""
    links = tmp_path / "links.csv"
    monkeypatch.setattr(get, "LINKS", links)
    for i, name in enumerate(OFFICE):
        image_tree(tmp_path / name, (name,))
        server.files[f"/{i}.zip"] = packed(tmp_path / name, tmp_path / f"{i}.zip").read_bytes()
    sums = [get.md5_of(tmp_path / f"{i}.zip") for i in range(4)]

    def publish(*rows):
        links.write_text("\n".join(["dataset,url,md5", *(f"OfficeHome,{server.url}{row}" for row in rows)]) + "\n")

    def error():
        with pytest.raises(InputError) as raised:
            get.get(find_benchmark("OfficeHome"), [], str(data))
        return str(raised.value)

    publish("/0.zip,", "/dead.zip,")
    assert "/dead.zip cannot be downloaded (HTTP Error 404: Not Found)" in error()
    assert f"published links of OfficeHome: {server.url}/0.zip; or download its archives in a browser" in error()
    publish("/0.zip,", "/1.zip,0123")
    assert f"has another content than published (MD5 {sums[1]}, expected 0123): removed" in error()
    publish(*(f"/{i}.zip,{own}" for i, own in enumerate(sums)))
    get.get(find_benchmark("OfficeHome"), [], str(data))
    assert load_dataset("OfficeHome", str(data)).sizes == [8] * 4
    links.write_text("dataset,url,md5\n")
    with pytest.raises(InputError, match="PACS has no published link: give --from with an archive or a link"):
        get.get(find_benchmark("PACS"), [], str(data))


def test_the_links_are_of_known_benchmarks():
    for name in ("PACS", "VLCS", "OfficeHome", "DomainNet", "SVIRO", "RotatedMNIST", "ColoredMNIST"):
        assert all(link.startswith("http") for link in get.published_links(name))
        assert get.published_links(name)


def outside(archive, name):
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as opened:
            opened.writestr(name, "x")
    else:
        with tarfile.open(archive, "w") as opened:
            opened.addfile(tarfile.TarInfo(name), io.BytesIO())
    return str(archive)


@pytest.mark.parametrize("suffix", ["zip", "tar"])
@pytest.mark.parametrize("name", ["../evil.txt", "/tmp/evil.txt", "a/../../evil.txt"])
def test_paths_outside_of_the_folder_are_an_error(tmp_path, data, suffix, name):
    archive = outside(tmp_path / f"archive.{suffix}", name)
    with pytest.raises(InputError, match="has paths outside of its folder, such as "):
        get.get(find_benchmark("PACS"), [archive], str(data))
    assert list(data.iterdir()) == []
    assert not (tmp_path / "evil.txt").exists()


def test_bad_input(tmp_path, data):
    (tmp_path / "no.zip").write_text("nothing")
    image_tree(tmp_path / "made", ("Art", "Other"))
    archive = str(packed(tmp_path / "made", tmp_path / "archive.zip"))
    cases = (
        (
            "PACS",
            [str(tmp_path / "none.zip")],
            "none.zip is not a file: expected an archive (.zip, .tar, .tar",
        ),
        ("PACS", [str(tmp_path / "no.zip")], "no.zip cannot be unpacked (Not a gzipped file (b'no')): expected a zip"),
        ("OfficeHome", [archive], "no folder with the classes of Clipart, Product, Real World: expected the environ"),
        ("RotatedDigits", [archive], "data get cannot unpack RotatedDigits: expected a benchmark of image folders, or"),
        ("mdlt:PACS", [archive], "data get cannot unpack mdlt:PACS"),
    )
    for name, origins, message in cases:
        with pytest.raises(InputError) as error:
            get.get(find_benchmark(name), origins, str(data))
        assert message in str(error.value)
    assert not data.exists() or list(data.iterdir()) == []
    with pytest.raises(InputError, match="data get needs --data_dir"):
        get.get(find_benchmark("PACS"), [archive], None)
