"""The widget's script in a headless Chromium, without Jupyter: a model that a test can watch, and views of it."""

import pytest
from explorer_pages import (
    HOVER_SECONDS,
    MEAN,
    NEEDS_CHROMIUM,
    SIZE,
    STD,
    assert_same_weights,
    hover,
    one_layer,
    pictures,
    read,
    screenshot,
    seconds_of_moves,
    show,
    strong,
    three_layers,
)

from aacn_lib import attention_maps, create_model, explore_tables, normalise
from aacn_lib.explorer.networks import Networks
from aacn_lib.layers import AAConv2d

# What anywidget hands to a view. `saved` holds what would go to Python.
START = """async ([script, style, state, views]) => {
    document.head.append(Object.assign(document.createElement('style'), { textContent: style }));
    const { default: { render } } = await import(URL.createObjectURL(new Blob([script], { type: 'text/javascript' })));
    const heard = new Map();
    const model = window.model = {
        state, sent: [], saved: [], heard,
        get: (name) => state[name],
        set(name, value) {
            if (JSON.stringify(state[name]) === JSON.stringify(value)) return;
            state[name] = value;
            for (const f of [...heard.get(`change:${name}`) ?? []]) f();
        },
        save_changes() { model.saved.push(structuredClone(state.selection)); },
        send: (content, callbacks, buffers) => model.sent.push([content, buffers.map((one) => one.byteLength)]),
        on: (name, f) => heard.set(name, [...heard.get(name) ?? [], f]),
        off: (name, f) => heard.set(name, heard.get(name).filter((other) => other !== f)),
    };
    window.show = () => render({ model, el: document.body.appendChild(document.createElement('div')) });
    window.ends = [];
    for (let i = 0; i < views; i++) window.ends.push(window.show());
}"""

pytestmark = NEEDS_CHROMIUM


@pytest.fixture
def open_widget(browser):
    contexts, wrong = [], []

    def open_views(explorer, views=1, **options):
        context = browser.new_context(viewport={"width": 1100, "height": 900}, offline=True, **options)
        context.set_default_timeout(10_000)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda r: None if r.url.startswith(("data:", "blob:")) else wrong.append(r.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.append(message.text))
        widget = explorer.widget()
        names = ("selection", "_kind", "_data", "_own", "_panels", "_upload")
        page.evaluate(START, [widget._esm, widget._css, {name: getattr(widget, name) for name in names}, views])
        return page

    yield open_views
    for context in contexts:
        context.close()
    assert wrong == []


def saved(page) -> list[dict]:
    page.wait_for_timeout(120)  # longer than a pause between two messages
    return page.evaluate("model.saved")


def test_nothing_is_said_before_the_reader_does_something(open_widget):
    assert saved(open_widget(show(one_layer(), pictures()), views=2)) == []


def test_many_moves_make_few_messages_and_the_last_state_arrives(open_widget):
    page = open_widget(show(one_layer(), pictures()))
    milliseconds = page.evaluate("""async () => {
        const grid = document.querySelector('.aacn-grid'), box = grid.getBoundingClientRect();
        const start = performance.now();
        for (let i = 0; i < 200; i++) {
            if (i % 10 === 0) await new Promise((resume) => setTimeout(resume, 10));
            grid.dispatchEvent(new PointerEvent('pointermove', {
                clientX: box.left + (i % 20 + 0.5) * box.width / 20, clientY: box.top + box.height * (i % 12) / 12 + 1,
            }));
        }
        return performance.now() - start;
    }""")
    found = saved(page)
    assert 2 <= len(found) <= milliseconds / 50 + 2
    assert len(found) < 100
    assert (found[-1]["row"], found[-1]["column"]) == (199 % 12, 199 % 20)
    assert found[-1] == page.evaluate("document.querySelector('.aacn-explorer').explorer.selection()")


