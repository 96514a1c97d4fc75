// The attention explorer. The data: pictureSize [H, W]; pictures [{source, label, name}], name being an own picture's;
// notes [text]; models [{name, predictions (a picture: [[class, probability], …]), layers [{name, size [H, W],
// tokens, heads, depth, relH, relW, maps (a picture: {q, k})}]}]. For the query that is pointed at, the page computes,
// for every head,
//   content_j = q_i · k_j / √d,   position_j from the tables,   attention = softmax(content + position).
//
// For the widget, tests and curious readers, on the element .aacn-explorer:
//   explorer.read(panel) → {model, layer, head, view, picture, query, size, pinned, values, heads, distance, entropy}
//       where `values` is the map that is drawn (H · W numbers) and `heads` holds that of each head;
//   explorer.choose({picture, view, row, column, panel, layer, head, pinned}) changes what is given; head is a number
//       or "mean", and a panel that is not given is the one last touched;
//   explorer.selection() → the same keys; explorer.panels() → [{layer, head}];
//   explorer.takePictures({pictures, notes, models}) takes others, of the same layers: choose one of them then.
// `changed` is called whenever one of these has changed.

const VIEWS = { attention: "attention", content: "content logits", position: "position logits" };
const MEAN = -1;

function buildExplorer(root, data, changed = () => {}) {
  let { pictures, notes } = data;
  let active = 0; // the panel last touched
  const state = { picture: 0, view: "attention", query: [0.5, 0.5], pinned: false, ownScales: true, opacity: 0.8 };
  const [pictureHeight, pictureWidth] = data.pictureSize;
  const status = element("div", { className: "aacn-hidden", role: "status", "aria-live": "polite" });
  const panels = data.models.map((model, number) => makePanel(model, number));

  function redraw(say = false) {
    for (const panel of panels) panel.draw();
    changed();
    if (say) status.textContent = panels.map((panel) => panel.summary()).join(" ");
  }

  const pictureRow = element("div", { className: "aacn-row aacn-pictures", role: "group", "aria-label": "pictures" });
  const note = element("p", { className: "aacn-note" });
  let pictureButtons = [];
  function showPictures() {
    pictureButtons = pictures.map((picture, number) => {
      const title = [`picture ${number + 1}`, picture.label ?? picture.name ?? []].flat().join(": ");
      const button = element("button", { type: "button", title, "aria-label": title, className: "aacn-thumb" },
        element("img", { src: picture.source, alt: "" }));
      button.onclick = (event) => { choose({ picture: number }); backTo(panels[0].grid, event); };
      return button;
    });
    pictureRow.hidden = pictures.length < 2;
    pictureRow.replaceChildren(...pictureButtons);
    note.textContent = ["Point at the picture to choose the query. A click or tap pins it, a second click there lets " +
      "it go. Point at the map to read a cell. Of one head, content and position logits add up to what the softmax " +
      "turns into attention. Distances (px) are means over attention, in pixels of the picture.", ...notes].join(" ");
  }
  function takePictures(others) {
    ({ pictures, notes } = others);
    panels.forEach((panel, number) => panel.take(others.models[number]));
    showPictures();
  }
  const viewButtons = Object.entries(VIEWS).map(([view, text]) =>
    element("button", { type: "button", onclick: () => choose({ view }) }, text));
  const ownScales = element("input", { type: "checkbox", checked: state.ownScales,
    onchange: () => choose({ ownScales: ownScales.checked }) });
  const opacity = element("input", { type: "range", min: 0, max: 100, value: 100 * state.opacity,
    oninput: () => choose({ opacity: opacity.value / 100 }) });

  function choose(wanted) {
    const { panel = active, row, column, layer, head, ...others } = wanted;
    active = panel;
    Object.assign(state, others);
    if (layer !== undefined || head !== undefined) panels[panel].choose(layer, head);
    if (row !== undefined) panels[panel].point(row, column);
    pictureButtons.forEach((button, number) => button.setAttribute("aria-pressed", number === state.picture));
    Object.keys(VIEWS).forEach((view, at) => viewButtons[at].setAttribute("aria-pressed", view === state.view));
    redraw(true);
  }

  // One network: its layer, its heads, what they see from the query.
  function makePanel(model, number) {
    let layer = null, head = MEAN, found = null, headViews = [];
    let { predictions } = model;
    let maps = new Map(model.layers.map((one) => [one.name, one.maps]));
    const decoded = new Map(); // layer name and picture → queries and keys
    const on = {
      size: () => layer.size,
      query: () => layer.size.map((count, axis) => Math.min(count - 1, Math.floor(state.query[axis] * count))),
      pinned: () => state.pinned,
      choose: (row, column, say = false) => {
        const [oldRow, oldColumn] = on.query();
        if (row === oldRow && column === oldColumn) return;
        active = number;
        point(row, column);
        redraw(say);
      },
      pin: (row, column) => choose({ panel: number, row, column, pinned: true }),
      unpin: () => choose({ panel: number, pinned: false }),
    };
    const picture = element("img", { className: "aacn-picture", draggable: false });
    const over = element("canvas", { className: "aacn-over" });
    const map = element("canvas", { className: "aacn-map" });
    const onPicture = makeGrid(on, [picture, over], { tabIndex: 0, role: "application" });
    // On the map a cell is read, and the query stays where it is.
    let asked = null;
    const ask = (row, column) => { asked = [row, column]; showCaption(); };
    const onMap = makeGrid({ ...on, reads: true, choose: ask, pin: ask, unpin: () => {} }, [map]);
    onMap.node.addEventListener("pointerleave", () => { asked = null; showCaption(); });
    for (const grid of [onPicture, onMap]) grid.node.style.aspectRatio = `${pictureWidth} / ${pictureHeight}`;
    const scale = makeScale();
    const caption = element("figcaption");
    const heads = element("div", { className: "aacn-heads", role: "group", "aria-label": "heads" });
    const readout = element("p", { className: "aacn-readout" });
    const strongest = element("tbody");
    const prediction = element("ol", { className: "aacn-prediction" });
    const verdict = element("p", { className: "aacn-readout" });
    const layerSelect = element("select", { "aria-label": `layer of ${model.name}`,
      onchange: () => choose({ panel: number, layer: layerSelect.value }) },
      ...model.layers.map(({ name, size, heads }) =>
        element("option", { value: name }, `${name} · ${size.join("×")} · ${heads} head${heads === 1 ? "" : "s"}`)));
    const headSelect = element("select", { "aria-label": `head of ${model.name}`,
      onchange: () => choose({ panel: number, head: Number(headSelect.value) }) });
    const titles = ["row, column", "attention", "content", "position"];
    const node = element("section", { className: "aacn-panel", "aria-label": model.name },
      element("div", { className: "aacn-name" }, model.name),
      element("div", { className: "aacn-row" },
        element("label", {}, "layer ", layerSelect), element("label", {}, "head ", headSelect)),
      element("div", { className: "aacn-stages" },
        element("figure", {}, onPicture.node, element("figcaption", {}, "picture: point at a query")),
        element("figure", {}, onMap.node, caption), scale.node, heads),
      readout,
      element("div", { className: "aacn-row aacn-tables" },
        element("div", {}, element("div", { className: "aacn-title" }, "strongest five cells"),
          element("table", {}, element("thead", {}, element("tr", {},
            ...titles.map((title) => element("th", { scope: "col" }, title)))), strongest)),
        element("div", {}, element("div", { className: "aacn-title" }, "prediction"), verdict, prediction)));

    function select(name) {
      asked = null; // the map may have another size
      layer = model.layers.find((candidate) => candidate.name === name) || layer || model.layers[0];
      layerSelect.value = layer.name;
      layer.tables ||= [floatsOf(layer.relH), floatsOf(layer.relW)];
      if (head >= layer.heads) head = MEAN;
      const options = [MEAN, ...Array(layer.heads).keys()];
      headSelect.replaceChildren(...options.map((value) => element("option", { value }, headName(value))));
      headViews = options.map((value) => {
        const canvas = element("canvas", {});
        const text = element("span"), most = element("span"), name = element("span", {}, headName(value));
        const button = element("button", { type: "button", className: "aacn-head",
          onclick: (event) => { choose({ panel: number, head: value }); backTo(onPicture.node, event); } },
        canvas, name, text, most);
        canvas.style.aspectRatio = `${pictureWidth} / ${pictureHeight}`;
        return { value, canvas, text, most, button };
      });
      heads.replaceChildren(...headViews.map(({ button }) => button));
    }

    function point(row, column) {
      state.query = [(row + 0.5) / layer.size[0], (column + 0.5) / layer.size[1]];
    }

    function draw() {
      const [H, W] = layer.size;
      found = compute(layer, queriesAndKeys(), on.query(), [pictureHeight / H, pictureWidth / W]);
      const drawn = found[state.view];
      const all = [drawn.mean, ...drawn.heads];
      const shown = all[head + 1];
      const colours = state.view === "attention" ? AMOUNTS : SIGNED;
      const write = state.view === "attention" ? percent : signed;
      const limits = (values) => {
        const largest = largestSize(values);
        return state.view === "attention" ? [0, largest] : [-largest, largest];
      };
      const common = limits(all);
      const ownLimits = limits([shown]); // the large map has its scale beside it; the small ones are there to compare
      const { label, source, name = null } = pictures[state.picture];
      if (picture.getAttribute("src") !== source) picture.src = source;
      picture.alt = label ?? name ?? `picture ${state.picture + 1}`;
      onPicture.node.setAttribute("aria-label",
        `${picture.alt}. Arrow keys move the query, Enter pins it, Escape lets it go.`);
      paint(over, ...layer.size, shown, ownLimits, colours, state.opacity);
      paint(map, ...layer.size, shown, ownLimits, colours);
      scale.set(ownLimits, colours, write);
      onPicture.mark();
      onMap.mark();
      showCaption();
      for (const { value, canvas, text, most, button } of headViews) {
        const values = all[value + 1];
        paint(canvas, ...layer.size, values, state.ownScales ? limits([values]) : common, colours);
        text.textContent = `${found.distance[value + 1].toFixed(1)} px away`;
        most.textContent = `most ${write(values.reduce((a, b) => Math.max(a, b), -Infinity))}`;
        button.setAttribute("aria-pressed", value === head);
      }
      headSelect.value = head;
      readout.textContent = summary();
      const rows = strongestOf(found.attention, head, layer.size[1]).map(({ row, column, at }) => {
        const parts = ["content", "position"].map((part) => {
          // A mean of weights is no softmax of mean logits: they would explain nothing.
          return head === MEAN || (part === "position" && !layer.relH) ? "–" : signed(found[part].heads[head][at]);
        });
        const weights = found.attention;
        const weight = percent((head === MEAN ? weights.mean : weights.heads[head])[at]);
        return element("tr", {}, ...[`${row}, ${column}`, weight, ...parts].map((text) => element("td", {}, text)));
      });
      strongest.replaceChildren(...rows);
      showPrediction(label);
    }

    let predicted = null; // the picture whose prediction stands there: hovering does not change it
    function showPrediction(label) {
      if (predicted === state.picture) return;
      predicted = state.picture;
      const best = predictions[predicted];
      const right = label === null ? "" : best[0][0] === label ? ": right" : `: wrong, it is ${label}`;
      verdict.textContent = `${best[0][0]}, ${percent(best[0][1])}${right}`;
      prediction.replaceChildren(...best.map(([name, share]) => {
        const bar = element("span", { className: "aacn-share" });
        bar.style.width = `${100 * share}%`;
        return element("li", {}, element("span", { className: "aacn-class" }, name),
          element("span", { className: "aacn-track", "aria-hidden": "true" }, bar),
          element("span", {}, percent(share)));
      }));
    }

    function showCaption() {
      const { mean, heads: each } = found[state.view];
      const write = state.view === "attention" ? percent : signed;
      const title = state.view === "position" && !layer.relH
        ? "this layer has no relative positions" : `${VIEWS[state.view]}, ${headName(head)}`;
      const [row, column] = asked ?? [];
      const value = asked && (head === MEAN ? mean : each[head])[row * layer.size[1] + column];
      caption.textContent = asked ? `row ${row}, column ${column}: ${write(value)}` : `${title}: point to read a cell`;
    }

    function summary() {
      const [row, column] = on.query();
      const entropy = found.entropy[head + 1];
      const token = layer.tokens ? `, ${percent(found.tokenShare[head + 1])} of it on the class token` : "";
      const places = `${(2 ** entropy).toFixed(1)} of ${layer.tokens + layer.size[0] * layer.size[1]} cells`;
      return `Query row ${row}, column ${column}${state.pinned ? " (pinned)" : ""}, ${headName(head)}: mean ` +
        `attention distance ${found.distance[head + 1].toFixed(1)} px, entropy ${entropy.toFixed(2)} bits ` +
        `(as if ${places} were looked at evenly)${token}.`;
    }

    function queriesAndKeys() {
      const key = `${state.picture} ${layer.name}`;
      if (!decoded.has(key)) {
        const { q, k } = maps.get(layer.name)[state.picture];
        decoded.set(key, { q: dequantised(q), k: dequantised(k) });
      }
      return decoded.get(key);
    }

    function read() {
      const drawn = found[state.view];
      return {
        model: model.name, layer: layer.name, head: head === MEAN ? "mean" : head, view: state.view,
        picture: state.picture, query: on.query(), size: layer.size, pinned: state.pinned,
        values: Array.from(head === MEAN ? drawn.mean : drawn.heads[head]),
        heads: drawn.heads.map((values) => Array.from(values)),
        distance: found.distance[head + 1],
        entropy: found.entropy[head + 1],
      };
    }

    select(model.layers[0].name);
    return {
      node, draw, point, summary, read, grid: onPicture.node,
      place: () => ({ layer: layer.name, head: head === MEAN ? "mean" : head }),
      query: on.query,
      take(others) {
        ({ predictions } = others);
        maps = new Map(others.layers.map((one) => [one.name, one.maps]));
        decoded.clear();
        predicted = null;
      },
      choose(newLayer, newHead) {
        if (newHead !== undefined) head = newHead === "mean" ? MEAN : newHead;
        if (newLayer !== undefined) select(newLayer);
      },
    };
  }

  root.append(element("div", { className: "aacn-body" },
    pictureRow,
    element("div", { className: "aacn-row" },
      element("div", { className: "aacn-views", role: "group", "aria-label": "what is shown" }, ...viewButtons),
      element("label", {}, "strength of the map on the picture ", opacity),
      element("label", {}, ownScales, " each small map on its own scale")),
    element("div", { className: "aacn-panels" }, ...panels.map((panel) => panel.node)),
    note, status));
  showPictures();
  choose({});
  status.textContent = "";
  return {
    choose, takePictures,
    read: (panel = 0) => panels[panel].read(),
    panels: () => panels.map((panel) => panel.place()),
    selection() {
      const [row, column] = panels[active].query();
      const { picture, view, pinned } = state;
      return { picture, view, row, column, ...panels[active].place(), pinned, panel: active };
    },
  };
}

