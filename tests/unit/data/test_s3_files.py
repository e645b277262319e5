import hashlib
from pathlib import Path

import pytest

from tunesmith.data.reader_options import ReaderOptions
from tunesmith.data.s3_files import find_s3_files
from tunesmith.errors import DataError
from tunesmith.store.s3 import S3Config, S3Object


class Bucket:
    """What stands in for a connection to a server."""

    config = S3Config(endpoint_url="http://127.0.0.1:9000")

    def __init__(self, **objects):
        self.objects, self.downloads = objects, 0

    def find_objects(self, uri):
        return [S3Object(f"s3://b/{key}.csv", "", len(text)) for key, text in self.objects.items()]

    def stat(self, uri):
        text = self.objects[Path(uri).stem]
        return S3Object(uri, hashlib.md5(text.encode()).hexdigest(), len(text))

    def download(self, found, target):
        self.downloads += 1
        target.write_text(self.objects[Path(found.uri).stem])
        return hashlib.sha256(target.read_bytes()).hexdigest()


def find(bucket, folder, **options):
    return [*find_s3_files(bucket.find_objects("s3://b/*.csv"), ReaderOptions(**options), bucket, folder)]


def test_objects_are_copied_once_and_again_when_they_change_or_the_copy_is_damaged(tmp_path):
    bucket = Bucket(a="text\na\n", b="text\nb\n")
    files = find(bucket, tmp_path)
    assert [file.place for file in files] == ["s3://b/a.csv", "s3://b/b.csv"]
    assert [file.path.read_text() for file in files] == ["text\na\n", "text\nb\n"]
    assert find(bucket, tmp_path) == files
    assert bucket.downloads == 2
    bucket.objects["a"] = "text\nc\n"
    assert find(bucket, tmp_path)[0].path.read_text() == "text\nc\n"
    files[1].path.write_text("damaged")
    assert find(bucket, tmp_path)[1] == files[1]
    assert files[1].path.read_text() == "text\nb\n"
    assert bucket.downloads == 4
    assert not list(tmp_path.rglob("*.part"))


def test_what_cannot_be_read_is_refused_before_it_is_copied(tmp_path):
    bucket = Bucket(a="x")
    with pytest.raises(DataError, match=r"s3://b/a\.csv: the source's unit has no effect on csv"):
        find(bucket, tmp_path, unit="line")
    assert bucket.downloads == 0