def test_two_networks_in_two_views_and_in_a_later_one(open_widget):
    models = {"one": one_layer(), "three": three_layers()}
    page = open_widget(show(models, pictures()), views=2)
    page.get_by_label("layer of three").first.select_option("features.8")
    page.get_by_label("head of one").first.select_option("head 1")  # within the same pause
    hover(page, ".aacn-over", 11, 13, SIZE)
    last = saved(page)[-1]
    assert (last["panel"], last["layer"], last["head"], last["row"], last["column"]) == (0, "mix", 1, 11, 13)
    page.evaluate("void show()")
    own = "document.querySelectorAll('.aacn-explorer')[{}].explorer"
    first, *others = (
        [page.evaluate(f"{own.format(view)}.selection()"), page.evaluate(f"{own.format(view)}.panels()")]
        for view in range(3)
    )
    assert first == [last, [{"layer": "mix", "head": 1}, {"layer": "features.8", "head": "mean"}]]
    assert others == [first, first]
    hover(page, ".aacn-over", 2, 4, (3, 5), number=1)
    last = saved(page)[-1]
    assert [last[key] for key in ("panel", "layer", "row", "column")] == [1, "features.8", 2, 4]
    said = len(saved(page))
    page.evaluate("""() => {
        model.set('_panels', [{layer: 'mix', head: 0}, {layer: 'features.8', head: 0}]);
        model.set('selection', {...model.get('selection'), panel: 0, layer: 'mix', row: 3, column: 9, head: 0});
        model.set('_panels', [{layer: 'mix', head: 1}, {layer: 'features.8', head: 0}]);
        model.set('selection', {...model.get('selection'), panel: 1, layer: 'features.4', row: 3, column: 9, head: 0});
        model.set('_panels', [model.get('_panels')[0], {layer: 'features.4', head: 0}]);
    }""")
    for view in range(3):
        assert page.evaluate(f"{own.format(view)}.read(1).query") == [3, 9]
        assert page.evaluate(f"{own.format(view)}.read(0).head") == 1
    assert len(saved(page)) == said


def test_a_view_that_goes_leaves_nothing_behind(open_widget):
    page = open_widget(show(one_layer(), pictures()), views=2)
    count = "[...model.heard.values()].map((all) => all.length)"
    assert page.evaluate(count) == [2, 2, 2, 2]
    page.evaluate("""() => {
        const grid = document.querySelector('.aacn-grid'), box = grid.getBoundingClientRect();
        for (const [row, column] of [[3, 3], [4, 8]]) grid.dispatchEvent(new PointerEvent('pointermove', {
            clientX: box.left + (column + 0.5) * box.width / 20, clientY: box.top + (row + 0.5) * box.height / 12,
        }));
        ends[0](); // at once: the last state is not lost
    }""")
    assert page.evaluate("[model.saved.at(-1).row, model.saved.at(-1).column]") == [4, 8]
    assert page.evaluate(count) == [1, 1, 1, 1]
    page.evaluate("ends[1]()")
    assert page.evaluate(count) == [0, 0, 0, 0]


def test_own_pictures_come_and_go(open_widget):
    model, images = one_layer(), pictures(3)
    explorer = show(model, images[:1])
    page = open_widget(explorer, views=2)
    assert isinstance(explorer.networks, Networks)
    own = [
        explorer.networks.one_more(explorer.data, image, None, name)
        for image, name in zip(images[1:], "ab", strict=True)
    ]
    own[0]["notes"] = ["A note."]
    put = "own => { model.state.selection.picture = own.length; model.set('_own', own); }"
    for pictures_now in (own, own[1:]):
        page.evaluate(put, pictures_now)
        count = len(pictures_now)
        assert [b.get_attribute("aria-label") for b in page.locator(".aacn-thumb").all()] == 2 * [
            "picture 1", *(f"picture {number}: {name}" for number, name in enumerate("ab"[-count:], start=2))
        ]  # fmt: skip
        assert read(page)["picture"] == count
        for number, image in enumerate(images[-count:], start=1):  # not what stood under this number before
            page.evaluate("picture => model.set('selection', {...model.get('selection'), picture})", number)
            weights = attention_maps(model, normalise(image[None], MEAN, STD))["mix"].weights[0]
            assert_same_weights(read(page)["heads"][1], weights[1, 6 * 20 + 10])
        assert page.locator(".aacn-picture").first.get_attribute("src") == own[1]["picture"]["source"]
        assert page.locator(".aacn-picture").first.get_attribute("alt") == "b"
        assert page.locator("p.aacn-note", has_text="A note.").count() == (2 if count == 2 else 0)
    assert saved(page) == []