// After a click on a button, not after a key on it, the arrow keys are the picture's again.
function backTo(grid, event) {
  if (event.detail > 0) grid.focus({ preventScroll: true });
}

const headName = (head) => (head === MEAN ? "mean" : `head ${head}`);

// All heads from one query. Lists hold the mean over heads first, then each head. `cell` is [height, width] in pixels.
function compute(layer, { q, k }, [row, column], cell) {
  const [H, W] = layer.size;
  const pixels = H * W;
  const { tokens, depth, heads } = layer;
  const [relH, relW] = layer.tables;
  const place = row * W + column;
  const parts = { attention: [], content: [], position: [] };
  const shares = [];
  for (let head = 0; head < heads; head++) {
    const at = (tokens + place) * depth;
    const content = Float32Array.from({ length: tokens + pixels },
      (_, j) => dot(q[head], at, k[head], j * depth, depth) / Math.sqrt(depth));
    const position = relH
      ? positionLogits(q[head], at, place, layer.size, depth, relH, relW) : new Float32Array(pixels);
    const weights = content.map((logit, j) => (j < tokens ? logit : logit + position[j - tokens]));
    const largest = weights.reduce((a, b) => Math.max(a, b), -Infinity);
    let sum = 0;
    for (let j = 0; j < weights.length; j++) sum += weights[j] = Math.exp(weights[j] - largest);
    for (let j = 0; j < weights.length; j++) weights[j] /= sum;
    shares.push(tokens ? weights[0] : 0);
    parts.attention.push(weights.subarray(tokens));
    parts.content.push(content.subarray(tokens));
    parts.position.push(position);
  }
  const meanOf = (arrays) => arrays[0].map((_, j) => arrays.reduce((sum, array) => sum + array[j], 0) / heads);
  const found = {};
  for (const [name, each] of Object.entries(parts)) found[name] = { mean: meanOf(each), heads: each };
  found.tokenShare = [shares.reduce((a, b) => a + b, 0) / heads, ...shares];
  const all = [found.attention.mean, ...found.attention.heads];
  found.distance = all.map((weights) => {
    let far = 0, sum = 0;
    for (let j = 0; j < pixels; j++) {
      far += weights[j] * Math.hypot((Math.floor(j / W) - row) * cell[0], (j % W - column) * cell[1]);
      sum += weights[j];
    }
    return far / sum;
  });
  found.entropy = all.map((weights, index) =>
    [found.tokenShare[index], ...weights].reduce((sum, w) => (w > 0 ? sum - w * Math.log2(w) : sum), 0));
  return found;
}

function strongestOf({ mean, heads }, head, W) {
  const weights = head === MEAN ? mean : heads[head];
  const best = Array.from(weights.keys()).sort((a, b) => weights[b] - weights[a]).slice(0, 5);
  return best.map((at) => ({ at, row: Math.floor(at / W), column: at % W }));
}
