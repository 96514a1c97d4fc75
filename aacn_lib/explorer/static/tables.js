// The position explorer. The data: name, size [H, W], heads, depth, relH, relW, q (heads × HW × depth), ownQueries,
// picture (an address, or null), notes. The logit of a query at (iy, ix) for a key at (jy, jx) is
//   (q · relH[jy - iy + H - 1] + q · relW[jx - ix + W - 1]) / √d.
//
// For the widget, tests and curious readers, on the element .aacn-explorer:
//   explorer.read() → {head, query, size, values, rowsInUse: {relH: [first, last], relW: [first, last]}, answers};
//   explorer.choose({row, column, head, mean, pinned}) changes what is given;
//   explorer.selection() → the same keys. `changed` is called whenever one of them has changed.

function buildTables(root, data, changed = () => {}) {
  const [H, W] = data.size;
  const { depth } = data;
  const tables = { relH: floatsOf(data.relH), relW: floatsOf(data.relW) };
  const own = dequantised(data.q);
  const means = own.map((q) => {
    const mean = new Float32Array(depth);
    for (let i = 0; i < q.length; i++) mean[i % depth] += q[i] / (H * W);
    return mean;
  });
  const state = { row: Math.floor(H / 2), column: Math.floor(W / 2), head: 0, mean: false, pinned: false };
  let drawn = null;

  const on = {
    size: () => data.size,
    query: () => [state.row, state.column],
    pinned: () => state.pinned,
    choose: (row, column, say = false) => {
      if (row !== state.row || column !== state.column) choose({ row, column }, say);
    },
    pin: (row, column) => choose({ row, column, pinned: true }),
    unpin: () => choose({ pinned: false }),
  };
  const map = element("canvas", { className: "aacn-map" });
  const grid = makeGrid(on, [map], { tabIndex: 0, role: "application",
    "aria-label": "Map of the layer. Arrow keys move the query, Enter pins it, Escape lets it go." });
  grid.node.style.aspectRatio = `${W} / ${H}`;
  // The picture that the layer saw, where it is known: the query can be chosen on it too.
  const onPicture = data.picture && makeGrid(on, [element("img",
    { className: "aacn-picture", src: data.picture, alt: "the picture", draggable: false })]);
  if (onPicture) onPicture.node.style.aspectRatio = `${W} / ${H}`;
  const scale = makeScale();
  const readout = element("p", { className: "aacn-readout" });
  const status = element("div", { className: "aacn-hidden", role: "status", "aria-live": "polite" });
  const headSelect = element("select", { "aria-label": "head",
    onchange: () => choose({ head: Number(headSelect.value) }) },
    ...own.map((_, head) => element("option", { value: head }, `head ${head}`)));
  const mean = element("input", { type: "checkbox", onchange: () => choose({ mean: mean.checked }) });
  const axes = { relH: makeAxis("relH", "rows", H), relW: makeAxis("relW", "columns", W) };

  // A table with its distances from left to right, one column of d numbers each, and below it the query's answers.
  function makeAxis(name, what, size) {
    const table = element("canvas"), answers = element("canvas");
    const frame = element("div", { className: "aacn-window" });
    const text = element("figcaption");
    const ends = [1 - size, 0, size - 1].map((distance) => element("span", {}, `${signedWhole(distance)}`));
    const box = element("div", { className: "aacn-strip" }, table, answers, frame);
    const largest = largestSize([tables[name]]);
    const upright = new Float32Array(tables[name].length);
    const rows = 2 * size - 1;
    for (let r = 0; r < rows; r++) for (let c = 0; c < depth; c++) upright[c * rows + r] = tables[name][r * depth + c];
    paint(table, depth, rows, upright, [-largest, largest], SIGNED);
    return {
      node: element("figure", { className: "aacn-axis" }, element("div", { className: "aacn-title" },
        `${name === "relH" ? "rel_h" : "rel_w"}: ${rows} = 2·${size} − 1 distances in ${what}`), box,
        element("div", { className: "aacn-ends", "aria-hidden": "true" }, ...ends), text),
      draw(values, limits, at) {
        paint(answers, 1, rows, values, limits, SIGNED);
        const first = size - 1 - at;
        frame.style.left = `${(100 * first) / rows}%`;
        frame.style.width = `${(100 * size) / rows}%`;
        text.textContent = `In use from here: rows ${first} to ${first + size - 1} of the table (drawn as columns), ` +
          `distances ${signedWhole(-at)} to ${signedWhole(size - 1 - at)}.`;
        return [first, first + size - 1];
      },
    };
  }

  function choose(wanted, say = true) {
    Object.assign(state, wanted);
    draw();
    if (say) status.textContent = readout.textContent;
  }

  function draw() {
    const place = state.row * W + state.column;
    const useMean = data.ownQueries && state.mean;
    const [q, at] = useMean ? [means[state.head], 0] : [own[state.head], place * depth];
    const root = Math.sqrt(depth);
    const answersOf = (table) =>
      Float32Array.from({ length: table.length / depth }, (_, r) => dot(q, at, table, r * depth, depth) / root);
    const answers = { relH: answersOf(tables.relH), relW: answersOf(tables.relW) };
    const values = positionLogits(q, at, place, data.size, depth, tables.relH, tables.relW);
    // One scale for the map and the answers: a column of the map is bright where its distance's answer is.
    const largest = largestSize([answers.relH, answers.relW, values]);
    const limits = [-largest, largest];
    paint(map, H, W, values, limits, SIGNED);
    scale.set(limits, SIGNED, signed);
    grid.mark();
    if (onPicture) onPicture.mark();
    const rowsInUse = {
      relH: axes.relH.draw(answers.relH, limits, state.row),
      relW: axes.relW.draw(answers.relW, limits, state.column),
    };
    headSelect.value = state.head;
    mean.checked = state.mean;
    const best = values.reduce((found, value, j) => (value > values[found] ? j : found), 0);
    const [down, right] = [Math.floor(best / W) - state.row, (best % W) - state.column];
    readout.textContent = `Query row ${state.row}, column ${state.column}${state.pinned ? " (pinned)" : ""}, head ` +
      `${state.head}: the largest position logit, ${signed(values[best])}, is ` +
      `${direction(down, "rows down", "rows up")} and ` +
      `${direction(right, "columns right", "columns left")} of here.`;
    drawn = { values: Array.from(values), rowsInUse,
      answers: { relH: Array.from(answers.relH), relW: Array.from(answers.relW) } };
    changed();
  }

  const chooser = data.ownQueries
    ? [element("label", {}, mean, " every place asks with the mean query of the head")]
    : [element("span", {}, "every place asks with the query of the layer's bias")];
  root.append(element("div", { className: "aacn-body" },
    element("div", { className: "aacn-name" }, data.name),
    element("div", { className: "aacn-row" }, element("label", {}, "head ", headSelect), ...chooser),
    element("div", { className: "aacn-panels" },
      element("section", { className: "aacn-panel", "aria-label": "map" },
        element("div", { className: "aacn-stages" },
          ...(onPicture ? [element("figure", {}, onPicture.node, element("figcaption", {}, "the picture"))] : []),
          element("figure", {}, grid.node, element("figcaption", {}, "position logits: point at a query, or drag it")),
          scale.node)),
      element("section", { className: "aacn-panel", "aria-label": "tables" }, axes.relH.node, axes.relW.node)),
    readout,
    element("p", { className: "aacn-note" }, ["The upper part of each strip is the table on its side, one column of " +
      "numbers a distance, red above zero and blue below; the bar under it is the query's product with each column, " +
      "divided by √d. The frame marks the rows of " +
      "the table that keys inside the map use, seen from this query.", ...data.notes].join(" ")),
    status));
  choose({}, false);
  return {
    choose,
    read: () => ({ ...state, query: [state.row, state.column], size: data.size, ...drawn }),
    selection: () => ({ ...state }),
  };
}

const direction = (steps, there, back) => `${Math.abs(steps)} ${steps < 0 ? back : there}`;
const signedWhole = (x) => (x < 0 ? `−${-x}` : x > 0 ? `+${x}` : "0");
