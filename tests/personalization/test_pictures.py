"""Which pictures are learnt from."""

import json
from pathlib import Path

import pytest

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.personalization.pictures import find_pictures


def names(data: Path) -> list[str]:
    return [path.name for path in find_pictures(data)]


def write_transforms(folder: Path, *views: str, **others: object) -> None:
    frames = [{"file_path": view, "transform_matrix": []} for view in views]
    (folder / "transforms.json").write_text(json.dumps({"frames": frames, **others}))


def test_a_folder_stands_for_its_pictures_and_a_picture_for_itself(pictures: Path) -> None:
    assert names(pictures) == ["a.png", "b.JPG", "c.png"]
    assert names(pictures / "b.JPG") == ["b.JPG"]


def test_a_data_set_stands_for_the_views_that_it_names(pictures: Path) -> None:
    write_transforms(pictures, "./c.png", "a")  # some data sets leave the ending out
    assert names(pictures) == ["c.png", "a.png"] == names(pictures / "transforms.json")


def test_of_a_data_set_that_is_divided_only_views_for_training_count(pictures: Path) -> None:
    write_transforms(
        pictures, "a.png", "b.JPG", "c.png", train_filenames=["a.png", "./c.png"], test_filenames=["b.JPG"]
    )
    assert names(pictures) == ["a.png", "c.png"]


def test_what_holds_no_pictures_is_refused_in_one_line(pictures: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for data, says in ((empty, "holds no pictures"), (tmp_path / "nothing", "no such picture or folder")):
        with pytest.raises(UserError, match=f"{says}.*--data") as error:
            find_pictures(data)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", ["{", "[]", '{"frames": [{}]}', '{"frames": 3}'])
def test_a_damaged_data_set_is_refused(pictures: Path, content: str) -> None:
    (pictures / "transforms.json").write_text(content)
    with pytest.raises(UserError, match="not the description of a nerfstudio data set"):
        find_pictures(pictures)


def test_a_view_that_is_not_there_is_named(pictures: Path) -> None:
    write_transforms(pictures, "a.png", "images/lost.png")
    with pytest.raises(UserError, match=r"lost\.png: the data set names this picture"):
        find_pictures(pictures)


def test_a_data_set_without_views_for_training_is_refused(pictures: Path) -> None:
    write_transforms(pictures)
    with pytest.raises(UserError, match="no views for training"):
        find_pictures(pictures)
