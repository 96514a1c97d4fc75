// The explorers as a widget (anywidget): what stands before this in the module builds the page, this keeps it and
// Python at one. The model: _kind, _data, _own (pictures that were added), _panels, _upload, selection.

const BUILD = { explorer: buildExplorer, tables: buildTables };
const PAUSE = 50; // milliseconds between two messages about the selection

// f, at once and then at most once a pause; the last call is never lost. now() brings a waiting one forward.
function spaced(f) {
  let timer = null, waiting = false;
  const run = () => {
    waiting = false;
    timer = setTimeout(() => { timer = null; if (waiting) run(); }, PAUSE);
    f();
  };
  const stop = () => { clearTimeout(timer); timer = null; waiting = false; };
  return {
    call() { if (timer === null) run(); else waiting = true; },
    now() { const late = waiting; stop(); if (late) f(); },
    stop,
  };
}

const same = (a, b) => Object.keys(a).every((key) => a[key] === b[key]);

// The data of the page with the own pictures at the end.
function together(data, own) {
  if (!data.models) return data;
  const models = data.models.map((model, number) => ({
    ...model,
    predictions: [...model.predictions, ...own.map(({ models }) => models[number].prediction)],
    layers: model.layers.map((layer) => ({
      ...layer, maps: [...layer.maps, ...own.map(({ models }) => models[number].maps[layer.name])],
    })),
  }));
  return {
    ...data, models, pictures: [...data.pictures, ...own.map(({ picture }) => picture)],
    notes: [...data.notes, ...own.flatMap(({ notes }) => notes)],
  };
}

// A button that sends a file to Python, and where Python's answer stands. Dropping a file on the page is the same.
function makeUpload(model, root, { mostBytes }) {
  const view = String(Math.random()); // which of the views on this page is answered
  const wrong = element("p", { className: "aacn-alert", role: "alert" });
  const note = element("span", { className: "aacn-note", role: "status" });
  const input = element("input", { type: "file", accept: "image/*", hidden: true });
  const button = element("button", { type: "button", onclick: () => input.click() }, "add your picture");
  function say(doing, sentence = "") {
    note.textContent = doing;
    wrong.textContent = sentence;
  }
  async function send(files) {
    if (files.length !== 1) return say("", "One picture at a time, please.");
    const [file] = files;
    if (file.size > mostBytes) {
      return say("", `${file.name} has ${(file.size / 1e6).toFixed(1)} MB, expected at most ${mostBytes / 1e6} MB.`);
    }
    say(`Python is looking at ${file.name} …`);
    try {
      model.send({ kind: "picture", name: file.name, view }, undefined, [await file.arrayBuffer()]);
    } catch (error) {
      say("", `${file.name} could not be sent: ${error.message}`);
    }
  }
  input.onchange = () => {
    const files = [...input.files];
    input.value = ""; // the same file may be chosen again
    if (files.length) send(files);
  };
  const holdsFiles = (event) => event.dataTransfer && [...event.dataTransfer.types].includes("Files");
  for (const name of ["dragenter", "dragover", "dragleave", "drop"]) {
    root.addEventListener(name, (event) => {
      if (!holdsFiles(event)) return;
      event.preventDefault();
      event.stopPropagation();
      root.classList.toggle("aacn-dropping", name === "dragenter" || name === "dragover");
      if (name === "drop") send([...event.dataTransfer.files]);
    });
  }
  return {
    node: element("div", { className: "aacn-upload" },
      element("div", { className: "aacn-row" }, button, input, note), wrong),
    answer(content) {
      if (content.kind === "answer" && content.view === view) say("", content.sentence);
    },
  };
}

function render({ model, el }) {
  const root = element("div", { className: "aacn-explorer" });
  const data = () => together(model.get("_data"), model.get("_own"));
  let quiet = false; // what comes from Python or another view is not said back
  function quietly(f) {
    quiet = true;
    try { f(); } finally { quiet = false; }
  }
  const tell = spaced(() => {
    const selection = explorer.selection();
    if (same(selection, model.get("selection"))) return;
    quietly(() => {
      if (explorer.panels) model.set("_panels", explorer.panels()); // first: another view follows with the second
      model.set("selection", selection);
    });
    model.save_changes();
  });
  let explorer = null;
  quietly(() => { explorer = BUILD[model.get("_kind")](root, data(), () => quiet || tell.call()); });

  // One message may bring a picture and the selection of it, in either order: the picture is taken first.
  let own = model.get("_own");
  function follow() {
    if (model.get("_own") !== own) return takeOwn();
    if (quiet) return;
    const selection = model.get("selection");
    const wanted = explorer.panels ? model.get("_panels").map((panel, number) => ({ panel: number, ...panel })) : [];
    const changes = wanted.filter((panel) => panel.panel !== selection.panel
      && !same({ layer: panel.layer, head: panel.head }, explorer.panels()[panel.panel]));
    if (changes.length || !same(selection, explorer.selection())) changes.push(selection);
    if (!changes.length) return;
    tell.stop();
    quietly(() => changes.forEach((change) => explorer.choose(change)));
  }
  function takeOwn() {
    if (model.get("_own") === own) return;
    own = model.get("_own");
    tell.stop();
    explorer.takePictures(data());
    quietly(() => explorer.choose(model.get("selection")));
  }
  const on = { "change:selection": follow, "change:_panels": follow, "change:_own": takeOwn };
  if (Object.keys(model.get("_upload")).length) {
    const upload = makeUpload(model, root, model.get("_upload"));
    root.querySelector(".aacn-pictures").after(upload.node);
    on["msg:custom"] = upload.answer;
  }
  for (const [name, f] of Object.entries(on)) model.on(name, f);
  root.explorer = explorer;
  el.append(root);
  follow();
  return () => {
    tell.now();
    for (const [name, f] of Object.entries(on)) model.off(name, f);
  };
}

export default { render };
