"""The live editor in a real browser: headless Chromium against a small run on the CPU.

Skipped where there is no Chromium (Debian's package `chromium`) or no playwright (in the extra "dev").
"""

import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nerfstudio.viewer.utils import get_camera
from nerfstudio.viewer_legacy.server.viewer_utils import IOChangeException
from PIL import Image

from pds_nerfstudio.scenes.checkpoints import read_checkpoint
from pds_nerfstudio.scenes.live.comparison import Look
from pds_nerfstudio.scenes.live.session import Action, read_record
from pds_nerfstudio.scenes.models.splat import EditSplatModel
from pds_nerfstudio.scenes.trainer import EditTrainer

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")

# WebGL in software, and no talk with the network of the browser's own.
FLAGS = [
    *("--no-sandbox", "--no-first-run", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
    *("--ignore-gpu-blocklist", "--disable-quic"),
]
PATIENCE = 300.0
REGION = {"x": 50, "y": 150, "width": 600, "height": 700}
"""Of the viewer's page: some of the scene, clear of panel and axes."""


def wait_for(condition: Callable[[], Any], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"in vain: {what}"
        time.sleep(0.05)


@dataclass
class LiveRun:
    """A run that goes on in a thread of its own."""

    trainer: EditTrainer
    errors: list[BaseException] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._train, daemon=True)
        self.thread.start()

    def _train(self) -> None:
        torch.set_num_threads(1)
        try:
            self.trainer.train()
        except BaseException as error:  # SystemExit among them: a UserError's line
            self.errors.append(error)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.trainer.config.viewer.websocket_port}"

    @property
    def state(self) -> str:
        assert not self.errors, self.errors
        return self.trainer.session.status.state

    def actions(self, action: Action) -> list[dict[str, Any]]:
        record = read_record(self.trainer.base_dir / "session.jsonl")
        return [request.settings for _, request in record if request.action == action]

    def stop(self) -> None:
        self.trainer.interrupted = self.trainer.stop_training = True
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()
        self.trainer.shutdown()