@pytest.mark.parametrize("first", ["selection", "_own", "_panels"])
def test_a_picture_and_its_selection_in_one_message(open_widget, first):
    """The front end sets all that a message brings, then tells of each in any order."""
    images = pictures(2)
    explorer = show(one_layer(), images[:1])
    page = open_widget(explorer, views=2)
    put = """([own, first]) => {
        const { state, heard } = model;
        Object.assign(state, { _own: own, selection: { ...state.selection, picture: 1 }, _panels: [...state._panels] });
        const names = new Set([first, "selection", "_own", "_panels"]);
        for (const name of names) for (const f of heard.get(`change:${name}`)) f();
    }"""
    page.evaluate(put, [[explorer.networks.one_more(explorer.data, images[1], None, "a")], first])
    assert page.evaluate("[...document.querySelectorAll('.aacn-explorer')].map(n => n.explorer.read().picture)") == [
        1,
        1,
    ]
    assert page.locator(".aacn-thumb").count() == 4
    assert saved(page) == []


def test_dropped_files(open_widget):
    page = open_widget(show(one_layer(), pictures(1)))
    drop = """names => {
        const all = new DataTransfer();
        for (const name of names) all.items.add(new File(['abc'], name, { type: 'image/png' }));
        const event = new DragEvent('drop', { dataTransfer: all, bubbles: true, cancelable: true });
        document.querySelector('.aacn-grid').dispatchEvent(event);
        return event.defaultPrevented;
    }"""
    assert page.evaluate(drop, ["a.png", "b.png"])  # else the browser would leave for the picture
    assert page.get_by_role("alert").inner_text() == "One picture at a time, please."
    assert page.evaluate("model.sent") == []
    page.evaluate(drop, ["a.png"])
    page.wait_for_function("model.sent.length === 1")
    content, sizes = page.evaluate("model.sent[0]")
    assert (content["kind"], content["name"], sizes) == ("picture", "a.png", [3])
    assert page.locator(".aacn-upload .aacn-note").inner_text() == "Python is looking at a.png …"
    assert page.get_by_role("alert").text_content() == ""


def test_the_upload_with_the_keyboard(open_widget):
    page = open_widget(show(one_layer(), pictures(1)))
    choosers = []
    page.on("filechooser", lambda chooser: choosers.append(chooser))
    page.get_by_role("button", name="add your picture").focus()
    page.keyboard.press("Enter")
    page.wait_for_timeout(200)
    (chooser,) = choosers
    assert not chooser.is_multiple()
    assert chooser.element.get_attribute("accept") == "image/*"


def test_the_widget_is_alive_in_time(open_widget):
    model = strong(create_model("aa_cnn", 7, (16, 16), widths=(5, 12), depth_k=160, depth_v=8, num_heads=8))
    page = open_widget(show(model, pictures(1)[..., :12].repeat(1, 1, 2, 2)[..., :16, :16].contiguous()))
    computed, painted = seconds_of_moves(page, (16, 16))
    print(f"hover: computed and drawn in {1000 * computed:.1f} ms, next frame after {1000 * painted:.1f} ms (medians)")
    assert painted <= HOVER_SECONDS


def test_light_and_dark(open_widget):
    for system, jupyter, dark in (("light", None, False), ("dark", None, True), ("light", "false", True)):
        page = open_widget(show(one_layer(), pictures(1)), color_scheme=system)
        if jupyter:
            page.evaluate("value => document.body.setAttribute('data-jp-theme-light', value)", jupyter)
        page.evaluate("() => { document.querySelector('[role=alert]').textContent = 'A sentence.'; }")
        style = "getComputedStyle(document.querySelector('{}')).{}"
        paper, ink, table = (
            sum(map(int, page.evaluate(style.format(*pair))[4:-1].split(",")))
            for pair in ((".aacn-explorer", "backgroundColor"), (".aacn-explorer", "color"), ("tbody td", "color"))
        )
        assert (paper < 150, ink > 600, table > 600) == (dark, dark, dark)
        screenshot(page, f"widget_{system}_{jupyter}")


def test_the_tables_as_a_widget(open_widget):
    layer = AAConv2d(3, 12, depth_k=10, depth_v=4, num_heads=2, feature_size=(5, 7))
    page = open_widget(explore_tables(layer), views=2)
    assert page.locator(".aacn-upload").count() == 0
    hover(page, ".aacn-grid", 4, 1, (5, 7))
    page.get_by_label("head", exact=True).first.select_option("head 1")
    expected = {"row": 4, "column": 1, "head": 1, "mean": False, "pinned": False}
    assert saved(page)[-1] == expected
    assert page.evaluate("document.querySelectorAll('.aacn-explorer')[1].explorer.selection()") == expected
    page.evaluate("model.set('selection', {...model.get('selection'), row: 0, pinned: true})")
    assert (read(page)["query"], read(page)["pinned"]) == ([0, 1], True)
    assert saved(page)[-1] == expected  # what came from Python is not said back