@pytest.fixture
def interrupted_renders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets nerfstudio break a render off anywhere.

    It raises an exception at whatever line of Python the thread that renders has come to. If that is in a callback of a
    weak reference, Python can only say that it ignores it; whatever else is ignored so still counts.
    """
    report = sys.unraisablehook

    def pass_over(unraisable: Any) -> None:
        if not issubclass(unraisable.exc_type, IOChangeException):
            report(unraisable)

    monkeypatch.setattr(sys, "unraisablehook", pass_over)


@pytest.fixture
def live_run(make_config: Any, prepare: Any, interrupted_renders: None) -> Iterator[LiveRun]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = make_config("splat", steps=100_000, reconstruct=5, vis="viewer", show_edit=True, pipeline__lr_mult=20.0)
    config.viewer.quit_on_train_completion = False
    config.viewer.websocket_host, config.viewer.websocket_port = "127.0.0.1", port
    run = LiveRun(prepare(config))
    yield run
    run.stop()


@pytest.fixture
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS, timeout=PATIENCE * 1000)
        yield chromium
        chromium.close()


def open_viewer(browser: Any, url: str) -> Any:
    page = new_page(browser, viewport={"width": 1100, "height": 900})
    page.goto(url)
    page.get_by_text("Text edit").wait_for()
    return page


def new_page(browser: Any, **options: Any) -> Any:
    page = browser.new_context(**options).new_page()
    page.set_default_timeout(PATIENCE * 1000)
    return page


@dataclass
class Looker:
    """Compares what a browser shows of the scene with what the run holds."""

    page: Any
    """Of the first of the browsers."""
    trainer: EditTrainer
    """Of the run."""
    folder: Path
    """For screenshots."""

    def rendered(self, output: str = "rgb") -> np.ndarray:
        """What the browser should show of one of the model's outputs as things stand."""
        viewer: Any = self.trainer.viewer_state
        model = self.trainer.pipeline.model
        assert isinstance(model, EditSplatModel)
        clients = viewer.viser_server.get_clients()
        camera = viewer.get_camera_state(clients[min(clients)])
        box = self.page.locator("canvas").first.bounding_box()
        height, width = round(box["height"]), round(box["height"] * camera.aspect)
        with self.trainer.train_lock, torch.no_grad():
            model.eval()
            comparison, seen_by = self.trainer.panel._comparison, get_camera(camera, height // 4, width // 4)
            image = comparison._edited(seen_by, None)[output if output in ("rgb", "accumulation") else "rgb"]
            if output in ("source", "change", "may_change"):
                image = comparison._picture(output, Look(), image, seen_by, None)
            model.train()
        image = image.expand(*image.shape[:2], 3)
        picture = Image.fromarray((image.clamp(0, 1) * 255).byte().numpy()).resize((width, height))
        left, top = REGION["x"], REGION["y"] - round(box["y"])
        right, bottom = left + REGION["width"], top + REGION["height"]
        return np.array(picture.crop((left, top, right, bottom))).astype(float)

    def sees(self, this: np.ndarray, others: list[np.ndarray]) -> bool:
        """Whether the browser shows this picture, and clearly none of the others."""
        path = self.folder / "shown.png"
        self.page.screenshot(path=path, clip=REGION)
        shown = np.array(Image.open(path).convert("RGB")).astype(float)
        return all(distance(shown, this) < distance(shown, other) / 3 for other in others)


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Mean difference of two pictures, in 0..255."""
    return float(np.abs(one - other).mean())


def input_of(page: Any, label: str) -> Any:
    """The input beside a label; viser ties not all of them together."""
    return page.locator(f'xpath=//label[text()="{label}"]/ancestor::div[contains(@class, "Flex-root")][1]//input').first


def show(page: Any, what: str) -> None:
    """Set the panel's output switch."""
    input_of(page, "Show").click()
    page.get_by_role("option", name=what, exact=True).click()


def press(page: Any, button: str) -> None:
    page.get_by_role("button", name=button, exact=True).click()


def press_until(page: Any, button: str, condition: Callable[[], Any], what: str) -> None:
    """Press a button, and again where a page that is busy drawing has not heard it, until something holds."""

    def pressed() -> bool:
        press(page, button)
        end = time.monotonic() + 30
        while time.monotonic() < end and not condition():
            page.wait_for_timeout(100)
        return bool(condition())

    wait_for(pressed, what)


def choose(page: Any, label: str, option: str, until: Callable[[], Any], what: str) -> None:
    """Choose an option of a dropdown, and again where a page that is busy has not heard it."""

    def chosen() -> bool:
        input_of(page, label).click()
        page.get_by_role("option", name=option).first.click()
        end = time.monotonic() + 30
        while time.monotonic() < end and not until():
            page.wait_for_timeout(100)
        return bool(until())

    wait_for(chosen, what)


def content(folder: Path) -> dict[Path, bytes]:
    """All that belongs to a finished edit."""
    files = [folder / "config.yml", folder / "report.html", folder / "splat.ply", *folder.glob("nerfstudio_models/*")]
    return {path: path.read_bytes() for path in files}


def test_nothing_is_lost_and_all_can_be_had_back(live_run: LiveRun, browser: Any) -> None:
    trainer, first = live_run.trainer, live_run.trainer.base_dir
    page = open_viewer(browser, live_run.url)
    wait_for(lambda: trainer.pipeline.editing, "the edit begins")
    press_until(page, "Pause", lambda: live_run.state == "paused", "Pause pauses")
    page.get_by_text("Settings", exact=True).first.click()
    input_of(page, "Steps left").fill("1")
    wait_for(lambda: trainer.panel._inputs["steps_left"].value == 1, "the number has arrived")
    press_until(page, "Edit", lambda: trainer.session.states, "the last step is run, and the results are written")
    finished = content(first)

    # Undo says what it keeps. Other words go to a folder of their own, and the finished edit stays as it is.
    press_until(page, "Undo", lambda: live_run.state == "paused", "Undo gives the source back")
    page.get_by_role("alert").get_by_text("The edit is kept as 1: a dog (finished)").wait_for()
    input_of(page, "Target").fill("a fox")
    wait_for(lambda: trainer.panel._inputs["tgt_prompt"].value == "a fox", "the words have arrived")
    press_until(page, "Edit", lambda: trainer.base_dir.name == "run_a-fox", "the next edit has a folder of its own")
    wait_for(lambda: trainer.pipeline.editing, "it begins")
    press_until(page, "Pause", lambda: live_run.state == "paused", "Pause pauses")
    assert content(first) == finished

    # The words of before, and the state, come back.
    choose(page, "Last words", "a dog", lambda: input_of(page, "Target").input_value() == "a dog", "words come back")
    page.get_by_text("Kept", exact=True).click()
    assert page.locator("td img").count() == 1
    choose(page, "Go back to", "1: a dog", lambda: trainer.base_dir == first, "the finished edit is back")
    wait_for(lambda: live_run.state == "finished", "and finished")
    page.get_by_text("2: a fox").first.wait_for(state="attached")  # what was left is kept, too

    # The report, the splat and the page of all states come into the browser.
    press_until(page, "Compare", (first / "compare.html").exists, "all states are compared")
    page.get_by_role("alert").get_by_text("Side by side").wait_for()
    for button, name in (("Report", "report.html"), (".ply", "splat.ply"), ("Comparison", "compare.html")):
        with page.expect_download() as download:
            press(page, button)
        assert Path(download.value.path()).read_bytes() == (first / name).read_bytes()
        assert download.value.suggested_filename == f"run-{name}"
    assert content(first) == finished


def test_an_edit_is_steered_from_browsers(
    live_run: LiveRun, browser: Any, tmp_path: Path, differences: Callable[[Any, Any], list[str]]
) -> None:
    trainer = live_run.trainer
    session = trainer.session
    first, second = open_viewer(browser, live_run.url), open_viewer(browser, live_run.url)
    viewer: Any = trainer.viewer_state
    wait_for(lambda: len(viewer.viser_server.get_clients()) == 2, "both browsers have a camera")

    # Other words take effect while it runs, and both browsers see them.
    input_of(first, "Target").fill("a red cat on a mat")
    wait_for(lambda: input_of(second, "Target").input_value() == "a red cat on a mat", "the second browser follows")
    assert not live_run.actions("edit")  # typing alone asks for nothing
    press(first, "Edit")
    words = {"tgt_prompt": "a red cat on a mat", "round": "here"}  # a whole round of steps
    wait_for(lambda: live_run.actions("edit") == [words], "Edit is on record")
    assert trainer.pipeline.guidance is not None
    assert trainer.pipeline.guidance.prompts == (["a cat"], ["a red cat on a mat"])
    # How fast the edit comes depends on the steps before Edit, and those on how busy the machine is.
    looker = Looker(first, trainer, tmp_path)
    wait_for(lambda: distance(looker.rendered(), looker.rendered("source")) > 15, "the edit differs from its source")

    # Paused, the scene holds still; the switch shows the source and the change.
    press(second, "Pause")
    wait_for(lambda: live_run.state == "paused", "Pause pauses")
    first.get_by_text("Paused: edit step").wait_for()
    first.get_by_role("button", name="Resume Training").wait_for()  # nerfstudio's own button agrees
    paused_at = trainer.next_step
    press(first, "Hide Train Cams")
    edited = looker.rendered()
    show(first, "before")
    source, change = looker.rendered("source"), looker.rendered("change")
    assert min(distance(edited, source), distance(change, source), distance(change, edited)) > 10
    wait_for(lambda: looker.sees(source, [edited, change]), "the source is shown")
    show(first, "change")
    wait_for(lambda: looker.sees(change, [edited, source]), "the change is shown")
    assert input_of(second, "Show").input_value() == "edited"  # each browser shows what it likes
    assert viewer.control_panel.output_render == "rgb"
    show(first, "edited")
    wait_for(lambda: looker.sees(edited, [source, change]), "the edited scene is shown")

    # Branch and Snapshot keep the result; Undo gives the source back to the last bit, and to be seen.
    press(first, "Branch")
    wait_for(lambda: live_run.actions("branch"), "Branch is on record")
    branch = trainer.base_dir.with_name("run_a-red-cat-on-a-mat")
    assert (branch / "config.yml").exists() and len(list((branch / "nerfstudio_models").iterdir())) == 1
    press(first, "Undo")
    wait_for(lambda: live_run.actions("undo"), "Undo is on record")
    press(first, "Snapshot")
    wait_for(lambda: live_run.actions("snapshot"), "Snapshot is on record")
    (kept,) = (trainer.base_dir / "snapshots").glob("*.ckpt")
    (source_file,) = trainer.source_folder.glob("*.ckpt")
    was, now = read_checkpoint(source_file), read_checkpoint(kept)
    assert differences(was.model_weights, now.model_weights) == []
    assert differences(was.state["optimizers"], now.state["optimizers"]) == []
    assert np.array_equal(looker.rendered(), source)
    wait_for(lambda: looker.sees(source, [edited, change]), "Undo is to be seen")
    assert trainer.next_step == paused_at

    # A few more steps, and it is done: the report opens from its file, without a network.
    first.get_by_text("Settings").first.click()
    input_of(first, "Steps left").fill("3")
    wait_for(lambda: trainer.panel._inputs["steps_left"].value == 3, "the number has arrived")
    press(first, "Edit")
    wait_for(lambda: live_run.state == "finished", "the last steps are run")
    assert trainer.next_step == paused_at + 3
    second.get_by_role("alert").get_by_text("The results are in").wait_for()  # and a message says so
    second.get_by_text("Finished: edit step 3 of 3").wait_for()
    assert session.settings["steps_left"] == 0
    look_at_report(browser, trainer.base_dir / "report.html", tmp_path)


def test_a_prompt_is_shown_as_it_stands(live_run: LiveRun, browser: Any) -> None:
    new = "<b>red</b> {1 + 1} *dog* on www.mat.example"
    prompt = f"a {new}"
    page = open_viewer(browser, live_run.url)
    input_of(page, "Target").fill(prompt)
    wait_for(lambda: live_run.trainer.panel._inputs["tgt_prompt"].value == prompt, "the words have arrived")
    press(page, "Edit")
    shown = page.locator("strong").get_by_text(new)  # what the source prompt does not say
    shown.wait_for()
    assert shown.locator("*").count() == 0  # text, and nothing in it


def test_what_may_change_is_chosen_by_clicks(live_run: LiveRun, browser: Any, tmp_path: Path) -> None:
    trainer = live_run.trainer
    viewer: Any = trainer.viewer_state
    first, second = open_viewer(browser, live_run.url), open_viewer(browser, live_run.url)
    wait_for(lambda: len(viewer.viser_server.get_clients()) == 2, "both browsers have a camera")
    wait_for(lambda: trainer.pipeline.editing, "the edit begins")
    press(first, "Pause")
    wait_for(lambda: live_run.state == "paused", "Pause pauses")
    press(first, "Hide Train Cams")
    clients = viewer.viser_server.get_clients()
    eye = clients[min(clients)].camera  # so near that a brush reaches the middle of one of the few Gaussians
    eye.position, eye.look_at, eye.fov = (3.0, 3.0, 3.0), (0.0, 0.0, 0.0), 1.3
    for page in (first, second):
        page.get_by_text("Only this").click()
        page.get_by_text("All may change.").wait_for()
    first.get_by_label("Pick").check()
    wait_for(lambda: viewer.viser_server.scene._scene_pointer_cb is not None, "picks are listened to")

    def balls() -> list[float]:
        return trainer.pipeline.settings["only"]["balls"]

    # A click picks what is seen there: it lies in the direction of the pixel.
    looker = Looker(first, trainer, tmp_path)
    model = trainer.pipeline.model
    assert isinstance(model, EditSplatModel)
    with trainer.train_lock, torch.no_grad():
        model.gauss_params["opacities"].fill_(5)
    trainer.panel._choosing._brush.value = 0.25  # its Gaussians are large and few
    x = y = 0

    def picked() -> bool:
        """A page that is busy drawing may not have heard yet that it is to report clicks: then they go nowhere."""
        nonlocal x, y
        solid = np.argwhere(looker.rendered("accumulation")[..., 0] > 250)
        middle = np.array([REGION["height"], REGION["width"]]) / 2
        down, across = solid[np.abs(solid - middle).sum(1).argmin()]
        x, y = REGION["x"] + int(across), REGION["y"] + int(down)
        first.mouse.click(x, y)
        end = time.monotonic() + 30
        while time.monotonic() < end and not balls():
            first.wait_for_timeout(200)
        return bool(balls())

    wait_for(picked, "a piece is picked")
    assert len(balls()) == 4
    clients = viewer.viser_server.get_clients()
    camera = viewer.get_camera_state(clients[min(clients)])
    box = first.locator("canvas").first.bounding_box()
    rays = get_camera(camera, round(box["height"]), round(box["height"] * camera.aspect)).generate_rays(
        camera_indices=0
    )
    ray = rays[y - round(box["y"]), x - round(box["x"])]
    away = torch.tensor(balls()[:3]) - ray.origins
    assert torch.nn.functional.cosine_similarity(away, ray.directions, dim=0) > 0.99999
    second.get_by_text("What may change: 1 picked piece.").wait_for()
    show(first, "may change")
    hot = looker.rendered("may_change")
    wait_for(lambda: looker.sees(hot, [looker.rendered("rgb")]), "the choice is shown")

    # A drag picks more, the view stays, and all can be taken back.
    first.mouse.move(x - 40, y - 40)
    first.mouse.down()
    first.mouse.move(x + 40, y + 40, steps=5)
    first.mouse.up()
    wait_for(lambda: len(balls()) > 4, "a rectangle is picked")
    n = len(balls())
    assert torch.equal(viewer.get_camera_state(clients[min(clients)]).c2w, camera.c2w)
    press(second, "Take back last")
    wait_for(lambda: len(balls()) == n - 4, "a piece is taken back")
    press(first, "Let all change")
    second.get_by_text("All may change.").wait_for()
    assert not balls() and live_run.state == "paused"
    press(first, "Take crop box")
    second.get_by_text("What may change: a box.").wait_for()


def look_at_report(browser: Any, path: Path, tmp_path: Path) -> None:
    page = new_page(browser, offline=True, viewport={"width": 900, "height": 900})
    asked_for: list[str] = []
    page.on("request", lambda request: asked_for.append(request.url))
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.goto(path.as_uri())
    pair = page.locator(".pair").first
    box = pair.bounding_box()

    def shown_with_handle_at(share: float) -> np.ndarray:
        page.mouse.click(box["x"] + share * box["width"], box["y"] + box["height"] / 2)
        assert float(pair.get_by_role("slider").input_value()) == pytest.approx(100 * share, abs=4)
        pair.screenshot(path=tmp_path / "pair.png")
        return np.array(Image.open(tmp_path / "pair.png").convert("RGB")).astype(float)

    left, right = shown_with_handle_at(0.05), shown_with_handle_at(0.95)
    middle = slice(left.shape[1] // 4, 3 * left.shape[1] // 4)
    # One picture would differ from itself by nothing; three steps from the source change some two levels of 255.
    assert np.abs(left[:, middle] - right[:, middle]).mean() > 0.3
    assert page.locator("svg").count() == 3 and page.locator(".strip img").count() >= 1
    assert not problems and all(url.startswith(("data:", path.as_uri())) for url in asked_for)
